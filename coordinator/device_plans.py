"""What each device has been told, and what it took to follow.

A plan is announced to every device and answered by it; a device that starts anew is told again. The
first answer carries what receiving the synthetic batch took, the device's preparation.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from fimi.coordinator import planning
from fimi.coordinator.context import Context
from fimi.energy.cost_model import download_cost
from fimi.learning.data.partition_summary import summarise
from fimi.messaging.messages import DevicePlan, PlanApplied, Profile, SyntheticBatch
from fimi.optim.planner import Plan
from fimi.record.results import Preparation


class DevicePlans:
    """The devices' plans; the inbox tells them what concerns them.

    Args:
        context: the coordinator's tools.
        profiles: of the fleet's devices.
        model_bytes: size of the model as it travels, both ways.

    Attributes:
        devices: device id to what it was told.
        preparations: what receiving the synthetic batches took, in order of device id.
        fleet_time_s: what the fleet's clock shows, s.
    """

    def __init__(self, context: Context, profiles: Mapping[str, Profile], model_bytes: int) -> None:
        self._context = context
        self._profiles = profiles
        self._model_bytes = model_bytes
        self.devices: dict[str, DevicePlan] = {}
        self.preparations: list[Preparation] = []
        self.fleet_time_s = 0.0
        context.inbox.tell(self)

    def put(self, plan: Plan, batches: Mapping[str, SyntheticBatch]) -> None:
        """Tell every device its plan and wait for the answers.

        Args:
            plan: of the fleet.
            batches: what the generator node made for its devices.
        """
        self.devices = planning.device_plans(
            plan,
            self._profiles,
            self._context.settings,
            run=self._context.run,
            model_bytes=self._model_bytes,
            delivered={device: batch.delivered for device, batch in batches.items()},
            batches={device: b.offer for device, b in batches.items() if b.offer is not None},
            unlabelled=self._context.strategy.unlabelled,
        )
        self._record_labels()
        self._announce()
        self.fleet_time_s = max(
            (
                sum(phase.duration_s for phase in preparation.phases)
                for preparation in self.preparations
                if self._profiles[preparation.device].hardware.kind == "emulated"
            ),
            default=0.0,
        )

    def change(self, plan: Plan, profiles: Mapping[str, Profile]) -> None:
        """Tell every device to work differently, with the data that it has.

        Args:
            plan: of the fleet.
            profiles: with boards as they are known now.
        """
        self.devices = planning.device_plans(
            plan,
            profiles,
            self._context.settings,
            run=self._context.run,
            model_bytes=self._model_bytes,
            delivered=self.delivered,
            batches={d: p.batch for d, p in self.devices.items() if p.batch is not None},
        )
        self._announce()

    @property
    def delivered(self) -> dict[str, tuple[int, ...]]:
        """Synthetic images per class that each device holds."""
        return {device: plan.synthetic_counts for device, plan in self.devices.items()}

    def ready(self) -> dict[str, DevicePlan]:
        """Plans of the devices that are there and follow theirs."""
        return {d: p for d, p in self.devices.items() if self._context.registry.follows_plan(d)}

    def send(self, device: str) -> None:
        """Tell a device its plan, if it has one."""
        if device in self.devices:
            plan = msgspec.structs.replace(self.devices[device], fleet_time_s=self.fleet_time_s)
            self._context.peer.send(device, plan)

    def record(self, reply: PlanApplied) -> None:
        """Enter what a device's first answer says of receiving its batch."""
        plan = self.devices.get(reply.device)
        if plan is None or plan.batch is None or not reply.phases:
            return  # no batch, or it was there already
        board = self._profiles[reply.device].board
        preparation = Preparation(
            device=reply.device,
            phases=reply.phases,
            predicted=(download_cost("synthetic-download", board, 8.0 * plan.batch.size_bytes),),
            transfers=reply.transfers,
        )
        self._context.store.write_preparation(preparation)
        self.preparations.append(preparation)
        self.preparations.sort(key=lambda preparation: preparation.device)

    def _announce(self) -> None:
        context = self._context
        context.store.write_device_plans(self.devices)
        context.registry.expect_answers()
        for device in self.devices:
            self.send(device)
        context.inbox.wait(
            lambda: all(
                context.registry.has_answered(d) or not context.registry.is_online(d)
                for d in self.devices
            ),
            context.settings.rounds.gather_timeout_s,
        )

    def _record_labels(self) -> None:
        """How uneven the devices' labels are, and what the synthetic samples make of it."""
        devices = sorted(self.devices)
        local = np.array([self._profiles[device].label_counts for device in devices])
        made = np.array([self.devices[device].synthetic_counts for device in devices])
        self._context.store.write_labels(
            devices,
            {"local": summarise(local), "filled": summarise(local + made, local.sum(axis=0))},
        )
