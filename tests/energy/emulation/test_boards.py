from __future__ import annotations

import math

import msgspec
import pytest
from msgspec.structs import replace

from fimi.energy.cost_model import formula_power_w, speed_hz
from fimi.energy.emulation.boards import BoardDeclaration, declare_board, fleet
from fimi.energy.emulation.presets import PRESETS


class TestFleet:
    def test_is_reproducible_and_grows_at_its_end(self) -> None:
        assert fleet(12, 3)[:7] == fleet(7, 3)
        assert fleet(7, 3) != fleet(7, 4)

    def test_is_heterogeneous(self) -> None:
        devices = fleet(10, 0)
        assert {device.board for device in devices} == set(PRESETS)
        assert len({device.model.link.channel_gain for device in devices}) == 10
        assert len({device.model.compute.cycles_per_sample for device in devices}) >= 4

    def test_draws_stay_in_their_ranges(self) -> None:
        for device in fleet(50, 1, path_loss_db=(100.0, 101.0), downlink_rate_bps=(5e6, 6e6)):
            assert 100.0 <= -10.0 * math.log10(device.model.link.channel_gain) <= 101.0
            assert 5e6 <= device.model.link.downlink_rate_bps <= 6e6
            assert 0.1 <= device.model.link.transmit_power_max_w <= 0.2

    def test_cycles_scale_with_the_workload(self) -> None:
        for light, heavy in zip(
            fleet(5, 0, cycles_per_sample=1e6), fleet(5, 0, cycles_per_sample=3e6), strict=True
        ):
            ratio = heavy.model.compute.cycles_per_sample / light.model.compute.cycles_per_sample
            assert ratio == pytest.approx(3.0)

    def test_a_single_device_is_the_one_of_the_fleet(self) -> None:
        alone = declare_board("jetson-nano", seed=9, index=2)
        assert alone == fleet(3, 9)[2]

    def test_a_radio_is_its_make_s_or_the_paper_s(self) -> None:
        for wifi, paper in zip(fleet(5, 0), fleet(5, 0, radio="paper"), strict=True):
            assert not wifi.model.link.power_settable
            assert wifi.model.link.electronics_power_w > 0.0
            assert paper.model.link == replace(
                wifi.model.link,
                power_settable=True,
                electronics_power_w=0.0,
                energy_per_bit_j=0.0,
                rate_cap_bps=None,
            )
            assert paper.model.compute == wifi.model.compute

    def test_no_downlink_is_faster_than_the_radio(self) -> None:
        (slow, *_) = fleet(1, 0, downlink_rate_bps=(5e8, 6e8))
        assert slow.model.link.downlink_rate_bps == slow.model.link.rate_cap_bps == 77e6
        (paper, *_) = fleet(1, 0, downlink_rate_bps=(5e8, 6e8), radio="paper")
        assert paper.model.link.downlink_rate_bps >= 5e8

    def test_a_jetson_nano_trains_at_clocks_of_its_gpu(self) -> None:
        compute = declare_board("jetson-nano", seed=0, index=0).model.compute
        clocks = [point.setting.gpu_hz for point in compute.points]
        assert clocks == [step.gpu_hz for step in PRESETS["jetson-nano"].gpu_steps]
        speeds = [speed_hz(compute, point) for point in compute.points]
        assert speeds == sorted(speeds)
        assert speeds[-1] == pytest.approx(compute.frequency_max_hz)

    def test_stress_is_another_workload(self) -> None:
        for name, preset in PRESETS.items():
            training = declare_board(name, seed=0, index=0).model
            stress = declare_board(name, seed=0, index=0, work="stress").model
            assert stress.compute.points == ()
            assert formula_power_w(stress.compute, preset.frequency_max_hz) == pytest.approx(
                preset.stress_power_w - preset.idle_power_w
            )
            assert (stress.link, stress.idle_power_w) == (training.link, training.idle_power_w)

    def test_everything_is_labelled_emulated(self) -> None:
        assert {device.meter.kind for device in fleet(5, 0)} == {"emulated"}

    def test_survives_json(self) -> None:
        devices = fleet(5, 0)
        decoded = msgspec.json.decode(
            msgspec.json.encode(devices), type=tuple[BoardDeclaration, ...]
        )
        assert decoded == devices

    def test_bad_input(self) -> None:
        with pytest.raises(ValueError, match=r"'toaster'.*raspberry-pi-4"):
            fleet(1, 0, boards=["toaster"])
        with pytest.raises(ValueError, match="makes"):
            fleet(1, 0, boards=[])
        with pytest.raises(ValueError, match="count"):
            fleet(-1, 0)
