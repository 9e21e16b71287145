"""(P2) and (P3) solved by CVXPY: the reference for the fast inner solvers.

Both are stated once per problem as disciplined parametrised programs, compiled on the first
candidate, and solved by Clarabel for each candidate after that; only the time windows are
parameters. docs/model.md (31)-(32).

* :class:`ReferenceSolver`  an :class:`~fimi.optim.inner.InnerSolver` whose optima come from CVXPY
* :class:`ComputeProgram`   (31) data and frequency of processors with laws
* :class:`UploadProgram`    (32) bandwidth, power and time of the uploads

Importing this module imports CVXPY, which takes a second.
"""

from __future__ import annotations

import math
from typing import Any

import cvxpy as cp
import numpy as np

from fimi.energy.cost_model import Array
from fimi.optim.certificate import attempt
from fimi.optim.inner import ComputeSolution, InnerSolver, UploadSolution
from fimi.optim.lanes import EnergyWeights, Lanes
from fimi.optim.problem import FimiProblem

_TIGHT: dict[str, float] = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
"""Two digits more than Clarabel's default; its exponential cones make no progress beyond that."""
_NODES = 40
"""Exact to 1e-12 for x up to 60."""


class ReferenceSolver(InnerSolver):
    """Inner problems by CVXPY and Clarabel, one candidate at a time.

    Whether a candidate is feasible, and by how much it is not, is a formula, which is shared with
    the fast solvers. A candidate for which Clarabel finds no solution counts as infeasible. (P2) of
    a fleet with steps is not convex, and is left to the fast solver.
    """

    def __init__(
        self,
        problem: FimiProblem,
        weights: EnergyWeights | None = None,
        *,
        lanes: Lanes | None = None,
    ) -> None:
        super().__init__(problem, weights, lanes=lanes)
        self._compute: ComputeProgram | None = None
        self._upload: UploadProgram | None = None

    def compute(self, window_s: Array, *, start: Array | None = None) -> ComputeSolution:
        """(31) See :meth:`fimi.optim.inner.InnerSolver.compute`; ``start`` is not used."""
        fast = super().compute(window_s)
        free = self.has_work & (self.samples_max > self.samples_min)
        if not (self.bound_by_error and free.any()) or any(self.problem.frequency_steps_hz):
            return fast  # D is fixed to D_loc, or the problem is not convex
        samples, frequency = fast.samples.copy(), fast.frequency_hz.copy()
        log_multiplier, violation = fast.log_multiplier.copy(), fast.violation.copy()
        if self._compute is None:
            self._compute = ComputeProgram(self.problem, self.weights, self.samples_min)
        for row in np.flatnonzero(violation == 0):
            scale_j = float((self.weights.dynamic * fast.energy_j[row]).sum())
            found = self._compute.solve(window_s[row], scale_j)
            if found is None:
                violation[row] = np.inf
                continue
            samples[row], frequency[row], log_multiplier[row] = found
        cycles = self.problem.cycles_per_pass * samples
        return ComputeSolution(
            samples=samples,
            frequency_hz=frequency,
            lane=fast.lane,
            time_s=cycles / frequency,
            energy_j=self.problem.compute_j(cycles, frequency),
            log_multiplier=log_multiplier,
            violation=violation,
        )

    def upload(self, window_s: Array, *, start: Array | None = None) -> UploadSolution:
        """(32) See :meth:`fimi.optim.inner.InnerSolver.upload`; ``start`` is not used."""
        fast = super().upload(window_s)
        band, power_w, time_s = fast.bandwidth_hz.copy(), fast.power_w.copy(), fast.time_s.copy()
        log_multiplier, violation = fast.log_multiplier.copy(), fast.violation.copy()
        if self._upload is None:
            self._upload = UploadProgram(self.problem, self.weights)
        for row in np.flatnonzero(violation == 0):
            found = self._upload.solve(window_s[row])
            if found is None:
                violation[row] = np.inf
                continue
            band[row], power_w[row], time_s[row], log_multiplier[row] = found
        return UploadSolution(
            bandwidth_hz=band,
            power_w=power_w,
            time_s=time_s,
            energy_j=(power_w + self.problem.electronics_power_w) * time_s,
            log_multiplier=log_multiplier,
            violation=violation,
        )


class ComputeProgram:
    """(31) In log D and log t_cmp, sums of exponentials of affine functions.

    Args:
        problem: a problem whose processors are laws and whose learning constraint is finite.
        weights: how much a joule of each device counts.
        samples_min: no feasible plan has a smaller D, (I,); a device with 0 does not train.
    """

    def __init__(self, problem: FimiProblem, weights: EnergyWeights, samples_min: Array) -> None:
        assert problem.curve is not None
        self._problem, self._least = problem, samples_min
        self._work = work = np.flatnonzero(samples_min > 0)
        size = work.size
        self._log_d = log_d = cp.Variable(size)
        self._log_t = log_t = cp.Variable(size)
        self._log_window = cp.Parameter(size)
        self._log_scale = cp.Parameter()
        self._per_pass = np.log(problem.cycles_per_pass[work])
        log_f = self._per_pass + log_d - log_t
        terms: list[tuple[Array, Any]] = [
            (weights.dynamic * problem.capacitance_w_per_hz3, 3 * log_f + log_t),
            (weights.dynamic * problem.linear_power_w_per_hz, self._per_pass + log_d),
            (weights.dynamic * problem.active_power_w, log_t),
            (weights.board * problem.synthetic_j / problem.rounds, log_d),
        ]
        energy = cp.Constant(0.0)
        for factor, log_rest in terms:
            some = np.flatnonzero(factor[work])
            if some.size:
                log_j = np.log(factor[work][some]) + log_rest[some] - self._log_scale
                energy += cp.sum(cp.exp(log_j))
        counted = np.flatnonzero(problem.weights[work] > 0)
        row = work[counted]
        # A device's error is w α (g D^s)^(−β): a power law again.
        beta = problem.curve.beta * problem.worth_exponent[row]
        scale = problem.worth_scale[row] ** -problem.curve.beta
        share = np.log(problem.weights[row] * problem.curve.alpha * scale / problem.error_budget)
        self._learning = cp.sum(cp.exp(share - cp.multiply(beta, log_d[counted]))) <= 1
        self._program = cp.Problem(
            cp.Minimize(energy),
            [
                log_t <= self._log_window,
                log_f <= np.log(problem.frequency_max_hz[work]),
                log_f >= np.log(problem.frequency_min_hz[work]),
                log_d >= np.log(samples_min[work]),
                log_d <= np.log((problem.local_samples + problem.generated_max)[work]),
                self._learning,
            ],
        )

    def solve(self, window_s: Array, scale_j: float) -> tuple[Array, Array, float] | None:
        """D, f and log λ for windows, (I,); ``None`` if the solver finds no solution.

        ``scale_j`` is the approximate energy of the fleet, J.
        """
        problem, work = self._problem, self._work
        self._log_window.value = np.log(window_s[work])
        scale_j = _solve(self._program, self._log_scale, scale_j)
        if scale_j == 0.0:
            return None
        samples, frequency = self._least.copy(), problem.frequency_min_hz.copy()
        samples[work] = np.exp(self._log_d.value)
        frequency[work] = np.clip(
            np.exp(self._per_pass + self._log_d.value - self._log_t.value),
            problem.frequency_min_hz[work],
            problem.frequency_max_hz[work],
        )
        price = float(self._learning.dual_value) * scale_j / problem.error_budget
        return samples, frequency, math.log(price) if price > 0 else -math.inf


class UploadProgram:
    """(32) In log b, log t_com and x = S ln2/(b t_com), by an integral instead of a series.

    (eˣ − 1)/x = ∫₀¹ e^(xs) ds, so that its logarithm is that of a sum of exponentials of multiples
    of x at the nodes of Gauss and Legendre: convex in x, and x itself in the logarithms.

    Args:
        problem: the problem; its radios may have caps, electronics, and powers that are fixed.
        weights: how much a joule of each device counts.
    """

    def __init__(self, problem: FimiProblem, weights: EnergyWeights) -> None:
        self._problem, self._weights = problem, weights
        size = problem.size
        nats = problem.payload_bits * math.log(2.0)
        log_price = np.log(problem.noise_density_w_per_hz / problem.channel_gain * nats)
        self._log_b, self._log_t = log_b, log_t = cp.Variable(size), cp.Variable(size)
        self._log_window = cp.Parameter(size)
        self._log_scale = cp.Parameter()
        x = cp.Variable(size, pos=True)
        log_x = np.log(nats / problem.bandwidth_hz) - log_b - log_t
        node, weight = np.polynomial.legendre.leggauss(_NODES)
        node, weight = (node + 1.0) / 2.0, weight / 2.0
        inner = cp.reshape(x, (size, 1), order="C") @ node[None, :] + np.log(weight)[None, :]
        log_e = cp.log_sum_exp(inner, axis=1) + log_price  # e_com without electronics
        free, fixed = (
            np.flatnonzero(problem.power_settable),
            np.flatnonzero(~problem.power_settable),
        )
        log_max = np.log(problem.transmit_power_max_w)
        limits = [cp.exp(log_x) <= x, log_t <= self._log_window, log_e <= log_max + log_t]
        energy = cp.Constant(0.0)
        if free.size:
            sent = cp.Variable(free.size)
            log_joule = np.log(weights.dynamic[free])
            limits.append(log_e[free] + log_joule - self._log_scale <= sent)
            energy += cp.sum(cp.exp(sent))
        watts = problem.electronics_power_w.copy()
        watts[fixed] += problem.transmit_power_max_w[fixed]
        watts *= weights.dynamic
        some = np.flatnonzero(watts)
        if some.size:
            energy += cp.sum(cp.exp(np.log(watts[some]) + log_t[some] - self._log_scale))
        capped = np.flatnonzero(np.isfinite(problem.rate_cap_bps))
        if capped.size:
            shortest_s = (problem.payload_bits / problem.rate_cap_bps)[capped]
            limits.append(log_t[capped] >= np.log(shortest_s))
        self._band = cp.sum(cp.exp(log_b)) <= 1
        self._program = cp.Problem(cp.Minimize(energy), [*limits, self._band])

    def solve(self, window_s: Array) -> tuple[Array, Array, Array, float] | None:
        """b, p, t_com and log μ for windows, (I,); ``None`` if the solver finds no solution."""
        problem = self._problem
        watts = problem.transmit_power_max_w + problem.electronics_power_w
        nats = problem.payload_bits * math.log(2.0)
        x = np.minimum(nats * problem.size / (problem.bandwidth_hz * window_s), 100.0)
        price_j = problem.noise_density_w_per_hz / problem.channel_gain * nats
        rough_j = price_j * np.expm1(x) / x + problem.electronics_power_w * window_s
        rough_j = np.minimum(rough_j, watts * window_s)
        scale_j = float((self._weights.dynamic * rough_j).sum())
        self._log_window.value = np.log(window_s)
        scale_j = _solve(self._program, self._log_scale, scale_j)
        if scale_j == 0.0:
            return None
        band = np.exp(self._log_b.value) * problem.bandwidth_hz
        upload_s = np.minimum(np.exp(self._log_t.value), window_s)
        x = nats / (band * upload_s)
        power_w = price_j * np.expm1(np.minimum(x, 690.0)) / (x * upload_s)
        power_w = np.where(problem.power_settable, power_w, problem.transmit_power_max_w)
        price = float(self._band.dual_value) * scale_j / problem.bandwidth_hz
        if not (np.isfinite(power_w).all() and (band > 0).all()):
            return None
        return band, power_w, upload_s, math.log(price) if price > 0 else -math.inf


def _solve(program: Any, log_scale: Any, scale_j: float) -> float:
    """Solve tightly in one of several scales of the energy, else as well as it goes.

    Whether Clarabel's last digits converge depends on the scale; no scale is always best.

    Returns:
        The scale of the solution, J; 0 if there is none.
    """
    last: dict[str, float] = {}
    for tolerances, scales in ((_TIGHT, (1.0, 30.0, 0.03)), (last, (1.0,))):
        enough = ("optimal",) if tolerances else ("optimal", "optimal_inaccurate")
        for scale in scales:
            log_scale.value = math.log(scale * scale_j)
            if attempt(program, **tolerances) and program.status in enough:
                return scale * scale_j
    return 0.0
