"""How long a coordinator waits for others, and how often it says for whom.

* :class:`BrokerClock`  the time in which anybody could be heard
* :class:`Reminder`  something is due again after a while
* :class:`Grace`     once there are enough, the others have as long again
"""

from __future__ import annotations

import time


class BrokerClock:
    """Wall time that stands still while the broker is away: nobody is to blame for it.

    It is exact as far as :meth:`tick` is called often.
    """

    def __init__(self) -> None:
        self._now_s = 0.0
        self._before_s = time.monotonic()

    def tick(self, *, here: bool) -> None:
        """The time since the last call counts if the broker is ``here``."""
        now_s = time.monotonic()
        if here:
            self._now_s += now_s - self._before_s
        self._before_s = now_s

    def now_s(self) -> float:
        """Seconds at the last :meth:`tick`, since the clock was made."""
        return self._now_s


class Reminder:
    """Due at once or after ``first_s``, and then every ``every_s`` seconds of wall time.

    Args:
        every_s: shortest time between two moments at which it is due, s.
        first_s: time until the first one, s.
    """

    def __init__(self, every_s: float, *, first_s: float = 0.0) -> None:
        self._every_s = every_s
        self._due_s = time.monotonic() + first_s

    def due(self) -> bool:
        """Whether it is due; if so, it is not for a while."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return False
        self._due_s = now_s + self._every_s
        return True


class Grace:
    """Whoever is late may take twice as long as those who are enough took, and a little longer.

    Args:
        extra_s: that little, s.
    """

    def __init__(self, extra_s: float) -> None:
        self._extra_s = extra_s
        self._began_s = time.monotonic()
        self._limit_s: float | None = None

    def over(self, enough: bool) -> bool:
        """Whether the time of the late ones is over; ``enough`` says whether there are enough."""
        now_s = time.monotonic()
        if self._limit_s is None and enough:
            self._limit_s = now_s + (now_s - self._began_s) + self._extra_s
        return self._limit_s is not None and now_s > self._limit_s
