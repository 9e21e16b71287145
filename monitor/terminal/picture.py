"""The picture: a snapshot and what a person has chosen become lines; never more than fit.

* :func:`draw`   what fills a terminal
* :func:`still`  the same as text, for a pipe or the end: nothing is chosen, no keys are named

::

    head       where the run is, what it has learned, what it has used
    caption    how many devices, of which kind their numbers are
    table      the devices, or a pane in its place
    latest     what has happened last, where there is room
    footer     keys
"""

from __future__ import annotations

from itertools import islice

from msgspec.structs import replace

from fimi.monitor.snapshot import Snapshot
from fimi.monitor.terminal import panes, rounds, table
from fimi.monitor.terminal.cells import Common, FleetRow, is_troubled
from fimi.monitor.terminal.head import head
from fimi.monitor.terminal.state import PROBLEMS_FIRST, Drawn, ViewState, index_of, top_of
from fimi.monitor.terminal.text import Piece, TextLine, fit, flow
from fimi.record.interventions import words

_LOW = 20
"""Lines of a terminal below which the head is kept short."""
_LATEST = 3
"""Fewest lines of what has happened last, where the terminal is not low."""


def draw(
    snapshot: Snapshot,
    state: ViewState,
    width: int,
    height: int,
    *,
    link: str = "",
    runs: bool = False,
    acts: bool = False,
    notice: str = "",
) -> Drawn:
    """What fills a terminal.

    Args:
        snapshot: the run.
        state: what is chosen.
        width: columns of the terminal.
        height: its lines.
        link: what is wrong with the connection to the run; empty: nothing.
        runs: whether the run is in this process.
        acts: whether something can be asked of it here.
        notice: said in place of the keys; empty: nothing is.
    """
    width, height = max(1, width), max(1, height)
    footer = _footer(state, width, runs, snapshot.study is not None, notice) if height > 1 else []
    room = height - len(footer)
    most = 0 if height < 5 else min(5 if height < _LOW else 9, room - 4)
    upper = head(snapshot, width, most, link)
    room -= len(upper)
    if state.pane == "devices" and snapshot.study is None:
        picture = _devices(snapshot, state, width, room)
    else:
        picture = _pane(snapshot, state, width, room, runs, acts)
    lines = [*upper, *picture.lines, *[TextLine()] * (room - len(picture.lines)), *footer]
    return replace(
        picture,
        lines=tuple(fit(line, width) for line in lines[:height]),
        paused=snapshot.run.state in ("pausing", "paused"),
        excluded=frozenset(d for d, now in snapshot.devices.items() if now.state == "excluded"),
    )


def still(snapshot: Snapshot, width: int, most: int | None = None, link: str = "") -> str:
    """The run as text.

    Args:
        snapshot: the run.
        width: columns.
        most: lines at most; the last says how many devices are left out. ``None``: no limit.
        link: what is wrong with the connection to the run; empty: nothing.
    """
    state = ViewState()
    upper = head(snapshot, width, 20 if most is None else max(3, most // 2), link)
    if snapshot.study is not None:
        lines = [*upper, *panes.study(snapshot, width)][:most]
        return "\n".join(fit(line, width).text.rstrip() for line in lines)
    rows = table.rows(snapshot, state)
    common = Common.of(snapshot.devices.values())
    room = table.chosen(snapshot, common, width)
    lines = [*upper, *flow(table.caption(snapshot, rows, room, state, common), width)]
    if rows:
        lines.append(table.heading(room, state, common))
    fits = len(rows) if most is None else most - len(lines)
    kept = rows if len(rows) <= fits else rows[: max(0, fits - 1)]
    lines += [table.line(row, room, cursor=False) for row in kept]
    if len(kept) < len(rows):
        lines.append(TextLine(((f"… and {len(rows) - len(kept)} more devices", "plain"),)))
    return "\n".join(fit(line, width).text.rstrip() for line in lines)


def _devices(snapshot: Snapshot, state: ViewState, width: int, room: int) -> Drawn:
    """Caption, table, and what has happened last."""
    rows = table.rows(snapshot, state)
    common = Common.of(snapshot.devices.values())
    columns = table.chosen(snapshot, common, width)
    lines: list[TextLine] = []
    if room >= 5:
        lines += flow(table.caption(snapshot, rows, columns, state, common), width)[: room - 3]
    if room >= 3:
        lines.append(table.heading(columns, state, common))
    ids = tuple(row.device for row in rows)
    least = 0 if room < 14 else _LATEST
    page = max(1, room - len(lines) - least)
    top, at = top_of(state, ids, page), index_of(state, ids)
    lines += [
        table.line(row, columns, cursor=top + n == at)
        for n, row in enumerate(rows[top : top + page])
    ]
    if not rows:
        none = "no device is like that; Esc shows all" if snapshot.devices else "no devices yet"
        lines.append(TextLine(((none, "faint"),)))
    left = room - len(lines)
    if left >= 2 and least:
        lines += _latest(snapshot, rows[at] if rows and state.chosen else None, width, left)
    return Drawn(
        lines=tuple(lines),
        page=page,
        devices=ids,
        orders=(PROBLEMS_FIRST, *(column.key for column, _ in columns)),
    )


def _latest(snapshot: Snapshot, row: FleetRow | None, width: int, most: int) -> list[TextLine]:
    """The problem of the device under the cursor, and the last events, below a free line."""
    lines: list[TextLine] = []
    if row is not None and is_troubled(row.now):
        said = row.now.problem or row.now.state
        lines.append(TextLine(((f"! {row.device}: {said}", "problem"),)))
    last: list[TextLine] = []
    for event in reversed(snapshot.said.values()):
        if len(last) + len(lines) >= most - 1:
            break
        last.insert(0, fit(panes.event(event, 10_000)[0], width))
    return [TextLine(), *lines, *last][:most]


def _pane(
    snapshot: Snapshot, state: ViewState, width: int, room: int, runs: bool, acts: bool
) -> Drawn:
    """A text that is scrolled, below its title."""
    ids = tuple(row.device for row in table.rows(snapshot, state))
    if state.pane == "devices":
        name, text = "runs and results so far", panes.study(snapshot, width)
    elif state.pane == "device":
        name, text = state.chosen, panes.device(snapshot, state.chosen, width)
    elif state.pane == "events":
        name, text = "what has happened", panes.events(snapshot, state, width)
    elif state.pane == "rounds":
        return _rounds(snapshot, state, width, room, ids)
    else:
        name, text = "keys and signs", panes.keys(width, runs=runs, acts=acts)
    page = max(1, room - 1)
    most = max(0, len(text) - page)
    top = most - min(state.up, most) if state.pane == "events" else min(state.down, most)
    below = len(text) - top - page
    more = f" (lines {top + 1}–{top + page} of {len(text)})" if most else ""
    phrases: list[Piece] = [(f"{name}{more}", "title")]
    if state.pane == "events" and state.problems_only:
        phrases.append(("problems only", "warning"))
    if state.pane == "events" and state.filter and not state.typing:
        phrases.append((f"filter {state.filter!r}", "warning"))
    title = flow(phrases, width)[:1] if room > 1 else []
    shown = text[top : top + page] if below >= 0 else text[top:]
    return Drawn(lines=(*title, *shown), page=page, devices=ids, length=len(text))


def _rounds(
    snapshot: Snapshot, state: ViewState, width: int, room: int, ids: tuple[str, ...]
) -> Drawn:
    """Rounds, the latest at the end; of thousands those that are seen are made into lines."""
    count, above = len(snapshot.rounds), 2
    while True:
        page = max(1, room - above)
        top = max(0, count - page)
        top -= min(state.up, top)
        shown = [*islice(snapshot.rounds.items(), top, top + page)]
        more = f" ({top + 1}–{top + len(shown)} of {count})" if count > page else ""
        upper, lines = rounds.lines(shown, f"rounds{more}", width)
        if len(upper) <= above or page == 1:
            break
        above = len(upper)  # a narrow terminal: its title takes more lines
    upper = upper[: max(0, room - len(lines))]
    return Drawn(lines=(*upper, *lines)[:room], page=page, devices=ids, length=count)


def _footer(
    state: ViewState, width: int, runs: bool, is_study: bool, notice: str
) -> list[TextLine]:
    """The keys of the moment; what is asked or typed comes first."""
    if state.wants is not None:
        said = f"{words(state.wants)}? y asks the run for it, another key does not"
        return [fit(TextLine(((said, "warning"),)), width)]
    if state.leaving:
        said = "leave this display? the run goes on: q or y leaves, another key stays"
        return [fit(TextLine(((said, "warning"),)), width)]
    if state.typing:
        said = f"filter: {state.filter[-max(1, width - 12) :]}▏"
        if len(said) + 32 <= width:
            said += "  Enter keeps it, Esc clears it"
        return [fit(TextLine(((said, "warning"),)), width)]
    if state.number is not None:
        said = f"deadline of a round, s: {state.number}▏"
        if len(said) + 32 <= width:
            said += "  Enter asks for it, Esc does not"
        return [fit(TextLine(((said, "warning"),)), width)]
    if notice:
        return [fit(TextLine(((notice, "warning"),)), width)]
    keys: tuple[str, ...] = {
        "devices": (
            "q leave",
            "? help",
            "e events",
            "t rounds",
            "/ filter",
            "s sort",
            "Enter details",
            "p problems",
        ),
        "device": ("q back", "? help", "e events", "↑↓ scroll", "←→ next device"),
        "events": ("q back", "? help", "/ filter", "p problems", "↑↓ scroll"),
        "rounds": ("q back", "? help", "e events", "↑↓ scroll"),
        "help": ("q back", "↑↓ scroll"),
    }[state.pane]
    if state.pane == "devices" and is_study:
        keys = ("q leave", "? help", "e events", "↑↓ scroll")
    elif state.pane == "devices" and runs:
        keys = (
            "q leave",
            "Ctrl-C stops the run",
            "? help",
            "e events",
            "/ filter",
            "s sort",
            "Enter",
            "t rounds",
            "p problems",
        )
    return flow([(key, "faint") for key in keys], width)[:1]
