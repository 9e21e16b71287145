"""The feed of a run, heard from another process: it becomes snapshots again.

A :class:`FeedListener` connects again by itself after any interruption, and says since when it is
not connected. It asks each time where the run is, because a coordinator that was started again is
at another address, with another key.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Struct

from fimi.errors import InputError, SurroundingsError
from fimi.monitor.changes import Json, apply
from fimi.monitor.snapshot import OVER, Snapshot
from fimi.record.clean import clean

KEY_HEADER = "X-FIMI-Key"
SILENT_S = 10.0
"""After what time without a word a connection is given up, s; a feed speaks every second."""
AGAIN_S = 1.0
"""Time until the next try, s."""
_LONGEST = 64 * 2**20
"""Most bytes of a line of the feed."""
_LINGERS_S = 2.0
"""For how long a run that is over may still say something, s."""


class FeedError(SurroundingsError, RuntimeError):
    """What is at an address is no feed of a run, or it refuses; the message says why."""

    code = "R018"


class FeedAddress(Struct, frozen=True, kw_only=True):
    """Where a dashboard is.

    Attributes:
        url: of its page, without the key.
        key: lets its holder look from elsewhere.
    """

    url: str
    key: str = ""

    @classmethod
    def of(cls, text: str) -> FeedAddress:
        """From what a coordinator prints: ``http://host:8765/?key=…``.

        Raises:
            InputError: it is no such address.
        """
        try:
            split = urlsplit(text)
            whole = split.scheme in ("http", "https") and split.hostname and (split.port or 1) > 0
        except ValueError:
            whole = False
        if not whole:
            raise InputError(
                f"{text!r} is no address of a dashboard: give what the coordinator has printed, "
                "http://HOST:PORT/?key=…",
                code="U001",
            )
        path = split.path if split.path.endswith("/") else f"{split.path}/"
        keys = parse_qs(split.query).get("key", [""])
        return cls(url=f"{split.scheme}://{split.netloc}{path}", key=keys[0])


def open_at(address: FeedAddress, path: str, timeout_s: float) -> http.client.HTTPResponse:
    """Ask a dashboard for something.

    Raises:
        FeedError: it does not give it.
        OSError: it cannot be reached.
        http.client.HTTPException: it does not speak HTTP.
    """
    split = urlsplit(address.url)
    kind = http.client.HTTPSConnection if split.scheme == "https" else http.client.HTTPConnection
    connection = kind(split.hostname or "", split.port, timeout=timeout_s)
    headers = {KEY_HEADER: address.key} if address.key else {}
    try:
        connection.request("GET", f"{split.path}{path}", headers=headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise FeedError(_refusal(address, answer))
    except BaseException:
        connection.close()
        raise
    return answer


def _refusal(address: FeedAddress, answer: http.client.HTTPResponse) -> str:
    body = answer.read(10_000)
    said = ""
    with contextlib.suppress(ValueError, AttributeError):
        said = str(_json(body).get("error", ""))
    if not said:
        said = "is there a dashboard of fimi at this address?"
    return f"{address.url} answers {answer.status}: {clean(said, 1000)}"


def snapshot_at(address: FeedAddress, timeout_s: float = SILENT_S) -> Snapshot:
    """The run as it is now.

    Raises:
        FeedError: it cannot be had; the message says why.
    """
    try:
        with open_at(address, "snapshot", timeout_s) as answer:
            return _understood(_json(answer.read(_LONGEST)))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FeedError(f"{address.url}: {reason(error)}") from error


def _json(text: bytes) -> Any:
    """JSON with numbers that can be counted with, and not nested without an end.

    Raises:
        ValueError: it is none.
    """
    try:
        return json.loads(text, parse_float=_finite, parse_constant=_finite)
    except RecursionError:
        raise ValueError("what comes is nested too deeply for a run") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"what comes has the number {text[:20]}, which no run has")
    return number


def _understood(body: Any) -> Snapshot:
    """A snapshot from JSON objects.

    Raises:
        FeedError: it is none.
    """
    try:
        return msgspec.convert(body, Snapshot)
    except msgspec.ValidationError as error:
        raise FeedError(
            f"what comes is no run of this version of fimi: {error}; use the version of the "
            "coordinator here as well"
        ) from error


def reason(error: BaseException) -> str:
    """Why a connection has failed, in words."""
    if isinstance(error, TimeoutError):
        return f"no answer for {SILENT_S:.0f} s"
    if isinstance(error, OSError):
        return clean(error.strerror or error)
    return clean(str(error) or type(error).__name__)


class FeedListener:
    """Listens to a run on a thread of its own. A context manager: inside it, it does.

    Args:
        where: says where the run's dashboard is; raises a :class:`~fimi.errors.FimiError` where it
            is nowhere any more.
        again_s: time until the next try, s.
        clock: monotonic time, s.

    Attributes:
        over: whether nothing more will come.
        trouble: why nothing came at all, or what ended it; empty otherwise.
    """

    def __init__(
        self,
        where: Callable[[], FeedAddress],
        *,
        again_s: float = AGAIN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._where, self._again_s, self._clock = where, again_s, clock
        self._latest: Snapshot | None = None
        self._lost: tuple[float, str, str] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
        self.over = False
        self.trouble = ""

    def __enter__(self) -> FeedListener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()  # the thread is a daemon: it ends with what it waits for

    def latest(self) -> Snapshot | None:
        """The run as it was last heard; ``None``: nothing was heard yet."""
        return self._latest

    def link(self) -> str:
        """That it is not connected, since when and why; empty while it is."""
        lost = self._lost
        if lost is None:
            return ""
        since_s, at, why = lost
        return f"not connected since {at} ({self._clock() - since_s:.0f} s): {why}; trying again"

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._listen(self._where())
                self._lose("the connection has ended")
            except FeedError as error:
                self._lose(str(error))
                if self._latest is None:
                    self._end(str(error))
            except SurroundingsError as error:  # the run is nowhere any more
                self._end(str(error))
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._lose(reason(error))
            if self._latest is not None and self._latest.run.state in OVER:
                self._end("")
            self._ended.wait(self._again_s)

    def _end(self, why: str) -> None:
        self.trouble = why
        self.over = True
        self._ended.set()

    def _lose(self, why: str) -> None:
        if self._lost is None:
            self._lost = (self._clock(), time.strftime("%H:%M:%S"), why)
        else:
            self._lost = (*self._lost[:2], why)

    def _listen(self, address: FeedAddress) -> None:
        """Listen until the connection ends."""
        with open_at(address, "feed", SILENT_S) as answer:
            if "event-stream" not in (answer.getheader("content-type") or ""):
                raise FeedError(f"{address.url} is no dashboard of fimi")
            state: Json | None = None
            kind, over_s = "", None
            while not self._ended.is_set():
                line = answer.readline(_LONGEST)
                if not line:
                    return
                if line.startswith(b"event:"):
                    kind = line[6:].strip().decode("utf-8", "replace")
                elif line.startswith(b"data:"):
                    body = _json(line[5:])
                    if not isinstance(body, dict):
                        raise FeedError(f"{address.url} is no dashboard of fimi")
                    if kind == "whole":
                        state = body
                    elif state is not None:
                        state = apply(state, body)
                    if state is not None:
                        self._latest = _understood(state)
                        self._lost = None
                        if self._latest.run.state in OVER:
                            over_s = over_s or self._clock()
                            if self._clock() - over_s > _LINGERS_S:
                                return
