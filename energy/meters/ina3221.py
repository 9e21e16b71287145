"""The INA3221, a power monitor of three channels: NVIDIA Jetson, and other boards with this chip.

JetPack 4 shows them as industrial-I/O devices with power in mW. JetPack 5 to 7, and every other
kernel, show them as hwmon devices with voltage in mV and current in mA, without power, and with
channels that are not rails: shunt voltages, their sum, and inputs labelled ``NC``. Both are matched
by the chip's driver and the labels of the rails, never by the number of a device, which changes
between boots.

Which rails add up to the total differs between modules. Where one rail is the module's input, it is
the total and contains the others. AGX Orin and AGX Thor have no such rail, and their total is a sum
of three. None of them meters the carrier board. (The input of a Thor developer kit, ``VIN`` of
tegrastats, is an INA238 of the carrier board: :mod:`fimi.energy.meters.hwmon`.)

Each rail can be chosen by its label, ``ina3221:VDD_SOC``; where two are called the same, with the
chip's address, ``ina3221:VDD_IN@1-0040``; without a label by its channel, ``ina3221:1@1-0040``.

A chip's zero is off by a step or two. So a rail that is switched off may show a small negative
current; it counts as what it is in a sum. A larger one is no power of this board.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from fimi.energy.joules import Scope
from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError, names
from fimi.energy.meters.hwmon import device_name
from fimi.energy.meters.response import AT_ONCE, MeterResponse
from fimi.energy.sysfs import complete, read_count, read_signed, read_text, why_unreadable

TOTALS: tuple[tuple[str, ...], ...] = (
    ("POM_5V_IN",),  # Nano
    ("VDD_IN",),  # Xavier NX, TX2, Orin Nano, Orin NX
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),  # AGX Thor
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)
"""Rails that add up to a module; the first row that matches is used. No rail of a row contains
another. Recordings of tegrastats are summed by the same table."""

CPU_RAILS = (
    *("POM_5V_CPU", "VDD_CPU_GPU_CV", "VDD_CPU_CV", "VDD_CPU_SOC_MSS"),  # Nano, NX, Orin, Thor
    *("VDD_SYS_CPU", "VDD_CPU_GPU", "VDD_CPU", "CPU"),  # TX2, TX2 NX, TX1, AGX Xavier
)
"""The rail that feeds the processor (on some modules graphics or memory as well)."""

_INPUTS = frozenset(row[0] for row in TOTALS if len(row) == 1)
_WITHIN = {"VDDQ_VDD2_1V8AO": frozenset({"VIN_SYS_5V0"})}
"""Rails that another rail of the same module contains, apart from the inputs."""

_GPU_RAILS = ("POM_5V_GPU", "VDD_GPU", "GPU", "VDD_SYS_GPU")
_RESTING = (*_GPU_RAILS, "CV")
"""Rails that are switched off while nothing uses them."""
_SENTINEL = 2**32 - 1
_STEP_UV, _OFFSET_UV = 40.0, 80.0
"""Step and largest offset of the shunt's voltage, µV."""
_USUAL_STEP_W = 0.04
"""Our estimate where the shunt is not known: a step over 5 mΩ is 8 mA, at 5 V."""


class Rail(Struct, frozen=True, kw_only=True):
    """One channel.

    Attributes:
        label: its name in the device tree; empty if it has none.
        files: the numbers whose product is its power: a power, or a voltage and a current.
        unit_w: power for a product of 1, W.
        period_s: time between two new values of the chip, s.
        averages: whether a value is the mean over that time; JetPack 4 does not say.
        address: name of the chip's I²C device.
        channel: its number on the chip, as its files have it.
        offset_ma: so much the current of an unused rail may be below zero, mA.
        step_w: smallest step of its power, W.
        name: its name among meters: label, or label or channel with the chip's address.
    """

    label: str
    files: tuple[Path, ...]
    unit_w: float
    period_s: float
    averages: bool
    address: str
    channel: str
    offset_ma: float = 0.0
    step_w: float = _USUAL_STEP_W
    name: str = ""

    @property
    def inside(self) -> frozenset[str]:
        """Labels of the rails that contain it."""
        return _WITHIN.get(self.label, frozenset()) | (_INPUTS - {self.label})

    @property
    def place(self) -> str:
        """Its name and its chip."""
        return self.name if self.address in self.name else f"{self.name} at {self.address}"

    def read_w(self) -> float | None:
        """Its power, W; ``None`` if a number is missing, or says that there is none.

        Negative by as much as the chip's zero may be off.
        """
        numbers = complete(read_signed(file) for file in self.files)
        return None if not numbers or self.wrong(numbers) else math.prod(numbers) * self.unit_w

    def wrong(self, numbers: Sequence[int]) -> str:
        """Why the numbers of its files are no power, as a sentence; empty if they are."""
        if (most := max(numbers)) >= _SENTINEL:
            return f"{self.name} holds {most}, which the driver shows instead of a value"
        if numbers[0] >= 0 and numbers[-1] >= -self.offset_ma:
            return ""
        shown = "; ".join(f"{file.name} {n}" for file, n in zip(self.files, numbers, strict=True))
        return (
            f"{self.place} is negative ({shown}): its wires are exchanged at the shunt (swap VIN+ "
            "and VIN−), or power flows back, which this board does not draw"
        )


class Ina3221(Meter):
    """The sum of rails of which none contains another: the module's total, its processor's, one."""

    def __init__(self, rails: list[Rail], scope: Scope) -> None:
        self._rails = rails
        period_s = max(rail.period_s for rail in rails)
        self.made_of = frozenset(f"ina3221:{rail.name}" for rail in rails)
        around = frozenset.intersection(*(rail.inside for rail in rails))
        self.inside = frozenset(f"ina3221:{label}" for label in around)
        self.may_rest = all(rail.label in _RESTING for rail in rails)
        self._description = MeterDescription(
            source="ina3221:" + "+".join(rail.name for rail in rails),
            kind="measured",
            scope=scope,
            rate_hz=1.0 / period_s,
            resolution_w=math.hypot(*(rail.step_w for rail in rails)),
            # Our estimate: 0.25 % of the chip and 1 to 2 % of the shunt.
            relative_uncertainty=0.02,
            response=MeterResponse(window_s=period_s, refresh_s=period_s, origin="chip")
            if all(rail.averages for rail in rails)
            else AT_ONCE,
        )

    def look(self, time_s: float) -> Look:
        """The sum of the rails; empty if one of them cannot be read."""
        powers_w = complete(rail.read_w() for rail in self._rails)
        return Look(power_w=max(0.0, sum(powers_w))) if powers_w else NOTHING

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
            told.append(f"{rail.place}: {', '.join(shown)}")
        return tuple(told)

    def why_nothing(self) -> str:
        """The file that holds no power, and what it holds."""
        for rail in self._rails:
            for file in rail.files:
                if read_signed(file) is None:
                    return f"{file} {why_unreadable(file)}"
            numbers = complete(read_signed(file) for file in rail.files)
            if numbers and (why := rail.wrong(numbers)):
                return why
        return ""


def open_ina3221(root: Path, what: str | None = None, scope: Scope | None = None) -> Ina3221:
    """The module's total, its ``"cpu"`` rail, or a rail by its name.

    Args:
        root: root of the file system.
        what: ``"cpu"``, or a name after ``ina3221:``; the total if left out.
        scope: what its user says that it sees.

    Raises:
        MeterUnavailableError: there is no INA3221, it cannot be read, several rails fit, or it is
            not known which of its rails make up the total.
    """
    found = find_rails(root)
    if not found:
        raise MeterUnavailableError(
            f"no INA3221 under {root / 'sys/bus/i2c/drivers'}: this board has none (Jetson modules "
            "have), or its kernel lacks the driver ina3221 (ina3221x on JetPack 4)"
        )
    if what and (rail := next((rail for rail in found if rail.name == what), None)):
        chosen = [rail]
    elif what == "cpu":
        chosen = _rows(found, [(label,) for label in CPU_RAILS], "the processor")
        if not chosen:
            here = ", ".join(rail.name for rail in found)
            raise MeterUnavailableError(
                f"which of the INA3221 rails {here} feeds the processor is not known"
            )
    elif what is None:
        chosen = _rows(found, TOTALS, "the whole module")
        if not chosen:
            raise names.offer(
                f"this board has the INA3221 rails {', '.join(rail.name for rail in found)}, and "
                "what they see is not known: adding rails that contain each other would count "
                "twice. Meter it from outside (an INA board, a USB meter, a plug), or choose a "
                "rail that you know",
                _names(found),
            )
    else:
        same = [rail for rail in found if what in (rail.label, rail.address)]
        if not same:
            raise names.unknown(f"ina3221:{what}", _names(found))
        raise names.several(f"INA3221 rails {what}", _names(same))
    own = _scope([rail.label for rail in chosen], whole=what is None)
    meter = Ina3221(chosen, scope or own)
    if meter.look(0.0) == NOTHING:
        raise MeterUnavailableError(
            f"{meter.describe().source} is there and shows no power ({meter.why_nothing()}). If a "
            "file cannot be read, make it readable (a container needs /sys mounted), or look at "
            "dmesg for errors of the driver"
        )
    return meter


def _rows(found: list[Rail], rows: Sequence[tuple[str, ...]], what: str) -> list[Rail]:
    """The rails of the first row of labels of which all are here; none if no row is.

    Raises:
        SeveralError: a label of the row is that of several rails.
    """
    labels = [rail.label for rail in found]
    row = next((row for row in rows if all(label in labels for label in row)), ())
    if same := next((label for label in row if labels.count(label) > 1), ""):
        fits = [rail for rail in found if rail.label == same]
        why = f"which of them is (a part of) {what} is not known"
        raise names.several(f"INA3221 rails {same}", _names(fits), why=why)
    return [next(rail for rail in found if rail.label == label) for label in row]


def _names(rails: Sequence[Rail]) -> list[str]:
    return [f"ina3221:{rail.name}" for rail in rails]


def _scope(labels: Sequence[str], *, whole: bool) -> Scope:
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
            rails.append(
                Rail(
                    label=read_text(name) or "",
                    files=(device / f"in_power{name.name[-1]}_input",),
                    unit_w=1e-3,
                    period_s=0.1,
                    averages=False,
                    address=device.parent.name,
                    channel=name.name[-1],
                )
            )
    for device, address in _devices(root).items():
        interval_ms = read_count(device / "update_interval")
        for channel in "123":
            label = read_text(device / f"in{channel}_label") or ""
            files = (device / f"in{channel}_input", device / f"curr{channel}_input")
            off = not label and read_count(device / f"in{channel}_enable") == 0
            if label == "NC" or off or not files[1].exists():
                continue
            shunt_uohm = read_count(device / f"shunt{channel}_resistor")
            ma_per_uv = 1e3 / shunt_uohm if shunt_uohm else 0.0
            volts = 1e-3 * (read_count(files[0]) or 0)
            rails.append(
                Rail(
                    label=label,
                    files=files,
                    unit_w=1e-6,
                    period_s=(interval_ms or 100) * 1e-3,
                    averages=bool(interval_ms),
                    address=address,
                    channel=channel,
                    offset_ma=_OFFSET_UV * ma_per_uv,
                    step_w=1e-3 * _STEP_UV * ma_per_uv * volts or _USUAL_STEP_W,
                )
            )
    return [replace(rail, name=_name(rail, rails)) for rail in rails]


def _devices(root: Path) -> dict[Path, str]:
    """Folders of the chips that the kernel shows as hwmon devices, with their addresses."""
    bound = (root / "sys/bus/i2c/drivers").glob("ina3221/*/hwmon/hwmon*")
    found = {folder.resolve(): folder.parent.parent.name for folder in sorted(bound)}
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if read_text(folder / "name") == "ina3221":
            found.setdefault(folder.resolve(), device_name(folder) or folder.name)
    return found


def _name(rail: Rail, rails: Sequence[Rail]) -> str:
    """The shortest name that means no other rail."""
    same = [each for each in rails if each.label == rail.label]
    if rail.label and len(same) == 1:
        return rail.label
    alone = sum(each.address == rail.address for each in same) == 1
    return f"{rail.label if rail.label and alone else rail.channel}@{rail.address}"
