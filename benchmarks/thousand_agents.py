"""What a thousand connected agents cost a coordinator: heartbeats and telemetry at 1 Hz.

    python benchmarks/thousand_agents.py [--agents 1000] [--seconds 30] [--processes 4] [--rate 1]
                                         [--broker mosquitto,amqtt]

Light clients in a few processes say what agents say, in the same bytes: birth, a heartbeat every
5 s, telemetry at ``--rate``; each has a connection, a client id, a last will and both subscriptions
of its own. The coordinator's end is a process of its own with the real
:class:`~fimi.messaging.client.Peer`, which receives as a coordinator does, and reads the latest
telemetry of all agents once a second. Its processor time, all threads together, is the result, with
Mosquitto's beside it. The aim is under 30 % of one core with Mosquitto.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import selectors
import sys
import time
from multiprocessing.connection import Connection

import paho.mqtt.client as mqtt
import psutil
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from fimi.learning.data.contract import PROTOCOL
from fimi.messaging import topics
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.heartbeat import HEARTBEAT_S
from fimi.messaging.messages.peers import DeviceState, Telemetry
from fimi.messaging.topics import COORDINATOR
from fimi.messaging.transfers.wire import encode_message

FLEET = "thousand"
AIM = 0.30


class LightAgent:
    """One agent's connection, without threads of its own."""

    def __init__(self, address: BrokerAddress, name: str) -> None:
        self.name = name
        self.boot_id = f"{random.getrandbits(64):016x}"
        self.number = 0
        online = DeviceState(
            peer=name, role="device", status="online", boot_id=self.boot_id, protocol=PROTOCOL
        )
        self.online = encode_message(online, sender=name, recipient=COORDINATOR)
        offline = DeviceState(
            peer=name, role="device", status="offline", boot_id=self.boot_id, protocol=PROTOCOL
        )
        self.state, self.telemetry = (
            topics.topic(FLEET, name, COORDINATOR, kind)  # type: ignore[arg-type]
            for kind in ("state", "telemetry")
        )
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, f"{FLEET}:{name}", protocol=MQTTProtocolVersion.MQTTv311
        )
        client.username_pw_set(address.username, address.password)
        last = encode_message(offline, sender=name, recipient=COORDINATOR)
        client.will_set(self.state, last, 1, retain=True)
        client.on_connect = self._connected
        client.connect(address.host, address.port, keepalive=30)
        self.client = client

    def _connected(self, *_: object) -> None:
        self.client.subscribe([(name, 1) for name in topics.subscriptions(FLEET, self.name)])
        self.client.publish(self.state, self.online, 1, retain=True)

    def beat(self) -> None:
        """A heartbeat."""
        self.client.publish(self.state, self.online, 0, retain=True)

    def tell(self) -> None:
        """Telemetry."""
        self.number += 1
        said = Telemetry(
            device=self.name,
            boot_id=self.boot_id,
            number=self.number,
            unix_s=time.time(),
            stage="training",
            run="thousand",
            round=1,
            power_w=random.uniform(2.0, 8.0),
            kind="measured",
            source="ina219:i2c-1-40",
            scope="board",
            temperature_c=random.uniform(40.0, 70.0),
        )
        self.client.publish(
            self.telemetry, encode_message(said, sender=self.name, recipient=COORDINATOR), 0
        )


def crowd(address: BrokerAddress, names: list[str], rate_hz: float, pipe: Connection) -> None:
    """A process of light agents, until it is told to end."""
    agents = [LightAgent(address, name) for name in names]
    selector = selectors.DefaultSelector()
    for each in agents:
        selector.register(each.client.socket(), selectors.EVENT_READ, each)
    began_s = time.monotonic()
    due = [(began_s + random.random() / rate_hz, began_s + HEARTBEAT_S * random.random())
           for _ in agents]  # fmt: skip
    said = 0
    swept_s = began_s
    pipe.send("ready")
    while not pipe.poll():
        for key, _ in selector.select(0.005):
            key.data.client.loop_read()
        now_s = time.monotonic()
        for place, each in enumerate(agents):
            tell_s, beat_s = due[place]
            if now_s >= tell_s:
                each.tell()
                said, tell_s = said + 1, tell_s + 1.0 / rate_hz
            if now_s >= beat_s:
                each.beat()
                beat_s += HEARTBEAT_S
            due[place] = tell_s, beat_s
            if each.client.want_write():
                each.client.loop_write()
        if now_s - swept_s > 5.0:
            swept_s = now_s
            for each in agents:
                each.client.loop_misc()
    pipe.send((said, sum(each.client.is_connected() for each in agents)))
    for each in agents:
        each.client.disconnect()


def coordinate(address: BrokerAddress, pipe: Connection) -> None:
    """The coordinator's end: receives what comes, and looks at all telemetry once a second."""
    with Peer(address, fleet=FLEET, peer=COORDINATOR, role="coordinator") as peer:
        pipe.send("ready")
        looked_s, came = time.monotonic(), 0
        while not pipe.poll():
            came += peer.receive(timeout_s=0.2) is not None
            if time.monotonic() - looked_s > 1.0:
                looked_s = time.monotonic()
                peer.telemetry()
        here = sum(view.online for view in peer.peers.values())
        pipe.send((peer.counters.telemetry, here, len(peer.telemetry())))


def child(work, *arguments) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    """A process, and the pipe to it."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=work, args=(*arguments, theirs))
    process.start()
    ours.recv()
    return process, ours


def measure(broker: EmbeddedBroker, asked: argparse.Namespace) -> float:
    """The coordinator's share of a core."""
    names = [f"agent-{number:04d}" for number in range(asked.agents)]
    coordinator, pipe = child(coordinate, broker.address)
    crowds = [
        child(crowd, broker.address, names[start :: asked.processes], asked.rate)
        for start in range(asked.processes)
    ]
    assert coordinator.pid is not None and broker.pid is not None
    watched = {"coordinator": psutil.Process(coordinator.pid)}
    inner = psutil.Process(broker.pid).children(recursive=True)
    watched["broker"] = inner[-1] if inner else psutil.Process(broker.pid)
    time.sleep(5.0)  # until births and subscriptions are over

    def spent_s(process: psutil.Process) -> float:
        used = process.cpu_times()
        return float(used.user + used.system)

    before = {name: spent_s(each) for name, each in watched.items()}
    began_s = time.monotonic()
    time.sleep(asked.seconds)
    took_s = time.monotonic() - began_s
    shares = {name: (spent_s(each) - before[name]) / took_s for name, each in watched.items()}
    memory = watched["coordinator"].memory_info().rss / 1e6
    said = connected = 0
    for process, each in crowds:
        each.send("end")
        told, there = each.recv()
        said, connected = said + told, connected + there
        process.join()
    pipe.send("end")
    heard, here, known = pipe.recv()
    coordinator.join()
    print(
        f"{broker.kind} {broker.version}: {connected} of {asked.agents} agents connected, {here} "
        f"online for the coordinator, telemetry of {known}; {said} messages of telemetry said, "
        f"{heard} heard\n  coordinator {shares['coordinator']:.1%} of a core, {memory:.0f} MB; "
        f"broker {shares['broker']:.1%}",
        flush=True,
    )
    return shares["coordinator"]


def main() -> int:
    """Print the shares; the exit status says whether the aim is missed with Mosquitto."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--broker", default="mosquitto")
    asked = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    missed = 0
    for kind in asked.broker.split(","):
        with EmbeddedBroker(kind) as broker:
            share = measure(broker, asked)
        missed += kind == "mosquitto" and share > AIM
        print(f"{kind}: {share / AIM:.2f} of the {AIM:.0%} aimed at")
    return missed


if __name__ == "__main__":
    sys.exit(main())
