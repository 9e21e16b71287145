"""A node that is killed in the middle goes on where it was: nothing twice, nothing lost."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from generator_node.bootstrap import BootstrapGenerator
from generator_node.service import BatchService
from learning.batches import decode
from learning.datasets import Split
from messaging.broker import EmbeddedBroker
from messaging.client import Peer
from messaging.messages import DeviceState, Offer, SyntheticBatch, SyntheticRequest
from messaging.topics import COORDINATOR

REQUESTS = [
    SyntheticRequest(run="r1", device=f"device-{n}", counts=(n, 0, 2, 0, 1, 0, 0, 3, 0, 1), seed=5)
    for n in (3, 5, 4)
]
WANTED = sum(sum(request.counts) for request in REQUESTS)


class Child:
    """A node in a process of its own."""

    def __init__(self, broker: EmbeddedBroker, fleet: str, folder: Path) -> None:
        url = broker.address.url(with_password=True)
        script = Path(__file__).with_name("killed_node.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), url, fleet, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def chunk(self) -> int:
        """Wait for the next chunk; how many images the node has drawn."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def wait_online(desk: Peer) -> None:
    while (received := desk.receive(timeout_s=30)) is not None:
        state = received[1]
        if isinstance(state, DeviceState) and (state.role, state.status) == ("generator", "online"):
            return
    raise AssertionError("the node did not come")


def answers(desk: Peer, wanted: int) -> dict[str, SyntheticBatch]:
    found: dict[str, SyntheticBatch] = {}
    limit = time.monotonic() + 30
    while len(found) < wanted and time.monotonic() < limit:
        received = desk.receive(timeout_s=0.5)
        if received is not None and isinstance(received[1], SyntheticBatch):
            found[received[1].device] = received[1]
    return found


def test_killed_and_started_again(
    a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path, parts: Split
) -> None:
    desk = Peer(a_broker.address, fleet=fleet_name, peer=COORDINATOR, role="coordinator")
    device = Peer(a_broker.address, fleet=fleet_name, peer="device-3", role="device")
    with desk, device:
        first = Child(a_broker, fleet_name, tmp_path)
        try:
            wait_online(desk)
            for request in REQUESTS:
                desk.send("generator", request)
            assert desk.flush(10)
            assert first.chunk() == 8, "drawn across devices: the first asked for ten"
            first.go_on()
            assert first.chunk() == 16
            before = answers(desk, 1)
        finally:
            first.kill()
        assert set(before) == {"device-3"}

        second = Child(a_broker, fleet_name, tmp_path)
        try:
            drawn = second.chunk()
            while drawn < WANTED - 16:
                second.go_on()
                drawn = second.chunk()
            second.go_on()
            after = answers(desk, len(REQUESTS))
            offers = {name: batch.offer for name, batch in after.items()}
            assert offers["device-3"] == before["device-3"].offer, "the same bytes again"
            batches = {}
            for request in REQUESTS:
                offer = offers[request.device]
                assert isinstance(offer, Offer)
                batches[request.device] = device.transfers.fetch(offer, 10.0)
        finally:
            second.kill()

    assert drawn == WANTED - 16, "what the first had drawn was not drawn again"
    assert after["device-3"].drawn == 0
    service = BatchService(BootstrapGenerator(parts.public))
    for request in REQUESTS:
        assert batches[request.device] == service.make(request).data
        assert after[request.device].delivered == request.counts
    images = [decode(data, classes=10).images for data in batches.values()]
    assert len({image.tobytes() for image in np.concatenate(images)}) == WANTED
