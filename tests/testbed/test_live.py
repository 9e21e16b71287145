"""Lines and picture hear the same events; what they show is read back from what they wrote."""

from __future__ import annotations

import io
import logging
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec.structs import replace
from stored_runs import device_plan, profile

from fimi.energy.joules import Energy
from fimi.energy.ledger import PhaseRecord
from fimi.learning.training.trainer import Evaluation
from fimi.monitor.sentences import describe
from fimi.monitor.terminal.picture import draw
from fimi.monitor.terminal.state import ViewState
from fimi.monitor.watcher import Watcher
from fimi.record.events import (
    Awaiting,
    AwaitingGenerator,
    BatchDelivered,
    BrokerAway,
    Credited,
    DeviceJoined,
    DeviceLost,
    DeviceRefused,
    DeviceReported,
    Event,
    Gathering,
    Intervened,
    InterventionAsked,
    LateAdded,
    Paused,
    PlanInForce,
    Planning,
    Prepared,
    Resumed,
    RoundFinished,
    RoundStarted,
    RunFinished,
    SearchProgress,
    StillInForce,
    UpdateRejected,
)
from fimi.record.interventions import ExcludeDevice
from fimi.record.record import RunData, RunInfo
from fimi.record.results import DeviceRound, Preparation, RoundResult
from fimi.testbed.live import PlainView


def joined(device: str, board: str = "raspberry-pi-4") -> DeviceJoined:
    return DeviceJoined(
        device=device, board=board, kind="emulated", samples=70, backend="torch 2.6"
    )


def a_round(number: int, value_j: float | None) -> RoundFinished:
    energy = None
    if value_j is not None:
        energy = Energy(value_j=value_j, kind="emulated", source="meter", uncertainty_j=0.1)
    phase = PhaseRecord(
        phase="compute",
        start_s=0.0,
        duration_s=1.0,
        energy=energy,
        sample_count=2,
        largest_gap_s=0.1,
    )
    return RoundFinished(
        result=RoundResult(
            number=number,
            start_s=0.0,
            duration_s=1.0,
            evaluation=Evaluation(accuracy=0.25 * number, loss=1.0, class_accuracy=(), samples=9),
            devices=(
                DeviceRound(
                    device="device-01",
                    status="accepted",
                    backend="onnxruntime 1.31",
                    phases=(phase,),
                ),
            ),
        )
    )


def prepared(value_j: float | None) -> Prepared:
    (device,) = a_round(1, value_j).result.devices
    return Prepared(
        preparation=Preparation(device=device.device, phases=device.phases, predicted=())
    )


def gathering(*missing: str, here: int = 1, wanted: int = 2) -> Gathering:
    return Gathering(here=here, wanted=wanted, missing=missing, left_s=84.2)


STORY: list[Event] = [
    joined("device-01"),
    joined("device-02"),
    SearchProgress(step=3),
    BatchDelivered(device="device-01", requested=9, delivered=8, seconds=1.0, error="too late"),
    PlanInForce(device="device-01", notes=("governor is powersave",), error=""),
    RoundStarted(round=1, devices=("device-01", "device-02")),
    DeviceReported(round=1, device="device-01", error=""),
    DeviceLost(device="device-02", reason="went offline"),
    UpdateRejected(round=1, device="device-02", reason="device-02 went offline"),
    a_round(1, 10.0),
    a_round(2, 20.0),
]


class TestPlain:
    def tell(self, *events: Event) -> list[str]:
        stream = io.StringIO()
        view = PlainView(stream, rounds=4)
        with view:
            for event in events:
                view(event)
        return [line.split("] ", 1)[1] for line in stream.getvalue().splitlines()]

    def test_one_line_per_event_worth_it(self) -> None:
        late = LateAdded(round=2, device="device-02", of_round=1, weight=2**-0.5)
        end = RunFinished(status="completed", reason="2 rounds")
        assert self.tell(*STORY, late, end) == [
            "device-01 joined: raspberry-pi-4 (emulated), 70 samples, torch 2.6",
            "device-02 joined: raspberry-pi-4 (emulated), 70 samples, torch 2.6",
            "device-01: 8 of 9 synthetic samples (too late)",
            "device-01: governor is powersave",
            "device-02: went offline",
            "device-02, round 1: went offline",
            "round 1/4: accuracy 25.0%, 1 of 1 updates, 10.0 J (emulated, board) so far; "
            "trained: 1 with onnxruntime 1.31",
            "round 2/4: accuracy 50.0%, 1 of 1 updates, 30.0 J (emulated, board) so far",
            "device-02: its update of round 1 enters round 2, with 0.71 of its weight",
            "run completed: 2 rounds",
        ]

    def test_what_is_planned_for_is_said_before_it_takes_its_time(self) -> None:
        plain = Planning(devices=3, target_accuracy=0.0, budgets=False)
        aimed = Planning(devices=3, target_accuracy=0.955, budgets=True)
        assert self.tell(plain, aimed, SearchProgress(step=1)) == [
            "planning for 3 devices",
            "planning for 3 devices, fewest joules to 95.5% accuracy within budgets",
        ]

    def test_long_planning_is_said_every_half_minute(self) -> None:
        seconds = 0.0
        stream = io.StringIO()
        view = PlainView(stream, rounds=4, clock=lambda: seconds)
        view(SearchProgress(step=1))  # nobody said that this takes long
        view(Planning(devices=3, target_accuracy=0.9, budgets=True))
        for second in range(100):
            seconds = float(second)
            view(SearchProgress(step=second))
        said = [line.split("] ", 1)[1] for line in stream.getvalue().splitlines()][1:]
        assert said == [f"still planning, step {step}" for step in (31, 62, 93)]

    def test_a_late_report_is_said_once(self) -> None:
        """Work and idle time are credited one after the other."""
        late = [Credited(round=n, device="device-01") for n in (3, 3, 4)]
        assert self.tell(*late) == [
            f"device-01: its report of round {n} came late and is credited" for n in (3, 4)
        ]

    def test_quiet_it_says_problems_only(self) -> None:
        stream = io.StringIO()
        view = PlainView(stream, rounds=4, quiet=True)
        for event in STORY:
            view(event)
        assert [line.split("] ", 1)[1] for line in stream.getvalue().splitlines()] == [
            "device-01: 8 of 9 synthetic samples (too late)",
            "device-02: went offline",
            "device-02, round 1: went offline",
        ]

    def test_what_it_says_is_logged_too(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "fimi")
        said = self.tell(*STORY)
        assert [record.getMessage() for record in caplog.records] == said
        assert all(record.shown for record in caplog.records)  # type: ignore[attr-defined]
        problems = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert "device-02: went offline" in problems

    @pytest.mark.parametrize(
        ("event", "words"),
        [
            (AwaitingGenerator(left_s=9.0, gone=True), "generator gone, waiting for it, 9 s left"),
            (BrokerAway(seconds=42.0), "broker away for 42 s; the run waits for it"),
            (
                Awaiting(what="to follow their plans", devices=("a", "b")),
                "waiting for a, b to follow their plans",
            ),
            (
                Paused(run="r", round=3, by="the dashboard", seconds=7.0),
                "paused after round 3 for 7 s, as the dashboard has asked; 'fimi control r "
                "resume' goes on",
            ),
        ],
    )
    def test_who_is_waited_for_is_said_at_most_every_half_minute(
        self, event: Event, words: str
    ) -> None:
        seconds = 0.0
        stream = io.StringIO()
        view = PlainView(stream, rounds=4, clock=lambda: seconds)
        for second in range(1000):
            seconds = float(second)
            view(event)
        told = [line.split(" s] ") for line in stream.getvalue().splitlines()]
        assert {said for _, said in told} == {words}
        at = [float(text.strip("[ ")) for text, _ in told]
        assert all(later - earlier > 30 for earlier, later in pairwise(at))
        # Of the same devices less often: in a long round of real boards all are waited for.
        assert len(at) == 4 if isinstance(event, Awaiting | Paused) else len(at) > 30

    def test_what_people_ask_is_said_with_what_became_of_it(self) -> None:
        asked = InterventionAsked(
            number=1, request=ExcludeDevice(device="a"), by="anna", asked_at=1.0
        )
        done = Intervened(
            round=2,
            number=1,
            request=asked.request,
            by="anna",
            asked_at=1.0,
            done=True,
            words="a rests",
        )
        assert self.tell(
            asked,
            done,
            replace(done, done=False, words="it is needed"),
            StillInForce(excluded=("a", "b"), deadline_s=4.0, paused=True),
        ) == [
            "anna asks: exclude a",
            "as anna has asked: a rests",
            "refused to anna: exclude a: it is needed",
            "as was asked before: a, b excluded, deadline 4 s, the run pauses",
        ]

    def test_other_devices_are_waited_for_in_another_line(self) -> None:
        seconds = 0.0
        stream = io.StringIO()
        view = PlainView(stream, rounds=4, clock=lambda: seconds)
        for second in range(120):
            seconds = float(second)
            view(Awaiting(what="in round 3", devices=("a", "b") if second < 60 else ("b",)))
        said = [line.split("] ", 1)[1] for line in stream.getvalue().splitlines()]
        assert said == ["waiting for a, b in round 3", "waiting for b in round 3"]

    def test_who_is_waited_for_only_shortly_is_not_said(self) -> None:
        seconds = 0.0
        stream = io.StringIO()
        view = PlainView(stream, rounds=4, clock=lambda: seconds)
        for number in range(1, 20):  # a round each, in which the last devices take two seconds
            for second in (0, 1, 2):
                seconds = 3.0 * number + second
                view(Awaiting(what=f"in round {number}", devices=("a",)))
        assert stream.getvalue() == ""

    def test_a_refused_device_is_a_problem(self) -> None:
        stream = io.StringIO()
        view = PlainView(stream, rounds=4, quiet=True)
        view(DeviceRefused(device="a", reason="it brings the images of b"))
        view(Credited(round=2, device="a"))
        view(Resumed(after_round=2))
        assert [line.split("] ", 1)[1] for line in stream.getvalue().splitlines()] == [
            "a does not take part: it brings the images of b"
        ]
        assert self.tell(Resumed(after_round=2), Resumed(after_round=0)) == [
            "going on with the run after round 2",
            "going on with the run before its first round",
        ]

    def test_what_was_before_is_counted(self) -> None:
        run = RunData(
            path=Path("run.sqlite"),
            info=RunInfo(run="a"),
            preparations=(prepared(1.0).preparation,),
            rounds=(a_round(1, 10.0).result, a_round(2, 20.0).result),
        )
        stream = io.StringIO()
        view = PlainView(stream, rounds=4)
        view.recall(run)
        view(a_round(3, 5.0))
        (line,) = stream.getvalue().splitlines()
        assert "36.0 J (emulated, board) so far" in line

    def test_who_is_missing_is_said_now_and_then(self) -> None:
        seconds = iter(range(1000))
        stream = io.StringIO()
        view = PlainView(stream, rounds=4, clock=lambda: float(next(seconds)))
        for _ in range(45):
            view(gathering("device-02"))
        view(gathering(here=2))
        told = [line.split(" s] ") for line in stream.getvalue().splitlines()]
        assert {words for _, words in told} == {"1 of 2 devices here, 84 s left: device-02 missing"}
        first, second = (float(at.strip("[ ")) for at, _ in told)
        assert second - first > 30

    def test_what_was_not_metered_is_not_zero(self) -> None:
        assert "energy not metered so far" in self.tell(a_round(1, None))[0]

    def test_receiving_the_batch_is_part_of_the_energy(self) -> None:
        (first,) = self.tell(prepared(5.0), a_round(1, 10.0))
        assert "15.0 J (emulated, board) so far" in first
        (first,) = self.tell(prepared(None), a_round(1, 10.0))
        assert "unknown; 10.0 J (emulated, board) known so far" in first

    def test_a_device_cannot_write_on_the_terminal(self) -> None:
        (line,) = self.tell(joined("device-01", "evil\x1b[2J\nround 9/9: accuracy 100%"))
        assert "\x1b" not in line
        assert line.startswith("device-01 joined: evil")


class TestDisplay:
    """What the picture of a run that goes on shows of the same events."""

    def show(self, *events: Event, width: int = 140, height: int = 50) -> list[str]:
        """The picture after some events."""
        watcher = Watcher(RunInfo(run="r", config={"rounds.count": 4}), "FIMI")
        for event in events:
            watcher(event)
        lines = draw(watcher.snapshot(), ViewState(), width, height).lines
        return [line.text for line in lines]

    def test_where_the_run_is(self) -> None:
        picture = "\n".join(self.show(*STORY))
        assert "round 1" in picture
        assert "2/4 rounds" in picture
        assert "accuracy 50.0 %" in picture
        assert "30.0 J (emulated, board) so far" in picture
        assert "s left" in picture
        assert "trained: 1 with onnxruntime 1.31" in picture

    def test_what_is_planned_for(self) -> None:
        planning = Planning(devices=2, target_accuracy=0.9, budgets=False)
        picture = "\n".join(self.show(*STORY[:2], planning))
        assert "planning for 2 devices, fewest joules to 90% accuracy" in picture
        picture = "\n".join(self.show(*STORY[:2], planning, SearchProgress(step=7)))
        assert "planning: step 7" in picture

    def test_receiving_the_batch_is_part_of_the_energy(self) -> None:
        picture = "\n".join(self.show(prepared(5.0), *STORY))
        assert "35.0 J (emulated, board)" in picture

    def test_what_is_not_known_is_not_zero(self) -> None:
        picture = "\n".join(self.show(prepared(None), *STORY))
        assert "unknown; 30.0 J (emulated, board) known so far" in picture
        assert "energy not metered so far" in "\n".join(self.show(a_round(1, None)))

    def test_synthetic_samples_are_those_of_the_last_round(self) -> None:
        result = a_round(1, 1.0).result
        devices = tuple(replace(d, synthetic_samples=943) for d in result.devices)
        lines = self.show(*STORY[:2], RoundFinished(result=replace(result, devices=devices)))
        assert sum("943" in line.split() for line in lines) == 1

    def test_a_line_per_device(self) -> None:
        lines = self.show(*STORY, width=200)
        (first,) = [line.split() for line in lines if line.startswith("  device-01")]
        (second,) = [line.split() for line in lines if line.startswith(">!device-02")]
        assert first[:3] == ["device-01", "raspberry-pi-4", "reported"]
        assert "20.0" in first and "70" in first
        assert second[1:3] == ["raspberry-pi-4", "gone"]
        heading = next(line for line in lines if line.startswith("  device "))
        assert "board (emulated)" in heading and "J round" in heading
        assert any("J emulated, board" in line for line in lines)
        assert any("device-02: went offline" in line for line in lines)

    def test_a_run_that_goes_on_begins_with_what_is_stored(self) -> None:
        """Devices that are still there do not join again."""
        stored = RunData(
            path=Path(),
            info=RunInfo(run="r"),
            profiles={"device-01": profile("device-01")},
            device_plans={"device-01": device_plan("device-01", 0)},
        )
        watcher = Watcher(RunInfo(run="r", config={"rounds.count": 4}))
        watcher.recall(stored)
        watcher(RoundStarted(round=3, devices=("device-01",)))
        lines = [line.text for line in draw(watcher.snapshot(), ViewState(), 200, 50).lines]
        (line,) = [each for each in lines if each.startswith("> device-01")]
        board, own = profile("device-01").hardware.board, sum(profile("device-01").label_counts)
        synthetic = sum(device_plan("device-01", 0).synthetic_counts)
        assert board in line
        assert {"training", str(own), str(synthetic)} <= set(line.split())

    def test_where_kinds_differ_every_row_has_its_own(self) -> None:
        other = DeviceJoined(
            device="device-02", board="mini-pc", kind="physical", samples=7, backend="onnx"
        )
        lines = self.show(joined("device-01", "pi"), other)
        assert any("pi (emulated)" in line for line in lines)
        assert any("mini-pc (physical)" in line for line in lines)

    def test_it_fits_a_terminal_of_80_by_24(self) -> None:
        fleet = [joined(f"device-{i:03d}") for i in range(1, 101)]
        lines = self.show(*fleet, *STORY, width=80, height=24)
        assert len(lines) == 24
        assert max(map(len, lines)) <= 80
        assert any("30.0 J (emulated, board)" in line for line in lines)

    def test_who_is_missing(self) -> None:
        lines = self.show(joined("device-01"), gathering("device-02"))
        assert lines[1] == "1 of 2 devices here, 84 s left: device-02 missing"

    def test_a_device_cannot_write_on_the_terminal(self) -> None:
        lines = self.show(joined("device-01", "evil\x1b[2J [red]board"))
        assert not any("\x1b" in line for line in lines)
        assert any("[red]board" in line for line in lines)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (gathering("device-02"), "1 of 2 devices here, 84 s left: device-02 missing"),
        (gathering(wanted=4), "1 of 4 devices here, 84 s left: 3 missing"),
        (
            gathering(*(f"d{n}" for n in range(9)), wanted=10),
            "1 of 10 devices here, 84 s left: d0, d1, d2, d3, d4 and 4 more missing",
        ),
        (gathering(here=2), "2 of 2 devices here"),
        (
            AwaitingGenerator(left_s=59.6),
            "waiting for a generator node, 60 s left; start one: fimi generator run",
        ),
    ],
)
def test_waiting_in_one_line(event: Event, said: str) -> None:
    assert describe(event) == said


def test_a_refit_is_one_line_in_either_case() -> None:
    from fimi.record.events import Refitted

    drifts = {"device-1": 16.0, "device-2": 31.4}
    new = describe(Refitted(round=3, drift_percent=drifts, energy_j=45.0, reason=""))
    assert "worst device-2, 31 %" in new
    assert "new plan with 45.0 J" in new
    old = describe(
        Refitted(round=3, drift_percent=drifts, energy_j=None, reason="the plan in force stays: x")
    )
    assert old.endswith("the plan in force stays: x")
    budget = Refitted(round=4, drift_percent={}, energy_j=45.0, reason="", short=("the fleet", "a"))
    assert describe(budget).startswith(
        "after round 4 what is left of the budget would not have lasted for the fleet, a: boards"
    )
    kept = Refitted(round=4, drift_percent={}, energy_j=45.0, reason="", short=("a",), fitted=False)
    assert "boards kept as they were, new plan" in describe(kept)
