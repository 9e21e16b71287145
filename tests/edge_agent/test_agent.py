"""A real agent on an emulated board, over a real broker, with a scripted coordinator."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from bench import DIGITS, LOCAL, MODEL, POINT, SETTINGS, Bench, encode

from fimi.learning.data import batches
from fimi.learning.training import tensors
from fimi.learning.training.torch_trainer import TorchTrainer
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages import (
    DeviceState,
    PlanApplied,
    Profile,
    RoundClosed,
    RoundReport,
    RoundSettled,
    RunEnded,
    UpdateReady,
)


@pytest.fixture
def bench(a_broker: EmbeddedBroker, fleet_name: str) -> Iterator[Bench]:
    with Bench(a_broker, fleet_name) as bench:
        yield bench


def phases_of(message: RoundReport | RoundSettled | PlanApplied) -> list[str]:
    return [phase.phase for phase in message.phases]


def synthetic(count: int, **wrong: np.ndarray) -> bytes:
    images = wrong.get("images", DIGITS.images[100 : 100 + count])
    return encode(images, DIGITS.labels[100 : 100 + count])


class TestProfile:
    def test_it_says_hello_when_a_coordinator_appears(self, bench: Bench) -> None:
        profile = bench.hear(Profile)
        assert profile.label_counts == LOCAL.label_counts()
        assert profile.hardware.kind == "emulated"
        assert profile.hardware.meter.kind == "emulated"
        assert profile.board == bench.board.model()
        assert "onnxruntime 1." in profile.backend

    def test_only_label_counts_of_its_data_leave_it(self, bench: Bench) -> None:
        profile = bench.hear(Profile)
        fields = {"device", "boot_id", "dataset", "label_counts", "hardware", "board", "backend"}
        assert set(profile.__struct_fields__) == fields


class TestPlan:
    def test_the_batch_is_fetched_metered_and_mixed_in(self, bench: Bench) -> None:
        payload = synthetic(30)
        offer = bench.desk.transfers.serve(payload, "batch")
        bench.desk.send("device-1", bench.plan(offer))
        reply = bench.hear(PlanApplied)
        assert reply.error == ""
        assert phases_of(reply) == ["synthetic-download"]
        assert bench.data.synthetic_samples == 30
        (phase,) = reply.phases
        expected_s = 8 * len(payload) / bench.board.truth.link.downlink_rate_bps
        assert phase.duration_s == pytest.approx(expected_s)
        assert phase.energy is not None
        assert phase.energy.kind == "emulated"

    def test_what_was_set_is_read_back(self, bench: Bench) -> None:
        bench.desk.send("device-1", bench.plan())
        applied = bench.hear(PlanApplied).applied
        assert applied is not None
        assert applied.frequency_hz is not None
        assert applied.frequency_hz >= POINT.frequency_hz

    def test_the_same_plan_twice_is_answered_twice_and_done_once(self, bench: Bench) -> None:
        offer = bench.desk.transfers.serve(synthetic(5), "batch")
        for _ in range(2):
            bench.desk.send("device-1", bench.plan(offer))
        assert bench.hear(PlanApplied) == bench.hear(PlanApplied)
        only_once_s = bench.board.clock.now_s()
        expected_s = 8 * offer.size_bytes / bench.board.truth.link.downlink_rate_bps
        assert only_once_s == pytest.approx(expected_s)

    @pytest.mark.parametrize(
        ("payload", "what"),
        [
            (b"not a batch", "BatchError"),
            (encode(np.zeros((2, 3, 32, 32), np.uint8), np.zeros(2, np.int64)), "another"),
            (
                encode(np.zeros((1, 1, 8, 8), np.uint8), np.array([10])),
                "classes are 0 to 9",
            ),
            (np.random.default_rng(0).bytes(60_000), "TransferError"),  # larger than it accepts
        ],
    )
    def test_a_bad_batch_is_refused_and_said_so(
        self, bench: Bench, payload: bytes, what: str
    ) -> None:
        offer = bench.desk.transfers.serve(payload, "batch")
        bench.desk.send("device-1", bench.plan(offer))
        assert what in bench.hear(PlanApplied).error
        assert bench.data.synthetic_samples == 0

    def test_a_batch_that_nobody_has(self, bench: Bench) -> None:
        offer = bench.desk.transfers.serve(synthetic(5), "batch")
        bench.desk.transfers.withdraw(offer.digest)
        bench.desk.send("device-1", bench.plan(offer))
        assert "TransferError" in bench.hear(PlanApplied).error

    def test_a_new_plan_for_the_same_batch_fetches_nothing_again(self, bench: Bench) -> None:
        offer = bench.desk.transfers.serve(synthetic(30), "batch")
        bench.desk.send("device-1", bench.plan(offer))
        assert phases_of(bench.hear(PlanApplied)) == ["synthetic-download"]
        bench.desk.transfers.withdraw(offer.digest)
        slower = msgspec.structs.replace(POINT, frequency_hz=0.6e9)
        again = msgspec.structs.replace(bench.plan(offer), point=slower)
        bench.desk.send("device-1", again)
        reply = bench.hear(PlanApplied)
        assert (reply.error, reply.phases) == ("", ())
        assert reply.applied is not None
        assert reply.applied.frequency_hz == 0.6e9
        assert bench.data.synthetic_samples == 30


class TestUnlabelled:
    """The device labels images with the model that it was sent, and trains on the sure ones."""

    images = DIGITS.images[200:230]

    def sent(self, bench: Bench, confidence: float) -> PlanApplied:
        payload = batches.encode_unlabelled(self.images)
        offer = bench.desk.transfers.serve(payload, "batch")
        plan = msgspec.structs.replace(
            bench.plan(offer), unlabelled=len(self.images), confidence_min=confidence
        )
        bench.desk.send("device-1", plan)
        return bench.hear(PlanApplied)

    def test_it_trains_on_what_the_global_model_is_sure_of(self, bench: Bench) -> None:
        trainer = TorchTrainer("small-cnn", 10, (1, 8, 8))
        logits = trainer.predict(MODEL, self.images)
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        threshold = float(np.median(shares.max(axis=1)))
        assert self.sent(bench, threshold).error == ""
        update, report = bench.round(bench.start())
        kept = shares.max(axis=1) >= threshold
        assert (report.unlabelled, report.synthetic_samples) == (30, int(kept.sum()))
        assert 10 < report.synthetic_samples < 20
        alone = trainer.train(
            MODEL,
            np.concatenate([LOCAL.images, self.images[kept]]),
            np.concatenate([LOCAL.labels, logits[kept].argmax(axis=1)]),
            SETTINGS,
            stream=(5, 0, 1),
        )
        for name, tensor in tensors.load(update, like=MODEL).items():
            np.testing.assert_array_equal(tensor, alone.parameters[name])

    def test_looking_takes_time_and_joules(self, bench: Bench) -> None:
        self.sent(bench, 1.0)  # nothing is kept
        _, report = bench.round(bench.start())
        assert (report.unlabelled, report.synthetic_samples) == (30, 0)
        (compute,) = [phase for phase in report.phases if phase.phase == "compute"]
        observed_hz = report.frequency_hz
        assert observed_hz is not None
        cycles = bench.board.truth.compute.cycles_per_sample * (2 * 40 + 10)
        assert compute.duration_s == pytest.approx(cycles / observed_hz, rel=0.1)
        without = bench.board.truth.compute.cycles_per_sample * 2 * 40 / observed_hz
        assert compute.duration_s > without

    def test_labels_are_given_anew_every_round(self, bench: Bench) -> None:
        self.sent(bench, 0.5)
        update, first = bench.round(bench.start())
        bench.model = update
        _, second = bench.round(bench.start(2))
        assert first.synthetic_samples == 0, "an untrained model is sure of nothing"
        assert second.unlabelled == 30

    def test_a_batch_with_labels_is_refused(self, bench: Bench) -> None:
        offer = bench.desk.transfers.serve(synthetic(5), "batch")
        plan = msgspec.structs.replace(bench.plan(offer), unlabelled=5)
        bench.desk.send("device-1", plan)
        assert "must hold 'images'" in bench.hear(PlanApplied).error


class TestRound:
    def test_it_trains_as_the_trainer_alone_would(self, bench: Bench) -> None:
        bench.desk.send("device-1", bench.plan())
        update, report = bench.round(bench.start())
        trainer = TorchTrainer("small-cnn", 10, (1, 8, 8))
        alone = trainer.train(MODEL, LOCAL.images, LOCAL.labels, SETTINGS, stream=(5, 0, 1))
        for name, tensor in tensors.load(update, like=MODEL).items():
            np.testing.assert_array_equal(tensor, alone.parameters[name])
        assert report.training_loss == alone.loss
        assert (report.local_samples, report.synthetic_samples) == (40, 0)
        assert report.error == ""

    def test_a_training_that_diverges_is_told_at_once_with_its_joules(self, bench: Bench) -> None:
        steep = {name: tensor * np.float32(1e25) for name, tensor in MODEL.items()}
        bench.model = tensors.dump(steep)
        bench.desk.send("device-1", bench.plan())
        bench.desk.send("device-1", bench.start())
        report = bench.hear(RoundReport)
        assert report.error.startswith("device diverged: loss not finite in epoch 1, step ")
        assert phases_of(report) == ["model-download", "compute"]
        compute = report.phases[-1]
        assert compute.duration_s > 0
        assert compute.energy is not None
        assert compute.energy.value_j > 0
        assert bench.hears_nothing_of(UpdateReady)
        # it is fit for the next round
        bench.model = tensors.dump(MODEL)
        _, report = bench.round(bench.start(2))
        assert report.error == ""

    def test_it_says_when_it_trained_by_the_machines_clock(self, bench: Bench) -> None:
        bench.desk.send("device-1", bench.plan())
        before_s = time.time()
        _, report = bench.round(bench.start())
        assert report.trained_at is not None
        began_s, ended_s = report.trained_at
        assert before_s <= began_s < ended_s <= time.time()

    def test_goodput_and_what_was_observed_are_reported(self, bench: Bench) -> None:
        payload = synthetic(30)
        bench.desk.send("device-1", bench.plan(bench.desk.transfers.serve(payload, "batch")))
        (batch,) = bench.hear(PlanApplied).transfers
        assert (batch.phase, batch.size_bytes) == ("synthetic-download", len(payload))
        assert batch.rate_bps == pytest.approx(bench.board.truth.link.downlink_rate_bps)
        update, report = bench.round(bench.start())
        assert [(each.phase, each.size_bytes) for each in report.transfers] == [
            ("model-download", len(bench.model)),
            ("upload", len(update)),
        ]
        for each in report.transfers:
            (phase,) = [phase for phase in report.phases if phase.phase == each.phase]
            assert each.duration_s == pytest.approx(phase.duration_s)
        assert report.observed is not None
        assert report.observed.frequency_source == "emulated"
        assert report.frequency_hz == report.observed.frequency_hz

    def test_every_phase_is_metered_and_they_add_up(self, bench: Bench) -> None:
        bench.desk.send("device-1", bench.plan())
        _, report = bench.round(bench.start())
        assert phases_of(report) == ["model-download", "compute", "upload"]
        assert report.busy_s == pytest.approx(sum(phase.duration_s for phase in report.phases))
        bench.desk.send(
            "device-1",
            RoundClosed(run="r1", device="device-1", round=1, accepted=True, fleet_time_s=30.0),
        )
        settled = bench.hear(RoundSettled)
        assert phases_of(settled) == ["idle"]
        assert settled.phases[0].duration_s == pytest.approx(30.0 - report.busy_s)
        metered = [*report.phases, *settled.phases]
        joules = sum(phase.energy.value_j for phase in metered if phase.energy)
        truth_j = bench.board.recorder.true_energy_j
        assert joules == pytest.approx(truth_j, rel=0.05)

    def test_waiting_for_the_others_is_the_next_rounds_business_only_once(
        self, bench: Bench
    ) -> None:
        bench.desk.send("device-1", bench.plan())
        bench.round(bench.start(1, at_s=0.0))
        closed = RoundClosed(run="r1", device="device-1", round=1, accepted=True, fleet_time_s=20.0)
        bench.desk.send("device-1", closed)
        bench.desk.send("device-1", closed)
        assert bench.hear(RoundSettled) == bench.hear(RoundSettled)
        _, report = bench.round(bench.start(2, at_s=20.0))
        assert sum(p.duration_s for p in report.phases if p.phase == "idle") == 0.0

    def test_the_same_round_twice_is_answered_twice_and_trained_once(self, bench: Bench) -> None:
        bench.desk.send("device-1", bench.plan())
        start = bench.start()
        _, report = bench.round(start)
        clock_s = bench.board.clock.now_s()
        bench.desk.send("device-1", start)
        assert bench.hear(RoundReport) == report
        assert bench.board.clock.now_s() == clock_s
        assert bench.hears_nothing_of(UpdateReady)

    def test_a_round_without_a_plan_makes_it_say_hello_again(self, bench: Bench) -> None:
        bench.hear(Profile)
        bench.desk.send("device-1", bench.start())
        assert bench.hear(Profile).device == "device-1"

    @pytest.mark.parametrize("model", [b"rubbish", tensors.dump({"x": np.zeros(3, np.float32)})])
    def test_a_model_it_cannot_train_is_reported(self, bench: Bench, model: bytes) -> None:
        bench.desk.send("device-1", bench.plan())
        bench.model = model
        bench.desk.send("device-1", bench.start())
        report = bench.hear(RoundReport)
        assert report.error
        assert bench.thread.is_alive()
        bench.model = tensors.dump(MODEL)
        _, good = bench.round(bench.start(2))
        assert good.error == ""

    def test_a_coordinator_that_does_not_pull(self, bench: Bench) -> None:
        bench.desk.send("device-1", bench.plan())
        bench.desk.send("device-1", bench.start())
        report = bench.hear(RoundReport)
        assert "did not pull the update within 4 s" in report.error


class TestFleetTime:
    def test_a_second_run_starts_its_clock_anew(self, bench: Bench) -> None:
        bench.desk.send("device-1", bench.plan())
        _, first = bench.round(bench.start(1, at_s=0.0))
        closed = RoundClosed(
            run="r1", device="device-1", round=1, accepted=True, fleet_time_s=500.0
        )
        bench.desk.send("device-1", closed)
        bench.desk.send("device-1", RunEnded(run="r1", reason="done"))
        bench.desk.send("device-1", bench.plan(run="r2"))
        _, second = bench.round(bench.start(1, at_s=0.0, run="r2"))
        assert second.busy_s == pytest.approx(first.busy_s)
        assert sum(p.duration_s for p in second.phases) == pytest.approx(first.busy_s)

    def test_a_device_that_joins_late_is_not_billed_for_the_past(self, bench: Bench) -> None:
        bench.desk.send("device-1", bench.plan(fleet_time_s=1000.0))
        _, report = bench.round(bench.start(7, at_s=1003.0))
        assert [p.duration_s for p in report.phases if p.phase == "idle"] == [pytest.approx(3.0)]

    def test_a_device_that_is_late_is_busy_from_the_rounds_start(self, bench: Bench) -> None:
        bench.desk.send("device-1", bench.plan(fleet_time_s=0.0))
        _, first = bench.round(bench.start(1, at_s=0.0))
        _, second = bench.round(bench.start(2, at_s=first.busy_s - 0.5))
        assert second.busy_s > sum(p.duration_s for p in second.phases)


class TestEnd:
    def test_the_board_is_put_back(self, bench: Bench) -> None:
        bench.desk.send("device-1", bench.plan(bench.desk.transfers.serve(synthetic(5), "batch")))
        bench.hear(PlanApplied)
        bench.desk.send("device-1", RunEnded(run="r1", reason="done"))
        bench.desk.send("device-1", bench.start())
        bench.hear(Profile)  # it has no plan any more
        assert bench.data.synthetic_samples == 0

    def test_it_stops_at_once_in_the_middle_of_an_upload(self, bench: Bench) -> None:
        bench.desk.send("device-1", bench.plan())
        bench.desk.send("device-1", bench.start())
        bench.hear(UpdateReady)
        began_s = time.monotonic()
        bench.stop.set()
        bench.thread.join(timeout=3.0)
        assert not bench.thread.is_alive()
        assert time.monotonic() - began_s < 2.0

    def test_other_peers_cannot_give_it_orders(self, bench: Bench) -> None:
        stranger = Peer(bench.desk.address, fleet=bench.desk.fleet, peer="device-2", role="device")
        bench.hear(DeviceState)
        with stranger:
            stranger.send("device-1", bench.plan())
            assert bench.hears_nothing_of(PlanApplied)
