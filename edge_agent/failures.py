"""What a device reports where a step failed, or where a fact of it cannot be sent."""

from __future__ import annotations

from fimi.edge_agent.course import Step
from fimi.messaging.messages import (
    DeploymentReport,
    DeploymentTest,
    DevicePlan,
    FactBody,
    Invitation,
    PlanApplied,
    Profile,
    Refusal,
    RoundClosed,
    RoundReport,
    RoundSettled,
    RoundStart,
)


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
