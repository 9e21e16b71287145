"""What is killed in the middle goes on where it was: a node, nothing twice and nothing lost; a
training, to the same weights."""

from __future__ import annotations

import itertools
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import killed_training
import msgspec
import numpy as np
import pytest

from fimi.generator_node.generators.bootstrap import BootstrapGenerator
from fimi.generator_node.generators.card import read_card
from fimi.generator_node.service.node import GeneratorNode
from fimi.generator_node.service.service import BatchService, QueueProgress
from fimi.learning.data.batches import decode
from fimi.learning.data.dataset import Split
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.peers import DeviceState
from fimi.messaging.messages.synthesis import SyntheticBatch, SyntheticRequest
from fimi.messaging.topics import COORDINATOR

REQUESTS = [
    SyntheticRequest(run="r1", device=f"device-{n}", counts=(n, 0, 2, 0, 1, 0, 0, 3, 0, 1), seed=5)
    for n in (3, 5, 4)
]
WANTED = sum(sum(request.counts) for request in REQUESTS)


class Child:
    """A script of this folder in a process of its own, which says how far it is and then waits."""

    def __init__(self, script: str, *arguments: str) -> None:
        path = Path(__file__).with_name(script)
        self.process = subprocess.Popen(
            [sys.executable, str(path), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def far(self) -> int:
        """Wait for its next word; how far it is."""
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


def wait_until(true: Callable[[], bool]) -> None:
    limit, tick = time.monotonic() + 30, threading.Event()
    while not true():
        assert time.monotonic() < limit
        tick.wait(0.02)


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
    node = ("killed_node.py", a_broker.address.url(with_password=True), fleet_name, str(tmp_path))
    with desk, device:
        first = Child(*node)
        try:
            wait_online(desk)
            for request in REQUESTS:
                desk.send("generator", request)
            assert desk.flush(10)
            assert first.far() == 8, "drawn across devices: the first asked for ten"
            first.go_on()
            assert first.far() == 16
            before = answers(desk, 1)
        finally:
            first.kill()
        assert set(before) == {"device-3"}

        second = Child(*node)
        try:
            drawn = second.far()
            while drawn < WANTED - 16:
                second.go_on()
                drawn = second.far()
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


def test_a_coordinator_that_is_killed_halfway(
    a_broker: EmbeddedBroker, fleet_name: str, parts: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is drawn while it is gone; once it is back, what it asked for is made to the end."""
    request = SyntheticRequest(run="r1", device="device-1", counts=(9,) + (0,) * 9, seed=5)
    service = BatchService(BootstrapGenerator(parts.public), chunk=4)
    drawn: queue.Queue[int] = queue.Queue()
    go_on, stop = threading.Semaphore(0), threading.Event()

    def stop_here(progress: QueueProgress) -> None:
        drawn.put(progress.drawn)
        go_on.acquire()

    url = a_broker.address.url(with_password=True)
    turns = itertools.count()
    with Peer(a_broker.address, fleet=fleet_name, peer="generator", role="generator") as peer:
        receive, looked = peer.receive, [0]

        def look(timeout_s: float | None = None) -> Any:
            looked[0] = next(turns)
            return receive(timeout_s)

        monkeypatch.setattr(peer, "receive", look)  # the node looks for messages once a turn
        node = GeneratorNode(peer, service, on_progress=stop_here, patience_s=0.0)
        thread = threading.Thread(target=node.run, args=(stop,))
        thread.start()
        coordinator = Child(
            "killed_coordinator.py", url, fleet_name, msgspec.json.encode(request).decode()
        )
        try:
            assert coordinator.far() == 1
            assert drawn.get(timeout=10) == 4
        finally:
            coordinator.kill()
        wait_until(lambda: peer.absent_s(COORDINATOR) is not None)
        go_on.release()
        before = looked[0]
        wait_until(lambda: looked[0] >= before + 3)
        assert drawn.empty(), "whole turns, and nothing was drawn"
        go_on.release(2)
        with Peer(a_broker.address, fleet=fleet_name, peer=COORDINATOR, role="coordinator") as desk:
            desk.send("generator", request)
            answer = answers(desk, 1)["device-1"]
            assert answer.delivered == request.counts
            assert answer.drawn == 9, "what was drawn before it vanished was not drawn again"
        stop.set()
        thread.join()


def test_a_training_that_is_killed_comes_to_the_same_weights(tmp_path: Path) -> None:
    """Takes seconds: PyTorch and diffusers are loaded in a process that is to be killed."""
    checkpoint = tmp_path / "checkpoint.safetensors"
    child = Child("killed_training.py", str(checkpoint))
    try:
        for step in range(1, 6):
            assert child.far() == step
            child.go_on()
        assert child.far() == 6
    finally:
        child.kill()
    steps: list[int] = []
    resumed = killed_training.training(checkpoint, lambda p: steps.append(p.step))
    assert steps == [4, 5, 6, 7, 8], "from the checkpoint of step 3"
    resumed.save(tmp_path / "resumed")
    killed_training.training().save(tmp_path / "whole")
    weights = {read_card(tmp_path / name).weights_digest for name in ("resumed", "whole")}
    assert len(weights) == 1
