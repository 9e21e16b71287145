"""The output of a calibration: table, profile file, plot.

* :func:`table`      every parameter with its confidence interval, and the held-out errors
* :func:`profile`    the profile as TOML, with its origin in comments
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fimi.energy.calibration.fit import CONFIDENCE, Estimate
from fimi.energy.calibration.fitted import Calibration
from fimi.energy.calibration.held_out import declared_errors, mape_percent
from fimi.energy.cost_model import BoardModel
from fimi.energy.toml_text import quoted
from fimi.report import layout as display
from fimi.report.layout import Marked, Paper, entries, wrap
from fimi.report.words import MISSING

_Errors = Sequence[float] | NDArray[np.float64]


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
    rows = parameters(found)
    errors = {"c f + κ f³": found.held_out, "κ f³": found.held_out_cubic}
    if found.voltage is not None:
        errors["V² f"] = found.held_out_voltage
    errors["measured table"] = found.held_out_table
    uncalibrated = None if declared is None else declared_errors(found.settings, declared)
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
            "Measured operating points:\n" + _point_table(found, paper),
            *_held_out(errors, uncalibrated, paper),
            *(["\n".join(wrap(found.choice, paper.text_width))] if found.choice else []),
            *_repeat_line(found, uncalibrated if not any(errors.values()) else None, paper),
            *([entries(notes, indent=6, paper=paper)] if notes else []),
        ]
    )
    return paper.kinds(text)


def parameters(found: Calibration) -> list[tuple[str, ...]]:
    """Every fitted parameter: name, value, unit, confidence interval."""
    rows = [_row("P_idle", "W", found.idle_w)]
    if (law := found.power) is not None:
        rows.append(_row("P_act", "W", law.active_w))
        if law.linear_w_per_hz is not None:
            rows.append(_row("c", "W/GHz", law.linear_w_per_hz.scaled(1e9)))
        rows.append(_row("κ", "W/Hz³", law.slope))
    rows.append(_row("C", "cycles a sample", found.cycles))
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
    return rows


def profile(found: Calibration, board: BoardModel, *, kept: dict[str, Any], at: str) -> str:
    """The profile as TOML, with intervals and origin in comments.

    Args:
        found: the result of a calibration.
        board: the cost parameters to write.
        kept: further keys of the profile, such as the agent's meter.
        at: time of the calibration.
    """
    law, compute, link = found.power, board.compute, board.link
    source = found.hardware.meter
    notes = {
        "idle_power_w": _interval(found.idle_w),
        "cycles_per_sample": _interval(found.cycles),
        "capacitance_w_per_hz3": "no law could be fitted; the points are used",
    }
    if law is not None:
        notes["capacitance_w_per_hz3"] = _interval(law.slope)
        notes["active_power_w"] = _interval(law.active_w)
        if law.linear_w_per_hz is not None:
            notes["linear_power_w_per_hz"] = _interval(law.linear_w_per_hz)
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
    again = list(found.repeats.values())
    lines = [
        f"# Calibrated {at} with {source.source} ({source.kind}, {source.scope}).",
        f"# Held-out error of the energy: {mape_percent(held):.1f} %." if held else None,
        f"# {found.choice}" if found.choice else None,
        f"# A repeated measurement of a point differs by {mape_percent(again):.1f} %."
        if again
        else None,
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
        values = msgspec.structs.asdict(part).items()
        lines += [_key(k, v, notes) for k, v in values if v is not None and k != "points"]
    for point, measured in zip(compute.points, found.points, strict=True):
        spread = {
            "seconds_per_sample": _interval(measured.seconds_per_sample),
            "power_w": _interval(measured.power_w),
        }
        lines += ["", "[[board.compute.points]]"]
        if why := found.never_chosen.get(point.name):
            lines.append(f"# {why}")
        setting = {
            key: value
            for key, value in msgspec.to_builtins(point.setting).items()
            if value is not None and value != {}
        }
        lines += [
            _key("name", point.name, spread),
            _key("seconds_per_sample", point.seconds_per_sample, spread),
            _key("power_w", point.power_w, spread),
            _key("setting", setting, spread),
        ]
    return "\n".join(line for line in lines if line is not None) + "\n"


def _held_out(
    errors: dict[str, dict[float, float]], uncalibrated: _Errors | None, paper: Paper
) -> list[str]:
    """The errors of the laws; nothing where no frequency could be held out of any."""
    if not any(errors.values()):
        return []
    return [
        "Error of the joules of computing, %; each frequency was held out of its fit:\n"
        + _error_table(errors, uncalibrated, paper)
    ]


def _repeat_line(found: Calibration, uncalibrated: _Errors | None, paper: Paper) -> list[str]:
    """How well a measurement of a point predicts another one of the same point."""
    said = ""
    if found.repeats:
        errors = [100.0 * each for each in found.repeats.values()]
        said = (
            f"A point predicted from its other measurements: {np.mean(errors):.1f} % of the joules "
            f"on average, {max(errors):.1f} % at worst. "
        )
    if uncalibrated is not None and len(uncalibrated):
        said += f"Uncalibrated: {mape_percent(uncalibrated):.1f} %."
    return ["\n".join(wrap(said.strip(), paper.text_width))] if said else []


def _point_table(found: Calibration, paper: Paper) -> str:
    """A row per operating point, slowest first."""
    rows = [
        (
            point.name,
            f"{1e3 * point.seconds_per_sample.value:.4g}",
            f"{point.power_w.value:.3f}",
            f"{point.power_w.low:.3f} to {point.power_w.high:.3f}",
            f"{1e3 * point.seconds_per_sample.value * point.power_w.value:.4g}",
            "never" if point.name in found.never_chosen else "",
        )
        for point in found.points
    ]
    heading = ("point", "ms a\nsample", "W above\nidle", "95 %\nconfidence", "mJ a\nsample", "")
    if not found.never_chosen:
        return display.table(heading[:-1], [row[:-1] for row in rows], paper=paper)
    never = wrap(
        "never: kept, and no plan will choose it, because another point takes fewer joules and "
        "less time a sample.",
        paper.text_width,
    )
    return "\n".join([display.table(heading, rows, paper=paper), *never])


def _row(name: str, unit: str, estimate: Estimate) -> tuple[str, ...]:
    return name, f"{estimate.value:.4g}", unit, f"{estimate.low:.4g} to {estimate.high:.4g}"


def _error_table(
    errors: dict[str, dict[float, float]],
    uncalibrated: _Errors | None,
    paper: Paper,
) -> str:
    """A column per model, a row per frequency."""
    frequencies_hz = sorted({frequency for each in errors.values() for frequency in each})
    known = {name: list(each.values()) for name, each in errors.items()}
    means = [f"{mape_percent(k):.1f}" if k else MISSING for k in known.values()]
    heading = ["held out", *(name.replace(" table", "\ntable") for name in errors)]
    last = [] if uncalibrated is None else [MISSING]
    rows = [
        (
            f"{hertz / 1e9:.4g} GHz",
            *(f"{100 * e[hertz]:+.1f}" if hertz in e else MISSING for e in errors.values()),
            *last,
        )
        for hertz in frequencies_hz
    ]
    if uncalibrated is not None:
        heading.append("uncalibrated")
        means.append(f"{mape_percent(uncalibrated):.1f}" if len(uncalibrated) else MISSING)
    text = display.table(heading, rows, footer=("mean absolute", *means), paper=paper)
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
        return (
            "{ " + ", ".join(f"{_bare(key)} = {_toml(item)}" for key, item in value.items()) + " }"
        )
    if isinstance(value, float):
        return repr(float(f"{value:.7g}"))
    if isinstance(value, str):
        return quoted(value)
    return msgspec.json.encode(value).decode()


def _bare(key: str) -> str:
    """A key, in quotation marks where it needs them."""
    bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if bare else quoted(key)
