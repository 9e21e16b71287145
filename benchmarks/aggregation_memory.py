"""What a round takes of the coordinator's memory, with 40 devices and with 200.

A coordinator's side in a process of its own, over a real broker: it serves a model of 14 MB,
collects an update of 14 MB of every device (as a round does: into files, each checked and measured
when it has come), combines them by a rule, and writes the new model to the disk. Devices are light:
they pull the model and send one update each, from a few processes.

Printed is the largest memory of the coordinator's process (VmHWM, which counts everything that is
resident) above its base, before there is any model, over the size of the model, after each step.
The aim is less than 4, alike for few and for many devices.

    python benchmarks/aggregation_memory.py [--devices 40 200] [--megabytes 14] [--rule mean]
        [--processes 2] [--broker auto]
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice, pairwise
from pathlib import Path

import msgspec
import numpy as np

from fimi.coordinator.update_store import Updates, UpdateStore
from fimi.learning.training import memory, tensors
from fimi.learning.training.aggregation import is_finite
from fimi.learning.training.robust import AggregationRule
from fimi.learning.training.tensors import Parameters
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages.basis import Offer
from fimi.messaging.topics import COORDINATOR
from fimi.messaging.transfers.collecting import Collector

RULES = ("mean", "median", "trimmed-mean", "krum")
BROKER = "FIMI_BROKER"
"""Variable of the environment with the broker's address: it holds a password."""
AT_ONCE = 8
"""Devices of a process that pull the model at the same time; all offer their updates at once."""
LONG_S = 3600.0


def model_of(megabytes: float) -> dict[str, np.ndarray]:
    """A network's tensors: two thirds of the numbers in one of them, as in VGG-9."""
    count = int(megabytes * 1e6 / 4)
    sizes = {"conv.weight": count // 3, "fc.weight": 2 * count // 3, "fc.bias": 128}
    drawn = np.random.default_rng(0)
    return {n: drawn.standard_normal(size, dtype=np.float32) for n, size in sizes.items()}


def memory_bytes(what: str) -> int:
    """VmRSS or VmHWM of this process."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{what}:"):
            return 1024 * int(line.split()[1])
    raise SystemExit(f"/proc/self/status has no {what}; this benchmark needs Linux")


def said() -> Iterator[Offer]:
    """Offers, one a line, on the standard input."""
    for line in sys.stdin:
        yield msgspec.json.decode(line, type=Offer)


def coordinator(fleet: str, devices: int, megabytes: float, kind: str) -> None:
    """The measured side; talks in lines of JSON."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fimi-memory-")))
        peer = stack.enter_context(
            Peer(
                BrokerAddress.parse(os.environ[BROKER]),
                fleet=fleet,
                peer=COORDINATOR,
                role="coordinator",
            )
        )
        base_bytes = memory_bytes("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM begins anew
        model = model_of(megabytes)
        size_bytes = tensors.size_bytes(model)
        steps: dict[str, float] = {}

        def note(step: str) -> None:
            steps[step] = (memory_bytes("VmHWM") - base_bytes) / size_bytes

        offer = peer.transfers.serve(tensors.dump(model), "safetensors")
        print(msgspec.json.encode(offer).decode(), flush=True)
        began_s = time.monotonic()
        spool = UpdateStore(folder)
        collect(peer, spool, model, devices)
        peer.transfers.withdraw(offer.digest)
        memory.give_back(size_bytes)
        note("collected")
        collected_s = time.monotonic() - began_s
        rule = AggregationRule(kind=kind, byzantine=max(1, devices // 10))  # type: ignore[arg-type]
        names = [name(number) for number in range(devices)]
        updates = Updates(spool, names, model)
        new = rule.combine(model, updates.slices, [100.0] * devices).model
        assert is_finite(new)
        note("combined")
        combined_s = time.monotonic() - began_s - collected_s
        with (folder / "model.safetensors").open("wb") as file:
            tensors.write(new, file)
        note("written")
        spool.close()
    told = {"base_mb": base_bytes / 1e6, "collect_s": collected_s, "combine_s": combined_s}
    print(json.dumps({**told, "steps": steps}), flush=True)


def collect(peer: Peer, spool: UpdateStore, model: Parameters, devices: int) -> None:
    """Pull all updates; each is checked and kept when it has come, as in a round."""
    limit = 2 * tensors.size_bytes(model) + 1_000_000
    kept: list[Future[None]] = []
    with ThreadPoolExecutor(1) as pool, Collector(peer.transfers) as collector:
        pulls = []
        for offer in islice(said(), devices):
            pull = collector.pull_into(spool.parts, offer, max_bytes=limit)
            pull.add_done_callback(
                lambda done, holder=offer.holder: kept.append(  # type: ignore[misc]
                    pool.submit(spool.take, holder, done.result(), model)
                )
            )
            pulls.append(pull)
        for pull in pulls:
            pull.result(LONG_S)
    for each in kept:
        each.result()


def name(number: int) -> str:
    """Id of a device."""
    return f"device-{number:03d}"


def clients(fleet: str, first: int, last: int, offered: str) -> None:
    """Devices that pull the model and send an update; their offers go to the standard output."""
    address = BrokerAddress.parse(os.environ[BROKER])
    model = msgspec.json.decode(offered, type=Offer)
    places, lock = threading.Semaphore(AT_ONCE), threading.Lock()

    def device(number: int) -> None:
        with ExitStack() as stack:
            peer = stack.enter_context(Peer(address, fleet=fleet, peer=name(number), role="device"))
            file = stack.enter_context(tempfile.TemporaryFile())
            with places:
                parameters = tensors.load(peer.transfers.fetch(model, LONG_S))
                moved = np.float32(1e-3 * (number + 1))
                tensors.write({n: t + moved for n, t in parameters.items()}, file)
                del parameters
                file.flush()
            update = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # in nobody's memory
            offer = peer.transfers.serve(memoryview(update), "safetensors")
            with lock:
                print(msgspec.json.encode(offer).decode(), flush=True)
            peer.transfers.wait_served(offer.digest, by=COORDINATOR, timeout_s=LONG_S)

    threads = [threading.Thread(target=device, args=(n,)) for n in range(first, last)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure(broker: EmbeddedBroker, devices: int, args: argparse.Namespace) -> None:
    """One coordinator with its devices; prints a line."""
    fleet = f"memory-{devices}"
    environment = {**os.environ, BROKER: broker.address.url(with_password=True)}
    own = [sys.executable, __file__, "--role"]
    spoken = subprocess.PIPE
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(
                [*own, "coordinator", fleet, str(devices), str(args.megabytes), args.rule],
                stdin=spoken,
                stdout=spoken,
                env=environment,
                text=True,
            )
        )
        assert process.stdin is not None
        assert process.stdout is not None
        offer = process.stdout.readline().strip()
        edges = np.linspace(0, devices, args.processes + 1).astype(int).tolist()
        nodes = [
            stack.enter_context(
                subprocess.Popen(
                    [*own, "clients", fleet, str(first), str(last), offer],
                    stdout=spoken,
                    env=environment,
                    text=True,
                )
            )
            for first, last in pairwise(edges)
        ]
        lock = threading.Lock()

        def pass_on(node: subprocess.Popen[str]) -> None:
            for line in node.stdout or ():
                with lock:
                    print(line, end="", file=process.stdin, flush=True)

        passing = [threading.Thread(target=pass_on, args=(node,)) for node in nodes]
        for thread in passing:
            thread.start()
        found = json.loads(process.stdout.readline())
        for thread in passing:
            thread.join()
    steps = "  ".join(f"{step} {times:.2f}" for step, times in found["steps"].items())
    print(
        f"{devices:>4} devices, {args.rule}: {steps}  x the model above a base of "
        f"{found['base_mb']:.0f} MB; collected in {found['collect_s']:.1f} s, combined in "
        f"{found['combine_s']:.1f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[40, 200])
    parser.add_argument("--megabytes", type=float, default=14.0, help="size of the model")
    parser.add_argument("--rule", choices=RULES, default="mean")
    parser.add_argument("--processes", type=int, default=2, help="processes of devices")
    parser.add_argument("--broker", choices=("auto", "mosquitto", "amqtt"), default="auto")
    args = parser.parse_args()
    with EmbeddedBroker(args.broker) as broker:
        print(f"{broker.kind}; model of {args.megabytes:g} MB; aim: below 4")
        for devices in args.devices:
            measure(broker, devices, args)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--role"]:
        role, fleet, *rest = sys.argv[2:]
        if role == "coordinator":
            coordinator(fleet, int(rest[0]), float(rest[1]), rest[2])
        else:
            clients(fleet, int(rest[0]), int(rest[1]), rest[2])
    else:
        main()
