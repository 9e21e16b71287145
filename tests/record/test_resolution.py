"""How figures of phases are told, and energy above resting where little is known of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from fimi.energy.joules import Energy
from fimi.energy.ledger import Evidence
from fimi.energy.phase_powers import PhasePowers
from fimi.energy.resting import Resting
from fimi.record.reader import read_run
from fimi.record.resolution import DeviceMetering, above_rest, constant, meterings, told_apart
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


@pytest.mark.parametrize("begun_again_s", [0.0, 5_000.0])
def test_rests_before_and_after_a_start_of_the_board_are_no_line(
    tmp_path: Path, build: Any, begun_again_s: float
) -> None:
    """3.0 W in three rounds, then 3.1 W: a drift only where their times are of one clock."""
    rounds = []
    for number, power_w in enumerate((3.0, 3.0, 3.0, 3.1), 1):
        start_s = 6_000.0 + 600.0 * number - (begun_again_s if number > 2 else 0.0)
        rest = Resting(
            when="between", start_s=start_s, duration_s=10.0, power_w=power_w, uncertainty_w=0.01
        )
        entry = replace(build.device_round("a"), evidence=(Evidence(rests=(rest,)),))
        rounds.append(build.round_result(number, [entry], 0.5))
    build.write(tmp_path / "run", names=("a",), rounds=rounds)
    resting = meterings(read_run(tmp_path / "run"), ())["a"].resting
    assert resting is not None and resting.count == 4
    assert (resting.slope_w_per_s == 0.0) == bool(begun_again_s)
    assert resting.at(1e4)[1] > 0.01
