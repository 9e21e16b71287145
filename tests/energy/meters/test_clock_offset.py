"""The difference of two clocks by messages: within its bound, whatever the network does."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.meters.elsewhere.clocks import DRIFT, FASTEST_S, OneWayOffset, TwoWayOffset

DELAYS = st.floats(1e-5, 5.0)
OFFSETS = st.floats(-1e6, 1e6)


@given(
    OFFSETS,
    st.floats(-DRIFT / 2, DRIFT / 2),
    st.lists(st.tuples(DELAYS, DELAYS, st.floats(0.0, 0.1), st.floats(0.01, 100.0)), min_size=1),
)
def test_the_true_offset_lies_within_the_bound(
    offset_s: float, drift: float, exchanges: list[tuple[float, float, float, float]]
) -> None:
    """However lopsided the two ways are, and while the clocks drift."""
    found, now_s = TwoWayOffset(), 100.0

    def theirs(ours_s: float) -> float:
        return ours_s + offset_s + drift * ours_s

    for there_s, back_s, answering_s, pause_s in exchanges:
        heard_s = now_s + there_s
        done_s = heard_s + answering_s + back_s
        stepped = found.answer(now_s, theirs(heard_s), theirs(heard_s + answering_s), done_s)
        assert not stepped, "nobody has set a clock"
        estimate_s, bound_s = found.best(done_s)
        assert abs(estimate_s - (theirs(done_s) - done_s)) <= bound_s + 1e-3 + DRIFT * 10.0
        now_s = done_s + pause_s
    assert found.steps == 0


def test_the_fastest_exchange_is_believed() -> None:
    dice, found = random.Random(5), TwoWayOffset()
    for number in range(16):
        there_s, back_s = dice.expovariate(10.0), dice.expovariate(10.0)
        if number == 7:
            there_s = back_s = 1e-4
        at_s = float(number)
        found.answer(at_s, at_s + there_s + 40.0, at_s + there_s + 40.0, at_s + there_s + back_s)
    estimate_s, bound_s = found.best(16.0)
    assert estimate_s == pytest.approx(40.0, abs=1e-3)
    assert bound_s < 5e-3


@pytest.mark.parametrize("step_s", [-3600.0, -0.5, 0.01, 0.5, 7200.0])
def test_a_clock_that_is_set_is_noticed_and_what_was_known_is_dropped(step_s: float) -> None:
    found = TwoWayOffset()
    for at_s in range(10):
        assert not found.answer(at_s, at_s + 40.001, at_s + 40.001, at_s + 0.002)
    assert found.answer(10.0, 50.001 + step_s, 50.001 + step_s, 10.002)
    assert found.steps == 1
    assert found.best(10.002)[0] == pytest.approx(40.0 + step_s, abs=2e-3)


def test_nothing_is_known_before_an_answer_or_after_a_restart() -> None:
    found = TwoWayOffset()
    with pytest.raises(ValueError, match="not known"):
        found.best(0.0)
    found.answer(0.0, 5.0, 5.0, 0.1)
    found.forget()
    assert not found.ready


def test_one_way_takes_the_fastest_message_and_notices_steps() -> None:
    found = OneWayOffset()
    for number in range(40):
        at_s = float(number)
        assert not found.heard(at_s + 100.0, at_s + (0.01 if number % 10 == 3 else 0.3))
    assert found.ours(150.0) == pytest.approx(50.01)
    # Their clock goes back by an hour: messages seem to take an hour longer.
    noticed = [found.heard(at_s + 100.0 - 3600.0, at_s + 0.01) for at_s in range(40, 60)]
    assert noticed.count(True) == 1 and noticed.index(True) < 10
    assert found.ours(150.0 - 3600.0) == pytest.approx(50.01)
    # It goes forward again: they seem to come before they were sent.
    assert found.heard(60.0 + 100.0, 60.01)
    assert found.steps == 2
    assert found.ours(150.0) == pytest.approx(50.01)


def test_one_way_of_few_messages_a_fast_one_is_no_step() -> None:
    found = OneWayOffset()
    assert not found.heard(100.0, 5.0)
    assert not found.heard(101.0, 1.25), "the first may have been slow"
    assert found.ours(150.0) == pytest.approx(50.25)
    assert found.steps == 0


def test_one_way_is_as_uncertain_as_messages_are_unlike_and_never_certain() -> None:
    found = OneWayOffset()
    for number in range(40):
        found.heard(float(number), number + 10.0 + 0.25 * (number % 5))
    assert found.sd_s() == pytest.approx(np.hypot(0.5, FASTEST_S / 3**0.5))
    # Times of whole seconds are as unlike by themselves; that is told apart.
    assert found.sd_s(step_s=1.0) == pytest.approx(FASTEST_S / 3**0.5)
    assert OneWayOffset().sd_s() > 0.0
