"""How figures of phases are told, and energy above resting where little is known of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fimi.energy.joules import Energy
from fimi.energy.phase_powers import PhasePowers
from fimi.record.resolution import DeviceMetering, above_rest, constant, told_apart
from fimi.record.sums import EnergyPart

POWERS = PhasePowers(
    columns=("compute@1500 MHz", "idle", "upload@1500 MHz"),
    power_w=np.array([5.0, 3.0, 4.0]),
    covariance=np.diag([0.05, 0.02, 0.5]) ** 2,
    rounds=20,
)
METERING = DeviceMetering(
    powers=POWERS,
    columns={
        (number, name.partition("@")[0]): name for number in (1, 2) for name in POWERS.columns
    },
    resting=constant(3.0, 0.01),
)


def part(phase: Any = "compute", number: int = 1, **changes: Any) -> EnergyPart:
    energy = Energy(value_j=18.0, kind="measured", source="plug", uncertainty_j=6.0, common_j=0.18)
    values: dict[str, Any] = {
        "energy": energy,
        "duration_s": 4.0,
        "resolved": False,
        "most_j": 30.0,
        "middle_s": 10.0,
    }
    return EnergyPart(device="a", round=number, phase=phase, **values | changes)


def test_a_precise_power_is_a_figure_and_another_is_none() -> None:
    compute, upload = told_apart([part(), part("upload")], {"a": METERING})
    assert compute.energy is not None
    assert compute.energy.value_j == pytest.approx(20.0)
    own_j = 4.0 * 0.05 * POWERS.widened
    assert compute.energy.uncertainty_j == pytest.approx(np.hypot(own_j, 0.01 * 20.0))
    assert (compute.how, upload.how, upload.energy) == ("regression", "unresolved", None)
    assert upload.gap.unresolved


def test_what_its_meter_resolved_stays() -> None:
    whole = part(resolved=True)
    assert told_apart([whole], {"a": METERING}) == (whole,)


def test_a_round_without_equations_is_told_by_the_others() -> None:
    """Shorter than the meter takes to settle, or the first after a start."""
    parts = [part(number=n) for n in (1, 2, 3)]
    above = above_rest(parts, {"a": METERING})
    assert {key[1] for key in above} == {1, 2, 3}
    assert sum(energy.value_j for energy in above.values()) == pytest.approx(3 * 4.0 * 2.0)


def test_a_presumed_resting_power_is_no_measurement() -> None:
    presumed = DeviceMetering(resting=constant(3.0, 0.3), is_presumed=True)
    (energy,) = above_rest([part(resolved=True)], {"a": presumed}).values()
    assert (energy.kind, energy.source) == ("mixed", "plug+profile")
    assert energy.value_j == pytest.approx(6.0)
    assert energy.uncertainty_j > 1.2


def test_a_constant_power_has_nothing_above_rest() -> None:
    declared = DeviceMetering(resting=constant(3.0, 0.0), is_declared=True)
    assert above_rest([part(resolved=True)], {"a": declared}) == {}
