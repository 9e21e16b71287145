"""Which values of a cost parameter are usual or possible, and which unit would explain the others.

The names are those of the cost model, of problems and of profiles; all values are SI.

* :class:`Plausible`     the ranges of a quantity, and units that people write instead
* :data:`QUANTITIES`     all of them, by name
* :func:`doubt`          what is unusual about a value, with the unit that would explain it
* :func:`refusal`        the same for what cannot be
* :func:`hint`           only the unit that would explain it
* :func:`reason`         why a value below 0 is refused where that is not plain
* :func:`board_sentences`  doubts or refusals of all values of a board
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from fimi.energy.cost_model import BoardModel

Judge = Callable[..., str | None]
Unit = tuple[str, Callable[[float], float]]
"""A unit, and a value in it as SI."""


def _times(name: str, factor: float) -> Unit:
    return name, lambda value: value * factor


_PERCENT = _times("%", 1e-2)
_MHZ, _GHZ, _KHZ = _times("MHz", 1e6), _times("GHz", 1e9), _times("kHz", 1e3)
_MILLIWATT, _MILLISECOND = _times("mW", 1e-3), _times("ms", 1e-3)


def _logarithmic(name: str, si: Callable[[float], float], low: float, high: float) -> Unit:
    """A unit on a logarithmic scale, in which people write amounts from ``low`` to ``high``.

    Such a scale makes a usual value of nearly any number: 1e-9 W is no power in dBm.
    """
    return name, lambda value: si(value) if low <= abs(value) <= high else math.nan


_DECIBEL = _logarithmic("dB of path loss", lambda value: 10.0 ** (-abs(value) / 10.0), 1.0, 300.0)
_DBM = _logarithmic("dBm", lambda value: 10.0 ** ((value - 30.0) / 10.0), 1.0, 60.0)
_DBM_HZ = _logarithmic("dBm/Hz", lambda value: 10.0 ** ((value - 30.0) / 10.0), 60.0, 250.0)
_RATE = (_times("Mbit/s", 1e6), _times("kbit/s", 1e3), _times("Gbit/s", 1e9))


class Plausible(Struct, frozen=True, kw_only=True):
    """The ranges of a quantity in SI.

    Attributes:
        unit: its SI unit; empty for a number without one.
        typical: a value in the middle of most devices.
        usual: least and most that real devices have; 0 is never unusual.
        possible: least and most that can be at all.
        others: units in which people write it.
        what: what the quantity is, if its name does not say it.
    """

    unit: str
    typical: float
    usual: tuple[float, float]
    possible: tuple[float, float] = (0.0, math.inf)
    others: tuple[Unit, ...] = ()
    what: str = ""


_FREQUENCY = Plausible(
    unit="Hz", typical=1.5e9, usual=(1e6, 2e10), possible=(0.0, 1e12), others=(_MHZ, _GHZ, _KHZ)
)
_POWER = Plausible(
    unit="W",
    typical=3.0,
    usual=(1e-4, 1e3),
    possible=(0.0, 1e5),
    others=(_MILLIWATT, _times("µW", 1e-6)),
)
_RADIO_POWER = Plausible(
    unit="W", typical=0.2, usual=(1e-5, 20.0), possible=(0.0, 1e4), others=(_MILLIWATT, _DBM)
)
_DURATION = Plausible(
    unit="s", typical=20.0, usual=(1e-3, 1e5), others=(_MILLISECOND, _times("µs", 1e-6))
)
_BITS_PER_SECOND = Plausible(unit="bit/s", typical=2e7, usual=(1e2, 1e12), others=_RATE)
_SHARE = Plausible(
    unit="", typical=0.1, usual=(1e-6, 1.0), others=(_PERCENT,), what="a share, 0 to 1"
)

QUANTITIES: dict[str, Plausible] = {
    "cycles_per_sample": Plausible(
        unit="cycles",
        typical=1e7,
        usual=(1e3, 1e14),
        others=(_times("million", 1e6), _times("billion", 1e9)),
    ),
    "capacitance_w_per_hz3": Plausible(
        unit="W/Hz³",
        typical=5e-28,
        usual=(1e-31, 1e-22),
        others=(_times("W/GHz³", 1e-27), _times("mW/GHz³", 1e-30), _times("W/MHz³", 1e-18)),
    ),
    "linear_power_w_per_hz": Plausible(
        unit="W/Hz",
        typical=1e-9,
        usual=(1e-14, 1e-6),
        others=(_times("W/GHz", 1e-9), _times("mW/GHz", 1e-12), _times("W/MHz", 1e-6)),
    ),
    "frequency_min_hz": replace(_FREQUENCY, usual=(1e4, 2e10)),
    "frequency_max_hz": replace(_FREQUENCY, possible=(1e6, 1e12)),
    "frequency_steps_hz": _FREQUENCY,
    "gpu_hz": _FREQUENCY,
    "active_power_w": _POWER,
    "idle_power_w": _POWER,
    "power_w": _POWER,
    "constant_power_w": _POWER,
    "transmit_power_max_w": _RADIO_POWER,
    "receive_power_w": _RADIO_POWER,
    "electronics_power_w": _RADIO_POWER,
    "channel_gain": Plausible(
        unit="",
        typical=1e-10,
        usual=(1e-25, 0.5),
        possible=(0.0, 1.0),
        others=(_DECIBEL,),
        what="a ratio of powers, below 1",
    ),
    "noise_density_w_per_hz": Plausible(
        unit="W/Hz", typical=4e-21, usual=(1e-22, 1e-12), others=(_DBM_HZ, _times("W/MHz", 1e-6))
    ),
    "energy_per_bit_j": Plausible(
        unit="J",
        typical=1e-7,
        usual=(1e-14, 1e-3),
        others=(_times("nJ", 1e-9), _times("µJ", 1e-6), _times("mJ", 1e-3)),
    ),
    "rate_cap_bps": _BITS_PER_SECOND,
    "downlink_rate_bps": _BITS_PER_SECOND,
    "bandwidth_hz": Plausible(unit="Hz", typical=1e6, usual=(1e3, 1e11), others=(_MHZ, _GHZ, _KHZ)),
    "payload_bits": Plausible(
        unit="bit",
        typical=3e7,
        usual=(1e2, 1e13),
        others=(_times("MB", 8e6), _times("Mbit", 1e6), _times("GB", 8e9)),
    ),
    "t_max_s": _DURATION,
    "deadline_s": _DURATION,
    "receive_s": _DURATION,
    "seconds_per_sample": Plausible(
        unit="s", typical=1e-2, usual=(1e-7, 1e3), others=(_MILLISECOND, _times("µs", 1e-6))
    ),
    "error_max": _SHARE,
    "accuracy": _SHARE,
    "synthetic_value": _SHARE,
}
"""By the names that fields have in the cost model, in problems and in profiles."""

_BELOW_ZERO = {
    "linear_power_w_per_hz": (
        "by the law of P_act, c f and κ f³ more speed never takes less power; set it to 0, or give "
        "measured operating points instead, as fimi calibrate writes them"
    ),
}


def doubt(field: str, value: float, *, called: str = "") -> str | None:
    """What is unusual about a value, as the end of a sentence's start: "x is …, below …".

    Args:
        field: name of the quantity; others are never doubted.
        value: in SI, if its writer thought of it.
        called: how the sentence calls it, if not by ``field``.

    Returns:
        The sentence, or ``None`` if the value is usual, zero, infinite or not a number.
    """
    quantity = QUANTITIES.get(field)
    if quantity is None or value == 0.0 or not math.isfinite(value):
        return None
    return _sentence(field, value, quantity.usual, "unusual", called)


def refusal(field: str, value: float, *, called: str = "") -> str | None:
    """The same for a value that nothing has; ``None`` where it can be."""
    quantity = QUANTITIES.get(field)
    if quantity is None or math.isnan(value):
        return None
    return _sentence(field, value, quantity.possible, "impossible", called)


def hint(field: str, value: float) -> str:
    """A unit in which a value would be usual, as "1800 MHz are 1.8e+09 Hz"; empty if there is none.

    Of several units it is the one that makes the value most typical.
    """
    quantity = QUANTITIES.get(field)
    if quantity is None or not math.isfinite(value) or value == 0.0:
        return ""
    low, high = quantity.usual
    meant = [(name, _in_si(si, value)) for name, si in quantity.others]
    fitting = [(name, si) for name, si in meant if low <= si <= high]
    if not fitting:
        return ""
    name, si = min(fitting, key=lambda each: abs(math.log(each[1] / quantity.typical)))
    return f"{value:g} {name} are {si:.4g} {quantity.unit}".rstrip()


def reason(field: str, value: float) -> str:
    """Why a negative value of a quantity is refused, and what to do; empty where it is plain."""
    return _BELOW_ZERO.get(field, "") if value < 0.0 else ""


def board_sentences(board: BoardModel, judge: Judge) -> Iterator[str]:
    """What is doubted (``judge``: :func:`doubt`) or refused (:func:`refusal`) of a board's values.

    Args:
        board: cost parameters.
        judge: gives the sentence about a field, its value and what it is called, or ``None``.
    """
    parts: list[tuple[str, Struct]] = [
        ("board.", board),
        ("board.compute.", board.compute),
        ("board.link.", board.link),
        *((f"point {point.name!r}: ", point) for point in board.compute.points),
    ]
    for called, part in parts:
        for field in part.__struct_fields__:
            value = getattr(part, field)
            if isinstance(value, float | int) and (
                said := judge(field, float(value), called=f"{called}{field}")
            ):
                yield said


def _in_si(si: Callable[[float], float], value: float) -> float:
    try:
        return si(value)
    except OverflowError:
        return math.inf


def _sentence(
    field: str, value: float, limits: tuple[float, float], how: str, called: str
) -> str | None:
    low, high = limits
    if low <= value <= high:
        return None
    quantity = QUANTITIES[field]
    unit = f" {quantity.unit}" if quantity.unit else ""
    side = f"below {low:g}" if value < low else f"above {high:g}"
    what = f"; it is {quantity.what}" if quantity.what else ""
    said = hint(field, value)
    return f"{called or field} is {value:g}{unit}, which is {how} ({side}){what}" + (
        f"; {said}" if said else ""
    )
