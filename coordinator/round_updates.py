"""The updates of a round on their way here: pulled, pulled again, checked, kept.

A device that no longer serves what it has offered has been started again, and may offer another
update: it is asked again as long as the round waits (:mod:`fimi.coordinator.pulls`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from fimi.coordinator.pulls import Pull, try_again
from fimi.coordinator.update_store import UpdateStore
from fimi.learning.training import tensors
from fimi.learning.training.coded import Tensors
from fimi.learning.training.tensors import Parameters
from fimi.messaging.errors import PayloadUnusable, TransferCancelled, TransferError
from fimi.messaging.messages.basis import Offer
from fimi.messaging.transfers.collecting import Collector


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
        plain: Callable[[bytes], Tensors] | None = None,
    ) -> None:
        self.model = model
        self._plain = plain
        self._limit_bytes = tensors.limit_bytes(model)
        self._spool = spool
        self._collector = collector
        self._pool = pool
        self._updates: dict[str, Pull[None]] = {}

    def offered(self, device: str, offer: Offer) -> None:
        """A device offers an update: pull it, if it is not here or on its way.

        A device that was started again may offer another update: what it offered before can no
        longer be had. One that does not know that its update is here, or has made another one
        meanwhile, is told that nothing more is needed of it; where the update is here and still
        looked at, then.
        """
        update = self._updates.get(device)
        if (
            update is not None
            and update.error is None
            and (update.future.done() or update.offer.digest == offer.digest)
        ):  # told at once where it is here already
            update.future.add_done_callback(lambda pulled: self._confirm(pulled, offer))
            return
        self._updates[device] = Pull(offer, self._pull(device, offer))
        if update is not None and update.offer.digest != offer.digest:
            self._spool.parts.drop(update.offer.digest)

    def _confirm(self, pulled: Future[None], offer: Offer) -> None:
        """Tell a device that nothing more is needed of what it offers, if its update is here."""
        if not pulled.cancelled() and pulled.exception() is None:
            self._collector.confirm(offer)

    def try_again(self) -> None:
        """Begin the failed pulls again whose time has come; call it often."""
        try_again(self._updates, self._pull)

    def unusable(self, device: str) -> PayloadUnusable | None:
        """Why the update that a device offers can never be had."""
        update = self._updates.get(device)
        error = None if update is None else update.error
        return error if isinstance(error, PayloadUnusable) else None

    def under_way(self, devices: Iterable[str]) -> set[str]:
        """Those of these devices whose update is on its way."""
        return {d for d in devices if d in self._updates and not self._updates[d].future.done()}

    def is_kept(self, device: str) -> bool:
        """Whether the update of a device is here and was found good."""
        update = self._updates.get(device)
        return update is not None and update.future.done() and update.error is None

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
        try:
            self._updates[device].future.result(timeout=timeout_s)
        except TransferCancelled as error:
            raise TransferError("its update was not here when the round was over") from error

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
