"""The inner problems (P2) and (P3), solved for many candidates at once; docs/model.md (13)-(18).

Given how long each device computes at most, data and frequency on one side and bandwidth and power
on the other become two problems. Each has one scalar multiplier: log λ of the learning constraint,
log μ of the band.

(P2) is convex for laws. Where devices have steps, the best one at the price λ is taken: the result
meets the limit on the error, and is the best plan in real numbers but for one device's choice.

Shapes: S candidates, I devices. A *violation* is the sum of the logarithms of the factors by which
constraints are broken; 0 means feasible.

* :class:`InnerSolver`   built once per problem and objective
* :class:`SplitCosts`    energy and violation of S candidates
* :class:`ComputeSolution`, :class:`UploadSolution`  the two parts
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.energy.cost_model import Array
from fimi.optim.lanes import EnergyWeights, Lanes, lanes_of
from fimi.optim.problem import FimiProblem
from fimi.optim.radio import Radio
from fimi.optim.roots import falling_root
from fimi.optim.special import log_psi

_ROUNDING = 1e-9
"""Relative violations below this are rounding, not violations."""
_TIGHTENED = 0.99
"""D is bounded a little below what the learning constraint asks for, so that the price belongs to
the constraint and not to the bound."""
_LOG_MAX = 690.0
"""Its exponential is still a finite double."""
_SHORTEST = 1e-12
"""Upload windows below this share of a round count as zero."""
_NEWTON = 5
"""Newton steps for (16) with a linear term: from the right of a convex function, the last digit."""
_PRICE_MAX, _NEAR_PRICE, _PRICE_FINE = 200.0, 0.1, 1e-9
_NO_PRICE = -650.0
_WORTHLESS = -5000.0
"""Log of what data is worth where it is worth nothing."""


class ComputeSolution(Struct, frozen=True, eq=False):
    """(P2) solved for S candidates.

    Attributes:
        samples: D, (S, I).
        frequency_hz: f, (S, I); the lowest allowed one for a device without samples.
        lane: the lane that each device works in, (S, I).
        time_s: E C D / f, at most the window, (S, I).
        energy_j: e_cmp, (S, I).
        log_multiplier: log λ of the learning constraint, (S,); −inf where it does not bind.
        violation: (S,).
    """

    samples: Array
    frequency_hz: Array
    lane: NDArray[np.intp]
    time_s: Array
    energy_j: Array
    log_multiplier: Array
    violation: Array


class UploadSolution(Struct, frozen=True, eq=False):
    """(P3) solved for S candidates.

    Attributes:
        bandwidth_hz: b, (S, I), adding up to at most B.
        power_w: p, (S, I).
        time_s: t_com, (S, I), at most the window.
        energy_j: e_com, (S, I), without its joules per bit.
        log_multiplier: log μ of the band, (S,), J/Hz; −inf where it does not bind.
        violation: (S,).
    """

    bandwidth_hz: Array
    power_w: Array
    time_s: Array
    energy_j: Array
    log_multiplier: Array
    violation: Array


class SplitCosts(Struct, frozen=True, eq=False):
    """Energies and violations of S candidates.

    Attributes:
        energy_j: objective of the fleet in a round, (S,).
        violation: (S,); the energy of a row counts only where this is 0.
        compute: (P2).
        upload: (P3).
        round_s: length of the round, (S,).
    """

    energy_j: Array
    violation: Array
    compute: ComputeSolution
    upload: UploadSolution
    round_s: Array


class InnerSolver:
    """Inner problems of one :class:`FimiProblem`; what does not depend on a candidate is prepared.

    Args:
        problem: the problem to solve.
        weights: which energies count; those of the problem's objective if left out.
        lanes: the devices as convex pieces; those of the problem if left out.

    Attributes:
        problem: the problem.
        weights: the weights.
        lanes: devices as convex pieces.
        radio: their uploads.
        samples_min: no feasible plan has a smaller D, (I,): D_loc, or nearly what the learning
            constraint asks for with every other device at its largest.
        samples_max: D_loc + D_gen_max, (I,).
        has_work: devices that train, (I,) of bool; those without data that need none do not.
        earliest_s: shortest t_cmp of any feasible plan: the least data at full speed, (I,).
        round_w: power that flows for as long as a round lasts, as weighted, W.
        constant_j: energy of a round that no plan changes, as weighted, J.
    """

    def __init__(
        self,
        problem: FimiProblem,
        weights: EnergyWeights | None = None,
        *,
        lanes: Lanes | None = None,
    ) -> None:
        self.problem = problem
        self.weights = weights or EnergyWeights.of(problem)
        self.samples_min, self.samples_max = _sample_range(problem)
        if lanes is None:
            lanes = lanes_of(problem, self.weights, self.samples_min, self.samples_max)
        self.lanes: Lanes = lanes
        self.radio = Radio(problem)
        self.has_work: NDArray[np.bool_] = self.samples_min > 0
        self.earliest_s = problem.cycles_per_pass * self.samples_min / problem.frequency_max_hz
        self.bound_by_error = math.isfinite(problem.error_budget)
        self.log_scale = np.log(self.weights.dynamic)
        """Log of the weight of a device's joules, (I,): its prices are divided by it."""
        self.round_w = float((self.weights.board * problem.idle_power_w).sum())
        per_bit = self.weights.dynamic * problem.energy_per_bit_j * problem.payload_bits
        receiving = self.weights.board * problem.receive_power_w * problem.receive_s
        self._received = self.weights.board * problem.synthetic_j / problem.rounds
        self.constant_j = float((per_bit + receiving).sum())
        self._counted: NDArray[np.intp] = np.flatnonzero(problem.weights > 0)
        self._worked = self.has_work[lanes.owner]
        with np.errstate(divide="ignore"):
            self._log_sample_j = np.log(lanes.sample_j)
            self._log_gain = lanes.log_weight + np.log(lanes.beta)  # log w α β
        self._log_kink = np.log(lanes.floor_hz / lanes.cycles)  # plus log t
        self.log_fast = np.log(lanes.highest_hz / lanes.cycles)  # plus log t
        idling = lanes.kappa * lanes.floor_hz**2 + lanes.active_w / lanes.floor_hz
        self.slow_sample_j = lanes.sample_j + lanes.cycles * idling
        """Energy of a sample at f0, as weighted, J, (L,)."""
        with np.errstate(divide="ignore"):
            self._log_linear = np.log(self.slow_sample_j)
        self._log_cubic = np.log(3.0 * lanes.kappa) + 3.0 * np.log(lanes.cycles)  # minus 2 log t
        self._any_linear = bool((lanes.sample_j > 0).any())

    @property
    def free_round(self) -> bool:
        """Whether the length of a round is a variable: something flows for as long as it lasts."""
        return self.round_w > 0

    def windows_s(self, round_s: Array) -> Array:
        """Time for training and upload in rounds of a length (S,), s, (S, I)."""
        return np.minimum(self.problem.t_max_s, round_s[:, None] - self.problem.receive_s)

    def objective_j(
        self, compute_j: Array, upload_j: Array, samples: Array, round_s: Array
    ) -> Array:
        """The objective of a round, J, (S,).

        Args:
            compute_j: e_cmp, (S, I).
            upload_j: e_com without its joules per bit, (S, I).
            samples: D, (S, I).
            round_s: length of the round, s, (S,).
        """
        received = self._received * (samples - self.problem.local_samples)
        worn = self.weights.dynamic * (compute_j + upload_j) + received
        return np.asarray(worn.sum(axis=1) + self.round_w * round_s + self.constant_j)

    # (P2)

    def error_above_floor(self, log_samples: Array) -> Array:
        """(8) Σ w α D^(−β), the mean error less δ0, (...), at log D, (..., I)."""
        c = self._counted
        first = self.lanes.starts[c]
        exponent = self.lanes.log_weight[first] - self.lanes.beta[first] * log_samples[..., c]
        return np.asarray(np.exp(exponent).sum(axis=-1))

    def errors(self, samples: Array) -> Array:
        """Each device's part of Σ w α D^(−β), (..., I); infinite without data."""
        first = self.lanes.starts
        weight, beta = self.lanes.log_weight[first], self.lanes.beta[first]
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = np.exp(weight - beta * np.log(samples))
        return np.asarray(np.where(self.problem.weights > 0, parts, 0.0))

    def compute(self, window_s: Array, *, start: Array | None = None) -> ComputeSolution:
        """Samples and frequencies of least energy within compute windows.

        Args:
            window_s: longest compute time, > 0 where a device has work, (S, I).
            start: guesses of log λ, (S,).
        """
        lanes = self.lanes
        log_t = np.log(np.where(self.has_work, window_s, 1.0))[:, lanes.owner]
        cap = np.minimum(lanes.log_high, self.log_fast + log_t)
        with np.errstate(invalid="ignore"):
            late = np.where(self._worked, lanes.log_low - cap, 0.0)
        fits = late <= _ROUNDING
        # Of lanes that are too slow for the least data only the fastest counts, and as a violation.
        late = np.minimum.reduceat(late, lanes.starts, axis=1)
        violation = _beyond(late).sum(axis=1)
        high = np.where(self._worked, np.maximum(cap, lanes.log_low), lanes.log_low)
        usable = fits | (np.arange(lanes.size) == _last(lanes)[lanes.owner])
        most = np.maximum.reduceat(np.where(usable, high, -np.inf), lanes.starts, axis=1)
        log_multiplier = np.full(len(log_t), -np.inf)
        binds = False
        if self.bound_by_error and self._counted.size:
            budget = self.problem.error_budget
            log_budget = math.log(budget) if budget > 0 else -np.inf
            short = _beyond(np.log(self.error_above_floor(most)) - log_budget)
            violation = violation + short
            least = np.asarray(lanes.log_low[lanes.starts])
            binds = bool(np.log(self.error_above_floor(least)) > log_budget)
            if binds:
                rows = np.flatnonzero(short == 0)
                first = None if start is None else start[rows]
                find = self._smooth_price if lanes.single else self._stepped_price
                log_multiplier[rows] = find(
                    log_t[rows], high[rows], usable[rows], log_budget, first
                )
        log_lam = np.where(np.isfinite(log_multiplier), log_multiplier, _NO_PRICE)
        if binds:  # what cannot be met is shown with all the data there is room for
            log_lam = np.where(np.isfinite(log_multiplier), log_lam, _PRICE_MAX)
        log_samples, pick = self._choice(log_t, high, usable, log_lam[:, None])
        samples = np.exp(log_samples)
        cycles = lanes.cycles[pick] * samples
        window = np.exp(np.take_along_axis(log_t, pick, axis=1))
        frequency = np.clip(cycles / window, lanes.floor_hz[pick], lanes.highest_hz[pick])
        return ComputeSolution(
            samples=samples,
            frequency_hz=frequency,
            lane=pick,
            time_s=cycles / frequency,
            energy_j=self.training_j(cycles, frequency, pick),
            log_multiplier=log_multiplier,
            violation=violation,
        )

    def training_j(self, cycles: Array, frequency_hz: Array, lane: NDArray[np.intp]) -> Array:
        """(2) e_cmp of so many cycles of a round in a lane of each device, J, (..., I)."""
        lanes, scale = self.lanes, self.weights.dynamic
        law = lanes.step[lane] < 0
        linear = np.where(law, self.problem.linear_power_w_per_hz, 0.0)
        # A step has no κ; what its lane holds is for logarithms.
        kappa = np.where(law, lanes.kappa[lane], 0.0)
        watts = (kappa * frequency_hz**3 + lanes.active_w[lane]) / scale
        return np.asarray(cycles * (watts / frequency_hz + linear))

    def log_samples(
        self, log_t: Array, log_lam: Array | float, rows: NDArray[np.intp] | slice = slice(None)
    ) -> tuple[Array, Array, Array]:
        """(16) The log D at which one more sample costs what it is worth, without the bounds on D.

        Args:
            log_t: logarithm of the compute window, (..., len(rows)).
            log_lam: log λ, broadcasts against it.
            rows: which lanes.

        Returns:
            log D, its derivative by log λ, and its derivative by log t.
        """
        beta = self.lanes.beta[rows]
        worth = np.maximum(log_lam + self._log_gain[rows], _WORTHLESS)
        kink = self._log_kink[rows] + log_t
        linear = (worth - self._log_linear[rows]) / (1.0 + beta)
        steep = self._log_cubic[rows] - 2.0 * log_t
        cubic = (worth - steep) / (3.0 + beta)
        share = np.ones_like(cubic)
        if self._any_linear:
            flat = np.maximum(self._log_sample_j[rows], _WORTHLESS)
            cubic = np.minimum(cubic, (worth - flat) / (1.0 + beta))
            for _ in range(_NEWTON):
                rising = steep + 2.0 * cubic
                both = np.logaddexp(flat, rising)
                share = np.exp(rising - both)
                cubic = cubic - ((1.0 + beta) * cubic + both - worth) / (1.0 + beta + 2.0 * share)
        slow = linear < kink
        fast = ~slow & (cubic > kink)
        by_price = np.where(slow, 1.0 / (1.0 + beta), 0.0)
        by_price = np.where(fast, 1.0 / (1.0 + beta + 2.0 * share), by_price)
        by_time = np.where(fast, 2.0 * share * by_price, np.where(slow, 0.0, 1.0))
        return np.where(slow, linear, np.maximum(kink, cubic)), by_price, by_time

    def _choice(
        self, log_t: Array, high: Array, usable: NDArray[np.bool_], log_lam: Array
    ) -> tuple[Array, NDArray[np.intp]]:
        """The log D and the lane of least cost of every device at a price, (S, I) each."""
        lanes = self.lanes
        wanted = self.log_samples(log_t, log_lam)[0]
        log_d = np.where(self._worked, np.clip(wanted, lanes.log_low, high), lanes.log_low)
        if lanes.single:
            return log_d, np.broadcast_to(np.arange(lanes.size), log_d.shape)
        samples = np.exp(log_d)
        cycles = lanes.cycles * samples
        frequency = np.clip(cycles / np.exp(log_t), lanes.floor_hz, lanes.highest_hz)
        cost = cycles * (lanes.kappa * frequency**2 + lanes.active_w / frequency)
        cost = cost + lanes.sample_j * samples
        if self.bound_by_error:
            with np.errstate(invalid="ignore"):
                error = np.exp(
                    np.minimum(log_lam + lanes.log_weight - lanes.beta * log_d, _LOG_MAX)
                )
            cost = cost + np.where(np.isfinite(lanes.log_weight), error, 0.0)
        pick = lanes.least(np.where(usable, cost, np.inf))
        return np.take_along_axis(log_d, pick, axis=1), pick

    def _stepped_price(
        self,
        log_t: Array,
        high: Array,
        usable: NDArray[np.bool_],
        log_budget: float,
        start: Array | None,
    ) -> Array:
        """The lowest log λ at which the best lanes meet the learning constraint, (S,)."""

        def short_at(log_lam: Array) -> NDArray[np.bool_]:
            log_d, _ = self._choice(log_t, high, usable, log_lam[:, None])
            return np.asarray(np.log(self.error_above_floor(log_d)) > log_budget)

        low, top = np.full(len(log_t), -_PRICE_MAX), np.full(len(log_t), _PRICE_MAX)
        if start is not None and np.isfinite(start).all():
            for near in (_NEAR_PRICE, -_NEAR_PRICE):
                short = short_at(start + near)
                low = np.where(short, np.maximum(low, start + near), low)
                top = np.where(short, top, np.minimum(top, start + near))
        while (top - low).max(initial=0.0) > _PRICE_FINE:
            middle = (low + top) / 2.0
            short = short_at(middle)
            low, top = np.where(short, middle, low), np.where(short, top, middle)
        return top

    def _smooth_price(
        self,
        log_t: Array,
        high: Array,
        usable: NDArray[np.bool_],
        log_budget: float,
        start: Array | None,
    ) -> Array:
        """The log λ at which laws just meet the learning constraint, (S,)."""
        c = self._counted
        lanes = self.lanes
        beta, weight, low = lanes.beta[c], lanes.log_weight[c], lanes.log_low[c]
        log_t, high = log_t[:, c], high[:, c]

        def excess(log_lam: Array) -> tuple[Array, Array]:
            y, slope, _ = self.log_samples(log_t, log_lam[:, None], c)
            inside = (y > low) & (y < high)
            term = np.exp(weight - beta * np.clip(y, low, high))
            total = term.sum(axis=1)
            fall = -(beta * term * np.where(inside, slope, 0.0)).sum(axis=1)
            return np.log(total) - log_budget, fall / total

        return falling_root(
            excess,
            np.minimum(*self._prices(log_t, np.broadcast_to(low, log_t.shape), c)).min(axis=1)
            - 1e-9,
            np.maximum(*self._prices(log_t, high, c)).max(axis=1) + 1e-9,
            start=start,
        )

    def _prices(
        self, log_t: Array, log_samples: Array, rows: NDArray[np.intp]
    ) -> tuple[Array, Array]:
        """The smallest and largest log λ that lead to ``log_samples``: the inverse of (16).

        The two differ at the kink, where a range of prices leads to the same D.
        """
        beta, gain = self.lanes.beta[rows], self._log_gain[rows]
        kink = self._log_kink[rows] + log_t
        linear = self._log_linear[rows] + (1.0 + beta) * log_samples
        rising = self._log_cubic[rows] - 2.0 * log_t + 2.0 * log_samples
        cubic = np.logaddexp(self._log_sample_j[rows], rising) + (1.0 + beta) * log_samples
        return (
            np.where(log_samples > kink + 1e-9, cubic, linear) - gain,
            np.where(log_samples < kink - 1e-9, linear, cubic) - gain,
        )

    # (P3)

    def upload(self, window_s: Array, *, start: Array | None = None) -> UploadSolution:
        """Bandwidths and powers of least energy within upload windows.

        Args:
            window_s: longest t_com, (S, I); a row with one at or below 0 gets a violation.
            start: guesses of log μ, (S,).
        """
        problem, radio = self.problem, self.radio
        shortest_s = _SHORTEST * problem.t_max_s
        missing = 1.0 - window_s / shortest_s
        window_s = np.maximum(window_s, shortest_s)
        log_t = np.log(window_s)
        limit, short = radio.narrowest(log_t)
        violation = _beyond(short) + _beyond(missing)
        log_band = math.log(problem.bandwidth_hz)
        tightest = np.exp(radio.log_nats - log_t - limit).sum(axis=1)
        violation = violation.sum(axis=1) + _beyond(np.log(tightest) - log_band)
        rows = np.arange(len(log_t))
        multiplier = np.full(len(log_t), -np.inf)
        sent = radio.send(log_t, _NO_PRICE)
        if radio.eager or not radio.settable.all():
            free = np.exp(sent.log_band).sum(axis=1) <= problem.bandwidth_hz
            rows = np.flatnonzero(~free)
        # No price makes a band enough that is too small for everybody's full power.
        lost = tightest[rows] > problem.bandwidth_hz
        multiplier[rows[lost]] = _LOG_MAX
        rows = rows[~lost]
        if rows.size:
            window = log_t[rows]

            def excess(log_mu: Array) -> tuple[Array, Array]:
                sending = radio.send(window, log_mu[:, None] - self.log_scale)
                band = np.exp(sending.log_band)
                total = band.sum(axis=1)
                return np.log(total) - log_band, (band * sending.band_slope).sum(axis=1) / total

            even = np.minimum(
                radio.log_nats - window - log_band + math.log(problem.size), limit[rows]
            )
            guess = (radio.log_k + window + log_psi(even)[0]).mean(axis=1)
            if start is not None:
                guess = np.where(np.isfinite(start[rows]), start[rows], guess)
            multiplier[rows] = falling_root(
                excess,
                np.full(rows.size, _NO_PRICE),
                np.full(rows.size, _LOG_MAX),
                start=guess,
            )
        price = np.where(np.isfinite(multiplier), multiplier, _NO_PRICE)
        sent = radio.send(log_t, price[:, None] - self.log_scale)
        band = np.exp(sent.log_band)
        # The last rounding error of Σ b = B goes to devices whose power is not at its limit.
        chosen = ~sent.full
        room = problem.bandwidth_hz - np.where(chosen, 0.0, band).sum(axis=1)
        taken = np.where(chosen, band, 0.0).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where((taken > 0) & (room > 0), room / taken, 1.0)
        band = np.where(chosen, band * np.clip(scale, 0.0, 1.0 + 1e-9)[:, None], band)
        log_x = radio.log_nats - sent.log_t - np.log(band)
        time_s = np.exp(sent.log_t)
        energy = radio.energy_j(sent.log_t, log_x)
        carried = energy - radio.watts * time_s
        power = np.where(radio.settable, carried / time_s, problem.transmit_power_max_w)
        return UploadSolution(band, power, time_s, energy, multiplier, violation)

    def evaluate(
        self,
        window_s: Array,
        round_s: Array | None = None,
        *,
        starts: tuple[Array, Array] | None = None,
    ) -> SplitCosts:
        """The objective of candidates: compute within a window, upload in the rest.

        Args:
            window_s: longest compute time, (S, I); ignored for devices without work, which can
                upload all the time.
            round_s: length of the round, (S,); the longest if left out.
            starts: guesses of log λ and log μ, (S,) each.
        """
        problem = self.problem
        if round_s is None:
            round_s = np.full(len(window_s), problem.round_max_s)
        total_s = self.windows_s(round_s)
        window_s = np.where(self.has_work, window_s, 0.0)
        log_lam, log_mu = starts or (None, None)
        compute = self.compute(np.maximum(window_s, 1e-300), start=log_lam)
        used_s = np.minimum(compute.time_s, window_s)
        upload = self.upload(total_s - used_s, start=log_mu)
        return SplitCosts(
            energy_j=self.objective_j(compute.energy_j, upload.energy_j, compute.samples, round_s),
            violation=compute.violation + upload.violation,
            compute=compute,
            upload=upload,
            round_s=round_s,
        )


def _last(lanes: Lanes) -> NDArray[np.intp]:
    """The fastest lane of each device, (I,)."""
    return np.append(lanes.starts[1:], lanes.size) - 1


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
