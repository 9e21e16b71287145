"""A battery as a meter: while it is discharged, its power is the power of the device.

While it is charged, the current is that of charging, so it cannot be used. Drivers disagree about
the sign of the current, so only its size is used. Most refresh every few seconds.
"""

from __future__ import annotations

from pathlib import Path

from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError
from fimi.energy.sysfs import read_signed, read_text


class Battery(Meter):
    """One battery, by its folder below ``/sys/class/power_supply``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._description = MeterDescription(
            source=f"battery:{folder.name}",
            kind="measured",
            scope="board",
            rate_hz=1.0,
            resolution_w=0.1,
            # Our estimate, for fuel gauges in laptops.
            relative_uncertainty=0.05,
        )

    def look(self, time_s: float) -> Look:
        """The power that leaves it; empty unless it is discharging."""
        if read_text(self._folder / "status") != "Discharging":
            return NOTHING
        microwatts = read_signed(self._folder / "power_now")
        if microwatts is not None:
            return Look(power_w=abs(microwatts) * 1e-6)
        microamperes = read_signed(self._folder / "current_now")
        microvolts = read_signed(self._folder / "voltage_now")
        if microamperes is None or microvolts is None or microvolts <= 0:
            return NOTHING
        return Look(power_w=abs(microamperes) * microvolts * 1e-12)


def open_battery(root: Path) -> Battery:
    """The battery of this machine.

    Raises:
        MeterUnavailableError: if there is none, several, or it is not being discharged.
    """
    folder = root / "sys" / "class" / "power_supply"
    batteries = [
        supply
        for supply in sorted(folder.glob("*"))
        if read_text(supply / "type") == "Battery"
        and read_text(supply / "scope") != "Device"
        and "ucsi" not in supply.name
    ]
    if len(batteries) != 1:
        names = ", ".join(supply.name for supply in batteries)
        raise MeterUnavailableError(
            f"no battery under {folder}"
            if not batteries
            else f"several batteries ({names}), which discharge in turn: no one of them is a meter"
        )
    battery = Battery(batteries[0])
    if battery.look(0.0) == NOTHING:
        status = read_text(batteries[0] / "status")
        raise MeterUnavailableError(
            f"battery {batteries[0].name} is {status or 'in an unknown state'}: its current is "
            "what the device draws only while it is Discharging. Unplug the charger"
            if status != "Discharging"
            else f"battery {batteries[0].name} shows neither power_now nor current_now and "
            "voltage_now"
        )
    return battery
