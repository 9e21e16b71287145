"""What a device reports where a step failed, or where a fact of it cannot be sent."""

from __future__ import annotations

import logging

from fimi.edge_agent.course import Step
from fimi.errors import FimiError, coded
from fimi.learning.training.trainer import TrainingDivergedError
from fimi.messaging.messages.facts import (
    DeploymentReport,
    FactBody,
    PlanApplied,
    Profile,
    Refusal,
    RoundReport,
    RoundSettled,
)
from fimi.messaging.messages.orders import (
    DeploymentTest,
    DevicePlan,
    Invitation,
    RoundClosed,
    RoundStart,
)

log = logging.getLogger(__name__)


class BrokenOff(Exception):  # noqa: N818 - nothing went wrong
    """A step is no longer wanted, and has nothing to report."""


def words(device: str, problem: Exception, what: str) -> str:
    """A problem in words, which is logged as well.

    Args:
        device: its id.
        problem: an expected one, or any other, which is logged with its traceback.
        what: what failed.
    """
    if isinstance(problem, TrainingDivergedError):
        said = f"{device} {coded(problem)}"
    else:
        said = f"{type(problem).__name__}: {coded(problem)}"
    if isinstance(problem, FimiError | ValueError | OSError | RuntimeError):
        log.warning("%s, %s: %s", device, what, said)
    else:
        log.error("%s, %s: %s", device, what, said, exc_info=problem)
    return said


def failed(about: Step | FactBody, said: str) -> FactBody | None:
    """The fact that says so, without anything that was done or metered.

    Args:
        about: the step, or the fact that it is said in place of.
        said: why.

    Returns:
        ``None`` where nobody waits for a fact.
    """
    match about:
        case Invitation() | Profile() | Refusal():
            return Refusal(run=about.run, device=about.device, reason=said)
        case DevicePlan() | PlanApplied():
            return PlanApplied(
                run=about.run, device=about.device, applied=None, phases=(), error=said
            )
        case RoundStart() | RoundReport():
            return RoundReport(
                run=about.run,
                device=about.device,
                round=about.round,
                local_samples=0,
                synthetic_samples=0,
                training_loss=None,
                training_accuracy=None,
                frequency_hz=None,
                busy_s=0.0,
                phases=(),
                error=said,
            )
        case RoundClosed() | RoundSettled():
            return RoundSettled(
                run=about.run, device=about.device, round=about.round, phases=(), error=said
            )
        case DeploymentTest() | DeploymentReport():
            return DeploymentReport(
                run=about.run, device=about.device, round=about.round, trials=(), seconds=0.0
            )
    return None
