"""Rounds and runs in numbers: what the store keeps, the live view shows and the report draws."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from fimi.energy.cost_model import PhaseCost
from fimi.energy.hardware import Observation
from fimi.energy.joules import Energy, total
from fimi.energy.ledger import Evidence, PhaseRecord
from fimi.learning.training.classifier import FileCheck
from fimi.learning.training.coding import Coded
from fimi.learning.training.trainer import Evaluation
from fimi.messaging.messages.basis import Goodput
from fimi.messaging.messages.facts import Trial
from fimi.record.sums import mean

DeviceStatus = Literal["accepted", "late", "refused", "failed", "missing", "resting", "absent"]
Outcome = Literal["ok", "late", "failed", "absent"]
"""How a round ended for a device that was invited to it."""
_OUTCOMES: dict[DeviceStatus, Outcome] = {
    "accepted": "ok",
    "late": "late",
    "refused": "failed",
    "failed": "failed",
    "missing": "absent",
    "absent": "absent",
}
APART: tuple[DeviceStatus, ...] = ("resting", "absent")
"""Statuses of devices that were not to train in a round."""

RunStatus = Literal["running", "completed", "interrupted", "failed"]
"""``running``: the run goes on, or its process was killed before it could say how it ended."""


class DeviceStretch(Struct, frozen=True, kw_only=True):
    """What a device did for some time: before the first round, or in a round.

    Attributes:
        device: its id.
        phases: as metered, idle included; empty where nothing was reported.
        predicted: as the cost model had it; idle included where the device has reported its own.
        transfers: how fast payloads went over the network, as the device saw it.
        evidence: what its readings said beside the energy of phases, report by report.
    """

    device: str
    phases: tuple[PhaseRecord, ...] = ()
    predicted: tuple[PhaseCost, ...] = ()
    transfers: tuple[Goodput, ...] = ()
    evidence: tuple[Evidence, ...] = ()

    @property
    def energy(self) -> Energy | None:
        """Metered energy of all its phases; ``None`` if one could not be read."""
        return metered(self.phases)


class Preparation(DeviceStretch, frozen=True, kw_only=True):
    """What a device did before the first round: receiving its synthetic batch."""


class DeviceRound(DeviceStretch, frozen=True, kw_only=True):
    """One device in one round.

    Attributes:
        status: what became of its update. ``late``: after the deadline, or after what ended the
            round early; without ``busy_s`` it was still at work. ``refused``: the update failed a
            check. ``failed``: the device said so. ``missing``: it was gone, and never reported.
            ``resting``: it was not drawn for this round, or is set aside, and idled through it.
            ``absent``: it was not there when the round began.
        reason: one sentence for every status but ``accepted`` and ``resting``, and for an accepted
            update that was clipped.
        busy_s: from the round's start to the end of its upload, without waiting and without what
            was sent to a coordinator that was gone before it had all, s; ``None`` if unknown.
        frequency_hz: achieved CPU frequency, or ``None``.
        local_samples: real samples per epoch.
        synthetic_samples: synthetic samples per epoch.
        training_loss: of its last epoch; ``None`` if it never trained.
        training_accuracy: of its last epoch, on its own data.
        backend: what it trained with; empty if it never trained.
        observed: clock, throttling, link and the monitor's own cost; ``None`` if not told.
        unlabelled_samples: images it looked at for a label; those kept are synthetic samples.
            ``None`` in older stores.
        local_error: Δ_i, share of wrong answers of its model on images for validation, before it
            was averaged, 0 to 1; ``None`` where nobody looked.
        planned_error: what the learning curve in force said of it; ``None`` without one.
        trained_at: when training began and ended by the device's own clock, UNIX time, s.
        unknown_max: the most that the device can have used in the part of the round for which
            nothing was reported, by :func:`fimi.record.bounds.unknown_max`; never measured, and in
            no sum of joules. ``None``: nothing is unknown, or nothing bounds it.
        share: ρ, of its update in the devices' mean model, 0 to 1; ``None`` where it has no part
            in it, where each number is aggregated by itself, and in older stores.
        update_norm: ‖ω_k − ω‖, L2 norm of the change by its update as it was sent; ``None`` where
            there is no update that passed the checks, and in older stores.
        update_scale: s, 0 to 1, at which that change went on to aggregation: 1 as it was sent, less
            where it was clipped; ``None`` where it did not go on.
        coded: what the coding of its update did, by the device's own account; ``None`` where it was
            sent as it is, or not at all.
    """

    status: DeviceStatus
    reason: str = ""
    busy_s: float | None = None
    frequency_hz: float | None = None
    local_samples: int = 0
    synthetic_samples: int = 0
    training_loss: float | None = None
    training_accuracy: float | None = None
    backend: str = ""
    observed: Observation | None = None
    unlabelled_samples: int | None = 0
    local_error: float | None = None
    planned_error: float | None = None
    trained_at: tuple[float, float] | None = None
    unknown_max: Energy | None = None
    share: float | None = None
    update_norm: float | None = None
    update_scale: float | None = None
    coded: Coded | None = None

    @property
    def is_clipped(self) -> bool:
        """Whether its update went into the model with a smaller change than it was sent with."""
        return self.update_scale is not None and self.update_scale < 1.0

    @property
    def outcome(self) -> Outcome | None:
        """The status in four words; ``None`` for a device that was not to train."""
        return _OUTCOMES.get(self.status)

    @property
    def is_gone(self) -> bool:
        """Whether the device was not there in the round, or was not heard of."""
        unheard = self.status == "late" and self.busy_s is None
        return unheard or self.status in ("missing", "absent")

    @property
    def is_outside(self) -> bool:
        """Whether the device had not joined yet: the run counts none of its joules."""
        return self.status == "absent" and self.unknown_max is None and not self.phases

    @property
    def waited_s(self) -> float:
        """For how long its update was ready before the coordinator began to pull it, s."""
        return math.fsum(p.duration_s for p in self.phases if p.phase == "waiting")


class LateUpdate(Struct, frozen=True, kw_only=True):
    """An update that was late for its round, in the mean of a later one.

    Attributes:
        device: whose.
        of_round: for which round it was trained.
        weight: (1 + s)^(−a) of s rounds, by which its samples count less, above 0, at most 1.
        share: ρ, of it in the devices' mean model, 0 to 1; ``None`` where each number is aggregated
            by itself.
    """

    device: str
    of_round: int
    weight: float
    share: float | None


class ServerRound(Struct, frozen=True, kw_only=True):
    """The server's training in a round: its own seconds and joules, in no sum of the devices'.

    Attributes:
        images: that it trained on.
        seconds: wall time of the training, s.
        energy: what its machine took meanwhile, idle power included; ``None`` if not metered.
        loss: mean training loss of the last epoch; ``None`` where the training diverged.
        weight: κ2 of the server's model; ``None`` where nothing was mixed.
        federated_accuracy: of the devices' mean model on public images, 0 to 1; ``None`` where it
            was not judged.
        augmented_accuracy: of the server's model on the same.
        error: why its training came to nothing; empty if it did not.
    """

    images: int
    seconds: float
    energy: Energy | None
    loss: float | None
    weight: float | None = None
    federated_accuracy: float | None = None
    augmented_accuracy: float | None = None
    error: str = ""


class RoundResult(Struct, frozen=True, kw_only=True):
    """One round of the federation.

    Attributes:
        number: from 1.
        start_s: its beginning on the fleet's clock, s.
        duration_s: its length on the fleet's clock, s.
        evaluation: of the new global model on the held-out test set.
        validation: of the same on public images that nobody trains on; ``None`` without any.
        devices: one entry per enrolled device, in order of device id; those that were not drawn are
            ``resting``, those that were not there ``absent``.
        server: what the server did; ``None`` where it only averaged.
        model_kept: why there is no new model and the one before the round stays, in one sentence;
            ``None`` where there is one.
        late: updates of earlier rounds in its mean.
        model_coded: what the coding of the model did that devices were sent; ``None`` where it was
            sent as it is.
        planned_update_bytes: size of an update in the plan in force; ``None`` where updates were
            not coded.
    """

    number: int
    start_s: float
    duration_s: float
    evaluation: Evaluation
    validation: Evaluation | None = None
    devices: tuple[DeviceRound, ...] = ()
    server: ServerRound | None = None
    model_kept: str | None = None
    late: tuple[LateUpdate, ...] = ()
    model_coded: Coded | None = None
    planned_update_bytes: int | None = None

    @property
    def participants(self) -> tuple[DeviceRound, ...]:
        """The devices that were to train in the round."""
        return tuple(device for device in self.devices if device.status not in APART)

    @property
    def absent(self) -> tuple[DeviceRound, ...]:
        """The devices that were not there when the round began."""
        return tuple(device for device in self.devices if device.status == "absent")

    @property
    def accepted(self) -> int:
        """How many updates went into the model."""
        return sum(device.status == "accepted" for device in self.devices)

    @property
    def local_error(self) -> float | None:
        """Δ, the mean of the devices' measured local errors; ``None`` where nobody looked."""
        return mean(device.local_error for device in self.devices)

    @property
    def planned_error(self) -> float | None:
        """The mean of what was planned for the same devices; ``None`` where nothing was."""
        return mean(d.planned_error for d in self.devices if d.local_error is not None)


class Deployment(Struct, frozen=True, kw_only=True):
    """The trained model as files, and how devices ran them; in no energy of a round or a run.

    Attributes:
        round: after which it was exported.
        files: each as the coordinator checked it.
        trials: of each device that answered, one for each file.
        silent: devices that were asked and did not answer.
    """

    round: int
    files: tuple[FileCheck, ...]
    trials: dict[str, tuple[Trial, ...]] = {}
    silent: tuple[str, ...] = ()

    @property
    def tried(self) -> list[tuple[str, Trial]]:
        """Each device that answered with each of its trials."""
        return [(device, trial) for device, trials in self.trials.items() for trial in trials]


def metered(phases: Iterable[PhaseRecord]) -> Energy | None:
    """Sum over phases; ``None`` if there are none or one could not be read."""
    energies = [phase.energy for phase in phases]
    known = [energy for energy in energies if energy is not None]
    if len(energies) == 1 or len(known) < len(energies):
        return energies[0] if len(energies) == 1 else None
    return total(known, one_meter=True)
