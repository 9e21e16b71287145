"""Readings in columns, how much they scatter, and the time between them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.meters import Reading
from fimi.energy.phase_readings import Columns, PowerCourse, Scatter, blocks, largest_gap_s


@given(
    st.lists(st.integers(0, 100_000), min_size=1, max_size=20, unique=True),
    st.floats(-20.0, 120.0),
    st.floats(0.0, 80.0),
)
def test_a_course_is_integrated_exactly(
    times_ms: list[int], start_s: float, length_s: float
) -> None:
    times = np.sort(np.array(times_ms)) / 1e3
    power = np.random.default_rng(len(times)).uniform(0.0, 9.0, len(times))
    inside = times[(times > start_s) & (times < start_s + length_s)]
    nodes = np.concatenate([[start_s], inside, [start_s + length_s]])
    expected = np.trapezoid(np.interp(nodes, times, power), nodes)
    found = PowerCourse(times, power).between(start_s, start_s + length_s)
    assert found == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 200)), max_size=40))
def test_columns_are_a_queue(steps: list[tuple[bool, int]]) -> None:
    columns, kept, dropped = Columns(2), [], 0
    for number, (adds, count) in enumerate(steps):
        if adds:
            rows = np.full((count, 2), float(number))
            columns.add(rows)
            kept += rows.tolist()
        else:
            columns.drop(count)
            dropped += min(count, len(kept))
            kept = kept[count:]
        assert columns.rows.tolist() == kept
        assert (len(columns), columns.dropped) == (len(kept), dropped)
    assert len(columns._rows) <= 4 * max(64, max((c for _, c in steps), default=0) * 40)


def test_repeated_values_are_blocks() -> None:
    times = np.arange(10) * 0.25
    power = np.array([5.0, 5.0, 5.0, 6.0, 6.0, 6.0, 6.0, 6.0, 6.0, 7.0])
    assert blocks(times, power, 1.0).tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 3]
    assert blocks(times, power, 0.0).tolist() == list(range(10))


def test_scatter_is_the_variance_about_a_slow_change() -> None:
    rng = np.random.default_rng(0)
    white = rng.normal(5.0, 0.3, 20_000)
    assert Scatter.of(white).deviation_w == pytest.approx(0.3, rel=0.03)
    assert Scatter.of(white).unseen == pytest.approx(1.0, abs=0.02)
    walk = np.cumsum(rng.normal(0.0, 0.01, 20_000))
    assert Scatter.of(walk).unseen == pytest.approx(math.sqrt(1 / 6), abs=0.05)
    few = Scatter.of(white[:3])
    assert few.deviation_w > math.sqrt(few.squares / few.degrees)
    assert Scatter().deviation_w == 0.0
    assert (few + few).scaled(1.0).degrees == 1.0


def gap_s(*times_s: float) -> float:
    """The longest time without one of these, from 0 to 8 s."""
    return largest_gap_s([Reading(time_s=at_s, power_w=1.0) for at_s in times_s], 0.0, 8.0)


def test_the_edges_count_as_readings() -> None:
    assert gap_s(1.0, 2.0, 6.0) == 4.0
    assert gap_s(3.0) == 5.0
    assert gap_s() == 8.0
    assert gap_s(-5.0, 20.0) == 8.0, "what lies outside is of no use"
