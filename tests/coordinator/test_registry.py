from __future__ import annotations

import pytest

from fimi.coordinator.patience import BrokerClock
from fimi.coordinator.registry import Registry
from fimi.energy.emulation.boards import declare_board
from fimi.energy.hardware import HardwareDescription
from fimi.energy.meters import MeterDescription
from fimi.messaging.messages.facts import PlanApplied, Profile
from fimi.messaging.messages.peers import DeviceState

BOARD = declare_board(
    "mini-pc",
    seed=0,
    index=0,
    cycles_per_sample=1e6,
    noise_density_w_per_hz=4e-21,
    path_loss_db=(100.0, 101.0),
    downlink_rate_bps=(1e7, 2e7),
).model


def profile(device: str, boot_id: str) -> Profile:
    meter = MeterDescription(source="x", kind="emulated", scope="board", rate_hz=1.0)
    return Profile(
        device=device,
        boot_id=boot_id,
        dataset="digits",
        label_counts=(1, 2),
        hardware=HardwareDescription(board="mini-pc", kind="emulated", meter=meter),
        board=BOARD,
        backend="x",
    )


def state(
    peer: str, status: str, boot_id: str, role: str = "device", *, goodbye: bool = False
) -> DeviceState:
    return DeviceState(
        peer=peer,
        role=role,  # type: ignore[arg-type]
        status=status,  # type: ignore[arg-type]
        boot_id=boot_id,
        goodbye=goodbye,
    )


def applied(device: str, error: str = "") -> PlanApplied:
    return PlanApplied(run="r", device=device, applied=None, phases=(), error=error)


def test_a_device_is_there_once_it_has_a_profile_and_is_online() -> None:
    registry = Registry()
    registry.heard_state(state("b", "online", "1"))
    assert registry.devices == ()
    assert registry.heard_profile(profile("b", "1"))
    assert registry.heard_profile(profile("a", "1"))
    assert registry.devices == ("b",)  # the broker keeps what a device said that is long gone
    registry.heard_state(state("a", "online", "1"))
    assert registry.devices == ("a", "b")
    assert registry.heard_state(state("b", "offline", "1"))
    assert registry.devices == ("a",)


def test_a_death_notice_of_an_earlier_life_counts_for_nothing() -> None:
    registry = Registry()
    registry.heard_state(state("a", "online", "2"))
    assert not registry.heard_state(state("a", "offline", "1"))
    assert registry.is_online("a")


def test_the_same_profile_again_is_no_news_and_a_new_life_is() -> None:
    registry = Registry()
    assert registry.heard_profile(profile("a", "1"))
    assert not registry.heard_profile(profile("a", "1"))
    assert registry.heard_profile(profile("a", "2"))


def test_what_an_earlier_start_has_said_counts_for_nothing_once_the_new_one_is_there() -> None:
    registry = Registry()
    registry.heard_state(state("a", "online", "2"))
    assert not registry.heard_profile(profile("a", "1"))
    assert registry.devices == ()
    assert registry.heard_profile(profile("a", "2"))
    assert registry.devices == ("a",)


def test_a_new_life_has_no_plan() -> None:
    registry = Registry()
    registry.heard_state(state("a", "online", "1"))
    assert not registry.follows_plan("a")
    assert registry.heard_plan_applied(applied("a"))
    assert not registry.heard_plan_applied(applied("a"))
    assert registry.follows_plan("a")
    registry.heard_state(state("a", "online", "2"))
    assert not registry.has_answered("a")
    assert not registry.follows_plan("a")


def test_a_device_that_cannot_follow_its_plan_has_answered() -> None:
    registry = Registry()
    registry.heard_profile(profile("a", "1"))
    registry.heard_plan_applied(applied("a", "no space"))
    assert registry.has_answered("a")
    assert not registry.follows_plan("a")


def test_generator_nodes_are_told_apart() -> None:
    registry = Registry()
    registry.heard_state(state("gen", "online", "1", "generator"))
    registry.heard_state(state("coordinator", "online", "1", "coordinator"))
    assert registry.generators == ("gen",)
    assert registry.devices == ()
    registry.heard_state(state("gen", "offline", "1", "generator"))
    assert registry.generators == ()


class Hands(BrokerClock):
    """A clock that is set by hand."""

    time_s = 0.0

    def now_s(self) -> float:
        return self.time_s


class TestGrace:
    def test_a_lost_connection_keeps_the_place_for_a_while(self) -> None:
        clock = Hands()
        registry = Registry(60.0, clock)
        registry.heard_state(state("a", "online", "1"))
        registry.heard_plan_applied(applied("a"))
        clock.time_s = 100.0
        assert registry.heard_state(state("a", "offline", "1"))
        clock.time_s = 159.9
        assert not registry.is_online("a")
        assert registry.follows_plan("a")
        assert registry.away_s("a") == pytest.approx(59.9)
        clock.time_s = 160.0
        assert not registry.is_expected("a")
        registry.heard_state(state("a", "online", "1"))
        assert registry.follows_plan("a")
        assert registry.away_s("a") is None

    def test_who_says_goodbye_is_not_expected(self) -> None:
        registry = Registry(60.0, Hands())
        registry.heard_state(state("a", "online", "1"))
        registry.heard_state(state("a", "offline", "1", goodbye=True))
        assert not registry.is_expected("a")

    def test_one_that_was_refused_has_not_joined(self) -> None:
        registry = Registry(60.0, Hands())
        registry.heard_state(state("a", "online", "1"))
        registry.heard_profile(profile("a", "1"))
        assert registry.has_joined("a")
        registry.forget("a")
        assert registry.is_expected("a")
        assert not registry.has_joined("a")

    def test_whoever_was_never_here_is_not_expected(self) -> None:
        registry = Registry(60.0, Hands())
        registry.heard_profile(profile("a", "1"))
        registry.heard_state(state("a", "offline", "1"))
        assert not registry.is_expected("a")

    def test_another_start_begins_without_a_plan(self) -> None:
        registry = Registry(60.0, Hands())
        registry.heard_state(state("a", "online", "1"))
        registry.heard_plan_applied(applied("a"))
        registry.heard_state(state("a", "offline", "1"))
        registry.heard_state(state("a", "online", "2"))
        assert registry.is_expected("a")
        assert not registry.follows_plan("a")


def test_the_clock_stands_still_without_a_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    times_s = iter((5.0, 6.0, 16.0, 18.0))
    monkeypatch.setattr("fimi.coordinator.patience.time.monotonic", lambda: next(times_s))
    clock = BrokerClock()
    for here in (True, False, True):
        clock.tick(here=here)
    assert clock.now_s() == 3.0
