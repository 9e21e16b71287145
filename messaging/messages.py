"""The types of everything that is said between coordinator, generator node and edge agents.

One JSON object per message, unknown fields refused. The way of the data: a device publishes its
:class:`DeviceState` and :class:`Profile`; the coordinator asks the generator node with
:class:`SyntheticRequest`, gets :class:`SyntheticProgress` and a :class:`SyntheticBatch` back, and
sends the device its :class:`DevicePlan`; each round goes :class:`RoundStart`, :class:`UpdateReady`,
:class:`RoundReport`, :class:`RoundClosed`, :class:`RoundSettled`. What was made is tried on devices
with :class:`DeploymentTest`, which they answer with :class:`DeploymentReport`. Large payloads never
travel in a message: a message names them by an :class:`Offer`, and whoever wants one pulls it
(:mod:`fimi.messaging.transfers.exchange`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from fimi.energy.cost_model import BoardModel, OperatingPoint, Phase, PhaseCost
from fimi.energy.hardware import Applied, HardwareDescription, Observation
from fimi.energy.joules import Energy
from fimi.energy.ledger import PhaseRecord
from fimi.learning.training.classifier import Variant
from fimi.learning.training.trainer import TrainingSettings

Count = Annotated[int, Meta(ge=0, le=2**48)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Hertz = Annotated[float, Meta(ge=0, le=1e12)]
Share = Annotated[float, Meta(ge=0, le=1)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Message(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    """Base of all messages; the field ``type`` of the JSON object names the class."""


class Offer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A payload that its holder serves to whoever may ask.

    Attributes:
        holder: peer id of who has it.
        digest: SHA-256 of the whole payload.
        size_bytes: its size.
        chunk_bytes: size of every chunk but the last.
        media: what it is, for example ``"safetensors"``.
        rate_bps: no faster than this will its holder send it, bit/s; ``None`` for unlimited.
    """

    holder: str
    digest: Digest
    size_bytes: Count
    chunk_bytes: Annotated[int, Meta(ge=1)]
    media: str
    rate_bps: Annotated[float, Meta(gt=0)] | None = None


class Goodput(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One transfer as the application saw it.

    Attributes:
        phase: the phase it belongs to.
        size_bytes: of the payload.
        duration_s: from asking until all of it was there, on the device's clock.
    """

    phase: Phase
    size_bytes: Count
    duration_s: Seconds

    @property
    def rate_bps(self) -> float | None:
        """Payload bits per second; ``None`` over no time."""
        return 8.0 * self.size_bytes / self.duration_s if self.duration_s > 0.0 else None


class DeviceState(Message, frozen=True, kw_only=True, tag="state"):
    """Birth, heartbeat and death of a peer (retained; the last will says ``offline``).

    Attributes:
        peer: who.
        role: what kind of process it is.
        status: online or offline.
        boot_id: differs after every start, so that a late death notice is recognised.
    """

    peer: str
    role: Literal["device", "generator", "coordinator"]
    status: Literal["online", "offline"]
    boot_id: str


class Profile(Message, frozen=True, kw_only=True, tag="profile"):
    """What a device says of itself before it is planned for.

    Attributes:
        device: its id.
        boot_id: of this start.
        dataset: what its labels mean, for example ``"digits"``.
        label_counts: local samples per class; the only thing about its data that leaves it.
        hardware: board and meter.
        board: cost parameters.
        backend: trainers that are installed, for example ``"onnxruntime 1.31, torch 2.6"``.
    """

    device: str
    boot_id: str
    dataset: str
    label_counts: tuple[Count, ...]
    hardware: HardwareDescription
    board: BoardModel
    backend: str


class SyntheticRequest(Message, frozen=True, kw_only=True, tag="synthetic-request"):
    """Coordinator to generator node: make these images for this device.

    Attributes:
        run: run id.
        device: for whom.
        counts: images per class.
        seed: fixes the images.
        unlabelled: whether the batch is to hold the images alone, in an order that does not tell
            what they show.
        skip: images of each class that an earlier request brought; these come after them. Empty:
            none.
    """

    run: str
    device: str
    counts: tuple[Count, ...]
    seed: int
    unlabelled: bool = False
    skip: tuple[Count, ...] = ()


class SyntheticBatch(Message, frozen=True, kw_only=True, tag="synthetic-batch"):
    """Generator node to coordinator: a device's batch is ready (or as much of it as could be made).

    Attributes:
        run: run id.
        device: for whom.
        delivered: images per class in the batch.
        offer: where to get it; ``None`` if it is empty.
        seconds: wall time of making it.
        generator: what made it, for example ``"digits-ddpm (dpm++, 20 steps)"``.
        drawn: images that were drawn for it now; what was in the node's pool is not among them.
        refused: how many of those the quality gate refused, by reason.
        energy: what drawing them took the node, idle power included; ``None`` if not metered.
        error: why it falls short of the request, or empty.
    """

    run: str
    device: str
    delivered: tuple[Count, ...]
    offer: Offer | None
    seconds: Seconds
    generator: str
    drawn: Count = 0
    refused: dict[str, Count] = {}
    energy: Energy | None = None
    error: str = ""


class SyntheticProgress(Message, frozen=True, kw_only=True, tag="synthetic-progress"):
    """Generator node to coordinator, at most once a second while it draws: how far it is.

    Attributes:
        run: run id.
        devices_done: batches that are ready.
        devices_asked: batches that were asked for.
        lacking: images still to be drawn for the others, should none be refused.
        images_per_s: images drawn per second since the last such message.
    """

    run: str
    devices_done: Count
    devices_asked: Count
    lacking: Count
    images_per_s: Annotated[float, Meta(ge=0)]


class DevicePlan(Message, frozen=True, kw_only=True, tag="plan"):
    """Coordinator to device: how to work until further notice.

    Attributes:
        run: run id.
        device: for whom.
        device_index: position in the plan; with the round it seeds the batch order.
        synthetic_counts: synthetic samples per class, as delivered.
        batch: where to get them; ``None`` for no synthetic data.
        point: frequency, bandwidth, power, time split.
        predicted: seconds and joules per phase of one round.
        fleet_time_s: what the fleet's clock shows; emulated boards set theirs by it.
        unlabelled: images in the batch, if it is one without labels; the device labels them anew
            every round with the model that it was sent.
        confidence_min: how sure the model must be of a label for the image to be trained on.
    """

    run: str
    device: str
    device_index: Count
    synthetic_counts: tuple[Count, ...]
    batch: Offer | None
    point: OperatingPoint
    predicted: tuple[PhaseCost, ...]
    fleet_time_s: Seconds = 0.0
    unlabelled: Count = 0
    confidence_min: Share = 0.0


class PlanApplied(Message, frozen=True, kw_only=True, tag="plan-applied"):
    """Device to coordinator: the plan is in force, the synthetic batch is here.

    Attributes:
        run: run id.
        device: who.
        applied: what was set and read back.
        phases: what receiving the batch took.
        error: why the plan could not be followed, or empty.
        transfers: how fast the batch came.
    """

    run: str
    device: str
    applied: Applied | None
    phases: tuple[PhaseRecord, ...]
    error: str = ""
    transfers: tuple[Goodput, ...] = ()


class RoundStart(Message, frozen=True, kw_only=True, tag="round-start"):
    """Coordinator to device: train.

    Attributes:
        run: run id.
        device: for whom.
        round: number, from 1.
        model: the global model.
        graphs: training and evaluation as ONNX graphs; ``None`` if devices need PyTorch.
        training: how.
        seed: of the run; with device and round it fixes the order of batches.
        fleet_time_s: the round's beginning on the fleet's clock (virtual time of emulated boards).
    """

    run: str
    device: str
    round: Annotated[int, Meta(ge=1)]
    model: Offer
    training: TrainingSettings
    seed: Count
    fleet_time_s: Seconds
    graphs: Offer | None = None


class UpdateReady(Message, frozen=True, kw_only=True, tag="update-ready"):
    """Device to coordinator: trained; the update can be pulled.

    Attributes:
        run: run id.
        device: who.
        round: number.
        update: the trained parameters.
    """

    run: str
    device: str
    round: Annotated[int, Meta(ge=1)]
    update: Offer


class RoundReport(Message, frozen=True, kw_only=True, tag="round-report"):
    """Device to coordinator: the update has been pulled; what the round took.

    Attributes:
        run: run id.
        device: who.
        round: number.
        local_samples: real samples trained on per epoch.
        synthetic_samples: synthetic samples trained on per epoch; of unlabelled ones, those kept.
        training_loss: mean loss of the last epoch.
        training_accuracy: accuracy of the last epoch.
        frequency_hz: achieved CPU frequency, or ``None`` if unknown.
        busy_s: from the round's start until the upload ended, device's clock.
        phases: what was metered since the last report.
        backend: what it trained with, for example ``"onnxruntime 1.31"``; empty if it did not.
        error: what went wrong, or empty.
        transfers: how fast model and update went over the network.
        observed: clock, throttling, link and the monitor's own cost since the last report.
        unlabelled: images that it looked at for a label.
        trained_at: when training began and ended by the machine's own clock, UNIX time, s; wall
            time also where ``phases`` are emulated.
    """

    run: str
    device: str
    round: Annotated[int, Meta(ge=1)]
    local_samples: Count
    synthetic_samples: Count
    training_loss: float
    training_accuracy: Share
    frequency_hz: Hertz | None
    busy_s: Seconds
    phases: tuple[PhaseRecord, ...]
    backend: str = ""
    error: str = ""
    transfers: tuple[Goodput, ...] = ()
    observed: Observation | None = None
    unlabelled: Count = 0
    trained_at: tuple[float, float] | None = None


class RoundClosed(Message, frozen=True, kw_only=True, tag="round-closed"):
    """Coordinator to device: the round is over for everybody.

    Attributes:
        run: run id.
        device: for whom.
        round: number.
        accepted: whether this device's update went into the model.
        fleet_time_s: the round's end on the fleet's clock.
    """

    run: str
    device: str
    round: Annotated[int, Meta(ge=1)]
    accepted: bool
    fleet_time_s: Seconds


class RoundSettled(Message, frozen=True, kw_only=True, tag="round-settled"):
    """Device to coordinator: what waiting for the others took.

    Attributes:
        run: run id.
        device: who.
        round: number.
        phases: the idle phase.
    """

    run: str
    device: str
    round: Annotated[int, Meta(ge=1)]
    phases: tuple[PhaseRecord, ...]


class ModelFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A trained network as an ONNX file.

    Attributes:
        variant: what its arithmetic is.
        model: the file.
    """

    variant: Variant
    model: Offer


class DeploymentTest(Message, frozen=True, kw_only=True, tag="deployment-test"):
    """Coordinator to device: run the trained model as a user would.

    Attributes:
        run: run id.
        device: for whom.
        round: after which round the model was exported.
        files: what to run.
        images: own images to classify, one at a time, again from the first after the last.
        seconds: and for at least so long on the device's clock, s.
        training_share: what an inference costs of training on one sample; emulated boards let so
            much time pass.
    """

    run: str
    device: str
    round: Annotated[int, Meta(ge=1)]
    files: tuple[ModelFile, ...]
    images: Annotated[int, Meta(ge=1, le=2**24)]
    seconds: Seconds
    training_share: Annotated[float, Meta(gt=0, le=1)]


class Trial(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a device ran a file.

    Attributes:
        variant: which file.
        inferences: that were timed and metered, one image each.
        images: different ones among them.
        accuracy: share of those that it classified right; ``None`` if it could not run the file.
        latency_median_s: of an inference, s.
        latency_p95_s: 95th percentile, s.
        latency_kind: ``measured``, or ``emulated`` in virtual time.
        metered: the phase of all inferences.
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
    error: str = ""

    @property
    def energy_j(self) -> float | None:
        """Of one inference, whole board, J; ``None`` if not metered."""
        energy = self.metered.energy if self.metered else None
        return energy.value_j / self.inferences if energy and self.inferences else None


class DeploymentReport(Message, frozen=True, kw_only=True, tag="deployment-report"):
    """Device to coordinator: how the trained model ran.

    Attributes:
        run: run id.
        device: who.
        round: of the test.
        trials: one for each file.
        seconds: that all of it took, downloads included, on the device's clock, s.
    """

    run: str
    device: str
    round: Annotated[int, Meta(ge=1)]
    trials: tuple[Trial, ...]
    seconds: Seconds


class DeploymentClosed(Message, frozen=True, kw_only=True, tag="deployment-closed"):
    """Coordinator to device: rounds go on; what was drawn since the last one belongs to none.

    Attributes:
        run: run id.
        device: for whom.
        fleet_time_s: the next round's beginning on the fleet's clock.
    """

    run: str
    device: str
    fleet_time_s: Seconds


class RunEnded(Message, frozen=True, kw_only=True, tag="run-ended"):
    """Coordinator to everybody: the run is over.

    Attributes:
        run: run id.
        reason: ``completed``, or why it ended early.
    """

    run: str
    reason: str


AnyMessage = (
    DeviceState
    | Profile
    | SyntheticRequest
    | SyntheticBatch
    | SyntheticProgress
    | DevicePlan
    | PlanApplied
    | RoundStart
    | UpdateReady
    | RoundReport
    | RoundClosed
    | RoundSettled
    | DeploymentTest
    | DeploymentReport
    | DeploymentClosed
    | RunEnded
)
"""Every message, for decoding: the field ``type`` decides."""
