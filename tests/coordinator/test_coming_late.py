"""Who takes part: quorum, refusals, newcomers, and what is reported after a round was closed."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab import TERMS, Lab, statuses
from msgspec.structs import replace
from scripted import MODEL, ScriptedDevice, failing, honest, silent

from fimi.coordinator.enrolment import Terms
from fimi.coordinator.federation import FederationError
from fimi.learning.training import tensors
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages.facts import Profile, UpdateReady
from fimi.messaging.messages.orders import Invitation, RoundStart
from fimi.record.events import (
    Credited,
    DeviceRefused,
    Event,
    Gathering,
    RoundFinished,
    RoundStarted,
)
from fimi.record.reader import read_run
from fimi.record.summary import summarise


@pytest.fixture
def lab(a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path) -> Lab:
    return Lab(a_broker, fleet_name, tmp_path)


@contextmanager
def joining_after(lab: Lab, number: int, *devices: ScriptedDevice) -> Iterator[None]:
    """These devices come when a round is over; the next one waits until they are heard."""
    with ExitStack() as stack:

        def bring(event: Event) -> None:
            if isinstance(event, RoundFinished) and event.result.number == number:
                for device in devices:
                    stack.enter_context(device)
                    device.online.wait(10.0)

        lab.on_event = bring
        yield


def after_invited(device: ScriptedDevice) -> None:
    """A behaviour of the others: a round takes until the newcomer was invited."""
    assert device.invited.wait(20.0)


def test_a_quorum_starts_and_who_comes_later_is_planned_for(lab: Lab) -> None:
    late = ScriptedDevice(lab.broker.address, lab.fleet, "device-3", honest(7.0), index=2)

    def waits(device: ScriptedDevice, start: RoundStart) -> None:
        if start.round == 2:
            after_invited(late)
        honest(1.0)(device, start)

    with joining_after(lab, 1, late):
        federation = lab.run(
            waits, waits, wanted=3, quorum=2, rounds=6, gather_timeout_s=1.0, wall_timeout_s=30.0
        )
    assert federation.status == "completed"
    assert set(statuses(federation, 1)) == {"device-1", "device-2"}
    last = statuses(federation, 6)
    assert last == {"device-1": "accepted", "device-2": "accepted", "device-3": "accepted"}
    assert late.plans[0].device_index == 2
    (told,) = [e for e in read_run(lab.path).enrolments if e.device == "device-3"]
    assert told.since_round is not None
    assert 2 <= told.since_round <= 6
    of_late = [statuses(federation, n).get("device-3") for n in range(1, 7)]
    assert of_late[0] is None  # nobody knew of it
    used = of_late.index("accepted")
    assert set(of_late[1:used]) <= {None, "absent"}
    assert set(of_late[used:]) == {"accepted"}
    assert used + 1 in (told.since_round, told.since_round + 1)  # it may still be taking its plan
    with sqlite3.connect(lab.path) as db:
        compared = db.execute("SELECT DISTINCT round FROM residual WHERE device = 'device-3'")
        assert min(n for (n,) in compared) == used + 2  # its first one was longer than a round


def test_less_than_a_quorum_is_an_error_that_names_who_refused_and_why(lab: Lab) -> None:
    def unwilling(devices: list[ScriptedDevice]) -> None:
        devices[1].refuses = "data.alpha is 0.1, in the run 0.5"

    with pytest.raises(FederationError, match=r"device-2 cannot take part: data\.alpha is 0\.1"):
        lab.run(honest(), honest(), gather_timeout_s=20.0, prepare=unwilling)
    assert [e.device for e in lab.said(DeviceRefused)] == ["device-2"]  # type: ignore[attr-defined]
    assert lab.devices[1].ended  # it was told as well


def test_a_device_that_refuses_does_not_hold_up_the_others(lab: Lab) -> None:
    def unwilling(devices: list[ScriptedDevice]) -> None:
        devices[1].refuses = "no"

    federation = lab.run(honest(2.0), honest(), quorum=1, rounds=1, prepare=unwilling)
    assert statuses(federation) == {"device-1": "accepted"}
    (told,) = [e for e in read_run(lab.path).enrolments if e.why_not]
    assert (told.device, told.why_not) == ("device-2", "no")


def test_the_same_data_file_twice_is_refused_the_second_time(lab: Lab) -> None:
    def same(devices: list[ScriptedDevice]) -> None:
        for device in devices:
            device.fingerprint = "f" * 64

    federation = lab.run(honest(), honest(), honest(), quorum=1, rounds=1, prepare=same)
    assert len(statuses(federation)) == 1
    refused = lab.said(DeviceRefused)
    assert len(refused) == 2
    assert all("the same images as device-" in e.reason for e in refused)  # type: ignore[attr-defined]


def test_a_device_beyond_the_number_is_told_why_it_is_not_used(lab: Lab) -> None:
    extra = ScriptedDevice(lab.broker.address, lab.fleet, "device-9", honest(), index=2)

    def waits(device: ScriptedDevice, start: RoundStart) -> None:
        if start.round == 2:
            assert extra.over.wait(20.0)
        honest()(device, start)

    shipped = replace(TERMS, way="shipped", share=lambda index: bytes([index]))
    with joining_after(lab, 1, extra):
        lab.run(waits, waits, rounds=3, terms=shipped, wall_timeout_s=30.0)
    assert "all shares are taken (device-1, device-2)" in extra.ended[0].reason
    assert not extra.invitations


def test_a_device_that_goes_before_it_has_joined_takes_no_share(lab: Lab) -> None:
    """The broker keeps the last state of a board that has lost its power, for a while."""
    ghost = Peer(lab.broker.address, fleet=lab.fleet, peer="a-ghost", role="device")

    def others(devices: list[ScriptedDevice]) -> None:
        devices[:] = [
            ScriptedDevice(lab.broker.address, lab.fleet, name, honest(), index=index)
            for index, name in enumerate(("pi-1", "pi-2"))
        ]
        ghost.connect()

    def leave(event: Event) -> None:
        if isinstance(event, DeviceRefused):
            ghost.close()

    lab.on_event = leave
    shipped = replace(TERMS, way="shipped", share=lambda index: bytes([index]))
    try:
        federation = lab.run(
            honest(), honest(), rounds=1, terms=shipped, gather_timeout_s=30.0, prepare=others
        )
    finally:
        ghost.close()
    assert statuses(federation) == {"pi-1": "accepted", "pi-2": "accepted"}
    assert [e.device for e in lab.said(DeviceRefused)] == ["pi-2"]  # type: ignore[attr-defined]
    enrolled = {e.device: (e.device_index, e.why_not) for e in read_run(lab.path).enrolments}
    assert enrolled == {
        "a-ghost": (None, "went offline before it had joined"),
        "pi-1": (1, ""),
        "pi-2": (0, ""),
    }


def test_a_device_beyond_the_number_with_images_of_its_own_is_used(lab: Lab) -> None:
    extra = ScriptedDevice(lab.broker.address, lab.fleet, "device-9", honest(), index=2)

    def waits(device: ScriptedDevice, start: RoundStart) -> None:
        if start.round == 2:
            after_invited(extra)
        honest()(device, start)

    with joining_after(lab, 1, extra):
        federation = lab.run(waits, waits, rounds=5, wall_timeout_s=30.0)
    assert statuses(federation, 5)["device-9"] == "accepted"


def test_every_device_gets_its_own_share(lab: Lab) -> None:
    shipped = Terms(contract=TERMS.contract, way="shipped", share=lambda index: bytes([65 + index]))
    got: dict[str, bytes] = {}

    def look(device: ScriptedDevice, start: RoundStart) -> None:
        got[device.name] = device.shares[0]
        honest()(device, start)

    lab.run(look, look, look, rounds=1, terms=shipped)
    assert got == {"device-1": b"A", "device-2": b"B", "device-3": b"C"}


def test_four_silent_devices_cost_the_other_four_nothing(lab: Lab) -> None:
    behaviours = [honest(2.0) if i % 2 else silent for i in range(8)]
    federation = lab.run(*behaviours, rounds=1, wall_timeout_s=4.0)
    assert list(statuses(federation).values()) == ["late", "accepted"] * 4
    np.testing.assert_allclose(federation.model["w"], 2.0)


def test_a_device_that_does_not_follow_its_plan_is_left_out_and_comes_back(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fimi.coordinator.device_plans.PATIENCE_S", 0.5)

    def busy(devices: list[ScriptedDevice]) -> None:
        devices[2].follows = False

    def ready(device: ScriptedDevice, start: RoundStart) -> None:
        if start.round == 2 and device.name == "device-1":
            lab.devices[2].follow_now()
            assert lab.devices[2].followed.wait(10.0)
        honest()(device, start)

    federation = lab.run(
        ready, ready, honest(), rounds=5, gather_timeout_s=60.0, wall_timeout_s=30.0, prepare=busy
    )
    assert statuses(federation, 1)["device-3"] == "absent"
    assert statuses(federation, 5)["device-3"] == "accepted"
    assert "had no plan in force" in federation.rounds[0].devices[2].reason
    # It has idled through the rounds without it: that belongs to them and not to the next one.
    stored = [result.devices[2] for result in read_run(lab.path).rounds]
    assert [entry.phases[-1].phase for entry in stored] == ["idle"] * 5
    assert len(stored[0].phases) == 1
    assert all(device.facts == [] for device in lab.devices)


def test_what_comes_after_a_round_was_closed_is_credited_to_it(lab: Lab) -> None:
    told = threading.Event()

    def slow(device: ScriptedDevice, start: RoundStart) -> None:
        """Reports its first round when the second has begun, and nothing else."""
        if start.round == 1:
            return
        if start.round == 2:
            first = RoundStart(
                run=start.run,
                device=start.device,
                round=1,
                model=start.model,
                training=start.training,
                seed=0,
                fleet_time_s=0.0,
            )
            device.report(first, busy_s=99.0)
            told.set()
        honest()(device, start)

    def waits(device: ScriptedDevice, start: RoundStart) -> None:
        if start.round == 2:
            assert told.wait(20.0)
        honest()(device, start)

    federation = lab.run(waits, slow, rounds=3, wall_timeout_s=3.0)
    assert statuses(federation, 1)["device-2"] == "late"  # as it was when the round was closed
    assert {(e.round, e.device) for e in lab.said(Credited)} == {(1, "device-2")}  # type: ignore[attr-defined]
    entry = read_run(lab.path).rounds[0].devices[1]
    assert entry.status == "late"
    assert entry.energy is not None
    assert entry.energy.value_j == pytest.approx(2 + 2 + 1)


class WithWork(ScriptedDevice):
    """Has done the first round for a coordinator that was killed, and tells of it as it joins."""

    def profile(self, invitation: Invitation) -> Profile:
        where: dict[str, Any] = {"run": invitation.run, "device": self.name, "round": 1}
        update = tensors.dump({name: t + np.float32(7.0) for name, t in MODEL.items()})
        offer = self.peer.transfers.serve(update, "safetensors")
        self.tell(UpdateReady(**where, update=offer))
        self.report(
            RoundStart(**where, model=offer, training=TrainingSettings(), seed=0, fleet_time_s=0.0)
        )
        return super().profile(invitation)


def test_what_comes_before_its_round_begins_again_is_not_lost(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device tells of its work once; the coordinator may still be gathering its fleet."""
    monkeypatch.setattr("lab.ScriptedDevice", WithWork)
    federation = lab.run(silent, silent, rounds=1, wall_timeout_s=30.0)
    assert statuses(federation) == {"device-1": "accepted", "device-2": "accepted"}
    assert federation.model["w"] == pytest.approx(np.full((2, 3), 7.0))
    (result,) = read_run(lab.path).rounds
    assert [len(entry.phases) for entry in result.devices] == [4, 4]  # of the round, and idling


class Idled(ScriptedDevice):
    """As it joins, it tells of a first round's idle time that a killed coordinator did not hear."""

    def profile(self, invitation: Invitation) -> Profile:
        self.settle(invitation.run, 1)
        return super().profile(invitation)


def test_what_comes_of_a_stored_round_while_the_fleet_gathers_is_credited(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fimi.coordinator.rounds.SETTLE_TIMEOUT_S", 0.5)

    def stop(event: Event) -> None:
        if isinstance(event, RoundFinished):
            lab.cancel.set()

    lab.on_event = stop
    assert lab.run(honest(), honest(), rounds=2, unsettled=(1,)).status == "interrupted"
    lab.on_event = lambda event: None
    lab.cancel.clear()
    monkeypatch.setattr("lab.ScriptedDevice", Idled)
    assert lab.run(honest(), honest(), rounds=2, resumes=True).status == "completed"
    assert {(e.round, e.device) for e in lab.said(Credited)} == {(1, "device-2")}  # type: ignore[attr-defined]
    stored = read_run(lab.path).rounds
    assert [[len(entry.phases) for entry in result.devices] for result in stored] == [[4, 4]] * 2
    assert [device.facts for device in lab.devices] == [[], []]  # all of it was confirmed


def test_a_run_that_goes_on_names_the_devices_that_it_waits_for(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fimi.coordinator.gathering._BACK_S", 1.0)

    def fleet(*names: str) -> Callable[[list[ScriptedDevice]], None]:
        def put(devices: list[ScriptedDevice]) -> None:
            devices[:] = [
                ScriptedDevice(lab.broker.address, lab.fleet, name, honest(), index=index)
                for index, name in enumerate(names)
            ]

        return put

    def stop(event: Event) -> None:
        if isinstance(event, RoundFinished):
            lab.cancel.set()

    lab.on_event = stop
    before = lab.run(honest(), honest(), rounds=2, prepare=fleet("pi-1", "pi-2"))
    assert before.status == "interrupted"
    lab.on_event = lambda event: None
    lab.cancel.clear()
    lab.events.clear()
    lab.run(honest(), honest(), rounds=2, quorum=1, prepare=fleet("pi-1"), resumes=True)
    said = {e.missing for e in lab.said(Gathering)}  # type: ignore[attr-defined]
    assert ("pi-2",) in said
    assert said <= {("pi-1", "pi-2"), ("pi-2",)}


def test_every_enrolled_device_has_a_row_in_every_round(lab: Lab) -> None:
    def leave(device: ScriptedDevice, start: RoundStart) -> None:
        device.stop.set()
        device.peer.close()

    federation = lab.run(honest(), leave, honest(), rounds=4, participants=1, wall_timeout_s=20.0)
    with sqlite3.connect(lab.path) as db:
        rows = db.execute("SELECT round, device FROM device_round").fetchall()
    everybody = {(n, f"device-{d}") for n in range(1, 5) for d in (1, 2, 3)}
    assert set(rows) == everybody
    assert len(rows) == len(everybody)
    for result in federation.rounds:
        for device in result.devices:
            known = device.energy is not None
            assert known or device.unknown_max is not None


def test_facts_are_confirmed_once_they_are_stored_and_not_before(lab: Lab) -> None:
    kept: list[set[str]] = []

    def look(event: Event) -> None:
        if isinstance(event, RoundStarted) and event.round == 2:
            kept.append({type(fact.body).__name__ for fact in lab.devices[0].facts})

    lab.on_event = look
    lab.run(honest(), rounds=2)
    device = lab.devices[0]
    assert {"RoundReport", "UpdateReady"} <= kept[0]  # not told yet: the news travels with orders
    assert {type(fact.body).__name__ for fact in device.facts} <= {
        "RoundSettled",
        "RoundReport",
        "UpdateReady",
    }


def test_a_device_that_was_refused_and_is_started_again_is_asked_once_more(lab: Lab) -> None:
    """Its data were put right meanwhile."""
    mended = ScriptedDevice(lab.broker.address, lab.fleet, "device-2", honest(3.0), index=1)

    def unwilling(devices: list[ScriptedDevice]) -> None:
        devices[1].refuses = "other data"

    def waits(device: ScriptedDevice, start: RoundStart) -> None:
        if start.round == 1:
            lab.devices[1].stop.set()
            lab.devices[1].peer.close()
        if start.round == 2:
            after_invited(mended)
        honest(1.0)(device, start)

    with joining_after(lab, 1, mended):
        federation = lab.run(
            waits, honest(), waits, rounds=6, wall_timeout_s=30.0, prepare=unwilling
        )
    assert mended.invitations[0].index == lab.devices[1].invitations[0].index
    assert statuses(federation, 6)["device-2"] == "accepted"
    assert [each.why_not for each in read_run(lab.path).enrolments] == ["", "", ""]


def test_the_run_goes_on_where_a_planned_device_comes_back_with_other_data(lab: Lab) -> None:
    """Then a newcomer is planned for: with those that are left."""
    back = ScriptedDevice(lab.broker.address, lab.fleet, "device-2", honest(), index=1)
    back.refuses = "the data folder has changed"
    late = ScriptedDevice(lab.broker.address, lab.fleet, "device-4", honest(), index=3)

    def waits(device: ScriptedDevice, start: RoundStart) -> None:
        if start.round == 1:
            lab.devices[1].stop.set()
            lab.devices[1].peer.close()
        if start.round == 2:
            assert back.over.wait(20.0)
            after_invited(late)
        honest()(device, start)

    with joining_after(lab, 1, back, late):
        federation = lab.run(waits, silent, waits, rounds=6, wall_timeout_s=30.0)
    assert federation.status == "completed"
    assert statuses(federation, 6)["device-4"] == "accepted"
    assert set(federation.device_plans) == {"device-1", "device-3", "device-4"}


def test_a_device_that_was_invited_and_never_joins_has_its_rows(lab: Lab) -> None:
    class Mute(ScriptedDevice):
        def _do(self, order: object) -> None:
            """Nothing: it hangs."""

    mute = Mute(lab.broker.address, lab.fleet, "device-2", silent, index=1)
    with mute:
        federation = lab.run(honest(), wanted=2, rounds=2, gather_timeout_s=1.0, quorum=1)
    assert [statuses(federation, n) for n in (1, 2)] == [
        {"device-1": "accepted", "device-2": "absent"}
    ] * 2
    run = read_run(lab.path)
    assert "was invited and had not joined" in run.rounds[0].devices[1].reason
    energy = summarise(run).energy
    assert energy.value is not None  # of those that have joined; the other has no part in it
    assert energy.missing == ()
    with sqlite3.connect(lab.path) as db:
        told = db.execute("SELECT unmetered, energy_j FROM rounds").fetchall()
    assert [(row[0], row[1] is not None) for row in told] == [(0, True)] * 2


def test_a_round_ends_when_everybody_has_reported_also_a_failure(lab: Lab) -> None:
    federation = lab.run(honest(busy_s=3.0), failing, rounds=1, deadline_s=1000.0)
    assert statuses(federation) == {"device-1": "accepted", "device-2": "failed"}
    assert federation.rounds[0].duration_s == 3.0


def test_who_has_told_all_of_a_round_lacks_nothing_of_it(lab: Lab) -> None:
    """The clock of a real device is not the fleet's: the round seems to last until its deadline."""
    federation = lab.run(honest(), silent, rounds=1, kinds="physical", deadline_s=4.0)
    told, missing = federation.rounds[0].devices
    assert told.unknown_max is None
    assert missing.unknown_max is not None


def test_members_get_the_shares_of_their_places_and_others_are_not_asked(lab: Lab) -> None:
    federation = lab.run(
        *(honest(value) for value in (1.0, 2.0, 3.0)),
        wanted=2,
        members=("device-3", "device-1"),
    )
    places = {device: plan.device_index for device, plan in federation.device_plans.items()}
    assert places == {"device-3": 0, "device-1": 1}
    assert not lab.devices[1].invited.is_set()
    assert {e.device for e in read_run(lab.path).enrolments} == {"device-1", "device-3"}


def test_a_member_that_is_missing_leaves_the_others_their_places(lab: Lab) -> None:
    federation = lab.run(
        honest(1.0),
        honest(2.0),
        wanted=3,
        members=("absent", "device-2", "device-1"),
        quorum=2,
        gather_timeout_s=1.0,
    )
    places = {device: plan.device_index for device, plan in federation.device_plans.items()}
    assert places == {"device-2": 1, "device-1": 2}
    (gathering, *_) = [e for e in lab.events if isinstance(e, Gathering)]
    assert gathering.wanted == 3
    assert "absent" in gathering.missing
