"""What a round begins with, and what it comes to.

* :class:`RoundOrder`    its inputs
* :class:`RoundOutcome`  its result before it is settled
"""

from __future__ import annotations

import math

from msgspec import Struct
from msgspec.structs import replace

from fimi.coordinator.update_store import Updates
from fimi.energy.cost_model import PhaseCost
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.facts import Profile, RoundReport
from fimi.messaging.messages.orders import DevicePlan
from fimi.record.results import DeviceRound


class RoundOrder(Struct, frozen=True, kw_only=True):
    """The inputs of a round.

    Attributes:
        number: number of the round, from 1.
        start_s: its beginning on the fleet's clock, s.
        wall_timeout_s: how long to wait for reports, wall time, s.
        by_wall_clock: whether the fleet's clock is that of the wall: all participants are real
            devices, and what ends a round early ends it while it goes on.
        plans: plan of every participant.
        predicted: predicted phases of every device that is online, participating or resting.
        training: how participants train.
        members: profile of every device that takes part in the run, online or not.
        invited: all of these, and those that have not joined yet.
        graphs: offer of the training graphs; ``None`` if there are none.
        is_last: no round follows.
        paused: idling of real boards while the run paused before this round, by the cost model;
            their first phase of it has that, too.
    """

    number: int
    start_s: float
    wall_timeout_s: float
    by_wall_clock: bool = False
    plans: dict[str, DevicePlan]
    predicted: dict[str, tuple[PhaseCost, ...]]
    training: TrainingSettings
    members: dict[str, Profile]
    invited: frozenset[str] = frozenset()
    graphs: Offer | None = None
    is_last: bool = False
    paused: dict[str, PhaseCost] = {}

    def foreseen(self, device: str) -> tuple[PhaseCost, ...]:
        """What a device's phases are compared with: the prediction, and the pause before it."""
        costs, pause = self.predicted[device], self.paused.get(device)
        if pause is None:
            return costs
        idle = [cost for cost in costs if cost.phase == "idle"]
        both = replace(
            pause,
            duration_s=math.fsum(cost.duration_s for cost in (pause, *idle)),
            dynamic_j=math.fsum(cost.dynamic_j for cost in (pause, *idle)),
            board_j=math.fsum(cost.board_j for cost in (pause, *idle)),
        )
        return (*(cost for cost in costs if cost.phase != "idle"), both)

    @property
    def resting(self) -> tuple[str, ...]:
        """Resting devices, sorted."""
        return tuple(sorted(set(self.predicted) - set(self.plans)))

    @property
    def absent(self) -> tuple[str, ...]:
        """Devices that are not there, or have no plan in force, sorted."""
        return tuple(sorted({*self.members, *self.invited} - set(self.predicted)))

    def samples(self, device: str, report: RoundReport) -> tuple[int, int]:
        """Planned local and synthetic samples of a participant.

        Of unlabelled images the device keeps some or all; their number is that of its report.
        """
        plan = self.plans[device]
        synthetic = sum(plan.used_counts) or min(report.synthetic_samples, plan.unlabelled)
        return sum(self.members[device].label_counts), synthetic


class RoundOutcome(Struct, kw_only=True):
    """The result of a round before it is settled.

    Attributes:
        duration_s: its length on the fleet's clock, s.
        updates: checked parameters of punctual devices, in order of device id; each access decodes
            one again.
        weights: training samples of those devices, in the same order.
        devices: entry of each participant, without its idle phase.
        late: devices whose update is here and was checked, and came too late, in order.
    """

    duration_s: float
    updates: Updates
    weights: list[float]
    devices: dict[str, DeviceRound]
    late: tuple[str, ...] = ()
