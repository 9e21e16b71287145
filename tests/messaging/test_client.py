from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import msgspec
import psutil
import pytest

from fimi.messaging import topics
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.errors import (
    BrokerError,
    BrokerTimeout,
    BrokerUnreachable,
    MessageRefused,
    NotAuthorised,
    NotConnected,
)
from fimi.messaging.link import Link
from fimi.messaging.messages.documents import Reported
from fimi.messaging.messages.orders import RunEnded
from fimi.messaging.messages.peers import DeviceState
from fimi.messaging.topics import COORDINATOR
from fimi.messaging.transfers.wire import encode_message, kind_of


def ended(reason: str = "completed") -> RunEnded:
    return RunEnded(run="r", reason=reason)


def next_message(peer: Peer, timeout_s: float = 10.0):
    """The next message that is not a change of state."""
    deadline_s = time.monotonic() + timeout_s
    while (got := peer.receive(max(0.0, deadline_s - time.monotonic()))) is not None:
        if not isinstance(got[1], DeviceState):
            return got
    return None


def next_state(peer: Peer, timeout_s: float = 10.0) -> tuple[str, str] | None:
    got = peer.receive(timeout_s)
    assert got is None or isinstance(got[1], DeviceState)
    return None if got is None else (got[0], got[1].status)


class TestConnecting:
    def test_wrong_password(self, broker: EmbeddedBroker, fleet: str) -> None:
        wrong = msgspec.structs.replace(broker.address, password="sesame")
        with (
            pytest.raises(NotAuthorised, match=r"user 'fimi'.*check") as caught,
            Peer(wrong, fleet=fleet, peer="d1", role="device"),
        ):
            pass
        assert str(broker.address.port) in str(caught.value)
        assert "sesame" not in str(caught.value)

    def test_no_password(self, broker: EmbeddedBroker, fleet: str) -> None:
        bare = BrokerAddress(host="127.0.0.1", port=broker.address.port)
        with pytest.raises(NotAuthorised, match="without user name"):
            Peer(bare, fleet=fleet, peer="d1", role="device").connect()

    def test_wrong_password_disturbs_nobody(self, broker: EmbeddedBroker, fleet, join) -> None:
        device, coordinator = join("d1"), join(COORDINATOR)
        wrong = msgspec.structs.replace(broker.address, password="sesame")
        with pytest.raises(NotAuthorised):
            Peer(wrong, fleet=fleet, peer="d1", role="device").connect()
        coordinator.send("d1", ended())
        assert next_message(device) == (COORDINATOR, ended())

    def test_nobody_listens(self, fleet: str) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
            peer = Peer(
                BrokerAddress(host="127.0.0.1", port=port), fleet=fleet, peer="d", role="device"
            )
            with pytest.raises(BrokerUnreachable, match=rf"{port}.*refused.*check host and port"):
                peer.connect()

    def test_no_such_host(self, fleet: str) -> None:
        peer = Peer(BrokerAddress(host="broker.invalid"), fleet=fleet, peer="d", role="device")
        with pytest.raises(BrokerUnreachable, match=r"broker\.invalid"):
            peer.connect()

    def test_listener_that_says_nothing(self, fleet: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = BrokerAddress(host="127.0.0.1", port=server.getsockname()[1])
            peer = Peer(address, fleet=fleet, peer="d", role="device")
            with pytest.raises(BrokerTimeout, match="does not answer in MQTT"):
                peer.connect(timeout_s=0.3)

    def test_tls_where_there_is_none(self, broker: EmbeddedBroker, fleet: str) -> None:
        tls = msgspec.structs.replace(broker.address, tls=True)
        with pytest.raises(BrokerError):
            Peer(tls, fleet=fleet, peer="d", role="device").connect(timeout_s=0.4)

    def test_missing_ca_file(self, broker: EmbeddedBroker, fleet: str, tmp_path) -> None:
        tls = msgspec.structs.replace(broker.address, tls=True, ca_path=str(tmp_path / "ca.pem"))
        with pytest.raises(BrokerError, match=r"ca\.pem.*does not exist"):
            Peer(tls, fleet=fleet, peer="d", role="device").connect()

    @pytest.mark.parametrize(("fleet_name", "peer"), [("a/b", "d"), ("f", "all"), ("f", "+")])
    def test_names_that_are_no_names(self, fleet_name: str, peer: str) -> None:
        with pytest.raises(ValueError, match="cannot be used"):
            Peer(BrokerAddress(host="h"), fleet=fleet_name, peer=peer, role="device")

    def test_failures_leave_nothing(self, broker: EmbeddedBroker, fleet: str) -> None:
        wrong = msgspec.structs.replace(broker.address, password="x")
        before = (threading.active_count(), psutil.Process().num_fds())
        for _ in range(3):
            with pytest.raises(NotAuthorised):
                Peer(wrong, fleet=fleet, peer="d1", role="device").connect()
        assert (threading.active_count(), psutil.Process().num_fds()) == before


class TestMessages:
    def test_every_type(self, join, samples) -> None:
        peers = {name: join(name) for name in (COORDINATOR, "generator", "d1")}
        for sender, recipient, message in samples:
            if (kind := kind_of(message)) in ("state", "lease", "claim", "telemetry"):
                continue  # these are not received like messages
            if kind == "message":
                peers[sender].send(recipient, message)
            else:
                peers[sender].publish_state(recipient, kind, message)
            hearers = set(peers) - {sender} if recipient == "all" else {recipient}
            for hearer in hearers:
                assert next_message(peers[hearer]) == (sender, message)

    def test_in_order(self, join) -> None:
        device, coordinator = join("d1"), join(COORDINATOR)
        for number in range(100):
            device.send(COORDINATOR, ended(str(number)))
        reasons = [next_message(coordinator)[1].reason for _ in range(100)]
        assert reasons == [str(number) for number in range(100)]

    def test_fleets_do_not_mix(self, broker: EmbeddedBroker, fleet: str, join) -> None:
        here = join("d1")
        with Peer(broker.address, fleet=fleet + "x", peer=COORDINATOR, role="coordinator") as other:
            other.send("d1", ended("wrong"))
            other.send("all", ended("wrong"))
            assert other.flush(5.0)
        join(COORDINATOR).send("d1", ended("right"))
        assert next_message(here) == (COORDINATOR, ended("right"))

    def test_only_while_connected(self, broker: EmbeddedBroker, fleet: str) -> None:
        peer = Peer(broker.address, fleet=fleet, peer="d1", role="device")
        with pytest.raises(NotConnected, match="RunEnded"):
            peer.send(COORDINATOR, ended())
        with peer:
            peer.send(COORDINATOR, ended())
        with pytest.raises(NotConnected):
            peer.send(COORDINATOR, ended())
        with pytest.raises(NotConnected, match="new one"):
            peer.connect()

    def test_refuses_to_speak_for_others(self, join, samples) -> None:
        (reported,) = [each for _, _, each in samples if isinstance(each, Reported)]
        with pytest.raises(MessageRefused, match="speaks for"):
            join("d2").publish_state(COORDINATOR, "reported", reported)

    def test_closing_wakes_whoever_waits(self, broker: EmbeddedBroker, fleet: str) -> None:
        peer = Peer(broker.address, fleet=fleet, peer="d1", role="device")
        with ThreadPoolExecutor() as pool:
            with peer:
                waiting = [pool.submit(peer.receive) for _ in range(2)]
            assert [future.result(5.0) for future in waiting] == [None, None]


def state_of(device: str, number: int, boot_id: str = "b") -> Reported:
    return Reported(
        run="r",
        device=device,
        instance="i",
        boot_id=boot_id,
        number=number,
        epoch=0,
        heard=0,
        stage="idle",
    )


def numbers_until(peer: Peer, last: int) -> list[int]:
    """The numbers of reported states in the order in which they came, up to ``last``."""
    numbers = []
    while not numbers or numbers[-1] != last:
        got = next_message(peer)
        assert got is not None
        assert isinstance(got[1], Reported)
        numbers.append(got[1].number)
    return numbers


class TestDocuments:
    def test_who_comes_later_gets_the_latest(self, join) -> None:
        device = join("d1")
        for number in range(1, 201):
            device.publish_state(COORDINATOR, "reported", state_of("d1", number))
        assert device.flush(10.0)
        assert next_message(join(COORDINATOR)) == ("d1", state_of("d1", 200))

    def test_never_an_older_one_after_a_newer_one(self, join) -> None:
        device, coordinator = join("d1"), join(COORDINATOR)
        for number in range(1, 501):
            device.publish_state(COORDINATOR, "reported", state_of("d1", number))
        numbers = numbers_until(coordinator, 500)
        assert numbers == sorted(numbers)

    def test_published_again_as_it_is(self, join) -> None:
        device, coordinator = join("d1"), join(COORDINATOR)
        for _ in range(2):
            device.publish_state(COORDINATOR, "reported", state_of("d1", 1))
            assert next_message(coordinator) == ("d1", state_of("d1", 1))

    def test_withdrawn(self, join) -> None:
        device = join("d1")
        device.publish_state(COORDINATOR, "reported", state_of("d1", 1))
        device.withdraw_state(COORDINATOR, "reported")
        assert device.flush(10.0)
        coordinator = join(COORDINATOR)
        device.send(COORDINATOR, ended())
        assert next_message(coordinator) == ("d1", ended())

    def test_only_documents(self, join) -> None:
        device = join("d1")
        with pytest.raises(MessageRefused, match="'message'"):
            device.publish_state(COORDINATOR, "reported", ended())
        with pytest.raises(MessageRefused, match="'reported'"):
            device.send(COORDINATOR, state_of("d1", 1))
        with pytest.raises(MessageRefused, match="speaks for"):
            device.publish_state(COORDINATOR, "reported", state_of("d2", 1))

    def test_what_a_dead_device_left_is_no_sign_of_life(self, join, peer_process) -> None:
        coordinator = join(COORDINATOR, silent_after_s=0.6)
        pid, _ = peer_process("d1", heartbeat_s=0.1)
        assert next_state(coordinator) == ("d1", "online")
        os.kill(pid, signal.SIGSTOP)
        assert next_state(coordinator) == ("d1", "offline")
        topic = topics.topic(coordinator.fleet, "d1", COORDINATOR, "reported")
        left = encode_message(state_of("d1", 1), sender="d1", recipient=COORDINATOR)
        coordinator._on_message(topic, left, True)
        assert coordinator.receive(5.0) == ("d1", state_of("d1", 1))
        assert not coordinator.peers["d1"].online

    def test_broker_restart_loses_none(self, mortal: EmbeddedBroker, fleet: str, until) -> None:
        """Neither what was confirmed before it, nor what changed while it was away."""
        with (
            Peer(mortal.address, fleet=fleet, peer="d1", role="device") as d1,
            Peer(mortal.address, fleet=fleet, peer="d2", role="device") as d2,
        ):
            d1.publish_state(COORDINATOR, "reported", state_of("d1", 1))
            d2.publish_state(COORDINATOR, "reported", state_of("d2", 1))
            assert d1.flush(10.0)
            assert d2.flush(10.0)
            mortal.close()
            until(lambda: not d2.online)
            for number in range(2, 2002):  # more than paho's queue holds
                d2.publish_state(COORDINATOR, "reported", state_of("d2", number))
            mortal.start()
            until(lambda: d1.online and d2.online)
            assert d1.flush(10.0)
            assert d2.flush(10.0)
            with Peer(
                mortal.address, fleet=fleet, peer=COORDINATOR, role="coordinator"
            ) as coordinator:
                found = dict(next_message(coordinator) for _ in range(2))
            assert found == {"d1": state_of("d1", 1), "d2": state_of("d2", 2001)}


class TestPresence:
    def test_who_sees_whom(self, join, until) -> None:
        device, coordinator, generator = join("d1"), join(COORDINATOR), join("generator")
        other = join("d2")
        until(lambda: set(coordinator.peers) == {"d1", "d2", "generator"})
        until(lambda: set(device.peers) == set(other.peers) == {COORDINATOR, "generator"})
        until(lambda: set(generator.peers) == {COORDINATOR})
        assert all(view.online for view in coordinator.peers.values())

    def test_goodbye_and_return(self, broker: EmbeddedBroker, fleet: str, join) -> None:
        coordinator = join(COORDINATOR)
        for _ in range(2):
            with Peer(broker.address, fleet=fleet, peer="d1", role="device"):
                assert next_state(coordinator) == ("d1", "online")
            assert next_state(coordinator) == ("d1", "offline")

    def test_a_lost_connection_is_no_change_and_its_transfers_hear_of_it(
        self, join, until, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever fetches from a device that is back asks it again at once."""
        coordinator, device = join(COORDINATOR), join("d1")
        assert next_state(coordinator) == ("d1", "online")
        back: list[str] = []
        monkeypatch.setattr(coordinator.transfers, "on_back", back.append)
        for count in (1, 2):
            device._link._client.socket().shutdown(socket.SHUT_RDWR)
            until(lambda count=count: len(back) == count)
            until(lambda: device.online)
        assert back == ["d1", "d1"]
        assert coordinator.peers["d1"].state.session == 3
        assert coordinator.receive(1.2) is None  # longer than an offline state is held

    def test_state_is_retained(self, join, until) -> None:
        boot_id = join("d1").boot_id
        coordinator = join(COORDINATOR)
        until(lambda: "d1" in coordinator.peers)
        assert coordinator.peers["d1"].state.boot_id == boot_id

    def test_heartbeats_are_not_delivered(self, join) -> None:
        coordinator = join(COORDINATOR)
        join("d1", heartbeat_s=0.05)
        assert next_state(coordinator) == ("d1", "online")
        first_s = coordinator.peers["d1"].last_heard_s
        assert coordinator.receive(0.3) is None
        assert coordinator.peers["d1"].last_heard_s > first_s + 0.15

    def test_killed(self, join, peer_process) -> None:
        coordinator = join(COORDINATOR)
        pid, boot_id = peer_process("d1")
        assert next_state(coordinator) == ("d1", "online")
        os.kill(pid, signal.SIGKILL)
        assert next_state(coordinator) == ("d1", "offline")
        assert coordinator.peers["d1"].state.boot_id == boot_id
        assert not coordinator.peers["d1"].silent

    @pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
    def test_silent_and_back(self, join, peer_process) -> None:
        coordinator = join(COORDINATOR, silent_after_s=0.8)
        pid, _ = peer_process("d1", heartbeat_s=0.1)
        assert next_state(coordinator) == ("d1", "online")
        os.kill(pid, signal.SIGSTOP)
        assert next_state(coordinator) == ("d1", "offline")
        assert coordinator.peers["d1"].silent
        os.kill(pid, signal.SIGCONT)
        assert next_state(coordinator) == ("d1", "online")

    @pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
    def test_takes_over_from_a_dead_connection(self, join, peer_process, until) -> None:
        """A device that comes back before the broker has noticed that it was away."""
        coordinator = join(COORDINATOR)
        pid, _ = peer_process("d1")
        os.kill(pid, signal.SIGSTOP)
        again = join("d1")
        until(lambda: "d1" in coordinator.peers)
        until(lambda: coordinator.peers["d1"].state.boot_id == again.boot_id)
        for number in range(3):
            coordinator.send("d1", ended(str(number)))
            assert next_message(again) == (COORDINATOR, ended(str(number)))
        assert coordinator.peers["d1"].online


class TestHostility:
    def test_garbage_is_dropped(self, broker: EmbeddedBroker, fleet, join, until) -> None:
        coordinator, device = join(COORDINATOR), join("d1")
        rogue = Link(broker.address, "rogue", clean_session=True)
        rogue.connect(5.0)
        garbage = (b"\xff\x00", b"{", b"[" * 5000, b"null", b"\x85type", b"x" * 2_000_000)
        kinds = ("message", "state", "want", "chunk")
        for kind in kinds:
            for payload in garbage:
                rogue.publish(topics.topic(fleet, "rogue", COORDINATOR, kind), payload, qos=1)
        rogue.publish(f"fimi/v1/{fleet}/rogue/{COORDINATOR}/nonsense", b"", qos=1)
        sent = len(kinds) * len(garbage) + 1
        counted, transfers = coordinator.counters, coordinator.transfers.counters
        until(lambda: counted.refused + counted.unseen + transfers.refused >= sent)
        rogue.close()
        device.send(COORDINATOR, ended())
        assert next_message(coordinator) == ("d1", ended())
        assert coordinator.online

    def test_only_the_own_tree(self, broker: EmbeddedBroker) -> None:
        if broker.kind == "amqtt":
            pytest.skip("amqtt has no access rules; it is for dry runs and trials")
        heard: list[str] = []
        done = threading.Event()

        def note(topic: str, _payload: bytes, _retained: bool) -> None:
            heard.append(topic)
            if topic == "fimi/v1/f/a/b/message":
                done.set()

        link = Link(broker.address, "x", clean_session=True, subscriptions=("#",), on_message=note)
        link.connect(5.0)
        for topic in ("elsewhere", "fimi/v2/f/a/b/message", "fimi/v1/f/a/b/message"):
            link.publish(topic, b"x", qos=1)
        assert done.wait(5.0)
        link.close()
        assert [topic for topic in heard if "/f/" in topic or topic == "elsewhere"] == [
            "fimi/v1/f/a/b/message"
        ]

    def test_same_ids_in_two_fleets(self, broker: EmbeddedBroker, fleet: str, join) -> None:
        coordinator = join(COORDINATOR)
        other = Peer(broker.address, fleet=fleet + "x", peer=COORDINATOR, role="coordinator")
        with other:
            time.sleep(0.1)
            assert coordinator.online
            assert other.online
            assert coordinator.counters.refused == other.counters.refused == 0


class TestConnectionLoss:
    def test_broker_restart(self, mortal: EmbeddedBroker, fleet: str, until) -> None:
        with (
            Peer(mortal.address, fleet=fleet, peer="d1", role="device") as device,
            Peer(mortal.address, fleet=fleet, peer=COORDINATOR, role="coordinator") as coordinator,
        ):
            until(lambda: "d1" in coordinator.peers)
            mortal.close()
            mortal.start()
            until(lambda: device.online and coordinator.online)
            coordinator.send("d1", ended())
            assert next_message(device) == (COORDINATOR, ended())
            until(lambda: device._identity.confirmed and coordinator.online)
            assert coordinator.peers["d1"].online

    def test_nobody_is_lost_by_a_broker_restart(
        self, fleet: str, until, mosquitto_missing: bool, free_port: int, quick_reconnect
    ) -> None:
        """Mosquitto publishes all last wills when it ends; they are no news of the peers."""
        if mosquitto_missing:
            pytest.skip("mosquitto is not installed")
        with (
            EmbeddedBroker("mosquitto", port=free_port) as broker,
            Peer(broker.address, fleet=fleet, peer=COORDINATOR, role="coordinator") as coordinator,
            Peer(broker.address, fleet=fleet, peer="d1", role="device") as device,
        ):
            assert next_state(coordinator) == ("d1", "online")
            broker.close()
            until(lambda: not coordinator.online)
            broker.start()
            until(lambda: device.online and coordinator.online)
            device.send(COORDINATOR, ended())
            assert coordinator.receive(10.0) == ("d1", ended())

    def test_amqtt_that_ends_publishes_no_last_will(self, fleet: str, until) -> None:
        """It would take its time for it, in which others wonder where the peers are."""
        heard: list[bytes] = []
        with EmbeddedBroker("amqtt") as broker, ExitStack() as stack:
            for number in range(3):
                stack.enter_context(
                    Peer(broker.address, fleet=fleet, peer=f"d{number}", role="device")
                )
            watcher = Link(
                broker.address,
                "watcher",
                clean_session=True,
                subscriptions=(f"fimi/v1/{fleet}/+/{COORDINATOR}/#",),
                on_message=lambda _topic, payload, _retained: heard.append(payload),
            )
            stack.callback(watcher.close)
            watcher.connect(10.0)
            until(lambda: sum(b'"online"' in payload for payload in heard) == 3)
            broker.close()
            until(lambda: not watcher.ready)
            assert not [payload for payload in heard if b'"offline"' in payload]

    def test_many_at_once(self, broker: EmbeddedBroker, fleet: str, join) -> None:
        coordinator = join(COORDINATOR)
        peers = [Peer(broker.address, fleet=fleet, peer=f"d{n}", role="device") for n in range(20)]
        with ThreadPoolExecutor(len(peers)) as pool:
            list(pool.map(lambda peer: peer.connect(), peers))
            coordinator.send("all", ended())
            heard = list(pool.map(next_message, peers))
            list(pool.map(lambda peer: peer.close(), peers))
        assert heard == [(COORDINATOR, ended())] * len(peers)


class TestClosing:
    def test_leaves_no_thread_and_no_socket(self, broker: EmbeddedBroker, fleet: str) -> None:
        threads, files = set(threading.enumerate()), psutil.Process().num_fds()
        for _ in range(3):
            with Peer(broker.address, fleet=fleet, peer="d1", role="device") as peer:
                peer.send(COORDINATOR, ended())
            peer.close()
        assert set(threading.enumerate()) == threads
        assert psutil.Process().num_fds() == files

    def test_what_was_said_is_delivered(self, broker: EmbeddedBroker, fleet: str, join) -> None:
        device = join("d1")
        with Peer(broker.address, fleet=fleet, peer=COORDINATOR, role="coordinator") as coordinator:
            for number in range(50):
                coordinator.send("d1", ended(str(number)))
        reasons = [next_message(device)[1].reason for _ in range(50)]
        assert reasons == [str(number) for number in range(50)]


class TestPacing:
    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="paced by Linux only")
    def test_rate_is_kept(self, join) -> None:
        device, coordinator = join("d1"), join(COORDINATOR)
        assert device.set_pacing(12e6)
        offer = device.transfers.serve(os.urandom(1_000_000), "noise")
        start_s = time.monotonic()
        coordinator.transfers.fetch(offer, 20.0)
        assert 0.35 < time.monotonic() - start_s < 4.0
        assert device.set_pacing(None)

    def test_impossible_rate(self, join) -> None:
        with pytest.raises(ValueError, match="> 0"):
            join("d1").set_pacing(0.0)
