"""The plan of a fleet under a strategy: made before round 1, made again when boards drift."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace

from fimi.coordinator import allowance, fixed_steps, planning, strategy_plans
from fimi.coordinator.payloads import PayloadSizes
from fimi.coordinator.plan_advice import advised
from fimi.coordinator.settings import FederationSettings, PlanSettings
from fimi.coordinator.strategies import STRATEGIES
from fimi.coordinator.strategy_plans import StrategyPlan
from fimi.messaging.messages.facts import Profile
from fimi.optim import quality
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.planner import Plan, SearchSettings
from fimi.optim.planner import plan as make_plan
from fimi.optim.problem import FimiProblem, InfeasibleError
from fimi.optim.rounds_model import RoundsModel
from fimi.optim.spending import limited
from fimi.optim.unplanned import equal_shares
from fimi.optim.whole import exists
from fimi.record.events import Planning
from fimi.record.results import RoundResult


class FleetPlanner:
    """Plans the fleet with FIMI's optimisation under the strategy of the settings.

    Args:
        settings: the configuration.
        sizes: of the model and of an update as sent.
        progress: called at every step of planning: an error limit that is tried, an iteration of
            a search; may raise.
        sample_bytes: size of a synthetic sample as sent.
        curve: learning curve of the run, in :attr:`curve` from then on, where a refit may replace
            it; needed only by strategies that plan data.
    """

    def __init__(
        self,
        settings: FederationSettings,
        sizes: PayloadSizes,
        progress: Callable[[], None] = lambda: None,
        *,
        sample_bytes: float = 0.0,
        curve: LearningCurve | None = None,
        advise: bool = True,
    ) -> None:
        self.curve = curve
        self.rounds: RoundsModel | None = None
        """rounds(Δ, E) as fitted to the run; ``None``: that of ``plan.rounds_*``."""
        self.first: Plan | None = None
        """The first plan of the run, once it is made: others have its local epochs, and what was
        expected of it."""
        self._advise = advise
        self._settings = settings
        self._strategy = STRATEGIES[settings.run.strategy]
        self._sizes = sizes
        self._progress = progress
        self._sample_bytes = sample_bytes

    def plan_by(self, curve: LearningCurve, rounds: RoundsModel) -> None:
        """Plan by this curve and these rounds from now on, as fitted to the run."""
        self.curve, self.rounds = curve, rounds

    def plan_within(self, deadline_s: float) -> None:
        """Plan for this ``plan.deadline_s`` from now on."""
        given: Any = self._settings
        self._settings = replace(given, plan=replace(given.plan, deadline_s=deadline_s))

    def smallest_deadline_s(
        self, profiles: Mapping[str, Profile], used: Mapping[str, tuple[int, ...]]
    ) -> float | None:
        """The smallest ``plan.deadline_s`` with a plan for these data, budgets aside.

        ``None`` where it is not known: rounds of steps, and resources that nobody plans.

        Args:
            profiles: profiles with the cost parameters in force.
            used: images per class that each device trains on.
        """
        if self._settings.training.steps or not self._strategy.planned_resources:
            return None
        return planning.smallest_deadline_s(
            self._inputs(profiles),
            given=lambda problem: strategy_plans.with_images(
                self._strategy, problem, [used[device] for device in problem.devices]
            ),
        )

    def planned_for(self, devices: int) -> Planning | None:
        """What so many devices are planned for; ``None`` under a strategy that plans nothing."""
        strategy, asked = self._strategy, self._settings.plan
        if not strategy.devices_train:
            return None
        return Planning(
            devices=devices,
            target_accuracy=asked.target_accuracy if strategy.plans_data else 0.0,
            budgets=bool(asked.device_budget_j or asked.fleet_budget_j),
        )

    def plan(
        self,
        profiles: Mapping[str, Profile],
        *,
        error_max: float | None = None,
        advise: bool = True,
    ) -> StrategyPlan:
        """Solve the fleet's problem under the strategy.

        Args:
            profiles: profiles of the devices to plan for.
            error_max: used instead of ``plan.error_max`` if given.
            advise: whether a refusal is to name remedies that were tried.

        Raises:
            InfeasibleError: no plan meets the limits; names the keys that would help, each tried.
        """
        try:
            return self._solve(profiles, error_max)
        except InfeasibleError as error:
            if not advise:
                raise
            reason = error

        plain = self._strategy.planned_at_once and not self._settings.training.steps

        def changed(plan: PlanSettings) -> FleetPlanner:
            given: Any = self._settings
            other = FleetPlanner(
                replace(given, plan=plan),
                self._sizes,
                self._progress,
                sample_bytes=self._sample_bytes,
                curve=self.curve,
                advise=False,
            )
            other.first = self.first
            return other

        def works(plan: PlanSettings) -> bool:
            other = changed(plan)
            try:
                problem = other._problem(profiles)
                if plain and not limited(problem) and not plan.target_accuracy:
                    return exists(problem, plan.synthetic_value)  # then it is found
                other._solve(profiles)
            except InfeasibleError:
                return False
            return True

        def smallest_deadline_s(plan: PlanSettings) -> float | None:
            if not plain:
                return None  # it would be that of another problem
            fleet = changed(plan)._inputs(profiles)
            return planning.smallest_deadline_s(replace(fleet, epochs=None))

        raise advised(
            reason,
            self._settings.plan,
            lambda plan: changed(plan)._problem(profiles),
            works,
            smallest_deadline_s,
        ) from None

    def replan(
        self,
        profiles: Mapping[str, Profile],
        delivered: Mapping[str, tuple[int, ...]],
        start: Plan | None,
        results: Sequence[RoundResult] = (),
        lately: int = 0,
        *,
        used: Mapping[str, tuple[int, ...]] | None = None,
    ) -> Plan:
        """Plan frequency, bandwidth and power again, for the data that devices have.

        Budgets are those of the whole run: what devices have taken is subtracted.

        Args:
            profiles: profiles with the cost parameters in force.
            delivered: images per class that each device holds.
            start: the plan in force, or another, to begin the search at; not used if it is one of
                other devices.
            results: finished rounds.
            lately: so many of the last ones were run by the plan in force; only for messages.
            used: images per class that devices train on; all of ``delivered`` if left out.

        Raises:
            InfeasibleError: no plan meets the limits any more.
        """
        whole = problem = self._problem(profiles)
        count = self._settings.rounds.count
        if limited(problem):
            problem = allowance.remaining(problem, results, count)
        if start is not None and {share.device for share in start.devices} != set(profiles):
            start = None

        def planner(fixed: FimiProblem) -> Plan:
            return make_plan(
                fixed,
                seed=self._settings.run.seed,
                settings=replace(self._search(), advise=False),  # no key sets what is left
                start=start,
            )

        try:
            found = strategy_plans.replan(
                self._strategy,
                problem,
                [delivered[device] for device in problem.devices],
                self._around(planner),
                self._around(equal_shares),
                None if used is None else [used[device] for device in problem.devices],
            )
            return self._kept(found)
        except InfeasibleError as error:
            if error.constraint != "energy budget":
                raise
            raise allowance.too_small(
                problem,
                whole,
                error.devices,
                count - len(results),
                received_j=problem.synthetic_j * [sum(delivered[d]) for d in problem.devices],
                last=results[len(results) - lately :],
            ) from error

    def error(
        self, profiles: Mapping[str, Profile], counts: Mapping[str, tuple[int, ...]]
    ) -> float:
        """Δ by the curve in force of devices with so many synthetic samples per class."""
        problem = self._problem(profiles)
        made = np.array([sum(counts[device]) for device in problem.devices], float)
        value = self._settings.plan.synthetic_value
        return problem.error(quality.effective(problem, value, problem.local_samples + made))

    def _inputs(self, profiles: Mapping[str, Profile]) -> planning.FleetInputs:
        """What the problem of these devices is made of."""
        return planning.FleetInputs(
            profiles=profiles,
            settings=self._settings,
            strategy=self._strategy,
            model_bytes=self._sizes.model_bytes,
            update_bytes=self._sizes.update_bytes,
            sample_bytes=self._sample_bytes,
            curve=self.curve,
            epochs=self.first.epochs if self.first is not None else None,
        )

    def _problem(self, profiles: Mapping[str, Profile]) -> FimiProblem:
        return planning.make_problem(self._inputs(profiles))

    def _solve(
        self, profiles: Mapping[str, Profile], error_max: float | None = None
    ) -> StrategyPlan:
        settings, problem = self._settings, self._problem(profiles)
        if error_max is not None and math.isfinite(problem.error_max):
            problem = replace(problem, error_max=error_max)
        choice = planning.cheapest(
            problem,
            settings,
            self._progress,
            rounds=self.rounds,
            hold_epochs=self.first is not None,
        )
        if choice is not None:
            problem = choice.apply(problem)

        def planner(problem: FimiProblem) -> Plan:
            return quality.plan(
                problem,
                synthetic_value=settings.plan.synthetic_value,
                seed=settings.run.seed,
                settings=self._search(),
                progress=lambda iteration, best_j: self._progress(),
            )

        made = strategy_plans.make_plans(
            self._strategy,
            problem,
            self._around(planner),
            settings=settings.strategy,
            rounds=settings.rounds.count,
            synthetic_value=settings.plan.synthetic_value,
            unplanned=self._around(equal_shares),
        )
        if made.plan is None or choice is None:
            return made
        return replace(made, plan=self._kept(planning.expecting(made.plan, problem, choice)))

    def _kept(self, plan: Plan) -> Plan:
        """A plan with the epochs of the run's first one, and what was expected of that one."""
        if self.first is None:
            return plan
        return replace(plan, epochs=self.first.epochs, expected=self.first.expected)

    def _around(self, planner: fixed_steps.Planner) -> fixed_steps.Planner:
        """The planner for the training of devices: by epochs or by steps."""
        settings = self._settings
        return fixed_steps.around(planner, settings.training, settings.plan.synthetic_value)

    def _search(self) -> SearchSettings:
        settings = self._settings.plan
        return SearchSettings(
            samples=settings.candidates or None,
            iterations=settings.iterations,
            gap_tolerance_percent=settings.gap_tolerance_percent,
            inner=settings.inner,
            start=settings.search,
            advise=self._advise,
        )
