"""Uploads at a price of the band against brute force over band and time.

The truth is a search over the time inside one over the band, on the formulas of the cost model
alone: no θ, no ψ, no slopes.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.energy.cost_model import Array, transmit_power_w, uplink_rate_bps
from fimi.optim.problem import FimiProblem
from fimi.optim.radio import Radio, Sending
from tests.optim.truth_problems import any_kind, planted
from tests.optim.truth_resources import least

LN2 = math.log(2.0)
SEEDS = st.integers(0, 2**32 - 1)
SIZE = 5


def radios(seed: int, **fixed: Any) -> FimiProblem:
    """A fleet whose radios are of every sort; only they matter here."""
    return planted(seed, SIZE, any_kind(seed, **fixed))[0]


def shortest_s(problem: FimiProblem) -> Array:
    """No upload is shorter, over any band: at full power, not beyond the cap; s, (I,)."""
    carried = problem.transmit_power_max_w * problem.channel_gain / problem.noise_density_w_per_hz
    return np.maximum(problem.payload_bits * LN2 / carried, problem.payload_bits / cap(problem))


def cap(problem: FimiProblem) -> Array:
    """Most bits in a second, (I,)."""
    return problem.rate_cap_bps


def windows(problem: FimiProblem, seed: int, rows: int = 1) -> Array:
    """Windows that are long enough, from just so to far too long, s, (rows, I)."""
    rng = np.random.default_rng([seed, 2])
    factor = 10 ** rng.uniform(-3.0, 3.0, (rows, problem.size))
    return np.asarray(shortest_s(problem) * (1.0 + factor))


def prices(problem: FimiProblem, window_s: Array, seed: int) -> Array:
    """log μ, shaped as windows, at which x is anything from a thousandth to some tens."""
    rng = np.random.default_rng([seed, 3])
    per_s = np.log(problem.noise_density_w_per_hz / problem.channel_gain)
    return np.asarray(per_s + np.log(window_s) + rng.uniform(-14.0, 40.0, window_s.shape))


def cost_j(problem: FimiProblem, band: Array, time_s: Array, mu: Array) -> Array:
    """(p + P_el) t + μ b of uploads by the cost model; infinite where p would be too large."""
    power = transmit_power_w(
        problem.payload_bits / time_s, band, problem.channel_gain, problem.noise_density_w_per_hz
    )
    good = power <= problem.transmit_power_max_w * (1.0 + 1e-9)
    power = np.where(problem.power_settable, power, problem.transmit_power_max_w)
    joules = (power + problem.electronics_power_w) * time_s + mu * band
    return np.where(good, joules, np.inf)


def brute_force_j(problem: FimiProblem, window_s: Array, mu: Array) -> Array:
    """The least cost of an upload within a window, (I,) each."""
    nats = problem.payload_bits * LN2
    narrow = np.log(nats / (600.0 * window_s))
    wide = np.log(nats / (1e-7 * shortest_s(problem)))

    def of_band(log_b: Array) -> Array:
        band = np.exp(log_b)
        rate = uplink_rate_bps(
            band,
            problem.transmit_power_max_w,
            problem.channel_gain,
            problem.noise_density_w_per_hz,
        )
        first = np.log(problem.payload_bits / np.minimum(rate, cap(problem)))
        last = np.broadcast_to(np.log(window_s), first.shape)

        def of_time(log_t: Array) -> Array:
            return cost_j(problem, band, np.exp(log_t), mu)

        found = least(of_time, np.minimum(first, last), last)[1]
        return np.where(first <= last, found, np.inf)

    return np.asarray(least(of_band, narrow, wide)[1])


def chosen(problem: FimiProblem, sent: Sending, log_mu: Array) -> Array:
    """What an upload costs by the cost model."""
    return cost_j(problem, np.exp(sent.log_band), np.exp(sent.log_t), np.exp(log_mu))


@given(SEEDS)
@settings(max_examples=25)
def test_no_upload_is_cheaper(seed: int) -> None:
    problem = radios(seed)
    window_s = windows(problem, seed)[0]
    log_mu = prices(problem, window_s, seed)
    sent = Radio(problem).send(np.log(window_s), log_mu)
    mine = chosen(problem, sent, log_mu)
    truth = brute_force_j(problem, window_s, np.exp(log_mu))
    assert (mine <= truth * (1.0 + 1e-9)).all()
    assert (mine >= truth * (1.0 - 1e-6)).all()  # it is one of those that were tried


@given(SEEDS)
@settings(max_examples=100)
def test_an_upload_keeps_its_limits(seed: int) -> None:
    problem = radios(seed)
    radio = Radio(problem)
    window_s = windows(problem, seed, 20)
    log_mu = prices(problem, window_s, seed)
    sent = radio.send(np.log(window_s), log_mu)
    time_s, band = np.exp(sent.log_t), np.exp(sent.log_band)
    assert (time_s <= window_s * (1.0 + 1e-12)).all()
    assert (time_s * cap(problem) >= problem.payload_bits * (1.0 - 1e-12)).all()
    power = transmit_power_w(
        problem.payload_bits / time_s, band, problem.channel_gain, problem.noise_density_w_per_hz
    )
    assert (power <= problem.transmit_power_max_w * (1.0 + 1e-11)).all()
    fixed = np.broadcast_to(~problem.power_settable, power.shape)
    np.testing.assert_allclose(
        power[fixed | sent.full],
        np.broadcast_to(problem.transmit_power_max_w, power.shape)[fixed | sent.full],
        rtol=1e-11,
    )
    np.testing.assert_array_equal(sent.hurried, sent.log_t < np.log(window_s))
    power = np.where(problem.power_settable, power, problem.transmit_power_max_w)
    joules = (power + problem.electronics_power_w) * time_s
    np.testing.assert_allclose(radio.energy_j(sent.log_t, sent.log_x), joules, rtol=1e-10)


@given(SEEDS)
@settings(max_examples=100)
def test_the_price_of_time_is_the_slope_of_the_cost(seed: int) -> None:
    """The least cost is convex in the logarithm of the window: its tangents lie below it."""
    problem = radios(seed)
    radio = Radio(problem)
    window_s = windows(problem, seed, 20)
    log_mu = prices(problem, window_s, seed)
    log_t = np.log(window_s)

    def cost(log_window: Array) -> Array:
        sent = radio.send(log_window, log_mu)
        return radio.energy_j(sent.log_t, sent.log_x) + np.exp(log_mu + sent.log_band)

    here = cost(log_t)
    price, _ = radio.time_price(log_t, log_mu)
    assert (price >= 0).all()
    margin = np.log(window_s / shortest_s(problem))
    for step in (1e-4, -1e-4, 0.1, -0.1, 2.0, -2.0):
        moved = np.maximum(step, -0.999 * margin)
        tangent = here - price * window_s * moved
        # Near to the point two-sided tangents leave the price no choice.
        assert (cost(log_t + moved) >= tangent - 1e-10 * (here + np.abs(tangent))).all()


@given(SEEDS)
@settings(max_examples=60)
def test_slopes_are_those_of_differences(seed: int) -> None:
    problem = radios(seed)
    radio = Radio(problem)
    window_s = windows(problem, seed, 20)
    log_t, log_mu = np.log(window_s), prices(problem, window_s, seed)
    inner = log_t > np.log(shortest_s(problem)) + 1e-3
    h = 1e-5

    below, here, above = (radio.send(log_t, log_mu + step) for step in (-h, 0.0, h))
    smooth = inner & (np.abs(above.band_slope - below.band_slope) < 1e-3)
    measured = (above.log_band - below.log_band) / (2.0 * h)
    np.testing.assert_allclose(measured[smooth], here.band_slope[smooth], atol=1e-4)
    assert (here.band_slope <= 0).all()
    assert smooth.mean() > 0.5

    less, at, more = (radio.time_price(log_t + step, log_mu) for step in (-h, 0.0, h))
    good = inner & (less[0] > 0) & (more[0] > 0) & (np.abs(less[1] - more[1]) < 1e-2)
    good &= (
        np.abs(at[1]) < 1e3
    )  # where nearly nothing is left of a difference, its log has no slope
    measured = np.log(more[0][good] / less[0][good]) / (2.0 * h)
    np.testing.assert_allclose(measured, at[1][good], rtol=1e-3, atol=1e-3)
    assert (at[1] <= 0).all()


@given(SEEDS)
@settings(max_examples=60)
def test_shortest_uploads_and_narrowest_bands_are_at_full_power(seed: int) -> None:
    problem = radios(seed)
    radio = Radio(problem)
    band = problem.bandwidth_hz
    rate = uplink_rate_bps(
        band, problem.transmit_power_max_w, problem.channel_gain, problem.noise_density_w_per_hz
    )
    np.testing.assert_allclose(
        radio.full_power_s(band), problem.payload_bits / np.minimum(rate, cap(problem)), rtol=1e-12
    )
    window_s = windows(problem, seed, 10)
    log_x, short = radio.narrowest(np.log(window_s))
    assert (short < 0).all()
    narrow = problem.payload_bits * LN2 / (np.exp(log_x) * window_s)
    reached = narrow * window_s > 0
    reached &= log_x < math.log(680.0)
    power = transmit_power_w(
        problem.payload_bits / window_s,
        narrow,
        problem.channel_gain,
        problem.noise_density_w_per_hz,
    )
    # x → 0 where the window is just long enough: the band is then known to fewer digits.
    careful = reached & (log_x > math.log(1e-4))
    np.testing.assert_allclose(
        power[careful],
        np.broadcast_to(problem.transmit_power_max_w, power.shape)[careful],
        rtol=1e-7,
    )
    too_short = radio.narrowest(np.log(0.9 * shortest_s(problem)))[1]
    np.testing.assert_allclose(too_short, math.log(1.0 / 0.9), rtol=1e-9)


@given(SEEDS)
@settings(max_examples=40)
def test_rows_of_a_fleet_are_those_of_its_devices(seed: int) -> None:
    problem = radios(seed)
    radio = Radio(problem)
    window_s = windows(problem, seed)[0]
    log_t, log_mu = np.log(window_s), prices(problem, window_s, seed)
    rows = np.array([3, 0, 0, 4])
    every, some = radio.send(log_t, log_mu), radio.send(log_t[rows], log_mu[rows], rows)
    np.testing.assert_array_equal(some.log_band, every.log_band[rows])
    np.testing.assert_array_equal(some.log_t, every.log_t[rows])
    np.testing.assert_array_equal(
        radio.time_price(log_t[rows], log_mu[rows], rows)[0],
        radio.time_price(log_t, log_mu)[0][rows],
    )
    np.testing.assert_array_equal(
        radio.energy_j(some.log_t, some.log_x, rows),
        radio.energy_j(every.log_t, every.log_x)[rows],
    )


def test_without_watts_all_of_the_window_is_used() -> None:
    problem = radios(0, settable="all", electronics=False)
    window_s = windows(problem, 0, 50)
    sent = Radio(problem).send(np.log(window_s), prices(problem, window_s, 0))
    assert not Radio(problem).eager
    assert not sent.hurried.any()
    np.testing.assert_array_equal(sent.log_t, np.log(window_s))


def test_watts_end_an_upload_early_and_more_watts_earlier() -> None:
    """At the optimum without a window a longer one changes nothing."""
    problem = radios(1, settable="all", electronics=True, capped=False)
    log_mu = prices(problem, shortest_s(problem), 1)
    times = []
    for watts in (0.1, 1.0, 10.0):
        radio = Radio(msgspec.structs.replace(problem, electronics_power_w=np.full(SIZE, watts)))
        long, longer = (radio.send(np.log(s * shortest_s(problem)), log_mu) for s in (1e12, 1e13))
        assert long.hurried.all()
        np.testing.assert_array_equal(long.log_t, longer.log_t)
        np.testing.assert_array_equal(
            radio.time_price(np.log(1e12 * shortest_s(problem)), log_mu)[0], 0
        )
        times.append(long.log_t)
    assert (np.diff(times, axis=0) < 0).all()


@pytest.mark.parametrize("settable", ["all", "none"])
def test_a_free_band_is_as_wide_as_there_can_be(settable: Any) -> None:
    """At no price the joules are those of an infinite band: (N0/h) S ln2, or those at p_max."""
    problem = radios(2, settable=settable, capped=False)
    radio = Radio(problem)
    window_s = 3.0 * shortest_s(problem)
    sent = radio.send(np.log(window_s), -math.inf)
    carried = problem.noise_density_w_per_hz / problem.channel_gain * problem.payload_bits * LN2
    fastest_s = carried / problem.transmit_power_max_w
    # Sent at full power or slower, it costs the same (p t); with electronics the faster is better.
    used_s = np.where(radio.watts > 0, fastest_s, window_s)
    expected = carried + problem.electronics_power_w * used_s
    np.testing.assert_allclose(radio.energy_j(sent.log_t, sent.log_x), expected, rtol=1e-9)
