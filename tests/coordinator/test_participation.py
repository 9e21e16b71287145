from __future__ import annotations

import math
from typing import ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.coordinator.participation import draw, predicted
from fimi.energy.cost_model import OperatingPoint, PhaseCost, download_cost
from fimi.energy.emulation.boards import declare_board
from fimi.messaging.messages.orders import DevicePlan

FLEET = tuple(f"device-{i:02d}" for i in range(20))


def cost(phase: str, duration_s: float) -> PhaseCost:
    return PhaseCost(
        phase=phase,  # type: ignore[arg-type]
        duration_s=duration_s,
        dynamic_j=duration_s,
        board_j=2 * duration_s,
    )


def plan(device: str, busy_s: float) -> DevicePlan:
    return DevicePlan(
        run="r",
        device=device,
        device_index=0,
        synthetic_counts=(0,),
        batch=None,
        point=OperatingPoint(
            frequency_hz=1e9, bandwidth_hz=1e5, transmit_power_w=0.1, time_split=0.5
        ),
        predicted=(cost("compute", busy_s), cost("idle", 100.0)),
    )


class TestDraw:
    @given(st.integers(0, 5), st.integers(1, 50), st.integers(1, 25))
    def test_as_many_as_asked_for_without_repetition(
        self, seed: int, number: int, count: int
    ) -> None:
        drawn = draw(FLEET, FLEET, count, seed=seed, number=number)
        assert len(set(drawn)) == len(drawn) == min(count, len(FLEET))
        assert list(drawn) == sorted(drawn)

    def test_zero_draws_everybody_who_is_there(self) -> None:
        assert draw(FLEET, FLEET[3:7], 0, seed=0, number=1) == FLEET[3:7]

    def test_seed_and_round_decide(self) -> None:
        first = draw(FLEET, FLEET, 5, seed=1, number=1)
        assert first == draw(reversed(FLEET), set(FLEET), 5, seed=1, number=1)  # type: ignore[arg-type]
        assert first != draw(FLEET, FLEET, 5, seed=1, number=2)
        assert first != draw(FLEET, FLEET, 5, seed=2, number=1)

    @given(st.integers(1, 30), st.sampled_from(FLEET))
    def test_an_absent_device_changes_nothing_for_the_others(self, number: int, gone: str) -> None:
        whole = draw(FLEET, FLEET, 5, seed=0, number=number)
        without = draw(FLEET, set(FLEET) - {gone}, 5, seed=0, number=number)
        assert len(without) == 5 and gone not in without
        assert set(whole) - {gone} <= set(without)

    def test_over_many_rounds_everybody_has_the_same_chance(self) -> None:
        times = dict.fromkeys(FLEET, 0)
        for number in range(2000):
            for device in draw(FLEET, FLEET, 5, seed=0, number=number):
                times[device] += 1
        # Binomial(2000, 1/4): 500 ± 19.4; five standard deviations.
        assert all(abs(count - 500) < 97 for count in times.values())


class TestPredicted:
    BOARD = declare_board("raspberry-pi-4", seed=0, index=0, cycles_per_sample=1e6).model
    PLANS: ClassVar = {"a": plan("a", 3.0), "b": plan("b", 5.0), "c": plan("c", 9.0)}

    def of(self, *drawn: str) -> dict[str, tuple[PhaseCost, ...]]:
        return predicted(self.PLANS, drawn, dict.fromkeys(self.PLANS, self.BOARD))

    def test_a_round_lasts_as_long_as_its_slowest_participant(self) -> None:
        found = self.of("a", "b")
        assert {d: math.fsum(c.duration_s for c in costs) for d, costs in found.items()} == {
            "a": 5.0,
            "b": 5.0,
            "c": 5.0,
        }

    def test_who_rests_draws_idle_power_and_nothing_else(self) -> None:
        (idle,) = self.of("a")["c"]
        assert (idle.phase, idle.dynamic_j) == ("idle", 0.0)
        assert idle.board_j == pytest.approx(3.0 * self.BOARD.idle_power_w)

    def test_who_rests_receives_what_is_due_first(self) -> None:
        receiving = download_cost("synthetic-download", self.BOARD, 1e6)
        rests = self.PLANS["c"]
        plans = self.PLANS | {
            "c": msgspec.structs.replace(rests, predicted=(receiving, *rests.predicted))
        }
        found = predicted(plans, ("a",), dict.fromkeys(plans, self.BOARD))
        assert [cost.phase for cost in found["c"]] == ["synthetic-download", "idle"]
        assert found["c"][0] == receiving
        assert math.fsum(c.duration_s for c in found["c"]) == pytest.approx(3.0)
        assert found["a"] == self.of("a")["a"]

    def test_participants_keep_their_work(self) -> None:
        assert self.of("a", "c")["a"][0] == self.PLANS["a"].predicted[0]
