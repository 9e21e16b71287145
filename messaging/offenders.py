"""Who sends what cannot be used: named once, counted, and past a limit set aside.

A message *offends* if it cannot be decoded, speaks for somebody else, is too large, comes on a
topic of no known kind, or comes more often than any honest peer sends it: more than so many of all
kinds together (:data:`MANY_MESSAGES`, :data:`MANY_BYTES`), or more of its kind than
:mod:`fimi.messaging.allowances` says. Offences are counted by sender. The first one is named in the
log; then the 10th, the 100th, the 1000th and so on.

A sender is set aside when

* with counts that halve in :data:`HALF_S`, at least :data:`OFFENCES` of its messages offended and
  these were more than half of all that it sent; or
* more offended than is allowed (``bad``), whatever else it sends.

The first time it is set aside for :data:`ASIDE_S`, then for twice as long, up to
:data:`ASIDE_MAX_S`; who behaves for :data:`FORGIVEN_S` begins anew.

What being set aside means depends on the broker. If it has access rules, a name on a topic is who
sent the message: nothing of it is looked at. If not, anybody can write under any name, and an
honest device must not fall silent because another one writes rubbish under its name. Then what
comes under the name is still looked at, until what offended reaches a budget of
:data:`BUDGET_BYTES` in each second. What is honest is repeated until it is answered, and gets
through.

Names are what a stranger chooses. So there is room for :data:`MAX_NAMES` of them, and what comes
under others is counted as of one, :data:`OTHERS`.

It has no clock and no network: times are arguments. It is safe to use from several threads.
"""

from __future__ import annotations

import logging
import threading

import msgspec
from msgspec import Struct

from fimi.messaging.allowances import ALLOWED, IDLE_BYTES, Purse, Use
from fimi.plural import plural

HALF_S = 10.0
OFFENCES = 20
ASIDE_S = 10.0
ASIDE_MAX_S = 320.0
FORGIVEN_S = 600.0
BUDGET_BYTES = 256 << 10
"""Bytes of offending messages that are looked at in each second under a name that is set aside and
may be forged; and four times as many at once."""
OFFENCE_BYTES = 256
"""What an offending message costs of that budget besides its bytes."""
MANY_MESSAGES = 5_000
MANY_BYTES = 64 << 20
"""More than so many messages or bytes of a sender within about :data:`HALF_S` are too many."""
MAX_NAMES = 10_000
OTHERS = "others"
NAMED = 20
"""Senders that are named in the log at once; after that one more in :data:`NAMED_AGAIN_S`."""
NAMED_AGAIN_S = 10.0
_SHOWN = 200
_SWEEP_S = 1.0

log = logging.getLogger(__name__)


class Offender(Struct, frozen=True, kw_only=True):
    """A sender that has offended.

    Attributes:
        sender: the name on the topic.
        offences: messages of it that could not be used, all together.
        unseen: messages of it that were not looked at, because it was set aside.
        why: what was wrong with the last one that was looked at.
        times: how often it was set aside.
        aside_s: for how long it was set aside last, s; 0: never.
        until_s: until when, on the caller's clock, s.
        forged: whether the broker lets anybody write under its name.
    """

    sender: str
    offences: int
    unseen: int = 0
    why: str
    times: int = 0
    aside_s: float = 0.0
    until_s: float = 0.0
    forged: bool = True

    def in_words(self) -> str:
        """What happened to it, as a sentence."""
        count = plural(self.offences, "message")
        if not self.times:
            return f"{count} of {self.sender} could not be used ({self.why})"
        then = (
            "the broker lets anybody write under this name, so what is honest is still looked for; "
            "give the fleet credentials and access rules (fimi fleet init)"
            if self.forged
            else "nothing of it is looked at in that time; look at its agent, or revoke its login"
        )
        return (
            f"{self.sender} is set aside for {self.aside_s:g} s: {count} could not be used "
            f"({self.why}); {then}"
        )


_BULK = ("want", "chunk")
"""Kinds of messages of which an honest peer sends very many, and which are cheap to decode."""
_LIMITED: dict[str, Use] = {"state": "state", "telemetry": "telemetry"}
"""Kinds that come at a steady rate, and what they take from."""


class _Sender(Struct):
    """Counts of one sender; ``good``, ``bad``, ``messages`` and ``size_bytes`` fade."""

    seen_s: float
    purse: Purse = msgspec.field(default_factory=Purse)
    good: float = 0.0
    bad: float = 0.0
    messages: float = 0.0
    size_bytes: float = 0.0
    budget_bytes: float = 4.0 * BUDGET_BYTES
    offences: int = 0
    unseen: int = 0
    said_at: int = 1
    why: str = ""
    times: int = 0
    strikes: int = 0
    aside_s: float = 0.0
    until_s: float = 0.0
    offended_s: float = 0.0


class Offenders:
    """All senders of one peer.

    Attributes:
        forged: whether a name on a topic may be another's; true until the broker has shown that it
            has access rules.
        version: grows whenever somebody is set aside.
    """

    def __init__(self, *, told_elsewhere: bool = False) -> None:
        """Nobody has offended; with ``told_elsewhere`` the log does not say who is set aside."""
        self.forged = True
        self._told_elsewhere = told_elsewhere
        self.version = 0
        self._senders: dict[str, _Sender] = {}
        self._swept_s = float("-inf")
        self._may_name = float(NAMED)
        self._named_s = 0.0
        self._unnamed = 0
        self._lock = threading.Lock()

    def admits(self, name: str, kind: str, size_bytes: int, now_s: float) -> bool:
        """Whether to look at a message.

        Args:
            name: its sender.
            kind: its kind, as in its topic.
            size_bytes: its size.
            now_s: the present time, s.
        """
        with self._lock:
            key = self._key(name, now_s)
            sender = self._at(key, now_s)
            bulk = kind in _BULK
            if not bulk:
                sender.messages += 1
                sender.size_bytes += size_bytes
            aside = now_s < sender.until_s
            if aside and not self.forged:
                sender.unseen += 1
                return False
            if not bulk and (sender.messages > MANY_MESSAGES or sender.size_bytes > MANY_BYTES):
                self._offend(key, sender, "it sends too often", now_s)
                return False
            if aside and not bulk and sender.budget_bytes < min(size_bytes, BUDGET_BYTES):
                sender.unseen += 1
                return False
            if (use := _LIMITED.get(kind)) is None or sender.purse.take(use, now_s):
                return True
            sender.budget_bytes -= size_bytes + OFFENCE_BYTES
            self._offend(key, sender, f"it {ALLOWED[use].why}", now_s)
            return self.forged

    def passed(self, name: str, now_s: float) -> None:
        """A message of this sender could be used."""
        with self._lock:
            self._at(self._key(name, now_s), now_s).good += 1

    def came(self, name: str, size_bytes: int, now_s: float, *, of_use: bool) -> None:
        """A valid request or chunk of this sender has come, and whether there was a use for it."""
        with self._lock:
            key = self._key(name, now_s)
            sender = self._at(key, now_s)
            cost = 1.0 + size_bytes / IDLE_BYTES
            if of_use:
                sender.purse.give("idle", now_s, cost)
            elif not sender.purse.take("idle", now_s, cost):
                self._offend(key, sender, f"it {ALLOWED['idle'].why}", now_s)
                return
            sender.good += 1

    def is_news_from(self, name: str, size_bytes: int, now_s: float) -> bool:
        """Whether to believe that a sender has started, ended, or is back: not too often."""
        with self._lock:
            key = self._key(name, now_s)
            sender = self._at(key, now_s)
            if sender.purse.take("news", now_s):
                return True
            sender.budget_bytes -= size_bytes + OFFENCE_BYTES
            self._offend(key, sender, f"it {ALLOWED['news'].why}", now_s)
            return False

    def may_be_said_of(self, name: str, now_s: float) -> bool:
        """Whether a sender may cause one more line of the log by what it says of itself."""
        with self._lock:
            return self._at(self._key(name, now_s), now_s).purse.take("line", now_s)

    def offended(self, name: str, size_bytes: int, why: str, now_s: float) -> None:
        """A message of this sender could not be used, and why, in words."""
        with self._lock:
            key = self._key(name, now_s)
            sender = self._at(key, now_s)
            sender.budget_bytes -= size_bytes + OFFENCE_BYTES
            self._offend(key, sender, why, now_s)

    def seen(self) -> tuple[Offender, ...]:
        """All that have offended, the worst first; who is forgiven is so once it speaks again."""
        with self._lock:
            found = [self._told(name, each) for name, each in self._senders.items()]
        return tuple(sorted((each for each in found if each.offences), key=lambda e: -e.offences))

    # With the lock held.

    def _told(self, name: str, sender: _Sender) -> Offender:
        return Offender(
            sender=name,
            offences=sender.offences,
            unseen=sender.unseen,
            why=sender.why,
            times=sender.times,
            aside_s=sender.aside_s,
            until_s=sender.until_s,
            forged=self.forged,
        )

    def _key(self, name: str, now_s: float) -> str:
        """The name under which a sender is counted."""
        if name in self._senders:
            return name
        if len(self._senders) >= MAX_NAMES and now_s - self._swept_s >= _SWEEP_S:
            self._swept_s = now_s
            for old in [
                known
                for known, each in self._senders.items()
                if now_s - each.seen_s > (FORGIVEN_S if each.offences else 6 * HALF_S)
            ]:
                del self._senders[old]
        return name if len(self._senders) < MAX_NAMES else OTHERS

    def _at(self, name: str, now_s: float) -> _Sender:
        """The sender, with its counts faded to the present time."""
        sender = self._senders.setdefault(name, _Sender(seen_s=now_s))
        past_s = max(0.0, now_s - sender.seen_s)
        sender.seen_s = now_s
        left = 0.5 ** (past_s / HALF_S)
        sender.good *= left
        sender.bad *= left
        sender.messages *= left
        sender.size_bytes *= left
        sender.budget_bytes = min(4.0 * BUDGET_BYTES, sender.budget_bytes + BUDGET_BYTES * past_s)
        if sender.offences and now_s - max(sender.offended_s, sender.until_s) > FORGIVEN_S:
            sender.offences, sender.unseen, sender.strikes, sender.said_at = 0, 0, 0, 1
        return sender

    def _offend(self, name: str, sender: _Sender, why: str, now_s: float) -> None:
        sender.bad += 1
        sender.offences += 1
        sender.offended_s = now_s
        sender.why = why[:_SHOWN]
        if sender.offences >= sender.said_at:
            if sender.said_at == 1:
                self._name(name, sender, now_s)
            else:
                log.warning(
                    "%d messages of %s dropped so far, the last one: %s",
                    *(sender.offences, name, sender.why),
                )
            sender.said_at *= 10
        within = sender.purse.take("bad", now_s)
        most_are = sender.bad >= OFFENCES and sender.bad > sender.good
        if now_s >= sender.until_s and (most_are or not within):
            sender.aside_s = min(ASIDE_S * 2.0**sender.strikes, ASIDE_MAX_S)
            sender.until_s = now_s + sender.aside_s
            sender.strikes = min(sender.strikes + 1, 30)
            sender.times += 1
            self.version += 1
            level = logging.DEBUG if self._told_elsewhere else logging.ERROR
            log.log(level, "%s", self._told(name, sender).in_words())

    def _name(self, name: str, sender: _Sender, now_s: float) -> None:
        """Name a sender in the log for the first time, unless there are too many of them."""
        again = (now_s - self._named_s) / NAMED_AGAIN_S
        self._may_name = min(float(NAMED), self._may_name + again)
        self._named_s = now_s
        if self._may_name < 1:
            self._unnamed += 1
            return
        self._may_name -= 1
        more = f" ({self._unnamed} other senders did the same)" if self._unnamed else ""
        self._unnamed = 0
        log.warning("dropped a message of %s: %s; more are counted%s", name, sender.why, more)
