"""How well a calibration finds what a board costs, beside the uncalibrated declaration.

    python benchmarks/calibration.py [--boards 20] [--seconds 10]

Emulated boards of every make whose truth lies 20 % (one standard deviation) from what they
declare, swept through a meter with 2 % noise per reading and no error of gain: 7 frequencies, 10 s
each, twice, in virtual time. Two kinds of truth:

model     power is P_idle + P_act + κ f³: κ, P_idle and C are held against the true ones
physical  voltage, leakage, heat, other programs, a meter that loses readings. There is no true κ;
          the switched capacitance of the fit with V² f is held against the chip's, P_idle against
          the cold chip's

Printed are medians of absolute errors over the boards with the worst in brackets, the mean
absolute error of the energy at frequencies that were held out (both fits, and the measured table
that predictions follow, straight through its neighbours), and what the uncalibrated declaration
gets for the same settings; the ratio is the table's over the declaration's. Last, the presets' own
meters, whose gain is off by 1 to 3 %. All joules are emulated.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from msgspec.structs import replace

from fimi.energy.calibration.emulated import calibrate, sweep_plan
from fimi.energy.calibration.held_out import energy_errors, mape_percent
from fimi.energy.emulation.board import Disturbance, EmulatedBoard, VirtualBoard
from fimi.energy.emulation.boards import declare_board
from fimi.energy.emulation.physical_board import PhysicalBoard, Surroundings
from fimi.energy.emulation.presets import PRESETS
from fimi.energy.emulation.sampled_meter import SampledMeter
from fimi.energy.meters import MeterDescription
from fimi.learning.networks.cost import model_cost

NOISE = 0.02
WRONG = Disturbance(profile_error=0.2)
CYCLES = model_cost("small-cnn", 10, (1, 8, 8)).cycles_per_sample()
LIMIT = 5.0


class NoisyBoard(EmulatedBoard):
    """The cost model as truth, through a meter with noise in proportion to the power."""

    def _make_meter(self, description: MeterDescription, **settings: Any) -> SampledMeter:
        return SampledMeter(description, relative_noise=NOISE, **{**settings, "noise_w": 0.0})


def board(make: str, kind: str, seed: int, *, own_meter: bool) -> VirtualBoard:
    declared = declare_board(make, seed=seed, index=0, cycles_per_sample=CYCLES)
    if not own_meter:
        meter = replace(declared.meter, relative_uncertainty=0.0)
        declared = replace(declared, meter=meter, meter_noise_w=0.0)
    if kind == "physical":
        surroundings = Surroundings() if own_meter else Surroundings(relative_noise=NOISE)
        return PhysicalBoard(
            declared, seed=seed, index=0, disturbance=WRONG, surroundings=surroundings
        )
    make_board = EmulatedBoard if own_meter else NoisyBoard
    return make_board(declared, seed=seed, index=0, disturbance=WRONG)


def one(make: str, kind: str, seed: int, seconds: float, *, own_meter: bool) -> dict[str, float]:
    device = board(make, kind, seed, own_meter=own_meter)
    found = calibrate(device, sweep_plan(device.model(), seconds=seconds))
    truth, model = device.truth, device.model()
    errors = {
        "idle": off(found.power.idle_w.value, truth.idle_power_w),
        "cycles": off(found.cycles.value, truth.compute.cycles_per_sample),
        "held": mape_percent(list(found.held_out.values())),
        "held-v": mape_percent(list(found.held_out_voltage.values())),
        "held-t": mape_percent(list(found.held_out_table.values())),
        "none": mape_percent(
            energy_errors(
                found.settings,
                lambda setting: (
                    model.idle_power_w
                    + model.compute.active_power_w
                    + model.compute.capacitance_w_per_hz3 * setting.frequency_hz**3
                ),
                model.compute.cycles_per_sample,
            )
        ),
    }
    if isinstance(device, PhysicalBoard):
        assert found.voltage is not None
        errors["slope"] = off(found.voltage.slope.value, device.chip.capacitance_f)
    else:
        errors["slope"] = off(found.power.slope.value, truth.compute.capacitance_w_per_hz3)
    return errors


def off(value: float, truth: float) -> float:
    return 100.0 * abs(value / truth - 1.0)


def table(kind: str, boards: int, seconds: float, *, own_meter: bool) -> None:
    slope = "κ" if kind == "model" else "capacitance (V² f)"
    print(
        f"\n{'make':<18}{slope + ' %':>20}{'P_idle %':>16}{'C %':>16}{'held out κ f³ %':>18}"
        f"{'held out V² f %':>18}{'held out table %':>18}{'uncalibrated %':>18}{'ratio':>8}"
    )
    for make in PRESETS:
        rows = [one(make, kind, seed, seconds, own_meter=own_meter) for seed in range(boards)]
        cells = {key: [row[key] for row in rows] for key in rows[0]}
        best = "held-t"  # what predictions follow
        ratio = statistics.median(cells[best]) / statistics.median(cells["none"])
        print(
            f"{make:<18}{pair(cells['slope']):>20}{pair(cells['idle']):>16}"
            f"{pair(cells['cycles']):>16}{pair(cells['held']):>18}{pair(cells['held-v']):>18}"
            f"{pair(cells['held-t']):>18}"
            f"{pair(cells['none']):>18}{ratio:>8.2f}"
        )
        limited = [("slope", slope), ("idle", "P_idle"), ("cycles", "C"), (best, "held out")]
        misses = [f"{name}: {sum(v > LIMIT for v in cells[key])}" for key, name in limited]
        if any(v > LIMIT for key, _ in limited for v in cells[key]):
            print(f"{'':<18}boards beyond {LIMIT:g} %: {', '.join(misses)} of {boards}")


def pair(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({max(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    for own_meter, meter in ((False, "2 % noise per reading"), (True, "the preset's own meter")):
        for kind in ("model", "physical"):
            print(f"\nTruth: {kind}; meter: {meter}; median (worst) of {asked.boards} boards")
            table(kind, asked.boards, asked.seconds, own_meter=own_meter)


if __name__ == "__main__":
    main()
