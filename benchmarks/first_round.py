"""From the command to the first round, on a fleet that is up.

    python benchmarks/first_round.py [--agents 2 50] [--runs 2] [-- --set data.shares=shipped ...]

A Mosquitto, a generator node and emulated devices (real agents, in as many processes as in a dry
run) are started and left alone until all of them are online and idle. Then ``fimi coordinator run``
is started, once more for each further run on the same agents, the last time after the one before
was killed (SIGKILL) in its first round. What is behind ``--`` are options of coordinator and
generator node.

The time goes from the start of the command's process until the run store says that round 1 has
begun. The aim is that it takes at most 10 s besides planning and synthesis. It is printed with its
ratio to these 10 s, what it was made of (the coordinator's stages; the rest of it before the first
stage is the interpreter, imports, the data and the contract), and the processor time that the
coordinator used. Where others use the machine everything takes longer: hence its load, and how long
the coordinator's main thread could have gone on and had no core (Linux; what agents wait for comes
on top). The imports alone are timed as well, in a process of their own. The exit status is the
number of runs that took longer.
"""

from __future__ import annotations

import argparse
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path

import psutil
from msgspec import Struct

from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages.peers import DeviceState
from fimi.messaging.topics import COORDINATOR, device_id
from fimi.testbed.processes.nursery import Nursery
from fimi.testbed.processes.orders import FleetOrders

AIM_S = 10.0
BESIDES = ("plan", "synthesis")
FLEET = "desk"
PATIENCE_S = 600.0
SETTLE_S = 3.0
"""How long agents are left alone before a run, s."""
STAGE = re.compile(r"^(\S+) DEBUG +coordinator +stage (\w+) took (\S+) s", re.MULTILINE)
LIBRARIES = "import fimi.testbed.cli, fimi.testbed.processes.coordinator"
FIMI = (sys.executable, "-m", "fimi.testbed.cli")


class Start(Struct, frozen=True, kw_only=True):
    """How a run began.

    Attributes:
        seconds: from its process to its first round, s.
        stages: seconds of the coordinator's stages until then, s.
        cpu_s: processor time of the coordinator until then, s.
        queued_s: how long its main thread waited for a core until then, s.
        load: of the machine before, processes.
    """

    seconds: float
    stages: dict[str, float]
    cpu_s: float
    queued_s: float
    load: float

    @property
    def besides_s(self) -> float:
        """All but planning and synthesis, s."""
        return self.seconds - sum(self.stages.get(stage, 0.0) for stage in BESIDES)


def bring_up(agents: int, folder: Path, options: list[str], stack: ExitStack) -> dict[str, str]:
    """Start broker, generator node and agents; the environment in which a run finds them."""
    broker = stack.enter_context(EmbeddedBroker(kind="mosquitto"))
    environment = {
        **os.environ,
        "FIMI_BROKER": broker.address.url(with_password=True),
        "XDG_CACHE_HOME": str(folder / "own"),  # the first run finds no training graphs
    }
    nursery = stack.enter_context(Nursery(folder))
    names = [device_id(index, agents) for index in range(agents)]
    processes = min(agents, os.cpu_count() or 1, 4)
    for number in range(processes):
        nursery.start(
            f"devices-{number + 1}",
            "fimi.testbed.processes.emulated_fleet",
            FleetOrders(
                broker=broker.address,
                fleet=FLEET,
                devices=tuple(names[number::processes]),
                cache=str(folder / "cache"),
            ),
        )
    generator = subprocess.Popen(
        [*FIMI, "-q", "generator", "run", *options], cwd=folder, env=environment
    )
    stack.callback(generator.wait)
    stack.callback(generator.terminate)
    await_online({*names, "generator"}, broker.address)
    return environment


def await_online(wanted: set[str], address: BrokerAddress) -> None:
    """Wait until all of these peers are online."""
    limit_s = time.monotonic() + PATIENCE_S
    with Peer(address, fleet=FLEET, peer=COORDINATOR, role="coordinator") as desk:
        while wanted:
            received = desk.receive(timeout_s=0.5)
            if received and isinstance(received[1], DeviceState):
                wanted.discard(received[0])
            if time.monotonic() > limit_s:
                raise SystemExit(f"not online within {PATIENCE_S:g} s: {', '.join(sorted(wanted))}")


def begin(
    name: str, folder: Path, environment: dict[str, str], options: list[str], *, kill: bool
) -> Start:
    """Start a run of one round; wait for its end, or kill it when the round has begun."""
    time.sleep(SETTLE_S)
    load, log = os.getloadavg()[0], folder / f"{name}.log"
    command = [*FIMI, "-q", "--log-file", str(log), "coordinator", "run"]
    command += ["--name", name, "--rounds", "1", *options]
    began_at, used_s, queued_s = time.time(), 0.0, 0.0
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    watched = psutil.Process(process.pid)
    while (started_at := first_round_at(folder / "runs" / name / "run.sqlite")) is None:
        if process.poll() is not None or time.time() - began_at > PATIENCE_S:
            raise SystemExit(f"{name}: no round has begun; see above")
        used_s = sum(watched.cpu_times()[:2])
        queued_s = float(Path(f"/proc/{process.pid}/schedstat").read_text().split()[1]) / 1e9
        time.sleep(0.02)
    if kill:
        process.kill()
    process.wait(PATIENCE_S)
    stages = {
        stage: float(seconds)
        for at, stage, seconds in STAGE.findall(log.read_text("utf-8"))
        if datetime.fromisoformat(at).timestamp() <= started_at
    }
    return Start(
        seconds=started_at - began_at, stages=stages, cpu_s=used_s, queued_s=queued_s, load=load
    )


def first_round_at(store: Path) -> float | None:
    """When round 1 began, by the clock on the wall, s; ``None`` before."""
    try:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
            found = db.execute("SELECT min(at) FROM event WHERE event = 'round-started'").fetchone()
    except sqlite3.Error:
        return None
    return None if found[0] is None else float(found[0])


def imports_s() -> float:
    """How long a coordinator's imports take in a process of their own, s."""
    began_s = time.monotonic()
    subprocess.run([sys.executable, "-c", LIBRARIES], check=True)
    return time.monotonic() - began_s


def main() -> int:
    """Measure and print."""
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--agents", type=int, nargs="+", default=[2, 50])
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args(sys.argv[1:cut])
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    late = 0
    print(f"{os.cpu_count()} cores; imports alone: {imports_s():.2f} s")
    for agents in asked.agents:
        options = ["--devices", str(agents), "--set", f"fleet.name={FLEET}", *sys.argv[cut + 1 :]]
        with tempfile.TemporaryDirectory(prefix="fimi-start-") as name, ExitStack() as stack:
            folder = Path(name)
            environment = bring_up(agents, folder, options, stack)
            for number in range(1, asked.runs + 1):
                kill = number == asked.runs - 1
                start = begin(f"run-{number}", folder, environment, options, kill=kill)
                late += start.besides_s > AIM_S
                print(in_words(f"{agents} agents, run {number}", start), flush=True)
    return late


def in_words(what: str, start: Start) -> str:
    """A line with the time, and one with what it was made of."""
    rest_s = start.seconds - sum(start.stages.values())
    parts = {"before the first stage, and the rest": rest_s, **start.stages}
    made_of = ", ".join(f"{name} {seconds:.2f}" for name, seconds in parts.items())
    return (
        f"{what}: first round after {start.seconds:.2f} s; besides planning and synthesis "
        f"{start.besides_s:.2f} s, {start.besides_s / AIM_S:.2f} of the {AIM_S:g} s aimed at; "
        f"coordinator {start.cpu_s:.1f} s on cores and {start.queued_s:.1f} s waiting for one; "
        f"load {start.load:.1f} before\n"
        f"    {made_of}"
    )


if __name__ == "__main__":
    sys.exit(main())
