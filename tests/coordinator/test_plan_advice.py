"""Remedies in the keys of the configuration, written into it as they are printed."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import numpy as np
import pytest

from fimi.coordinator.fleet_planner import FleetPlanner
from fimi.coordinator.payloads import PayloadSizes
from fimi.coordinator.plan_advice import advised, in_keys
from fimi.coordinator.settings import PlanSettings, RoundSettings
from fimi.energy.emulation.boards import fleet
from fimi.energy.hardware import HardwareDescription
from fimi.energy.meters import MeterDescription
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.messages.facts import Profile
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.problem import InfeasibleError
from fimi.testbed.configuration.sections import Config, FleetConfig, RunConfig

METER = MeterDescription(source="x", kind="emulated", scope="board", rate_hz=1.0)
MODEL_BYTES = 153_600
NUMBER = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
COUNTS = [(40, 0, 2), (3, 30, 30), (0, 0, 9), (12, 1, 0), (5, 5, 5), (9, 0, 1), (0, 33, 2)]


def profiles(count: int = 3) -> dict[str, Profile]:
    boards = fleet(count, 0, cycles_per_sample=4e6)
    return {
        f"device-{index}": Profile(
            device=f"device-{index}",
            boot_id="1",
            dataset="three",
            label_counts=COUNTS[index % len(COUNTS)],
            hardware=HardwareDescription(board="x", kind="emulated", meter=METER),
            board=board.model,
            backend="x",
        )
        for index, board in enumerate(boards)
    }


def planner(config: Config) -> FleetPlanner:
    curve = LearningCurve(alpha=5.8, beta=0.93, delta0=0.027)
    return FleetPlanner(config, PayloadSizes.plain(MODEL_BYTES), sample_bytes=64.0, curve=curve)


def followed(config: Config, text: str) -> list[tuple[str, Config]]:
    """The configuration with each of the remedies of a text."""
    advice = text.splitlines()[0].partition("; feasible with ")[2]
    found = []
    for remedy in advice.split(", or ") if advice else ():
        keys: dict[str, Any] = {}
        for part in remedy.split(" together with "):
            match = re.fullmatch(rf"plan\.(\w+) of at least {NUMBER}", part)
            assert match is not None, part
            whole = match[1] == "synthetic_max"
            keys[match[1]] = int(match[2]) if whole else float(match[2])
        limits = msgspec.convert({**msgspec.to_builtins(config.plan), **keys}, PlanSettings)
        found.append((remedy, msgspec.structs.replace(config, plan=limits)))
    return found


CASES: dict[str, dict[str, Any]] = {
    "deadline": {"plan": {"deadline_s": 0.4}},
    "shorter than the download": {"plan": {"deadline_s": 0.01}},
    "error": {"plan": {"error_max": 0.05, "deadline_s": 3.0}},
    "too little synthetic data": {"plan": {"error_max": 0.08, "synthetic_max": 10}},
    "neither time nor data": {"plan": {"error_max": 0.03, "synthetic_max": 10, "deadline_s": 0.3}},
    "band": {"plan": {"bandwidth_hz": 900.0}},
    "worth less": {"plan": {"error_max": 0.06, "deadline_s": 3.0, "synthetic_value": 0.6}},
    "target": {"plan": {"target_accuracy": 0.9, "deadline_s": 0.4}},
    "local data": {"strategy": "tfl", "plan": {"deadline_s": 0.4}},
    "data only": {"strategy": "data-only", "plan": {"deadline_s": 2.0}},
    "unplanned": {"strategy": "unplanned", "plan": {"deadline_s": 0.4}},
    "steps": {"steps": 40, "plan": {"deadline_s": 0.5}},
    "steps and error": {"steps": 40, "plan": {"error_max": 0.05, "synthetic_max": 3}},
    "a fleet's budget": {"plan": {"fleet_budget_j": 9.0}},
    "unplanned, a battery": {"strategy": "unplanned", "plan": {"device_budget_j": 60.0}},
    "unplanned, a fleet's budget": {"strategy": "unplanned", "plan": {"fleet_budget_j": 200.0}},
    "data only, a fleet's budget": {"strategy": "data-only", "plan": {"fleet_budget_j": 290.0}},
    "both budgets": {"plan": {"fleet_budget_j": 9.0, "device_budget_j": 1.0}},
}


@pytest.mark.parametrize("case", CASES)
def test_every_remedy_can_be_written_into_the_configuration(case: str) -> None:
    given = CASES[case]
    config = Config(
        run=RunConfig(strategy=given.get("strategy", "fimi")),
        fleet=FleetConfig(devices=3),
        rounds=RoundSettings(count=4),
        training=TrainingSettings(epochs=5, steps=given.get("steps", 0)),
        plan=PlanSettings(iterations=40, **{"error_max": 0.08, **given["plan"]}),
    )
    with pytest.raises(InfeasibleError) as caught:
        planner(config).plan(profiles())
    remedies = followed(config, str(caught.value))
    assert remedies, str(caught.value)
    for _, changed in remedies:
        assert planner(changed).plan(profiles()).plan is not None


def test_at_most_five_devices_are_named() -> None:
    config = Config(fleet=FleetConfig(devices=12), plan=PlanSettings(deadline_s=0.15))
    with pytest.raises(InfeasibleError) as caught:
        planner(config).plan(profiles(12))
    assert str(caught.value).count("device-") == 5
    assert len(caught.value.devices) > 5


def test_limits_of_a_problem_have_the_names_of_the_configuration() -> None:
    text = "fleet_budget_j is 3, budget_j 1, t_max_s 2; plan.error_max stays, error_max does not"
    assert in_keys(text) == (
        "plan.fleet_budget_j is 3, plan.device_budget_j 1, plan.deadline_s 2; plan.error_max "
        "stays, plan.error_max does not"
    )


def test_an_error_with_remedies_has_all_that_the_error_had() -> None:
    given = InfeasibleError(
        "error_max is too small",
        constraint="learning error",
        devices=["a", "b"],
        smallest_t_max_s=np.array([3.0, 4.0]),
        smallest_error_max=0.2,
        bandwidth_needed_hz=1e5,
        generated_max_needed=30.0,
        together=(0.1, 2.0),
        budget_needed_j=50.0,
        fleet_budget_needed_j=90.0,
    )
    plan = PlanSettings()
    found = advised(
        given,
        plan,
        lambda _: planner(Config(plan=plan))._problem(profiles(2)),
        lambda _: False,
        lambda _: None,
    )
    own = {"what", "remedies"}
    assert {k: v for k, v in vars(found).items() if k not in own} == {
        k: v for k, v in vars(given).items() if k not in own
    }
