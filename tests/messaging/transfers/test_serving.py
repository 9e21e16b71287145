from __future__ import annotations

from fimi.messaging.transfers.serving import MAX_WAITING, ServedPayloads, sha256


def shelf_with(data: bytes, keep: int | None = None) -> tuple[ServedPayloads, str]:
    shelf, digest = ServedPayloads("h", chunk_bytes=4), sha256(data)
    shelf.put(digest, data, "x", keep)
    return shelf, digest


class TestOrders:
    def test_each_once_in_turn(self) -> None:
        shelf, digest = shelf_with(b"abcdefghij")
        assert shelf.order("a", digest, (2, 0, 2)) == 0
        assert shelf.order("b", digest, (0,)) == 0
        orders = [shelf.next_order() for _ in range(4)]
        assert [(o.asker, bytes(o.data)) for o in orders[:3]] == [
            ("a", b"ij"),
            ("a", b"abcd"),
            ("b", b"abcd"),
        ]
        assert orders[3] is None

    def test_asking_again_counts_only_once_it_has_left(self) -> None:
        shelf, digest = shelf_with(b"abcd")
        shelf.order("a", digest, (0,))
        order = shelf.next_order()
        assert order is not None
        shelf.order("a", digest, (0,))
        assert shelf.next_order() is None
        shelf.has_left(order)
        shelf.order("a", digest, (0,))
        assert shelf.next_order() is not None

    def test_impossible_ones_are_refused(self) -> None:
        shelf, digest = shelf_with(b"abcdefghij")
        assert shelf.order("a", digest, (3, 1, 10**9)) == 2
        assert shelf.order("a", "0" * 64, (0,)) == 1

    def test_a_flood_is_cut_off(self) -> None:
        shelf, digest = shelf_with(b"abcd")
        assert sum(shelf.order(f"a{n}", digest, (0,)) for n in range(MAX_WAITING + 5)) == 5

    def test_withdrawn_before_sending(self) -> None:
        shelf, digest = shelf_with(b"abcd")
        shelf.order("a", digest, (0,))
        shelf.take(digest)
        assert shelf.next_order() is None


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
