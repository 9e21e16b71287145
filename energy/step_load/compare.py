"""Two meters that saw the same load: gain, offset, delay, noise and disagreement, with a verdict.

* :func:`compare`       every pair of some meters
* :func:`line_through`  a straight line where both coordinates are uncertain

Each turn of the load is a phase, metered by each meter with the response that was learned of it
(:mod:`fimi.energy.phase_energy`). The gain is the slope of a line through the mean powers of turns
that both meters resolve, by least squares with the uncertainties of both (York et al. 2004, with
errors that have nothing to do with each other; Deming's regression where they are all alike).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from fimi.energy.joules import SCOPE_WIDTH, Scope
from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.phase_energy import PhaseMeter
from fimi.energy.phase_readings import Stretch
from fimi.energy.step_load.fit import Learned
from fimi.energy.step_load.load import Edges

FEWEST_TURNS = 5
_SURE = 2.0
_ITERATIONS = 100

_Array = NDArray[np.float64]


class Tried(Struct, frozen=True, kw_only=True):
    """A meter that was read during a step load.

    Attributes:
        meter: what was known of it before.
        learned: its response; ``None`` if nothing could be learned.
        problem: why not.
        readings: what it showed.
    """

    meter: MeterDescription
    learned: Learned | None
    problem: str
    readings: tuple[Reading, ...]


class Pair(Struct, frozen=True, kw_only=True):
    """Two meters that saw the same load.

    Attributes:
        first, second: their sources.
        scopes: what they see.
        verdict: what follows, in words.
        turns: turns of the load that both resolve.
        gain: change of power that the second shows over that of the first; ``None`` like the rest
            if they cannot be compared.
        gain_sd: one standard deviation of it, without what is uncertain of the meters' own gains.
        gains_sd: that uncertainty, of both together.
        offset_w: what the second shows where the first shows 0 W, W.
        offset_sd_w: one standard deviation of it, W.
        later_s: how much later the second shows a change, on average, s.
        later_sd_s: one standard deviation of it, s.
        noise_w: scatter of the readings of both while nothing changes, W.
        disagreement_w: how far turns lie from the line, root mean square, W.
    """

    first: str
    second: str
    scopes: tuple[Scope, Scope]
    verdict: str
    turns: int = 0
    gain: float | None = None
    gain_sd: float | None = None
    gains_sd: float | None = None
    offset_w: float | None = None
    offset_sd_w: float | None = None
    later_s: float | None = None
    later_sd_s: float | None = None
    noise_w: tuple[float, float] | None = None
    disagreement_w: float | None = None


class StraightLine(NamedTuple):
    """y = offset + slope x, with one standard deviation of each.

    ``apart`` is the root mean square of what is left, in units of y.
    """

    slope: float
    slope_sd: float
    offset: float
    offset_sd: float
    apart: float


def compare(edges: Edges, tried: Sequence[Tried]) -> tuple[Pair, ...]:
    """Every pair of meters that were read during the same load."""
    powers = [_turns(edges, each) for each in tried]
    return tuple(
        _pair(tried[one], tried[other], powers[one], powers[other])
        for one, other in combinations(range(len(tried)), 2)
    )


def line_through(x: _Array, x_sd: _Array, y: _Array, y_sd: _Array) -> StraightLine:
    """The line through points that are uncertain in both coordinates, all of shape (n,).

    Deviations are widened where points lie further from the line than their uncertainties say.

    Raises:
        ValueError: there are fewer than three points, or all have the same x.
    """
    if len(x) < 3 or np.ptp(x) == 0.0:
        raise ValueError(f"{len(x)} points with {len(np.unique(x))} different x give no line")
    slope = float(np.polyfit(x, y, 1)[0])
    for _ in range(_ITERATIONS):
        weights = 1.0 / (slope**2 * x_sd**2 + y_sd**2)
        x_mean, y_mean = np.average(x, weights=weights), np.average(y, weights=weights)
        dx, dy = x - x_mean, y - y_mean
        moved = weights * (dx * y_sd**2 + slope * dy * x_sd**2)
        before, slope = slope, float((weights * moved) @ dy / ((weights * moved) @ dx))
        if abs(slope - before) <= 1e-12 * abs(slope):
            break
    offset = float(y_mean - slope * x_mean)
    left = y - offset - slope * x
    widened = math.sqrt(max(1.0, float(weights @ left**2) / (len(x) - 2)))
    at = moved - np.average(moved, weights=weights)
    slope_sd = widened / math.sqrt(float(weights @ at**2))
    adjusted = float(x_mean + np.average(moved, weights=weights))
    offset_sd = math.hypot(widened / math.sqrt(float(weights.sum())), adjusted * slope_sd)
    return StraightLine(slope, slope_sd, offset, offset_sd, float(np.sqrt(np.mean(left**2))))


def _turns(edges: Edges, tried: Tried) -> list[tuple[float, float] | None]:
    """Mean power of each turn and its deviation without that of the gain, W, where resolved."""
    if tried.learned is None:
        return []
    described = replace(
        tried.meter,
        response=tried.learned.response,
        resolution_w=tried.learned.resolution_w or tried.meter.resolution_w,
    )
    meter = PhaseMeter(described)
    meter.add(tried.readings)
    found: list[tuple[float, float] | None] = []
    stretches = [
        Stretch("on" if on else "off", begin_s, end_s, 0, meter.count)
        for begin_s, end_s, on in edges.stretches
    ]
    for stretch in stretches:
        metered = meter.end(stretch)
        if metered.energy is None or not metered.resolved:
            found.append(None)
            continue
        energy = metered.energy
        own_j = math.sqrt(max(0.0, energy.uncertainty_j**2 - energy.shared_j**2))
        least_w = 1e-4 * abs(energy.value_j) / stretch.duration_s
        deviation_w = max(own_j / stretch.duration_s, least_w, 1e-9)
        found.append((energy.value_j / stretch.duration_s, deviation_w))
    return found


def _pair(
    one: Tried,
    other: Tried,
    powers: list[tuple[float, float] | None],
    others: list[tuple[float, float] | None],
) -> Pair:
    sources = (one.meter.source, other.meter.source)
    scopes = (one.meter.scope, other.meter.scope)
    bare = Pair(first=sources[0], second=sources[1], scopes=scopes, verdict="")
    if set(scopes) == {"cpu", "gpu"}:
        why = "scopes differ: neither sees what the other sees (cpu, gpu)"
        return replace(bare, verdict=f"cannot be compared: {why}")
    for each in (one, other):
        if each.learned is None:
            why = f"{each.meter.source}: {each.problem}"
            return replace(bare, verdict=f"cannot be compared: {why}")
    assert one.learned is not None and other.learned is not None
    both = [(a, b) for a, b in zip(powers, others, strict=True) if a is not None and b is not None]
    if len(both) < FEWEST_TURNS:
        why = f"only {len(both)} of {len(powers)} turns of the load are resolved by both"
        return replace(bare, verdict=f"cannot be compared: {why}", turns=len(both))
    table = np.array([(*a, *b) for a, b in both])
    line = line_through(*table.T)
    gains_sd = math.hypot(one.meter.relative_uncertainty, other.meter.relative_uncertainty)
    first, second = one.learned.response, other.learned.response
    return replace(
        bare,
        verdict=_verdict(one.meter, other.meter, line, gains_sd),
        turns=len(both),
        gain=line.slope,
        gain_sd=line.slope_sd,
        gains_sd=gains_sd,
        offset_w=line.offset,
        offset_sd_w=line.offset_sd,
        later_s=second.lag_s - first.lag_s,
        later_sd_s=math.hypot(first.delay_sd_s, second.delay_sd_s),
        noise_w=(one.learned.noise_w, other.learned.noise_w),
        disagreement_w=line.apart,
    )


def _verdict(
    one: MeterDescription, other: MeterDescription, line: StraightLine, gains_sd: float
) -> str:
    """What a line says of two meters, in words."""
    wide, narrow = other, one
    ratio, ratio_sd, offset_w = line.slope, line.slope_sd, line.offset
    if SCOPE_WIDTH[one.scope] > SCOPE_WIDTH[other.scope]:
        wide, narrow = one, other
        ratio, ratio_sd = 1.0 / line.slope, line.slope_sd / line.slope**2
        offset_w = -line.offset / line.slope
    offset_sd_w = line.offset_sd * ratio / line.slope
    percent = f"{100 * abs(ratio - 1.0):.1f} ± {100 * ratio_sd:.1g} %"
    uncertain = math.hypot(ratio_sd, gains_sd)
    off = abs(ratio - 1.0) > _SURE * uncertain
    moved = abs(offset_w) > _SURE * offset_sd_w
    if SCOPE_WIDTH[wide.scope] != SCOPE_WIDTH[narrow.scope]:
        said = f"scopes differ ({narrow.scope}, {wide.scope}): "
        if ratio < 1.0 and off:
            return (
                f"{said}{wide.source} sees more and shows {percent} less of a change: one of the "
                "two is off, or the narrower one sees what the wider one does not"
            )
        more = f"a change is {percent} larger" if ratio > 1.0 else "changes agree"
        rest = f", and {offset_w:.3g} ± {offset_sd_w:.1g} W more at all times" if moved else ""
        return (
            f"{said}by {wide.source} {more}{rest}, as losses of the supply and other parts of the "
            "board would make it"
        )
    if off:
        than = "more" if ratio > 1.0 else "less"
        return (
            f"{wide.source} reads {percent} {than} of a change than {narrow.source}, beyond the "
            f"uncertainties of both (± {100 * gains_sd:.1g} %): the supply's losses, where only "
            "one sees them, or one of them is off"
        )
    if moved:
        than = "more" if offset_w > 0.0 else "less"
        return (
            f"changes agree within their uncertainties; {wide.source} shows {abs(offset_w):.3g} ± "
            f"{offset_sd_w:.1g} W {than} at all times: an offset, or what only one of them sees"
        )
    return "agree within their uncertainties"
