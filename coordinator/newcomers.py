"""Devices that join a run that has begun.

A newcomer gets images as a plan of the enlarged fleet has it, and a plan of its own as soon as its
batch is there: from the next round on. Nobody waits for it meanwhile, and the data of the others
stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from fimi.coordinator.adaptation import Adaptation
from fimi.coordinator.context import Context
from fimi.coordinator.device_plans import DevicePlans
from fimi.coordinator.enrolment import Roster
from fimi.coordinator.fleet_planner import FleetPlanner
from fimi.coordinator.synthesis import Synthesis
from fimi.learning.data.use import in_use
from fimi.messaging.messages.synthesis import SyntheticBatch
from fimi.optim.plans import Plan
from fimi.optim.problem import InfeasibleError
from fimi.record.results import RoundResult


class Newcomers:
    """Plans for devices that have joined after the first plan was made.

    Args:
        context: the context of the run.
        roster: the devices that take part.
        plans: their plans.
        adaptation: the boards as fitted.
        planner: plans the fleet.
        synthesis: requests their batches.
    """

    def __init__(
        self,
        context: Context,
        roster: Roster,
        plans: DevicePlans,
        adaptation: Adaptation,
        planner: FleetPlanner,
        synthesis: Synthesis,
    ) -> None:
        self._context = context
        self._roster = roster
        self._plans = plans
        self._adaptation = adaptation
        self._planner = planner
        self._synthesis = synthesis
        self._asked: dict[str, tuple[int, ...]] = {}
        self._batches: dict[str, SyntheticBatch] = {}
        self._plan: Plan | None = None

    def batch(self, batch: SyntheticBatch) -> None:
        """A newcomer's batch is there."""
        if batch.device in self._asked and batch.device not in self._batches:
            self._batches[batch.device] = batch
            self._synthesis.take(batch)

    def admit(self, plan: Plan, number: int, results: Sequence[RoundResult] = ()) -> Plan:
        """Take in who has come since; returns the plan in force.

        Args:
            plan: the plan in force.
            number: of the next round.
            results: finished rounds.
        """
        context, members = self._context, self._roster.members
        new = [d for d in members if d not in self._plans.devices and d in context.registry.online]
        if not new:
            return plan
        try:
            return self._admit(plan, number, new, results)
        except InfeasibleError as error:
            for device in new:
                self._roster.refuse(
                    device, f"there is no plan for the fleet with {device}: {error}"
                )
            return plan

    def _admit(
        self, plan: Plan, number: int, new: list[str], results: Sequence[RoundResult]
    ) -> Plan:
        members = self._roster.members
        for device in new:
            self._adaptation.admit(device, members[device])
        known = self._plans.planned
        profiles = self._adaptation.profiles(known | {d: members[d] for d in new})
        unasked = [device for device in new if device not in self._asked]
        if unasked:
            self._plan = self._planner.plan(profiles).plan
            assert self._plan is not None
            for share in self._plan.devices:
                if share.device in unasked:
                    self._asked[share.device] = share.synthetic_counts
                    if sum(share.synthetic_counts):
                        self._synthesis.want(
                            share.device,
                            share.synthetic_counts,
                            unlabelled=self._context.strategy.unlabelled,
                        )
        for device in new:
            awaited = any(self._asked[device]) and device not in self._batches
            if awaited and device not in unasked:
                self._synthesis.remind(device)
        ready = [d for d in new if d in self._batches or not sum(self._asked[d])]
        if not ready:
            return plan
        profiles = {device: profiles[device] for device in [*known, *ready]}
        counts = {d: (0,) * len(self._asked[d]) for d in ready}
        counts |= {d: self._batches[d].delivered for d in ready if d in self._batches}
        plan = self._planner.replan(
            profiles,
            self._plans.delivered | counts,
            self._plan,
            results,
            used=self._plans.used | {d: in_use(n, self._plans.use) for d, n in counts.items()},
        )
        with self._context.store.together():
            self._context.store.write_plan(plan)
            self._plans.change(
                plan, profiles, {d: self._batches[d] for d in ready if d in self._batches}
            )
            self._roster.used_since(ready, number)
        return plan
