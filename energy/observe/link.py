"""Rate and signal of the network interface, as far as the kernel shows them.

The link rate is what the hardware has negotiated. An application gets less: the goodput, which the
agent reports for every transfer.
"""

from __future__ import annotations

import re
import socket
import struct
from pathlib import Path

from msgspec import Struct

from fimi.energy.control.programs import Run, run_program
from fimi.energy.sysfs import read_count, read_text

_BITRATE = re.compile(r"tx bitrate:\s*([\d.]+)\s*MBit/s", re.IGNORECASE)
_SIGNAL = re.compile(r"signal:\s*(-\d+)\s*dBm", re.IGNORECASE)


class LinkState(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One interface.

    Attributes:
        interface: its name.
        rate_bps: the link's rate, bit/s; ``None`` if unknown.
        signal_dbm: signal of the access point, dBm, for radio.
    """

    interface: str
    rate_bps: float | None = None
    signal_dbm: float | None = None


def route_interface(root: Path, host: str) -> str | None:
    """The interface that sends to an IPv4 host; ``None`` if the kernel has no route."""
    try:
        (address,) = struct.unpack("=I", socket.inet_aton(socket.gethostbyname(host)))
    except OSError:
        return None
    if socket.ntohl(address) >> 24 == 127:
        return "lo"
    routes: list[tuple[int, str]] = []
    for line in (read_text(root / "proc/net/route") or "").splitlines()[1:]:
        columns = line.split()
        if len(columns) < 8:
            continue
        target, mask = int(columns[1], 16), int(columns[7], 16)
        if address & mask == target:
            routes.append((bin(mask).count("1"), columns[0]))
    return max(routes, key=lambda route: route[0])[1] if routes else None


def link_state(root: Path, interface: str, run: Run = run_program) -> LinkState:
    """Rate and signal of an interface from the kernel."""
    folder = root / "sys/class/net" / interface
    if (folder / "wireless").exists() or (folder / "phy80211").exists():
        told = run(["iw", "dev", interface, "link"]).out
        rate, signal = _BITRATE.search(told), _SIGNAL.search(told)
        return LinkState(
            interface=interface,
            rate_bps=float(rate[1]) * 1e6 if rate else None,
            signal_dbm=float(signal[1]) if signal else _signal_dbm(root, interface),
        )
    speed_mbps = read_count(folder / "speed")  # -1 or unreadable where there is no carrier
    return LinkState(interface=interface, rate_bps=speed_mbps * 1e6 if speed_mbps else None)


def _signal_dbm(root: Path, interface: str) -> float | None:
    """Signal level from the interface's line in ``/proc/net/wireless``, dBm."""
    listed = read_text(root / "proc/net/wireless") or ""
    line = re.search(rf"^\s*{re.escape(interface)}:\s*\S+\s+\S+\s+(-\d+)", listed, re.MULTILINE)
    return float(line[1]) if line else None
