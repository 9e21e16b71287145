"""When to try again: soon after a short drop, ever more seldom afterwards, and never all at once.

A connection that drops for an instant is to be back at once; a broker that is away for hours must
not be asked by forty boards every second, and forty boards that come back must not arrive in one
instant. So each pause is drawn at random between a part of a span and all of it; the span doubles
with every failure up to :data:`LONGEST_S`, and to :data:`LONGEST_LATER_S` once it has lasted for
:data:`LATER_S`.
"""

from __future__ import annotations

import random

FIRST_S = 0.3
"""The first pause takes at most so long, s."""
SHARE = 1 / 3
"""Every pause takes at least this share of its span."""
LONGEST_S = 8.0
"""No pause takes longer, s, until :data:`LATER_S` have passed."""
LATER_S = 300.0
"""After so long without success pauses grow further, s."""
LONGEST_LATER_S = 30.0
"""No pause takes longer, s."""
STEADY_S = 2.0
"""A connection that has held for so long was a success, s: the next pause is a first one."""


class Backoff:
    """The pauses of one caller. It has no clock; times are arguments.

    Args:
        dice: gives numbers from 0 to 1.
    """

    def __init__(self, dice: random.Random | None = None) -> None:
        self._dice = dice or random.SystemRandom()
        self._failures = 0
        self._since_s: float | None = None

    def succeeded(self) -> None:
        """It has worked: pauses begin anew."""
        self._failures, self._since_s = 0, None

    def failed(self, now_s: float) -> float:
        """It has failed once more; returns the pause until the next attempt, s."""
        if self._since_s is None:
            self._since_s = now_s
        later = now_s - self._since_s >= LATER_S
        span_s = FIRST_S * 2.0 ** min(self._failures, 32)
        span_s = min(span_s, LONGEST_LATER_S if later else LONGEST_S)
        self._failures += 1
        return span_s * (SHARE + (1.0 - SHARE) * self._dice.random())
