"""A calibration as a page: powers with their fits, held-out errors, what every point costs; tables.

Needs plotly: importing it raises ImportError where that is not installed.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import numpy as np

from fimi.energy.calibration.fit import CONFIDENCE, along_frequency, by_frequency
from fimi.energy.calibration.fitted import Calibration
from fimi.energy.calibration.held_out import mape_percent
from fimi.energy.cost_model import BoardModel, formula_power_w
from fimi.report import plot_style
from fimi.report.markup import Column, Html, element, join, table
from fimi.report.plot_style import Picture
from fimi.report.skeleton import (
    badge,
    footer,
    header,
    items,
    noscript,
    notice,
    page,
    pair,
    picture,
    section,
)
from fimi.testbed.tools.calibrate_show import parameters

_LAW, _CUBIC, _VOLTAGE, _MEASURED_TABLE = 1, 7, 4, 2
"""Which of the series each way to predict has, in all pictures."""


def calibration_page(found: Calibration, declared: BoardModel | None = None) -> str:
    """The page.

    Args:
        found: the result of a calibration.
        declared: cost parameters that would be used without a calibration, if there are any.
    """
    meter = found.hardware.meter
    pictures = (_powers(found, declared), _errors(found), _points(found))
    drawn = {each.name: each for each in pictures if each is not None}
    places = {name: picture(each) for name, each in drawn.items()}
    held = list(found.held_out_table.values())
    content = join(
        [
            header(
                "calibration",
                found.hardware.board,
                badge(meter.kind),
                f"meter {meter.source}",
                f"scope {meter.scope}",
                f"{len(found.settings)} settings",
                f"held-out error {mape_percent(held):.1f} %" if held else None,
                lead=found.choice,
            ),
            notice("To know. ", items(found.notes)) if found.notes else None,
            noscript(),
            section("Power", "", pair(places.get("powers"), places.get("errors"))),
            section("Operating points", "", pair(places.get("points")), _point_table(found)),
            section("Parameters", "", _parameter_table(found)),
            footer("Made by ", element("code", "fimi calibrate"), "."),
        ]
    )
    return page(f"Calibration of {found.hardware.board} · FIMI testbed", content, drawn)


def _powers(found: Calibration, declared: BoardModel | None) -> Picture:
    busy = along_frequency(found.settings)
    idle = [s for s in found.settings if s.activity == "idle"]
    figure = plot_style.figure(
        440,
        xaxis=plot_style.axis("CPU frequency, GHz"),
        yaxis=plot_style.axis(
            f"power of the {found.hardware.meter.scope}, W ({found.hardware.meter.kind})",
            rangemode="tozero",
        ),
    )
    hertz = [s.frequency_hz for s in busy] or [found.settings[0].frequency_hz]
    grid = np.linspace(min(hertz), max(hertz), 120)
    for name, curve, line in _curves(found, declared):
        figure.add_scatter(
            x=(grid / 1e9).tolist(),
            y=[float(curve(f)) for f in grid],
            mode="lines",
            name=name,
            line=line,
            hovertemplate="%{x:.3g} GHz<br>%{y:.4g} W<extra></extra>",
        )
    if found.voltage is not None:
        # Voltages and temperatures are known at the measured frequencies only.
        groups = by_frequency(busy)
        figure.add_scatter(
            x=[f / 1e9 for f, _ in groups],
            y=[float(np.mean([found.voltage.power_w(s) for s in each])) for _, each in groups],
            mode="lines+markers",
            name="fit with V² f" + (" and leakage" if found.voltage.leakage_a else ""),
            line={"color": plot_style.SERIES[_VOLTAGE], "width": 2, "dash": "dash"},
            marker={"symbol": "diamond-open", "size": 8},
            hovertemplate="%{x:.3g} GHz<br>%{y:.4g} W<extra></extra>",
        )
    for name, chosen, symbol, colour in (
        ("measured, computing", busy, "circle", plot_style.MEASURED),
        ("measured, at rest", idle, "x", plot_style.LINE),
    ):
        figure.add_scatter(
            x=[s.frequency_hz / 1e9 for s in chosen],
            y=[s.power_w for s in chosen],
            error_y={
                "array": [2 * s.uncertainty_j / s.duration_s for s in chosen],
                "width": 3,
                "thickness": 1.2,
            },
            mode="markers",
            name=f"{name} ± 2 s.d.",
            marker=plot_style.marker(symbol, 8, colour),
            hovertemplate="%{x:.3g} GHz<br>%{y:.4g} W<extra></extra>",
        )
    return Picture(
        name="powers",
        title="Board power while computing",
        caption="Metered at each setting, with two standard deviations, and what is fitted to it.",
        figure=figure,
    )


def _curves(found: Calibration, declared: BoardModel | None) -> list[tuple[str, Any, Any]]:
    series = plot_style.SERIES
    curves: list[tuple[str, Any, Any]] = []
    if found.power is not None:
        line: dict[str, Any] = {"color": series[_LAW], "width": 2.5}
        curves.append(("fit with c f + κ f³", found.power.busy_power_w, line))
    if found.cubic is not None:
        line = {"color": series[_CUBIC], "width": 1.5, "dash": "dashdot"}
        curves.append(("fit with κ f³", found.cubic.busy_power_w, line))
    if declared is not None:
        line = {"color": plot_style.LINE, "width": 2, "dash": "dot"}
        curves.append(("uncalibrated", _declared(declared), line))
    return curves


def _declared(board: BoardModel) -> Callable[[float], float]:
    """The power of a board while computing, by its declared law, W."""
    return lambda frequency_hz: board.idle_power_w + formula_power_w(board.compute, frequency_hz)


def _errors(found: Calibration) -> Picture | None:
    figure = plot_style.figure(
        440,
        xaxis=plot_style.axis("CPU frequency, GHz"),
        yaxis=plot_style.axis("(predicted − metered) / metered, %", zeroline=True),
    )
    anything = False
    for name, errors, symbol, k in (
        ("c f + κ f³", found.held_out, "circle", _LAW),
        ("κ f³", found.held_out_cubic, "x", _CUBIC),
        ("V² f", found.held_out_voltage, "diamond", _VOLTAGE),
        ("measured table", found.held_out_table, "square", _MEASURED_TABLE),
    ):
        if not errors:
            continue
        anything = True
        colour = plot_style.SERIES[k]
        figure.add_scatter(
            x=[f / 1e9 for f in errors],
            y=[100 * e for e in errors.values()],
            mode="markers+lines",
            name=name,
            marker=plot_style.marker(symbol, 9, colour),
            line={"color": colour, "width": 1, "dash": "dot"},
            hovertemplate=f"{name}<br>%{{x:.3g}} GHz<br>%{{y:+.1f}} %<extra></extra>",
        )
    if not anything:
        return None
    return Picture(
        name="errors",
        title="Error of the energy, each frequency held out",
        caption="Joules of computing at a frequency that was not fitted to.",
        figure=figure,
    )


def _points(found: Calibration) -> Picture | None:
    if not found.points:
        return None
    never = found.never_chosen
    figure = plot_style.figure(
        380,
        xaxis=plot_style.axis("time of a sample, ms", rangemode="tozero"),
        yaxis=plot_style.axis(
            f"energy of a sample above idle, mJ ({found.hardware.meter.kind})", rangemode="tozero"
        ),
    )
    for name, chosen, symbol, colour in (
        ("point", [p for p in found.points if p.name not in never], "circle", plot_style.MEASURED),
        (
            "no plan will choose it",
            [p for p in found.points if p.name in never],
            "circle-open",
            plot_style.LINE,
        ),
    ):
        figure.add_scatter(
            x=[1e3 * p.seconds_per_sample.value for p in chosen],
            y=[1e3 * p.seconds_per_sample.value * p.power_w.value for p in chosen],
            text=[
                f"<b>{plot_style.label(p.name, 60)}</b>"
                f"<br>{1e3 * p.seconds_per_sample.value:.4g} ms"
                f"<br>{1e3 * p.seconds_per_sample.value * p.power_w.value:.4g} mJ"
                for p in chosen
            ],
            mode="markers",
            name=name,
            marker=plot_style.marker(symbol, 10, colour, line_width=2),
        )
    return Picture(
        name="points",
        title="What a sample costs at every operating point",
        caption="Left is faster, below is thriftier.",
        figure=figure,
    )


def _point_table(found: Calibration) -> Html | None:
    if not found.points:
        return None
    columns: list[Column[Any]] = [
        Column("Point", "", lambda p: p.name, "name"),
        Column("Time of a sample", "ms", lambda p: f"{1e3 * p.seconds_per_sample.value:.4g}"),
        Column("Power above idle", "W", lambda p: f"{p.power_w.value:.3f}"),
        Column(
            "Power above idle",
            f"{CONFIDENCE:.0%} confidence",
            lambda p: f"{p.power_w.low:.3f} to {p.power_w.high:.3f}",
        ),
        Column(
            "Energy of a sample",
            "mJ",
            lambda p: f"{1e3 * p.seconds_per_sample.value * p.power_w.value:.4g}",
        ),
    ]
    if found.never_chosen:
        columns.append(
            Column("Why no plan chooses it", "", lambda p: found.never_chosen.get(p.name), "text")
        )
    return table(columns, found.points)


def _parameter_table(found: Calibration) -> Html:
    columns: list[Column[tuple[str, ...]]] = [
        Column("Parameter", "", itemgetter(0), "name"),
        Column("Value", "", itemgetter(1)),
        Column("Unit", "", itemgetter(2), "name"),
        Column(f"{CONFIDENCE:.0%} confidence", "", itemgetter(3)),
    ]
    return table(columns, parameters(found))
