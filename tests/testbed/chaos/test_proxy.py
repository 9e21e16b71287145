"""The proxy with real sockets, and a real Mosquitto behind it."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

import paho.mqtt.client as mqtt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from fimi.messaging.broker.embedded import EmbeddedBroker, find_mosquitto
from fimi.messaging.client import Peer
from fimi.testbed.chaos.frames import MessageFaults
from fimi.testbed.chaos.line import LinkShape
from fimi.testbed.chaos.proxy import Proxy, ProxyError


@pytest.fixture(scope="module")
def echo() -> Iterator[tuple[str, int]]:
    """A server that gives back what it gets, and ends when the client has."""
    server = socket.create_server(("127.0.0.1", 0), backlog=512)

    def answer(sock: socket.socket) -> None:
        with sock:
            try:
                while data := sock.recv(65536):
                    sock.sendall(data)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                sock, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield server.getsockname()[:2]
    server.close()


def exchange(address: tuple[str, int], data: bytes) -> bytes:
    """Send all, and read until the end."""
    with socket.create_connection(address, timeout=20) as sock:

        def send() -> None:
            with contextlib.suppress(OSError):  # it was refused
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = bytearray()
        while piece := sock.recv(65536):
            got += piece
        sender.join()
    return bytes(got)


def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "not in time"
        time.sleep(0.01)


SHAPES = st.builds(
    LinkShape,
    rate_bps=st.none() | st.floats(2e6, 1e9),
    buffer_bytes=st.integers(2048, 1 << 17),
    delay_s=st.floats(0.0, 0.005),
    jitter_s=st.floats(0.0, 0.002),
)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(up=SHAPES, down=SHAPES, size=st.integers(0, 40_000), messages=st.booleans())
def test_every_byte_arrives_in_order(echo, up, down, size, messages):
    data = random.Random(size).randbytes(size)
    with Proxy(echo, up=up, down=down, messages=messages) as proxy:
        assert exchange(proxy.address, data) == data
        until(lambda: not proxy.connected)
        assert (proxy.counters.bytes_up, proxy.counters.bytes_down) == (size, size)


def test_many_connections_share_one_link_and_it_is_never_faster(echo):
    """60 connections, 5 kB each, over 4 Mbit/s in one way and 8 in the other."""
    up, down = LinkShape(rate_bps=4e6), LinkShape(rate_bps=8e6)
    with Proxy(echo, up=up, down=down) as proxy:
        data = [bytes([number]) * 5000 for number in range(60)]
        got: dict[int, bytes] = {}
        threads = [
            threading.Thread(target=lambda n=n: got.update({n: exchange(proxy.address, data[n])}))
            for n in range(60)
        ]
        began_s = time.monotonic()
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert [got[number] for number in range(60)] == data
        assert time.monotonic() - began_s >= 60 * 5000 * 8 / 4e6


def test_a_cut_resets_both_sides_and_lets_nobody_in_for_a_time(echo):
    with Proxy(echo) as proxy:
        sock = socket.create_connection(proxy.address)
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        assert proxy.cut(for_s=0.3) == 1
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        began_s, back = time.monotonic(), b""
        while back != b"again":
            time.sleep(0.02)
            with contextlib.suppress(OSError):
                back = exchange(proxy.address, b"again")
        assert time.monotonic() - began_s > 0.2
        assert proxy.counters.cut == 1 and proxy.counters.refused >= 1
        sock.close()


def test_what_is_frozen_comes_later_and_whole(echo):
    data = random.Random(1).randbytes(3_000_000)
    with Proxy(echo) as proxy:
        proxy.freeze("down")
        got: list[bytes] = []
        thread = threading.Thread(target=lambda: got.append(exchange(proxy.address, data)))
        thread.start()
        until(lambda: proxy.counters.bytes_up > 100_000)
        assert not got and not proxy.counters.bytes_down
        proxy.thaw()
        thread.join()
        assert hashlib.sha256(got[0]).digest() == hashlib.sha256(data).digest()


def test_a_half_open_connection_swallows_and_hides_the_end_of_a_side(echo):
    with Proxy(echo) as proxy:
        old = socket.create_connection(proxy.address)
        old.sendall(b"before")
        assert old.recv(6) == b"before"
        assert proxy.go_silent("up") == 1
        old.sendall(b"lost" * 1000)
        until(lambda: proxy.counters.swallowed == 4000)
        assert exchange(proxy.address, b"a new one works") == b"a new one works"
        old.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes((1, 0, 0, 0, 0, 0, 0, 0)))
        old.close()  # a reset
        time.sleep(0.1)
        assert proxy.connected == 1, "the server must not hear of it"
        assert proxy.go_silent("both", for_s=0.05) == 1
        until(lambda: not proxy.connected)


def test_a_broker_that_is_away_refuses(free_port):
    with Proxy(("127.0.0.1", free_port)) as proxy:
        with pytest.raises(OSError):
            exchange(proxy.address, b"anybody there?")
            raise ConnectionResetError  # an end without data is a refusal as well
        assert proxy.counters.refused == 1


def test_errors_say_what_to_do(echo):
    with Proxy(echo) as proxy, pytest.raises(ProxyError, match=r"cannot listen .* a free port"):
        Proxy(echo, port=proxy.address[1]).start()
    with pytest.raises(ProxyError, match="cannot be found"):
        Proxy(("no.such.host.invalid", 1)).start()
    with Proxy(echo) as proxy, pytest.raises(ValueError, match="messages=True"):
        proxy.disturb(MessageFaults(duplicate=1.0))


@pytest.fixture(scope="module")
def mosquitto() -> Iterator[EmbeddedBroker]:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with EmbeddedBroker("mosquitto") as broker:
        yield broker


@pytest.mark.parametrize("version", [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_mosquitto_and_paho_live_with_what_is_done_to_messages(mosquitto, version, qos):
    """All arrive, none is confirmed twice, nobody is disconnected."""
    address = mosquitto.address
    ended: list[object] = []
    arrived: list[bytes] = []
    confirmed: list[int] = []

    def client(port: int) -> mqtt.Client:
        made = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=version)
        made.username_pw_set(address.username, address.password)
        made.on_disconnect = lambda *a: ended.append(a[3])
        made.connect(address.host, port)
        made.loop_start()
        return made

    topic = f"fimi/v1/chaos-{qos}-{version}/a/b/message"
    with Proxy((address.host, address.port), messages=True, seed=qos) as proxy:
        proxy.disturb(MessageFaults(duplicate=0.3, reorder=0.3, hold_s=0.1))
        listener, speaker = client(proxy.address[1]), client(proxy.address[1])
        heard = threading.Event()
        listener.on_subscribe = lambda *_: heard.set()
        listener.on_message = lambda *a: arrived.append(a[2].payload)
        speaker.on_publish = lambda *a: confirmed.append(a[2])
        until(lambda: listener.is_connected() and speaker.is_connected())
        listener.subscribe(topic, qos)
        assert heard.wait(10)
        said = [number.to_bytes(2, "big") * 50 for number in range(150)]
        sent = [speaker.publish(topic, each, qos).mid for each in said]
        until(lambda: set(arrived) == set(said) and len(confirmed) >= 150)
        up, down = proxy.frames
        assert sorted(confirmed) == sent
        assert up.published == 150 and up.duplicated > 10 and up.reordered > 10
        assert down.published >= 150 and down.duplicated > 10
        assert not ended
        assert arrived != sorted(arrived) and (len(arrived) > 150 or qos == 2)
        for each in (listener, speaker):
            each.disconnect()
            each.loop_stop()


def test_a_payload_crosses_a_bad_link_whole(mosquitto):
    """Slow, late, repeated, out of order, and cut in the middle."""
    data = random.Random(3).randbytes(600_000)
    address = mosquitto.address
    with Proxy(
        (address.host, address.port),
        up=LinkShape(rate_bps=8e6, delay_s=0.002, jitter_s=0.002),
        messages=True,
    ) as proxy:
        proxy.disturb(MessageFaults(duplicate=0.2, reorder=0.2))
        host, port = proxy.address
        behind = type(address)(
            host=host, port=port, username=address.username, password=address.password
        )
        with (
            Peer(behind, fleet="bad-link", peer="d1", role="device") as device,
            Peer(address, fleet="bad-link", peer="coordinator", role="coordinator") as asker,
        ):
            offer = device.transfers.serve(data, "noise")
            cutter = threading.Timer(0.3, proxy.cut)
            cutter.start()
            assert asker.transfers.fetch(offer, 60.0) == data
            cutter.join()
            assert proxy.counters.cut >= 1
