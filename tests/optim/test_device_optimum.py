"""Every device's optimum at prices against nested searches over samples, bands and times."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.energy.cost_model import Array
from fimi.optim.device_optimum import DeviceSolver, Optima
from fimi.optim.inner import InnerSolver
from fimi.optim.lanes import EnergyWeights
from tests.optim.truth_problems import Problem, any_kind, planted, problems
from tests.optim.truth_resources import MIDDLE, Options, device_j, least, options_of, radio_of

SEEDS = st.integers(0, 2**32 - 1)
WIDER = 20.0


def random_prices(inner: InnerSolver, seed: int) -> tuple[float, float, float]:
    """log λ, log μ and R of a size that matters to the fleet, and far from any optimum."""
    problem = inner.problem
    rng = np.random.default_rng([seed, 4])
    per_j = np.log(problem.noise_density_w_per_hz / problem.channel_gain * problem.t_max_s)
    log_mu = float(rng.choice(per_j)) + rng.uniform(-6.0, 12.0)
    log_lam = rng.uniform(-3.0, 9.0) if inner.bound_by_error else -math.inf
    busy = problem.receive_s + inner.earliest_s
    shortest = float((busy + inner.radio.full_power_s(problem.bandwidth_hz)).max())
    longest = problem.round_max_s
    round_s = min(shortest * 1.001, longest) + rng.uniform(0.0, 1.0) * max(longest - shortest, 0.0)
    return log_lam, log_mu, min(round_s, longest)


class Priced:
    """One device's Lagrangian at prices, by the formulas of the tests alone."""

    def __init__(
        self, inner: InnerSolver, i: int, prices: tuple[float, float, float], step: int
    ) -> None:
        problem = inner.problem
        log_lam, log_mu, round_s = prices
        self.problem, self.i, self.step = problem, i, step
        self.radio = radio_of(problem, i)
        self.window_s = min(problem.t_max_s[i], round_s - problem.receive_s[i])
        self.weight, self.mu = float(inner.weights.dynamic[i]), math.exp(log_mu)
        self.lam = math.exp(log_lam)
        self.received_j = float(inner.weights.board[i] * problem.synthetic_j[i] / problem.rounds)

    def options(self, samples: Array) -> Options:
        """Work on samples of any shape, flattened."""
        every = options_of(self.problem, self.i, samples.ravel(), synthetic=False)
        return every.take(np.flatnonzero(every.step == self.step))

    def of_samples(self, samples: Array, wider: float = 0.0) -> Array:
        """The least Lagrangian for given D over band and times; infinite if D is too much.

        Bands go up to B e^wider: a device at prices does not know of B, the fleet does.
        """
        problem = self.problem
        own = self.options(samples)
        window_s = np.full(own.samples.size, self.window_s)
        low = self.radio.narrowest(window_s - own.fastest_s, problem.bandwidth_hz)
        good = np.isfinite(low)
        high = np.full(low.shape, math.log(problem.bandwidth_hz) + wider)

        def of_band(log_b: Array) -> Array:
            band = np.exp(log_b)
            return self.weight * device_j(self.radio, own, band, window_s)[0] + self.mu * band

        with np.errstate(all="ignore"):
            found = least(of_band, np.log(np.where(good, low, problem.bandwidth_hz)), high, MIDDLE)
        value = np.where(good, found[1], np.inf).reshape(samples.shape)
        return np.asarray(value + self.received_j * samples + self.lam * self.error(samples))

    def error(self, samples: Array) -> Array:
        """w α (g D^s)^(−β)."""
        problem, i = self.problem, self.i
        if problem.curve is None or not math.isfinite(problem.error_max) or not problem.weights[i]:
            return np.zeros_like(samples)
        worth = problem.worth_scale[i] * samples ** problem.worth_exponent[i]
        above = problem.curve.error(worth) - problem.curve.delta0
        return np.asarray(problem.weights[i] * above)

    def least_j(self, low: float, high: float, wider: float = 0.0) -> float:
        """The least over D as well."""
        if low == 0.0:
            return float(self.of_samples(np.zeros(1), wider)[0])
        ends = np.log([low]), np.log([high])
        return float(least(lambda log_d: self.of_samples(np.exp(log_d), wider), *ends, 7)[1][0])


@given(problems((1, 3), budgets=False), SEEDS)
@settings(max_examples=12)
def test_the_least_lagrangian_of_every_lane(drawn: Problem, seed: int) -> None:
    """For laws and steps, radios of every sort, joules that count more than one."""
    problem, _ = drawn
    more = np.random.default_rng(seed).choice([0.0, 1.0], problem.size)
    base = EnergyWeights.of(problem)
    inner = InnerSolver(problem, EnergyWeights(base.dynamic + more, base.board + more))
    prices = random_prices(inner, seed)
    found = DeviceSolver(inner).optima(*prices)
    lanes = inner.lanes
    for row in range(lanes.size):
        i = int(lanes.owner[row])
        own = Priced(inner, i, prices, int(lanes.step[row]))
        ends = float(inner.samples_min[i]), float(inner.samples_max[i])
        truth = own.least_j(*ends)
        if math.isfinite(truth):
            assert found.least_j[row] <= truth * (1.0 + 1e-9)
            assert found.least_j[row] >= own.least_j(*ends, WIDER) * (1.0 - 1e-4)
    for i in range(problem.size):
        own = Priced(inner, i, prices, int(lanes.step[found.lane[i]]))
        best = float(found.least_j[lanes.owner == i].min())
        if math.isfinite(best):
            assert best == found.least_j[found.lane[i]]
            samples = found.samples[i : i + 1]
            assert own.of_samples(samples, WIDER)[0] <= best * (1.0 + 1e-6)
            assert own.of_samples(samples)[0] >= best * (1.0 - 1e-9)


def inner_of(seed: int, size: int, **fixed: Any) -> InnerSolver:
    return InnerSolver(planted(seed, size, any_kind(seed, budgets=False, **fixed))[0])


@given(SEEDS, st.integers(1, 5))
@settings(max_examples=60)
def test_a_result_does_not_depend_on_where_the_search_last_was(seed: int, size: int) -> None:
    inner = inner_of(seed, size)
    log_lam, log_mu, round_s = random_prices(inner, seed)
    fresh = DeviceSolver(inner).optima(log_lam, log_mu, round_s)
    used = DeviceSolver(inner)
    for away in (-4.0, 3.0, 0.5):
        used.optima(log_lam + away, log_mu - 2.0 * away, inner.problem.round_max_s)
    again = used.optima(log_lam, log_mu, round_s)
    assert used.steps == 4
    np.testing.assert_allclose(again.least_j, fresh.least_j, rtol=1e-11)
    same = again.lane == fresh.lane
    assert same.all() or not inner.lanes.single  # of two lanes that cost the same any may be taken
    np.testing.assert_allclose(again.compute_s[same], fresh.compute_s[same], rtol=1e-5)


@given(SEEDS, st.integers(1, 4))
@settings(max_examples=60)
def test_tangents_lie_below_the_least(seed: int, size: int) -> None:
    """Each lane's least is convex in log R: what a bound over all R rests on."""
    inner = inner_of(seed, size, idle=True, receiving=True)
    devices = DeviceSolver(inner)
    log_lam, log_mu, round_s = random_prices(inner, seed)
    here = devices.optima(log_lam, log_mu, round_s)
    usable = np.isfinite(here.least_j)
    assert (here.slope_j <= 0).all()
    longest = inner.problem.round_max_s
    for factor in (0.9, 0.999, 0.9999, 1.0001, 1.001, 1.1, 2.0):
        there_s = min(round_s * factor, longest)
        there = devices.optima(log_lam, log_mu, there_s)
        tangent = here.least_j[usable] + here.slope_j[usable] * math.log(there_s / round_s)
        slack = 1e-10 * np.abs(here.least_j[usable])
        assert (there.least_j[usable] >= tangent - slack).all()


def time_price_is_the_slope(found: Optima, inner: InnerSolver, round_s: float) -> None:
    np.testing.assert_allclose(
        found.time_price_w * round_s, -found.slope_j[found.lane], rtol=1e-12, atol=0
    )
    ready = inner.problem.receive_s + inner.problem.t_max_s < round_s
    assert (found.time_price_w[ready] == 0).all()


@given(SEEDS, st.integers(1, 4))
@settings(max_examples=60)
def test_who_waits_for_the_round_pays_nothing_for_time(seed: int, size: int) -> None:
    inner = inner_of(seed, size, limits=True, receiving=True)
    prices = random_prices(inner, seed)
    time_price_is_the_slope(DeviceSolver(inner).optima(*prices), inner, prices[2])


@pytest.mark.parametrize("learns", [True, False])
@given(SEEDS, st.integers(1, 5), st.floats(-3, 9), st.floats(-21, -10))
@settings(max_examples=40)
def test_choices_keep_their_limits(
    fleet: Any, learns: bool, seed: int, size: int, log_lam: float, log_mu: float
) -> None:
    """Without a price of the error a device that runs at its lowest frequency gains nothing by more
    time: its derivative jumps. At the end of its window full power needs all the band."""
    inner = InnerSolver(fleet(seed, size, **({} if learns else {"error_max": math.inf})))
    problem = inner.problem
    found = DeviceSolver(inner).optima(
        log_lam if learns else -math.inf, log_mu, problem.round_max_s
    )
    fits = np.isfinite(found.least_j)
    if not fits.all():
        return
    assert (found.samples >= inner.samples_min * (1 - 1e-12)).all()
    assert (found.samples <= inner.samples_max * (1 + 1e-12)).all()
    fastest_s = problem.cycles_per_pass * found.samples / problem.frequency_max_hz
    assert (found.compute_s >= fastest_s * (1 - 1e-9)).all()
    left_s = problem.t_max_s - found.compute_s
    assert (left_s >= inner.radio.full_power_s(problem.bandwidth_hz) * (1 - 1e-9)).all()


def test_a_round_that_is_too_short_has_no_optimum() -> None:
    inner = inner_of(3, 3, receiving=True, processors="steps")
    problem = inner.problem
    short = float(problem.receive_s.max()) + 1e-6
    found = DeviceSolver(inner).optima(0.0, -20.0, short)
    slowest = int(np.argmax(problem.receive_s))
    assert math.isinf(found.least_j[found.lane[slowest]])
    assert found.slope_j[found.lane[slowest]] == 0
