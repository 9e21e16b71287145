"""Updates that were ready after their round was over, until a later round takes them in.

With ``rounds.late_updates = "add"`` an update of round r enters the mean of the first round n in
which it is here, with the weight of its samples times (1 + s)^(−a), s = n − r (docs/model.md (S1)).
It is here when the fleet's clock has come to the moment at which its device was done, or, of a real
device, when it was pulled. It never makes a mean alone, and one that would be more than
``rounds.late_rounds`` late is dropped.

An update is written to the run store before its device is told that it may forget it, and is taken
out of there in the transaction of the round that it enters. So it survives a coordinator that is
killed, and counts once. Until it is written it waits in a file: however many are late, one is in
memory. What a coded one is decoded with is in files as well (:mod:`fimi.coordinator.late_models`).

A pull that fails is begun again (:mod:`fimi.coordinator.pulls`). A device that answers
:data:`GONE_MOST` times in a row that it does not serve the update has lost it: the update is
refused, so that what else the device tells can be confirmed.

* :class:`LateUpdates`      all of a run
* :func:`staleness_weight`  (1 + s)^(−a)
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path

from msgspec.structs import replace

from fimi.coordinator import checkpoint
from fimi.coordinator.checkpoint import HeldUpdate
from fimi.coordinator.context import Context
from fimi.coordinator.late_models import MODELS, LateModels
from fimi.coordinator.payloads import RoundPayload
from fimi.coordinator.pulls import Pull, try_again
from fimi.learning.training import tensors
from fimi.learning.training.tensors import Parameters, UpdateRefusedError
from fimi.messaging.errors import TransferError
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.facts import UpdateReady
from fimi.messaging.transfers.collecting import Collector
from fimi.messaging.transfers.parts import PartFiles
from fimi.record.events import UpdateRejected
from fimi.record.results import DeviceRound, RoundResult

PARTS = "late-updates"
"""Folder beside the run store of late updates that are on their way, or have come."""
GONE_MOST = 5
"""Answers in a row that an update is not served after which it is given up; 11 s at least: a device
that is started again needs some time to offer what its disk has."""
_PARTS_BYTES = 1 << 60  # whatever was deleted to make room would be wanted


def staleness_weight(rounds_late: int, exponent: float) -> float:
    """(S1) How much an update counts that is s rounds late: (1 + s)^(−a).

    Args:
        rounds_late: s, 0 or more.
        exponent: a, 0 or more.
    """
    return float((1.0 + rounds_late) ** -exponent)


class LateUpdates:
    """The late updates of a run. Used by one thread; :meth:`close` ends it.

    Args:
        context: the context of the run.
        model: the global model, with which every update is compared.
        most: local samples of a device, and the most synthetic ones that it can have used; ``None``
            if it does not take part any more.
        held: what a coordinator before this one has kept.
    """

    def __init__(
        self,
        context: Context,
        model: Callable[[], Parameters],
        most: Callable[[str], tuple[int, int] | None],
        held: Iterable[HeldUpdate] = (),
    ) -> None:
        self._context = context
        self._settings = context.settings.rounds
        self._model = model
        self._limit_bytes = tensors.limit_bytes(model())
        self._most = most
        self._held = {(each.round, each.device): each for each in held}
        self._facts: dict[tuple[int, str], list[UpdateReady]] = {}
        self._pulls: dict[tuple[int, str], Pull[bytes | Path]] = {}
        self._collector: Collector | None = None
        self._parts = PartFiles(context.store.path.parent / PARTS, _PARTS_BYTES)
        self._models = LateModels(context.store.path.parent / MODELS, context.settings.transfer)

    @property
    def wanted(self) -> bool:
        """Whether late updates are added at all."""
        return self._settings.late_updates == "add"

    def sent(self, number: int, payload: RoundPayload) -> None:
        """The model of a round is sent; it is kept as long as updates of it may come late."""
        if self.wanted:
            self._models.keep(number, payload, number - self._settings.late_rounds)

    def close(self, *, over: bool) -> None:
        """End what is on its way; its devices offer it to the next coordinator.

        Args:
            over: whether there is none, because no round follows.
        """
        if self._collector is not None:
            self._collector.close()
            self._collector = None
        self._pulls.clear()
        self._facts.clear()
        self._parts.clear()
        if over:
            self._models.clear()
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
        pull = self._pulls.get(key)
        if pull is None or pull.offer != fact.update:  # one made anew takes the place of another
            self._end(key)
            self._pulls[key] = Pull(fact.update, self._pull(key, fact.update))
        facts = self._facts.setdefault(key, [])
        if not any(fact is each for each in facts):  # of several starts of the device
            facts.append(fact)
        return True

    def keep(
        self,
        number: int,
        start_s: float,
        late: Mapping[str, DeviceRound],
        update: Callable[[str], bytes | Path],
    ) -> Iterator[dict[str, bytes]]:
        """Updates that are here already, of devices whose clocks say that they came too late.

        Args:
            number: of their round.
            start_s: its beginning on the fleet's clock, s.
            late: entry of each device.
            update: that of a device, or the file that has it.

        Yields:
            What is to be stored with the round, one part after another.
        """
        for device, entry in late.items():
            assert entry.busy_s is not None
            held = HeldUpdate(
                device=device,
                round=number,
                due_s=start_s + entry.busy_s + entry.waited_s,
                samples=float(entry.local_samples + entry.synthetic_samples),
            )
            yield from self._parts_of(held, update(device))

    def _parts_of(self, held: HeldUpdate, update: bytes | Path) -> Iterator[dict[str, bytes]]:
        """What is to be stored of an update, which is held from then on."""
        held = checkpoint.in_pieces(held, update)
        self._held[held.round, held.device] = held
        yield from checkpoint.of_held(held, update)

    def due(self, number: int, end_s: float) -> list[HeldUpdate]:
        """Those that enter the mean of a round, in a fixed order, with their samples.

        Args:
            number: of the round.
            end_s: its end on the fleet's clock, s.
        """
        self.take_in(number)
        most = self._settings.late_rounds
        found = []
        for key, held in sorted(self._held.items()):
            if number - held.round > most:
                self.refuse(held, f"its update was more than {most} rounds late")
            elif held.round < number and held.due_s <= end_s:
                held = self._with_samples(held)
                if key in self._held and held.samples is not None:
                    found.append(held)
        return found

    def pieces(self, held: HeldUpdate) -> Iterator[bytes]:
        """The update itself, piece by piece.

        Raises:
            KeyError: the store has lost it.
        """
        for key in checkpoint.held_keys(held)[1:]:
            yield self._context.store.read_part(key)

    def used(self, updates: Iterable[HeldUpdate]) -> list[str]:
        """These are in a mean; returns what the store forgets together with its round."""
        keys: list[str] = []
        for held in updates:
            self._held.pop((held.round, held.device), None)
            keys += checkpoint.held_keys(held)
        return keys

    def take_in(self, number: int) -> None:
        """Store what has arrived; then its devices may forget it. Call it often.

        Args:
            number: of the round that goes on.
        """
        most = self._settings.late_rounds
        for key, pull in list(self._pulls.items()):
            if pull.is_over:
                self._arrived(key, pull)
            elif number - key[0] > most:
                why = "" if pull.error is None else f": {pull.error}"
                self._give_up(key, f"its update was not here within {most} rounds{why}")
            elif pull.gone >= GONE_MOST:
                self._give_up(key, f"asked for its update {pull.gone} times: {pull.error}")
        try_again(self._pulls, self._pull)

    def _pull(self, key: tuple[int, str], offer: Offer) -> Future[bytes | Path]:
        if self._collector is None:
            self._collector = Collector(self._context.peer.transfers)
        return self._collector.pull_into(self._parts, offer, max_bytes=self._limit_bytes)

    def _end(self, key: tuple[int, str]) -> bool:
        """An update is not waited for any more; returns whether it was.

        The device may forget it.
        """
        pull = self._pulls.pop(key, None)
        if pull is None:
            return False
        pull.future.cancel()
        self._parts.drop(pull.offer.digest)
        self._context.conversation.stored(key[1], *self._facts.pop(key))
        return True

    def _give_up(self, key: tuple[int, str], why: str) -> None:
        """An update will not be had, or cannot be used."""
        if self._end(key):
            self._context.notify(UpdateRejected(round=key[0], device=key[1], reason=why))

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

    def _arrived(self, key: tuple[int, str], pull: Pull[bytes | Path]) -> None:
        """A pull is over: the update is here, or can never be had."""
        if pull.error is not None:
            self._give_up(key, str(pull.error))
            return
        try:
            payload = self._models.plain(key[0], pull.future.result(), self._model())
        except UpdateRefusedError as error:
            self._give_up(key, str(error))
            return
        except OSError as error:  # no room; or a file of the same bytes was stored and deleted
            pull.future = Future()
            pull.future.set_exception(TransferError(f"it came, and cannot be kept: {error}"))
            return
        store = self._context.store
        with store.together():
            for part in self._parts_of(HeldUpdate(device=key[1], round=key[0]), payload):
                store.write_checkpoint(part)
        self._end(key)

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
            self.refuse(
                held,
                f"reports {told[0]} local and {told[1]} synthetic samples, its profile and plan "
                f"say {most[0]} and at most {most[1]}",
            )
            return held
        return replace(held, samples=float(entry.local_samples + entry.synthetic_samples))

    def refuse(self, held: HeldUpdate, why: str) -> None:
        """An update that was kept is not to enter a model after all."""
        del self._held[held.round, held.device]
        self._context.store.drop_parts(checkpoint.held_keys(held))
        self._context.notify(UpdateRejected(round=held.round, device=held.device, reason=why))
