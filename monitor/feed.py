"""Snapshots for everybody who looks, as server-sent events.

A :class:`Feed` takes a snapshot a second while anybody listens. While nobody does it takes none, or
a few (:meth:`Feed.keep_up`). Each listener gets a whole snapshot first, and merge patches after it
(:mod:`fimi.monitor.changes`); a patch is made and encoded once for all. A listener that does not
keep up is given a whole snapshot again in place of the patches that it has missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

from fimi.monitor.changes import Json, KnownRounds, as_json, difference
from fimi.monitor.snapshot import Snapshot

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
"""Time between two snapshots, s."""
UNSEEN_S = 30.0
"""Time between two snapshots that are taken for nobody, s."""
_BEHIND = 5
"""Patches that wait for a listener before it is given a whole snapshot in their place."""
_RETRY_MS = 1000
"""After what time a browser connects again, ms."""


def event(kind: str, number: int, body: Json) -> bytes:
    """A server-sent event."""
    data = json.dumps(body, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return f"event: {kind}\nid: {number}\nretry: {_RETRY_MS}\ndata: {data}\n\n".encode()


class Feed:
    """Used from one event loop.

    Args:
        take: gives the present snapshot; called on a thread of its own, one call at a time.
        interval_s: time between two snapshots, s.

    Attributes:
        listeners: how many there are.
    """

    def __init__(self, take: Callable[[], Snapshot], interval_s: float = INTERVAL_S) -> None:
        self._take = take
        self._interval_s = interval_s
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="snapshots")
        self._queues: set[asyncio.Queue[bytes | None]] = set()
        self._now: Json = {}
        self._rounds: KnownRounds = {}
        self._number = 0
        self._whole: tuple[int, bytes] = (0, b"")
        self._ticking: asyncio.Task[None] | None = None
        self._beginning, self._looking = asyncio.Lock(), asyncio.Lock()
        self._closed = asyncio.Event()
        self._fails = False

    @property
    def listeners(self) -> int:
        """How many there are."""
        return len(self._queues)

    async def now(self) -> Json:
        """The present snapshot."""
        loop = asyncio.get_running_loop()
        return as_json(await loop.run_in_executor(self._worker, self._take))

    async def listen(self) -> AsyncIterator[bytes]:
        """Events for one listener, until the feed is closed."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_BEHIND)
        async with self._beginning:  # of several who come at once, one sets it going
            if self._closed.is_set():
                return
            if self._ticking is None:
                await self._tick()
                if not self._closed.is_set():
                    self._ticking = asyncio.create_task(self._run())
            self._queues.add(queue)
            if self._closed.is_set():  # meanwhile: it gets the last state, then the end
                queue.put_nowait(None)
        try:
            yield self._whole_event()
            while (chunk := await queue.get()) is not None:
                yield chunk or self._whole_event()
        finally:
            self._queues.discard(queue)
            if not self._queues and self._ticking is not None:
                self._ticking.cancel()
                self._ticking = None

    async def keep_up(self) -> None:
        """Take snapshots for nobody: whoever comes then waits for no sums of many rounds."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(UNSEEN_S)
            if not self._queues:
                with contextlib.suppress(Exception):  # who looks will hear of it
                    await loop.run_in_executor(self._worker, self._take)

    async def close(self) -> None:
        """Tell the last state to all listeners, then end."""
        if self._queues and not self._closed.is_set():
            with contextlib.suppress(Exception):
                await self._tick()
        self._closed.set()
        if self._ticking is not None:
            self._ticking.cancel()
        for queue in tuple(self._queues):
            if queue.full():
                _give_whole(queue)
            queue.put_nowait(None)
        self._worker.shutdown(wait=False)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            due_s = max(due_s + self._interval_s, loop.time())
            await asyncio.sleep(due_s - loop.time())
            try:
                await self._tick()
                self._fails = False
            except Exception:  # the next one may be better: listeners stay
                if not self._fails:
                    log.exception("the dashboard stands still: no snapshot of the run")
                self._fails = True

    async def _tick(self) -> None:
        """Take a snapshot, and give everybody what has changed."""
        loop = asyncio.get_running_loop()
        async with self._looking:  # a patch is from what was told last
            after, patch = await loop.run_in_executor(self._worker, self._look)
            self._now = after
            self._number += 1
            chunk = event("change", self._number, patch)
            for queue in tuple(self._queues):
                if queue.full():
                    _give_whole(queue)
                else:
                    queue.put_nowait(chunk)

    def _look(self) -> tuple[Json, Json]:
        after = as_json(self._take(), self._rounds)
        return after, difference(self._now, after)

    def _whole_event(self) -> bytes:
        if self._whole[0] != self._number:
            self._whole = (self._number, event("whole", self._number, self._now))
        return self._whole[1]


def _give_whole(queue: asyncio.Queue[bytes | None]) -> None:
    """A listener that has missed some patches gets all of it again in place of those that wait."""
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(b"")
