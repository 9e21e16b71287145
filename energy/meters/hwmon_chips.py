"""What is known of the chips below ``/sys/class/hwmon``: scope, range, steps, usual mistakes.

The range follows from the shunt: a chip measures a voltage over it up to a limit. The driver cannot
see which shunt is soldered in. It calculates with the one it was told, else with 10 mΩ; boards with
an INA219 have 100 mΩ as a rule ("R100"), and then show ten times the power.
"""

from __future__ import annotations

import math
from pathlib import Path

from msgspec import Struct

from fimi.energy.joules import Scope

DEFAULT_SHUNT_OHM = 0.01
"""The shunt that the kernel's drivers assume, Ω."""

USUAL_SHUNT_OHM = 0.1
"""The shunt of the usual boards with an INA219, Ω."""

USUAL_MOST_W = 15.0
"""What such a board is used for at most, W: 3.2 A at 5 V. Beyond it, a driver that was told no
shunt is more likely than so much power."""


class HwmonDriver(Struct, frozen=True):
    """Properties of a driver.

    Attributes:
        scope: what its meter usually sees.
        volts: name of the voltage file beside ``curr1_input``, where there is no power file.
        resolution_w: smallest step of power where the shunt is not known, W.
        relative_uncertainty: one standard deviation of its gain.
        shunt_range_v: largest voltage over the shunt, V; 0 if it is not known.
        shunt_step_v: the step of a power over the current's step, times the shunt: what a step of
            power is over 1 Ω, V²; 0 if it is not known.
        most_current_a: its range where the shunt is in the chip, A.
        either_way: whether the sign of the current depends on how it is plugged in.
    """

    scope: Scope
    volts: str = "in1_input"
    resolution_w: float = 0.02
    relative_uncertainty: float = 0.02
    shunt_range_v: float = 0.0
    shunt_step_v: float = 0.0
    most_current_a: float = 0.0
    either_way: bool = False

    def most_a(self, shunt_ohm: float | None) -> float | None:
        """Its full range with this shunt, A; ``None`` if it is not known."""
        if self.most_current_a:
            return self.most_current_a
        return self.shunt_range_v / shunt_ohm if self.shunt_range_v and shunt_ohm else None

    def step_w(self, shunt_ohm: float | None) -> float:
        """Its smallest step of power with this shunt, W."""
        if self.shunt_step_v and shunt_ohm:
            return max(1e-6, self.shunt_step_v / shunt_ohm)
        return self.resolution_w

    def shunt_doubts(self, shunt_ohm: float | None, power_w: float, folder: Path) -> list[str]:
        """Whether the driver may believe in another shunt than the one that is soldered in."""
        if self is not CHIPS["ina219"] or shunt_ohm is None or power_w <= USUAL_MOST_W:
            return []
        if not math.isclose(shunt_ohm, DEFAULT_SHUNT_OHM, rel_tol=0.01):
            return []
        usual_w = power_w * DEFAULT_SHUNT_OHM / USUAL_SHUNT_OHM
        return [
            "the driver calculates with its default shunt of 10 mΩ, and boards with this chip have "
            f"100 mΩ as a rule (R100 is printed on it); then {power_w:.3g} W are {usual_w:.3g} W: "
            f"{set_shunt(folder)}"
        ]


def set_shunt(folder: Path, shunt_ohm: float = USUAL_SHUNT_OHM) -> str:
    """The command that tells a driver its shunt."""
    return f"echo {shunt_ohm * 1e6:.0f} | sudo tee {folder}/shunt_resistor"


def _ina(range_v: float, step_v: float, uncertainty: float = 0.02) -> HwmonDriver:
    return HwmonDriver(
        scope="board",
        shunt_range_v=range_v,
        shunt_step_v=step_v,
        relative_uncertainty=uncertainty,
    )


_INA219 = _ina(0.32, 20 * 10e-6)
_INA226 = _ina(0.08192, 25 * 2.5e-6)
_INA237 = _ina(0.16384, 0.2 * 5e-6)

CHIPS: dict[str, HwmonDriver] = {
    # Boards for the supply line: 0.5 % (INA219), 0.1 % (INA226) of the chip, 1 to 2 % of the shunt.
    # Steps: of the power register over that of the current, times the step of the shunt's voltage.
    **dict.fromkeys(("ina219", "ina220"), _INA219),
    **dict.fromkeys(("ina226", "ina230", "ina231", "ina232"), _INA226),
    "ina233": _ina(0.08192, 25 * 2.5e-6),
    **dict.fromkeys(("ina228", "ina237", "ina238"), _INA237),
    "ina260": HwmonDriver(
        scope="board", resolution_w=0.01, relative_uncertainty=0.005, most_current_a=15.0
    ),
    # In the USB-C cable, with a signed current; the sign depends on how the meter is plugged in.
    "powerz": HwmonDriver(
        scope="board",
        volts="in0_input",
        resolution_w=1e-3,
        relative_uncertainty=0.005,
        either_way=True,
    ),
    "power_meter": HwmonDriver(scope="wall", resolution_w=1.0, relative_uncertainty=0.05),
}
"""Drivers whose meter is known to see a whole device, where it is the only one."""

_PROCESSOR = ("arm", "kfc", "cpu", "a15", "a7", "core", "eagle")
_GRAPHICS = ("g3d", "gpu", "mali")


def scope_of_label(label: str) -> Scope | None:
    """What a label says that its chip sees: the processor, the graphics part, another rail."""
    words = label.lower().replace("-", "_").split("_")
    if any(word.startswith(_GRAPHICS) for word in words):
        return "gpu"
    if any(word.startswith(_PROCESSOR) for word in words):
        return "cpu"
    return "module" if {"mem", "mif", "dram", "ddr", "soc", "kfc"} & set(words) else None
