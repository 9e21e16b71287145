"""A real agent on an emulated board, over a real broker, with a scripted coordinator."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from bench import CONTRACT, DEVICE, DIGITS, EMULATED, LOCAL, MODEL, POINT, SETTINGS, Bench, encode
from bench import slower as on_a_slower_clock
from msgspec.structs import replace

from fimi.edge_agent.boards import emulated_board
from fimi.learning.data import batches
from fimi.learning.training import tensors
from fimi.learning.training.torch_trainer import TorchTrainer
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages.documents import Reported
from fimi.messaging.messages.facts import (
    PlanApplied,
    Profile,
    RoundReport,
    RoundSettled,
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
    def test_it_confirms_the_contract(self, bench: Bench) -> None:
        profile = bench.profile
        assert profile.contract == CONTRACT.digest
        assert profile.label_counts == LOCAL.label_counts()
        assert profile.hardware.kind == "emulated"
        assert profile.hardware.meter.kind == "emulated"
        assert profile.board == emulated_board(EMULATED, 0).model()
        assert "onnxruntime 1." in profile.backend

    def test_only_label_counts_and_a_digest_of_its_data_leave_it(self, bench: Bench) -> None:
        assert set(bench.profile.__struct_fields__) == {
            "run", "device", "boot_id", "contract", "fingerprint", "dataset", "label_counts",
            "hardware", "board", "backend",
        }  # fmt: skip


class TestPlan:
    def test_the_batch_is_fetched_metered_and_mixed_in(self, bench: Bench) -> None:
        payload = synthetic(30)
        reply = bench.follow(bench.plan(bench.serve(payload)))
        assert reply.error == ""
        assert phases_of(reply) == ["synthetic-download"]
        assert bench.data.synthetic_samples == 30
        (phase,) = reply.phases
        expected_s = 8 * len(payload) / bench.board.truth.link.downlink_rate_bps
        assert phase.duration_s == pytest.approx(expected_s)
        assert phase.energy is not None
        assert phase.energy.kind == "emulated"

    def test_what_was_set_is_read_back(self, bench: Bench) -> None:
        applied = bench.follow(bench.plan()).applied
        assert applied is not None
        assert applied.frequency_hz is not None
        assert applied.frequency_hz >= POINT.frequency_hz

    @pytest.mark.parametrize(
        ("payload", "what"),
        [
            (b"not a batch", "BatchError"),
            (encode(np.zeros((2, 3, 32, 32), np.uint8), np.zeros(2, np.int64)), "another"),
            (
                encode(np.zeros((1, 1, 8, 8), np.uint8), np.array([10])),
                "classes are 0 to 9",
            ),
            (batches.encode(DIGITS.images[:2], DIGITS.labels[:2]), "under no contract"),
            (np.random.default_rng(0).bytes(60_000), "PayloadUnusable"),  # more than it accepts
        ],
    )
    def test_a_bad_batch_is_refused_and_said_so(
        self, bench: Bench, payload: bytes, what: str
    ) -> None:
        assert what in bench.follow(bench.plan(bench.serve(payload))).error
        assert bench.data.synthetic_samples == 0

    def test_a_batch_that_its_holder_does_not_serve_yet_is_waited_for(self, bench: Bench) -> None:
        offer = bench.serve(synthetic(5))
        bench.desk.peer.transfers.withdraw(offer.digest)
        bench.desk.order(bench.plan(offer))
        words = "coordinator, which does not serve synthetic-batch yet"
        bench.desk.until(lambda reported: reported.waits_for == words, "it waits")
        bench.serve(synthetic(5))
        assert bench.desk.hear(PlanApplied).error == ""
        assert bench.data.synthetic_samples == 5

    def test_a_new_plan_for_the_same_batch_fetches_nothing_again(self, bench: Bench) -> None:
        offer = bench.serve(synthetic(30))
        assert phases_of(bench.follow(bench.plan(offer))) == ["synthetic-download"]
        bench.desk.peer.transfers.withdraw(offer.digest)
        reply = bench.follow(on_a_slower_clock(bench.plan(offer)))
        assert (reply.error, reply.phases) == ("", ())
        assert reply.applied is not None
        assert reply.applied.frequency_hz == 0.6e9
        assert bench.data.synthetic_samples == 30

    def test_an_emulated_board_gets_a_batch_once_in_the_life_of_a_run(self, bench: Bench) -> None:
        plan = replace(bench.plan(bench.serve(synthetic(30)), fleet_time_s=7.0), booked=True)
        assert bench.follow(plan).phases == ()
        assert bench.board.clock.now_s() == 7.0
        assert bench.data.synthetic_samples == 30


class TestUnlabelled:
    """The device labels images with the model that it was sent, and trains on the sure ones."""

    images = DIGITS.images[200:230]

    def sent(self, bench: Bench, confidence: float) -> PlanApplied:
        payload = batches.encode_unlabelled(self.images, contract=CONTRACT.digest)
        plan = replace(
            bench.plan(bench.serve(payload)),
            unlabelled=len(self.images),
            confidence_min=confidence,
        )
        return bench.follow(plan)

    def test_it_trains_on_what_the_global_model_is_sure_of(self, bench: Bench) -> None:
        trainer = TorchTrainer("small-cnn", 10, (1, 8, 8))
        logits = trainer.predict(MODEL, self.images)
        certain = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        threshold = float(np.median(certain.max(axis=1)))
        assert self.sent(bench, threshold).error == ""
        update, report = bench.round(bench.start())
        kept = certain.max(axis=1) >= threshold
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
        bench.close(1, 30.0)
        _, second = bench.round(bench.start(2, 30.0))
        assert first.synthetic_samples == 0, "an untrained model is sure of nothing"
        assert second.unlabelled == 30

    def test_a_batch_with_labels_is_refused(self, bench: Bench) -> None:
        plan = replace(bench.plan(bench.serve(synthetic(5))), unlabelled=5)
        assert "must hold 'images'" in bench.follow(plan).error


class TestRound:
    def test_it_trains_as_the_trainer_alone_would(self, bench: Bench) -> None:
        bench.follow(bench.plan())
        update, report = bench.round(bench.start())
        trainer = TorchTrainer("small-cnn", 10, (1, 8, 8))
        alone = trainer.train(MODEL, LOCAL.images, LOCAL.labels, SETTINGS, stream=(5, 0, 1))
        for name, tensor in tensors.load(update, like=MODEL).items():
            np.testing.assert_array_equal(tensor, alone.parameters[name])
        assert report.training_loss == alone.loss
        assert (report.local_samples, report.synthetic_samples) == (40, 0)
        assert report.error == ""

    def test_it_says_when_it_trained_by_the_machines_clock(self, bench: Bench) -> None:
        bench.follow(bench.plan())
        before_s = time.time()
        _, report = bench.round(bench.start())
        assert report.trained_at is not None
        began_s, ended_s = report.trained_at
        assert before_s <= began_s < ended_s <= time.time()

    def test_goodput_and_what_was_observed_are_reported(self, bench: Bench) -> None:
        payload = synthetic(30)
        (batch,) = bench.follow(bench.plan(bench.serve(payload))).transfers
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
        bench.follow(bench.plan())
        before_j = bench.board.recorder.true_energy_j  # it has rested, for its resting power
        _, report = bench.round(bench.start())
        assert phases_of(report) == ["model-download", "compute", "upload"]
        assert report.busy_s == pytest.approx(sum(phase.duration_s for phase in report.phases))
        assert report.waited_s == 0.0
        settled = bench.close(1, 30.0)
        assert phases_of(settled) == ["idle"]
        assert settled.phases[0].duration_s == pytest.approx(30.0 - report.busy_s)
        metered = [*report.phases, *settled.phases]
        joules = sum(phase.energy.value_j for phase in metered if phase.energy)
        truth_j = bench.board.recorder.true_energy_j - before_j
        assert joules == pytest.approx(truth_j, rel=0.05)

    def test_waiting_for_the_others_is_no_rounds_business_twice(self, bench: Bench) -> None:
        bench.follow(bench.plan())
        bench.round(bench.start(1, at_s=0.0))
        bench.close(1, 20.0)
        _, report = bench.round(bench.start(2, at_s=20.0))
        assert "idle" not in phases_of(report)

    @pytest.mark.parametrize("model", [b"rubbish", tensors.dump({"x": np.zeros(3, np.float32)})])
    def test_a_model_it_cannot_train_is_reported(self, bench: Bench, model: bytes) -> None:
        bench.follow(bench.plan())
        bench.model = model
        bench.desk.order(bench.start())
        report = bench.desk.hear(RoundReport)
        assert report.error
        assert (report.training_loss, report.training_accuracy) == (None, None)
        assert bench.device.thread.is_alive()
        bench.close(1, 30.0)
        bench.model = tensors.dump(MODEL)
        _, good = bench.round(bench.start(2, 30.0))
        assert good.error == ""

    def test_a_training_that_diverges_is_said_so_and_its_joules_are_kept(
        self, bench: Bench
    ) -> None:
        bench.follow(bench.plan())
        start = replace(bench.start(), training=replace(SETTINGS, learning_rate=10.0, epochs=40))
        broken = {name: tensor * 1e18 for name, tensor in MODEL.items()}
        bench.model = tensors.dump(broken)
        bench.desk.order(replace(start, model=bench.start().model))
        report = bench.desk.hear(RoundReport)
        assert report.error.startswith(f"{DEVICE} diverged: loss not finite in epoch ")
        assert (report.training_loss, report.training_accuracy) == (None, None)
        (compute,) = [phase for phase in report.phases if phase.phase == "compute"]
        assert compute.energy is not None
        assert compute.energy.value_j > 0.0

    def test_one_that_nobody_has_thought_of_is_a_failure_and_the_agent_lives_on(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench.follow(bench.plan())
        with monkeypatch.context() as patched:
            patched.setattr(bench.data, "training_set", lambda: 1 / 0)
            bench.desk.order(bench.start())
            report = bench.desk.hear(RoundReport)
        assert "ZeroDivisionError" in report.error
        assert phases_of(report) == ["model-download", "compute"]
        bench.close(1, 30.0)
        _, good = bench.round(bench.start(2, 30.0))
        assert good.error == ""


class TestFleetTime:
    def test_a_second_run_starts_its_clock_anew(self, bench: Bench) -> None:
        bench.follow(bench.plan())
        _, first = bench.round(bench.start(1, at_s=0.0))
        bench.close(1, 500.0)
        bench.end()
        bench.another_run("r2")
        bench.join()
        bench.follow(bench.plan())
        _, second = bench.round(bench.start(1, at_s=0.0))
        assert (second.busy_s, second.phases) == (first.busy_s, first.phases)

    def test_a_device_that_joins_late_is_not_billed_for_the_past(self, bench: Bench) -> None:
        bench.follow(bench.plan(fleet_time_s=1000.0))
        _, report = bench.round(bench.start(7, at_s=1003.0))
        assert [p.duration_s for p in report.phases if p.phase == "idle"] == [pytest.approx(3.0)]

    def test_a_device_that_is_late_is_busy_from_the_rounds_start(self, bench: Bench) -> None:
        bench.follow(bench.plan(fleet_time_s=0.0))
        _, first = bench.round(bench.start(1, at_s=0.0))
        bench.close(1, first.busy_s - 0.5)
        _, second = bench.round(bench.start(2, at_s=first.busy_s - 0.5))
        assert second.busy_s > sum(p.duration_s for p in second.phases)


class TestEnd:
    def test_the_board_is_put_back_and_the_data_dropped(self, bench: Bench) -> None:
        bench.follow(bench.plan(bench.serve(synthetic(5))))
        board = bench.board
        assert board.uplink_rate_bps() > 0.0
        bench.end()
        bench.desk.until(lambda reported: reported.stage == "idle", "it is idle")
        assert board.uplink_rate_bps() == 0.0
        assert bench.device.agent.member is None

    def test_it_stops_in_the_middle_of_an_upload_and_its_joules_are_reported(
        self, bench: Bench
    ) -> None:
        bench.follow(bench.plan())
        bench.desk.order(bench.start())
        bench.desk.hear(UpdateReady)
        bench.device.stop.set()
        bench.device.thread.join(timeout=20.0)
        assert not bench.device.thread.is_alive()
        report = bench.desk.hear(RoundReport)
        assert report.error == "broken off: the agent was asked to stop"
        assert phases_of(report) == ["model-download", "compute", "upload"]
        assert report.training_loss is not None

    def test_other_peers_cannot_give_it_orders(self, bench: Bench) -> None:
        address = bench.desk.peer.address
        with Peer(address, fleet=bench.fleet, peer="device-2", role="device") as stranger:
            stranger.send(DEVICE, bench.plan())
            stranger.flush(5.0)
            assert bench.desk.is_answered()
            assert not any(isinstance(fact, PlanApplied) for fact in bench.desk.everything)
            reported = bench.desk.conversation.reported(DEVICE)
        assert isinstance(reported, Reported)
        assert bench.device.agent.member is not None

    def test_a_run_of_its_own_again(self, bench: Bench) -> None:
        """The end of a run is not the end of the agent."""
        bench.end()
        bench.another_run("r2")
        assert bench.join().run == "r2"
        assert isinstance(bench.profile, Profile)
