"""Who is to be told that all of a payload is here, and when again until it is heard.

A holder keeps a payload until it knows. :class:`Receipts` has no network, no thread and no
clock: times are arguments.
"""

from __future__ import annotations

from collections.abc import Callable

from fimi.messaging.transfers.wire import Done

MAX_UNCONFIRMED = 4096
"""Most confirmations that wait; the oldest gives way."""
_AGAIN_S = (0.5, 1.0, 2.0, 4.0, 8.0)
_AWAY_S = 1.0
"""While a holder or the broker is away, it is looked this often whether to confirm, s."""


class Receipts:
    """What is to be confirmed. Not safe to use from several threads without a lock."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], tuple[float, int]] = {}

    def __contains__(self, key: tuple[str, str]) -> bool:
        """Whether a holder has not yet heard it of a payload."""
        return key in self._waiting

    def add(self, holder: str, digest: str, now_s: float) -> None:
        """Confirm a payload from now on."""
        self._waiting[holder, digest] = (now_s, 0)
        if len(self._waiting) > MAX_UNCONFIRMED:
            del self._waiting[next(iter(self._waiting))]

    def begin_anew(self, now_s: float, holder: str | None = None) -> None:
        """Confirm again, to one holder or to all: what was said before may be lost."""
        for key in self._waiting:
            if holder is None or key[0] == holder:
                self._waiting[key] = (now_s, 0)

    def noted(self, holder: str, digest: str) -> bool:
        """A holder has heard it; returns whether it was waited for.

        What is to be confirmed again, and was not yet, is not over with it: the holder may have
        heard what was said before, and forgotten it since.
        """
        waiting = self._waiting.get((holder, digest))
        if waiting is not None and waiting[1] > 0:
            del self._waiting[holder, digest]
        return waiting is not None

    def due(self, now_s: float, reachable: Callable[[str], bool]) -> list[tuple[str, Done]]:
        """The holders to which a payload is to be confirmed now.

        It is not said in vain while the holder is away: it would wait for ever for what it has
        missed, and its update would be lost although it is here.
        """
        due: list[tuple[str, Done]] = []
        for (holder, digest), (due_s, tries) in list(self._waiting.items()):
            if due_s > now_s:
                continue
            if not reachable(holder):
                self._waiting[holder, digest] = (now_s + _AWAY_S, 0)
                continue
            due.append((holder, Done(digest=digest)))
            if tries < len(_AGAIN_S):
                self._waiting[holder, digest] = (now_s + _AGAIN_S[tries], tries + 1)
            else:
                del self._waiting[holder, digest]
        return due

    def next_s(self) -> float:
        """When :meth:`due` will have something to look at."""
        return min((due_s for due_s, _ in self._waiting.values()), default=float("inf"))
