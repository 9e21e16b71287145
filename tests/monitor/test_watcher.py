"""What a watcher makes of events is what the record says of the same run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from stored_runs import device_round, round_result

from fimi.energy.joules import Energy
from fimi.messaging.messages.peers import DeviceState, Telemetry
from fimi.messaging.messages.synthesis import SamplePicture
from fimi.messaging.presence import PeerView
from fimi.monitor import tallies
from fimi.monitor.said import KEPT
from fimi.monitor.snapshot import RunNow
from fimi.monitor.watcher import Watcher
from fimi.record import sums
from fimi.record.events import (
    Awaiting,
    BatchDelivered,
    Credited,
    DeviceJoined,
    DeviceLost,
    DeviceRefused,
    DeviceReported,
    GenerationProgress,
    Intervened,
    MeterDoubted,
    PlanInForce,
    Prepared,
    RoundFinished,
    RoundStarted,
    RunFinished,
    SamplesDrawn,
    UpdateRejected,
)
from fimi.record.interventions import GoOn, PauseRun
from fimi.record.reader import generation, read_run
from fimi.record.record import DatasetInfo, RunData, RunInfo
from fimi.record.results import Preparation, ServerRound
from fimi.record.summary import summarise


class Devices:
    """What a coordinator's connection knows."""

    def __init__(self) -> None:
        self.peers: dict[str, PeerView] = {}
        self.said: dict[str, Telemetry] = {}

    def telemetry(self, reader: str = "") -> Mapping[str, Telemetry]:
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


def added_up(rounds: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int, RunNow]:
    """How many energies and gaps are looked at to add up a run with a board that is away."""
    looked = {"energies": 0, "gaps": 0}
    whole_total, whole_gaps = sums.total, tallies.gaps

    def total(parts: Iterable[Energy], **how: bool) -> Energy | None:
        few = [*parts]
        looked["energies"] += len(few)
        return whole_total(few, **how)

    def gaps(missing: Iterable[sums.Gap]) -> str:
        few = [*missing]
        looked["gaps"] += len(few)
        return whole_gaps(few)

    with monkeypatch.context() as patched:
        patched.setattr(sums, "total", total)
        patched.setattr(tallies, "gaps", gaps)
        most = Energy(value_j=9.0, kind="modelled", source="most", uncertainty_j=0.1)
        away = device_round(
            "device-9", status="absent", phases=(), busy_s=None, predicted=(), unknown_max=most
        )
        here = [device_round(f"device-{i}") for i in range(4)]
        seen = watcher()
        for number in range(1, rounds + 1):
            seen(RoundFinished(result=round_result(number, [*here, away], 0.5)))
        found = seen.snapshot()
    return looked["energies"], looked["gaps"], found.run


def test_adding_up_takes_as_long_as_the_run_is(monkeypatch: pytest.MonkeyPatch) -> None:
    few, few_gaps, _ = added_up(50, monkeypatch)
    many, many_gaps, run = added_up(400, monkeypatch)
    assert many <= 8.5 * few and many_gaps <= 8.5 * few_gaps
    assert few <= 50 * 4 * 4 * 4  # four phases of four boards: in all, in the round, in the board
    assert run.energy.missing == "rounds 1–400 of device-9 (absent)"


def test_a_round_names_a_few_of_many_meters_and_the_run_all_of_them() -> None:
    seen, names = watcher(), [f"plug:shelf-{i:03d}" for i in range(200)]
    devices = []
    for name in names:
        whole = device_round(name)
        of = [replace(p, energy=replace(p.energy, source=name)) for p in whole.phases if p.energy]
        devices.append(replace(whole, phases=tuple(of)))
    seen(RoundFinished(result=round_result(1, devices, 0.5)))
    found = seen.snapshot()
    energy, here = found.run.energy.energy, found.rounds["1"]
    assert energy is not None and energy.source == "+".join(names)
    for each in (here.energy.energy, here.energy.compared, here.so_far.energy):
        assert each == replace(energy, source="+".join([*names[:3], "197 more"]))
    assert len(msgspec.json.encode(here)) < 1500


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


@pytest.mark.parametrize("late", [1, 2, 9, 10])
def test_what_comes_late_costs_no_joule_in_any_round(late: int) -> None:
    """Of a round that is long over, and of one of the last, before and after somebody looked."""
    devices = ("device-01", "device-02")
    whole = [round_result(n, [device_round(d) for d in devices], 0.5) for n in range(1, 11)]
    silent = replace(device_round(devices[0]), phases=(), busy_s=None, status="missing")
    exact, seen = watcher(), watcher()
    for result in whole:
        exact(RoundFinished(result=result))
    for result in whole:
        first = replace(result, devices=(silent, result.devices[1]))
        seen(RoundFinished(result=first if result.number == late else result))
        if result.number in (3, 8, 10):
            seen.snapshot()
    assert not seen.snapshot().run.energy.whole
    for _ in range(2):
        seen(Credited(round=late, device=devices[0], entry=device_round(devices[0])))
        found, wanted = seen.snapshot(), exact.snapshot()
        assert found.run.energy == wanted.run.energy
        assert found.rounds == wanted.rounds
        for device in devices:
            total = found.devices[device].total
            assert total.whole and total.energy is not None
            assert total.energy.value_j == wanted.devices[device].total.energy.value_j
            assert found.devices[device].round_energy == wanted.devices[device].round_energy


def test_who_prepares_twice_has_the_joules_of_both(run_dir: Path) -> None:
    preparation = next(each for each in read_run(run_dir).preparations if each.phases)
    later = tuple(replace(phase, start_s=phase.start_s + 50.0) for phase in preparation.phases)

    def joules(*told: Preparation) -> float:
        seen = watcher()
        for each in told:
            seen(Prepared(preparation=each))
            seen.snapshot()
        seen(RoundFinished(result=round_result(1, [device_round(preparation.device)], 0.5)))
        energy = seen.snapshot().devices[preparation.device].total.energy
        assert energy is not None
        return energy.value_j

    once = joules(preparation)
    own = preparation.energy
    assert own is not None and own.value_j > 0
    nothing_more = replace(preparation, phases=(), predicted=(), transfers=())
    assert joules(preparation, preparation) == joules(preparation, nothing_more) == once
    again = replace(preparation, phases=later)
    assert joules(preparation, again) == pytest.approx(once + own.value_j)


def test_joules_beside_the_boards_are_known_whole_or_not_at_all() -> None:
    def batch(device: str, energy: Energy | None, drawn: int = 5) -> BatchDelivered:
        return BatchDelivered(
            device=device,
            requested=5,
            delivered=5,
            seconds=1.0,
            error="",
            energy=energy,
            drawn=drawn,
        )

    joules = Energy(value_j=10.0, kind="measured", source="rapl", scope="cpu", uncertainty_j=1.0)
    told = [batch("a", joules), batch("b", joules), batch("c", None, drawn=0)]
    seen = watcher()
    for event in told:
        seen(event)
    made = generation(told)
    assert made is not None and made.energy is not None
    assert seen.snapshot().generator.energy == made.energy

    resumed = watcher()
    resumed.recall(RunData(path=Path("r"), info=RunInfo(run="r"), generation=made))
    assert resumed.snapshot().generator.energy == made.energy
    resumed(batch("d", joules))
    assert resumed.snapshot().generator.energy.value_j == 30.0
    resumed(batch("e", None))
    assert resumed.snapshot().generator.energy is None

    server = ServerRound(images=5, seconds=1.0, energy=joules, loss=0.1)
    for number, (energy, wanted_j) in enumerate([(joules, 10.0), (None, None), (joules, None)], 1):
        result = round_result(number, [device_round("a")], 0.5)
        seen(RoundFinished(result=replace(result, server=replace(server, energy=energy))))
        found = seen.snapshot().run.server
        assert (found.value_j if found is not None else None) == wanted_j


def test_images_by_device_count_those_that_came_before_and_those_asked_for_later() -> None:
    def batch(device: str, delivered: int) -> BatchDelivered:
        return BatchDelivered(
            device=device, requested=9, delivered=delivered, seconds=1.0, error=""
        )

    def progress(done: int, asked: int, lacking: int) -> GenerationProgress:
        return GenerationProgress(
            devices_done=done, devices_asked=asked, lacking=lacking, images_per_s=1.0
        )

    first = [batch("a", 5), batch("b", 6), batch("coordinator", 7), batch("coordinator", 8)]
    made = generation(first)
    assert made is not None and made.by_receiver == {"a": 5, "b": 6, "coordinator": 15}
    seen = watcher()
    seen.recall(RunData(path=Path("r"), info=RunInfo(run="r"), generation=made))
    assert seen.snapshot().generator.delivered == made.by_receiver
    # Two more are asked for: another one for a, and the first one of c.
    seen(progress(0, 2, 9))
    seen(batch("a", 4))
    now = seen.snapshot().generator
    assert now.delivered == {"a": 9, "b": 6, "coordinator": 15}
    assert (now.batches_done, now.batches_asked, now.lacking) == (0, 2, 9)
    seen(progress(1, 2, 3))
    seen(batch("c", 3))
    now = seen.snapshot().generator
    assert sum(now.delivered.values()) == 33
    assert (now.batches_done, now.batches_asked, now.lacking) == (2, 2, 0)


def test_a_run_that_is_gone_on_with_is_where_it_was(run_dir: Path) -> None:
    run = read_run(run_dir)
    seen = watcher()
    seen.recall(run)
    for device in seen.snapshot().devices.values():
        assert (device.state, device.online, device.problem) == ("awaited", False, "")
    now = seen.snapshot().run
    assert now.round == run.rounds[-1].number
    assert run.plan is not None
    assert now.plan_objective == run.plan.objective and now.plan_round_j is not None
    assert now.plan.startswith("plan: ") and "(modelled" in now.plan


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
    seen(Awaiting(what="to follow their plans", devices=("d",)))
    seen(RoundStarted(round=1, devices=("d",)))
    assert seen.snapshot().run.waiting == "", "nobody is waited for in a round that goes on"


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


def test_images_of_classes_that_there_are_and_no_more_than_a_page_takes() -> None:
    def drawn(seen: Watcher, *classes: int) -> dict[str, str]:
        for number in classes:
            png = b"\x89PNG\r\n\x1a\n" + bytes([number])
            seen(SamplesDrawn(pictures=(SamplePicture(class_index=number, png=png),)))
        return seen.snapshot().generator.pictures

    two = RunInfo(run="r", dataset=DatasetInfo(name="digits", class_names=("a", "b")))
    assert list(drawn(Watcher(two), 0, 5, 1)) == ["a", "b"]
    assert len(drawn(watcher(), *range(150))) == 100


def test_pauses_do_not_count_as_training() -> None:
    now_s = [0.0]
    info = RunInfo(run="r", config={"rounds.count": 4})
    seen = Watcher(info, clock=lambda: now_s[0], unix=lambda: 5000.0)
    seen(RoundStarted(round=1, devices=()))
    now_s[0] = 10.0
    seen(RoundFinished(result=round_result(1, [device_round("d")], 0.5)))
    assert seen.snapshot().run.left_s == 30.0
    asked = {"round": 1, "by": "a test", "asked_at": 1.0, "done": True, "words": ""}
    seen(Intervened(number=1, request=PauseRun(), **asked))
    now_s[0] = 110.0
    assert seen.snapshot().run.left_s is None  # nobody knows when it goes on
    seen(Intervened(number=2, request=GoOn(), paused_s=100.0, **asked))
    assert seen.snapshot().run.left_s == 30.0
