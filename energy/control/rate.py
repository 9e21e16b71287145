"""Which means limits the uplink: the agent's own connection, or the whole interface on request.

The agent's connection limits its payload to the planned rate in either case. A cap of the interface
also limits what other programs send.
"""

from __future__ import annotations

from typing import Literal, Protocol

from fimi.energy.control.journal import Journal
from fimi.energy.control.programs import Run
from fimi.energy.control.traffic import TrafficControl

Choice = Literal["auto", "socket-pacing", "tc", "none"]

TC_HEADROOM = 1.25
"""The interface's cap over the planned rate. A plan's rate counts payload; the interface also
carries headers (5 to 15 % from 50 kbit/s upwards) and the traffic of other programs."""


class Uplink(Protocol):
    """The agent's connection, as far as its sending rate goes."""

    def set_pacing(self, rate_bps: float | None) -> str:
        """Limit the sending rate, bit/s; ``None`` removes the limit.

        Returns:
            How the rate is limited; empty if it is not.
        """

    def pacing_bps(self) -> float | None:
        """The limit in force, read back, bit/s; ``None`` if there is none."""


class RateControl:
    """Limits what this device sends.

    Args:
        choice: the means; ``tc`` falls back to the connection where it is refused.
        interface: the network interface towards the broker, for ``tc``.
    """

    def __init__(
        self,
        choice: Choice,
        uplink: Uplink | None,
        interface: str | None,
        journal: Journal,
        run: Run,
    ) -> None:
        self._choice = choice
        self._uplink = uplink
        self._interface = interface
        self._journal = journal
        self._run = run

    def limit(self, rate_bps: float, notes: list[str]) -> tuple[float | None, str]:
        """Limit the uplink.

        Args:
            rate_bps: bits of payload per second.
            notes: a sentence is added for each means that could not be used.

        Returns:
            The rate in force, read back (``None`` if nothing limits it), and how it is limited.
        """
        if self._choice == "none":
            notes.append('the uplink is not limited: rate_control = "none"')
            return None, "none"
        if self._choice == "tc":
            if self._interface is None:
                notes.append("tc cannot cap the uplink: no route to the broker is known")
            else:
                control = TrafficControl(self._interface, self._journal, self._run)
                cap = control.cap(TC_HEADROOM * rate_bps)
                if cap.rate_bps is not None:
                    return self._within(cap.rate_bps, rate_bps), "tc"
                notes.append(cap.note)
        if self._uplink is None:
            notes.append(f"uplink not limited to {rate_bps:.4g} bit/s: no means to limit it")
            return None, "none"
        means = self._uplink.set_pacing(rate_bps)
        in_force_bps = self._uplink.pacing_bps()
        if not means or in_force_bps is None:
            notes.append(f"uplink not limited to {rate_bps:.4g} bit/s: the limit was refused")
            return None, "none"
        return in_force_bps, means

    def _within(self, interface_bps: float, rate_bps: float) -> float:
        """Limit the payload's rate below the cap of the interface; returns the rate in force."""
        in_force_bps = interface_bps / TC_HEADROOM
        if self._uplink is not None and self._uplink.set_pacing(rate_bps):
            in_force_bps = min(in_force_bps, self._uplink.pacing_bps() or in_force_bps)
        return in_force_bps

    def in_force_bps(self) -> float | None:
        """The limit of the connection, read back; ``None`` if there is none."""
        return self._uplink.pacing_bps() if self._uplink is not None else None

    def lift(self) -> None:
        """Remove the limit of the connection; the journal removes that of the interface."""
        if self._uplink is not None and self._uplink.pacing_bps() is not None:
            self._uplink.set_pacing(None)
