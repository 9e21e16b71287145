"""The types of an insight, which :mod:`fimi.coordinator.insight` computes.

* :class:`DeviceInsight`  the metrics of one device's update
* :class:`Insight`        those of a round
"""

from __future__ import annotations

from msgspec import Struct


class DeviceInsight(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Learning metrics of one device's update.

    Attributes:
        device: its id.
        local_error: Δ_i, 0 to 1: wrong answers on the test set before aggregation.
        similarity: of its update to the IID update, cosine, −1 to 1; ``None`` without a reference
            or for an update that is zero.
        gradient_similarity: of the gradient on all that it trains on to that on the real samples of
            all devices, both at the global model from which it trained, cosine, −1 to 1; ``None``
            where its samples are not known here, and in older stores.
    """

    device: str
    local_error: float
    similarity: float | None
    gradient_similarity: float | None = None


class Insight(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Learning metrics of the accepted updates of a round.

    Attributes:
        round: number of the round.
        orthogonality: 1 perpendicular, 0 all along one line; ``None`` with fewer than two updates.
        reference_samples: public samples behind the IID update; 0 for none.
        devices: those whose update was accepted, in order of device id.
        gradient_samples: real samples of devices behind the IID gradient; 0 for none.
        seconds: wall time of computing all this, s; ``None`` in older stores.
    """

    round: int
    orthogonality: float | None
    reference_samples: int
    gradient_samples: int = 0
    seconds: float | None = None
    devices: tuple[DeviceInsight, ...] = ()
