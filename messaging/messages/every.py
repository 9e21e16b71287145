"""Every message that travels by itself."""

from __future__ import annotations

from fimi.messaging.messages.documents import Desired, Reported
from fimi.messaging.messages.orders import RunEnded
from fimi.messaging.messages.peers import Claim, DeviceState, Lease, Telemetry
from fimi.messaging.messages.synthesis import (
    SyntheticBatch,
    SyntheticProgress,
    SyntheticRequest,
    SyntheticSamples,
)

AnyMessage = (
    DeviceState
    | Lease
    | Claim
    | Desired
    | Reported
    | Telemetry
    | SyntheticRequest
    | SyntheticBatch
    | SyntheticProgress
    | SyntheticSamples
    | RunEnded
)
"""Every message, for decoding: the field ``type`` decides."""
