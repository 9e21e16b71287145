"""What a watcher makes of events is what the record says of the same run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace
from stored_runs import device_round, round_result

from fimi.messaging.messages.peers import DeviceState, Telemetry
from fimi.messaging.presence import PeerView
from fimi.monitor.watcher import KEPT, Watcher
from fimi.record.events import (
    Awaiting,
    Credited,
    DeviceJoined,
    DeviceLost,
    DeviceRefused,
    DeviceReported,
    MeterDoubted,
    PlanInForce,
    Prepared,
    RoundFinished,
    RoundStarted,
    RunFinished,
    UpdateRejected,
)
from fimi.record.reader import read_run
from fimi.record.record import RunInfo
from fimi.record.summary import summarise


class Devices:
    """What a coordinator's connection knows."""

    def __init__(self) -> None:
        self.peers: dict[str, PeerView] = {}
        self.said: dict[str, Telemetry] = {}

    def telemetry(self) -> Mapping[str, Telemetry]:
        return self.said

    def broker_away_s(self) -> float | None:
        return None

    def show(self, device: str, status: str, heard_s: float) -> None:
        state = DeviceState(peer=device, role="device", status=status, boot_id="b")
        self.peers[device] = PeerView(state=state, last_heard_s=heard_s, since_s=heard_s)


def joined(device: str) -> DeviceJoined:
    return DeviceJoined(device=device, board="pi", kind="emulated", samples=7, backend="torch")


def watcher() -> Watcher:
    info = RunInfo(run="r", config={"rounds.count": 4})
    return Watcher(info, clock=lambda: 100.0, unix=lambda: 5000.0)


def test_joules_are_those_of_the_record(run_dir: Path) -> None:
    run = read_run(run_dir)
    summary = summarise(run)
    told, recalled = watcher(), watcher()
    for preparation in run.preparations:
        told(Prepared(preparation=preparation))
    for result in run.rounds:
        told(RoundFinished(result=result))
    recalled.recall(run)
    assert recalled.snapshot().run.round == len(run.rounds)
    for seen in (told.snapshot(), recalled.snapshot()):
        assert seen.run.energy.energy == summary.energy.known
        assert seen.run.energy.whole == (not summary.energy.missing)
        assert list(seen.rounds) == [str(each.number) for each in run.rounds]
        for point in summary.points:
            here = seen.rounds[str(point.number)]
            assert here.so_far.energy == point.energy_so_far.known
            assert here.energy.energy is not None and here.accuracy == point.accuracy
            assert here.elapsed_s == pytest.approx(point.elapsed_s)
            assert here.so_far.predicted_j == point.compared_so_far.predicted_j
        for own in summary.devices:
            shown, known = seen.devices[own.device].total.energy, own.energy.known
            assert shown is not None and known is not None and shown.kind == known.kind
            assert shown.value_j == known.value_j
            assert shown.uncertainty_j == pytest.approx(known.uncertainty_j)


def test_what_comes_late_is_counted(run_dir: Path) -> None:
    silent = replace(device_round("device-01"), phases=(), busy_s=None, status="missing")
    whole = device_round("device-01")
    seen = watcher()
    seen(RoundFinished(result=round_result(1, [silent], 0.5)))
    before = seen.snapshot().devices["device-01"].total
    assert before.energy is None and not before.whole and "device-01" in before.missing
    seen(Credited(round=1, device="device-01", entry=whole))
    exact = watcher()
    exact(RoundFinished(result=round_result(1, [whole], 0.5)))
    assert seen.snapshot().run.energy == exact.snapshot().run.energy
    assert seen.snapshot().devices["device-01"].total.whole


def test_states_and_problems_of_a_device() -> None:
    seen, devices = watcher(), Devices()
    seen.connect(devices, broker="b", exposed="")

    def now(device: str = "d"):
        return seen.snapshot().devices[device]

    seen(joined("d"))
    seen(joined("e"))
    devices.show("d", "online", 98.0)
    assert (now().state, now().online, now().seen_unix_s) == ("joined", True, 4998.0)
    seen(PlanInForce(device="d", notes=(), error=""))
    assert now().state == "ready"
    seen(PlanInForce(device="e", notes=(), error="no such point"))
    assert (now("e").state, now("e").problem) == ("failed", "no such point")
    seen(RoundStarted(round=1, devices=("d",)))
    assert (now().state, now("e").state) == ("training", "resting")
    devices.show("d", "offline", 99.0)
    assert (now().state, now().online) == ("gone", False) and now().problem
    devices.show("d", "online", 99.5)
    assert (now().state, now().problem) == ("training", "")
    seen(DeviceReported(round=1, device="d", error=""))
    assert now().state == "reported"
    seen(UpdateRejected(round=1, device="d", reason="it is not finite"))
    seen(MeterDoubted(round=0, device="d", doubts=("it shows nothing",)))
    assert now().problem == "it shows nothing"
    seen(RoundFinished(result=round_result(1, [device_round("d")], 0.5)))
    assert now().problem == "" and now().round == 1
    seen(DeviceRefused(device="x", reason="another contract"))
    assert now("x").state == "refused"
    seen(DeviceLost(device="e", reason="went offline"))  # nobody knows its presence
    assert (now("e").state, now("e").problem) == ("gone", "went offline")


def test_telemetry_is_of_the_moment() -> None:
    seen, devices = watcher(), Devices()
    seen.connect(devices)
    seen(joined("d"))
    devices.show("d", "online", 100.0)
    devices.said["d"] = Telemetry(
        device="d",
        boot_id="b",
        number=1,
        unix_s=1.0,
        stage="training",
        phase="compute",
        power_w=4.5,
        kind="measured",
        source="ina219",
        scope="board",
    )
    now = seen.snapshot().devices["d"]
    assert (now.power_w, now.power_kind, now.power_scope, now.phase) == (
        *(4.5, "measured", "board", "compute"),
    )
    devices.show("d", "offline", 100.0)
    assert seen.snapshot().devices["d"].power_w is None  # nobody knows what it draws now


def test_who_is_waited_for_is_forgotten_when_it_is_not_said_again() -> None:
    now_s = [0.0]
    seen = Watcher(RunInfo(run="r"), clock=lambda: now_s[0])
    seen(Awaiting(what="to follow their plans", devices=("d",)))
    assert "d" in seen.snapshot().run.waiting
    now_s[0] = 10.0
    assert seen.snapshot().run.waiting == ""


def test_words_are_bounded_and_the_end_is_told() -> None:
    seen = watcher()
    for number in range(KEPT + 50):
        seen(DeviceLost(device=f"d{number}", reason="x" * 5000))
    seen(RunFinished(status="failed", reason="no devices\x1b[2J"))
    snapshot = seen.snapshot()
    assert len(snapshot.said) == KEPT
    assert all(len(each.text) < 1100 for each in snapshot.said.values())
    last = list(snapshot.said.values())[-2]
    assert last.problem and last.device == f"d{KEPT + 49}"
    assert snapshot.run.state == "failed" and "\x1b" not in snapshot.run.reason
