"""The power of a device in a round, with its phases, from the readings that a run stores."""

from __future__ import annotations

import math
from pathlib import Path

from fimi.record.reader import read_run
from fimi.record.readings import trace
from fimi.record.record import RunData
from fimi.report import plot_style
from fimi.report.plots.figure import Axis, Figure, FigureError, FigureSeries
from fimi.report.words import rounds_in_words


def _why_none(run: RunData, device: str, number: int) -> str:
    """Why there are no readings of a round of which the store says nothing more."""
    if number == 0:
        return "it has sent none of the time before the first round"
    known = [each.number for each in run.rounds]
    if number not in known:
        return f"there is no round {number}; the run has {rounds_in_words(known) or 'none'}"
    return f"it has sent no readings of round {number}"


def power_trace(folder: Path, device: str, number: int) -> Figure:
    """Power of a device in a round, with the mean power of each of its phases.

    Args:
        folder: of the run.
        device: its id; empty: the first one.
        number: of the round.

    Raises:
        FigureError: there is no such device or round, or its readings were not stored.
    """
    run = read_run(folder)
    device = device or next(iter(run.devices), "")
    if device not in run.devices:
        known = ", ".join(run.devices[:8])
        raise FigureError(f"{folder} has no device {device!r}; it has {known or 'none'}")
    found = trace(folder, device, number)
    if not len(found.times_s):
        why = "; ".join(found.missing) or _why_none(run, device, number)
        raise FigureError(
            f"{folder} has no readings of {device} in round {number}: {why}; readings are stored "
            "where rounds.readings is true"
        )
    start_s = min([float(found.times_s[0]), *(p.record.start_s for p in found.phases)])
    meter = found.meter
    about = {
        "kind": meter.kind if meter else "",
        "scope": meter.scope if meter else "",
        "source": meter.source if meter else "",
    }
    power = tuple(None if math.isnan(value) else float(value) for value in found.power_w)
    readings = FigureSeries(
        name="readings",
        x=tuple(float(t) - start_s for t in found.times_s),
        y=power,
        style="step",
        look="measured",
        about={**about, "phase": ""},
    )
    phases, named = [], set()
    for each in found.phases:
        record = each.record
        if record.energy is None or record.duration_s <= 0.0:
            continue
        told = f"{plot_style.PHASE_NAMES[record.phase]}, mean"
        mean_w = record.energy.value_j / record.duration_s
        begin_s = record.start_s - start_s
        phases.append(
            FigureSeries(
                name=told,
                legend=record.phase not in named,
                x=(begin_s, begin_s + record.duration_s),
                y=(mean_w, mean_w),
                style="mean",
                look=f"phase-{record.phase}",
                about={
                    "kind": record.energy.kind,
                    "scope": record.energy.scope,
                    "source": record.energy.source,
                    "phase": record.phase,
                },
            )
        )
        named.add(record.phase)
    said = f" ({about['kind']}, {about['scope']})" if meter else ""
    return Figure(
        kind="power-trace",
        title=f"Power of {device} in round {number}",
        x=Axis(name="time_s", title="time", unit="s"),
        y=Axis(name="power_w", title="power", unit=f"W{said}"),
        series=(readings, *phases),
        note=f"{device}, round {number}; a phase's mean is its energy over its length.",
    )
