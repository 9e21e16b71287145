"""The energy of one span of time by a list of readings."""

from __future__ import annotations

from collections.abc import Sequence

from fimi.energy.joules import Energy
from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.phase_energy import PhaseMeter
from fimi.energy.phase_readings import Stretch


def energy_of(
    readings: Sequence[Reading], start_s: float, end_s: float, meter: MeterDescription
) -> Energy | None:
    """Energy between two times, as that of a phase."""
    phases = PhaseMeter(meter)
    phases.add(readings)
    return phases.end(Stretch("work", start_s, end_s, 0, len(readings))).energy
