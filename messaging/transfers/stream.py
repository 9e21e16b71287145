"""One payload for many at once: what is sent over the shared topic, and who hears it.

An asker joins by its first request, without naming blocks: the stream goes on where it is, or
begins. Then every asker requests what comes after the last chunk that it heard. Requests of several
askers for the same blocks become one chunk for all. Whoever has joined late gets the beginning at
the end.

Who falls behind by more than :data:`LAG_S` is set apart: it would have to take in what the fastest
ask for, and every other message for it would wait behind that. It is served for itself then. There
is no network, no thread and no clock here: times are arguments.
"""

from __future__ import annotations

from collections import deque

from fimi.messaging.transfers.turns import without

LISTENERS = 3
"""For fewer a stream is not worth it."""
LAG_S = 2.0
"""Whoever has not got what was sent so long ago is set apart, s."""
UNDER_WAY_S = 2.0
"""For so long blocks count as under way to those that had joined before they were sent, s."""
IDLE_S = 0.5
"""A stream over which nothing was sent for so long has ended, s: whoever joins begins it again."""


def is_for(listeners: int) -> bool:
    """Whether a payload that so many want is to be served over a stream."""
    return listeners >= LISTENERS


class Stream:
    """The shared stream of one payload."""

    def __init__(self) -> None:
        self._joined: dict[str, tuple[float, int]] = {}
        self._looked: dict[str, int] = {}
        self._apart: set[str] = set()
        self._sent_bytes = 0
        self._sent: deque[tuple[float, int, int]] = deque()
        self._history: deque[tuple[float, int]] = deque([(float("-inf"), 0)])

    def hears(self, asker: str) -> bool:
        """Whether an asker has joined."""
        return asker in self._joined

    def join(self, asker: str, now_s: float) -> bool:
        """An asker listens from now on; returns whether the stream has to be begun for it."""
        self._joined[asker] = (now_s, self._sent_bytes)
        self._looked[asker] = self._sent_bytes
        self._apart.discard(asker)
        return now_s - self._history[-1][0] > IDLE_S

    def leave(self, asker: str) -> None:
        """An asker does not listen any more."""
        self._joined.pop(asker, None)
        self._looked.pop(asker, None)

    def has_moved(self, asker: str) -> bool:
        """Whether something was sent since this was asked last for an asker that has joined."""
        before, self._looked[asker] = self._looked[asker], self._sent_bytes
        return before < self._sent_bytes

    def is_apart(self, asker: str) -> bool:
        """Whether an asker was set apart."""
        return asker in self._apart

    def falls_behind(self, asker: str, shared_bytes: int, now_s: float) -> bool:
        """Whether an asker that has got so much by the stream is to be set apart; then it is."""
        joined_s, before_bytes = self._joined[asker]
        if now_s - joined_s <= LAG_S:
            return False
        while len(self._history) > 1 and self._history[1][0] <= now_s - LAG_S:
            self._history.popleft()
        at_s, sent_bytes = self._history[0]
        due_bytes = sent_bytes - before_bytes if at_s > joined_s else 0
        if shared_bytes >= due_bytes:
            return False
        self.leave(asker)
        self._apart.add(asker)
        return True

    def not_under_way(
        self, asker: str, start: int, stop: int, now_s: float
    ) -> list[tuple[int, int]]:
        """Those of these blocks that are not under way to an asker already."""
        while self._sent and self._sent[0][0] < now_s - UNDER_WAY_S:
            self._sent.popleft()
        joined_s = self._joined[asker][0]
        left = [(start, stop)]
        for sent_s, begin, end in self._sent:
            if sent_s > joined_s:
                left = [part for each in left for part in without(each, (begin, end))]
        return left

    def sent(self, start: int, stop: int, size_bytes: int, now_s: float) -> None:
        """A chunk has left over the stream."""
        self._sent_bytes += size_bytes
        self._sent.append((now_s, start, stop))
        self._history.append((now_s, self._sent_bytes))
