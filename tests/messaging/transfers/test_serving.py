from __future__ import annotations

from fimi.messaging.transfers.blocks import BLOCK_BYTES
from fimi.messaging.transfers.serving import FIRST_RUN_BLOCKS, MAX_KNOWN, ServedPayloads, sha256
from fimi.messaging.transfers.stream import LAG_S
from fimi.messaging.transfers.wire import Want

MIB = 1 << 20


def shelf_with(
    data: bytes, keep: int | None = None, *, shared: bool = False
) -> tuple[ServedPayloads, str]:
    shelf, digest = ServedPayloads("h"), sha256(data)
    offer = shelf.put(digest, data, "x", keep, shared=shared)
    assert (offer.size_bytes, offer.shared) == (len(data), shared)
    return shelf, digest


def want(digest: str, *runs: tuple[int, int], **others) -> Want:
    return Want(digest=digest, runs=runs, **{"chunk_bytes": 4 * BLOCK_BYTES, **others})


def sent(shelf: ServedPayloads, now_s: float = 0.0) -> list[tuple[str, int, int]]:
    found = []
    while (order := shelf.next_order(now_s)) is not None:
        found.append((order.asker, order.start, len(order.data)))
    return found


class TestOrders:
    def test_in_chunks_that_suit_the_asker_and_the_broker(self) -> None:
        data = bytes(10 * BLOCK_BYTES + 5)
        shelf, digest = shelf_with(data)
        assert shelf.order("a", want(digest, (2, 9)), MIB, 0.0) == ""
        assert sent(shelf) == [("a", 2, 4096), ("a", 6, 4096), ("a", 10, 5)]
        shelf.order("a", want(digest, (0, 4)), 2500, 0.0)
        assert sent(shelf) == [("a", 0, 2048), ("a", 2, 2048)]

    def test_it_sends_what_it_serves(self) -> None:
        data = bytes(range(256)) * 20
        shelf, digest = shelf_with(data)
        shelf.order("a", want(digest, (1, 3)), MIB, 0.0)
        order = shelf.next_order(0.0)
        assert order is not None
        assert bytes(order.chunk().data) == data[1024:4096]

    def test_impossible_ones_are_refused(self) -> None:
        shelf, digest = shelf_with(bytes(3 * BLOCK_BYTES))
        shelf.order("a", want(digest, (3, 1), (2, 2), (2, 1), (2**40, 1)), MIB, 0.0)
        assert shelf.refused == 3
        assert sent(shelf) == [("a", 2, 1024)]
        assert shelf.order("a", want("0" * 64, (0, 1)), MIB, 0.0) == "gone"

    def test_whether_a_request_was_of_any_use(self) -> None:
        shelf, digest = shelf_with(bytes(10 * BLOCK_BYTES), keep=2)
        asked = [(0, 3), (2, 3), (1, 2), (0, 5)]
        uses = []
        for run in asked:
            shelf.order("a", want(digest, run), MIB, 0.0)
            uses.append(shelf.of_use)
        assert uses == [True, True, False, False]
        shelf.order("a", want("0" * 64, (0, 1)), MIB, 0.0)
        assert not shelf.of_use
        assert [shelf.done("a", digest), shelf.done("a", digest)] == [True, False]
        assert not shelf.done("a", "0" * 64)

    def test_of_a_stream_it_is_who_follows_it(self) -> None:
        shelf, digest = shelf_with(bytes(100 * BLOCK_BYTES), shared=True)
        for asker in ("a", "b", "c"):
            shelf.order(asker, want(digest, shared=True), MIB, 0.0)
        sent(shelf)
        for asker in ("a", "b", "c"):  # the first one gets blocks for all of them
            shelf.order(asker, want(digest, (16, 8), shared=True), MIB, 0.1)
            assert shelf.of_use
        shelf.order("b", want(digest, (16, 8), shared=True), MIB, 0.1)
        assert not shelf.of_use

    def test_names_without_end(self) -> None:
        shelf, digest = shelf_with(bytes(10))
        for number in range(MAX_KNOWN + 100):
            shelf.order(f"ghost-{number}", want(digest, (0, 1)), MIB, 0.0)
            shelf.done(f"ghost-{number}", digest)
        assert not shelf.is_done(f"ghost-{MAX_KNOWN}", digest)
        assert shelf.is_done(f"ghost-{MAX_KNOWN - 1}", digest)

    def test_withdrawn_before_sending(self) -> None:
        shelf, digest = shelf_with(bytes(10))
        shelf.order("a", want(digest, (0, 1)), MIB, 0.0)
        shelf.take(digest)
        assert sent(shelf) == []


class TestStreams:
    DATA = bytes(100 * BLOCK_BYTES)

    def test_one_chunk_for_all_who_ask(self) -> None:
        shelf, digest = shelf_with(self.DATA, shared=True)
        for asker in "abc":
            shelf.order(asker, want(digest, shared=True), MIB, 0.0)
        begun = sent(shelf, 0.1)
        assert {asker for asker, _, _ in begun} == {""}
        assert sum(size for _, _, size in begun) == FIRST_RUN_BLOCKS * BLOCK_BYTES
        for asker in "abc":
            shelf.order(asker, want(digest, (16, 8), shared=True), MIB, 0.2)
        assert sent(shelf, 0.3) == [("", 16, 4096), ("", 20, 4096)]
        shelf.order("a", want(digest, (20, 8), shared=True), MIB, 0.4)
        assert sent(shelf, 0.4) == [("", 24, 4096)]

    def test_what_was_lost_comes_to_one_alone(self) -> None:
        shelf, digest = shelf_with(self.DATA, shared=True)
        shelf.order("a", want(digest, shared=True), MIB, 0.0)
        sent(shelf)
        shelf.order("a", want(digest, (4, 4)), MIB, 0.1)
        assert sent(shelf) == [("a", 4, 4096)]

    def test_who_falls_behind_is_told(self) -> None:
        shelf, digest = shelf_with(self.DATA, shared=True)
        for asker in ("slow", "quick"):
            shelf.order(asker, want(digest, shared=True), MIB, 0.0)
        sent(shelf, 0.1)
        asks = want(digest, (16, 4), shared=True, shared_bytes=FIRST_RUN_BLOCKS * BLOCK_BYTES)
        assert shelf.order("quick", asks, MIB, LAG_S + 1.0) == ""
        asks = want(digest, (4, 4), shared=True, shared_bytes=4096)
        assert shelf.order("slow", asks, MIB, LAG_S + 1.0) == "apart"
        assert ("slow", 4, 4096) in sent(shelf, LAG_S + 1.0)
        assert shelf.order("slow", asks, MIB, LAG_S + 1.1) == "apart"

    def test_there_is_none(self) -> None:
        shelf, digest = shelf_with(self.DATA)
        assert shelf.order("a", want(digest, (0, 4), shared=True), MIB, 0.0) == "apart"
        assert sent(shelf) == [("a", 0, 4096)]


class TestKeeping:
    def test_put_twice_needs_two_takes(self) -> None:
        shelf, digest = shelf_with(b"abcd")
        shelf.put(digest, b"abcd", "x", None)
        shelf.take(digest)
        assert shelf.has(digest)
        shelf.take(digest)
        assert not shelf.has(digest)
        shelf.take(digest)

    def test_forgotten_once_enough_have_it(self) -> None:
        shelf, digest = shelf_with(b"abcd", keep=2)
        shelf.done("a", digest)
        shelf.done("a", digest)
        assert shelf.has(digest)
        shelf.done("b", digest)
        assert not shelf.has(digest)
        assert shelf.is_done("a", digest)
        assert shelf.is_done("b", digest)

    def test_served_anew_nobody_has_it(self) -> None:
        shelf, digest = shelf_with(b"abcd", keep=1)
        shelf.done("a", digest)
        shelf.put(digest, b"abcd", "x", None)
        assert not shelf.is_done("a", digest)

    def test_who_had_what_is_not_kept_for_ever(self) -> None:
        shelf, first = shelf_with(b"first", keep=1)
        shelf.done("a", first)
        for n in range(1000):
            digest = sha256(str(n).encode())
            shelf.put(digest, b"x", "x", None)
            shelf.take(digest)
        assert not shelf.is_done("a", first)
        assert len(shelf._have_it) < 300
