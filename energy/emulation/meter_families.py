"""Families of meters that emulated boards may have instead of their make's own.

* :data:`MeterFamily`     their names
* :func:`meter_of`        what the meter of a board is

The make's own meter (``preset``) sees every step of power at its edge. The others are
:class:`fimi.energy.emulation.late_meter.LateMeter`: what they show is late, seldom, or a mean, as
that of the real ones, so that a dry run shows what can be told with such a meter.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec.structs import replace

from fimi.energy.meters import MeterDescription
from fimi.energy.meters.response import MeterResponse

MeterFamily = Literal["preset", "counter", "chip", "averaging", "plug", "battery"]
"""``preset``: the make's own. ``counter``: of energy, new every millisecond, as RAPL. ``chip``: the
power of an instant, ten times a second. ``averaging``: means of 0.1 s, as an INA that averages.
``plug``: means of a second, shown 1 to 2 s after it, in steps of 0.1 W. ``battery``: a fuel gauge,
new every two seconds, in steps of 0.1 W."""

RELATIVE_NOISE = 0.005
"""One standard deviation of a value's noise over the power, of all but the make's own."""


def _family(rate_hz: float, **settings: Any) -> MeterDescription:
    return MeterDescription(
        source="emulated", kind="emulated", scope="board", rate_hz=rate_hz, **settings
    )


_FAMILIES: dict[str, MeterDescription] = {
    "counter": _family(
        1000.0,
        resolution_j=6.1e-5,
        counts=True,
        response=MeterResponse(refresh_s=0.001, origin="emulated"),
    ),
    "chip": _family(10.0, resolution_w=0.01),
    "averaging": _family(
        10.0,
        resolution_w=0.01,
        response=MeterResponse(window_s=0.1, refresh_s=0.1, origin="emulated"),
    ),
    "plug": _family(
        1.0,
        resolution_w=0.1,
        response=MeterResponse(delay_s=1.0, window_s=1.0, refresh_s=1.0, origin="emulated"),
    ),
    "battery": _family(
        1.0, resolution_w=0.1, response=MeterResponse(refresh_s=2.0, origin="emulated")
    ),
}


def meter_of(own: MeterDescription, board: str, family: MeterFamily) -> MeterDescription:
    """What the meter of a board is.

    Args:
        own: that of its make, whose gain is as uncertain.
        board: name of the make.
        family: which meter it has.

    Raises:
        ValueError: there is no such family.
    """
    if family == "preset":
        return own
    if family not in _FAMILIES:
        known = ", ".join(("preset", *_FAMILIES))
        raise ValueError(f"no family of emulated meters is called {family!r}; there are {known}")
    return replace(
        _FAMILIES[family],
        source=f"emulated:{board}:{family}",
        relative_uncertainty=own.relative_uncertainty,
    )
