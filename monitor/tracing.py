"""The power of a device in a round with its phases, as the dashboard draws it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from msgspec import Struct

from fimi.energy.cost_model import Phase
from fimi.energy.joules import Energy, Kind, Scope
from fimi.record.readings import Made, Trace, trace

MOST_POINTS = 4000
"""Most points of a drawing; of more, the least and the greatest of each stretch are kept."""


class PhaseSpan(Struct, frozen=True, kw_only=True):
    """A phase in a drawing.

    Attributes:
        phase: which.
        start_s: when it began, on the clock of the drawing, s.
        duration_s: how long it took, s.
        energy: what was made of its readings; ``None`` where nothing could be read.
        made: how: from its own readings, by regression over rounds, or not resolved.
        sample_count: readings that it is made of.
        largest_gap_s: longest time between two of them, s.
        most_j: the most that it can have taken, J, where it is not resolved; ``None`` if unknown.
    """

    phase: Phase
    start_s: float
    duration_s: float
    energy: Energy | None
    made: Made
    sample_count: int
    largest_gap_s: float
    most_j: float | None


class PowerDrawing(Struct, frozen=True, kw_only=True):
    """A drawing of power over time.

    Attributes:
        device: its id.
        round: of which round; 0: before the first.
        source: name of the meter; empty without readings.
        kind: of its readings; ``None`` without any.
        scope: what it sees; likewise.
        readings: how many there are in the store; the drawing may have fewer points.
        times_s: since the beginning of the drawing, on the device's clock, s.
        power_w: at these times, W; ``None`` where the meter could not be read.
        phases: in the order of their beginnings.
        missing: why readings are not there, a sentence each.
    """

    device: str
    round: int
    source: str
    kind: Kind | None
    scope: Scope | None
    readings: int
    times_s: list[float]
    power_w: list[float | None]
    phases: tuple[PhaseSpan, ...]
    missing: tuple[str, ...]


def drawing(store: Path, device: str, number: int) -> PowerDrawing:
    """The drawing of a device in a round.

    Args:
        store: a run folder, also of a run that goes on.
        device: its id.
        number: of the round; 0 for the time before the first.

    Raises:
        fimi.record.record.ReportError: there is no run, or it cannot be read.
    """
    return drawn(trace(store, device, number))


def drawn(found: Trace) -> PowerDrawing:
    """The same from a trace that was read."""
    times_s, power_w = found.times_s, found.power_w
    begins = [phase.record.start_s for phase in found.phases]
    zero_s = min([*begins, *times_s[:1].tolist()], default=0.0)
    chosen = _chosen(power_w)
    meter = found.meter
    return PowerDrawing(
        device=found.device,
        round=found.round,
        source=meter.source if meter is not None else "",
        kind=meter.kind if meter is not None else None,
        scope=meter.scope if meter is not None else None,
        readings=len(times_s),
        times_s=[round(float(times_s[i]) - zero_s, 6) for i in chosen],
        power_w=[_or_none(float(power_w[i])) for i in chosen],
        phases=tuple(
            PhaseSpan(
                phase=each.record.phase,
                start_s=each.record.start_s - zero_s,
                duration_s=each.record.duration_s,
                energy=each.record.energy,
                made=each.made,
                sample_count=each.record.sample_count,
                largest_gap_s=each.record.largest_gap_s,
                most_j=each.record.most_j,
            )
            for each in found.phases
        ),
        missing=found.missing,
    )


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _chosen(power_w: np.ndarray) -> list[int]:
    """Which readings are drawn: all, or the least and the greatest of each stretch, and gaps."""
    count = len(power_w)
    if count <= MOST_POINTS:
        return list(range(count))
    found: set[int] = {0, count - 1}
    for part in np.array_split(np.arange(count), MOST_POINTS // 3):
        values = power_w[part]
        known = np.isfinite(values)
        if known.any():
            found.add(int(part[np.nanargmin(values)]))
            found.add(int(part[np.nanargmax(values)]))
        if not known.all():
            found.add(int(part[np.argmin(known)]))
    return sorted(found)
