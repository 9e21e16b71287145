"""A peer's thread for what comes round: heartbeats, and whose heartbeats have not come.

:class:`Heartbeat` turns a few times between two heartbeats, and at once when it is woken. In each
turn it publishes documents that wait, and finds out which other peers are gone or silent
(:mod:`fimi.messaging.presence`). While the broker is away it says for how long. While the peer id
is not known to be still the peer's own, it asks whether it is, and does no more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from fimi.messaging.identity import Identity
from fimi.messaging.kept_documents import Documents
from fimi.messaging.link import Link
from fimi.messaging.messages.peers import DeviceState
from fimi.messaging.presence import Presence

HEARTBEAT_S = 5.0
"""Time between two heartbeats, s."""
AWAY_LOG_S = 30.0
"""The log says after this that the broker is away, s, and then each time after twice as long."""
AWAY_LOG_MOST_S = 3600.0
"""But at least once in so long, s."""

log = logging.getLogger(__name__)


class Heartbeat:
    """The thread of one peer.

    Args:
        peer: own id.
        every_s: time between two heartbeats, s.
        link: the connection.
        identity: the hold on the peer id.
        documents: the peer's own.
        presence: the other peers.
        on_turn: called in every turn in which the peer may publish.
        on_beat: publishes the state.
        on_lost: called with each peer that counts as offline from now on.
    """

    def __init__(
        self,
        peer: str,
        *,
        every_s: float,
        link: Link,
        identity: Identity,
        documents: Documents,
        presence: Presence,
        on_turn: Callable[[], None],
        on_beat: Callable[[], None],
        on_lost: Callable[[DeviceState], None],
    ) -> None:
        self._every_s = every_s
        self._link = link
        self._identity = identity
        self._documents = documents
        self._presence = presence
        self._turn_handler = on_turn
        self._beat_handler = on_beat
        self._lost_handler = on_lost
        self._wake = threading.Event()
        self._closing = False
        self._last: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._run, name=f"beat-{peer}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Let it turn at once; never waits."""
        self._wake.set()

    def end(self, last: Callable[[], None]) -> None:
        """Let the thread do something last and end; never waits."""
        self._last = last
        self._wake.set()

    def close(self) -> None:
        """End the thread; may be called again, also before :meth:`start`."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        tick_s = min(self._every_s, self._presence.silent_after_s / 4)
        now_s = time.monotonic()
        next_beat_s = now_s + self._every_s
        next_word_s = AWAY_LOG_S
        while True:
            before_s = now_s
            next_s = min(next_beat_s, self._presence.next_s())
            self._wake.wait(max(0.01, min(tick_s, next_s - time.monotonic())))
            self._wake.clear()
            if self._closing:
                return
            if self._last is not None:
                self._last()
                return
            self._documents.pump()
            now_s = time.monotonic()
            if now_s - before_s > 2 * tick_s:  # this process stood still: who was silent was it
                self._presence.pardon(now_s, wills=False)
            beat = now_s >= next_beat_s
            if beat:
                next_beat_s = now_s + self._every_s
            if not self._link.ready:
                if (away_s := self._link.away_s or 0.0) >= next_word_s:
                    if why := self._link.shut_out:
                        log.warning("not let in for %.0f s: %s", away_s, why)
                    else:
                        log.warning("broker at %s away for %.0f s", self._link.address, away_s)
                    next_word_s += min(next_word_s, AWAY_LOG_MOST_S)
                continue
            next_word_s = AWAY_LOG_S
            if not self._identity.confirmed:
                self._identity.ask_if_unconfirmed()
                continue
            self._turn_handler()
            if beat:
                self._beat_handler()
            for state in self._presence.lost(now_s):
                self._lost_handler(state)
