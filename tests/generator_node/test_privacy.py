"""What the privacy statement of docs/generator.md says: only counts and batches cross the network.

A broker that keeps everything that passes, a real node, a coordinator's and a device's end.
"""

from __future__ import annotations

import ast
import threading
import time
from pathlib import Path

import numpy as np
import paho.mqtt.client as mqtt

import fimi.generator_node
from fimi.generator_node.generators.bootstrap import BootstrapGenerator
from fimi.generator_node.service.node import GeneratorNode
from fimi.generator_node.service.service import BatchService
from fimi.learning.data.dataset import Split
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.errors import MessageRefused
from fimi.messaging.messages.facts import UpdateReady
from fimi.messaging.messages.orders import RunEnded
from fimi.messaging.messages.peers import DeviceState
from fimi.messaging.messages.synthesis import SyntheticBatch, SyntheticRequest
from fimi.messaging.topics import COORDINATOR
from fimi.messaging.transfers.wire import decode_message

SECRET = b"private pixels of device-1"


def test_nothing_of_a_device_reaches_the_node(
    a_broker: EmbeddedBroker, fleet_name: str, parts: Split
) -> None:
    address = a_broker.address
    passed: list[tuple[str, bytes]] = []
    ready = threading.Event()
    sniffer = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    sniffer.username_pw_set(address.username, address.password)
    sniffer.on_connect = lambda client, *_: client.subscribe(f"fimi/v1/{fleet_name}/#", qos=1)
    sniffer.on_subscribe = lambda *_: ready.set()
    sniffer.on_message = lambda _client, _data, message: passed.append(
        (message.topic, bytes(message.payload))
    )
    sniffer.connect(address.host, address.port)
    sniffer.loop_start()
    assert ready.wait(10)

    service = BatchService(BootstrapGenerator(parts.public))
    stop = threading.Event()
    with (
        Peer(address, fleet=fleet_name, peer="generator", role="generator") as peer,
        Peer(address, fleet=fleet_name, peer=COORDINATOR, role="coordinator") as desk,
        Peer(address, fleet=fleet_name, peer="device-1", role="device") as device,
    ):
        node = threading.Thread(target=GeneratorNode(peer, service).run, args=(stop,))
        node.start()
        try:
            # A device that offers its update to the node, as a curious node might wish.
            update = device.transfers.serve(SECRET, "safetensors")
            device.send(
                "generator", UpdateReady(run="r", device="device-1", round=1, update=update)
            )
            desk.send(
                "generator",
                SyntheticRequest(run="r", device="device-1", counts=(3,) * 10, seed=1),
            )
            batch = None
            limit = time.monotonic() + 20
            while batch is None and time.monotonic() < limit:
                received = desk.receive(timeout_s=0.5)
                if received is not None and isinstance(received[1], SyntheticBatch):
                    batch = received[1]
            assert batch is not None
            assert batch.offer is not None
            device.transfers.fetch(batch.offer, 10.0)
            desk.send("all", RunEnded(run="r", reason="completed"))
            assert desk.flush(5)
        finally:
            stop.set()
            node.join()
    sniffer.loop_stop()
    sniffer.disconnect()

    to_node = [(topic, body) for topic, body in passed if topic.split("/")[4] == "generator"]
    kinds = {
        topic.split("/")[3:] and (topic.split("/")[3], topic.split("/")[5]) for topic, _ in to_node
    }
    assert ("device-1", "want") in kinds, "the device asked for its batch"
    assert not any(kind == "chunk" for _, kind in kinds), "nobody sent the node a payload"
    assert not any(SECRET in body for _, body in passed), "and it asked for none"
    from_node = {topic.split("/")[5] for topic, _ in passed if topic.split("/")[3] == "generator"}
    assert "chunk" in from_node
    asked = [m for m in map(_message, (body for _, body in to_node)) if m is not None]
    requests = [m for m in asked if isinstance(m, SyntheticRequest)]
    assert requests == [SyntheticRequest(run="r", device="device-1", counts=(3,) * 10, seed=1)]


def _message(body: bytes) -> object:
    try:
        return decode_message(body, sender=COORDINATOR, recipient="generator")
    except MessageRefused:
        return None


def test_a_request_has_no_room_for_data() -> None:
    counts = ("counts", "skip")
    run = ("run", "instance", "contract")  # the contract describes data by digests and names
    assert {*SyntheticRequest.__struct_fields__} == {*run, "device", "seed", "unlabelled", *counts}
    state = ("peer", "role", "status", "boot_id", "protocol", "session", "goodbye")
    assert DeviceState.__struct_fields__ == state


def test_the_node_never_fetches() -> None:
    """No code of the package asks another peer for a payload."""
    for path in Path(fimi.generator_node.__file__).parent.rglob("*.py"):
        names = {
            node.attr
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
        }
        assert "fetch" not in names, path.name


def test_the_private_part_is_not_the_public_part(parts: Split) -> None:
    public = {image.tobytes() for image in parts.public.images}
    private = {image.tobytes() for image in parts.private.images}
    assert len(public & private) <= 1  # the data set itself holds equal images, very few
    assert np.isin(np.arange(10), parts.public.labels).all()
