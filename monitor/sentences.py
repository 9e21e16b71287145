"""Events of a federation in one line each, as they are shown and logged.

* :func:`describe`        any event that needs no knowledge of earlier ones
* :func:`describe_round`  a round, with the energy so far
* :func:`describe_plan`     the fleet's plan, also one that is read back
* :func:`describe_backends`  what devices train with
* :func:`is_problem`      whether an event is shown with ``-q`` too
"""

from __future__ import annotations

from collections import Counter

from fimi.energy.joules import format_modelled
from fimi.optim.plans import Plan
from fimi.optim.wording import named
from fimi.plural import plural
from fimi.record.clean import enumerated
from fimi.record.events import (
    Awaiting,
    AwaitingGenerator,
    BatchDelivered,
    BrokerAway,
    Credited,
    Deployed,
    DeviceJoined,
    DeviceLost,
    DeviceRefused,
    DeviceSetAside,
    Event,
    Gathering,
    GenerationProgress,
    Intervened,
    InterventionAsked,
    LateAdded,
    LearningRefitted,
    MeterDoubted,
    ModelKept,
    NotDeployed,
    Paused,
    PlanInForce,
    Planned,
    Planning,
    Refitted,
    Resumed,
    RunFinished,
    SenderSetAside,
    StillInForce,
    SyntheticUse,
    UpdateClipped,
    UpdateRejected,
)
from fimi.record.interventions import after_round
from fimi.record.interventions import words as request_words
from fimi.record.record import PlanSummary
from fimi.record.results import Deployment, RoundResult
from fimi.record.sums import Sum
from fimi.report.besides import expected_words, server_line
from fimi.report.planned import energies
from fimi.report.words import seconds, sum_cell


def is_problem(event: Event) -> bool:
    """Whether an event is a problem."""
    if isinstance(event, BatchDelivered | PlanInForce):
        return bool(event.error)
    return isinstance(
        event,
        DeviceLost
        | DeviceRefused
        | BrokerAway
        | MeterDoubted
        | SenderSetAside
        | UpdateRejected
        | UpdateClipped
        | DeviceSetAside
        | ModelKept
        | NotDeployed,
    )


def describe(event: Event) -> str:
    """An event in one line; empty if it is not worth one."""
    match event:
        case Gathering():
            said = f"{event.here} of {event.wanted} devices here"
            if event.here >= event.wanted:
                return said
            who = enumerated(event.missing) or f"{event.wanted - event.here}"
            return f"{said}, {event.left_s:.0f} s left: {who} missing"
        case AwaitingGenerator() if event.gone:
            return f"generator gone, waiting for it, {event.left_s:.0f} s left"
        case AwaitingGenerator():
            return (
                f"waiting for a generator node, {event.left_s:.0f} s left; "
                "start one: fimi generator run"
            )
        case DeviceJoined():
            return (
                f"{event.device} joined: {event.board} ({event.kind}), "
                f"{event.samples} samples, {event.backend}"
            )
        case Awaiting():
            return f"waiting for {enumerated(event.devices)} {event.what}"
        case BrokerAway():
            return f"broker away for {event.seconds:.0f} s; the run waits for it"
        case DeviceRefused():
            return f"{event.device} does not take part: {event.reason}"
        case MeterDoubted() if not event.round:
            return f"{event.device}: {'; '.join(event.doubts)}"
        case MeterDoubted():
            return f"{event.device}, round {event.round}: its meter: {'; '.join(event.doubts)}"
        case SenderSetAside():
            return event.words
        case DeviceLost():
            return f"{event.device}: {event.reason}"
        case UpdateRejected():
            reason = event.reason.removeprefix(f"{event.device} ")
            return f"{event.device}, round {event.round}: {reason}"
        case UpdateClipped():
            return (
                f"{event.device}: its update of round {event.round} is clipped to "
                f"{100 * event.limit / event.norm:.3g} % of its change: {event.reason}"
            )
        case DeviceSetAside():
            return f"{event.device} is set aside and trains no more: {event.reason}"
        case ModelKept():
            return f"round {event.round} changes nothing, the model before it stays: {event.reason}"
        case Planning():
            target = event.target_accuracy
            aim = f", fewest joules to {100 * target:.4g}% accuracy" if target else ""
            within = " within budgets" if event.budgets else ""
            return f"planning for {event.devices} devices{aim}{within}"
        case Planned():
            return describe_plan(event.plan, event.synthetic_samples)
        case BatchDelivered():
            error = f" ({event.error})" if event.error else ""
            metered = f", {event.energy}" if event.energy else ""
            return (
                f"{event.device}: {event.delivered} of {event.requested} synthetic samples"
                f"{metered}{error}"
            )
        case GenerationProgress():
            return (
                f"synthetic samples: {event.devices_done} of {event.devices_asked} batches ready, "
                f"{event.lacking} to draw, {event.images_per_s:.0f} a second"
            )
        case PlanInForce() if event.error or event.notes:
            return f"{event.device}: {event.error or '; '.join(event.notes)}"
        case Refitted():
            return _refit(event)
        case SyntheticUse():
            return _synthetic_use(event)
        case LearningRefitted():
            return _learning_refit(event)
        case InterventionAsked():
            return f"{event.by} asks: {request_words(event.request)}"
        case Intervened() if event.done:
            return f"as {event.by} has asked: {event.words}"
        case Intervened():
            return f"refused to {event.by}: {request_words(event.request)}: {event.words}"
        case StillInForce():
            return _still(event)
        case Paused():
            return (
                f"paused {after_round(event.round)} for {event.seconds:.0f} s, "
                f"as {event.by} has asked; 'fimi control {event.run} resume' goes on"
            )
        case Deployed():
            return _deployment(event.deployment)
        case NotDeployed():
            return f"no ONNX file of the model after round {event.round}: {event.reason}"
        case Credited():
            return f"{event.device}: its report of round {event.round} came late and is credited"
        case LateAdded():
            return (
                f"{event.device}: its update of round {event.of_round} enters round "
                f"{event.round}, with {event.weight:.2g} of its weight"
            )
        case Resumed():
            if not event.after_round:
                return "going on with the run before its first round"
            return f"going on with the run after round {event.after_round}"
        case RunFinished():
            return f"run {event.status}: {event.reason}"
    return ""


def describe_round(result: RoundResult, rounds: int, so_far: Sum | None = None) -> str:
    """A round in one line.

    Args:
        result: the round.
        rounds: number of planned rounds.
        so_far: energy of all boards from the beginning of the run to the end of this round;
            ``None``: nothing is said of it.
    """
    said = [f"round {result.number}/{rounds}: accuracy {result.evaluation.accuracy:.1%}"]
    if result.local_error is not None:
        planned = "" if result.planned_error is None else f" (planned {result.planned_error:.3f})"
        said.append(f"local error {result.local_error:.3f}{planned}")
    if result.devices:
        said.append(f"{result.accepted} of {len(result.participants)} updates")
        if result.absent:
            said.append(f"{len(result.absent)} absent")
        if so_far is not None and so_far.known:
            said.append(f"{sum_cell(so_far, bare=False)} so far")
        elif so_far is not None:
            said.append("energy not metered so far")
    if result.model_kept is not None:
        said.append("no new model")
    if server := server_line(result):
        said.append(server)
    return ", ".join(said)


def describe_backends(result: RoundResult) -> str:
    """What the devices of a round trained with, and how many each; empty if none did."""
    counts = Counter(device.backend for device in result.devices if device.backend)
    each = [f"{count} with {backend}" for backend, count in sorted(counts.items())]
    return f"trained: {', '.join(each)}" if each else ""


def describe_plan(plan: Plan | PlanSummary, images: int | None = None) -> str:
    """A plan: with how many synthetic samples, where that is known, and what it takes."""
    passes = "" if plan.epochs is None else f"{plan.epochs} local epochs, "
    synthetic = "" if images is None else f"{images} synthetic samples, "
    expected = "" if plan.expected is None else f"; expected: {expected_words(plan.expected)}"
    return (
        f"plan: {passes}{synthetic}rounds of "
        f"{seconds(plan.round_s)}: {energies(plan)}, found by {plan.search}{expected}"
    )


def _still(event: StillInForce) -> str:
    said = [f"{enumerated(event.excluded)} excluded"] if event.excluded else []
    said += [] if event.deadline_s is None else [f"deadline {event.deadline_s:g} s"]
    said += ["the run pauses"] if event.paused else []
    return f"as was asked before: {', '.join(said)}"


def _refit(event: Refitted) -> str:
    causes = []
    if event.drift_percent:
        worst, drift = max(event.drift_percent.items(), key=lambda each: each[1])
        causes.append(
            f"predictions of {len(event.drift_percent)} devices had drifted "
            f"(worst {worst}, {drift:.0f} %)"
        )
    if event.short:
        causes.append(f"what is left of the budget would not have lasted for {named(event.short)}")
    fitted = "boards fitted again" if event.fitted else "boards kept as they were"
    said = f"after round {event.round} {', and '.join(causes)}: {fitted}"
    if event.energy_j is None:
        return f"{said}; {event.reason}"
    energy = f"{format_modelled(event.energy_j)} of {event.objective} energy"
    return f"{said}, new plan with {energy} a round"


def _learning_refit(event: LearningRefitted) -> str:
    said = (
        f"after round {event.round}: the errors of devices fall to {event.measured:.3f}, not to "
        f"{event.before:.3f} as planned; learning curve fitted again, "
    )
    if not event.images:
        return f"{said}no further images: {event.reason}; Δ of the plan is {event.planned:.3f} now"
    return f"{said}{event.images} further images, and Δ of the plan is {event.planned:.3f} now"


def _synthetic_use(event: SyntheticUse) -> str:
    of = f"{event.share:.0%} of the synthetic images" if event.share else "local data alone"
    why = "by plan.synthetic_schedule"
    if event.fades:
        why = "the target accuracy is " + ("not held any more" if event.share else "reached")
    return f"after round {event.round} devices train on {of}: {why}"


def _deployment(made: Deployment) -> str:
    files = [
        f"{f.variant} {f.size_bytes / 1e3:.0f} kB, {f.accuracy:.1%} on test images"
        for f in made.files
    ]
    failed = [d for d, trials in made.trials.items() if any(t.error for t in trials)]
    count = len(made.trials)
    tried = f"; tried on {plural(count, 'device')}" if count else ""
    problems = f", {len(failed)} of them failed" if failed else ""
    silent = f"; no answer from {', '.join(made.silent[:3])}" if made.silent else ""
    return f"exported after round {made.round}: {'; '.join(files)}{tried}{problems}{silent}"
