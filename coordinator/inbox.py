"""Receives the coordinator's messages and gives each to the part that it concerns.

States, profiles and answers to plans are dealt with at any time. Facts of rounds that are stored
already are credited to them. All other facts and messages go to the part of the coordinator that
waits for messages at the moment. While it waits, the conversation with every device goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from fimi.coordinator.conversation import MAX_DEVICES, Conversation
from fimi.coordinator.patience import BrokerClock, Reminder
from fimi.coordinator.registry import Registry
from fimi.learning.data.contract import PROTOCOL, other_protocol
from fimi.messaging.allowances import Purse
from fimi.messaging.client import Peer
from fimi.messaging.messages.basis import Message
from fimi.messaging.messages.documents import Reported
from fimi.messaging.messages.facts import (
    DeploymentReport,
    FactBody,
    PlanApplied,
    Profile,
    Refusal,
    RoundReport,
    RoundSettled,
    UpdateReady,
)
from fimi.messaging.messages.peers import DeviceState
from fimi.messaging.messages.synthesis import SyntheticBatch, SyntheticSamples
from fimi.record.events import (
    BrokerAway,
    DeviceJoined,
    DeviceLost,
    DeviceRefused,
    Listener,
    MeterDoubted,
    PlanInForce,
    SamplesDrawn,
    SenderSetAside,
)

_AWAY_TOLD_S = 0.5
"""Between two events that say that the broker is away, wall time, s."""


_NAMED_MOST = 50
"""Most senders of which a run stores that they were set aside."""


class Cancelled(Exception):  # noqa: N818
    """The run was asked to stop."""


class Host(Protocol):
    """Who is told of what concerns no waiting part of the coordinator."""

    def came(self, device: str, boot_id: str) -> None:
        """A device is online."""

    def went(self, device: str) -> None:
        """A device has gone offline."""

    def generator_came(self, generator: str) -> None:
        """A generator node is online."""

    def joined(self, profile: Profile) -> bool:
        """A device has published a profile; returns whether it takes part."""

    def refused(self, refusal: Refusal) -> None:
        """A device cannot take part."""

    def answered(self, reply: PlanApplied) -> bool:
        """A device has answered its plan; returns whether that is stored."""

    def late(self, fact: UpdateReady | RoundReport | RoundSettled | DeploymentReport) -> bool:
        """A fact of a round or trial; returns whether that is over, and the fact dealt with."""

    def batch(self, batch: SyntheticBatch) -> None:
        """A batch has come for which no part waits."""


class Inbox:
    """Gives messages to its callers and keeps the registry up to date.

    Args:
        peer: the coordinator's connection.
        registry: the registry to keep up to date.
        conversation: with all devices.
        notify: called when devices come online or go offline.
        cancel: when set, every wait ends with :class:`Cancelled`.
        clock: the time in which the broker was there; kept going here.
    """

    def __init__(
        self,
        peer: Peer,
        registry: Registry,
        conversation: Conversation,
        notify: Listener,
        cancel: threading.Event,
        clock: BrokerClock | None = None,
    ) -> None:
        self._peer = peer
        self._registry = registry
        self._conversation = conversation
        self._notify = notify
        self._cancel = cancel
        self.clock = clock or BrokerClock()
        self._host: Host | None = None
        self.meanwhile: Callable[[], None] = lambda: None
        """Called again and again while somebody waits here."""
        self._reminder = Reminder(_AWAY_TOLD_S)
        self._foreign: dict[str, str] = {}
        self._meters: dict[str, str] = {}
        self._set_asides = 0
        self._met: set[str] = set()
        self._lines: dict[str, Purse] = {}  # what each device may still say of itself
        self._aside: dict[str, int] = {}  # how often each was, as far as it was told

    def tell(self, host: Host) -> None:
        """Tell ``host`` of what concerns no waiting part from now on."""
        self._host = host

    def until(self, done: Callable[[], bool], timeout_s: float) -> Iterator[tuple[str, Any]]:
        """Messages and facts that nobody else deals with, until ``done()`` or the time is over.

        Time in which the broker is away does not count.

        Args:
            done: called before every wait.
            timeout_s: wall time, s.

        Raises:
            Cancelled: the run was asked to stop.
        """
        clock = self.clock
        clock.tick(here=self._peer.broker_away_s() is None)
        limit_s = clock.now_s() + timeout_s
        while not done() and (left_s := limit_s - clock.now_s()) > 0:
            self.check_cancelled()
            self._conversation.tick()
            self.meanwhile()
            self._tell_offenders()
            received = self._peer.receive(timeout_s=min(0.2, left_s))
            clock.tick(here=not self._is_broker_away())
            if received is not None:
                yield from self._sort(*received)

    def wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Deal with messages until ``done()``; returns whether this was in time."""
        for _ in self.until(done, timeout_s):
            pass
        return done()

    def check_cancelled(self) -> None:
        """Raise :class:`Cancelled` if the run was asked to stop."""
        if self._cancel.is_set():
            raise Cancelled

    def _is_broker_away(self) -> bool:
        away_s = self._peer.broker_away_s()
        if away_s is None:
            return False
        if self._reminder.due():
            self._notify(BrokerAway(seconds=away_s))
        return True

    def _tell_offenders(self) -> None:
        """Tell of senders that were set aside: the first time, the second, the fourth and so on."""
        if (times := self._peer.set_asides) == self._set_asides:
            return
        self._set_asides = times
        for each in self._peer.offenders:
            told = self._aside.get(each.sender, 0)
            if each.times < max(1, 2 * told) or (not told and len(self._aside) >= _NAMED_MOST):
                continue
            self._aside[each.sender] = each.times
            self._notify(
                SenderSetAside(
                    sender=each.sender,
                    offences=each.offences,
                    seconds=each.aside_s,
                    words=each.in_words(),
                )
            )

    def _sort(self, sender: str, message: Message) -> Iterator[tuple[str, Any]]:
        if self._is_one_too_many(sender):
            return
        if isinstance(message, DeviceState):
            self._state(message)
        elif isinstance(message, Reported):
            self._meter(message)
            for fact in self._conversation.take(message):
                if not self._fact(sender, self._conversation.start_of(sender, fact), fact):
                    yield sender, fact
        elif isinstance(message, SyntheticSamples):
            if message.instance == self._conversation.instance:
                self._notify(SamplesDrawn(pictures=message.pictures))
        else:
            if isinstance(message, SyntheticBatch) and self._host is not None:
                self._host.batch(message)
            yield sender, message

    def _is_one_too_many(self, device: str) -> bool:
        """Whether a device is new, and there is no room for another one: names cost nothing."""
        if device not in self._met and len(self._met) >= MAX_DEVICES:
            return True
        self._met.add(device)
        return False

    def _state(self, state: DeviceState) -> None:
        if state.protocol != PROTOCOL:
            self._refuse(state)
            return
        if self._registry.heard_state(state):
            kept = "; its place is kept" if self._registry.is_expected(state.peer) else ""
            self._notify(DeviceLost(device=state.peer, reason=f"went offline{kept}"))
            if self._host is not None:
                self._host.went(state.peer)
        if self._host is None or state.status != "online":
            return
        if state.role == "device":
            self._host.came(state.peer, state.boot_id)
        elif state.role == "generator":
            self._host.generator_came(state.peer)

    def _meter(self, reported: Reported) -> None:
        """Say at once that a device's meter shows nothing, or that it reads again; each once."""
        before, self._meters[reported.device] = (
            self._meters.get(reported.device, ""),
            reported.meter,
        )
        if reported.meter and reported.meter != before and self._may_say(reported.device):
            self._notify(MeterDoubted(round=0, device=reported.device, doubts=(reported.meter,)))

    def _refuse(self, state: DeviceState) -> None:
        """Say once that a device speaks another version of the conversation."""
        if state.role != "device" or self._foreign.get(state.peer) == state.boot_id:
            return
        self._foreign[state.peer] = state.boot_id
        if self._may_say(state.peer):
            reason = other_protocol(state.peer, state.protocol, PROTOCOL)
            self._notify(DeviceRefused(device=state.peer, reason=reason))

    def _may_say(self, device: str) -> bool:
        """Whether a device may cause one more line of the log by what it says of itself."""
        return self._lines.setdefault(device, Purse()).take("line", time.monotonic())

    def _fact(self, sender: str, boot_id: str, fact: FactBody) -> bool:
        """Deal with a fact; returns whether that is all that it needs."""
        if self._host is None:
            return False
        if isinstance(fact, Profile):
            self._joined(sender, fact)
        elif isinstance(fact, Refusal):
            self._host.refused(fact)
        elif isinstance(fact, PlanApplied):
            if not self._answered(sender, fact, boot_id == self._registry.boot_id(sender)):
                return True
        else:
            return self._host.late(fact)
        self._conversation.stored(sender, fact)
        return True

    def _joined(self, sender: str, profile: Profile) -> None:
        assert self._host is not None
        known = self._registry.heard_profile(profile)
        if self._host.joined(profile) and known:
            self._notify(
                DeviceJoined(
                    device=sender,
                    board=profile.hardware.board,
                    kind=profile.hardware.kind,
                    samples=sum(profile.label_counts),
                    backend=profile.backend,
                )
            )

    def _answered(self, sender: str, reply: PlanApplied, current: bool) -> bool:
        """A device has answered its plan, in its present start or in one that is over."""
        assert self._host is not None
        if current and self._registry.heard_plan_applied(reply):
            notes = reply.applied.notes if reply.applied else ()
            self._notify(
                PlanInForce(device=sender, notes=notes, error=reply.error, applied=reply.applied)
            )
        return self._host.answered(reply)
