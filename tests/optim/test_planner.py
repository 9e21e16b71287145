from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.energy.cost_model import (
    BoardModel,
    ComputeModel,
    LinkModel,
    operating_frequency_hz,
    predict_round,
)
from fimi.optim.cross_entropy import SearchResult, SearchSettings
from fimi.optim.inner import InnerSolver
from fimi.optim.joint import solve
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.planner import Plan, plan
from fimi.optim.problem import FimiProblem, InfeasibleError, tfl
from fimi.optim.splits import SplitSpace, try_edges
from tests.optim.truth_costs import cost_of, trial_of
from tests.optim.truth_problems import Problem, problems

replace = msgspec.structs.replace
COLD = SearchSettings(start="cold")


def boards(problem: FimiProblem) -> list[BoardModel]:
    """The problem's devices as the boards that will run the plan."""
    return [
        BoardModel(
            compute=ComputeModel(
                cycles_per_sample=float(problem.cycles_per_sample[i]),
                capacitance_w_per_hz3=float(problem.capacitance_w_per_hz3[i]),
                active_power_w=float(problem.active_power_w[i]),
                frequency_min_hz=float(problem.frequency_min_hz[i]),
                frequency_max_hz=float(problem.frequency_max_hz[i]),
                frequency_steps_hz=problem.frequency_steps_hz[i],
            ),
            link=LinkModel(
                channel_gain=float(problem.channel_gain[i]),
                noise_density_w_per_hz=float(problem.noise_density_w_per_hz[i]),
                transmit_power_max_w=float(problem.transmit_power_max_w[i]),
                downlink_rate_bps=1e6,
            ),
            idle_power_w=1.0,
        )
        for i in range(problem.size)
    ]


def assert_is_sound(problem: FimiProblem, result: Plan) -> None:
    """Every limit holds, both energies are those of the cost model, and no bound is above them."""
    costs = cost_of(problem, trial_of(result))
    assert costs.broken == {}
    assert result.board.energy_j == pytest.approx(costs.board_j, rel=1e-9)
    assert result.dynamic.energy_j == pytest.approx(costs.dynamic_j, rel=1e-9)
    assert result.round_s == pytest.approx(costs.round_s, rel=1e-9)
    assert result.energy_j == pytest.approx(costs.energy_j(problem), rel=1e-9)
    for certified in (result.board, result.dynamic):
        assert certified.bound_j is not None
        assert certified.bound_j <= certified.energy_j * (1 + 1e-9)
    assert result.least is (result.board if problem.objective == "board" else result.dynamic)
    for share, steps in zip(result.devices, problem.frequency_steps_hz, strict=True):
        assert not steps or share.point.frequency_hz in steps


def assert_runs_as_promised(problem: FimiProblem, result: Plan) -> None:
    """Every constraint holds for the whole-number plan, by the cost model's own prediction."""
    assert_is_sound(problem, result)
    total_j = 0.0
    for i, (share, board) in enumerate(zip(result.devices, boards(problem), strict=True)):
        point = share.point
        assert share.device == problem.devices[i]
        assert share.samples == problem.local_samples[i] + sum(share.synthetic_counts)
        assert min(share.synthetic_counts) >= 0
        assert sum(share.synthetic_counts) <= problem.generated_max[i]
        runs_at = operating_frequency_hz(board.compute, point.frequency_hz)
        assert runs_at == pytest.approx(point.frequency_hz, rel=1e-9)
        assert point.transmit_power_w <= problem.transmit_power_max_w[i]
        phases = predict_round(
            board,
            point,
            cycles=problem.cycles_per_pass[i] * share.samples,
            upload_bits=float(problem.payload_bits[i]),
            download_bits=0.0,
        )
        compute, upload = phases[-2:]
        assert compute.duration_s == pytest.approx(share.compute_s, rel=1e-9)
        assert upload.duration_s == pytest.approx(share.upload_s, rel=1e-9)
        assert compute.duration_s + upload.duration_s <= problem.t_max_s[i] * (1 + 1e-9)
        total_j += compute.dynamic_j + upload.dynamic_j
    band = sum(share.point.bandwidth_hz for share in result.devices)
    assert band <= problem.bandwidth_hz * (1 + 1e-9)
    assert result.energy_j == pytest.approx(total_j, rel=1e-9)
    if math.isfinite(problem.error_max):
        assert result.error is not None
        assert result.error <= problem.error_max * (1 + 1e-9)
    assert result.bound_j is not None
    assert result.energy_j >= result.bound_j * (1 - 1e-9)
    assert result.search_energy_j >= result.bound_j * (1 - 1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.booleans())
@settings(max_examples=15, deadline=None)
def test_every_plan_runs_as_promised_and_is_near_its_bound(
    fleet: Any, seed: int, size: int, stepped: bool
) -> None:
    problem: FimiProblem = fleet(seed, size)
    if stepped:
        problem = with_steps(problem, 6)
    try:
        result = plan(problem, seed=0)
    except InfeasibleError:
        return
    assert_runs_as_promised(problem, result)
    assert result.search_gap_percent is not None
    assert result.gap_percent is not None
    if not stepped:
        assert result.search_gap_percent <= 1e-5
        assert result.gap_percent <= 2.0


def with_steps(problem: FimiProblem, count: int) -> FimiProblem:
    """The problem with so many steps from each device's lowest to its highest frequency."""
    return replace(
        problem,
        frequency_steps_hz=tuple(
            tuple(np.linspace(low, high, count))
            for low, high in zip(problem.frequency_min_hz, problem.frequency_max_hz, strict=True)
        ),
    )


class TestPlanted:
    """Problems of every kind that were built around a plan."""

    @given(problems(sizes=(1, 5)))
    @settings(max_examples=25, deadline=None)
    def test_the_plan_is_sound_and_no_bound_is_above_the_planted_plan(
        self, planted: Problem
    ) -> None:
        problem, trial = planted
        result = plan(problem, seed=0)
        assert_is_sound(problem, result)
        truth = cost_of(problem, trial)
        assert truth.broken == {}
        assert result.energy_j <= truth.energy_j(problem) * (1 + 1e-9)
        # A bound of the objective knows the budgets, that of the other energy does not.
        assert result.board.bound_j is not None
        assert result.dynamic.bound_j is not None
        assert result.board.bound_j <= truth.board_j * (1 + 1e-9)
        assert result.dynamic.bound_j <= truth.dynamic_j * (1 + 1e-9)

    @given(problems(sizes=(2, 4), processors="laws", budgets=False))
    @settings(max_examples=8, deadline=None)
    def test_each_objective_wins_in_its_own_energy(self, planted: Problem) -> None:
        """In real numbers of samples; whole ones may change the order of near ties."""
        problem, _ = planted
        board, dynamic = (
            plan(replace(problem, objective=objective), seed=0)
            for objective in ("board", "dynamic")
        )
        assert_is_sound(replace(problem, objective="board"), board)
        assert_is_sound(replace(problem, objective="dynamic"), dynamic)
        for certified, other in ((board.board, dynamic.board), (dynamic.dynamic, board.dynamic)):
            assert certified.bound_j == pytest.approx(other.bound_j, rel=1e-6)
        assert dynamic.search_energy_j <= board.dynamic.energy_j * (1 + 1e-8)
        assert board.search_energy_j <= dynamic.board.energy_j * (1 + 1e-8)

    @given(problems(sizes=(1, 4), budgets=False))
    @settings(max_examples=8, deadline=None)
    def test_from_cold(self, planted: Problem) -> None:
        problem, _ = planted
        result = plan(problem, seed=0, settings=COLD)
        assert_is_sound(problem, result)
        best = plan(problem, seed=0)
        assert result.board.bound_j == best.board.bound_j
        assert result.energy_j >= best.least.bound_j


@pytest.mark.parametrize("seed", range(3))
def test_search_alone_is_near_the_bound_at_20_devices(fleet: Any, seed: int) -> None:
    result = plan(fleet(seed, 20), seed=seed, settings=COLD)
    assert result.search == "cross-entropy"
    assert result.search_gap_percent is not None
    assert result.search_gap_percent < 0.01


def test_only_a_plan_that_runs_near_the_bound_is_optimal(fleet: Any) -> None:
    """With one step each, the bound knows the steps. Two devices with six steps leave a gap."""
    problem: FimiProblem = tfl(fleet(0, 4))
    smooth = plan(problem, seed=0)
    coarse = plan(
        replace(problem, frequency_steps_hz=tuple((f,) for f in problem.frequency_max_hz)), seed=0
    )
    assert smooth.bound_j is not None
    assert coarse.bound_j is not None
    assert coarse.bound_j > 1.01 * smooth.energy_j
    assert (smooth.status, coarse.status) == ("optimal", "optimal")
    few = plan(with_steps(fleet(0, 2), 6), seed=0)
    assert few.gap_percent is not None
    assert few.gap_percent > 0.1
    assert few.status == "feasible"


def test_same_seed_same_plan(fleet: Any) -> None:
    problem = fleet(0, 6)
    first, again, other = (plan(problem, seed=seed) for seed in (3, 3, 4))
    timeless = {"search_s": 0.0, "certificate_s": 0.0}
    assert replace(first, **timeless) == replace(again, **timeless)
    assert first.history != other.history


def test_tfl_plans_the_local_data(fleet: Any) -> None:
    problem = fleet(0, 5)
    baseline = plan(tfl(problem), seed=0)
    assert_runs_as_promised(tfl(problem), baseline)
    assert [d.samples for d in baseline.devices] == problem.local_samples.astype(int).tolist()
    assert baseline.error is None
    assert baseline.gap_percent is not None
    assert baseline.gap_percent < 0.001  # nothing to round
    assert baseline.energy_j < plan(problem, seed=0).energy_j


def test_devices_without_data(fleet: Any) -> None:
    counts = np.array([[0, 0], [30, 10], [40, 0]])
    problem = fleet(0, 3, local_counts=counts)
    filled = plan(problem, seed=0)
    assert_runs_as_promised(problem, filled)
    assert filled.devices[0].samples > 0
    first = filled.devices[0].synthetic_counts
    assert abs(first[0] - first[1]) <= 1
    idle = plan(tfl(problem), seed=0)
    assert_runs_as_promised(tfl(problem), idle)
    assert idle.devices[0].compute_j == 0
    nobody = plan(tfl(replace(problem, local_counts=counts * 0)), seed=0)
    assert (nobody.search, nobody.history) == ("dual decomposition", ())


def test_from_the_dual_decomposition_a_search_is_never_worse_than_it(fleet: Any) -> None:
    """However few candidates it has; from cold as few give a poor plan, which says so."""
    problem = fleet(1, 10)
    few = SearchSettings(samples=8, iterations=6)
    poor = plan(problem, seed=0, settings=replace(few, start="cold"))
    assert poor.search == "cross-entropy"
    assert poor.search_gap_percent is not None
    assert poor.search_gap_percent > 0.1
    assert poor.status == "feasible"
    good = plan(problem, seed=0, settings=few)
    assert good.search == "dual decomposition"
    assert good.iterations <= 6
    assert good.evaluations <= 8 * good.iterations
    assert good.search_energy_j <= solve(InnerSolver(problem)).energy_j * (1 + 1e-12)
    assert good.search_gap_percent is not None
    assert good.search_gap_percent < 1e-5
    assert_runs_as_promised(problem, good)


def test_multipliers_are_the_price_of_the_constraints(fleet: Any) -> None:
    problem = fleet(2, 4)
    result = plan(problem, seed=0)
    looser = plan(replace(problem, error_max=problem.error_max * (1 + 1e-4)), seed=0)
    saved = (result.search_energy_j - looser.search_energy_j) / (problem.error_max * 1e-4)
    assert saved == pytest.approx(result.learning_multiplier, rel=0.01)
    wider = plan(replace(problem, bandwidth_hz=problem.bandwidth_hz * 1.001), seed=0)
    saved = (result.search_energy_j - wider.search_energy_j) / (problem.bandwidth_hz * 0.001)
    assert saved == pytest.approx(result.band_multiplier, rel=0.02)


def test_a_warm_start_gives_the_same_plan(fleet: Any) -> None:
    """Prices of another plan are only where the search for the prices begins."""
    problem = with_idle_power(fleet(0, 12))
    other = plan(problem, seed=0)
    changed = replace(problem, error_max=problem.error_max * 1.002)
    warm, alone = plan(changed, seed=0, start=other), plan(changed, seed=0)
    assert warm.search_energy_j == pytest.approx(alone.search_energy_j, rel=1e-8)
    assert warm.bound_j == pytest.approx(alone.bound_j, rel=1e-8)
    assert warm.search_gap_percent is not None
    assert warm.search_gap_percent < 1e-5
    assert_is_sound(changed, warm)


def with_idle_power(problem: FimiProblem) -> FimiProblem:
    """The problem with boards that take 2 W at rest, receive for a second, and get the images."""
    return replace(
        problem,
        idle_power_w=np.full(problem.size, 2.0),
        receive_s=np.ones(problem.size),
        receive_power_w=np.full(problem.size, 0.5),
        synthetic_j=np.full(problem.size, 0.02),
        rounds=10.0,
    )


def test_idle_power_makes_rounds_short(fleet: Any) -> None:
    """The longer a round, the more idle power: the board's plan leaves some of the deadline."""
    problem = with_idle_power(fleet(0, 6))
    board = plan(problem, seed=0)
    paper = plan(replace(problem, objective="dynamic"), seed=0)
    assert board.round_s < 0.8 * paper.round_s
    assert paper.round_s == pytest.approx(problem.round_max_s, rel=1e-6)
    assert board.board.energy_j < 0.9 * paper.board.energy_j
    assert board.dynamic.energy_j > paper.dynamic.energy_j
    made = sum(sum(share.synthetic_counts) for share in board.devices)
    assert board.preparation_j == pytest.approx(0.02 * made)
    assert board.board.energy_j == pytest.approx(
        board.dynamic.energy_j + 6 * (0.5 + 2.0 * board.round_s) + board.preparation_j / 10.0
    )


def test_without_a_certificate_there_is_no_bound(fleet: Any) -> None:
    problem = with_idle_power(fleet(0, 4))
    bare = plan(problem, seed=0, settings=SearchSettings(certify=False))
    assert (bare.board.bound_j, bare.dynamic.bound_j, bare.status) == (None, None, "uncertified")
    assert (bare.gap_percent, bare.search_gap_percent) == (None, None)
    assert bare.devices == plan(problem, seed=0).devices


def test_progress_sees_every_iteration(fleet: Any) -> None:
    seen: list[tuple[int, float]] = []
    result = plan(fleet(0, 4), seed=0, progress=lambda number, best: seen.append((number, best)))
    assert [number for number, _ in seen] == list(range(1, result.iterations + 1))
    assert seen[-1][1] == result.history[-1].best


def test_a_plan_survives_json(fleet: Any) -> None:
    result = plan(fleet(0, 3), seed=0)
    assert msgspec.json.decode(msgspec.json.encode(result), type=Plan) == result


def test_barely_feasible(fleet: Any) -> None:
    """2 % more bandwidth than the least that will do."""
    problem = fleet(1, 4, bandwidth_hz=1e5)
    with pytest.raises(InfeasibleError) as caught:
        plan(problem, seed=0)
    assert caught.value.bandwidth_needed_hz is not None
    enough = replace(problem, bandwidth_hz=1.02 * caught.value.bandwidth_needed_hz)
    assert_runs_as_promised(enough, plan(enough, seed=0))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "changes",
    [
        {"channel_gain": np.array([1e-12, 1.0, 1e-5])},
        {"channel_gain": np.full(3, 1e-16), "transmit_power_max_w": np.full(3, 1e9)},
        {"bandwidth_hz": 1e12},
        {"t_max_s": np.full(3, 1e6)},
        {"payload_bits": np.ones(3)},
        {"capacitance_w_per_hz3": np.full(3, 1e-40)},
        {"active_power_w": np.full(3, 100.0)},
        {"error_max": 50.0},
        {"frequency_min_hz": np.full(3, 1e9), "frequency_max_hz": np.full(3, 1e9)},
    ],
)
def test_extremes_give_a_correct_plan_without_a_warning(
    fleet: Any, changes: dict[str, Any]
) -> None:
    problem = fleet(2, 3, **changes)
    result = plan(problem, seed=0)
    assert_runs_as_promised(problem, result)
    assert result.search_gap_percent is not None
    assert result.search_gap_percent < 0.1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "changes",
    [
        {"t_max_s": np.full(3, 1e-3)},
        {"channel_gain": np.array([1e-16, 1e-10, 1.0])},
        {"bandwidth_hz": 1e-3},
        {"payload_bits": np.full(3, 1e15)},
        {"error_max": 1e-3, "curve": LearningCurve(alpha=100.0, beta=0.01)},
    ],
)
def test_hopeless_extremes_are_refused_without_a_warning(
    fleet: Any, changes: dict[str, Any]
) -> None:
    with pytest.raises(InfeasibleError):
        plan(fleet(2, 3, **changes), seed=0)


@pytest.mark.parametrize("idle", [False, True])
def test_splits_and_points(fleet: Any, idle: bool) -> None:
    problem = with_idle_power(fleet(0, 4)) if idle else fleet(0, 4)
    space = SplitSpace(InnerSolver(problem))
    assert space.dimension == 4 + idle
    z = np.random.default_rng(0).normal(0, 3, (5, space.dimension))
    windows, rounds = space.decode(z)
    left_s = np.minimum(problem.t_max_s, rounds[:, None] - problem.receive_s) - windows
    assert (windows > 0).all()
    assert (left_s > 0).all()
    assert (rounds <= problem.round_max_s).all()
    assert np.ptp(rounds) > 0 or not idle
    for point, window_s, round_s in zip(z, windows, rounds, strict=True):
        np.testing.assert_allclose(space.point(window_s, round_s), point, rtol=1e-6, atol=1e-6)


def test_a_split_at_the_end_of_its_window_is_found() -> None:
    """Energy falls towards the end of one coordinate, where a Gaussian never quite arrives."""

    def objective(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        share = 1 / (1 + np.exp(-z))
        return 1 + share[:, 0] + (share[:, 1] - 0.4) ** 2, np.zeros(len(z))

    near = np.array([-4.0, np.log(0.4 / 0.6)])
    found = SearchResult(near, float(objective(near[None])[0][0]), 0.0, (), "converged", 1)
    at_edge = try_edges(objective, found)
    assert at_edge.value < found.value
    assert at_edge.value == pytest.approx(1.0, abs=1e-5)
    assert at_edge.best[1] == found.best[1]


def test_importing_the_planner_does_not_import_cvxpy() -> None:
    code = "import sys, fimi.optim.planner; sys.exit('cvxpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
