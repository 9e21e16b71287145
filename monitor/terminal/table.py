"""The table of devices: which of them, in which order, with which columns.

* :func:`rows`     the devices that the filter lets through, sorted
* :func:`chosen`   the columns for which there is room
* :func:`heading`  their titles
* :func:`line`     a device
* :func:`caption`  the line above: how many, of which kind, in which order
"""

from __future__ import annotations

from collections.abc import Sequence

from fimi.monitor.snapshot import Snapshot
from fimi.monitor.terminal.cells import Common, FleetRow, is_troubled, natural, trouble
from fimi.monitor.terminal.columns import COLUMNS, DEVICE, FIRST, SHORTER, FleetColumn
from fimi.monitor.terminal.state import PROBLEMS_FIRST, ViewState
from fimi.monitor.terminal.text import Piece, TextLine, padded
from fimi.report.layout import columns

_MARKS = 2
"""Columns before a name: for the cursor, and for a problem."""
_LONGEST, _SHORTEST = 24, 10
"""Most and fewest columns of a name."""
_GAP = 1

BY_KEY = {each.key: each for each in (DEVICE, *COLUMNS)}


Room = tuple[tuple[FleetColumn, int], ...]
"""Columns with the room that each takes, from the left."""


def rows(snapshot: Snapshot, state: ViewState) -> list[FleetRow]:
    """The devices that the filter lets through, sorted."""
    common = Common.of(snapshot.devices.values())
    words = state.filter.lower().split()
    found = [
        FleetRow(device, now, snapshot.unix_s, common)
        for device, now in snapshot.devices.items()
        if (is_troubled(now) or not state.problems_only)
    ]
    if words:
        found = [row for row in found if all(word in _said(row) for word in words)]
    found.sort(key=lambda row: natural(row.device))
    column = BY_KEY.get(state.sort)
    if column is None:
        return sorted(found, key=lambda row: trouble(row.now), reverse=state.reverse)
    known = [row for row in found if column.order(row) is not None]
    unknown = [row for row in found if column.order(row) is None]
    down = column.text == state.reverse  # numbers: the largest first
    return sorted(known, key=column.order, reverse=down) + unknown


def _said(row: FleetRow) -> str:
    """What the filter looks at."""
    now = row.now
    return " ".join(
        (row.device, now.board, now.kind, now.state, now.phase or "", now.problem)
    ).lower()


def chosen(snapshot: Snapshot, common: Common, width: int) -> Room:
    """The columns for which there is room."""
    longest = max(map(columns, snapshot.devices), default=0)
    name = max(len(DEVICE.title), min(longest, _LONGEST if width >= 60 else _SHORTEST))
    left = width - _MARKS - name
    taken: dict[str, int] = {}
    for key in FIRST:
        column = BY_KEY[key]
        room = column.room(common)
        if width < 60:
            room = min(room, SHORTER.get(key, room))
        if _GAP + room <= left:
            taken[key] = room
            left -= _GAP + room
    name += min(max(0, left), max(0, longest - name))
    shown = [(column, taken[column.key]) for column in COLUMNS if column.key in taken]
    return ((DEVICE, min(name, max(1, width - _MARKS))), *shown)


def heading(room: Room, state: ViewState, common: Common) -> TextLine:
    """The titles; the column by which is sorted has an arrow."""
    pieces: list[Piece] = [(" " * _MARKS, "faint")]
    for n, (column, width) in enumerate(room):
        title = column.title
        if column.key == "board" and common.kind:
            title = f"board ({common.kind})"
        if column.key == state.sort:
            arrow = "↑" if column.text != state.reverse else "↓"
            title = padded(title, min(columns(title), width - 1)) + arrow
        text = padded(title, width, right=not column.text)
        pieces.append((("" if n == 0 else " " * _GAP) + text, "title"))
    return TextLine(tuple(pieces))


def line(row: FleetRow, room: Room, *, cursor: bool) -> TextLine:
    """A device; ``>`` marks the cursor, ``!`` a problem."""
    troubled = is_troubled(row.now)
    marks = (">" if cursor else " ") + ("!" if troubled else " ")
    pieces: list[Piece] = [(marks, "problem" if troubled else "plain")]
    for n, (column, width) in enumerate(room):
        text = padded(column.cell(row), width, right=not column.text)
        bad = troubled and column.key in ("device", "state")
        pieces.append((("" if n == 0 else " " * _GAP) + text, "problem" if bad else "plain"))
    return TextLine(tuple(pieces), cursor)


def caption(
    snapshot: Snapshot, shown: Sequence[FleetRow], room: Room, state: ViewState, common: Common
) -> list[Piece]:
    """How many devices there are, of which kind their joules are, and in which order they stand."""
    every = len(snapshot.devices)
    troubled = sum(map(is_troubled, snapshot.devices.values()))
    many = f"{len(shown)} of {every}" if len(shown) < every else f"{every}"
    phrases: list[Piece] = [(f"{many} device{'' if every == 1 else 's'}", "plain")]
    if troubled:
        phrases.append((f"! {troubled} with problems", "problem"))
    if state.problems_only:
        phrases.append(("problems only", "warning"))
    if state.filter and not state.typing:
        phrases.append((f"filter {state.filter!r}", "warning"))
    keys = {column.key for column, _ in room}
    has_power = "power" in keys and common.power
    has_energy = keys & {"energy", "total"} and common.energy
    if has_power and has_energy and common.power == common.energy:
        phrases.append((f"W and J {common.power}", "plain"))
    else:
        if has_power:
            phrases.append((f"W {common.power}", "plain"))
        if has_energy:
            phrases.append((f"J {common.energy}", "plain"))
    if "predicted" in keys and any(row.now.round_energy.predicted_j for row in shown):
        phrases.append(("predicted J modelled", "plain"))
    way = ", reversed" if state.reverse else ""
    if state.sort == PROBLEMS_FIRST:
        phrases.append((f"problems {'last' if state.reverse else 'first'}", "faint"))
    else:
        phrases.append((f"by {BY_KEY[state.sort].title}{way}", "faint"))
    return phrases
