"""NVIDIA Jetson: the INA3221 power monitors of the module.

JetPack 4 shows them as industrial-I/O devices with power in mW. JetPack 5 and 6 show them as hwmon
devices with voltage in mV and current in mA, without power, and with three channels that are not
rails: shunt voltages, their sum, and inputs labelled ``NC``. Both are matched by the chip's driver
and the labels of the rails, never by the number of a device, which changes between boots.

Which rails add up to the total differs between modules. Where one rail is the module's input, it is
the total and contains the others. AGX Orin has no such rail, and its total is a sum of three. None
of them meters the carrier board.
"""

from __future__ import annotations

import math
from pathlib import Path

from msgspec import Struct

from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError
from fimi.energy.meters.response import AT_ONCE, MeterResponse
from fimi.energy.sysfs import complete, read_count, read_text

TOTALS: tuple[tuple[str, ...], ...] = (
    ("POM_5V_IN",),  # Nano
    ("VDD_IN",),  # Xavier NX, TX2, Orin Nano, Orin NX
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)
"""Rails that add up to a module; the first row that matches is used. No rail of a row contains
another."""

CPU_RAILS = ("POM_5V_CPU", "VDD_CPU_GPU_CV", "VDD_CPU_CV", "CPU")
"""The rail that feeds the processor (on some modules the graphics part as well)."""

_SENTINEL = 2**32 - 1
_RESOLUTION_W = 0.04
"""Our estimate: 40 µV of the shunt's voltage over 5 mΩ are 8 mA, at 5 V."""


class Rail(Struct, frozen=True):
    """One channel.

    Attributes:
        label: its name in the device tree.
        files: the numbers whose product is its power: a power, or a voltage and a current.
        unit_w: power for a product of 1, W.
        period_s: time between two new values of the chip, s.
        averages: whether a value is the mean over that time; JetPack 4 does not say.
    """

    label: str
    files: tuple[Path, ...]
    unit_w: float
    period_s: float
    averages: bool

    def read_w(self) -> float | None:
        """Its power, W; ``None`` if a number is missing or says that there is none."""
        numbers = complete(read_count(file) for file in self.files)
        if not numbers or max(numbers) >= _SENTINEL:
            return None
        return math.prod(numbers) * self.unit_w


class Ina3221(Meter):
    """The sum of rails of which none contains another: the module's total, or its processor's."""

    def __init__(self, rails: list[Rail], what: str) -> None:
        self._rails = rails
        period_s = max(rail.period_s for rail in rails)
        self._description = MeterDescription(
            source="ina3221:" + "+".join(rail.label for rail in rails),
            kind="measured",
            scope="module" if what == "total" else "cpu",
            rate_hz=1.0 / period_s,
            resolution_w=_RESOLUTION_W * len(rails) ** 0.5,
            # Our estimate: 0.25 % of the chip and 1 to 2 % of the shunt.
            relative_uncertainty=0.02,
            response=MeterResponse(window_s=period_s, refresh_s=period_s, origin="chip")
            if all(rail.averages for rail in rails)
            else AT_ONCE,
        )

    def look(self, time_s: float) -> Look:
        """The sum of the rails; empty if one of them cannot be read."""
        powers_w = complete(rail.read_w() for rail in self._rails)
        return Look(power_w=sum(powers_w)) if powers_w else NOTHING


def open_ina3221(root: Path, what: str = "total") -> Ina3221:
    """The module's ``"total"``, or its ``"cpu"`` rail.

    Raises:
        MeterUnavailableError: there is no INA3221, it cannot be read, or it is not known which of
            its rails make up the total.
    """
    rails = {rail.label: rail for rail in find_rails(root)}
    if not rails:
        raise MeterUnavailableError(
            f"no INA3221 rail under {root / 'sys/bus/i2c/drivers'}: not a Jetson module, or its "
            "kernel lacks the driver ina3221 (JetPack 5 and 6) or ina3221x (JetPack 4)"
        )
    wanted = TOTALS if what == "total" else [(label,) for label in CPU_RAILS]
    chosen = next((row for row in wanted if all(label in rails for label in row)), None)
    if chosen is None:
        raise MeterUnavailableError(
            f"this Jetson has the rails {', '.join(sorted(rails))}, and it is not known which of "
            f"them make up the {what} power: adding rails that contain each other would count "
            "twice. Meter it from outside (an INA board, a USB meter, a plug)"
        )
    meter = Ina3221([rails[label] for label in chosen], what)
    if meter.look(0.0) == NOTHING:
        raise MeterUnavailableError(
            f"{meter.describe().source} is there and cannot be read: its files below "
            f"{root / 'sys/bus/i2c/drivers'} are unreadable or hold no numbers. Make them readable "
            "(a container needs /sys mounted), or look at dmesg for errors of the driver"
        )
    return meter


def find_rails(root: Path) -> list[Rail]:
    """Every rail of every INA3221, JetPack 4 or later."""
    drivers = root / "sys" / "bus" / "i2c" / "drivers"
    rails = []
    for device in sorted(drivers.glob("ina3221x/*/iio:device*")):
        for name in sorted(device.glob("rail_name_[0-9]")):
            power, label = device / f"in_power{name.name[-1]}_input", read_text(name)
            rails.append(Rail(label or name.name, (power,), 1e-3, 0.1, averages=False))
    for device in sorted(drivers.glob("ina3221/*/hwmon/hwmon*")):
        interval_ms = read_count(device / "update_interval")
        for channel in (1, 2, 3):
            label = read_text(device / f"in{channel}_label")
            files = (device / f"in{channel}_input", device / f"curr{channel}_input")
            if label and label != "NC" and files[1].exists():
                period_s = (interval_ms or 100) * 1e-3
                rails.append(Rail(label, files, 1e-6, period_s, averages=bool(interval_ms)))
    return rails
