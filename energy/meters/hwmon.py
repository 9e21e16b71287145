"""Power monitors that the kernel shows below ``/sys/class/hwmon``.

These are chips on small boards in the supply line (INA219, INA226 and similar ones), USB meters
with a kernel driver (POWER-Z), and the ACPI power meter of some servers. Devices are matched by the
driver's name, because the number in ``hwmonN`` changes between boots. Power is read in µW where the
driver gives it; else voltage (mV) and current (mA) are multiplied.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from fimi.energy.joules import Scope
from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError
from fimi.energy.meters.response import AT_ONCE, MeterResponse
from fimi.energy.sysfs import read_count, read_signed, read_text

SENTINEL_UW = 4_294_967_295_000
"""The value that drivers show instead of a power that they do not have, µW."""

_SENTINEL_MA = 2**32 - 1


class HwmonDriver(Struct, frozen=True):
    """Properties of a driver.

    Attributes:
        scope: what its meter usually sees.
        volts: name of the voltage file beside ``curr1_input``, where there is no power file.
        resolution_w: smallest step of power, W.
        relative_uncertainty: one standard deviation of its gain.
    """

    scope: Scope
    volts: str = "in1_input"
    resolution_w: float = 0.02
    relative_uncertainty: float = 0.02


CHIPS: dict[str, HwmonDriver] = {
    # Boards for the supply line: 0.5 % (INA219), 0.1 % (INA226) of the chip, 1 to 2 % of the shunt.
    **dict.fromkeys(
        (f"ina{number}" for number in (219, 220, 226, 228, 230, 231, 232, 233, 237, 238)),
        HwmonDriver(scope="board"),
    ),
    "ina260": HwmonDriver(scope="board", resolution_w=0.01, relative_uncertainty=0.005),
    # In the USB-C cable, with a signed current; the sign depends on how the meter is plugged in.
    "powerz": HwmonDriver(
        scope="board", volts="in0_input", resolution_w=1e-3, relative_uncertainty=0.005
    ),
    "power_meter": HwmonDriver(scope="wall", resolution_w=1.0, relative_uncertainty=0.05),
}
"""Drivers whose meter is known to see a whole device."""


class Hwmon(Meter):
    """One device below ``/sys/class/hwmon``; ``scope`` is what its user says that it sees."""

    def __init__(self, folder: Path, name: str, chip: HwmonDriver, scope: Scope | None) -> None:
        powers = [folder / file for file in _POWER_FILES if (folder / file).exists()]
        self._power = powers[0] if powers else None
        self._volts, self._amperes = folder / chip.volts, folder / "curr1_input"
        interval_ms = read_count(folder / "update_interval") or read_count(
            folder / "power1_average_interval"
        )
        self._description = MeterDescription(
            source=f"hwmon:{name}",
            kind="measured",
            scope=scope or chip.scope,
            rate_hz=1e3 / interval_ms if interval_ms else 10.0,
            resolution_w=chip.resolution_w,
            relative_uncertainty=chip.relative_uncertainty,
            # Without this file it is not known over how long the chip averages (INA219: never).
            response=MeterResponse(
                window_s=interval_ms * 1e-3, refresh_s=interval_ms * 1e-3, origin="chip"
            )
            if interval_ms
            else AT_ONCE,
        )

    def look(self, time_s: float) -> Look:
        """Its power; empty for garbage, a negative number or :data:`SENTINEL_UW`."""
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


_POWER_FILES = ("power1_input", "power1_average")


def find_hwmon(root: Path) -> dict[str, Path]:
    """Devices that show a power, or a voltage and a current, by the name of their driver.

    The INA3221 is left out (:mod:`fimi.energy.meters.ina3221` reads its rails), and so are the
    entries that the kernel makes here for power supplies.
    """
    found: dict[str, Path] = {}
    for folder in sorted((root / "sys" / "class" / "hwmon").glob("hwmon*")):
        name = read_text(folder / "name") or ""
        meters = any((folder / file).exists() for file in (*_POWER_FILES, "curr1_input"))
        supply = (folder / "device" / "type").exists()
        if name and name != "ina3221" and meters and not supply:
            found.setdefault(name, folder)
    return found


def open_hwmon(root: Path, name: str | None = None, scope: Scope | None = None) -> Hwmon:
    """A device by its driver's name (``"ina226"``), or the first one of :data:`CHIPS`.

    A driver that is not one of these needs a scope.

    Raises:
        MeterUnavailableError: there is none, it cannot be read, or its scope is not known.
    """
    found = find_hwmon(root)
    if name is None:
        name = next((each for each in found if each in CHIPS), None)
    if name is None or name not in found:
        raise MeterUnavailableError(
            f"no power monitor {name or 'known to see a whole board'} under "
            f"{root / 'sys/class/hwmon'} (there: {', '.join(sorted(found)) or 'none'}). For an "
            "INA219 on the I²C bus: dtoverlay=i2c-sensor,ina219,addr=0x40,shunt=100000 in "
            "/boot/firmware/config.txt, or echo ina219 0x40 | sudo tee "
            "/sys/bus/i2c/devices/i2c-1/new_device"
        )
    if name not in CHIPS and scope is None:
        raise MeterUnavailableError(
            f"hwmon device {name!r} shows a power and nobody knows of what; if you do, write "
            f'meter = "hwmon:{name}" and meter_scope = "board" (or another) into the profile'
        )
    meter = Hwmon(found[name], name, CHIPS.get(name, HwmonDriver(scope=scope or "board")), scope)
    if meter.look(0.0) == NOTHING:
        raise MeterUnavailableError(
            f"hwmon device {name!r} ({found[name]}) is there and shows no number at present; check "
            "its wiring and address, and dmesg for errors of the driver"
        )
    return meter
