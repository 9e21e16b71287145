"""What messages are made of: numbers with their limits, base classes, offers of payloads."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from fimi.energy.cost_model import Phase

Count = Annotated[int, Meta(ge=0, le=2**48)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Hertz = Annotated[float, Meta(ge=0, le=1e12)]
Share = Annotated[float, Meta(ge=0, le=1)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Stage = Literal["idle", "fetching", "training", "offering", "settled"]
"""What a device does: nothing; it fetches samples, batch or model; it trains, or tries a model; its
update is ready; it has settled its last round."""


class Message(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    """Base of all messages; the field ``type`` of the JSON object names the class."""


class RunMessage(Message, frozen=True, kw_only=True):
    """Base of the messages of a run, ``run``, and of what they hold."""

    run: str


class DeviceMessage(RunMessage, frozen=True, kw_only=True):
    """Base of the messages to, from or for one device of a run, ``device``, and their parts."""

    device: str


class RoundMessage(DeviceMessage, frozen=True, kw_only=True):
    """Base of the messages of one device in one round, ``round``, counted from 1."""

    round: Annotated[int, Meta(ge=1, le=2**48)]


class Offer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A payload that its holder serves to other peers.

    Attributes:
        holder: peer id of the holder.
        digest: SHA-256 of the whole payload.
        size_bytes: its size.
        media: type of the payload, for example ``"safetensors"``.
        rate_bps: highest rate at which the holder sends it, bit/s; ``None`` for unlimited.
        shared: whether it comes over a topic that all who want it may hear.
    """

    holder: str
    digest: Digest
    size_bytes: Count
    media: str
    rate_bps: Annotated[float, Meta(gt=0)] | None = None
    shared: bool = False


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
