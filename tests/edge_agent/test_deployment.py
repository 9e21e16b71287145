"""An agent tries a trained model: accuracy, latency and joules of the same inferences."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from bench import LOCAL, MODEL, Bench

from fimi.edge_agent.deployment import try_file
from fimi.energy.emulation.board import Disturbance, EmulatedBoard
from fimi.energy.emulation.boards import fleet
from fimi.energy.ledger import Ledger
from fimi.energy.resting import enough_s
from fimi.learning.training.classifier import Exported
from fimi.learning.training.deployment import Deployer
from fimi.learning.training.torch_trainer import TorchTrainer
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.facts import DeploymentReport, Trial
from fimi.messaging.messages.orders import DeploymentClosed, DeploymentTest, ModelFile


@pytest.fixture
def bench(a_broker: EmbeddedBroker, fleet_name: str) -> Iterator[Bench]:
    with Bench(a_broker, fleet_name) as bench:
        yield bench


@cache
def files() -> tuple[Exported, ...]:
    return Deployer("small-cnn", TorchTrainer("small-cnn", 10, (1, 8, 8)), LOCAL).export(MODEL)


def order(bench: Bench, payloads: dict[str, bytes]) -> DeploymentTest:
    offers = tuple(
        ModelFile(variant=variant, model=bench.serve(payload, "onnx-model"))  # type: ignore[arg-type]
        for variant, payload in payloads.items()
    )
    return DeploymentTest(
        run="r1",
        device="device-1",
        round=1,
        files=offers,
        images=60,
        seconds=0.2,
        training_share=1 / 3,
    )


def ask(bench: Bench, payloads: dict[str, bytes]) -> DeploymentReport:
    bench.desk.order(order(bench, payloads))
    return bench.desk.hear(DeploymentReport)


def good() -> dict[str, bytes]:
    return {file.check.variant: file.model for file in files()}


class TestAgent:
    def test_both_files_are_tried_and_metered(self, bench: Bench) -> None:
        report = ask(bench, good())
        assert [trial.variant for trial in report.trials] == ["fp32", "int8"]
        expected = TorchTrainer("small-cnn", 10, (1, 8, 8)).evaluate(
            MODEL, LOCAL.images, LOCAL.labels
        )
        fp32 = report.trials[0]
        assert fp32.accuracy == expected.accuracy
        truth = bench.board.truth
        # an inference is a third of 4e6 cycles, at the highest frequency
        expected_s = truth.compute.cycles_per_sample / 3 / truth.compute.frequency_max_hz
        for trial in report.trials:
            assert (trial.images, trial.error, trial.latency_kind) == (40, "", "emulated")
            assert trial.latency_median_s == pytest.approx(expected_s, rel=0.1)
            assert trial.latency_p95_s is not None
            assert trial.latency_p95_s >= trial.latency_median_s
            assert trial.inferences == pytest.approx(0.2 / trial.latency_median_s, abs=2)
            assert trial.metered is not None
            assert trial.metered.phase == "inference"
            assert trial.metered.duration_s >= 0.2
            assert trial.metered.energy is not None
            assert trial.metered.energy.kind == "emulated"
            assert trial.energy_j == pytest.approx(trial.metered.energy.value_j / trial.inferences)
        downloads_s = 8 * sum(map(len, good().values())) / truth.link.downlink_rate_bps
        tried_s = sum(t.metered.duration_s for t in report.trials if t.metered)
        rests_s = 4 * enough_s(bench.board.describe().meter)
        assert report.seconds == pytest.approx(downloads_s + tried_s + rests_s)

    def test_the_energy_above_resting_is_known(self, bench: Bench) -> None:
        (trial,) = ask(bench, {"fp32": good()["fp32"]}).trials
        truth, metered, one = bench.board.truth, trial.metered, trial.above_one
        assert metered is not None and metered.energy is not None and one is not None
        rest_j = truth.idle_power_w * metered.duration_s
        true_j = metered.energy.value_j - rest_j
        assert 0.0 < one.uncertainty_j < one.value_j
        assert abs(one.value_j * trial.inferences - true_j) < 3.0 * one.uncertainty_j * (
            trial.inferences
        )

    def test_no_round_is_charged(self, bench: Bench) -> None:
        bench.follow(bench.plan())
        ask(bench, good())
        _, report = bench.round(bench.start(2, at_s=5.0))
        assert report.error == ""
        assert {phase.phase for phase in report.phases} <= {"model-download", "compute", "upload"}

    def test_waiting_counts_again_when_rounds_go_on(self, bench: Bench) -> None:
        bench.follow(bench.plan())
        ask(bench, good())
        at_s = bench.board.clock.now_s() + 2.0
        bench.desk.order(DeploymentClosed(run="r1", device="device-1", round=1, fleet_time_s=at_s))
        assert bench.desk.is_answered()
        # a round that this device has no part in, of 3 s
        (idle,) = bench.close(2, at_s + 3.0, accepted=False).phases
        assert (idle.phase, idle.duration_s) == ("idle", pytest.approx(3.0))

    def test_a_file_is_tried_once_however_often_it_is_asked_for(self, bench: Bench) -> None:
        ask(bench, good())
        after_s = bench.board.clock.now_s()
        bench.another_coordinator()
        bench.desk.order(bench.invitation(), order(bench, good()))
        assert bench.desk.is_answered()
        assert bench.desk.everything == []
        assert bench.board.clock.now_s() == after_s

    def test_a_file_that_cannot_be_used_is_said_so(self, bench: Bench) -> None:
        report = ask(bench, {"fp32": b"no model", "int8": good()["int8"]})
        broken, whole = report.trials
        assert "GraphError" in broken.error
        assert (broken.accuracy, broken.metered, broken.energy_j) == (None, None, None)
        assert whole.accuracy is not None

    def test_a_file_that_nobody_has_is_waited_for_until_rounds_go_on(self, bench: Bench) -> None:
        gone = Offer(holder="coordinator", digest="0" * 64, size_bytes=9, media="onnx-model")
        bench.desk.order(
            DeploymentTest(
                run="r1",
                device="device-1",
                round=2,
                files=(ModelFile(variant="fp32", model=gone),),
                images=5,
                seconds=0.0,
                training_share=0.5,
            ),
        )
        words = "coordinator, which does not serve onnx-model yet"
        bench.desk.until(lambda reported: reported.waits_for == words, "it waits")
        bench.desk.order(DeploymentClosed(run="r1", device="device-1", round=2, fleet_time_s=1.0))
        (trial,) = bench.desk.hear(DeploymentReport).trials
        assert trial.error.startswith("broken off: ")


class TestTrial:
    order = DeploymentTest(
        run="r1",
        device="device-1",
        round=1,
        files=(),
        images=10,
        seconds=0.0,
        training_share=0.5,
    )

    def board(self) -> EmulatedBoard:
        (declaration,) = fleet(1, 0, cycles_per_sample=4e6)
        return EmulatedBoard(declaration, seed=0, index=0, disturbance=Disturbance())

    def tried(
        self,
        board: EmulatedBoard,
        recorder: Any = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Trial:
        """A trial on a board, by its own meter or another."""
        model = Offer(holder="x", digest="0" * 64, size_bytes=1, media="")
        return try_file(
            ModelFile(variant="fp32", model=model),
            files()[0].model,
            LOCAL,
            self.order,
            hardware=board,
            ledger=Ledger(board.clock, recorder or board.recorder),
            cancelled=cancelled,
        )

    def test_asked_to_stop_it_says_so(self) -> None:
        board = self.board()
        stop = threading.Event()
        stop.set()
        trial = self.tried(board, cancelled=stop.is_set)
        assert trial.error == "the agent was asked to stop"
        assert trial.accuracy is None

    @pytest.mark.parametrize("meter", ["chip", "averaging", "plug"])
    def test_inferences_go_on_until_the_meter_can_tell(self, meter: str) -> None:
        """Ten of them take some milliseconds, which no meter of these can tell."""
        (declaration,) = fleet(1, 0, cycles_per_sample=4e6, meter=meter)
        board = EmulatedBoard(declaration, seed=0, index=0, disturbance=Disturbance())
        trial = self.tried(board)
        assert trial.metered is not None and trial.metered.resolved
        assert trial.energy_j is not None and trial.above_one is not None
        assert trial.inferences > 10 and trial.images == 10

    @pytest.mark.parametrize("meter", ["chip", "averaging", "plug"])
    def test_broken_off_before_the_meter_can_tell_no_energy_above_resting_is_stated(
        self, meter: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A few milliseconds between two readings: their joules are those of the rest around."""
        (declaration,) = fleet(1, 0, cycles_per_sample=4e6, meter=meter)
        board = EmulatedBoard(declaration, seed=0, index=0, disturbance=Disturbance())
        done: list[float] = []
        has_computed = board.has_computed

        def one_more(share: float) -> None:
            done.append(share)
            has_computed(share)

        monkeypatch.setattr(board, "has_computed", one_more)
        trial = self.tried(board, cancelled=lambda: len(done) >= 3)
        assert trial.inferences == 3 and trial.metered is not None
        assert trial.metered.energy is not None and not trial.metered.resolved
        assert (trial.above, trial.above_one, trial.energy_j) == (None, None, None)

    def test_a_device_without_a_meter_has_no_joules_but_a_latency(self) -> None:
        board = self.board()

        class Unread:
            def describe(self) -> object:
                return board.recorder.describe()

            def mark(self) -> list[object]:
                return []

        trial = self.tried(board, Unread())
        assert trial.energy_j is None
        assert trial.latency_median_s is not None
        assert trial.images == 10
