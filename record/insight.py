"""What a round's updates say about learning, looked at by the coordinator every few rounds.

* local error Δ_i, docs/model.md (L6): of each device's model on the test set, before aggregation
* similarity, (L3) and (L7): the cosine between what a device's data did to the global model and
  what IID data would have done, which is the figure that FIMI's paper draws
* orthogonality, (L4): how little the devices' updates have to do with each other

The IID reference is an update, not a gradient: the same local training, from the same global model,
on public samples of which every class has as many. Devices train for epochs, so that what they send
is no gradient either; with one step of plain SGD the two are the same.

Nothing here goes into the model.
"""

from __future__ import annotations

from msgspec import Struct


class DeviceInsight(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a device's update says.

    Attributes:
        device: who.
        local_error: Δ_i, 0 to 1: wrong answers on the test set before aggregation.
        similarity: cosine to the IID update, −1 to 1; ``None`` without a reference or for an update
            that is zero.
    """

    device: str
    local_error: float
    similarity: float | None


class Insight(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the accepted updates of a round say.

    Attributes:
        round: its number.
        orthogonality: 1 perpendicular, 0 all along one line; ``None`` with fewer than two updates.
        reference_samples: public samples behind the IID update; 0 for none.
        devices: whose update was accepted, in order of device id.
    """

    round: int
    orthogonality: float | None
    reference_samples: int
    devices: tuple[DeviceInsight, ...] = ()
