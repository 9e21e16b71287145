"""The plans of all devices, and the phases of receiving their synthetic batches.

Every device gets its plan and answers it; a device that starts again finds it in its document. The
first answer holds the metered phase of receiving the synthetic batch, the device's preparation. The
first round does not wait for everybody: once a quorum has answered, the others have as long again.
A later plan is not waited for at all: a device follows it before its next round.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from fimi.coordinator import checkpoint as checkpoints
from fimi.coordinator import planning
from fimi.coordinator.checkpoint import PlanPart
from fimi.coordinator.context import Context
from fimi.coordinator.enrolment import Roster
from fimi.coordinator.patience import Grace, Reminder
from fimi.coordinator.payloads import PayloadSizes
from fimi.energy.cost_model import PhaseCost, download_cost
from fimi.energy.resting import enough_s
from fimi.learning.data.partition_summary import summarise
from fimi.learning.data.use import in_use
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.facts import PlanApplied, Profile
from fimi.messaging.messages.orders import DevicePlan, TopUp
from fimi.messaging.messages.synthesis import SyntheticBatch
from fimi.optim.categories import fill
from fimi.optim.planner import Plan
from fimi.record.events import Awaiting, PlanChanged, Prepared
from fimi.record.results import Preparation

PATIENCE_S = 10.0
"""How much longer than a quorum took the other devices may take to follow their plans, s."""
_TOLD_S = 0.5
"""Between two events that say who is waited for, wall time, s."""


class DevicePlans:
    """The devices' plans.

    Args:
        context: the context of the run.
        roster: the devices that take part.
        sizes: of the model and of an update as sent.
        part: the plan of a run that goes on, or the one just made.

    Attributes:
        sizes: of model and update as sent.
        devices: device id to its plan.
        fleet_time_s: present time of the fleet's clock, s.
    """

    def __init__(
        self, context: Context, roster: Roster, sizes: PayloadSizes, part: PlanPart
    ) -> None:
        self._context = context
        self._roster = roster
        self.sizes = sizes
        self._part = part
        self.devices: dict[str, DevicePlan] = dict(part.devices)
        self.fleet_time_s = part.fleet_time_s or 0.0

    def put(self, plan: Plan, batches: Mapping[str, SyntheticBatch], quorum: int) -> None:
        """Send every device its plan and wait until they follow it.

        Args:
            plan: plan of the fleet.
            batches: the devices' batches from the generator node.
            quorum: devices with which the first round may begin.
        """
        if not self.devices:
            with self._context.store.together():
                self._make(
                    plan,
                    self._roster.members,
                    delivered={device: batch.delivered for device, batch in batches.items()},
                    batches=batches,
                )
                self._record_labels()
                self._context.store.write_device_plans(self.devices)
            self._tell(plan)
        self._send_all()
        self._await_answers(quorum)
        if self._part.fleet_time_s is not None:
            return  # a run that goes on: its fleet has been ready before
        self.fleet_time_s = max(
            (
                self._roster.prepared_s(device) or 0.0
                for device, profile in self._roster.members.items()
                if profile.hardware.kind == "emulated"
            ),
            default=0.0,
        )
        self._part = msgspec.structs.replace(self._part, fleet_time_s=self.fleet_time_s)
        self._write()

    def change(
        self,
        plan: Plan,
        profiles: Mapping[str, Profile],
        batches: Mapping[str, SyntheticBatch] = {},
        *,
        top_ups: Mapping[str, SyntheticBatch] = {},
        use: float | None = None,
        checkpoint: Mapping[str, bytes] = {},
    ) -> None:
        """Send every device a new operating point; the data of those that have a plan stays.

        Args:
            plan: new plan of the fleet.
            profiles: profiles with the cost parameters in force.
            batches: of devices that had no plan.
            top_ups: further images for devices that have one.
            use: share of the synthetic samples that rounds train on from now on; as before if left
                out.
            checkpoint: what is to be stored together with it.
        """
        store = self._context.store
        delivered = self.delivered | {d: batch.delivered for d, batch in batches.items()}
        delivered = with_top_ups(delivered, top_ups)
        if use is not None:
            self._part = msgspec.structs.replace(self._part, synthetic_use=use)
        with store.together():
            self._make(
                plan,
                profiles,
                delivered=delivered,
                batches=batches,
                top_ups=top_ups,
                beside=checkpoint,
            )
            store.write_device_plans(self.devices)
            if batches or top_ups:
                self._record_labels()
        store.then(self._send_all)
        store.then(lambda: self._tell(plan))

    @property
    def training(self) -> TrainingSettings:
        """How devices train under the plan in force."""
        return planning.training_of(self._context.settings, self._part.plan)

    @property
    def update_bytes(self) -> int:
        """Size of an update in the plan in force."""
        return self._part.update_bytes or self.sizes.update_bytes

    @property
    def members(self) -> dict[str, Profile]:
        """Profiles of the devices that have a plan; one that was refused later is left out."""
        members = self._roster.members
        return {device: members[device] for device in self.devices if device in members}

    @property
    def planned(self) -> dict[str, Profile]:
        """Profiles of those that further plans are made for: not of devices that are excluded."""
        excluded = self._context.in_force.excluded
        return {device: p for device, p in self.members.items() if device not in excluded}

    @property
    def delivered(self) -> dict[str, tuple[int, ...]]:
        """Synthetic images per class that each device holds; unlabelled ones spread evenly."""
        return {
            device: fill([0] * len(plan.synthetic_counts), plan.unlabelled)
            if plan.unlabelled
            else plan.synthetic_counts
            for device, plan in self.devices.items()
        }

    @property
    def used(self) -> dict[str, tuple[int, ...]]:
        """The part of :attr:`delivered` that rounds train on."""
        return {
            device: counts if self.devices[device].unlabelled else in_use(counts, self.use)
            for device, counts in self.delivered.items()
        }

    @property
    def use(self) -> float:
        """Share of the synthetic samples that rounds train on."""
        return self._part.synthetic_use

    def with_receipts(self, plans: Mapping[str, DevicePlan]) -> dict[str, DevicePlan]:
        """Plans with what receiving takes that is due in the next round in their prediction."""
        found = dict(plans)
        for device, plan in plans.items():
            for top_up in plan.top_ups:
                if top_up.fleet_time_s >= self.fleet_time_s:
                    cost = _receiving(self._roster.members[device], top_up.batch)
                    found[device] = msgspec.structs.replace(
                        found[device], predicted=(cost, *found[device].predicted)
                    )
        return found

    @property
    def receiving_j(self) -> dict[str, float]:
        """Predicted board energy of receiving its batch, J, of each member that has one."""
        return {
            device: _receiving(profile, batch).board_j
            for device, profile in self.members.items()
            if (batch := self.devices[device].batch) is not None
        }

    def ready(self) -> dict[str, DevicePlan]:
        """Plans of the devices that are online or expected back, and follow theirs."""
        return {d: p for d, p in self.devices.items() if self._context.registry.follows_plan(d)}

    def replace_batch(self, batch: SyntheticBatch) -> None:
        """A generator node has made a device's batch again: tell the device where it is."""
        plan = self.devices.get(batch.device)
        if plan is None or batch.offer is None:
            return
        if any(top_up.skip == batch.skip for top_up in plan.top_ups):
            top_ups = tuple(
                msgspec.structs.replace(t, batch=batch.offer) if t.skip == batch.skip else t
                for t in plan.top_ups
            )
            changed = msgspec.structs.replace(plan, top_ups=top_ups)
        elif batch.skip:
            return  # it was drawn for a plan that was not made
        else:
            changed = msgspec.structs.replace(plan, batch=batch.offer)
        if changed != plan:
            self.devices[batch.device] = changed
            self.send(batch.device)

    def send(self, device: str) -> None:
        """Tell a device its plan, if it has one."""
        if (plan := self.devices.get(device)) is not None:
            time_s = self.fleet_time_s
            if time_s <= (self._part.fleet_time_s or 0.0):  # before the end of the first round
                # it has idled since then: that belongs to this round
                time_s = self._roster.prepared_s(device) or 0.0
            self._context.conversation.order(device, self._as_of(time_s, device, plan))

    def record(self, reply: PlanApplied) -> None:
        """Store the preparation from a device's answer.

        An emulated board is prepared once in the record of a run. One that is started again while
        the coordinator is away may have found a document in which that was still to come.
        """
        plan = self.devices.get(reply.device)
        profile = self._roster.members.get(reply.device)
        prepared = self._roster.prepared_s(reply.device) is not None
        if (
            plan is None
            or profile is None
            or not (reply.evidence or (reply.phases and plan.batch is not None))
            or (prepared and profile.hardware.kind == "emulated")
        ):
            with self._context.store.together():
                self._context.store.write_checkpoint(self._roster.applied(reply, None))
                self._context.store.write_readings(0, reply.device, reply.readings)
            return
        preparation = Preparation(
            device=reply.device,
            phases=reply.phases,
            predicted=(_receiving(profile, plan.batch),) if plan.batch and reply.phases else (),
            transfers=reply.transfers,
            evidence=(reply.evidence,) if reply.evidence is not None else (),
        )
        seconds = None
        if reply.phases and not reply.error:
            seconds = sum(phase.duration_s for phase in reply.phases)
        with self._context.store.together():
            self._context.store.write_preparation(
                preparation, checkpoint=self._roster.applied(reply, seconds)
            )
            self._context.store.write_readings(0, reply.device, reply.readings)
            self._context.notify(Prepared(preparation=preparation))
        self._context.conversation.amend(
            reply.device, self._as_of(self.fleet_time_s, reply.device, plan)
        )

    def _as_of(self, fleet_time_s: float, device: str, plan: DevicePlan) -> DevicePlan:
        """A plan with what a start of the device is to know that finds it at that time."""
        booked = self._roster.prepared_s(device) is not None
        held = self._roster.topped_up(device)  # who was away has not received the others
        top_ups = tuple(
            msgspec.structs.replace(t, booked=k < held and t.fleet_time_s < self.fleet_time_s)
            for k, t in enumerate(plan.top_ups)
        )
        return msgspec.structs.replace(
            plan, fleet_time_s=fleet_time_s, booked=booked, top_ups=top_ups
        )

    def _make(
        self,
        plan: Plan,
        profiles: Mapping[str, Profile],
        *,
        delivered: Mapping[str, tuple[int, ...]],
        batches: Mapping[str, SyntheticBatch],
        top_ups: Mapping[str, SyntheticBatch] = {},
        beside: Mapping[str, bytes] = {},
    ) -> None:
        later = {d: p.top_ups for d, p in self.devices.items()}
        for device, batch in top_ups.items():
            if batch.offer is not None:
                more = TopUp(
                    skip=batch.skip,
                    counts=batch.delivered,
                    batch=batch.offer,
                    fleet_time_s=self.fleet_time_s,
                )
                later[device] = (*later[device], more)
        offers = {d: p.batch for d, p in self.devices.items() if p.batch is not None}
        offers |= {d: batch.offer for d, batch in batches.items() if batch.offer is not None}
        rest = {d: p for d, p in self.devices.items() if d in self._context.in_force.excluded}
        self.devices = rest | planning.device_plans(
            plan,
            profiles,
            self._context.settings,
            run=self._context.run,
            model_bytes=self.sizes.model_bytes,
            update_bytes=self.sizes.update_bytes,
            delivered=delivered,
            batches=offers,
            indices=self._roster.indices,
            top_ups=later,
            use=self.use,
            unlabelled=self._context.strategy.unlabelled,
        )
        self._part = msgspec.structs.replace(
            self._part,
            plan=plan,
            devices=self.devices,
            update_bytes=self.sizes.update_bytes,
        )
        self._write(beside)

    def _write(self, beside: Mapping[str, bytes] = {}) -> None:
        self._context.store.write_checkpoint({**checkpoints.of_plan(self._part), **beside})

    def _tell(self, plan: Plan) -> None:
        """Say what is in force."""
        self._context.notify(PlanChanged(plan=plan, devices=dict(self.devices)))

    def _send_all(self) -> None:
        for device in self.devices:
            self.send(device)

    def _await_answers(self, quorum: int) -> None:
        """Wait until every device that is not gone has answered, or long enough for the others."""
        context, registry = self._context, self._context.registry
        boards = [self._roster.members[d].hardware for d in self.devices]
        # A board rests before its first work until its meter can tell what it draws then.
        rests_s = max((enough_s(b.meter) for b in boards if b.kind == "physical"), default=0.0)
        reminder, grace = Reminder(_TOLD_S + rests_s), Grace(PATIENCE_S + rests_s)

        def enough() -> bool:
            open_ = [
                device
                for device in self.devices
                if registry.is_expected(device) and not registry.has_answered(device)
            ]
            if open_ and reminder.due():
                context.notify(Awaiting(what="to follow their plans", devices=tuple(open_)))
            return grace.over(len(self.ready()) >= quorum) or not open_

        context.inbox.wait(enough, context.settings.rounds.gather_timeout_s + rests_s)

    def _record_labels(self) -> None:
        """Store how uneven the devices' labels are, without and with the synthetic samples."""
        devices = sorted(self.devices)
        members = self._roster.members
        local = np.array([members[device].label_counts for device in devices])
        made = np.array([self.devices[device].synthetic_counts for device in devices])
        self._context.store.write_labels(
            devices,
            {"local": summarise(local), "filled": summarise(local + made, local.sum(axis=0))},
        )


def with_top_ups(
    held: Mapping[str, tuple[int, ...]], top_ups: Mapping[str, SyntheticBatch]
) -> dict[str, tuple[int, ...]]:
    """Images per class of each device, with those of its top-up."""
    return {**held} | {
        device: tuple(h + m for h, m in zip(held[device], batch.delivered, strict=True))
        for device, batch in top_ups.items()
    }


def _receiving(profile: Profile, batch: Offer) -> PhaseCost:
    """What receiving a synthetic batch takes by the cost model."""
    return download_cost("synthetic-download", profile.board, 8.0 * batch.size_bytes)
