"""Which steps can be the best one, and the pieces of a fleet against the cost model."""

from __future__ import annotations

import math
import warnings
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.energy.cost_model import Array
from fimi.optim.inner import InnerSolver
from fimi.optim.lanes import EnergyWeights, Lanes, lanes_of, merged, step_power_w, useful_steps
from fimi.optim.problem import FimiProblem
from tests.optim.truth_costs import power_w
from tests.optim.truth_problems import Problem, problems

WATTS = st.floats(0.0, 20.0)
TABLES = st.lists(
    st.tuples(st.floats(1e8, 3e9), WATTS), min_size=1, max_size=8, unique_by=lambda x: x[0]
)


class TestUsefulSteps:
    @given(TABLES, st.floats(1e7, 4e9))
    def test_hold_the_thriftiest_of_all_that_are_fast_enough(
        self, table: list[tuple[float, float]], needed_hz: float
    ) -> None:
        """Whatever the time there is: energy of a cycle, by trying every step."""
        table = sorted(table)
        hertz, watts = tuple(f for f, _ in table), tuple(w for _, w in table)
        useful = useful_steps(hertz, watts)
        fast = [k for k in range(len(table)) if hertz[k] >= needed_hz]
        joules = [w / f for f, w in table]
        if fast:
            least = min(joules[k] for k in fast)
            assert least in [joules[k] for k in useful if hertz[k] >= needed_hz]

    @given(TABLES)
    def test_are_no_more_than_can_be_best(self, table: list[tuple[float, float]]) -> None:
        """Each is the only best one for some needed speed: its own."""
        table = sorted(table)
        hertz, watts = tuple(f for f, _ in table), tuple(w for _, w in table)
        useful = useful_steps(hertz, watts)
        assert useful == sorted(set(useful))
        assert useful[-1] == len(table) - 1
        joules = [w / f for f, w in table]
        for k in useful:
            assert all(joules[k] < joules[j] for j in range(k + 1, len(table)))

    def test_more_power_for_less_speed_is_never_chosen(self) -> None:
        assert useful_steps((1e9, 2e9), (5.0, 4.0)) == [1]

    def test_slower_at_the_same_joules_is_no_use(self) -> None:
        assert useful_steps((1e9, 2e9), (2.0, 4.0)) == [1]

    def test_a_law_without_power_at_rest_keeps_all(self) -> None:
        hertz = (1e9, 1.5e9, 2e9)
        assert useful_steps(hertz, tuple(1e-27 * f**3 for f in hertz)) == [0, 1, 2]

    def test_one_point(self) -> None:
        assert useful_steps((1e9,), (0.0,)) == [0]


def weights_of(problem: FimiProblem, seed: int) -> EnergyWeights:
    """A joule counts more than one where there are budgets."""
    more = np.random.default_rng(seed).uniform(0.0, 3.0, problem.size)
    base = EnergyWeights.of(problem)
    return EnergyWeights(base.dynamic + more, base.board + more)


def training_j(lanes: Lanes, row: int, samples: float, hertz: float) -> float:
    """What a lane says that samples cost, as weighted."""
    cycles = lanes.cycles[row] * samples
    watts = lanes.kappa[row] * hertz**3 + lanes.active_w[row]
    return float(cycles * watts / hertz + lanes.sample_j[row] * samples)


@given(problems((1, 6)), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_a_lane_costs_what_the_cost_model_says(drawn: Problem, seed: int) -> None:
    problem, _ = drawn
    weights = weights_of(problem, seed)
    inner = InnerSolver(problem, weights)
    lanes = inner.lanes
    rng = np.random.default_rng(seed)
    for row in range(lanes.size):
        i, step = int(lanes.owner[row]), int(lanes.step[row])
        hertz = float(rng.uniform(lanes.lowest_hz[row], lanes.highest_hz[row]))
        if step >= 0:
            assert lanes.fixed[row]
            assert hertz == problem.frequency_steps_hz[i][step]
        samples = float(rng.uniform(1.0, 50.0))
        seconds = problem.cycles_per_pass[i] * samples / hertz
        received = problem.synthetic_j[i] / problem.rounds * samples
        expected = weights.dynamic[i] * power_w(problem, i, hertz) * seconds
        expected += weights.board[i] * received
        assert training_j(lanes, row, samples, hertz) == pytest.approx(expected, rel=1e-12)


@given(problems((1, 6)))
@settings(max_examples=40)
def test_no_speed_of_a_law_is_thriftier_than_its_floor(drawn: Problem) -> None:
    """(14): below f0 nothing is saved; above it a cycle costs more and more."""
    lanes = InnerSolver(drawn[0]).lanes
    for row in np.flatnonzero(~lanes.fixed):
        hertz = np.linspace(lanes.lowest_hz[row], lanes.highest_hz[row], 301)
        joules = np.array([training_j(lanes, int(row), 1.0, f) for f in hertz])
        least = training_j(lanes, int(row), 1.0, float(lanes.floor_hz[row]))
        assert least <= joules.min() * (1.0 + 1e-12)
        rising = hertz >= lanes.floor_hz[row]
        assert (np.diff(joules[rising]) >= -1e-12 * least).all()


@given(problems((1, 6)))
@settings(max_examples=40)
def test_every_device_has_its_lanes_next_to_each_other(drawn: Problem) -> None:
    problem, _ = drawn
    lanes = InnerSolver(problem).lanes
    assert (np.diff(lanes.owner) >= 0).all()
    np.testing.assert_array_equal(np.unique(lanes.owner), np.arange(problem.size))
    np.testing.assert_array_equal(lanes.owner[lanes.starts], np.arange(problem.size))
    for i, hertz in enumerate(problem.frequency_steps_hz):
        own = lanes.step[lanes.owner == i].tolist()
        expected = useful_steps(hertz, step_power_w(problem, i)) if hertz else [-1]
        assert own == expected
    assert lanes.single == (lanes.size == problem.size)


@given(problems((1, 5)), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_the_least_lane_is_that_of_a_loop(drawn: Problem, seed: int) -> None:
    lanes = InnerSolver(drawn[0]).lanes
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 4, (3, lanes.size)).astype(float)  # ties
    values[rng.random(values.shape) < 0.1] = math.inf
    found = lanes.least(values)
    for s in range(3):
        for i in range(lanes.starts.size):
            own = np.flatnonzero(lanes.owner == i)
            assert found[s, i] == own[int(np.argmin(values[s, own]))]


def part(lanes: Lanes, rows: Array) -> Lanes:
    """Some of the lanes."""
    columns = {
        field: getattr(lanes, field)[rows] for field in Lanes.__struct_fields__ if field != "starts"
    }
    return Lanes(starts=np.flatnonzero(np.diff(columns["owner"], prepend=-1)), **columns)


@given(problems((1, 6)), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_parts_merge_to_the_whole(drawn: Problem, seed: int) -> None:
    lanes = InnerSolver(drawn[0]).lanes
    where = np.random.default_rng(seed).integers(0, 2, lanes.size)
    parts = [part(lanes, np.flatnonzero(where == k)) for k in (0, 1) if (where == k).any()]
    whole = merged(parts)
    np.testing.assert_array_equal(whole.starts, lanes.starts)
    np.testing.assert_array_equal(whole.owner, lanes.owner)
    for i in range(lanes.starts.size):
        mine, own = whole.owner == i, lanes.owner == i
        assert sorted(whole.step[mine]) == sorted(lanes.step[own])
        assert sorted(whole.active_w[mine]) == sorted(lanes.active_w[own])


def test_weights_of_an_objective(fleet: Any) -> None:
    problem = fleet(0, 3)
    assert EnergyWeights.of(problem).board.tolist() == [1.0, 1.0, 1.0]
    assert EnergyWeights.of(problem, "dynamic").board.tolist() == [0.0, 0.0, 0.0]
    paper = msgspec.structs.replace(problem, objective="dynamic")
    assert EnergyWeights.of(paper).board.tolist() == [0.0, 0.0, 0.0]
    assert EnergyWeights.of(paper, "board").dynamic.tolist() == [1.0, 1.0, 1.0]


def test_synthetic_samples_count_for_the_board_alone(fleet: Any) -> None:
    problem = fleet(0, 3, synthetic_j=np.asarray(2.0), rounds=4.0)
    samples = np.ones(3)
    board, dynamic = (
        lanes_of(problem, EnergyWeights.of(problem, objective), samples, samples)
        for objective in ("board", "dynamic")
    )
    np.testing.assert_allclose(board.sample_j - dynamic.sample_j, 0.5)


def test_devices_that_count_for_very_much(fleet: Any) -> None:
    """As where a budget binds: the lanes of steps have no κ, and nothing overflows aloud."""
    laws = fleet(0, 2)
    low_hz, high_hz = float(laws.frequency_min_hz[1]), float(laws.frequency_max_hz[1])
    problem = msgspec.structs.replace(laws, frequency_steps_hz=((), (low_hz, high_hz)))
    samples = np.ones(2)
    heavy = EnergyWeights(dynamic=np.full(2, 1e9), board=np.full(2, 1e9))
    plain = lanes_of(problem, EnergyWeights.of(problem), samples, samples)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lanes = lanes_of(problem, heavy, samples, samples)
    np.testing.assert_allclose(lanes.floor_hz, plain.floor_hz)
    assert set(lanes.floor_hz[lanes.owner == 1]) <= {low_hz, high_hz}
