from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.messaging.errors import TransferError
from fimi.messaging.messages.basis import Offer
from fimi.messaging.transfers.assembly import JOIN_S, OVERTAKEN, Assembly, check_offer
from fimi.messaging.transfers.blocks import BLOCK_BYTES, block_bounds
from fimi.messaging.transfers.parts import PartFiles
from fimi.messaging.transfers.window import FIRST_BYTES, FIRST_PATIENCE_S, MAX_PATIENCE_S
from fimi.messaging.transfers.wire import Chunk, chunk_check


def noise(size_bytes: int) -> bytes:
    return np.random.default_rng(size_bytes).bytes(size_bytes)


def offer(data: bytes, **others) -> Offer:
    digest = hashlib.sha256(data).hexdigest()
    return Offer(holder="h", digest=digest, size_bytes=len(data), media="x", **others)


def chunk(data: bytes, start: int, count: int = 1) -> Chunk:
    begin, end = block_bounds(len(data), start, start + count)
    piece = data[begin:end]
    return Chunk(
        digest=hashlib.sha256(data).hexdigest(),
        start=start,
        check=chunk_check(start, piece),
        data=memoryview(piece),
    )


def payload(assembly: Assembly) -> bytes:
    assembly.finish()
    return assembly.store.payload()


@pytest.mark.parametrize("in_file", [False, True], ids=["in memory", "in a file"])
def test_what_the_digest_has_read_is_not_written_over(in_file: bool, tmp_path: Path) -> None:
    """A chunk that brings something new can bring other bytes for blocks that are here."""
    data = noise(32 << 10)
    store = PartFiles(tmp_path).open(offer(data)) if in_file else None
    assembly = Assembly(offer(data), store=store)
    assembly.ask(0.0)
    assert assembly.accept(chunk(data, 0, 4), 0.1) == "new"
    assembly.store.read_on()
    forged = bytes(BLOCK_BYTES) + data[4 * BLOCK_BYTES : 5 * BLOCK_BYTES]
    other = msgspec.structs.replace(
        chunk(data, 3), check=chunk_check(3, forged), data=memoryview(forged)
    )
    assert assembly.accept(other, 0.2) == "new"
    for start in range(5, 32):
        assembly.accept(chunk(data, start), 0.3)
    assert payload(assembly) == data


class TestOffers:
    @pytest.mark.parametrize(("size_bytes", "says"), [(1001, "max_bytes"), (2**31, "any payload")])
    def test_refused_before_allocation(self, size_bytes: int, says: str) -> None:
        huge = Offer(holder="h", digest="0" * 64, size_bytes=size_bytes, media="x")
        with pytest.raises(TransferError, match=says):
            check_offer(huge, 1000 if size_bytes < 10_000 else 1 << 40)


class TestAnyOrder:
    @given(st.integers(0, 60_000), st.integers(0, 2**32), st.booleans())
    def test_with_losses_repetitions_and_a_stream(self, size: int, seed: int, joined: bool) -> None:
        """Every request is answered by the blocks that it names, or never, in any order."""
        dice, data = np.random.default_rng(seed), noise(size)
        assembly = Assembly(offer(data))
        now_s, pending = 0.0, []
        if joined:
            assembly.join(now_s)
        while assembly.missing:
            wanted = assembly.ask(now_s)
            pending += wanted.direct + wanted.shared
            if joined and dice.random() < 0.2:  # what somebody else has asked for
                assembly.accept(
                    chunk(data, int(dice.integers(-(-size // 1024)))), now_s, shared=True
                )
            if pending and dice.random() < 0.9:
                start, count = pending.pop(dice.integers(len(pending)))
                for _ in range(dice.choice((0, 1, 1, 2))):
                    assembly.accept(chunk(data, start, count), now_s)
                now_s += 0.001
            else:
                now_s = max(now_s, min(assembly.next_s(), now_s + 20.0))
        assert payload(assembly) == data

    @given(st.integers(1, 30_000), st.integers(0, 2**32))
    def test_answers_that_are_divided(self, size: int, seed: int) -> None:
        """A holder may send less at once than was asked for."""
        dice, data = np.random.default_rng(seed), noise(size)
        assembly, now_s = Assembly(offer(data)), 0.0
        while assembly.missing:
            for start, count in assembly.ask(now_s).direct:
                while count:
                    part = int(dice.integers(1, count + 1))
                    assembly.accept(chunk(data, start, part), now_s)
                    start, count = start + part, count - part
                    now_s += 0.01
        assert payload(assembly) == data
        assert assembly.asked_again == 0


class TestBrokersThatDrop:
    @given(st.integers(1, 400), st.integers(4, 60))
    def test_what_is_too_large_is_asked_for_in_smaller_pieces(self, blocks: int, most: int) -> None:
        """Over a quick link the window grows until chunks are dropped, also with the last ones."""
        data = noise(blocks * BLOCK_BYTES)
        assembly, now_s = Assembly(offer(data)), 0.0
        while assembly.missing:
            runs = assembly.ask(now_s).direct
            if not runs:
                now_s = assembly.next_s()
            for start, count in runs:
                now_s += 0.0005
                if count <= most:
                    assembly.accept(chunk(data, start, count), now_s)
            assert now_s < 15.0
        assert payload(assembly) == data


class TestAskingAgain:
    def test_waits_longer_each_time(self) -> None:
        assembly = Assembly(offer(b"abc"))
        times, now_s = [], 0.0
        for _ in range(5):
            assert assembly.ask(now_s).direct == [(0, 1)]
            times.append(assembly.next_s() - now_s)
            now_s = assembly.next_s()
        assert times == [FIRST_PATIENCE_S, 4.0, 8.0, MAX_PATIENCE_S, MAX_PATIENCE_S]
        assert assembly.asked_again == 4

    def test_progress_defers_it(self) -> None:
        data = noise(16 * BLOCK_BYTES)
        assembly = Assembly(offer(data))
        assert assembly.ask(0.0).direct == [(0, 4), (4, 4), (8, 4), (12, 4)]
        assembly.accept(chunk(data, 0, 4), 1.9)
        assert assembly.ask(2.1).direct == []
        assert assembly.next_s() == pytest.approx(1.9 + FIRST_PATIENCE_S)

    def test_what_later_ones_overtake_is_lost(self) -> None:
        """Without waiting: whoever answers does so in order."""
        data = noise(64 * BLOCK_BYTES)
        assembly = Assembly(offer(data))
        first, *others = assembly.ask(0.0).direct
        asked_again = []
        for run in others[:OVERTAKEN]:
            assembly.accept(chunk(data, *run), 0.01)
            asked_again.append(first in assembly.ask(0.01).direct)
        assert asked_again == [False] * (OVERTAKEN - 1) + [True]

    def test_what_was_asked_for_twice_says_nothing_of_the_link(self) -> None:
        data = noise(16 * BLOCK_BYTES)
        assembly = Assembly(offer(data))
        assembly.ask(0.0)
        assembly.hurry()
        runs = assembly.ask(1.0).direct
        assembly.accept(chunk(data, *runs[0]), 1.001)  # perhaps the answer to the first request
        assert assembly.window.size_bytes == FIRST_BYTES

    def test_hurry(self) -> None:
        assembly = Assembly(offer(noise(16 * BLOCK_BYTES)))
        asked = assembly.ask(0.0)
        assembly.hurry()
        assert assembly.ask(0.01) == asked

    def test_what_could_not_be_sent_was_not_asked_for(self) -> None:
        assembly = Assembly(offer(noise(16 * BLOCK_BYTES)))
        asked = assembly.ask(0.0)
        assembly.unsent(asked)
        assert assembly.asked_again == 0
        assert assembly.ask(0.01) == asked


class TestStreams:
    def test_it_begins_where_the_stream_is_and_goes_round(self) -> None:
        data = noise(64 * BLOCK_BYTES)
        assembly = Assembly(offer(data, shared=True))
        assembly.join(0.0)
        assert not assembly.ask(0.0).shared
        assembly.accept(chunk(data, 40, 4), 0.1, shared=True)
        first = assembly.ask(0.1)
        assert not first.direct and first.shared[0] == (44, 4)
        seen = []
        for _ in range(100):
            for run in [*first.shared, *first.direct]:
                seen.append(run)
                assembly.accept(chunk(data, *run), 0.2)
            if not assembly.missing:
                break
            first = assembly.ask(0.2)
        assert seen[-1][0] < 40
        assert payload(assembly) == data

    def test_a_stream_that_is_not_heard_is_done_without(self) -> None:
        data = noise(8 * BLOCK_BYTES)
        assembly = Assembly(offer(data, shared=True))
        assembly.join(0.0)
        assert assembly.next_s() == JOIN_S
        runs = assembly.ask(JOIN_S).shared
        lost_s = assembly.next_s()
        again = assembly.ask(lost_s)
        assert again.direct[0] == (0, 2) and runs[0] == (0, 4) and not again.shared

    def test_expects_all_of_it(self) -> None:
        data = noise(8 * BLOCK_BYTES)
        assembly = Assembly(offer(data))
        assert not assembly.expects(3, 1)
        assembly.join(0.0)
        assert assembly.expects(3, 1)
        assembly.accept(chunk(data, 3), 0.0, shared=True)
        assert not assembly.expects(3, 1) and assembly.expects(3, 2)
        assert not assembly.expects(7, 2) and not assembly.expects(3, 0)


class TestDamage:
    @pytest.mark.parametrize("damage", ["data", "check", "short", "place", "beyond", "nothing"])
    def test_is_found(self, damage: str) -> None:
        data = noise(4 * BLOCK_BYTES + 10)
        assembly = Assembly(offer(data))
        assembly.ask(0.0)
        good = chunk(data, 1)
        short = bytes(good.data)[:-1]
        bad = {
            "data": {"data": memoryview(bytes(good.data)[:-1] + b"\x00")},
            "check": {"check": good.check ^ 1},
            "short": {"data": memoryview(short), "check": chunk_check(1, short)},
            "place": {"start": 2},
            "beyond": {"start": 4, "check": chunk_check(4, good.data)},
            "nothing": {"data": memoryview(b""), "check": chunk_check(1, b"")},
        }[damage]
        assert assembly.accept(msgspec.structs.replace(good, **bad), 0.0) == "corrupt"
        assert (assembly.missing, assembly.corrupt) == (5, 1)
        assert assembly.accept(good, 0.0) == "new"
        assert assembly.accept(good, 0.0) == "duplicate"

    def test_the_whole_must_be_what_was_offered(self) -> None:
        liar = Assembly(offer(b"abcd"))
        liar.ask(0.0)
        assert liar.accept(chunk(b"abcX", 0), 0.0) == "new"
        with pytest.raises(TransferError, match="something else"):
            liar.finish()
        assert not liar.begin_anew()

    def test_nothing(self) -> None:
        assembly = Assembly(offer(b""))
        assert assembly.ask(0.0).direct == []
        assert payload(assembly) == b""

    def test_what_was_there_before_is_dropped_if_it_is_wrong(self, tmp_path: Path) -> None:
        data, parts = noise(3 * BLOCK_BYTES), PartFiles(tmp_path)
        wrong = Assembly(offer(data), store=parts.open(offer(data)))
        wrong.ask(0.0)
        wrong.accept(chunk(data[:-1] + b"\x00", 2), 0.0)
        wrong.store.close()
        resumed = Assembly(offer(data), store=parts.open(offer(data)))
        resumed.ask(0.0)
        resumed.accept(chunk(data, 0, 2), 0.0)
        with pytest.raises(TransferError):
            resumed.finish()
        assert resumed.begin_anew() and resumed.missing == 3
        resumed.ask(0.0)
        resumed.accept(chunk(data, 0, 3), 0.0)
        assert payload(resumed) == data
        resumed.store.close()
