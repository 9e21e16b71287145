"""Golden values were worked out by hand from the equations of docs/model.md."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.energy.cost_model import (
    PHASES,
    BoardModel,
    ComputeModel,
    LinkModel,
    OperatingPoint,
    compute_energy_j,
    compute_power_w,
    compute_time_s,
    computing_power_w,
    download_cost,
    measured_point,
    operating_frequency_hz,
    point_rate_bps,
    predict_round,
    training_power_w,
    transmit_power_w,
    uplink_rate_bps,
    upload_energy_j,
)
from fimi.energy.emulation.boards import declare_board
from tests.compute_points import measured

GAIN, N0 = 1e-10, 4e-21
frequencies = st.floats(1e8, 4e9)
bandwidths = st.floats(1e4, 1e8)
bits = st.floats(1e3, 1e8)

BOARD = BoardModel(
    compute=ComputeModel(
        cycles_per_sample=1e7,
        capacitance_w_per_hz3=4e-28,
        frequency_min_hz=0.6e9,
        frequency_max_hz=1.8e9,
        active_power_w=0.5,
    ),
    link=LinkModel(
        channel_gain=7e-11,  # with the point below: 0.1 · 7e-11 / (1e-18 · 1e6) = 7
        noise_density_w_per_hz=1e-18,
        transmit_power_max_w=0.2,
        downlink_rate_bps=1e7,
        receive_power_w=0.3,
    ),
    idle_power_w=2.0,
)
POINT = OperatingPoint(frequency_hz=1.2e9, bandwidth_hz=1e6, transmit_power_w=0.1, time_split=0.5)


class TestCompute:
    def test_golden(self) -> None:
        # 1.2e10 cycles at 1.2 GHz: 10 s; 4e-28 · 1.728e27 = 0.6912 W, + 0.5 W
        assert compute_time_s(1.2e10, 1.2e9) == pytest.approx(10.0)
        assert compute_power_w(1.2e9, 4e-28, 0.5) == pytest.approx(1.1912)
        assert compute_energy_j(1.2e10, 1.2e9, 4e-28, 0.5) == pytest.approx(11.912)

    @given(frequencies, st.floats(1e-29, 1e-26), st.floats(1e8, 1e12))
    def test_without_static_power_energy_is_quadratic(
        self, frequency_hz: float, kappa: float, cycles: float
    ) -> None:
        expected = kappa * cycles * frequency_hz**2
        assert compute_energy_j(cycles, frequency_hz, kappa) == pytest.approx(expected)

    @given(st.floats(1e-29, 1e-26), st.floats(0.1, 10.0))
    def test_cheapest_frequency(self, kappa: float, active_w: float) -> None:
        best_hz = (active_w / (2.0 * kappa)) ** (1.0 / 3.0)
        around = best_hz * np.array([0.9, 1.0, 1.1])
        energy = compute_energy_j(1e10, around, kappa, active_w)
        assert energy.argmin() == 1

    def test_broadcasts(self) -> None:
        cycles, frequencies_hz = np.ones((5, 1)) * 1e9, np.full(3, 1e9)
        assert compute_energy_j(cycles, frequencies_hz, 1e-28).shape == (5, 3)


class TestUplink:
    def test_golden(self) -> None:
        # signal-to-noise ratio 7: log2(8) = 3 bit per second and hertz
        assert uplink_rate_bps(1e6, 7 * N0 * 1e6 / GAIN, GAIN, N0) == pytest.approx(3e6)
        # u = 1e6 · 1, S/u = 3: u (2³ − 1) N0/h
        assert upload_energy_j(3e6, 1.0, 1e6, GAIN, N0) == pytest.approx(7e6 * N0 / GAIN)

    @given(bandwidths, st.floats(1e-3, 1.0))
    def test_power_inverts_rate(self, bandwidth_hz: float, power_w: float) -> None:
        rate = uplink_rate_bps(bandwidth_hz, power_w, GAIN, N0)
        assert transmit_power_w(rate, bandwidth_hz, GAIN, N0) == pytest.approx(power_w, rel=1e-9)

    @given(bits, bandwidths, st.floats(0.1, 100.0))
    def test_energy_is_power_times_time(self, size: float, bandwidth_hz: float, t: float) -> None:
        power = float(transmit_power_w(size / t, bandwidth_hz, GAIN, N0))
        energy = float(upload_energy_j(size, t, bandwidth_hz, GAIN, N0))
        assert energy == pytest.approx(power * t, rel=1e-9) or math.isinf(energy)

    @given(bits, st.floats(1e5, 1e9))
    def test_energy_falls_with_bandwidth_and_is_convex(self, size: float, u: float) -> None:
        left, middle, right = upload_energy_j(size, 1.0, u * np.array([1.0, 1.5, 2.0]), GAIN, N0)
        assert left >= middle >= right
        assert math.isinf(left) or middle <= (left + right) / 2.0 * (1.0 + 1e-12)

    @given(bits)
    def test_wide_bands_approach_the_shannon_limit(self, size: float) -> None:
        limit = size * math.log(2.0) * N0 / GAIN
        energy = upload_energy_j(size, 1.0, size * 1e6, GAIN, N0)
        assert energy == pytest.approx(limit, rel=1e-6)
        assert energy >= limit * (1.0 - 1e-12)

    def test_impossible_rate_costs_infinite_power(self) -> None:
        assert transmit_power_w(1e12, 1e3, GAIN, N0) == math.inf


class TestPredictRound:
    def test_golden(self) -> None:
        phases = predict_round(
            BOARD,
            POINT,
            cycles=1.2e10,
            upload_bits=6e6,
            download_bits=2e7,
            round_s=19.0,
        )
        assert [phase.phase for phase in phases] == [
            "model-download",
            "compute",
            "upload",
            "idle",
        ]
        assert [phase.duration_s for phase in phases] == pytest.approx([2.0, 10.0, 2.0, 5.0])
        assert [phase.dynamic_j for phase in phases] == pytest.approx([0.6, 11.912, 0.2, 0.0])
        assert [phase.board_j for phase in phases] == pytest.approx([4.6, 31.912, 4.2, 10.0])

    def test_a_synthetic_batch(self) -> None:
        batch = download_cost("synthetic-download", BOARD, 1e7)
        assert batch.phase == PHASES[0]
        assert (batch.duration_s, batch.dynamic_j, batch.board_j) == pytest.approx((1.0, 0.3, 2.3))

    def test_without_end(self) -> None:
        phases = predict_round(BOARD, POINT, cycles=1.0, upload_bits=1.0, download_bits=1.0)
        assert [phase.phase for phase in phases] == ["model-download", "compute", "upload"]

    def test_a_late_device_does_not_wait(self) -> None:
        *_, idle = predict_round(
            BOARD, POINT, cycles=1e12, upload_bits=1.0, download_bits=1.0, round_s=1.0
        )
        assert (idle.duration_s, idle.board_j) == (0.0, 0.0)


def compute_model(*steps_hz: float) -> ComputeModel:
    return ComputeModel(
        cycles_per_sample=1.0,
        capacitance_w_per_hz3=1e-28,
        frequency_min_hz=1e9,
        frequency_max_hz=2e9,
        frequency_steps_hz=steps_hz,
    )


class TestOperatingFrequency:
    @pytest.mark.parametrize(
        ("asked_hz", "set_hz"),
        [
            (0.1e9, 1e9),
            (1e9, 1e9),
            (1.01e9, 1.5e9),
            (1.5e9 * (1 + 1e-12), 1.5e9),
            (1.6e9, 2e9),
            (9e9, 2e9),
        ],
    )
    def test_rounds_up_to_an_operating_point(self, asked_hz: float, set_hz: float) -> None:
        assert operating_frequency_hz(compute_model(1e9, 1.5e9, 2e9), asked_hz) == set_hz

    @given(st.floats(1e8, 1e10))
    def test_continuous_is_clipped(self, asked_hz: float) -> None:
        assert operating_frequency_hz(compute_model(), asked_hz) == min(max(asked_hz, 1e9), 2e9)


class TestValidation:
    def test_range_upside_down(self) -> None:
        with pytest.raises(ValueError, match="above"):
            msgspec.structs.replace(BOARD.compute, frequency_min_hz=3e9)

    @pytest.mark.parametrize("steps", [(1.5e9, 1.2e9), (1.2e9, 1.2e9), (0.5e9, 1.5e9), (1e9, 3e9)])
    def test_steps_ascend_within_the_range(self, steps: tuple[float, ...]) -> None:
        with pytest.raises(ValueError, match="frequency_steps_hz"):
            compute_model(*steps)

    def test_json_refuses_unknown_and_impossible(self) -> None:
        sound = msgspec.to_builtins(BOARD)
        assert msgspec.convert(sound, BoardModel) == BOARD
        with pytest.raises(msgspec.ValidationError, match="idle_power_mw"):
            msgspec.convert({**sound, "idle_power_mw": 1.0}, BoardModel)
        with pytest.raises(msgspec.ValidationError, match="idle_power_w"):
            msgspec.convert({**sound, "idle_power_w": -1.0}, BoardModel)


class TestMeasuredPoints:
    def board(self) -> tuple[BoardModel, BoardModel]:
        """A board with its law, and the same with two measured points."""
        plain = declare_board("raspberry-pi-4", seed=0, index=0).model
        points = measured(plain.compute, {6e8: 1.0, 1.8e9: 4.0})
        return plain, replace(plain, compute=replace(plain.compute, points=points))

    def test_predictions_follow_them_where_there_are_any(self) -> None:
        plain, tabled = self.board()
        assert computing_power_w(tabled.compute, 1.2e9) == pytest.approx(2.5)
        assert computing_power_w(tabled.compute, 3e9) == 4.0
        point = OperatingPoint(
            frequency_hz=1.2e9, bandwidth_hz=1e5, transmit_power_w=0.1, time_split=0.5
        )
        costs = {"cycles": 1.2e9, "upload_bits": 1.0, "download_bits": 1.0}
        assert predict_round(tabled, point, **costs)[1].dynamic_j == pytest.approx(2.5)
        expected_w = 0.3 + 3.83e-10 * 1.2e9 + 5.3e-29 * 1.2e9**3
        assert predict_round(plain, point, **costs)[1].dynamic_j == pytest.approx(expected_w)

    def test_a_plan_names_one_or_the_next_that_is_fast_enough_is_taken(self) -> None:
        compute = self.board()[1].compute
        slow, fast = compute.points
        point = OperatingPoint(
            frequency_hz=1.2e9, bandwidth_hz=1e5, transmit_power_w=0.1, time_split=0.5
        )
        assert measured_point(compute, replace(point, setting=slow.name)) is slow
        assert measured_point(compute, point) is fast
        assert measured_point(compute, replace(point, frequency_hz=5e9)) is fast
        assert training_power_w(compute, replace(point, setting=slow.name)) == 1.0

    def test_points_that_cannot_be_told_apart(self) -> None:
        compute = self.board()[1].compute
        slow, fast = compute.points
        for twin, what in (
            (replace(fast, name=slow.name), "name"),
            (replace(fast, name="b", setting=slow.setting), "setting"),
        ):
            with pytest.raises(ValueError, match=f"same {what}"):
                replace(compute, points=(slow, twin))


class TestRadio:
    def test_its_cap_and_a_power_that_cannot_be_set(self) -> None:
        link = replace(BOARD.link, rate_cap_bps=1e5, power_settable=False, electronics_power_w=0.5)
        point = OperatingPoint(
            frequency_hz=1e9, bandwidth_hz=1e6, transmit_power_w=1e-3, time_split=0.5
        )
        assert point_rate_bps(link, point) == 1e5
        upload = predict_round(
            replace(BOARD, link=link), point, cycles=1.0, upload_bits=2e5, download_bits=1.0
        )[2]
        assert upload.duration_s == pytest.approx(2.0)
        assert upload.dynamic_j == pytest.approx(2.0 * (link.transmit_power_max_w + 0.5))

    def test_the_radio_beyond_its_transmit_power(self) -> None:
        board = declare_board("raspberry-pi-4", seed=0, index=0, radio="paper").model
        point = OperatingPoint(
            frequency_hz=1.2e9, bandwidth_hz=1e5, transmit_power_w=0.1, time_split=0.5
        )

        def upload_j(**link: float) -> float:
            changed = replace(board, link=replace(board.link, **link))
            phases = predict_round(changed, point, cycles=1.0, upload_bits=1e6, download_bits=1.0)
            return phases[2].dynamic_j

        duration_s = upload_j() / 0.1
        assert upload_j(electronics_power_w=0.5) == pytest.approx(0.6 * duration_s)
        assert upload_j(energy_per_bit_j=1e-8) == pytest.approx(0.1 * duration_s + 0.01)
