"""Power monitors that the kernel shows below ``/sys/class/hwmon``.

These are chips on small boards in the supply line (INA219, INA226 and similar ones), USB meters
with a kernel driver (POWER-Z), and the ACPI power meter of some servers. Devices are found by the
driver's name, the name of their I²C device, its place in the device tree or their label. The number
in ``hwmonN`` may change with every boot: it names a chip only where nothing else does. Power is
read in µW where the driver gives it; else voltage (mV) and current (mA) are multiplied.

A chip is taken for the meter of the whole board only if it is the only one of its driver: boards
with several (ODROID-XU3: four INA231) have one per rail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from fimi.energy.joules import SCOPE_WIDTH, Scope
from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError, names
from fimi.energy.meters.hwmon_chips import CHIPS, HwmonDriver, scope_of_label
from fimi.energy.meters.response import AT_ONCE, MeterResponse
from fimi.energy.sysfs import read_count, read_signed, read_text, why_unreadable

SENTINEL_UW = 4_294_967_295_000
"""The value that drivers show instead of a power that they do not have, µW."""

_SENTINEL_MA = 2**32 - 1
_SATURATED = 0.98
_POWER_FILES = ("power1_input", "power1_average")
_NEAR_ZERO_MA = 10
_LOOKS_A_CHECK = 10
"""Sign and range are read with the first of so many looks: two readings more over the bus."""


class HwmonChip(Struct, frozen=True, kw_only=True):
    """A device that shows a power, or a voltage and a current.

    Attributes:
        folder: its folder, ``hwmonN``.
        driver: name of its driver.
        address: name of its I²C or other device, for example ``"4-0045"``; empty if not known.
        node: its place in the device tree; empty if not known.
        label: what the board's maker calls it; empty if it has no label.
        name: its name among meters: the first of address, label, node and number that is its alone.
    """

    folder: Path
    driver: str
    address: str
    node: str
    label: str
    name: str = ""

    @property
    def answers_to(self) -> tuple[str, ...]:
        """Every part of a name that means it, but for the driver alone; the best first."""
        address, node, number = (
            f"{self.driver}@{place}" if place else ""
            for place in (self.address, self.node, self.folder.name)
        )
        return tuple(word for word in (address, self.label, node, number) if word)

    @property
    def by_number(self) -> bool:
        """Whether nothing names it but a number that may be another after the next boot."""
        return self.name == f"hwmon:{self.driver}@{self.folder.name}"

    @property
    def shunt_ohm(self) -> float | None:
        """The shunt that its driver calculates with, Ω; ``None`` if it does not say."""
        micro = read_count(self.folder / "shunt_resistor")
        return micro * 1e-6 if micro else None


class Hwmon(Meter):
    """One device below ``/sys/class/hwmon``.

    Args:
        chip: the device.
        alone: whether it is the only one of its driver.
        scope: what its user says that it sees.
    """

    def __init__(self, chip: HwmonChip, *, alone: bool, scope: Scope | None) -> None:
        self._chip = chip
        self._by_number = chip.by_number and not alone
        self._driver = CHIPS.get(chip.driver, HwmonDriver(scope=scope or "board"))
        folder = chip.folder
        powers = [folder / file for file in _POWER_FILES if (folder / file).exists()]
        self._power = powers[0] if powers else None
        self._volts, self._amperes = folder / self._driver.volts, folder / "curr1_input"
        interval_ms = read_count(folder / "update_interval") or read_count(
            folder / "power1_average_interval"
        )
        self._shunt_ohm = chip.shunt_ohm
        self._most_a = self._driver.most_a(self._shunt_ohm)
        self._most_w: float | None = None
        self._backwards = False
        self._flowed_back: bool | None = None
        self._last_w: float | None = None
        self._looks_left = 0
        if not alone:
            own = scope_of_label(chip.label) or "module"
        else:
            own = scope_of_label(chip.label) or self._driver.scope
        self.made_of = frozenset({chip.name})
        self.may_rest = own == "gpu"
        self._description = MeterDescription(
            source=f"hwmon:{chip.driver}" if alone else chip.name,
            kind="measured",
            scope=scope or own,
            rate_hz=1e3 / interval_ms if interval_ms else 10.0,
            resolution_w=self._driver.step_w(self._shunt_ohm),
            relative_uncertainty=self._driver.relative_uncertainty,
            # Without this file it is not known over how long the chip averages (INA219: never).
            response=MeterResponse(
                window_s=interval_ms * 1e-3, refresh_s=interval_ms * 1e-3, origin="chip"
            )
            if interval_ms
            else AT_ONCE,
        )

    def look(self, time_s: float) -> Look:
        """Its power; empty for garbage, a negative number or :data:`SENTINEL_UW`."""
        if not self._looks_left:
            self._looks_left = _LOOKS_A_CHECK
            self._check()
        self._looks_left -= 1
        found = self._look()
        self._last_w = found.power_w
        return found

    def _check(self) -> None:
        """Which way the current flows, and what the end of the range is at this voltage."""
        volts = read_count(self._volts)
        if self._most_a is not None and volts:
            self._most_w = _SATURATED * self._most_a * volts * 1e-3
        back = not self._driver.either_way and (read_signed(self._amperes) or 0) < -_NEAR_ZERO_MA
        # During a run one reading is no sign of exchanged wires.
        self._backwards = back and self._flowed_back is not False
        self._flowed_back = back

    def facts(self) -> tuple[str, ...]:
        """Address, label, shunt, range, volts and amperes now."""
        chip = self._chip
        volts, amperes = read_count(self._volts), read_signed(self._amperes)
        told = [f"address {chip.address}" if chip.address else f"no address, {chip.folder.name}"]
        if self._by_number:
            told.append("a number that may be another after the next boot")
        if chip.label:
            told.append(f"label {chip.label}")
        if self._shunt_ohm is not None:
            told.append(f"shunt {1e3 * self._shunt_ohm:g} mΩ")
        if self._most_a is not None:
            told.append(f"range ±{self._most_a:.3g} A")
        if volts is not None:
            told.append(f"{volts * 1e-3:.3g} V")
        if amperes is not None:
            told.append(f"{amperes * 1e-3:.3g} A")
        return tuple(told)

    def doubts(self) -> tuple[str, ...]:
        """Saturation, a reversed shunt, a shunt that nobody has set."""
        found = []
        if self._most_w is not None and self._last_w is not None and self._last_w >= self._most_w:
            found.append(
                f"it is at the end of its range, ±{self._most_a:.3g} A: what is drawn beyond that "
                "is not seen; a smaller shunt is needed"
            )
        if self._backwards:
            found.append(
                "its current is negative, and its size is counted: swap the wires at VIN+ and "
                "VIN−; if it also charges something, choose another meter"
            )
        if self._last_w is not None:
            found += self._driver.shunt_doubts(self._shunt_ohm, self._last_w, self._chip.folder)
        return tuple(found)

    def why_nothing(self) -> str:
        """The file, and what it holds."""
        files = [self._power] if self._power is not None else [self._volts, self._amperes]
        for file in files:
            held = read_signed(file)
            if held is None:
                return f"{file} {why_unreadable(file)}"
            if held < 0 and file != self._amperes:
                return f"{file} holds {held}, a negative number: swap the wires at VIN+ and VIN−"
            if held >= (SENTINEL_UW if file == self._power else _SENTINEL_MA):
                return f"{file} holds {held}, which drivers show instead of a value"
        return ""

    def _look(self) -> Look:
        if self._power is not None:
            microwatts = read_count(self._power)
            if microwatts is None or microwatts >= SENTINEL_UW:
                return NOTHING
            return Look(power_w=microwatts * 1e-6)
        millivolts, milliamperes = read_count(self._volts), read_signed(self._amperes)
        if millivolts is None or milliamperes is None:
            return NOTHING
        if max(millivolts, abs(milliamperes)) >= _SENTINEL_MA:
            return NOTHING
        return Look(power_w=millivolts * abs(milliamperes) * 1e-6)


def find_hwmon(root: Path) -> list[HwmonChip]:
    """Devices that show a power, or a voltage and a current.

    The INA3221 is left out (:mod:`fimi.energy.meters.ina3221` reads its rails), and so are the
    entries that the kernel makes here for power supplies.
    """
    found = []
    for folder in sorted((root / "sys" / "class" / "hwmon").glob("hwmon*"), key=_number):
        name = read_text(folder / "name") or ""
        meters = any((folder / file).exists() for file in (*_POWER_FILES, "curr1_input"))
        supply = (folder / "device" / "type").exists()
        if name and name != "ina3221" and meters and not supply:
            found.append(
                HwmonChip(
                    folder=folder,
                    driver=name,
                    address=device_name(folder),
                    node=_node(folder),
                    label=_label(folder),
                )
            )
    often = Counter(word for chip in found for word in chip.answers_to)
    return [
        replace(chip, name=f"hwmon:{next(word for word in chip.answers_to if often[word] == 1)}")
        for chip in found
    ]


def hwmon_names(root: Path) -> list[str]:
    """Names of devices that may be chosen by name: several of them, or one of an unknown driver."""
    found = find_hwmon(root)
    often = Counter(chip.driver for chip in found)
    return [
        chip.name if often[chip.driver] > 1 else f"hwmon:{chip.driver}"
        for chip in found
        if len(found) > 1 or chip.driver not in CHIPS
    ]


def open_hwmon(root: Path, name: str | None = None, scope: Scope | None = None) -> Hwmon:
    """A device by the part of its name after ``hwmon:``, or the one that sees the board.

    A driver that is not one of :data:`fimi.energy.meters.hwmon_chips.CHIPS` needs a scope.

    Raises:
        MeterUnavailableError: there is none, several fit, it cannot be read, or its scope is not
            known.
    """
    found = find_hwmon(root)
    often = Counter(chip.driver for chip in found)
    chip = _by_name(found, name, root) if name else _whole_board(found, root)
    alone = often[chip.driver] == 1
    known = chip.driver in CHIPS
    if not known and scope is None:
        raise MeterUnavailableError(
            f"hwmon device {name!r} shows a power and nobody knows of what; if you do, write "
            f'{names.line(f"hwmon:{name}")} and meter_scope = "board" (or another) into the profile'
        )
    meter = Hwmon(chip, alone=alone, scope=scope)
    if meter.look(0.0) == NOTHING:
        raise MeterUnavailableError(
            f"hwmon device {name or chip.driver!r} ({chip.folder}) is there and shows no number at "
            f"present ({meter.why_nothing()}); check its wiring and address, and dmesg for errors "
            "of the driver"
        )
    return meter


def _whole_board(found: list[HwmonChip], root: Path) -> HwmonChip:
    """The one chip that is taken for the whole board."""
    known = [chip for chip in found if chip.driver in CHIPS]
    often = Counter(chip.driver for chip in known)
    alone = [chip for chip in known if often[chip.driver] == 1 and not scope_of_label(chip.label)]
    widest = max((SCOPE_WIDTH[CHIPS[chip.driver].scope] for chip in alone), default=0)
    alone = [chip for chip in alone if SCOPE_WIDTH[CHIPS[chip.driver].scope] == widest]
    if len(alone) == 1:
        return alone[0]
    if not known:
        raise _none("known to see a whole board", found, root)
    drivers = ", ".join(dict.fromkeys(chip.driver for chip in (alone or known)))
    raise _several(
        drivers,
        alone or known,
        "which of them sees the whole board, or whether each sees a rail of it, is not known",
    )


def _by_name(found: list[HwmonChip], part: str, root: Path) -> HwmonChip:
    fits = [chip for chip in found if part in chip.answers_to]
    fits = fits or [chip for chip in found if chip.driver == part]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise _several(part, fits)
    raise _none(part, found, root)


def _several(what: str, chips: Sequence[HwmonChip], why: str = "") -> names.SeveralError:
    numbers = ", ".join(chip.folder.name for chip in chips if chip.by_number)
    return names.several(
        f"power monitors {what}",
        [chip.name for chip in chips],
        why=why,
        mind=f"The number of {numbers} may be another after the next boot, and nothing else names "
        "these chips: give them labels in the device tree, or look with the doctor after each boot"
        if numbers
        else "",
    )


def _none(what: str, found: list[HwmonChip], root: Path) -> MeterUnavailableError:
    there = ", ".join(sorted(chip.name.removeprefix("hwmon:") for chip in found))
    return MeterUnavailableError(
        f"no power monitor {what} under {root / 'sys/class/hwmon'} (there: {there or 'none'}). For "
        "an INA219 on the I²C bus: dtoverlay=i2c-sensor,ina219,addr=0x40,shunt=100000 in "
        "/boot/firmware/config.txt, or echo ina219 0x40 | sudo tee "
        "/sys/bus/i2c/devices/i2c-1/new_device"
    )


def _number(folder: Path) -> tuple[int, str]:
    number = folder.name.removeprefix("hwmon")
    return (int(number) if number.isdecimal() else 0, folder.name)


def device_name(folder: Path) -> str:
    """The name of the device that it belongs to: of its link, of the folders above, or its node."""
    device = folder / "device"
    if device.is_symlink():
        return device.resolve().name
    above = folder.resolve().parent.parent
    if folder.resolve().parent.name == "hwmon" and above.name != "class":
        return above.name
    if node := _node(folder):
        return node.rpartition("/")[2]
    return (read_text(device / "of_node/name") or "").rstrip("\0").strip()


def _node(folder: Path) -> str:
    """The place of its device in the device tree."""
    for line in (read_text(folder / "device" / "uevent") or "").splitlines():
        if line.startswith("OF_FULLNAME="):
            return line.partition("=")[2].strip()
    return ""


def _label(folder: Path) -> str:
    """Its label: from the kernel, or from the device tree."""
    tree = [folder / at / "label" for at in ("of_node", "device/of_node")]
    for file in (folder / "label", *tree):
        if label := (read_text(file) or "").rstrip("\0").strip():
            return label
    return ""
