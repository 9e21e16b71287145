"""Every joule of a device, phase by phase.

A :class:`Ledger` forces a reading at both edges of a phase, and :mod:`fimi.energy.integration`
turns the readings into joules. When a phase ends, the ledger writes a :class:`PhaseRecord`. It
travels in the round report, is stored by the coordinator and shown in the report.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from msgspec import Meta, Struct

from fimi.energy.clock import Clock
from fimi.energy.cost_model import PHASES, NonNegative, Phase
from fimi.energy.integration import integrate, largest_gap_s
from fimi.energy.joules import Energy
from fimi.energy.meters import Recorder
from fimi.energy.meters.combine import Combined


class PhaseRecord(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One phase as it was metered.

    Attributes:
        phase: the phase.
        start_s: when it began on the device's own clock, s.
        duration_s: how long it took, s.
        energy: its energy, or ``None`` where nothing could be read: missing is never zero.
        sample_count: number of readings that the figure is computed from.
        largest_gap_s: longest time between two readings, s.
        cpu: the processor's share of ``energy``, by a meter of its own, or ``None``.
    """

    phase: Phase
    start_s: float
    duration_s: NonNegative
    energy: Energy | None
    sample_count: Annotated[int, Meta(ge=0, le=2**48)]
    largest_gap_s: NonNegative
    cpu: Energy | None = None

    def __post_init__(self) -> None:
        for energy in (self.energy, self.cpu):
            if energy is not None and energy.value_j < 0:
                raise ValueError(
                    f"{self.phase} took {energy.value_j} J by {energy.source!r}; "
                    "a phase does not give energy back"
                )


class Ledger:
    """Meters the phases of one device.

    Phases do not overlap; energy drawn between two phases belongs to none of them. One thread
    uses a ledger at a time. The clock is that of the recorder's readings.
    """

    def __init__(self, clock: Clock, recorder: Recorder) -> None:
        self._clock = clock
        self._recorder = recorder
        self._open: tuple[Phase, float] | None = None
        self._records: list[PhaseRecord] = []

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
        self._recorder.mark()
        self._open = (phase, self._clock.now_s())

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
        (phase, start_s), self._open = self._open, None
        end_s = self._clock.now_s()
        readings = self._recorder.mark()
        energy = cpu = fault = None
        try:
            energy = integrate(readings, start_s, end_s, self._recorder.describe())
            if isinstance(self._recorder, Combined):
                split, meter = self._recorder.split_readings, self._recorder.split.describe()
                cpu = integrate(split, start_s, end_s, meter)
        except ValueError as error:  # of Energy: it is infinite or not a number
            fault = error
        usable = [reading for reading in readings if reading.holds]
        record = PhaseRecord(
            phase=phase,
            start_s=start_s,
            duration_s=end_s - start_s,
            energy=energy,
            sample_count=len(usable),
            largest_gap_s=largest_gap_s(usable, start_s, end_s),
            cpu=cpu,
        )
        self._records.append(record)
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

    def take(self) -> tuple[PhaseRecord, ...]:
        """The phases that ended since the last take, in order; an open phase stays open."""
        records, self._records = tuple(self._records), []
        return records
