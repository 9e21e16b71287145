"""The plan of a fleet under a strategy: made before round 1, made again when boards drift."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from fimi.coordinator import fixed_steps, planning, strategy_plans
from fimi.coordinator.settings import FederationSettings
from fimi.coordinator.strategies import STRATEGIES
from fimi.coordinator.strategy_plans import StrategyPlan
from fimi.messaging.messages import Profile
from fimi.optim import quality
from fimi.optim.planner import Plan, SearchSettings
from fimi.optim.planner import plan as make_plan
from fimi.optim.problem import FimiProblem, InfeasibleError
from fimi.optim.unplanned import equal_shares

_KEYS = {
    "error_max": "plan.error_max",
    "generated_max": "plan.synthetic_max",
    "bandwidth_hz": "plan.bandwidth_hz",
    "t_max_s": "plan.deadline_s",
    "synthetic_value": "plan.synthetic_value",
    "budget_j": "plan.device_budget_j",
    "fleet_budget_j": "plan.fleet_budget_j",
    "objective": "plan.objective",
}
"""Limits of a problem, to the keys of the configuration that set them."""


class FleetPlanner:
    """Plans the fleet with FIMI's optimisation under the strategy of the settings.

    Args:
        settings: the configuration.
        model_bytes: size of the model and of an update as sent.
        progress: called with every iteration of a search and its best energy so far, J; may raise.
        sample_bytes: size of a synthetic sample as sent.
    """

    def __init__(
        self,
        settings: FederationSettings,
        model_bytes: int,
        progress: Callable[[int, float], None] = lambda iteration, best_j: None,
        *,
        sample_bytes: float = 0.0,
    ) -> None:
        self._settings = settings
        self._strategy = STRATEGIES[settings.run.strategy]
        self._model_bytes = model_bytes
        self._progress = progress
        self._sample_bytes = sample_bytes

    def plan(self, profiles: Mapping[str, Profile]) -> StrategyPlan:
        """Solve the fleet's problem under the strategy.

        Args:
            profiles: profiles of the devices to plan for.

        Raises:
            InfeasibleError: no plan meets the limits; names the smallest deadline with a plan.
        """
        try:
            return self._solve(profiles)
        except InfeasibleError as error:
            error.args = (
                re.sub(rf"(?<![.\w])({'|'.join(_KEYS)})\b", lambda m: _KEYS[m[1]], str(error)),
            )
            if not self._strategy.planned_at_once or self._settings.training.steps:
                raise  # the smallest deadline would be that of another problem
            deadline_s = planning.smallest_deadline_s(
                profiles, self._settings, self._strategy, model_bytes=self._model_bytes
            )
            given = self._settings.plan
            if deadline_s is None or deadline_s <= given.deadline_s:
                raise
            shown = math.ceil(deadline_s * 1000) / 1000
            error.args = (
                f"{error}\n  plan.deadline_s is {given.deadline_s:g}, of which "
                f"plan.deadline_margin {given.deadline_margin:g} is kept free; the smallest that "
                f"this fleet can meet is {shown:g}",
            )
            raise

    def replan(
        self,
        profiles: Mapping[str, Profile],
        delivered: Mapping[str, tuple[int, ...]],
        start: Plan | None,
    ) -> Plan:
        """Plan frequency, bandwidth and power again, for the data that devices have.

        Args:
            profiles: profiles with the cost parameters in force.
            delivered: images per class that each device holds.
            start: the plan in force, or another, to begin the search at; not used if it is one of
                other devices.

        Raises:
            InfeasibleError: no plan meets the limits any more.
        """
        problem = self._problem(profiles)
        if start is not None and {share.device for share in start.devices} != set(profiles):
            start = None

        def planner(fixed: FimiProblem) -> Plan:
            return make_plan(
                fixed, seed=self._settings.run.seed, settings=self._search(), start=start
            )

        return strategy_plans.replan(
            self._strategy,
            problem,
            [delivered[device] for device in problem.devices],
            self._around(planner),
            self._around(equal_shares),
        )

    def _problem(self, profiles: Mapping[str, Profile]) -> FimiProblem:
        return planning.make_problem(
            profiles,
            self._settings,
            self._strategy,
            model_bytes=self._model_bytes,
            sample_bytes=self._sample_bytes,
        )

    def _solve(self, profiles: Mapping[str, Profile]) -> StrategyPlan:
        settings = self._settings
        problem = planning.with_target(self._problem(profiles), settings)

        def planner(problem: FimiProblem) -> Plan:
            return quality.plan(
                problem,
                synthetic_value=settings.plan.synthetic_value,
                seed=settings.run.seed,
                settings=self._search(),
                progress=self._progress,
            )

        return strategy_plans.make_plans(
            self._strategy,
            problem,
            self._around(planner),
            settings=settings.strategy,
            rounds=settings.rounds.count,
            synthetic_value=settings.plan.synthetic_value,
            unplanned=self._around(equal_shares),
        )

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
        )
