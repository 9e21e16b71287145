"""How often messages come: what a look at any time finds, whatever the sender's habits are."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.meters.elsewhere.arrivals import Arrivals


def heard(times_s: list[float], values: list[float] | None = None) -> Arrivals:
    arrivals = Arrivals()
    for place, at_s in enumerate(times_s):
        arrivals.heard(at_s, values[place] if values else float(place))
    return arrivals


def bursts(count: int, each: int, every_s: float, apart_s: float = 0.05) -> list[float]:
    return [every_s * turn + apart_s * place for turn in range(count) for place in range(each)]


def regular(count: int, every_s: float, jitter_s: float = 0.0) -> list[float]:
    dice = random.Random(count)
    return [every_s * turn + dice.uniform(0.0, jitter_s) for turn in range(count)]


@given(st.lists(st.floats(0.01, 20.0), min_size=2, max_size=40))
def test_half_of_all_looks_fall_into_gaps_of_that_length_or_longer(gaps_s: list[float]) -> None:
    """By brute force: looks at evenly spaced times, each with the length of the gap it falls in."""
    times_s = [0.0, *itertools.accumulate(gaps_s)]
    looks_s = [times_s[-1] * (k + 0.5) / 5_000 for k in range(5_000)]
    ends = iter(zip(times_s[1:], gaps_s, strict=True))
    end_s, gap_s = next(ends)
    seen = []
    for look_s in looks_s:
        while look_s > end_s:
            end_s, gap_s = next(ends)
        seen.append(gap_s)
    period_s = heard(times_s).period_s(times_s[-1])
    assert period_s is not None
    assert sum(s <= period_s * (1 + 1e-9) for s in seen) >= 0.49 * len(seen)
    assert sum(s >= period_s * (1 - 1e-9) for s in seen) >= 0.49 * len(seen)


def test_a_regular_sender_keeps_its_period_when_one_message_is_late() -> None:
    times_s = regular(30, 1.0, 0.1)
    assert heard(times_s).period_s(times_s[-1]) == pytest.approx(1.0, abs=0.1)
    late = times_s + [times_s[-1] + 6.0 + k for k in range(20)]
    assert heard(late).period_s(late[-1]) == pytest.approx(1.0, abs=0.1)
    assert not heard(late).doubts(1.0, 0.01)


@pytest.mark.parametrize("each", [2, 4, 6])
def test_bursts_count_as_one_message(each: int) -> None:
    """Such as the cached state that zigbee2mqtt publishes for every attribute of a plug."""
    one = heard(bursts(1, each, 10.0))
    assert not one.is_settled(5.0), "a burst has ended, and nothing is known of the next"
    two = heard([*bursts(1, each, 10.0), 10.0])
    assert two.period_s(10.0) == pytest.approx(10.0, abs=0.3)
    assert not two.doubts(10.0, 0.1)


def test_silence_counts_while_it_lasts() -> None:
    arrivals = heard(regular(6, 0.1))
    assert arrivals.period_s(0.55) == pytest.approx(0.1)
    assert arrivals.period_s(8.5) == pytest.approx(8.0)


def test_what_is_not_enough_is_not_settled() -> None:
    assert Arrivals().period_s(1.0) is None
    assert heard([0.0]).period_s(1.0) is None
    assert not heard([0.0, 1.0, 2.0]).is_settled(2.0)
    assert heard([0.0, 1.0, 2.0, 3.0]).is_settled(3.5)


class TestDoubts:
    def test_a_sender_that_becomes_slower(self) -> None:
        times_s = regular(30, 6.0, 0.3)
        (doubt,) = heard(times_s).doubts(1.0, 0.1)
        assert "every 6" in doubt and "not every 1 s" in doubt and "refresh_s = 6" in doubt

    def test_a_sender_that_repeats_what_it_has(self) -> None:
        """A message a second, and a new value every ten."""
        dice = random.Random(3)
        values = [round(50.0 + dice.gauss(0.0, 3.0), 1) for _ in range(6)]
        repeated = [values[k // 10] for k in range(60)]
        (doubt,) = heard(regular(60, 1.0), repeated).doubts(1.0, 0.1)
        assert "repeat the value before" in doubt and "refresh_s = 10" in doubt

    def test_one_outage_is_no_habit(self) -> None:
        times_s = [*regular(15, 1.0), *(50.0 + at_s for at_s in regular(40, 1.0))]
        assert not heard(times_s).doubts(1.0, 0.1)

    def test_a_calm_rest_is_no_repetition(self) -> None:
        dice = random.Random(5)
        values = [25.0 if k % 40 < 28 else round(29.0 + dice.gauss(0, 0.5), 1) for k in range(64)]
        assert not heard(regular(64, 1.0), values).doubts(1.0, 0.1)

    def test_a_counter_in_steps_is_no_repetition(self) -> None:
        values = [36.0 * (k // 8) + 9e5 for k in range(64)]
        assert not heard(regular(64, 1.0), values).doubts(1.0, math.inf)

    def test_coarse_values_of_a_steady_load_are_no_repetition(self) -> None:
        values = [3.0 if k % 20 < 12 else 4.0 for k in range(60)]
        assert not heard(regular(60, 1.0), values).doubts(1.0, 1.0)

    def test_a_fine_meter_whose_values_always_differ(self) -> None:
        dice = random.Random(4)
        values = [round(50.0 + dice.gauss(0.0, 1.0), 2) for _ in range(60)]
        assert not heard(regular(60, 1.0, 0.2), values).doubts(1.0, 0.01)
