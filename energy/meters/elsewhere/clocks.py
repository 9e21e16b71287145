"""The difference between two machines' clocks, by messages, and how well it is known.

* :class:`TwoWayOffset`  by questions and answers: known within half of a round trip
* :class:`OneWayOffset`  by messages that only come: known up to the shortest delay of the network

An offset is their clock minus ours, s. With a question that leaves at t0 by our clock, is heard at
t1 and answered at t2 by theirs, and comes back at t3 by ours, the offset lies within

    ((t1 − t0) + (t2 − t3)) / 2  ±  ((t3 − t0) − (t2 − t1)) / 2

whatever the two ways took (Mills 1991). Of several exchanges the one with the shortest round trip
is believed; the bound grows with its age, because clocks drift. Two exchanges whose bounds do not
meet prove that one of the clocks was set in between: what was known before is dropped.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import NamedTuple

DRIFT = 2e-4
"""Largest difference of speed of two clocks, s/s: crystals differ by up to 1e-4, as much again is
left for a clock that is being adjusted."""

FASTEST_S = 0.05
"""What the fastest of messages that only come may have taken, s: through a home's network, its
broker and a sender that is in no hurry."""

_MARGIN_S = 1e-3  # bounds that miss each other by less are not worth a warning
_EXCHANGES = 16
_HEARD = 64
_SURE = 8
_STEP_S = 1.0


class _Known(NamedTuple):
    offset_s: float
    within_s: float
    at_s: float

    def bound_s(self, now_s: float) -> float:
        return self.within_s + DRIFT * max(0.0, now_s - self.at_s)


class TwoWayOffset:
    """The offset by questions and answers.

    Attributes:
        steps: how often one of the clocks was set.
        exchanges: how many answers it is known from.
    """

    def __init__(self) -> None:
        self._known: deque[_Known] = deque(maxlen=_EXCHANGES)
        self.steps = 0
        self.exchanges = 0

    @property
    def ready(self) -> bool:
        """Whether it is known."""
        return bool(self._known)

    @property
    def last_s(self) -> float:
        """When the last answer came, by our clock, s; −∞ if none has."""
        return self._known[-1].at_s if self._known else -math.inf

    def answer(self, asked_s: float, heard_s: float, answered_s: float, now_s: float) -> bool:
        """An answer has come.

        Args:
            asked_s: when the question left, by our clock, s.
            heard_s: when they heard it, by theirs, s.
            answered_s: when they answered, by theirs, s.
            now_s: when the answer came, by ours, s.

        Returns:
            Whether it proves that one of the clocks was set since the answer before.
        """
        trip_s = max(0.0, (now_s - asked_s) - max(0.0, answered_s - heard_s))
        new = _Known(((heard_s - asked_s) + (answered_s - now_s)) / 2.0, trip_s / 2.0, now_s)
        stepped = any(
            abs(new.offset_s - old.offset_s) > new.within_s + old.bound_s(now_s) + _MARGIN_S
            for old in self._known
        )
        if stepped:
            self._known.clear()
            self.steps += 1
        self._known.append(new)
        self.exchanges += 1
        return stepped

    def best(self, now_s: float) -> tuple[float, float]:
        """The offset and its bound now, s.

        Raises:
            ValueError: no answer has come.
        """
        if not self._known:
            raise ValueError("the offset of the clocks is not known before an answer has come")
        best = min(self._known, key=lambda known: known.bound_s(now_s))
        return best.offset_s, best.bound_s(now_s)

    def ours(self, their_s: float, now_s: float) -> float:
        """A time of theirs by our clock, s."""
        return their_s - self.best(now_s)[0]

    def forget(self) -> None:
        """Their clock has begun anew: the sender was started again."""
        self._known.clear()


class OneWayOffset:
    """The offset by messages that only come.

    Its error is the delay of the fastest message, which nobody can know from here. So it is as
    uncertain as messages were unlike one another, and never less than if the fastest had taken
    between nothing and :data:`FASTEST_S`.

    Attributes:
        steps: how often one of the clocks was set.
    """

    def __init__(self) -> None:
        self._gaps_s: deque[float] = deque(maxlen=_HEARD)
        self.steps = 0

    @property
    def ready(self) -> bool:
        """Whether a message has come."""
        return bool(self._gaps_s)

    @property
    def behind_s(self) -> float:
        """By how much their clock is behind ours, s, if the fastest message took no time.

        Raises:
            ValueError: none has come.
        """
        return min(self._gaps_s)

    def heard(self, their_s: float, now_s: float) -> bool:
        """A message of their time has come now, by our clock; whether a clock was set since."""
        gap_s = now_s - their_s
        stepped = False
        if self._gaps_s and gap_s < min(self._gaps_s) - _STEP_S:
            # Of few messages, all of the others may have been slow.
            stepped = len(self._gaps_s) >= _SURE
            self._gaps_s.clear()
        self._gaps_s.append(gap_s)
        late = list(self._gaps_s)[-_SURE:]
        if len(self._gaps_s) >= 2 * _SURE and min(late) > min(self._gaps_s) + _STEP_S:
            self._gaps_s = deque(late, maxlen=_HEARD)
            stepped = True
        self.steps += stepped
        return stepped

    def was_set(self) -> None:
        """Their clock was set, as their own times say: what was known is dropped."""
        self._gaps_s.clear()
        self.steps += 1

    def ours(self, their_s: float) -> float:
        """A time of theirs by our clock, s; later by the shortest delay of the network."""
        return their_s + min(self._gaps_s)

    def sd_s(self, step_s: float = 0.0) -> float:
        """One standard deviation of what is known of it, s.

        Args:
            step_s: smallest difference of their times, which makes messages unlike, too, s.
        """
        gaps_s = [*self._gaps_s] or [0.0]
        unlike_s = statistics.median(gaps_s) - min(gaps_s) - step_s / 2.0
        return math.hypot(FASTEST_S / math.sqrt(3.0), max(0.0, unlike_s))
