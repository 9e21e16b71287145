"""The coordinator's side of the conversation: one document per device, without threads or network.

Every device has one :class:`~fimi.messaging.messages.documents.Desired`, which holds the latest
order of each kind. It is published again, after growing times, until the device's
:class:`~fimi.messaging.messages.documents.Reported` says that it was taken in. What a device
reports is given out once, and confirmed when it is in the run store: only then does the device drop
it. So a coordinator that is killed finds everything again that it had not stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from fimi.messaging.kept_documents import again_s
from fimi.messaging.leases import MAX_EPOCH
from fimi.messaging.messages.documents import MAX_EARLIER, Desired, Heard, Reported
from fimi.messaging.messages.facts import FactBody
from fimi.messaging.messages.orders import (
    DeploymentClosed,
    DeploymentTest,
    DevicePlan,
    Invitation,
    RoundClosed,
    RoundStart,
    RunEnded,
)

Order = (
    Invitation
    | DevicePlan
    | RoundStart
    | RoundClosed
    | DeploymentTest
    | DeploymentClosed
    | RunEnded
)
MAX_DEVICES = 10_000
"""Most devices of a conversation; whoever else reports is not listened to."""
MAX_BOOTS = 2 * MAX_EARLIER
"""Starts of a device whose facts are kept apart; the oldest one gives way of which the device tells
nothing any more. More than one report can name."""
MAX_LEAP = 1_000_000
"""A device that has seen an epoch so much greater than this one's own is not believed: every start
of a coordinator adds one, and epochs are finite."""
RAISE_S = 1.0
"""Between two raises of the epoch, s: after each of them everything is said again."""
MAX_OPEN = 256
"""Facts of a device that are given out and not stored; further ones are taken when it repeats them.
"""

Fact_ = TypeVar("Fact_", bound=FactBody)
_SLOTS: dict[type[Any], str] = {
    Invitation: "invitation",
    DevicePlan: "plan",
    RoundStart: "start",
    RoundClosed: "closed",
    DeploymentTest: "test",
    DeploymentClosed: "resume",
    RunEnded: "ended",
}


class Boot(Struct):
    """What is known of one start of a device.

    Attributes:
        taken: number of the last fact that was given out.
        open: facts that were given out and are not stored, by number.
    """

    taken: int = 0
    open: dict[int, FactBody] = {}

    @property
    def stored(self) -> int:
        """All facts up to this number are stored."""
        return min(self.open) - 1 if self.open else self.taken


class Talk(Struct):
    """The conversation with one device.

    Attributes:
        document: as published last.
        boots: each start of the device that has reported.
        boot_id: the one that reported last.
        met: the start that was last seen online.
        answered: whether it has taken in the document.
        reported: its last document; ``None`` before the first.
        dirty: whether there is news that the next publication brings along.
        due_s: when to publish again if nothing is heard, on the caller's clock, s.
        tries: publications of this document so far.
    """

    document: Desired
    boots: dict[str, Boot] = {}
    boot_id: str = ""
    met: str = ""
    answered: bool = False
    reported: Reported | None = None
    dirty: bool = True
    due_s: float = 0.0
    tries: int = 0

    @property
    def open(self) -> int:
        """Facts that were given out and are not stored."""
        return sum(len(boot.open) for boot in self.boots.values())


class Conversation:
    """The documents of all devices of a run.

    Args:
        run: its name.
        instance: its id.
        epoch: of the coordinator, 1 or more.
        publish: called with a device and its document, which is to be retained.
        now_s: a clock that never runs backwards.
        heard: by device, what an earlier coordinator of the run had stored.
        raised: called with a greater epoch before anything is published with it. It is to be
            stored: were it used again, two documents could have the same number.
    """

    def __init__(
        self,
        run: str,
        instance: str,
        epoch: int,
        publish: Callable[[str, Desired], None],
        now_s: Callable[[], float],
        heard: dict[str, Heard] | None = None,
        raised: Callable[[int], None] = lambda epoch: None,
    ) -> None:
        self._run = run
        self.instance = instance
        self._epoch = epoch
        self._publish = publish
        self._now_s = now_s
        self._known = dict(heard or {})
        self._raised = raised
        self._lines: dict[str, Talk] = {}
        self._raised_s = float("-inf")

    @property
    def epoch(self) -> int:
        """The epoch of all documents."""
        return self._epoch

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices that were ever spoken to, sorted."""
        return tuple(sorted(self._lines))

    def order(self, device: str, *orders: Order) -> None:
        """Change what is wanted of a device, and publish it; nothing if it is wanted already."""
        line = self._line(device)
        changed = {_SLOTS[type(order)]: order for order in orders}
        document = replace(line.document, **changed)
        if document == line.document and line.tries:
            return
        self._replace(line, document)

    def amend(self, device: str, *orders: Order) -> None:
        """Word what is wanted otherwise, for a later start of the device.

        It is published with the next document: whoever has heard the order need not hear it again.
        """
        line = self._line(device)
        changed = {_SLOTS[type(order)]: order for order in orders}
        line.document = replace(line.document, **changed)

    def withdraw(self, device: str, *kinds: type[Any]) -> None:
        """Want nothing of these kinds any more; published with the next order."""
        line = self._line(device)
        line.document = replace(line.document, **{_SLOTS[kind]: None for kind in kinds})
        line.dirty = True

    def meet(self, device: str, boot_id: str) -> None:
        """A device is online: one that has started again knows nothing of its document."""
        line = self._lines.get(device)
        if line is not None and line.tries and line.boot_id != boot_id and line.met != boot_id:
            line.met, line.answered, line.tries = boot_id, False, 0
            self._send(line)

    def take(self, reported: Reported) -> tuple[FactBody, ...]:
        """Take in what a device reports; returns the facts that were not given out before.

        A report of another run tells nothing but the epoch that its device has seen.
        """
        if reported.device not in self._lines and len(self._lines) >= MAX_DEVICES:
            return ()
        line = self._line(reported.device)
        ours, seen = reported.instance == self.instance, (reported.epoch, reported.heard)
        ahead = seen > (self._epoch, line.document.number if ours else 0)
        if reported.epoch - self._epoch > MAX_LEAP:
            return ()
        if ahead and reported.epoch < MAX_EPOCH:  # beyond the last one no document can go
            if self._now_s() < self._raised_s + RAISE_S:
                return ()  # it says so again
            self._raise_epoch(reported.epoch + 1)  # it has heard another coordinator
        if not ours:
            return ()
        last = line.reported
        if last is not None and last.boot_id == reported.boot_id and reported.number < last.number:
            return ()  # overtaken by a later one, which holds all that this one held
        if line.boot_id != reported.boot_id:
            line.dirty = True  # it follows its plan once it is told that this start is known
        line.boot_id, line.reported = reported.boot_id, reported
        if line.document.heard.boot_id != reported.boot_id:
            line.dirty = True  # it follows its plan once it is told that it was met
        line.answered = (reported.epoch, reported.heard) == (
            line.document.epoch,
            line.document.number,
        )
        told = [(earlier.boot_id, earlier.facts) for earlier in reported.earlier]
        told.append((reported.boot_id, reported.facts))
        named = {boot_id for boot_id, _ in told}
        new = []
        for boot_id, facts in told:
            boot = self._boot(line, reported.device, boot_id, named)
            for fact in facts:
                if fact.number > boot.taken and line.open < MAX_OPEN:
                    boot.open[fact.number] = fact.body
                    boot.taken = fact.number
                    new.append(fact.body)
            if any(fact.number <= boot.stored for fact in facts):
                line.dirty = True  # it has not been told, or has not taken it in
        return tuple(new)

    def start_of(self, device: str, body: FactBody) -> str:
        """The start of a device that has told a fact which is not stored; empty if it is."""
        line = self._line(device)
        starts = (b for b, boot in line.boots.items() if any(body is x for x in boot.open.values()))
        return next(starts, "")

    def stored(self, device: str, *bodies: FactBody) -> None:
        """These facts are in the run store, or will never be needed: the device may drop them."""
        line = self._line(device)
        for boot in line.boots.values():
            for number, body in list(boot.open.items()):
                if any(body is each for each in bodies):
                    del boot.open[number]
                    line.dirty = True

    def open(self, *kinds: type[Fact_]) -> list[tuple[str, Fact_]]:
        """Facts of these kinds, with their devices, that were given out and are not stored.

        Whoever begins to wait for facts begins with these: they may have come before, for example
        while the fleet of a run that goes on was gathered.
        """
        return [
            (device, body)
            for device, line in sorted(self._lines.items())
            for boot in line.boots.values()
            for _, body in sorted(boot.open.items())
            if isinstance(body, kinds)
        ]

    def heard(self) -> dict[str, Heard]:
        """What is stored of each device, to be stored with it."""
        found = dict(self._known)
        for device, line in self._lines.items():
            if line.boot_id:
                told = self._heard(line)
                earlier = dict(told.earlier)
                for boot_id, boot in reversed(
                    line.boots.items()
                ):  # a late document hides later ones
                    if boot_id != told.boot_id and boot.stored and len(earlier) < MAX_EARLIER:
                        earlier.setdefault(boot_id, boot.stored)
                found[device] = replace(told, earlier=earlier)
        return found

    def tick(self) -> None:
        """Publish what has changed, and what was not answered in time. Call it often."""
        now_s = self._now_s()
        for line in self._lines.values():
            if line.dirty and line.document != self._with_heard(line):
                self._replace(line, line.document)
            elif not line.answered and line.tries and now_s >= line.due_s:
                self._send(line)

    def answered(self, device: str) -> bool:
        """Whether a device has taken in what is wanted of it."""
        line = self._lines.get(device)
        return line is not None and line.answered

    def reported(self, device: str) -> Reported | None:
        """The last document of a device; ``None`` before the first."""
        line = self._lines.get(device)
        return None if line is None else line.reported

    def desired(self, device: str) -> Desired | None:
        """The document of a device as it was published last."""
        line = self._lines.get(device)
        return None if line is None else line.document

    def _line(self, device: str) -> Talk:
        if device not in self._lines:
            document = Desired(
                run=self._run,
                device=device,
                instance=self.instance,
                epoch=self._epoch,
                number=1,
                heard=self._known.get(device, Heard()),
            )
            self._lines[device] = Talk(document=document, dirty=False)
        return self._lines[device]

    def _boot(self, line: Talk, device: str, boot_id: str, named: set[str]) -> Boot:
        """A start of a device; ``named`` are those of its report, which stay."""
        if boot_id not in line.boots:
            while len(line.boots) >= MAX_BOOTS:
                del line.boots[next(old for old in line.boots if old not in named)]
            known = self._known.get(device, Heard())
            before = known.earlier.get(boot_id, 0)
            line.boots[boot_id] = Boot(taken=known.fact if known.boot_id == boot_id else before)
        return line.boots[boot_id]

    def _heard(self, line: Talk) -> Heard:
        if not line.boot_id:
            return line.document.heard
        told = line.reported.earlier if line.reported is not None else ()
        return Heard(
            boot_id=line.boot_id,
            fact=line.boots[line.boot_id].stored,
            earlier={each.boot_id: line.boots[each.boot_id].stored for each in told},
        )

    def _with_heard(self, line: Talk) -> Desired:
        return replace(line.document, heard=self._heard(line))

    def _replace(self, line: Talk, document: Desired) -> None:
        """Publish a changed document under the next number."""
        number = line.document.number + 1 if line.tries else line.document.number
        line.document = replace(document, epoch=self._epoch, number=number, heard=self._heard(line))
        line.answered, line.dirty, line.tries = False, False, 0
        self._send(line)

    def _send(self, line: Talk) -> None:
        line.due_s = self._now_s() + again_s(line.tries)
        line.tries += 1
        self._publish(line.document.device, line.document)

    def _raise_epoch(self, epoch: int) -> None:
        """Go beyond an epoch that a device has seen, and say everything again."""
        self._raised(epoch)
        self._epoch, self._raised_s = epoch, self._now_s()
        for line in self._lines.values():
            if line.tries:
                self._replace(line, line.document)
