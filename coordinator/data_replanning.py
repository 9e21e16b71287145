"""Between rounds: other data, where the errors drift or the schedule of synthetic data says so.

Where planned errors do not fit the measured ones, the learning curve is fitted to the run, and the
fleet is planned again with it. Devices that should have more images get those that they lack;
nothing is thrown away. Where the schedule changes the share of synthetic samples that rounds train
on, frequency, bandwidth and power are planned again for what is trained on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec.structs import replace

from fimi.coordinator.adaptation import Adaptation
from fimi.coordinator.context import Context, FederationError
from fimi.coordinator.device_plans import DevicePlans, with_top_ups
from fimi.coordinator.fleet_planner import FleetPlanner
from fimi.coordinator.learning_adaptation import Holding, LearningAdaptation
from fimi.coordinator.synthesis import Synthesis
from fimi.coordinator.training_rounds import TrainingRounds
from fimi.learning.data.use import in_use
from fimi.messaging.messages.facts import Profile
from fimi.messaging.messages.synthesis import SyntheticBatch
from fimi.optim.categories import fill
from fimi.optim.plans import Plan
from fimi.optim.problem import InfeasibleError
from fimi.record.events import LearningRefitted, SyntheticUse

Counts = dict[str, tuple[int, ...]]
"""Images per class, by device."""
_PATIENCE_S = 10.0
"""How long boards wait for a generator node that is away, s."""
_SLACK = 0.02
"""By so much may the accuracy be below the target before images are trained on again."""
_LIMITS = (1.0, 1.25, 1.6, 2.0, 3.0, 5.0)
"""Limits on Δ that are tried one after another, over the one that was asked for."""


class DataReplanning:
    """Plans the data of the rounds that are left.

    Args:
        context: the context of the run.
        planner: plans the fleet.
        plans: plans of devices.
        rounds: the rounds so far.
        adaptation: the boards as fitted.
        learning: planned and measured errors; ``None`` where no error is planned.
        synthesis: requests further images.
    """

    def __init__(
        self,
        context: Context,
        planner: FleetPlanner,
        plans: DevicePlans,
        rounds: TrainingRounds,
        adaptation: Adaptation,
        learning: LearningAdaptation | None,
        synthesis: Synthesis,
    ) -> None:
        self._context = context
        self._planner = planner
        self._plans = plans
        self._rounds = rounds
        self._adaptation = adaptation
        self._learning = learning
        self._synthesis = synthesis

    def follow(self, number: int, plan: Plan) -> Plan:
        """Plan again if it is due.

        Args:
            number: of the round that has ended.
            plan: the plan in force.

        Returns:
            The plan in force from now on.
        """
        use = self._use_in(number + 1)
        made: dict[str, SyntheticBatch] = {}
        event = None
        if self._learning is not None and use == self._plans.use:
            level = self._learning.level
            if level is not None:
                made, event = self._refit(number, self._learning, level)
        if event is None and use == self._plans.use:
            return plan
        profiles = self._adaptation.profiles(self._plans.planned)
        held = with_top_ups(self._plans.delivered, made)
        if made or use != self._plans.use:
            used = {device: in_use(counts, use) for device, counts in held.items()}
            try:
                plan = self._planner.replan(profiles, held, plan, self._rounds.results, used=used)
            except InfeasibleError as error:
                if event is None:
                    return plan  # a share of the data needs no more than all of it
                made, held = {}, self._plans.delivered
                event = replace(event, images=0, reason=f"the plan stays: {error}")
        store = self._context.store
        if event is not None and self._learning is not None:
            planned = self._planner.error(profiles, held)
            self._learning.begin_again(planned)
            event = replace(event, planned=planned)
            plan = replace(plan, error=planned)
        with store.together():
            store.write_plan(plan)
            if event is not None:
                self._context.notify(event)
            if use != self._plans.use:
                fades = not self._context.settings.plan.synthetic_schedule
                self._context.notify(SyntheticUse(round=number, share=use, fades=fades))
            self._plans.change(
                plan, profiles, top_ups=made, use=use, checkpoint=self._rounds.checkpoint()
            )
        return plan

    def _use_in(self, number: int) -> float:
        """Share of the synthetic samples that a round is to train on."""
        if not self._context.strategy.fills_devices:
            return 1.0
        settings, judged = self._context.settings.plan, self._rounds.results[-1].validation
        fades = settings.target_accuracy and settings.fade_at_target
        if settings.synthetic_schedule or not fades or judged is None:
            return settings.use_in(number)
        slack = 0.0 if self._plans.use else _SLACK  # so that it does not come and go
        return 0.0 if judged.accuracy >= settings.target_accuracy - slack else 1.0

    def _refit(
        self, number: int, learning: LearningAdaptation, level: float
    ) -> tuple[dict[str, SyntheticBatch], LearningRefitted]:
        """Fit the curve and fetch what devices lack by it."""
        known, profiles = learning.state, self._adaptation.profiles(self._plans.planned)
        found = learning.refit(level, self._holding(profiles))
        self._planner.plan_by(found.curve, found.rounds)
        event = LearningRefitted(
            round=number,
            before=known.planned,
            measured=level,
            planned=known.planned,
            curve=found.curve,
            images=0,
        )
        enough = replace(event, reason="devices have the images that they need")
        if level <= known.planned:
            return {}, enough
        if (planning := self._planner.planned_for(len(profiles))) is not None:
            self._context.notify(planning)
        try:
            wanted, reason = self._planned(profiles, level)
        except InfeasibleError as error:
            return {}, replace(event, reason=f"no plan meets the limits: {error}")
        amounts = {share.device: sum(share.synthetic_counts) for share in wanted.devices}
        lacking = self._lacking(profiles, amounts)
        if not lacking:
            return {}, enough
        try:
            had = {device: held for device, held in self._plans.delivered.items() if any(held)}
            made = self._synthesis.of(lacking, skip=had, patience_s=_PATIENCE_S)
        except FederationError as error:
            # as if nothing had been fitted: after another window of rounds it is asked again
            learning.state = known
            self._planner.plan_by(known.curve, known.rounds)
            return {}, replace(event, curve=known.curve, reason=str(error))
        made = {device: batch for device, batch in made.items() if batch.offer is not None}
        images = sum(sum(batch.delivered) for batch in made.values())
        if not images:
            reason = "the generator node made none of the images that are lacking"
        return made, replace(event, images=images, reason=reason)

    def _planned(self, profiles: Mapping[str, Profile], level: float) -> tuple[Plan, str]:
        """The plan by the curve in force, and why it is not for the limit that was asked for.

        Where no images are enough for that limit, a higher one is taken that is still well below
        the present level.

        Raises:
            InfeasibleError: there is none.
        """
        asked = self._context.settings.plan.error_max
        for factor in _LIMITS:
            limit, last = factor * asked, factor == _LIMITS[-1]
            try:
                plan = self._planner.plan(profiles, error_max=limit, advise=False).plan
            except InfeasibleError as error:
                if last or error.constraint != "learning error" or _LIMITS[1] * limit > level:
                    raise
                continue
            assert plan is not None
            met = factor == 1.0
            return plan, "" if met else f"plan.error_max {asked:g} cannot be met, {limit:.3g} can"
        raise AssertionError

    def _holding(self, profiles: Mapping[str, Profile]) -> Holding:
        """What devices hold, and what they would with even classes."""
        settings = self._context.settings.plan
        now, even = [], []
        for device, made in self._plans.delivered.items():
            if device not in profiles:
                continue
            local = profiles[device].label_counts
            classes = [n + m for n, m in zip(local, made, strict=True)]
            most = min(len(classes) * max(classes) - sum(local), settings.synthetic_max)
            now.append(math.log(sum(local) + settings.synthetic_value * sum(made)))
            even.append(math.log(sum(local) + settings.synthetic_value * max(most, sum(made))))
        return Holding(
            now=math.exp(math.fsum(now) / len(now)), even=math.exp(math.fsum(even) / len(even))
        )

    def _lacking(self, profiles: Mapping[str, Profile], amounts: Mapping[str, int]) -> Counts:
        """What devices are to get beside what they have, so that classes stay filled up."""
        found: Counts = {}
        for device, held in self._plans.delivered.items():
            more = amounts.get(device, 0) - sum(held)
            if more > 0 and device in profiles:
                local = profiles[device].label_counts
                found[device] = fill([n + h for n, h in zip(local, held, strict=True)], more)
        return found
