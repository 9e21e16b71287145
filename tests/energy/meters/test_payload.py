"""The number in a message: JSON pointers (RFC 6901), units, and what is no number."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.meters.elsewhere import payload as reading
from fimi.energy.meters.elsewhere.payload import AbsentError, NoValueError

ZIGBEE = (
    b'{"current":11.12,"energy":10.48,"linkquality":39,"power":2441,"state":"ON","voltage":223}'
)
TASMOTA = (
    b'{"Time":"2024-03-31T08:46:17","ENERGY":{"Total":261.244,"Power":[76.2,3],"Voltage":231}}'
)


def value(payload: bytes, pointer: str, unit: Any = "W") -> float:
    return reading.amount(reading.at(reading.parse(payload), pointer), unit).value


@pytest.mark.parametrize(
    ("payload", "pointer", "unit", "expected"),
    [
        (ZIGBEE, "/power", "W", 2441.0),
        (ZIGBEE, "/energy", "kWh", 10.48 * 3.6e6),
        (TASMOTA, "/ENERGY/Power/0", "W", 76.2),
        (TASMOTA, "/ENERGY/Power/1", "mW", 3e-3),
        (b"4.39", "", "W", 4.39),
        (b" 4390\n", "", "mW", 4.39),
        (b'"12.3"', "", "W", 12.3),
        (b"12.3 W", "", "W", 12.3),
        (b'{"p":"12.3 W"}', "/p", "W", 12.3),
        (b"1.5e1", "", "W", 15.0),
        (b"2", "", "mWh", 7.2),
        (b"2", "", "Wh", 7200.0),
        (b'{"a/b":{"m~n":{"":1}}}', "/a~1b/m~0n/", "W", 1.0),
        (b"0", "", "W", 0.0),
    ],
)
def test_values_as_they_are_found(payload: bytes, pointer: str, unit: Any, expected: float) -> None:
    assert value(payload, pointer, unit) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("payload", "pointer", "said"),
    [
        (b"null", "", "null is no number"),
        (b'{"power":null}', "/power", "null is no number"),
        (b"unavailable", "", '"unavailable" is no number'),
        (b"unknown", "", "is no number"),
        (b"NaN", "", "is no number"),
        (b'{"power":NaN}', "/power", "is no number"),
        (b'{"power":Infinity}', "/power", "is no number"),
        (b'{"power":true}', "/power", "true is no number"),
        (b'{"power":1e999}', "/power", "too much"),
        (b'{"power":1e99999999999999999999}', "/power", "too many digits"),
        (b'{"power":-3}', "/power", "-3 W is negative"),
        (b"", "", "it is empty"),
        (b"\xff\xfe", "", "no text"),
        (b"12.3 kW", "", "has the unit 'kW', and unit = 'W' was declared"),
        (b"12,3", "", "is no number"),
    ],
)
def test_what_is_no_number_says_so(payload: bytes, pointer: str, said: str) -> None:
    with pytest.raises(NoValueError, match=said):
        value(payload, pointer)


@pytest.mark.parametrize(
    ("payload", "pointer", "said"),
    [
        (ZIGBEE, "/Power", r"no '/Power'; it has numbers at /current, /energy, .*/power"),
        (ZIGBEE, "", r"'' is an object; it has numbers at /current"),
        (TASMOTA, "/ENERGY/Power", r"is a list; it has numbers at .*/ENERGY/Power/0"),
        (TASMOTA, "/ENERGY/Power/2", "no '/ENERGY/Power/2'"),
        (TASMOTA, "/ENERGY/Power/-", "no '/ENERGY/Power/-'"),
        (TASMOTA, "/ENERGY/Power/01", "no '/ENERGY/Power/01'"),
        (b"4.3", "/power", "it is 4.3, for which the pointer is empty"),
        (b'{"state":"ON"}', "/power", "it holds no number; its keys are 'state'"),
        (b"{}", "/power", "it holds nothing"),
    ],
)
def test_a_pointer_that_leads_nowhere_says_what_there_is(
    payload: bytes, pointer: str, said: str
) -> None:
    with pytest.raises(AbsentError, match=said):
        value(payload, pointer)


KEYS = st.text(max_size=4)
TREES = st.recursive(
    st.integers(0, 10**6),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=3),
    max_leaves=8,
)


def walk(tree: Any, before: str = "") -> list[tuple[str, int]]:
    """Every leaf with its pointer, by the definition of RFC 6901."""
    if isinstance(tree, int):
        return [(before, tree)]
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for key, inner in pairs:
        found += walk(inner, f"{before}/{str(key).replace('~', '~0').replace('/', '~1')}")
    return found


@given(TREES)
def test_every_leaf_is_found_by_its_pointer(tree: Any) -> None:
    for pointer, expected in walk(tree):
        assert value(json.dumps(tree).encode(), pointer) == expected


@given(st.binary(max_size=60), st.sampled_from(["", "/a", "/a/0", "/power"]))
def test_no_message_does_anything_but_give_a_number_or_a_reason(
    payload: bytes, pointer: str
) -> None:
    try:
        assert value(payload, pointer) >= 0.0
    except (AbsentError, NoValueError) as error:
        assert str(error)


def test_deep_nesting_is_no_number() -> None:
    with pytest.raises(NoValueError):
        value(b"[" * 100_000, "")


@pytest.mark.parametrize(
    ("payload", "unit", "step"),
    [(b"10.48", "kWh", 36_000.0), (b"2441", "W", 1.0), (b"12.30 W", "W", 0.01), (b"1e3", "W", 1.0)],
)
def test_the_digits_say_the_smallest_step(payload: bytes, unit: Any, step: float) -> None:
    assert reading.amount(reading.parse(payload), unit).step == pytest.approx(step)
