"""The mailbox against a plain model of it: order, fairness, limits, documents."""

from __future__ import annotations

import threading
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from fimi.messaging.mailbox import LETTER_BYTES, MAX_SENDERS, Mailbox

SENDERS = st.sampled_from("abc")
PUTS = st.lists(
    st.tuples(SENDERS, st.integers(0, 3000), st.sampled_from([None, "k", "l"]), st.integers(1, 4)),
    max_size=60,
)


def drain(box: Mailbox[int]) -> list[tuple[str, int]]:
    found = []
    while (got := box.get(0.0)) is not None:
        found.append(got)
    return found


@given(PUTS)
def test_what_one_sender_sent_keeps_its_order(puts) -> None:
    """Without limits all comes out but documents that a later one replaced."""
    box: Mailbox[int] = Mailbox(sender_bytes=1 << 30, all_bytes=1 << 30)
    for index, (sender, size, key, number) in enumerate(puts):
        box.put(sender, index, size, key=key, number=(number,))
    wanted: dict[str, list[int]] = {}
    for sender in "abc":
        left: list[int] = []
        for index, (whose, _, key, number) in enumerate(puts):
            if whose != sender:
                continue
            before = [at for at in left if key is not None and puts[at][2] == key]
            if before and puts[before[0]][3] > number:
                continue
            left = [at for at in left if at not in before] + [index]
        wanted[sender] = left
    found: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for sender, index in drain(box):
        found[sender].append(index)
    assert found == wanted
    assert box.size_bytes == 0


@given(PUTS)
def test_the_limits_hold_after_every_letter(puts) -> None:
    box: Mailbox[int] = Mailbox(sender_bytes=6000, all_bytes=9000)
    dropped = 0
    for index, (sender, size, key, number) in enumerate(puts):
        dropped += len(box.put(sender, index, size, key=key, number=(number,)))
        assert box.size_bytes <= 9000
    sizes = dict.fromkeys("abc", 0)
    kept = drain(box)
    for sender, index in kept:
        sizes[sender] += puts[index][1] + LETTER_BYTES
    assert max(sizes.values()) <= 6000
    assert dropped == box.overflowed
    assert len(kept) + dropped + box.replaced == len(puts)


def test_senders_take_turns() -> None:
    box: Mailbox[int] = Mailbox()
    for number in range(1000):
        box.put("flood", number)
    box.put("quiet", 1)
    box.put("calm", 2)
    assert [box.get(0.0) for _ in range(4)] == [
        ("flood", 0),
        ("quiet", 1),
        ("calm", 2),
        ("flood", 1),
    ]


def test_who_sends_too_much_loses_its_own() -> None:
    """One that fills everything takes nothing from the others."""
    box: Mailbox[int] = Mailbox(sender_bytes=10_000, all_bytes=20_000)
    box.put("honest", -1, 1000)
    for number in range(100):
        for name in ("x", "y", "z"):
            assert "honest" not in box.put(name, number, 1000)
    assert ("honest", -1) in drain(box)
    assert box.overflowed > 250


def test_the_newest_of_a_flood_is_kept() -> None:
    box: Mailbox[int] = Mailbox(sender_bytes=5000)
    for number in range(100):
        box.put("x", number, 1000)
    assert drain(box) == [("x", 97), ("x", 98), ("x", 99)]


def test_names_without_end() -> None:
    box: Mailbox[int] = Mailbox(all_bytes=1 << 40)
    for number in range(MAX_SENDERS + 100):
        box.put(f"ghost-{number}", number)
    assert box.overflowed == 100


def test_memory_is_bounded_by_the_limit() -> None:
    """300 messages of 1 MB: today's 300 MB are 8."""
    box: Mailbox[bytes] = Mailbox()
    tracemalloc.start()
    for number in range(300):
        box.put("x", bytes([number % 256]) * 1_000_000, 1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 11_000_000


def test_waiting_ends_with_a_letter_or_when_closed() -> None:
    box: Mailbox[int] = Mailbox()
    threading.Timer(0.05, box.put, ("a", 7)).start()
    assert box.get(30.0) == ("a", 7)
    threading.Timer(0.05, box.close).start()
    assert box.get() is None
    box.put("a", 8)
    assert box.get() == ("a", 8)
    assert box.get() is None
