"""What a run makes of messages that no part of the coordinator waits for.

Devices come and go, join or refuse, answer plans late, report on rounds that are stored; batches
are made again. :class:`RunHost` gives each of these to the part of the run that it concerns, as
soon as the run has come so far that there is one.
"""

from __future__ import annotations

from fimi.coordinator.conversation import Conversation
from fimi.coordinator.deployment import Deployments
from fimi.coordinator.device_plans import DevicePlans
from fimi.coordinator.enrolment import Roster
from fimi.coordinator.newcomers import Newcomers
from fimi.coordinator.rounds import RoundFact
from fimi.coordinator.synthesis import Synthesis
from fimi.coordinator.training_rounds import TrainingRounds
from fimi.messaging.messages.facts import DeploymentReport, PlanApplied, Profile, Refusal
from fimi.messaging.messages.synthesis import SyntheticBatch


class RunHost:
    """One run, as the inbox sees it (:class:`fimi.coordinator.inbox.Host`).

    Args:
        conversation: with all devices.
        roster: who takes part.
        synthesis: the batches.
        deployments: the exports and their trials; ``None`` for none.

    Attributes:
        plans: of the devices, once there are any.
        rounds: once plans are in force.
        newcomers: where they can be planned for.
    """

    def __init__(
        self,
        conversation: Conversation,
        roster: Roster,
        synthesis: Synthesis,
        deployments: Deployments | None,
    ) -> None:
        self._conversation = conversation
        self._roster = roster
        self._synthesis = synthesis
        self._deployments = deployments
        self.plans: DevicePlans | None = None
        self.rounds: TrainingRounds | None = None
        self.newcomers: Newcomers | None = None

    def came(self, device: str, boot_id: str) -> None:
        """Invite a device, or tell it again what it is to do."""
        self._roster.came(device, boot_id)
        if self.plans is not None:
            self.plans.send(device)  # with the present time of the fleet's clock

    def went(self, device: str) -> None:
        """Give the share of a device that has never joined to another one."""
        self._roster.went(device)

    def generator_came(self, generator: str) -> None:
        """Have the node offer the batches of all devices that may still fetch theirs."""
        if self.plans is not None:
            self._synthesis.offer_again(self.plans.devices)

    def joined(self, profile: Profile) -> bool:
        """Take a device in that has published its profile."""
        if not self._roster.confirm(profile):
            return False
        if self.plans is not None:
            self._synthesis.offer_again([profile.device])
        return True

    def refused(self, refusal: Refusal) -> None:
        """Note that a device cannot take part."""
        self._roster.hear(refusal)

    def answered(self, reply: PlanApplied) -> bool:
        """Store what a device did to follow its plan, as soon as the plans are at hand."""
        if self.plans is None:
            return False
        self.plans.record(reply)
        return True

    def late(self, fact: RoundFact | DeploymentReport) -> bool:
        """Credit a fact of a stored round; returns whether it was one."""
        if isinstance(fact, DeploymentReport):
            if self._deployments is not None and self._deployments.awaits(fact):
                return False
            self._conversation.stored(fact.device, fact)
            return True
        return self.rounds is not None and self.rounds.late(fact)

    def batch(self, batch: SyntheticBatch) -> None:
        """A batch has come that nobody waits for: one that was made again, or a newcomer's."""
        if not self._synthesis.is_ours(batch):
            return
        if self.plans is not None and batch.device in self.plans.devices:
            if self._synthesis.is_known(batch):  # else it is a top-up, which is waited for
                self.plans.replace_batch(batch)
        elif self.newcomers is not None:
            self.newcomers.batch(batch)
