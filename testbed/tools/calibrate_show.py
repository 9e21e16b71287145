"""The output of a calibration: table, profile file, plot.

* :func:`table`      every parameter with its confidence interval, and the held-out errors
* :func:`profile`    the profile as TOML, with its origin in comments
* :func:`page`       the fit as a self-contained page; needs plotly
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fimi.energy.calibration.fit import CONFIDENCE, Estimate, by_frequency
from fimi.energy.calibration.fitted import Calibration
from fimi.energy.calibration.held_out import energy_errors, mape_percent
from fimi.energy.cost_model import BoardModel
from fimi.report import layout as display
from fimi.report.layout import Marked, Paper, entries, wrap
from fimi.report.words import MISSING


def table(
    found: Calibration, declared: BoardModel | None = None, paper: Paper | None = None
) -> str:
    """The result as a table for people.

    Args:
        found: the result of a calibration.
        declared: cost parameters that would be used without a calibration, if there are any.
        paper: layout of the output; plain text of 80 columns if left out.
    """
    paper = paper or Paper()
    meter = found.hardware.meter
    rows = [
        _row("P_idle", "W", found.power.idle_w),
        _row("P_act", "W", found.power.active_w),
        _row("κ", "W/Hz³", found.power.slope),
        _row("C", "cycles a sample", found.cycles),
    ]
    if (voltage := found.voltage) is not None:
        rows.append(_row("with V² f: P_act", "W", voltage.active_w))
        rows.append(_row("with V² f: capacitance", "nF", voltage.slope.scaled(1e9)))
        if voltage.leakage_a is not None:
            rows.append(_row("with V² f: leakage, 45 °C", "mA", voltage.leakage_a.scaled(1e3)))
    if found.radio is not None:
        rows.append(_row("radio electronics", "W", found.radio.electronics_w))
        rows.append(_row("sending", "nJ/bit", found.radio.energy_per_bit_j.scaled(1e9)))
    if found.receive_w is not None:
        rows.append(_row("receiving", "W", found.receive_w))
    if found.channel_gain is not None:
        rows.append(_row("channel gain", "", found.channel_gain))
    errors = {"κ f³": found.held_out}
    if found.voltage is not None:
        errors["V² f"] = found.held_out_voltage
    errors["measured table"] = found.held_out_table
    uncalibrated = None
    if declared is not None:
        busy_power_w = _cubic(declared)
        uncalibrated = energy_errors(
            found.settings,
            lambda setting: busy_power_w(setting.frequency_hz),
            declared.compute.cycles_per_sample,
        )
    notes = [(Marked("note", "warning"), note) for note in found.notes]
    text = "\n\n".join(
        [
            "\n".join(
                wrap(
                    f"{found.hardware.board}: {len(found.settings)} settings, joules from "
                    f"{meter.source} ({meter.kind}, {meter.scope})",
                    paper.text_width,
                )
            ),
            display.table(
                ("parameter", "value", "unit", f"{CONFIDENCE:.0%} confidence"), rows, paper=paper
            ),
            "Error of the joules of computing, %; each frequency was held out of its fit:\n"
            + _error_table(errors, uncalibrated, paper),
            *([entries(notes, indent=6, paper=paper)] if notes else []),
        ]
    )
    return paper.kinds(text)


def profile(found: Calibration, board: BoardModel, *, kept: dict[str, Any], at: str) -> str:
    """The profile as TOML, with intervals and origin in comments.

    Args:
        found: the result of a calibration.
        board: the cost parameters to write.
        kept: further keys of the profile, such as the agent's meter.
        at: time of the calibration.
    """
    power, compute, link = found.power, board.compute, board.link
    source = found.hardware.meter
    notes = {
        "idle_power_w": _interval(power.idle_w),
        "cycles_per_sample": _interval(found.cycles),
        "capacitance_w_per_hz3": _interval(power.slope),
        "active_power_w": _interval(power.active_w),
    }
    if found.radio is not None:
        notes["electronics_power_w"] = _interval(found.radio.electronics_w)
        notes["energy_per_bit_j"] = _interval(found.radio.energy_per_bit_j)
    if found.receive_w is not None:
        notes["receive_power_w"] = _interval(found.receive_w)
    if found.channel_gain is not None:
        notes["channel_gain"] = _interval(found.channel_gain)
    if found.downlink_bps is not None:
        notes["downlink_rate_bps"] = "mean"
    held = list(found.held_out_table.values())
    lines = [
        f"# Calibrated {at} with {source.source} ({source.kind}, {source.scope}).",
        f"# Held-out error of the energy: {mape_percent(held):.1f} %." if held else None,
        *(f"# {note}" for note in found.notes),
        f"# Intervals are those of {CONFIDENCE:.0%} confidence.",
        f"name = {_toml(found.hardware.board)}",
        *(f"{key} = {_toml(value)}" for key, value in kept.items()),
        "",
        "[board]",
        _key("idle_power_w", board.idle_power_w, notes),
    ]
    for section, part in (("board.compute", compute), ("board.link", link)):
        lines += ["", f"[{section}]"]
        lines += [_key(k, v, notes) for k, v in msgspec.structs.asdict(part).items()]
    return "\n".join(line for line in lines if line is not None) + "\n"


def page(found: Calibration, declared: BoardModel | None = None) -> str:
    """The fit as a self-contained page: powers, fits and held-out errors over frequency.

    Raises:
        ImportError: plotly is not installed.
    """
    from plotly.subplots import make_subplots

    busy = [s for s in found.settings if s.activity == "compute"]
    idle = [s for s in found.settings if s.activity == "idle"]
    figure = make_subplots(
        rows=1,
        cols=2,
        column_widths=[0.62, 0.38],
        horizontal_spacing=0.1,
        subplot_titles=("Board power while computing", "Energy error, frequency held out"),
    )
    lowest, highest = min(s.frequency_hz for s in busy), max(s.frequency_hz for s in busy)
    grid = np.linspace(lowest, highest, 120)
    for name, curve, line in _curves(found, declared):
        figure.add_scatter(
            x=grid / 1e9, y=[curve(f) for f in grid], mode="lines", name=name, line=line
        )
    if found.voltage is not None:
        # Voltages and temperatures are known at the measured frequencies only.
        groups = by_frequency(busy)
        figure.add_scatter(
            x=[f / 1e9 for f, _ in groups],
            y=[float(np.mean([found.voltage.power_w(s) for s in each])) for _, each in groups],
            mode="lines+markers",
            name="fit with V² f" + (" and leakage" if found.voltage.leakage_a else ""),
            line={"color": "#7d4e92", "width": 2, "dash": "dash"},
            marker={"symbol": "diamond-open", "size": 8},
        )
    for name, chosen, symbol, colour in (
        ("measured, computing", busy, "circle", "#2b74b8"),
        ("measured, at rest", idle, "x", "#6b7580"),
    ):
        figure.add_scatter(
            x=[s.frequency_hz / 1e9 for s in chosen],
            y=[s.power_w for s in chosen],
            error_y={"array": [2 * s.uncertainty_j / s.duration_s for s in chosen], "width": 3},
            mode="markers",
            name=f"{name} ± 2 s.d.",
            marker={"symbol": symbol, "size": 8, "color": colour},
        )
    for name, errors, symbol, colour in (
        ("κ f³", found.held_out, "circle", "#d97a1a"),
        ("V² f", found.held_out_voltage, "diamond", "#7d4e92"),
        ("measured table", found.held_out_table, "square", "#3a9a8c"),
    ):
        if errors:
            figure.add_scatter(
                x=[f / 1e9 for f in errors],
                y=[100 * e for e in errors.values()],
                mode="markers+lines",
                name=f"held out, {name}",
                marker={"symbol": symbol, "size": 9, "color": colour},
                line={"color": colour, "width": 1, "dash": "dot"},
                row=1,
                col=2,
            )
    meter = found.hardware.meter
    figure.update_xaxes(title_text="CPU frequency, GHz", showgrid=True, gridcolor="#e6e9ee")
    figure.update_yaxes(showgrid=True, gridcolor="#e6e9ee")
    figure.update_yaxes(title_text=f"power, W ({meter.kind})", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(
        title_text="(predicted − metered) / metered, %",
        zeroline=True,
        zerolinecolor="#8b95a1",
        row=1,
        col=2,
    )
    figure.update_layout(
        title={
            "text": f"Calibration of {found.hardware.board} · {meter.source} ({meter.kind}, "
            f"{meter.scope})",
            "x": 0.02,
        },
        template="plotly_white",
        height=560,
        legend={"orientation": "h", "y": -0.16},
        margin={"l": 70, "r": 30, "t": 90, "b": 40},
    )
    text: str = figure.to_html(include_plotlyjs=True, full_html=True)
    return text


def _curves(found: Calibration, declared: BoardModel | None) -> list[tuple[str, Any, Any]]:
    curves: list[tuple[str, Any, Any]] = [
        ("fit with κ f³", found.power.busy_power_w, {"color": "#d97a1a", "width": 2.5})
    ]
    if declared is not None:
        curves.append(
            ("uncalibrated", _cubic(declared), {"color": "#8b95a1", "width": 2, "dash": "dot"})
        )
    return curves


def _cubic(board: BoardModel) -> Callable[[float], float]:
    compute = board.compute

    def busy_power_w(frequency_hz: float) -> float:
        rising_w = compute.capacitance_w_per_hz3 * frequency_hz**3
        return board.idle_power_w + compute.active_power_w + rising_w

    return busy_power_w


def _row(name: str, unit: str, estimate: Estimate) -> tuple[str, ...]:
    return name, f"{estimate.value:.4g}", unit, f"{estimate.low:.4g} to {estimate.high:.4g}"


def _error_table(
    errors: dict[str, dict[float, float]],
    uncalibrated: Sequence[float] | NDArray[np.float64] | None,
    paper: Paper,
) -> str:
    """A row per model, a column per frequency."""
    frequencies_hz = sorted({frequency for each in errors.values() for frequency in each})
    heading = ["", "mean\nabsolute", *(f"{f / 1e9:.2f}\nGHz" for f in frequencies_hz)]
    rows = []
    for name, each in errors.items():
        known = list(each.values())
        cells = [f"{100 * each[f]:+.1f}" if f in each else MISSING for f in frequencies_hz]
        rows.append((name, f"{mape_percent(known):.1f}" if known else MISSING, *cells))
    if uncalibrated is not None:
        blank = [MISSING] * len(frequencies_hz)
        rows.append(("uncalibrated", f"{mape_percent(uncalibrated):.1f}", *blank))
    text = display.table(heading, rows, paper=paper)
    few = [name for name, each in errors.items() if not each]
    return f"{text}\n{', '.join(few)}: too few frequencies to hold one out" if few else text


def _interval(estimate: Estimate) -> str:
    return f"{estimate.low:.4g} to {estimate.high:.4g}"


def _key(name: str, value: Any, notes: dict[str, str]) -> str:
    line = f"{name} = {_toml(value)}"
    return f"{line}  # {notes[name]}" if name in notes else line


def _toml(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, float):
        return repr(float(f"{value:.7g}"))
    return msgspec.json.encode(value).decode()
