"""Every joule of a device, phase by phase.

A :class:`Ledger` forces a reading at both edges of a phase, and :mod:`fimi.energy.phase_energy`
turns the readings into joules. When a phase ends, the ledger writes a :class:`PhaseRecord`. It
travels in the round report, is stored by the coordinator and shown in the report. Where the meter
is late, the readings of a phase come when it is over: its record is not final, and
:meth:`Ledger.corrections` gives it once more.

What it is told goes to a :class:`~fimi.energy.ledger_log.LedgerLog` where it has one, from which
:mod:`fimi.energy.replay` comes to the same figures again.

Beside the records, the ledger keeps what is needed to tell phases apart that the meter does not
(:mod:`fimi.energy.phase_powers`), and what the board draws at rest (:mod:`fimi.energy.resting`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct

from fimi.energy.clock import Clock
from fimi.energy.cost_model import PHASES, NonNegative, Phase
from fimi.energy.joules import Energy
from fimi.energy.ledger_log import LedgerLog
from fimi.energy.ledger_parts import Series, Step
from fimi.energy.meters import MeterDescription, Reading, Recorder
from fimi.energy.meters.combine import Beside, HasBeside
from fimi.energy.phase_energy import PhaseMeter
from fimi.energy.phase_powers import PowerEquations, PowerSums
from fimi.energy.phase_readings import PhaseEnergy, Stretch, largest_gap_s
from fimi.energy.resting import Resting, When

_KEPT_S = 5.0
_RESTS_MAX = 64
_LATELY = 16
_AT_WORK: tuple[Phase, ...] = ("compute", "upload")
_RESTS: Phase = "idle"


class PhaseRecord(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One phase as it was metered.

    Attributes:
        phase: the phase.
        start_s: when it began on the device's own clock, s.
        duration_s: how long it took, s.
        energy: its energy, or ``None`` where nothing could be read: missing is never zero. Where
            it is not resolved, its part in a sum, and no figure of its own.
        sample_count: number of readings that the figure is computed from.
        largest_gap_s: longest time between two readings, s.
        cpu: the processor's share of ``energy``, by a meter of its own, or ``None``.
        second: its energy by a second meter, which is in no sum, or ``None``.
        second_resolved: whether that meter can tell it from the phases before and after it.
        resolved: whether the meter can tell this phase from those before and after it.
        most_j: the most that it can have taken, J, where it is not resolved; ``None`` if unknown.
        final: whether readings that come later cannot change it.
    """

    phase: Phase
    start_s: float
    duration_s: NonNegative
    energy: Energy | None
    sample_count: Annotated[int, Meta(ge=0, le=2**48)]
    largest_gap_s: NonNegative
    cpu: Energy | None = None
    second: Energy | None = None
    second_resolved: bool = True
    resolved: bool = True
    most_j: NonNegative | None = None
    final: bool = True

    def __post_init__(self) -> None:
        for energy in (self.energy, self.cpu, self.second):
            if energy is not None and energy.value_j < 0:
                raise ValueError(
                    f"{self.phase} took {energy.value_j} J by {energy.source!r}; "
                    "a phase does not give energy back"
                )


class Evidence(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a device's readings say beside the energy of each phase.

    Attributes:
        powers: equations of the powers of phases, where its meter is late.
        rests: measurements of its resting power.
    """

    powers: PowerEquations | None = None
    rests: Annotated[tuple[Resting, ...], Meta(max_length=_RESTS_MAX)] = ()


class Ledger:
    """Meters the phases of one device.

    Phases do not overlap; energy drawn between two phases belongs to none of them. One thread
    uses a ledger at a time. The clock is that of the recorder's readings.

    Args:
        clock: of the device.
        recorder: of its meter.
        log: notes what the ledger is told; ``None``: nobody does.

    Attributes:
        regime: name of the operating point in force; phases at different ones have other powers.
        used_j: of all phases that have ended, as far as it was known when they did, J.
    """

    def __init__(self, clock: Clock, recorder: Recorder, log: LedgerLog | None = None) -> None:
        self._clock = clock
        self._recorder = recorder
        self._meter = PhaseMeter(recorder.describe())
        self._beside: dict[Beside, PhaseMeter] = {}
        self._several = recorder if isinstance(recorder, HasBeside) else None
        if self._several is not None:
            self._beside = {n: PhaseMeter(r.describe()) for n, r in self._several.beside.items()}
        self._log = log
        if log is not None:
            meters: dict[Series, MeterDescription] = {"total": self._meter.described}
            meters.update({name: meter.described for name, meter in self._beside.items()})
            log.begins(meters)
        self._powers = PowerSums(recorder.describe())
        self._open: tuple[Phase, float, int, dict[Beside, int]] | None = None
        self._lately: tuple[tuple[Phase, float, float], ...] = ()
        self._records: list[_Entry] = []
        self._given: list[_Entry] = []
        self._waiting: deque[_Entry] = deque()
        self._rests: list[Resting] = []
        self.regime = ""
        self.used_j = 0.0

    @property
    def open_phase(self) -> Phase | None:
        """The phase that goes on. May be asked from another thread."""
        open_ = self._open
        return open_[0] if open_ is not None else None

    def phase_at(self, at_s: float) -> Phase | None:
        """The phase that went on just before a time of the last minutes; ``None`` between phases.

        A board in virtual time passes a phase when it ends; until then this is the one before. May
        be asked from another thread.

        Args:
            at_s: on the device's clock, s.
        """
        open_, lately = self._open, self._lately
        if open_ is not None and open_[1] < at_s:
            return open_[0]
        ended = (phase for phase, start_s, end_s in reversed(lately) if start_s < at_s <= end_s)
        return next(ended, None)

    def begin(self, phase: Phase) -> None:
        """A phase begins now.

        Raises:
            ValueError: for a phase that is not one of :data:`fimi.energy.cost_model.PHASES`.
            RuntimeError: while another phase is open.
        """
        if phase not in PHASES:
            raise ValueError(f"{phase!r} is not a phase; the phases are {', '.join(PHASES)}")
        if self._open is not None:
            raise RuntimeError(
                f"phase {phase!r} cannot begin while {self._open[0]!r} is open; end that first"
            )
        readings = self._mark()
        start_s = self._clock.now_s()
        self._note("begin", start_s, readings, words=phase, regime=self.regime)
        column = f"{phase}@{self.regime}" if self.regime and phase in _AT_WORK else phase
        self._powers.begin(column, start_s)
        counts = {name: meter.count for name, meter in self._beside.items()}
        self._open = (phase, start_s, self._meter.count, counts)

    def end(self) -> PhaseRecord:
        """The open phase ends now.

        Returns:
            Its record, which :meth:`take` returns as well.

        Raises:
            RuntimeError: if no phase is open.
            ValueError: its readings give no number; it has ended without energy.
        """
        if self._open is None:
            raise RuntimeError("no phase is open; begin one before ending it")
        (phase, start_s, first, counts), self._open = self._open, None
        readings = self._mark()
        end_s = self._clock.now_s()
        self._note("end", end_s, readings)
        self._lately = (*self._lately[1 - _LATELY :], (phase, start_s, end_s))
        self._powers.begin("", end_s)
        stretch = Stretch(phase, start_s, end_s, first, self._meter.count)
        beside = {
            name: stretch._replace(first=counts[name], last=meter.count)
            for name, meter in self._beside.items()
        }
        found, fault = PhaseEnergy(None, resolved=False), None
        others: dict[Beside, PhaseEnergy] = {}
        with np.errstate(over="ignore", invalid="ignore"):
            try:
                found = self._meter.end(stretch)
                others = {n: meter.end(beside[n]) for n, meter in self._beside.items()}
            except ValueError as error:  # of Energy: it is infinite or not a number
                fault, found = error, PhaseEnergy(None, resolved=False)
        record = PhaseRecord(
            phase=phase,
            start_s=start_s,
            duration_s=max(0.0, end_s - start_s),
            energy=found.energy,
            sample_count=sum(reading.holds for reading in readings),
            largest_gap_s=largest_gap_s([r for r in readings if r.holds], start_s, end_s),
            resolved=found.resolved or found.energy is None,
            most_j=found.most_j,
            final=found.final or fault is not None,
        )
        record = _with_others(record, others)
        if record.energy is not None:
            self.used_j += record.energy.value_j
        entry = _Entry(record, stretch, beside)
        self._records.append(entry)
        if not record.final:
            self._waiting.append(entry)
        if phase == _RESTS and (rest := self._meter.resting(stretch, "between")) is not None:
            self._rests.append(rest)
        self._forget(start_s, end_s)
        if fault is not None:
            raise fault
        return record

    def close(self) -> PhaseRecord | None:
        """End the open phase if there is one; returns its record."""
        return self.end() if self._open is not None else None

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Meter a ``with`` block as a phase; an exception inside still ends it."""
        self.begin(phase)
        try:
            yield
        finally:
            self.end()

    @contextmanager
    def resting(self, when: When) -> Iterator[None]:
        """Meter a ``with`` block in which the board does nothing; it is no phase."""
        if self._open is not None:
            raise RuntimeError(f"the board does not rest while {self._open[0]!r} is open")
        readings = self._mark()
        start_s, first = self._clock.now_s(), self._meter.count
        self._note("rest", start_s, readings, words=when)
        self._powers.begin(_RESTS, start_s)
        try:
            yield
        finally:
            readings = self._mark()
            end_s = self._clock.now_s()
            self._note("rested", end_s, readings)
            self._powers.begin("", end_s)
            stretch = Stretch(_RESTS, start_s, end_s, first, self._meter.count)
            if (rest := self._meter.resting(stretch, when)) is not None:
                self._rests.append(rest)

    def take(self, number: int = 0) -> tuple[PhaseRecord, ...]:
        """The phases that ended since the last take, in order; an open phase stays open.

        Args:
            number: of the round that they are reported in; 0 if they cannot be corrected any more.
        """
        if self._log is not None:
            self._log.note("take", number=number)
        return self._take(number)

    def drop(self) -> None:
        """The phases that ended since the last take are reported nowhere."""
        if self._log is not None:
            self._log.note("drop")
        self._take(0)

    def so_far(self) -> tuple[PhaseRecord, ...]:
        """The phases that the next take will return, if nothing more ends."""
        return tuple(entry.record for entry in self._records)

    def seconds(self, phase: Phase) -> float:
        """Seconds of this phase since the last take; it is not open."""
        return sum(e.record.duration_s for e in self._records if e.record.phase == phase)

    def corrections(self) -> dict[int, tuple[PhaseRecord, ...]]:
        """Phases that were taken before their readings had come, as they are now: by round, once.

        Those whose readings are still to come are left for another call.
        """
        if self._log is not None:
            self._log.note("correct")
        given, self._given = self._given, []
        found: dict[int, tuple[PhaseRecord, ...]] = {}
        for entry in given:
            self._again(entry)
            if entry.record.final:
                found[entry.round] = (*found.get(entry.round, ()), entry.record)
            else:
                self._given.append(entry)
        return found

    def unsettled(self) -> dict[int, tuple[PhaseRecord, ...]]:
        """What the last call of :meth:`corrections` has left, as it is so far: by round."""
        found: dict[int, tuple[PhaseRecord, ...]] = {}
        for entry in self._given:
            found[entry.round] = (*found.get(entry.round, ()), entry.record)
        return found

    def take_evidence(self) -> Evidence | None:
        """What the readings since the last call say beside records; ``None`` for nothing."""
        if self._log is not None:
            self._log.note("evidence")
        powers, rests = self._powers.take(), tuple(self._rests[-_RESTS_MAX:])
        self._rests = []
        return Evidence(powers=powers, rests=rests) if powers is not None or rests else None

    def _take(self, number: int) -> tuple[PhaseRecord, ...]:
        taken, self._records = self._records, []
        for entry in taken:
            self._again(entry)
            entry.round = number
        self._given += [each for each in taken if number and not each.record.final]
        return tuple(entry.record for entry in taken)

    def _mark(self) -> list[Reading]:
        """Force a reading; returns all since the last one."""
        readings = self._recorder.mark()
        new = self._meter.add(readings)
        if self._powers.needed:
            self._powers.add(new)
        if self._several is not None:
            for name, meter in self._beside.items():
                meter.add(self._several.readings_beside[name])
        return readings

    def _note(
        self, step: Step, at_s: float, readings: list[Reading], *, words: str = "", regime: str = ""
    ) -> None:
        """Note an edge with the readings up to it."""
        if self._log is not None:
            given: dict[Series, list[Reading]] = {"total": readings}
            if self._several is not None:
                for name, found in self._several.readings_beside.items():
                    given[name] = found
            self._log.note(step, at_s, words=words, regime=regime, readings=given)

    def _again(self, entry: _Entry) -> None:
        """Bring a record up to the readings that there are now."""
        if entry.record.final:
            return
        record = entry.record
        with np.errstate(over="ignore", invalid="ignore"):
            try:
                found = self._meter.energy(entry.stretch)
                others = {n: m.energy(entry.beside[n]) for n, m in self._beside.items()}
            except ValueError:  # of Energy: it is infinite or not a number
                return
        if found.energy is not None:
            record = msgspec.structs.replace(
                record,
                energy=found.energy,
                resolved=found.resolved,
                most_j=found.most_j,
                final=found.final,
            )
        entry.record = _with_others(record, others)

    def _settle(self, now_s: float) -> None:
        """Bring records that have waited long enough up to date, whether anything came or not."""
        while self._waiting:
            entry = self._waiting[0]
            if not entry.record.final:
                meters = (self._meter, *self._beside.values())
                if now_s < entry.stretch.end_s + max(meter.waits_s for meter in meters):
                    return
                self._again(entry)
                entry.record = msgspec.structs.replace(entry.record, final=True)
            self._waiting.popleft()

    def _forget(self, start_s: float, now_s: float) -> None:
        """Drop readings that no record needs any more."""
        self._settle(now_s)
        oldest_s = min(start_s, self._waiting[0].stretch.start_s if self._waiting else start_s)
        for meter in (self._meter, *self._beside.values()):
            meter.forget(oldest_s - _KEPT_S - 2.0 * meter.described.response.settling_s)


class _Entry:
    """A record that later readings may change.

    Attributes:
        record: as it is now.
        stretch: its time.
        beside: the same by the readings of each meter beside the first.
        round: in which it was reported; 0 if it was not, or cannot be corrected.
    """

    def __init__(
        self, record: PhaseRecord, stretch: Stretch, beside: dict[Beside, Stretch]
    ) -> None:
        self.record = record
        self.stretch = stretch
        self.beside = beside
        self.round = 0


def _with_others(record: PhaseRecord, found: dict[Beside, PhaseEnergy]) -> PhaseRecord:
    """A record with what meters beside the first say."""
    if not found:
        return record
    cpu, second = found.get("cpu"), found.get("second")
    if cpu is not None and cpu.energy is not None:
        record = msgspec.structs.replace(record, cpu=cpu.energy)
    if second is not None and second.energy is not None:
        record = msgspec.structs.replace(
            record, second=second.energy, second_resolved=second.resolved
        )
    # What the processor's share lacks is not waited for: it comes with the phases after it.
    final = record.final and (second is None or second.final)
    return msgspec.structs.replace(record, final=final)
