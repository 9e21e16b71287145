from __future__ import annotations

import pytest
from measured import WRONG
from measured import emulated as board
from msgspec.structs import replace

from fimi.energy.calibration.emulated import calibrate, sweep_plan
from fimi.energy.calibration.fitted import analyse, calibrated
from fimi.energy.calibration.held_out import declared_errors, mape_percent
from fimi.energy.compute_points import name_of
from fimi.energy.cost_model import ComputeModel, ComputePoint, ComputeSetting
from fimi.energy.emulation.board import EmulatedBoard, VirtualBoard
from fimi.energy.emulation.boards import declare_board
from fimi.energy.emulation.chip import SILICON
from fimi.energy.emulation.physical_board import PhysicalBoard
from fimi.energy.emulation.presets import PRESETS


@pytest.mark.parametrize("make", [EmulatedBoard, PhysicalBoard])
@pytest.mark.parametrize("name", PRESETS)
class TestEveryEmulatedBoard:
    def test_predicts_what_it_has_not_seen(self, name: str, make: type[VirtualBoard]) -> None:
        found = calibrate(device := board(name, make=make), sweep_plan(device.model()))
        best = min(
            mape_percent(list(found.held_out.values())),
            mape_percent(list(found.held_out_voltage.values())),
        )
        assert best < 3.0
        assert found.hardware.meter.kind == "emulated"


@pytest.mark.parametrize("name", PRESETS)
def test_finds_the_truth_that_the_declaration_lacks(name: str) -> None:
    device = board(name)
    model = calibrated(calibrate(device, sweep_plan(device.model())), device.model())
    truth = device.truth
    assert model.idle_power_w == pytest.approx(truth.idle_power_w, rel=0.02)
    assert model.compute.cycles_per_sample == pytest.approx(
        truth.compute.cycles_per_sample, rel=0.02
    )
    assert model.compute.capacitance_w_per_hz3 == pytest.approx(
        truth.compute.capacitance_w_per_hz3, rel=0.05, abs=0
    )
    assert model.link.channel_gain == pytest.approx(truth.link.channel_gain, rel=0.15)
    assert model.link.receive_power_w == pytest.approx(truth.link.receive_power_w, rel=0.1)
    assert model.compute.frequency_steps_hz == device.model().compute.frequency_steps_hz


@pytest.mark.parametrize("name", PRESETS)
def test_heat_tells_leakage_from_switching(name: str) -> None:
    device = board(name, make=PhysicalBoard)
    assert isinstance(device, PhysicalBoard)
    found = calibrate(device, sweep_plan(device.model()))
    assert found.voltage is not None
    assert found.voltage.leakage_a is not None
    assert found.voltage.slope.value == pytest.approx(device.chip.capacitance_f, rel=0.05)
    blind = [replace(s, temperature_c=None) for s in found.settings]
    without = analyse(blind, device.describe(), device.model()).voltage
    assert without is not None
    assert without.leakage_a is None
    assert without.slope.value > 1.01 * found.voltage.slope.value, "leakage passed for switching"


def test_finds_the_radio_of_a_physical_board() -> None:
    device = board(make=PhysicalBoard)
    found = calibrate(device, sweep_plan(device.model(), repeats=4))
    assert found.radio is not None
    true, told = device.truth.link, device.model().link
    assert found.radio.electronics_w.value == pytest.approx(true.electronics_power_w, rel=0.1)
    assert found.radio.energy_per_bit_j.value == pytest.approx(
        true.energy_per_bit_j, rel=0.4, abs=0.0
    )
    assert abs(true.electronics_power_w / told.electronics_power_w - 1.0) > 0.1
    assert calibrated(found, device.model()).link.electronics_power_w > 0.3


def jetson_points(compute: ComputeModel) -> tuple[ComputePoint, ...]:
    """Three clocks of the CPU, each with three of the GPU; the highest is the one left as it is."""
    found = []
    for cpu_hz in (0.6e9, 1.0e9, 1.4e9):
        for gpu_hz, slower in ((None, 1.0), (306e6, 2.1), (510e6, 1.4)):
            setting = ComputeSetting(cpu_hz={"policy0": cpu_hz}, gpu_hz=gpu_hz)
            found.append(
                ComputePoint(
                    name=name_of(setting),
                    seconds_per_sample=slower * compute.cycles_per_sample / cpu_hz,
                    power_w=0.8 + 1.2e-9 * cpu_hz + 1.5 / slower,
                    setting=setting,
                )
            )
    return tuple(found)


def test_points_of_several_settings() -> None:
    """Each of them is found; the law is that of the points of the CPU alone."""
    told = declare_board("jetson-nano", seed=2, index=0, cycles_per_sample=4e6)
    compute = replace(told.model.compute, points=jetson_points(told.model.compute))
    told = replace(
        told,
        model=replace(told.model, compute=compute),
        meter=replace(told.meter, relative_uncertainty=0.0),
    )
    device = EmulatedBoard(told, seed=2, index=0, disturbance=WRONG)
    found = calibrate(device, sweep_plan(device.model()))
    model = calibrated(found, device.model())
    truth = {point.name: point for point in device.truth.compute.points}
    assert {point.name for point in model.compute.points} == set(truth)
    for point in model.compute.points:
        true = truth[point.name]
        assert point.setting == true.setting
        assert point.seconds_per_sample == pytest.approx(true.seconds_per_sample, rel=0.04)
        assert point.power_w == pytest.approx(true.power_w, rel=0.02)
    assert found.power is not None
    alone = [point for point in found.points if point.setting.gpu_hz is None]
    assert found.power.degrees == 2 * (2 + len(alone)) - 3
    declared = declared_errors(found.settings, device.model())
    assert mape_percent(list(found.repeats.values())) < 0.25 * mape_percent(declared)


def test_a_make_that_trains_on_its_gpu_has_points_and_no_law() -> None:
    told = declare_board("jetson-nano", seed=1, index=0, cycles_per_sample=4e6)
    device = PhysicalBoard(told, seed=1, index=0, disturbance=WRONG)
    found = calibrate(device, sweep_plan(device.model()))
    assert found.power is None
    assert "at no point the CPU frequency is all that is set" in found.notes[0]
    for point in calibrated(found, device.model()).compute.points:
        assert point.setting.gpu_hz is not None
        assert point.seconds_per_sample > 0.0


class TestAnalyse:
    def test_a_flat_power_gives_no_kappa(self) -> None:
        device = board()
        found = calibrate(device, sweep_plan(device.model()))
        flat = [
            replace(s, energy_j=5.0 * s.duration_s * (1 + 0.01 * (k % 3)))
            if s.activity == "compute"
            else s
            for k, s in enumerate(found.settings)
        ]
        flat_found = analyse(flat, device.describe(), device.model())
        assert flat_found.power is None
        assert "cannot be told from zero" in flat_found.notes[0]
        points = calibrated(flat_found, device.model()).compute.points
        assert [point.power_w for point in points] == pytest.approx(
            [5.05 - flat_found.idle_w.value] * len(points), rel=0.05
        )
        slower = [point.name for point in points[:-1]]
        assert list(flat_found.never_chosen) == slower, "as much power for less speed"

    def test_what_a_reader_must_know_of_a_bad_sweep(self) -> None:
        device = board()
        found = calibrate(device, sweep_plan(device.model()))
        assert found.notes == ()
        still = [
            replace(s, samples=round(s.duration_s * 100.0)) if s.activity == "compute" else s
            for s in found.settings
        ]
        notes = analyse(still, device.describe(), device.model()).notes
        assert "about as long at 0.6 as at 1.8 GHz" in notes[0]
        wild = [
            replace(s, energy_j=s.energy_j * (1.4 if round(s.frequency_hz / 2e8) % 2 else 0.7))
            if s.activity == "compute"
            else s
            for s in found.settings
        ]
        notes = analyse(wild, device.describe(), device.model()).notes
        assert "do not rely on this profile" in notes[-1]

    def test_a_meter_of_the_processor_alone_is_noted(self) -> None:
        device = board()
        found = calibrate(device, sweep_plan(device.model()))
        known = found.hardware
        cpu = replace(known, meter=replace(known.meter, scope="cpu"))
        assert (
            "the meter sees the cpu only" in analyse(found.settings, cpu, device.model()).notes[0]
        )


def test_every_chip_knows_its_voltages() -> None:
    for name, silicon in SILICON.items():
        preset = PRESETS[name]
        assert silicon.voltage_v(preset.frequency_min_hz) < silicon.voltage_v(
            preset.frequency_max_hz
        )
