"""What coordinator and generator node say to each other, as plain messages."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from fimi.energy.joules import Energy
from fimi.learning.data.contract import Contract
from fimi.messaging.messages.basis import Count, DeviceMessage, Offer, RunMessage, Seconds


class SyntheticRequest(DeviceMessage, frozen=True, kw_only=True, tag="synthetic-request"):
    """Coordinator to generator node: make these images for this device.

    Attributes:
        instance: of the run.
        contract: the data of the run; a node with other data refuses.
        counts: images per class.
        seed: determines the images.
        unlabelled: whether the batch holds the images alone, in an order that does not show their
            classes.
        skip: images of each class that earlier requests brought; these follow them. Empty: none.
    """

    instance: str = ""
    contract: Contract | None = None
    counts: tuple[Count, ...]
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    unlabelled: bool = False
    skip: tuple[Count, ...] = ()


class SyntheticBatch(DeviceMessage, frozen=True, kw_only=True, tag="synthetic-batch"):
    """Generator node to coordinator: a device's batch is ready (or as much of it as could be made).

    Attributes:
        instance: of the run that has asked for it.
        skip: of the request: what earlier batches had brought.
        delivered: images per class in the batch.
        offer: the offer of the batch; ``None`` if it is empty.
        seconds: wall time of making it, s.
        generator: its generator, for example ``"digits-ddpm (dpm++, 20 steps)"``.
        drawn: images that were drawn for it now, without those from the node's pool.
        refused: how many of those the quality gate refused, by reason.
        energy: energy of drawing them on the node, idle power included; ``None`` if unmetered.
        error: why it has fewer images than requested, or empty.
    """

    instance: str = ""
    skip: tuple[Count, ...] = ()
    delivered: tuple[Count, ...]
    offer: Offer | None
    seconds: Seconds
    generator: str
    drawn: Count = 0
    refused: dict[str, Count] = field(default_factory=dict)
    energy: Energy | None = None
    error: str = ""


class SyntheticProgress(RunMessage, frozen=True, kw_only=True, tag="synthetic-progress"):
    """Generator node to coordinator, at most once a second while it draws: its progress.

    Attributes:
        instance: of the run that has asked.
        devices_done: batches that are ready.
        devices_asked: batches that were requested.
        lacking: images still to be drawn for the other batches, if none is refused.
        images_per_s: images drawn per second since the last such message.
    """

    instance: str = ""
    devices_done: Count
    devices_asked: Count
    lacking: Count
    images_per_s: Annotated[float, Meta(ge=0)]


class SamplePicture(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A synthetic image for people to look at.

    Attributes:
        class_index: its class.
        png: the image, at most 64 × 64 pixels, as a PNG.
    """

    class_index: Count
    png: Annotated[bytes, Meta(max_length=32_768)]


class SyntheticSamples(RunMessage, frozen=True, kw_only=True, tag="synthetic-samples"):
    """Generator node to coordinator: a few of a run's images, once, for people to look at.

    It may be lost, and nothing waits for it.

    Attributes:
        instance: of the run that has asked.
        pictures: one image of each of some classes.
    """

    instance: str = ""
    pictures: Annotated[tuple[SamplePicture, ...], Meta(max_length=64)]
