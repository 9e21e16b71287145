"""Chips in the supply line, USB meters, batteries, the Raspberry Pi 5, a recording."""

from __future__ import annotations

from pathlib import Path

from fimi.energy.meters import Meter
from fimi.energy.meters.battery import open_battery
from fimi.energy.meters.detect import MeterSettings, open_sum
from fimi.energy.meters.hwmon import SENTINEL_UW, open_hwmon
from fimi.energy.meters.pmic import open_pmic
from fimi.energy.meters.replay import Replay
from worlds.base import Files, World, write


class Ina226(Files):
    """A chip on a board in the supply line: power in µW."""

    averages = True
    breaks = (*Files.breaks, "sentinel")

    def files(self) -> list[Path]:
        return [self.root / "sys/class/hwmon/hwmon2/power1_input"]

    def build(self) -> None:
        thermal = self.root / "sys/class/hwmon/hwmon0"
        write(thermal / "name", "cpu_thermal")
        write(thermal / "temp1_input", 48000)
        folder = self.files()[0].parent
        write(folder / "name", "ina226")
        write(folder / "update_interval", 18)
        write(folder / "in1_input", 5120)
        write(folder / "curr1_input", 800)

    def show(self) -> None:
        write(self.files()[0], round(self.power_w * 1e6))

    def break_(self, how: str) -> None:
        if how == "sentinel":
            self.files()[0].write_text(f"{SENTINEL_UW}\n")
        else:
            super().break_(how)

    def open(self) -> Meter:
        return open_hwmon(self.root)


class UsbMeter(Files):
    """A POWER-Z in the cable, plugged in the other way round: its current is negative."""

    breaks = ("vanish", "unreadable", "garbage", "empty")

    def files(self) -> list[Path]:
        return [self.root / "sys/class/hwmon/hwmon5/curr1_input"]

    def build(self) -> None:
        folder = self.files()[0].parent
        write(folder / "name", "powerz")
        write(folder / "in0_input", 5000)
        write(folder / "in0_label", "VBUS")

    def show(self) -> None:
        write(self.files()[0], -round(self.power_w / 5.0 * 1e3))

    def open(self) -> Meter:
        return open_hwmon(self.root)


class LaptopBattery(Files):
    """On battery; current and voltage instead of power, the current negative."""

    breaks = ("vanish", "unreadable", "garbage", "empty", "charging")

    def files(self) -> list[Path]:
        return [self.root / "sys/class/power_supply/BAT0/current_now"]

    def build(self) -> None:
        folder = self.files()[0].parent
        write(folder / "type", "Battery")
        write(folder / "voltage_now", 12_000_000)
        mouse = folder.with_name("hidpp_battery_0")
        write(mouse / "type", "Battery")
        write(mouse / "scope", "Device")

    def show(self) -> None:
        write(self.files()[0].with_name("status"), "Discharging")
        write(self.files()[0], -round(self.power_w / 12.0 * 1e6))

    def break_(self, how: str) -> None:
        if how == "charging":
            write(self.files()[0].with_name("status"), "Charging")
        else:
            super().break_(how)

    def open(self) -> Meter:
        return open_battery(self.root)


class RaspberryPi5(World):
    """Its firmware, asked through a stand-in for the mailbox."""

    scope = "module"
    breaks = ("vanish", "garbage", "rail-missing", "negative", "refused")

    def build(self) -> None:
        self.broken = ""

    def show(self) -> None:
        self.broken = ""

    def break_(self, how: str) -> None:
        self.broken = how

    def ask(self, question: str) -> str | None:
        assert question == "pmic_read_adc"
        core_a = self.power_w * 0.75 / 0.9
        lines = [
            "   VDD_CORE_A current(7)={:.8f}A",
            "      3V3_SYS_A current(1)={:.8f}A",
            "   VDD_CORE_V volt(15)=0.90000000V",
            "    3V3_SYS_V volt(9)=3.30000000V",
            "      EXT5V_V volt(24)=5.17000000V",
            "       BATT_V volt(25)=0.00000000V",
        ]
        if self.broken == "rail-missing":
            del lines[1]
        if self.broken in ("vanish", "refused"):
            return None if self.broken == "vanish" else ""
        if self.broken == "garbage":
            return "VDD_CORE_A current(7)=1.2.3A\n\x00rubbish"
        if self.broken == "negative":
            core_a = -core_a
        lines[0] = lines[0].format(core_a)
        if self.broken != "rail-missing":
            lines[1] = lines[1].format(self.power_w * 0.25 / 3.3)
        return "\n".join(lines)

    def open(self) -> Meter:
        return open_pmic(self.root, ask=self.ask)


class Recording(World):
    """A recorded power that the test has written beforehand: constant."""

    kind = "emulated"
    breaks = ("over",)

    def build(self) -> None:
        rows = [f"{t},{self.power_w},x" for t in range(1000)]
        self.path = self.root / "run.csv"
        self.path.write_text("time_s,power_w,note\n" + "\n".join(rows) + "\n")

    def show(self) -> None:
        """Nothing: it is recorded."""

    def break_(self, how: str) -> None:
        self.clock.advance(1000.0)

    def open(self) -> Meter:
        return Replay(self.path, self.clock)


class OdroidXu3(Files):
    """Four INA231, one per rail, at addresses of their own; their sum is asked for by name."""

    scope = "module"
    averages = True
    breaks = (*Files.breaks, "sentinel")
    shares = (0.5, 0.25, 0.125, 0.125)
    labels = ("sensor_arm", "sensor_mem", "sensor_g3d", "")
    addresses = ("4-0040", "4-0041", "4-0044", "4-0045")

    def files(self) -> list[Path]:
        return [self.root / f"sys/class/hwmon/hwmon{n}/power1_input" for n in range(4)]

    def build(self) -> None:
        for number, file in enumerate(self.files()):
            device = self.root / "sys/bus/i2c/devices" / self.addresses[number]
            device.mkdir(parents=True)
            write(file.with_name("name"), "ina231")
            write(file.with_name("shunt_resistor"), 10000)
            write(file.with_name("update_interval"), 35)
            write(file.with_name("in1_input"), 1000)
            write(file.with_name("curr1_input"), 400)
            if self.labels[number]:
                write(file.with_name("label"), self.labels[number])
            (file.parent / "device").symlink_to(device)

    def show(self) -> None:
        for file, share in zip(self.files(), self.shares, strict=True):
            write(file, round(self.power_w * share * 1e6))

    def break_(self, how: str) -> None:
        if how == "sentinel":
            self.files()[-1].write_text(f"{SENTINEL_UW}\n")
        else:
            super().break_(how)

    def open(self) -> Meter:
        names = tuple(f"hwmon:ina231@{address}" for address in self.addresses)
        return open_sum(names, MeterSettings(), self.root, self.clock)


class BatteryAtZero(LaptopBattery):
    """A driver that shows a power of 0 while a current flows."""

    def build(self) -> None:
        super().build()
        write(self.files()[0].with_name("power_now"), 0)

    breaks = ("charging",)


class TwoBatteries(LaptopBattery):
    """A laptop that empties its second battery while the first one rests."""

    breaks = ("charging",)

    def build(self) -> None:
        super().build()
        folder = self.files()[0].parent
        other = folder.with_name("BAT1")
        write(other / "type", "Battery")
        write(other / "status", "Not charging")
        write(other / "voltage_now", 11_000_000)
        write(other / "current_now", 0)
        write(other / "power_now", 0)
        write(folder.with_name("AC") / "type", "Mains")
        write(folder.with_name("AC") / "online", 0)

    def open(self) -> Meter:
        names = ("battery:BAT0", "battery:BAT1")
        return open_sum(names, MeterSettings(), self.root, self.clock)
