"""What a ledger was told, reading by reading, so that its joules can be computed again.

A :class:`LedgerLog` notes the readings that a :class:`~fimi.energy.ledger.Ledger` uses and every
edge between them: where phases begin and end, where the board rests, what is taken for a report.
:meth:`LedgerLog.part` gives what was noted since the last part, packed without loss
(:mod:`fimi.energy.ledger_packing`). The parts of a ledger, one after the other, say all that it
ever knew: :mod:`fimi.energy.replay` feeds them to another ledger, which comes to the same figures.

Nothing is thinned here: what a recorder keeps is what the ledger saw. But all is bounded, by
:data:`~fimi.energy.ledger_parts.READINGS_MOST` and :data:`~fimi.energy.ledger_parts.BYTES_MOST`.
What has no room goes series by series, whole: first the second meter, which is in no sum, then the
processor's share, so that the joules that count can still be computed again. The part says what
went. Only where those do not fit either is a sentence all that is left.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from fimi.energy.ledger_packing import packed
from fimi.energy.ledger_parts import (
    BYTES_MOST,
    READINGS_MOST,
    STEPS_MOST,
    MarkedStep,
    ReadingsPart,
    Series,
    Step,
)
from fimi.energy.meters import MeterDescription, Reading

GOES_FIRST: tuple[Series, ...] = ("second", "cpu")
"""Series that are left out where there is no room, in this order."""


class LedgerLog:
    """Notes what a ledger is told. One thread at a time.

    Args:
        life: name of the ledger; drawn where it is left out.
    """

    def __init__(self, life: str = "") -> None:
        self._life = life or secrets.token_hex(8)
        self._number = 0
        self._meters: dict[Series, MeterDescription] = {}
        self._steps: list[MarkedStep] = []
        self._counts: dict[Series, int] = {}
        self._left_out: dict[Series, str] = {}
        self._lost = ""
        self._newest: dict[Series, Reading] = {}
        self._before: dict[Series, Reading] = {}
        """The last readings of the part before."""

    def begins(self, meters: Mapping[Series, MeterDescription]) -> None:
        """The ledger uses these meters."""
        self._meters = dict(meters)

    def note(
        self,
        step: Step,
        at_s: float = math.nan,
        *,
        words: str = "",
        regime: str = "",
        number: int = 0,
        readings: Mapping[Series, Sequence[Reading]] | None = None,
    ) -> None:
        """Note a step; see :class:`~fimi.energy.ledger_parts.MarkedStep`."""
        given = {name: list(found) for name, found in (readings or {}).items()}
        self._newest |= {name: found[-1] for name, found in given.items() if found}
        for name, found in given.items():
            self._counts[name] = self._counts.get(name, 0) + len(found)
        if not self._lost:
            given = {name: found for name, found in given.items() if name not in self._left_out}
            self._steps.append(MarkedStep(step, at_s, words, regime, number, given))
            self._bound()

    def part(self, room_bytes: int = BYTES_MOST, *, cut: bool = True) -> tuple[ReadingsPart, ...]:
        """What was noted since the last part, which is one or none.

        Args:
            room_bytes: most bytes that it may have.
            cut: whether the next part begins here; else this one will be given again, with more,
                and stands beside the phases so far.
        """
        steps = self._steps if cut else [*self._steps, MarkedStep("so-far")]
        if not self._steps and not self._lost:
            return ()
        made = ReadingsPart(life=self._life, number=self._number, count=sum(self._counts.values()))
        made = made.without(self._lost) if self._lost else self._fitting(made, steps, room_bytes)
        if cut:
            self._number += 1
            self._steps, self._counts, self._left_out, self._lost = [], {}, {}, ""
            self._before = dict(self._newest)
        return (made,)

    def _bound(self) -> None:
        """Leave out what is more than a part may have."""
        why = f"more than {READINGS_MOST} readings until a report were not kept"
        while sum(n for name, n in self._counts.items() if name not in self._left_out) > (
            READINGS_MOST
        ):
            if (name := self._next(self._steps, self._left_out)) is None:
                self._lost = why
                break
            self._left_out[name] = why
            for each in self._steps:
                each.readings.pop(name, None)
        if len(self._steps) >= STEPS_MOST:  # one more tells phases so far
            self._lost = f"more than {STEPS_MOST} steps until a report were not kept"
        if self._lost:
            self._steps = []

    def _fitting(
        self, made: ReadingsPart, steps: Sequence[MarkedStep], room_bytes: int
    ) -> ReadingsPart:
        """The part with as many series as there is room for."""
        room_bytes, left_out = min(room_bytes, BYTES_MOST), dict(self._left_out)
        while True:
            body, count = packed(self._meters, steps, self._before, left_out)
            if len(body) <= room_bytes:
                digest = hashlib.sha256(body).hexdigest()
                return msgspec.structs.replace(made, body=body, digest=digest, count=count)
            why = (
                f"{count} readings take {len(body)} B, more than the {room_bytes} B that a report "
                "has room for"
            )
            if (name := self._next(steps, left_out)) is None:
                return made.without(why)
            left_out[name] = why

    @staticmethod
    def _next(steps: Iterable[MarkedStep], left_out: Mapping[Series, str]) -> Series | None:
        """The series that goes next; ``None`` where only that of the joules has readings."""
        there = {name for step in steps for name, given in step.readings.items() if given}
        return next((name for name in GOES_FIRST if name in there and name not in left_out), None)
