from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.step_load.steps import news, refresh_s, smallest_step


@given(
    refresh=st.floats(0.2, 10.0),
    phase=st.floats(0.0, 1.0),
    same=st.floats(0.0, 0.8),
    seed=st.integers(0, 1000),
)
def test_the_refresh_of_values_that_may_stay_the_same(
    refresh: float, phase: float, same: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    times = np.cumsum(random.uniform(0.6, 1.4, 900) * refresh / 10.0)
    number = np.floor((times / refresh) + phase).astype(int)
    moves = np.cumsum(random.random(number.max() + 1) >= same)
    values = moves[number].astype(float)
    found = refresh_s(times, values)
    assert found is not None
    assert found == pytest.approx(refresh, rel=0.02)
    fresh = news(times, values, found)
    # Each refresh is found once, whether or not it changed the value.
    assert len(fresh.times_s) == pytest.approx(number.max(), abs=0.05 * number.max() + 2)


def test_every_look_is_new() -> None:
    times = np.arange(100) * 0.1
    assert refresh_s(times, np.random.default_rng(0).normal(size=100)) is None


def test_nothing_changes() -> None:
    assert refresh_s(np.arange(50) * 1.0, np.ones(50)) is None


@given(
    step=st.sampled_from([1.0, 0.1, 0.025, 1.25e-3]),
    turns=st.lists(st.integers(0, 400), min_size=8, max_size=60),
)
def test_the_smallest_step_divides_all(step: float, turns: list[int]) -> None:
    values = np.array(turns * 4, float) * step
    found = smallest_step(values)
    steps = np.diff(np.unique(turns))
    if len(steps) < 2:
        assert found is None
        return
    common = int(np.gcd.reduce(steps))
    # A step that is a small part of the least difference cannot be told from noise.
    if steps.min() <= 5 * common:
        assert found is not None
    if found is not None:
        assert found == pytest.approx(common * step, rel=1e-6)


def test_noise_has_no_step() -> None:
    values = np.random.default_rng(0).normal(size=400)
    assert smallest_step(np.repeat(values, 4)) is None
