"""Clocks and rates against truths that the test makes; brokers that do not do what runs need."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from bench import DEVICE, Bench

from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.console import Console
from fimi.messaging.questions import Echo, Echoed
from fimi.testbed.fleet import probing
from fimi.testbed.fleet.probing import PROBE_BYTES, probe, try_broker


class World:
    """A board whose clock is ahead by a known time, behind a way of known delays and rates."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, ahead_s: float, there_s: float, back_s: float,
        there_bps: float = 1e12, back_bps: float = 1e12, jitter_s: float = 0.0,
    ) -> None:  # fmt: skip
        self.now_s = 1_700_000_000.0
        self.ahead_s, self.delays = ahead_s, (there_s, back_s)
        self.rates = (there_bps, back_bps)
        self.dice, self.jitter_s = random.Random(0), jitter_s
        self.damage = False
        self.limit: int | None = None
        monkeypatch.setattr(probing.time, "time", lambda: self.now_s)
        monkeypatch.setattr(probing.time, "monotonic", lambda: self.now_s)

    def largest_payload(self) -> int | None:
        return self.limit

    def ask(self, board: str, question: Any, timeout_s: float) -> Echoed:
        size_bits = 8.0 * len(probing.encode(question))
        self.now_s += self.delays[0] + size_bits / self.rates[0] + self._jitter()
        received_s = self.now_s + self.ahead_s
        self.now_s += 0.003  # the board is slow
        replied_s = self.now_s + self.ahead_s
        self.now_s += self.delays[1] + size_bits / self.rates[1] + self._jitter()
        payload = question.payload
        if self.damage and payload:
            payload = payload[:-1] + bytes([payload[-1] ^ 1])
        return Echoed(payload=payload, received_unix_s=received_s, sent_unix_s=replied_s)

    def _jitter(self) -> float:
        return self.dice.uniform(0.0, self.jitter_s)


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(probing, "time", type("Time", (), dict(vars(time))))
    yield


class TestClock:
    @pytest.mark.parametrize("ahead_s", [-86400.0, -0.5, 0.0, 3e-4, 7.0])
    @pytest.mark.parametrize(("there_s", "back_s"), [(0.01, 0.01), (0.001, 0.05), (0.08, 0.0)])
    def test_it_is_within_its_uncertainty(
        self, monkeypatch: pytest.MonkeyPatch, ahead_s: float, there_s: float, back_s: float
    ) -> None:
        world: Any = World(monkeypatch, ahead_s=ahead_s, there_s=there_s, back_s=back_s)
        found = probe(world, "d1")
        assert abs(found.ahead_s - ahead_s) <= found.uncertainty_s + 1e-5
        assert found.uncertainty_s == pytest.approx((there_s + back_s) / 2.0, abs=1e-5)

    def test_of_a_busy_way_the_fastest_try_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world: Any = World(monkeypatch, ahead_s=1.0, there_s=0.01, back_s=0.01, jitter_s=0.5)
        found = probe(world, "d1")
        assert abs(found.ahead_s - 1.0) <= found.uncertainty_s
        assert found.uncertainty_s < 0.26  # of 8 tries with up to 1 s of jitter


class TestRates:
    def test_each_way_has_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world: Any = World(
            monkeypatch, ahead_s=5.0, there_s=0.001, back_s=0.001, there_bps=8e6, back_bps=1e6
        )
        found = probe(world, "d1")
        assert found.there.bps == pytest.approx(8e6, rel=0.03)
        assert found.back.bps == pytest.approx(1e6, rel=0.03)
        assert not (found.there.at_least or found.back.at_least)

    def test_what_is_too_fast_is_at_least(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world: Any = World(monkeypatch, ahead_s=0.0, there_s=0.1, back_s=0.1, there_bps=1e9)
        found = probe(world, "d1")
        assert found.there.at_least
        assert found.there.bps < 1e9

    def test_a_changed_chunk_is_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world: Any = World(monkeypatch, ahead_s=0.0, there_s=0.1, back_s=0.1)
        assert probe(world, "d1").damaged == 0
        world.damage = True
        assert probe(world, "d1").damaged == probing.CHUNK_TRIES

    def test_a_chunk_is_no_larger_than_the_broker_takes(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world: Any = World(monkeypatch, ahead_s=0.0, there_s=0.1, back_s=0.1)
        whole = probe(world, "d1").chunk_bytes
        world.limit = 50_000
        assert 40_000 < probe(world, "d1").chunk_bytes < 50_000 < whole

    def test_a_chunk_is_as_large_as_those_of_runs(self) -> None:
        payload = b"\x00" * (PROBE_BYTES * 3 // 4)
        assert 0 <= len(probing.encode(Echo(payload=payload))) - PROBE_BYTES < 200

    def test_a_way_back_that_the_kernel_holds_back(
        self, a_broker: EmbeddedBroker, fleet_name: str
    ) -> None:
        """A real board, whose connection Linux paces: it cannot be faster, whatever the machine.

        To a connection that has waited Linux gives up to half of each segment, which may have 64 kB
        on loopback (``tcp_update_skb_after_send``): at most twice the rate.
        """
        rate_bps = 2e6
        with (
            Bench(a_broker, fleet_name, joins=False) as bench,
            Console(a_broker.address, fleet=fleet_name) as console,
        ):
            if not bench.device.peer._link.set_pacing(rate_bps):
                pytest.skip("no socket pacing here")
            found = probe(console, DEVICE)
        assert found.damaged == 0
        assert found.back.bps < 2.1 * rate_bps
        assert abs(found.ahead_s) <= found.uncertainty_s + 1e-3  # one and the same clock


class TestBroker:
    def test_a_good_one(self, any_broker: EmbeddedBroker) -> None:
        checks = try_broker(any_broker.address, "desk")
        assert [(check.name, check.status) for check in checks] == [
            ("retained", "ok"),
            ("packets", "ok"),
        ]

    def test_one_that_keeps_nothing(self, own_mosquitto: Any) -> None:
        rules = ["user fimi", "topic readwrite #"]
        address = own_mosquitto(rules, more=("retain_available false",))
        (retained,) = try_broker(address, "desk", timeout_s=0.5)
        assert retained.status == "failure"
        assert "does not keep a message" in retained.found
        assert "retain_available" in retained.fix

    @pytest.mark.parametrize(
        ("line", "status", "words"),
        [
            ("max_packet_size 50000", "warning", "at once"),
            ("message_size_limit 50000", "failure", "drops a message"),
        ],
    )
    def test_one_that_takes_small_messages(
        self, own_mosquitto: Any, line: str, status: str, words: str
    ) -> None:
        address = own_mosquitto(["user fimi", "topic readwrite #"], more=(line,))
        retained, packets = try_broker(address, "desk", timeout_s=4.0)
        assert retained.status == "ok"
        assert packets.status == status
        assert words in packets.found
        assert "max_packet_size" in packets.fix
