"""A slow link against arithmetic with fractions: when each piece arrives, to the last digit."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from fimi.testbed.chaos.line import BUFFER_BYTES, FLIGHT_BYTES, LinkShape, SlowLine

# times and rates that floating point holds exactly
EIGHTHS = st.integers(0, 400).map(lambda n: n / 8)
RATES = st.sampled_from([None, 64.0, 256.0, 1024.0, 8192.0])


def served(stretches: list[tuple[float, float | None]], since: Fraction, bits: int) -> Fraction:
    """When ``bits`` have been sent if that begins at ``since``: the integral of the rate."""
    left = Fraction(bits)
    ends = [start for start, _ in stretches[1:]] + [math.inf]
    for (start, rate), end in zip(stretches, ends, strict=True):
        begin = max(Fraction(start), since)
        if end != math.inf and begin >= end:
            continue
        if rate is None:
            return begin
        if rate == 0.0:
            continue
        took = left / Fraction(rate)
        if end == math.inf or begin + took <= Fraction(end):
            return begin + took
        left -= (Fraction(end) - begin) * Fraction(rate)
    raise AssertionError("never")


@given(
    pieces=st.lists(st.tuples(EIGHTHS, st.integers(1, 512)), min_size=1, max_size=20),
    changes=st.lists(st.tuples(EIGHTHS, RATES | st.just(0.0)), max_size=5),
    first=RATES,
    looks=st.lists(EIGHTHS, max_size=20),
    delay=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_pieces_arrive_when_the_integral_of_the_rate_says(pieces, changes, first, looks, delay):
    """Rate 0 in a change is a frozen link; the looks are at arbitrary times."""
    pieces.sort()
    changes = [*sorted(dict(changes).items()), (60.0, 8192.0)]
    line: SlowLine[int] = SlowLine(LinkShape(rate_bps=first, delay_s=delay), random.Random(1))
    events = [(at, 1, number) for number, (at, _) in enumerate(pieces)]
    events += [(at, 0, rate) for at, rate in changes] + [(at, 2, None) for at in looks]
    came: dict[int, float] = {}

    looked = [0.0]

    def look(now_s: float) -> None:
        """Take everything at the moment it arrives, but not in the past."""
        while line.next_s() <= now_s:
            at = max(line.next_s(), looked[0])
            came.update((number, at) for number in line.take(at))
        looked[0] = now_s

    for now_s, kind, what in sorted(events, key=lambda event: event[:2]):
        look(now_s)
        if kind == 1:
            line.put(what, pieces[what][1], now_s)
        elif kind == 0:
            line.thaw(now_s)
            if what == 0.0:
                line.freeze(now_s)
            else:
                line.reshape(LinkShape(rate_bps=what, delay_s=delay), now_s)
    look(1e6)

    stretches = [(0.0, first)]
    for at, rate in changes:
        stretches.append((at, rate))
    frozen = [(s, e[0]) for (s, r), e in itertools.pairwise(stretches) if r == 0.0]
    free = Fraction(0)
    for number, (at, size) in enumerate(pieces):
        free = served(stretches, max(free, Fraction(at)), 8 * size)
        due = free + Fraction(delay)
        for begin, end in frozen:  # what travels waits, too
            if begin <= due < end:
                due = Fraction(end)
        assert came[number] == float(due)


@given(
    sizes=st.lists(st.integers(1, 5000), min_size=2, max_size=50),
    jitter=st.floats(0.0, 3.0),
    seed=st.integers(0, 100),
)
def test_jitter_keeps_the_order_and_its_bounds(sizes, jitter, seed):
    line: SlowLine[int] = SlowLine(
        LinkShape(rate_bps=8e4, delay_s=0.1, jitter_s=jitter), random.Random(seed)
    )
    for number, size in enumerate(sizes):
        line.put(number, size, 0.0)
    came: list[tuple[int, float]] = []
    while (at := line.next_s()) < math.inf:
        came += [(number, at) for number in line.take(at)]
    assert [number for number, _ in came] == list(range(len(sizes)))
    sent = 0
    for (_, at), size in zip(came, sizes, strict=True):
        sent += size
        assert sent / 1e4 + 0.1 - 1e-9 <= at <= sent / 1e4 + 0.1 + jitter + 1e-9


def test_the_queue_is_bounded_as_a_router_is():
    line: SlowLine[int] = SlowLine(LinkShape(rate_bps=8e6, buffer_bytes=4096), random.Random(1))
    assert line.room_bytes == 5000  # 5 ms of its rate
    line.put(1, 3000, 0.0)
    assert line.room_bytes == 2000
    line.take(0.003)
    assert line.room_bytes == 5000
    assert SlowLine(LinkShape(rate_bps=2e7), random.Random(1)).room_bytes == BUFFER_BYTES
    far: SlowLine[int] = SlowLine(LinkShape(delay_s=1.0), random.Random(1))
    far.put(1, FLIGHT_BYTES, 0.0)
    far.take(0.5)
    assert far.room_bytes == 0
    frozen: SlowLine[int] = SlowLine(LinkShape(), random.Random(1))
    frozen.freeze(0.0)
    assert frozen.room_bytes == 0 and not frozen.is_open
