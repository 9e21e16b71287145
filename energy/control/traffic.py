"""A cap on what a network interface sends, by the kernel's token bucket (``tc … tbf``).

It slows down everything that leaves through the interface, not only the agent, and needs
CAP_NET_ADMIN. The default is to pace the agent's socket, which does neither. An interface whose
queueing discipline somebody has chosen is left alone, because that choice could not be restored.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from fimi.energy.control.journal import Journal
from fimi.energy.control.programs import Run

HANDLE = "f1f1:"
_LATENCY = "400ms"


class RateCap(Struct, frozen=True, kw_only=True):
    """The result of setting a rate cap.

    Attributes:
        rate_bps: the rate in force, bit/s; ``None`` if nothing limits it.
        note: what could not be done and why.
    """

    rate_bps: float | None = None
    note: str = ""


def arguments(interface: str, rate_bps: float) -> list[str]:
    """The command that caps an interface.

    The bucket holds 10 ms of traffic and at least ten full frames, so that a coarse timer of the
    kernel does not lower the rate.
    """
    burst_bytes = max(15_140, round(rate_bps / 8.0 * 0.01))
    rate, burst = f"{max(8, round(rate_bps))}bit", f"{burst_bytes}b"
    command = ["tc", "qdisc", "replace", "dev", interface, "root", "handle", HANDLE]
    return [*command, "tbf", "rate", rate, "burst", burst, "latency", _LATENCY]


class TrafficControl:
    """The cap of one interface; a journal notes that it is capped."""

    def __init__(self, interface: str, journal: Journal, run: Run) -> None:
        self._interface = interface
        self._journal = journal
        self._run = run

    def cap(self, rate_bps: float) -> RateCap:
        """Cap what the interface sends, and read the cap back."""
        try:
            self._journal.claim()
            present = self._root_qdisc()
            if isinstance(present, str):
                return RateCap(note=present)
            handle = present.get("handle", "0:")
            if handle not in ("0:", HANDLE):
                return RateCap(
                    note=f"{self._interface} has the queueing discipline {present.get('kind')} "
                    f"{handle}, which somebody has chosen: it is left alone"
                )
            self._journal.change("qdisc", self._interface, "")
        except OSError as error:
            return RateCap(note=f"{error.filename}: {error.strerror}")
        done = self._run(arguments(self._interface, rate_bps))
        if done.code:
            return RateCap(
                note=f"tc cannot cap {self._interface} ({done.error}): it needs CAP_NET_ADMIN and "
                "the kernel module sch_tbf, which Jetson kernels may lack"
            )
        now = self._root_qdisc()
        rate_bytes = now.get("options", {}).get("rate") if isinstance(now, dict) else None
        if not isinstance(rate_bytes, int):
            return RateCap(note=f"the cap of {self._interface} does not read back")
        return RateCap(rate_bps=8.0 * rate_bytes)

    def _root_qdisc(self) -> dict[str, Any] | str:
        done = self._run(["tc", "-j", "qdisc", "show", "dev", self._interface])
        if done.code:
            return f"tc cannot be asked about {self._interface}: {done.error}"
        try:
            listed = msgspec.json.decode(done.out)
        except msgspec.DecodeError:
            return f"tc answers {done.out[:60]!r} about {self._interface}"
        roots = [each for each in listed if isinstance(each, dict) and each.get("root")]
        return roots[0] if roots else {}
