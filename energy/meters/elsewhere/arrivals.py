"""How often the messages of a sender come: regularly, in bursts, or less often than at first.

A look at any time falls between two messages, and into a long gap rather than a short one. So the
period is the *time-weighted* median of the gaps: half of all time lies in gaps of this length or a
longer one. A plug that sends four messages at once every ten seconds has a period of ten seconds; a
regular sender keeps its own when one message is late.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence

_KEPT = 64
_FEWEST = 4
_WATCHED = 24
_QUIET = 3.0
_LONGER = 2.0
_OFTEN = 3
_IN_STEP = 1.4
_FINE = 0.005
"""A step over a value, below which noise alone would change it."""


class Arrivals:
    """When messages came, and what they held."""

    def __init__(self) -> None:
        self._heard: deque[tuple[float, float]] = deque(maxlen=_KEPT)

    def heard(self, at_s: float, value: float) -> None:
        """A message came, s; with this value."""
        self._heard.append((at_s, value))

    def period_s(self, now_s: float) -> float | None:
        """Time between two messages, s; ``None`` of fewer than two."""
        if len(self._heard) < 2:
            return None
        times_s = [at_s for at_s, _ in self._heard]
        gaps_s = _gaps(times_s)
        # The gap that goes on counts if it is longer than all before it.
        return _weighted_median([*gaps_s, *(g for g in (now_s - times_s[-1],) if g > max(gaps_s))])

    def is_settled(self, now_s: float) -> bool:
        """Whether messages came often enough to tell, and go on coming as often."""
        period_s = self.period_s(now_s)
        if period_s is None or len(self._heard) < _FEWEST:
            return False
        closed_s = _weighted_median(_gaps([at_s for at_s, _ in self._heard]))
        return now_s - self._heard[-1][0] <= _QUIET * closed_s

    def doubts(self, refresh_s: float, step: float) -> tuple[str, ...]:
        """That values come less often than when the meter was opened, a sentence each.

        Args:
            refresh_s: time between two values, as the meter states it, s.
            step: smallest step of values; infinite where they are sums that grow.
        """
        if len(self._heard) < _WATCHED:
            return ()
        times_s, values = zip(*self._heard, strict=True)
        gaps_s = _gaps(times_s)
        period_s = _weighted_median(gaps_s)
        often = sum(gap_s > _LONGER * refresh_s for gap_s in gaps_s) >= _OFTEN
        if often and period_s > _LONGER * refresh_s:
            return (
                f"its messages come every {period_s:.3g} s, not every {refresh_s:.3g} s: what it "
                f"shows is older than is assumed. Write [topic] refresh_s = {period_s:.2g}",
            )
        pairs = itertools.pairwise(self._heard)
        news_s = [after[0] for before, after in pairs if after[1] != before[1]]
        fine = step <= _FINE * sorted(map(abs, values))[len(values) // 2]
        apart_s = _gaps(news_s)
        if not fine or len(apart_s) < _OFTEN:
            return ()
        # A steady load repeats values as well, but not in step.
        period_s = min(apart_s)
        if period_s <= _LONGER * refresh_s or max(apart_s) > _IN_STEP * period_s:
            return ()
        return (
            f"its messages repeat the value before to the last digit, and new ones come every "
            f"{period_s:.3g} s, not every {refresh_s:.3g} s: what it shows is older than is "
            f"assumed. Write [topic] refresh_s = {period_s:.2g}",
        )


def _gaps(times_s: Sequence[float]) -> list[float]:
    return [max(0.0, b - a) for a, b in itertools.pairwise(times_s)]


def _weighted_median(gaps_s: Sequence[float]) -> float:
    """The gap in which half of all time lies in gaps that are no longer."""
    passed_s, half_s = 0.0, sum(gaps_s) / 2.0
    for gap_s in sorted(gaps_s):
        passed_s += gap_s
        if passed_s >= half_s:
            return gap_s
    return max(gaps_s)
