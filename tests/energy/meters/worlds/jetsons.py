"""NVIDIA Jetson modules: rails of an INA3221."""

from __future__ import annotations

from pathlib import Path

from fimi.energy.meters import Meter
from fimi.energy.meters.ina3221 import open_ina3221
from worlds.base import Files, write


class JetsonNano(Files):
    """JetPack 4: the input rail is the total; the others lie inside it."""

    scope = "module"
    breaks = (*Files.breaks, "sentinel")

    def folder(self) -> Path:
        return self.root / "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"

    def files(self) -> list[Path]:
        return [self.folder() / "in_power0_input"]

    def build(self) -> None:
        for place, name in enumerate(("POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU")):
            write(self.folder() / f"rail_name_{place}", name)
            write(self.folder() / f"in_power{place}_input", 400)

    def show(self) -> None:
        write(self.files()[0], round(self.power_w * 1e3))

    def break_(self, how: str) -> None:
        if how == "sentinel":
            self.files()[0].write_text(f"{2**32 - 1}\n")
        else:
            super().break_(how)

    def open(self) -> Meter:
        return open_ina3221(self.root)


class OrinNano(Files):
    """JetPack 5 and 6: voltage times current; shunts, their sum and NC are no rails."""

    scope = "module"
    averages = True
    driver = "1-0040"
    labels: tuple[str, ...] = ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")
    totals: tuple[int, ...] = (1,)

    def folder(self) -> Path:
        return self.root / "sys/bus/i2c/drivers/ina3221" / self.driver / "hwmon/hwmon3"

    def files(self) -> list[Path]:
        return [self.folder() / f"curr{channel}_input" for channel in self.totals]

    def build(self) -> None:
        folder = self.folder()
        write(folder / "name", "ina3221")
        write(folder / "update_interval", 100)
        for channel, label in enumerate(self.labels, 1):
            write(folder / f"in{channel}_label", label)
            write(folder / f"in{channel}_input", 5000)
            write(folder / f"curr{channel}_input", 100)
            write(folder / f"in{channel + 3}_input", 12)
        write(folder / "in7_label", "sum of shunt voltages")
        write(folder / "in7_input", 36)

    def show(self) -> None:
        for file in self.files():
            write(file, round(self.power_w / len(self.totals) / 5.0 * 1e3))

    def open(self) -> Meter:
        return open_ina3221(self.root)


class XavierNx(OrinNano):
    """The same chip at another address, one input not connected."""

    driver = "7-0040"
    labels = ("VDD_IN", "VDD_CPU_GPU_CV", "NC")


class AgxThor(OrinNano):
    """JetPack 7: no total rail, three add up."""

    driver = "2-0040"
    labels = ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0")
    totals = (1, 2, 3)


class AgxOrin(OrinNano):
    """No total rail: three add up; the fourth lies inside one of them."""

    labels = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
    totals = (1, 2, 3)

    def build(self) -> None:
        super().build()
        other = self.root / "sys/bus/i2c/drivers/ina3221/1-0041/hwmon/hwmon4"
        write(other / "in2_label", "VDDQ_VDD2_1V8AO")
        write(other / "in2_input", 5000)
        write(other / "curr2_input", 300)
