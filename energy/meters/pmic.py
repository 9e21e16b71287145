"""Raspberry Pi 5: the power management chip measures twelve of its rails.

The firmware lists currents and voltages, one per line (``VDD_CORE_A current(7)=1.54489000A``),
which are paired by the name of the rail. Every listing that we have seen has A and V; mA and mV are
read as what they are. The chip does not see USB devices, fans, HATs on the 5 V
pins, nor its own losses; hence the scope ``module``.

A Raspberry Pi 4 or older has no such measurement. On a Pi 5 the query may fail for a while, or for
one of the ways to ask: every way is tried several times at the start, and the query is tried again
at every look.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError, names
from fimi.energy.meters.vcgencmd import Ask, Firmware, ways
from fimi.energy.sysfs import read_text

CPU_RAIL = "VDD_CORE"
QUERY = "pmic_read_adc"

_LINE = re.compile(
    r"^\s*(\w+?)_([AV])\s+(?:current|volt)\(\d+\)=(-?[\d.]+) ?(m?)\2\s*$", re.MULTILINE
)
_CURRENT = re.compile(r"^\s*(\w+?)_A\s+current\(", re.MULTILINE)
_MEASURING = ("Raspberry Pi 5", "Compute Module 5", "Raspberry Pi 500")


def rail_powers_w(listing: str) -> dict[str, float]:
    """Power of every rail with a current and a voltage in ``vcgencmd pmic_read_adc``, W."""
    return {rail: volts * amperes for rail, (volts, amperes) in _rails(listing).items()}


class Pmic(Meter):
    """The sum of the rails, or one of them.

    Args:
        ask: asks the firmware.
        part: a rail, ``"cpu"`` for the processor's, or ``None`` for all of them.
        model: of the board, for messages.

    Raises:
        MeterUnavailableError: the firmware lists no rails, or not this one.
    """

    def __init__(self, ask: Ask, part: str | None = None, *, model: str = "") -> None:
        self._ask = ask
        self._model = model or "Raspberry Pi"
        self._why = ""
        self._shown: dict[str, tuple[float, float]] = {}
        self._currents: list[str] = []
        listed = self._read()
        if not listed:
            raise MeterUnavailableError(
                f"the firmware of this {self._model} lists no currents (vcgencmd {QUERY}: "
                f"{self._why}): only the Pi 5 measures them. Use an INA219 or INA226 board in the "
                "supply line, a USB meter or a plug"
            )
        rail = CPU_RAIL if part == "cpu" else part
        if rail is not None and rail not in listed:
            raise names.unknown(f"pmic:{rail}", [f"pmic:{each}" for each in listed])
        self._rails = frozenset(listed if rail is None else {rail})
        self._left = () if rail else tuple(r for r in self._currents if r not in listed)
        self.made_of = frozenset(f"pmic:{each}" for each in self._rails)
        self._description = MeterDescription(
            source="pmic:" + (f"{len(self._rails)} rails" if rail is None else rail),
            kind="measured",
            scope="cpu" if rail == CPU_RAIL else "module",
            rate_hz=10.0,
            resolution_w=0.01,
            # Our estimate: neither the maker of the chip nor that of the board states an accuracy.
            relative_uncertainty=0.03,
        )

    def look(self, time_s: float) -> Look:
        """The sum of the rails; empty if a rail is missing that was listed at first."""
        powers_w = self._read()
        if missing := self._rails - powers_w.keys():
            self._why = self._why or f"no power of {', '.join(sorted(missing))} in its answer"
            return NOTHING
        return Look(power_w=math.fsum(powers_w[rail] for rail in self._rails))

    def facts(self) -> tuple[str, ...]:
        """Volts and amperes of its rails now."""
        rails = sorted(self._rails & self._shown.keys())
        return tuple(
            f"{rail} {self._shown[rail][0]:.3g} V {self._shown[rail][1]:.3g} A" for rail in rails
        )

    def doubts(self) -> tuple[str, ...]:
        """Rails that cannot be counted."""
        if not self._left:
            return ()
        return (
            f"the firmware lists a current of {', '.join(self._left)} without a voltage, or in a "
            "form that is not known: its power is missing",
        )

    def why_nothing(self) -> str:
        """The model, the query, and what came instead of an answer."""
        return f"vcgencmd {QUERY} on this {self._model}: {self._why}" if self._why else ""

    def _read(self) -> dict[str, float]:
        listing = self._ask(QUERY)
        self._shown = _rails(listing or "")
        self._currents = _CURRENT.findall(listing or "")
        self._why = ""
        if not self._shown:
            said = getattr(self._ask, "why", "") if listing is None else listing.strip()[:160]
            self._why = said or "no answer"
        return {rail: volts * amperes for rail, (volts, amperes) in self._shown.items()}


def open_pmic(root: Path, part: str | None = None, ask: Ask | None = None) -> Pmic:
    """The power management chip of this Raspberry Pi 5, or one of its rails.

    Raises:
        MeterUnavailableError: there is none, or this user may not ask it; names the model, the
            query and what each way to ask it said.
    """
    model = board_model(root)
    if ask is not None:
        return Pmic(ask, part, model=model)
    found = ways(root)
    for way in found:
        if way.persistently(QUERY) is not None:
            return Pmic(way, part, model=model)
    why = "; ".join(way.why for way in found) or "there is no /dev/vcio and no program vcgencmd"
    if "Raspberry Pi" in model and not measures(root) and _answering(found):
        raise MeterUnavailableError(
            f"this {model} does not measure its currents (vcgencmd {QUERY}: {why}): only the Pi 5 "
            "does. Use an INA219 or INA226 board in the supply line, a USB meter or a plug"
        )
    if "Raspberry Pi" in model or found:
        raise MeterUnavailableError(
            f"the firmware of this {model or 'Raspberry Pi'} does not answer vcgencmd {QUERY}: "
            f"{why}. Try it by hand (vcgencmd {QUERY}); add this user to the group video (sudo "
            "usermod -aG video $USER, then log in again), or install vcgencmd (sudo apt install "
            "raspi-utils); in a container pass on /dev/vcio"
        )
    raise MeterUnavailableError("not a Raspberry Pi: there is no /dev/vcio and no vcgencmd")


def board_model(root: Path) -> str:
    """The model that the device tree names; empty if there is none."""
    return (read_text(root / "proc" / "device-tree" / "model") or "").rstrip("\0").strip()


def measures(root: Path) -> bool:
    """Whether this board is one whose firmware measures its rails."""
    return any(name in board_model(root) for name in _MEASURING)


def _answering(found: list[Firmware]) -> bool:
    return any(way("version") is not None for way in found)


def _rails(listing: str) -> dict[str, tuple[float, float]]:
    """Volts and amperes of every rail that has both and neither negative."""
    values: dict[str, dict[str, float]] = {}
    for rail, quantity, number, milli in _LINE.findall(listing):
        try:
            values.setdefault(rail, {})[quantity] = float(number) * (1e-3 if milli else 1.0)
        except ValueError:
            continue
    return {
        rail: (each["V"], each["A"])
        for rail, each in values.items()
        if len(each) == 2 and min(each.values()) >= 0.0 and math.isfinite(each["A"] * each["V"])
    }
