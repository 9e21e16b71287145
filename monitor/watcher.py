"""Events and telemetry become snapshots.

:class:`Watcher` is a listener of the coordinator: it takes every event on the coordinator's thread,
which costs next to nothing, and adds up what they mean only when somebody asks for a snapshot, on
that one's thread.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec.structs import replace

from fimi.energy.joules import Energy, total
from fimi.messaging.messages.peers import Telemetry
from fimi.messaging.presence import PeerView
from fimi.monitor.devices import Devices
from fimi.monitor.said import LONGEST, LatestSaid
from fimi.monitor.sentences import (
    describe,
    describe_backends,
    describe_plan,
    describe_round,
    is_problem,
)
from fimi.monitor.snapshot import (
    OVER,
    GeneratorNow,
    RunNow,
    RunState,
    Snapshot,
)
from fimi.monitor.tallies import Tallies
from fimi.record.clean import clean
from fimi.record.credit import prepared_again
from fimi.record.events import (
    Awaiting,
    AwaitingGenerator,
    BatchDelivered,
    BrokerAway,
    Credited,
    Event,
    Gathering,
    GenerationProgress,
    Intervened,
    InterventionAsked,
    Paused,
    PlanChanged,
    Planned,
    Planning,
    Prepared,
    Resumed,
    RoundFinished,
    RoundStarted,
    RunFinished,
    SamplesDrawn,
    SearchProgress,
    StillInForce,
)
from fimi.record.interventions import GoOn, PauseRun, SetDeadline
from fimi.record.record import RunData, RunInfo
from fimi.record.results import Preparation, RoundResult

AGAIN_MOST = 4
"""Rounds, the last ones, of which something that comes late costs no adding up of all others."""
_STILL_S = 2.5
"""How long it is shown who is waited for after it was last said, s."""
_PNG = b"\x89PNG\r\n\x1a\n"
_PICTURES = 100
"""Most images that a snapshot holds; a page gets all of them when it is opened."""
_SILENT = (
    Awaiting,
    AwaitingGenerator,
    BrokerAway,
    Paused,
    SearchProgress,
    Gathering,
    GenerationProgress,
)
"""Events that come again and again, and are shown as what the run does."""


class Contact(Protocol):
    """What is asked of the coordinator's :class:`fimi.messaging.client.Peer`."""

    @property
    def peers(self) -> Mapping[str, PeerView]:
        """All peers, by id."""

    def telemetry(self, reader: str = "") -> Mapping[str, Telemetry]:
        """The latest telemetry of every device that sends any; who reads it again looks."""

    def broker_away_s(self) -> float | None:
        """For how long the broker has been away, s."""


class Watcher:
    """Watches one run.

    Args:
        info: how the run was set up.
        title: what was started, in words.
        clock: monotonic time, s.
        unix: UNIX time, s.
    """

    def __init__(
        self,
        info: RunInfo,
        title: str = "",
        *,
        clock: Callable[[], float] = time.monotonic,
        unix: Callable[[], float] = time.time,
    ) -> None:
        self._clock, self._unix = clock, unix
        self._lock = threading.Lock()
        """Held for a moment only: the coordinator's thread needs it for every event."""
        self._adding = threading.Lock()
        """Of who adds up, taken before the other one; events go on meanwhile."""
        self._connection: Contact | None = None
        self._devices = Devices()
        self._generator = GeneratorNow()
        self._said = LatestSaid(unix)
        self._preparations: dict[str, Preparation] = {}
        self._results: dict[int, RoundResult] = {}
        self._tallies = Tallies()
        self._before: dict[int, Tallies] = {}  # of the last rounds, as it was before each
        self._again_from: int | None = None  # the first round of which something else is known now
        self._drawing: list[Energy | None] = []  # of what the generator node has drawn
        self._since_progress = 0  # batches that came since the node said how far it is
        self._waiting_s = float("-inf")
        self._began_s = clock()
        self._training_s: float | None = None
        self._own_rounds = 0
        config = info.config
        target = config.get("plan.target_accuracy") or None
        self._run = RunNow(
            name=info.run,
            title=title,
            strategy=info.strategy_title or info.strategy,
            dataset=info.dataset.name,
            model=str(config.get("training.model", "")),
            seed=info.seed,
            began_unix_s=round(unix(), 1),
            rounds=int(config.get("rounds.count", 0)),
            deadline_s=config.get("plan.deadline_s"),
            target=target,
            classes=tuple(map(clean, info.dataset.class_names)),
            doing="starting",
            begun_by=clean(info.command),
        )

    def connect(self, connection: Contact | None, *, broker: str = "", exposed: str = "") -> None:
        """Ask this connection how devices are from now on; ``None``: nobody any more."""
        with self._lock:
            self._connection = connection
            if connection is not None:
                self._run = replace(self._run, broker=broker, exposed=exposed)

    def recall(self, run: RunData) -> None:
        """What earlier processes have stored of the run."""
        with self._lock:
            self._preparations |= {each.device: each for each in run.preparations}
            if (generated := run.generation) is not None:
                delivered = dict(generated.by_receiver)
                self._generator = replace(self._generator, delivered=delivered)
                if generated.drawn:
                    self._drawing = [generated.energy]
                    self._generator = replace(self._generator, energy=generated.energy)
            for device, plan in run.device_plans.items():
                self._devices.recall(device, plan, run.profiles.get(device))
            for result in run.rounds:
                self._finish(result)
                self._devices.take(RoundFinished(result=result))
                self._run = replace(self._run, round=result.number)
            self._own_rounds = 0
            self._run = replace(self._run, round=max(self._results, default=0))
            if (last := run.plan) is not None:
                least = last.dynamic if last.objective == "dynamic" else last.board
                self._run = replace(
                    self._run,
                    plan="" if last.round_s is None else describe_plan(last),
                    plan_round_j=least.energy_j,
                    plan_objective=last.objective,
                )

    def say(self, text: str, *, problem: bool = False) -> None:
        """Something that is no event of the run, in words."""
        with self._lock:
            self._said.add(text, problem=problem)
            if self._training_s is None:
                self._run = replace(self._run, doing=clean(text, LONGEST))

    def __call__(self, event: Event) -> None:
        """Something happened."""
        with self._lock:
            self._take(event)
            self._devices.take(event)

    def knows(self, device: str) -> bool:
        """Whether this is a device of the run."""
        with self._lock:
            return self._devices.knows(device)

    def snapshot(self, reader: str = "") -> Snapshot:
        """The run as it is now.

        Args:
            reader: who takes it; of viewers nothing. Who takes it often looks at the boards.
        """
        with self._adding:
            self._add_up()
            with self._lock:
                now_s, unix_s, connection = self._clock(), self._unix(), self._connection
                telemetry = connection.telemetry(reader) if connection is not None else {}
                peers = connection.peers if connection is not None else {}
                away_s = connection.broker_away_s() if connection is not None else None
                devices = self._devices.now(self._tallies, telemetry, peers, now_s, unix_s)
                return Snapshot(
                    unix_s=round(unix_s, 1),
                    run=self._run_now(now_s, away_s),
                    devices=devices,
                    rounds={str(n): each for n, each in self._tallies.rounds.items()},
                    generator=self._generator,
                    said=self._said.now(),
                )

    def _add_up(self) -> None:
        """Add what has come since the last snapshot to the sums."""
        with self._lock:
            again_from, self._again_from = self._again_from, None
            preparations, results = dict(self._preparations), dict(self._results)
        if again_from is not None and again_from in self._tallies.rounds:
            self._tallies = self._before.get(again_from, Tallies())
            self._before = {n: each for n, each in self._before.items() if n < again_from}
        elif again_from == 0:
            self._tallies, self._before = Tallies(), {}
        tallies = self._tallies
        for device, preparation in preparations.items():
            if device not in tallies.prepared:
                tallies.prepare(preparation)
        new = sorted(results.keys() - tallies.rounds.keys())
        for number in new:
            if number in new[-AGAIN_MOST:]:
                self._before[number] = tallies.copy()
            tallies.finish(results[number])
        self._before = dict(sorted(self._before.items())[-AGAIN_MOST:])
        tallies.settle()

    # With the lock held.

    def _run_now(self, now_s: float, away_s: float | None) -> RunNow:
        run, tallies = self._run, self._tallies
        waits = run.waiting if now_s - self._waiting_s < _STILL_S else ""
        left_s = None
        goes_on = run.state not in (*OVER, "paused")
        if self._training_s is not None and self._own_rounds and goes_on:
            each_s = (now_s - self._training_s) / self._own_rounds
            left_s = round(each_s * (run.rounds - len(self._results)), 1)
        last = self._results[max(self._results)] if self._results else None
        return replace(
            run,
            kind=self._devices.kind,
            waiting=waits,
            broker_away_s=None if away_s is None else round(away_s, 1),
            left_s=left_s,
            accuracy=last.evaluation.accuracy if last is not None else None,
            trained=clean(describe_backends(last), LONGEST) if last is not None else "",
            energy=tallies.total,
            server=tallies.server,
        )

    def _take(self, event: Event) -> None:
        state: RunState | None = None
        doing = ""
        match event:
            case Gathering():
                state, doing = "gathering", describe(event)
            case Awaiting() | AwaitingGenerator() | BrokerAway():
                self._run = replace(self._run, waiting=clean(describe(event), LONGEST))
                self._waiting_s = self._clock()
            case Resumed():
                doing = describe(event)
            case Planning():
                state, doing = "planning", describe(event)
            case SearchProgress():
                doing = f"planning: step {event.step}"
                state = "planning" if self._training_s is None else None
            case Planned():
                state, doing = "drawing", "making synthetic samples"
                self._devices.plan(event.plan)
                self._run = replace(
                    self._run,
                    plan=describe(event),
                    plan_round_j=event.plan.energy_j,
                    plan_objective=event.plan.objective,
                )
            case PlanChanged():
                images = self._devices.plan(event.plan, event.devices)
                self._run = replace(
                    self._run,
                    plan=describe_plan(event.plan, images),
                    plan_round_j=event.plan.energy_j,
                    plan_objective=event.plan.objective,
                )
            case GenerationProgress():
                doing = describe(event)
                self._since_progress = 0
                self._generator = replace(
                    self._generator,
                    batches_asked=event.devices_asked,
                    batches_done=event.devices_done,
                    lacking=event.lacking,
                    images_per_s=event.images_per_s,
                )
            case BatchDelivered():
                self._delivered(event)
            case SamplesDrawn():
                self._picture(event)
            case Prepared():
                self._prepared(event.preparation)
            case RoundStarted():
                self._training_s = self._training_s or self._clock()
                state, doing = "training", f"round {event.round}"
                self._run = replace(self._run, round=event.round, waiting="")
            case InterventionAsked(request=PauseRun()) if self._run.state == "training":
                state = "pausing"
            case Intervened() if event.done:
                state = self._changed(event)
            case StillInForce():
                if event.deadline_s is not None:
                    self._run = replace(self._run, deadline_s=event.deadline_s)
            case Paused():
                state, doing = "paused", describe(event)
            case RoundFinished():
                self._finish(event.result)
            case Credited():
                self._credit(event)
            case RunFinished():
                state = "interrupted" if event.status == "running" else event.status
                doing = state
                self._run = replace(self._run, reason=clean(event.reason, LONGEST), waiting="")
        if state is not None or doing:
            self._run = replace(
                self._run,
                state=state or self._run.state,
                doing=clean(doing, LONGEST) or self._run.doing,
            )
        if not isinstance(event, _SILENT):
            self._tell(event)

    def _changed(self, event: Intervened) -> RunState | None:
        """Somebody has changed the run; returns its new state, if it has one."""
        request = event.request
        if event.paused_s is not None and self._training_s is not None:
            self._training_s += event.paused_s  # a pause says nothing of how long rounds take
        if isinstance(request, SetDeadline):
            self._run = replace(self._run, deadline_s=request.deadline_s)
        if isinstance(request, PauseRun):
            return "paused"
        return "training" if isinstance(request, GoOn) else None

    def _tell(self, event: Event) -> None:
        """Keep an event in words."""
        device = getattr(event, "device", "")
        if isinstance(event, RoundFinished):
            text = describe_round(event.result, self._run.rounds)
        else:
            text = describe(event)
        if text:
            about = device if isinstance(device, str) else ""
            self._said.add(text, problem=is_problem(event), device=about)

    def _delivered(self, event: BatchDelivered) -> None:
        before = self._generator
        energy = before.energy
        if event.drawn:
            self._drawing.append(event.energy)
            known = [each for each in self._drawing if each is not None]
            energy = total(known, one_meter=True) if len(known) == len(self._drawing) else None
            self._drawing = [energy]
        failed = dict(before.failed)
        failed.pop(event.device, None)
        if event.error:
            failed[event.device] = clean(event.error, LONGEST)
        more = before.delivered.get(event.device, 0) + event.delivered  # images asked for later too
        delivered = {**before.delivered, event.device: more}
        self._since_progress += 1
        asked = before.batches_asked
        if before.batches_done + self._since_progress >= asked:  # none is drawn any more
            before = replace(before, batches_done=asked, lacking=0)
        self._generator = replace(
            before,
            delivered=delivered,
            failed=failed,
            energy=energy,
        )

    def _picture(self, event: SamplesDrawn) -> None:
        """Keep an image of each class, as data URLs."""
        names, pictures = self._run.classes, dict(self._generator.pictures)
        for each in event.pictures:
            number = each.class_index
            if names and number >= len(names):
                continue
            name = names[number] if names else f"class {number}"
            if each.png.startswith(_PNG) and len(pictures) < _PICTURES and name not in pictures:
                data = base64.b64encode(each.png).decode()
                pictures[name] = f"data:image/png;base64,{data}"
        self._generator = replace(self._generator, pictures=pictures)

    def _finish(self, result: RoundResult) -> None:
        self._results[result.number] = result
        self._own_rounds += 1

    def _credit(self, event: Credited) -> None:
        """A round says something else of a device now: it is added up again from there on."""
        result, entry = self._results.get(event.round), event.entry
        if result is None or entry is None:
            return
        devices = tuple(entry if d.device == entry.device else d for d in result.devices)
        self._results[event.round] = replace(result, devices=devices)
        self._add_again(event.round)

    def _prepared(self, preparation: Preparation) -> None:
        """A device has received its batch; one that was started again does so twice."""
        device = preparation.device
        before = self._preparations.get(device)
        if before is None:
            self._preparations[device] = preparation
        elif (both := prepared_again(before, preparation)) != before:
            self._preparations[device] = both
            self._add_again(0)

    def _add_again(self, number: int) -> None:
        """Add up again from this round on; 0: all of it."""
        before = self._again_from
        self._again_from = number if before is None else min(before, number)
