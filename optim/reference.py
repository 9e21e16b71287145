"""(P2) and (P3) solved by CVXPY: the reference for the fast inner solvers.

Both are stated once per problem as disciplined parametrised programs, compiled on the first
candidate, and solved by Clarabel for each candidate after that; only the time windows are
parameters. docs/model.md (31)-(32).

* :class:`ReferenceSolver`  an :class:`~fimi.optim.inner.InnerSolver` whose optima come from CVXPY

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
from fimi.optim.problem import FimiProblem

_TIGHT: dict[str, float] = {"tol_gap_abs": 1e-10, "tol_gap_rel": 1e-10, "tol_feas": 1e-10}
"""Two digits more than Clarabel's default; its exponential cones make no progress beyond that."""


class ReferenceSolver(InnerSolver):
    """Inner problems by CVXPY and Clarabel, one candidate at a time.

    Whether a candidate is feasible, and by how much it is not, is a formula, which is shared with
    the fast solvers. A candidate for which Clarabel finds no solution counts as infeasible.
    """

    def __init__(self, problem: FimiProblem) -> None:
        super().__init__(problem)
        self._compute: _ComputeProgram | None = None
        self._upload: _UploadProgram | None = None

    def compute(self, window_s: Array, *, start: Array | None = None) -> ComputeSolution:
        """(31) See :meth:`fimi.optim.inner.InnerSolver.compute`; ``start`` is not used."""
        fast = super().compute(window_s)
        free = self.has_work & (self.samples_max > self.samples_min)
        if not (self.bound_by_error and free.any()):
            return fast  # D is fixed to D_loc
        samples, frequency = fast.samples.copy(), fast.frequency_hz.copy()
        log_multiplier, violation = fast.log_multiplier.copy(), fast.violation.copy()
        if self._compute is None:
            self._compute = _ComputeProgram(self)
        for row in np.flatnonzero(violation == 0):
            scale_j = float(fast.energy_j[row].sum())
            found = self._compute.solve(window_s[row], scale_j)
            if found is None:
                violation[row] = np.inf
                continue
            samples[row], frequency[row], log_multiplier[row] = found
        cycles = self.problem.cycles_per_pass * samples
        energy = self.problem.compute_j(cycles, frequency)
        return ComputeSolution(
            samples, frequency, cycles / frequency, energy, log_multiplier, violation
        )

    def upload(self, window_s: Array, *, start: Array | None = None) -> UploadSolution:
        """(32) See :meth:`fimi.optim.inner.InnerSolver.upload`; ``start`` is not used."""
        fast = super().upload(window_s)
        band, energy = fast.bandwidth_hz.copy(), fast.energy_j.copy()
        log_multiplier, violation = fast.log_multiplier.copy(), fast.violation.copy()
        if self._upload is None:
            self._upload = _UploadProgram(self)
        for row in np.flatnonzero(violation == 0):
            found = self._upload.solve(window_s[row])
            if found is None:
                violation[row] = np.inf
                continue
            band[row], energy[row], log_multiplier[row] = found
        return UploadSolution(band, energy / window_s, energy, log_multiplier, violation)


class _ComputeProgram:
    """(31) In log D and log t_cmp, sums of exponentials of affine functions."""

    def __init__(self, inner: InnerSolver) -> None:
        problem = inner.problem
        self._inner = inner
        self._work = work = np.flatnonzero(inner.has_work)
        size = work.size
        self._log_d = log_d = cp.Variable(size)
        self._log_t = log_t = cp.Variable(size)
        self._log_window = cp.Parameter(size)
        self._log_scale = cp.Parameter()
        self._per_pass = np.log(problem.cycles_per_pass[work])
        log_f = self._per_pass + log_d - log_t
        kappa = np.log(problem.capacitance_w_per_hz3[work])
        energy = cp.sum(cp.exp(kappa + 3 * log_f + log_t - self._log_scale))
        active = np.flatnonzero(problem.active_power_w[work])
        if active.size:
            power = np.log(problem.active_power_w[work][active])
            energy += cp.sum(cp.exp(power + log_t[active] - self._log_scale))
        counted = np.flatnonzero(problem.weights[work] > 0)
        beta = inner.beta[work][counted]
        share = inner.log_weight[work][counted] - math.log(problem.error_budget)
        self._learning = cp.sum(cp.exp(share - cp.multiply(beta, log_d[counted]))) <= 1
        self._program = cp.Problem(
            cp.Minimize(energy),
            [
                log_t <= self._log_window,
                log_f <= np.log(problem.frequency_max_hz[work]),
                log_f >= np.log(problem.frequency_min_hz[work]),
                log_d >= np.log(inner.samples_min[work]),
                log_d <= np.log(inner.samples_max[work]),
                self._learning,
            ],
        )

    def solve(self, window_s: Array, scale_j: float) -> tuple[Array, Array, float] | None:
        """D, f and log λ; ``None`` if the solver finds no solution."""
        inner, work = self._inner, self._work
        self._log_window.value = np.log(window_s[work])
        self._log_scale.value = math.log(scale_j)
        if not _solve(self._program):
            return None
        problem = inner.problem
        samples, frequency = inner.samples_min.copy(), inner.floor_hz.copy()
        samples[work] = np.exp(self._log_d.value)
        frequency[work] = np.clip(
            np.exp(self._per_pass + self._log_d.value - self._log_t.value),
            problem.frequency_min_hz[work],
            problem.frequency_max_hz[work],
        )
        price = float(self._learning.dual_value) * scale_j / problem.error_budget
        return samples, frequency, math.log(price) if price > 0 else -math.inf


class _UploadProgram:
    """(32) u e^(S ln2/u) with the perspective of the exponential, u = b t_com: an exact cone."""

    def __init__(self, inner: InnerSolver) -> None:
        problem = inner.problem
        self._inner = inner
        size = problem.size
        # v = u / unit with S ln2 / unit = 1, so that the cone is the same for every device.
        self._unit = unit = np.exp(inner.log_nats)
        self._v, self._growth = cp.Variable(size), cp.Variable(size)
        self._per_band = cp.Parameter(size, nonneg=True)  # b / B = v · this
        self._gain = cp.Parameter(size, nonneg=True)  # e_com / scale = (growth − v) · this
        self._most = cp.Parameter(size, nonneg=True)  # p_max t / scale
        energy = cp.multiply(self._gain, self._growth - self._v)
        self._band = cp.sum(cp.multiply(self._per_band, self._v)) <= 1
        self._program = cp.Problem(
            cp.Minimize(cp.sum(energy)),
            [cp.ExpCone(np.ones(size), self._v, self._growth), self._band, energy <= self._most],
        )
        self._price_j = inner.noise_over_gain * unit

    def solve(self, window_s: Array) -> tuple[Array, Array, float] | None:
        """b, e_com and log μ; ``None`` if the solver finds no solution."""
        problem = self._inner.problem
        equal = np.minimum(self._unit * problem.size / (problem.bandwidth_hz * window_s), 100.0)
        scale_j = float((self._price_j * np.expm1(equal) / equal).sum())
        scale_j = min(scale_j, float((problem.transmit_power_max_w * window_s).sum()))
        self._per_band.value = self._unit / (window_s * problem.bandwidth_hz)
        self._gain.value = self._price_j / scale_j
        self._most.value = problem.transmit_power_max_w * window_s / scale_j
        if not _solve(self._program):
            return None
        band = self._v.value * self._unit / window_s
        x = self._unit / (band * window_s)
        energy = self._price_j * np.expm1(np.minimum(x, 690.0)) / x
        price = float(self._band.dual_value) * scale_j / problem.bandwidth_hz
        if not (np.isfinite(energy).all() and (band > 0).all()):
            return None
        return band, energy, math.log(price) if price > 0 else -math.inf


def _solve(program: Any) -> bool:
    """Solve with tight tolerances, else default ones, else inaccurately; whether one succeeded."""
    for tolerances, enough in ((_TIGHT, ("optimal",)), ({}, ("optimal", "optimal_inaccurate"))):
        if attempt(program, **tolerances) and program.status in enough:
            return True
    return False
