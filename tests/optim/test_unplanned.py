"""Equal bandwidth, highest frequency, highest power."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from fimi.energy.cost_model import Array
from fimi.optim.planner import plan
from fimi.optim.problem import FimiProblem, InfeasibleError, tfl
from fimi.optim.unplanned import equal_shares
from tests.optim.remedies import followed
from tests.optim.truth_costs import cost_of, trial_of
from tests.optim.truth_problems import Kind, planted


def test_by_hand(fleet: Any) -> None:
    problem = msgspec.structs.replace(
        tfl(fleet(0, 1)),
        local_counts=np.array([[10, 10, 0, 0, 0]]),
        cycles_per_sample=np.array([1e7]),
        capacitance_w_per_hz3=np.array([1e-27]),
        active_power_w=np.array([0.5]),
        frequency_min_hz=np.array([1e8]),
        frequency_max_hz=np.array([1e9]),
        channel_gain=np.array([1e-10]),
        noise_density_w_per_hz=np.array([1e-17]),
        transmit_power_max_w=np.array([0.3]),
        payload_bits=np.array([2e6]),
        bandwidth_hz=1e6,
        t_max_s=np.array([3.0]),
    )
    (share,) = equal_shares(problem).devices
    assert share.compute_s == pytest.approx(1.0)  # 5 · 1e7 · 20 / 1e9
    assert share.compute_j == pytest.approx(1.5)  # (1e-27 · 1e27 + 0.5) · 1
    rate = 1e6 * math.log2(1 + 0.3 * 1e-10 / (1e-17 * 1e6))  # 2 Mbit/s: SNR 3
    assert share.upload_s == pytest.approx(2e6 / rate) == pytest.approx(1.0)
    assert share.upload_j == pytest.approx(0.3)
    assert share.point.time_split == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(5))
def test_never_less_energy_than_the_plan(fleet: Any, seed: int) -> None:
    problem = tfl(fleet(seed, 4))
    try:
        found = equal_shares(problem)
    except InfeasibleError:
        return
    bound_j = plan(problem, seed=0).bound_j
    assert bound_j is not None
    assert found.energy_j >= bound_j


def test_too_late_says_who_and_the_remedies_work_as_printed(fleet: Any) -> None:
    given = msgspec.structs.replace(tfl(fleet(0, 3)), t_max_s=np.array([60.0, 25.0, 60.0]))
    problem = msgspec.structs.replace(given, bandwidth_hz=1e5)
    with pytest.raises(InfeasibleError, match=r"cannot train and send in time") as caught:
        equal_shares(problem)
    assert caught.value.constraint == "deadline"
    remedies = list(followed(problem, str(caught.value)))
    assert len(remedies) == 2
    for _, changed in remedies:
        assert len(equal_shares(changed).devices) == 3


def test_no_band_helps_a_device_that_is_too_slow(fleet: Any) -> None:
    problem = msgspec.structs.replace(tfl(fleet(0, 3)), t_max_s=np.array([60.0, 0.1, 60.0]))
    with pytest.raises(InfeasibleError, match=r"device-1 cannot train") as caught:
        equal_shares(problem)
    assert caught.value.devices == ("device-1",)
    ((words, changed),) = followed(problem, str(caught.value))
    assert "deadline" in words
    equal_shares(changed)


def used_j(problem: FimiProblem) -> Array:
    """Board energy of each device in all rounds, J, (I,), from the cost model."""
    free = msgspec.structs.replace(problem, budget_j=np.full(1, np.inf), fleet_budget_j=np.inf)
    costs = cost_of(free, trial_of(equal_shares(free)))
    return problem.rounds * costs.device_board_j


@pytest.fixture
def boards(fleet: Any) -> FimiProblem:
    """Three boards for seven rounds."""
    made: FimiProblem = msgspec.structs.replace(
        tfl(fleet(0, 3)),
        t_max_s=np.full(3, 60.0),
        bandwidth_hz=1e7,
        idle_power_w=np.array([2.0, 0.5, 3.0]),
        receive_s=np.ones(3),
        receive_power_w=np.full(3, 0.5),
        energy_per_bit_j=np.full(3, 1e-8),
        rounds=7.0,
    )
    return made


class TestBudgets:
    def test_budgets_are_kept_or_refused(self, boards: FimiProblem) -> None:
        used = used_j(boards)
        enough = msgspec.structs.replace(
            boards, budget_j=used * (1 + 1e-9), fleet_budget_j=float(used.sum()) * (1 + 1e-9)
        )
        assert equal_shares(enough) == equal_shares(boards)
        for field, value in (
            ("budget_j", used * np.array([1.1, 0.999, 1.1])),
            ("fleet_budget_j", float(used.sum()) * 0.999),
        ):
            with pytest.raises(InfeasibleError, match="with equal bandwidth") as caught:
                equal_shares(msgspec.structs.replace(enough, **{field: value}))
            assert caught.value.constraint == "energy budget"

    @pytest.mark.parametrize("share", [0.01, 0.95, 0.999])
    def test_says_who_needs_how_much_and_what_would_be_enough(
        self, boards: FimiProblem, share: float
    ) -> None:
        """The smallest share is below idling."""
        used = used_j(boards)
        budget_j = np.array([np.inf, used[1] * share, used[2] * 1.2])
        problem = msgspec.structs.replace(
            boards, budget_j=budget_j, fleet_budget_j=float(used.sum()) * share
        )
        with pytest.raises(InfeasibleError) as caught:
            equal_shares(problem)
        error, text = caught.value, str(caught.value)
        assert error.devices == ("device-1",)
        if share > 0.5:
            needs = f"device-1 needs {used[1]:.5g} J (modelled)"
            assert f"in 7 rounds {needs} and has {budget_j[1]:g} J" in text
            assert f"the fleet needs {used.sum():.5g} J (modelled) and fleet_budget_j is" in text
        else:
            assert "device-1 takes" in text
            assert "without training" in text
        assert error.budget_needed_j == pytest.approx(used[1], rel=1e-3)
        assert error.fleet_budget_needed_j == pytest.approx(used.sum(), rel=1e-3)
        ((_, changed),) = followed(problem, text)
        costs = cost_of(changed, trial_of(equal_shares(changed)))
        assert costs.broken == {}
        assert changed.budget_j[2] == budget_j[2]

    def test_measured_points_are_no_doubt(self) -> None:
        """There is one plan only: its joules are certain where speeds have steps, too."""
        made, _ = planted(3, 2, Kind(processors="points", empty=False))
        problem = msgspec.structs.replace(tfl(made), t_max_s=made.t_max_s * 9.0, fleet_budget_j=1.0)
        used = used_j(problem)
        problem = msgspec.structs.replace(problem, fleet_budget_j=0.95 * float(used.sum()))
        with pytest.raises(InfeasibleError) as caught:
            equal_shares(problem)
        assert "no proof" not in str(caught.value)
        ((_, changed),) = followed(problem, str(caught.value))
        assert cost_of(changed, trial_of(equal_shares(changed))).broken == {}

    def test_too_late_and_too_dear(self, boards: FimiProblem) -> None:
        """What helps against the deadline comes with the budgets that it needs."""
        problem = msgspec.structs.replace(
            boards, bandwidth_hz=1e5, budget_j=np.full(3, 1.0), fleet_budget_j=2.0
        )
        with pytest.raises(InfeasibleError, match="cannot train and send in time") as caught:
            equal_shares(problem)
        assert caught.value.constraint == "deadline"
        assert caught.value.smallest_t_max_s is caught.value.bandwidth_needed_hz is None
        remedies = list(followed(problem, str(caught.value)))
        assert len(remedies) == 2
        for words, changed in remedies:
            assert "together with budget_j of at least" in words
            assert "together with fleet_budget_j of at least" in words
            assert cost_of(changed, trial_of(equal_shares(changed))).broken == {}
