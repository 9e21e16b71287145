"""How often an honest peer may send what is of no use, or what only rarely has a reason.

An :class:`Allowance` is a token bucket: so many at once, and so many more in each minute
(:data:`ALLOWED`). Whoever takes more is no honest peer, whatever else it sends: there is room for
the worst honest case several times over.

=============  ===========  ============  ==========================================================
of             at once      a minute      the most that is honest
=============  ===========  ============  ==========================================================
``bad``        60           12            a damaged message now and then
``idle``       1,000        1,200         requests and chunks of no use: 64 that were on their way
                                          when a transfer ended, and what the network doubles
``news``       120          60            starts, ends and new connections: a link that is cut every
                                          3 s makes 40 a minute, an agent that crashes at once 30
``state``      200          1,200         a heartbeat every 5 s
``telemetry``  300          1,800         ten a second (``fimi agent run --telemetry-s``)
``line``       5            6             a meter that fails and reads again; more is not said
=============  ===========  ============  ==========================================================

What is of use gives back what as much of no use has taken: a network that doubles every message
doubles those of a fast transfer.

It has no clock: times are arguments.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Use = Literal["bad", "idle", "news", "state", "telemetry", "line"]


class Allowance(Struct, frozen=True):
    """How much of something is honest.

    Attributes:
        at_once: so much.
        per_minute: and so much more in each minute.
        why: what is wrong with more, as the end of a sentence.
    """

    at_once: float
    per_minute: float
    why: str


ALLOWED: dict[Use, Allowance] = {
    "bad": Allowance(60, 12, "cannot be used"),
    "idle": Allowance(
        1000, 1200, "sends requests and chunks that nobody has a use for, more than 20 a second"
    ),
    "news": Allowance(
        120, 60, "says more than once a second that it has started, ended or is back"
    ),
    "state": Allowance(200, 1200, "says more than 20 times a second that it is here"),
    "telemetry": Allowance(300, 1800, "sends telemetry more than 30 times a second"),
    "line": Allowance(5, 6, "has more to say of itself than anybody can read"),
}

IDLE_BYTES = 64 << 10
"""So many bytes of what is of no use count as one more message."""


class Purse:
    """What one peer has left of each allowance."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left: dict[Use, tuple[float, float]] = {}  # how much, and when that was

    def take(self, use: Use, now_s: float, cost: float = 1.0) -> bool:
        """Take from an allowance; returns whether there was so much. If not, nothing is taken."""
        left = self._now(use, now_s)
        if left < cost:
            self._left[use] = (left, now_s)
            return False
        self._left[use] = (left - cost, now_s)
        return True

    def give(self, use: Use, now_s: float, amount: float) -> None:
        """Give back to an allowance."""
        if use in self._left:  # else it is full
            left = min(ALLOWED[use].at_once, self._now(use, now_s) + amount)
            self._left[use] = (left, now_s)

    def _now(self, use: Use, now_s: float) -> float:
        allowed = ALLOWED[use]
        left, at_s = self._left.get(use, (allowed.at_once, now_s))
        more = allowed.per_minute / 60.0 * max(0.0, now_s - at_s)
        return min(allowed.at_once, left + more)
