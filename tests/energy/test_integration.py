from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fimi.energy.integration import integrate, largest_gap_s
from fimi.energy.meters import MeterDescription, Reading

METER = MeterDescription(source="test", kind="measured", scope="board", rate_hz=10.0)


def power(*points: tuple[float, float]) -> list[Reading]:
    return [Reading(time_s=time_s, power_w=power_w) for time_s, power_w in points]


def counter(*points: tuple[float, float]) -> list[Reading]:
    return [Reading(time_s=time_s, counter_j=value) for time_s, value in points]


def joules(readings: list[Reading], start_s: float, end_s: float) -> float:
    energy = integrate(readings, start_s, end_s, METER)
    assert energy is not None
    return energy.value_j


lines = st.lists(
    st.tuples(st.floats(0.01, 10.0), st.floats(0.0, 100.0)), min_size=2, max_size=20
).map(
    lambda points: [
        (float(time_s), value)
        for time_s, (_, value) in zip(np.cumsum([gap for gap, _ in points]), points, strict=True)
    ]
)


class TestPower:
    @given(lines)
    def test_exact_on_piecewise_linear(self, line: list[tuple[float, float]]) -> None:
        exact = math.fsum((t1 - t0) * (p0 + p1) / 2 for (t0, p0), (t1, p1) in pairwise(line))
        assert joules(power(*line), line[0][0], line[-1][0]) == pytest.approx(exact, abs=1e-9)

    @given(lines, st.floats(0.0, 1.0))
    def test_additive(self, line: list[tuple[float, float]], where: float) -> None:
        start, end = line[0][0], line[-1][0]
        cut = start + where * (end - start)
        parts = joules(power(*line), start, cut) + joules(power(*line), cut, end)
        assert parts == pytest.approx(joules(power(*line), start, end), abs=1e-9)

    @given(st.floats(0.2, 100.0), st.floats(0.1, 100.0), st.integers(2, 50), st.floats(0, 1e6))
    def test_constant_power(self, duration: float, watts: float, count: int, start: float) -> None:
        times = np.linspace(start, start + duration, count)
        readings = power(*((float(time_s), watts) for time_s in times))
        measured = joules(readings, start, start + duration)
        assert measured == pytest.approx(watts * duration, rel=1e-6)

    def test_a_step_is_not_smeared(self) -> None:
        assert joules(power((0, 2), (1, 2), (1, 6), (3, 6)), 0, 3) == pytest.approx(14.0)

    def test_readings_beyond_the_edges_are_interpolated(self) -> None:
        # 0 W at 0 s to 10 W at 10 s: from 2 s to 4 s, 3 W on average
        assert joules(power((0, 0), (10, 10)), 2, 4) == pytest.approx(6.0)

    def test_square_wave_within_its_uncertainty(self) -> None:
        # 1 Hz square wave between 2 W and 6 W, read at 7 Hz over 10 s: 40 J
        times = np.arange(0, 10 + 1e-9, 1 / 7)
        readings = power(*((float(t), 6.0 if t % 1.0 < 0.5 else 2.0) for t in times))
        energy = integrate(readings, 0.0, 10.0, METER)
        assert energy is not None
        assert abs(energy.value_j - 40.0) < 2 * energy.uncertainty_j < 8.0


class TestCounter:
    @given(lines)
    def test_difference(self, line: list[tuple[float, float]]) -> None:
        grown = np.cumsum([value for _, value in line])
        readings = counter(*zip([t for t, _ in line], map(float, grown), strict=True))
        expected = grown[-1] - grown[0]
        assume(expected > 0.0)  # one that never moves has a test of its own
        assert joules(readings, line[0][0], line[-1][0]) == pytest.approx(expected, abs=1e-9)

    def test_one_that_stands_still_is_missing_not_zero(self) -> None:
        """Some virtual machines show counters that never move."""
        still = [(t / 10, 7.0) for t in range(21)]
        assert integrate(counter(*still), 0.0, 2.0, METER) is None
        assert joules(counter((0.0, 7.0), (0.2, 7.0)), 0.0, 0.2) == 0.0, "between two refreshes"

    def test_counters_come_first(self) -> None:
        readings = [
            Reading(time_s=0.0, counter_j=5.0, power_w=99.0),
            Reading(time_s=1.0, counter_j=8.0, power_w=99.0),
        ]
        assert joules(readings, 0.0, 1.0) == 3.0

    def test_backwards_is_missing(self) -> None:
        assert integrate(counter((0, 5), (1, 8), (2, 1)), 0, 2, METER) is None

    def test_stale_edges_are_uncertain(self) -> None:
        # 10 W, refreshed every 0.1 s: each edge off by up to 1 J, uniformly: 1/√12 · √2
        energy = integrate(counter((0, 0), (10, 100)), 0, 10, METER)
        assert energy is not None
        assert energy.uncertainty_j == pytest.approx(1 / math.sqrt(6))


class TestMissing:
    @pytest.mark.parametrize(
        "readings",
        [
            [],
            power((0.5, 3.0)),
            power((0.0, 3.0), (0.4, 3.0)),
            power((0.0, math.nan), (1.0, 3.0)),
            counter((0.0, 3.0)),
            [Reading(time_s=0.0), Reading(time_s=1.0)],
            power((2.0, 3.0), (3.0, 3.0)),
        ],
    )
    def test_is_none_never_zero(self, readings: list[Reading]) -> None:
        assert integrate(readings, 0.0, 1.0, METER) is None

    @pytest.mark.parametrize("make", [power, counter])
    def test_a_missing_edge_is_filled_and_uncertain(self, make: object) -> None:
        whole = [(0.0, 5.0), (1.0, 5.0)] if make is power else [(0.0, 0.0), (1.0, 5.0)]
        part = [(0.0, 5.0), (0.8, 5.0)] if make is power else [(0.0, 0.0), (0.8, 4.0)]
        sure = integrate(make(*whole), 0.0, 1.0, METER)  # type: ignore[operator]
        unsure = integrate(make(*part), 0.0, 1.0, METER)  # type: ignore[operator]
        assert unsure.value_j == pytest.approx(sure.value_j)
        assert unsure.uncertainty_j**2 - sure.uncertainty_j**2 == pytest.approx(1 / 3)

    def test_nothing_happens_in_no_time(self) -> None:
        energy = integrate(power((1.0, 5.0)), 1.0, 1.0, METER)
        assert energy is not None
        assert (energy.value_j, energy.uncertainty_j) == (0.0, 0.0)

    def test_end_before_start(self) -> None:
        with pytest.raises(ValueError, match="before it starts"):
            integrate([], 1.0, 0.0, METER)


class TestUncertainty:
    def test_gain_and_resolution(self) -> None:
        meter = MeterDescription(
            source="m",
            kind="emulated",
            scope="wall",
            rate_hz=1.0,
            resolution_w=math.sqrt(12.0) * 0.3,
            relative_uncertainty=0.04,
        )
        energy = integrate(power((0, 10), (10, 10)), 0, 10, meter)
        assert energy is not None
        assert energy.uncertainty_j == pytest.approx(5.0)  # 4 J and 3 J in quadrature
        assert (energy.kind, energy.source, energy.scope) == ("emulated", "m", "wall")

    def test_noise_is_estimated_from_the_readings(self) -> None:
        # 1,000 trapezoids of 0.1 s with 0.5 W of noise: 0.5 · 0.1 · √1000
        noise = np.random.default_rng(1).normal(10.0, 0.5, 1001)
        energy = integrate(power(*((i / 10, p) for i, p in enumerate(noise))), 0, 100, METER)
        assert energy is not None
        assert energy.uncertainty_j == pytest.approx(0.05 * math.sqrt(1000), rel=0.1)


class TestLargestGap:
    def test_counts_the_edges(self) -> None:
        assert largest_gap_s(power((1, 0), (2, 0), (6, 0)), 0, 8) == 4.0
        assert largest_gap_s(power((3, 0)), 0, 8) == 5.0
        assert largest_gap_s([], 0, 8) == 8.0

    def test_ignores_what_lies_outside(self) -> None:
        assert largest_gap_s(power((-5, 0), (20, 0)), 0, 8) == 8.0


class TestHoles:
    def test_a_reading_that_holds_nothing_is_no_straight_line(self) -> None:
        # 10 W for 4 s, nothing for 2 s in which it may have been anything, 10 W for 4 s
        readings = [*power((0, 10), (4, 10)), Reading(time_s=5.0), *power((6, 10), (10, 10))]
        energy = integrate(readings, 0, 10, METER)
        assert energy is not None
        assert energy.value_j == pytest.approx(100.0)
        assert energy.uncertainty_j == pytest.approx(20.0 / math.sqrt(3.0))

    def test_more_than_half_missing_is_missing(self) -> None:
        readings = [*power((0, 10), (2, 10)), Reading(time_s=5.0), *power((8, 10), (10, 10))]
        assert integrate(readings, 0, 10, METER) is None

    def test_a_counter_does_not_mind(self) -> None:
        readings = [*counter((0, 0)), Reading(time_s=1.0), *counter((2, 8))]
        assert joules(readings, 0, 2) == 8.0

    def test_a_reset_is_missing_unless_it_opens_the_list(self) -> None:
        last = Reading(time_s=2.0, counter_j=5.0)
        reset = Reading(time_s=1.0, counter_j=2.0, reset=True)
        assert integrate([*counter((0, 1)), reset, last], 0, 2, METER) is None
        assert joules([reset, last], 1, 2) == 3.0
