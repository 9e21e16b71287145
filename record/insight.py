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
        similarity: cosine to the IID update, −1 to 1; ``None`` without a reference or for an update
            that is zero.
    """

    device: str
    local_error: float
    similarity: float | None


class Insight(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Learning metrics of the accepted updates of a round.

    Attributes:
        round: number of the round.
        orthogonality: 1 perpendicular, 0 all along one line; ``None`` with fewer than two updates.
        reference_samples: public samples behind the IID update; 0 for none.
        devices: those whose update was accepted, in order of device id.
    """

    round: int
    orthogonality: float | None
    reference_samples: int
    devices: tuple[DeviceInsight, ...] = ()
