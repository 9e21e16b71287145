"""``fimi fleet status``: one line for each board, those with problems first.

* :func:`now`    looks, and says it as text
* :func:`lines`  as text, as wide as the terminal: what does not fit is left out, and named
* :func:`body`   as JSON, with everything
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from fimi.messaging.console import Console, SeenBoard
from fimi.messaging.errors import BrokerError
from fimi.messaging.questions import BoardStatus
from fimi.plural import plural
from fimi.record.clean import clean, shortened
from fimi.report.layout import Marked, Paper, columns, table, wrap
from fimi.report.words import MISSING
from fimi.testbed.fleet.boards import Problem, alike, has_failed, ordered, room, together

_WIDEST = 28
_GAP = 2


class _Column(NamedTuple):
    """A column of the table.

    Attributes:
        title: its heading.
        cell: its text for a board that has a status.
    """

    title: str
    cell: Callable[[BoardStatus], str]


def _doing(status: BoardStatus) -> str:
    if status.errand:
        return f"errand: {status.errand}"
    if not status.run:
        return "free"
    number = f" round {status.round}" if status.round else ""
    return f"{status.run}{number} {status.stage}"


def _watts(status: BoardStatus) -> str:
    if status.power_w is None:
        return MISSING
    return f"{status.power_w:#.3g}"


def _meter(status: BoardStatus) -> str:
    meter = status.meter
    if meter is None:
        return status.kind
    if meter.kind == "modelled":
        return Marked("none: declared", "warning")
    if meter.kind == "emulated":
        return meter.kind
    sees = "" if meter.scope == "board" else f" ({meter.scope})"
    return f"{meter.kind}: {meter.source.partition(':')[0]}{sees}"


_COLUMNS = (
    _Column("doing", _doing),
    _Column("W now", _watts),
    _Column("meter", _meter),
    _Column("°C", lambda s: MISSING if s.temperature_c is None else f"{s.temperature_c:.0f}"),
    _Column("memory", lambda s: room(s.memory_free_bytes)),
    _Column("disk", lambda s: room(s.disk_free_bytes)),
    _Column("board", lambda s: s.board or s.kind),
    _Column("version", lambda s: f"{s.version} {s.sources[:6]}"),
    _Column("contract", lambda s: s.contract[:8] or MISSING),
)
"""Behind the id, and before when it was seen last; the first ones go before the later ones."""

_MARKS = {"failure": Marked("✗", "problem"), "warning": Marked("!", "warning")}

_STANDS = {
    "offline": "offline",
    "silent": "does not answer",
    "older": "older agent",
    "other-protocol": "other version",
}


def now(console: Console, paper: Paper, *, most: int = 10**6) -> Iterator[str]:
    """The fleet as it is now, as :func:`lines`, or that the broker is away."""
    try:
        yield from lines(console, console.look(), paper, most=most)
    except BrokerError as error:
        yield str(error)


def lines(
    console: Console, seen: Mapping[str, SeenBoard], paper: Paper, *, most: int = 10**6
) -> Iterator[str]:
    """The fleet as text.

    Args:
        console: the console that has looked.
        seen: what it has seen.
        paper: layout.
        most: most lines of problems and of boards.
    """
    boards = ordered(seen.values())
    wrong = {
        weight: alike(
            (board.device, problem.what)
            for board, found in boards
            for problem in found
            if problem.weight == weight
        )
        for weight in _MARKS
    }
    count = sum(map(len, wrong.values()))
    ready = sum(board.ready and not has_failed(found) for board, found in boards)
    yield paper.ink(
        f"fleet {console.fleet}: {plural(len(boards), 'board')}, {ready} ready"
        + (f", {plural(count, 'problem')}" if count else ""),
        "title",
    )
    if (lease := console.coordinator) is not None:
        what = f", {lease.what}" if lease.what else ""
        yield from wrap(
            clean(f"coordinator: process {lease.pid} on {lease.host}{what}", 200), paper.text_width
        )
    if not boards:
        yield "start their agents: fimi agent run"
        return
    yield ""
    told = [
        line
        for weight, same in wrong.items()
        for words, whose in same.items()
        for line in _told(together(whose, words), _MARKS[weight], paper)
    ]
    yield from told[:most]
    if len(told) > most:
        yield "… and more: fimi fleet status shows all"
    if told:
        yield ""
    rows, left_out = _table(boards[: max(1, most)], paper)
    yield from rows
    if len(boards) > most:
        yield f"… and {len(boards) - most} more boards"
    if left_out:
        yield from ("", *wrap(f"in a wider terminal: {', '.join(left_out)}", paper.text_width))


def _told(words: str, mark: Marked, paper: Paper) -> list[str]:
    first, *rest = wrap(clean(words, 600), paper.text_width - 2)
    return [f"{paper.ink(mark)} {first}", *(f"  {line}" for line in rest)]


def _table(
    boards: Sequence[tuple[SeenBoard, tuple[Problem, ...]]], paper: Paper
) -> tuple[list[str], list[str]]:
    """The table, and the titles of the columns that do not fit."""
    heading = ["device"]
    names = shortened([board.device for board, _ in boards], 20)
    cells = [[_name(name, found)] for name, (_, found) in zip(names, boards, strict=True)]
    last = [_seen(board) for board, _ in boards]
    used = max(6, *(columns(row[0]) for row in cells)) + _GAP + max(map(columns, ("seen", *last)))
    left_out = []
    for column in _COLUMNS:
        texts = [_cell(board, column) for board, _ in boards]
        width = max(columns(column.title), *map(columns, texts))
        if used + _GAP + width > paper.width:
            left_out.append(column.title)
            continue
        used += _GAP + width
        heading.append(column.title)
        for row, text in zip(cells, texts, strict=True):
            row.append(text)
    for row, text in zip(cells, last, strict=True):
        row.append(text)
    return table([*heading, "seen"], cells, paper=paper).split("\n"), left_out


def _name(name: str, found: tuple[Problem, ...]) -> str:
    if not found:
        return name
    return Marked(name, "problem" if has_failed(found) else "warning")


def _cell(board: SeenBoard, column: _Column) -> str:
    now = board.standing == "answers"
    if column.title == "doing" and not now:
        return Marked(_STANDS[board.standing], "problem")
    if board.status is None or (not now and column.title in ("doing", "W now", "°C")):
        return MISSING
    text = column.cell(board.status)
    cut = clean(text, _WIDEST)
    return Marked(cut, text.style) if isinstance(text, Marked) else cut


def _seen(board: SeenBoard) -> str:
    age_s = board.age_s()
    if board.answered:
        return "now"
    return MISSING if age_s is None else ago(age_s)


def ago(seconds: float) -> str:
    """``12 s ago``, ``4 min ago``, ``3 h ago``, ``5 days ago``."""
    for size_s, unit in ((86400.0, "day"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size_s:
            count = int(seconds / size_s)
            return f"{count} {unit}{'s' * (unit == 'day' and count != 1)} ago"
    return f"{seconds:.0f} s ago"


def body(console: Console, seen: Mapping[str, SeenBoard]) -> dict[str, Any]:
    """The fleet as JSON: everything that is known."""
    lease = console.coordinator
    return {
        "fleet": console.fleet,
        "coordinator": None if lease is None else msgspec.to_builtins(lease),
        "boards": [
            {
                "device": board.device,
                "standing": board.standing,
                "age_s": board.age_s(),
                "problems": msgspec.to_builtins(found),
                "status": None if board.status is None else msgspec.to_builtins(board.status),
            }
            for board, found in ordered(seen.values())
        ],
    }
