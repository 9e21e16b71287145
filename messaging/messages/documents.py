"""The two documents in which coordinator and device talk, which the broker keeps.

:class:`Desired` holds the latest order of every kind to one device, :class:`Reported` the facts of
that device that are not in the run store yet. Either side publishes its document again until the
other one's says that it was heard (docs/conversation.md).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from fimi.messaging.messages.basis import Count, DeviceMessage, Stage
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

MAX_EARLIER = 16
"""Most earlier starts of a device of which it has something to tell."""


class Heard(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All facts of a device's start ``boot_id`` up to ``fact`` are in the run store.

    ``earlier`` says the same of starts before it, of which the device has told facts since: the
    number of the last one by boot id.
    """

    boot_id: str = ""
    fact: Count = 0
    earlier: Annotated[dict[str, Count], Meta(max_length=MAX_EARLIER)] = {}


class Desired(DeviceMessage, frozen=True, kw_only=True, tag="desired"):
    """Coordinator to device: what is wanted of it (retained; a later one replaces it).

    Of two documents the one with the greater ``(epoch, number)`` holds. The orders are the latest
    of their kind; :mod:`fimi.edge_agent.course` says what follows from them.

    Attributes:
        instance: of the run.
        epoch: of the coordinator.
        number: grows with every change.
        heard: what is in the run store.
    """

    instance: str
    epoch: Annotated[int, Meta(ge=1, le=2**53)]
    number: Annotated[int, Meta(ge=1, le=2**53)]
    heard: Heard = Heard()
    invitation: Invitation | None = None
    plan: DevicePlan | None = None
    start: RoundStart | None = None
    closed: RoundClosed | None = None
    test: DeploymentTest | None = None
    resume: DeploymentClosed | None = None
    ended: RunEnded | None = None

    @property
    def fleet_time_s(self) -> float:
        """The latest time of the fleet's clock that it tells, s; emulated boards begin there."""
        told = (self.plan, self.closed, self.resume, self.start)
        return max((order.fleet_time_s for order in told if order is not None), default=0.0)


class Fact(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A fact with its number; a device counts from 1 after each of its starts."""

    number: Annotated[int, Meta(ge=1, le=2**53)]
    body: FactBody


class EarlierFacts(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Facts of a start of a device that is over, as that start has numbered them."""

    boot_id: str
    facts: tuple[Fact, ...]


class Reported(DeviceMessage, frozen=True, kw_only=True, tag="reported"):
    """Device to coordinator: what has become of its orders (retained; a later one replaces it).

    Attributes:
        instance: of the run that it takes part in.
        boot_id: of this start of the device.
        number: grows with every change.
        epoch: of the newest :class:`Desired` that it has taken in.
        heard: the number of that document.
        stage: what the device does.
        waits_for: for whom or what it waits, in words; empty if it does not.
        meter: that its meter shows nothing, or that it reads again; empty if it always did.
        facts: what is not in the run store yet, as far as the device has been told.
        earlier: the same of earlier starts, oldest first.
    """

    instance: str
    boot_id: str
    number: Annotated[int, Meta(ge=1, le=2**53)]
    epoch: Annotated[int, Meta(ge=0, le=2**53)]
    heard: Annotated[int, Meta(ge=0, le=2**53)]
    stage: Stage
    waits_for: str = ""
    meter: Annotated[str, Meta(max_length=400)] = ""
    facts: tuple[Fact, ...] = ()
    earlier: Annotated[tuple[EarlierFacts, ...], Meta(max_length=MAX_EARLIER)] = ()
