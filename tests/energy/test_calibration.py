from __future__ import annotations

import pytest
from msgspec.structs import replace

from energy.boards import declare_board
from energy.calibration import analyse, calibrated
from energy.calibration_emulated import EmulatedLoad, calibrate, sweep_plan
from energy.cost_model import OperatingPoint
from energy.emulated import Disturbance, EmulatedBoard
from energy.emulated_physics import PhysicalBoard
from energy.hardware import Applied, HardwareDescription
from energy.held_out import mape_percent
from energy.presets import PRESETS
from energy.silicon import SILICON
from energy.sweep import (
    CalibrationAbortedError,
    CalibrationImpossibleError,
    Progress,
    SweepPlan,
    check,
    spread,
    sweep,
)

WRONG = Disturbance(profile_error=0.2)


def board(
    name: str = "raspberry-pi-4",
    seed: int = 1,
    make: type[EmulatedBoard] = EmulatedBoard,
    gain_error: float = 0.0,
) -> EmulatedBoard:
    declared = declare_board(name, seed=seed, index=0, cycles_per_sample=4e6)
    declared = replace(declared, meter=replace(declared.meter, relative_uncertainty=gain_error))
    return make(declared, seed=seed, index=0, disturbance=WRONG)


@pytest.mark.parametrize("make", [EmulatedBoard, PhysicalBoard])
@pytest.mark.parametrize("name", PRESETS)
class TestEveryEmulatedBoard:
    def test_predicts_what_it_has_not_seen(self, name: str, make: type[EmulatedBoard]) -> None:
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
        truth.compute.capacitance_w_per_hz3, rel=0.05
    )
    assert model.link.channel_gain == pytest.approx(truth.link.channel_gain, rel=0.15)
    assert model.link.receive_power_w == pytest.approx(truth.link.receive_power_w, rel=0.1)
    assert model.compute.frequency_steps_hz == device.model().compute.frequency_steps_hz


def test_finds_radio_and_switched_capacitance_of_a_physical_board() -> None:
    device = board(make=PhysicalBoard)
    assert isinstance(device, PhysicalBoard)
    found = calibrate(device, sweep_plan(device.model(), repeats=4))
    assert found.voltage is not None
    assert found.voltage.slope.value == pytest.approx(device.chip.capacitance_f, rel=0.1)
    assert found.radio is not None
    assert found.radio.electronics_w.value == pytest.approx(0.35, rel=0.15)
    assert found.radio.energy_per_bit_j.value == pytest.approx(6e-9, rel=0.4)
    assert device.model().link.electronics_power_w == 0.0
    assert calibrated(found, device.model()).link.electronics_power_w > 0.3


class TestSweep:
    def test_tells_where_it_stands_and_how_long_it_takes(self) -> None:
        device, said = board(), list[Progress]()
        plan = sweep_plan(device.model(), seconds=2.0, settle_s=1.0)
        calibrate(device, plan, progress=said.append)
        assert said[0].left_s == pytest.approx(plan.total_s)
        assert [p.done for p in said] == list(range(len(said)))
        assert said[-1].left_s == 0.0
        assert device.clock.now_s() == pytest.approx(plan.total_s, rel=0.5)

    def test_stopping_puts_the_board_back_and_gives_nothing(self) -> None:
        device, seen = board(), list[Progress]()
        with pytest.raises(CalibrationAbortedError, match="nothing was written"):
            calibrate(
                device,
                sweep_plan(device.model()),
                progress=seen.append,
                cancelled=lambda: len(seen) >= 4,
            )
        assert len(seen) == 4
        assert device.achieved_frequency_hz() == device.model().compute.frequency_max_hz
        with pytest.raises(RuntimeError, match="apply a plan first"):
            device.has_sent(1)

    def test_a_load_that_fails_puts_the_board_back(self) -> None:
        class Failing(EmulatedLoad):
            def compute(self, duration_s: float) -> int:
                raise OSError("no graph")

        device = board()
        with pytest.raises(OSError, match="no graph"):
            sweep(device, Failing(device), sweep_plan(device.model()))
        assert device.achieved_frequency_hz() == device.model().compute.frequency_max_hz

    def test_odd_repeats_run_backwards(self) -> None:
        device, said = board(), list[str]()
        calibrate(device, sweep_plan(device.model()), progress=lambda p: said.append(p.doing))
        first, second = said[: len(said) // 2], said[len(said) // 2 : -1]
        assert first == second[::-1]


class Declared(EmulatedBoard):
    def describe(self) -> HardwareDescription:
        known = super().describe()
        return replace(known, meter=replace(known.meter, kind="modelled", source="declared:5W"))


class Fixed(EmulatedBoard):
    def apply(self, point: OperatingPoint) -> Applied:
        applied = super().apply(replace(point, frequency_hz=1e9))
        return replace(applied, frequency_hz=1e9)


class Uncontrolled(EmulatedBoard):
    def apply(self, point: OperatingPoint) -> Applied:
        applied = super().apply(point)
        return replace(applied, frequency_control="none", notes=("no cpufreq policy",))


class TestImpossible:
    @pytest.mark.parametrize(
        ("make", "says"),
        [
            (Declared, "a meter: joules of declared:5W"),
            (Fixed, r"reads back 1e\+09 Hz"),
            (Uncontrolled, "control over the CPU frequency: no cpufreq policy"),
        ],
    )
    def test_says_what_is_missing(self, make: type[EmulatedBoard], says: str) -> None:
        device = board(make=make)
        plan = sweep_plan(device.model())
        assert len(check(device, plan)) == 1
        with pytest.raises(CalibrationImpossibleError, match=says):
            calibrate(device, plan)
        assert device.clock.now_s() == 0.0

    def test_two_frequencies_are_not_enough(self) -> None:
        device = board()
        with pytest.raises(CalibrationImpossibleError, match="2 can be set, three"):
            calibrate(device, SweepPlan(frequencies_hz=(1e9, 1.5e9)))

    def test_a_flat_power_gives_no_kappa(self) -> None:
        device = board()
        found = calibrate(device, sweep_plan(device.model()))
        flat = [
            replace(s, energy_j=5.0 * s.duration_s * (1 + 0.01 * (k % 3)))
            if s.activity == "compute"
            else s
            for k, s in enumerate(found.settings)
        ]
        with pytest.raises(CalibrationImpossibleError, match="cannot be told from zero"):
            analyse(flat, device.describe(), device.model())

    def test_a_silent_meter_is_named(self) -> None:
        device = board()
        device.recorder.mark = list  # type: ignore[method-assign, assignment]
        with pytest.raises(CalibrationImpossibleError, match="the meter said nothing"):
            calibrate(device, sweep_plan(device.model()))

    def test_a_meter_of_the_processor_alone_is_noted(self) -> None:
        device = board()
        found = calibrate(device, sweep_plan(device.model()))
        known = found.hardware
        cpu = replace(known, meter=replace(known.meter, scope="cpu"))
        assert (
            "the meter sees the cpu only" in analyse(found.settings, cpu, device.model()).notes[0]
        )


def test_spread_keeps_the_ends() -> None:
    assert spread((1.0, 2.0, 3.0), 7) == (1.0, 2.0, 3.0)
    chosen = spread(tuple(float(k) for k in range(20)), 5)
    assert (chosen[0], chosen[-1], len(chosen)) == (0.0, 19.0, 5)


def test_every_chip_knows_its_voltages() -> None:
    for name, silicon in SILICON.items():
        preset = PRESETS[name]
        assert silicon.voltage_v(preset.frequency_min_hz) < silicon.voltage_v(
            preset.frequency_max_hz
        )
