"""x86 processors: zones of the kernel's powercap."""

from __future__ import annotations

from pathlib import Path

from fimi.energy.meters import Meter
from fimi.energy.meters.rapl import open_rapl
from worlds.base import Files, write


class TwoPackages(Files):
    """Two sockets with their counters about to wrap, at different ranges."""

    scope = "cpu"
    resolution_w = 0.0
    averages = True
    breaks = (*Files.breaks, "beyond")
    ranges_uj = (262_143_328_850, 65_532_610_987)

    def files(self) -> list[Path]:
        folder = self.root / "sys" / "class" / "powercap"
        return [folder / f"intel-rapl:{i}" / "energy_uj" for i in (0, 1)]

    def build(self) -> None:
        for place, file in enumerate(self.files()):
            write(file.with_name("name"), f"package-{1 - place}")
            write(file.with_name("max_energy_range_uj"), self.ranges_uj[place])
            inner = file.parent / f"intel-rapl:{place}:0"
            write(inner / "name", "core")
            write(inner / "energy_uj", 5)

    def show(self) -> None:
        for place, (file, range_uj) in enumerate(zip(self.files(), self.ranges_uj, strict=True)):
            share = (0.25, 0.75)[place]
            start_uj = range_uj - 1_000_000  # 1 J before the wrap
            write(file, round(start_uj + self.energy_j * share * 1e6) % (range_uj + 1))

    def break_(self, how: str) -> None:
        if how == "beyond":
            self.files()[-1].write_text(f"{self.ranges_uj[1] + 1}\n")
        else:
            super().break_(how)

    def open(self) -> Meter:
        return open_rapl(self.root)


class MirroredDies(TwoPackages):
    """A Threadripper: the one counter of the package, shown once per die, read a little later."""

    ranges_uj = (65_532_610_987, 65_532_610_987)

    def build(self) -> None:
        super().build()
        for die, file in enumerate(self.files()):
            write(file.with_name("name"), f"package-0-die-{1 - die}")

    def show(self) -> None:
        for die, file in enumerate(self.files()):
            value = 65_531_000_000 + round(self.energy_j * 1e6) + 300 * die
            write(file, value % (self.ranges_uj[die] + 1))


class EqualDies(TwoPackages):
    """Two dies of a package that were switched on together and draw differently from then on."""

    ranges_uj = (65_532_610_987, 65_532_610_987)

    def build(self) -> None:
        super().build()
        for die, file in enumerate(self.files()):
            write(file.with_name("name"), f"package-0-die-{die}")

    def show(self) -> None:
        for die, file in enumerate(self.files()):
            write(file, round(self.energy_j * (0.25, 0.75)[die] * 1e6))
