"""Merge patches: what a window makes of them is the other snapshot."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.monitor.changes import KnownRounds, apply, as_json, difference
from fimi.monitor.snapshot import DeviceNow, JoulesNow, RoundNow, RunNow, Snapshot

scalars = st.one_of(st.booleans(), st.integers(-3, 3), st.floats(-1, 1), st.text(max_size=2))
values = st.recursive(
    st.one_of(scalars, st.lists(scalars, max_size=2)),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


@given(objects, objects)
def test_a_patch_makes_one_of_the_other(before: dict, after: dict) -> None:
    made = apply(before, difference(before, after))
    assert made == after
    assert repr(made) == repr({name: made[name] for name in made}) and difference(made, after) == {}


@given(objects)
def test_there_is_no_patch_between_equals(one: dict) -> None:
    assert difference(one, one) == {}


def test_what_is_unknown_is_left_out_and_what_is_gone_is_null() -> None:
    def at(power_w: float | None) -> Snapshot:
        return Snapshot(unix_s=1.0, run=RunNow(name="a"), devices={"d": DeviceNow(power_w=power_w)})

    known, unknown = as_json(at(2.5)), as_json(at(None))
    assert "power_w" not in unknown["devices"]["d"]
    assert difference(unknown, known) == {"devices": {"d": {"power_w": 2.5}}}
    assert difference(known, unknown) == {"devices": {"d": {"power_w": None}}}


def test_rounds_that_are_known_are_the_same_and_others_are_not() -> None:
    one = RoundNow(
        accuracy=0.5,
        loss=float("nan"),
        duration_s=1.0,
        elapsed_s=1.0,
        accepted=1,
        participants=2,
        energy=JoulesNow(),
        so_far=JoulesNow(),
    )
    rounds = {str(number): replace(one, elapsed_s=float(number)) for number in range(1, 5)}
    first = Snapshot(unix_s=1.0, run=RunNow(name="a"), rounds=rounds)
    known: KnownRounds = {}
    before = as_json(first, known)
    assert before == as_json(first) and "loss" not in before["rounds"]["1"]
    after = replace(first, rounds={**rounds, "2": replace(rounds["2"], accuracy=0.125)})
    patch = difference(before, as_json(after, known))
    assert patch["rounds"] == {"2": {"accuracy": 0.125}}
    assert apply(before, patch) == as_json(after)
