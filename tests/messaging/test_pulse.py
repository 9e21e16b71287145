"""A dead connection is noticed within ten seconds, and a slow one is never taken for dead.

:class:`Path` is an independent model of what lies between a peer and its broker: two directions of
some rate, and a proxy that buffers on the way there. The rest uses real sockets and a real broker.
"""

from __future__ import annotations

import math
import os
import socket
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.messaging import pulse as pulses
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.errors import TransferCancelled
from fimi.messaging.pulse import Pulse, Signs
from fimi.messaging.topics import COORDINATOR
from fimi.messaging.traffic import Traffic, traffic_of

STEP_S = 0.05
LOOK_S = 0.25
NOTICED_S = 10.0
PULSE_BYTES = 60


@dataclass
class Way:
    """One direction: messages leave in order, at a rate, unless it swallows them."""

    rate_bps: float
    queue: deque[list[float]] = field(default_factory=deque)  # bytes left, its number or -1
    passed: float = 0.0

    def put(self, size: float, number: int = -1) -> None:
        self.queue.append([size, number])

    @property
    def waiting(self) -> float:
        return math.fsum(left for left, _ in self.queue)

    def run(self, seconds: float) -> list[int]:
        """What has arrived by then."""
        room, arrived = self.rate_bps / 8.0 * seconds, []
        while self.queue and room > 0.0:
            taken = min(room, self.queue[0][0])
            room -= taken
            self.passed += taken
            self.queue[0][0] -= taken
            if self.queue[0][0] <= 1e-9:
                arrived.append(int(self.queue.popleft()[1]))
        return arrived


class Path:
    """A connection, its broker, and its pulse; bulk data on the way up and down, small messages.

    ``buffer`` bytes of a proxy acknowledge what has not gone further.
    """

    def __init__(self, *, up_bps: float, down_bps: float, buffer: float = 0.0) -> None:
        self.up, self.down = Way(up_bps), Way(down_bps)
        self.buffer = buffer
        self.now_s = 0.0
        self.pulse = Pulse(0.0)
        self.put = self.acked = self.heard = 0.0
        self.dead_up = self.dead_down = False
        self.expected = 0.0
        self.looked_s = -1.0
        self.verdict = "wait"

    def send(self, size: float, number: int = -1) -> None:
        self.put += size
        self.up.put(size, number)

    def ask(self, size: float) -> None:
        """The broker queues a payload that was asked for."""
        self.expected += size
        self.down.put(size)

    def step(self) -> None:
        self.now_s += STEP_S
        if not self.dead_up or self.buffer:
            # what a proxy swallows is acknowledged; a cable that was pulled acknowledges nothing
            arrived = self.up.run(STEP_S)
            for number in arrived if not self.dead_up else ():
                if number >= 0:
                    self.down.put(PULSE_BYTES, number)
            self.acked = max(self.acked, min(self.put, self.up.passed + self.buffer))
        if not self.dead_down:
            before = self.down.passed
            for number in self.down.run(STEP_S):
                if number >= 0:
                    self.pulse.came_back(number, self.now_s)
            self.heard += self.down.passed - before
            self.expected = max(0.0, self.expected - (self.down.passed - before))
        if self.now_s - self.looked_s >= LOOK_S - 1e-9 and self.verdict != "dead":
            self.looked_s = self.now_s
            self.look()

    def look(self) -> None:
        traffic = Traffic(int(self.acked), int(self.heard), int(self.put - self.acked), 0)
        seen = Signs(written=True, traffic=traffic, expected_bytes=int(self.expected))
        self.verdict = self.pulse.look(self.now_s, seen)
        if self.verdict == "send":
            self.pulse.sent(self.now_s, traffic)
            self.send(PULSE_BYTES, self.pulse.number)

    def work(self, seconds: float, *, window: float, chatter_s: float = math.inf) -> None:
        """Keep ``window`` bytes of bulk under way in both directions; hear others now and then."""
        due_s = self.now_s + chatter_s
        for _ in range(round(seconds / STEP_S)):
            if self.verdict == "dead":
                return
            if window and self.up.waiting < window / 2:
                self.send(window / 2)
            if window and not self.dead_up and self.down.waiting < window / 2:
                self.ask(window / 2)
            if self.now_s >= due_s:
                due_s += chatter_s
                self.down.put(200.0)
            self.step()


rates = st.floats(200e3, 1e9)
windows = st.sampled_from((0.0, 65_536.0, 262_144.0, 491_520.0))
buffers = st.sampled_from((0.0, 20_000.0, 200_000.0))


class TestDecision:
    @given(up=rates, down=rates, window=windows, buffer=buffers, seed=st.randoms())
    @settings(max_examples=80, deadline=None)
    def test_a_link_full_of_bulk_is_alive(self, up, down, window, buffer, seed) -> None:
        """Whatever its rates from 200 kbit/s on; heartbeats of others come every 5 s."""
        path = Path(up_bps=up, down_bps=down, buffer=buffer)
        path.work(seed.uniform(0.0, 5.0), window=0.0, chatter_s=5.0)
        path.work(60.0, window=window, chatter_s=5.0)
        assert path.verdict != "dead", path.pulse.why

    @given(
        rate=st.floats(8e6, 1e9),
        window=windows,
        way=st.sampled_from(("up", "down", "both")),
        buffer=st.sampled_from((0.0, 200_000.0)),
        at_s=st.floats(6.0, 12.0),
        chatter_s=st.sampled_from((0.05, 1.0, math.inf)),
    )
    @settings(max_examples=120, deadline=None)
    def test_a_dead_one_is_noticed_within_ten_seconds(
        self, rate, window, way, buffer, at_s, chatter_s
    ) -> None:
        """In either direction or both, idle or busy, with or without messages of others."""
        path = Path(up_bps=rate, down_bps=rate, buffer=buffer)
        path.work(at_s, window=window, chatter_s=chatter_s)
        assert path.verdict != "dead"
        died_s = path.now_s
        path.dead_up, path.dead_down = way != "down", way != "up"
        path.work(NOTICED_S, window=window, chatter_s=chatter_s)
        assert path.verdict == "dead"
        assert path.now_s - died_s <= NOTICED_S

    def test_a_process_that_stood_still_blames_itself(self) -> None:
        pulse, traffic = Pulse(0.0), Traffic(100, 100, 0, 0)
        assert pulse.look(0.0, Signs(traffic=traffic)) == "send"
        pulse.sent(0.0, traffic)
        assert pulse.look(0.25, Signs(traffic=traffic)) == "wait"
        assert pulse.look(60.0, Signs(traffic=traffic)) == "wait"
        pulse.came_back(1, 60.1)
        assert not pulse.on_its_way

    def test_what_lies_unread_is_no_silence(self) -> None:
        """The network thread is busy with something else; its echo is among what lies there."""
        pulse, traffic = Pulse(0.0), Traffic(100, 100, 0, 4000)
        pulse.sent(0.0, traffic)
        verdicts = {pulse.look(0.25 * n, Signs(traffic=traffic)) for n in range(400)}
        assert verdicts == {"wait"}

    def test_where_the_system_does_not_tell(self) -> None:
        pulse, now_s = Pulse(0.0), 0.0
        pulse.sent(0.0)
        while pulse.look(now_s, Signs()) == "wait":
            now_s += LOOK_S
        assert now_s == pulses.UNKNOWN_PATIENCE_S

    def test_an_echo_of_another_pulse_counts_for_nothing(self) -> None:
        pulse = Pulse(0.0)
        pulse.sent(0.0)
        pulse.came_back(7, 0.1)
        assert pulse.on_its_way


class Relay:
    """Stands before a broker; each direction may swallow, or pass bytes at a limited rate."""

    def __init__(self, broker: BrokerAddress, rate_bps: float = math.inf) -> None:
        self._broker = broker
        self._rate_bps = rate_bps
        self.swallows: set[str] = set()
        self.bytes = {"up": 0, "down": 0}
        self._sockets: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.address = BrokerAddress(
            host="127.0.0.1",
            port=self._server.getsockname()[1],
            username=broker.username,
            password=broker.password,
        )

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                there = socket.create_connection((self._broker.host, self._broker.port))
                if math.isfinite(self._rate_bps):  # a link has no room for seconds of data
                    for sock in (client, there):
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
                self._sockets += [client, there]
                for name, source, sink in (("up", client, there), ("down", there, client)):
                    threading.Thread(
                        target=self._pump, args=(name, source, sink), daemon=True
                    ).start()

    def _pump(self, name: str, source: socket.socket, sink: socket.socket) -> None:
        due_s = time.monotonic()
        with suppress(OSError):
            while data := source.recv(4096):
                self.bytes[name] += len(data)
                due_s = max(due_s, time.monotonic()) + 8.0 * len(data) / self._rate_bps
                time.sleep(max(0.0, due_s - time.monotonic()))
                if name not in self.swallows:
                    sink.sendall(data)
        if not self.swallows:
            for sock in (source, sink):
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for sock in (self._server, *self._sockets):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._thread.join()


class TestReally:
    def test_swallowed_in_one_direction_or_both_and_slow(
        self, mosquitto: EmbeddedBroker, fleet: str, until, caplog: pytest.LogCaptureFixture
    ) -> None:
        """All at the same time, with the limits that hold in life; slow is 200 kbit/s, and full."""
        ways = {"a": {"up"}, "b": {"down"}, "c": {"up", "down"}, "busy": {"up"}}
        payload = os.urandom(150_000)
        lost_s: dict[str, float] = {}
        with ExitStack() as stack:
            peers, relays = {}, {}
            coordinator = stack.enter_context(
                Peer(mosquitto.address, fleet=fleet, peer=COORDINATOR, role="coordinator")
            )
            for name in (*ways, "slow"):
                relays[name] = relay = Relay(
                    mosquitto.address, rate_bps=200e3 if name == "slow" else math.inf
                )
                stack.callback(relay.close)
                peers[name] = stack.enter_context(
                    Peer(relay.address, fleet=fleet, peer=name, role="device", chunk_bytes=32_768)
                )
            pool = stack.enter_context(ThreadPoolExecutor(2))
            slow = peers["slow"].transfers.serve(payload, "noise")
            fetched = pool.submit(coordinator.transfers.fetch, slow, 60.0)
            lost_s: dict[str, float] = {}
            peers["busy"].set_pacing(8e6)
            much = peers["busy"].transfers.serve(os.urandom(12_000_000), "noise")
            broken_off = pool.submit(
                coordinator.transfers.fetch, much, 60.0, cancelled=lambda: "busy" in lost_s
            )
            until(lambda: relays["busy"].bytes["up"] > 4_000_000)  # its rate is proven
            for name, swallows in ways.items():
                relays[name].swallows |= swallows
            began_s = time.monotonic()

            def all_lost() -> bool:
                for name in ways.keys() - lost_s.keys():
                    if not peers[name].online:
                        lost_s[name] = time.monotonic() - began_s
                        relays[name].swallows.clear()
                return len(lost_s) == len(ways)

            until(all_lost, 30.0)
            assert fetched.result() == payload
            assert isinstance(broken_off.exception(), TransferCancelled)
            until(lambda: all(peer.online for peer in peers.values()), 20.0)
            assert peers["slow"]._link.sessions == 1
            said = [r.getMessage() for r in caplog.records if "given up" in r.getMessage()]
        assert max(lost_s.values()) < 15.0, lost_s  # ten seconds, and a busy machine
        assert len(said) == len(ways)

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
    def test_what_the_kernel_tells(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            one = socket.create_connection(server.getsockname())
            other, _ = server.accept()
            before = traffic_of(one)
            assert before is not None
            one.sendall(bytes(1000))
            other.sendall(bytes(300))
            deadline_s = time.monotonic() + 10.0
            while (now := traffic_of(one)) is not None and time.monotonic() < deadline_s:
                if (now.acked - before.acked, now.unread, now.unacked) == (1000, 300, 0):
                    break
            assert now is not None
            assert (now.acked - before.acked, now.received - before.received) == (1000, 300)
            assert (now.unread, now.unacked) == (300, 0)
            one.close()
            other.close()
            assert traffic_of(one) is None
