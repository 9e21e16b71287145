"""Checks of what the agent limits and observes: sending rate, clock, temperature."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator

from fimi.edge_agent.doctor.machine import Machine, judged
from fimi.energy.control.clamps import at_work
from fimi.energy.control.programs import NOT_FOUND
from fimi.energy.meters.vcgencmd import find_firmware
from fimi.energy.observe.throttling import PI_BITS, Throttling
from fimi.energy.sysfs import read_signed, read_text
from fimi.messaging.questions import Check

HOT_C = 80.0

_PACING_OPTION = 47  # SO_MAX_PACING_RATE


def rate(machine: Machine) -> Iterator[Check]:
    """Whether the sending rate can be limited."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, _PACING_OPTION, (125_000).to_bytes(4, sys.byteorder))
            found = "the kernel paces sockets"
        except OSError:
            found = "the kernel does not pace sockets; the agent holds its chunks back itself"
    yield judged("rate", found)
    if machine.profile is not None and machine.profile.rate_control == "tc":
        done = machine.run(["tc", "-j", "qdisc", "show"])
        allowed = os.geteuid() == 0 or "cap_net_admin" in machine.run(["capsh", "--print"]).out
        if done.code == 0 and allowed:
            yield judged("tc", "tc may be used")
            return
        fix = (
            "sudo apt install iproute2"
            if done.code == NOT_FOUND
            else "run the agent as root or with AmbientCapabilities=CAP_NET_ADMIN in its unit; or "
            'rate_control = "socket-pacing"'
        )
        yield judged("tc", done.error or "not allowed", fix)


def clock(machine: Machine) -> Iterator[Check]:
    """The monotonic clock, and whether the time of day is right."""
    info = time.get_clock_info("monotonic")
    source = read_text(
        machine.root / "sys/devices/system/clocksource/clocksource0/current_clocksource"
    )
    fine = info.monotonic and info.resolution <= 1e-3
    yield judged(
        "clock",
        f"monotonic, {1e9 * info.resolution:g} ns resolution, source {source or 'unknown'}",
        "" if fine else "durations cannot be measured on this machine",
        "failure",
    )
    done = machine.run(["timedatectl", "show", "-p", "NTPSynchronized", "--value"])
    if done.code == 0 and done.out.strip() == "no":
        yield judged(
            "time of day",
            "not synchronised: dates in reports will be wrong (durations are not)",
            "sudo timedatectl set-ntp true",
        )


def heat(machine: Machine) -> Iterator[Check]:
    """Temperature and throttling."""
    zones = (machine.root / "sys/class/thermal").glob("thermal_zone*/temp")
    readings = [reading for zone in zones if (reading := read_signed(zone)) is not None]
    hottest_c = max(readings) * 1e-3 if readings else None
    hot = hottest_c is not None and hottest_c >= HOT_C
    if hottest_c is None:
        yield Check(name="temperature", status="absent", found="no thermal zone")
    else:
        yield judged(
            "temperature",
            f"{hottest_c:.0f} °C at the hottest",
            "cool the board (fan, heat sink) before calibrating: it will throttle" if hot else "",
        )
    if held := at_work(machine.root):
        yield judged(
            "heat",
            f"clocks are held down now: {'; '.join(held)}",
            "cool the board (fan, heat sink); caps above that are clamped until it is cool",
        )
    counts = Throttling(machine.root, find_firmware(machine.root)).counts()
    if now := [name for name in PI_BITS if counts.get(name)]:
        yield judged(
            "throttling",
            f"the firmware slows the processor down now: {', '.join(now)}",
            "undervoltage: use the board's own power supply and a short cable; else cool it",
        )
    elif counts:
        found = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        yield judged("throttling", found)
    else:
        yield Check(name="throttling", status="absent", found="nothing here counts it")
