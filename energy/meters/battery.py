"""A battery as a meter: while it is discharged, its power is the power of the device.

While it is charged, the current is that of charging, so it cannot be used. Drivers disagree about
the sign of the current, so only its size is used. Some show a power of 0 while a current flows;
then voltage times current is used. Most refresh every few seconds.

A device with several batteries is supplied by one after the other: their sum is its power, and one
that rests while no charger is connected counts as 0 W in it.
"""

from __future__ import annotations

from pathlib import Path

from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError, names
from fimi.energy.meters.response import MeterResponse
from fimi.energy.sysfs import read_signed, read_text, why_unreadable

_FACTOR = 2.0
_RESPONSE = MeterResponse(delay_s=1.0, refresh_s=5.0, delay_sd_s=1.5, origin="assumed")
"""Fuel gauges refresh every 2 to 10 s."""

_RESTING = ("Not charging", "Full", "Idle", "Unknown")


class Battery(Meter):
    """One battery, by its folder below ``/sys/class/power_supply``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._zero = self._apart = False
        self.made_of = frozenset({f"battery:{folder.name}"})
        self._description = MeterDescription(
            source=f"battery:{folder.name}",
            kind="measured",
            scope="board",
            rate_hz=1.0,
            resolution_w=0.1,
            # Our estimate, for fuel gauges in laptops.
            relative_uncertainty=0.05,
            response=_RESPONSE,
        )

    def look(self, time_s: float) -> Look:
        """The power that leaves it; empty while it is charged or rests beside a charger."""
        self._zero = self._apart = False
        status = read_text(self._folder / "status")
        if status != "Discharging" and not (status in _RESTING and self._unplugged()):
            return NOTHING
        product_w, power_w = self._product_w(), self._power_w()
        if power_w == 0.0 and product_w:
            self._zero = True
            return Look(power_w=product_w)
        if power_w and product_w:
            self._apart = not 1.0 / _FACTOR < power_w / product_w < _FACTOR
        found = product_w if power_w is None else power_w
        return NOTHING if found is None else Look(power_w=found)

    def facts(self) -> tuple[str, ...]:
        """Status, volts and amperes now."""
        volts, amperes = self._read("voltage_now"), self._read("current_now")
        told = [read_text(self._folder / "status") or "status unknown"]
        told += [] if volts is None else [f"{volts * 1e-6:.3g} V"]
        told += [] if amperes is None else [f"{amperes * 1e-6:.3g} A"]
        if self._zero:
            told.append("power_now shows 0: voltage times current is used")
        return tuple(told)

    def doubts(self) -> tuple[str, ...]:
        """Whether its files contradict each other."""
        if not self._apart:
            return ()
        return (
            f"power_now differs from voltage_now times current_now by more than a factor of "
            f"{_FACTOR:g}: one of them is in another unit",
        )

    def why_nothing(self) -> str:
        """Its status, or the file that cannot be read."""
        if (status := read_text(self._folder / "status")) != "Discharging":
            return f"it is {status or 'in an unknown state'}, not Discharging"
        files = [self._folder / name for name in ("power_now", "current_now", "voltage_now")]
        return ", ".join(f"{file.name} {why_unreadable(file)}" for file in files)

    def _read(self, name: str) -> int | None:
        return read_signed(self._folder / name)

    def _power_w(self) -> float | None:
        microwatts = self._read("power_now")
        return None if microwatts is None else abs(microwatts) * 1e-6

    def _product_w(self) -> float | None:
        microamperes, microvolts = self._read("current_now"), self._read("voltage_now")
        if microamperes is None or microvolts is None or microvolts <= 0:
            return None
        return abs(microamperes) * microvolts * 1e-12

    def _unplugged(self) -> bool:
        """Whether there are chargers, and none of them is connected."""
        supplies = self._folder.parent.glob("*")
        online = [read_text(s / "online") for s in supplies if read_text(s / "type") != "Battery"]
        return bool(online) and all(each == "0" for each in online)


def batteries(root: Path) -> list[Path]:
    """Folders of the batteries that supply this machine."""
    folder = root / "sys" / "class" / "power_supply"
    return [
        supply
        for supply in sorted(folder.glob("*"))
        if read_text(supply / "type") == "Battery"
        and read_text(supply / "scope") != "Device"
        and "ucsi" not in supply.name
    ]


def open_battery(root: Path, part: str | None = None) -> Battery:
    """The battery of this machine, or one of several by its name.

    Raises:
        MeterUnavailableError: if there is none, several, or it is not being discharged.
    """
    found = batteries(root)
    known = [f"battery:{supply.name}" for supply in found]
    if not found:
        raise MeterUnavailableError(f"no battery under {root / 'sys' / 'class' / 'power_supply'}")
    if part and f"battery:{part}" not in known:
        raise names.unknown(f"battery:{part}", known)
    if part is None and len(found) > 1:
        raise names.several(
            "batteries", known, why="they discharge in turn, so that no one of them is a meter"
        )
    folder = next(supply for supply in found if part in (None, supply.name))
    battery = Battery(folder)
    if battery.look(0.0) == NOTHING:
        status = read_text(folder / "status")
        raise MeterUnavailableError(
            f"battery {folder.name} is {status or 'in an unknown state'}: its current is "
            "what the device draws only while it is Discharging. Unplug the charger"
            if status != "Discharging"
            else f"battery {folder.name} shows neither power_now nor current_now and voltage_now "
            f"({battery.why_nothing()})"
        )
    return battery
