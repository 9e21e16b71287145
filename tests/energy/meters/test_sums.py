"""Meters added up: what a sum shows, what is known of it, and what it does without a part."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.joules import SCOPE_WIDTH, Scope
from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription
from fimi.energy.meters.counter import Counter
from fimi.energy.meters.response import MeterResponse
from fimi.energy.meters.sums import MeterSum, why_not_together

SCOPES: tuple[Scope, ...] = ("cpu", "gpu", "module", "board", "wall")


class Part(Meter):
    """One of several meters of a family."""

    def __init__(
        self,
        name: str,
        *,
        scope: Scope = "module",
        counts: bool = False,
        uncertainty: float = 0.02,
        resolution_w: float = 0.01,
        delay_s: float = 0.0,
    ) -> None:
        self.now = NOTHING
        self.closed = False
        self.made_of = frozenset({f"hwmon:{name}"})
        self._description = MeterDescription(
            source=f"hwmon:{name}",
            kind="measured",
            scope=scope,
            rate_hz=10.0,
            resolution_w=0.0 if counts else resolution_w,
            relative_uncertainty=uncertainty,
            counts=counts,
            response=MeterResponse(delay_s=delay_s),
        )

    def look(self, time_s: float) -> Look:
        return self.now

    def close(self) -> None:
        self.closed = True


powers = st.lists(st.one_of(st.none(), st.floats(0.0, 1e3)), min_size=2, max_size=6)


@given(powers)
def test_a_sum_is_whole_or_nothing(shown: list[float | None]) -> None:
    parts = [Part(str(place)) for place in range(len(shown))]
    for part, power_w in zip(parts, shown, strict=True):
        part.now = NOTHING if power_w is None else Look(power_w=power_w)
    look = MeterSum(parts).look(0.0)
    known = [power_w for power_w in shown if power_w is not None]
    if len(known) < len(shown):
        assert look == NOTHING
    else:
        assert look.power_w == pytest.approx(math.fsum(known))


@given(st.lists(st.tuples(st.sampled_from(SCOPES), st.floats(0.0, 0.2)), min_size=2, max_size=5))
def test_scope_and_uncertainty_follow_from_the_parts(parts: list[tuple[Scope, float]]) -> None:
    meters = [Part(str(n), scope=s, uncertainty=u) for n, (s, u) in enumerate(parts)]
    described = MeterSum(meters).describe()
    assert all(SCOPE_WIDTH[described.scope] >= SCOPE_WIDTH[scope] for scope, _ in parts)
    assert described.scope in {scope for scope, _ in parts} | {"module"}
    # Whatever the shares of the parts, gains that are independent give no more than this.
    shares = [1.0 / len(parts)] * len(parts)
    gain = math.hypot(*(share * u for share, (_, u) in zip(shares, parts, strict=True)))
    assert gain <= described.relative_uncertainty + 1e-12
    assert described.relative_uncertainty <= max(u for _, u in parts)
    assert described.resolution_w == pytest.approx(0.01 * math.sqrt(len(parts)))


def test_parts_that_are_late_by_different_times() -> None:
    response = MeterSum([Part("a"), Part("b", delay_s=2.0)]).describe().response
    assert response.delay_s == 2.0
    assert response.delay_sd_s > 0.5


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=30),
    st.integers(0, 29),
)
def test_counters_are_added_as_counters_and_keep_a_reset(
    steps: list[tuple[int, int]], blind: int
) -> None:
    """One register is set to 0 while the other cannot be read: the reset is told afterwards."""
    parts = [Part("a", counts=True), Part("b", counts=True)]
    both = MeterSum(parts)
    registers = [Counter(1.0, range_steps=None, power_limit_w=1e9, refresh_s=1.0) for _ in parts]
    raw = [1000, 1000]
    total_j = 0.0
    for part, register, value in zip(parts, registers, raw, strict=True):
        part.now = register.advance(value, 0.0)
    assert both.look(0.0) == Look(counter_j=0.0)
    for time_s, step in enumerate(steps, 1):
        raw = [value + more for value, more in zip(raw, step, strict=True)]
        total_j += sum(step)
        if time_s == blind:
            raw[0], total_j = 0, total_j - step[0]
        for place, (part, register) in enumerate(zip(parts, registers, strict=True)):
            hidden = time_s == blind and place == 1
            part.now = register.advance(None if hidden else raw[place], float(time_s))
        look = both.look(float(time_s))
        if time_s == blind:
            assert look == NOTHING
        else:
            assert look.counter_j == pytest.approx(total_j)
            assert look.reset == (time_s == blind + 1 and blind > 0)


@given(st.lists(st.floats(0.0, 100.0), min_size=8, max_size=60), st.floats(0.05, 1.0))
def test_a_counter_among_powers_is_its_mean_power(drawn_w: list[float], every_s: float) -> None:
    """Against the exact mean of what was drawn since a look at least a window ago."""
    counter, rail = Part("c", counts=True), Part("r")
    both = MeterSum([counter, rail])
    window_s = both.describe().response.window_s
    assert not both.describe().counts
    counts = [0.0]
    for power_w in drawn_w:
        counts.append(counts[-1] + power_w * every_s)
    times = [place * every_s for place in range(len(counts))]
    for place, (time_s, count) in enumerate(zip(times, counts, strict=True)):
        counter.now, rail.now = Look(counter_j=count), Look(power_w=3.0)
        look = both.look(time_s)
        before = [p for p in range(place) if time_s - times[p] >= window_s]
        if not before:
            assert look == NOTHING
            continue
        since = before[-1]
        mean_w = (count - counts[since]) / (time_s - times[since])
        assert look.power_w == pytest.approx(3.0 + mean_w, abs=1e-6)


def test_an_order_of_parts_changes_nothing_and_all_are_closed() -> None:
    parts = [Part("a"), Part("b"), Part("c")]
    for one, other in pairwise(parts):
        assert why_not_together(one, other) == why_not_together(other, one) == ""
        assert "counted twice" in why_not_together(one, one)
    MeterSum(parts).close()
    assert all(part.closed for part in parts)
