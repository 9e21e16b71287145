"""The carbon figures of a run as a table of its export."""

from __future__ import annotations

from typing import Any

from fimi.record.carbon import Carbon, CarbonFigure, Grams
from fimi.record.description import StoreColumn, energy, real, text, whole
from fimi.record.export.tables import TakenTable

_ABOUT = (
    "One row per functional unit R: emissions by ISO/IEC 21031, (E · I + M) per R (docs/model.md, "
    "C1). Computed from the run, not stored in it."
)

COLUMNS: tuple[StoreColumn, ...] = (
    text("per", "functional unit R: run, round, or target (training to an accuracy)"),
    real("target_accuracy", "0 to 1", "of the training that is the unit", null=True),
    whole("units", "units", "of it in the run"),
    *energy("E of all units together; unknown where a part is missing", ""),
    real("known_j", "J", "the part of `energy_j` that is known", null=True),
    real("operational_g", "g CO2eq", "O = E · I per unit", null=True),
    real("operational_known_g", "g CO2eq", "the same of `known_j`", null=True),
    real("embodied_g", "g CO2eq", "M per unit; unknown where none is given", null=True),
    real("total_g", "g CO2eq", "O + M per unit, or O without M", null=True),
    real("total_uncertainty_g", "g CO2eq", "one standard deviation, of E and I", null=True),
    whole("whole_sci", "0 or 1", "whether M of all hardware in the boundary is in it"),
    real("intensity_g_per_kwh", "g CO2eq/kWh", "I, declared"),
    real("intensity_uncertainty_g_per_kwh", "g CO2eq/kWh", "one standard deviation", null=True),
    text("intensity_kind", "declared: no meter of the testbed has read it"),
    text("intensity_basis", "average, short-run-marginal or long-run-marginal"),
    text("intensity_source", "who says so"),
    text("intensity_region", "of which grid region"),
    text("intensity_date", "of which time"),
    text("boundary", "boards, or all: generator node and server as well"),
)


def carbon_rows(carbon: Carbon) -> TakenTable:
    """The table of a run's carbon figures."""
    return TakenTable(
        name="carbon",
        about=_ABOUT,
        columns=COLUMNS,
        primary=(),
        rows=[_row(carbon, figure) for figure in carbon.figures],
    )


def _row(carbon: Carbon, figure: CarbonFigure) -> tuple[Any, ...]:
    told, joules = carbon.settings, figure.energy.value
    known = figure.energy.known
    what = joules or known
    return (
        figure.per,
        figure.target,
        figure.count,
        joules.value_j if joules else None,
        *((what.kind, what.source, what.scope) if what else (None,) * 3),
        *((joules.uncertainty_j, joules.common_j) if joules else (None,) * 2),
        known.value_j if known else None,
        _g(figure.operational),
        _g(figure.operational_known),
        _g(figure.embodied),
        _g(figure.total),
        figure.total.uncertainty_g if figure.total else None,
        int(carbon.is_whole),
        told.intensity_g_per_kwh,
        told.intensity_uncertainty_g_per_kwh or None,
        carbon.intensity_kind,
        told.basis,
        told.source,
        told.region,
        told.date,
        told.boundary,
    )


def _g(found: Grams | None) -> float | None:
    return None if found is None else found.value_g
