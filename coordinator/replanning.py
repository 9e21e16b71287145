"""Between rounds: a new plan for the same data.

It is made where predictions drift or budgets run short, and where somebody asks for it.
"""

from __future__ import annotations

from msgspec import Struct

from fimi.coordinator import allowance
from fimi.coordinator.adaptation import Adaptation
from fimi.coordinator.context import Context
from fimi.coordinator.device_plans import DevicePlans
from fimi.coordinator.fleet_planner import FleetPlanner
from fimi.coordinator.plan_advice import in_keys
from fimi.coordinator.training_rounds import TrainingRounds
from fimi.energy.cost_model import BoardModel
from fimi.messaging.messages.facts import Profile
from fimi.optim.plans import Plan
from fimi.optim.problem import InfeasibleError
from fimi.record.events import Refitted


class Proposal(Struct, frozen=True, kw_only=True):
    """A plan that is not in force yet.

    Attributes:
        plan: of the fleet.
        profiles: with the cost parameters that it was made with.
        boards: those parameters, where they were fitted for it.
    """

    plan: Plan
    profiles: dict[str, Profile]
    boards: dict[str, BoardModel] = {}


class NoProposalError(ValueError):
    """There is no such plan; says why, and which deadline could be met."""


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
        profiles = adaptation.profiles(self._plans.planned)
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
                )
            )
            self._plans.change(plan, profiles, checkpoint=self._rounds.checkpoint())
        return plan

    def propose(self, plan: Plan | None, *, refit: bool = False) -> Proposal:
        """A plan as somebody asks for it, whether or not one is due.

        Args:
            plan: the plan in force.
            refit: whether boards are fitted first, as far as they have reported.

        Raises:
            NoProposalError: there is none; says what would help. Boards are as they were before.
        """
        adaptation, before = self._adaptation, self._adaptation.state
        boards = {}
        if refit and before.seen and not self._context.strategy.unlabelled:
            boards = adaptation.refit()
        profiles = adaptation.profiles(self._plans.planned)
        try:
            made = self._planner.replan(
                profiles,
                self._plans.delivered,
                plan,
                self._rounds.results,
                used=self._plans.used,
            )
        except BaseException as error:
            adaptation.restore(before)
            if not isinstance(error, InfeasibleError):
                raise
            why, smallest_s = str(error), None
            if error.constraint != "energy budget":
                smallest_s = self._planner.smallest_deadline_s(profiles, self._plans.used)
            if smallest_s is not None and smallest_s > self._context.deadline_s:
                why = f"{in_keys(error.what)}; a deadline of {smallest_s:g} s or more can be met"
            raise NoProposalError(
                f"there is no such plan, and the one in force stays: {why}"
            ) from error
        return Proposal(plan=made, profiles=profiles, boards=boards)

    def put(self, number: int, proposal: Proposal) -> None:
        """Put a proposal into force after round ``number``."""
        store = self._context.store
        with store.together():
            if proposal.boards and number:
                store.write_refit(number, proposal.boards, {})
            store.write_plan(proposal.plan)
            self._plans.change(
                proposal.plan, proposal.profiles, checkpoint=self._rounds.checkpoint()
            )

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
