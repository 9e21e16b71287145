"""Facts: what a device has to tell the coordinator of what has become of its orders.

Those that are not in the run store yet stand in
:class:`~fimi.messaging.messages.documents.Reported`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from fimi.energy.cost_model import BoardModel
from fimi.energy.hardware import Applied, HardwareDescription, Observation
from fimi.energy.joules import Energy, share
from fimi.energy.ledger import Evidence, PhaseRecord
from fimi.energy.ledger_parts import PARTS_MOST, ReadingsPart
from fimi.learning.training.classifier import Variant
from fimi.learning.training.coding import Coded
from fimi.messaging.messages.basis import (
    Count,
    DeviceMessage,
    Goodput,
    Hertz,
    Offer,
    RoundMessage,
    Seconds,
    Share,
)

Readings = Annotated[tuple[ReadingsPart, ...], Meta(max_length=PARTS_MOST)]
"""What the ledger of a device was told since its last report, and what those of earlier starts
were; empty where it keeps none."""


class Refusal(DeviceMessage, frozen=True, kw_only=True, tag="refusal"):
    """Device to coordinator: it cannot take part, and why, in one sentence."""

    reason: str


class Profile(DeviceMessage, frozen=True, kw_only=True, tag="profile"):
    """The profile of a device, which confirms the contract.

    Attributes:
        boot_id: id of this start.
        contract: digest of the contract that it has checked its data against.
        fingerprint: salted digest of its images, by which equal data are noticed.
        dataset: name of the data set, which defines the labels, for example ``"digits"``.
        label_counts: local samples per class; nothing else about its data leaves the device.
        hardware: board and meter.
        board: cost parameters.
        backend: trainers that are installed, for example ``"onnxruntime 1.31, torch 2.6"``.
        exposed: whether it reaches the broker without TLS, or without a password or certificate.
    """

    run: str = ""
    boot_id: str
    exposed: bool = False
    contract: str = ""
    fingerprint: str = ""
    dataset: str
    label_counts: tuple[Count, ...]
    hardware: HardwareDescription
    board: BoardModel
    backend: str


class PlanApplied(DeviceMessage, frozen=True, kw_only=True, tag="plan-applied"):
    """Device to coordinator: the plan is in force, and the synthetic batch has arrived.

    Attributes:
        applied: what was set and read back.
        phases: the metered phase of receiving the batch.
        error: why the plan could not be followed, or empty.
        transfers: goodput of the batch.
        evidence: what readings said so far, beside the energy of phases: the resting power.
        top_ups: how many of the plan's top-ups the device holds.
        readings: what ``phases`` were computed from.
    """

    applied: Applied | None
    phases: tuple[PhaseRecord, ...]
    error: str = ""
    transfers: tuple[Goodput, ...] = ()
    evidence: Evidence | None = None
    top_ups: Count = 0
    readings: Readings = ()


class UpdateReady(RoundMessage, frozen=True, kw_only=True, tag="update-ready"):
    """Device to coordinator: it has trained, and ``update`` can be pulled, coded as asked."""

    update: Offer


class RoundReport(RoundMessage, frozen=True, kw_only=True, tag="round-report"):
    """Device to coordinator: the round report, after the update was pulled.

    Attributes:
        local_samples: real samples trained on per epoch.
        synthetic_samples: synthetic samples trained on per epoch; of unlabelled ones, those kept.
        training_loss: mean loss of the last epoch; ``None`` if it did not train to the end.
        training_accuracy: accuracy of the last epoch; ``None`` likewise.
        frequency_hz: achieved CPU frequency, or ``None`` if unknown.
        busy_s: from the round's start until the upload ended, device's clock; without ``waited_s``
            and without what was sent to a coordinator that was gone before it had all.
        waited_s: in which the update was ready and the coordinator did not pull it yet, s.
        phases: phases metered since the last report.
        backend: backend of the training, for example ``"onnxruntime 1.31"``; empty if it did not
            train.
        error: what went wrong, or empty.
        transfers: goodput of model and update.
        observed: frequency, throttling, link and the cost of monitoring since the last report.
        unlabelled: number of images that it labelled.
        trained_at: when training began and ended by the machine's own clock, UNIX time, s; wall
            time also where ``phases`` are emulated.
        evidence: what readings said since the last report, beside the energy of phases.
        coded: what the coding of the update did; ``None`` where it went as it is, or not at all.
        readings: what ``phases`` were computed from.
    """

    local_samples: Count
    synthetic_samples: Count
    training_loss: float | None
    training_accuracy: Share | None
    frequency_hz: Hertz | None
    busy_s: Seconds
    waited_s: Seconds = 0.0
    phases: tuple[PhaseRecord, ...]
    backend: str = ""
    error: str = ""
    transfers: tuple[Goodput, ...] = ()
    observed: Observation | None = None
    unlabelled: Count = 0
    trained_at: tuple[float, float] | None = None
    evidence: Evidence | None = None
    coded: Coded | None = None
    readings: Readings = ()


class RoundSettled(RoundMessage, frozen=True, kw_only=True, tag="round-settled"):
    """Device to coordinator: the idle phase, in which it waited for the others.

    Attributes:
        phases: phases metered since the last report, and those of that report that readings which
            came later say more of.
        error: what went wrong, or empty.
        evidence: what readings said since the last report, beside the energy of phases.
        readings: what ``phases`` were computed from.
    """

    phases: tuple[PhaseRecord, ...]
    error: str = ""
    evidence: Evidence | None = None
    readings: Readings = ()


class Trial(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a device ran a file.

    Attributes:
        variant: which file.
        inferences: number of timed and metered inferences, one image each.
        images: number of different images.
        accuracy: share of those that it classified right; ``None`` if it could not run the file.
        latency_median_s: median latency of an inference, s.
        latency_p95_s: 95th percentile, s.
        latency_kind: ``measured``, or ``emulated`` in virtual time.
        metered: the phase of all inferences.
        above: the energy of all inferences above resting, which is measured before and after them;
            ``None`` where it was not.
        error: why it could not run the file, or empty.
    """

    variant: Variant
    inferences: Count = 0
    images: Count = 0
    accuracy: Share | None = None
    latency_median_s: Seconds | None = None
    latency_p95_s: Seconds | None = None
    latency_kind: Literal["measured", "emulated"] = "measured"
    metered: PhaseRecord | None = None
    above: Energy | None = None
    error: str = ""

    @property
    def energy_j(self) -> float | None:
        """Energy of one inference, whole board, J; ``None`` if unmetered or not resolved."""
        if self.metered is None or not self.metered.resolved:
            return None
        energy = self.metered.energy
        return energy.value_j / self.inferences if energy and self.inferences else None

    @property
    def above_one(self) -> Energy | None:
        """Energy of one inference above resting; ``None`` if unknown."""
        return share(self.above, 1.0 / self.inferences) if self.above and self.inferences else None


class DeploymentReport(RoundMessage, frozen=True, kw_only=True, tag="deployment-report"):
    """Device to coordinator: how the trained model ran.

    Attributes:
        trials: one for each file.
        seconds: duration of all trials, downloads included, on the device's clock, s.
        readings: what the phases of the trials were computed from.
    """

    trials: tuple[Trial, ...]
    seconds: Seconds
    readings: Readings = ()


FactBody = (
    Profile | Refusal | PlanApplied | UpdateReady | RoundReport | RoundSettled | DeploymentReport
)
"""What a device can report."""
