from __future__ import annotations

import pytest
from msgspec.structs import replace

from fimi.messaging.messages.peers import DeviceState
from fimi.messaging.presence import Presence


def state(status: str = "online", boot_id: str = "1", session: int = 1) -> DeviceState:
    return DeviceState(peer="d", role="device", status=status, boot_id=boot_id, session=session)


@pytest.fixture
def presence() -> Presence:
    presence = Presence(silent_after_s=10.0, hold_s=1.0)
    assert presence.stated(state(), 100.0) == state()
    return presence


class TestBirth:
    def test_heartbeats_change_nothing(self, presence: Presence) -> None:
        assert presence.stated(state(), 105.0) is None
        view = presence.view("d")
        assert view is not None
        assert (view.online, view.last_heard_s, view.since_s) == (True, 105.0, 100.0)

    def test_new_start(self, presence: Presence) -> None:
        assert presence.stated(state(boot_id="2"), 101.0) == state(boot_id="2")

    def test_strangers_are_nobody(self, presence: Presence) -> None:
        assert presence.heard("x", 1.0) is None
        assert set(presence.views()) == {"d"}


class TestReconnected:
    """Another connection of the same start is no change, and what was under way is lost."""

    def test_a_birth_after_a_lost_connection(self, presence: Presence) -> None:
        again = state(session=2)
        assert presence.has_reconnected(again)
        assert presence.stated(again, 101.0) is None
        assert not presence.has_reconnected(again)

    def test_back_within_an_instant(self, presence: Presence) -> None:
        presence.stated(state("offline", session=0), 101.0)
        again = state(session=2)
        assert presence.has_reconnected(again)
        assert presence.stated(again, 101.5) is None
        assert presence.lost(105.0) == []

    def test_a_new_start(self, presence: Presence) -> None:
        assert presence.has_reconnected(state(boot_id="2"))

    def test_neither_a_goodbye_nor_a_stranger(self, presence: Presence) -> None:
        assert not presence.has_reconnected(state("offline", session=0))
        stranger = DeviceState(peer="x", role="device", status="online", boot_id="1", session=1)
        assert not presence.has_reconnected(stranger)


class TestDeath:
    def test_goodbye(self, presence: Presence) -> None:
        assert presence.stated(state("offline"), 101.0) is None
        assert presence.next_s() == 102.0
        assert presence.lost(101.9) == []
        assert presence.lost(102.0) == [state("offline")]
        assert presence.lost(103.0) == []
        view = presence.view("d")
        assert (view.online, view.silent, view.since_s) == (False, False, 102.0)
        assert presence.next_s() == float("inf")

    def test_it_is_delivered_whether_it_was_said_or_is_a_last_will(
        self, presence: Presence
    ) -> None:
        said = replace(state("offline"), goodbye=True)
        presence.stated(said, 101.0)
        assert presence.lost(102.0) == [said]
        presence.stated(state(), 103.0)
        presence.stated(state("offline"), 104.0)
        assert presence.lost(105.0) == [state("offline")]

    def test_repeated_goodbyes_count_from_the_first(self, presence: Presence) -> None:
        presence.stated(state("offline"), 101.0)
        presence.stated(state("offline"), 101.9)
        assert presence.lost(102.0) == [state("offline")]
        assert presence.stated(state("offline"), 103.0) is None
        assert presence.lost(105.0) == []

    def test_back_within_an_instant(self, presence: Presence) -> None:
        """A connection that was lost for a moment: the last will, and the heartbeat behind it."""
        presence.stated(state("offline"), 101.0)
        assert presence.stated(state(), 101.5) is None
        assert presence.lost(105.0) == []
        assert presence.view("d").online

    def test_new_start_within_an_instant(self, presence: Presence) -> None:
        presence.stated(state("offline"), 101.0)
        assert presence.stated(state(boot_id="2"), 101.5) == state(boot_id="2")
        assert presence.lost(105.0) == []

    def test_last_wills_of_a_broker_that_ends(self, presence: Presence) -> None:
        """It publishes them before it closes the own connection."""
        presence.stated(state("offline"), 101.0)
        presence.pardon(130.0)
        assert presence.lost(131.0) == []
        assert presence.lost(140.1) == [state("offline")]
        assert presence.view("d").silent

    def test_late_notice_of_an_earlier_start(self, presence: Presence) -> None:
        presence.stated(state(boot_id="2"), 101.0)
        assert presence.stated(state("offline", boot_id="1"), 102.0) is None
        assert presence.lost(105.0) == []
        assert presence.view("d").online

    def test_nobody_is_missed_who_was_never_there(self) -> None:
        presence = Presence(10.0)
        assert presence.stated(state("offline"), 1.0) is None
        assert presence.lost(5.0) == []
        assert presence.stated(state(), 6.0) == state()

    def test_stragglers_do_not_revive(self, presence: Presence) -> None:
        presence.stated(state("offline"), 101.0)
        assert presence.heard("d", 101.5) is None
        assert presence.lost(102.0) == [state("offline")]
        assert presence.heard("d", 102.5) is None
        assert not presence.view("d").online


class TestSilence:
    def test_silent(self, presence: Presence) -> None:
        assert presence.lost(110.0) == []
        assert presence.lost(110.1) == [state("offline")]
        assert presence.lost(111.0) == []

    def test_anything_heard_counts(self, presence: Presence) -> None:
        assert presence.heard("d", 109.0) is None
        assert presence.lost(118.0) == []

    def test_back_again(self, presence: Presence) -> None:
        presence.lost(120.0)
        assert presence.heard("d", 121.0) == state()
        presence.lost(140.0)
        assert presence.stated(state(), 141.0) == state()

    def test_goodbye_of_one_that_was_silent(self, presence: Presence) -> None:
        presence.lost(120.0)
        assert presence.stated(state("offline"), 121.0) is None
        assert presence.heard("d", 122.0) is None
        assert not presence.view("d").online

    def test_own_silence_is_pardoned(self, presence: Presence) -> None:
        presence.pardon(200.0)
        assert presence.lost(205.0) == []

    def test_own_standstill_is_pardoned_and_announced_deaths_are_not(
        self, presence: Presence
    ) -> None:
        """A process that was suspended has heard nobody for a while; what came since counts."""
        presence.stated(state("offline"), 200.0)
        presence.pardon(200.5, wills=False)
        assert presence.lost(200.9) == []
        assert presence.lost(201.1) == [state("offline")]


class TestNews:
    def test_what_changes_nothing_is_no_news(self) -> None:
        """A heartbeat, a death that is known, and the late one of an earlier start."""
        presence = Presence(15.0)
        assert presence.is_news(state())
        presence.stated(state(), 0.0)
        assert not presence.is_news(state())
        assert presence.is_news(state(boot_id="c"))
        assert presence.is_news(replace(state(), session=2))
        assert not presence.is_news(state("offline", boot_id="old"))
        assert presence.is_news(state("offline"))
        presence.stated(state("offline"), 1.0)
        assert not presence.is_news(state("offline"))
        assert presence.is_news(state())
        presence.lost(3.0)
        assert not presence.is_news(state("offline"))
        assert presence.is_news(state())
