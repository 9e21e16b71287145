from __future__ import annotations

import pytest
from measured import emulated as board
from msgspec.structs import replace

from fimi.energy.calibration.emulated import EmulatedLoad, calibrate, sweep_plan
from fimi.energy.calibration.fitted import calibrated
from fimi.energy.calibration.sweep import (
    CalibrationAbortedError,
    CalibrationImpossibleError,
    SweepPlan,
    SweepProgress,
    at_frequencies,
    spread,
    sweep,
    try_out,
)
from fimi.energy.control.cpufreq import EVERY_CLUSTER
from fimi.energy.cost_model import OperatingPoint, formula_power_w
from fimi.energy.emulation.board import EmulatedBoard
from fimi.energy.emulation.physical_board import PhysicalBoard
from fimi.energy.hardware import Applied, HardwareDescription


class TestSweep:
    def test_tells_where_it_stands_and_how_long_it_takes(self) -> None:
        device, said = board(), list[SweepProgress]()
        plan = sweep_plan(device.model(), seconds=2.0, settle_s=1.0)
        calibrate(device, plan, progress=said.append)
        assert said[0].left_s == pytest.approx(plan.total_s)
        assert [p.done for p in said] == list(range(len(said)))
        assert said[-1].left_s == 0.0
        assert device.clock.now_s() == pytest.approx(plan.total_s, rel=0.5)

    def test_stopping_puts_the_board_back_and_gives_nothing(self) -> None:
        device, seen = board(), list[SweepProgress]()
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
            (Uncontrolled, "control over the CPU frequency.*: no cpufreq policy"),
        ],
    )
    def test_says_what_is_missing(self, make: type[EmulatedBoard], says: str) -> None:
        device = board(make=make)
        plan = sweep_plan(device.model())
        with pytest.raises(CalibrationImpossibleError, match=says) as caught:
            try_out(device, plan)
        assert len(caught.value.missing) == 1
        with pytest.raises(CalibrationImpossibleError, match=says):
            calibrate(device, plan)
        assert device.clock.now_s() == 0.0

    def test_a_silent_meter_is_named(self) -> None:
        device = board()
        device.recorder.mark = list  # type: ignore[method-assign, assignment]
        with pytest.raises(CalibrationImpossibleError, match="the meter said nothing"):
            calibrate(device, sweep_plan(device.model()))


def test_a_board_that_throttles_says_so() -> None:
    device = board(make=PhysicalBoard)
    assert isinstance(device, PhysicalBoard)
    device.chip.temperature_c = 79.9
    sizes = {"seconds": 60.0, "repeats": 1}
    _, notes = sweep(device, EmulatedLoad(device), sweep_plan(device.model(), **sizes))
    cool = board(make=PhysicalBoard)
    assert any("the processor was throttled at cpu" in note for note in notes)
    assert sweep(cool, EmulatedLoad(cool), sweep_plan(cool.model())).notes == ()


class TestFewPoints:
    """Where a law cannot be fitted the points are measured all the same."""

    def test_what_reads_back_another_clock_is_left_out(self) -> None:
        device = board(make=Fixed)
        plan, notes = try_out(device, sweep_plan(device.model()))
        assert [point.name for point in plan.points] == ["cpu 1 GHz"]
        assert len(notes) == 1
        assert "cpu 0.6 GHz, cpu 0.8 GHz" in notes[0]
        assert "it reads back 1e+09 Hz" in notes[0]

    @pytest.mark.parametrize("count", [1, 2])
    def test_points_only(self, count: int) -> None:
        device = board()
        frequencies = (1e9, 1.5e9)[:count]
        found = calibrate(device, SweepPlan(points=at_frequencies(frequencies), repeats=3))
        assert found.power is None
        assert f"known at {count} frequencies" in found.notes[0]
        model = calibrated(found, device.model())
        truth = device.truth
        for point, hertz in zip(model.compute.points, frequencies, strict=True):
            assert point.seconds_per_sample == pytest.approx(
                truth.compute.cycles_per_sample / hertz, rel=0.03
            )
            assert point.power_w == pytest.approx(formula_power_w(truth.compute, hertz), rel=0.05)
            assert point.setting.cpu_hz == {EVERY_CLUSTER: hertz}
        top = model.compute.points[-1]
        law_w = formula_power_w(model.compute, model.compute.frequency_max_hz)
        assert law_w == pytest.approx(top.power_w)


def test_spread_keeps_the_ends() -> None:
    assert spread((1.0, 2.0, 3.0), 7) == (1.0, 2.0, 3.0)
    chosen = spread(tuple(float(k) for k in range(20)), 5)
    assert (chosen[0], chosen[-1], len(chosen)) == (0.0, 19.0, 5)
