"""A ledger fed with what another one was told: it comes to the same figures.

:func:`replay` takes the parts of a :class:`~fimi.energy.ledger_log.LedgerLog` in order and does
each step with a :class:`~fimi.energy.ledger.Ledger` of its own, whose clock and recorder only say
what is noted. So a joule is computed by the very code that a device runs, from readings alone.

Where a part is missing the ledger behind it knows less than that of the device: a new one begins.
What is told from there on is marked (:attr:`Told.whole`): what such a ledger learns of earlier
phases, and a power before the first phase, may be missing in its figures. Where a part has left out
a series, the joules of the others are the same; those of that series are not known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple, cast, get_args

import numpy as np
from msgspec import Struct

from fimi.energy.cost_model import PHASES
from fimi.energy.ledger import Evidence, Ledger, PhaseRecord
from fimi.energy.ledger_parts import LoggedPart, MarkedStep, Series
from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.meters.combine import Beside
from fimi.energy.resting import When


class Told(Struct, frozen=True):
    """A phase as a ledger gave it.

    Attributes:
        record: the phase.
        part: place among the parts in which it was given.
        number: of the round that it was given for; 0 where the ledger was not told one.
        whole: whether that ledger knew all that the device's knew.
        again: whether it is a correction of one that was given before.
        without: series of which readings were left out so far: what these say may be missing.
    """

    record: PhaseRecord
    part: int
    number: int
    whole: bool
    again: bool = False
    without: frozenset[Series] = frozenset()


class Replayed(Struct):
    """What a ledger said when it was told the same again.

    Attributes:
        told: phases in the order in which they were given for a report.
        dropped: those that were given for none.
        evidence: what was said beside them, with whether the ledger knew all.
        troubles: what could not be done again, a sentence each.
    """

    told: list[Told] = []
    dropped: list[PhaseRecord] = []
    evidence: list[tuple[Evidence, bool]] = []
    troubles: list[str] = []


def replay(parts: Iterable[LoggedPart | None]) -> Replayed:
    """What a ledger says that is told all this.

    Args:
        parts: of one life, from its beginning on; ``None`` for each that is missing.
    """
    found, player, whole = Replayed(), None, True
    without: frozenset[Series] = frozenset()
    for place, noted in enumerate(parts):
        if noted is None:
            player, whole = None, False
            continue
        if player is None or not player.fits(noted):
            player = _Player(noted.meters, found)
        without |= frozenset(noted.left_out)
        player.play(noted, _Place(place, whole, without))
    return found


class _Place(NamedTuple):
    """Where a ledger is, as in :class:`Told`."""

    part: int
    whole: bool
    without: frozenset[Series]


class _Clock:
    """Shows what is noted."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now_s(self) -> float:
        return self.at_s


class _Noted:
    """A recorder of one series."""

    def __init__(self, meter: MeterDescription) -> None:
        self._meter = meter
        self.next: list[Reading] = []

    def describe(self) -> MeterDescription:
        return self._meter

    def mark(self) -> list[Reading]:
        readings, self.next = self.next, []
        return readings


class _Several(_Noted):
    """A recorder with others beside it."""

    def __init__(self, meter: MeterDescription, others: dict[Beside, MeterDescription]) -> None:
        super().__init__(meter)
        self.beside = {name: _Noted(each) for name, each in others.items()}
        self.readings_beside: dict[Beside, list[Reading]] = {}

    def mark(self) -> list[Reading]:
        self.readings_beside = {name: each.mark() for name, each in self.beside.items()}
        return super().mark()


class _Player:
    """One ledger, and what it is told."""

    def __init__(self, meters: dict[Series, MeterDescription], found: Replayed) -> None:
        self._found = found
        self._clock = _Clock()
        self._meters = meters
        others: dict[Beside, MeterDescription] = {n: m for n, m in meters.items() if n != "total"}
        total = meters.get("total")
        if total is None:
            raise ValueError("a log has no readings of the meter whose joules count")
        self._recorder = _Several(total, others) if others else _Noted(total)
        self._ledger = Ledger(self._clock, self._recorder)
        self._newest: dict[Series, Reading] = {}
        self._rest: AbstractContextManager[None] | None = None

    def fits(self, noted: LoggedPart) -> bool:
        """Whether a part is of the same meters."""
        return noted.meters == self._meters

    def play(self, noted: LoggedPart, place: _Place) -> None:
        """Do the steps of a part."""
        same: dict[int, Reading] = {}  # a ledger knows the last reading of before by its identity
        open_ = set(noted.follows)
        for step in noted.steps:
            for name, readings in step.readings.items():
                if readings and name in open_:
                    open_.discard(name)
                    if (before := self._newest.get(name)) == readings[0] and before is not None:
                        same[id(readings[0])] = before
                if readings:
                    readings = [same.get(id(readings[0]), readings[0]), *readings[1:]]
                    self._newest[name] = readings[-1]
                self._recorder_of(name).next = readings
            try:
                with np.errstate(all="ignore"):
                    self._do(step, place)
            except (RuntimeError, ValueError, ArithmeticError) as error:
                # as on the device, whose phase has ended without energy; or a part began amid one
                self._found.troubles.append(str(error))

    def _recorder_of(self, name: Series) -> _Noted:
        if isinstance(self._recorder, _Several) and name != "total":
            return self._recorder.beside[name]
        return self._recorder

    def _do(self, step: MarkedStep, place: _Place) -> None:
        ledger, found = self._ledger, self._found
        if not math.isnan(step.at_s):
            self._clock.at_s = step.at_s
        if step.step == "begin":
            if step.words not in PHASES:
                raise ValueError(f"{step.words!r} is not a phase")
            ledger.regime = step.regime
            ledger.begin(step.words)
        elif step.step == "end":
            ledger.end()
        elif step.step == "rest":
            if step.words not in get_args(When):
                raise ValueError(f"{step.words!r} is no time to rest")
            self._rest = ledger.resting(cast(When, step.words))
            self._rest.__enter__()
        elif step.step == "rested":
            rest, self._rest = self._rest, None
            if rest is None:
                raise RuntimeError("a rest ends that has not begun")
            rest.__exit__(None, None, None)
        elif step.step == "take":
            found.told += [_told(each, place, step.number) for each in ledger.take(step.number)]
        elif step.step == "so-far":
            found.told += [_told(each, place, 0) for each in ledger.so_far()]
        elif step.step == "drop":
            found.dropped += ledger.so_far()
            ledger.drop()
        elif step.step == "correct":
            corrected = [*ledger.corrections().items()]
            if place.without:  # the device knew by those readings that no more would come
                corrected += ledger.unsettled().items()
            for number, own in corrected:
                found.told += [_told(each, place, number, again=True) for each in own]
        elif (evidence := ledger.take_evidence()) is not None:
            found.evidence.append((evidence, place.whole))


def _told(record: PhaseRecord, place: _Place, number: int, *, again: bool = False) -> Told:
    return Told(record, place.part, number, place.whole, again, place.without)
