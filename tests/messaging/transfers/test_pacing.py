"""Sending at a rate without help from the operating system."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.messaging.link import Link
from fimi.messaging.topics import COORDINATOR
from fimi.messaging.transfers.pacing import CHUNK_S, TokenBucket
from fimi.messaging.transfers.wire import Want, encode_transfer


class Hands:
    """A clock that is set by waiting."""

    def __init__(self) -> None:
        self.now_s = 100.0


@given(
    st.floats(1e3, 1e9),
    st.lists(st.tuples(st.integers(1, 1 << 20), st.floats(0.0, 5.0)), min_size=1, max_size=30),
)
def test_never_more_than_the_rate_whatever_the_pauses(
    rate_bps: float, sends: list[tuple[int, float]]
) -> None:
    """A pause buys the time that a thread may be late, and no more."""
    hands = Hands()
    bucket = TokenBucket(rate_bps, late_s=0.05, now_s=lambda: hands.now_s)
    began_s, sent = hands.now_s, 0
    for size, pause_s in sends:
        hands.now_s += bucket.take(size)
        sent += size
        assert sent <= rate_bps * (hands.now_s - began_s + 1e-9) / 8.0 * (1 + 1e-6) + 1
        hands.now_s += pause_s


def test_the_first_chunk_takes_its_time_as_well() -> None:
    hands = Hands()
    assert TokenBucket(8e3, now_s=lambda: hands.now_s).take(500) == pytest.approx(0.5)


@given(st.lists(st.floats(0.0, 0.04), min_size=50, max_size=50))
def test_a_steady_sender_gets_its_rate_though_it_is_woken_late(late_s: list[float]) -> None:
    hands = Hands()
    bucket = TokenBucket(8e5, now_s=lambda: hands.now_s)
    for late in late_s:
        hands.now_s += bucket.take(10_000) + late
    assert 5.0 - 1e-6 <= hands.now_s - 100.0 <= 5.0 + 0.04 + 1e-6


def test_a_pause_is_not_made_good() -> None:
    hands = Hands()
    bucket = TokenBucket(8e5, late_s=0.05, now_s=lambda: hands.now_s)
    hands.now_s += 60.0
    assert bucket.take(10_000) == pytest.approx(0.05)
    assert bucket.take(10_000) == pytest.approx(0.15)


@pytest.mark.parametrize("rate_bps", [0.0, -1.0, float("nan")])
def test_impossible(rate_bps: float) -> None:
    with pytest.raises(ValueError, match="> 0"):
        TokenBucket(rate_bps)


class TestOnAConnection:
    def test_read_back_from_the_kernel(self, join) -> None:
        device = join("d1")
        assert device.pacing_bps() is None
        if device.set_pacing(12e6) != "socket-pacing":
            pytest.skip("paced by Linux only")
        assert device.pacing_bps() == 12e6
        assert device.set_pacing(None) == "unlimited"
        assert device.pacing_bps() is None

    @pytest.mark.parametrize("rate_bps", [100e3, 400e3, 5e6])
    def test_payload_moves_at_the_rate_and_no_chunk_twice(self, join, rate_bps: float) -> None:
        """A second and a half of payload: shorter, and a busy machine would decide the result."""
        device, coordinator = join("d1"), join(COORDINATOR)
        device.set_pacing(rate_bps)
        data = os.urandom(round(1.5 * rate_bps / 8.0))
        offer = device.transfers.serve(data, "noise")
        begin_s = time.monotonic()
        assert coordinator.transfers.fetch(offer, 20.0) == data
        took_s = time.monotonic() - begin_s
        assert device.transfers.counters.sent_bytes == len(data)
        assert coordinator.transfers.counters.asked_again == 0
        assert took_s == pytest.approx(1.5, rel=0.1)
        assert took_s > 0.95 * 1.5

    def test_chunks_suit_the_rate(self, join) -> None:
        device = join("d1")
        device.set_pacing(400e3)
        coordinator = join(COORDINATOR)
        offer = device.transfers.serve(os.urandom(100_000), "noise")
        assert offer.rate_bps == 400e3
        coordinator.transfers.fetch(offer, 20.0)
        assert device.transfers.counters.sent >= 100_000 / (400e3 / 8.0 * CHUNK_S)

    def test_a_chunk_that_waits_for_its_turn_is_sent_once(self, join) -> None:
        """However often an impatient asker asks for it."""
        device, coordinator = join("d1"), join(COORDINATOR)
        device.set_pacing(40e3)
        offer = device.transfers.serve(os.urandom(5 * 1024), "noise")
        want = encode_transfer(Want(digest=offer.digest, runs=((0, 5),), chunk_bytes=1024))
        for _ in range(20):
            coordinator.transfers._carrier.publish("d1", "want", want)
        coordinator.transfers.fetch(offer, 20.0)
        # what has left before the last word is sent again
        assert device.transfers.counters.sent_bytes <= 7 * 1024

    def test_lifting_the_limit_lets_what_waits_go(self, join) -> None:
        device, coordinator = join("d1"), join(COORDINATOR)
        device.set_pacing(8e3)
        offer = device.transfers.serve(os.urandom(60_000), "noise")  # a minute's worth
        with ThreadPoolExecutor(1) as pool:
            fetch = pool.submit(coordinator.transfers.fetch, offer, 30.0)
            device.set_pacing(None)
            assert len(fetch.result(10.0)) == 60_000

    def test_the_peer_holds_back_where_the_kernel_does_not(
        self, join, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Link, "set_pacing", lambda *_: False)
        device, coordinator = join("d1"), join(COORDINATOR)
        assert device.set_pacing(12e6) == "token-bucket"
        assert device.pacing_bps() == 12e6
        offer = device.transfers.serve(os.urandom(1_000_000), "noise")
        start_s = time.monotonic()
        coordinator.transfers.fetch(offer, 20.0)
        assert time.monotonic() - start_s > 0.5
        assert device.set_pacing(None) == "unlimited"
