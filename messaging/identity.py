"""How a peer takes, keeps and loses its id at the broker.

The rules are in :mod:`fimi.messaging.leases`. :class:`Identity` asks for the id on a connection of
its own with a random client id: a broker closes the connection of a client when another one comes
with the same client id, so nobody may come before the id is known to be free. Afterwards it follows
leases and claims on the peer's connection, and tells the peer when the broker has shown that the id
is still its own, and when another process has taken it over.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone

from paho.mqtt.client import MQTTMessageInfo

from fimi.messaging import topics
from fimi.messaging.address import BrokerAddress
from fimi.messaging.errors import BrokerError, IdentityTaken, MessageRefused
from fimi.messaging.leases import MAX_EPOCH, Tenancy, holder_in_words
from fimi.messaging.link import Link
from fimi.messaging.messages.peers import Claim, Lease, Role
from fimi.messaging.topics import Kind
from fimi.messaging.transfers.wire import decode_message, encode_message

CLAIM_S = 3.0
"""Whoever does not answer a claim for so long is dead, s."""

ASK_AGAIN_S = 0.7
"""A claim without an answer is repeated after this time, s."""

_OF_PEER: tuple[Kind, Kind] = ("lease", "claim")
_OF_STUDY: tuple[Kind, Kind] = ("study", "study-claim")
"""On which topics leases and claims travel."""

log = logging.getLogger(__name__)


class Identity:
    """The hold of one process on its peer id. Safe to use from several threads.

    ``on_confirmed()`` is called when the broker has shown, after a reconnect, that the id is still
    held; ``on_lost(error)`` once when another process has it. Both run on a network thread.
    """

    def __init__(
        self,
        *,
        fleet: str,
        peer: str,
        role: Role,
        boot_id: str,
        epoch_after: int = 0,
        what: str = "",
        of_study: bool = False,
        on_confirmed: Callable[[], None] = lambda: None,
        on_lost: Callable[[IdentityTaken], None] = lambda _: None,
    ) -> None:
        """An identity that holds nothing yet; its epoch will be above ``epoch_after``.

        With ``of_study`` it holds the fleet for a study instead of the id: see
        :mod:`fimi.messaging.reservation`.
        """
        self._fleet, self._peer, self._of_study = fleet, peer, of_study
        self._kinds: tuple[Kind, Kind] = _OF_STUDY if of_study else _OF_PEER
        self._tenancy = Tenancy(
            Lease(
                peer=peer,
                role=role,
                boot_id=boot_id,
                epoch=min(epoch_after + 1, MAX_EPOCH),
                host=socket.gethostname(),
                pid=os.getpid(),
                since=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                what=what,
            )
        )
        self._topics = {kind: topics.topic(fleet, peer, peer, kind) for kind in self._kinds}
        self._confirmed_handler = on_confirmed
        self._lost_handler = on_lost
        self._changed = threading.Condition()
        self._link: Link | None = None
        self._asked_s = float("-inf")

    @property
    def lease(self) -> Lease:
        """The own lease."""
        return self._tenancy.mine

    @property
    def confirmed(self) -> bool:
        """Whether the id is held, as the broker has shown since the last reconnect."""
        return self._tenancy.confirmed

    def take(
        self,
        address: BrokerAddress,
        timeout_s: float,
        check: Callable[[Link], None] = lambda _: None,
    ) -> Link:
        """Take the id, on a connection of its own.

        Args:
            address: the broker.
            timeout_s: how long it may take to answer, s.
            check: called with the connection first; raises if the peer cannot be let in.

        Returns:
            That connection, which answers claims until :meth:`move` names another one.

        Raises:
            IdentityTaken: a living process has it; says which one.
            BrokerError: as :meth:`fimi.messaging.link.Link.connect`, or the broker does not return
                what a peer sends to itself.
        """
        probe = Link(
            address,
            f"{self._fleet}:{self._peer}:{secrets.token_hex(16)}",
            clean_session=True,
            subscriptions=tuple(self._topics.values()),
            on_message=self._on_probe,
            on_ready=lambda first: None if first else self.ask(),
        )
        self._link = probe
        try:
            probe.connect(timeout_s)
            check(probe)
            self._await_standing(probe, timeout_s)
        except BaseException:
            self._link = None
            probe.close()
            raise
        return probe

    def _await_standing(self, probe: Link, timeout_s: float) -> None:
        """Ask until the id is held, or is known to be another's."""
        tenancy = self._tenancy
        start_s = time.monotonic()
        waits_since_s, waits_for = start_s, ""
        self.ask()
        while True:
            with self._changed:
                if tenancy.standing == "holding":
                    return
                if tenancy.standing == "lost":
                    raise self._taken()
                now_s = time.monotonic()
                if tenancy.standing == "waiting" and tenancy.other is not None:
                    if waits_for != tenancy.other.boot_id:
                        waits_since_s, waits_for = now_s, tenancy.other.boot_id
                        log.info(
                            "%s was held by %s; waiting for %g s whether it answers",
                            f"fleet {self._fleet!r}"
                            if self._of_study
                            else f"peer id {self._peer!r}",
                            holder_in_words(tenancy.other, "a study" if self._of_study else ""),
                            CLAIM_S,
                        )
                    if now_s - waits_since_s >= CLAIM_S:
                        self._publish(tenancy.nobody_answers())
                        continue
                elif now_s - start_s > CLAIM_S + timeout_s:
                    raise BrokerError(
                        f"{probe.address}: does not return what peer {self._peer!r} sends to "
                        f"itself; its access rules must let it write and read "
                        f"{' and '.join(self._topics.values())} (docs/security.md)"
                    )
                again_s = self._asked_s + ASK_AGAIN_S - now_s
                self._changed.wait(max(0.0, again_s))
                due = time.monotonic() >= self._asked_s + ASK_AGAIN_S
            if due:
                self.ask(again=True)

    def move(self, link: Link) -> None:
        """From now on publish on this connection."""
        with self._changed:
            self._link = link

    def ask(self, *, again: bool = False) -> None:
        """Ask whether somebody else has the id: after every (re)connect, and ``again``."""
        with self._changed:
            self._asked_s = time.monotonic()
            self._publish(self._tenancy.ask(secrets.token_hex(8), again=again))

    def ask_if_unconfirmed(self) -> None:
        """Ask again if there was no answer for a while."""
        due = time.monotonic() >= self._asked_s + 2 * ASK_AGAIN_S
        if due and self._tenancy.standing == "holding" and not self.confirmed:
            self.ask(again=True)

    def describe(self, what: str) -> None:
        """Say in the lease what this process does, for example ``"run desk-3"``."""
        with self._changed:
            self._publish(self._tenancy.describe(what))

    def release(self) -> MQTTMessageInfo | None:
        """Give the id back at an orderly end; returns the message that says so."""
        with self._changed:
            return self._publish(self._tenancy.release())

    # On a network thread.

    def on_message(self, kind: str, payload: bytes) -> None:
        """Take a lease or claim of the own id.

        Raises:
            MessageRefused: it is not valid.
        """
        if not payload:
            return
        message = decode_message(payload, sender=self._peer, recipient=self._peer)
        with self._changed:
            tenancy = self._tenancy
            before = tenancy.standing, tenancy.confirmed
            if isinstance(message, Lease) and kind == self._kinds[0]:
                self._publish(tenancy.on_lease(message))
            elif isinstance(message, Claim) and kind == self._kinds[1]:
                self._publish(tenancy.on_claim(message))
            else:
                raise MessageRefused(f"{type(message).__name__} came as {kind!r}")
            after = tenancy.standing, tenancy.confirmed
            self._changed.notify_all()
        if before == ("holding", False) and after == ("holding", True):
            self._confirmed_handler()
        if before[0] == "holding" and after[0] == "lost":
            self._lost_handler(self._taken())

    def _on_probe(self, topic: str, payload: bytes, _retained: bool) -> None:
        place = topics.parse(topic)
        if place is None:
            return
        try:
            self.on_message(place.kind, payload)
        except MessageRefused as error:
            log.warning("dropped: %s", error)

    # With the lock held.

    def _publish(self, messages: tuple[Lease | Claim, ...]) -> MQTTMessageInfo | None:
        info = None
        for message in messages:
            if self._link is None:
                continue
            retain = isinstance(message, Lease)
            kind = self._kinds[0] if retain else self._kinds[1]
            payload = encode_message(message, sender=self._peer, recipient=self._peer)
            info = self._link.publish(self._topics[kind], payload, qos=1, retain=retain)
        return info

    def _taken(self) -> IdentityTaken:
        other = self._tenancy.other
        if self._of_study:
            who = "another one" if other is None else holder_in_words(other, "a study")
            return IdentityTaken(
                f"fleet {self._fleet!r} is in use by {who}; wait until it is done, end it, or name "
                "another fleet (fleet.name)",
                other,
            )
        who = "another process" if other is None else holder_in_words(other)
        fixed = self._tenancy.mine.role == "coordinator"  # it has the same id in every fleet
        return IdentityTaken(
            f"the id {self._peer!r} of fleet {self._fleet!r} is in use by {who}; end that process, "
            f"or give this one another {'fleet (fleet.name)' if fixed else 'id or fleet'}",
            other,
        )
