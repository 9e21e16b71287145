"""Updates on their way to a coordinator that is killed, over a real broker."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fimi.coordinator.round_updates import UpdateIntake
from fimi.coordinator.update_store import UpdateStore, clear_leftovers
from fimi.learning.training import tensors
from fimi.learning.training.tensors import UpdateRefusedError
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.topics import COORDINATOR
from fimi.messaging.transfers.collecting import Collector

MODEL = {"w": np.zeros(100_000, np.float32)}


@contextmanager
def intake(peer: Peer, store: UpdateStore) -> Iterator[UpdateIntake]:
    with ThreadPoolExecutor(1) as pool, Collector(peer.transfers) as collector:
        yield UpdateIntake(MODEL, store, collector, pool)


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


def test_what_lies_here_is_not_sent_again(broker: EmbeddedBroker, tmp_path: Path) -> None:
    """A coordinator that was killed before the round was stored had the update already."""
    update = {"w": np.arange(100_000, dtype=np.float32)}
    with (
        Peer(broker.address, fleet="a", peer="d1", role="device") as device,
        Peer(broker.address, fleet="a", peer=COORDINATOR, role="coordinator") as peer,
    ):
        offer = device.transfers.serve(tensors.dump(update), "safetensors")
        for _ in range(2):
            clear_leftovers(tmp_path)
            store = UpdateStore(tmp_path)  # that of another process, which finds its folder
            with intake(peer, store) as updates:
                updates.offered("d1", offer)
                updates.require("d1", 30.0)
                np.testing.assert_array_equal(tensors.load(store.get("d1"))["w"], update["w"])
        assert device.transfers.counters.sent_bytes == offer.size_bytes
        store.close()
        assert not any(tmp_path.iterdir())


def test_what_is_no_update_stays_out(broker: EmbeddedBroker, tmp_path: Path) -> None:
    wrong = tensors.dump({"w": np.full(100_000, np.inf, np.float32)})
    with (
        Peer(broker.address, fleet="b", peer="d1", role="device") as device,
        Peer(broker.address, fleet="b", peer=COORDINATOR, role="coordinator") as peer,
    ):
        offer = device.transfers.serve(wrong, "safetensors")
        store = UpdateStore(tmp_path)
        with intake(peer, store) as updates:
            updates.offered("d1", offer)
            with pytest.raises(UpdateRefusedError, match="not finite"):
                updates.require("d1", 30.0)
        store.close()
        assert not any(tmp_path.iterdir())
