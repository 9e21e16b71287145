from __future__ import annotations

import msgspec
import pytest

from fimi.energy.emulation.boards import declare_board
from fimi.energy.emulation.presets import PRESETS, BoardPreset


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
class TestPresets:
    def test_declare_a_sound_board(self, preset: BoardPreset) -> None:
        model = declare_board(preset.name, seed=0, index=0).model
        # decoding checks every bound that constructing does not
        assert msgspec.json.decode(msgspec.json.encode(model), type=type(model)) == model
        steps = preset.frequency_steps_hz
        assert not steps or (steps[0], steps[-1]) == (
            preset.frequency_min_hz,
            preset.frequency_max_hz,
        )

    def test_kappa_is_in_the_published_range(self, preset: BoardPreset) -> None:
        assert 1e-28 <= preset.capacitance_w_per_hz3 <= 1e-27

    def test_the_fastest_frequency_is_not_the_cheapest(self, preset: BoardPreset) -> None:
        cheapest_cubed = preset.active_power_w / (2.0 * preset.capacitance_w_per_hz3)
        assert cheapest_cubed < preset.frequency_max_hz**3


@pytest.mark.parametrize(
    ("name", "idle_w", "busy_w"),
    [
        ("raspberry-pi-4", (2.2, 3.0), (5.1, 6.3)),  # published: idle and busy
        ("jetson-nano", (1.0, 5.0), (5.0, 10.0)),  # its two power modes
        ("jetson-orin-nano", (3.0, 7.0), (7.0, 15.0)),  # its two power modes
    ],
)
def test_power_is_plausible(
    name: str, idle_w: tuple[float, float], busy_w: tuple[float, float]
) -> None:
    preset = PRESETS[name]
    assert idle_w[0] <= preset.idle_power_w <= idle_w[1]
    assert busy_w[0] <= preset.busy_power_w <= busy_w[1]
