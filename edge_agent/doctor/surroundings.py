"""Checks of what an agent's process needs: libraries, a broker, memory, disk."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import sys
from collections.abc import Iterator

import psutil

from fimi.edge_agent.doctor.machine import Machine, judged
from fimi.messaging.errors import MessagingError
from fimi.messaging.link import probe
from fimi.messaging.questions import Check

LEAST_MEMORY_BYTES = 150 << 20
LEAST_DISK_BYTES = 200 << 20

_WHEELS = (
    *("click", "msgspec", "numpy", "onnxruntime", "paho-mqtt"),
    *("pillow", "psutil", "safetensors", "zstandard"),
)


def python(_: Machine) -> Iterator[Check]:
    """The interpreter and the libraries of an agent."""
    version = ".".join(map(str, sys.version_info[:3]))
    enough = sys.version_info >= (3, 10)
    yield judged(
        "python",
        f"Python {version}",
        "" if enough else "install Python 3.10 or newer (JetPack 6 and Raspberry Pi OS 12 do)",
        "failure",
    )
    found, missing = [], []
    for name in _WHEELS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    yield judged(
        "wheels",
        f"missing: {', '.join(missing)}" if missing else ", ".join(found),
        f"python3 -m pip install {' '.join(missing)}" if missing else "",
        "failure",
    )


def broker(machine: Machine) -> Iterator[Check]:
    """Whether the broker accepts a connection."""
    if machine.broker is None:
        yield judged(
            "broker",
            "not tried: no URL was given",
            "fimi agent doctor --bundle FILE, or --broker mqtt://user:password@host:1883",
        )
        return
    try:
        probe(machine.broker)
        yield judged("broker", f"{machine.broker} accepts a connection")
    except MessagingError as error:
        yield judged(
            "broker",
            str(error),
            "on the desk: fimi broker --config FOLDER (docs/security.md); from here: "
            f"nc -vz {machine.broker.host} {machine.broker.port}",
            "failure",
        )


def room(machine: Machine) -> Iterator[Check]:
    """Free memory and disk."""
    memory_bytes = psutil.virtual_memory().available
    yield judged(
        "memory",
        f"{memory_bytes / 2**20:.0f} MiB free",
        ""
        if memory_bytes >= LEAST_MEMORY_BYTES
        else "stop other programs (systemctl set-default multi-user.target frees "
        "a desktop's), or train with --set training.micro_batch=8",
    )
    folder = machine.journal_folder
    while not folder.exists():
        folder = folder.parent
    disk_bytes = shutil.disk_usage(folder).free
    scarce = disk_bytes < LEAST_DISK_BYTES
    yield judged(
        "disk",
        f"{disk_bytes / 2**20:.0f} MiB free on {folder}",
        "sudo apt clean && sudo journalctl --vacuum-size=50M" if scarce else "",
    )
