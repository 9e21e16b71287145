"""How a round begins: who is there, who of them takes part, and what it begins with.

* :class:`RoundOpening`  draws the participants of each round and makes its
  :class:`~fimi.coordinator.round_order.RoundOrder`
"""

from __future__ import annotations

from collections.abc import Mapping

from fimi.coordinator import participation
from fimi.coordinator.adaptation import Adaptation
from fimi.coordinator.context import Context, FederationError
from fimi.coordinator.device_plans import DevicePlans
from fimi.coordinator.enrolment import Roster
from fimi.coordinator.round_order import RoundOrder
from fimi.coordinator.screening import Screening, left_out
from fimi.energy.cost_model import BoardModel, PhaseCost, idle_cost
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.orders import DevicePlan

DEADLINE_GRACE_S = 5.0
"""Wall time beyond the deadline after which a silent physical device counts as missing, s."""


class RoundOpening:
    """Begins the rounds of a federation.

    Args:
        context: the context of the run.
        roster: the devices that take part in it.
        plans: of the devices.
        adaptation: the boards as fitted; ``None`` where devices do not train.
        screening: which devices are set aside.
    """

    def __init__(
        self,
        context: Context,
        roster: Roster,
        plans: DevicePlans,
        adaptation: Adaptation | None,
        screening: Screening,
    ) -> None:
        self._context = context
        self._settings = context.settings
        self._roster = roster
        self._plans = plans
        self._adaptation = adaptation
        self._screening = screening

    @property
    def aside(self) -> frozenset[str]:
        """Devices that rest in every round: set aside for their updates, or excluded."""
        return self._screening.set_aside | self._context.in_force.excluded.keys()

    @property
    def there(self) -> frozenset[str]:
        """Devices that the next round can be with: their plan is in force."""
        return frozenset(self._plans.ready().keys() - self.aside)

    def drawn(self, number: int) -> tuple[dict[str, DevicePlan], dict[str, DevicePlan]]:
        """The plans of those who take part in a round, and of all who are there.

        Raises:
            FederationError: these are too few.
        """
        present = self._present(number)
        drawn = participation.draw(
            tuple(self._plans.devices),
            present.keys() - self.aside,
            self._settings.rounds.participants,
            seed=self._settings.run.seed,
            number=number,
        )
        return {device: present[device] for device in drawn}, present

    def order(
        self,
        number: int,
        plans: dict[str, DevicePlan],
        present: dict[str, DevicePlan],
        graphs: Offer | None,
        paused_s: float,
    ) -> RoundOrder:
        """What a round begins with.

        Args:
            number: number of the round, from 1.
            plans: of those who take part.
            present: of all who are there.
            graphs: offer of the training graphs; ``None`` for none.
            paused_s: wall time for which the run has paused before it, s.
        """
        assert self._adaptation is not None
        members = self._roster.members
        boards = {d: p.board for d, p in self._adaptation.profiles(members).items()}
        return RoundOrder(
            number=number,
            start_s=self._plans.fleet_time_s,
            is_last=number == self._settings.rounds.count,
            paused=self._paused(present, boards, paused_s),
            wall_timeout_s=self._wall_timeout_s(plans),
            by_wall_clock=self._are_real(plans),
            plans=plans,
            predicted=participation.predicted(
                self._plans.with_receipts(present), tuple(plans), boards
            ),
            training=self._plans.training,
            members=members,
            invited=frozenset(self._roster.indices),
            graphs=graphs,
        )

    def _present(self, number: int) -> dict[str, DevicePlan]:
        """Devices whose plan is in force; waits for their return if they are too few."""
        settings, ready = self._settings.rounds, self._plans.ready
        excluded = self._context.in_force.excluded.keys()

        def here() -> int:
            return len(self.there)

        if not self._context.inbox.wait(
            lambda: here() >= settings.min_devices, settings.gather_timeout_s
        ):
            raise FederationError(
                f"round {number}: {here()} devices are there with a plan in force"
                f"{left_out(self._screening.set_aside, excluded)}, rounds.min_devices asks for "
                f"{settings.min_devices}; the {number - 1} finished rounds are stored",
                code="R008",
            )
        return ready()

    def _paused(
        self,
        present: Mapping[str, DevicePlan],
        boards: Mapping[str, BoardModel],
        paused_s: float,
    ) -> dict[str, PhaseCost]:
        """What real boards idled while the run paused; the time of emulated ones stood still."""
        if not paused_s:
            return {}
        kinds = {device: self._roster.members[device].hardware.kind for device in present}
        return {
            device: idle_cost(boards[device], paused_s)
            for device, kind in kinds.items()
            if kind == "physical"
        }

    def _wall_timeout_s(self, participants: dict[str, DevicePlan]) -> float:
        """How long to wait: for physical devices until the deadline, else the configured limit."""
        if self._are_real(participants):
            return self._context.deadline_s + DEADLINE_GRACE_S
        return self._settings.rounds.wall_timeout_s

    def _are_real(self, participants: dict[str, DevicePlan]) -> bool:
        """Whether all of these are physical devices."""
        members = self._roster.members
        return {members[device].hardware.kind for device in participants} == {"physical"}
