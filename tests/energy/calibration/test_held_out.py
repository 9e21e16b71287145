from __future__ import annotations

import pytest
from measured import ACTIVE_W, CYCLES, FREQUENCIES, IDLE_W, KAPPA, busy, emulated, idle, sweep
from msgspec.structs import replace

from fimi.energy.calibration.held_out import (
    declared_errors,
    energy_errors,
    held_out_error,
    mape_percent,
    repeat_error,
)
from fimi.energy.cost_model import ComputePoint, formula_power_w


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
