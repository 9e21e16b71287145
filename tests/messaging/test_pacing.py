"""Sending at a rate without help from the operating system."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.link import Link
from messaging.pacing import TokenBucket
from messaging.topics import COORDINATOR


class Hands:
    """A clock that is set by waiting."""

    def __init__(self) -> None:
        self.now_s = 100.0


@given(
    st.floats(1e3, 1e9),
    st.lists(st.tuples(st.integers(1, 1 << 20), st.floats(0.0, 5.0)), min_size=1, max_size=30),
)
def test_never_more_than_the_rate_and_one_burst(
    rate_bps: float, sends: list[tuple[int, float]]
) -> None:
    hands = Hands()
    bucket = TokenBucket(rate_bps, burst_bytes=10_000, now_s=lambda: hands.now_s)
    began_s, sent = hands.now_s, 0
    for size, pause_s in sends:
        hands.now_s += bucket.take(size)
        sent += size
        allowed = rate_bps * (hands.now_s - began_s) / 8.0 + 10_000
        assert sent <= allowed * (1 + 1e-6) + 1
        hands.now_s += pause_s


def test_a_steady_sender_gets_its_rate() -> None:
    hands = Hands()
    bucket = TokenBucket(8e6, burst_bytes=1000, now_s=lambda: hands.now_s)
    for _ in range(100):
        hands.now_s += bucket.take(10_000)
    assert hands.now_s - 100.0 == pytest.approx(1.0, abs=0.001)


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

    def test_at_a_slow_rate_chunks_are_not_asked_for_again_and_again(self, join) -> None:
        device, coordinator = join("d1"), join(COORDINATOR)
        device.set_pacing(400e3)
        offer = device.transfers.serve(os.urandom(100_000), "noise")
        assert offer.chunk_bytes == 12_500
        coordinator.transfers.fetch(offer, 20.0)
        # Eight chunks; a busy machine may make one late.
        assert coordinator.transfers.counters.asked_again <= 1
        assert 8 <= device.transfers.counters.sent <= 10
        device.set_pacing(None)
        assert device.transfers.serve(os.urandom(100_000), "noise").chunk_bytes > 12_500

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
