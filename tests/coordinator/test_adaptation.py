from __future__ import annotations

import math

import msgspec

from fimi.coordinator.adaptation import Adaptation
from fimi.coordinator.settings import PlanSettings
from fimi.energy.cost_model import OperatingPoint, PhaseCost, predict_round
from fimi.energy.emulation.board import Disturbance, EmulatedBoard
from fimi.energy.emulation.boards import declare_board
from fimi.energy.hardware import HardwareDescription
from fimi.energy.ledger import Ledger
from fimi.energy.meters import MeterDescription
from fimi.learning.training.trainer import Evaluation, TrainingSettings
from fimi.messaging.messages.facts import Profile
from fimi.messaging.messages.orders import DevicePlan
from fimi.record.results import DeviceRound, RoundResult

EPOCHS, SAMPLES, BITS = 5, 200, 8.0 * 40_000
POINT = OperatingPoint(frequency_hz=1.2e9, bandwidth_hz=1e5, transmit_power_w=0.1, time_split=0.5)


class Bench:
    """One emulated device under an adaptation, without a broker."""

    def __init__(self, profile_error: float, **settings: float) -> None:
        declared = declare_board("raspberry-pi-4", seed=7, index=0, cycles_per_sample=4e6)
        self.board = EmulatedBoard(
            declared, seed=7, index=0, disturbance=Disturbance(profile_error=profile_error)
        )
        self.board.apply(POINT)
        self.profiles = {"device": self._profile()}
        self.adaptation = Adaptation(
            msgspec.structs.replace(PlanSettings(), **settings),
            self.profiles,
            training=TrainingSettings(epochs=EPOCHS),
            model_bits=BITS,
        )
        self.number = 0

    def _profile(self) -> Profile:
        return Profile(
            device="device",
            boot_id="boot",
            dataset="digits",
            label_counts=(120, 80),
            hardware=HardwareDescription(
                board="raspberry-pi-4",
                kind="emulated",
                meter=MeterDescription(
                    source="script", kind="emulated", scope="board", rate_hz=10.0
                ),
            ),
            board=self.board.model(),
            backend="script 1",
        )

    def round(self) -> float:
        """Play a round; the absolute error of its predicted joules, percent."""
        self.number += 1
        model = self.adaptation.profiles(self.profiles)["device"].board
        predicted = predict_round(
            model,
            POINT,
            cycles=EPOCHS * SAMPLES * model.compute.cycles_per_sample,
            upload_bits=BITS,
            download_bits=BITS,
        )
        predicted += (
            PhaseCost(
                phase="idle", duration_s=2.0, dynamic_j=0.0, board_j=2.0 * model.idle_power_w
            ),
        )
        ledger = Ledger(self.board.clock, self.board.recorder)
        self.board.begin_round(self.number)
        with ledger.phase("model-download"):
            self.board.has_received(int(BITS / 8))
        with ledger.phase("compute"):
            self.board.has_computed(EPOCHS * SAMPLES)
        with ledger.phase("upload"):
            self.board.has_sent(int(BITS / 8))
        self.board.join_fleet(0.0)
        with ledger.phase("idle"):
            self.board.has_waited_until(2.0)
        entry = DeviceRound(
            device="device",
            status="accepted",
            frequency_hz=self.board.achieved_frequency_hz(),
            local_samples=SAMPLES,
            phases=ledger.take(),
            predicted=predicted,
        )
        found = self.adaptation.learn(
            RoundResult(
                number=self.number,
                start_s=0.0,
                duration_s=1.0,
                evaluation=Evaluation(accuracy=0.5, loss=1.0, class_accuracy=(), samples=1),
                devices=(entry,),
            ),
            {
                "device": DevicePlan(
                    run="run",
                    device="device",
                    device_index=0,
                    synthetic_counts=(0, 0),
                    batch=None,
                    point=POINT,
                    predicted=predicted,
                )
            },
        )
        measured_j = math.fsum(r.measured_j for r in found)
        return 100 * abs(math.fsum(r.predicted_j for r in found) / measured_j - 1)


def test_the_error_falls_once_it_has_refitted() -> None:
    bench = Bench(profile_error=0.3)
    before = [bench.round() for _ in range(3)]
    drifts = bench.adaptation.drifted()
    assert set(drifts) == {"device"}
    assert drifts["device"] > 10.0
    bench.adaptation.refit()
    after = [bench.round() for _ in range(6)]
    assert max(after) < 4.0 < min(before)
    assert bench.adaptation.drifted() == {}


def test_a_true_profile_is_left_alone() -> None:
    bench = Bench(profile_error=0.0)
    for _ in range(10):
        bench.round()
        assert bench.adaptation.drifted() == {}


def test_waits_for_a_whole_window() -> None:
    bench = Bench(profile_error=0.3, refit_window=5)
    found = []
    for _ in range(5):
        bench.round()
        found.append(bool(bench.adaptation.drifted()))
    assert found == [False] * 4 + [True]


def test_can_be_switched_off() -> None:
    bench = Bench(profile_error=0.3, refit_percent=0.0)
    for _ in range(5):
        bench.round()
    assert bench.adaptation.drifted() == {}
