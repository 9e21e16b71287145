"""The plans of all devices, and the phases of receiving their synthetic batches.

Every device gets its plan and answers it; a device that starts again gets it again. The first
answer holds the metered phase of receiving the synthetic batch, the device's preparation.
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
from fimi.record.events import Prepared
from fimi.record.results import Preparation


class DevicePlans:
    """The devices' plans; the inbox passes answers to it.

    Args:
        context: the context of the run.
        profiles: profiles of the fleet's devices.
        model_bytes: size of the model and of an update as sent.

    Attributes:
        devices: device id to its plan.
        preparations: phases of receiving the synthetic batches, in order of device id.
        fleet_time_s: present time of the fleet's clock, s.
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
        """Send every device its plan and wait for the answers.

        Args:
            plan: plan of the fleet.
            batches: the devices' batches from the generator node.
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
        """Send every device a new operating point; its data stays.

        Args:
            plan: new plan of the fleet.
            profiles: profiles with the cost parameters in force.
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
        """Plans of the devices that are online and follow theirs."""
        return {d: p for d, p in self.devices.items() if self._context.registry.follows_plan(d)}

    def send(self, device: str) -> None:
        """Send a device its plan, if it has one."""
        if device in self.devices:
            plan = msgspec.structs.replace(self.devices[device], fleet_time_s=self.fleet_time_s)
            self._context.peer.send(device, plan)

    def record(self, reply: PlanApplied) -> None:
        """Store the preparation from a device's first answer."""
        plan = self.devices.get(reply.device)
        if plan is None or plan.batch is None or not reply.phases:
            return  # no batch, or the device had it already
        board = self._profiles[reply.device].board
        preparation = Preparation(
            device=reply.device,
            phases=reply.phases,
            predicted=(download_cost("synthetic-download", board, 8.0 * plan.batch.size_bytes),),
            transfers=reply.transfers,
        )
        self._context.store.write_preparation(preparation)
        self._context.notify(Prepared(preparation=preparation))
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
        """Store how uneven the devices' labels are, without and with the synthetic samples."""
        devices = sorted(self.devices)
        local = np.array([self._profiles[device].label_counts for device in devices])
        made = np.array([self.devices[device].synthetic_counts for device in devices])
        self._context.store.write_labels(
            devices,
            {"local": summarise(local), "filled": summarise(local + made, local.sum(axis=0))},
        )
