from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fimi.messaging.transfers.turns import (
    MAX_ASKERS,
    MAX_BLOCKS_WAITING,
    MAX_RUNS,
    Asked,
    Requests,
)


def drain(requests: Requests) -> list[tuple[str, int, int]]:
    found = []
    while (turn := requests.next()) is not None:
        asker, asked = turn
        found.append((asker, asked.start, asked.stop))
    return found


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from("xy"), st.integers(0, 50), st.integers(1, 30)
        ),
        max_size=30,
    )
)
def test_everything_once_and_everybody_in_turn(asked: list[tuple[str, str, int, int]]) -> None:
    """Against sets of blocks: what was asked for is sent once, however often it was asked for."""
    requests, truth = Requests(), set()
    for asker, digest, start, count in asked:
        before = len(truth)
        truth |= {(asker, digest, n) for n in range(start, start + count)}
        assert requests.add(asker, Asked(digest, start, start + count, 8)) == len(truth) - before
    sent, left = Counter(), Counter(asker for asker, _, _ in truth)
    since: dict[str, int] = {}
    turn = 0
    while (found := requests.next()) is not None:
        asker, run = found
        assert run.stop - run.start <= 8
        for n in range(run.start, run.stop):
            sent[asker, run.digest, n] += 1
        left[asker] -= run.stop - run.start
        turn += 1
        assert turn - since.get(asker, 0) <= 3 or asker not in since  # two others at most between
        since[asker] = turn
    assert sent == Counter(dict.fromkeys(truth, 1))


class TestFloods:
    def test_one_who_asks_for_much_delays_nobody(self) -> None:
        requests = Requests()
        for n in range(1000):
            requests.add("greedy", Asked("x", 100 * n, 100 * n + 64, 64))
        requests.add("honest", Asked("x", 0, 64, 64))
        assert [asker for asker, _, _ in drain(requests)].index("honest") <= 1

    def test_bounded_for_each_and_in_all(self) -> None:
        requests = Requests()
        taken = [requests.add("a", Asked("x", 2 * n, 2 * n + 1, 1)) for n in range(1000)]
        assert taken == [1] * MAX_RUNS + [None] * (1000 - MAX_RUNS)
        assert requests.add("b", Asked("x", 0, MAX_BLOCKS_WAITING + 1, 1)) is None
        others = [requests.add(f"s{n}", Asked("x", 0, 1, 1)) for n in range(MAX_ASKERS + 10)]
        assert sum(added is not None for added in others) == MAX_ASKERS - 1
        assert requests.add("s0", Asked("x", 5, 6, 1))

    def test_withdrawn(self) -> None:
        requests = Requests()
        requests.add("a", Asked("x", 0, 1, 1))
        requests.add("a", Asked("y", 0, 1, 1))
        requests.add("b", Asked("x", 0, 1, 1))
        requests.forget("x")
        assert drain(requests) == [("a", 0, 1)]
        assert not requests
