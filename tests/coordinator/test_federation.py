"""A coordinator over a real broker, with devices that follow scripts."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from lab import TEST_SET, Lab, statuses
from scripted import (
    MODEL,
    Behaviour,
    ScriptedDevice,
    boastful,
    empty_handed,
    failing,
    honest,
    sends,
    silent,
    tampered,
)

from fimi.coordinator.deployment import Export
from fimi.coordinator.federation import FederationError
from fimi.coordinator.settings import DeploymentSettings
from fimi.learning.training import tensors
from fimi.learning.training.classifier import Exported, FileCheck
from fimi.learning.training.tensors import Parameters
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages.facts import UpdateReady
from fimi.messaging.messages.orders import RoundStart
from fimi.messaging.messages.synthesis import SyntheticBatch, SyntheticRequest
from fimi.messaging.topics import COORDINATOR
from fimi.monitor.sentences import describe, is_problem
from fimi.optim.plans import Certified
from fimi.optim.problem import InfeasibleError
from fimi.record.events import (
    Deployed,
    DeviceLost,
    DeviceReported,
    Event,
    Gathering,
    MeterDoubted,
    NotDeployed,
    Refitted,
    RoundFinished,
    RoundStarted,
    UpdateRejected,
)
from fimi.record.phases import round_parts
from fimi.record.reader import read_run
from fimi.record.results import RoundResult
from fimi.record.sums import EnergyTally, Sum


@pytest.fixture
def lab(a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path) -> Lab:
    return Lab(a_broker, fleet_name, tmp_path)


def energy_of(result: RoundResult) -> Sum:
    """The energy of all boards in a round."""
    return EnergyTally(round_parts(result)).sum()


class TestRounds:
    def test_fedavg_of_all_who_report(
        self, any_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path
    ) -> None:
        lab = Lab(any_broker, fleet_name, tmp_path)
        federation = lab.run(honest(1.0), honest(3.0), rounds=3)
        assert federation.status == "completed"
        np.testing.assert_allclose(federation.model["w"], 6.0)  # mean of 1 and 3, three times
        assert [r.evaluation.accuracy for r in federation.rounds] == pytest.approx([0.2, 0.4, 0.6])
        assert [float(m["w"][0, 0]) for m in lab.models] == pytest.approx([2, 4, 6])
        assert [d.ended[0].reason for d in lab.devices] == ["3 rounds"] * 2
        assert all(c.accepted for d in lab.devices for c in d.closed)

    def test_every_round_is_judged_on_the_images_for_validation_too(self, lab: Lab) -> None:
        kept_apart = TEST_SET.subset(np.array([1, 2]), "three/validation")
        rounds = lab.run(honest(1.0), validation=kept_apart).rounds
        assert [r.evaluation.samples for r in rounds] == [4, 4]
        judged = [r.validation for r in rounds]
        assert [None if v is None else v.samples for v in judged] == [2, 2]
        assert judged[0] != judged[1]  # of each round's own model
        assert [r.validation for r in read_run(lab.path).rounds] == judged

    def test_without_such_images_there_is_no_such_accuracy(self, lab: Lab) -> None:
        assert [r.validation for r in lab.run(honest(1.0)).rounds] == [None, None]

    def test_a_round_lasts_as_long_as_its_slowest_device(self, lab: Lab) -> None:
        federation = lab.run(honest(busy_s=2.0), honest(busy_s=5.0), rounds=2)
        assert [r.duration_s for r in federation.rounds] == [5.0, 5.0]
        assert [r.start_s for r in federation.rounds] == [0.0, 5.0]
        assert lab.devices[0].closed[-1].fleet_time_s == 10.0

    def test_doubts_about_a_meter_are_an_event_of_the_run(self, lab: Lab) -> None:
        doubt = "hwmon:x: it showed nothing for 3 s: the cable is out"
        federation = lab.run(honest(), honest(doubts=(doubt,)), rounds=2)
        assert lab.said(MeterDoubted) == [
            MeterDoubted(round=number, device="device-2", doubts=(doubt,)) for number in (1, 2)
        ]
        assert "device-2, round 1: its meter: hwmon:x" in describe(lab.said(MeterDoubted)[0])
        assert is_problem(lab.said(MeterDoubted)[0])
        first = {d.device: d.observed for d in federation.rounds[0].devices}
        assert first["device-2"] is not None
        assert first["device-2"].doubts == (doubt,)

    def test_a_meter_that_dies_is_said_at_once_and_once(self, lab: Lab) -> None:
        dead = "the meter hwmon:x shows nothing any more: the cable is out"

        def behave(device: ScriptedDevice, start: RoundStart) -> None:
            device.meter = dead if start.round > 1 else ""
            honest()(device, start)

        lab.run(behave, rounds=3)
        assert lab.said(MeterDoubted) == [MeterDoubted(round=0, device="device-1", doubts=(dead,))]
        assert describe(lab.said(MeterDoubted)[0]) == f"device-1: {dead}"
        kinds = [type(e) for e in lab.events if isinstance(e, MeterDoubted | DeviceReported)]
        assert kinds.index(MeterDoubted) == 1, "before the report of the round in which it died"

    def test_only_those_drawn_train_and_the_others_idle(self, lab: Lab) -> None:
        behaviours = [honest(float(2**i), busy_s=1.0 + i) for i in range(4)]
        federation = lab.run(*behaviours, rounds=6, participants=2)
        before = 0.0
        clock_s = 0.0
        for result, started in zip(federation.rounds, lab.said(RoundStarted), strict=True):
            assert isinstance(started, RoundStarted)
            drawn = [int(name[-1]) - 1 for name in started.devices]
            assert len(drawn) == len(result.participants) == result.accepted == 2
            assert [d.status for d in result.devices].count("resting") == 2
            mean = before + sum(2.0**i for i in drawn) / 2
            np.testing.assert_allclose(lab.models[result.number - 1]["w"], mean)
            before = mean
            assert result.duration_s == 1.0 + max(drawn)
            clock_s += result.duration_s
            # The scripts say 2 J of computing, 2 J of sending, 1 J of idling.
            assert energy_of(result).value_j == pytest.approx(2 * (2 + 2 + 1) + 2 * 1)
            lasts = [sum(c.duration_s for c in d.predicted) for d in result.devices]
            assert lasts == pytest.approx([max(lasts)] * 4)
        for device in lab.devices:  # resting or not, everybody's clock follows
            assert [c.fleet_time_s for c in device.closed][-1] == clock_s
            assert len(device.closed) == 6

    def test_the_seed_draws_and_fewer_than_asked_for_are_enough(self, lab: Lab) -> None:
        federation = lab.run(honest(), honest(), rounds=2, participants=5)
        assert [r.accepted for r in federation.rounds] == [2, 2]

    def test_energy_is_the_sum_of_all_phases_idle_included(self, lab: Lab) -> None:
        federation = lab.run(honest(), honest(), rounds=1)
        energy = energy_of(federation.rounds[0]).value
        assert energy is not None
        assert energy.value_j == pytest.approx(2 * (2 + 2 + 1))
        assert energy.kind == "emulated"

    def test_a_lost_report_of_idling_is_missing_in_the_sum(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fimi.coordinator.rounds.SETTLE_TIMEOUT_S", 1.0)
        federation = lab.run(
            honest(busy_s=2.0), honest(busy_s=5.0), honest(busy_s=3.0), rounds=1, unsettled=(0, 1)
        )
        result = federation.rounds[0]
        energy = energy_of(result)
        assert energy.value is None
        assert energy.known_j == pytest.approx(3 * (2 + 2) + 1)
        # The second device was busy until the end of the round: it did not idle.
        (gap,) = energy.missing
        assert (gap.device, gap.round, gap.phase) == ("device-1", 1, "idle")
        assert gap.unknown_max is not None  # never measured: what its board can take at most
        assert gap.unknown_max.kind == "modelled"
        idle = result.devices[0].phases[-1]
        assert (idle.phase, idle.energy, idle.duration_s) == ("idle", None, 3.0)
        # What was predicted of idling stays, also of the device that was busy to the end.
        idles = [[c.phase == "idle" for c in d.predicted].count(True) for d in result.devices]
        assert idles == [1, 1, 1]
        stored = read_run(lab.path).rounds[0]
        assert energy_of(stored).missing == energy.missing

    @pytest.mark.parametrize(
        ("behaviour", "status", "reason"),
        [
            (sends(tampered(b=np.zeros(3, np.float32))), "refused", "shape"),
            (sends(tampered(b=np.zeros(2, np.float64))), "refused", "float64"),
            (sends(tampered(b=np.array([np.nan, 0], np.float32))), "refused", "not finite"),
            (sends(tampered(c=np.zeros(2, np.float32))), "refused", "unknown tensor"),
            (sends(b"\x80\x04}"), "refused", "not safetensors"),
            (sends(bytes(3_000_000)), "refused", "3000000"),
            (empty_handed, "refused", "without offering an update"),
            (boastful, "refused", "its profile and plan say 60 and 0"),
            (failing, "failed", "out of memory"),
            (honest(100.0, busy_s=11.0), "late", "deadline 10 s"),
        ],
    )
    def test_only_checked_updates_of_punctual_devices_count(
        self, lab: Lab, behaviour: Behaviour, status: str, reason: str
    ) -> None:
        federation = lab.run(honest(2.0), behaviour, rounds=1)
        assert statuses(federation) == {"device-1": "accepted", "device-2": status}
        assert reason in federation.rounds[0].devices[1].reason
        assert [e.device for e in lab.said(UpdateRejected)] == ["device-2"]  # type: ignore[attr-defined]
        np.testing.assert_allclose(federation.model["w"], 2.0)
        assert [d.closed[0].accepted for d in lab.devices] == [True, False]

    def test_a_late_device_makes_the_round_last_until_its_deadline(self, lab: Lab) -> None:
        federation = lab.run(honest(), honest(busy_s=30.0), rounds=1)
        assert federation.rounds[0].duration_s == 10.0

    def test_a_silent_device_is_not_waited_for_longer_than_agreed(self, lab: Lab) -> None:
        began_s = time.monotonic()
        federation = lab.run(honest(2.0), silent, rounds=1, wall_timeout_s=4.0)
        assert time.monotonic() - began_s < 15.0
        assert statuses(federation)["device-2"] == "late"
        missing = energy_of(federation.rounds[0]).missing
        assert {(gap.device, gap.round) for gap in missing} == {("device-2", 1)}
        assert federation.rounds[0].duration_s == 10.0
        np.testing.assert_allclose(federation.model["w"], 2.0)

    def test_an_update_that_can_never_be_had_is_not_waited_for(self, lab: Lab) -> None:
        """Its device would report when it was pulled, which never happens."""

        def offers(device: ScriptedDevice, start: RoundStart) -> None:
            offer = device.peer.transfers.serve(bytes(3_000_000), "safetensors")
            device.tell(
                UpdateReady(run=start.run, device=device.name, round=start.round, update=offer)
            )

        began_s = time.monotonic()
        federation = lab.run(honest(2.0), offers, rounds=1, wall_timeout_s=600.0)
        assert time.monotonic() - began_s < 60.0
        assert statuses(federation)["device-2"] == "refused"
        assert "3000000" in federation.rounds[0].devices[1].reason

    def test_the_last_offer_counts(self, lab: Lab) -> None:
        """As after a start in the middle of an upload: other chunks, or another update."""

        def restarted(device: ScriptedDevice, start: RoundStart) -> None:
            right = device.peer.transfers.serve(
                tensors.dump({name: value + np.float32(6.0) for name, value in MODEL.items()}),
                "safetensors",
            )
            earlier = msgspec.structs.replace(right, digest="7" * 64)
            for offer in (earlier, right):
                device.tell(
                    UpdateReady(run=start.run, device=device.name, round=start.round, update=offer)
                )
            device.peer.transfers.wait_served(right.digest, by=COORDINATOR, timeout_s=30.0)
            device.report(start)

        federation = lab.run(honest(2.0), restarted, rounds=1, wall_timeout_s=60.0)
        assert statuses(federation) == {"device-1": "accepted", "device-2": "accepted"}
        np.testing.assert_allclose(federation.model["w"], 4.0)

    def test_a_round_of_physical_devices_ends_at_its_deadline(self, lab: Lab) -> None:
        began_s = time.monotonic()
        federation = lab.run(
            honest(), silent, rounds=1, kinds="physical", deadline_s=1.0, wall_timeout_s=600.0
        )
        assert time.monotonic() - began_s < 20.0
        assert statuses(federation)["device-2"] == "late"

    def test_nobody_ever_delivers(self, lab: Lab) -> None:
        with pytest.raises(FederationError, match="not one update was accepted in 2 rounds"):
            lab.run(failing, failing, rounds=2)


class TestComingAndGoing:
    def test_a_device_that_leaves_is_missed_once_and_then_left_out(self, lab: Lab) -> None:
        def leave(device: ScriptedDevice, start: object) -> None:
            device.stop.set()
            device.peer.close()

        federation = lab.run(honest(), leave, rounds=2, wall_timeout_s=20.0)
        assert statuses(federation, 1)["device-2"] == "missing"
        assert statuses(federation, 2) == {"device-1": "accepted", "device-2": "absent"}
        assert [e.device for e in lab.said(DeviceLost)] == ["device-2"]  # type: ignore[attr-defined]

    def test_a_device_that_returns_gets_its_plan_again(self, lab: Lab) -> None:
        returned: list[ScriptedDevice] = []

        def leave(device: ScriptedDevice, start: object) -> None:
            device.stop.set()
            device.peer.close()

        def bring_back(event: Event) -> None:
            if isinstance(event, RoundFinished) and event.result.number == 1:
                device = ScriptedDevice(
                    lab.broker.address, lab.fleet, "device-2", honest(), index=1
                )
                device.__enter__()
                returned.append(device)
                time.sleep(0.3)  # its birth and profile are on their way

        lab.on_event = bring_back
        try:
            federation = lab.run(honest(), leave, rounds=8, wall_timeout_s=20.0)
        finally:
            for device in returned:
                device.__exit__()
        assert returned[0].plans, "the plan was not sent again"
        now_s = federation.rounds[0].duration_s
        assert returned[0].fleet_times_s[0] >= now_s  # its board is not billed for the past
        assert statuses(federation, 8) == {"device-1": "accepted", "device-2": "accepted"}

    def test_too_few_devices(self, lab: Lab) -> None:
        with pytest.raises(FederationError, match="1 of 3 devices came within 1 s: device-1"):
            lab.run(honest(), wanted=3, gather_timeout_s=1.0)
        told = [event for event in lab.events if isinstance(event, Gathering)]
        assert told[-1].here == 1
        assert told[-1].wanted == 3
        assert 0 <= told[-1].left_s < told[0].left_s <= 1.0
        # "device-1" is not how a fleet of three is named, so nobody knows who is missing.
        assert told[-1].missing == ()

    def test_everybody_leaves(self, lab: Lab) -> None:
        def leave(device: ScriptedDevice, start: object) -> None:
            device.stop.set()
            device.peer.close()

        with pytest.raises(FederationError, match=r"round 2: 0 devices .* 1 finished"):
            lab.run(leave, rounds=3, gather_timeout_s=1.0, wall_timeout_s=10.0)
        with sqlite3.connect(lab.path) as db:
            assert db.execute("SELECT count(*) FROM round").fetchone() == (1,)

    def test_fimi_without_a_generator_node(self, lab: Lab) -> None:
        with pytest.raises(FederationError, match=r"no generator node came .* --strategy tfl"):
            lab.run(honest(), honest(), strategy="fimi", gather_timeout_s=1.0)

    def test_a_generator_node_that_makes_nothing(self, lab: Lab) -> None:
        node = Peer(lab.broker.address, fleet=lab.fleet, peer="generator", role="generator")
        over = threading.Event()

        def refuse() -> None:
            while not over.is_set():
                received = node.receive(timeout_s=0.1)
                if received is not None and isinstance(request := received[1], SyntheticRequest):
                    node.send(
                        COORDINATOR,
                        SyntheticBatch(
                            run=request.run,
                            instance=request.instance,
                            device=request.device,
                            delivered=(0,) * len(request.counts),
                            offer=None,
                            seconds=0.0,
                            generator="lazy",
                            error="no more paper",
                        ),
                    )

        thread = threading.Thread(target=refuse)
        with node:
            thread.start()
            try:
                with pytest.raises(FederationError, match=r"made none of the .*: no more paper"):
                    lab.run(honest(), honest(), strategy="fimi")
            finally:
                over.set()
                thread.join()
        assert not any(isinstance(event, RoundStarted) for event in lab.events)

    def test_a_deadline_that_nobody_can_meet(self, lab: Lab) -> None:
        with pytest.raises(InfeasibleError, match="device-1"):
            lab.run(honest(), deadline_s=0.01)
        assert lab.devices[0].ended

    def test_cancelling_keeps_what_was_done(self, lab: Lab) -> None:
        def enough(event: Event) -> None:
            if isinstance(event, RoundStarted) and event.round == 3:
                lab.cancel.set()

        lab.on_event = enough
        federation = lab.run(honest(), honest(), rounds=50)
        assert federation.status == "interrupted"
        assert len(federation.rounds) == 2
        assert lab.devices[0].ended[0].reason == "stopped after 2 rounds"


class TestStore:
    def test_everything_is_written_down(self, lab: Lab) -> None:
        federation = lab.run(honest(), failing, rounds=2)
        with sqlite3.connect(lab.path) as db:
            assert db.execute("SELECT count(*) FROM profile").fetchone() == (2,)
            assert db.execute("SELECT count(*) FROM device_plan").fetchone() == (2,)
            body = msgspec.json.decode(db.execute("SELECT body FROM plan").fetchone()[0])
            assert federation.plan is not None
            assert body["objective"] == federation.plan.objective
            for name in ("board", "dynamic"):
                assert msgspec.convert(body[name], Certified) == getattr(federation.plan, name)
            assert db.execute("SELECT number, accuracy FROM round").fetchall() == [
                (r.number, r.evaluation.accuracy) for r in federation.rounds
            ]
            assert db.execute(
                "SELECT status, count(*) FROM device_round GROUP BY status"
            ).fetchall() == [("accepted", 2), ("failed", 2)]
            measured, predicted = db.execute(
                "SELECT sum(energy_j), sum(predicted_board_j) FROM phases"
            ).fetchone()
            assert db.execute(
                "SELECT throttled, cap_hz, frequency_hz, count(*) FROM observation"
            ).fetchone() == ('{"script":2}', 1e9, None, 4)
            assert db.execute(
                "SELECT DISTINCT size_bytes, duration_s FROM transfer"
            ).fetchall() == [(1000, 0.5)]
            applied = db.execute(
                "SELECT json_extract(body, '$.applied.frequency_control') FROM event"
                " WHERE event = 'plan-in-force'"
            ).fetchall()
            assert applied == [("emulated",)] * 2
        entries = [entry for r in federation.rounds for entry in r.devices]
        assert measured == pytest.approx(sum(e.energy.value_j for e in entries if e.energy))
        assert predicted == pytest.approx(
            sum(cost.board_j for e in entries for cost in e.predicted)
        )


class TestReplanning:
    def test_drift_gives_new_parameters_and_a_new_plan(self, lab: Lab) -> None:
        federation = lab.run(honest(), honest(), rounds=5)
        assert federation.status == "completed"
        refits = [event for event in lab.events if isinstance(event, Refitted)]
        assert refits[0].round == 3  # a window of three rounds
        assert min(refits[0].drift_percent.values()) > 10.0
        for device in lab.devices:
            assert len(device.plans) == 1 + len(refits)
            assert device.plans[0].synthetic_counts == device.plans[-1].synthetic_counts
            assert device.plans[0].predicted != device.plans[-1].predicted
        with sqlite3.connect(lab.path) as db:
            assert db.execute("SELECT DISTINCT round FROM refit").fetchall()[0] == (3,)
            assert db.execute("SELECT count(*) FROM plan").fetchone() == (1 + len(refits),)
            residuals = db.execute("SELECT count(*) FROM residual").fetchone()[0]
        assert residuals == 2 * 4 * 5  # devices × phases that were metered × rounds

    def test_the_last_round_is_not_followed_by_a_plan(self, lab: Lab) -> None:
        lab.run(honest(), rounds=3)
        assert not [event for event in lab.events if isinstance(event, Refitted)]

    def test_a_fleet_without_a_new_plan_keeps_the_old_one(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def none(*args: object, **kw: object) -> None:
            raise InfeasibleError("too slow", constraint="deadline", devices=())

        monkeypatch.setattr("fimi.coordinator.strategy_plans.replan", none)
        federation = lab.run(honest(), rounds=4)
        (refit,) = [event for event in lab.events if isinstance(event, Refitted)]
        assert federation.status == "completed"
        assert refit.energy_j is None
        assert "too slow" in refit.reason
        first, last = lab.devices[0].plans
        assert first.point == msgspec.structs.replace(last.point, rate_bps=first.point.rate_bps)
        assert last.point.rate_bps != first.point.rate_bps, "the link is known better"
        assert first.predicted != last.predicted


def exporting(kept: list[tuple[str, ...]], *, fails: str = "") -> Export:
    def make(parameters: Parameters) -> tuple[Exported, ...]:
        if fails:
            raise ValueError(fails)
        return tuple(
            Exported(
                model=variant.encode(),
                check=FileCheck(
                    variant=variant,  # type: ignore[arg-type]
                    digest="0" * 64,
                    size_bytes=4,
                    accuracy=float(parameters["w"].mean()) / 10,
                    samples=4,
                    agreement=1.0,
                    difference=0.0,
                    compared=4,
                ),
            )
            for variant in ("fp32", "int8")
        )

    return Export(
        make=make,
        keep=lambda files: kept.append(tuple(f.check.variant for f in files)),
        inference_share=0.25,
    )


class TestDeployment:
    def test_the_model_is_exported_and_tried_at_the_end(self, lab: Lab) -> None:
        kept: list[tuple[str, ...]] = []
        federation = lab.run(honest(), honest(), rounds=2, export=exporting(kept))
        assert kept == [("fp32", "int8")]
        (made,) = federation.deployments
        assert made.round == 2
        assert [file.accuracy for file in made.files] == pytest.approx([0.2, 0.2])
        assert sorted(made.trials) == ["device-1", "device-2"]
        assert [test.training_share for test in lab.devices[0].tests] == [0.25]
        with sqlite3.connect(lab.path) as db:
            rows = db.execute(
                "SELECT device, variant, accuracy, energy_j, kind, error FROM deployment"
            ).fetchall()
            assert db.execute("SELECT count(*) FROM model_file").fetchone() == (2,)
            phases = {row[0] for row in db.execute("SELECT DISTINCT phase FROM sample")}
        assert rows[0] == ("device-1", "fp32", 0.6, 1.0, "emulated", "")
        assert rows[1] == ("device-1", "int8", None, None, None, "GraphError: no")
        assert "inference" not in phases
        energy = energy_of(federation.rounds[-1]).value
        assert energy is not None
        assert energy.value_j == pytest.approx(2 * (2 + 2 + 1))

    def test_every_second_round_and_the_fleets_clock_goes_on(self, lab: Lab) -> None:
        settings = DeploymentSettings(every_rounds=2, devices=1)
        federation = lab.run(
            honest(busy_s=2.0), honest(), rounds=5, export=exporting([]), deployment=settings
        )
        assert [made.round for made in federation.deployments] == [2, 4, 5]
        assert [sorted(made.trials) for made in federation.deployments] == [["device-1"]] * 3
        assert [r.start_s for r in federation.rounds] == [0.0, 2.0, 7.0, 9.0, 14.0]
        assert not lab.devices[1].tests

    def test_a_model_that_cannot_be_exported_does_not_end_the_run(self, lab: Lab) -> None:
        federation = lab.run(honest(), rounds=1, export=exporting([], fails="no rule for stft"))
        assert federation.status == "completed"
        assert federation.deployments == ()
        (event,) = lab.said(NotDeployed)
        assert isinstance(event, NotDeployed)
        assert event.reason == federation.not_deployed == "no rule for stft"

    def test_who_does_not_answer_is_named(self, lab: Lab) -> None:
        federation = lab.run(
            honest(), honest(), rounds=1, export=exporting([]), mute=(1,), wall_timeout_s=1.0
        )
        (event,) = lab.said(Deployed)
        assert isinstance(event, Deployed)
        assert event.deployment.silent == ("device-2",)
        assert federation.deployments == (event.deployment,)

    def test_off_is_off(self, lab: Lab) -> None:
        kept: list[tuple[str, ...]] = []
        off = DeploymentSettings(export=False, every_rounds=1)
        federation = lab.run(honest(), rounds=2, export=exporting(kept), deployment=off)
        assert (federation.deployments, kept) == ((), [])

    def test_an_interrupted_run_leaves_files_that_nobody_tried(self, lab: Lab) -> None:
        def stop_after_one(event: Event) -> None:
            if isinstance(event, RoundFinished):
                lab.cancel.set()

        lab.on_event = stop_after_one
        kept: list[tuple[str, ...]] = []
        federation = lab.run(honest(), rounds=9, export=exporting(kept))
        assert federation.status == "interrupted"
        assert federation.reason == "stopped after 1 round"
        assert kept == [("fp32", "int8")]
        assert [made.trials for made in federation.deployments] == [{}]


def test_labels_before_and_after_filling_are_stored(lab: Lab) -> None:
    lab.run(honest(), honest(), rounds=1)
    with sqlite3.connect(lab.path) as db:
        rows = db.execute("SELECT device, stage, counts, emd FROM label_skew").fetchall()
    assert sorted(rows)[0] == ("device-1", "filled", "[30,20,10]", 0.0)
    assert len(rows) == 4
