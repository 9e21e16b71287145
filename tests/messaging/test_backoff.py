"""Pauses between attempts: their range, their growth, and how forty boards are spread."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from fimi.messaging.backoff import (
    FIRST_S,
    LATER_S,
    LONGEST_LATER_S,
    LONGEST_S,
    SHARE,
    Backoff,
)


def attempts(backoff: Backoff, until_s: float) -> list[float]:
    """When a caller tries whose attempts fail at once, from the loss of its connection on."""
    times, now_s = [], 0.0
    while (now_s := now_s + backoff.failed(now_s)) < until_s:
        times.append(now_s)
    return times


@given(seed=st.integers(0, 10**6))
def test_the_first_comes_at_once_and_the_next_ones_ever_later(seed: int) -> None:
    backoff, now_s, span_s = Backoff(random.Random(seed)), 0.0, FIRST_S
    while now_s < LATER_S:
        pause_s = backoff.failed(now_s)
        assert SHARE * span_s <= pause_s <= span_s
        now_s += pause_s
        span_s = min(2.0 * span_s, LONGEST_S)
    assert LONGEST_S < max(backoff.failed(now_s) for _ in range(50)) <= LONGEST_LATER_S
    backoff.succeeded()
    assert 0.1 <= backoff.failed(now_s) <= 0.3


def test_forty_boards_ask_an_absent_broker_seldom() -> None:
    """Over an hour: about two attempts a second of the whole fleet, each a refused connection."""
    all_times = [t for seed in range(40) for t in attempts(Backoff(random.Random(seed)), 3600.0)]
    assert len(all_times) / 3600.0 < 3.0


def test_forty_boards_do_not_come_back_in_one_instant() -> None:
    """The broker returns after ten minutes: the next attempts of the boards are spread."""
    back_s = 600.0
    firsts = []
    for seed in range(40):
        times = attempts(Backoff(random.Random(seed)), back_s + 60.0)
        firsts.append(next(t for t in times if t >= back_s))
    busiest = max(sum(t <= s < t + 1.0 for s in firsts) for t in firsts)
    assert busiest <= 10
    assert max(firsts) - back_s <= LONGEST_LATER_S
