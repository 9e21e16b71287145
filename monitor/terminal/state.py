"""What a person at the terminal has chosen to see, and what their keys change in it.

* :class:`ViewState`  what is chosen
* :class:`Drawn`      what is on the screen now; keys are understood by it
* :func:`press`       a key, and what is chosen after it
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from fimi.monitor.terminal.text import TextLine
from fimi.record.interventions import (
    LONGEST_DEADLINE_S,
    ExcludeDevice,
    GoOn,
    IncludeDevice,
    PauseRun,
    PlanAgain,
    Request,
    SetDeadline,
    StopRun,
)

Pane = Literal["devices", "device", "rounds", "events", "help"]

PROBLEMS_FIRST = "problems"
"""The order of devices that no column has: those that need somebody first."""
LONGEST_FILTER = 60
LONGEST_NUMBER = 12
DIGITS = frozenset("0123456789.")


class ViewState(Struct, frozen=True, kw_only=True):
    """What is chosen.

    Attributes:
        pane: what fills the middle of the screen.
        sort: key of the column by which devices are sorted, or ``problems``.
        reverse: whether the other way round.
        filter: words that a device, or an event, must have.
        typing: whether keys go into the filter.
        problems_only: whether only what has a problem is shown.
        chosen: the device that the cursor is on; empty: the first, whichever it is.
        top: the first row shown.
        down: lines that a page of text is scrolled down.
        up: lines that events or rounds are scrolled up from the latest.
        number: the seconds of a deadline that are being typed; ``None``: none are.
        leaving: whether it is asked if the display is to be left.
        done: whether it is left.
        wants: what is to be asked of the run, if the person says yes.
        asks: what is to be asked of it now.
    """

    pane: Pane = "devices"
    sort: str = PROBLEMS_FIRST
    reverse: bool = False
    filter: str = ""
    typing: bool = False
    problems_only: bool = False
    chosen: str = ""
    top: int = 0
    down: int = 0
    up: int = 0
    number: str | None = None
    leaving: bool = False
    done: bool = False
    wants: Request | None = None
    asks: Request | None = None


class Drawn(Struct, frozen=True, kw_only=True):
    """What is on the screen.

    Attributes:
        lines: from the top.
        page: rows of the middle.
        devices: ids of all devices that the filter lets through, in their order.
        orders: by what they can be sorted: keys of the columns that are shown, after ``problems``.
        length: lines that the text in the middle has; 0 for devices.
        paused: whether the run is, or is about to be.
        excluded: devices that somebody has excluded.
    """

    lines: tuple[TextLine, ...] = ()
    page: int = 1
    devices: tuple[str, ...] = ()
    orders: tuple[str, ...] = (PROBLEMS_FIRST,)
    length: int = 0
    paused: bool = False
    excluded: frozenset[str] = frozenset()


def index_of(state: ViewState, devices: tuple[str, ...]) -> int:
    """The row that the cursor is on; the first if its device is not shown any more."""
    return devices.index(state.chosen) if state.chosen in devices else 0


def top_of(state: ViewState, devices: tuple[str, ...], page: int) -> int:
    """The first row shown, so that the cursor is on the screen and no room is left empty."""
    at = index_of(state, devices)
    top = min(max(state.top, at - page + 1), at)
    return max(0, min(top, len(devices) - page))


def press(
    state: ViewState, key: str, picture: Drawn, *, asks: bool = False, acts: bool = False
) -> ViewState:
    """What is chosen after a key.

    Args:
        state: what was before.
        key: its name (:mod:`fimi.monitor.terminal.keys`), or the character.
        picture: what was on the screen.
        asks: whether it is asked before the display is left.
        acts: whether something can be asked of the run here.
    """
    if state.wants is not None:
        return replace(state, wants=None, asks=state.wants if key == "y" else None)
    if state.leaving:
        return replace(state, leaving=False, done=key in ("q", "y", "enter"))
    if state.typing:
        return _typed(state, key)
    if state.number is not None:
        return _numbered(state, state.number, key)
    match key:
        case "?" if state.pane != "help":
            return replace(state, pane="help", down=0)
        case "e" if state.pane != "events":
            return replace(state, pane="events", up=0)
        case "t" if state.pane != "rounds":
            return replace(state, pane="rounds", up=0)
        case "D" if acts:
            return replace(state, number="")
        case "/" if state.pane in ("devices", "events"):
            return replace(state, typing=True)
        case "p" if state.pane in ("devices", "events"):
            return replace(state, problems_only=not state.problems_only, top=0, up=0)
        case "q" if state.pane == "devices":
            return replace(state, leaving=True) if asks else replace(state, done=True)
        case "q" | "escape" | "backspace" if state.pane != "devices":
            return replace(state, pane="devices")
    if acts and (wanted := _wanted(state, key, picture)) is not None:
        return replace(state, wants=wanted)
    if state.pane == "devices":
        return _among_devices(state, key, picture)
    if state.pane == "device":
        if key == "enter":
            return replace(state, pane="devices")
        if key in ("left", "right", "<", ">"):
            step = 1 if key in ("right", ">") else -1
            return replace(_moved(state, step, picture), down=0)
    back = ("events", "e"), ("events", "enter"), ("rounds", "t"), ("rounds", "enter"), ("help", "?")
    if (state.pane, key) in back:
        return replace(state, pane="devices")
    return _scrolled(state, key, picture)


def _wanted(state: ViewState, key: str, picture: Drawn) -> Request | None:
    """What a key asks of the run; ``None`` for another key."""
    match key:
        case "P":
            return GoOn() if picture.paused else PauseRun()
        case "S":
            return StopRun()
        case "N":
            return PlanAgain()
        case "X" if picture.devices and state.pane in ("devices", "device"):
            device = picture.devices[index_of(state, picture.devices)]
            if device in picture.excluded:
                return IncludeDevice(device=device)
            return ExcludeDevice(device=device)
    return None


def _typed(state: ViewState, key: str) -> ViewState:
    if key == "enter":
        return replace(state, typing=False)
    if key == "escape":
        return replace(state, typing=False, filter="", top=0, up=0)
    said = state.filter
    if key == "backspace":
        said = said[:-1]
    elif len(key) == 1 and key.isprintable() and len(said) < LONGEST_FILTER:
        said += key
    return replace(state, filter=said, top=0, up=0)


def _numbered(state: ViewState, number: str, key: str) -> ViewState:
    """A deadline is typed; one that cannot be is not asked for."""
    if key == "escape":
        return replace(state, number=None)
    if key == "enter":
        try:
            wanted = float(number)
        except ValueError:
            wanted = 0.0
        if not 0.0 < wanted <= LONGEST_DEADLINE_S:
            return state
        return replace(state, number=None, wants=SetDeadline(deadline_s=wanted))
    if key == "backspace":
        return replace(state, number=number[:-1])
    if key in DIGITS and len(number) < LONGEST_NUMBER:
        return replace(state, number=number + key)
    return state


def _steps(key: str, page: int) -> int | None:
    """How many rows down a key goes; ``None`` for another key."""
    return {
        "up": -1,
        "k": -1,
        "down": 1,
        "j": 1,
        "page up": -page,
        "page down": page,
        " ": page,
    }.get(key)


def _among_devices(state: ViewState, key: str, picture: Drawn) -> ViewState:
    devices, orders = picture.devices, picture.orders
    if picture.length:  # an experiment: results in place of devices
        return _scrolled(state, key, picture)
    if (step := _steps(key, picture.page)) is not None:
        return _moved(state, step, picture)
    match key:
        case "home" | "g":
            return replace(state, chosen="", top=0)
        case "end" | "G" if devices:
            return _at(state, len(devices) - 1, picture)
        case "enter" if devices:
            chosen = devices[index_of(state, devices)]
            return replace(state, pane="device", chosen=chosen, down=0)
        case "escape":
            return replace(state, filter="", problems_only=False, top=0)
        case "r":
            return replace(state, reverse=not state.reverse)
        case "s" | ">" | "<" | "left" | "right":
            at = orders.index(state.sort) if state.sort in orders else 0
            step = -1 if key in ("<", "left") else 1
            return replace(state, sort=orders[(at + step) % len(orders)], reverse=False)
    return state


def _moved(state: ViewState, step: int, picture: Drawn) -> ViewState:
    """The cursor some rows down."""
    if not picture.devices:
        return state
    at = index_of(state, picture.devices) + step
    return _at(state, max(0, min(at, len(picture.devices) - 1)), picture)


def _at(state: ViewState, at: int, picture: Drawn) -> ViewState:
    """The cursor on a row."""
    moved = replace(state, chosen=picture.devices[at])
    return replace(moved, top=top_of(moved, picture.devices, picture.page))


def _scrolled(state: ViewState, key: str, picture: Drawn) -> ViewState:
    """A page of text further up or down."""
    most = max(0, picture.length - picture.page)
    step = _steps(key, picture.page)
    if step is None:
        step = {"home": -most, "g": -most, "end": most, "G": most}.get(key, 0)
    if state.pane in ("events", "rounds"):
        return replace(state, up=max(0, min(state.up - step, most)))
    return replace(state, down=max(0, min(state.down + step, most)))
