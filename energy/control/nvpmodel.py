"""The power modes of NVIDIA Jetson: presets of clocks and cores, set by ``nvpmodel``.

They are coarser than cpufreq: a handful of modes, which also switch cores and the graphics part.
Some changes need a reboot; these are refused here. The mode survives a reboot, and so does its
entry in the journal.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from fimi.energy.control.cpufreq import FrequencyCap, refused
from fimi.energy.control.journal import Journal
from fimi.energy.control.programs import NOT_FOUND, Run
from fimi.energy.sysfs import read_text

_MODE = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>")
_LIMIT = re.compile(r"^\s*CPU_(?!ONLINE)\w+\s+MAX_FREQ\s+(-?\d+)", re.MULTILINE)


def modes_hz(text: str) -> dict[int, float | None]:
    """Highest CPU frequency of every mode in ``/etc/nvpmodel.conf``, Hz; ``None``: no limit."""
    parts = _MODE.split(text)
    modes: dict[int, float | None] = {}
    for number, body in zip(parts[1::3], parts[3::3], strict=True):
        limits_khz = [int(limit) for limit in _LIMIT.findall(body)]
        unlimited = not limits_khz or any(limit <= 0 for limit in limits_khz)
        modes[int(number)] = None if unlimited else max(limits_khz) * 1e3
    return modes


def present_mode(text: str) -> int | None:
    """The present mode from the output of ``nvpmodel -q``: the number alone on the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return int(lines[-1]) if lines and lines[-1].isdecimal() else None


class PowerModes:
    """The power modes of this module; a journal keeps the previous one."""

    def __init__(self, root: Path, journal: Journal, run: Run) -> None:
        self._config = root / "etc" / "nvpmodel.conf"
        self._journal = journal
        self._run = run

    def numbers(self) -> tuple[int, ...]:
        """The modes that this user may set; none where there are none."""
        text = read_text(self._config)
        return tuple(modes_hz(text)) if text is not None and self.limits_hz() else ()

    def present(self) -> int | None:
        """The mode in force; ``None`` if it cannot be read."""
        return present_mode(self._run(["nvpmodel", "-q"]).out)

    def why_not(self, mode: int) -> str:
        """Why a mode cannot be set, as far as can be seen; empty if it can, or is in force."""
        text = read_text(self._config)
        if text is None:
            return f"no power modes: {self._config} cannot be read (not a Jetson)"
        if mode not in modes_hz(text):
            return f"there is no power mode {mode} in {self._config}"
        if self.present() == mode or self.limits_hz():
            return ""
        return "power modes need nvpmodel, root, and a journal that can be written"

    def limits_hz(self) -> tuple[float | None, ...]:
        """CPU limits of the modes that this user may set, Hz; ``None`` for a mode without limit."""
        text = read_text(self._config)
        if text is None or os.geteuid() != 0 or not self._journal.writable:
            return ()
        asked = self._run(["nvpmodel", "-q"])
        return () if present_mode(asked.out) is None else tuple(modes_hz(text).values())

    def cap(self, frequency_hz: float) -> FrequencyCap:
        """Set the mode with the lowest CPU limit that is not below ``frequency_hz``."""
        text = read_text(self._config)
        if text is None:
            return refused(f"no power modes: {self._config} cannot be read (not a Jetson)")
        modes = modes_hz(text)
        least_hz = frequency_hz * (1.0 - 1e-9)
        enough = [(hz, mode) for mode, hz in modes.items() if hz is not None and hz >= least_hz]
        unlimited = [(None, mode) for mode, hz in modes.items() if hz is None]
        if not enough and not unlimited:
            return refused(f"no power mode in {self._config} reaches {frequency_hz:.4g} Hz")
        limit_hz, mode = min(enough) if enough else unlimited[0]
        return self._set(mode, limit_hz)

    def set(self, mode: int) -> FrequencyCap:
        """Set a mode by its number; its CPU limit becomes the cap."""
        if why := self.why_not(mode):
            return refused(why)
        return self._set(mode, modes_hz(read_text(self._config) or "").get(mode))

    def _set(self, mode: int, limit_hz: float | None) -> FrequencyCap:
        try:
            self._journal.claim()
            asked = self._run(["nvpmodel", "-q"])
            before = present_mode(asked.out)
            if asked.code or before is None:
                missing = asked.code == NOT_FOUND
                return refused(
                    "nvpmodel is not installed" if missing else f"nvpmodel -q failed: {asked.error}"
                )
            if mode != before:
                self._journal.change("power-mode", "", str(before))
        except OSError as error:
            return refused(f"{error.filename}: {error.strerror}; the power mode stays")
        if mode != before:
            done = self._run(["nvpmodel", "-m", str(mode)])
            after = present_mode(self._run(["nvpmodel", "-q"]).out)
            if done.code or after != mode:
                why = done.error or "no reason given"
                return refused(
                    f"power mode {mode} was asked for and {after} is in force ({why}): it needs "
                    "root, and some modes need a reboot"
                )
        return FrequencyCap(frequency_hz=limit_hz, applied=True, means="nvpmodel")
