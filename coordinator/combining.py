"""From the updates of a round, and late ones of earlier rounds, to the model that comes of them.

Late updates are screened as those of the round are, and enter its mean with less weight
(docs/model.md (S1)). Where the round has none of its own they wait for one that has.

* :class:`Combining`  does that, round by round
* :class:`NewModel`   what came of it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fimi.coordinator.checkpoint import HeldUpdate
from fimi.coordinator.late_updates import LateUpdates, staleness_weight
from fimi.coordinator.round_order import RoundOutcome
from fimi.coordinator.screening import Screening
from fimi.coordinator.server_training import Aggregate, Server
from fimi.coordinator.settings import RoundSettings
from fimi.coordinator.update_store import UpdateStore
from fimi.learning.training.aggregation import Model
from fimi.learning.training.tensors import UpdateRefusedError
from fimi.record.results import LateUpdate


class NewModel(NamedTuple):
    """What came of the updates of a round.

    Attributes:
        aggregate: the model.
        shares: of each device's update in it; empty where none has a share as a whole.
        late: what the record has of late updates that entered it.
        drop: keys of what the run store has of those, to be forgotten with the round.
    """

    aggregate: Aggregate
    shares: Mapping[str, float]
    late: tuple[LateUpdate, ...]
    drop: Sequence[str]


class Combining:
    """Combines the updates of every round of a run.

    Args:
        settings: how late updates are weighed.
        spool: has the updates of the round.
        screening: says how far late ones go into the model.
        late: the late updates of the run.
        server: combines updates, and trains beside them.
    """

    def __init__(
        self,
        settings: RoundSettings,
        spool: UpdateStore,
        screening: Screening,
        late: LateUpdates,
        server: Server,
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._screening = screening
        self._late = late
        self._server = server

    def combine(self, number: int, outcome: RoundOutcome, before: Model, end_s: float) -> NewModel:
        """The model of a round.

        Args:
            number: of the round.
            outcome: its updates, screened, and their weights.
            before: the model that they are updates of.
            end_s: the end of the round on the fleet's clock, s.
        """
        entered = self._entering(number, outcome, before, end_s)
        updates = outcome.updates.with_more({_key(each): scale for each, scale in entered})
        stale = [(each.samples or 0.0) * self._factor(number, each) for each, _ in entered]
        weights = self._server.weigh(updates, [*outcome.weights, *stale])
        aggregate = self._server.aggregate(number, before, updates, weights)
        shares = dict(zip(updates.devices, aggregate.shares or (), strict=False))
        late = tuple(
            LateUpdate(
                device=each.device,
                of_round=each.round,
                weight=self._factor(number, each),
                share=shares.get(_key(each)),
            )
            for each, _ in entered
        )
        return NewModel(aggregate, shares, late, self._late.used(each for each, _ in entered))

    def _entering(
        self, number: int, outcome: RoundOutcome, model: Model, end_s: float
    ) -> list[tuple[HeldUpdate, float]]:
        """The late updates that enter the mean of a round, and the scale of each one's change.

        They are with the round's own from then on, and screened as those are.
        """
        if not self._late.wanted:
            return []
        if not outcome.updates:
            self._late.take_in(number)
            return []
        entered = []
        norms = [self._spool.norm(device) for device in outcome.updates.devices]
        for each in self._late.due(number, end_s):
            try:
                self._spool.take(_key(each), self._spool.joined(self._late.pieces(each)), model)
            except (KeyError, UpdateRefusedError) as error:
                self._late.refuse(each, f"the run store has lost it: {error}")
                continue
            scale, why = self._screening.late(self._spool.norm(_key(each)), norms)
            if scale is None:
                self._late.refuse(each, why)
            else:
                entered.append((each, scale))
        return entered

    def _factor(self, number: int, late: HeldUpdate) -> float:
        """How much of its samples a late update has as weight in a round."""
        return staleness_weight(number - late.round, self._settings.late_exponent)


def _key(held: HeldUpdate) -> str:
    """Where a late update is among those of a round: no device has such a name."""
    return f"{held.device}@{held.round}"
