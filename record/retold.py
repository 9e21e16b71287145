"""What the readings of a device say: its ledgers, fed with them once more.

* :func:`retold`  the parts of a device, one life after the other, a part at a time
* :class:`Retold`  the phases and the evidence that come of it, and which parts are not there
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from msgspec import Struct

from fimi.energy.cost_model import Phase
from fimi.energy.ledger import Evidence
from fimi.energy.ledger_parts import LoggedPart, Series
from fimi.energy.replay import Replayed, Told, replay
from fimi.record.readings import StoredPart

_GAP_MOST = 1000
"""Missing parts that are named one by one."""
_SERIES: dict[Series, str] = {
    "total": "the meter",
    "cpu": "the processor's share",
    "second": "the second meter",
}
_UNSURE = 2
"""So many phases behind a missing part, what came before counts in their joules."""


class Given(Struct, frozen=True):
    """A phase as a ledger gave it, and what is known of the ledger.

    Attributes:
        told: the phase.
        is_last: whether it was given in the last part that is stored of the ledger.
        is_first: whether its ledger knew little before it.
    """

    told: Told
    is_last: bool
    is_first: bool


class Retold(Struct):
    """What the readings of a device say.

    Attributes:
        told: phases by kind and beginning, each as often as it was given.
        evidence: what was said beside them.
        missing: sentences on parts that are not there.
        left_out: sentences on parts without the readings of a meter that is in no sum.
        damaged: sentences on parts that are there, and are not as they came.
        parts: how many there are.
        readings: how many readings these have.
        declared: whether the meter is a declared power.
        lives: how many ledgers there were.
    """

    told: dict[tuple[Phase, float], list[Given]] = {}
    evidence: list[Evidence] = []
    missing: list[str] = []
    left_out: list[str] = []
    damaged: list[str] = []
    parts: int = 0
    readings: int = 0
    declared: bool = False
    lives: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether no part is missing or damaged."""
        return not self.missing and not self.damaged


def retold(device: str, parts: Iterable[StoredPart]) -> Retold:
    """What the parts of a device say.

    Args:
        device: its id, for what is said of them.
        parts: its parts, life after life, each in its order.
    """
    known = Retold()
    for _, own in itertools.groupby(parts, key=lambda part: part.row.life):
        gone: list[bool] = []
        found = _replayed(_unpacked(device, own, known, gone), known)
        after_gap: dict[int, int] = {}
        for told in found.told:
            seen = after_gap.get(told.part, 0)
            after_gap[told.part] = seen + 1
            gap = bool(told.part) and gone[told.part - 1]
            key = (told.record.phase, told.record.start_s)
            given = Given(told, told.part == len(gone) - 1, gap and seen < _UNSURE)
            known.told.setdefault(key, []).append(given)
        known.evidence += [evidence for evidence, _ in found.evidence]
        known.lives += 1
    return known


def _unpacked(
    device: str, parts: Iterable[StoredPart], known: Retold, gone: list[bool]
) -> Iterator[LoggedPart | None]:
    """The parts of a life; ``None`` for each that is not there, which ``gone`` says afterwards."""
    for part in parts:
        for number in range(len(gone), min(part.row.part, len(gone) + _GAP_MOST)):
            known.missing.append(
                f"{device}: part {number} of its readings, before those of {place(part.round)}, "
                "is not there"
            )
            gone.append(True)
            yield None
        try:
            noted = part.noted()
        except ValueError as error:
            where = known.missing if part.row.body is None else known.damaged
            where.append(f"{device}, {place(part.round)}, part {part.row.part}: {error}")
            gone.append(True)
            yield None
            continue
        known.left_out += [
            f"{device}, {place(part.round)}, part {part.row.part}: without those of "
            f"{_SERIES[name]}: {why}"
            for name, why in noted.left_out.items()
        ]
        known.parts += 1
        known.readings += part.row.count
        meter = noted.meters.get("total")
        known.declared |= meter is not None and meter.kind == "modelled" and meter.rate_hz == 0.0
        gone.append(False)
        yield noted


def _replayed(noted: Iterator[LoggedPart | None], known: Retold) -> Replayed:
    try:
        return replay(noted)
    except (ValueError, KeyError) as error:
        known.missing.append(f"readings that cannot be told to a ledger: {error}")
        for _ in noted:  # they are counted nevertheless
            pass
        return Replayed()


def place(number: int) -> str:
    """Where something stands, in words."""
    return f"round {number}" if number else "before the first round"
