from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi import children
from fimi.energy.meters.response import MeterResponse
from fimi.energy.step_load.load import SHORTEST_S, Edges, pattern, turn_s

TURNS = st.lists(st.tuples(st.floats(0.1, 5.0), st.floats(0.1, 5.0)), min_size=1, max_size=6)


def edges_of(turns: list[tuple[float, float]]) -> Edges:
    at_s, begins, ends = 1.0, [], []
    for rest_s, work_s in turns:
        begins.append(at_s + rest_s)
        ends.append(at_s + rest_s + work_s)
        at_s = ends[-1]
    return Edges(begins_s=tuple(begins), ends_s=tuple(ends), from_s=0.0, until_s=at_s + 1.0)


@given(turns=TURNS)
def test_how_long_it_was_on_is_the_sum_of_when_it_was(turns: list[tuple[float, float]]) -> None:
    edges = edges_of(turns)
    grid = np.linspace(0.0, edges.until_s, 20_001)
    middles = (grid[1:] + grid[:-1]) / 2.0
    counted = np.concatenate([[0.0], np.cumsum(edges.is_on(middles) * np.diff(grid))])
    assert np.abs(edges.on_s(grid) - counted).max() < 2 * len(turns) * (grid[1] - grid[0])
    assert edges.on_s(edges.until_s + 9.0) == pytest.approx(sum(work for _, work in turns))


@given(turns=TURNS, window_s=st.floats(0.05, 3.0), delay_s=st.floats(0.0, 2.0))
def test_shares_of_the_fit_are_those_of_the_meters_kernel(
    turns: list[tuple[float, float]], window_s: float, delay_s: float
) -> None:
    """A reading is on average the load, weighted by MeterResponse.share_after at each edge."""
    edges = edges_of(turns)
    refresh_s = 0.4
    response = MeterResponse(delay_s=delay_s, window_s=window_s, refresh_s=refresh_s)
    at_s = np.linspace(0.0, edges.until_s + 3.0, 41)
    by_kernel = sum(
        response.share_after(at_s - begin_s) - response.share_after(at_s - end_s)
        for begin_s, end_s in zip(edges.begins_s, edges.ends_s, strict=True)
    )
    ages = (np.arange(400) + 0.5) / 400 * refresh_s
    ends = at_s[:, None] - ages - delay_s
    by_fit = ((edges.on_s(ends) - edges.on_s(ends - window_s)) / window_s).mean(1)
    assert np.abs(by_kernel - by_fit).max() < 2e-3


def test_turns_are_long_enough_and_differ() -> None:
    response = MeterResponse(delay_s=2.0, refresh_s=1.0)
    shortest_s = turn_s([response])
    assert shortest_s >= response.settling_s
    assert turn_s([]) == SHORTEST_S
    turns = np.array(pattern(shortest_s, 8)).ravel()
    assert turns.min() >= shortest_s
    assert turns.max() <= 3.0 * shortest_s
    assert len(set(turns)) == len(turns)


def test_a_process_says_when_it_was_busy(tmp_path: Path) -> None:
    now_s = time.monotonic()
    asked = [(now_s - 2.0, now_s - 1.0), (now_s + 4.0, now_s + 4.2), (now_s + 4.5, now_s + 4.6)]
    log = tmp_path / "log"
    child = children.start("fimi.energy.step_load.busy", json.dumps(asked).encode(), log=log)
    try:
        child.wait(60.0)
    finally:
        child.end(1.0)
    told = json.loads(log.read_text())
    missed, *kept = told["busy"]
    assert missed is None
    for (begin_s, end_s), real in zip(asked[1:], kept, strict=True):
        if real is not None:  # the machine may have been too busy to start it in time
            assert begin_s <= real[0]
            assert end_s <= real[1]
    assert told["cpu_s"] > 0.0
