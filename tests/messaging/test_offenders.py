"""Who sends rubbish is named once, counted and set aside; who is honest is not."""

from __future__ import annotations

import logging

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fimi.messaging import offenders as room
from fimi.messaging.allowances import ALLOWED
from fimi.messaging.offenders import (
    ASIDE_MAX_S,
    ASIDE_S,
    BUDGET_BYTES,
    FORGIVEN_S,
    MAX_NAMES,
    NAMED,
    OFFENCES,
    OTHERS,
    Offenders,
)


def send(some: Offenders, name: str, now_s: float, *, good: bool, size: int = 500) -> bool:
    """A message as a peer deals with it; returns whether it was looked at."""
    if not some.admits(name, "message", size, now_s):
        return False
    if good:
        some.passed(name, now_s)
    else:
        some.offended(name, size, "not JSON", now_s)
    return True


def with_rules() -> Offenders:
    some = Offenders()
    some.forged = False
    return some


def test_named_once_and_then_at_growing_numbers(caplog) -> None:
    some = Offenders(told_elsewhere=True)
    with caplog.at_level(logging.WARNING, logger=room.__name__):
        for number in range(11_477):
            send(some, "x", number * 0.02, good=False)
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "dropped a message of x: not JSON; more are counted"
    assert len(said) == 5
    assert said[-1].startswith("10000 messages of x dropped so far")


def test_with_rules_nothing_of_an_offender_is_looked_at_for_a_while() -> None:
    some = with_rules()
    looked = sum(send(some, "x", number / 50, good=False) for number in range(3000))
    # 10, 20 and 40 s long; in between its counts have halved, or halved twice
    assert looked <= OFFENCES + OFFENCES // 2 + 3 * OFFENCES // 4 + 3
    (found,) = some.seen()
    assert (found.times, found.aside_s, found.unseen) == (3, 4 * ASIDE_S, 3000 - looked)
    assert "nothing of it is looked at" in found.in_words()


def test_the_time_grows_to_its_limit_and_is_forgiven() -> None:
    some, now_s, times = with_rules(), 0.0, []
    for _ in range(8):
        while send(some, "x", now_s, good=False):
            now_s += 0.01
        times.append(some.seen()[0].aside_s)
        now_s += times[-1]
    assert times[:6] == [ASIDE_S * 2**n for n in range(6)]
    assert times[-1] == ASIDE_MAX_S
    now_s += ASIDE_MAX_S + FORGIVEN_S
    assert send(some, "x", now_s, good=True)
    assert some.seen() == ()
    while send(some, "x", now_s, good=False):
        now_s += 0.01
    assert some.seen()[0].aside_s == ASIDE_S


def test_an_honest_device_is_heard_although_another_one_writes_under_its_name() -> None:
    """Without rules: 50 damaged messages a second, and an honest one every 10 s."""
    some, heard = Offenders(), 0
    for tick in range(60 * 50):
        send(some, "pi", tick / 50, good=False, size=2000)
        if tick % 500 == 250:
            heard += send(some, "pi", tick / 50, good=True, size=2000)
    assert heard == 6
    assert some.seen()[0].times >= 2
    assert "the broker lets anybody write under this name" in some.seen()[0].in_words()


def test_without_rules_the_work_is_bounded_all_the_same() -> None:
    some = Offenders()
    looked = sum(
        send(some, "x", number / 1000, good=False, size=1 << 20) for number in range(10_000)
    )
    assert looked * (1 << 20) < 10 * BUDGET_BYTES + (OFFENCES + 6) * (1 << 20)


@given(st.lists(st.tuples(st.floats(0.0, 8.0), st.booleans()), max_size=200))
def test_damage_now_and_then_is_never_set_aside(sent: list[tuple[float, bool]]) -> None:
    """However it is spread: in no stretch of time more than 15, and 10 more in each minute."""
    some, now_s, damaged = with_rules(), 0.0, list[float]()
    for gap_s, whole in sent:
        now_s += gap_s
        stretches = [(now_s - at_s, len(damaged) - n) for n, at_s in enumerate(damaged)]
        if not whole and all(count < 15 + past_s / 6.0 for past_s, count in stretches):
            damaged.append(now_s)
            assert send(some, "x", now_s, good=False)
        else:
            assert send(some, "x", now_s, good=True)
    assert sum(each.times for each in some.seen()) == 0


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(good=st.integers(1, 12), bad_every_s=st.floats(0.01, 2.0))
def test_who_goes_on_with_rubbish_is_set_aside_whatever_else_it_sends(
    caplog, good: int, bad_every_s: float
) -> None:
    """The bucket by hand: so many at once, and one more in five seconds."""
    some, now_s, bad = with_rules(), 0.0, 0
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger=room.__name__):
        while not some.version:
            now_s += bad_every_s
            looked = [send(some, "x", now_s, good=True) for _ in range(good)]
            assert all(looked)
            send(some, "x", now_s, good=False)
            bad += 1
            assert bad < 61 / (1 - bad_every_s / 5) + 1
    assert not send(some, "x", now_s + 0.1, good=True)
    said = [record.getMessage() for record in caplog.records]
    assert sum("more are counted" in each for each in said) == 1
    assert len(said) <= 4
    again_s = now_s + ASIDE_S
    for number in range(10):  # it has hardly been forgiven anything meanwhile
        send(some, "x", again_s + number * bad_every_s, good=False)
    assert some.seen()[0].times >= 2


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(st.integers(1, 300), st.integers(0, 300), st.sampled_from([1, 20, 256])),
        max_size=6,
    ),
    st.floats(0.0, 0.01),
)
def test_a_network_that_doubles_everything_makes_nobody_an_offender(
    transfers: list[tuple[int, int, int]], gap_s: float
) -> None:
    """Every chunk comes twice, and 64 more of each transfer when it is over."""
    some, now_s = with_rules(), 0.0
    for chunks, late, kibibytes in transfers:
        for of_use in (True, False) * chunks + (False,) * min(late, 64):
            now_s += gap_s
            assert some.admits("pi", "chunk", kibibytes << 10, now_s)
            some.came("pi", kibibytes << 10, now_s, of_use=of_use)
        now_s += 20.0
    assert some.seen() == ()


@settings(max_examples=25)
@given(st.sampled_from(["want", "chunk", "telemetry", "state"]), st.floats(0.0005, 0.01))
def test_a_flood_of_what_is_valid_is_set_aside(kind: str, gap_s: float) -> None:
    use = {"want": "idle", "chunk": "idle"}.get(kind, kind)
    some, sent = with_rules(), 0
    while not some.version:
        if some.admits("x", kind, 200, sent * gap_s) and use == "idle":
            some.came("x", 200, sent * gap_s, of_use=False)
        sent += 1
    minutes = sent * gap_s / 60
    both = (ALLOWED[use], ALLOWED["bad"])
    assert sent <= sum(each.at_once + each.per_minute * minutes for each in both) + 2
    assert some.seen()[0].why == f"it {ALLOWED[use].why}"


@given(st.integers(0, 256))
def test_chunks_of_no_use_count_by_their_bytes_as_well(kibibytes: int) -> None:
    some, sent = with_rules(), 0
    while not some.seen():
        some.came("x", kibibytes << 10, 0.0, of_use=False)
        sent += 1
    assert sent == int(ALLOWED["idle"].at_once / (1 + kibibytes / 64)) + 1


def test_news_is_believed_once_a_second_at_most() -> None:
    some = with_rules()
    believed = sum(some.is_news_from("x", 200, number / 100) for number in range(6000))
    assert 120 <= believed <= 120 + 60
    assert some.seen()[0].times >= 1


def test_too_often() -> None:
    some = with_rules()
    looked = sum(send(some, "x", number / 5000, good=True) for number in range(20_000))
    assert looked < 7_000
    assert some.seen()[0].why == "it sends too often"
    assert all(send(some, "y", number / 100, good=True) for number in range(5000))


def test_parts_of_a_transfer_are_never_too_many() -> None:
    some = with_rules()
    assert all(some.admits("x", "chunk", 120_000, number / 1e4) for number in range(20_000))


def test_names_without_end(caplog) -> None:
    some = Offenders()
    with caplog.at_level(logging.WARNING, logger=room.__name__):
        for number in range(MAX_NAMES + 5000):
            send(some, f"ghost-{number}", number * 1e-3, good=False)
    assert len(some.seen()) <= MAX_NAMES + 1
    assert any(each.sender == OTHERS for each in some.seen())
    assert len(caplog.records) < NAMED + 15
    assert send(some, "honest", 20.0, good=True)
