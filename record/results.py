"""Rounds and runs in numbers: what the store keeps, the live view shows and the report draws.

Two energies are told apart everywhere. *Board* energy is what the meter read over every phase,
idling included. *Dynamic* energy is the paper's: compute and upload above idle; it is the metered
energy of those phases less the idle power of the same device times their duration, where the idle
power is the mean over that device's own metered idle phases (its profile's where it never idled).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from fimi.energy.cost_model import PhaseCost
from fimi.energy.hardware import Observation
from fimi.energy.joules import Energy, total
from fimi.energy.ledger import PhaseRecord
from fimi.learning.training.classifier import FileCheck
from fimi.learning.training.trainer import Evaluation
from fimi.messaging.messages import Goodput, Trial

DeviceStatus = Literal["accepted", "late", "refused", "failed", "missing", "resting"]
RunStatus = Literal["running", "completed", "interrupted", "failed"]
"""``running``: the run goes on, or its process was killed before it could say how it ended."""


class DeviceRound(Struct, frozen=True, kw_only=True):
    """One device in one round.

    Attributes:
        device: who.
        status: what became of its update. ``late``: after the deadline. ``refused``: the update
            failed a check. ``failed``: the device said so. ``missing``: it never reported.
            ``resting``: it was not drawn for this round and idled through it.
        reason: one sentence for every status but ``accepted`` and ``resting``.
        busy_s: from the round's start to the end of its upload, s; ``None`` if unknown.
        frequency_hz: achieved CPU frequency, or ``None``.
        local_samples: real samples per epoch.
        synthetic_samples: synthetic samples per epoch.
        training_loss: of its last epoch; ``None`` if it never trained.
        training_accuracy: of its last epoch, on its own data.
        backend: what it trained with; empty if it never trained.
        phases: as metered, idle included; empty where nothing was reported.
        predicted: as the cost model had it; idle included where the device has reported its own.
        transfers: how fast model and update went over the network, as the device saw it.
        observed: clock, throttling, link and the monitor's own cost; ``None`` if not told.
        unlabelled_samples: images it looked at for a label; those kept are synthetic samples.
            ``None`` in stores of before they were kept.
        trained_at: when training began and ended by the device's own clock, UNIX time, s.
    """

    device: str
    status: DeviceStatus
    reason: str = ""
    busy_s: float | None = None
    frequency_hz: float | None = None
    local_samples: int = 0
    synthetic_samples: int = 0
    training_loss: float | None = None
    training_accuracy: float | None = None
    backend: str = ""
    phases: tuple[PhaseRecord, ...] = ()
    predicted: tuple[PhaseCost, ...] = ()
    transfers: tuple[Goodput, ...] = ()
    observed: Observation | None = None
    unlabelled_samples: int | None = 0
    trained_at: tuple[float, float] | None = None

    @property
    def energy(self) -> Energy | None:
        """Metered energy of the round; ``None`` if a phase could not be read."""
        return metered(self.phases)

    @property
    def predicted_j(self) -> float:
        """Predicted board energy of the round, J."""
        return math.fsum(phase.board_j for phase in self.predicted)


class ServerRound(Struct, frozen=True, kw_only=True):
    """What the server did in a round besides averaging: its own seconds and joules, no device's.

    Attributes:
        images: that it trained on.
        seconds: wall time of the training, s.
        energy: what its machine took meanwhile, idle power included; ``None`` if not metered.
        loss: mean training loss of the last epoch.
        weight: κ2 of the server's model; ``None`` where nothing was mixed.
        federated_accuracy: of the devices' mean model on public images, 0 to 1; ``None`` where it
            was not judged.
        augmented_accuracy: of the server's model on the same.
    """

    images: int
    seconds: float
    energy: Energy | None
    loss: float
    weight: float | None = None
    federated_accuracy: float | None = None
    augmented_accuracy: float | None = None


class RoundResult(Struct, frozen=True, kw_only=True):
    """One round of the federation.

    Attributes:
        number: from 1.
        start_s: its beginning on the fleet's clock, s.
        duration_s: its length on the fleet's clock, s.
        evaluation: of the new global model on the held-out test set.
        devices: one entry per device of the fleet that was there, in order of device id; those that
            were not drawn are ``resting``.
        server: what the server did; ``None`` where it only averaged.
    """

    number: int
    start_s: float
    duration_s: float
    evaluation: Evaluation
    devices: tuple[DeviceRound, ...] = ()
    server: ServerRound | None = None

    @property
    def energy(self) -> Energy | None:
        """Metered energy of all devices that reported."""
        return total(e for device in self.devices if (e := device.energy) is not None)

    @property
    def unmetered(self) -> tuple[str, ...]:
        """Devices whose energy is missing from :attr:`energy`."""
        return tuple(device.device for device in self.devices if device.energy is None)

    @property
    def predicted_j(self) -> float:
        """Predicted board energy of the devices that are in :attr:`energy`, J."""
        return math.fsum(d.predicted_j for d in self.devices if d.energy is not None)

    @property
    def participants(self) -> tuple[DeviceRound, ...]:
        """The devices that were drawn for the round."""
        return tuple(device for device in self.devices if device.status != "resting")

    @property
    def accepted(self) -> int:
        """How many updates went into the model."""
        return sum(device.status == "accepted" for device in self.devices)


class Preparation(Struct, frozen=True, kw_only=True):
    """What a device did before the first round: receiving its synthetic batch.

    Attributes:
        device: who.
        phases: as metered.
        predicted: as the cost model had it.
        transfers: how fast the batch came, as the device saw it.
    """

    device: str
    phases: tuple[PhaseRecord, ...]
    predicted: tuple[PhaseCost, ...]
    transfers: tuple[Goodput, ...] = ()


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


def metered(phases: Iterable[PhaseRecord]) -> Energy | None:
    """Sum over phases; ``None`` if there are none or one could not be read."""
    items = list(phases)
    energies = [phase.energy for phase in items if phase.energy is not None]
    if not energies or len(energies) < len(items):
        return None
    return total(energies, one_meter=True)


def board_energy(
    preparations: Iterable[Preparation], rounds: Iterable[RoundResult]
) -> Energy | None:
    """Metered energy of a run, preparation included."""
    parts = [metered(p.phases) for p in preparations] + [r.energy for r in rounds]
    return total((part for part in parts if part is not None), one_meter=True)


def predicted_energy_j(
    preparations: Iterable[Preparation], rounds: Iterable[RoundResult]
) -> float | None:
    """Predicted board energy of what :func:`board_energy` sums, J; ``None`` like that."""
    before = [c.board_j for p in preparations if metered(p.phases) for c in p.predicted]
    during = [d.predicted_j for r in rounds for d in r.devices if d.energy is not None]
    return math.fsum([*before, *during]) if before or during else None


def server_energy(rounds: Iterable[RoundResult]) -> Energy | None:
    """What training on the server took; ``None`` if there was none, or one was not metered."""
    parts = [r.server.energy for r in rounds if r.server is not None]
    known = [part for part in parts if part is not None]
    return total(known, one_meter=True) if known and len(known) == len(parts) else None


def idle_powers_w(rounds: Iterable[RoundResult], declared_w: dict[str, float]) -> dict[str, float]:
    """Idle power of each device: metered where it idled, W.

    Args:
        rounds: finished rounds.
        declared_w: idle power of each device's profile, the fallback.
    """
    energy_j: dict[str, list[float]] = {}
    duration_s: dict[str, list[float]] = {}
    for phase, device in _phases(rounds):
        if phase.phase == "idle" and phase.energy is not None and phase.duration_s > 0:
            energy_j.setdefault(device, []).append(phase.energy.value_j)
            duration_s.setdefault(device, []).append(phase.duration_s)
    metered_w = {d: math.fsum(energy_j[d]) / math.fsum(duration_s[d]) for d in energy_j}
    return {**declared_w, **metered_w}


def dynamic_energy_j(rounds: Iterable[RoundResult], idle_w: dict[str, float]) -> float | None:
    """The paper's energy of some rounds: compute and upload above idle, J.

    Leaves out what :attr:`RoundResult.unmetered` names, as :func:`predicted_dynamic_j` does.
    ``None`` where nothing is left: no device took part, or none was metered.
    """
    known = [device for result in rounds for device in result.devices if device.energy is not None]
    if not known:
        return None
    return math.fsum(
        phase.energy.value_j - idle_w[device.device] * phase.duration_s
        for device in known
        for phase in device.phases
        if phase.phase in ("compute", "upload") and phase.energy is not None
    )


def predicted_dynamic_j(rounds: Iterable[RoundResult]) -> float | None:
    """The cost model's figure for :func:`dynamic_energy_j`, J; ``None`` like that."""
    known = [device for result in rounds for device in result.devices if device.energy is not None]
    if not known:
        return None
    return math.fsum(
        cost.dynamic_j
        for device in known
        for cost in device.predicted
        if cost.phase in ("compute", "upload")
    )


def _phases(rounds: Iterable[RoundResult]) -> Iterable[tuple[PhaseRecord, str]]:
    for result in rounds:
        for device in result.devices:
            for phase in device.phases:
                yield phase, device.device
