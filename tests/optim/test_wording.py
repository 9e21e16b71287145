from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from fimi.optim.wording import NAMED, named, outwards, smallest


@given(st.floats(1e-30, 1e30))
def test_outwards_is_never_below_and_survives_being_printed(value: float) -> None:
    above = outwards(value)
    assert value <= above <= value * 1.0011
    assert float(f"{above:g}") == above
    assert outwards(above) == above


@given(st.floats(1e-6, 1e6), st.floats(1.0, 50.0))
def test_the_smallest_decimal_for_which_something_holds(estimate: float, factor: float) -> None:
    limit = estimate * factor
    tried: list[float] = []

    def holds(value: float) -> bool:
        tried.append(value)
        return value >= limit

    found = smallest(estimate, holds)
    assert found is not None
    assert limit <= found <= limit * 1.0011
    assert found in tried


def test_nothing_is_found_where_nothing_holds() -> None:
    assert smallest(1.0, lambda value: False) is None
    assert smallest(math.inf, lambda value: True) is None


def test_at_most_five_devices_are_named() -> None:
    names = [f"d{i}" for i in range(40)]
    assert named(names[:NAMED]) == "d0, d1, d2, d3, d4"
    assert named(names) == "d0, d1, d2, d3, d4 and 35 more"
