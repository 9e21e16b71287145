"""Rounds in numbers: what a device took in one of them."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import record

from fimi.energy.ledger import PhaseRecord
from fimi.record.results import APART, DeviceRound, DeviceStatus, Outcome, metered


def device(*phases: PhaseRecord) -> DeviceRound:
    return DeviceRound(device="a", status="accepted", phases=phases)


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=4))
def test_it_is_the_sum_of_every_phase(values: list[float]) -> None:
    energy = device(*(record("idle", joules) for joules in values)).energy
    assert energy is not None
    assert energy.value_j == pytest.approx(sum(values))


def test_a_phase_that_could_not_be_read_leaves_no_sum() -> None:
    assert device(record("compute", 2.0), record("upload", None)).energy is None


def test_nothing_read_is_nothing_and_not_zero() -> None:
    assert device().energy is metered(()) is None


def test_uncertainties_add_within_a_device() -> None:
    energy = device(record("compute"), record("upload"), record("idle")).energy
    assert energy is not None
    assert energy.uncertainty_j == pytest.approx(0.3)


def test_every_invited_device_ends_as_one_of_four() -> None:
    found = {s: DeviceRound(device="a", status=s).outcome for s in get_args(DeviceStatus)}
    assert {outcome for outcome in found.values() if outcome} == set(get_args(Outcome))
    assert [status for status, outcome in found.items() if outcome is None] == ["resting"]
    assert set(APART) == {"resting", "absent"}
