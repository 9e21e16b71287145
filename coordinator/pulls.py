"""Pulls of updates that fail and are begun again, until they are here or can never be had.

A pull waits by itself while a holder or the broker is away. One that fails all the same, because
its holder does not serve the update at the moment for instance, is begun again after growing times.
What is too large, or not what was offered, or not wanted any more, is not.

* :class:`Pull`      one of them
* :func:`try_again`  begins those again whose time has come
* :func:`pause_s`    for how long one is left alone
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Generic, TypeVar

from msgspec import Struct

from fimi.messaging.errors import PayloadGone, PayloadUnusable, TransferCancelled, TransferError
from fimi.messaging.messages.basis import Offer

AGAIN_S = (1.0, 2.0, 3.0, 5.0)
"""Times after which a failed pull is tried again, s; the last one repeats."""

Key = TypeVar("Key")
Came = TypeVar("Came")


class Pull(Struct, Generic[Came]):
    """An update on its way.

    Attributes:
        offer: what is pulled.
        future: what has come of it; replaced when it is begun again.
        tries: how often it was begun.
        gone: how often in a row its holder has answered that it does not serve it.
        due_s: when it is begun again, on the monotonic clock; ``None`` while it goes on.
    """

    offer: Offer
    future: Future[Came]
    tries: int = 1
    gone: int = 0
    due_s: float | None = None

    @property
    def error(self) -> BaseException | None:
        """Why it is not here; ``None`` as long as it may come, and when it has come."""
        return self.future.exception() if self.future.done() else None

    @property
    def is_over(self) -> bool:
        """Whether it is here, or has failed for good."""
        if not self.future.done():
            return False
        error = self.error
        final = isinstance(error, PayloadUnusable | TransferCancelled)
        return final or not isinstance(error, TransferError)


def pause_s(tries: int) -> float:
    """For how long a pull that has failed so often is left alone, s."""
    return AGAIN_S[min(tries, len(AGAIN_S)) - 1]


def try_again(pulls: Mapping[Key, Pull[Came]], begin: Callable[[Key, Offer], Future[Came]]) -> None:
    """Begin the failed ones of some pulls again whose time has come; call it often.

    Args:
        pulls: under way, failed or here.
        begin: begins one.
    """
    now_s = time.monotonic()
    for key, pull in pulls.items():
        if not pull.future.done() or pull.is_over:
            continue
        if pull.due_s is None:
            pull.due_s = now_s + pause_s(pull.tries)
            pull.gone = pull.gone + 1 if isinstance(pull.error, PayloadGone) else 0
        elif now_s >= pull.due_s:
            pull.future = begin(key, pull.offer)
            pull.tries, pull.due_s = pull.tries + 1, None
