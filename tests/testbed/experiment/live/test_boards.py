"""Waiting for boards, and for their temperature, with scripted looks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import pytest

from fimi.messaging.errors import BrokerUnreachable
from fimi.testbed.experiment.definition import LiveStudy
from fimi.testbed.experiment.engines.base import Stopped
from fimi.testbed.experiment.live import boards as boards_module
from fimi.testbed.experiment.live.boards import Boards, MissingBoardsError, StudyBoard

HERE = StudyBoard(online=True, emulated=True)
AWAY = StudyBoard(online=False)


class Clock:
    """Time that passes only while something waits."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.now_s = 1000.0
        self.waits = 0
        self._stop_after = stop_after

    def monotonic(self) -> float:
        return self.now_s

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float) -> bool:
        self.now_s += seconds
        self.waits += 1
        return self.waits == self._stop_after


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(boards_module, "time", clock)
    return clock


def waiting(
    clock: Clock, look: Callable[[float], Mapping[str, StudyBoard]], live: LiveStudy
) -> tuple[Boards, list[str]]:
    """Boards by the seconds since the first look, and what is told of waits."""
    said: list[str] = []
    began_s = clock.now_s
    found = Boards(lambda: look(clock.now_s - began_s), live, clock, said.append)  # type: ignore[arg-type]
    return found, said


def test_the_boards_of_a_study_are_the_first_by_name(clock: Clock) -> None:
    fleet = {"pi-3": HERE, "pi-1": HERE, "pi-2": AWAY, "pi-4": HERE}
    found, _ = waiting(clock, lambda t: fleet, LiveStudy())
    assert found.choose(2) == ("pi-1", "pi-3")


def test_they_are_waited_for(clock: Clock) -> None:
    found, said = waiting(
        clock, lambda t: {"a": HERE, "b": HERE if t > 100 else AWAY}, LiveStudy(wait_s=200)
    )
    assert found.choose(2) == ("a", "b")
    assert said[0] == "1 of 2 boards here, 200 s left"
    assert said[-1] == ""


def test_not_for_ever(clock: Clock) -> None:
    other = StudyBoard(online=True, why_not="b speaks version 4; update it")
    found, _ = waiting(clock, lambda t: {"a": HERE, "b": other}, LiveStudy(wait_s=50))
    with pytest.raises(MissingBoardsError) as caught:
        found.choose(2)
    assert "1 of 2 boards came within 50 s: a (b speaks version 4; update it)" in str(caught.value)
    assert 1050 <= clock.now_s < 1060


def test_a_board_that_does_not_come_is_not_waited_for_again_until_it_was_there(
    clock: Clock,
) -> None:
    found, _ = waiting(
        clock,
        lambda t: {"a": HERE, "b": HERE, "c": HERE if 300 < t < 400 else AWAY},
        LiveStudy(wait_s=100),
    )
    members = ("a", "b", "c")
    assert found.await_members(members, 2) == ("c",)
    first_s = clock.now_s
    assert found.await_members(members, 2) == ("c",)
    assert clock.now_s == first_s  # at once
    clock.now_s = 1350.0
    assert found.await_members(members, 2) == ()
    clock.now_s = 1450.0
    assert found.await_members(members, 2) == ("c",)
    assert clock.now_s >= 1550.0


def test_why_a_board_that_is_online_is_waited_for_is_said(clock: Clock) -> None:
    busy = StudyBoard(online=True, why_not="it calibrates itself")
    found, said = waiting(clock, lambda t: {"a": busy if t < 9 else HERE}, LiveStudy())
    assert found.await_members(("a",), 1) == ()
    assert said[0] == "waiting for a, 600 s left (a: it calibrates itself)"
    clock.now_s = 1000.0
    assert found.choose(1) == ("a",)
    assert "0 of 1 boards here, 600 s left (a: it calibrates itself)" in said


def test_without_a_quorum_nothing_is_begun(clock: Clock) -> None:
    found, _ = waiting(clock, lambda t: {"a": HERE, "b": AWAY}, LiveStudy(wait_s=10))
    with pytest.raises(MissingBoardsError, match=r"1 of 2 .*2 are needed.*missing: b"):
        found.await_members(("a", "b"), 2)


class TestNode:
    def test_it_is_waited_for(self, clock: Clock) -> None:
        found, said = waiting(clock, lambda t: {}, LiveStudy(wait_s=100))
        found.await_node(lambda: clock.now_s > 1050)
        assert clock.now_s == pytest.approx(1050, abs=2.1)
        assert said[0].startswith("waiting for a generator node, 100 s left")

    def test_in_vain_it_is_not_waited_for_again_until_it_was_there(self, clock: Clock) -> None:
        found, _ = waiting(clock, lambda t: {"a": HERE}, LiveStudy(wait_s=100))
        for expected_s in (1100, 1100):
            with pytest.raises(MissingBoardsError, match="no generator node"):
                found.await_node(lambda: False)
            assert clock.now_s == pytest.approx(expected_s, abs=2.1)
        found.await_members(("a",), 1)  # does not forget it
        with pytest.raises(MissingBoardsError):
            found.await_node(lambda: False)
        assert clock.now_s == pytest.approx(1100, abs=2.1)
        found.await_node(lambda: True)
        with pytest.raises(MissingBoardsError):
            found.await_node(lambda: False)
        assert clock.now_s == pytest.approx(1200, abs=4.1)


class TestRest:
    def test_emulated_boards_need_none(self, clock: Clock) -> None:
        found, _ = waiting(clock, lambda t: {"a": HERE}, LiveStudy(rest_s=60))
        assert found.rest(("a",), 0.0) == {}
        assert clock.waits == 0

    @pytest.mark.parametrize(("ended_s", "waits_s"), [(None, 0), (0.0, 60), (50.0, 10), (70.0, 0)])
    def test_of_boards_since_the_last_run(
        self, clock: Clock, ended_s: float | None, waits_s: float
    ) -> None:
        board = StudyBoard(online=True, temperature_c=40.0)
        found, _ = waiting(clock, lambda t: {"a": board, "b": HERE}, LiveStudy(rest_s=60))
        assert found.rest(("a", "b"), ended_s) == {"a": 40.0}
        assert clock.now_s - 1000 == pytest.approx(waits_s, abs=0.1)

    def test_until_the_warmest_is_cool(self, clock: Clock) -> None:
        def look(t: float) -> dict[str, StudyBoard]:
            warm = StudyBoard(online=True, temperature_c=80.0 - t / 10)  # 50 °C after 300 s
            hot_stranger = StudyBoard(online=True, temperature_c=99.0)
            return {"a": warm, "b": StudyBoard(online=True), "z": hot_stranger}

        found, said = waiting(clock, look, LiveStudy(rest_s=0, cool_to_c=50.0))
        (warm,) = found.rest(("a", "b"), None).values()
        assert warm == pytest.approx(50.0, abs=0.2)
        assert clock.now_s - 1000 == pytest.approx(300, abs=2.1)
        assert said[0] == "cooling down to 50 °C: a at 80 °C"

    def test_not_longer_than_is_allowed(self, clock: Clock) -> None:
        board = StudyBoard(online=True, temperature_c=70.0)
        live = LiveStudy(cool_to_c=50.0, cool_max_s=120.0)
        found, _ = waiting(clock, lambda t: {"a": board}, live)
        assert found.rest(("a",), None) == {"a": 70.0}
        assert clock.now_s - 1000 == pytest.approx(120, abs=2.1)


def test_a_broker_that_is_away_is_waited_for(clock: Clock) -> None:
    def look(t: float) -> dict[str, StudyBoard]:
        if t < 30:
            raise BrokerUnreachable("nobody listens")
        return {"a": HERE}

    found, said = waiting(clock, look, LiveStudy())
    assert found.choose(1) == ("a",)
    assert "broker away for 0 s (nobody listens)" in said[0]


def test_boards_are_waited_for_only_while_there_is_a_broker(clock: Clock) -> None:
    """Else all of them were gone for good after a broker's long night."""

    def look(t: float) -> dict[str, StudyBoard]:
        if 10 < t < 500:
            raise BrokerUnreachable("nobody listens")
        return {"a": HERE, "b": HERE if t > 520 else AWAY}

    found, _ = waiting(clock, look, LiveStudy(wait_s=50))
    assert found.await_members(("a", "b"), 1) == ()
    clock.now_s = 1000.0
    assert found.choose(2) == ("a", "b")


def test_every_wait_ends_with_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(stop_after=3)
    monkeypatch.setattr(boards_module, "time", clock)
    found, _ = waiting(clock, lambda t: {}, LiveStudy())
    with pytest.raises(Stopped):
        found.choose(1)
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        Boards(dict, LiveStudy(), stop, lambda what: None).choose(1)
