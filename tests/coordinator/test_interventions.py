"""What people ask of a run that goes on: done between two rounds, whole or not at all."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from forwarding import forwarding
from lab import Lab, statuses
from scripted import ScriptedDevice, honest

from fimi.coordinator import checkpoint
from fimi.coordinator.controls import Controls
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.monitor.watcher import Watcher
from fimi.record.events import (
    BrokerAway,
    DeviceJoined,
    DeviceLost,
    Event,
    Intervened,
    InterventionAsked,
    Paused,
    Planned,
    RoundFinished,
    RoundStarted,
)
from fimi.record.interventions import (
    ExcludeDevice,
    GoOn,
    IncludeDevice,
    PauseRun,
    PlanAgain,
    Request,
    SetDeadline,
    StopRun,
)
from fimi.record.reader import read_run

ANNA = "command line (anna)"
ALL = [f"device-{number}" for number in (1, 2, 3, 4)]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fimi.coordinator.interventions._TOLD_S", 0.1)


@pytest.fixture
def lab(a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path) -> Lab:
    return Lab(a_broker, fleet_name, tmp_path)


def ask(lab: Lab, *requests: Request) -> None:
    """Ask from a thread that is not the coordinator's, as far as it matters: any may."""
    assert lab.controls is not None
    for request in requests:
        assert lab.controls.ask(request, ANNA).state == "accepted"


def during(lab: Lab, **what: Callable[[], object]) -> None:
    """Do something once at some moments: ``round_2`` begins, ``paused`` so often was said."""
    pauses = 0

    def listen(event: Event) -> None:
        nonlocal pauses
        name = ""
        if isinstance(event, RoundStarted):
            name = f"round_{event.round}"
        elif isinstance(event, Paused):
            pauses += 1
            name = f"paused_{pauses}"
        if (do := what.pop(name, None)) is not None:
            do()

    lab.on_event = listen


def served(lab: Lab) -> list[tuple[int, bool, str]]:
    return [(e.round, e.done, e.words) for e in lab.events if isinstance(e, Intervened)]


def test_a_pause_changes_nothing_but_the_time_it_takes(
    lab: Lab, a_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    calm = Lab(a_broker, f"{lab.fleet}-calm", tmp_path / "other")
    undisturbed = calm.run(honest(1.5), honest(0.25), rounds=3)
    during(lab, round_1=lambda: ask(lab, PauseRun()), paused_2=lambda: ask(lab, GoOn()))
    federation = lab.run(honest(1.5), honest(0.25), rounds=3)
    assert (federation.status, federation.reason) == ("completed", undisturbed.reason)
    for name, values in undisturbed.model.items():
        assert np.array_equal(federation.model[name], values)
    assert federation.rounds == undisturbed.rounds
    kinds = [type(each) for each in lab.events]
    assert kinds.index(Paused) > kinds.index(RoundFinished)
    assert kinds.index(Paused) < len(kinds) - kinds[::-1].index(RoundStarted)
    pause, going_on = (e for e in lab.events if isinstance(e, Intervened))
    assert (pause.round, pause.by, pause.words) == (1, ANNA, "pauses after round 1")
    assert going_on.paused_s is not None
    assert going_on.paused_s >= 0.1  # it was said twice, so far apart
    assert read_run(lab.path).info.stages_wall_s["paused"] >= 0.1
    asked = [e for e in lab.events if isinstance(e, InterventionAsked)]
    assert [type(e.request) for e in asked] == [PauseRun, GoOn]


def test_devices_come_and_go_while_a_run_pauses(lab: Lab) -> None:
    late = ScriptedDevice(lab.broker.address, lab.fleet, "device-3", honest(7.0), index=2)

    with ExitStack() as stack:

        def change() -> None:
            lab.devices[0].stop.set()
            lab.devices[0].thread.join()
            lab.devices[0].peer.close()
            stack.enter_context(late)

        def listen_on(event: Event) -> None:
            moments(event)
            both = {type(e) for e in lab.events if isinstance(e, DeviceLost | DeviceJoined)}
            there = any(isinstance(e, DeviceJoined) and e.device == "device-3" for e in lab.events)
            if isinstance(event, Paused) and there and DeviceLost in both:
                ask(lab, GoOn())

        during(lab, round_1=lambda: ask(lab, PauseRun()), paused_1=change)
        moments = lab.on_event
        lab.on_event = listen_on
        federation = lab.run(honest(), honest(), rounds=4, wanted=3, quorum=2, gather_timeout_s=0.5)
    assert federation.status == "completed"
    assert statuses(federation, 1) == {"device-1": "accepted", "device-2": "accepted"}
    assert statuses(federation, 4) == {
        "device-1": "absent",
        "device-2": "accepted",
        "device-3": "accepted",
    }


def test_a_run_that_was_stopped_in_a_pause_pauses_when_it_goes_on(lab: Lab) -> None:
    during(lab, round_1=lambda: ask(lab, PauseRun()), paused_1=lab.cancel.set)
    before = lab.run(honest(), honest(), rounds=3)
    assert (before.status, before.reason) == ("interrupted", "stopped after 1 round")
    lab.cancel.clear()
    lab.events.clear()
    lab.controls = Controls()
    during(lab, paused_1=lambda: ask(lab, GoOn()))
    federation = lab.run(honest(), honest(), rounds=3, resumes=True)
    assert federation.status == "completed"
    kinds = [type(each) for each in lab.events]
    assert kinds.index(Paused) < kinds.index(RoundStarted)
    assert float(federation.model["w"].mean()) == 3.0


def test_a_run_that_nobody_can_reach_does_not_stay_paused(lab: Lab) -> None:
    during(lab, round_1=lambda: ask(lab, PauseRun()), paused_1=lab.cancel.set)
    lab.run(honest(), rounds=2)
    lab.cancel.clear()
    lab.on_event = lambda event: None
    lab.controls = None
    assert lab.run(honest(), rounds=2, resumes=True).status == "completed"
    last = [e for e in lab.events if isinstance(e, Intervened)][-1]
    assert last.by == "the coordinator, as nobody can reach it"


def test_the_broker_may_go_away_while_a_run_pauses(lab: Lab) -> None:
    with forwarding(lab.broker.address) as way:

        class Reached:
            address = way.address

        direct, lab.broker = lab.broker, Reached()  # type: ignore[assignment]

        def go_on(event: Event) -> None:
            moments(event)
            if isinstance(event, BrokerAway):
                way.open()
            away = any(isinstance(e, BrokerAway) for e in lab.events)
            if isinstance(event, Paused) and away and not asked:
                asked.append(event)
                ask(lab, GoOn())

        asked: list[Event] = []
        during(lab, round_1=lambda: ask(lab, PauseRun()), paused_1=way.shut)
        moments = lab.on_event
        lab.on_event = go_on
        addresses = {0: direct.address, 1: direct.address}
        federation = lab.run(honest(), honest(), rounds=2, addresses=addresses)
    assert federation.status == "completed"
    assert statuses(federation, 2) == {"device-1": "accepted", "device-2": "accepted"}


@pytest.mark.parametrize("pauses", [False, True], ids=["in a round", "while it pauses"])
def test_a_stop_ends_the_run_as_ctrl_c_does_and_says_who_asked(lab: Lab, pauses: bool) -> None:
    if pauses:
        during(lab, round_1=lambda: ask(lab, PauseRun()), paused_1=lambda: ask(lab, StopRun()))
    else:
        during(lab, round_1=lambda: ask(lab, StopRun(), PauseRun()))
    stopped = lab.run(honest(), honest(), rounds=3)
    assert stopped.status == "interrupted"
    assert stopped.reason == f"stopped after 1 round, as {ANNA} has asked"
    info = read_run(lab.path).info
    assert (info.status, info.reason) == ("interrupted", stopped.reason)
    assert len(stopped.rounds) == 1
    if not pauses:  # what was asked after it is refused, and was not done
        number, done, said = served(lab)[-1]
        assert (number, done) == (1, False)
        assert said == f"the run is over: interrupted, {stopped.reason}"
    assert lab.controls is not None
    assert lab.controls.ask(GoOn(), ANNA).state == "refused"
    lab.controls = None
    lab.on_event = lambda event: None
    federation = lab.run(honest(), honest(), rounds=3, resumes=True)
    assert federation.status == "completed"
    assert float(federation.model["w"].mean()) == 3.0


def test_what_is_asked_before_the_first_round_is_served_before_it(lab: Lab) -> None:
    ask(lab, PauseRun(), ExcludeDevice(device="device-1"))
    during(lab, paused_1=lambda: ask(lab, GoOn()))
    federation = lab.run(honest(), honest(), rounds=2)
    assert statuses(federation, 1) == {"device-1": "resting", "device-2": "accepted"}
    assert served(lab)[0] == (0, True, "pauses before round 1")
    assert [(number, done) for number, done, _ in served(lab)] == [(0, True)] * 3


def test_an_excluded_device_rests_and_is_not_planned_for_until_it_is_taken_in_again(
    lab: Lab,
) -> None:
    during(
        lab,
        round_1=lambda: ask(lab, ExcludeDevice(device="device-1"), PlanAgain()),
        round_2=lambda: ask(lab, IncludeDevice(device="device-1")),
    )
    federation = lab.run(honest(1.0), honest(3.0), honest(3.0), honest(3.0), rounds=3)
    (entry,) = (d for d in federation.rounds[1].devices if d.device == "device-1")
    assert [phase.phase for phase in entry.phases] == ["idle"]  # its joules still count
    assert entry.energy is not None
    means = [10 * each.evaluation.accuracy for each in federation.rounds]
    assert means == pytest.approx([2.5, 5.5, 8.0])  # all, the others, all
    assert [[*bands] for bands in plans(lab)] == [ALL, ALL[1:], ALL]
    assert statuses(federation, 2) == dict.fromkeys(ALL, "accepted") | {"device-1": "resting"}
    assert statuses(federation, 3) == dict.fromkeys(ALL, "accepted")
    assert sum(plans(lab)[-1].values()) <= 80e3 * (1 + 1e-9)  # all fit into the band again
    assert [done for _, done, _ in served(lab)] == [True, True, True]
    assert [d.plans[-1].point.bandwidth_hz for d in lab.devices] == pytest.approx(
        [*plans(lab)[-1].values()]
    )


def plans(lab: Lab) -> list[dict[str, float]]:
    """Bandwidth of each device, Hz, in each stored plan."""
    with closing(sqlite3.connect(lab.path)) as db:
        bodies = [json.loads(body) for (body,) in db.execute("SELECT body FROM plan ORDER BY id")]
    return [
        {share["device"]: share["point"]["bandwidth_hz"] for share in body["devices"]}
        for body in bodies
    ]


def test_what_cannot_be_done_is_refused_with_its_reason(lab: Lab) -> None:
    during(
        lab,
        round_1=lambda: ask(
            lab,
            GoOn(),
            IncludeDevice(device="device-1"),
            ExcludeDevice(device="device-1"),
            ExcludeDevice(device="device-1"),
            ExcludeDevice(device="device-2"),
            PauseRun(),
            PauseRun(),
            GoOn(),
        ),
    )
    federation = lab.run(honest(), honest(), rounds=2)
    assert [(done, said) for _, done, said in served(lab)] == [
        (False, "the run does not pause"),
        (False, "device-1 is not excluded"),
        (True, "device-1 rests from round 2 on"),
        (False, "device-1 is excluded already"),
        (
            False,
            "without device-2 0 devices would be left for a round, rounds.min_devices asks for 1",
        ),
        (True, "pauses after round 1"),
        (False, f"the run pauses already, since {ANNA} has asked for it"),
        (True, "goes on with round 2 after a pause of 0 s"),
    ]
    assert statuses(federation, 2) == {"device-1": "resting", "device-2": "accepted"}


def test_another_deadline_is_planned_for_and_judged_by(lab: Lab) -> None:
    """Devices that are busy for 5 s are late from then on; a plan within it ends sooner."""
    during(lab, round_1=lambda: ask(lab, SetDeadline(deadline_s=4.0)))
    federation = lab.run(honest(busy_s=5.0), honest(busy_s=1.0), rounds=2)
    assert statuses(federation, 1) == {"device-1": "accepted", "device-2": "accepted"}
    assert statuses(federation, 2) == {"device-1": "late", "device-2": "accepted"}
    assert federation.rounds[1].duration_s == 4.0
    assert federation.plan is not None
    assert federation.plan.round_s <= 4.0
    ((number, done, said),) = served(lab)
    assert (number, done) == (1, True)
    assert said.startswith("the deadline is 4 s instead of 10 s; new plan of 2 devices: ")
    assert "(modelled)" in said
    starts = [device.plans[-1].point.frequency_hz for device in lab.devices]
    assert all(hz > 0 for hz in starts)
    seen = Watcher(read_run(lab.path).info)
    for event in lab.events:
        seen(event)
    now = seen.snapshot()  # shows the plan in force, and nothing of the one before it
    assert (now.run.deadline_s, now.run.plan_round_j) == (4.0, federation.plan.energy_j)
    assert "new plan" not in now.run.plan and now.run.plan.startswith("plan: ")
    planned = {share.device: share.point.frequency_hz for share in federation.plan.devices}
    assert {name: device.set_hz for name, device in now.devices.items()} == planned


def test_a_deadline_that_no_plan_meets_is_refused_with_one_that_does(lab: Lab) -> None:
    """The advice is tried by asking for it, and a little less is refused again."""
    advised: list[float] = []

    def advice() -> None:
        said = served(lab)[-1][2]
        advised.append(float(said.split("a deadline of ")[1].split(" s or more")[0]))
        ask(lab, *(SetDeadline(deadline_s=share * advised[0]) for share in (0.98, 1.0)), GoOn())

    during(lab, round_1=lambda: ask(lab, PauseRun(), SetDeadline(deadline_s=0.01)), paused_1=advice)
    federation = lab.run(honest(), honest(), rounds=2)
    assert federation.status == "completed"
    _, refused, again, done, _ = served(lab)
    assert not refused[1]
    assert "there is no such plan, and the one in force stays: deadline: " in refused[2]
    assert not again[1]
    assert done[1]
    assert 0.01 < advised[0] < 10.0
    assert len(plans(lab)) == 2


def test_exclusions_and_deadline_outlive_the_coordinator(lab: Lab) -> None:
    def both() -> None:
        ask(lab, ExcludeDevice(device="device-1"), SetDeadline(deadline_s=4.0), StopRun())

    during(lab, round_1=both)
    lab.run(honest(), honest(busy_s=5.0), honest(), rounds=3)
    lab.on_event = lambda event: None
    lab.controls = Controls()
    federation = lab.run(honest(), honest(busy_s=5.0), honest(), rounds=3, resumes=True)
    assert federation.status == "completed"
    assert statuses(federation, 3) == {
        "device-1": "resting",
        "device-2": "late",
        "device-3": "accepted",
    }
    state = lab.controls.state
    assert (state.excluded, state.deadline_s) == ({"device-1": ANNA}, 4.0)


def changed(events: list[Intervened]) -> tuple[set[str], float | None, bool, int]:
    """Excluded, deadline, whether it pauses, and plans made: told from the log alone."""
    excluded: set[str] = set()
    deadline_s, pauses, planned = None, False, 0
    for event in events:
        if not event.done:
            continue
        planned += event.planned
        match event.request:
            case ExcludeDevice(device=device):
                excluded.add(device)
            case IncludeDevice(device=device):
                excluded.remove(device)
            case SetDeadline(deadline_s=seconds):
                deadline_s = seconds
            case PauseRun() | GoOn():
                pauses = isinstance(event.request, PauseRun)
    return excluded, deadline_s, pauses, planned


def test_whenever_it_is_killed_all_of_a_request_is_stored_or_nothing(lab: Lab) -> None:
    """At every event the store is read as a process would find it that comes after a kill."""
    found: list[tuple[type[Event], list[Intervened]]] = []

    def look(event: Event) -> None:
        moments(event)
        with closing(sqlite3.connect(f"file:{lab.path}?mode=ro", uri=True)) as db:
            parts = dict(db.execute("SELECT key, body FROM checkpoint"))
            query = "SELECT body FROM event WHERE event = 'intervened' ORDER BY id"
            told = [msgspec.json.decode(body, type=Intervened) for (body,) in db.execute(query)]
            (count,) = db.execute("SELECT count(*) FROM plan").fetchone()
        part = checkpoint.read(parts).controls
        excluded, deadline_s, pauses, planned = changed(told)
        assert part.excluded.keys() == excluded
        assert (part.deadline_s, part.paused is not None) == (deadline_s, pauses)
        assert count == planned + any(isinstance(e, Planned) for e in lab.events)
        found.append((type(event), told))

    during(
        lab,
        round_1=lambda: ask(
            lab,
            PauseRun(),
            ExcludeDevice(device="device-1"),
            SetDeadline(deadline_s=0.01),
            SetDeadline(deadline_s=4.0),
            PlanAgain(),
        ),
        paused_1=lambda: ask(lab, IncludeDevice(device="device-1"), GoOn()),
    )
    moments = lab.on_event
    lab.on_event = look
    assert lab.run(honest(), honest(), rounds=2).status == "completed"
    asked = [len(told) for kind, told in found if kind is InterventionAsked]
    assert asked[0] == 0  # asked, and not served: a kill here leaves nothing of it
    assert len(found[-1][1]) == 7
    assert [event.done for event in found[-1][1]] == [True, True, False, True, True, True, True]


def test_real_boards_idle_while_a_run_pauses_and_that_was_foreseen(lab: Lab) -> None:
    during(lab, round_1=lambda: ask(lab, PauseRun()), paused_2=lambda: ask(lab, GoOn()))
    federation = lab.run(honest(busy_s=0.01), honest(busy_s=0.01), rounds=3, kinds="physical")
    idle_s = [
        sum(c.duration_s for c in each.devices[0].predicted if c.phase == "idle")
        for each in federation.rounds
    ]
    pause = [e for e in lab.events if isinstance(e, Intervened)][-1]
    assert pause.paused_s is not None
    assert idle_s[1] - idle_s[0] == pytest.approx(pause.paused_s, abs=0.2)
    assert idle_s[2] == pytest.approx(idle_s[0])
    assert {r.round for r in read_run(lab.path).residuals} == {1, 3}
