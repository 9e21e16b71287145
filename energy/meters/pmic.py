"""Raspberry Pi 5: the power management chip measures twelve of its rails.

The firmware lists currents and voltages, one per line (``VDD_CORE_A current(7)=1.54489000A``),
which are paired by the name of the rail. The chip does not see USB devices, fans, HATs on the 5 V
pins, nor its own losses; hence the scope ``module``.

A Raspberry Pi 4 or older has no such measurement.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError
from fimi.energy.meters.vcgencmd import Ask, find_firmware
from fimi.energy.sysfs import read_text

CPU_RAIL = "VDD_CORE"

_LINE = re.compile(r"^\s*(\w+?)_([AV])\s+(?:current|volt)\(\d+\)=(-?[\d.]+)[AV]\s*$", re.MULTILINE)


def rail_powers_w(listing: str) -> dict[str, float]:
    """Power of every rail with a current and a voltage in ``vcgencmd pmic_read_adc``, W."""
    values: dict[str, dict[str, float]] = {}
    for rail, quantity, number in _LINE.findall(listing):
        try:
            values.setdefault(rail, {})[quantity] = float(number)
        except ValueError:
            continue
    return {
        rail: each["A"] * each["V"]
        for rail, each in values.items()
        if len(each) == 2 and min(each.values()) >= 0.0 and math.isfinite(each["A"] * each["V"])
    }


class Pmic(Meter):
    """The sum of the rails (``"total"``), or the processor's rail alone (``"cpu"``).

    Raises:
        MeterUnavailableError: the firmware lists no rails.
    """

    def __init__(self, ask: Ask, what: str = "total") -> None:
        self._ask = ask
        self._what = what
        self._rails = frozenset(self._read())
        if not self._rails or (what == "cpu" and CPU_RAIL not in self._rails):
            raise MeterUnavailableError(
                "the firmware of this Raspberry Pi lists no currents (vcgencmd pmic_read_adc): "
                "only the Pi 5 measures them. Use an INA219 or INA226 board in the supply line, a "
                "USB meter or a plug"
            )
        self._description = MeterDescription(
            source="pmic:" + (CPU_RAIL if what == "cpu" else f"{len(self._rails)} rails"),
            kind="measured",
            scope="cpu" if what == "cpu" else "module",
            rate_hz=10.0,
            resolution_w=0.01,
            # Our estimate: neither the maker of the chip nor that of the board states an accuracy.
            relative_uncertainty=0.03,
        )

    def look(self, time_s: float) -> Look:
        """The sum of the rails; empty if a rail is missing that was listed at first."""
        powers_w = self._read()
        if not self._rails <= powers_w.keys():
            return NOTHING
        if self._what == "cpu":
            return Look(power_w=powers_w[CPU_RAIL])
        return Look(power_w=math.fsum(powers_w[rail] for rail in self._rails))

    def _read(self) -> dict[str, float]:
        return rail_powers_w(self._ask("pmic_read_adc") or "")


def open_pmic(root: Path, what: str = "total", ask: Ask | None = None) -> Pmic:
    """The power management chip of this Raspberry Pi 5, or its ``"cpu"`` rail.

    Raises:
        MeterUnavailableError: there is none, or this user may not ask it.
    """
    if (ask := ask or find_firmware(root)) is not None:
        return Pmic(ask, what)
    model = (read_text(root / "proc" / "device-tree" / "model") or "").rstrip("\0")
    if "Raspberry Pi" in model:
        raise MeterUnavailableError(
            f"the firmware of this {model} does not answer: add this user to the group video (sudo "
            "usermod -aG video $USER, then log in again), or install vcgencmd (sudo apt install "
            "raspi-utils); in a container pass on /dev/vcio"
        )
    raise MeterUnavailableError("not a Raspberry Pi: there is no /dev/vcio and no vcgencmd")
