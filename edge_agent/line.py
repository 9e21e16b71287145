"""The device's end of the conversation: documents come in and go out, whatever the device does.

:class:`Line` guards the :class:`~fimi.edge_agent.course.Course` with a lock. A thread of its own
takes in what the coordinator wants and publishes what the device reports: new facts at once, other
changes at most once a second, and everything again, after growing times, until the coordinator has
stored it. So a device hears what is wanted while it trains or transfers, and the work that it does
can ask at any moment whether it is still wanted.

Where the agent has a state folder, facts are on its disk before they are said
(:mod:`fimi.edge_agent.outbox`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from fimi.edge_agent.course import Course, Step
from fimi.edge_agent.health import sound
from fimi.edge_agent.outbox import DurableOutbox, ReadyUpdate
from fimi.messaging.client import Peer
from fimi.messaging.errors import MessageRefused, MessagingError
from fimi.messaging.kept_documents import again_s
from fimi.messaging.messages.basis import Stage
from fimi.messaging.messages.documents import Desired
from fimi.messaging.messages.facts import FactBody, RoundReport, UpdateReady
from fimi.messaging.messages.orders import DeploymentTest, DevicePlan, Invitation, RoundStart
from fimi.messaging.topics import COORDINATOR

log = logging.getLogger(__name__)

Order = TypeVar("Order", Invitation, DevicePlan, RoundStart, DeploymentTest)

QUIET_S = 1.0
"""Shortest time between two publications without a new fact, s."""
LOOK_AGAIN_S = 0.2
"""Longest time between two looks at what is due, s."""
METER_CHARACTERS = 400
"""Most characters that are told of a meter."""
SAY_AGAIN_S = (30.0, 60.0, 120.0, 300.0, 600.0)
"""Times after which the log says again for whom the device waits, s; the last one repeats."""


class Line:
    """The conversation of one device. A context manager: inside it, the line is listened to.

    Args:
        peer: the connected peer.
        stop: set when the process is to end.
        meter: says what is wrong with the device's meter, which the coordinator is told at once.
        outbox: keeps what is not stored; ``None``: memory only.

    Attributes:
        failure: why nothing more can be heard, such as another process with this id; ``None`` as
            long as all is well.
    """

    def __init__(
        self,
        peer: Peer,
        stop: threading.Event,
        meter: Callable[[], str] = lambda: "",
        outbox: DurableOutbox | None = None,
    ) -> None:
        self._peer = peer
        self._meter = meter
        self._stop = stop
        self._outbox = outbox
        unsent = outbox.load() if outbox is not None else None
        self._course = Course(peer.id, peer.boot_id, unsent)
        self._changed = threading.Condition()
        self._ending = threading.Event()
        self._published = 0  # number of the document that was published last
        self._published_s = float("-inf")
        self._tries = 0
        self._asked = False  # the coordinator has said again what is known here
        self._said = 0
        self.failure: MessagingError | None = None
        self._thread = threading.Thread(target=self._listen, name=f"line-{peer.id}", daemon=True)

    def __enter__(self) -> Line:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        with self._changed:
            if self._is_news():
                self._publish()

    # For the thread that works.

    def next_step(self, timeout_s: float) -> Step | None:
        """The step that begins now; ``None``: there was nothing to do for so long."""
        with self._changed:
            step = self._course.next()
            if step is None and self._goes_on():
                self._changed.wait(timeout_s)
                step = self._course.next()
            if step is None or not self._goes_on():
                return None
            self._course.begin(step)
            return step

    def wants(self, step: Step) -> bool:
        """Whether a step that was begun is still wanted, by the process and by the coordinator."""
        with self._changed:
            return self._goes_on() and self._course.wants(step)

    def unwanted(self, step: Step) -> Callable[[], bool]:
        """A function that says whether a step is no longer wanted: whoever waits looks at it."""
        return lambda: not self.wants(step)

    def why_not(self, step: Step) -> str:
        """Why a step is no longer wanted, as the end of a sentence."""
        with self._changed:
            if self._stop.is_set():
                return "the agent was asked to stop"
            if self.failure is not None:
                return str(self.failure)
            desired = self._course.desired
            if desired is None or desired.ended is not None:
                return "the run has ended"
            if isinstance(step, RoundStart):
                closed = desired.closed
                if closed is not None and closed.round >= step.round:
                    return f"round {step.round} was closed before its end"
            return "the coordinator wants something else"

    def latest(self, step: Order) -> Order:
        """A step that was begun, as the coordinator orders it now: payloads may lie elsewhere."""
        with self._changed:
            desired = self._course.desired
            if desired is None or not self._course.wants(step):
                return step
            orders = (desired.invitation, desired.plan, desired.start, desired.test)
            return next((each for each in orders if isinstance(each, type(step))), step)

    def wait(self, timeout_s: float) -> None:
        """Wait until something is heard, at most so long, s."""
        with self._changed:
            if self._goes_on():
                self._changed.wait(timeout_s)

    def report(self, *facts: FactBody) -> None:
        """Report facts of the step that has begun."""
        with self._changed:
            self._course.report(*map(sound, facts))
            self._keep()
            self._publish()

    def report_update(
        self,
        start: RoundStart,
        report: RoundReport,
        ready: UpdateReady,
        update: bytes,
        clock_s: float,
    ) -> None:
        """Report that an update is ready; see :meth:`Course.update_is_ready`.

        ``clock_s`` is what the device's own clock shows, s.
        """
        kept = False
        if self._outbox is not None:  # late updates of earlier rounds may still be wanted
            beside = tuple(f.update.digest for f in self.unheard if isinstance(f, UpdateReady))
            kept = self._outbox.put_update(ready.update.digest, update, beside)
        with self._changed:
            if kept and isinstance(told := sound(report), RoundReport):
                self._course.update_is_ready(start, told, ready)
            else:
                self._course.report(ready)
            self._course.passes(clock_s)
            self._keep()
            self._publish()

    def ready_update(self, start: RoundStart) -> tuple[ReadyUpdate, bytes | None] | None:
        """What an earlier start of the device has done for an order, and its update.

        The update is ``None`` where it is not kept; the whole is ``None`` for nothing.
        """
        with self._changed:
            ready = self._course.ready_update(start)
        if ready is None or self._outbox is None:
            return None
        return ready, self._outbox.update(ready.digest)

    def keeps(self, start: RoundStart) -> bool:
        """Whether the process is to end, and a later one can go on with the update of a round."""
        with self._changed:
            return self._stop.is_set() and self._course.has_ready_update(start)

    def kept_update(self, digest: str) -> bytes | None:
        """An update that an earlier start has left."""
        return self._outbox.update(digest) if self._outbox is not None else None

    def keep_updates(self, digests: tuple[str, ...]) -> None:
        """Of the updates on disk only these are needed."""
        if self._outbox is not None:
            self._outbox.keep_updates(digests)

    def finish(
        self, step: Step, *facts: FactBody, failed: bool = False, clock_s: float | None = None
    ) -> None:
        """A step has ended; arguments as of :meth:`fimi.edge_agent.course.Course.finish`.

        ``clock_s`` is what the device's own clock shows, s.
        """
        with self._changed:
            self._course.finish(step, *map(sound, facts), failed=failed)
            if clock_s is not None:
                self._course.passes(clock_s)
            if facts:
                self._keep()
                self._publish()

    def show(self, stage: Stage, waits_for: str = "") -> None:
        """Show what the device does, and for what it waits."""
        with self._changed:
            self._course.show(stage, waits_for)

    @property
    def alive(self) -> bool:
        """Whether the thread that listens goes on."""
        return self._thread.is_alive()

    @property
    def stage(self) -> Stage:
        """What the device shows that it does."""
        return self._course.stage

    @property
    def waits_for(self) -> str:
        """For whom or what it waits, in words; empty if it does not."""
        return self._course.waits_for

    @property
    def desired(self) -> Desired | None:
        """What the coordinator wants; ``None`` before its first document."""
        with self._changed:
            return self._course.desired

    @property
    def clock_s(self) -> float:
        """What the clock of an earlier start showed that has worked in this run, s; 0 for none."""
        with self._changed:
            return self._course.clock_s

    @property
    def unheard(self) -> tuple[FactBody, ...]:
        """Facts that are not in the run store, as far as the coordinator has said."""
        with self._changed:
            return self._course.unheard

    # The thread that listens.

    def _listen(self) -> None:
        while not self._ending.is_set():
            try:
                received = self._peer.receive(timeout_s=self._patience_s())
                if received is not None:
                    self._hear(*received)
                meter = self._meter()[:METER_CHARACTERS]
                with self._changed:
                    self._course.show_meter(meter)
                    if self._is_due(time.monotonic()):
                        self._publish()
                self._say()
            except MessagingError as error:  # it ends the agent; its words are for a person
                with self._changed:
                    self.failure = error
                    self._changed.notify_all()
                return
            except Exception:
                log.exception("%s: a message could not be handled", self._peer.id)

    def _hear(self, sender: str, message: object) -> None:
        if sender != COORDINATOR or not isinstance(message, Desired):
            return
        with self._changed:
            before = self._course.desired
            if self._course.take(message):
                over = message.ended is not None and message.ended.reason == "completed"
                if over and self._outbox is not None:
                    self._outbox.clear()
                self._changed.notify_all()
            else:
                self._asked = True
                return
        self._tell_end(before, message)

    def _tell_end(self, before: Desired | None, now: Desired) -> None:
        """Log that the coordinator wants nothing more, and why; not what it said long ago."""
        if now.ended is None or (before is not None and before.ended is not None):
            return
        if before is not None or now.invitation is None:
            log.info("%s: done with run %s: %s", self._peer.id, now.run, now.ended.reason)

    def _patience_s(self) -> float:
        return min(LOOK_AGAIN_S, max(0.0, self._due_s() - time.monotonic()))

    def _due_s(self) -> float:
        with self._changed:
            if self._is_news() or self._asked:
                return self._published_s + QUIET_S
            desired = self._course.desired
            if self._course.unheard and desired is not None and desired.ended is None:
                return self._published_s + again_s(self._tries)
            return float("inf")

    def _say(self) -> None:
        """Log for whom the device waits, in the middle of a run."""
        absent_s = self._peer.absent_s(COORDINATOR)
        desired = self.desired
        if absent_s is None or desired is None or desired.ended is not None:
            self._said = 0
            return
        due_s = sum(SAY_AGAIN_S[: self._said + 1])
        due_s += SAY_AGAIN_S[-1] * max(0, self._said + 1 - len(SAY_AGAIN_S))
        if absent_s >= due_s:
            self._said += 1
            log.warning("%s: coordinator gone for %.0f s, waiting", self._peer.id, absent_s)

    # With the lock held.

    def _keep(self) -> None:
        """Have what is not stored on disk."""
        if self._outbox is not None and (unsent := self._course.unsent()) is not None:
            self._outbox.save(unsent)

    def _goes_on(self) -> bool:
        return not self._stop.is_set() and self.failure is None

    def _is_news(self) -> bool:
        document = self._course.document()
        return document is not None and document.number != self._published

    def _is_due(self, now_s: float) -> bool:
        return now_s >= self._due_s()

    def _publish(self) -> None:
        document = self._course.document()
        if document is None:
            return
        self._tries = 0 if document.number != self._published else self._tries + 1
        self._published, self._published_s, self._asked = document.number, time.monotonic(), False
        try:
            self._peer.publish_state(COORDINATOR, "reported", document)
        except MessageRefused as error:
            log.error("%s cannot report: %s", self._peer.id, error)
        except MessagingError as error:
            self.failure = self.failure or error
            self._changed.notify_all()
