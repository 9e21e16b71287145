"""Updates that come late: dropped, or in the mean of a later round, with less weight and once."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import Lab, statuses
from scripted import MODEL, ScriptedDevice, honest

from fimi.coordinator.late_updates import PARTS, staleness_weight
from fimi.learning.training import tensors
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.messages.facts import Profile, UpdateReady
from fimi.messaging.messages.orders import Invitation, RoundStart
from fimi.record.checkpoint_parts import LARGE
from fimi.record.events import Credited, Event, LateAdded, RoundFinished, UpdateRejected
from fimi.record.reader import read_run
from fimi.record.results import LateUpdate, RoundResult

ADD = {"late_updates": "add", "late_exponent": 0.5}


@pytest.fixture
def lab(a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path) -> Lab:
    return Lab(a_broker, fleet_name, tmp_path)


def weighty(devices: list[ScriptedDevice]) -> None:
    """The second device has twice the samples of the first, 120 and 60."""
    devices[1].counts = (60, 40, 20)


def expected() -> list[float]:
    """The models of three rounds in which the second device is always one round late.

    The first sends the model plus 1 with 60 samples, the second the model plus 8 with 120.
    """
    w1 = 0.0 + 1.0
    late = 120.0 / np.sqrt(2.0)
    w2 = (60.0 * (w1 + 1.0) + late * (0.0 + 8.0)) / (60.0 + late)
    w3 = (60.0 * (w2 + 1.0) + late * (w1 + 8.0)) / (60.0 + late)
    return [w1, w2, w3]


def models(lab: Lab) -> list[float]:
    return [float(model["w"][0, 0]) for model in lab.models]


def keys(lab: Lab) -> set[str]:
    """What the store of a run has of late updates."""
    with sqlite3.connect(lab.path) as db:
        rows = db.execute("SELECT key FROM checkpoint WHERE key LIKE '%late:%'").fetchall()
    return {key for (key,) in rows}


def late_of(rounds: tuple[RoundResult, ...]) -> list[list[tuple[str, int]]]:
    return [[(each.device, each.of_round) for each in result.late] for result in rounds]


@given(st.integers(0, 1000), st.floats(0.0, 10.0))
def test_the_weight_falls_with_the_rounds(rounds: int, exponent: float) -> None:
    weight = staleness_weight(rounds, exponent)
    assert 0.0 < weight <= 1.0
    assert staleness_weight(0, exponent) == 1.0
    assert staleness_weight(rounds + 1, exponent) <= weight
    assert weight == pytest.approx(np.exp(-exponent * np.log1p(rounds)))


def test_they_are_dropped_by_default(lab: Lab) -> None:
    federation = lab.run(honest(1.0), honest(8.0, busy_s=15.0), rounds=3, prepare=weighty)
    assert models(lab) == pytest.approx([1.0, 2.0, 3.0])
    assert late_of(federation.rounds) == [[], [], []]


def test_they_enter_the_next_mean_where_they_are_added(lab: Lab) -> None:
    federation = lab.run(honest(1.0), honest(8.0, busy_s=15.0), rounds=3, prepare=weighty, **ADD)
    assert models(lab) == pytest.approx(expected(), rel=1e-6)
    late = 120.0 / np.sqrt(2.0)
    (second,) = federation.rounds[1].late
    assert second == LateUpdate(
        device="device-2",
        of_round=1,
        weight=pytest.approx(1.0 / np.sqrt(2.0)),
        share=pytest.approx(late / (60.0 + late)),
    )
    assert federation.rounds[1].devices[0].share == pytest.approx(60.0 / (60.0 + late))
    assert [(e.round, e.of_round) for e in lab.said(LateAdded)] == [(2, 1), (3, 2)]  # type: ignore[attr-defined]
    assert read_run(lab.path).rounds == federation.rounds
    assert [d.outcome for d in federation.rounds[0].devices] == ["ok", "late"]


def test_one_waits_until_the_clock_of_the_fleet_has_come_to_it(lab: Lab) -> None:
    """Its device was busy for 25 s: rounds of 10 s later that is the third one."""

    def late_once(device: ScriptedDevice, start: RoundStart) -> None:
        honest(8.0, busy_s=25.0 if start.round == 1 else 12.0)(device, start)

    federation = lab.run(honest(1.0), late_once, rounds=3, **ADD)
    assert late_of(federation.rounds) == [[], [], [("device-2", 1), ("device-2", 2)]]
    assert federation.rounds[2].late[0].weight == pytest.approx(3.0**-0.5)


def test_one_that_is_too_old_is_dropped_and_said(lab: Lab) -> None:
    federation = lab.run(honest(1.0), honest(8.0, busy_s=25.0), rounds=3, late_rounds=1, **ADD)
    assert late_of(federation.rounds) == [[]] * 3
    said = [e.reason for e in lab.events if getattr(e, "round", 0) == 1 and hasattr(e, "reason")]
    assert any("more than 1 rounds late" in reason for reason in said)


class OffersAgain(ScriptedDevice):
    """Was not told that its first update is stored: it offers it to the next coordinator, too."""

    def profile(self, invitation: Invitation) -> Profile:
        update = tensors.dump({name: t + np.float32(500.0) for name, t in MODEL.items()})
        offer = self.peer.transfers.serve(update, "safetensors")
        self.tell(UpdateReady(run=invitation.run, device=self.name, round=1, update=offer))
        return super().profile(invitation)


@pytest.mark.parametrize("kind", [ScriptedDevice, OffersAgain])
def test_a_coordinator_that_goes_on_adds_what_the_one_before_it_kept(
    kind: type[ScriptedDevice], lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, RoundFinished) and event.result.number == 1:
            lab.cancel.set()

    devices = honest(1.0), honest(8.0, busy_s=15.0)
    lab.on_event = stop
    assert lab.run(*devices, rounds=3, prepare=weighty, **ADD).status == "interrupted"
    assert keys(lab) == {"late:1:device-2", LARGE + "late:1:device-2:0"}
    lab.on_event = lambda event: None
    lab.cancel.clear()
    monkeypatch.setattr("lab.ScriptedDevice", kind)
    federation = lab.run(*devices, rounds=3, prepare=weighty, resumes=True, **ADD)
    assert models(lab) == pytest.approx(expected(), rel=1e-6)
    assert late_of(federation.rounds) == [[], [("device-2", 1)], [("device-2", 2)]]
    assert keys(lab) == set()


@pytest.mark.parametrize("least_bytes", [1, 1 << 20], ids=["in a file", "in memory"])
def test_a_real_device_finishes_after_its_round_was_closed(
    lab: Lab, least_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its update is pulled while the next round goes on, and stored before it is told so."""
    monkeypatch.setattr("fimi.messaging.transfers.fetching.LEAST_FILE_BYTES", least_bytes)
    second, credited = threading.Event(), threading.Event()
    open_: list[bool] = []

    def first(device: ScriptedDevice, start: RoundStart) -> None:
        if start.round == 2:
            second.set()
            assert credited.wait(30.0)
        honest(1.0)(device, start)

    def slow(device: ScriptedDevice, start: RoundStart) -> None:
        assert start.late_rounds == 5
        if start.round == 1:
            device.tell()  # it has heard what is wanted
            model = tensors.load(device.peer.transfers.fetch(start.model, 5.0))
            assert second.wait(30.0)
            device.offer(start, tensors.dump({n: t + np.float32(8.0) for n, t in model.items()}))
            device.report(start)
            open_.append(any(isinstance(f.body, UpdateReady) for f in device.facts))

    def listen(event: Event) -> None:
        if isinstance(event, Credited) and event.round == 1:
            credited.set()

    lab.on_event = listen
    federation = lab.run(
        first,
        slow,
        rounds=3,
        kinds="physical",
        deadline_s=600.0,
        round_quorum=1,
        prepare=weighty,
        **ADD,
    )
    assert open_ == [True], "it was told so before it was stored"
    assert statuses(federation, 1)["device-2"] == "late"
    assert late_of(federation.rounds) == [[], [("device-2", 1)], []]
    assert models(lab)[:2] == pytest.approx(expected()[:2], rel=1e-6)
    entry = read_run(lab.path).rounds[0].devices[1]
    assert (entry.status, entry.outcome) == ("late", "late")
    assert entry.energy is not None
    assert not (lab.path.parent / PARTS).exists()


@pytest.mark.parametrize(
    ("update", "samples", "why"),
    [(b"\x80\x04}", 120, "not safetensors"), (None, 10**9, "its profile and plan say 120")],
    ids=["no update", "a boast"],
)
def test_a_late_update_is_checked_as_every_other_one(
    lab: Lab, update: bytes | None, samples: int, why: str
) -> None:
    second, credited = threading.Event(), threading.Event()

    def first(device: ScriptedDevice, start: RoundStart) -> None:
        if start.round == 2:
            second.set()
            assert credited.wait(30.0)
        honest(1.0)(device, start)

    def slow(device: ScriptedDevice, start: RoundStart) -> None:
        device.tell()
        if start.round == 1:
            model = tensors.load(device.peer.transfers.fetch(start.model, 5.0))
            assert second.wait(30.0)
            device.offer(start, tensors.dump(model) if update is None else update)
            device.report(start, samples=samples)

    def listen(event: Event) -> None:
        if isinstance(event, Credited) and event.round == 1:
            credited.set()

    lab.on_event = listen
    more = {"kinds": "physical", "deadline_s": 600.0, "round_quorum": 1, **ADD}
    federation = lab.run(first, slow, rounds=3, prepare=weighty, **more)
    assert late_of(federation.rounds) == [[], [], []]
    assert models(lab) == pytest.approx([1.0, 2.0, 3.0])
    said = [e for e in lab.said(UpdateRejected) if e.round == 1]  # type: ignore[attr-defined]
    assert any(why in e.reason for e in said), said  # type: ignore[attr-defined]
    assert keys(lab) == set()


def test_one_that_its_device_no_longer_serves_is_not_waited_for(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its device was started again without a disk: what it tells would never be confirmed."""
    monkeypatch.setattr("fimi.coordinator.pulls.AGAIN_S", (0.05,))
    monkeypatch.setattr("fimi.coordinator.late_updates.GONE_MOST", 2)
    second, told = threading.Event(), threading.Event()
    confirmed: list[bool] = []

    def first(device: ScriptedDevice, start: RoundStart) -> None:
        if start.round == 2:
            second.set()
            assert told.wait(30.0)
            limit_s = time.monotonic() + 10.0
            while (late := bool(lab.devices[1].facts)) and time.monotonic() < limit_s:
                time.sleep(0.01)
            confirmed.append(not late)
        honest(1.0)(device, start)

    def forgetful(device: ScriptedDevice, start: RoundStart) -> None:
        device.tell()
        if start.round == 1:
            assert second.wait(30.0)
            offer = device.peer.transfers.serve(tensors.dump(MODEL), "safetensors")
            device.peer.transfers.withdraw(offer.digest)
            device.tell(UpdateReady(run=start.run, device=device.name, round=1, update=offer))
            device.report(start)
            told.set()

    more = {"kinds": "physical", "deadline_s": 600.0, "round_quorum": 1, "late_rounds": 20}
    federation = lab.run(first, forgetful, rounds=3, **more, **ADD)
    assert confirmed == [True], "what it told stays unconfirmed"
    assert late_of(federation.rounds) == [[], [], []]
    said = [e for e in lab.said(UpdateRejected) if e.round == 1 and e.device == "device-2"]  # type: ignore[attr-defined]
    assert "no longer serves it" in said[-1].reason  # type: ignore[attr-defined]


def test_where_there_is_no_room_for_one_it_is_tried_again_now_and_then(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not all the time; and what was wrong is said in the end."""
    second, came = threading.Event(), list[float]()

    def full(*_: object) -> bytes:
        came.append(time.monotonic())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fimi.coordinator.late_models.LateModels.plain", full)
    monkeypatch.setattr("fimi.coordinator.pulls.AGAIN_S", (3600.0,))

    def first(device: ScriptedDevice, start: RoundStart) -> None:
        if start.round == 2:
            second.set()
            limit_s = time.monotonic() + 10.0
            while not came and time.monotonic() < limit_s:
                time.sleep(0.01)
            time.sleep(0.6)  # in which the coordinator has looked a few times
        honest(1.0)(device, start)

    def slow(device: ScriptedDevice, start: RoundStart) -> None:
        device.tell()
        if start.round == 1:
            assert second.wait(30.0)
            device.offer(start, tensors.dump(MODEL))
            device.report(start)

    more = {"kinds": "physical", "deadline_s": 600.0, "round_quorum": 1, "late_rounds": 1}
    lab.run(first, slow, rounds=3, **more, **ADD)
    assert len(came) == 1
    said = [e.reason for e in lab.said(UpdateRejected) if e.round == 1]  # type: ignore[attr-defined]
    assert any("not here within 1 rounds: it came, and cannot be kept" in each for each in said)
