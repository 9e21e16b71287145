"""What a device tells of a round beside what its entry is made of is credited, not confirmed away.

A coordinator confirms everything that it has been told of a round once that is stored. A second
idle phase, a second report and a report that comes after the verdict are told while the round is
still open: they are joules of it as well.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab import Lab
from msgspec.structs import replace
from scripted import ScriptedDevice, honest, record

from fimi.coordinator.round_updates import UpdateIntake
from fimi.coordinator.update_store import UpdateStore
from fimi.energy.ledger import PhaseRecord
from fimi.learning.training import tensors
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.messages.facts import RoundSettled, UpdateReady
from fimi.messaging.messages.orders import RoundStart
from fimi.messaging.topics import COORDINATOR
from fimi.record.credit import credited
from fimi.record.reader import read_run
from fimi.record.results import DeviceRound


@pytest.fixture
def lab(a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path) -> Iterator[Lab]:
    yield Lab(a_broker, fleet_name, tmp_path)


def at(start_s: float, phase: str, joules: float) -> PhaseRecord:
    return replace(record(phase, joules), start_s=start_s)


def idled(device: ScriptedDevice, run: str, *phases: PhaseRecord) -> RoundSettled:
    return RoundSettled(run=run, device=device.name, round=1, phases=phases)


class SettlesFirst(ScriptedDevice):
    """Settles before the other one does: the coordinator still waits for that one."""

    def settle(self, run: str, number: int) -> None:
        if self.index == 0:
            self.tell(idled(self, run, at(7.0, "idle", 0.25)))
            self.peer.flush(10.0)
            self.other.settle_now(run)

    def settle_now(self, run: str) -> None:
        self.tell(idled(self, run, at(0.0, "idle", 1.0)))

    index = 1
    other: SettlesFirst


def paired(devices: list[Any]) -> None:
    devices[0].index, devices[0].other = 0, devices[1]


def energies(lab: Lab) -> dict[str, list[tuple[str, float]]]:
    (result,) = read_run(lab.path).rounds
    return {
        entry.device: sorted(
            (phase.phase, phase.energy.value_j) for phase in entry.phases if phase.energy
        )
        for entry in result.devices
    }


WORK = [("compute", 2.0), ("model-download", 0.0), ("upload", 2.0)]


def test_idle_time_before_and_after_its_work(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its agent was suspended: a coordinator closed the round without it, and was killed then.

    The one that goes on begins the same round again, in which the device works; it has settled it
    twice then, before its work and after it.
    """
    monkeypatch.setattr("lab.ScriptedDevice", SettlesFirst)

    def suspended(device: ScriptedDevice, start: RoundStart) -> None:
        device.tell(idled(device, start.run, at(-1.0, "idle", 0.5)))
        honest()(device, start)

    lab.run(suspended, honest(), rounds=1, prepare=paired)
    assert energies(lab) == {
        "device-1": sorted([*WORK, ("idle", 0.5), ("idle", 0.25)]),
        "device-2": sorted([*WORK, ("idle", 1.0)]),
    }
    assert [device.facts for device in lab.devices] == [[], []]  # and confirmed


def test_a_report_that_comes_while_the_others_settle(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hears that the round is closed, breaks off, and tells what its work has drawn."""

    class Late(SettlesFirst):
        def settle(self, run: str, number: int) -> None:
            if self.index == 0:
                self.report(self.given, error="broken off")
            super().settle(run, number)

    def slow(device: ScriptedDevice, start: RoundStart) -> None:
        device.given = start  # type: ignore[attr-defined]

    monkeypatch.setattr("lab.ScriptedDevice", Late)
    lab.run(slow, honest(), rounds=1, wall_timeout_s=1.0, prepare=paired)
    assert energies(lab)["device-1"] == sorted([*WORK, ("idle", 0.25)])
    assert [device.facts for device in lab.devices] == [[], []]


@pytest.mark.parametrize("looked_at", [False, True])
def test_a_device_that_does_not_know_that_its_update_is_here(
    lab: Lab, looked_at: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after it was pulled and before its report: it need not wait for the deadline."""
    served: list[bool] = []
    if looked_at:  # until it is offered again
        take, offered, again_here = UpdateStore.take, UpdateIntake.offered, threading.Event()
        offers: list[str] = []

        def slow(store: UpdateStore, *args: Any) -> None:
            assert again_here.wait(10.0)
            take(store, *args)

        def seen(intake: UpdateIntake, device: str, offer: Any) -> None:
            offered(intake, device, offer)
            offers.append(device)
            if len(offers) == 2:
                again_here.set()

        monkeypatch.setattr(UpdateStore, "take", slow)
        monkeypatch.setattr(UpdateIntake, "offered", seen)

    def again(device: ScriptedDevice, start: RoundStart) -> None:
        model = tensors.load(device.peer.transfers.fetch(start.model, 5.0))
        device.offer(start, tensors.dump({n: t + np.float32(1.0) for n, t in model.items()}))
        for value in (1.0, 2.0):  # the same one, and one that was trained anew
            data = tensors.dump({n: t + np.float32(value) for n, t in model.items()})
            device.peer.transfers.withdraw(digest := sha256(data).hexdigest())
            offer = device.peer.transfers.serve(data, "safetensors")
            where: dict[str, Any] = {"run": start.run, "device": device.name, "round": start.round}
            device.tell(UpdateReady(**where, update=offer))
            served.append(device.peer.transfers.wait_served(digest, by=COORDINATOR, timeout_s=10.0))
        device.report(start)

    federation = lab.run(again, rounds=1, wall_timeout_s=40.0)
    assert served == [True, True]
    assert federation.model["w"] == pytest.approx(np.full((2, 3), 1.0))  # the first one counts


class TestSecondReport:
    """Of a device that was started again within a round; both have drawn what they tell."""

    def entry(self) -> DeviceRound:
        return DeviceRound(
            device="d", status="accepted", busy_s=1.0, phases=(at(0.0, "compute", 2.0),)
        )

    def report(self, *phases: PhaseRecord) -> Any:
        from fimi.messaging.messages.facts import RoundReport

        return RoundReport(
            run="r",
            device="d",
            round=1,
            local_samples=1,
            synthetic_samples=0,
            training_loss=None,
            training_accuracy=None,
            frequency_hz=None,
            busy_s=9.0,
            phases=phases,
            error="broken off",
        )

    def test_its_phases_are_added_once_and_nothing_else_of_it(self) -> None:
        second = self.report(at(0.0, "compute", 2.0), at(5.0, "compute", 3.0))
        entry = credited(self.entry(), 10.0, report=second)
        assert [phase.start_s for phase in entry.phases] == [0.0, 5.0]
        assert (entry.status, entry.busy_s, entry.reason) == ("accepted", 1.0, "")
        assert credited(entry, 10.0, report=second) == entry

    def test_they_stand_before_an_idle_phase_that_is_still_to_come(self) -> None:
        stand_in = replace(at(8.0, "idle", 0.0), energy=None, sample_count=0)
        entry = replace(self.entry(), phases=(*self.entry().phases, stand_in))
        entry = credited(entry, 10.0, report=self.report(at(5.0, "compute", 3.0)))
        told = idled_of(at(8.5, "idle", 1.0))
        assert [p.start_s for p in credited(entry, 10.0, settled=told).phases] == [0.0, 5.0, 8.5]

    def test_none_of_a_refused_one(self) -> None:
        refused = replace(self.entry(), status="refused", busy_s=None)
        assert credited(refused, 10.0, report=self.report(at(5.0, "compute", 3.0))) == refused


def idled_of(*phases: PhaseRecord) -> RoundSettled:
    return RoundSettled(run="r", device="d", round=1, phases=phases)
