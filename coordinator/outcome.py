"""What a run leaves behind: for the next coordinator of it, and for whoever has started it."""

from __future__ import annotations

from msgspec import Struct

from fimi.coordinator.checkpoint import Checkpoint
from fimi.learning.training.aggregation import Model
from fimi.messaging.messages.facts import Profile
from fimi.messaging.messages.orders import DevicePlan
from fimi.optim.planner import Plan
from fimi.record.results import Deployment, RoundResult, RunStatus


class UnfinishedRun(Struct, frozen=True, kw_only=True):
    """What an earlier coordinator of a run has left.

    Attributes:
        checkpoint: what is in no record.
        results: finished rounds.
        deployments: exports so far.
    """

    checkpoint: Checkpoint
    results: tuple[RoundResult, ...] = ()
    deployments: tuple[Deployment, ...] = ()


class Federation(Struct, frozen=True, kw_only=True):
    """What a run leaves behind.

    Attributes:
        status: how it ended.
        reason: why, in one sentence.
        profiles: of the devices that were planned for.
        plan: of the fleet; ``None`` if none was made.
        device_plans: the last plan sent to each device.
        rounds: finished rounds.
        model: the global model after the last finished round.
        deployments: what was exported, and how devices ran it.
        not_deployed: why the last export gave no file; empty if it did.
    """

    status: RunStatus
    reason: str
    profiles: dict[str, Profile]
    plan: Plan | None
    device_plans: dict[str, DevicePlan]
    rounds: tuple[RoundResult, ...]
    model: Model
    deployments: tuple[Deployment, ...] = ()
    not_deployed: str = ""
