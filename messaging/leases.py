"""Who may use a peer id: leases, claims, and which of two processes yields.

A process that uses an id keeps a :class:`~fimi.messaging.messages.peers.Lease` at the broker, on a
topic from the id to itself. A newcomer, on a connection that disturbs nobody, reads the lease and
publishes a :class:`~fimi.messaging.messages.peers.Claim`. A living holder answers by publishing its
lease again, and the newcomer is refused. If there is no lease, a released one, or no answer, the
newcomer publishes a lease of the next epoch.

::

    asking ──── no lease, or released ───────────────▶ taking ── own lease came back ─▶ holding
      │                                                  ▲ │                               │
      └─ held ─▶ waiting ─ released, or nobody answers ──┘ └───────── a lease of ──────────┤
                    │                                                 higher rank came     │
                    └────────── a lease answered the claim ─────▶ lost ◀───────────────────┘

Leases have a total order, their *rank*: epoch, then boot id. Whoever holds the id and sees a lease
of higher rank yields; whoever sees one of lower rank publishes its own again. So of any number of
processes (two that start at once, one that was suspended and wakes up, a broker that has lost its
leases) exactly one stays, and no clock is compared.

:class:`Tenancy` has no clock, no network and no thread; :mod:`fimi.messaging.identity` has them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fimi.messaging.messages.peers import Claim, Lease

MAX_EPOCH = 2**53

Standing = Literal["asking", "waiting", "taking", "holding", "lost"]


class Tenancy:
    """Whether this process may use its peer id.

    Its methods return what to publish now, in this order: a lease retained, a claim not.
    """

    def __init__(self, mine: Lease) -> None:
        """A process that has not asked yet; ``mine`` says who it is, and its least epoch."""
        self.mine = mine
        self.standing: Standing = "asking"
        self.confirmed = False
        """Whether the broker has shown, since the last (re)connect, that nobody else has the id."""
        self.other: Lease | None = None
        """The lease of another process which holds the id, as far as is known."""
        self._epoch = mine.epoch - 1
        self._nonces: set[str] = set()
        self._fresh: set[str] = set()  # of the claims since the last reconnect

    def ask(self, nonce: str, *, again: bool = False) -> tuple[Claim, ...]:
        """Ask who holds the id, once subscribed and after every reconnect; or ask ``again``."""
        self._nonces.add(nonce)
        if not again:
            self._fresh.clear()
            self.confirmed = False
        self._fresh.add(nonce)
        return () if self.standing == "lost" else (Claim(peer=self.mine.peer, nonce=nonce),)

    def on_claim(self, claim: Claim) -> tuple[Lease, ...]:
        """Take a claim: the own one, which has come back behind all leases, or a newcomer's."""
        if claim.nonce not in self._nonces:
            held = self.standing in ("taking", "holding")
            return (msgspec.structs.replace(self.mine, nonce=claim.nonce),) if held else ()
        if claim.nonce not in self._fresh:
            return ()
        if self.standing in ("taking", "holding"):
            self.confirmed = self.standing == "holding"
            return (self.mine,)  # a broker that was restarted may have lost it
        if self.standing != "asking":
            return ()
        if self.other is None:
            return self._take()
        self.standing = "waiting"
        return ()

    def on_lease(self, lease: Lease) -> tuple[Lease, ...]:
        """Take a lease: one that the broker has kept, or one that was published just now."""
        if lease.boot_id == self.mine.boot_id:
            if self.standing == "taking" and lease.epoch == self.mine.epoch:
                self.standing, self.confirmed = "holding", True
            return ()
        self._epoch = max(self._epoch, lease.epoch)
        if self.standing in ("taking", "holding"):
            if rank(lease) < rank(self.mine):
                return (self.mine,)
            return self._lose(lease)
        if self.standing == "lost":
            return ()
        if lease.held and lease.nonce in self._nonces:
            return self._lose(lease)
        self.other = lease if lease.held else None
        return self._take() if self.standing == "waiting" and self.other is None else ()

    def nobody_answers(self) -> tuple[Lease, ...]:
        """The holder has not answered for long enough: it is dead."""
        return self._take() if self.standing == "waiting" else ()

    def describe(self, what: str) -> tuple[Lease, ...]:
        """Say in the lease what this process does."""
        self.mine = msgspec.structs.replace(self.mine, what=what)
        return (self.mine,) if self.standing == "holding" else ()

    def release(self) -> tuple[Lease, ...]:
        """Give the id back at an orderly end."""
        if self.standing not in ("taking", "holding"):
            return ()
        self.standing = "lost"
        return (msgspec.structs.replace(self.mine, held=False),)

    def _take(self) -> tuple[Lease, ...]:
        self.mine = msgspec.structs.replace(self.mine, epoch=min(self._epoch + 1, MAX_EPOCH))
        self.standing = "taking"
        return (self.mine,)

    def _lose(self, lease: Lease) -> tuple[Lease, ...]:
        self.other, self.standing, self.confirmed = lease, "lost", False
        return ()


def rank(lease: Lease) -> tuple[int, str]:
    """The order of leases: of two holders the one of higher rank stays."""
    return lease.epoch, lease.boot_id


def holder_in_words(lease: Lease, role: str = "") -> str:
    """Who holds a lease: role, process, machine, run and since when, for an error message."""
    role = role or {"device": "an agent", "generator": "a generator node"}.get(
        lease.role, "a coordinator"
    )
    place = f"process {lease.pid} on {lease.host}" if lease.host else "a process"
    what = f", {lease.what}" if lease.what else ""
    since = f", since {lease.since} by its clock" if lease.since else ""
    return f"{role} ({place}{what}{since})"
