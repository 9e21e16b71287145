from __future__ import annotations

import hashlib
from collections import deque

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.messaging.errors import TransferError
from fimi.messaging.messages import Offer
from fimi.messaging.transfers.chunks import (
    MAX_PATIENCE_S,
    PATIENCE_S,
    WINDOW,
    WINDOWS,
    Assembly,
    check_offer,
    chunk_bounds,
    chunk_count,
    first_patience_s,
)
from fimi.messaging.transfers.wire import Chunk, chunk_check


def offer(data: bytes, chunk_bytes: int = 4) -> Offer:
    digest = hashlib.sha256(data).hexdigest()
    return Offer(
        holder="h", digest=digest, size_bytes=len(data), chunk_bytes=chunk_bytes, media="x"
    )


def chunk(data: bytes, index: int, chunk_bytes: int = 4) -> Chunk:
    start, stop = chunk_bounds(len(data), chunk_bytes, index)
    piece = data[start:stop]
    check = chunk_check(index, piece)
    digest = hashlib.sha256(data).hexdigest()
    return Chunk(digest=digest, index=index, check=check, data=memoryview(piece))


class TestBounds:
    @given(st.integers(0, 10**7), st.integers(1, 10**6))
    def test_chunks_tile_the_payload(self, size_bytes: int, chunk_bytes: int) -> None:
        count = chunk_count(size_bytes, chunk_bytes)
        assert (count - 1) * chunk_bytes < size_bytes <= count * chunk_bytes or size_bytes == 0
        if count:
            assert chunk_bounds(size_bytes, chunk_bytes, 0)[0] == 0
            assert chunk_bounds(size_bytes, chunk_bytes, count - 1)[1] == size_bytes
            middle = count // 2
            if middle:
                before = chunk_bounds(size_bytes, chunk_bytes, middle - 1)
                assert before[1] == chunk_bounds(size_bytes, chunk_bytes, middle)[0]

    @given(st.integers(0, 1000), st.integers(1, 100))
    def test_there_are_no_others(self, size_bytes: int, chunk_bytes: int) -> None:
        for index in (-1, chunk_count(size_bytes, chunk_bytes)):
            with pytest.raises(IndexError):
                chunk_bounds(size_bytes, chunk_bytes, index)


class TestOffers:
    @pytest.mark.parametrize(
        ("size_bytes", "chunk_bytes", "says"),
        [(1001, 10, "max_bytes"), (900, 2 << 20, "chunks of"), (100_000_000, 1, "chunks")],
    )
    def test_refused_before_allocation(self, size_bytes: int, chunk_bytes: int, says: str) -> None:
        limit = 1000 if size_bytes < 10_000 else 1 << 30
        huge = Offer(
            holder="h",
            digest="0" * 64,
            size_bytes=size_bytes,
            chunk_bytes=chunk_bytes,
            media="x",
        )
        with pytest.raises(TransferError, match=says):
            check_offer(huge, limit)


class TestAssembly:
    @given(st.binary(max_size=60), st.integers(1, 20), st.integers(0, 2**32))
    def test_any_order_with_losses_and_repetitions(self, data, chunk_bytes, seed) -> None:
        dice = np.random.default_rng(seed)
        assembly = Assembly(offer(data, chunk_bytes))
        now_s, pending = 0.0, []
        while assembly.missing:
            pending += assembly.ask(now_s)
            assert len(assembly._flights) <= WINDOW
            if pending and dice.random() < 0.9:
                index = pending.pop(dice.integers(len(pending)))
                for _ in range(dice.choice((0, 1, 1, 2))):
                    assembly.accept(chunk(data, index, chunk_bytes), now_s)
            else:
                now_s = max(now_s, assembly.next_s())
        assert assembly.finish() == data

    def test_asks_up_to_the_window(self) -> None:
        data = bytes(40)
        assembly = Assembly(offer(data))
        assert assembly.ask(0.0) == (0, 1, 2, 3)
        assert assembly.ask(0.1) == ()
        assert assembly.accept(chunk(data, 2), 0.2) == "new"
        assert assembly.ask(0.2) == (4,)

    def test_waits_longer_each_time(self) -> None:
        assembly = Assembly(offer(b"abc"), patience_s=1.0)
        times, now_s = [], 0.0
        for _ in range(8):
            assert assembly.ask(now_s) == (0,)
            times.append(assembly.next_s() - now_s)
            now_s = assembly.next_s()
        assert times == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0, 10.0]
        assert max(times) == MAX_PATIENCE_S
        assert assembly.asked_again == 7

    def test_progress_defers_asking_again(self) -> None:
        data = bytes(16)
        assembly = Assembly(offer(data), patience_s=1.0)
        assembly.ask(0.0)
        assembly.accept(chunk(data, 0), 0.9)
        assert assembly.ask(1.5) == ()
        assert assembly.next_s() == pytest.approx(1.9)

    def test_slow_links_are_given_time(self) -> None:
        data = bytes(40)
        assembly = Assembly(offer(data), patience_s=1.0)
        assembly.ask(0.0)
        assembly.accept(chunk(data, 0), 2.0)  # took 2 s: wait 6 s for those asked for from now on
        for index in (1, 2, 3):
            assembly.accept(chunk(data, index), 2.0)
        assert assembly.ask(2.0) == (4, 5, 6, 7)
        assert assembly.next_s() == 8.0

    @pytest.mark.parametrize("rate_bps", [None, 1e3, 8e3, 100e3, 1e9])
    def test_patience_follows_the_rate_of_the_holder(self, rate_bps: float | None) -> None:
        """Chunks that come when a link of that rate brings them are asked for once."""
        data = bytes(64 * 1024)
        assembly = Assembly(
            msgspec.structs.replace(offer(data, chunk_bytes=1024), rate_bps=rate_bps)
        )
        chunk_s = 0.0 if rate_bps is None else 8.0 * 1024 / rate_bps
        now_s, waiting = 0.0, deque(assembly.ask(0.0))
        while waiting:
            now_s += chunk_s
            waiting.extend(assembly.ask(now_s - 1e-9))
            assembly.accept(chunk(data, waiting.popleft(), 1024), now_s)
            waiting.extend(assembly.ask(now_s))
        assert (assembly.missing, assembly.asked_again) == (0, 0)

    def test_patience_is_that_of_a_window_and_two_to_be_late(self) -> None:
        slow = msgspec.structs.replace(offer(bytes(8192), chunk_bytes=1000), rate_bps=1000.0)
        assert first_patience_s(slow) == pytest.approx(WINDOWS * WINDOW * 8.0)
        quick = msgspec.structs.replace(slow, rate_bps=1e9)
        assert first_patience_s(quick) == first_patience_s(offer(b"abc")) == PATIENCE_S

    def test_a_slow_holder_is_not_asked_sooner_the_second_time(self) -> None:
        slow = msgspec.structs.replace(offer(bytes(1000), chunk_bytes=1000), rate_bps=1000.0)
        assembly = Assembly(slow)
        assembly.ask(0.0)
        first_s = assembly.next_s()
        assembly.ask(first_s)
        assert assembly.next_s() - first_s == first_s == first_patience_s(slow) > MAX_PATIENCE_S

    def test_hurry(self) -> None:
        assembly = Assembly(offer(bytes(16)))
        asked = assembly.ask(0.0)
        assembly.hurry()
        assert assembly.ask(0.01) == asked

    @pytest.mark.parametrize("damage", ["data", "check", "size", "index", "swapped"])
    def test_damage_is_found(self, damage: str) -> None:
        data = b"abcdefghij"
        assembly = Assembly(offer(data))
        assembly.ask(0.0)
        good = chunk(data, 1)
        bad = {
            "data": Chunk(digest=good.digest, index=1, check=good.check, data=memoryview(b"efgX")),
            "check": Chunk(digest=good.digest, index=1, check=bytes(16), data=good.data),
            "size": Chunk(
                digest=good.digest, index=1, check=chunk_check(1, b"efg"), data=memoryview(b"efg")
            ),
            "index": Chunk(digest=good.digest, index=3, check=good.check, data=good.data),
            "swapped": Chunk(digest=good.digest, index=0, check=good.check, data=good.data),
        }[damage]
        assert assembly.accept(bad, 0.0) == "corrupt"
        assert (assembly.received, assembly.corrupt) == (0, 1)
        assert assembly.accept(good, 0.0) == "new"
        assert assembly.accept(good, 0.0) == "duplicate"

    def test_the_whole_must_be_what_was_offered(self) -> None:
        liar = Assembly(offer(b"abcd"))
        liar.ask(0.0)
        assert liar.accept(chunk(b"abcX", 0), 0.0) == "new"
        with pytest.raises(TransferError, match="something else"):
            liar.finish()

    def test_nothing(self) -> None:
        assembly = Assembly(offer(b""))
        assert assembly.ask(0.0) == ()
        assert assembly.finish() == b""
