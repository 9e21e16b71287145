"""From profiles to the problem (P1), and from its plan to device plans.

The problem is built from the devices' profiles. The plan becomes one
:class:`~fimi.messaging.messages.orders.DevicePlan` per device, whose prediction covers every phase
of a round, including the idle phase.

* :class:`FleetInputs`  what the problem is made of: profiles, configuration, sizes, curve
* :func:`make_problem`  the problem; :func:`cheapest` chooses its error limit and local epochs
* :func:`smallest_deadline_s`  for which it has a plan
* :func:`device_plans`  the plan of each device
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import msgspec
import numpy as np
from msgspec import Struct

from fimi.coordinator.settings import FederationSettings, default_band_hz
from fimi.coordinator.strategies import Strategy
from fimi.energy.cost_model import (
    LinkModel,
    OperatingPoint,
    PhaseCost,
    idle_cost,
    point_rate_bps,
    predict_round,
)
from fimi.learning.data.use import in_use
from fimi.learning.training.pseudo_labels import looked_at
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.facts import Profile
from fimi.messaging.messages.orders import DevicePlan, TopUp
from fimi.optim.board_problem import from_boards
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.plans import Expectation, Plan
from fimi.optim.problem import DURATION_MAX_S, FimiProblem, InfeasibleError
from fimi.optim.quality import choose
from fimi.optim.rounds_defaults import EPOCHS
from fimi.optim.rounds_model import RoundsModel
from fimi.optim.spending import limited
from fimi.optim.target import Choice
from fimi.optim.whole import exists
from fimi.optim.wording import smallest


class FleetInputs(Struct, frozen=True, kw_only=True):
    """What the problem of a fleet is made of.

    Attributes:
        profiles: device id to profile, with the cost parameters in force.
        settings: objective, deadlines, bandwidth, budgets, learning curve, rounds.
        strategy: which constraints, and how much synthetic data.
        model_bytes: size of the model as sent.
        update_bytes: size of an update as sent; that of the model if left out.
        sample_bytes: size of a synthetic sample as sent.
        curve: learning curve of the run; needed only by strategies that plan data.
        epochs: local epochs of a round, if they are given.
    """

    profiles: Mapping[str, Profile]
    settings: FederationSettings
    strategy: Strategy
    model_bytes: int
    update_bytes: int | None = None
    sample_bytes: float = 0.0
    curve: LearningCurve | None = None
    epochs: int | None = None


def make_problem(fleet: FleetInputs, *, deadline_s: float | None = None) -> FimiProblem:
    """The optimisation problem (P1) of a fleet under a strategy.

    Where k of n devices take part in a round, the joules of the problem are those of n/k rounds, in
    which each device takes part once on average (docs/model.md, K1).

    Args:
        fleet: its profiles, and all that the problem is made of; without ``epochs`` they are those
            of ``training.epochs``.
        deadline_s: used instead of ``plan.deadline_s`` if given, s.

    Raises:
        ProblemError: a value is impossible, or a curve is needed and not given.
        InfeasibleError: a device cannot even receive the model before the deadline.
    """
    profiles, settings, model_bytes = fleet.profiles, fleet.settings, fleet.model_bytes
    update_bytes = model_bytes if fleet.update_bytes is None else fleet.update_bytes
    devices = sorted(profiles)
    plan, rounds = settings.plan, settings.rounds
    share = min(1.0, rounds.participants / len(devices)) if rounds.participants else 1.0
    fimi = from_boards(
        {device: profiles[device].board for device in devices},
        local_counts={device: profiles[device].label_counts for device in devices},
        epochs=fleet.epochs or settings.training.epochs,
        deadline_s=(deadline_s or plan.deadline_s) * (1.0 - plan.deadline_margin),
        upload_bits=8.0 * update_bytes,
        download_bits=8.0 * model_bytes,
        bandwidth_hz=plan.bandwidth_hz or default_band_hz(len(devices)),
        generated_max=float(plan.synthetic_max),
        error_max=plan.error_max if fleet.strategy.plans_data else math.inf,
        curve=fleet.curve,
        objective=plan.objective,
        rounds=rounds.count * share,
        synthetic_bits=8.0 * fleet.sample_bytes,
        budget_j=plan.device_budget_j or math.inf,
        fleet_budget_j=plan.fleet_budget_j or math.inf,
    )
    if share < 1.0:  # a board idles in n/k rounds for each that it takes part in
        fimi = msgspec.structs.replace(fimi, idle_power_w=fimi.idle_power_w / share)
    return fleet.strategy.constrain(fimi)


def rounds_model(settings: FederationSettings) -> RoundsModel:
    """rounds(Δ, E) as the configuration has it, for its own local epochs."""
    plan = settings.plan
    return RoundsModel(
        scale=plan.rounds_scale,
        sensitivity=plan.rounds_sensitivity,
        epochs_exponent=plan.rounds_epochs_exponent,
        epochs=EPOCHS if settings.training.steps else settings.training.epochs,
    )


def training_of(settings: FederationSettings, plan: Plan | None) -> TrainingSettings:
    """How devices train under a plan: as configured, with the local epochs that it has chosen."""
    if plan is None or plan.epochs is None:
        return settings.training
    return msgspec.structs.replace(settings.training, epochs=plan.epochs)


def cheapest(
    problem: FimiProblem,
    settings: FederationSettings,
    progress: Callable[[], None] | None = None,
    *,
    rounds: RoundsModel | None = None,
    hold_epochs: bool = False,
) -> Choice | None:
    """Δ_max and local epochs of fewest predicted joules to ``plan.target_accuracy``.

    The joules are those of ``plan.objective``, and the preparation is spread over the rounds to the
    target; with a budget over those of the run, for which the budget is. ``None`` without a target,
    or without a learning constraint (TFL).

    Args:
        problem: problem of :func:`make_problem`.
        settings: the target, and the model of rounds.
        progress: called at every step of the choice; may raise.
        rounds: rounds(Δ, E) as fitted to the run; that of ``plan.rounds_*`` if left out.
        hold_epochs: whether the local epochs are those of the problem.

    Raises:
        InfeasibleError: no Δ_max has a plan.
    """
    plan, training = settings.plan, settings.training
    if not plan.target_accuracy or not math.isfinite(problem.error_max):
        return None
    choices = () if hold_epochs or training.steps else plan.epochs_choices
    return choose(
        problem,
        plan.target_accuracy,
        synthetic_value=plan.synthetic_value,
        epochs=(*choices, problem.epochs) if choices else (),
        rounds=rounds or rounds_model(settings),
        run_rounds=problem.rounds if limited(problem) else None,
        progress=progress,
    )


def expecting(plan: Plan, problem: FimiProblem, choice: Choice) -> Plan:
    """A plan with what is expected of it, by its own joules in whole samples.

    Args:
        plan: plan of the problem.
        problem: the problem with what was chosen.
        choice: what was chosen.
    """
    rounds = choice.best.rounds
    prepared_j = plan.preparation_j if plan.objective == "board" else 0.0
    round_j = plan.energy_j - prepared_j / problem.rounds
    expected = Expectation(
        accuracy=choice.accuracy,
        rounds=rounds,
        energy_j=rounds * round_j + prepared_j,
        error_max=choice.best.error_max,
    )
    return msgspec.structs.replace(plan, epochs=choice.epochs, expected=expected)


def smallest_deadline_s(
    fleet: FleetInputs, *, given: Callable[[FimiProblem], FimiProblem] | None = None
) -> float | None:
    """The smallest ``plan.deadline_s`` with a plan, all else but budgets equal; ``None`` for none.

    It is a short decimal, for which a plan in whole samples and settable frequencies exists.

    Args:
        fleet: what its problem is made of, with the deadline that cannot be met; without ``epochs``
            they are the fewest that can be chosen.
        given: makes of a problem that of given data; data are planned if left out.
    """
    settings = fleet.settings
    value = settings.plan.synthetic_value
    if not fleet.epochs:
        fewest = min(settings.plan.epochs_choices, default=None)
        fleet = msgspec.structs.replace(fleet, epochs=fewest)

    def problem_of(deadline_s: float) -> FimiProblem:
        problem = make_problem(fleet, deadline_s=deadline_s)
        if given is not None:
            return given(problem)
        if settings.plan.target_accuracy and math.isfinite(problem.error_max):
            local = problem.error(np.maximum(problem.local_samples, 1.0))
            problem = msgspec.structs.replace(problem, error_max=local)
        return problem

    def holds(deadline_s: float) -> bool:
        try:
            return exists(problem_of(deadline_s), value)
        except InfeasibleError:  # a device cannot even receive the model
            return False

    longest_s = max(
        8.0 * fleet.model_bytes / profile.board.link.downlink_rate_bps
        for profile in fleet.profiles.values()
    )
    least_s = longest_s / (1.0 - settings.plan.deadline_margin)
    # First to a factor of two, then to a tenth of a percent: the last digits are those of the text.
    high_s = 1.001 * least_s
    while not holds(high_s):
        least_s, high_s = high_s, 2.0 * high_s
        if high_s > DURATION_MAX_S:
            return None
    while high_s - least_s > 1e-3 * high_s:
        middle_s = (least_s + high_s) / 2.0
        least_s, high_s = (least_s, middle_s) if holds(middle_s) else (middle_s, high_s)
    return smallest(least_s, holds)


def device_plans(
    plan: Plan,
    profiles: Mapping[str, Profile],
    settings: FederationSettings,
    *,
    run: str,
    model_bytes: int,
    update_bytes: int | None = None,
    delivered: Mapping[str, tuple[int, ...]],
    batches: Mapping[str, Offer],
    indices: Mapping[str, int],
    top_ups: Mapping[str, tuple[TopUp, ...]] = {},
    use: float = 1.0,
    unlabelled: bool = False,
) -> dict[str, DevicePlan]:
    """The plan of each device.

    Args:
        plan: plan of the fleet.
        profiles: device id to profile; a device of the plan that is not among them gets no plan.
        settings: training settings.
        run: run id.
        model_bytes: size of the model as sent.
        update_bytes: size of an update as sent; that of the model if left out.
        delivered: synthetic samples per class that the generator node has made, by device.
        batches: offers of the devices' first batches.
        indices: each device's number in the run, which stays when devices come and go.
        top_ups: what devices got later, counted in ``delivered``.
        use: share of the synthetic samples that rounds train on.
        unlabelled: whether the batches have no labels. The prediction then assumes that the device
            labels all images and keeps all of them, which is an upper bound.
    """
    down_bits = 8.0 * model_bytes
    up_bits = 8.0 * (model_bytes if update_bytes is None else update_bytes)
    busy: dict[str, tuple[PhaseCost, ...]] = {}
    shares = [share for share in plan.devices if share.device in profiles]
    for share in shares:
        profile = profiles[share.device]
        images = sum(in_use(delivered.get(share.device, ()), use))
        processed = training_of(settings, plan).processed(sum(profile.label_counts) + images)
        if unlabelled:
            processed += looked_at(images)
        cycles = profile.board.compute.cycles_per_sample * processed
        busy[share.device] = predict_round(
            profile.board, share.point, cycles=cycles, upload_bits=up_bits, download_bits=down_bits
        )
    seconds = {d: math.fsum(cost.duration_s for cost in costs) for d, costs in busy.items()}
    round_s = max(seconds.values(), default=0.0)
    return {
        share.device: DevicePlan(
            run=run,
            device=share.device,
            device_index=indices[share.device],
            synthetic_counts=(0,) * len(share.synthetic_counts)
            if unlabelled
            else delivered.get(share.device, (0,) * len(share.synthetic_counts)),
            unlabelled=sum(delivered.get(share.device, ())) if unlabelled else 0,
            confidence_min=settings.strategy.confidence_min if unlabelled else 0.0,
            synthetic_use=use,
            batch=batches.get(share.device),
            top_ups=top_ups.get(share.device, ()),
            point=_with_rate(share.point, profiles[share.device].board.link),
            predicted=(
                *busy[share.device],
                idle_cost(profiles[share.device].board, round_s - seconds[share.device]),
            ),
        )
        for share in shares
    }


def _with_rate(point: OperatingPoint, link: LinkModel) -> OperatingPoint:
    """The operating point with its rate: after a refit the device's own link budget is outdated."""
    return msgspec.structs.replace(point, rate_bps=point_rate_bps(link, point))
