from __future__ import annotations

import pytest
from measured import ACTIVE_W, CYCLES, FREQUENCIES, IDLE_W, KAPPA, busy, idle, sweep
from msgspec.structs import replace

from fimi.energy.calibration.held_out import (
    energy_errors,
    held_out_error,
    mape_percent,
    repeat_error,
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
