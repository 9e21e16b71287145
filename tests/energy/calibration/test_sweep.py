from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measured import emulated as board
from msgspec.structs import replace

from fimi.energy.calibration.emulated import EmulatedLoad, calibrate, sweep_plan
from fimi.energy.calibration.fit import Setting, of_activity
from fimi.energy.calibration.fitted import Calibration, analyse_sweep, calibrated
from fimi.energy.calibration.following import ClockSeen, why_fixed
from fimi.energy.calibration.sweep import SweepProgress, sweep, try_out
from fimi.energy.calibration.sweep_plan import (
    CalibrationAbortedError,
    CalibrationImpossibleError,
    SweepPlan,
    TrialPoint,
    at_frequencies,
    spread,
    tasks,
)
from fimi.energy.control.cpufreq import EVERY_CLUSTER
from fimi.energy.cost_model import ComputeSetting, OperatingPoint, formula_power_w
from fimi.energy.emulation.board import EmulatedBoard
from fimi.energy.emulation.physical_board import PhysicalBoard
from fimi.energy.hardware import Applied, HardwareDescription, Observation
from fimi.energy.meters.response import MeterResponse


class TestSweep:
    def test_tells_where_it_stands_and_how_long_it_takes(self) -> None:
        device, said = board(), list[SweepProgress]()
        plan = sweep_plan(device.model(), seconds=2.0, settle_s=1.0)
        calibrate(device, plan, progress=said.append)
        assert said[0].left_s == pytest.approx(plan.total_s)
        assert [p.done for p in said] == list(range(len(said)))
        assert said[-1].left_s == 0.0
        assert device.clock.now_s() == pytest.approx(plan.total_s, rel=0.5)

    @pytest.mark.parametrize("begun", [1, 2, 3, 4, 20])
    def test_stopping_puts_the_board_back_and_keeps_what_was_measured(self, begun: int) -> None:
        device, seen, kept = board(), list[SweepProgress](), list[Setting]()
        plan = sweep_plan(device.model())

        def run() -> Calibration:
            return calibrate(
                device,
                plan,
                progress=seen.append,
                cancelled=lambda: len(seen) >= begun,
                measured=kept.append,
            )

        if begun < 4:  # one at rest, two of training: the fourth was begun
            with pytest.raises(CalibrationAbortedError, match="too little for a profile"):
                run()
        else:
            found = run()
            assert found.settings == tuple(kept)
            assert found.stopped.startswith(f"stopped after {begun - 1} of ")
            assert f"of {len(tasks(plan))} settings" in found.stopped
            assert any(found.stopped in note for note in found.notes)
            names = {setting.point for setting in kept if setting.activity == "compute"}
            assert {point.name for point in found.points} == names
            calibrated(found, device.model())
        assert len(kept) == begun - 1, "what was being measured is no measurement"
        assert len(seen) == begun
        assert device.achieved_frequency_hz() == device.model().compute.frequency_max_hz
        with pytest.raises(RuntimeError, match="apply a plan first"):
            device.has_sent(1)

    @pytest.mark.parametrize(("seconds", "short"), [(2.0, True), (3.4, True), (3.6, False)])
    def test_settings_that_a_meter_cannot_tell_apart_are_noted(
        self, seconds: float, short: bool
    ) -> None:
        """A topic's values: a new one every 0.5 s, how old they are is known within 0.5 s."""
        late = MeterResponse(delay_s=0.5, refresh_s=0.5, delay_sd_s=0.5)  # 0.5 + 4 * 0.5 s, 1 s
        device = board(meter={"rate_hz": 1.0, "response": late})
        plan = sweep_plan(device.model(), seconds=seconds, settle_s=1.0)
        found = sweep(device, EmulatedLoad(device), plan)
        said = [note for note in found.notes if "too short for" in note]
        assert bool(said) == short
        if short:
            assert "--seconds 14 or more" in said[0] and "0.5 ± 0.5 s late" in said[0]

    def test_a_load_that_fails_at_once_puts_the_board_back(self) -> None:
        class Failing(EmulatedLoad):
            def compute(self, duration_s: float) -> int:
                raise OSError("no graph")

        device = board()
        with pytest.raises(OSError, match="no graph"):
            sweep(device, Failing(device), sweep_plan(device.model()))
        assert device.achieved_frequency_hz() == device.model().compute.frequency_max_hz

    def test_a_load_that_fails_later_loses_nothing(self) -> None:
        class Failing(EmulatedLoad):
            left = 5

            def compute(self, duration_s: float) -> int:
                self.left -= 1
                if self.left < 0:
                    raise OSError("no memory")
                return super().compute(duration_s)

        device = board()
        plan = sweep_plan(device.model(), settle_s=0.0)
        done = sweep(device, Failing(device), plan)
        assert len(of_activity(done.settings, "compute")) == 5
        assert "failed (no memory)" in done.stopped
        assert device.achieved_frequency_hz() == device.model().compute.frequency_max_hz
        assert len(analyse_sweep(done, device.describe(), device.model()).points) == 5

    @pytest.mark.parametrize("settle_s", [0.0, 3.0])
    def test_traffic_that_fails_costs_the_radio_only(self, settle_s: float) -> None:
        class Cut(EmulatedLoad):
            def send(self, duration_s: float) -> float:
                raise ConnectionResetError("reset by peer")

        device = board()
        plan = sweep_plan(device.model(), settle_s=settle_s)
        done = sweep(device, Cut(device), plan)
        assert done.stopped == ""
        assert of_activity(done.settings, "send") == []
        assert len(of_activity(done.settings, "compute")) >= 2 * len(plan.points)
        assert len(of_activity(done.settings, "receive")) == 2
        assert any("send failed and was given up: reset by peer" in each for each in done.notes)

    def test_a_meter_that_dies_loses_nothing_that_was_metered(self) -> None:
        device, kept = board(), list[Setting]()
        mark = device.recorder.mark

        def dying() -> object:
            return mark() if len(kept) < 6 else []

        device.recorder.mark = dying  # type: ignore[method-assign, assignment]
        done = sweep(device, EmulatedLoad(device), sweep_plan(device.model()), measured=kept.append)
        assert done.settings == tuple(kept)
        assert len(kept) == 6
        assert "the meter said nothing while the board was to compute" in done.stopped
        assert analyse_sweep(done, device.describe(), device.model()).points

    def test_a_reading_that_is_missed_once_is_measured_again(self) -> None:
        device, kept = board(), list[Setting]()
        mark, missed = device.recorder.mark, []

        def stammering() -> object:
            if len(kept) == 4 and len(missed) < 2:
                missed.append(1)
                return []
            return mark()

        device.recorder.mark = stammering  # type: ignore[method-assign, assignment]
        done = sweep(device, EmulatedLoad(device), sweep_plan(device.model()), measured=kept.append)
        assert missed
        assert done.stopped == ""

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


class Following(EmulatedBoard):
    """A board whose clock is what it is, and which reads back whatever was set."""

    clock_hz = 1.6e9

    def apply(self, point: OperatingPoint) -> Applied:
        applied = super().apply(replace(point, frequency_hz=self.clock_hz))
        return replace(applied, frequency_hz=point.frequency_hz)


class Silent(Following):
    """The same, where nothing tells the clock."""

    def observed(self) -> Observation:
        return replace(super().observed(), frequency_hz=None, frequency_source="")


class TestFixedClock:
    @pytest.mark.parametrize(("make", "clock_hz"), [(Following, 1.6e9), (Silent, 1.8e9)])
    def test_two_settings_tell_and_are_one_point(
        self, make: type[EmulatedBoard], clock_hz: float
    ) -> None:
        device, seen = board(make=make), list[SweepProgress]()
        plan = sweep_plan(device.model(), frequencies=13)
        found = calibrate(device, plan, progress=seen.append)
        trained = of_activity(found.settings, "compute")
        assert len(trained) == 2
        assert len(of_activity(found.settings, "send")) == 8, "the radio is measured all the same"
        assert len(of_activity(found.settings, "idle")) == 4
        assert (found.fixed_hz, found.stopped) == (pytest.approx(clock_hz, rel=0.01), "")
        sentence = next(note for note in found.notes if "does not follow" in note)
        assert "at 0.6 and 1.8 GHz a sample takes" in sentence
        assert "one fixed frequency" in sentence
        model = calibrated(found, device.model())
        assert model.compute.frequency_min_hz == model.compute.frequency_max_hz
        assert model.compute.frequency_steps_hz == ()
        (point,) = model.compute.points
        assert (point.name, point.setting) == ("as it is", ComputeSetting())
        truth = device.truth.compute
        assert point.seconds_per_sample == pytest.approx(truth.cycles_per_sample / 1.6e9, rel=0.03)
        assert point.power_w == pytest.approx(formula_power_w(truth, 1.6e9), rel=0.05)

    def test_memory_that_sets_the_pace_is_no_fixed_clock(self) -> None:
        """The seconds do not change, the counted clock does."""

        class Slow(EmulatedLoad):
            def compute(self, duration_s: float) -> int:
                self._board.has_computed(duration_s * self._board.achieved_frequency_hz() / 4e6)
                return round(100 * duration_s)

        device = board()
        done = sweep(device, Slow(device), sweep_plan(device.model()))
        assert done.fixed_hz is None
        assert len({setting.point for setting in of_activity(done.settings, "compute")}) == 7

    def test_the_ends_come_first_and_other_knobs_stay(self) -> None:
        points = (
            *at_frequencies((0.6e9, 1.0e9, 1.8e9)),
            *(
                TrialPoint(
                    name=f"{cores} at {hertz}",
                    frequency_hz=hertz,
                    setting=ComputeSetting(cpu_hz={EVERY_CLUSTER: hertz}, cores=cores),
                )
                for cores in (1, 2)
                for hertz in (0.6e9, 1.8e9)
            ),
        )
        names = [p.name for a, p in tasks(SweepPlan(points=points)) if a == "compute"]  # type: ignore[union-attr]
        assert names[:3] == ["cpu 0.6 GHz", "cpu 1.8 GHz", "cpu 1 GHz"]
        device = board(make=Following)
        done = sweep(device, EmulatedLoad(device), SweepPlan(points=points))
        measured = [setting.point for setting in of_activity(done.settings, "compute")]
        assert measured[:2] == ["as it is", "as it is"]
        assert set(measured[2:]) == {"1 at 1800000000.0", "2 at 1800000000.0"}

    @settings(max_examples=300, deadline=None)
    @given(
        share=st.floats(0.0, 1.0),
        ratio=st.floats(1.2, 6.0),
        counted=st.booleans(),
        noise=st.floats(-0.01, 0.01),
    )
    def test_told_apart_on_any_board(
        self, share: float, ratio: float, counted: bool, noise: float
    ) -> None:
        """``share`` of the clock follows; the watts follow its cube above those at rest."""
        set_hz = (1e9, 1e9 * ratio)
        clocks = (2e9, 2e9 * ratio**share)
        low, high = (
            ClockSeen(
                Setting(
                    activity="compute",
                    frequency_hz=hertz,
                    duration_s=1e3 * (1.0 + noise * sign) * 1e7 / hertz,
                    energy_j=(3.0 + 0.2e-27 * hertz**3) * 1e3 * 1e7 / hertz,
                    samples=1000,
                ),
                hertz if counted else None,
                "cycles" if counted else "",
            )
            for hertz, sign in zip(clocks, (1, 0), strict=True)
        )
        said = why_fixed(low, high, set_hz)
        if share == 0.0:
            assert "does not follow" in said
        if share > 0.5:
            assert said == ""


class Held(EmulatedBoard):
    """Heat holds the clock at 1.2 GHz for a number of settings, after they were tried out."""

    def __init__(self, *args: object, **more: object) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self.applied_count, self.hot = 0, range(0)

    def apply(self, point: OperatingPoint) -> Applied:
        self.applied_count += 1
        if self.applied_count not in self.hot or point.frequency_hz <= 1.2e9:
            return super().apply(point)
        applied = super().apply(replace(point, frequency_hz=1.2e9))
        return replace(applied, frequency_hz=1.2e9, notes=("policy0: clamped by heat",))


class TestHeat:
    @pytest.mark.parametrize("hot", [range(8, 20), range(8, 10_000)])
    def test_a_held_point_is_tried_again_then_left_out(self, hot: range) -> None:
        device = board(make=Held)
        assert isinstance(device, Held)
        device.hot = hot
        done = sweep(device, EmulatedLoad(device), sweep_plan(device.model()))
        assert done.stopped == ""
        for setting in of_activity(done.settings, "compute"):
            wanted_hz = max(setting.applied.cpu_hz.values())
            assert setting.frequency_hz == pytest.approx(wanted_hz, rel=0.01), "under its own name"
        names = {setting.point for setting in of_activity(done.settings, "compute")}
        if hot.stop == 20:
            assert len(names) == 7, "the heat has gone by then"
            assert not any("not measured" in note for note in done.notes)
        else:
            assert names == {"cpu 0.6 GHz", "cpu 0.8 GHz", "cpu 1 GHz", "cpu 1.2 GHz"}
            (note,) = [each for each in done.notes if "not measured" in each]
            assert "cpu 1.8 GHz" in note
            assert "clamped by heat" in note


class Bumpy(EmulatedBoard):
    """A board that draws more at one clock than at all others, once or always."""

    def __init__(self, *args: object, **more: object) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self.times = 0

    def has_computed(self, samples: float) -> None:
        truth = self.truth
        if self.achieved_frequency_hz() == 1.0e9 and self.times > 0:
            self.times -= 1
            compute = replace(truth.compute, active_power_w=truth.compute.active_power_w + 3.0)
            self.truth = replace(truth, compute=compute)
        super().has_computed(samples)
        self.truth = truth


class TestOrder:
    @pytest.mark.parametrize(("times", "stays"), [(4, False), (10_000, True)])
    def test_a_point_out_of_order_is_measured_once_more(self, times: int, stays: bool) -> None:
        device, said = board(make=Bumpy), list[str]()
        assert isinstance(device, Bumpy)
        device.times = times
        plan = sweep_plan(device.model())
        found = calibrate(device, plan, progress=lambda each: said.append(each.doing))
        again = {setting.point for setting in found.settings if setting.again}
        assert "cpu 1 GHz" in again
        assert len(again) < 4
        for name in again:
            times_measured = [s for s in found.settings if s.point == name]
            assert len(times_measured) == plan.repeats + 1
        notes = [note for note in found.notes if "not in the order of its clocks" in note]
        watts = {point.name: point.power_w.value for point in found.points}
        true_w = formula_power_w(device.truth.compute, 1e9)
        if stays:
            assert "also when measured again: 'cpu 1 GHz' draws" in notes[0]
            assert watts["cpu 1 GHz"] == pytest.approx(true_w + 3.0, rel=0.05)
            assert "cpu 1 GHz" in found.never_chosen, "no plan is harmed"
        else:
            assert notes == []
            assert watts["cpu 1 GHz"] == pytest.approx(true_w, rel=0.05), "the median of three"


def test_a_board_that_throttles_says_so() -> None:
    device = board(make=PhysicalBoard)
    assert isinstance(device, PhysicalBoard)
    device.chip.temperature_c = 79.9
    sizes = {"seconds": 60.0, "repeats": 1}
    notes = sweep(device, EmulatedLoad(device), sweep_plan(device.model(), **sizes)).notes
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
