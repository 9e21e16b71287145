"""What fills the middle of the picture instead of the table of devices.

* :func:`device`  all about one
* :func:`events`  what has happened
* :func:`study`   an experiment and its results so far
* :func:`keys`    what the keys do, and what the signs mean

Each is a list of lines that is scrolled.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from fimi.monitor.snapshot import DeviceNow, JoulesNow, Said, Snapshot
from fimi.monitor.terminal.cells import age, power_words, watts
from fimi.monitor.terminal.head import bar, energy_words, predicted_words, took
from fimi.monitor.terminal.state import ViewState
from fimi.monitor.terminal.text import Look, TextLine, of, wrapped
from fimi.report import layout
from fimi.report.words import MISSING, bits_per_second, hertz, percent

_NAME = 13
"""Columns of a term before its explanation."""

KEYS: tuple[tuple[str, str], ...] = (
    ("↑ ↓ k j", "up and down"),
    ("PgUp PgDn", "a page up and down; the space bar too"),
    ("Home End", "the first, whichever it is; the last (g, G)"),
    ("Enter", "all about the device under the cursor; ← → the next one"),
    ("s", "sort by the next column; < and > (or ← →) by the one before and after"),
    ("r", "the other way round"),
    ("/", "filter: words that a name, board, state or problem has; Esc clears it"),
    ("p", "problems only"),
    ("t", "the rounds so far"),
    ("e", "what has happened"),
    ("Ctrl-L", "draw the screen again"),
    ("Ctrl-Z", "to the shell; fg comes back"),
    ("q", "leave; in another view, back to the devices"),
)

ASKS: tuple[tuple[str, str], ...] = (
    ("P", "pause after this round; in a pause, go on"),
    ("S", "stop the run after this round; it can be gone on with"),
    ("X", "exclude the device under the cursor, or take it in again"),
    ("N", "plan again"),
    ("D", "set the deadline of a round, s"),
)
"""What is asked of the run, as ``fimi control`` does."""

NOTES: tuple[tuple[str, str], ...] = (
    ("!", "before a name: a problem, and the device needs somebody"),
    ("≥", "not all of these joules are known; the device's own view says which are missing"),
    ("–", "not known; never zero"),
    ("runs at", "frequency of the processor by its telemetry, else in its last round"),
    ("J round", "joules of the last round that the device reported on; J run: of all of them"),
    ("predicted", "joules that the plan predicts for what was metered in that round (modelled)"),
    ("error", "(predicted − metered) / metered"),
    ("seen", "for how long nothing was heard of it"),
)


def study(snapshot: Snapshot, width: int) -> list[TextLine]:
    """An experiment: what runs, what has failed, and the results so far."""
    found = snapshot.study
    if found is None:
        return []
    lines: list[TextLine] = []
    for name, task in found.running.items():
        drawn = f"{bar(task.done, task.steps, 10)} {task.done}/{task.steps}" if task.steps else ""
        lines += wrapped(f"{name}  {drawn} {took(task.since_s)}", width)
    for name, why in found.failed.items():
        lines += wrapped(f"! {name} failed: {why}", width, "problem", indent="  ")
    for each in found.tables:
        lines += [TextLine(), *wrapped(each.caption, width, "title")]
        said = layout.table(each.heading, each.rows, paper=layout.Paper(max(40, width)))
        lines += [of(line) for line in said.split("\n")]
    for note in found.notes:
        lines += [TextLine(), *wrapped(note, width)]
    return lines or wrapped("nothing has ended yet", width, "faint")


def device(snapshot: Snapshot, name: str, width: int) -> list[TextLine]:
    """All that is known of a device, and what has happened to it."""
    now = snapshot.devices.get(name)
    if now is None:
        return wrapped(f"{name} is no device of this run any more", width, "warning")
    lines = []
    for term, text, look in _facts(snapshot, now):
        if text:
            lines += term_line(term, text, width, look)
    own = [said for said in snapshot.said.values() if said.device == name]
    if own:
        lines += [TextLine(), *wrapped("what has happened to it", width, "title")]
        lines += [line for said in own for line in event(said, width)]
    return lines


def term_line(term: str, text: str, width: int, look: Look = "plain") -> list[TextLine]:
    """A term with its explanation beside it, wrapped; below it on narrow screens."""
    if width < 2 * _NAME:
        return [*wrapped(term, width, "faint"), *wrapped(text, width, look)]
    few = wrapped(text, width - _NAME - 1, look)
    names = [f"{term:<{_NAME}} "] + [" " * (_NAME + 1)] * (len(few) - 1)
    return [
        TextLine(((name, "faint"), *each.pieces)) for name, each in zip(names, few, strict=True)
    ]


def _facts(snapshot: Snapshot, now: DeviceNow) -> Iterable[tuple[str, str, Look]]:
    if now.problem:
        yield "problem", f"! {now.problem}", "problem"
    yield "state", now.state + ("" if now.online else ", not connected"), "plain"
    yield "does", now.stage or "", "plain"
    yield "board", f"{now.board} ({now.kind})" if now.kind else now.board, "plain"
    if now.power_w is not None:
        by = f", by {now.meter}" if now.meter else ""
        phase = f" in {now.phase}" if now.phase is not None else ""
        yield "power", f"{watts(now, bare=True)}{phase} ({power_words(now)}){by}", "plain"
    elif now.meter:
        yield "meter", now.meter, "plain"
    if now.temperature_c is not None:
        yield "temperature", f"{now.temperature_c:.1f} °C", "plain"
    yield "frequency", _frequency(now), "plain"
    if now.set_bps is not None or now.sent_bps is not None:
        sent, planned = bits_per_second(now.sent_bps), bits_per_second(now.set_bps)
        yield "uplink", f"last upload {sent}, planned {planned}", "plain"
    yield "samples", _samples(now), "plain"
    if now.accuracy is not None:
        yield "accuracy", f"{percent(now.accuracy)} on its own data", "plain"
    if now.round:
        yield f"round {now.round}", _energy(now.round_energy), "plain"
    yield "whole run", _energy(now.total), "plain"
    if now.seen_unix_s is not None:
        yield "seen", f"{age(snapshot.unix_s - now.seen_unix_s)} ago", "plain"


def _frequency(now: DeviceNow) -> str:
    said = [
        f"{word} {hertz(value)}"
        for word, value in (
            ("planned", now.set_hz),
            ("in force", now.applied_hz),
            ("runs at", now.clock_hz),
        )
        if value is not None
    ]
    if now.point:
        said.append(f"operating point {now.point}")
    return ", ".join(said)


def _samples(now: DeviceNow) -> str:
    if now.samples is None and now.synthetic is None:
        return ""
    own = MISSING if now.samples is None else str(now.samples)
    return f"{own} own" + ("" if now.synthetic is None else f", {now.synthetic} synthetic")


def _energy(found: JoulesNow) -> str:
    missing = f"without {found.missing}" if found.missing else ""
    return ", ".join(filter(None, (energy_words(found), predicted_words(found), missing)))


def clock_time(unix_s: float) -> str:
    """A time of day here; dashes for one that no clock shows, which may come from elsewhere."""
    try:
        return time.strftime("%H:%M:%S", time.localtime(unix_s))
    except (OverflowError, ValueError, OSError):
        return "--:--:--"


def event(said: Said, width: int) -> list[TextLine]:
    """An event: when, and what; ``!`` marks a problem."""
    at = clock_time(said.unix_s)
    mark = "!" if said.problem else " "
    look: Look = "problem" if said.problem else "plain"
    return wrapped(f"{at} {mark} {said.text}", width, look, indent=" " * 11)


def events(snapshot: Snapshot, state: ViewState, width: int) -> list[TextLine]:
    """What has happened, the latest at the end."""
    words = state.filter.lower().split()
    lines = []
    for said in snapshot.said.values():
        if state.problems_only and not said.problem:
            continue
        text = said.text.lower()
        if all(word in text for word in words):
            lines += event(said, width)
    if not lines:
        none = "no problems" if state.problems_only else "nothing has happened yet"
        return wrapped("nothing has these words" if words else none, width, "faint")
    return lines


def keys(width: int, *, runs: bool, acts: bool = False) -> list[TextLine]:
    """What the keys do, and what the signs mean.

    Args:
        width: columns.
        runs: whether the run is in this process: leaving the display does not stop it, Ctrl-C does.
        acts: whether something can be asked of the run here.
    """
    lines: list[TextLine] = []
    for key, text in KEYS:
        lines += term_line(key, text, width)
    if runs:
        lines += term_line("", "the run goes on after q, with plain lines", width)
        lines += term_line("Ctrl-C", "stop the run; it can be gone on with", width)
    else:
        lines += term_line("", "neither q nor Ctrl-C changes the run", width)
    if acts:
        lines += [TextLine(), *wrapped("asked of the run, after y", width, "title")]
        for key, text in ASKS:
            lines += term_line(key, text, width)
    lines.append(TextLine())
    for sign, text in NOTES:
        lines += term_line(sign, text, width)
    return lines
