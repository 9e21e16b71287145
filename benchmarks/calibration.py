"""How well a calibration finds what a board costs, beside the uncalibrated declaration.

    python benchmarks/calibration.py [--boards 20] [--seconds 10]

Emulated boards of every make whose truth lies 20 % (one standard deviation) from what they
declare, swept through a meter with 2 % noise per reading and no error of gain: 7 frequencies, 10 s
each, twice, in virtual time. All joules are emulated. Four parts:

1. **Operating points and workloads that were held out**, on boards with physics (voltage, leakage,
   heat, other programs, a meter that loses readings). Half of the frequencies are swept; the joules
   of a training of 30 s, after a rest of 60 s, are then predicted at all others, by the measured
   points (linear in between), by the law P_act + c f + κ f³, by the one of these two that
   calibration has chosen, by the older law P_act + κ f³, and by the declaration.
   Then for another network, 2.6 times the cycles and 0.9 of the switched capacitance, whose seconds
   and watts are measured at one point for 10 s; every point and law is scaled by these two ratios.
   Target: a mean error of at most 5 % of the joules. The same for a Jetson Nano that trains on its
   GPU, whose twelve clocks are its points; a law of the CPU's frequency says nothing about them.
2. **Tables of voltages** (V² f at the operating points of Rockchip's RK3399 and RK3588, from their
   public device trees): the errors of the laws where nothing is noisy.
3. Makes, with what they draw under an all-core stress of the CPU (``work="stress"``). So the
   Jetson is swept along its CPU's frequencies here and in the first table of part 1; its GPU's
   points are in the last table of part 1 only, with the power of a training.
   Model: power is P_idle + P_act + c f + κ f³: the power above P_idle by the law, P_idle and C are
   held against the true ones. Physical: there is no true law; the switched capacitance of the fit
   with V² f is held against the chip's, P_idle against the cold chip's. Printed are medians of
   absolute errors over the boards with the worst in brackets, the mean absolute error of the energy
   at frequencies that were held out of the fit, and what the uncalibrated declaration gets for the
   same settings; the ratio is the table's over the declaration's.
4. The same with the presets' own meters, whose gain is off by 1 to 3 %.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np
from msgspec.structs import replace

from fimi.energy.calibration.emulated import calibrate, sweep_plan
from fimi.energy.calibration.fit import Setting, along_frequency, fit_power
from fimi.energy.calibration.fitted import calibrated
from fimi.energy.calibration.held_out import declared_errors, mape_percent
from fimi.energy.calibration.sweep_plan import at_frequencies
from fimi.energy.cost_model import (
    BoardModel,
    OperatingPoint,
    computing_power_w,
    formula_power_w,
    speed_hz,
)
from fimi.energy.emulation.board import Disturbance, EmulatedBoard, VirtualBoard
from fimi.energy.emulation.boards import declare_board
from fimi.energy.emulation.physical_board import PhysicalBoard, Surroundings
from fimi.energy.emulation.presets import PRESETS
from fimi.energy.emulation.sampled_meter import SampledMeter
from fimi.energy.ledger import Ledger
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
    declared = declare_board(make, seed=seed, index=0, cycles_per_sample=CYCLES, work="stress")
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
        "idle": off(found.idle_w.value, truth.idle_power_w),
        "cycles": off(found.cycles.value, truth.compute.cycles_per_sample),
        "held": mape_percent(list(found.held_out_cubic.values())),
        "held-m": mape_percent(list(found.held_out.values())),
        "held-v": mape_percent(list(found.held_out_voltage.values())),
        "held-t": mape_percent(list(found.held_out_table.values())),
        "none": mape_percent(declared_errors(found.settings, model)),
    }
    if isinstance(device, PhysicalBoard):
        assert found.voltage is not None
        errors["slope"] = off(found.voltage.slope.value, device.chip.capacitance_f)
    else:
        fitted = calibrated(found, model).compute
        hertz = [s.frequency_hz for s in along_frequency(found.settings)]
        laws = [(formula_power_w(fitted, f), formula_power_w(truth.compute, f)) for f in hertz]
        errors["slope"] = statistics.mean(off(found_w, true_w) for found_w, true_w in laws)
    return errors


def off(value: float, truth: float) -> float:
    return 100.0 * abs(value / truth - 1.0)


def table(kind: str, boards: int, seconds: float, *, own_meter: bool) -> None:
    slope = "P − P_idle" if kind == "model" else "capacitance (V² f)"
    print(
        f"\n{'make':<18}{slope + ' %':>20}{'P_idle %':>16}{'C %':>16}{'held out κ f³ %':>18}"
        f"{'held out c f+κ f³ %':>20}{'held out V² f %':>18}{'held out table %':>18}"
        f"{'uncalibrated %':>18}{'ratio':>8}"
    )
    for make in PRESETS:
        rows = [one(make, kind, seed, seconds, own_meter=own_meter) for seed in range(boards)]
        cells = {key: [row[key] for row in rows] for key in rows[0]}
        best = "held-t"  # what predictions follow
        ratio = statistics.median(cells[best]) / statistics.median(cells["none"])
        print(
            f"{make:<18}{pair(cells['slope']):>20}{pair(cells['idle']):>16}"
            f"{pair(cells['cycles']):>16}{pair(cells['held']):>18}{pair(cells['held-m']):>20}"
            f"{pair(cells['held-v']):>18}"
            f"{pair(cells['held-t']):>18}"
            f"{pair(cells['none']):>18}{ratio:>8.2f}"
        )
        limited = [("slope", slope), ("idle", "P_idle"), ("cycles", "C"), (best, "held out")]
        misses = [f"{name}: {sum(v > LIMIT for v in cells[key])}" for key, name in limited]
        if any(v > LIMIT for key, _ in limited for v in cells[key]):
            print(f"{'':<18}boards beyond {LIMIT:g} %: {', '.join(misses)} of {boards}")


# Frequency, MHz, and voltage, V, of the operating points in Linux' rk3399-opp.dtsi and
# rk3588-opp.dtsi.
VOLTAGES = {
    "RK3588 A55": ((1008, 0.675), (1200, 0.7125), (1416, 0.7625), (1608, 0.85), (1800, 0.95)),
    "RK3588 A76": (
        *((1200, 0.675), (1416, 0.725), (1608, 0.7625), (1800, 0.85)),
        *((2016, 0.925), (2208, 0.9875), (2400, 1.0)),
    ),
    "RK3399 A53": (
        *((408, 0.8), (600, 0.8), (816, 0.85), (1008, 0.925), (1200, 1.0), (1416, 1.125)),
    ),
    "RK3399 A72": (
        *((408, 0.8), (600, 0.8), (816, 0.825), (1008, 0.875)),
        *((1200, 0.95), (1416, 1.025), (1608, 1.1), (1800, 1.2)),
    ),
}


def law_errors(points: tuple[tuple[float, float], ...]) -> dict[str, list[float]]:
    """Errors of the laws for V² f of a table, %, at every point; P_idle is known."""
    settings = [
        Setting(activity="idle", frequency_hz=1e9, duration_s=1.0, energy_j=1e-6) for _ in range(2)
    ]
    settings += [
        Setting(
            activity="compute",
            frequency_hz=1e6 * mhz,
            duration_s=1.0,
            energy_j=volts**2 * mhz / 1e3,
            samples=1,
        )
        for mhz, volts in points
    ]
    found = {}
    for name, law in (("c f + κ f³", "mixed"), ("κ f³", "cubic")):
        fit = fit_power(settings, law)  # type: ignore[arg-type]
        found[name] = [100.0 * abs(fit.power_w(s) / s.power_w - 1.0) for s in settings[2:]]
    return found


def voltage_tables() -> None:
    print(f"\n{'V² f of a table':<18}{'c f + κ f³ %':>18}{'κ f³ %':>18}{'ratio':>8}")
    for name, points in VOLTAGES.items():
        mixed, cubic = law_errors(points).values()
        ratio = statistics.mean(mixed) / statistics.mean(cubic)
        print(f"{name:<18}{mean_worst(mixed):>18}{mean_worst(cubic):>18}{ratio:>8.2f}")
    print("mean error of the points, the worst in brackets")


def mean_worst(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ({max(values):.1f})"


CYCLES_RATIO, ACTIVITY_RATIO = 2.6, 0.9
WAYS = ("chosen", "points", "c f + κ f³", "κ f³", "declared")


def predicted_j(
    model: BoardModel, way: str, frequency_hz: float, samples: int, ratios: tuple[float, float]
) -> float:
    """The joules of a training by one way; ratios are those of its seconds and watts to ours."""
    compute = model.compute
    if way == "chosen":
        way = "points" if compute.between_points == "table" else "c f + κ f³"
    if way == "points":
        pairs = sorted(
            (max(point.setting.cpu_hz.values()), speed_hz(compute, point))
            for point in compute.points
        )
        speed = float(np.interp(frequency_hz, *zip(*pairs, strict=True)))
        power_w = computing_power_w(replace(compute, between_points="table"), speed)
    else:
        speed, power_w = frequency_hz, formula_power_w(compute, frequency_hz)
    seconds = ratios[0] * samples * compute.cycles_per_sample / speed
    return seconds * (model.idle_power_w + ratios[1] * power_w)


def training(
    device: VirtualBoard, model: BoardModel, frequency_hz: float, seconds: float, cycles: float
) -> tuple[int, float, float]:
    """Rest, train for about so long at a frequency; samples, seconds and metered joules."""
    device.has_waited_until(device.clock.now_s() + 60.0)
    device.begin_round(int(device.clock.now_s()))
    device.apply(
        OperatingPoint(
            frequency_hz=frequency_hz,
            bandwidth_hz=1e6,
            transmit_power_w=model.link.transmit_power_max_w,
            time_split=0.5,
        )
    )
    samples = round(seconds * frequency_hz / (cycles * model.compute.cycles_per_sample))
    ledger = Ledger(device.clock, device.recorder)
    with ledger.phase("compute"):
        device.has_computed(cycles * samples)
    (record,) = ledger.take()
    assert record.energy is not None
    return samples, record.duration_s, record.energy.value_j


def held_out(make: str, seed: int, seconds: float) -> dict[tuple[str, str], list[float]]:
    """Relative errors of joules that were not measured, by workload and way."""
    device = board(make, "physical", seed, own_meter=False)
    assert isinstance(device, PhysicalBoard)
    declared = device.model()
    steps = declared.compute.frequency_steps_hz or tuple(
        np.linspace(declared.compute.frequency_min_hz, declared.compute.frequency_max_hz, 13)
    )
    swept = (*steps[:-1:2], steps[-1])
    plan = sweep_plan(declared, seconds=seconds)
    found = calibrate(device, replace(plan, points=at_frequencies(swept), uploads=()))
    model = calibrated(found, declared)
    assert found.cubic is not None
    older = replace(
        model,
        idle_power_w=found.cubic.idle_w.value,
        compute=replace(
            model.compute,
            points=(),
            active_power_w=found.cubic.active_w.value,
            linear_power_w_per_hz=0.0,
            capacitance_w_per_hz3=found.cubic.slope.value,
        ),
    )
    models = dict.fromkeys(("chosen", "points", "c f + κ f³"), model)
    models |= {"κ f³": older, "declared": declared}
    errors: dict[tuple[str, str], list[float]] = {}
    others = [step for step in steps if step not in swept]
    same, capacitance_f = (1.0, 1.0), device.chip.capacitance_f
    for hertz in others:
        samples, _, energy_j = training(device, model, hertz, 30.0, 1.0)
        for way, each in models.items():
            joules = predicted_j(each, way, hertz, samples, same)
            errors.setdefault(("same network", way), []).append(joules / energy_j - 1.0)
    device.chip.capacitance_f = ACTIVITY_RATIO * capacitance_f
    middle = swept[len(swept) // 2]
    point = next(p for p in model.compute.points if max(p.setting.cpu_hz.values()) == middle)
    samples, took_s, energy_j = training(device, model, middle, 10.0, CYCLES_RATIO)
    above_w = energy_j / took_s - model.idle_power_w
    measured = (took_s / samples / point.seconds_per_sample, above_w / point.power_w)
    for hertz in steps:
        if hertz == middle:
            continue
        samples, _, energy_j = training(device, model, hertz, 30.0, CYCLES_RATIO)
        for way, each in models.items():
            ratios = (CYCLES_RATIO, 1.0) if way == "declared" else measured
            joules = predicted_j(each, way, hertz, samples, ratios)
            errors.setdefault(("other network", way), []).append(joules / energy_j - 1.0)
    return errors


def gpu_points(boards: int, seconds: float) -> None:
    """A board that trains on its GPU: another network, measured at one point for 10 s."""
    print("\nHeld out, other network on a GPU (12 clocks): mean error of a board's joules, %")
    print(f"{'make':<18}{'points':>18}{'one point':>18}{'declared':>18}{'ratio':>8}{'> 5 %':>7}")
    rows = [on_a_gpu("jetson-nano", seed, seconds) for seed in range(boards)]
    cells = {way: [mape_percent(row[way]) for row in rows] for way in rows[0]}
    ratio = statistics.median(cells["points"]) / statistics.median(cells["declared"])
    beyond = sum(value > LIMIT for value in cells["points"])
    shown = "".join(f"{pair(cells[way]):>18}" for way in ("points", "one point", "declared"))
    print(f"{'jetson-nano':<18}{shown}{ratio:>8.2f}{f'{beyond}/{boards}':>7}")
    print("one point: the others by the declaration, scaled by what that one shows")


def on_a_gpu(make: str, seed: int, seconds: float) -> dict[str, list[float]]:
    """Relative errors of the joules of another network at every point but one."""
    told = declare_board(make, seed=seed, index=0, cycles_per_sample=CYCLES)
    told = replace(told, meter=replace(told.meter, relative_uncertainty=0.0))
    device = PhysicalBoard(told, seed=seed, index=0, disturbance=WRONG)
    declared = device.model()
    model = calibrated(calibrate(device, sweep_plan(declared, seconds=seconds)), declared)
    models = {"points": model, "one point": declared, "declared": declared}
    by_name = {
        way: {point.name: point for point in each.compute.points} for way, each in models.items()
    }
    middle = declared.compute.points[len(declared.compute.points) // 2].name
    samples, took_s, energy_j = at_point(device, declared, middle, 10.0)
    ratios = {"declared": (CYCLES_RATIO, 1.0)}
    for way in ("points", "one point"):
        idle_w, own = models["points"].idle_power_w, by_name[way][middle]
        above_w = energy_j / took_s - idle_w
        ratios[way] = (took_s / samples / own.seconds_per_sample, above_w / own.power_w)
    errors: dict[str, list[float]] = {way: [] for way in models}
    for name in by_name["declared"]:
        if name == middle:
            continue
        samples, _, energy_j = at_point(device, declared, name, 30.0)
        for way in models:
            own, (slower, hungrier) = by_name[way][name], ratios[way]
            idle_w = (models["points"] if way == "one point" else models[way]).idle_power_w
            joules = samples * slower * own.seconds_per_sample * (idle_w + hungrier * own.power_w)
            errors[way].append(joules / energy_j - 1.0)
    return errors


def at_point(
    device: VirtualBoard, model: BoardModel, name: str, seconds: float
) -> tuple[int, float, float]:
    """Rest, then train another network for about so long at a measured point."""
    device.has_waited_until(device.clock.now_s() + 60.0)
    device.begin_round(int(device.clock.now_s()))
    point = next(each for each in model.compute.points if each.name == name)
    device.apply(
        OperatingPoint(
            frequency_hz=speed_hz(model.compute, point),
            bandwidth_hz=1e6,
            transmit_power_w=model.link.transmit_power_max_w,
            time_split=0.5,
            setting=name,
        )
    )
    samples = max(1, round(seconds / (CYCLES_RATIO * point.seconds_per_sample)))
    ledger = Ledger(device.clock, device.recorder)
    with ledger.phase("compute"):
        device.has_computed(CYCLES_RATIO * samples)
    (record,) = ledger.take()
    assert record.energy is not None
    return samples, record.duration_s, record.energy.value_j


def unseen(boards: int, seconds: float) -> None:
    for workload in ("same network", "other network"):
        print(f"\nHeld out, {workload}: mean error of a board's joules, %")
        print(f"{'make':<18}" + "".join(f"{way:>18}" for way in WAYS) + f"{'ratio':>8}{'> 5 %':>7}")
        for make in PRESETS:
            rows = [held_out(make, seed, seconds) for seed in range(boards)]
            cells = {way: [mape_percent(row[workload, way]) for row in rows if row] for way in WAYS}
            ratio = statistics.median(cells["points"]) / statistics.median(cells["κ f³"])
            beyond = sum(value > LIMIT for value in cells["points"])
            shown = "".join(f"{pair(cells[way]):>18}" for way in WAYS)
            print(f"{make:<18}{shown}{ratio:>8.2f}{f'{beyond}/{boards}':>7}")
    print("median (worst) of the boards; ratio: points over the older law κ f³")


def pair(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({max(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    unseen(asked.boards, asked.seconds)
    gpu_points(asked.boards, asked.seconds)
    voltage_tables()
    for own_meter, meter in ((False, "2 % noise per reading"), (True, "the preset's own meter")):
        for kind in ("model", "physical"):
            print(f"\nTruth: {kind}; meter: {meter}; median (worst) of {asked.boards} boards")
            table(kind, asked.boards, asked.seconds, own_meter=own_meter)


if __name__ == "__main__":
    main()
