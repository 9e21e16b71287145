"""What a device does next: its side of the conversation, without threads, clocks or network.

The coordinator's :class:`~fimi.messaging.messages.documents.Desired` says what is wanted.
:class:`Course` compares it with what this start of the device has done, and names the next
:data:`Step`. Whatever it finds after a restart of anyone, it converges from there: a step that was
done is never done again, a step that is no longer wanted is broken off. What an earlier start of
the device has left on disk (:mod:`fimi.edge_agent.outbox`) is taken up with the first document of
the same run.

::

    idle ──Join──▶ fetching ──Follow──▶ settled ──Start──▶ fetching ──▶ training ──▶ offering
                                           ▲                                            │
                                           └──────────────────Settle────────────────────┘

* :class:`Course`   takes documents in, names the next step, keeps the facts
* :data:`Step`      what can be done next
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from fimi.edge_agent.outbox import ReadyUpdate, Unsent
from fimi.edge_agent.readings_room import with_room
from fimi.messaging.messages.basis import Offer, Stage
from fimi.messaging.messages.documents import Desired, EarlierFacts, Fact, Heard, Reported
from fimi.messaging.messages.facts import (
    FactBody,
    Profile,
    Refusal,
    RoundReport,
    RoundSettled,
    UpdateReady,
)
from fimi.messaging.messages.orders import (
    DeploymentClosed,
    DeploymentTest,
    DevicePlan,
    Invitation,
    RoundClosed,
    RoundStart,
)


class Forget(Struct, frozen=True):
    """End the run: drop its data, restore the board."""


Step = (
    Forget | Invitation | DevicePlan | RoundStart | RoundClosed | DeploymentTest | DeploymentClosed
)
"""Join (:class:`Invitation`), follow a plan, work in a round, settle a closed one, try the model,
go on after that, or forget everything."""


class Course:
    """The state machine of one start of a device.

    Not safe to use from several threads without a lock.

    Args:
        device: its id.
        boot_id: of this start.
        unsent: what earlier starts have left.

    Attributes:
        stage: what it does, for the coordinator to show.
        waits_for: for whom it waits, in words; empty if it does not.
        meter: that its meter shows nothing, or that it reads again; empty if it always did.
    """

    def __init__(self, device: str, boot_id: str, unsent: Unsent | None = None) -> None:
        self.stage: Stage = "idle"
        self.waits_for = ""
        self.meter = ""
        self._device = device
        self._boot_id = boot_id
        self._desired: Desired | None = None
        self._heard = (0, 0)
        self._number = 0
        self._facts: list[Fact] = []
        self._last_fact = 0
        self._left = unsent  # until the first document shows whether it is of the same run
        self._earlier: dict[str, list[Fact]] = {}  # facts of earlier starts, oldest first
        self._ready: ReadyUpdate | None = None
        self._worked_by: RoundStart | None = None  # the order of the last round that was done
        self._step: Step | None = None  # that has begun
        self._clock_s = 0.0
        self._life = 0  # counts the runs, and the resumptions of a run that had been ended
        self._held: int | None = None  # the life of which the device holds data or settings
        # What was done in this life:
        self._joined: Any = None
        self._refused = False
        self._followed: Any = None
        self._follows = False
        self._worked: Any = None
        self._settled = self._tried = self._resumed = 0

    @property
    def desired(self) -> Desired | None:
        """The newest document; ``None`` before the first."""
        return self._desired

    @property
    def instance(self) -> str:
        """The run that the device takes part in; empty for none."""
        return self._desired.instance if self._desired is not None else ""

    def take(self, desired: Desired) -> bool:
        """Take a document in.

        Returns:
            Whether it is newer than what was known. An older one changes nothing; its sender is to
            be told what is known (:meth:`document`).
        """
        if desired.device != self._device or (desired.epoch, desired.number) <= self._heard:
            return False
        before, self._desired = self._desired, desired
        self._heard = (desired.epoch, desired.number)
        if before is None or before.instance != desired.instance or _ended(before):
            self._forget_facts(_stored(before, desired))
            self._start_anew()
            self._take_up(desired)
            # What was closed before this start has been settled, or never will be.
            self._settled = desired.closed.round if desired.closed is not None else 0
            self._resumed = desired.resume.round if desired.resume is not None else 0
        self._drop_heard(desired.heard)
        if _ended(desired):
            # if the run goes on, its open round is worked in anew
            self._forget_facts(_stored(before, desired))
        self._fold(desired)
        self._number += 1
        return True

    def next(self) -> Step | None:
        """What to do now; ``None``: wait."""
        wanted = self._desired
        if wanted is None:
            return None
        if self._held is not None and (self._held != self._life or _ended(wanted)):
            return Forget()
        if _ended(wanted):
            return None
        if wanted.invitation is not None and _key(wanted.invitation) != self._joined:
            return wanted.invitation
        if wanted.invitation is None or self._refused:
            return None
        closed = wanted.closed.round if wanted.closed is not None else 0
        if wanted.closed is not None and closed > self._settled:
            return wanted.closed
        # The document may be of long ago, until it says that the coordinator has met this start;
        # then the plan has the present time of the fleet's clock.
        is_met = wanted.heard.boot_id == self._boot_id
        if wanted.plan is not None and _key(wanted.plan) != self._followed and is_met:
            return wanted.plan
        start, test, resume = wanted.start, wanted.test, wanted.resume
        begun = start.round if start is not None else 0
        if test is not None and test.round > self._tried and begun <= test.round:
            return test
        if resume is not None and resume.round > self._resumed and begun <= resume.round:
            return resume
        if start is not None and begun > closed and self._follows:
            return start if _key(start) != self._worked else None
        return None

    def wants(self, step: Step) -> bool:
        """Whether a step that was begun is still wanted; it is broken off otherwise.

        A document without an order of the step's kind does not revoke the one that was begun: a
        coordinator that has just started says one thing after another.
        """
        wanted = self._desired
        if wanted is None or isinstance(step, Forget):
            return True
        if self._held != self._life or _ended(wanted):
            return False
        match step:
            case Invitation():
                return wanted.invitation is None or _key(wanted.invitation) == _key(step)
            case DevicePlan():
                return wanted.plan is None or _key(wanted.plan) == _key(step)
            case RoundStart():
                closed, start = wanted.closed, wanted.start
                if closed is not None and closed.last and closed.round >= step.round:
                    return False
                if start is not None and start.round <= step.round and _key(start) != _key(step):
                    return False
                # An update is still wanted that can enter the mean of a later round. Whoever has
                # not even the model, which is served no more, rather begins that round.
                begun = start.round if start is not None else 0
                soonest = max(begun, closed.round + 1 if closed is not None else 0)
                late = soonest - step.round
                return late <= 0 or (late <= step.late_rounds and self.stage != "fetching")
            case DeploymentTest():
                begun = wanted.start.round if wanted.start is not None else 0
                over = wanted.resume is not None and wanted.resume.round >= step.round
                return begun <= step.round and not over
            case _:
                return True

    def begin(self, step: Step) -> None:
        """The step that :meth:`next` has just named begins; the device holds the run from here."""
        self._step = step
        if not isinstance(step, Forget):
            self._held = self._life

    def finish(self, step: Step, *facts: FactBody, failed: bool = False) -> None:
        """A step has ended, whether it succeeded or not; it will not be done again.

        Args:
            step: which.
            facts: what is to be reported of it.
            failed: the device refuses to take part, or cannot follow its plan.
        """
        self._number += 1
        self._step = None
        if isinstance(step, Forget):
            self._held = None
        if self._is_over:
            return
        match step:
            case Invitation():
                self._joined, self._refused = _key(step), failed
                self._followed, self._follows = None, False
            case DevicePlan():
                self._followed, self._follows = _key(step), not failed
            case RoundStart():
                self._worked, self._worked_by, self._ready = _key(step), step, None
                self._settled = min(self._settled, step.round - 1)
            case RoundClosed():
                self._settled = step.round
            case DeploymentTest():
                self._tried = step.round
            case DeploymentClosed():
                self._resumed = step.round
        self._add(facts)

    def report(self, *facts: FactBody) -> None:
        """Add facts of the step that has begun, before it ends."""
        self._number += 1
        if not self._is_over:
            self._add(facts)

    def update_is_ready(self, start: RoundStart, report: RoundReport, ready: UpdateReady) -> None:
        """The update of the round that is worked in is ready, which is reported.

        Args:
            start: the order.
            report: what is to be told of the round if nothing more becomes of it.
            ready: the fact that the update is on offer.
        """
        self.report(ready)
        if not self._is_over:
            self._ready = ReadyUpdate(
                start=start,
                boot_id=self._boot_id,
                number=self._last_fact + 1,
                digest=ready.update.digest,
                report=report,
            )

    def ready_update(self, start: RoundStart) -> ReadyUpdate | None:
        """What an earlier start has done for an order, if its update was not pulled."""
        ready = self._ready
        if ready is None or ready.boot_id == self._boot_id or _key(ready.start) != _key(start):
            return None
        return ready

    def has_ready_update(self, start: RoundStart) -> bool:
        """Whether a later start can go on with the update of a round."""
        return self._ready is not None and _key(self._ready.start) == _key(start)

    def passes(self, clock_s: float) -> None:
        """The device's own clock shows this time, s, at the end of a step."""
        self._clock_s = clock_s

    @property
    def clock_s(self) -> float:
        """What the clock of the last start showed that has worked in this run, s; 0 for none."""
        return self._clock_s

    def unsent(self) -> Unsent | None:
        """What is to be kept for a later start; ``None`` for nothing."""
        if self._desired is None or _ended(self._desired):
            return None
        # a later start has a profile, or a refusal, of its own
        own = tuple(f for f in self._facts if not isinstance(f.body, Profile | Refusal))
        starts = [EarlierFacts(boot_id=b, facts=tuple(f)) for b, f in self._earlier.items()]
        if own:
            starts.append(EarlierFacts(boot_id=self._boot_id, facts=own))
        if not starts and self._ready is None and self._worked_by is None:
            return None
        return Unsent(
            instance=self._desired.instance,
            starts=tuple(starts),
            worked=self._worked_by,
            ready=self._ready,
            clock_s=self._clock_s,
        )

    @property
    def _is_over(self) -> bool:
        """The run in which the present step began has ended: nobody wants its facts any more."""
        return self._held != self._life or self._desired is None or _ended(self._desired)

    def _add(self, facts: tuple[FactBody, ...]) -> None:
        for body in facts:
            self._last_fact += 1
            self._facts.append(Fact(number=self._last_fact, body=body))
        *earlier, self._facts = with_room([*self._earlier.values(), self._facts])
        self._earlier = dict(zip(self._earlier, earlier, strict=True))

    @property
    def unheard(self) -> tuple[FactBody, ...]:
        """Facts that the coordinator has not stored, as far as it has said."""
        earlier = (fact.body for facts in self._earlier.values() for fact in facts)
        return (*earlier, *(fact.body for fact in self._facts))

    def show(self, stage: Stage, waits_for: str = "") -> bool:
        """Change what is shown of the device; returns whether that is new."""
        if (stage, waits_for) == (self.stage, self.waits_for):
            return False
        self.stage, self.waits_for = stage, waits_for
        self._number += 1
        return True

    def show_meter(self, meter: str) -> None:
        """Change what is shown of the device's meter."""
        self._number += meter != self.meter
        self.meter = meter

    def document(self) -> Reported | None:
        """What to publish now; ``None`` as long as no coordinator has said anything."""
        wanted = self._desired
        if wanted is None:
            return None
        return Reported(
            run=wanted.run,
            device=self._device,
            instance=wanted.instance,
            boot_id=self._boot_id,
            number=self._number,
            epoch=self._heard[0],
            heard=self._heard[1],
            stage=self.stage,
            waits_for=self.waits_for,
            meter=self.meter,
            facts=tuple(self._facts),
            earlier=tuple(
                EarlierFacts(boot_id=boot_id, facts=tuple(facts))
                for boot_id, facts in self._earlier.items()
            ),
        )

    def _forget_facts(self, stored: int) -> None:
        """Nobody wants what was done so far, but what belongs to the first ``stored`` rounds."""

        def kept(facts: list[Fact]) -> list[Fact]:
            told = (f for f in facts if isinstance(f.body, RoundReport | RoundSettled))
            return [fact for fact in told if fact.body.round <= stored]  # type: ignore[union-attr]

        self._facts = kept(self._facts)
        earlier = {boot_id: kept(facts) for boot_id, facts in self._earlier.items()}
        self._earlier = {boot_id: facts for boot_id, facts in earlier.items() if facts}
        self._ready = self._worked_by = None
        self._clock_s = 0.0

    def _take_up(self, desired: Desired) -> None:
        """Go on from what an earlier start has left, if it is of this run."""
        if _ended(desired):
            return  # it may go on
        left, self._left = self._left, None
        if left is None or left.instance != desired.instance:
            return
        self._earlier |= {each.boot_id: list(each.facts) for each in left.starts}
        self._earlier.pop(self._boot_id, None)
        self._ready, self._worked_by = left.ready, left.worked
        self._clock_s = left.clock_s
        if left.worked is not None:
            self._worked = _key(left.worked)

    def _drop_heard(self, heard: Heard) -> None:
        """Drop the facts that are stored."""
        upto = heard.earlier | {heard.boot_id: heard.fact}
        self._facts = [f for f in self._facts if f.number > upto.get(self._boot_id, 0)]
        for boot_id, facts in list(self._earlier.items()):
            left = [fact for fact in facts if fact.number > upto.get(boot_id, 0)]
            if left:
                self._earlier[boot_id] = left
            else:
                del self._earlier[boot_id]

    def _fold(self, desired: Desired) -> None:
        """Report a round as far as it came whose update nobody wants any more.

        It was done by an earlier start, and this one has not begun to offer it. The fact has the
        number that the earlier start would have given it, whoever reports it and however often.
        """
        ready = self._ready
        if ready is None or ready.boot_id == self._boot_id or isinstance(self._step, RoundStart):
            return
        closed = desired.closed is not None and desired.closed.round >= ready.start.round
        other = desired.start is not None and _key(desired.start) != _key(ready.start)
        if not (closed or other):
            return
        self._ready = None
        facts = self._earlier.setdefault(ready.boot_id, [])
        facts.append(Fact(number=ready.number, body=ready.report))

    def _start_anew(self) -> None:
        """Nothing of a run is done."""
        self._life += 1
        self._joined = self._followed = self._worked = None
        self._refused = self._follows = False
        self._settled = self._tried = self._resumed = 0


def _ended(desired: Desired) -> bool:
    return desired.ended is not None


def _stored(before: Desired | None, now: Desired) -> int:
    """So many rounds of the run of both documents are in the run store, as far as they say.

    A start is said when the round before it is stored. None where the run is over for good.
    """
    known = (before, now) if before is not None and before.instance == now.instance else (now,)
    if now.ended is not None and now.ended.reason == "completed":
        return 0
    return max(each.start.round - 1 if each.start is not None else 0 for each in known)


def _key(order: Invitation | DevicePlan | RoundStart) -> Any:
    """What decides whether two orders ask for the same work: payloads count by their digest."""
    if isinstance(order, Invitation):
        return replace(order, share=_named(order.share), hashes=_named(order.hashes))
    if isinstance(order, DevicePlan):
        top_ups = tuple(replace(t, batch=_named(t.batch), booked=False) for t in order.top_ups)
        return replace(
            order, batch=_named(order.batch), top_ups=top_ups, fleet_time_s=0.0, booked=False
        )
    return replace(order, model=_named(order.model), graphs=_named(order.graphs))


def _named(offer: Offer | None) -> Any:
    """An offer without what depends on who holds it and how."""
    if offer is None:
        return None
    return replace(offer, holder="", rate_bps=None, shared=False)
