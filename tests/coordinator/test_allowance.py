"""Budgets are those of the whole run: what boards have taken is subtracted."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import msgspec
import numpy as np
import pytest
from lab import Lab
from scripted import honest, record
from two_devices import TWO

from fimi.coordinator import allowance
from fimi.coordinator.fleet_planner import FleetPlanner
from fimi.coordinator.payloads import PayloadSizes
from fimi.coordinator.settings import PlanSettings, RoundSettings
from fimi.energy.cost_model import PhaseCost
from fimi.energy.emulation.boards import fleet
from fimi.energy.hardware import HardwareDescription
from fimi.energy.joules import Energy
from fimi.energy.meters import MeterDescription
from fimi.learning.training.trainer import Evaluation
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.messages.facts import Profile
from fimi.optim.problem import InfeasibleError
from fimi.record.events import Refitted
from fimi.record.results import DeviceRound, RoundResult
from fimi.testbed.configuration.sections import Config, RunConfig

METER = MeterDescription(source="x", kind="emulated", scope="board", rate_hz=1.0)
EVALUATION = Evaluation(accuracy=0.5, loss=1.0, class_accuracy=(None,), samples=1)
PROBLEM = msgspec.structs.replace(TWO, budget_j=np.array([100.0, np.inf]), fleet_budget_j=400.0)


@pytest.fixture
def lab(a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path) -> Lab:
    return Lab(a_broker, fleet_name, tmp_path)


@pytest.fixture
def profiles() -> dict[str, Profile]:
    return {
        f"device-{i}": Profile(
            device=f"device-{i}",
            boot_id="1",
            dataset="three",
            label_counts=(40, 9 * i, 2),
            hardware=HardwareDescription(board="x", kind="emulated", meter=METER),
            board=board.model,
            backend="x",
        )
        for i, board in enumerate(fleet(3, 0, cycles_per_sample=4e6))
    }


def cost(joules: float) -> PhaseCost:
    return PhaseCost(phase="compute", duration_s=1.0, board_j=joules, dynamic_j=0.0)


def entry(
    device: str, *joules: float | None, expected: float | None = None, **more: object
) -> DeviceRound:
    status = more.pop("status", "accepted")
    return DeviceRound(
        device=device,
        status=status,  # type: ignore[arg-type]
        phases=tuple(record("compute", each) for each in joules),
        predicted=() if expected is None else (cost(expected),),
        **more,  # type: ignore[arg-type]
    )


def rounds(*entries: tuple[DeviceRound, ...]) -> list[RoundResult]:
    return [
        RoundResult(number=n, start_s=0.0, duration_s=1.0, evaluation=EVALUATION, devices=devices)
        for n, devices in enumerate(entries, 1)
    ]


def modelled(joules: float) -> Energy:
    return Energy(value_j=joules, kind="modelled", source="highest power of the board")


@pytest.mark.parametrize(
    ("of_round", "joules"),
    [
        (entry("a", 2.0, 3.0, expected=9.0), 5.0),
        (entry("a", 2.0, None, expected=9.0), 9.0),
        (entry("a", 12.0, None, expected=9.0), 12.0),
        (entry("a", expected=9.0, status="missing", unknown_max=modelled(30.0)), 9.0),
        (entry("a", 2.0, status="failed", unknown_max=modelled(30.0)), 32.0),
        (entry("a", 1.0, expected=1.2, status="resting"), 1.0),
    ],
)
def test_metered_joules_come_first(of_round: DeviceRound, joules: float) -> None:
    assert allowance.taken_j(rounds((of_round,), (of_round,))) == {"a": pytest.approx(2 * joules)}


def test_who_was_outside_has_taken_nothing() -> None:
    assert allowance.taken_j(rounds((entry("a", status="absent"),))) == {}


def test_the_rest_is_for_the_rounds_that_are_left() -> None:
    found = allowance.remaining(
        PROBLEM,
        rounds((entry("a", 12.0), entry("b", 30.0)), (entry("a", 8.0), entry("b", 30.0))),
        10,
    )
    assert found.budget_j.tolist() == [80.0, math.inf]
    assert found.fleet_budget_j == pytest.approx(320.0)
    assert found.rounds == pytest.approx(8.0)


def test_a_budget_that_is_used_up_is_named() -> None:
    with pytest.raises(InfeasibleError) as raised:
        allowance.remaining(PROBLEM, rounds((entry("a", 101.0), entry("b", 300.0))), 10)
    assert raised.value.devices == ("a",)
    assert (
        "a has taken 101 J (metered, and modelled where it was not) and its budget is 100 J"
        in str(raised.value)
    )
    assert (
        "the fleet has taken 401 J (metered, and modelled where it was not) and its budget is 400 J"
        in str(raised.value)
    )
    assert "after 1 of 10 rounds" in str(raised.value)


def lasting(settings: PlanSettings, lately: int = 2, received_j: float = 0.0) -> tuple[str, ...]:
    """After 4 of 10 rounds: a takes 1 J in the first two and 3 J in the others, b always 2 J."""
    results = rounds(
        *[(entry("a", 1.0), entry("b", 2.0))] * 2, *[(entry("a", 3.0), entry("b", 2.0))] * 2
    )
    return allowance.short(results, lately, 10, settings, {"a": received_j})


def test_the_rounds_of_late_say_how_it_goes_on() -> None:
    # a: 8 + 6 · 3 = 26 J, b: 8 + 6 · 2 = 20 J
    assert lasting(PlanSettings()) == ()
    assert lasting(PlanSettings(device_budget_j=26.0)) == ()
    assert lasting(PlanSettings(device_budget_j=25.5)) == ("a",)
    assert lasting(PlanSettings(device_budget_j=26.0), received_j=1.0) == ("a",)
    assert lasting(PlanSettings(device_budget_j=19.0)) == ("a", "b")
    assert lasting(PlanSettings(fleet_budget_j=45.0)) == (allowance.FLEET,)
    assert lasting(PlanSettings(fleet_budget_j=46.0)) == ()
    assert lasting(PlanSettings(device_budget_j=19.0), lately=0) == ()


class TestNewPlans:
    """Plans of a fleet of boards for the rounds that are left."""

    SETTINGS = Config(
        run=RunConfig(strategy="tfl"),
        plan=PlanSettings(objective="dynamic", deadline_s=30.0),
        rounds=RoundSettings(count=10),
    )

    def planner(self, **changes: float) -> FleetPlanner:
        plan = msgspec.structs.replace(self.SETTINGS.plan, **changes)
        return FleetPlanner(
            msgspec.structs.replace(self.SETTINGS, plan=plan), PayloadSizes.plain(20_000)
        )

    def used_j(
        self, planner: FleetPlanner, profiles: dict[str, Profile], results: list[RoundResult]
    ) -> float:
        found = planner.replan(profiles, dict.fromkeys(profiles, (0, 0, 0)), None, results)
        return found.board.energy_j * (10 - len(results))

    def test_what_was_taken_makes_the_others_cheaper(self, profiles: dict[str, Profile]) -> None:
        free_j = self.used_j(self.planner(), profiles, [])
        budget_j = 0.97 * free_j
        half = {d: 0.5 * budget_j / len(profiles) / 5 for d in profiles}
        as_planned = rounds(*[tuple(entry(d, half[d]) for d in profiles)] * 5)
        dearer = rounds(*[tuple(entry(d, 1.02 * half[d]) for d in profiles)] * 5)
        planner = self.planner(fleet_budget_j=budget_j)
        first = self.used_j(planner, profiles, as_planned)
        second = self.used_j(planner, profiles, dearer)
        assert first <= 0.5 * budget_j * (1 + 1e-6)
        assert second <= 0.49 * budget_j * (1 + 1e-6)
        assert second < first

    def test_too_little_is_told_in_joules_that_are_left(self, profiles: dict[str, Profile]) -> None:
        free_j = self.used_j(self.planner(), profiles, [])
        most = rounds(tuple(entry(d, 0.9 * free_j / len(profiles)) for d in profiles))
        with pytest.raises(InfeasibleError) as raised:
            self.used_j(self.planner(fleet_budget_j=free_j), profiles, most)
        assert "no plan was found for the 9 rounds left: the fleet has" in str(raised.value)
        assert f"of {free_j:g} J left" in str(raised.value)

    def test_what_the_rounds_left_would_take_is_told_as_well(
        self, profiles: dict[str, Profile]
    ) -> None:
        results = rounds(*[tuple(entry(d, 40.0) for d in profiles)] * 5)
        planner = self.planner(fleet_budget_j=601.0, device_budget_j=201.0)
        with pytest.raises(InfeasibleError) as raised:
            planner.replan(profiles, dict.fromkeys(profiles, (0, 0, 0)), None, results, lately=2)
        assert "left: if they are as the last 2 were, " in str(raised.value)
        assert "device-0 takes about 200 J (modelled) and has 1 of 201 J left" in str(raised.value)
        assert "the fleet takes about 600 J (modelled) and has 1 of 601 J left" in str(raised.value)

    @pytest.mark.parametrize("budget_j", [0.0, 1e6])
    def test_remedies_of_other_limits_are_told(
        self, profiles: dict[str, Profile], budget_j: float
    ) -> None:
        planner = self.planner(deadline_s=0.1, fleet_budget_j=budget_j)
        with pytest.raises(InfeasibleError) as raised:
            self.used_j(planner, profiles, [])
        assert raised.value.constraint == "deadline"
        assert "feasible with" in str(raised.value)


def test_receiving_is_no_joule_that_is_left() -> None:
    results = rounds((entry("a", 12.0), entry("b", 30.0)))
    left = allowance.remaining(PROBLEM, results, 10)
    error = allowance.too_small(
        left, PROBLEM, ("a", "b"), 9, received_j=np.array([5.0, 1.0]), last=results
    )
    assert (
        "if they are as the last one was, a takes about 108 J (modelled) and has 83 of 100 J left"
        in str(error)
    )
    assert "the fleet takes about 378 J (modelled) and has 352 of 400 J left" in str(error)


def test_a_run_plans_again_where_its_budget_would_not_last(lab: Lab) -> None:
    """The predictions hold by the limit on drift, and the joules do not last all the same."""
    calm = PlanSettings(deadline_s=10.0, iterations=20, refit_percent=1e6)
    free = lab.run(honest(), rounds=4, plan=calm)
    taken_j = math.fsum(allowance.taken_j(free.rounds).values())
    assert not lab.said(Refitted)
    lab.path.unlink()
    tight = msgspec.structs.replace(calm, device_budget_j=0.95 * taken_j)
    lab.run(honest(), rounds=4, plan=tight)
    (refit,) = [event for event in lab.events if isinstance(event, Refitted)]
    assert (refit.round, refit.short, refit.drift_percent) == (3, ("device-1",), {})


def test_a_budget_without_a_plan_is_told_once(lab: Lab) -> None:
    calm = PlanSettings(deadline_s=10.0, iterations=20, refit_percent=1e6, refit_window=2)
    free = lab.run(honest(), rounds=2, plan=calm)
    taken_j = math.fsum(allowance.taken_j(free.rounds).values())
    assert free.plan is not None
    assert 8 * free.plan.board.energy_j < taken_j  # there is a plan until the boards are fitted
    lab.path.unlink()
    budget = msgspec.structs.replace(calm, device_budget_j=1.4 * taken_j)
    lab.run(honest(), rounds=8, plan=budget)
    (told,) = [event for event in lab.events if isinstance(event, Refitted)]
    assert (told.energy_j, told.short) == (None, ("device-1",))
    assert "rounds left: if they are as the last 2 were, device-1 takes about" in told.reason


def test_boards_are_kept_where_drifts_say_nothing_of_them(lab: Lab) -> None:
    calm = PlanSettings(deadline_s=10.0, iterations=20, error_max=1.0, refit_percent=1.0)
    free = lab.run(honest(), rounds=4, plan=calm, strategy="semi")
    taken_j = math.fsum(allowance.taken_j(free.rounds).values())
    assert not lab.said(Refitted)
    lab.path.unlink()
    tight = msgspec.structs.replace(calm, device_budget_j=0.95 * taken_j)
    lab.run(honest(), rounds=4, plan=tight, strategy="semi")
    (again,) = [event for event in lab.events if isinstance(event, Refitted)]
    assert (again.short, again.drift_percent, again.fitted) == (("device-1",), {}, False)
    with sqlite3.connect(lab.path) as db:
        assert db.execute("SELECT count(*) FROM refit").fetchone() == (0,)
