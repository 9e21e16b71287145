from __future__ import annotations

import msgspec
import pytest

from fimi.energy.emulation.boards import declare_board
from fimi.energy.emulation.chip import SILICON
from fimi.energy.emulation.presets import PRESETS, BoardPreset
from fimi.energy.emulation.radios import as_in_the_paper


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

    def test_kappa_of_all_cores_is_in_the_published_range(self, preset: BoardPreset) -> None:
        assert 1e-28 <= preset.stress.capacitance_w_per_hz3 <= 1e-27

    def test_training_draws_less_than_all_cores_under_stress(self, preset: BoardPreset) -> None:
        for hertz in (preset.frequency_min_hz, preset.frequency_max_hz):
            assert 0.0 < preset.training.power_w(hertz) < preset.stress.power_w(hertz)
        assert preset.training_power_w < preset.stress_power_w

    def test_the_fastest_frequency_is_not_the_cheapest(self, preset: BoardPreset) -> None:
        """Above idle: the energy of a cycle has its minimum inside the range or below it."""
        cheapest_cubed = preset.training.active_power_w / (
            2.0 * preset.training.capacitance_w_per_hz3
        )
        assert cheapest_cubed < preset.frequency_max_hz**3

    def test_sending_costs_more_than_what_is_radiated(self, preset: BoardPreset) -> None:
        radio = preset.radio
        assert 0.5 <= radio.electronics_power_w + radio.transmit_power_max_w <= 1.2
        assert not radio.power_settable
        assert radio.rate_cap_bps is not None
        assert radio.rate_cap_bps >= 50e6


@pytest.mark.parametrize("name", ["raspberry-pi-4", "raspberry-pi-5", "jetson-nano", "mini-pc"])
def test_the_law_follows_the_chip_s_voltages_at_both_ends(name: str) -> None:
    preset, silicon = PRESETS[name], SILICON[name]
    ends_hz = preset.frequency_min_hz, preset.frequency_max_hz
    switching = [silicon.voltage_v(hertz) ** 2 * hertz for hertz in ends_hz]
    for work in (preset.training, preset.stress):
        if name == "jetson-nano" and work == preset.training:
            continue  # that one was measured
        rising = [work.power_w(hertz) - work.active_power_w for hertz in ends_hz]
        assert rising[0] / rising[1] == pytest.approx(switching[0] / switching[1], rel=0.02)


@pytest.mark.parametrize(
    ("name", "idle_w", "stress_w"),
    [
        ("raspberry-pi-4", (2.2, 3.0), (5.1, 6.3)),  # published: idle and high load
        ("raspberry-pi-5", (3.3, 5.0), (7.5, 8.3)),
        ("jetson-nano", (1.0, 5.0), (5.0, 10.0)),  # its two power modes
        ("jetson-orin-nano", (3.0, 7.0), (7.0, 15.0)),  # its two power modes
    ],
)
def test_power_is_plausible(
    name: str, idle_w: tuple[float, float], stress_w: tuple[float, float]
) -> None:
    preset = PRESETS[name]
    assert idle_w[0] <= preset.idle_power_w <= idle_w[1]
    assert stress_w[0] <= preset.stress_power_w <= stress_w[1]


@pytest.mark.parametrize(
    ("name", "before_w", "during_w"),
    [("raspberry-pi-5", 4.55, 5.51), ("jetson-orin-nano", 5.13, 6.11)],
)
def test_training_is_as_recorded(name: str, before_w: float, during_w: float) -> None:
    """Whole boards in a federation that others recorded."""
    preset = PRESETS[name]
    assert preset.idle_power_w == pytest.approx(before_w, rel=0.05)
    assert preset.training_power_w - preset.idle_power_w == pytest.approx(
        during_w - before_w, rel=0.05
    )


def test_a_gpu_is_thriftiest_between_its_slowest_and_its_fastest_clock() -> None:
    """At the plug, idle power included, and above idle as well."""
    preset = PRESETS["jetson-nano"]
    for idle_w in (0.0, preset.idle_power_w):
        joules = [step.relative_time * (idle_w + step.power_w) for step in preset.gpu_steps]
        assert 0 < joules.index(min(joules)) < len(joules) - 1
    assert preset.gpu_steps[-1].relative_time == 1.0


def test_the_paper_s_radio_costs_what_it_radiates() -> None:
    for preset in PRESETS.values():
        radio = as_in_the_paper(preset.radio)
        assert radio.power_settable
        assert (radio.electronics_power_w, radio.energy_per_bit_j) == (0.0, 0.0)
        assert radio.rate_cap_bps is None
        assert radio.transmit_power_max_w == preset.radio.transmit_power_max_w
