"""The types of all messages between coordinator, generator node and edge agents.

A message is one JSON object; unknown fields are refused. The order of messages: a device publishes
its :class:`DeviceState` and :class:`Profile`. The coordinator sends the generator node a
:class:`SyntheticRequest`, and gets :class:`SyntheticProgress` and a :class:`SyntheticBatch`. It
sends the device its :class:`DevicePlan`, which answers :class:`PlanApplied`. In each round follow
:class:`RoundStart`, :class:`UpdateReady`, :class:`RoundReport`, :class:`RoundClosed` and
:class:`RoundSettled`. A :class:`DeploymentTest` asks devices to try the trained model; they answer
with :class:`DeploymentReport`. Large payloads never travel in a message: a message names them by an
:class:`Offer`, and the receiver pulls them (:mod:`fimi.messaging.transfers.exchange`).
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


class RunMessage(Message, frozen=True, kw_only=True):
    """Base of the messages of a run, ``run``."""

    run: str


class DeviceMessage(RunMessage, frozen=True, kw_only=True):
    """Base of the messages to, from or for one device of a run, ``device``."""

    device: str


class RoundMessage(DeviceMessage, frozen=True, kw_only=True):
    """Base of the messages of one device in one round, ``round``, counted from 1."""

    round: Annotated[int, Meta(ge=1)]


class Offer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A payload that its holder serves to other peers.

    Attributes:
        holder: peer id of the holder.
        digest: SHA-256 of the whole payload.
        size_bytes: its size.
        chunk_bytes: size of every chunk but the last.
        media: type of the payload, for example ``"safetensors"``.
        rate_bps: highest rate at which the holder sends it, bit/s; ``None`` for unlimited.
    """

    holder: str
    digest: Digest
    size_bytes: Count
    chunk_bytes: Annotated[int, Meta(ge=1)]
    media: str
    rate_bps: Annotated[float, Meta(gt=0)] | None = None


class Goodput(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Size and duration of one transfer of payload.

    Attributes:
        phase: the phase it belongs to.
        size_bytes: size of the payload.
        duration_s: from the request until all of it had arrived, on the device's clock, s.
    """

    phase: Phase
    size_bytes: Count
    duration_s: Seconds

    @property
    def rate_bps(self) -> float | None:
        """Payload bits per second; ``None`` if no time has passed."""
        return 8.0 * self.size_bytes / self.duration_s if self.duration_s > 0.0 else None


class DeviceState(Message, frozen=True, kw_only=True, tag="state"):
    """Birth, heartbeat and death of a peer (retained; the last will says ``offline``).

    Attributes:
        peer: id of the peer.
        role: what kind of process it is.
        status: online or offline.
        boot_id: differs after every start, so that a late last will is recognised.
    """

    peer: str
    role: Literal["device", "generator", "coordinator"]
    status: Literal["online", "offline"]
    boot_id: str


class Profile(Message, frozen=True, kw_only=True, tag="profile"):
    """The profile of a device, which it publishes before the plan is made.

    Attributes:
        device: its id.
        boot_id: id of this start.
        dataset: name of the data set, which defines the labels, for example ``"digits"``.
        label_counts: local samples per class; nothing else about its data leaves the device.
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


class SyntheticRequest(DeviceMessage, frozen=True, kw_only=True, tag="synthetic-request"):
    """Coordinator to generator node: make these images for this device.

    Attributes:
        counts: images per class.
        seed: determines the images.
        unlabelled: whether the batch holds the images alone, in an order that does not show their
            classes.
        skip: images of each class that earlier requests brought; these follow them. Empty: none.
    """

    counts: tuple[Count, ...]
    seed: int
    unlabelled: bool = False
    skip: tuple[Count, ...] = ()


class SyntheticBatch(DeviceMessage, frozen=True, kw_only=True, tag="synthetic-batch"):
    """Generator node to coordinator: a device's batch is ready (or as much of it as could be made).

    Attributes:
        delivered: images per class in the batch.
        offer: the offer of the batch; ``None`` if it is empty.
        seconds: wall time of making it, s.
        generator: its generator, for example ``"digits-ddpm (dpm++, 20 steps)"``.
        drawn: images that were drawn for it now, without those from the node's pool.
        refused: how many of those the quality gate refused, by reason.
        energy: energy of drawing them on the node, idle power included; ``None`` if unmetered.
        error: why it has fewer images than requested, or empty.
    """

    delivered: tuple[Count, ...]
    offer: Offer | None
    seconds: Seconds
    generator: str
    drawn: Count = 0
    refused: dict[str, Count] = {}
    energy: Energy | None = None
    error: str = ""


class SyntheticProgress(RunMessage, frozen=True, kw_only=True, tag="synthetic-progress"):
    """Generator node to coordinator, at most once a second while it draws: its progress.

    Attributes:
        devices_done: batches that are ready.
        devices_asked: batches that were requested.
        lacking: images still to be drawn for the other batches, if none is refused.
        images_per_s: images drawn per second since the last such message.
    """

    devices_done: Count
    devices_asked: Count
    lacking: Count
    images_per_s: Annotated[float, Meta(ge=0)]


class DevicePlan(DeviceMessage, frozen=True, kw_only=True, tag="plan"):
    """Coordinator to device: its plan, which holds until another one comes.

    Attributes:
        device_index: position in the plan; with the round it seeds the batch order.
        synthetic_counts: synthetic samples per class, as delivered.
        batch: the offer of the synthetic batch; ``None`` for no synthetic data.
        point: the operating point.
        predicted: seconds and joules per phase of one round.
        fleet_time_s: present time of the fleet's clock, s; emulated boards set theirs by it.
        unlabelled: number of images in a batch without labels, else 0; the device labels them again
            every round with the global model.
        confidence_min: least probability of a label for its image to be trained on.
    """

    device_index: Count
    synthetic_counts: tuple[Count, ...]
    batch: Offer | None
    point: OperatingPoint
    predicted: tuple[PhaseCost, ...]
    fleet_time_s: Seconds = 0.0
    unlabelled: Count = 0
    confidence_min: Share = 0.0


class PlanApplied(DeviceMessage, frozen=True, kw_only=True, tag="plan-applied"):
    """Device to coordinator: the plan is in force, and the synthetic batch has arrived.

    Attributes:
        applied: what was set and read back.
        phases: the metered phase of receiving the batch.
        error: why the plan could not be followed, or empty.
        transfers: goodput of the batch.
    """

    applied: Applied | None
    phases: tuple[PhaseRecord, ...]
    error: str = ""
    transfers: tuple[Goodput, ...] = ()


class RoundStart(RoundMessage, frozen=True, kw_only=True, tag="round-start"):
    """Coordinator to device: train.

    Attributes:
        model: the global model.
        graphs: training and evaluation as ONNX graphs; ``None`` if devices need PyTorch.
        training: training settings.
        seed: seed of the run; with device and round it determines the order of batches.
        fleet_time_s: the round's beginning on the fleet's clock (virtual time of emulated boards).
    """

    model: Offer
    training: TrainingSettings
    seed: Count
    fleet_time_s: Seconds
    graphs: Offer | None = None


class UpdateReady(RoundMessage, frozen=True, kw_only=True, tag="update-ready"):
    """Device to coordinator: it has trained, and ``update`` can be pulled: the parameters."""

    update: Offer


class RoundReport(RoundMessage, frozen=True, kw_only=True, tag="round-report"):
    """Device to coordinator: the round report, after the update was pulled.

    Attributes:
        local_samples: real samples trained on per epoch.
        synthetic_samples: synthetic samples trained on per epoch; of unlabelled ones, those kept.
        training_loss: mean loss of the last epoch.
        training_accuracy: accuracy of the last epoch.
        frequency_hz: achieved CPU frequency, or ``None`` if unknown.
        busy_s: from the round's start until the upload ended, device's clock.
        phases: phases metered since the last report.
        backend: backend of the training, for example ``"onnxruntime 1.31"``; empty if it did not
            train.
        error: what went wrong, or empty.
        transfers: goodput of model and update.
        observed: frequency, throttling, link and the cost of monitoring since the last report.
        unlabelled: number of images that it labelled.
        trained_at: when training began and ended by the machine's own clock, UNIX time, s; wall
            time also where ``phases`` are emulated.
    """

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


class RoundClosed(RoundMessage, frozen=True, kw_only=True, tag="round-closed"):
    """Coordinator to device: the round is over for all devices.

    Attributes:
        accepted: whether this device's update went into the model.
        fleet_time_s: the round's end on the fleet's clock.
    """

    accepted: bool
    fleet_time_s: Seconds


class RoundSettled(RoundMessage, frozen=True, kw_only=True, tag="round-settled"):
    """Device to coordinator: the idle phase, in which it waited for the others."""

    phases: tuple[PhaseRecord, ...]


class ModelFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A trained network as an ONNX file, with the arithmetic ``variant``."""

    variant: Variant
    model: Offer


class DeploymentTest(RoundMessage, frozen=True, kw_only=True, tag="deployment-test"):
    """Coordinator to device: run the model exported after ``round`` as a user would.

    Attributes:
        files: the files to run.
        images: number of its own images to classify, one at a time, from the first again after the
            last.
        seconds: least duration on the device's clock, s.
        training_share: work of an inference over that of training on one sample, by which emulated
            boards let time pass.
    """

    files: tuple[ModelFile, ...]
    images: Annotated[int, Meta(ge=1, le=2**24)]
    seconds: Seconds
    training_share: Annotated[float, Meta(gt=0, le=1)]


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
        """Energy of one inference, whole board, J; ``None`` if unmetered."""
        energy = self.metered.energy if self.metered else None
        return energy.value_j / self.inferences if energy and self.inferences else None


class DeploymentReport(RoundMessage, frozen=True, kw_only=True, tag="deployment-report"):
    """Device to coordinator: how the trained model ran.

    Attributes:
        trials: one for each file.
        seconds: duration of all trials, downloads included, on the device's clock, s.
    """

    trials: tuple[Trial, ...]
    seconds: Seconds


class DeploymentClosed(DeviceMessage, frozen=True, kw_only=True, tag="deployment-closed"):
    """Coordinator to device: rounds continue at this time of the fleet's clock.

    The energy since the last round belongs to no round.
    """

    fleet_time_s: Seconds


class RunEnded(RunMessage, frozen=True, kw_only=True, tag="run-ended"):
    """Coordinator to all devices: the run is ``completed``, or why it ended early."""

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
