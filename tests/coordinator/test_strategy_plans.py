"""One contract for the plans of all strategies, and what is special about each."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from fimi.coordinator.planning import FleetInputs, make_problem
from fimi.coordinator.settings import (
    PlanSettings,
    RoundSettings,
    StrategySettings,
)
from fimi.coordinator.strategies import STRATEGIES, Strategy
from fimi.coordinator.strategy_plans import StrategyPlan, make_plans, replan, with_data
from fimi.energy.cost_model import compute_time_s, uplink_rate_bps
from fimi.energy.emulation.boards import fleet
from fimi.energy.hardware import HardwareDescription
from fimi.energy.meters import MeterDescription
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.messages.facts import Profile
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.planner import Plan, SearchSettings, plan
from fimi.optim.problem import FimiProblem, InfeasibleError, tfl
from fimi.testbed.configuration.sections import Config, FleetConfig, RunConfig

MODEL_BYTES = 153_600
COUNTS = {"device-1": (40, 0, 2), "device-2": (3, 30, 30), "device-3": (0, 0, 9)}
ROUNDS = 4
OPTIONS = StrategySettings(images_per_round=5, images_max=12)


def settings_of(name: str, deadline_s: float = 10.0) -> Config:
    return Config(
        run=RunConfig(strategy=name),
        fleet=FleetConfig(devices=3),
        training=TrainingSettings(epochs=5),
        plan=PlanSettings(iterations=40, deadline_s=deadline_s, error_max=0.08),
        rounds=RoundSettings(count=ROUNDS),
        strategy=OPTIONS,
    )


def problem_of(name: str, deadline_s: float = 10.0) -> FimiProblem:
    meter = MeterDescription(source="x", kind="emulated", scope="board", rate_hz=1.0)
    boards = fleet(3, 0, cycles_per_sample=4e6)
    profiles = {
        device: Profile(
            device=device,
            boot_id="1",
            dataset="three",
            label_counts=counts,
            hardware=HardwareDescription(board="x", kind="emulated", meter=meter),
            board=board.model,
            backend="x",
        )
        for (device, counts), board in zip(COUNTS.items(), boards, strict=True)
    }
    return make_problem(
        FleetInputs(
            profiles=profiles,
            settings=settings_of(name, deadline_s),
            strategy=STRATEGIES[name],
            model_bytes=MODEL_BYTES,
            curve=LearningCurve(alpha=5.8, beta=0.93, delta0=0.027),
        )
    )


def solve(problem: FimiProblem) -> Plan:
    return plan(problem, seed=0, settings=SearchSettings(iterations=40))


@cache
def made(name: str) -> StrategyPlan:
    return make_plans(STRATEGIES[name], problem_of(name), solve, settings=OPTIONS, rounds=ROUNDS)


def amounts(name: str) -> list[int]:
    found = made(name).plan
    assert found is not None
    return [sum(share.synthetic_counts) for share in found.devices]


TRAINING = [name for name, strategy in STRATEGIES.items() if strategy.devices_train]


class TestContract:
    @pytest.mark.parametrize("name", TRAINING)
    def test_the_same_limits(self, name: str) -> None:
        problem, found = problem_of(name), made(name).plan
        assert found is not None
        band_hz = sum(share.point.bandwidth_hz for share in found.devices)
        assert band_hz <= problem.bandwidth_hz * (1 + 1e-9)
        for i, share in enumerate(found.devices):
            point = share.point
            assert share.samples == problem.local_samples[i] + sum(share.synthetic_counts)
            assert min(share.synthetic_counts) >= 0
            assert sum(share.synthetic_counts) <= problem.generated_max[i]
            assert point.frequency_hz <= problem.frequency_max_hz[i] * (1 + 1e-9)
            assert point.transmit_power_w <= problem.transmit_power_max_w[i] * (1 + 1e-9)
            cycles = problem.cycles_per_pass[i] * share.samples
            rate = uplink_rate_bps(
                point.bandwidth_hz,
                point.transmit_power_w,
                problem.channel_gain[i],
                problem.noise_density_w_per_hz[i],
            )
            busy_s = compute_time_s(cycles, point.frequency_hz) + problem.payload_bits[i] / rate
            assert busy_s <= problem.t_max_s[i] * (1 + 1e-6)

    @pytest.mark.parametrize("name", STRATEGIES)
    def test_devices_are_sent_what_the_strategy_says(self, name: str) -> None:
        strategy, found = STRATEGIES[name], made(name).plan
        if not strategy.devices_train:
            assert found is None
        elif strategy.data == "local":
            assert amounts(name) == [0, 0, 0]
        elif strategy.data == "even":
            assert amounts(name) == [math.ceil(sum(amounts("fimi")) / 3)] * 3
        else:
            assert amounts(name) == amounts("fimi")
            assert sum(amounts(name)) > 0

    @pytest.mark.parametrize("name", STRATEGIES)
    def test_the_server_gets_images_where_it_trains(self, name: str) -> None:
        strategy, counts = STRATEGIES[name], made(name).server_counts
        assert (sum(counts) > 0) == strategy.trains_on_server
        assert strategy.needs_images == (
            strategy.trains_on_server or strategy.data in ("filled", "even", "unlabelled")
        )

    @pytest.mark.parametrize("name", STRATEGIES)
    def test_names(self, name: str) -> None:
        assert STRATEGIES[name].name == name
        assert len(STRATEGIES[name].title) > len(name)

    @pytest.mark.parametrize("name", TRAINING)
    def test_the_same_plan_every_time(self, name: str) -> None:
        again = make_plans(
            STRATEGIES[name], problem_of(name), solve, settings=OPTIONS, rounds=ROUNDS
        )
        first = made(name).plan
        assert first is not None
        assert again.plan is not None
        assert again.plan.devices == first.devices
        assert again.server_counts == made(name).server_counts


class TestEach:
    def test_gan_and_clsd_are_planned_as_fimi_is(self) -> None:
        fimi = made("fimi").plan
        assert fimi is not None
        for name in ("gan", "clsd", "fimi-genfl"):
            other = made(name).plan
            assert other is not None
            assert other.devices == fimi.devices
        assert (STRATEGIES["gan"].images, STRATEGIES["clsd"].images) == ("gan", "public")

    def test_resources_only_is_tfl(self) -> None:
        one, other = made("resources-only").plan, made("tfl").plan
        assert one is not None
        assert other is not None
        assert one.devices == other.devices

    def test_hdc_spreads_the_amount_so_that_classes_are_alike(self) -> None:
        found = made("hdc").plan
        assert found is not None
        for counts, share in zip(COUNTS.values(), found.devices, strict=True):
            mixed = np.add(counts, share.synthetic_counts)
            grown = [n for n, added in zip(mixed, share.synthetic_counts, strict=True) if added]
            assert max(grown) - min(grown) <= 1

    def test_hdc_says_what_error_its_data_has(self) -> None:
        found, fimi = made("hdc").plan, made("fimi").plan
        assert found is not None
        assert fimi is not None
        assert found.error == pytest.approx(
            problem_of("hdc").error(np.array([s.samples for s in found.devices], float))
        )

    def test_genfl_grows_a_balanced_set_of_classes_that_somebody_holds(self) -> None:
        assert made("genfl").server_counts == (12, 12, 12)  # 5 a round up to 12
        problem = problem_of("genfl")
        counts = np.array(problem.local_counts)
        counts[:, 1] = 0
        few = with_data(problem, counts - problem.local_counts)
        few_plan = make_plans(STRATEGIES["genfl"], few, solve, settings=OPTIONS, rounds=2)
        assert few_plan.server_counts == (10, 0, 10)

    def test_sst_keeps_fimis_images_on_the_server(self) -> None:
        fimi, found, local = made("fimi").plan, made("sst").plan, made("tfl").plan
        assert fimi is not None
        assert found is not None
        assert local is not None
        by_class = np.sum([share.synthetic_counts for share in fimi.devices], axis=0)
        assert made("sst").server_counts == tuple(by_class)
        assert found.devices == local.devices

    def test_semi_asks_for_every_class_alike_and_has_time_to_look(self) -> None:
        problem, found = problem_of("semi"), made("semi").plan
        assert found is not None
        for i, share in enumerate(found.devices):
            images = sum(share.synthetic_counts)
            assert max(share.synthetic_counts) - min(share.synthetic_counts) <= 1
            work = 5 * share.samples + math.ceil(images / 3)
            least_s = problem.cycles_per_sample[i] * work / share.point.frequency_hz
            assert share.compute_s >= least_s * (1 - 1e-9)

    def test_unplanned_resources_are_equal_shares_at_full_speed(self) -> None:
        for name in ("data-only", "unplanned"):
            problem, found = problem_of(name), made(name).plan
            assert found is not None
            for i, share in enumerate(found.devices):
                assert share.point.bandwidth_hz == pytest.approx(problem.bandwidth_hz / 3)
                assert share.point.frequency_hz == problem.frequency_max_hz[i]
                assert share.point.transmit_power_w == problem.transmit_power_max_w[i]
            assert found.bound_j is None

    def test_a_plan_of_resources_saves_dynamic_energy(self) -> None:
        for planned, unplanned in (("fimi", "data-only"), ("tfl", "unplanned")):
            one, other = made(planned).plan, made(unplanned).plan
            assert one is not None
            assert other is not None
            assert one.energy_j < other.energy_j

    def test_unplanned_resources_that_are_too_slow_say_so(self) -> None:
        problem = tfl(problem_of("unplanned"))
        tight = problem_of("unplanned", deadline_s=1.6)
        assert (tight.t_max_s < problem.t_max_s).all()
        with pytest.raises(InfeasibleError, match=r"equal bandwidth.*every deadline extended by"):
            make_plans(STRATEGIES["unplanned"], tight, solve, settings=OPTIONS, rounds=1)

    @pytest.mark.parametrize("name", ["fimi", "hdc", "data-only"])
    def test_planning_again_keeps_data_and_policy(self, name: str) -> None:
        strategy: Strategy = STRATEGIES[name]
        found = made(name).plan
        assert found is not None
        counts = [share.synthetic_counts for share in found.devices]
        again = replan(strategy, problem_of(name), counts, solve)
        assert [share.samples for share in again.devices] == [s.samples for s in found.devices]
        if not strategy.planned_resources:
            assert [s.point for s in again.devices] == [s.point for s in found.devices]
