"""What a carbon figure needs beside joules: the section ``carbon`` of a configuration.

* :class:`CarbonSettings`  intensity of the electricity, boundary, embodied emissions
* :func:`settings_of`      those of a stored configuration
* :func:`embodied_of`      total embodied emissions by board, device or role
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Basis = Literal["average", "short-run-marginal", "long-run-marginal"]
Boundary = Literal["boards", "all"]

_EMBODIED = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}=[0-9]+(\.[0-9]+)?$"


class CarbonSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A carbon figure by ISO/IEC 21031 (SCI), where an intensity is given; it decides no run."""

    intensity_g_per_kwh: Annotated[
        float,
        Meta(ge=0, le=5000),
        "Carbon intensity of the electricity, g CO2eq/kWh, of the grid where the boards stand, "
        "without certificates and other market-based measures; 0: no carbon figure.",
    ] = 0.0
    intensity_uncertainty_g_per_kwh: Annotated[
        float, Meta(ge=0, le=5000), "One standard deviation of it; 0: not known."
    ] = 0.0
    basis: Annotated[Basis, "What the intensity is of the grid's."] = "average"
    source: Annotated[str, "Who says so: a report or data set, with its year."] = ""
    region: Annotated[str, "Of which grid region."] = ""
    date: Annotated[str, "Of which time: a year, a day, an hour."] = ""
    boundary: Annotated[
        Boundary,
        'Whose joules and hardware: "boards", the devices alone; "all": generator node and server '
        "as well, for as long as they work.",
    ] = "boards"
    embodied_kg: Annotated[
        float,
        Meta(ge=0, le=1e5),
        "Total embodied emissions of a board, kg CO2eq, from a life cycle assessment; 0: not "
        "given, and the figure is operational only.",
    ] = 0.0
    embodied_of: Annotated[
        tuple[Annotated[str, Meta(pattern=_EMBODIED)], ...],
        'The same of single ones, "NAME=KG": a model of board, the id of a device, "generator" or '
        '"server".',
    ] = ()
    lifetime_years: Annotated[
        float, Meta(ge=0, le=100), "Expected lifespan of the hardware, for its embodied emissions."
    ] = 0.0
    resource_share: Annotated[
        float,
        Meta(gt=0, le=1),
        "Share of the hardware that is reserved for the run while it lasts, 0 to 1.",
    ] = 1.0


def settings_of(config: Mapping[str, Any]) -> CarbonSettings | None:
    """The settings in a stored configuration; ``None`` where it gives no intensity.

    Raises:
        msgspec.ValidationError: a value is none that a configuration can have.
    """
    prefix = "carbon."
    names = CarbonSettings.__struct_fields__
    told = {name: config[prefix + name] for name in names if prefix + name in config}
    found = msgspec.convert(told, CarbonSettings)
    return found if found.intensity_g_per_kwh > 0 else None


def embodied_of(settings: CarbonSettings) -> dict[str, float]:
    """Total embodied emissions by board, device or role, kg CO2eq."""
    named = (re.split("=", text, maxsplit=1) for text in settings.embodied_of)
    return {name: float(kg) for name, kg in named}
