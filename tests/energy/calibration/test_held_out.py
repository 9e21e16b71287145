from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from measured import ACTIVE_W, CYCLES, FREQUENCIES, IDLE_W, KAPPA, busy, emulated, idle, sweep
from msgspec.structs import replace
from scipy.optimize import nnls

from fimi.energy.calibration.fit import Setting
from fimi.energy.calibration.fitted import analyse, calibrated
from fimi.energy.calibration.held_out import (
    declared_errors,
    energy_errors,
    held_out_error,
    mape_percent,
    repeat_error,
)
from fimi.energy.cost_model import (
    ComputePoint,
    ComputeSetting,
    computing_power_w,
    formula_power_w,
    speed_hz,
)


class TestHeldOut:
    def test_every_frequency_is_predicted_by_the_others(self) -> None:
        errors = held_out_error(sweep())
        assert list(errors) == pytest.approx(list(FREQUENCIES))
        assert list(errors.values()) == pytest.approx([0.0] * len(FREQUENCIES), abs=1e-9)

    def test_an_odd_one_out_shows(self) -> None:
        made = sweep()
        odd = [s for s in made if s.frequency_hz != 1.2e9] + [busy(1.2e9, 8.0)]
        errors = held_out_error(odd)
        assert max(errors, key=lambda f: abs(errors[f])) == 1.2e9
        assert errors[1.2e9] < -0.3

    def test_too_few_frequencies_give_no_error(self) -> None:
        made = [idle(), *(busy(f, 5.0) for f in FREQUENCIES[:3])]
        assert held_out_error(made) == {}

    def test_a_model_from_elsewhere_is_held_against_the_settings(self) -> None:
        errors = energy_errors(
            sweep(), lambda s: 1.1 * (IDLE_W + ACTIVE_W + KAPPA * s.frequency_hz**3), CYCLES
        )
        assert mape_percent(errors) == pytest.approx(10.0)

    def test_the_table_follows_time_that_does_not_follow_the_clock(self) -> None:
        """Memory sets the pace: a sample takes as long at every frequency."""
        still = [
            replace(s, samples=round(1000 * s.duration_s)) if s.activity == "compute" else s
            for s in sweep()
        ]
        assert mape_percent(list(held_out_error(still, "table").values())) < 3.0
        assert mape_percent(list(held_out_error(still, "mixed").values())) > 10.0

    def test_two_frequencies_leave_nothing_to_draw_a_line_through(self) -> None:
        made = [idle(), *(busy(f, 5.0) for f in FREQUENCIES[:2])]
        assert held_out_error(made, "table") == {}


def by_hand(made: list[Setting], law: bool) -> dict[float, float]:
    """Leave one frequency out, by NumPy's own solvers and interpolation; signed errors."""
    busy_ones = [s for s in made if s.activity == "compute"]
    idle_w = np.mean([s.power_w for s in made if s.activity == "idle"])
    errors = {}
    for hertz in sorted({s.frequency_hz for s in busy_ones}):
        rest = [s for s in busy_ones if s.frequency_hz != hertz]
        here = [s for s in busy_ones if s.frequency_hz == hertz]
        known = sorted({s.frequency_hz for s in rest})

        def mean(value: Callable[[Setting], float], f: float, rest: list[Setting] = rest) -> float:
            return float(np.mean([value(s) for s in rest if s.frequency_hz == f]))

        watts = [mean(lambda s: s.power_w, f) for f in known]
        cycles = [mean(lambda s: s.duration_s * s.frequency_hz / s.samples, f) for f in known]
        if law:
            x = np.array([s.frequency_hz for s in rest]) / 1e9
            columns = np.column_stack([np.ones_like(x), x, x**3])
            w = np.array([s.power_w for s in rest])
            weights = 1.0 / w
            found = nnls(columns * weights[:, None], (w - idle_w) * weights)[0]
            power = idle_w + found @ [1.0, hertz / 1e9, (hertz / 1e9) ** 3]
            cycle = float(np.mean([s.duration_s * s.frequency_hz / s.samples for s in rest]))
        else:
            inside = known[0] < hertz < known[-1]
            pair = slice(0, 2) if hertz < known[0] else slice(-2, None)
            power, cycle = (
                float(np.interp(hertz, known, each))
                if inside
                else float(np.polyval(np.polyfit(known[pair], each[pair], 1), hertz))
                for each in (watts, cycles)
            )
        errors[hertz] = float(
            np.mean([power * cycle * s.samples / hertz / s.energy_j - 1.0 for s in here])
        )
    return errors


class TestChoice:
    """The smaller of two errors chooses what predicts between the measured points."""

    @pytest.mark.parametrize("seed", range(8))
    @pytest.mark.parametrize("kind", ["law", "steps"])
    def test_against_leaving_out_by_hand(self, seed: int, kind: str) -> None:
        device = emulated()
        made = [
            replace(s, applied=ComputeSetting(cpu_hz={"all": s.frequency_hz}))
            if s.activity == "compute"
            else s
            for s in sweep(noise=0.01, seed=seed, repeats=2)
        ]
        if kind == "steps":  # a voltage that rises in one step: no power of the frequency does
            made = [
                replace(s, energy_j=s.energy_j * 1.6) if s.frequency_hz > 1.3e9 else s for s in made
            ]
        found = analyse(made, device.describe(), device.model())
        table, law = by_hand(made, law=False), by_hand(made, law=True)
        assert found.held_out_table == pytest.approx(table, abs=1e-6)
        assert found.held_out == pytest.approx(law, abs=5e-3), "idle settings are fitted with it"
        means = {
            "table": mape_percent(list(found.held_out_table.values())),
            "law": mape_percent(list(found.held_out.values())),
        }
        assert found.between_points == min(means, key=lambda name: means[name])
        if kind == "law":
            assert found.between_points == "law"
        for mean in means.values():
            assert f"{mean:.2g} %" in found.choice
        model = calibrated(found, device.model()).compute
        assert model.between_points == found.between_points
        for point in model.points:
            speed = speed_hz(model, point)
            assert computing_power_w(model, speed) == pytest.approx(point.power_w, rel=1e-3)
        between = speed_hz(model, model.points[0]) * 1.1
        by_law = formula_power_w(model, between)
        in_between = computing_power_w(model, between)
        assert (in_between == by_law) == (found.between_points == "law")

    def test_too_few_frequencies_take_the_table_and_say_so(self) -> None:
        device = emulated()
        law = [IDLE_W + ACTIVE_W + KAPPA * f**3 for f in FREQUENCIES[::3]]
        made = [idle(), *(busy(f, w) for f, w in zip(FREQUENCIES[::3], law, strict=True))]
        found = analyse(made, device.describe(), device.model())
        assert found.between_points == "table"
        assert found.held_out == {}
        assert "too few frequencies to hold one out" in found.choice
        flat = [idle(), *(busy(f, 5.0) for f in FREQUENCIES[:2])]
        assert "there is no law" in analyse(flat, device.describe(), device.model()).choice
        alone = [idle(), *(busy(1e9, 5.0) for _ in range(2))]
        assert analyse(alone, device.describe(), device.model()).choice == ""


class TestRepeats:
    def test_each_measurement_is_predicted_by_the_others_of_its_point(self) -> None:
        first, second = busy(1e9, 4.0), busy(1e9, 5.0)
        made = [
            *(replace(each, point="a") for each in (first, second)),
            replace(busy(1.2e9, 6.0), point="once"),
        ]
        errors = repeat_error(made)
        assert list(errors) == ["a"]
        assert errors["a"] == pytest.approx((((5 / 4 - 1) ** 2 + (4 / 5 - 1) ** 2) / 2) ** 0.5)


def test_a_declaration_is_compared_at_its_points_and_by_its_law() -> None:
    told = emulated().model()
    point = ComputePoint(name="gpu", seconds_per_sample=2e-3, power_w=4.0)
    told = replace(told, compute=replace(told.compute, points=(point,)))
    law_w = told.idle_power_w + formula_power_w(told.compute, 1e9)
    known = replace(busy(1e9, told.idle_power_w + 5.0), point="gpu")
    by_law = busy(1e9, 2.0 * law_w, told.compute.cycles_per_sample)
    errors = declared_errors([known, by_law, idle()], told)
    told_j = known.samples * 2e-3 * (told.idle_power_w + 4.0)
    assert errors == pytest.approx([told_j / known.energy_j - 1.0, -0.5])
