"""The updates of a round on their way here: pulled, checked, kept; a failed pull is tried again.

A pull waits by itself while a holder or the broker is away. One that fails all the same, because
its holder does not serve the update at the moment for instance, is begun again after growing times
as long as the round waits. What can never be had, such as an update that is too large, is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct

from fimi.coordinator.update_store import UpdateStore
from fimi.learning.training import tensors
from fimi.learning.training.tensors import Parameters
from fimi.messaging.errors import PayloadUnusable, TransferCancelled, TransferError
from fimi.messaging.messages.basis import Offer
from fimi.messaging.transfers.collecting import Collector

AGAIN_S = (1.0, 2.0, 3.0, 5.0)
"""Times after which a failed pull is tried again, s; the last one repeats."""


def pause_s(tries: int) -> float:
    """For how long a pull that has failed so often is left alone, s."""
    return AGAIN_S[min(tries, len(AGAIN_S)) - 1]


class _Update(Struct):
    """What a device has offered, and the keeping of it."""

    offer: Offer
    kept: Future[None]
    tries: int = 1
    due_s: float | None = None

    @property
    def error(self) -> BaseException | None:
        """Why it is not kept; ``None`` as long as it may be."""
        return self.kept.exception() if self.kept.done() else None


class UpdateIntake:
    """Collects the updates of a round, one for each device. Used by one thread.

    What had come of an update when the coordinator was killed is not pulled again.

    Args:
        model: parameters with which every update is compared.
        spool: keeps them, by device.
        collector: pulls them.
        pool: checks them.
        plain: decodes them; ``None``: they are safetensors as they are.
    """

    def __init__(
        self,
        model: Parameters,
        spool: UpdateStore,
        collector: Collector,
        pool: ThreadPoolExecutor,
        plain: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.model = model
        self._plain = plain
        self._limit_bytes = tensors.limit_bytes(model)
        self._spool = spool
        self._collector = collector
        self._pool = pool
        self._updates: dict[str, _Update] = {}

    def offered(self, device: str, offer: Offer) -> None:
        """A device offers an update: pull it, if it is not here or on its way.

        A device that was started again may offer another update: what it offered before can no
        longer be had. One that does not know that its update is here, or has made another one
        meanwhile, is told that nothing more is needed of it.
        """
        update = self._updates.get(device)
        if update is not None and update.error is None:
            if update.kept.done():
                self._collector.confirm(offer)
                return
            if update.offer.digest == offer.digest:
                return
        self._updates[device] = _Update(offer, self._pull(device, offer))
        if update is not None and update.offer.digest != offer.digest:
            self._spool.parts.drop(update.offer.digest)

    def try_again(self) -> None:
        """Begin the failed pulls again whose time has come; call it often."""
        now_s = time.monotonic()
        for device, update in self._updates.items():
            error = update.error
            if not isinstance(error, TransferError) or isinstance(
                error, PayloadUnusable | TransferCancelled
            ):
                continue
            if update.due_s is None:
                update.due_s = now_s + pause_s(update.tries)
            elif now_s >= update.due_s:
                update.kept = self._pull(device, update.offer)
                update.tries, update.due_s = update.tries + 1, None

    def unusable(self, device: str) -> PayloadUnusable | None:
        """Why the update that a device offers can never be had."""
        update = self._updates.get(device)
        error = None if update is None else update.error
        return error if isinstance(error, PayloadUnusable) else None

    def under_way(self, devices: Iterable[str]) -> set[str]:
        """Those of these devices whose update is on its way."""
        return {d for d in devices if d in self._updates and not self._updates[d].kept.done()}

    def is_kept(self, device: str) -> bool:
        """Whether the update of a device is here and was found good."""
        update = self._updates.get(device)
        return update is not None and update.kept.done() and update.error is None

    def require(self, device: str, timeout_s: float) -> None:
        """Make sure that the update of a device is here and good.

        Args:
            device: whose.
            timeout_s: for how long the check of it is waited for, s.

        Raises:
            KeyError: none was offered.
            TransferError: it did not come.
            UpdateRefusedError: it is none of this model.
            OSError: there was no room for it.
        """
        self._updates[device].kept.result(timeout=timeout_s)

    def _pull(self, device: str, offer: Offer) -> Future[None]:
        """Collect an update; when it has come, check it and keep it."""
        kept: Future[None] = Future()

        def keep(payload: bytes | Path) -> None:
            try:
                self._spool.take(device, payload, self.model, self._plain)
                kept.set_result(None)
            except Exception as error:
                kept.set_exception(error)

        def arrived(pull: Future[bytes | Path]) -> None:
            if (error := pull.exception()) is not None:
                kept.set_exception(error)
            else:
                self._pool.submit(keep, pull.result())

        self._collector.cancel(device)
        pull = self._collector.pull_into(self._spool.parts, offer, max_bytes=self._limit_bytes)
        pull.add_done_callback(arrived)
        return kept
