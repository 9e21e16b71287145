"""Rounds in a terminal: what each has reached, taken and used, beside what was predicted of it.

* :func:`lines`  a title with the names of the columns, and rounds below it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fimi.energy.joules import Energy
from fimi.monitor.snapshot import RoundNow
from fimi.monitor.terminal.cells import joules_cell
from fimi.monitor.terminal.text import Piece, TextLine, flow, of, padded
from fimi.report.words import MISSING, alike, heading, joules, percent, seconds, signed_percent


class RoundColumn(NamedTuple):
    """A column of the table of rounds.

    Attributes:
        name: at its head.
        width: columns of the terminal, where joules stand without their kind.
        cell: what stands in it; whether joules are to stand bare.
    """

    name: str
    width: int
    cell: Callable[[RoundNow, bool], str]


COLUMNS = (
    RoundColumn("accuracy", 9, lambda now, bare: percent(now.accuracy)),
    RoundColumn("J round", 10, lambda now, bare: joules_cell(now.energy, bare=bare)),
    RoundColumn("predicted", 10, lambda now, bare: joules(now.energy.predicted_j)),
    RoundColumn("error", 9, lambda now, bare: signed_percent(now.energy.error_percent)),
    RoundColumn("J so far", 10, lambda now, bare: joules_cell(now.so_far, bare=bare)),
    RoundColumn("updates", 8, lambda now, bare: f"{now.accepted}/{now.participants}"),
    RoundColumn("took", 12, lambda now, bare: seconds(now.duration_s)),
    RoundColumn("loss", 7, lambda now, bare: MISSING if now.loss is None else f"{now.loss:.3g}"),
)
"""The most important first: a narrow terminal shows those that it has room for."""
_NUMBER = 6
_KIND = 20
"""Columns that the kind and scope of joules take, where they are not the same for all."""
_OF_JOULES = ("J round", "J so far")


def lines(
    shown: Sequence[tuple[str, RoundNow]], title: str, width: int
) -> tuple[list[TextLine], list[TextLine]]:
    """A title with the names of the columns, and a line for each round.

    Args:
        shown: rounds by number, in their order.
        title: says what is shown.
        width: columns.
    """
    if not shown:
        return [of(title, "title")], [of("no round has ended yet", "faint")]
    energies: list[Energy | None] = [
        each.energy for _, now in shown for each in (now.energy, now.so_far)
    ]
    bare = alike(energies)
    phrases: list[Piece] = [(title, "title")]
    if bare and any(energies):
        phrases.append((f"joules: {heading(energies)}; predicted: modelled", "faint"))
    columns, left = [], width - _NUMBER
    for column in COLUMNS:
        room = column.width + (_KIND if not bare and column.name in _OF_JOULES else 0)
        if room + 1 > left:
            break
        columns.append((column, room))
        left -= room + 1
    names = [padded("round", _NUMBER, right=True)]
    names += [padded(column.name, room, right=True) for column, room in columns]
    head = [*flow(phrases, width), of(" ".join(names), "faint")]
    found = []
    for number, now in shown:
        cells = [padded(number, _NUMBER, right=True)]
        cells += [padded(column.cell(now, bare), room, right=True) for column, room in columns]
        found.append(of(" ".join(cells)))
    return head, found
