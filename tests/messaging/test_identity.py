"""One process per peer id, with real brokers, processes and signals."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fimi.messaging import topics
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.credentials.rules import access_rules
from fimi.messaging.errors import BrokerError, IdentityTaken, NotAuthorised, NotConnected
from fimi.messaging.identity import Identity
from fimi.messaging.link import Link
from fimi.messaging.messages.orders import RunEnded
from fimi.messaging.messages.peers import DeviceState
from fimi.messaging.topics import COORDINATOR

HOLDER = """
import sys
from fimi.messaging.address import BrokerAddress
from fimi.messaging.client import Peer
from fimi.messaging.errors import IdentityTaken
url, fleet, peer, role = sys.argv[1:]
try:
    me = Peer(BrokerAddress.parse(url), fleet=fleet, peer=peer, role=role, what="run desk")
    me.connect()
    print("holds", me.boot_id, me.epoch, flush=True)
    while True:
        me.receive(60.0)
except IdentityTaken as error:
    print("yields:", error, flush=True)
finally:
    me.close()
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(broker: EmbeddedBroker, fleet: str) -> Iterator[Start]:
    """Start a process that takes a peer id and keeps it."""
    processes: list[subprocess.Popen[str]] = []

    def launch(peer: str = "d1", role: str = "device") -> subprocess.Popen[str]:
        url = broker.address.url(with_password=True)
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, url, fleet, peer, role],
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield launch
    for process in processes:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


class TestSecond:
    @pytest.mark.parametrize(
        ("peer", "role", "who"),
        [
            ("d1", "device", "an agent"),
            (COORDINATOR, "coordinator", "a coordinator"),
            ("generator", "generator", "a generator node"),
        ],
    )
    def test_is_told_who_has_the_id(self, start: Start, join, peer, role, who, fleet) -> None:
        process = start(peer, role)
        assert line(process).startswith("holds")
        with pytest.raises(IdentityTaken) as caught:
            join(peer, role=role)
        said = str(caught.value)
        assert f"'{peer}' of fleet '{fleet}' is in use by {who} (process {process.pid} on" in said
        assert "run desk, since 20" in said
        assert "end that process" in said
        assert caught.value.holder.pid == process.pid
        assert caught.value.exit_code == 3

    def test_does_not_disturb_the_first(self, join, caplog: pytest.LogCaptureFixture) -> None:
        coordinator, device = join(COORDINATOR), join("d1")
        for _ in range(2):
            with pytest.raises(IdentityTaken):
                join("d1")
        coordinator.send("d1", RunEnded(run="r", reason="completed"))
        while isinstance((got := device.receive(10.0))[1], DeviceState):
            pass
        assert got == (COORDINATOR, RunEnded(run="r", reason="completed"))
        assert coordinator.peers["d1"].state.boot_id == device.boot_id
        assert "lost" not in caplog.text

    def test_leaves_nothing(self, broker: EmbeddedBroker, fleet: str, join) -> None:
        join("d1")
        threads = set(threading.enumerate())
        refused = Peer(broker.address, fleet=fleet, peer="d1", role="device")
        with pytest.raises(IdentityTaken):
            refused.connect()
        refused.close()
        assert set(threading.enumerate()) == threads

    def test_same_id_in_another_fleet(self, broker: EmbeddedBroker, fleet: str, join) -> None:
        join("d1")
        with Peer(broker.address, fleet=fleet + "x", peer="d1", role="device") as other:
            assert other.epoch == 1

    def test_hears_what_the_first_does_now(self, join) -> None:
        join(COORDINATOR, what="starts").describe("run desk-7")
        with pytest.raises(IdentityTaken, match="run desk-7"):
            join(COORDINATOR)


class TestRestart:
    def test_after_an_orderly_end(
        self, broker: EmbeddedBroker, fleet: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """No wait: the id was given back; each start has a greater epoch."""
        caplog.set_level(logging.INFO)
        epochs = []
        for _ in range(3):
            with Peer(broker.address, fleet=fleet, peer="d1", role="device") as peer:
                epochs.append(peer.epoch)
        assert epochs == [1, 2, 3]
        assert "waiting" not in caplog.text

    def test_after_sigkill(self, start: Start, join, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        first = start()
        assert line(first).split()[2] == "1"
        first.kill()
        first.wait()
        assert join("d1").epoch == 2
        assert f"process {first.pid} on" in caplog.text

    def test_epoch_is_above_what_is_known(self, join) -> None:
        assert join(COORDINATOR, epoch_after=41).epoch == 42

    @pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
    def test_suspended_one_yields_when_it_wakes_up(self, start: Start, join, until) -> None:
        first = start()
        assert line(first).startswith("holds")
        os.kill(first.pid, signal.SIGSTOP)
        second = join("d1")
        assert second.epoch == 2
        os.kill(first.pid, signal.SIGCONT)
        said = line(first)
        assert said.startswith("yields: the id 'd1'")
        assert f"process {os.getpid()} on" in said
        assert first.wait(10.0) == 0
        until(lambda: second.online)
        with pytest.raises(IdentityTaken):
            join("d1")

    def test_after_a_broker_restart_the_holder_keeps_its_id(
        self, mortal: EmbeddedBroker, fleet: str, until
    ) -> None:
        with Peer(mortal.address, fleet=fleet, peer="d1", role="device") as device:
            mortal.close()
            mortal.start()
            until(lambda: device.online and device._identity.confirmed)
            with pytest.raises(IdentityTaken):
                Peer(mortal.address, fleet=fleet, peer="d1", role="device").connect()
            assert device.online


class TestRace:
    def test_of_many_at_once_one_wins(self, broker: EmbeddedBroker, fleet: str, until) -> None:
        peers = [Peer(broker.address, fleet=fleet, peer="d1", role="device") for _ in range(6)]
        gate = threading.Barrier(len(peers))

        def enter(peer: Peer) -> None:
            gate.wait()
            try:
                peer.connect()
            except IdentityTaken as error:
                peer._taken = error

        with ThreadPoolExecutor(len(peers)) as pool:
            list(pool.map(enter, peers))
        until(lambda: sum(peer._taken is None for peer in peers) == 1)
        (winner,) = (peer for peer in peers if peer._taken is None)
        until(lambda: winner.online)
        for peer in peers:
            peer.close()
        with Peer(broker.address, fleet=fleet, peer="d1", role="device") as again:
            assert again.epoch == winner.epoch + 1

    def test_of_two_processes_one_wins(self, start: Start, until) -> None:
        processes = [start(), start()]
        # the one that yields may have held the id for an instant
        until(lambda: sum(process.poll() is None for process in processes) == 1, 20.0)
        (loser,) = (process for process in processes if process.poll() is not None)
        (winner,) = (process for process in processes if process.poll() is None)
        assert line(winner).startswith("holds")
        assert f"process {winner.pid} on" in loser.stdout.read()


class TestLost:
    def test_every_call_says_so(self, broker: EmbeddedBroker, fleet: str, until, join) -> None:
        """A lease of higher rank has appeared, as after a suspension."""
        device = join("d1")
        rival = Identity(
            fleet=fleet, peer="d1", role="device", boot_id="rival", epoch_after=device.epoch
        )
        link = Link(broker.address, "rival", clean_session=True)
        link.connect(5.0)
        rival.move(link)
        with rival._changed:
            rival._publish(rival._tenancy._take())
        until(lambda: device._taken is not None)
        with pytest.raises(IdentityTaken):
            device.receive(5.0)
        with pytest.raises(IdentityTaken):
            device.send(COORDINATOR, RunEnded(run="r", reason="completed"))
        until(lambda: not device.online)
        link.close()
        device.close()
        assert device.receive(1.0) is None
        with pytest.raises(NotConnected):
            device.connect()


class TestBrokersOfOnesOwn:
    def test_rules_that_keep_leases_back_are_named(self, own_mosquitto) -> None:
        address = own_mosquitto(
            ["user d1", "topic write fimi/v1/+/d1/#", "topic read fimi/v1/+/+/all/#"],
            username="d1",
        )
        with pytest.raises(BrokerError, match=r"access rules.*fimi/v1/f/d1/d1/lease"):
            Peer(address, fleet="f", peer="d1", role="device").connect(timeout_s=1.0)

    def test_rules_that_let_nothing_be_written_are_named(self, own_mosquitto) -> None:
        address = own_mosquitto(["user d1", "topic write fimi/v1/f/d1/d1/#"], username="d1")
        with pytest.raises(NotAuthorised, match=r"may not write fimi/v1/f/d1/coordinator/#"):
            Peer(address, fleet="f", peer="d1", role="device").connect(timeout_s=5.0)

    def test_rules_of_a_fleet(self, own_mosquitto) -> None:
        """A device with a user of its own can do all it must, and cannot pass for another."""
        address = own_mosquitto(access_rules("f", ["generator"], []).splitlines(), username="d1")
        with Peer(address, fleet="f", peer="d1", role="device") as device:
            assert device.online
            with pytest.raises(IdentityTaken):
                Peer(address, fleet="f", peer="d1", role="device").connect()
            heard = threading.Event()
            link = Link(
                address,
                "x",
                clean_session=True,
                subscriptions=topics.subscriptions("f", "d1"),
                on_message=lambda topic, *_: heard.set() if "/d2/" in topic else None,
            )
            link.connect(5.0)
            link.publish("fimi/v1/f/d2/d1/message", b"x", qos=1).wait_for_publish(5.0)
            link.publish("fimi/v1/f/d1/d1/message", b"x", qos=1).wait_for_publish(5.0)
            link.close()
            assert not heard.is_set()
