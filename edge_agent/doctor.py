"""Is this machine ready to be a device? One check, one line, and the command that mends it.

:func:`examine` runs every check; none of them changes anything. A check is ``ok``, something that
is simply ``absent``, a ``warning`` (the agent runs, with less: a declared power instead of a meter,
no frequency cap) or a ``failure`` (it cannot run, or its joules would be missing).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import psutil
from msgspec import Struct

from energy.clock import MonotonicClock
from energy.control.cpufreq import CEILING, FLOOR, CpuFrequency
from energy.control.journal import Journal, default_folder
from energy.control.programs import NOT_FOUND, Run, run_program
from energy.host_profile import HostProfile
from energy.meters import MeterUnavailableError
from energy.meters.detect import Found, MeterSettings, detect, open_recorder
from energy.meters.rapl import SIDE_CHANNEL, tmpfiles_rule
from energy.meters.vcgencmd import find_firmware
from energy.observe.cycles import Cycles
from energy.observe.throttling import PI_BITS, Throttling
from energy.sysfs import read_signed, read_text
from messaging.address import BrokerAddress
from messaging.errors import MessagingError
from messaging.link import probe

LEAST_MEMORY_BYTES = 150 << 20
LEAST_DISK_BYTES = 200 << 20
HOT_C = 80.0

_WHEELS = ("numpy", "onnxruntime", "paho-mqtt", "psutil", "msgspec", "safetensors", "zstandard")
_PACING_OPTION = 47  # SO_MAX_PACING_RATE


class Check(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One line of the doctor.

    Attributes:
        name: what was looked at.
        status: ``ok``, ``absent``, ``warning`` or ``failure``.
        found: what there is, or what is wrong.
        fix: the command or rule that mends it; empty where there is nothing to mend.
    """

    name: str
    status: Literal["ok", "absent", "warning", "failure"]
    found: str
    fix: str = ""


class Patient(Struct, frozen=True, kw_only=True):
    """What is examined.

    Attributes:
        root: of the file system.
        profile: of the board, if there is one already.
        broker: where the agent shall connect, if known.
        state: folder of the journal; this user's if left out.
        run: runs programs.
    """

    root: Path = Path("/")
    profile: HostProfile | None = None
    broker: BrokerAddress | None = None
    state: Path | None = None
    run: Run = run_program


def examine(patient: Patient) -> tuple[Check, ...]:
    """Run every check, in the order in which somebody sets a board up."""
    return tuple(check for part in _PARTS for check in part(patient))


def python(_: Patient) -> Iterator[Check]:
    """The interpreter and the libraries of an agent."""
    version = ".".join(map(str, sys.version_info[:3]))
    enough = sys.version_info >= (3, 10)
    yield Check(
        name="python",
        status="ok" if enough else "failure",
        found=f"Python {version}",
        fix="" if enough else "install Python 3.10 or newer (JetPack 6 and Raspberry Pi OS 12 do)",
    )
    found, missing = [], []
    for name in _WHEELS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    yield Check(
        name="wheels",
        status="failure" if missing else "ok",
        found=f"missing: {', '.join(missing)}" if missing else ", ".join(found),
        fix=f"python3 -m pip install {' '.join(missing)}" if missing else "",
    )


def meters(patient: Patient) -> Iterator[Check]:
    """Every meter, and the one that would be used."""
    profile, clock = patient.profile, MonotonicClock()
    settings = profile.meters() if profile else MeterSettings()
    listed = detect(settings, patient.root, clock)
    try:
        recorder = open_recorder(settings, patient.root, clock)
        chosen = recorder.describe()
        recorder.close()
        yield Check(
            name="meter",
            status="ok" if chosen.kind == "measured" else "warning",
            found=f"{chosen.source}: {chosen.kind}, scope {chosen.scope}",
            fix=""
            if chosen.kind == "measured"
            else "its joules are not measured; a meter below that can be mended gives better ones",
        )
    except MeterUnavailableError as error:
        yield Check(
            name="meter",
            status="failure",
            found="no meter can be used and no power is declared"
            if settings.meter == "auto"
            else str(error),
            fix="mend one of the meters below, or declare constant_power_w in the board's profile "
            "(fimi agent doctor --host-profile FILE checks it)",
        )
    for each in listed:
        yield _meter(each, patient.root)


def frequency(patient: Patient) -> Iterator[Check]:
    """Whether the CPU's frequency can be capped, and its clock be counted."""
    policies = CpuFrequency(patient.root, Journal(_state(patient), patient.root)).policies()
    limits = [policy / name for policy in policies for name in (CEILING, FLOOR)]
    closed = [path for path in limits if path.exists() and not os.access(path, os.W_OK)]
    if not policies:
        yield Check(
            name="frequency",
            status="warning",
            found="no cpufreq policy: a virtual machine, a container, or a kernel without a driver",
            fix="run the agent on the board itself; without it plans cannot be applied",
        )
    elif closed:
        folder = Path("/sys/devices/system/cpu/cpufreq/policy*")
        rules = "\\n".join(f"z {folder / name} 0664 root fimi -" for name in (CEILING, FLOOR))
        yield Check(
            name="frequency",
            status="warning",
            found=f"{closed[0]} cannot be written by this user",
            fix="sudo groupadd -f fimi && sudo usermod -aG fimi $USER && printf "
            f"'{rules}\\n' | sudo tee /etc/tmpfiles.d/fimi-cpufreq.conf && sudo systemd-tmpfiles "
            "--create, then log in again; or run the agent as root",
        )
    else:
        driver = read_text(policies[0] / "scaling_driver") or "unknown driver"
        governor = read_text(policies[0] / "scaling_governor") or "unknown governor"
        yield Check(
            name="frequency",
            status="ok",
            found=f"{len(policies)} cpufreq policies ({driver}, {governor}) can be capped",
        )
    try:
        Cycles().close()
        yield Check(name="cycles", status="ok", found="the processor's cycle counter can be read")
    except MeterUnavailableError as error:
        yield Check(
            name="cycles",
            status="warning",
            found=str(error).split(":")[0],
            fix="sudo sysctl kernel.perf_event_paranoid=2 (no virtual machine without such a "
            "counter will have one by that; the clock is sampled instead)",
        )
    yield _journal(patient)


def rate(patient: Patient) -> Iterator[Check]:
    """Whether the sending rate can be limited."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, _PACING_OPTION, (125_000).to_bytes(4, sys.byteorder))
            found = "the kernel paces sockets"
        except OSError:
            found = "the kernel does not pace sockets; the agent holds its chunks back itself"
    yield Check(name="rate", status="ok", found=found)
    if patient.profile is not None and patient.profile.rate_control == "tc":
        done = patient.run(["tc", "-j", "qdisc", "show"])
        allowed = os.geteuid() == 0 or "cap_net_admin" in patient.run(["capsh", "--print"]).out
        yield Check(
            name="tc",
            status="ok" if done.code == 0 and allowed else "warning",
            found="tc may be used" if done.code == 0 and allowed else done.error or "not allowed",
            fix=""
            if done.code == 0 and allowed
            else "sudo apt install iproute2"
            if done.code == NOT_FOUND
            else "run the agent as root or with AmbientCapabilities=CAP_NET_ADMIN in its unit; or "
            'rate_control = "socket-pacing"',
        )


def clock(patient: Patient) -> Iterator[Check]:
    """The clock of durations, and whether the time of day is right."""
    info = time.get_clock_info("monotonic")
    source = read_text(
        patient.root / "sys/devices/system/clocksource/clocksource0/current_clocksource"
    )
    fine = info.monotonic and info.resolution <= 1e-3
    yield Check(
        name="clock",
        status="ok" if fine else "failure",
        found=f"monotonic, {info.resolution:g} s resolution, source {source or 'unknown'}",
        fix="" if fine else "durations cannot be measured on this machine",
    )
    done = patient.run(["timedatectl", "show", "-p", "NTPSynchronized", "--value"])
    if done.code == 0 and done.out.strip() == "no":
        yield Check(
            name="time of day",
            status="warning",
            found="not synchronised: dates in reports will be wrong (durations are not)",
            fix="sudo timedatectl set-ntp true",
        )


def heat(patient: Patient) -> Iterator[Check]:
    """Temperature and throttling."""
    zones = (patient.root / "sys/class/thermal").glob("thermal_zone*/temp")
    readings = [reading for zone in zones if (reading := read_signed(zone)) is not None]
    hottest_c = max(readings) * 1e-3 if readings else None
    hot = hottest_c is not None and hottest_c >= HOT_C
    yield Check(
        name="temperature",
        status="warning" if hot else "ok",
        found="no thermal zone" if hottest_c is None else f"{hottest_c:.0f} °C at the hottest",
        fix="cool the board (fan, heat sink) before calibrating: it will throttle" if hot else "",
    )
    ask = find_firmware(patient.root)
    counts = Throttling(patient.root, ask).counts()
    now = [name for name in PI_BITS if counts.get(name)]
    if now:
        yield Check(
            name="throttling",
            status="warning",
            found=f"the firmware slows the processor down now: {', '.join(now)}",
            fix="undervoltage: use the board's own power supply and a short cable; else cool it",
        )
    else:
        found = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        yield Check(name="throttling", status="ok", found=found or "nothing here counts it")


def broker(patient: Patient) -> Iterator[Check]:
    """Whether the broker lets us in."""
    if patient.broker is None:
        yield Check(
            name="broker",
            status="warning",
            found="not tried: no URL was given",
            fix="fimi agent doctor --broker mqtt://user:password@host:1883",
        )
        return
    try:
        probe(patient.broker)
        yield Check(name="broker", status="ok", found=f"{patient.broker} lets us in")
    except MessagingError as error:
        yield Check(
            name="broker",
            status="failure",
            found=str(error),
            fix=f"on the desk: fimi broker --bind 0.0.0.0 --port {patient.broker.port}; from here: "
            f"nc -vz {patient.broker.host} {patient.broker.port}",
        )


def room(patient: Patient) -> Iterator[Check]:
    """Free memory and disk."""
    memory_bytes = psutil.virtual_memory().available
    enough = memory_bytes >= LEAST_MEMORY_BYTES
    yield Check(
        name="memory",
        status="ok" if enough else "warning",
        found=f"{memory_bytes / 2**20:.0f} MiB free",
        fix=""
        if enough
        else "stop other programs (systemctl set-default multi-user.target frees "
        "a desktop's), or train with --set training.micro_batch=8",
    )
    folder = _state(patient)
    while not folder.exists():
        folder = folder.parent
    disk_bytes = shutil.disk_usage(folder).free
    enough = disk_bytes >= LEAST_DISK_BYTES
    yield Check(
        name="disk",
        status="ok" if enough else "warning",
        found=f"{disk_bytes / 2**20:.0f} MiB free on {folder}",
        fix="" if enough else "sudo apt clean && sudo journalctl --vacuum-size=50M",
    )


_PARTS: tuple[Callable[[Patient], Iterator[Check]], ...] = (
    python,
    meters,
    frequency,
    rate,
    clock,
    heat,
    broker,
    room,
)


def _meter(found: Found, root: Path) -> Check:
    description = found.description
    if description is None:
        problem, _, fix = found.problem.partition(". ")
        closed = _closed_rapl(root) if found.name == "rapl" else []
        if closed:
            rule = tmpfiles_rule(closed).replace("\n", "\\n")
            fix = (
                "sudo groupadd -f fimi && sudo usermod -aG fimi $USER && "
                f"printf '{rule}\\n' | sudo tee /etc/tmpfiles.d/fimi-rapl.conf && "
                "sudo systemd-tmpfiles --create, then log in again. "
                f"Mind that {SIDE_CHANNEL}"
            )
        return Check(
            name=f"meter {found.name}",
            status="warning" if closed else "absent",
            found=problem,
            fix=fix,
        )
    step = f", {description.resolution_w:g} W steps" if description.resolution_w else ""
    rate_hz = f", {description.rate_hz:g} Hz" if description.rate_hz else ""
    side = ""
    if found.name == "rapl" and os.geteuid() != 0:
        side = f"; mind that {SIDE_CHANNEL}"
    return Check(
        name=f"meter {found.name}",
        status="ok",
        found=f"{description.source} ({description.kind}, scope {description.scope}{rate_hz}{step}"
        f", ±{description.relative_uncertainty:.0%}){side}",
    )


def _closed_rapl(root: Path) -> list[Path]:
    """The counters of packages that are there and may not be read, by their real paths."""
    zones = (root / "sys/class/powercap").glob("intel-rapl:*")
    return [
        (zone / name).resolve()
        for zone in sorted(zones)
        if (read_text(zone / "name") or "").startswith("package")
        for name in ("energy_uj", "max_energy_range_uj")
    ]


def _journal(patient: Patient) -> Check:
    folder = _state(patient)
    journal = folder / "restore.jsonl"
    if journal.exists() and journal.stat().st_size:
        return Check(
            name="journal",
            status="warning",
            found=f"{journal} holds changes: an agent is running, or one was killed",
            fix="fimi agent restore",
        )
    nearest = folder
    while not nearest.exists():
        nearest = nearest.parent
    if os.access(nearest, os.W_OK):
        return Check(name="journal", status="ok", found=f"{journal} can be written")
    return Check(
        name="journal",
        status="warning",
        found=f"{journal} cannot be written, so nothing will be changed on this machine",
        fix=f"sudo install -d -o $USER {folder}",
    )


def _state(patient: Patient) -> Path:
    return patient.state or default_folder(patient.root)
