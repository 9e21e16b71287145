"""What others ask of a run that goes on: handed in by any thread, served by the coordinator's.

:class:`Controls` is the counter between both. A web server or a command hands a request in with
:meth:`Controls.ask` and has an answer at once: accepted, or refused where that is known already.
The coordinator takes requests from it between two rounds, one after another, and says what became
of each; whoever has asked finds that with :meth:`Controls.answer`. What a request does is in
:mod:`fimi.coordinator.interventions`.

A request lives in memory until it is served, and what it changes is stored in one transaction: a
coordinator that is killed has done all of it or nothing.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Set

import msgspec
from msgspec.structs import replace

from fimi.record.clean import clean
from fimi.record.interventions import (
    LONGEST_BY,
    AskFor,
    ControlAnswer,
    ControlState,
    ExcludeDevice,
    IncludeDevice,
    LookAt,
    PendingRequest,
    RefusalKind,
    Request,
    decode,
    words,
)

PENDING_MOST = 100
"""Requests that may wait to be served."""
KEPT_MOST = 1000
"""Answers that are kept for those who ask again."""


class Controls:
    """Requests of others, and the answers of one coordinator.

    Made before the coordinator, by whoever lets others reach it. A coordinator without one cannot
    be reached, and does not stay paused.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[PendingRequest] = deque()
        self._untold: deque[PendingRequest] = deque()
        self._answers: OrderedDict[int, ControlAnswer] = OrderedDict()
        self._last = 0
        self._over = ""
        self._round, self._rounds = 0, 0  # the next round after which requests are served
        self._devices: frozenset[str] | None = None
        self._state = ControlState()

    def ask(self, request: Request, by: str) -> ControlAnswer:
        """Hand a request in.

        Args:
            request: for what.
            by: who asks, in words, for the record.

        Returns:
            ``accepted`` with the number of the request, or ``refused`` with the reason.
        """
        with self._lock:
            kind, reason = self._refusal(request)
            if kind:
                return self._refused(reason, kind)
            self._last += 1
            asked = PendingRequest(
                number=self._last,
                request=request,
                by=clean(by, LONGEST_BY) or "somebody",
                at=time.time(),
            )
            self._waiting.append(asked)
            self._untold.append(asked)
            return self._accepted(asked)

    def answer(self, number: int) -> ControlAnswer:
        """What became of a request so far.

        Args:
            number: as :meth:`ask` has given it.
        """
        with self._lock:
            if (known := self._answers.get(number)) is not None:
                return known
            for asked in self._waiting:
                if asked.number == number:
                    return self._accepted(asked)
            return self._refused(f"there is no request {number}, or it was long ago", "unfit")

    def hear(self, message: bytes) -> ControlAnswer:
        """Deal with a message of :data:`fimi.record.interventions.decode`.

        Raises:
            ValueError: it cannot be read; says why.
        """
        told: AskFor | LookAt
        try:
            told = decode(message)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(f"that is no request: {error}") from error
        if isinstance(told, AskFor):
            return self.ask(told.request, told.by)
        return self.answer(told.number)

    @property
    def state(self) -> ControlState:
        """What requests have made of the run, and which are not served yet."""
        with self._lock:
            return replace(self._state, pending=tuple(self._waiting))

    # From here on: for the coordinator's thread.

    def know(self, state: ControlState, devices: Set[str], after_round: int, rounds: int) -> None:
        """What the run is like now, for answers that can be given at once.

        Args:
            state: what requests have made of it.
            devices: ids that requests can name.
            after_round: the next round after which requests are served.
            rounds: of the whole run.
        """
        with self._lock:
            self._state, self._devices = state, frozenset(devices)
            self._round, self._rounds = after_round, rounds

    def untold(self) -> list[PendingRequest]:
        """Requests that have come since the last call."""
        with self._lock:
            found = [*self._untold]
            self._untold.clear()
            return found

    def next(self) -> PendingRequest | None:
        """The request to be served now; it waits until it is :meth:`served`."""
        with self._lock:
            return self._waiting[0] if self._waiting else None

    def served(
        self,
        asked: PendingRequest,
        *,
        after_round: int,
        said: str,
        refusal: RefusalKind = "",
    ) -> None:
        """Say what became of the request that was :meth:`next`: done, unless there is a refusal."""
        with self._lock:
            if self._waiting and self._waiting[0].number == asked.number:
                self._waiting.popleft()
            self._answers[asked.number] = ControlAnswer(
                number=asked.number,
                state="refused" if refusal else "done",
                after_round=after_round,
                words=said,
                refusal=refusal,
            )
            while len(self._answers) > KEPT_MOST:
                self._answers.popitem(last=False)

    def close(self, why: str) -> None:
        """No further request is served; the caller has served those that were waiting.

        Args:
            why: in a sentence, for whoever asks now.
        """
        with self._lock:
            self._over = why

    def _accepted(self, asked: PendingRequest) -> ControlAnswer:
        number = self._round
        when = f"after round {number} of {self._rounds}" if number else "before the first round"
        if self._state.paused is not None:
            when = "now: the run is paused and need not end a round first"
        return ControlAnswer(
            number=asked.number,
            state="accepted",
            after_round=number,
            words=f"accepted: {words(asked.request)}, {when}",
        )

    def _refused(self, reason: str, kind: RefusalKind) -> ControlAnswer:
        return ControlAnswer(
            number=0, state="refused", after_round=self._round, words=reason, refusal=kind
        )

    def _refusal(self, request: Request) -> tuple[RefusalKind, str]:
        """Why a request is refused at once; empty if it is not."""
        if self._over:
            return "over", self._over
        if self._rounds and self._round >= self._rounds:
            number = self._round
            return "over", f"round {number} is the last one, after which the run ends by itself"
        if len(self._waiting) >= PENDING_MOST:
            return "unfit", f"{PENDING_MOST} requests wait already; ask again when they are served"
        if isinstance(request, ExcludeDevice | IncludeDevice) and self._devices:
            reason = unknown_device(request.device, self._devices)
            return ("unfit", reason) if reason else ("", "")
        return "", ""


def unknown_device(device: str, known: Set[str]) -> str:
    """Why a device cannot be named; empty if it can."""
    if device in known:
        return ""
    shown = sorted(known)
    more = f" and {len(shown) - 10} more" if len(shown) > 10 else ""
    return f"no device {clean(device, 100)!r} takes part: {', '.join(shown[:10])}{more} do"
