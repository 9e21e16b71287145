"""Rules that end a round, against a watcher who looks at the round again and again."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.coordinator.round_end import (
    AtDeadline,
    AtJoules,
    BoardDraw,
    EndRule,
    SoFar,
    WithUpdates,
    early,
)
from fimi.coordinator.settings import RoundSettings
from fimi.energy.cost_model import PhaseCost
from fimi.energy.joules import Energy
from fimi.energy.ledger import PhaseRecord

TICKS = 60  # of the watcher; all times below are whole ticks, so that nothing is missed between two

ticks = st.integers(0, TICKS // 2)
draws = st.builds(
    lambda parts, after: BoardDraw(tuple((float(s), float(j * s)) for s, j in parts), float(after)),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=4),
    st.integers(0, 3),
)
rounds = st.builds(
    lambda more, came, boards: SoFar(
        invited=len(came) + more, updates_s=tuple(map(float, came)), draws=tuple(boards)
    ),
    st.integers(0, 3),
    st.lists(ticks, max_size=5),
    st.lists(draws, max_size=3),
)
leaves = st.one_of(
    st.builds(AtDeadline, ticks.map(float)),
    st.builds(WithUpdates, st.one_of(st.integers(1, 5), st.sampled_from([0.01, 0.3, 0.5, 0.99]))),
    st.builds(AtJoules, st.integers(1, 200).map(float)),
)
rules = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a | b, inner, inner),
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a, s: a.and_after(float(s)), inner, st.integers(0, 9)),
    ),
    max_leaves=5,
)


def taken_j(draw: BoardDraw, until: int) -> float:
    """Joules until a tick, added up tick by tick; stretches are whole ticks long."""
    powers = [j / s for s, j in draw.stretches for _ in range(int(s))]
    return sum(powers[tick] if tick < len(powers) else draw.after_w for tick in range(until))


def is_over(rule: EndRule, so_far: SoFar, now: int) -> bool:
    """Whether a watcher who knows what happened until now, and nothing else, ends the round."""
    kind, values = type(rule).__name__, {f: getattr(rule, f) for f in rule.__struct_fields__}
    if kind == "AtDeadline":
        return now >= values["limit_s"]
    if kind == "WithUpdates":
        here = sum(came <= now for came in so_far.updates_s)
        least = values["least"]
        return here >= 1 and here >= (least * so_far.invited if least < 1 else least)
    if kind == "AtJoules":
        return sum(taken_j(draw, now) for draw in so_far.draws) >= values["limit_j"] - 1e-9
    if kind == "LaterBy":
        then = now - int(values["seconds"])
        return then >= 0 and is_over(values["rule"], so_far, then)
    judged = [is_over(each, so_far, now) for each in values["rules"]]
    return any(judged) if kind == "AnyOf" else all(judged)


@given(rules, rounds)
def test_a_rule_ends_a_round_when_a_watcher_does(rule: EndRule, so_far: SoFar) -> None:
    ends_s = rule.ends_s(so_far)
    for now in range(TICKS):
        assert is_over(rule, so_far, now) == (now >= ends_s - 1e-9), (now, ends_s)


@given(rules, rounds, ticks)
def test_what_comes_after_the_end_does_not_move_it(
    rule: EndRule, so_far: SoFar, later: int
) -> None:
    ends_s = rule.ends_s(so_far)
    if math.isfinite(ends_s):
        more = SoFar(
            invited=so_far.invited,
            updates_s=(ends_s + later, *so_far.updates_s),
            draws=so_far.draws,
        )
        assert rule.ends_s(more) == ends_s


@given(leaves, leaves, leaves, rounds)
def test_they_compose_as_sets_do(a: EndRule, b: EndRule, c: EndRule, so_far: SoFar) -> None:
    def at(rule: EndRule) -> float:
        return rule.ends_s(so_far)

    assert at(a | b) == at(b | a) == min(at(a), at(b))
    assert at(a & b) == at(b & a) == max(at(a), at(b))
    assert at(a & (b | c)) == at((a & b) | (a & c))
    assert at(a | (a & b)) == at(a)


def test_words_name_the_rule_that_ended_it() -> None:
    so_far = SoFar(invited=5, updates_s=(1.0, 2.0, 7.0), draws=(BoardDraw((), 2.0),))
    quorum = WithUpdates(0.5).and_after(1.5)
    assert quorum.why(so_far) == "its quorum of 3 of 5 updates and 1.5 s more"
    assert (quorum | AtDeadline(10.0)).why(so_far) == quorum.why(so_far)
    assert (quorum | AtJoules(8.0)).why(so_far) == "its budget of 8 J"
    assert (AtDeadline(3.0) & AtJoules(8.0)).why(so_far) == (
        "its deadline of 3 s and its budget of 8 J"
    )


def test_a_board_that_has_reported_draws_what_it_said_and_idles_on() -> None:
    predicted = BoardDraw.predicted(
        (
            PhaseCost(phase="compute", duration_s=4.0, board_j=40.0, dynamic_j=20.0),
            PhaseCost(phase="idle", duration_s=2.0, board_j=6.0, dynamic_j=0.0),
        )
    )
    assert AtJoules(49.0).ends_s(SoFar(invited=1, draws=(predicted,))) == 7.0
    read = PhaseRecord(
        phase="compute",
        start_s=0.0,
        duration_s=2.0,
        energy=Energy(value_j=44.0, kind="emulated", source="x"),
        sample_count=1,
        largest_gap_s=0.0,
    )
    unread = PhaseRecord(
        phase="upload", start_s=2.0, duration_s=1.0, energy=None, sample_count=0, largest_gap_s=0.0
    )
    told = predicted.with_report((read, unread))
    assert AtJoules(50.0).ends_s(SoFar(invited=1, draws=(told,))) == pytest.approx(4.0)


def test_without_keys_nothing_ends_a_round_early() -> None:
    assert early(RoundSettings()) is None
    assert early(RoundSettings(round_quorum=2)) == WithUpdates(2.0)
    both = early(RoundSettings(round_quorum=2, round_quorum_grace_s=3.0, round_budget_j=5.0))
    assert both == (WithUpdates(2.0).and_after(3.0) | AtJoules(5.0))
