"""What an edge agent takes of its device: disk, memory, and time until it is ready.

    python benchmarks/agent_footprint.py [--starts 5] [--rounds 3]

Installs the base package, nothing else, into a fresh virtual environment, and measures there:

* disk: sizes of all files that the install brought, dependencies and byte code included, without
  pip and setuptools, which a virtual environment may bring of its own;
* ready: from the start of ``fimi agent run`` until it is online at a real broker;
* memory: of that process while it trains the small CNN on ONNX Runtime in a whole federation:
  largest resident set (RSS), and the largest share of it that is its own (PSS), every 20 ms.

Each figure is printed with its limit and the ratio to it. Needs ``fimi-testbed[coordinator]`` here
for the broker and the coordinator, a network for pip, and Linux for /proc.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages.peers import DeviceState
from fimi.messaging.topics import COORDINATOR, device_id
from fimi.testbed.configuration import load as configuration
from fimi.testbed.processes.coordinator import coordinate
from fimi.testbed.run_folder import RunFolder

ROOT = Path(__file__).parents[1]
DISK_MB, MEMORY_MB, READY_S = 250.0, 120.0, 1.0
TOOLS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "distutils-precedence.pth")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--starts", type=int, default=5, help="starts to take the median of")
    parser.add_argument("--rounds", type=int, default=3, help="of the federation")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fimi = install(folder / "base")
        show("base install on disk, MB", disk_mb(folder / "base"), DISK_MB)
        effective = configuration.load(
            None,
            {
                "fleet.devices": (2, "benchmark"),
                "run.strategy": ("tfl", "benchmark"),
                "run.directory": (str(folder / "runs"), "benchmark"),
                "rounds.count": (given.rounds, "benchmark"),
                "training.backend": ("onnx", "benchmark"),
            },
        )
        config = effective.config
        with EmbeddedBroker() as broker:
            url = broker.address.url(with_password=True)

            def start(index: int) -> subprocess.Popen[bytes]:
                return subprocess.Popen(
                    [
                        *(fimi, "agent", "run", "--broker", url, "--id", device_id(index, 2)),
                        *("--cache", folder / "cache"),
                    ],
                    cwd=folder,
                    stdout=subprocess.DEVNULL,
                )

            peer = Peer(
                broker.address, fleet=config.fleet.name, peer=COORDINATOR, role="coordinator"
            )
            with peer:
                times = [ready_s(peer, start) for _ in range(given.starts)]
            print(f"starts, s: {', '.join(f'{t:.2f}' for t in times)}")
            show("ready after, s (median)", statistics.median(times), READY_S)

            agents = [start(index) for index in range(2)]
            over = threading.Event()
            peaks: dict[int, tuple[float, float]] = {}
            watcher = threading.Thread(target=watch, args=(agents, over, peaks))
            watcher.start()
            try:
                federation = coordinate(
                    effective,
                    broker.address,
                    run := RunFolder(config),
                    broker="benchmark",
                    view=lambda event: None,
                    cancel=threading.Event(),
                    say=print,
                )
                run.close()
            finally:
                over.set()
                watcher.join()
                for agent in agents:
                    agent.terminate()
                    agent.wait(20)
            trained = {d.backend for r in federation.rounds for d in r.devices}
            print(f"{len(federation.rounds)} rounds, trained with {', '.join(sorted(trained))}")
            show("agent while training, RSS, MB", max(r for r, _ in peaks.values()), MEMORY_MB)
            show("agent while training, PSS, MB", max(p for _, p in peaks.values()), MEMORY_MB)


def install(place: Path) -> Path:
    """A virtual environment with the base package; the path of its ``fimi``."""
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    subprocess.run([place / "bin" / "python", "-m", "pip", "install", "-q", ROOT], check=True)
    return place / "bin" / "fimi"


def disk_mb(place: Path) -> float:
    """Size of what was installed, in millions of bytes."""
    (packages,) = place.glob("lib/python*/site-packages")
    return (
        sum(
            file.stat().st_size
            for entry in packages.iterdir()
            if entry.name.split("-")[0] not in TOOLS and entry.name not in TOOLS
            for file in ([entry] if entry.is_file() else entry.rglob("*"))
            if file.is_file()
        )
        / 1e6
    )


def ready_s(peer: Peer, start: Callable[[int], subprocess.Popen[bytes]]) -> float:
    """From a start until the device is online."""
    began_s = time.monotonic()
    agent = start(0)
    try:
        while time.monotonic() - began_s < 30:
            received = peer.receive(timeout_s=0.01)
            if (
                received is not None
                and isinstance(received[1], DeviceState)
                and received[1].status == "online"
            ):
                return time.monotonic() - began_s
        raise SystemExit("it was not online within 30 s; see the agent's message above")
    finally:
        agent.terminate()
        agent.wait(20)


def watch(
    agents: list[subprocess.Popen[bytes]],
    over: threading.Event,
    peaks: dict[int, tuple[float, float]],
) -> None:
    """Note the largest RSS and PSS of each process, MB."""
    while not over.wait(0.02):
        for agent in agents:
            try:
                lines = Path(f"/proc/{agent.pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            sizes = {x[0]: int(x[1]) * 1024 / 1e6 for x in map(str.split, lines[1:])}
            rss, pss = peaks.get(agent.pid, (0.0, 0.0))
            peaks[agent.pid] = max(rss, sizes["Rss:"]), max(pss, sizes["Pss:"])


def show(what: str, value: float, limit: float) -> None:
    """One line: a figure, its limit and the ratio."""
    print(f"{what:32} {value:8.2f}   limit {limit:6.0f}   ratio {value / limit:.2f}", flush=True)


if __name__ == "__main__":
    main()
