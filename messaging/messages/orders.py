"""Orders: what the coordinator wants of a device, from the invitation to the end of a run.

The latest of every kind stands in :class:`~fimi.messaging.messages.documents.Desired`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from fimi.energy.cost_model import OperatingPoint, PhaseCost
from fimi.learning.data.contract import Contract, Way
from fimi.learning.data.use import in_use
from fimi.learning.training.classifier import Variant
from fimi.learning.training.coding import Coding
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.messages.basis import (
    Count,
    DeviceMessage,
    Offer,
    RoundMessage,
    RunMessage,
    Seconds,
    Share,
)


class EmulatedDevice(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The board of a device that has no meter, so that it is the same in every process.

    Attributes:
        board: name of its make.
        seed: of the fleet.
        emulation: ``"model"`` or ``"physical"``.
        profile_error: relative standard deviation between the board and its profile.
        cycles_per_sample: CPU cycles to train on one sample on the reference board.
        radio: ``"wifi"``, the make's own, or ``"paper"``, whose power can be set.
        meter: family of its meter (:data:`fimi.energy.emulation.meter_families.MeterFamily`).
    """

    board: str
    seed: Count
    emulation: Literal["model", "physical"]
    profile_error: Annotated[float, Meta(ge=0, le=1)]
    cycles_per_sample: Annotated[float, Meta(gt=0)]
    radio: Literal["wifi", "paper"] = "wifi"
    meter: Literal["preset", "counter", "chip", "averaging", "plug", "battery"] = "preset"


class Invitation(DeviceMessage, frozen=True, kw_only=True, tag="invitation"):
    """Coordinator to device: take part, with these samples.

    Attributes:
        index: of the device in this run, from 0; fixed for the run.
        contract: the data of the run.
        way: how the device gets its samples.
        share: its indices, or its samples; ``None`` where it has a file of its own.
        hashes: salted hashes of the test and the public images; ``None``: nothing to compare with.
        emulated: the board of a device without a meter.
        readings: whether the device reports the readings of its meter.
    """

    index: Count
    contract: Contract
    way: Way
    share: Offer | None = None
    hashes: Offer | None = None
    emulated: EmulatedDevice | None = None
    readings: bool = False


class TopUp(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Images that a device gets in a run beside its first batch.

    Attributes:
        skip: images of each class that it had before; empty: none.
        counts: images per class, as delivered.
        batch: their offer.
        fleet_time_s: when they were sent, on the fleet's clock, s.
        booked: their receipt is in the run store: an emulated board gets them at no cost.
    """

    skip: tuple[Count, ...]
    counts: tuple[Count, ...]
    batch: Offer
    fleet_time_s: Seconds
    booked: bool = False


class DevicePlan(DeviceMessage, frozen=True, kw_only=True, tag="plan"):
    """Coordinator to device: its plan, which holds until another one comes.

    Attributes:
        device_index: position in the plan; with the round it seeds the batch order.
        synthetic_counts: synthetic samples per class, as delivered, those of top-ups included.
        synthetic_use: share of them that rounds train on, the first of each class.
        batch: the offer of the synthetic batch; ``None`` for no synthetic data.
        top_ups: what was sent later, in order.
        point: the operating point.
        predicted: seconds and joules per phase of one round.
        fleet_time_s: present time of the fleet's clock, s; emulated boards set theirs by it.
        unlabelled: number of images in a batch without labels, else 0; the device labels them again
            every round with the global model.
        confidence_min: least probability of a label for its image to be trained on.
        booked: the batch's receipt is in the run store: an emulated board gets it at no cost.
    """

    device_index: Count
    synthetic_counts: tuple[Count, ...]
    synthetic_use: Share = 1.0
    batch: Offer | None
    top_ups: tuple[TopUp, ...] = ()
    point: OperatingPoint
    predicted: tuple[PhaseCost, ...]
    fleet_time_s: Seconds = 0.0
    unlabelled: Count = 0
    confidence_min: Share = 0.0
    booked: bool = False

    @property
    def used_counts(self) -> tuple[int, ...]:
        """Synthetic samples per class that rounds train on."""
        return in_use(self.synthetic_counts, self.synthetic_use)


class RoundStart(RoundMessage, frozen=True, kw_only=True, tag="round-start"):
    """Coordinator to device: train.

    Attributes:
        model: the global model.
        graphs: training and evaluation as ONNX graphs; ``None`` if devices need PyTorch.
        training: training settings.
        seed: seed of the run; with device and round it determines the order of batches.
        fleet_time_s: the round's beginning on the fleet's clock (virtual time of emulated boards).
        model_coding: how ``model`` is coded.
        update_coding: how the update is to be coded; anything but ``"fp32"`` is the difference from
            the decoded ``model``.
        model_bytes: size of the model in single precision; 0: that of ``model``.
        late_rounds: so many rounds late the update may still be: it enters the mean of another
            round then. 0: whoever is not done when the round is closed breaks off.
    """

    model: Offer
    training: TrainingSettings
    seed: Count
    fleet_time_s: Seconds
    graphs: Offer | None = None
    model_coding: Coding = Coding()
    update_coding: Coding = Coding()
    model_bytes: Count = 0
    late_rounds: Count = 0


class RoundClosed(RoundMessage, frozen=True, kw_only=True, tag="round-closed"):
    """Coordinator to device: the round is over for all devices.

    Attributes:
        accepted: whether this device's update went into the model.
        late: it did not, and may still enter that of a later round.
        began_s: the round's beginning on the fleet's clock.
        fleet_time_s: the round's end on the fleet's clock.
        last: no round follows: the device rests until its meter can tell what it draws then.
    """

    accepted: bool
    late: bool = False
    last: bool = False
    began_s: Seconds = 0.0
    fleet_time_s: Seconds


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


class DeploymentClosed(RoundMessage, frozen=True, kw_only=True, tag="deployment-closed"):
    """Coordinator to device: the trial after ``round`` is over, and rounds go on.

    ``fleet_time_s`` is the present time of the fleet's clock. The energy since the last round
    belongs to no round.
    """

    fleet_time_s: Seconds


class RunEnded(RunMessage, frozen=True, kw_only=True, tag="run-ended"):
    """Coordinator to all: the run is over for now: ``completed``, or why it ended early.

    Attributes:
        reason: why, in one sentence.
        instance: of the run.
    """

    reason: str
    instance: str = ""
