from __future__ import annotations

import pytest

from fimi.energy.emulation.boards import declare_board
from fimi.energy.emulation.chip import RADIO, SILICON, Chip
from fimi.energy.emulation.presets import PRESETS


def chip(name: str) -> Chip:
    return Chip(SILICON[name], declare_board(name, seed=0, index=0).model)


@pytest.mark.parametrize("name", PRESETS)
class TestEveryMake:
    def test_has_a_chip_and_a_radio(self, name: str) -> None:
        assert name in RADIO
        silicon = SILICON[name]
        assert list(silicon.voltages_v) == sorted(silicon.voltages_v)
        assert silicon.release_c < silicon.throttle_c

    def test_draws_what_is_declared_cold_at_rest_and_at_full_speed(self, name: str) -> None:
        preset, cold = PRESETS[name], chip(name)
        assert cold.idle_power_w() == pytest.approx(preset.idle_power_w)
        assert cold.busy_power_w(preset.frequency_max_hz) == pytest.approx(preset.busy_power_w)

    def test_between_them_it_is_not_the_cubic(self, name: str) -> None:
        preset, cold = PRESETS[name], chip(name)
        middle_hz = (preset.frequency_min_hz + preset.frequency_max_hz) / 2
        cubic_w = (
            preset.idle_power_w
            + preset.active_power_w
            + preset.capacitance_w_per_hz3 * middle_hz**3
        )
        assert cold.busy_power_w(middle_hz) > 1.02 * cubic_w

    def test_leaks_more_when_it_is_warm(self, name: str) -> None:
        warm = chip(name)
        before_w = warm.idle_power_w()
        warm.temperature_c += 40.0
        assert before_w * 1.01 < warm.idle_power_w() < before_w * 1.5


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
        from msgspec.structs import replace

        board = declare_board("raspberry-pi-4", seed=0, index=0).model
        feeble = replace(board, compute=replace(board.compute, capacitance_w_per_hz3=1e-31))
        with pytest.raises(ValueError, match="leakage"):
            Chip(SILICON["raspberry-pi-4"], feeble)
