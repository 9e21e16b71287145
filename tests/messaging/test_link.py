"""What a link agrees with brokers of either version of MQTT, and with none."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion

from fimi.messaging import backoff, link
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.errors import BrokerTimeout, MessageRefused
from fimi.messaging.link import Link
from fimi.messaging.messages.orders import RunEnded
from fimi.messaging.topics import COORDINATOR

EVERYTHING = ["user fimi", "topic readwrite #"]


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process, in which no broker has answered yet."""
    monkeypatch.setattr(link, "_spoken", {})
    monkeypatch.setattr(
        link, "VERSIONS", (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311)
    )


@contextmanager
def connected(address: BrokerAddress, name: str = "x", **options: object) -> Iterator[Link]:
    a_link = Link(address, name, clean_session=True, **options)
    a_link.connect(10.0)
    try:
        yield a_link
    finally:
        a_link.close()


class TestVersion:
    def test_five_where_the_broker_has_it(self, mosquitto: EmbeddedBroker) -> None:
        with connected(mosquitto.address) as a_link:
            assert a_link.version == "5"

    def test_three_where_it_refuses_five(self, amqtt: EmbeddedBroker) -> None:
        for _ in range(2):
            with connected(amqtt.address) as a_link:
                assert a_link.version == "3.1.1"

    def test_three_where_it_does_not_answer_in_five(
        self, mosquitto: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As amqtt by itself does: it waits for the rest of what it takes for 3.1.1."""
        monkeypatch.setattr(link, "ANSWER_S", 0.2)
        with deaf_to_five(mosquitto.address) as (address, heard):
            with connected(address) as a_link:
                assert a_link.version == "3.1.1"
            assert heard == [5, 4]
            with connected(address) as a_link:
                assert a_link.version == "3.1.1"
            assert heard == [5, 4, 4]  # remembered

    def test_silence_in_a_version_that_is_known_is_no_reason_to_try_another(
        self, mosquitto: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with deaf_to_five(mosquitto.address) as (address, heard):
            place = (address.host, address.port)
            monkeypatch.setitem(link._spoken, place, MQTTProtocolVersion.MQTTv5)
            with pytest.raises(BrokerTimeout, match="does not answer in MQTT"):
                Link(address, "x").connect(0.3)
            assert heard == [5]
            with connected(address) as a_link:  # now it is open again
                assert a_link.version == "3.1.1"

    @pytest.mark.usefixtures("quick_reconnect")
    def test_another_broker_takes_the_place_of_one_that_had_five(
        self, mosquitto_missing: bool, free_port: int, until
    ) -> None:
        if mosquitto_missing:
            pytest.skip("mosquitto is not installed")
        first = EmbeddedBroker("mosquitto", port=free_port, password="sesame")
        with first, Peer(first.address, fleet="f", peer="d1", role="device") as peer:
            assert peer._link.version == "5"
            first.close()
            with EmbeddedBroker("amqtt", port=free_port, password="sesame"):
                until(lambda: peer.online and peer._identity.confirmed)
                assert peer._link.version == "3.1.1"
                peer.send(COORDINATOR, RunEnded(run="r", reason="completed"))
                assert peer.flush(10.0)


@contextmanager
def deaf_to_five(address: BrokerAddress) -> Iterator[tuple[BrokerAddress, list[int]]]:
    """A broker before which a relay holds back every connection of MQTT 5."""
    heard: list[int] = []
    sockets: list[socket.socket] = []
    server = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # closed at the other end
            while data := receive(source):
                sink.sendall(data)
        shut(sink)

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            sockets.append(client)
            head = receive(client)
            heard.append(head[head.index(b"MQTT") + 4])
            if heard[-1] == 5:
                continue
            broker = socket.create_connection((address.host, address.port))
            sockets.append(broker)
            broker.sendall(head)
            for pair in ((client, broker), (broker, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        port = server.getsockname()[1]
        yield (
            BrokerAddress(
                host="127.0.0.1", port=port, username=address.username, password=address.password
            ),
            heard,
        )
    finally:
        shut(server)
        server.close()
        thread.join()
        for sock in sockets:
            shut(sock)
            sock.close()


def receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1 << 16)
    except OSError:
        return b""


def shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


@contextmanager
def closing_each(server: socket.socket) -> Iterator[None]:
    """Every connection is taken and closed at once."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                server.accept()[0].close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        shut(server)
        thread.join()


class TestLargestPacket:
    """A broker of version 5 says what it takes; nothing larger is sent to it."""

    def test_nothing_larger_leaves(self, own_mosquitto) -> None:
        address = own_mosquitto(EVERYTHING, more=("max_packet_size 20000",))
        heard: list[bytes] = []
        done = threading.Event()

        def note(_topic: str, payload: bytes, _retained: bool) -> None:
            heard.append(payload)
            done.set()

        with connected(address, subscriptions=("t",), on_message=note) as a_link:
            limit = a_link.largest_payload("t")
            assert limit is not None
            assert 19_000 < limit < 20_000
            refused = a_link.publish("t", bytes(limit + 1), qos=1)
            assert refused.rc == MQTTErrorCode.MQTT_ERR_PAYLOAD_SIZE
            a_link.publish("t", bytes(limit), qos=1)
            assert done.wait(10.0)
            assert [len(payload) for payload in heard] == [limit]
            assert a_link.ready

    def test_chunks_suit_it(self, own_mosquitto) -> None:
        address = own_mosquitto(EVERYTHING, more=("max_packet_size 20000",))
        with (
            Peer(address, fleet="f", peer="d1", role="device") as device,
            Peer(address, fleet="f", peer=COORDINATOR, role="coordinator") as coordinator,
        ):
            offer = device.transfers.serve(bytes(100_000), "zeros")
            assert coordinator.transfers.fetch(offer, 30.0) == bytes(100_000)
            assert coordinator.transfers.counters.asked_again == 0
            assert device.transfers.counters.sent >= 6

    def test_messages_are_refused_in_words(self, own_mosquitto) -> None:
        address = own_mosquitto(EVERYTHING, more=("max_packet_size 20000",))
        with Peer(address, fleet="f", peer=COORDINATOR, role="coordinator") as peer:
            with pytest.raises(MessageRefused, match=r"RunEnded to d1 has 30\d+ B.*max_packet"):
                peer.send("d1", RunEnded(run="r", reason="x" * 30_000))
            assert peer.online


class TestSession:
    def test_a_new_process_gets_nothing_that_was_meant_for_the_one_before(
        self, own_mosquitto, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And after a lost connection everything that was sent meanwhile."""
        monkeypatch.setattr(backoff, "FIRST_S", 3.0)  # not before the message is sent
        address = own_mosquitto(EVERYTHING)
        heard: list[bytes] = []
        came = {name: threading.Event() for name in (b"to this one", b"while it is away")}

        def note(_: str, payload: bytes, retained: bool) -> None:
            heard.append(payload)
            if payload in came:
                came[payload].set()

        def publish(payload: bytes) -> None:
            sender.publish("t", payload, qos=1).wait_for_publish(10.0)

        def process() -> Link:
            started = Link(address, "me", subscriptions=("t",), on_message=note)
            started.connect(10.0)
            return started

        with connected(address, "sender") as sender:
            process().close()
            publish(b"to the one before")
            second = process()
            try:
                publish(b"to this one")
                assert came[b"to this one"].wait(10.0)
                assert heard == [b"to this one"]
                second._client.socket().shutdown(socket.SHUT_RDWR)
                publish(b"while it is away")
                assert came[b"while it is away"].wait(10.0)
            finally:
                second.close()


class TestReconnect:
    def test_says_for_how_long_the_broker_is_away(
        self,
        mortal: EmbeddedBroker,
        until,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr("fimi.messaging.heartbeat.AWAY_LOG_S", 0.2)
        with Peer(mortal.address, fleet="f", peer="d1", role="device", heartbeat_s=0.05) as peer:
            assert peer.broker_away_s() is None
            caplog.set_level(logging.WARNING)
            mortal.close()
            until(lambda: (peer.broker_away_s() or 0.0) > 0.5)
            mortal.start()
            until(lambda: peer.online)
            assert peer.broker_away_s() is None
        said = [record.getMessage() for record in caplog.records]
        assert sum("lost" in text for text in said) == 1
        assert sum("again after" in text for text in said) == 1
        assert any("away for" in text for text in said)

    def test_a_connection_that_does_not_hold_is_tried_ever_more_seldom(
        self, monkeypatch: pytest.MonkeyPatch, until
    ) -> None:
        """A broker that takes connections and closes them is not asked ten times a second."""
        pauses: list[float] = []
        failed = backoff.Backoff.failed

        def noted(self: backoff.Backoff, now_s: float) -> float:
            pauses.append(failed(self, now_s))
            return 0.01

        monkeypatch.setattr(backoff.Backoff, "failed", noted)
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = BrokerAddress(host="127.0.0.1", port=server.getsockname()[1])
            a_link = Link(address, "x")
            with pytest.raises(BrokerTimeout), closing_each(server):
                a_link.connect(1.0)
        assert len(pauses) > 5
        assert pauses[0] < 0.3 < 1.0 < max(pauses)
