"""The window on simulated links, whose capacity and delay are known exactly."""

from __future__ import annotations

import heapq
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.messaging.transfers.blocks import BLOCK_BYTES
from fimi.messaging.transfers.window import (
    FIRST_CHUNK_BYTES,
    FIRST_PATIENCE_S,
    MAX_CHUNK_BYTES,
    MAX_PATIENCE_S,
    MAX_WINDOW_BYTES,
    LinkWindow,
)


class Link:
    """A queue that a link of one rate empties, and a delay; asked for by a window."""

    clock_s = itertools.count(0.0, 1000.0)

    def __init__(self, rate_bps: float, delay_s: float) -> None:
        self.rate, self.delay_s = rate_bps / 8.0, delay_s

    def carry(self, window: LinkWindow, size_bytes: int) -> tuple[float, float]:
        """How long a payload takes, and the longest queue after the first second, s."""
        window.resume()
        began_s = now_s = free_s = next(self.clock_s)
        asked, came, flying = 0, 0, 0
        number, worst_s = itertools.count(), 0.0
        landing: list[tuple[float, int, int, float]] = []
        while came < size_bytes:
            while flying + window.chunk_bytes <= window.size_bytes and asked < size_bytes:
                part = min(window.chunk_bytes, size_bytes - asked)
                reaches_s = now_s + self.delay_s / 2
                free_s = max(free_s, reaches_s) + part / self.rate
                heapq.heappush(landing, (free_s + self.delay_s / 2, next(number), part, now_s))
                asked, flying = asked + part, flying + part
                if now_s > began_s + 1.0:
                    worst_s = max(worst_s, free_s - reaches_s)
            now_s, _, part, asked_s = heapq.heappop(landing)
            came, flying = came + part, flying - part
            took_s = now_s - asked_s
            window.came(part, took_s, now_s)
        return now_s - began_s, worst_s


@pytest.mark.parametrize("delay_s", [0.001, 0.02, 0.2])
@pytest.mark.parametrize("rate_bps", [200e3, 5e6, 20e6, 200e6])
def test_a_link_is_filled_and_not_more(rate_bps: float, delay_s: float) -> None:
    """Ten seconds of payload take little more, and other messages wait for a short queue only."""
    link, window = Link(rate_bps, delay_s), LinkWindow()
    size_bytes = round(10.0 * rate_bps / 8.0)
    took_s, queue_s = link.carry(window, size_bytes)
    least_s = max(10.0, size_bytes / MAX_WINDOW_BYTES * delay_s)
    assert least_s <= took_s + delay_s < least_s + 30.0 * delay_s + 0.6
    smallest_s = 5 * 8.0 * FIRST_CHUNK_BYTES / rate_bps  # the first window, and one more
    assert queue_s < max(0.25 + 0.6 * delay_s, smallest_s)


def test_a_link_whose_usual_delay_is_above_its_least() -> None:
    """As on Wi-Fi, or behind late acknowledgements: a small window does not stay small."""
    link, window = Link(8e6, 0.002), LinkWindow()
    link.carry(window, 100_000)
    link.delay_s = 0.042
    window.resume()
    for now_s in range(3):  # one bad moment
        window.came(4096, 0.5, float(now_s))
    took_s, _ = link.carry(window, 5_000_000)
    assert took_s < 7.5  # 5 s by the rate alone; 8.6 s with a window that no longer grows


def test_the_queue_of_its_own_is_not_taken_for_the_link() -> None:
    link, window = Link(20e6, 0.005), LinkWindow()
    link.carry(window, 10_000_000)
    before = window.size_bytes
    for _ in range(10):
        link.carry(window, 10_000_000)
    assert window.size_bytes < 1.3 * before


def test_a_link_that_becomes_slower_and_further() -> None:
    window = LinkWindow()
    Link(200e6, 0.001).carry(window, 50_000_000)
    Link(2e6, 0.3).carry(window, 2_000_000)
    took_s, queue_s = Link(2e6, 0.3).carry(window, 5_000_000)
    assert took_s < 25.0
    assert queue_s < 1.0


class TestLimits:
    @given(
        st.lists(
            st.tuples(
                st.integers(1, MAX_CHUNK_BYTES),
                st.floats(1e-6, 1e3),
                st.sampled_from(["silence", "overtaken", "disconnected", ""]),
            ),
            max_size=30,
        ),
        st.sampled_from([None, 1e3, 1e6, 1e9]),
    )
    def test_whatever_is_seen(self, seen, rate_bps: float | None) -> None:
        window, now_s = LinkWindow(rate_bps), 0.0
        for size_bytes, took_s, lost in seen:
            now_s += took_s
            if lost:
                window.lost(size_bytes, lost)
                window.back_off()
            else:
                window.came(size_bytes, took_s, now_s)
            chunk, size = window.chunk_bytes, window.size_bytes
            assert BLOCK_BYTES <= chunk <= MAX_CHUNK_BYTES and chunk % BLOCK_BYTES == 0
            assert 2 * chunk <= size <= max(MAX_WINDOW_BYTES, 2 * chunk)
            assert 0.0 < window.patience_s < 1e6

    def test_patience_grows_and_comes_back(self) -> None:
        window, waits = LinkWindow(), []
        for _ in range(5):
            waits.append(window.patience_s)
            window.back_off()
        assert waits == [FIRST_PATIENCE_S, 4.0, 8.0, MAX_PATIENCE_S, MAX_PATIENCE_S]
        window.came(4096, 0.1, 1.0)
        assert window.patience_s == pytest.approx(0.1 + 4 * 0.05)

    @pytest.mark.parametrize("rate_bps", [1e3, 20e3, 100e3, 1e6])
    def test_a_paced_holder_is_given_time(self, rate_bps: float) -> None:
        """Chunks that come when a link of that rate brings them are not asked for twice."""
        window = LinkWindow(rate_bps)
        assert window.patience_s >= 3 * 8.0 * window.size_bytes / rate_bps
        assert window.chunk_bytes <= max(BLOCK_BYTES, rate_bps / 8.0 * 0.02)


class TestBrokersThatTakeLess:
    def test_large_chunks_that_others_overtake(self) -> None:
        window = LinkWindow()
        for n in range(400):
            window.came(4096, 0.001, 0.001 * n)
        assert window.chunk_bytes > 200_000
        while window.chunk_bytes > 100_000:
            window.lost(window.chunk_bytes, "overtaken")
        assert window.ceiling_bytes <= 131_072
        window.came(window.chunk_bytes, 0.001, 1.0)
        assert window.chunk_bytes <= 131_072  # not tried again

    def test_silence_says_nothing_of_the_size(self) -> None:
        window = LinkWindow()
        window.came(4096, 0.001, 0.0)
        window.lost(1_000_000, "silence")
        assert window.ceiling_bytes == MAX_CHUNK_BYTES

    def test_unless_what_is_smaller_comes_at_once(self) -> None:
        window = LinkWindow()
        for n in range(400):
            window.came(4096, 0.001, 0.001 * n)
        for _ in range(2):
            assert window.chunk_bytes == MAX_CHUNK_BYTES
            window.lost(MAX_CHUNK_BYTES, "silence")
            window.back_off()
        assert window.chunk_bytes == 4096
        window.came(4096, 0.001, 1.0)
        assert window.ceiling_bytes == MAX_CHUNK_BYTES // 2

    @pytest.mark.parametrize("dropped", [5_000, 20_000, 100_000, 255_000, MAX_CHUNK_BYTES])
    def test_a_link_that_stood_still_is_no_small_broker(self, dropped: int) -> None:
        """A broker that drops what is larger than ``dropped`` costs little; another one nothing."""
        window, now_s, lost = LinkWindow(), 0.0, []
        window.came(4096, 0.001, now_s)
        for _ in range(2):  # as if 8 KiB were too large
            window.lost(8192, "silence")
            window.back_off()
        for n in range(6_000):
            now_s += 0.001
            size = window.chunk_bytes
            if size > dropped:
                lost.append(n)
                window.lost(size, "overtaken")
            else:
                window.came(size, 0.001, now_s)
        assert window.chunk_bytes > min(dropped, MAX_CHUNK_BYTES) / 2 - BLOCK_BYTES
        assert len(lost) <= 12
        assert not [n for n in lost if n > 3_000][2:]

    def test_a_connection_that_goes_under_large_chunks(self) -> None:
        window = LinkWindow()
        window.came(4096, 0.001, 0.0)
        window.lost(1_000_000, "disconnected")
        assert window.ceiling_bytes == MAX_CHUNK_BYTES
        window.lost(1_000_000, "disconnected")
        assert window.ceiling_bytes == 500_000

    def test_before_anything_came(self) -> None:
        window = LinkWindow()
        sizes = []
        for _ in range(4):
            sizes.append(window.chunk_bytes)
            window.back_off()
        assert sizes == [4096, 2048, 1024, 1024]
