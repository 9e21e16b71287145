"""Updates that were ready after their round was over, until a later round takes them in.

With ``rounds.late_updates = "add"`` an update of round r enters the mean of the first round n in
which it is here, with the weight of its samples times (1 + s)^(−a), s = n − r (docs/model.md (S1)).
It is here when the fleet's clock has come to the moment at which its device was done, or, of a real
device, when it was pulled. It never makes a mean alone, and one that would be more than
``rounds.late_rounds`` late is dropped.

An update is written to the run store before its device is told that it may forget it, and is taken
out of there in the transaction of the round that it enters. So it survives a coordinator that is
killed, and counts once. Until it is written it waits in a file: however many are late, one is in
memory.

* :class:`LateUpdates`      all of a run
* :func:`staleness_weight`  (1 + s)^(−a)
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path

from msgspec import Struct

from fimi.coordinator import checkpoint
from fimi.coordinator.checkpoint import HeldUpdate
from fimi.coordinator.context import Context
from fimi.coordinator.payloads import RoundPayload
from fimi.coordinator.round_updates import pause_s
from fimi.learning.training import tensors
from fimi.learning.training.tensors import Parameters, UpdateRefusedError
from fimi.messaging.errors import PayloadUnusable, TransferError
from fimi.messaging.messages.facts import UpdateReady
from fimi.messaging.transfers.collecting import Collector
from fimi.messaging.transfers.parts import PartFiles
from fimi.record.events import UpdateRejected
from fimi.record.results import DeviceRound, RoundResult

PARTS = "late-updates"
"""Folder beside the run store of late updates that are on their way, or have come."""
_PARTS_BYTES = 1 << 60  # whatever was deleted to make room would be wanted


def staleness_weight(rounds_late: int, exponent: float) -> float:
    """(S1) How much an update counts that is s rounds late: (1 + s)^(−a).

    Args:
        rounds_late: s, 0 or more.
        exponent: a, 0 or more.
    """
    return float((1.0 + rounds_late) ** -exponent)


class _Pull(Struct):
    """An update that is on its way, and the fact by which it was offered."""

    fact: UpdateReady
    future: Future[bytes | Path]
    tries: int = 1
    due_s: float | None = None


class LateUpdates:
    """The late updates of a run. Used by one thread; :meth:`close` ends it.

    Args:
        context: the context of the run.
        model: parameters with which every update is compared.
        most: local samples of a device, and the most synthetic ones that it can have used; ``None``
            if it does not take part any more.
        held: what a coordinator before this one has kept.
    """

    def __init__(
        self,
        context: Context,
        model: Parameters,
        most: Callable[[str], tuple[int, int] | None],
        held: Iterable[HeldUpdate] = (),
    ) -> None:
        self._context = context
        self._settings = context.settings.rounds
        self._model = model
        self._limit_bytes = tensors.limit_bytes(model)
        self._most = most
        self._held = {(each.round, each.device): each for each in held}
        self._pulls: dict[tuple[int, str], _Pull] = {}
        self._collector: Collector | None = None
        self._parts = PartFiles(context.store.path.parent / PARTS, _PARTS_BYTES)
        self._sent: dict[int, RoundPayload] = {}

    @property
    def wanted(self) -> bool:
        """Whether late updates are added at all."""
        return self._settings.late_updates == "add"

    def sent(self, number: int, payload: RoundPayload) -> None:
        """The model of a round is sent; with coded updates it is kept as long as they may come."""
        transfer = self._context.settings.transfer
        if not self.wanted or (transfer.of_update.is_plain and transfer.of_model.is_plain):
            return
        least = number - self._settings.late_rounds
        self._sent = {n: each for n, each in self._sent.items() if n >= least} | {number: payload}

    def close(self) -> None:
        """End what is on its way; its devices offer it to the next coordinator."""
        if self._collector is not None:
            self._collector.close()
            self._collector = None
        self._pulls.clear()
        self._parts.clear()
        with contextlib.suppress(OSError):
            self._parts.folder.rmdir()

    def offered(self, fact: UpdateReady, results: list[RoundResult]) -> bool:
        """A device offers an update of a round that is stored.

        Args:
            fact: its offer.
            results: all stored rounds.

        Returns:
            Whether it is taken: then the device is to go on offering it for now.
        """
        key = (fact.round, fact.device)
        if not self.wanted or key in self._held or not self._may_enter(fact, results):
            return False
        before = self._pulls.get(key)
        if before is None or before.fact.update != fact.update:
            self._end(key)
            self._pulls[key] = _Pull(fact, self._pull(fact))
            if before is not None:  # one that it has made anew takes its place
                self._context.conversation.stored(before.fact.device, before.fact)
        return True

    def keep(
        self,
        number: int,
        start_s: float,
        late: Mapping[str, DeviceRound],
        update: Callable[[str], bytes],
    ) -> Iterator[dict[str, bytes]]:
        """Updates that are here already, of devices whose clocks say that they came too late.

        Args:
            number: of their round.
            start_s: its beginning on the fleet's clock, s.
            late: entry of each device.
            update: reads that of a device.

        Yields:
            What is to be stored with the round, of one device after another.
        """
        for device, entry in late.items():
            assert entry.busy_s is not None
            held = HeldUpdate(
                device=device,
                round=number,
                due_s=start_s + entry.busy_s + entry.waited_s,
                samples=float(entry.local_samples + entry.synthetic_samples),
            )
            self._held[number, device] = held
            yield checkpoint.of_held(held, update(device))

    def due(self, number: int, end_s: float) -> list[HeldUpdate]:
        """Those that enter the mean of a round, in a fixed order, with their samples.

        Args:
            number: of the round.
            end_s: its end on the fleet's clock, s.
        """
        self.take_in()
        most = self._settings.late_rounds
        for key, pull in list(self._pulls.items()):
            if number - key[0] > most:
                self._end(key)
                self._refuse(pull.fact, f"its update did not come within {most} rounds")
        found = []
        for key, held in sorted(self._held.items()):
            if number - held.round > most:
                self._drop(held, f"its update was more than {most} rounds late")
            elif held.round < number and held.due_s <= end_s:
                held = self._with_samples(held)
                if key in self._held and held.samples is not None:
                    found.append(held)
        return found

    def payload(self, held: HeldUpdate) -> bytes:
        """The update itself.

        Raises:
            KeyError: the store has lost it.
        """
        return self._context.store.read_part(checkpoint.held_keys(held)[1])

    def used(self, updates: Iterable[HeldUpdate]) -> list[str]:
        """These are in a mean; returns what the store forgets together with its round."""
        keys: list[str] = []
        for held in updates:
            self._held.pop((held.round, held.device), None)
            keys += checkpoint.held_keys(held)
        return keys

    @property
    def _must_wait(self) -> bool:
        """Whether updates cannot be decoded yet: this coordinator has sent no model so far."""
        transfer = self._context.settings.transfer
        return not (self._sent or (transfer.of_update.is_plain and transfer.of_model.is_plain))

    def take_in(self) -> None:
        """Store what has arrived; then its devices may forget it."""
        now_s = time.monotonic()
        for key, pull in list(self._pulls.items()):
            if not pull.future.done() or self._must_wait:
                continue
            error = pull.future.exception()
            if error is None:
                del self._pulls[key]
                self._arrived(pull.fact, pull.future.result())
            elif isinstance(error, PayloadUnusable) or not isinstance(error, TransferError):
                del self._pulls[key]
                self._refuse(pull.fact, str(error))
            elif pull.due_s is None:
                pull.due_s = now_s + pause_s(pull.tries)
            elif now_s >= pull.due_s:
                self._pulls[key] = _Pull(pull.fact, self._pull(pull.fact), pull.tries + 1)

    def _plain(self, number: int, update: bytes) -> bytes:
        """A late update as a model: its change added to the model of its round.

        That model is lost with a coordinator that was killed; then it is the oldest that is here.
        """
        if not self._sent:
            return update
        payload = self._sent.get(number) or self._sent[min(self._sent)]
        return payload.plain(update) if payload.decodes else update

    def _pull(self, fact: UpdateReady) -> Future[bytes | Path]:
        if self._collector is None:
            self._collector = Collector(self._context.peer.transfers)
        return self._collector.pull_into(self._parts, fact.update, max_bytes=self._limit_bytes)

    def _end(self, key: tuple[int, str]) -> None:
        """An update is not waited for any more."""
        if (pull := self._pulls.pop(key, None)) is not None:
            pull.future.cancel()
            self._parts.drop(pull.fact.update.digest)

    def _may_enter(self, fact: UpdateReady, results: list[RoundResult]) -> bool:
        """Whether there may be a round that it enters, and it is in none yet."""
        number = results[-1].number + 1
        late = number - fact.round
        known = {e.device: e for r in results if r.number == fact.round for e in r.devices}
        entry = known.get(fact.device)
        return (
            number <= self._settings.count
            and late <= self._settings.late_rounds
            and entry is not None
            and entry.status in ("late", "missing")
            and not any(
                (each.device, each.of_round) == (fact.device, fact.round)
                for result in results
                for each in result.late
            )
        )

    def _arrived(self, fact: UpdateReady, came: bytes | Path) -> None:
        try:
            payload = came if isinstance(came, bytes) else came.read_bytes()
        except OSError:  # a file of the same bytes was stored and deleted
            self._pulls[fact.round, fact.device] = _Pull(fact, self._pull(fact))
            return
        try:
            payload = self._plain(fact.round, payload)
            tensors.load(payload, like=self._model)
        except UpdateRefusedError as error:
            self._refuse(fact, str(error))
            return
        finally:
            if isinstance(came, Path):
                came.unlink(missing_ok=True)
        held = HeldUpdate(device=fact.device, round=fact.round)
        self._context.store.write_checkpoint(checkpoint.of_held(held, payload))
        self._held[fact.round, fact.device] = held
        self._context.conversation.stored(fact.device, fact)

    def _with_samples(self, held: HeldUpdate) -> HeldUpdate:
        """With the samples that its device has reported since; a wrong number drops it."""
        if held.samples is not None:
            return held
        entry = self._context.store.entry(held.round, held.device)
        most = self._most(held.device)
        if entry is None or most is None or entry.busy_s is None:
            return held  # its report is on its way
        told = (entry.local_samples, entry.synthetic_samples)
        if told[0] != most[0] or told[1] > most[1]:
            self._drop(
                held,
                f"reports {told[0]} local and {told[1]} synthetic samples, its profile and plan "
                f"say {most[0]} and at most {most[1]}",
            )
            return held
        return HeldUpdate(
            device=held.device,
            round=held.round,
            due_s=held.due_s,
            samples=float(entry.local_samples + entry.synthetic_samples),
        )

    def refuse(self, held: HeldUpdate, why: str) -> None:
        """An update cannot be used after all."""
        self._drop(held, why)

    def _drop(self, held: HeldUpdate, why: str) -> None:
        del self._held[held.round, held.device]
        self._context.store.drop_parts(checkpoint.held_keys(held))
        self._context.notify(UpdateRejected(round=held.round, device=held.device, reason=why))

    def _refuse(self, fact: UpdateReady, why: str) -> None:
        self._context.conversation.stored(fact.device, fact)
        self._context.notify(UpdateRejected(round=fact.round, device=fact.device, reason=why))
