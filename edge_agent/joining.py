"""Taking part in a run: the device's samples, checked against the contract and against leaks.

What is fetched here is not metered: the device takes part from its plan on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from fimi.edge_agent import share
from fimi.edge_agent.share import Shelf
from fimi.learning.data import contract as contracts
from fimi.learning.data import leak
from fimi.learning.data.contract import PROTOCOL, ContractError
from fimi.learning.data.dataset import Dataset, DatasetError
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.orders import Invitation

Fetch = Callable[[Callable[[Invitation], Offer | None]], bytes]
"""Fetches what an invitation offers; the invitation may have changed meanwhile."""


class Joined(Struct, frozen=True, kw_only=True):
    """The samples of a device, which meet the contract.

    Attributes:
        data: the samples.
        fingerprint: salted digest of its images.
    """

    data: Dataset
    fingerprint: str


def join(
    invitation: Invitation,
    instance: str,
    fetch: Fetch,
    *,
    place: Path | None,
    shelf: Shelf | None,
) -> Joined:
    """The samples of this device in a run.

    Args:
        invitation: of the coordinator.
        instance: of the run; the salt of all hashes.
        fetch: fetches its payloads.
        place: where data lie here; see :func:`fimi.edge_agent.share.take`.
        shelf: shared by the agents of a process.

    Raises:
        ContractError: the data here are others than those of the run, or the run speaks another
            version of the conversation; names the keys that differ.
        DatasetError: they are missing, damaged or unusable.
        LeakError: the device would train on what the coordinator tests on.
        TransferError: a payload cannot be fetched.
    """
    contract, device = invitation.contract, invitation.device
    if contract.protocol != PROTOCOL:
        raise ContractError(contracts.other_protocol(device, PROTOCOL, contract.protocol))
    payload = None if invitation.share is None else fetch(lambda now: now.share)
    data = share.take(contract, invitation.way, payload, place, device=device, shelf=shelf)
    if not len(data):
        raise DatasetError(f"{device} has no samples")
    own = leak.image_hashes(data.images, instance)
    if invitation.hashes is not None:
        leak.check(own, leak.decode(fetch(lambda now: now.hashes), contract), contract)
    return Joined(data=data, fingerprint=leak.fingerprint(own))
