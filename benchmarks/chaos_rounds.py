"""Many rounds under random faults: nothing acknowledged is lost, nothing counts twice.

    python benchmarks/chaos_rounds.py [--rounds 200] [--devices 3] [--strategy tfl] [--seed 7]
                                      [--per-minute 1.0] [--keep FOLDER] [--fleet-folder]

Real processes: Mosquitto, a coordinator, agents of emulated boards, with ``--strategy fimi`` also a
generator node. A run is made undisturbed, and once more under faults from a seed (``fimi chaos``):
links between the devices, the coordinator and the broker are cut, frozen and half-open, messages
come twice and out of order, every process is killed and stopped, the broker too. ``--per-minute``
scales how often.

With ``--fleet-folder`` it is what users run: ``fimi broker --config`` of a fleet that is made for
this, TLS, a bundle and access rules for everybody. Messages cannot be repeated there on their way.
Instead Mosquitto is killed as well as the command that looks after it, and a certificate of nobody
is replaced again and again, upon which the broker is started again in order.

A listener at the broker writes down what the coordinator tells each device of its updates, from the
documents that both exchange, read as JSON: that it was heard, and whether it is in the model. An
update is acknowledged when its device was told so, or no longer needs to offer it and was not told
that it came too late. That is held against the run store:

* every update that was acknowledged counts as accepted in its round, and no other one;
* in every round each device is counted at most once, and the weights of a round add up to 1;
* as long as all updates have arrived in all rounds, each round is that of the undisturbed run to
  the last digit, and so are the updates; if they have to the end, the final model is, bit for bit.

The exit status is the number of violations. The aim is 0.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shlex
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import paho.mqtt.client as mqtt
from msgspec import Struct
from paho.mqtt.enums import CallbackAPIVersion

from fimi.messaging import tls
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import find_mosquitto
from fimi.messaging.credentials.folder import FleetFolder
from fimi.messaging.credentials.settings import KEPT, OWN_LINES
from fimi.testbed.chaos.faults import AnyFault, Cut, Freeze, HalfOpen, Kill, Messages, Stop
from fimi.testbed.chaos.line import LinkShape
from fimi.testbed.chaos.runner import Chaos, Incident
from fimi.testbed.chaos.script import ProcessPart, ProxyPart, Script

FLEET = "chaos"
SPARE = "spare"
"""A device that is not there, whose certificate is replaced."""
PATIENCE_S = 600.0
"""How long a run may go without storing a round, s."""


class Setting(Struct, frozen=True, kw_only=True):
    """What is run."""

    rounds: int
    devices: int = 3
    strategy: str = "tfl"
    seed: int = 7
    per_minute: float = 1.0
    options: tuple[str, ...] = ()
    faults: tuple[AnyFault, ...] = ()
    """In place of random ones."""
    link: LinkShape = LinkShape()
    """Between the devices and the broker, each way."""
    near: int = 0
    """How many devices are not behind that link: the first ones."""
    fleet_folder: bool = False
    """Whether the broker is that of a fleet's folder, with credentials for everybody."""


class Acknowledged:
    """Listens at the broker to what the coordinator acknowledges.

    Args:
        broker: with the right to hear everything.

    Attributes:
        heard: rounds and devices whose update the coordinator need not be told of any more.
        verdicts: by round and device, whether the device was told that its update is in the model.
        offered: by round and device, the digests of all updates that were offered.
    """

    def __init__(self, broker: BrokerAddress) -> None:
        self.heard: set[tuple[int, str]] = set()
        self.verdicts: dict[tuple[int, str], bool] = {}
        self.offered: dict[tuple[int, str], set[str]] = {}
        self._said: dict[tuple[str, str], dict[int, int]] = {}
        client = mqtt.Client(CallbackAPIVersion.VERSION2)
        client.reconnect_delay_set(1, 1)
        client.on_connect = lambda c, *_: c.subscribe(f"fimi/v1/{FLEET}/#", qos=1)
        client.on_message = lambda _c, _d, message: self._heard(message.topic, message.payload)
        if broker.tls:
            client.tls_set_context(tls.context(broker))
        if broker.username:
            client.username_pw_set(broker.username, broker.password)
        client.connect_async(broker.host, broker.port)
        client.loop_start()
        self._client = client

    def close(self) -> None:
        """Stop listening."""
        self._client.disconnect()
        self._client.loop_stop()

    def yes(self) -> set[tuple[int, str]]:
        """Rounds and devices whose update was acknowledged, as far as the listener can tell."""
        told = {place for place, accepted in self.verdicts.items() if accepted}
        return told | (self.heard & self.verdicts.keys() - self.no())

    def no(self) -> set[tuple[int, str]]:
        """Those whose device was told that it is not in the model."""
        return {place for place, accepted in self.verdicts.items() if not accepted}

    def _heard(self, topic: str, payload: bytes) -> None:
        *_, sender, recipient, kind = topic.split("/")
        if kind not in ("reported", "desired") or not payload:
            return
        document = json.loads(payload)
        if kind == "reported":
            for fact in document.get("facts", ()):
                body = fact["body"]
                if body["type"] == "update-ready":
                    place = body["round"], sender
                    self.offered.setdefault(place, set()).add(body["update"]["digest"])
                    said = self._said.setdefault((sender, document["boot_id"]), {})
                    said[fact["number"]] = body["round"]
            return
        if closed := document.get("closed"):
            self.verdicts[closed["round"], recipient] = closed["accepted"]
        if (heard := document.get("heard")) and heard.get("fact"):
            said = self._said.get((recipient, heard["boot_id"]), {})
            self.heard |= {(said[n], recipient) for n in said if n <= heard["fact"]}


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in socks]


def fleet_of(folder: Path, setting: Setting) -> FleetFolder | None:
    """The fleet's folder of a run, made if need be; ``None`` for a broker without one."""
    if not setting.fleet_folder:
        return None
    path = folder / "fleet"
    if path.exists():
        return FleetFolder.open(path)
    fleet = FleetFolder.begin(
        path, fleet=FLEET, hosts=["127.0.0.1"], port=free_ports(1)[0], bind="127.0.0.1"
    )
    for name in (*_devices(setting), SPARE):
        fleet.enroll(name)
    (path / OWN_LINES / "pid.conf").write_text(f"pid_file {path / KEPT / 'pid'}\n")
    return fleet


def _devices(setting: Setting) -> list[str]:
    return [f"device-{number:02d}" for number in range(1, setting.devices + 1)]


def _broker(folder: Path, port: int, fleet: FleetFolder | None) -> dict[str, ProcessPart]:
    """The processes of the broker."""
    mosquitto = find_mosquitto()
    if mosquitto is None:
        sys.exit("this needs mosquitto: apt install mosquitto")
    if fleet is not None:
        command = (sys.executable, "-m", "fimi.testbed.cli", "broker", "--config", str(fleet.path))
        return {
            "broker": ProcessPart(command=command, output=str(folder / "broker.log")),
            "mosquitto": ProcessPart(pid_file=str(fleet.path / KEPT / "pid")),
        }
    user = "user root\n" if os.geteuid() == 0 else ""
    (folder / "mosquitto.conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n{user}"
        "max_queued_messages 2000\nset_tcp_nodelay true\nlog_dest none\n"
    )
    return {"broker": ProcessPart(command=(mosquitto, "-c", str(folder / "mosquitto.conf")))}


def script(
    folder: Path, setting: Setting, port: int, fleet: FleetFolder | None = None, *, faults: bool
) -> Script:
    """The processes of a federation, and what happens to them."""
    processes = _broker(folder, port, fleet)
    fimi = f"{shlex.quote(sys.executable)} -m fimi.testbed.cli"
    store = folder / "runs" / "it"
    begin = (
        f"{fimi} coordinator run --name it --directory {folder}/runs -q --devices "
        f"{setting.devices} --rounds {setting.rounds} --strategy {setting.strategy} "
        f"--seed {setting.seed} --set fleet.name={FLEET} {shlex.join(setting.options)}"
    )
    # one that was killed before it had stored anything begins again
    coordinator = (
        f"if [ -e {store}/run.sqlite ]; then {fimi} coordinator run -q --resume {store}; code=$?; "
        f"[ $code -ne 2 ] && exit $code; fi; exec {begin}"
    )

    def bundle(name: str) -> str:
        return "" if fleet is None else str(fleet.bundle(name))

    processes["coordinator"] = ProcessPart(
        command=("sh", "-c", coordinator),
        through="core",
        bundle=bundle("coordinator"),
        output=str(folder / "coordinator.log"),
    )
    for number, name in enumerate(_devices(setting), 1):
        processes[name] = ProcessPart(
            command=f"{fimi} agent run --id {name} --fleet {FLEET} --cache {folder}/{name}",
            through="wifi" if number > setting.near else "near",
            bundle=bundle(name),
            output=str(folder / f"{name}.log"),
        )
    if setting.strategy != "tfl":
        processes["generator"] = ProcessPart(
            command=f"{fimi} generator run --set fleet.name={FLEET} --set "
            f"generator.pool={folder}/pool",
            through="core",
            bundle=bundle("generator"),
            output=str(folder / "generator.log"),
        )
    happens: tuple[AnyFault, ...] = ()
    if faults:
        encrypted = fleet is not None
        drawn = tuple(_faults(processes, setting.per_minute, encrypted=encrypted))
        happens = setting.faults or drawn
    if faults and fleet is not None and setting.per_minute > 0.0:
        again = (
            f"while sleep {60.0 / setting.per_minute:g}; do "
            f"{fimi} fleet rotate {SPARE} --folder {fleet.path}; done"
        )
        processes["rotations"] = ProcessPart(
            command=("sh", "-c", again), output=str(folder / "rotations.log")
        )
    place = f"127.0.0.1:{port}"
    return Script(
        seed=setting.seed,
        proxy={
            "wifi": ProxyPart(broker=place, up=setting.link, down=setting.link),
            "near": ProxyPart(broker=place),
            "core": ProxyPart(broker=place),
        },
        process=processes,
        fault=happens,
    )


def _faults(
    processes: dict[str, ProcessPart], rate: float, *, encrypted: bool
) -> Iterator[AnyFault]:
    for proxy in () if encrypted else ("wifi", "core"):
        share = 0.1 if proxy == "wifi" else 0.03
        yield Messages(proxy=proxy, at_s=0.0, duplicate=share, reorder=share)
    yield Cut(proxy="wifi", per_minute=6 * rate, for_s=(0.0, 1.0))
    yield Cut(proxy="core", per_minute=2 * rate, for_s=(0.0, 0.5), how="close")
    yield HalfOpen(proxy="wifi", per_minute=rate, for_s=(15.0, 40.0))
    yield HalfOpen(proxy="wifi", per_minute=rate, for_s=(15.0, 40.0), way="up")
    yield HalfOpen(proxy="core", per_minute=rate / 2, for_s=(15.0, 40.0), way="down")
    yield Freeze(proxy="wifi", per_minute=rate, for_s=(0.2, 4.0))
    for name, part in processes.items():
        lasts = (0.1, 2.0) if part.words else None  # its own command starts that one again
        yield Kill(process=name, per_minute=rate / 2, for_s=lasts, from_s=5.0)
        if name not in ("broker", "mosquitto"):
            yield Stop(process=name, per_minute=rate / 2, for_s=(0.1, 4.0), from_s=5.0)


def rows(folder: Path, query: str) -> list[tuple]:
    """What the run store has; nothing while there is none."""
    try:
        with closing(sqlite3.connect(f"file:{folder}/runs/it/run.sqlite?mode=ro", uri=True)) as db:
            return db.execute(query).fetchall()
    except sqlite3.Error:
        return []


def federation(
    folder: Path, setting: Setting, *, faults: bool, told=lambda incident: None
) -> tuple[float, Acknowledged]:
    """Run a federation to its end; its wall time, s, and what was acknowledged.

    Raises:
        RuntimeError: it does not come to its end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fleet = fleet_of(folder, setting)
    if fleet is None:
        address = BrokerAddress(host="127.0.0.1", port=free_ports(1)[0])
    else:
        address = fleet.keeper()
    acknowledged = Acknowledged(address)
    began_s = last_s = time.monotonic()
    seen = -1

    def over() -> bool:
        nonlocal seen, last_s
        stored = rows(folder, "SELECT count(*) FROM round")
        if stored and stored[0][0] != seen:
            seen, last_s = stored[0][0], time.monotonic()
        if time.monotonic() - last_s > PATIENCE_S:
            raise RuntimeError(f"no round for {PATIENCE_S:g} s after {seen}; see {folder}")
        if rows(folder, "SELECT 1 FROM run WHERE status = 'completed'"):
            return not coordinator.alive
        if coordinator.code in (1, 2, 4):  # an error of ours, wrong options, no plan
            said = (folder / "coordinator.log").read_text(errors="replace").splitlines()
            raise RuntimeError(f"the coordinator ended with {coordinator.code}: {said[-3:]}")
        for each in chaos.targets.values():  # what gave up is started again, as a system does
            if each.starts and each.code not in (None, -9):
                each.start()
        return False

    plan = script(folder, setting, address.port, fleet, faults=faults)
    url = address.url() if fleet is None else ""  # else each process has its bundle
    with Chaos(plan, broker=url, log=folder / "faults.jsonl", told=told) as chaos:
        coordinator = chaos.targets["coordinator"]
        try:
            chaos.run(over)
        finally:
            acknowledged.close()
    return time.monotonic() - began_s, acknowledged


def violations(
    calm: tuple[Path, Acknowledged], wild: tuple[Path, Acknowledged], devices: int
) -> list[str]:
    """What is wrong with a disturbed run, in sentences; a run is its folder and what was heard."""
    wrong, listener = [], wild[1]
    counted = rows(
        wild[0], "SELECT round, device, status, share FROM device_round ORDER BY round, device"
    )
    accepted = {(number, device) for number, device, status, _ in counted if status == "accepted"}
    for number, device in sorted(listener.yes() - accepted):
        wrong.append(f"round {number}: the update of {device} was acknowledged, and is lost")
    for number, device in sorted(listener.no() & accepted):
        wrong.append(f"round {number}: {device} was told that its update is lost, and it counts")
    if len(counted) != len({each[:2] for each in counted}):
        wrong.append("a device is counted twice in a round")
    for each in sorted({number for number, *_ in counted}):
        shares = [share for number, _, _, share in counted if number == each and share is not None]
        if shares and abs(sum(shares) - 1.0) > 1e-9:
            wrong.append(f"round {each}: the weights of its updates add up to {sum(shares)}")
    query = "SELECT number, accuracy, loss FROM round ORDER BY number"
    whole = True
    for before, after in zip(rows(calm[0], query), rows(wild[0], query), strict=True):
        number = before[0]
        here = {place for place in accepted if place[0] == number}
        for place in here if whole else ():  # trained from the same model
            known, found = calm[1].offered.get(place), listener.offered.get(place)
            if known and found and found != known:
                wrong.append(f"round {number}: {place[1]} offered {found} instead of {known}")
        whole = whole and len(here) == devices
        if whole and before != after:
            wrong.append(f"round {number}: {after[1:]} instead of {before[1:]}")
    if whole and (ones := digest(calm[0])) != (others := digest(wild[0])):
        wrong.append(f"the final model is {others}, the undisturbed run's is {ones}")
    return wrong


def digest(folder: Path) -> str:
    """SHA-256 of a run's final model."""
    return hashlib.sha256((folder / "runs" / "it" / "model.safetensors").read_bytes()).hexdigest()


def lost(folder: Path) -> list[tuple[int, str, str, str]]:
    """Rows of devices whose update is in no round."""
    return rows(
        folder,
        "SELECT round, device, status, reason FROM device_round WHERE status != 'accepted'",
    )


def main() -> int:
    """Run both, and hold one against the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--devices", type=int, default=3)
    parser.add_argument("--strategy", default="tfl")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--per-minute", type=float, default=1.0)
    parser.add_argument(
        "--fleet-folder",
        action="store_true",
        help="with credentials and TLS, by 'fimi broker --config'",
    )
    parser.add_argument("--keep", type=Path, help="folder for both runs, logs and faults")
    asked = parser.parse_args()
    setting = Setting(
        rounds=asked.rounds,
        devices=asked.devices,
        strategy=asked.strategy,
        seed=asked.seed,
        per_minute=asked.per_minute,
        fleet_folder=asked.fleet_folder,
    )
    happened: dict[str, int] = {}

    def told(incident: Incident) -> None:
        if incident.phase == "begin":
            happened[incident.kind] = happened.get(incident.kind, 0) + 1
        stored = rows(place / "wild", "SELECT count(*) FROM round")
        print(
            f"{incident.at_s:8.1f} s  round {stored[0][0] if stored else 0:3d}  "
            f"{incident.phase:7} {incident.kind} {incident.target}",
            flush=True,
        )

    with contextlib.ExitStack() as stack:
        if asked.keep is None:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="fimi-chaos-rounds-"))
            place = Path(made)
        else:
            place = asked.keep.absolute()
        calm_s, calm = federation(place / "calm", setting, faults=False)
        print(f"undisturbed: {asked.rounds} rounds in {calm_s:.0f} s", flush=True)
        wild_s, heard = federation(place / "wild", setting, faults=True, told=told)
        wrong = violations((place / "calm", calm), (place / "wild", heard), asked.devices)
        left = lost(place / "wild")
    updates = asked.rounds * asked.devices
    print(f"disturbed:   {asked.rounds} rounds in {wild_s:.0f} s")
    print("faults:      " + ", ".join(f"{count} {kind}" for kind, count in happened.items()))
    print(f"updates:     {updates - len(left)} of {updates} counted; the others:")
    for number, device, status, reason in left:
        print(f"             round {number}, {device}: {status}; {reason}")
    print(f"acknowledged, as the listener saw: {len(heard.yes())}")
    for each in wrong:
        print(f"VIOLATION    {each}")
    print(f"{len(wrong)} violations, 0 are aimed at")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
