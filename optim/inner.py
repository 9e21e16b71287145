"""The two convex inner problems of FIMI, for many time splits at once.

A row of a (S, I) array is one candidate of the outer search, a column one device. For given time
windows two problems remain, each with one scalar multiplier per row, which
:func:`fimi.optim.roots.falling_root` finds by Newton's method in logarithms:

* (P2) :meth:`InnerSolver.compute`: samples and frequency, docs/model.md (13)-(16)
* (P3) :meth:`InnerSolver.upload`: bandwidth and power, docs/model.md (9)-(11), (17)-(18)
* :meth:`InnerSolver.evaluate`: both, for time splits τ

A row that cannot meet its constraints is not an error. It gets a positive *violation*, so that a
search can rank it: the sum of the logarithms of the factors by which its constraints are broken.
Zero means feasible.
"""

from __future__ import annotations

import math
from types import EllipsisType

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.energy.cost_model import Array
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.problem import FimiProblem
from fimi.optim.roots import falling_root
from fimi.optim.special import LOG_X_MAX, inverse_psi, inverse_theta, log_psi, log_theta

_ROUNDING = 1e-12
"""Relative violations below this are rounding, not violations."""
_LEAST_THETA = 1e-12
_TIGHTENED = 0.99
"""D is bounded a little below what the learning constraint asks for, so that the price belongs to
the constraint and not to the bound."""
_LOG_MAX = 690.0
"""Its exponential is still a finite double."""
_SHORTEST = 1e-12
"""Upload windows below this share of t_max count as zero."""


class ComputeSolution(Struct, frozen=True, eq=False):
    """(P2) solved for S candidates.

    Attributes:
        samples: D, (S, I).
        frequency_hz: f, (S, I); the lowest allowed one for a device without samples.
        time_s: E C D / f, at most the window, (S, I).
        energy_j: e_cmp, (S, I).
        log_multiplier: log λ of the learning constraint, (S,); −inf where it does not bind.
        violation: (S,).
    """

    samples: Array
    frequency_hz: Array
    time_s: Array
    energy_j: Array
    log_multiplier: Array
    violation: Array


class UploadSolution(Struct, frozen=True, eq=False):
    """(P3) solved for S candidates.

    Attributes:
        bandwidth_hz: b, (S, I), adding up to B.
        power_w: p, (S, I).
        energy_j: e_com, (S, I).
        log_multiplier: log μ of the band, (S,), J/Hz.
        violation: (S,).
    """

    bandwidth_hz: Array
    power_w: Array
    energy_j: Array
    log_multiplier: Array
    violation: Array


class SplitCosts(Struct, frozen=True, eq=False):
    """Energies and violations of S time splits.

    Attributes:
        energy_j: dynamic energy of the fleet, (S,).
        violation: (S,); the energy of a row counts only where this is 0.
        compute: (P2).
        upload: (P3).
    """

    energy_j: Array
    violation: Array
    compute: ComputeSolution
    upload: UploadSolution


class InnerSolver:
    """Inner problems of one :class:`FimiProblem`; what does not depend on τ is precomputed.

    Attributes:
        problem: the problem to solve.
        samples_min: no feasible plan has a smaller D, (I,): D_loc, or nearly what the learning
            constraint asks for with every other device at its largest.
        samples_max: D_loc + D_gen_max, (I,).
        has_work: devices that train, (I,) of bool; those without data that need none do not.
        earliest_s: shortest t_cmp of any feasible plan: the least data at full speed, (I,).
        floor_hz: the frequency below which a device saves nothing, (14), (I,).
        log_weight: log w α of each device's power law, (I,).
        beta: its exponent, (I,).
    """

    def __init__(self, problem: FimiProblem) -> None:
        self.problem = problem
        self.samples_min, self.samples_max = _sample_range(problem)
        self.has_work: NDArray[np.bool_] = self.samples_min > 0
        self.earliest_s = problem.cycles_per_pass * self.samples_min / problem.frequency_max_hz
        kappa, active = problem.capacitance_w_per_hz3, problem.active_power_w
        lowest, highest = problem.frequency_min_hz, problem.frequency_max_hz
        per_sample = problem.cycles_per_pass
        self.floor_hz = np.clip(np.cbrt(active / (2.0 * kappa)), lowest, highest)
        with np.errstate(divide="ignore"):
            self._log_min, self._log_max = np.log(self.samples_min), np.log(self.samples_max)
            log_w = np.log(problem.weights)
        self._log_kink = np.log(self.floor_hz / per_sample)  # plus log t
        self._log_fast = np.log(highest / per_sample)  # plus log t
        self._log_linear = np.log(per_sample * (kappa * self.floor_hz**2 + active / self.floor_hz))
        self._log_cubic = np.log(3.0 * kappa) + 3.0 * np.log(per_sample)  # minus 2 log t
        self.bound_by_error = math.isfinite(problem.error_budget)
        curve = problem.curve or LearningCurve(alpha=1.0, beta=1.0)
        # A device's error is w α (g D^s)^(−β): a power law again.
        self.beta = curve.beta * problem.worth_exponent
        self.log_weight = log_w + math.log(curve.alpha) - curve.beta * np.log(problem.worth_scale)
        self._log_gain = self.log_weight + np.log(self.beta)  # log w α β
        self._counted: NDArray[np.intp] = np.flatnonzero(problem.weights > 0)
        nats = problem.payload_bits * math.log(2.0)  # S ln 2
        self.log_nats = np.log(nats)
        self.noise_over_gain = problem.noise_density_w_per_hz / problem.channel_gain
        self.log_k = np.log(problem.noise_density_w_per_hz) - np.log(problem.channel_gain)
        # θ(x) at full power is this plus log t, (18).
        self._log_reach = np.log(problem.transmit_power_max_w) - self.log_k - self.log_nats

    # (P2)

    def error_above_floor(self, log_samples: Array) -> Array:
        """(8) Σ w α D^(−β), the mean error less δ0, (...), at log D, (..., I)."""
        c = self._counted
        terms = np.exp(self.log_weight[c] - self.beta[c] * log_samples[..., c])
        return np.asarray(terms.sum(axis=-1))

    def compute(self, window_s: Array, *, start: Array | None = None) -> ComputeSolution:
        """Samples and frequencies of least energy within compute windows.

        Args:
            window_s: longest compute time, > 0 where a device has work, (S, I).
            start: guesses of log λ, (S,).
        """
        problem = self.problem
        log_t = np.log(np.where(self.has_work, window_s, 1.0))
        low = self._log_min
        cap = np.minimum(self._log_max, self._log_fast + log_t)
        with np.errstate(invalid="ignore"):
            late = np.where(self.has_work, low - cap, 0.0)
        violation = _beyond(late).sum(axis=1)
        high = np.where(self.has_work, np.maximum(cap, low), low)
        log_multiplier = np.full(len(log_t), -np.inf)
        log_samples = np.broadcast_to(low, log_t.shape).copy()
        if self.bound_by_error and self._counted.size:
            c = self._counted
            log_budget = math.log(problem.error_budget) if problem.error_budget > 0 else -np.inf
            short = _beyond(np.log(self.error_above_floor(high)) - log_budget)
            violation = violation + short
            if np.log(self.error_above_floor(low)) > log_budget:
                log_samples[:, c] = high[:, c]
                rows = np.flatnonzero(short == 0)
                first = None if start is None else start[rows]
                log_multiplier[rows] = self._learning_multiplier(
                    log_t[rows], high[rows], log_budget, first
                )
                solved = self.log_samples(log_t[np.ix_(rows, c)], log_multiplier[rows, None], c)[0]
                log_samples[np.ix_(rows, c)] = np.clip(solved, low[c], high[np.ix_(rows, c)])
        samples = np.exp(log_samples)
        cycles = problem.cycles_per_pass * samples
        frequency = np.clip(cycles / np.exp(log_t), self.floor_hz, problem.frequency_max_hz)
        energy = problem.compute_j(cycles, frequency)
        return ComputeSolution(
            samples, frequency, cycles / frequency, energy, log_multiplier, violation
        )

    def log_samples(
        self, log_t: Array, log_multiplier: Array, columns: NDArray[np.intp]
    ) -> tuple[Array, Array]:
        """(16) The log D at which one more sample costs what it is worth, without the bounds on D.

        Args:
            log_t: logarithm of the compute window, (S, len(columns)).
            log_multiplier: log λ, broadcasts against it.
            columns: which devices.

        Returns:
            log D and its derivative by log λ.
        """
        beta = self.beta[columns]
        worth = log_multiplier + self._log_gain[columns]
        kink = self._log_kink[columns] + log_t
        linear = (worth - self._log_linear[columns]) / (1.0 + beta)
        cubic = (worth - self._log_cubic[columns] + 2.0 * log_t) / (3.0 + beta)
        slow = linear < kink
        slope = np.where(cubic > kink, 1.0 / (3.0 + beta), 0.0)
        slope = np.where(slow, 1.0 / (1.0 + beta), slope)
        return np.where(slow, linear, np.maximum(kink, cubic)), slope

    def _learning_multiplier(
        self, log_t: Array, high: Array, log_budget: float, start: Array | None
    ) -> Array:
        c, beta = self._counted, self.beta[self._counted]
        low, high, log_t = self._log_min[c], high[:, c], log_t[:, c]
        weight = self.log_weight[c]

        def excess(log_multiplier: Array) -> tuple[Array, Array]:
            y, slope = self.log_samples(log_t, log_multiplier[:, None], c)
            inside = (y > low) & (y < high)
            term = np.exp(weight - beta * np.clip(y, low, high))
            total = term.sum(axis=1)
            fall = -(beta * term * np.where(inside, slope, 0.0)).sum(axis=1)
            return np.log(total) - log_budget, fall / total

        return falling_root(
            excess,
            np.minimum(*self._prices(log_t, low, c)).min(axis=1) - 1e-9,
            np.maximum(*self._prices(log_t, high, c)).max(axis=1) + 1e-9,
            start=start,
        )

    def _prices(
        self, log_t: Array, log_samples: Array, columns: NDArray[np.intp]
    ) -> tuple[Array, Array]:
        """The smallest and largest log λ that lead to ``log_samples``: the inverse of (16).

        The two differ at the kink, where a range of prices leads to the same D.
        """
        beta = self.beta[columns]
        kink = self._log_kink[columns] + log_t
        linear = self._log_linear[columns] + (1.0 + beta) * log_samples
        cubic = self._log_cubic[columns] - 2.0 * log_t + (3.0 + beta) * log_samples
        gain = self._log_gain[columns]
        return (
            np.where(log_samples > kink + 1e-9, cubic, linear) - gain,
            np.where(log_samples < kink - 1e-9, linear, cubic) - gain,
        )

    # (P3)

    def full_power_s(self, band_hz: Array | float) -> Array:
        """(3), (4) Time of each device's upload at p_max over a band, (I,)."""
        reach = self.problem.transmit_power_max_w / self.noise_over_gain
        return np.asarray(np.exp(self.log_nats) / (band_hz * np.log1p(reach / band_hz)))

    def upload(self, window_s: Array, *, start: Array | None = None) -> UploadSolution:
        """Bandwidths and powers of least energy within upload windows.

        Args:
            window_s: t_com, (S, I); a row with a window at or below 0 gets a violation.
            start: guesses of log μ, (S,).
        """
        problem = self.problem
        shortest_s = _SHORTEST * problem.t_max_s
        missing = 1.0 - window_s / shortest_s
        window_s = np.maximum(window_s, shortest_s)
        log_t = np.log(window_s)
        limit, violation = self.narrowest(log_t)
        violation = violation + _beyond(missing)
        log_band = math.log(problem.bandwidth_hz)
        log_a = self.log_nats - log_t  # x = a / b
        tightest = np.exp(log_a - limit).sum(axis=1)
        violation = violation.sum(axis=1) + _beyond(np.log(tightest) - log_band)
        offset = self.log_k + log_t

        def excess(log_multiplier: Array) -> tuple[Array, Array]:
            log_x, steepness = inverse_psi(log_multiplier[:, None] - offset)
            free = log_x < limit
            band = np.exp(log_a - np.where(free, log_x, limit))
            total = band.sum(axis=1)
            fall = -(np.where(free, band, 0.0) / steepness).sum(axis=1)
            return np.log(total) - log_band, fall / total

        low = (offset + log_psi(np.minimum(log_a - log_band, limit))[0]).min(axis=1) - 1e-9
        high = (offset + log_psi(limit)[0]).max(axis=1) + 1e-9
        if start is None:
            share = np.minimum(log_a - log_band + math.log(problem.size), limit)
            start = (offset + log_psi(share)[0]).mean(axis=1)
        log_multiplier = falling_root(excess, low, high, start=start)
        log_x = np.minimum(inverse_psi(log_multiplier[:, None] - offset)[0], limit)
        band = np.exp(log_a - log_x)
        # The last rounding error of Σ b = B goes to devices whose power is not at its limit.
        free = log_x < limit
        room = problem.bandwidth_hz - np.where(free, 0.0, band).sum(axis=1)
        taken = np.where(free, band, 0.0).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where((taken > 0) & (room > 0), room / taken, 1.0)
        band = np.where(free, band * np.clip(scale, 0.0, 1.0 + 1e-9)[:, None], band)
        log_x = log_a - np.log(band)
        energy = np.exp(self.log_k + self.log_nats + log_theta(np.minimum(log_x, LOG_X_MAX))[0])
        return UploadSolution(band, energy / window_s, energy, log_multiplier, violation)

    def narrowest(
        self, log_t: Array, columns: NDArray[np.intp] | EllipsisType = ...
    ) -> tuple[Array, Array]:
        """(18) The largest log x that p_max allows; by how much a window is too short for any x.

        Args:
            log_t: logarithm of the upload windows of these devices, (..., len(columns)).
            columns: which devices; all if left out.
        """
        theta = self._log_reach[columns] + log_t
        return inverse_theta(np.maximum(theta, _LEAST_THETA)), _beyond(-theta)

    def evaluate(self, tau: Array, *, starts: tuple[Array, Array] | None = None) -> SplitCosts:
        """Energy of time splits: compute within τ T, upload in the rest.

        Args:
            tau: (S, I) in (0, 1); ignored for devices without work, which upload all the time.
            starts: guesses of log λ and log μ, (S,) each.
        """
        window_s = np.where(self.has_work, tau, 0.0) * self.problem.t_max_s
        log_lam, log_mu = starts or (None, None)
        compute = self.compute(window_s, start=log_lam)
        upload = self.upload(self.problem.t_max_s - window_s, start=log_mu)
        return SplitCosts(
            energy_j=compute.energy_j.sum(axis=1) + upload.energy_j.sum(axis=1),
            violation=compute.violation + upload.violation,
            compute=compute,
            upload=upload,
        )


def _beyond(log_ratio: Array) -> Array:
    """A violation: the part above 0 of a log ratio, without rounding errors."""
    return np.asarray(np.where(log_ratio > _ROUNDING, log_ratio, 0.0))


def _sample_range(problem: FimiProblem) -> tuple[Array, Array]:
    """Bounds on D, (15): D_loc and D_loc + D_gen_max, the lower one tightened by Δ_max."""
    low = problem.local_samples
    high = low + problem.generated_max
    budget = problem.error_budget
    if problem.curve is None or not math.isfinite(budget):
        return low, high
    beta = problem.curve.beta * problem.worth_exponent
    weight = problem.weights * problem.curve.alpha * problem.worth_scale**-problem.curve.beta
    counted = weight > 0
    with np.errstate(divide="ignore"):
        least = np.where(counted, weight * np.where(counted, high, 1.0) ** -beta, 0.0)
        rest = budget - (least.sum() - least) if np.isfinite(least).all() else np.zeros_like(low)
        own = np.where(counted & (rest > 0), rest, np.inf)
        log_needed = np.log(weight / own) / beta
        needed = _TIGHTENED * np.exp(np.minimum(log_needed, _LOG_MAX))
    return np.minimum(np.maximum(low, needed), high), high
