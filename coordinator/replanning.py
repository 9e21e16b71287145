"""Between rounds: a new plan for the same data, where predictions drift or budgets run short."""

from __future__ import annotations

from fimi.coordinator import allowance
from fimi.coordinator.adaptation import Adaptation
from fimi.coordinator.context import Context
from fimi.coordinator.device_plans import DevicePlans
from fimi.coordinator.fleet_planner import FleetPlanner
from fimi.coordinator.training_rounds import TrainingRounds
from fimi.optim.plans import Plan
from fimi.optim.problem import InfeasibleError
from fimi.record.events import Refitted


class Replanning:
    """Plans the rounds that are left.

    Where predictions have drifted, boards are fitted and the fleet is planned again. So, too, where
    a budget will not last for the rounds that are left; boards are kept as they are under a
    strategy whose drifts say nothing of them.

    A fleet for which there is no plan any more keeps the one it has, with new predictions. Where
    the budgets are the reason, only drifts make it try again while that plan is in force.

    Args:
        context: the context of the run.
        planner: plans the fleet.
        plans: plans of devices.
        rounds: the rounds so far.
        adaptation: the boards as fitted.
    """

    def __init__(
        self,
        context: Context,
        planner: FleetPlanner,
        plans: DevicePlans,
        rounds: TrainingRounds,
        adaptation: Adaptation,
    ) -> None:
        self._context = context
        self._planner = planner
        self._plans = plans
        self._rounds = rounds
        self._adaptation = adaptation
        self._unreplaced: Plan | None = None  # in force when none was found for the budgets

    def follow(self, number: int, plan: Plan) -> Plan:
        """Plan again if it is due.

        Args:
            number: of the round that has ended.
            plan: the plan in force.

        Returns:
            The plan in force from now on.
        """
        adaptation = self._adaptation
        # the prediction has every unlabelled image kept: being off says nothing of the board
        refits = not self._context.strategy.unlabelled
        lately = adaptation.lately
        drifts = adaptation.drifted() if refits else {}
        if plan is self._unreplaced and not drifts:
            return plan
        short = self._short(lately)
        if not (drifts or short):
            return plan
        boards = adaptation.refit() if refits else adaptation.keep()
        profiles = adaptation.profiles(self._plans.members)
        energy_j, reason = None, ""
        try:
            plan = self._planner.replan(
                profiles,
                self._plans.delivered,
                plan,
                self._rounds.results,
                lately,
                used=self._plans.used,
            )
            energy_j = plan.energy_j
        except InfeasibleError as error:
            reason = f"the plan in force stays: {error}"
            if error.constraint == "energy budget":
                self._unreplaced = plan
        store = self._context.store
        with store.together():
            if refits:
                store.write_refit(number, boards, drifts)
            store.write_plan(plan)
            self._context.notify(
                Refitted(
                    round=number,
                    drift_percent=drifts,
                    energy_j=energy_j,
                    reason=reason,
                    objective=plan.objective,
                    short=short,
                    fitted=refits,
                    plan=plan,
                )
            )
            self._plans.change(plan, profiles, checkpoint=self._rounds.checkpoint())
        return plan

    def _short(self, lately: int) -> tuple[str, ...]:
        """Whose budgets will not last, as the ``lately`` last rounds were."""
        settings = self._context.settings
        return allowance.short(
            self._rounds.results,
            lately,
            settings.rounds.count,
            settings.plan,
            self._plans.receiving_j,
        )
