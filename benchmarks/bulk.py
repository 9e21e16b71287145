"""Bulk over loopback: transfers against plain MQTT with large messages, on the same broker.

    python benchmarks/bulk.py [--megabytes 200] [--repeat 3] [--broker mosquitto,amqtt]

In one run, in turn: plain paho publishes messages of 256 kB with quality of service 1, at most 20
of them in flight, and another paho client counts them; then one peer fetches a payload of the same
size from another one, in chunks, checked by digest. Who sends is a process of its own in both. The
aim is that transfers reach 0.6 of plain MQTT's rate.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import threading
import time
from multiprocessing.connection import Connection

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages.basis import Offer
from fimi.messaging.topics import COORDINATOR

MESSAGE_BYTES = 256_000
IN_FLIGHT = 20
AIM = 0.6


def paho(address: BrokerAddress) -> mqtt.Client:
    """A plain client, connected."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(address.username, address.password)
    client.max_inflight_messages_set(IN_FLIGHT)
    client.connect(address.host, address.port)
    client.loop_start()
    return client


def publish_plain(address: BrokerAddress, topic: str, size: int, pipe: Connection) -> None:
    """The other process of the plain part: publishes when it is told to."""
    client = paho(address)
    data = os.urandom(MESSAGE_BYTES)
    pipe.send("ready")
    pipe.recv()
    sent = [client.publish(topic, data, qos=1) for _ in range(-(-size // MESSAGE_BYTES))]
    for each in sent:
        each.wait_for_publish(120.0)
    pipe.recv()
    client.disconnect()
    client.loop_stop()


def plain_s(address: BrokerAddress, size: int) -> float:
    """How long plain MQTT takes, s."""
    topic, done = "fimi/v1/bulk-plain/a/b/message", threading.Event()
    got = 0

    def count(_c: object, _d: object, message: mqtt.MQTTMessage) -> None:
        nonlocal got
        got += len(message.payload)
        if got >= size:
            done.set()

    client = paho(address)
    subscribed = threading.Event()
    client.on_message = count
    client.on_subscribe = lambda *_: subscribed.set()
    client.subscribe(topic, qos=1)
    assert subscribed.wait(10.0)
    ours, theirs = multiprocessing.Pipe()
    other = multiprocessing.get_context("spawn").Process(
        target=publish_plain, args=(address, topic, size, theirs)
    )
    other.start()
    ours.recv()
    began_s = time.monotonic()
    ours.send("go")
    if not done.wait(300.0):
        raise SystemExit(f"only {got} of {size} B came within 300 s")
    took_s = time.monotonic() - began_s
    ours.send("end")
    other.join()
    client.disconnect()
    client.loop_stop()
    return took_s


def hold(address: BrokerAddress, size: int, pipe: Connection) -> None:
    """The other process of the second part: serves a payload."""
    with Peer(address, fleet="bulk", peer="d1", role="device") as device:
        pipe.send(device.transfers.serve(os.urandom(size), "noise"))
        pipe.recv()


def transfer_s(address: BrokerAddress, size: int) -> float:
    """How long a transfer takes, s."""
    ours, theirs = multiprocessing.Pipe()
    other = multiprocessing.get_context("spawn").Process(target=hold, args=(address, size, theirs))
    other.start()
    offer: Offer = ours.recv()
    with Peer(
        address, fleet="bulk", peer=COORDINATOR, role="coordinator", max_bytes=2 * size
    ) as asker:
        began_s = time.monotonic()
        got = asker.transfers.fetch(offer, 300.0)
        took_s = time.monotonic() - began_s
    assert len(got) == size
    ours.send("end")
    other.join()
    return took_s


def main() -> int:
    """Print the rates; the exit status is the number of brokers with which the aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=200.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--broker", default="mosquitto,amqtt")
    asked = parser.parse_args()
    size, missed = round(asked.megabytes * 1e6), 0
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for kind in asked.broker.split(","):
        with EmbeddedBroker(kind) as broker:
            ratios = []
            for _ in range(asked.repeat):
                plain, ours = plain_s(broker.address, size), transfer_s(broker.address, size)
                ratios.append(plain / ours)
                print(
                    f"{broker.kind} {broker.version}: plain {size / plain / 1e6:.0f} MB/s, "
                    f"transfers {size / ours / 1e6:.0f} MB/s: {ratios[-1]:.2f}",
                    flush=True,
                )
            ratio = statistics.median(ratios)
            missed += ratio < AIM
            print(f"{broker.kind}: median {ratio:.2f} of plain MQTT, aim {AIM}")
    return missed


if __name__ == "__main__":
    sys.exit(main())
