"""A lower bound without trust in a search: Lagrange's dual function, docs/model.md (22)-(24).

Only two constraints couple the devices besides the length of the round: the band Σ b ≤ B and the
mean error. For *any* multipliers μ, λ ≥ 0 the least over the round's length R of

    Σ min [ energy + λ w α D^(−β) + μ b ] + P_idle R − λ (Δ_max − δ0) − μ B

is a lower bound on every plan's energy, with each device's minimum over all its own constraints,
its steps included. Good multipliers make it tight; bad ones only make it low.

Each lane's least is convex in log R and falls with it. So its tangent at some R lies below it for
shorter rounds and longer ones, as long as the lane is fast enough at that R. For laws one tangent
proves the bound for all R. With steps, a lane may be too slow for an R and right for a longer one:
the range of R is divided, and each part has the tangents of its right end.

* :func:`dual`       the bound at given multipliers
* :class:`DualPoint` the result
"""

from __future__ import annotations

import heapq
import math

import numpy as np
from msgspec import Struct

from fimi.energy.cost_model import Array
from fimi.optim.device_optimum import DeviceSolver, Optima
from fimi.optim.inner import InnerSolver

_MARGIN = 1e-11
"""Taken off the bound, relative to its terms, for rounding errors."""
_CLOSE = 2e-5
"""The range of R is divided until its least is known to this, relatively."""
_BESIDE = 1e-6
"""How far from an R its tangents are taken, relatively."""
_PARTS_MAX = 60
_FIRST_PARTS = (0.5, 0.8, 0.93, 0.98, 1.0, 1.02, 1.08, 1.25, 2.0)
"""Ends of the first parts of the range, relative to the R that a search found."""


class DualPoint(Struct, frozen=True, eq=False):
    """The dual function at one pair of multipliers.

    Attributes:
        bound_j: lower bound on the objective of the fleet in a round, less rounding errors; −inf if
            a device has no feasible point.
        learning_multiplier: λ ≥ 0, J per unit of mean error.
        band_multiplier: μ ≥ 0, J/Hz.
        round_s: length of the round at which the bound was taken, s.
        optima: the devices' optima there.
    """

    bound_j: float
    learning_multiplier: float
    band_multiplier: float
    round_s: float
    optima: Optima


def dual(
    inner: InnerSolver,
    learning_multiplier: float,
    band_multiplier: float,
    round_s: float | None = None,
    *,
    solver: DeviceSolver | None = None,
) -> DualPoint:
    """(22) The dual function.

    Args:
        inner: the problem's inner solver.
        learning_multiplier: λ ≥ 0, J per unit of mean error; ignored without a learning constraint.
        band_multiplier: μ ≥ 0, J/Hz.
        round_s: the length of a round near which the least is expected; the longest if left out.
        solver: a solver of this fleet to go on with.
    """
    problem = inner.problem
    lam = max(learning_multiplier, 0.0) if inner.bound_by_error else 0.0
    mu = max(band_multiplier, 0.0)
    log_lam, log_mu = (math.log(price) if price > 0 else -math.inf for price in (lam, mu))
    devices = solver or DeviceSolver(inner)
    longest = problem.round_max_s
    at = min(round_s or longest, longest) if inner.free_round else longest
    optima = devices.optima(log_lam, log_mu, at)
    charges = [lam * problem.error_budget if lam else 0.0, mu * problem.bandwidth_hz]
    # Receiving is counted by the sample: of the local ones nothing is received.
    received = inner.weights.board * problem.synthetic_j / problem.rounds
    offset = inner.constant_j - float((received * problem.local_samples).sum())

    def of(optima: Optima) -> float:
        return math.fsum(optima.least_j[optima.lane])

    if not np.isfinite(optima.least_j[optima.lane]).all() and not inner.free_round:
        least = -math.inf
    elif not inner.free_round:
        least = of(optima)
    elif inner.lanes.single:
        least = _by_tangents(inner, devices, log_lam, log_mu, at)
    else:
        least = _by_parts(inner, devices, log_lam, log_mu, at, optima)
    margin = _MARGIN * (abs(least) + sum(charges)) if math.isfinite(least) else 0.0
    return DualPoint(
        bound_j=least + offset - math.fsum(charges) - margin,
        learning_multiplier=lam,
        band_multiplier=mu,
        round_s=at,
        optima=optima,
    )


def _shortest_s(inner: InnerSolver) -> float:
    """No round is shorter: every device trains its least data and sends over all the band, s."""
    problem = inner.problem
    busy = inner.earliest_s + inner.radio.full_power_s(problem.bandwidth_hz)
    return float((problem.receive_s + busy).max())


def _least_on(
    left: float, right: float, at: float, value: float, slope: float, idle_w: float
) -> float:
    """The least of value + slope (u − at) + idle e^u for u from left to right."""
    u = math.log(-slope / idle_w) if slope < 0 else left
    u = min(max(u, left), right)
    return value + slope * (u - at) + idle_w * math.exp(u)


def _by_tangents(
    inner: InnerSolver, devices: DeviceSolver, log_lam: float, log_mu: float, at: float
) -> float:
    """The least over all R: shorter rounds by tangents just below one R, longer ones just above.

    −inf if a device is too slow for that R. At the least, a device whose own deadline is the length
    of the round makes the slopes on the two sides differ.
    """
    longest = inner.problem.round_max_s
    shortest = min(_shortest_s(inner), longest)
    least = math.inf
    for near, left, right in ((1.0 - _BESIDE, shortest, at), (1.0 + _BESIDE, at, longest)):
        if right <= left:
            continue
        anchor = min(at * near, longest)
        optima = devices.optima(log_lam, log_mu, anchor)
        value, slope = math.fsum(optima.least_j), math.fsum(optima.slope_j)
        if not math.isfinite(value) and anchor < at:
            # No plan has a round as short as the anchor; what is left of the part is a sliver.
            optima = devices.optima(log_lam, log_mu, at)
            value = math.fsum(optima.least_j)
            least = min(least, value + inner.round_w * anchor)
            continue
        if not math.isfinite(value):
            return -math.inf
        ends = math.log(left), math.log(right), math.log(anchor)
        least = min(least, _least_on(*ends, value, slope, inner.round_w))
    return least


def _by_parts(
    inner: InnerSolver,
    devices: DeviceSolver,
    log_lam: float,
    log_mu: float,
    at: float,
    optima: Optima,
) -> float:
    """The least over all R, part by part, (22): the lowest part is divided until it is known."""
    lanes, idle_w = inner.lanes, inner.round_w
    longest = inner.problem.round_max_s
    shortest = min(_shortest_s(inner), longest)

    def least_of(values: Array) -> float:
        return math.fsum(np.minimum.reduceat(values, lanes.starts))

    def part(left: float, right: float, found: Optima) -> tuple[float, float]:
        """The least on a part by the tangents of its right end; the dual function there."""
        with np.errstate(invalid="ignore"):
            moved = found.least_j + found.slope_j * (left - right)
        moved = np.where(np.isfinite(found.least_j), moved, np.inf)
        value, start = least_of(found.least_j), least_of(moved)
        if not math.isfinite(value):
            return math.inf, math.inf  # no plan has so short a round
        # The least of tangents is concave: its chord lies below it.
        slope = (value - start) / (right - left) if right > left else 0.0
        floor = _least_on(left, right, right, value, slope, idle_w)
        return floor, value + idle_w * math.exp(right)

    ends = sorted({shortest, longest} | {min(max(at * f, shortest), longest) for f in _FIRST_PARTS})
    parts: list[tuple[float, float, float]] = []
    known = math.inf
    left = math.log(ends[0])
    for end in ends if len(ends) == 1 else ends[1:]:
        right = math.log(end)
        found = optima if end == at else devices.optima(log_lam, log_mu, end)
        floor, here = part(left, right, found)
        known = min(known, here)
        heapq.heappush(parts, (floor, left, right))
        left = right
    for _ in range(_PARTS_MAX):
        floor, left, right = parts[0]
        if floor >= known - _CLOSE * abs(known) or right - left < 1e-6:
            break
        heapq.heappop(parts)
        middle = (left + right) / 2.0
        for begin, end in ((left, middle), (middle, right)):
            floor, here = part(begin, end, devices.optima(log_lam, log_mu, math.exp(end)))
            known = min(known, here)
            heapq.heappush(parts, (floor, begin, end))
    return parts[0][0]
