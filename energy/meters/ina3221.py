"""NVIDIA Jetson: the INA3221 power monitors of the module.

JetPack 4 shows them as industrial-I/O devices with power in mW. JetPack 5 and 6 show them as hwmon
devices with voltage in mV and current in mA, without power, and with three channels that are not
rails: shunt voltages, their sum, and inputs labelled ``NC``. Both are matched by the chip's driver
and the labels of the rails, never by the number of a device, which changes between boots.

Which rails add up to the total differs between modules. Where one rail is the module's input, it is
the total and contains the others. AGX Orin has no such rail, and its total is a sum of three. None
of them meters the carrier board. Each rail can be chosen by its label, ``ina3221:VDD_SOC``.
"""

from __future__ import annotations

import math
from pathlib import Path

from msgspec import Struct

from fimi.energy.joules import Scope
from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError, names
from fimi.energy.meters.response import AT_ONCE, MeterResponse
from fimi.energy.sysfs import complete, read_count, read_signed, read_text, why_unreadable

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

_INPUTS = frozenset(row[0] for row in TOTALS if len(row) == 1)
_WITHIN = {"VDDQ_VDD2_1V8AO": frozenset({"VIN_SYS_5V0"})}
"""Rails that another rail of the same module contains, apart from the inputs."""

_GPU_RAILS = ("POM_5V_GPU", "VDD_GPU", "GPU", "VDD_SYS_GPU")
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
        address: name of the chip's I²C device.
    """

    label: str
    files: tuple[Path, ...]
    unit_w: float
    period_s: float
    averages: bool
    address: str = ""

    @property
    def inside(self) -> frozenset[str]:
        """Labels of the rails that contain it."""
        return _WITHIN.get(self.label, frozenset()) | (_INPUTS - {self.label})

    def read_w(self) -> float | None:
        """Its power, W; ``None`` if a number is missing or says that there is none."""
        numbers = complete(read_count(file) for file in self.files)
        if not numbers or max(numbers) >= _SENTINEL:
            return None
        return math.prod(numbers) * self.unit_w


class Ina3221(Meter):
    """The sum of rails of which none contains another: the module's total, its processor's, one."""

    def __init__(self, rails: list[Rail], scope: Scope) -> None:
        self._rails = rails
        period_s = max(rail.period_s for rail in rails)
        self.made_of = frozenset(f"ina3221:{rail.label}" for rail in rails)
        around = frozenset.intersection(*(rail.inside for rail in rails))
        self.inside = frozenset(f"ina3221:{label}" for label in around)
        self._description = MeterDescription(
            source="ina3221:" + "+".join(rail.label for rail in rails),
            kind="measured",
            scope=scope,
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

    def facts(self) -> tuple[str, ...]:
        """Address, volts and amperes of each rail."""
        told = []
        for rail in self._rails:
            numbers = [read_signed(file) for file in rail.files]
            units = ("W",) if len(numbers) == 1 else ("V", "A")
            shown = [
                "no number" if value is None else f"{value * 1e-3:.3g} {unit}"
                for value, unit in zip(numbers, units, strict=True)
            ]
            told.append(f"{rail.label} at {rail.address}: {', '.join(shown)}")
        return tuple(told)

    def why_nothing(self) -> str:
        """The file that holds no power, and what it holds."""
        for file in (file for rail in self._rails for file in rail.files):
            if (held := read_count(file)) is None:
                return f"{file} {why_unreadable(file)}"
            if held >= _SENTINEL:
                return f"{file} holds {held}, which the driver shows instead of a value"
        return ""


def open_ina3221(root: Path, what: str | None = None) -> Ina3221:
    """The module's total, its ``"cpu"`` rail, or a rail by its label.

    Raises:
        MeterUnavailableError: there is no INA3221, it cannot be read, or it is not known which of
            its rails make up the total.
    """
    found = find_rails(root)
    rails = {rail.label: rail for rail in found}
    if not rails:
        raise MeterUnavailableError(
            f"no INA3221 rail under {root / 'sys/bus/i2c/drivers'}: not a Jetson module, or its "
            "kernel lacks the driver ina3221 (JetPack 5 and 6) or ina3221x (JetPack 4)"
        )
    wanted: list[tuple[str, ...]] = [(what,)] if what else list(TOTALS)
    if what == "cpu":
        wanted = [(label,) for label in CPU_RAILS]
    chosen = next((row for row in wanted if all(label in rails for label in row)), None)
    known = [f"ina3221:{label}" for label in rails]
    if chosen is None and what not in (None, "cpu"):
        raise names.unknown(f"ina3221:{what}", known)
    if chosen is None:
        raise MeterUnavailableError(
            f"this Jetson has the rails {', '.join(sorted(rails))}, and it is not known which of "
            f"them make up the {what or 'total'} power: adding rails that contain each other would "
            "count twice. Meter it from outside (an INA board, a USB meter, a plug), or, if you "
            f"know the rail, write one of these lines into the profile: {names.lines(known)}"
        )
    twice = [label for label in chosen if sum(rail.label == label for rail in found) > 1]
    if twice:
        places = ", ".join(rail.address for rail in found if rail.label == twice[0])
        raise MeterUnavailableError(
            f"several INA3221 channels are labelled {twice[0]} ({places}), and no one of them can "
            "be meant by that name. Give them labels of their own in the device tree"
        )
    meter = Ina3221([rails[label] for label in chosen], _scope(chosen, whole=what is None))
    if meter.look(0.0) == NOTHING:
        raise MeterUnavailableError(
            f"{meter.describe().source} is there and cannot be read ({meter.why_nothing()}): its "
            f"files below {root / 'sys/bus/i2c/drivers'} are unreadable or hold no numbers. Make "
            "them readable (a container needs /sys mounted), or look at dmesg for errors of the "
            "driver"
        )
    return meter


def _scope(labels: tuple[str, ...], *, whole: bool) -> Scope:
    if whole or labels[0] in _INPUTS or len(labels) > 1:
        return "module"
    if labels[0] in CPU_RAILS:
        return "cpu"
    return "gpu" if labels[0] in _GPU_RAILS else "module"


def find_rails(root: Path) -> list[Rail]:
    """Every rail of every INA3221, JetPack 4 or later."""
    drivers = root / "sys" / "bus" / "i2c" / "drivers"
    rails = []
    for device in sorted(drivers.glob("ina3221x/*/iio:device*")):
        for name in sorted(device.glob("rail_name_[0-9]")):
            power, label = device / f"in_power{name.name[-1]}_input", read_text(name)
            address = device.parent.name
            rails.append(Rail(label or name.name, (power,), 1e-3, 0.1, False, address))
    for device in sorted(drivers.glob("ina3221/*/hwmon/hwmon*")):
        interval_ms = read_count(device / "update_interval")
        for channel in (1, 2, 3):
            label = read_text(device / f"in{channel}_label")
            files = (device / f"in{channel}_input", device / f"curr{channel}_input")
            if label and label != "NC" and files[1].exists():
                period_s = (interval_ms or 100) * 1e-3
                address = device.parent.parent.name
                rails.append(Rail(label, files, 1e-6, period_s, bool(interval_ms), address))
    return rails
