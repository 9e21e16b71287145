"""A drawing of power keeps what an eye would look for: extremes, gaps, order, both ends."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fimi.monitor.tracing import MOST_POINTS, drawn
from fimi.record.readings import Trace


def traced(power_w: np.ndarray) -> Trace:
    return Trace(
        device="d",
        round=1,
        series="total",
        meter=None,
        times_s=100.0 + np.arange(len(power_w)) * 0.1,
        power_w=power_w,
        counter_j=np.full(len(power_w), np.nan),
        phases=(),
    )


@given(
    st.integers(0, 30_000),
    st.lists(st.integers(0, 29_999), max_size=4),
    st.lists(st.integers(0, 29_999), max_size=4),
)
def test_extremes_and_gaps_stay(count: int, peaks: list[int], gaps: list[int]) -> None:
    power_w = np.sin(np.arange(count) / 50.0) + 3.0
    for place in peaks:
        if place < count:
            power_w[place] = 9.0
    for place in gaps:
        if place < count:
            power_w[place] = np.nan
    found = drawn(traced(power_w))
    assert found.readings == count and len(found.times_s) == len(found.power_w)
    assert len(found.power_w) <= MOST_POINTS + 2
    assert found.times_s == sorted(found.times_s)
    shown = {round(t / 0.1): p for t, p in zip(found.times_s, found.power_w, strict=True)}
    for place, value in shown.items():
        assert value == (None if np.isnan(power_w[place]) else power_w[place])
    for place in np.flatnonzero(np.isnan(power_w)):
        near = range(place - MOST_POINTS // 100, place + 1)
        assert any(shown.get(each, 0.0) is None for each in near)
    if (power_w == 9.0).any():
        assert 9.0 in found.power_w
    if count:
        assert {0, count - 1} <= shown.keys()
