"""How long telemetry takes while a payload goes up over the same slow link.

    python benchmarks/telemetry_latency.py [--megabytes 10] [--mbit 20] [--rate 10] [--repeat 3]

A device behind a link of 20 Mbit/s (``fimi chaos proxy``, a queue of 64 KiB) serves 10 MB, which a
coordinator beside the broker fetches. Meanwhile the device publishes telemetry, ``--rate`` times a
second: small messages without acknowledgement (quality of service 0), on the same connection. Both
ends are of this machine, so that one clock tells when each was published and when it arrived. The
aim is a 95th percentile under 150 ms. Latency on the idle link is printed beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time

import paho.mqtt.client as mqtt
from bad_link import bad_link
from paho.mqtt.enums import CallbackAPIVersion

from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages.peers import Telemetry
from fimi.messaging.topics import COORDINATOR

AIM_S = 0.150


class Listener:
    """Hears telemetry beside the broker; what each message took, s."""

    def __init__(self, address: BrokerAddress, topic: str) -> None:
        self.took_s: list[float] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(address.username, address.password)
        ready = threading.Event()
        self._client.on_connect = lambda c, *_: c.subscribe(topic)
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = self._heard
        self._client.connect(address.host, address.port)
        self._client.loop_start()
        assert ready.wait(10.0)

    def _heard(self, _c: object, _d: object, message: mqtt.MQTTMessage) -> None:
        self.took_s.append(time.time() - json.loads(message.payload)["unix_s"])

    def close(self) -> None:
        """Stop listening."""
        self._client.disconnect()
        self._client.loop_stop()


def speak(device: Peer, rate_hz: float, stop: threading.Event) -> int:
    """Publish telemetry until ``stop``; how many messages were said."""
    said = 0
    while not stop.wait(1.0 / rate_hz):
        said += device.tell_telemetry(
            Telemetry(
                device=device.id,
                boot_id=device.boot_id,
                number=said + 1,
                unix_s=time.time(),
                stage="training",
                run="telemetry-latency",
                round=1,
                power_w=4.2,
                kind="emulated",
                source="emulated board",
                scope="board",
                temperature_c=51.5,
            )
        )
    return said


def percentiles(took_s: list[float]) -> tuple[float, float, float]:
    """50th and 95th percentile and the largest, ms."""
    cuts = statistics.quantiles(took_s, n=20, method="inclusive")
    return 1e3 * cuts[9], 1e3 * cuts[18], 1e3 * max(took_s)


def measure(broker: BrokerAddress, far: BrokerAddress, size: int, rate_hz: float, fleet: str):
    """Latencies on the idle link and on the busy one, and the time of the transfer, s."""
    listener = Listener(broker, f"fimi/v1/{fleet}/d1/{COORDINATOR}/telemetry")
    with (
        Peer(far, fleet=fleet, peer="d1", role="device") as device,
        Peer(broker, fleet=fleet, peer=COORDINATOR, role="coordinator") as coordinator,
    ):
        stop = threading.Event()
        speaker = threading.Thread(target=speak, args=(device, rate_hz, stop))
        speaker.start()
        time.sleep(2.0)
        idle = len(listener.took_s)
        offer = device.transfers.serve(os.urandom(size), "noise")
        began_s = time.monotonic()
        coordinator.transfers.fetch(offer, 600.0)
        took_s = time.monotonic() - began_s
        busy = listener.took_s[idle:]
        stop.set()
        speaker.join()
    listener.close()
    return listener.took_s[:idle], busy, took_s


def main() -> int:
    """Print the percentiles; the exit status says whether the aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=10.0)
    parser.add_argument("--mbit", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    size, rate_bps, worst_s = round(asked.megabytes * 1e6), 1e6 * asked.mbit, []
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with EmbeddedBroker("mosquitto") as broker:
        for number in range(asked.repeat):
            with bad_link(broker.address, up_bps=rate_bps, down_bps=rate_bps) as far:
                fleet = f"telemetry-{number}"
                idle, busy, took_s = measure(broker.address, far, size, asked.rate, fleet)
            for name, seen in (("idle", idle), ("busy", busy)):
                middle, high, most = percentiles(seen)
                print(f"{name}: {len(seen)} messages, {middle:.0f}, {high:.0f}, {most:.0f} ms "
                      "(median, 95th percentile, largest)")  # fmt: skip
            worst_s.append(percentiles(busy)[1] / 1e3)
            over = took_s / (8.0 * size / rate_bps)
            print(f"      {asked.megabytes:g} MB in {took_s:.2f} s, {over:.3f} of the line's time")
    result = statistics.median(worst_s)
    print(f"95th percentile, median of {asked.repeat}: {1e3 * result:.0f} ms, aim {1e3 * AIM_S:g}")
    return result > AIM_S


if __name__ == "__main__":
    sys.exit(main())
