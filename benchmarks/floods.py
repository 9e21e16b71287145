"""What one member of a fleet can do to a run by flooding it with valid and invalid messages.

    python benchmarks/floods.py [--flood NAME …] [--per-second 2000] [--rounds 4] [--keep FOLDER]

Real processes: the broker of a fleet (``fimi fleet init``: TLS, access rules), a coordinator, and
agents of emulated boards. One more member of the fleet, *rogue*, is no agent: it writes, with its
own certificate, what the rules let it write, as often as ``--per-second`` says (0: as it can),
from the moment that the coordinator is there. What it can hear it uses: digests of models, epochs.

For each flood the table shows whether the run came to its end, its time, the coordinator's peak
memory and processor time, and how many lines of its log name the rogue. ``none`` is the run without
a flood, to compare with.
"""

from __future__ import annotations

import argparse
import itertools
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil

from fimi.learning.data.contract import PROTOCOL
from fimi.messaging import topics
from fimi.messaging.bundle import Bundle
from fimi.messaging.link import Link
from fimi.messaging.messages.documents import Reported
from fimi.messaging.messages.peers import DeviceState, Telemetry
from fimi.messaging.topics import COORDINATOR, Kind
from fimi.messaging.transfers.wire import (
    Chunk,
    Done,
    Noted,
    Want,
    chunk_check,
    encode_message,
    encode_transfer,
)

FLEET = "floods"
ROGUE = "rogue"
CLI = (sys.executable, "-m", "fimi.testbed.cli")
LONGEST_S = 300.0


class Seen:
    """What the rogue hears: digests of payloads that are sent to many."""

    def __init__(self) -> None:
        self.digests: list[str] = []

    def hear(self, topic: str, _payload: bytes, _retained: bool) -> None:
        """Note a payload."""
        place = topics.parse(topic)
        if place is not None and place.kind not in self.digests:
            self.digests.append(place.kind)

    @property
    def digest(self) -> str:
        """The latest one, or one that nobody serves."""
        return self.digests[-1] if self.digests else "ab" * 32


Flood = Callable[[Seen], Iterator[tuple[Kind, bytes]]]


def _state(number: int, **fields: object) -> bytes:
    state = DeviceState(
        peer=ROGUE, role="device", status="online", boot_id="b", protocol=PROTOCOL, session=number
    )
    return encode_message(
        msgspec.structs.replace(state, **fields), sender=ROGUE, recipient=COORDINATOR
    )


def _reported(number: int, **fields: object) -> bytes:
    report = Reported(
        run="floods",
        device=ROGUE,
        instance="5" * 16,
        boot_id="b",
        number=number,
        epoch=1,
        heard=0,
        stage="idle",
    )
    return encode_message(
        msgspec.structs.replace(report, **fields), sender=ROGUE, recipient=COORDINATOR
    )


def _telemetry(number: int) -> bytes:
    said = Telemetry(device=ROGUE, boot_id="b", number=number, unix_s=time.time(), stage="idle")
    return encode_message(said, sender=ROGUE, recipient=COORDINATOR)


def _want(digest: str, *runs: tuple[int, int], shared: bool = False) -> bytes:
    return encode_transfer(Want(digest=digest, runs=runs, chunk_bytes=1 << 20, shared=shared))


def _chunk(digest: str, start: int, size_bytes: int) -> bytes:
    data = bytes(size_bytes)
    check = chunk_check(start, data)
    return encode_transfer(Chunk(digest=digest, start=start, check=check, data=memoryview(data)))


def half_bad(_: Seen) -> Iterator[tuple[Kind, bytes]]:
    """51 good messages for 49 bad ones."""
    for number in itertools.count(1):
        yield "reported", _reported(number)
        yield "message", b"{" + bytes(20)
        yield from [("reported", _reported(number))] if number % 25 == 0 else ()


FLOODS: dict[str, Flood] = {
    "half bad": half_bad,
    "rubbish": lambda _: (("reported", random.randbytes(2000)) for _ in itertools.count()),
    "chunks unasked": lambda seen: (
        ("chunk", _chunk(seen.digest, n % 1000, 16 << 10)) for n in itertools.count()
    ),
    "large chunks": lambda seen: (
        ("chunk", _chunk(seen.digest, 0, 1 << 20)) for _ in itertools.count()
    ),
    "noted": lambda seen: (
        ("chunk", encode_transfer(Noted(digest=seen.digest))) for _ in itertools.count()
    ),
    "want unserved": lambda _: (("want", _want(f"{n:064x}", (0, 1))) for n in itertools.count()),
    "want served": lambda seen: (("want", _want(seen.digest, (0, 64))) for _ in itertools.count()),
    "want beyond": lambda seen: (
        ("want", _want(seen.digest, (1 << 40, 1))) for _ in itertools.count()
    ),
    "join and leave": lambda seen: (
        (
            "want",
            _want(seen.digest, shared=True) if n % 2 else encode_transfer(Done(digest=seen.digest)),
        )
        for n in itertools.count()
    ),
    "done": lambda _: (
        ("want", encode_transfer(Done(digest=f"{n:064x}"))) for n in itertools.count()
    ),
    "telemetry": lambda _: (("telemetry", _telemetry(n)) for n in itertools.count(1)),
    "state": lambda _: (("state", _state(1)) for _ in itertools.count()),
    "state, new starts": lambda _: (
        ("state", _state(1, boot_id=f"{n}")) for n in itertools.count()
    ),
    "state, new connections": lambda _: (("state", _state(n)) for n in itertools.count()),
    "state, on and off": lambda _: (
        ("state", _state(n, status="online" if n % 2 else "offline", goodbye=not n % 2))
        for n in itertools.count()
    ),
    "reported": lambda _: (("reported", _reported(n)) for n in itertools.count(1)),
    "reported, large": lambda _: (
        ("reported", _reported(n, waits_for="x" * 900_000)) for n in itertools.count(1)
    ),
    "reported, epochs": lambda _: (
        ("reported", _reported(1, epoch=n, heard=1)) for n in itertools.count(2)
    ),
    "reported, meters": lambda _: (
        ("reported", _reported(n, meter=f"no reading {n}")) for n in itertools.count(1)
    ),
    "reported, starts": lambda _: (
        ("reported", _reported(1, boot_id=f"{n}")) for n in itertools.count(1)
    ),
    "answers": lambda _: (("answer", b'{"id":"%016x"}' % n) for n in itertools.count()),
    "status": lambda _: (("status", bytes(1000)) for _ in itertools.count()),
    "checks": lambda _: (("check", bytes(1000)) for _ in itertools.count()),
}


def flood(bundle: Path, name: str, per_second: float) -> None:
    """Write, until the process is ended."""
    address = Bundle.read(bundle).address()
    seen = Seen()
    base = f"fimi/v1/{FLEET}"
    link = Link(
        address,
        address.client_id("floods"),
        clean_session=True,
        subscriptions=(f"{base}/{COORDINATOR}/shared/#",),
        on_message=seen.hear,
    )
    link.connect(10.0)
    began_s = time.monotonic()
    for number, (kind, payload) in enumerate(FLOODS[name](seen), 1):
        info = link.publish(topics.topic(FLEET, ROGUE, COORDINATOR, kind), payload, qos=0)
        if number % 20 == 0:
            try:
                info.wait_for_publish(5.0)
            except (RuntimeError, ValueError):
                time.sleep(0.1)
            ahead_s = number / per_second - (time.monotonic() - began_s) if per_second else 0.0
            time.sleep(max(0.0, ahead_s))
            if number % 2000 == 0:
                print(number, round(time.monotonic() - began_s, 2), flush=True)


def _run(*command: str, cwd: Path) -> None:
    subprocess.run((*CLI, *command), cwd=cwd, check=True, capture_output=True)


def _start(log: Path, *command: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def federation(folder: Path, name: str, args: argparse.Namespace) -> str:
    """One run, with one flood; a line of the table."""
    folder.mkdir(parents=True)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    devices = [f"device-{n:02d}" for n in range(1, args.devices + 1)]
    _run(
        *("fleet", "init", "fleet", "--fleet", FLEET, "--host", "127.0.0.1", "--port", str(port)),
        *("--bind", "127.0.0.1"),
        cwd=folder,
    )
    _run("fleet", "enroll", *devices, ROGUE, "--folder", "fleet", cwd=folder)
    bundles = folder / "fleet" / "bundles"
    running: list[subprocess.Popen[bytes]] = []
    try:
        running.append(
            _start(folder / "broker.log", *CLI, "broker", "--config", str(folder / "fleet"))
        )
        _wait_for(port)
        for each in devices:
            running.append(
                _start(
                    *(folder / f"{each}.log", *CLI, "agent", "run"),
                    *("--bundle", str(bundles / f"{each}.bundle"), "--cache", str(folder / each)),
                )
            )
        coordinator = _start(
            *(folder / "coordinator.log", *CLI, "coordinator", "run", "--name", "it"),
            *("--directory", str(folder / "runs"), "--strategy", "tfl"),
            *("--rounds", str(args.rounds), "--bundle", str(bundles / "coordinator.bundle")),
            *("--set", f"fleet.name={FLEET}", "--devices", str(args.devices)),
            *(
                "--set",
                f"fleet.members=[{', '.join(repr(each) for each in devices)}]".replace("'", '"'),
            ),
        )
        running.append(coordinator)
        began_s = time.monotonic()
        if name != "none":
            time.sleep(args.after)
            running.append(
                _start(
                    *(folder / "rogue.log", sys.executable, __file__, "--rogue", name),
                    *("--bundle", str(bundles / f"{ROGUE}.bundle")),
                    *("--per-second", str(args.per_second)),
                )
            )
        peak, cpu_s = _watch(coordinator, began_s)
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
    took_s = time.monotonic() - began_s
    lines = (folder / "coordinator.log").read_text(errors="replace").splitlines()
    named = [line for line in lines if ROGUE in line]
    sent = (folder / "rogue.log").read_text().split() if name != "none" else []
    rate = f"{int(sent[-2]) / float(sent[-1]):.0f}/s" if len(sent) > 1 else "-"
    return (
        f"{name:24} rc {coordinator.returncode!s:5} {took_s:6.1f} s  peak {peak / 1e6:6.1f} MB  "
        f"cpu {cpu_s:5.1f} s ({100 * cpu_s / took_s:3.0f} %)  {len(lines):5} lines, "
        f"{len(named)} of the rogue, sent {rate}"
    )


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("the broker does not start")


def _watch(process: subprocess.Popen[bytes], began_s: float) -> tuple[int, float]:
    """Peak memory, bytes, and processor time, s, of a process until it ends."""
    peak, cpu_s = 0, 0.0
    looked_at = psutil.Process(process.pid)
    while process.poll() is None and time.monotonic() - began_s < LONGEST_S:
        try:
            peak = max(peak, looked_at.memory_info().rss)
            times = looked_at.cpu_times()
            cpu_s = times.user + times.system
        except psutil.Error:
            break
        time.sleep(0.1)
    return peak, cpu_s


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--flood", nargs="*", choices=("none", *FLOODS), default=["none", *FLOODS])
    parser.add_argument("--per-second", type=float, default=2000.0)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--devices", type=int, default=3)  # so many share a stream
    parser.add_argument("--after", type=float, default=3.0, help="when the flood begins, s")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--rogue", help=argparse.SUPPRESS)
    parser.add_argument("--bundle", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rogue:
        flood(args.bundle, args.rogue, args.per_second)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        for name in args.flood:
            print(
                federation(folder / name.replace(" ", "-").replace(",", ""), name, args), flush=True
            )


if __name__ == "__main__":
    main()
