from __future__ import annotations

import pytest
from msgspec.structs import replace

from fimi.energy.cost_model import formula_power_w, speed_hz
from fimi.energy.emulation.boards import declare_board
from fimi.energy.emulation.chip import SILICON, Chip
from fimi.energy.emulation.presets import PRESETS


def chip(name: str) -> Chip:
    return Chip(SILICON[name], declare_board(name, seed=0, index=0).model)


@pytest.mark.parametrize("name", PRESETS)
class TestEveryMake:
    def test_has_a_chip(self, name: str) -> None:
        silicon = SILICON[name]
        assert list(silicon.voltages_v) == sorted(silicon.voltages_v)
        assert silicon.release_c < silicon.throttle_c

    def test_draws_what_is_declared_cold_at_rest_and_at_full_speed(self, name: str) -> None:
        preset, cold = PRESETS[name], chip(name)
        top_w = preset.training.power_w(preset.frequency_max_hz)
        assert cold.idle_power_w() == pytest.approx(preset.idle_power_w)
        assert cold.busy_power_w(preset.frequency_max_hz) == pytest.approx(
            preset.idle_power_w + top_w
        )

    def test_between_them_it_is_neither_the_cubic_nor_the_law(self, name: str) -> None:
        """A law with a linear term comes closer to it than one without."""
        preset, cold = PRESETS[name], chip(name)
        compute = declare_board(name, seed=0, index=0).model.compute
        middle_hz = (preset.frequency_min_hz + preset.frequency_max_hz) / 2
        top_w = formula_power_w(compute, preset.frequency_max_hz)
        share = (middle_hz / preset.frequency_max_hz) ** 3
        cubic_w = compute.active_power_w + (top_w - compute.active_power_w) * share
        law_w = formula_power_w(compute, middle_hz)
        chip_w = cold.busy_power_w(middle_hz) - preset.idle_power_w
        assert chip_w > 1.05 * cubic_w
        assert abs(law_w - chip_w) < 0.5 * abs(cubic_w - chip_w)
        assert law_w != pytest.approx(chip_w, rel=1e-3)

    def test_leaks_more_when_it_is_warm(self, name: str) -> None:
        warm = chip(name)
        before_w = warm.idle_power_w()
        warm.temperature_c += 40.0
        assert before_w * 1.01 < warm.idle_power_w() < before_w * 1.5


class TestMeasuredPoints:
    def test_cold_it_draws_what_was_measured_and_warm_it_leaks_more(self) -> None:
        model = declare_board("jetson-nano", seed=0, index=0).model
        points = model.compute.points
        speeds = [speed_hz(model.compute, point) for point in points]
        nano = Chip(SILICON["jetson-nano"], model, speeds)
        for point, speed in zip(points, speeds, strict=True):
            measured_w = model.idle_power_w + point.power_w
            assert nano.measured_power_w(point.power_w, speed) == pytest.approx(measured_w)
        nano.temperature_c += 40.0
        extra_w = [
            nano.measured_power_w(point.power_w, speed) - model.idle_power_w - point.power_w
            for point, speed in zip(points, speeds, strict=True)
        ]
        assert 0.05 < extra_w[0] < extra_w[-1]  # more at a higher voltage

    def test_heat_steps_from_point_to_point(self) -> None:
        model = declare_board("jetson-nano", seed=0, index=0).model
        speeds = sorted(speed_hz(model.compute, point) for point in model.compute.points)
        nano = Chip(SILICON["jetson-nano"], model, speeds)
        nano.temperature_c = 98.0
        nano.govern(speeds[-1])
        nano.govern(speeds[-1])
        assert nano.frequency_hz(speeds[-1]) == speeds[-3]


class TestHeat:
    def test_approaches_its_end_with_the_time_constant(self) -> None:
        silicon, warm = SILICON["raspberry-pi-4"], chip("raspberry-pi-4")
        rise_k = silicon.resistance_k_per_w * (6.0 - warm._rest_w)
        warm.warm(6.0, silicon.time_constant_s)
        assert warm.temperature_c == pytest.approx(silicon.ambient_c + rise_k * (1 - 0.36788), 1e-4)

    def test_hot_firmware_steps_down_and_up_again(self) -> None:
        hot = chip("raspberry-pi-4")
        hot.temperature_c = 81.0
        hot.govern(1.8e9)
        hot.govern(1.8e9)
        assert (hot.frequency_hz(1.8e9), hot.throttled) == (1.6e9, 2)
        hot.temperature_c = 70.0
        for _ in range(3):
            hot.govern(1.8e9)
        assert hot.frequency_hz(1.8e9) == 1.8e9

    def test_between_the_two_limits_nothing_changes(self) -> None:
        hot = chip("raspberry-pi-4")
        hot.temperature_c = 78.5
        hot.govern(1.8e9)
        assert hot.frequency_hz(1.8e9) == 1.8e9

    def test_a_chip_that_leaks_all_its_power_is_refused(self) -> None:
        board = declare_board("raspberry-pi-4", seed=0, index=0).model
        feeble = replace(
            board,
            compute=replace(board.compute, capacitance_w_per_hz3=1e-31, linear_power_w_per_hz=0.0),
        )
        with pytest.raises(ValueError, match="leakage"):
            Chip(SILICON["raspberry-pi-4"], feeble)
