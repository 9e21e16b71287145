"""A revoked certificate's open connection is cut; nobody else loses anything."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import psutil
import pytest
from msgspec.structs import replace
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fimi.messaging import tls
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker import of_fleet
from fimi.messaging.broker.of_fleet import FleetBroker
from fimi.messaging.bundle import Bundle
from fimi.messaging.client import Peer
from fimi.messaging.credentials.folder import FleetFolder
from fimi.messaging.errors import NotAuthorised
from fimi.messaging.link import Link, probe

FOREVER_S = 1e9


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that does not wait for the folder to be quiet."""
    monkeypatch.setattr(of_fleet, "QUIET_S", 0.0)


def until_restarted(broker: FleetBroker) -> list[str]:
    """Let a broker follow until it was started again; what it has done."""
    done = []
    limit_s = time.monotonic() + 30.0
    while "restarted" not in done:
        assert time.monotonic() < limit_s, done
        done.append(broker.follow())
    return [each for each in done if each != "nothing"]


def let_in(address: BrokerAddress) -> bool:
    try:
        probe(address)
    except NotAuthorised:
        return False
    return True


class Reader:
    """A connection that hears one topic, and what came."""

    def __init__(self, bundle: Bundle, topic: str) -> None:
        self.came: list[bytes] = []
        self.link = Link(
            bundle.address(),
            f"reader-{secrets.token_hex(8)}",
            clean_session=True,
            subscriptions=(topic,),
            on_message=lambda _, payload, __: self.came.append(payload),
        )
        self.link.connect(10.0)


class Away:
    """A client of paho's own with a session that waits for it."""

    def __init__(self, bundle: Bundle, topic: str) -> None:
        self._address, self._topic = bundle.address(), topic
        self.came: list[bytes] = []
        self.resumed = False

    def here(self) -> None:
        """Connect, and go on with the session."""
        ready = threading.Event()
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, "away", protocol=MQTTProtocolVersion.MQTTv5
        )
        client.tls_set_context(tls.context(self._address))

        def on_connect(_c: object, _d: object, flags: mqtt.ConnectFlags, *_: object) -> None:
            self.resumed = flags.session_present
            client.subscribe(self._topic, qos=1)

        client.on_connect = on_connect
        client.on_subscribe = lambda *_: ready.set()
        client.on_message = lambda _c, _d, message: self.came.append(message.payload)
        keeps = Properties(PacketTypes.CONNECT)
        keeps.SessionExpiryInterval = 3600
        client.connect(self._address.host, self._address.port, clean_start=False, properties=keeps)
        client.loop_start()
        assert ready.wait(10.0)
        self._client = client

    def gone(self) -> None:
        """Leave; the session stays."""
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def honest(fleet) -> Iterator[Peer]:
    with Peer(fleet.bundle("pi-01").address(), fleet="desk", peer="pi-01", role="device") as peer:
        yield peer


@pytest.mark.usefixtures("at_once")
def test_a_thief_is_cut_and_nobody_loses_anything(
    fleet, honest: Peer, settle: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    stolen = Bundle.read(fleet.folder.enroll("pi-04"))
    mine = "fimi/v1/desk/pi-04/pi-04/check"
    thief = Reader(stolen, mine)
    base = "fimi/v1/desk/coordinator"
    away = Away(fleet.bundle("pi-02"), f"{base}/pi-02/message")
    away.here()
    away.gone()
    says = Link(fleet.bundle("coordinator").address(), "says", clean_session=True)
    says.connect(10.0)
    kept, queued = b"kept", [secrets.token_bytes(500) for _ in range(20)]
    says.publish(f"{base}/pi-01/desired", kept, qos=1, retain=True).wait_for_publish(10.0)
    for each in queued:
        says.publish(f"{base}/pi-02/message", each, qos=1).wait_for_publish(10.0)

    new = Bundle.read(fleet.folder.rotate("pi-04"))
    assert until_restarted(fleet.broker) == ["reread", "restarted"]
    settle(lambda: not thief.link.ready)
    probe(new.address())
    settle(lambda: honest.online and honest.broker_away_s() is None)
    assert "does not know this connection" not in caplog.text, "its session was kept"
    settle(lambda: says.ready)
    assert says.sessions == 2, "everybody was cut once"
    away.here()
    settle(lambda: len(away.came) >= len(queued))
    assert away.resumed
    assert away.came == queued, "in order, each once"
    late = Reader(fleet.bundle("pi-01"), f"{base}/pi-01/desired")
    settle(lambda: late.came == [kept])
    # what the thief says is heard by nobody any more, and the owner's is
    thief.link.publish(mine, b"stolen", qos=1)
    owner = Reader(new, mine)
    owner.link.publish(mine, b"owner", qos=1).wait_for_publish(10.0)
    settle(lambda: owner.came == [b"owner"])
    assert not thief.link.ready
    assert thief.came == []
    with pytest.raises(NotAuthorised, match="revoked"):
        probe(stolen.address())
    away.gone()
    for link in (thief.link, says, late.link, owner.link):
        link.close()


@pytest.mark.parametrize(
    ("kind", "says"), [("fleet", r"certificate revoked"), ("with_passwords", r"user 'out-1'")]
)
@pytest.mark.usefixtures("at_once")
def test_who_is_cut_says_why_and_not_that_the_broker_is_away(
    request, kind: str, says: str, settle, monkeypatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fimi.messaging.heartbeat.AWAY_LOG_S", 0.5)
    monkeypatch.setattr(of_fleet, "FAREWELL_S", FOREVER_S)
    fleet = request.getfixturevalue(kind)
    address = Bundle.read(fleet.folder.enroll("out-1")).address()
    fleet.broker.follow()
    settle(lambda: let_in(address))
    with Peer(address, fleet="desk", peer="out-1", role="device", heartbeat_s=0.1) as peer:
        assert peer.shut_out == ""
        fleet.folder.revoke("out-1")
        if kind == "fleet":
            until_restarted(fleet.broker)
        else:
            assert fleet.broker.follow() == "reread"
        settle(lambda: sum("not let in for" in line for line in caplog.messages) >= 2)
        assert re.search(says, peer.shut_out)
        others = fleet.bundle("coordinator").address()
        with Peer(others, fleet="desk", peer="coordinator", role="coordinator") as coordinator:
            settle(lambda: "out-1" in coordinator.peers)
            assert coordinator.peers["out-1"].state.status == "online", "as it has said last"
            monkeypatch.setattr(of_fleet, "FAREWELL_S", 0.0)
            assert fleet.broker.follow() == "nothing"
            settle(lambda: coordinator.peers["out-1"].state.goodbye)
            assert coordinator.peers["out-1"].state.status == "offline"
    errors = [each for each in caplog.records if each.levelname == "ERROR"]
    assert sum(bool(re.search(says, each.getMessage())) for each in errors) == 1, "said once"


def test_a_mosquitto_that_was_killed_is_no_error_of_clients(fleet) -> None:
    with pytest.raises(NotAuthorised):  # of which Mosquitto says an OpenSSL error
        probe(replace(fleet.bundle("pi-01").address(), cert_pem="", key_pem=""))
    (mosquitto,) = psutil.Process(fleet.broker._child.pid).children()
    mosquitto.kill()
    fleet.broker._child.wait(20.0)
    assert fleet.broker.said() == "Error: mosquitto was ended by SIGKILL"
    fleet.broker.close()
    fleet.broker.start()


def test_many_changes_are_one_restart_and_enrolling_is_none(
    fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_fleet, "QUIET_S", 0.0)
    for number in range(3):
        fleet.folder.enroll(f"many-{number}")
        fleet.broker.follow()
    assert fleet.broker.follow() == "nothing"
    fleet.folder.rotate("broker")
    assert fleet.broker.follow() == "reread"
    assert fleet.broker.follow() == "nothing", "nobody's certificate has ended"
    monkeypatch.setattr(of_fleet, "QUIET_S", FOREVER_S)
    monkeypatch.setattr(of_fleet, "MOST_S", FOREVER_S)
    for number in range(3):
        fleet.folder.rotate(f"many-{number}")
        assert fleet.broker.follow() == "reread"
        assert fleet.broker.follow() == "nothing"
    monkeypatch.setattr(of_fleet, "QUIET_S", 0.0)
    assert fleet.broker.follow() == "restarted"
    assert fleet.broker.follow() == "nothing"


def test_it_does_not_wait_for_ever(fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is changed all the time does not keep a thief in."""
    monkeypatch.setattr(of_fleet, "QUIET_S", FOREVER_S)
    monkeypatch.setattr(of_fleet, "MOST_S", 0.0)
    fleet.folder.enroll("late-1")
    fleet.folder.revoke("late-1")
    assert until_restarted(fleet.broker) == ["reread", "restarted"]


def test_with_passwords_nothing_is_started_again(with_passwords) -> None:
    fleet = with_passwords
    fleet.folder.enroll("brief")
    fleet.folder.revoke("brief")
    assert fleet.broker.follow() == "reread"
    assert fleet.broker._due_s is None


def test_who_runs_it_is_known(fleet, tmp_path: Path) -> None:
    assert fleet.folder.run_by().startswith("process ")
    assert FleetFolder.begin(tmp_path / "f", fleet="f", hosts=["h"]).run_by() == ""


def test_nothing_of_its_start_is_an_error(fleet) -> None:
    """Its log has no line of the trial connection by which it is known to be up."""
    fleet.broker.close()
    fleet.broker.start()
    log = (fleet.broker._directory / "log").read_text()
    assert "rror" not in log
    assert "unknown" not in log
    assert "ACL pattern" in log and "ACL pattern" not in fleet.broker.said()


@pytest.mark.parametrize("kind", ["fleet", "with_passwords"])
def test_the_keeper_reaches_everything_in_its_fleet(request, kind: str) -> None:
    fleet = request.getfixturevalue(kind)
    link = Link(fleet.folder.keeper(), "keeper", clean_session=True)
    link.connect(10.0)
    for place in ("pi-01/coordinator/state", "coordinator/pi-02/desired", "generator/all/state"):
        assert link.may_write(f"fimi/v1/desk/{place}", 10.0)
    assert link.may_write("fimi/v1/other/pi-01/coordinator/state", 10.0) is False
    link.close()


def test_a_peer_is_not_the_keeper(with_passwords) -> None:
    for name in ("coordinator", "pi-01"):
        address = replace(with_passwords.bundle(name).address(), username=".keeper")
        with pytest.raises(NotAuthorised):
            probe(address)
