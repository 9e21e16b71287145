"""Finished rounds in the run store, and the state between two of them.

The model is written before its round is stored and is the current one from then on, so that a run
can go on after any moment.

* :class:`RoundBook`   enters one round after another, and knows all that are stored
* :class:`EndedRound`  what it enters: a round that is over
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

from msgspec import Struct
from msgspec.structs import replace

from fimi.coordinator import checkpoint
from fimi.coordinator.adaptation import Adaptation
from fimi.coordinator.checkpoint import RoundPart
from fimi.coordinator.context import Context
from fimi.coordinator.device_plans import DevicePlans
from fimi.coordinator.global_model import GlobalModel, ModelKeeper
from fimi.coordinator.learning_adaptation import LearningAdaptation
from fimi.coordinator.payloads import RoundPayload
from fimi.coordinator.rounds import Round
from fimi.coordinator.screening import Screening
from fimi.coordinator.server_training import Aggregate
from fimi.learning.training import tensors
from fimi.messaging.messages.facts import UpdateReady
from fimi.messaging.messages.orders import DevicePlan
from fimi.record.events import LateAdded, ModelKept, RoundFinished
from fimi.record.insight import Insight
from fimi.record.prediction import Residual
from fimi.record.results import DeviceRound, LateUpdate, RoundResult


class EndedRound(Struct, frozen=True, kw_only=True):
    """A round that is over, before its model is judged and it is stored.

    Attributes:
        number: of the round.
        duration_s: on the fleet's clock, s.
        aggregate: the model that came of it.
        devices: entries of all who were invited.
        plans: of those who took part.
        current: the round with devices; ``None`` where the server trains alone.
        insight: if one is due.
        payload: the model as devices were sent it.
        late: updates of earlier rounds that entered it.
        awaited: devices whose update of this round may still come.
        held: parts for the run store: updates that came too late for it.
        drop: keys of what the run store forgets: late updates that entered it.
    """

    number: int
    duration_s: float
    aggregate: Aggregate
    devices: tuple[DeviceRound, ...] = ()
    plans: dict[str, DevicePlan] = {}
    current: Round | None = None
    insight: Insight | None = None
    payload: RoundPayload | None = None
    late: tuple[LateUpdate, ...] = ()
    awaited: Set[str] = frozenset()
    held: Iterable[Mapping[str, bytes]] = ()
    drop: Sequence[str] = ()


class RoundBook:
    """Stores the rounds of a run.

    Args:
        context: the context of the run.
        plans: of the devices, with the fleet's clock.
        adaptation: the boards as fitted; ``None`` where devices do not train.
        learning: the learning curve as fitted; ``None`` where no error is planned.
        screening: told of every stored round.
        model: the global model.
        keeper: keeps it on the disk.
        results: finished rounds of a run that goes on.

    Attributes:
        results: finished rounds.
    """

    def __init__(
        self,
        context: Context,
        plans: DevicePlans,
        adaptation: Adaptation | None,
        learning: LearningAdaptation | None,
        screening: Screening,
        model: GlobalModel,
        keeper: ModelKeeper,
        results: Sequence[RoundResult],
    ) -> None:
        self._context = context
        self._plans = plans
        self._adaptation = adaptation
        self._learning = learning
        self._screening = screening
        self._model = model
        self._keeper = keeper
        self.results: list[RoundResult] = list(results)
        self._digest = tensors.digest(tensors.dump(model.current)) if results else ""

    @property
    def last(self) -> int:
        """Number of the last stored round; 0 before there is one."""
        return self.results[-1].number if self.results else 0

    def enter(self, ended: EndedRound, result: RoundResult, residuals: Sequence[Residual]) -> None:
        """Write a round, the state after it and what it takes in; then say so."""
        context, store = self._context, self._context.store
        self._digest = self._keeper.propose(self._model.current)
        facts = ended.current.facts if ended.current is not None else []
        for device, fact in facts:
            if not (isinstance(fact, UpdateReady) and device in ended.awaited):
                context.conversation.stored(device, fact)  # told only once it is true
        with store.together():
            for part in ended.held:
                store.write_checkpoint(part)
            store.write_round(
                result,
                residuals,
                checkpoint=checkpoint.of_rounds(self._part(result.number)),
                drop=ended.drop,
                stages_wall_s=context.watch.seconds,
            )
            for device, fact in facts:
                if not isinstance(fact, UpdateReady):
                    store.write_readings(fact.round, device, fact.readings)
            if ended.insight is not None:
                store.write_insight(ended.insight)
            store.then(lambda: self._accept(result))
            if result.model_kept is not None:
                context.notify(ModelKept(round=result.number, reason=result.model_kept))
            self._screening.stored(result)
            context.notify(RoundFinished(result=result))
            for each in result.late:
                context.notify(
                    LateAdded(
                        round=result.number,
                        device=each.device,
                        of_round=each.of_round,
                        weight=each.weight,
                    )
                )

    def checkpoint(self, later_s: float = 0.0) -> dict[str, bytes]:
        """The state between two rounds, for the run store.

        Args:
            later_s: seconds by which the fleet's clock is about to be moved on.
        """
        part = self._part(self.last)
        moved = replace(part, fleet_time_s=part.fleet_time_s + later_s)
        return checkpoint.of_rounds(moved)

    def _accept(self, result: RoundResult) -> None:
        """The round is stored."""
        self._keeper.accept()
        self.results.append(result)

    def _part(self, number: int) -> RoundPart:
        """The state after a round."""
        return RoundPart(
            number=number,
            fleet_time_s=self._plans.fleet_time_s,
            model=self._digest,
            adaptation=self._adaptation.state if self._adaptation else None,
            learning=self._learning.state if self._learning else None,
            heard=self._context.conversation.heard(),
        )
