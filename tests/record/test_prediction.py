from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import record

from fimi.energy.cost_model import OperatingPoint, Phase, PhaseCost, formula_power_w, predict_round
from fimi.energy.emulation.board import Disturbance
from fimi.energy.emulation.boards import declare_board
from fimi.energy.emulation.physical_board import PhysicalBoard, Surroundings
from fimi.energy.ledger import Ledger
from fimi.record.prediction import Residual, agreement, drift_percent, residuals
from fimi.record.results import DeviceRound

BOARD = declare_board("raspberry-pi-4", seed=0, index=0).model
POINT = OperatingPoint(frequency_hz=1.2e9, bandwidth_hz=1e5, transmit_power_w=0.1, time_split=0.5)


def cost(phase: Phase, seconds: float, joules: float) -> PhaseCost:
    return PhaseCost(phase=phase, duration_s=seconds, dynamic_j=0.0, board_j=joules)


def one(
    phase: Phase,
    predicted: tuple[float, float],
    measured: tuple[float, float],
    frequency_hz: float | None = None,
) -> Residual:
    entry = DeviceRound(
        device="device-1",
        status="accepted",
        frequency_hz=frequency_hz,
        phases=(record(phase, measured[1], measured[0]),),
        predicted=(cost(phase, *predicted),),
    )
    (found,) = residuals(1, entry, POINT, BOARD)
    return found


class TestParts:
    @given(*[st.floats(1e-3, 1e4)] * 4, st.floats(0.3e9, 1.8e9))
    def test_add_up_to_the_whole_difference(
        self, p_s: float, p_j: float, m_s: float, m_j: float, achieved_hz: float
    ) -> None:
        for phase in ("compute", "upload", "idle", "model-download"):
            found = one(phase, (p_s, p_j), (m_s, m_j), achieved_hz)  # type: ignore[arg-type]
            assert found.parts.sum_j == pytest.approx(p_j - m_j, rel=1e-9, abs=1e-9)

    def test_longer_at_the_same_power_is_cycles(self) -> None:
        parts = one("compute", (10.0, 50.0), (12.0, 60.0), 1.2e9).parts
        assert parts.cycles_j == pytest.approx(-10.0)
        assert (parts.power_j, parts.throttling_j, parts.rate_j) == pytest.approx((0, 0, 0))

    def test_another_power_for_the_same_time_is_power(self) -> None:
        parts = one("compute", (10.0, 50.0), (10.0, 60.0), 1.2e9).parts
        assert parts.power_j == pytest.approx(-10.0)
        assert parts.cycles_j == pytest.approx(0.0)

    def test_slower_because_of_heat_is_throttling(self) -> None:
        compute = BOARD.compute

        def joules(hz: float) -> tuple[float, float]:
            power_w = BOARD.idle_power_w + formula_power_w(compute, hz)
            return 1.2e10 / hz, 1.2e10 / hz * power_w

        parts = one("compute", joules(1.2e9), joules(0.9e9), 0.9e9).parts
        assert parts.throttling_j == pytest.approx(joules(1.2e9)[1] - joules(0.9e9)[1])
        assert (parts.cycles_j, parts.power_j) == pytest.approx((0.0, 0.0), abs=1e-9)

    @pytest.mark.parametrize("phase", ["upload", "model-download", "synthetic-download"])
    def test_a_slow_link_is_rate(self, phase: Phase) -> None:
        parts = one(phase, (1.0, 3.0), (2.0, 6.0)).parts
        assert parts.rate_j == pytest.approx(-3.0)

    def test_idling_that_was_not_foreseen_is_waiting(self) -> None:
        assert one("idle", (0.0, 0.0), (2.0, 5.4)).parts.waiting_j == pytest.approx(-5.4)

    def test_a_hot_pi_4_is_blamed_on_heat(self) -> None:
        board = PhysicalBoard(
            declare_board("raspberry-pi-4", seed=0, index=0, work="stress"),
            seed=0,
            index=0,
            disturbance=Disturbance(profile_error=0.0, load_sd=0.0, fading_sd_db=0.0),
            surroundings=Surroundings(background=0.0, warmer_k=38.0),
        )
        top = OperatingPoint(
            frequency_hz=1.8e9, bandwidth_hz=1e5, transmit_power_w=0.1, time_split=0.5
        )
        board.apply(top)
        ledger = Ledger(board.clock, board.recorder)
        board.begin_round(1)
        with ledger.phase("compute"):
            board.has_computed(50_000)
        model = board.model()
        predicted = predict_round(
            model,
            top,
            cycles=50_000 * model.compute.cycles_per_sample,
            upload_bits=1.0,
            download_bits=1.0,
        )
        entry = DeviceRound(
            device="hot",
            status="accepted",
            frequency_hz=board.achieved_frequency_hz(),
            phases=ledger.take(),
            predicted=predicted,
        )
        (found,) = residuals(1, entry, top, model)
        assert found.measured_s > 1.05 * found.predicted_s
        assert abs(found.parts.throttling_j) > 5 * abs(found.parts.cycles_j)


class TestResiduals:
    def test_what_was_not_read_is_left_out(self) -> None:
        entry = DeviceRound(
            device="device-1",
            status="accepted",
            phases=(record("compute", None), record("upload", 2.0), record("upload", 1.0)),
            predicted=(cost("compute", 1, 1), cost("upload", 2, 4), cost("idle", 1, 1)),
        )
        (found,) = residuals(3, entry, POINT, BOARD)
        assert (found.phase, found.measured_j, found.measured_s, found.round) == (
            "upload", 3.0, 2.0, 3,
        )  # fmt: skip


class TestAgreement:
    def test_numbers_by_hand(self) -> None:
        found = agreement(
            [one("compute", (10.0, 55.0), (10.0, 50.0)), one("upload", (1.0, 5.0), (2.0, 10.0))]
        )
        assert found is not None
        assert found.count == 1  # one device-round
        assert found.mape_percent == pytest.approx(0.0)
        assert found.bias_percent == pytest.approx(0.0)
        assert found.time_mape_percent == pytest.approx(100 / 12)
        assert found.parts.power_j == pytest.approx(5.0)
        assert found.parts.rate_j == pytest.approx(-5.0)

    def test_nothing_gives_nothing(self) -> None:
        assert agreement([]) is None

    def test_drift_is_what_does_not_average_out(self) -> None:
        import msgspec

        noisy = [
            msgspec.structs.replace(one("compute", (10.0, 50.0 * f), (10.0, 50.0)), round=number)
            for number, f in enumerate((1.1, 0.9, 1.1, 0.9), 1)
        ]
        assert drift_percent(noisy) == pytest.approx(0.0, abs=1e-9)
        assert drift_percent(noisy[::2]) == pytest.approx(10.0)

    def test_drift_sees_time_as_well(self) -> None:
        slow = one("compute", (10.0, 50.0), (12.5, 50.0))
        assert drift_percent([slow]) == pytest.approx(20.0)
        assert math.isclose(drift_percent([]), 0.0)
