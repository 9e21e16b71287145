"""A carbon figure in words, and as a table.

* :func:`grams`         emissions with a suitable prefix
* :func:`carbon_words`  the figure of a run, and what it rests on
* :func:`carbon_table`  all of them, per functional unit
* :func:`boundary_words`, :func:`intensity_words`, :func:`carbon_method`  what they rest on
"""

from __future__ import annotations

from fimi.record.carbon import Carbon, CarbonFigure, Grams
from fimi.report.markup import Column, Html, table
from fimi.report.words import MISSING, percent, whole

_UNITS = ((1e3, "kg"), (1.0, "g"), (1e-3, "mg"))
_BASES = {
    "average": "average of the grid",
    "short-run-marginal": "short-run marginal",
    "long-run-marginal": "long-run marginal",
}


def grams(found: Grams | None, *, sure: bool = True) -> str:
    """``11.3 ± 0.4 mg CO2eq``; the uncertainty is left out where it is 0, or not wanted."""
    if found is None:
        return MISSING
    value_g, sigma_g = found.value_g, found.uncertainty_g
    scale, unit = next((each for each in _UNITS if abs(value_g) >= each[0] * 0.9995), (1e-6, "µg"))
    told = f"{value_g / scale:#.3g}".rstrip(".") if value_g else "0"
    beside = f" ± {sigma_g / scale:.2g}" if sure and sigma_g > 0 else ""
    return f"{told}{beside} {unit} CO2eq"


def per_words(figure: CarbonFigure) -> str:
    """``per run``, ``per round``, ``per training to 95.0 %``."""
    if figure.per == "target":
        return f"per training to {percent(figure.target)}"
    return f"per {figure.per}"


def figure_words(figure: CarbonFigure) -> str:
    """``11.3 ± 0.4 mg CO2eq per round``; what is known of it where a part of E is missing."""
    if figure.total is not None:
        return f"{grams(figure.total)} {per_words(figure)}"
    known = figure.operational_known
    at_least = f"unknown; at least {grams(known)}" if known else "unknown"
    return f"{at_least} {per_words(figure)}"


def name_of(carbon: Carbon) -> str:
    """What the figures are: ``SCI``, or operational emissions that are no whole one."""
    return "SCI" if carbon.is_whole else "operational emissions"


def intensity_words(carbon: Carbon) -> str:
    """``380 ± 20 g CO2eq/kWh, average of the grid, DE, 2025, declared: UBA 2026``."""
    told = carbon.settings
    sigma = told.intensity_uncertainty_g_per_kwh
    sure = f" ± {sigma:g}" if sigma else ""
    where = "".join(f", {text}" for text in (told.region, told.date) if text)
    source = told.source or "nobody said by whom"
    return (
        f"{told.intensity_g_per_kwh:g}{sure} g CO2eq/kWh, {_BASES[told.basis]}{where}, "
        f"{carbon.intensity_kind}: {source}"
    )


def boundary_words(carbon: Carbon) -> str:
    """Whose joules and hardware are in the figures."""
    if carbon.settings.boundary == "all":
        return (
            "boards, generator node while it draws, server while it trains; no network, no broker"
        )
    return "boards alone; no generator node, server, network or broker"


def embodied_words(carbon: Carbon) -> str:
    """What the embodied part is, or whose is not given."""
    embodied, told = carbon.of_run.embodied, carbon.settings
    lacking = carbon.without_embodied
    some = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
    if embodied is None:
        what = "for no hardware of this run" if told.embodied_of else "for nothing"
        return f"embodied emissions are given {what}, so it is no whole SCI"
    share = "" if told.resource_share == 1 else f", {percent(told.resource_share)} of it reserved"
    said = f"M {grams(embodied)} per run over a lifespan of {told.lifetime_years:g} years{share}"
    return f"{said}; not given for {some}, so it is no whole SCI" if lacking else said


def carbon_words(carbon: Carbon | None) -> tuple[str, str]:
    """The figure of the run, and what it rests on; empty without an intensity."""
    if carbon is None:
        return "", ""
    run, *others = carbon.figures
    of_kind = f" (E {run.energy.known.kind}, {run.energy.known.scope})" if run.energy.known else ""
    value = f"{name_of(carbon)} {figure_words(run)}{of_kind}"
    said = [
        *map(figure_words, others),
        f"E {whole(run.energy) or 'not metered'}",
        f"I {intensity_words(carbon)}",
        embodied_words(carbon),
        f"boundary: {boundary_words(carbon)}",
    ]
    if run.energy.known is not None and run.energy.known.kind in ("emulated", "mixed"):
        said.append("no grid has supplied what is emulated")
    return value, "; ".join(said)


def carbon_table(carbon: Carbon | None) -> Html | None:
    """Every figure with its parts; nothing without an intensity."""
    if carbon is None:
        return None
    columns: list[Column[CarbonFigure]] = [
        Column("functional unit R", "", lambda f: per_words(f).removeprefix("per "), "name"),
        Column("of it in the run", "", lambda f: str(f.count)),
        Column("E", "all of them", lambda f: whole(f.energy) or "not metered", "text"),
        Column("O = E · I", "per R", lambda f: grams(f.operational)),
        Column("M", "per R", lambda f: grams(f.embodied)),
        Column(
            name_of(carbon),
            "per R",
            lambda f: figure_words(f).removesuffix(f" {per_words(f)}"),
        ),
    ]
    return table(columns, carbon.figures, caption="Emissions by ISO/IEC 21031")


def carbon_method(carbon: Carbon) -> str:
    """How they came about, for the page."""
    whole_sci = "SCI = (E · I + M) per R."
    if not carbon.is_whole:
        whole_sci = "E · I per R: no whole SCI, which has M of all hardware in its boundary."
    return (
        f"{whole_sci} I: {intensity_words(carbon)}. Boundary: {boundary_words(carbon)}. "
        f"Embodied: {embodied_words(carbon)}. ± is one standard deviation, from that of E and "
        "that of I; M has none."
    )
