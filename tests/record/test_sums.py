"""Sums that say what they lack, against sums by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.cost_model import Phase
from fimi.energy.joules import Energy
from fimi.record.sums import Compared, EnergyPart, EnergyTally, Gap, Sum, error_percent, most

PHASE = st.sampled_from(["compute", "upload", "idle"])


def part(
    device: str, number: int, phase: Phase, joules: float | None, predicted: float | None = None
) -> EnergyPart:
    return EnergyPart(
        device=device,
        round=number,
        phase=phase,
        energy=None
        if joules is None
        else Energy(value_j=joules, kind="emulated", source="m", uncertainty_j=0.1 * joules),
        predicted_j=predicted,
    )


PARTS = st.dictionaries(
    st.tuples(st.sampled_from("ab"), st.integers(0, 3), PHASE),
    st.tuples(st.none() | st.floats(0.5, 1e3), st.none() | st.floats(0, 1e3)),
).map(lambda found: [part(*key, *values) for key, values in found.items()])


@given(PARTS)
def test_a_sum_is_known_exactly_if_all_its_parts_are(parts: list[EnergyPart]) -> None:
    found = EnergyTally(parts).sum()
    known = [p.energy.value_j for p in parts if p.energy is not None]
    assert (found.known_j is None) == (not known)
    assert found.known_j is None or found.known_j == pytest.approx(math.fsum(known))
    assert set(found.missing) == {p.gap for p in parts if p.energy is None}
    assert found.value == (None if found.missing else found.known)


@given(PARTS)
def test_both_sides_of_a_comparison_are_of_the_same_parts(parts: list[EnergyPart]) -> None:
    found = EnergyTally(parts).compared()
    both = [
        (p.energy.value_j, p.predicted_j)
        for p in parts
        if p.energy is not None and p.predicted_j is not None
    ]
    assert len(found.missing) == len(parts) - len(both)
    if not both:
        assert found == Compared(missing=found.missing)
        return
    measured, predicted = (math.fsum(side) for side in zip(*both, strict=True))
    assert found.measured is not None
    assert found.measured.value_j == pytest.approx(measured)
    assert found.predicted_j == pytest.approx(predicted)
    assert found.error_percent == pytest.approx(100 * (predicted / measured - 1))


@given(PARTS)
def test_uncertainties_add_within_a_device_and_in_quadrature_between_devices(
    parts: list[EnergyPart],
) -> None:
    known = EnergyTally(parts).sum().known
    of_device = [
        math.fsum(p.energy.uncertainty_j for p in parts if p.device == d and p.energy is not None)
        for d in "ab"
    ]
    assert known is None or known.uncertainty_j == pytest.approx(math.hypot(*of_device))


@given(PARTS, st.integers(0, 20))
def test_looking_in_between_changes_nothing(parts: list[EnergyPart], at: int) -> None:
    tally = EnergyTally(parts[:at])
    tally.sum(), tally.compared()
    tally.add(parts[at:])
    whole = EnergyTally(parts)
    for seen, straight in ((tally.sum(), whole.sum()), (tally.compared(), whole.compared())):
        assert seen.missing == straight.missing
    assert tally.sum().known_j == pytest.approx(whole.sum().known_j)
    assert tally.compared().predicted_j == pytest.approx(whole.compared().predicted_j)


def test_nothing_is_not_zero() -> None:
    assert EnergyTally().sum() == Sum()
    assert error_percent(1.0, 0.0) is None


def test_a_device_that_told_nothing_is_one_gap() -> None:
    silent = [
        EnergyPart(device="a", round=1, phase="compute", silent=True),
        EnergyPart(device="a", round=1, phase="idle", silent=True),
    ]
    assert EnergyTally(silent).sum() == Sum(missing=(Gap(device="a", round=1),))


BOUNDS = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.integers(0, 2), PHASE, st.none() | st.sampled_from([1.0, 2.5])
    )
)


@given(BOUNDS, st.integers(0, 5))
def test_the_most_that_gaps_hold_is_that_of_all_of_them_at_any_time(
    found: list[tuple[str, int, Phase, float | None]], every: int
) -> None:
    tally = EnergyTally()
    gaps: dict[Gap, None] = {}
    for at, (device, number, phase, value_j) in enumerate(found):
        bound = value_j and Energy(
            value_j=value_j, kind="modelled", source="most", uncertainty_j=0.1
        )
        gap = Gap(device=device, round=number, phase=phase, unknown_max=bound or None)
        gaps[gap] = None
        tally.enter(gap, None)
        if every and at % every == 0:
            tally = tally.copy()
            tally.sum()
    here, whole = tally.sum().unknown_max, most(gaps)
    assert (here is None) == (whole is None)
    if here is not None and whole is not None:
        assert here.value_j == pytest.approx(whole.value_j)
        assert here.uncertainty_j == pytest.approx(whole.uncertainty_j)
