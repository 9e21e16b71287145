"""From profiles to what each device is told."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from fimi.coordinator.checkpoint import PlanPart
from fimi.coordinator.device_plans import DevicePlans
from fimi.coordinator.fleet_planner import FleetPlanner
from fimi.coordinator.participation import predicted
from fimi.coordinator.payloads import PayloadSizes
from fimi.coordinator.planning import (
    FleetInputs,
    cheapest,
    device_plans,
    expecting,
    make_problem,
    smallest_deadline_s,
    training_of,
)
from fimi.coordinator.settings import (
    BAND_ALONE_HZ,
    BAND_PER_DEVICE_HZ,
    PlanSettings,
    RoundSettings,
)
from fimi.coordinator.strategies import STRATEGIES, Strategy
from fimi.energy.cost_model import download_cost, predict_round
from fimi.energy.emulation.boards import fleet
from fimi.energy.hardware import HardwareDescription
from fimi.energy.host_profile import HostProfile
from fimi.energy.meters import MeterDescription
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.messages.facts import Profile
from fimi.messaging.messages.orders import DevicePlan
from fimi.optim import quality
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.planner import Plan, SearchSettings, plan
from fimi.optim.problem import FimiProblem, InfeasibleError
from fimi.optim.problem_file import read
from fimi.optim.rounds_model import RoundsModel
from fimi.testbed.configuration.sections import Config, FleetConfig

METER = MeterDescription(source="x", kind="emulated", scope="board", rate_hz=1.0)
MODEL_BYTES = 153_600
COUNTS = {"device-1": (40, 0, 2), "device-2": (3, 30, 30), "device-3": (0, 0, 9)}
CURVE = LearningCurve(alpha=5.8, beta=0.93, delta0=0.027)
SETTINGS = Config(
    fleet=FleetConfig(devices=3),
    training=TrainingSettings(epochs=5),
    plan=PlanSettings(iterations=40),
)


def profiles() -> dict[str, Profile]:
    boards = fleet(3, 0, cycles_per_sample=4e6)
    return {
        name: Profile(
            device=name,
            boot_id="1",
            dataset="three",
            label_counts=counts,
            hardware=HardwareDescription(board="x", kind="emulated", meter=METER),
            board=board.model,
            backend="x",
        )
        for (name, counts), board in zip(COUNTS.items(), boards, strict=True)
    }


def inputs(
    fleet_profiles: dict[str, Profile],
    settings: Config,
    strategy: Strategy,
    *,
    model_bytes: int = MODEL_BYTES,
    update_bytes: int | None = None,
    sample_bytes: float = 0.0,
) -> FleetInputs:
    """What the problem of these devices is made of, by the curve of this file."""
    return FleetInputs(
        profiles=fleet_profiles,
        settings=settings,
        strategy=strategy,
        model_bytes=model_bytes,
        update_bytes=update_bytes,
        sample_bytes=sample_bytes,
        curve=CURVE,
    )


def plans_of(
    found: Plan,
    fleet_profiles: Mapping[str, Profile],
    settings: Config,
    delivered: Mapping[str, tuple[int, ...]],
    *,
    unlabelled: bool = False,
) -> dict[str, DevicePlan]:
    """The device plans of a run without offers of batches."""
    return device_plans(
        found,
        fleet_profiles,
        settings,
        run="r",
        model_bytes=MODEL_BYTES,
        delivered=delivered,
        batches={},
        indices={device: index for index, device in enumerate(fleet_profiles)},
        unlabelled=unlabelled,
    )


@pytest.mark.parametrize(("devices", "band_hz"), [(1, BAND_ALONE_HZ), (2, 40e3), (3, 60e3)])
def test_the_band_follows_from_the_number_of_devices(devices: int, band_hz: float) -> None:
    few = dict(list(profiles().items())[:devices])
    assert make_problem(inputs(few, SETTINGS, STRATEGIES["fimi"])).bandwidth_hz == band_hz


@pytest.mark.parametrize("strategy", ["fimi", "tfl"])
def test_every_device_meets_the_deadline_it_was_planned_for(strategy: str) -> None:
    fleet_profiles = profiles()
    problem = make_problem(inputs(fleet_profiles, SETTINGS, STRATEGIES[strategy]))
    found = plan(problem, seed=0, settings=SearchSettings(iterations=40))
    delivered = {share.device: share.synthetic_counts for share in found.devices}
    told = plans_of(found, fleet_profiles, SETTINGS, delivered)
    budget_s = SETTINGS.plan.deadline_s * (1 - SETTINGS.plan.deadline_margin)
    band_hz = sum(share.point.bandwidth_hz for share in told.values())
    assert band_hz <= 3 * BAND_PER_DEVICE_HZ * (1 + 1e-9)
    assert [share.device_index for share in told.values()] == [0, 1, 2]
    for name, share in told.items():
        seconds = math.fsum(cost.duration_s for cost in share.predicted)
        assert seconds <= budget_s * (1 + 1e-6)
        assert [cost.phase for cost in share.predicted] == [
            "model-download",
            "compute",
            "upload",
            "idle",
        ]
        # what a device is told is predicted by the same formulas that the planner minimised
        (planned,) = [p for p in found.devices if p.device == name]
        compute, upload = share.predicted[1], share.predicted[2]
        assert compute.dynamic_j == pytest.approx(planned.compute_j, rel=1e-9)
        assert upload.dynamic_j == pytest.approx(planned.upload_j, rel=1e-6)
        assert compute.duration_s == pytest.approx(planned.compute_s, rel=1e-9)
        # and is to send at the rate that its upload was predicted with
        assert share.point.rate_bps == pytest.approx(8 * MODEL_BYTES / upload.duration_s, rel=1e-9)


@pytest.mark.parametrize("strategy", ["fimi", "tfl"])
def test_a_frequency_that_cannot_be_set_is_not_planned_away(strategy: str) -> None:
    """What a device publishes where nothing sets its clock: one frequency."""
    fixed_hz = 1.3e9
    fleet_profiles = profiles()
    first = fleet_profiles["device-1"]
    compute = msgspec.structs.replace(
        first.board.compute,
        frequency_min_hz=fixed_hz,
        frequency_max_hz=fixed_hz,
        frequency_steps_hz=(),
    )
    board = msgspec.structs.replace(first.board, compute=compute)
    fleet_profiles["device-1"] = msgspec.structs.replace(first, board=board)
    problem = make_problem(inputs(fleet_profiles, SETTINGS, STRATEGIES[strategy]))
    found = plan(problem, seed=0, settings=SearchSettings(iterations=40))
    planned_hz = {share.device: share.point.frequency_hz for share in found.devices}
    assert planned_hz["device-1"] == pytest.approx(fixed_hz, rel=1e-9)
    assert len({round(hz) for hz in planned_hz.values()}) > 1, "the others keep their freedom"


def test_fimi_fills_what_is_missing_and_tfl_fills_nothing() -> None:
    fleet_profiles = profiles()
    shares = {}
    for name in ("fimi", "tfl"):
        problem = make_problem(inputs(fleet_profiles, SETTINGS, STRATEGIES[name]))
        shares[name] = plan(problem, seed=0, settings=SearchSettings(iterations=40)).devices
    assert all(sum(share.synthetic_counts) == 0 for share in shares["tfl"])
    lacking = next(share for share in shares["fimi"] if share.device == "device-3")
    assert lacking.synthetic_counts[0] >= lacking.synthetic_counts[2]
    assert sum(lacking.synthetic_counts) > 0


def test_a_target_accuracy_chooses_the_error_limit() -> None:
    settings = msgspec.structs.replace(
        SETTINGS, plan=msgspec.structs.replace(SETTINGS.plan, target_accuracy=0.9)
    )
    fleet_profiles = profiles()
    given, baseline = (
        make_problem(inputs(fleet_profiles, settings, STRATEGIES[name])) for name in ("fimi", "tfl")
    )
    choice = cheapest(given, settings)
    assert choice is not None
    chosen = choice.apply(given)
    model = RoundsModel()

    def total_j(problem: FimiProblem) -> float:
        return (
            model.at(problem.epochs).rounds(problem.error_max, 0.9)
            * plan(problem, seed=0).search_energy_j
        )

    assert chosen.error_max != given.error_max
    assert total_j(chosen) < total_j(given)
    assert cheapest(baseline, settings) is None
    assert cheapest(given, SETTINGS) is None


def test_the_chosen_epochs_are_what_devices_are_planned_for() -> None:
    """In the training that they are told, and in the predicted time of it."""
    aimed = configured(target_accuracy=0.9, objective="dynamic")
    problem = problem_of(aimed)
    choice, held = cheapest(problem, aimed), cheapest(problem, aimed, hold_epochs=True)
    assert choice is not None and held is not None
    assert {choice.epochs, *(other.epochs for other in choice.others)} == {1, 2, 3, 5, 8}
    assert held.epochs == 5 and not held.others
    as_given = cheapest(
        problem, configured(target_accuracy=0.9, objective="dynamic", choose_epochs=False)
    )
    assert as_given == held
    found = plan(choice.apply(problem), seed=0, settings=SearchSettings(iterations=20))
    delivered = {share.device: share.synthetic_counts for share in found.devices}
    seconds = {}
    for epochs in (None, 2):
        told = plans_of(replace(found, epochs=epochs), profiles(), aimed, delivered)
        compute = [c for share in told.values() for c in share.predicted if c.phase == "compute"]
        seconds[epochs] = sum(cost.duration_s for cost in compute)
        training = training_of(aimed, replace(found, epochs=epochs))
        assert training == replace(aimed.training, epochs=epochs or 5)
    assert seconds[2] == pytest.approx(0.4 * seconds[None])


def test_what_is_expected_is_the_joules_of_the_plan_itself() -> None:
    aimed = configured(target_accuracy=0.9, objective="dynamic")
    problem = problem_of(aimed)
    choice = cheapest(problem, aimed)
    assert choice is not None
    chosen = choice.apply(problem)
    found = expecting(plan(chosen, seed=0, settings=SearchSettings(iterations=20)), chosen, choice)
    assert found.expected is not None
    assert (found.expected.accuracy, found.epochs) == (0.9, choice.epochs)
    assert found.expected.rounds == choice.best.rounds
    assert found.expected.energy_j == pytest.approx(choice.best.total_j, rel=0.05)
    assert found.expected.energy_j == pytest.approx(choice.best.rounds * found.energy_j)


def test_a_shortfall_of_the_generator_is_predicted_with_what_was_delivered() -> None:
    fleet_profiles = profiles()
    problem = make_problem(inputs(fleet_profiles, SETTINGS, STRATEGIES["fimi"]))
    found = plan(problem, seed=0, settings=SearchSettings(iterations=40))
    told = plans_of(found, fleet_profiles, SETTINGS, {})
    share = told["device-3"]
    board = fleet_profiles["device-3"].board
    assert share.synthetic_counts == (0, 0, 0)
    expected = predict_round(
        board,
        share.point,
        cycles=5 * board.compute.cycles_per_sample * sum(COUNTS["device-3"]),
        upload_bits=8 * MODEL_BYTES,
        download_bits=8 * MODEL_BYTES,
    )
    assert share.predicted[:3] == expected


@pytest.mark.parametrize(
    ("strategy", "given_s", "value"),
    [
        ("fimi", 0.01, 1.0),
        ("fimi", 1.0, 1.0),
        ("fimi", 1.0, 0.7),
        ("tfl", 0.01, 1.0),
        ("tfl", 1.0, 1.0),
    ],
)
def test_the_smallest_deadline_can_be_planned_for_and_little_less_cannot(
    strategy: str, given_s: float, value: float
) -> None:
    fleet_profiles, chosen = profiles(), STRATEGIES[strategy]

    def with_deadline(deadline_s: float) -> Config:
        limits = msgspec.structs.replace(
            SETTINGS.plan, deadline_s=deadline_s, error_max=0.1, synthetic_value=value
        )
        return msgspec.structs.replace(SETTINGS, plan=limits)

    def attempt(deadline_s: float) -> None:
        settings = with_deadline(deadline_s)
        problem = make_problem(inputs(fleet_profiles, settings, chosen))
        quick = SearchSettings(iterations=10)
        quality.plan(problem, synthetic_value=value, seed=0, settings=quick)

    smallest_s = smallest_deadline_s(inputs(fleet_profiles, with_deadline(given_s), chosen))
    assert smallest_s is not None
    attempt(smallest_s)
    with pytest.raises(InfeasibleError):
        attempt(0.98 * smallest_s)


def test_no_deadline_helps_where_the_error_cannot_be_reached() -> None:
    limits = msgspec.structs.replace(SETTINGS.plan, error_max=0.0271, synthetic_max=1)
    settings = msgspec.structs.replace(SETTINGS, plan=limits)
    found = smallest_deadline_s(inputs(profiles(), settings, STRATEGIES["fimi"]))
    assert found is None


def configured(rounds: RoundSettings = SETTINGS.rounds, **plan_keys: object) -> Config:
    limits = msgspec.structs.replace(SETTINGS.plan, **plan_keys)
    return msgspec.structs.replace(SETTINGS, plan=limits, rounds=rounds)


def problem_of(settings: Config, sample_bytes: float = 0.0) -> FimiProblem:
    return make_problem(inputs(profiles(), settings, STRATEGIES["fimi"], sample_bytes=sample_bytes))


def test_objective_budgets_and_rounds_reach_the_problem() -> None:
    usual = problem_of(SETTINGS)
    assert (usual.objective, usual.rounds) == ("board", SETTINGS.rounds.count)
    assert np.isinf(usual.budget_j).all()
    assert math.isinf(usual.fleet_budget_j)
    assert (usual.synthetic_j == 0).all()
    settings = configured(
        RoundSettings(count=7), objective="dynamic", device_budget_j=300.0, fleet_budget_j=700.0
    )
    found = problem_of(settings, sample_bytes=32.0)
    assert (found.objective, found.rounds, found.fleet_budget_j) == ("dynamic", 7, 700.0)
    assert found.budget_j.tolist() == [300.0] * 3
    for i, profile in enumerate(profiles().values()):
        sample = download_cost("synthetic-download", profile.board, 8 * 32.0)
        assert found.synthetic_j[i] == pytest.approx(sample.board_j)


@pytest.mark.parametrize("drawn", [1, 2, 3, 5])
def test_k_of_n_plans_for_the_rounds_in_which_each_device_takes_part_once(drawn: int) -> None:
    """A board that takes part in k/n of the rounds idles in all of them."""
    all_of_them = problem_of(configured(RoundSettings(count=60)), sample_bytes=32.0)
    settings = configured(RoundSettings(count=60, participants=drawn))
    found = problem_of(settings, sample_bytes=32.0)
    share = min(1.0, drawn / 3)
    assert found.rounds == pytest.approx(60 * share)
    np.testing.assert_allclose(found.idle_power_w * share, all_of_them.idle_power_w)
    # the board energy of the run: the same whether by rounds or by times that a device takes part
    np.testing.assert_allclose(
        found.rounds * found.idle_power_w, 60 * all_of_them.idle_power_w, rtol=1e-12
    )
    np.testing.assert_array_equal(found.synthetic_j, all_of_them.synthetic_j)


@pytest.mark.parametrize("objective", ["board", "dynamic"])
def test_the_mean_round_of_k_of_n_takes_k_nths_of_the_plan(objective: str) -> None:
    """All draws of 2 of 3 devices, by the prediction of their rounds."""
    settings = configured(RoundSettings(count=60, participants=2), objective=objective)
    fleet_profiles = profiles()
    found = plan(problem_of(settings), seed=0, settings=SearchSettings(iterations=20))
    delivered = {share.device: share.synthetic_counts for share in found.devices}
    told = plans_of(found, fleet_profiles, settings, delivered)
    boards = {device: profile.board for device, profile in fleet_profiles.items()}
    rounds = [predicted(told, drawn, boards) for drawn in itertools.combinations(told, 2)]
    board_j, dynamic_j = [], []
    for costs in rounds:
        phases = [cost for own in costs.values() for cost in own]
        board_j.append(math.fsum(cost.board_j for cost in phases))
        worn = [cost.dynamic_j for cost in phases if cost.phase in ("compute", "upload")]
        dynamic_j.append(math.fsum(worn))
    assert sum(dynamic_j) / len(rounds) == pytest.approx(2 / 3 * found.dynamic.energy_j, rel=1e-6)
    longest_s = max(math.fsum(cost.duration_s for cost in told[d].predicted) for d in told)
    idle_w = sum(board.idle_power_w for board in boards.values())
    short_s = [
        longest_s - max(math.fsum(cost.duration_s for cost in own) for own in costs.values())
        for costs in rounds
    ]
    # a round without the device that the plan's round waits for is shorter
    missed_j = idle_w * sum(short_s) / len(rounds)
    assert sum(board_j) / len(rounds) + missed_j == pytest.approx(
        2 / 3 * found.board.energy_j, rel=1e-6
    )
    assert found.round_s == pytest.approx(longest_s)


def test_a_budget_is_that_of_the_run_whatever_the_target() -> None:
    free = problem_of(configured(target_accuracy=0.9))
    choice = cheapest(free, configured(target_accuracy=0.9), hold_epochs=True)
    assert choice is not None and choice.apply(free).rounds != free.rounds
    settings = configured(target_accuracy=0.9, fleet_budget_j=1e6)
    problem = problem_of(settings)
    choice = cheapest(problem, settings, hold_epochs=True)
    assert choice is not None
    assert choice.apply(problem).rounds == problem.rounds == SETTINGS.rounds.count


def test_a_rate_beyond_the_cap_of_the_radio_is_not_promised() -> None:
    fleet_profiles = profiles()
    found = plan(problem_of(SETTINGS), seed=0, settings=SearchSettings(iterations=10))
    capped = {
        name: msgspec.structs.replace(
            profile,
            board=msgspec.structs.replace(
                profile.board,
                link=msgspec.structs.replace(profile.board.link, rate_cap_bps=1000.0),
            ),
        )
        for name, profile in fleet_profiles.items()
    }
    told = plans_of(found, capped, SETTINGS, {})
    for share in told.values():
        assert share.point.rate_bps == 1000.0
        upload = next(cost for cost in share.predicted if cost.phase == "upload")
        assert upload.duration_s == pytest.approx(8 * MODEL_BYTES / 1000.0)


def test_a_fleet_planned_on_the_desk_is_the_one_that_the_coordinator_plans(tmp_path: Path) -> None:
    """``fimi optimise`` with the devices' profiles and the coordinator solve one problem."""
    settings = configured(RoundSettings(count=7), device_budget_j=300.0)
    fleet_profiles = profiles()
    limits, margin = settings.plan, settings.plan.deadline_margin
    lines = [
        "[problem]",
        f"deadline_s = {limits.deadline_s * (1 - margin)!r}",
        f"bandwidth_hz = {BAND_PER_DEVICE_HZ * 3!r}",
        f"payload_bits = {8.0 * MODEL_BYTES!r}",
        f"epochs = {settings.training.epochs}",
        f"error_max = {limits.error_max!r}",
        f"generated_max = {limits.synthetic_max!r}",
        f"synthetic_bits = {8 * 32.0!r}",
        "rounds_count = 7",
        "budget_j = 300.0",
        "[curve]",
        f"alpha = {CURVE.alpha!r}",
        f"beta = {CURVE.beta!r}",
        f"delta0 = {CURVE.delta0!r}",
    ]
    for name, profile in fleet_profiles.items():
        body = msgspec.json.encode(HostProfile(name=name, board=profile.board))
        (tmp_path / f"{name}.json").write_bytes(body)
        lines += ["[[device]]", f'id = "{name}"', f'profile = "{name}.json"']
        lines += [f"local_counts = {list(profile.label_counts)}"]
    path = tmp_path / "problem.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    found, _ = read(path)
    expected = problem_of(settings, sample_bytes=32.0)
    for field in found.__struct_fields__:
        one, other = getattr(found, field), getattr(expected, field)
        if isinstance(one, np.ndarray):
            np.testing.assert_allclose(one, other, rtol=1e-12, err_msg=field)
        else:
            assert one == other, field


def test_a_new_plan_keeps_the_unlabelled_images() -> None:
    fleet_profiles = profiles()
    found = plan(problem_of(SETTINGS), seed=0, settings=SearchSettings(iterations=20))

    def told(delivered: dict[str, tuple[int, ...]]) -> dict[str, DevicePlan]:
        return plans_of(found, fleet_profiles, SETTINGS, delivered, unlabelled=True)

    first = told({device: (3, 1, index) for index, device in enumerate(fleet_profiles)})
    nothing: Any = None  # neither context nor roster is asked
    plans = DevicePlans(
        nothing, nothing, PayloadSizes.plain(MODEL_BYTES), PlanPart(plan=found, devices=first)
    )
    again = told(plans.delivered)
    assert [each.unlabelled for each in again.values()] == [4, 5, 6]
    assert again == first


def test_later_plans_of_a_run_keep_the_epochs_of_the_first() -> None:
    """Whether resources are planned again, or all of it for another fleet."""
    settings = configured(target_accuracy=0.9, objective="dynamic", iterations=5)
    planner = FleetPlanner(settings, PayloadSizes.plain(MODEL_BYTES), curve=CURVE)
    made = planner.plan(profiles()).plan
    assert made is not None and made.expected is not None and made.epochs != 3
    planner.first = first = replace(made, epochs=3)
    delivered = {share.device: share.synthetic_counts for share in made.devices}
    again = planner.replan(profiles(), delivered, made)
    assert (again.epochs, again.expected) == (3, first.expected)
    whole = planner.plan({name: profiles()[name] for name in ("device-1", "device-3")}).plan
    assert whole is not None and whole.expected is not None
    assert whole.epochs == 3
    plain = (
        FleetPlanner(configured(iterations=5), PayloadSizes.plain(MODEL_BYTES), curve=CURVE)
        .plan(profiles())
        .plan
    )
    assert plain is not None and (plain.epochs, plain.expected) == (None, None)


class TestCodedSizes:
    """A plan is made for the bytes that are sent, each way its own."""

    def test_the_problem_has_the_update_in_the_upload_and_the_model_in_the_download(self) -> None:
        def of(model_bytes: int, update_bytes: int | None) -> FimiProblem:
            return make_problem(
                inputs(
                    profiles(),
                    SETTINGS,
                    STRATEGIES["fimi"],
                    model_bytes=model_bytes,
                    update_bytes=update_bytes,
                )
            )

        plain, coded = of(MODEL_BYTES, None), of(MODEL_BYTES // 2, MODEL_BYTES // 4)
        np.testing.assert_array_equal(plain.payload_bits, 8.0 * MODEL_BYTES)
        np.testing.assert_array_equal(coded.payload_bits, 2.0 * MODEL_BYTES)
        rates = [p.board.link.downlink_rate_bps for _, p in sorted(profiles().items())]
        gained_s = 4.0 * MODEL_BYTES / np.array(rates)
        np.testing.assert_allclose(coded.t_max_s - plain.t_max_s, gained_s)

    def test_the_prediction_of_a_device_scales_with_the_bytes(self) -> None:
        fleet_profiles = profiles()
        problem = make_problem(inputs(fleet_profiles, SETTINGS, STRATEGIES["tfl"]))
        found = plan(problem, seed=0, settings=SearchSettings(iterations=5))

        def of(update_bytes: int | None) -> dict[str, DevicePlan]:
            return device_plans(
                found,
                fleet_profiles,
                SETTINGS,
                run="r",
                model_bytes=MODEL_BYTES,
                update_bytes=update_bytes,
                delivered={},
                batches={},
                indices={device: index for index, device in enumerate(fleet_profiles)},
            )

        whole, quarter = of(None), of(MODEL_BYTES // 4)
        assert of(MODEL_BYTES) == whole
        for device, told in whole.items():
            for before, now in zip(told.predicted, quarter[device].predicted, strict=True):
                if before.phase == "upload":
                    assert now.duration_s == pytest.approx(before.duration_s / 4)
                    assert now.dynamic_j == pytest.approx(before.dynamic_j / 4)
                elif before.phase != "idle":
                    assert now == before

    def test_a_shorter_upload_makes_a_shorter_deadline_possible(self) -> None:
        def least_s(update_bytes: int) -> float:
            found = smallest_deadline_s(
                inputs(profiles(), SETTINGS, STRATEGIES["tfl"], update_bytes=update_bytes)
            )
            assert found is not None
            return found

        assert least_s(MODEL_BYTES // 4) < 0.6 * least_s(MODEL_BYTES)
