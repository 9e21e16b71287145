from __future__ import annotations

import pytest

from fimi.messaging.messages import DeviceState
from fimi.messaging.presence import Presence


def state(status: str = "online", boot_id: str = "1") -> DeviceState:
    return DeviceState(peer="d", role="device", status=status, boot_id=boot_id)


@pytest.fixture
def presence() -> Presence:
    presence = Presence(silent_after_s=10.0)
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


class TestDeath:
    def test_goodbye(self, presence: Presence) -> None:
        assert presence.stated(state("offline"), 101.0) == state("offline")
        assert presence.stated(state("offline"), 102.0) is None
        assert presence.view("d").since_s == 101.0

    def test_late_notice_of_an_earlier_start(self, presence: Presence) -> None:
        presence.stated(state(boot_id="2"), 101.0)
        assert presence.stated(state("offline", boot_id="1"), 102.0) is None
        assert presence.view("d").online

    def test_nobody_is_missed_who_was_never_there(self) -> None:
        presence = Presence(10.0)
        assert presence.stated(state("offline"), 1.0) is None
        assert presence.stated(state(), 2.0) == state()

    def test_stragglers_do_not_revive(self, presence: Presence) -> None:
        presence.stated(state("offline"), 101.0)
        assert presence.heard("d", 102.0) is None
        assert not presence.view("d").online


class TestSilence:
    def test_silent(self, presence: Presence) -> None:
        assert presence.silent(110.0) == []
        assert presence.silent(110.1) == [state("offline")]
        assert presence.silent(111.0) == []

    def test_anything_heard_counts(self, presence: Presence) -> None:
        assert presence.heard("d", 109.0) is None
        assert presence.silent(118.0) == []

    def test_back_again(self, presence: Presence) -> None:
        presence.silent(120.0)
        assert presence.heard("d", 121.0) == state()
        presence.silent(140.0)
        assert presence.stated(state(), 141.0) == state()

    def test_own_silence_is_pardoned(self, presence: Presence) -> None:
        presence.pardon(200.0)
        assert presence.silent(205.0) == []
