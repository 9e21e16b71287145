"""NVIDIA graphics cards: the functions of their library."""

from __future__ import annotations

from fimi.energy.meters import Meter
from fimi.energy.meters.nvml import open_nvml
from worlds.base import World


class GraphicsCard(World):
    """The library's functions for one card that counts its energy."""

    scope = "gpu"
    resolution_w = 0.0
    averages = True
    breaks = ("vanish",)
    counts = True

    class NVMLError(Exception):
        """As in pynvml."""

    def build(self) -> None:
        self.broken = False

    def show(self) -> None:
        self.broken = False

    def break_(self, how: str) -> None:
        self.broken = True

    def nvmlInit(self) -> None:  # noqa: N802
        """The driver is there."""

    def nvmlShutdown(self) -> None:  # noqa: N802
        """Nothing is held."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, card: int) -> int:  # noqa: N802
        if self.broken or not self.counts:
            raise self.NVMLError("Not Supported")
        return 10_000_000 + round(self.energy_j * 1e3)

    def nvmlDeviceGetPowerUsage(self, card: int) -> int:  # noqa: N802
        if self.broken:
            raise self.NVMLError("GPU is lost")
        return round(self.power_w * 1e3)

    def open(self) -> Meter:
        return open_nvml(self)


class LostLater(GraphicsCard):
    """Two cards, of which one can be opened by nobody; the other one counts its energy."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index == 0:
            raise self.NVMLError("Insufficient Permissions")
        return index


class OldGraphicsCard(GraphicsCard):
    """One from before Volta: power only."""

    resolution_w = 0.005
    averages = True  # over a second
    counts = False
