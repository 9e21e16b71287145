"""Pictures of joules and seconds: measured beside predicted, per device and phase."""

from __future__ import annotations

import math
from functools import partial

import plotly.graph_objects as go

from fimi.energy.joules import Energy, format_energy, total
from fimi.record.phases import phase_seconds
from fimi.record.record import RunData
from fimi.record.summary import Summary
from fimi.report import plot_style
from fimi.report.plot_style import Picture
from fimi.report.words import gaps, joules, modelled, percent, seconds, signed_percent


def qualifier(energy: Energy | None) -> str:
    """What an axis says of its joules: ``(emulated, board)``, ``(mixed, wall)``."""
    return f" ({energy.kind}, {energy.scope})" if energy else ""


def measured_against_predicted(summary: Summary) -> Picture | None:
    """Joules of each device, and how far the prediction of each phase is off."""
    pairs = [
        (d, d.compared.measured, d.compared.predicted_j)
        for d in summary.devices
        if d.compared.measured is not None and d.compared.predicted_j is not None
    ]
    if not pairs:
        return None
    names = [d.device for d, _, _ in pairs]
    largest = max(
        max(energy.value_j, predicted_j, d.second.whole.second.value_j if d.second else 0.0)
        for d, energy, predicted_j in pairs
    )
    error = "error, % of the device’s measured energy"
    scale, unit = plot_style.joule_unit(largest)
    figure = plot_style.figure(
        plot_style.row_height(len(names), least_px=320),
        xaxis=plot_style.axis(
            f"energy of the run, {unit}",  # of two kinds: the legend says which mark is of which
            domain=[0, 0.47],
            rangemode="tozero",
        ),
        yaxis=plot_style.rows(names),
        xaxis2=plot_style.axis(error, domain=[0.53, 1], anchor="y2", zeroline=True),
        yaxis2=plot_style.rows(names, anchor="x2", matches="y", showticklabels=False),
    )
    joins_x: list[float | None] = []
    joins_y: list[float | None] = []
    for row, (_, energy, predicted_j) in enumerate(pairs):
        joins_x += [energy.value_j / scale, predicted_j / scale, None]
        joins_y += [row, row, None]
    figure.add_scatter(
        x=joins_x,
        y=joins_y,
        mode="lines",
        line={"color": plot_style.LINE, "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )
    words = [
        f"<b>{plot_style.label(d.device)}</b><br>measured {format_energy(energy)}"
        f" ± {joules(energy.uncertainty_j)}<br>predicted {modelled(predicted_j)}"
        f"<br>error {signed_percent(d.compared.error_percent)}"
        + (f"<br>without {plot_style.label(gaps(missing), 200)}" if missing else "")
        for d, energy, predicted_j in pairs
        for missing in [d.compared.missing]
    ]
    deviations = [energy.uncertainty_j / scale for _, energy, _ in pairs]
    bars = {"array": deviations, "thickness": 1.2, "width": 3, "color": plot_style.MEASURED}
    add = partial(figure.add_scatter, y=list(range(len(pairs))), mode="markers", text=words)
    add(
        x=[predicted_j / scale for _, _, predicted_j in pairs],
        name="predicted (modelled)",
        marker=plot_style.marker("diamond-open", 10, plot_style.PREDICTED, line_width=2),
    )
    add(
        x=[energy.value_j / scale for _, energy, _ in pairs],
        name=f"metered ± 1 s.d.{qualifier(total(energy for _, energy, _ in pairs))}",
        error_x=bars,
        marker=plot_style.marker("circle", 9, plot_style.MEASURED),
    )
    beside = [
        (row, d.device, d.second.whole.second)
        for row, (d, _, _) in enumerate(pairs)
        if d.second is not None
    ]
    if beside:
        figure.add_scatter(
            x=[energy.value_j / scale for _, _, energy in beside],
            y=[row for row, _, _ in beside],
            mode="markers",
            name=f"second meter{qualifier(total(energy for _, _, energy in beside))} ± 1 s.d.",
            error_x={**bars, "array": [energy.uncertainty_j / scale for _, _, energy in beside]},
            marker=plot_style.marker("square-open", 9, plot_style.MEASURED, line_width=1.5),
            text=[
                f"<b>{plot_style.label(name)}</b><br>second meter {plot_style.label(energy.source)}"
                f"<br>{format_energy(energy)} ± {joules(energy.uncertainty_j)}"
                for _, name, energy in beside
            ],
        )
    _add_residuals(figure, summary, {name: row for row, name in enumerate(names)})
    return Picture(
        name="measured-predicted",
        title="Energy of each device, predicted and measured",
        caption="Left: the whole run, as far as it was metered and predicted. Right: predicted "
        "less measured joules of each phase, in percent of the device’s joules on the left, so "
        "that the phases of a device add up to its vertical stroke; right of zero the model "
        "promised more than was used. The area of a mark is its phase’s share of these joules."
        + (" A second meter of a device is in no sum." if beside else ""),
        figure=figure,
        narrow={
            **plot_style.one_below_the_other(0.44, 0.56),
            "height": 2 * plot_style.row_height(len(names), row_px=24, frame_px=90),
            "yaxis2.showticklabels": True,
        },
    )


def _add_residuals(figure: go.Figure, summary: Summary, row: dict[str, int]) -> None:
    add = partial(figure.add_scatter, xaxis="x2", yaxis="y2", mode="markers")
    totals = {d.device: d.compared.measured.value_j for d in summary.devices if d.compared.measured}
    for phase, colour in plot_style.PHASE_COLOURS.items():
        cells = [
            (cell, cell.compared, energy, totals[cell.device])
            for cell in summary.cells
            if cell.phase == phase
            and (energy := cell.compared.measured) is not None
            and cell.compared.error_percent is not None
            and totals.get(cell.device, 0.0) > 0.0
        ]
        if not cells:
            continue
        shares = [max(energy.value_j, 0.0) / whole_j for _, _, energy, whole_j in cells]
        sizes = [5 + 15 * math.sqrt(share) for share in shares]
        add(
            x=[
                100 * ((both.predicted_j or 0.0) - energy.value_j) / whole_j
                for _, both, energy, whole_j in cells
            ],
            y=[row[cell.device] for cell, _, _, _ in cells],
            name=plot_style.PHASE_NAMES[phase],
            marker=plot_style.marker(plot_style.PHASE_SHAPES[phase], sizes, colour, opacity=0.9),
            text=[
                f"<b>{plot_style.label(cell.device)}</b>, {plot_style.PHASE_NAMES[phase]}"
                f"<br>measured {format_energy(energy)}, {percent_of(energy, whole_j)}"
                f"<br>predicted {modelled(both.predicted_j)}"
                f"<br>error of this phase {signed_percent(both.error_percent)}"
                for cell, both, energy, whole_j in cells
            ],
        )
    whole = [
        (d, error)
        for d in summary.devices
        if d.device in row and (error := d.compared.error_percent) is not None
    ]
    add(
        x=[error for _, error in whole],
        y=[row[d.device] for d, _ in whole],
        name="whole device",
        marker=plot_style.stroke(18, plot_style.PREDICTED),
        text=[
            f"<b>{plot_style.label(d.device)}</b><br>error {signed_percent(error)}"
            for d, error in whole
        ],
    )


def percent_of(energy: Energy, whole_j: float) -> str:
    """A share in words."""
    return f"{percent(energy.value_j / whole_j if whole_j > 0 else None)} of the device"


def joules_by_phase(summary: Summary) -> Picture | None:
    """What each device used its joules for."""
    cells = [(c, energy) for c in summary.cells if (energy := c.energy.known) is not None]
    if not cells:
        return None
    whole = {d.device: d.energy.known.value_j for d in summary.devices if d.energy.known}
    names = list(whole)
    scale, unit = plot_style.joule_unit(max(whole.values(), default=0.0))
    figure = plot_style.figure(
        plot_style.row_height(len(names)),
        xaxis=plot_style.axis(
            f"energy, {unit}{qualifier(summary.energy.known)}", rangemode="tozero"
        ),
        yaxis=plot_style.rows(names),
    )
    figure.update_layout(barmode="stack")
    for phase, colour in plot_style.PHASE_COLOURS.items():
        chosen = [(c, energy) for c, energy in cells if c.phase == phase and c.device in whole]
        if not chosen:
            continue
        figure.add_bar(
            orientation="h",
            x=[energy.value_j / scale for _, energy in chosen],
            y=[names.index(c.device) for c, _ in chosen],
            name=plot_style.PHASE_NAMES[phase],
            marker=plot_style.bar(colour, plot_style.PHASE_PATTERNS[phase]),
            text=[
                f"<b>{plot_style.label(c.device)}</b>, {plot_style.PHASE_NAMES[phase]}"
                f"<br>{format_energy(energy)}, {percent_of(energy, whole[c.device])}"
                f"<br>{c.count} times"
                for c, energy in chosen
            ],
        )
    of_phases: dict[str, float] = {}
    for cell, energy in cells:
        of_phases[cell.device] = of_phases.get(cell.device, 0.0) + energy.value_j
    untold = {c.device for c in summary.cells if "unresolved" in c.hows and c.device in whole}
    left = [(n, whole[n] - of_phases.get(n, 0.0)) for n in sorted(untold)]
    if left := [(name, left_j) for name, left_j in left if left_j > 0.0]:
        figure.add_bar(
            orientation="h",
            x=[left_j / scale for _, left_j in left],
            y=[names.index(name) for name, _ in left],
            name="not told apart",
            marker=plot_style.bar(plot_style.LINE, "+"),
            text=[
                f"<b>{plot_style.label(name)}</b><br>{joules(left_j)} of phases that its meter "
                "does not tell apart"
                for name, left_j in left
            ],
        )
    return Picture(
        name="joules-by-phase",
        title="What the joules were used for",
        caption="Metered energy of the whole board, idle power included, by phase"
        + ("; what is known of it." if summary.energy.missing else "."),
        figure=figure,
    )


def round_timeline(run: RunData, summary: Summary) -> Picture | None:
    """How each device divides a round, metered and planned."""
    names = [d.device for d in summary.devices if d.rounds]
    if not names:
        return None
    figure = plot_style.figure(
        plot_style.row_height(len(names)),
        xaxis=plot_style.axis("time since the round began, s", rangemode="tozero"),
        yaxis=plot_style.rows(names),
    )
    times = {name: phase_seconds(run, name) for name in names}
    for kind, (offset, width) in enumerate(((-0.34, 0.46), (0.17, 0.15))):
        for phase, colour in plot_style.PHASE_COLOURS.items():
            base, length, place, words = [], [], [], []
            for row, name in enumerate(names):
                before = 0.0
                for other, pair in times[name].items():
                    duration_s = pair[kind]
                    if other == phase and duration_s:
                        base.append(before)
                        length.append(duration_s)
                        place.append(row)
                        words.append(
                            f"<b>{plot_style.label(name)}</b>, {plot_style.PHASE_NAMES[phase]}"
                            f"<br>mean metered {seconds(pair[0])}<br>planned {seconds(pair[1])}"
                        )
                    before += duration_s or 0.0
            if not length:
                continue
            figure.add_bar(
                orientation="h",
                base=base,
                x=length,
                y=place,
                offset=offset,
                width=width,
                name=plot_style.PHASE_NAMES[phase],
                legendgroup=phase,
                showlegend=kind == 0,
                opacity=1.0 if kind == 0 else 0.65,
                marker=plot_style.bar(colour, plot_style.PHASE_PATTERNS[phase]),
                text=words,
            )
    if (deadline_s := run.deadline_s) is not None:
        figure.add_scatter(
            x=[deadline_s, deadline_s],
            y=[-0.6, len(names) - 0.4],
            mode="lines",
            line={"color": plot_style.PREDICTED, "width": 2, "dash": "dot"},
            name=f"deadline {deadline_s:g} s",
            hovertemplate=f"deadline {deadline_s:g} s<extra></extra>",
        )
    return Picture(
        name="round-timeline",
        title="How each device divides a round",
        caption="Mean over the rounds. Thick bar: as metered. Thin bar below it: as planned.",
        figure=figure,
    )
