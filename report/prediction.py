"""Predictions against measurements, round by round: residuals, causes, refits.

* :func:`residual_plot`     signed errors over the rounds, and where boards were fitted again
* :func:`cause_plot`        which part of each device's error comes from what
* :func:`prediction_table`  the same in numbers
* :func:`words`             one sentence for the page and the terminal
"""

from __future__ import annotations

from operator import itemgetter

from fimi.record.prediction import Agreement, by_device_round, energy_error, time_error
from fimi.record.record import RunData
from fimi.record.summary import Summary
from fimi.record.sums import mean
from fimi.report import plot_style
from fimi.report.markup import Column, Html, table
from fimi.report.plot_style import Picture
from fimi.report.words import percent_value, signed_percent

CAUSES = {
    "cycles_j": ("cycles", plot_style.SERIES[0], ""),
    "throttling_j": ("throttling", plot_style.SERIES[4], "x"),
    "rate_j": ("rate", plot_style.PHASE_COLOURS["upload"], "/"),
    "waiting_j": ("waiting", plot_style.PHASE_COLOURS["idle"], "-"),
    "power_j": ("power", plot_style.SERIES[2], "\\"),
}
"""What an error comes from: name, colour, pattern."""

POINTS_MAX = 4000


def words(run: RunData, summary: Summary) -> str:
    """How well predictions held, and whether they were mended; empty where nothing is known."""
    whole = summary.agreement
    if whole is None:
        entries = [entry for result in run.rounds for entry in result.devices if entry.predicted]
        if any(not record.resolved for entry in entries for record in entry.phases):
            return "not compared round by round: no meter resolves a single phase of this run"
        return ""
    said = (
        f"mean absolute error {percent_value(whole.mape_percent)} of a device’s joules in a round "
        f"and {percent_value(whole.time_mape_percent)} of its busy time; bias "
        f"{signed_percent(whole.bias_percent)}, most of it {_largest(whole)}"
    )
    if not run.refits:
        return said
    first, last = run.refits[0], run.refits[-1]
    errors = [(point.number, point.error_percent) for point in summary.points]
    before = mean(error for number, error in errors if number <= first)
    after = mean(error for number, error in errors if number > last)
    which = ", ".join(map(str, run.refits))
    said += f"; fitted again after round {which}"
    if before is not None and after is not None:
        said += f": {percent_value(before)} before, {percent_value(after)} after"
    return said


def residual_plot(run: RunData) -> Picture | None:
    """Signed errors of joules and busy time over the rounds."""
    groups = by_device_round(run.residuals)
    if not groups:
        return None
    step = max(1, -(-len(groups) // POINTS_MAX))
    figure = plot_style.figure(
        340,
        xaxis=plot_style.round_axis(len(run.rounds), domain=[0, 0.47]),
        yaxis=plot_style.axis("error of joules, %", zeroline=True),
        xaxis2=plot_style.round_axis(len(run.rounds), domain=[0.55, 1], anchor="y2", matches="x"),
        yaxis2=plot_style.axis("error of busy time, %", anchor="x2", zeroline=True),
    )
    for k, (name, value) in enumerate((("joules", energy_error), ("busy time", time_error))):
        points = [
            (number, device, 100.0 * error)
            for (number, device), group in list(groups.items())[::step]
            if (error := value(group)) is not None
        ]
        axes = {"xaxis": "x2", "yaxis": "y2"} if k else {}
        figure.add_scatter(
            x=[number for number, _, _ in points],
            y=[error for _, _, error in points],
            mode="markers",
            name="a device in a round",
            showlegend=not k,
            marker={"color": plot_style.MEASURED, "size": 6, "opacity": 0.45, "line": {"width": 0}},
            text=[
                f"<b>{plot_style.label(device)}</b>, round {number}<br>error of {name} "
                f"{signed_percent(error)}"
                for number, device, error in points
            ],
            **axes,
        )
        rounds = sorted({number for number, _ in groups})
        of_round: dict[int, list[float]] = {number: [] for number in rounds}
        for (number, _), group in groups.items():
            if (error := value(group)) is not None:
                of_round[number].append(100.0 * error)
        hover = "round %{x}<br>mean error %{y:+.1f} %<extra></extra>"
        means = [mean(errors) for errors in of_round.values()]
        plot_style.add_mean(figure, rounds, means, showlegend=not k, hovertemplate=hover, **axes)
        for refit in run.refits:
            figure.add_shape(
                type="line",
                x0=refit + 0.5,
                x1=refit + 0.5,
                y0=0,
                y1=1,
                xref=f"x{2 if k else ''}",
                yref=f"y{2 if k else ''} domain",
                line={"color": plot_style.LINE, "width": 1.5, "dash": "dash"},
            )
    if run.refits:
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="lines",
            name="boards fitted again, new plan",
            line={"color": plot_style.LINE, "width": 1.5, "dash": "dash"},
        )
    return Picture(
        name="residuals",
        title="Errors of the prediction, round by round",
        caption="(predicted − measured) / measured for each device: joules of the whole board, and "
        "time without waiting. Above zero the model promised more than was used.",
        figure=figure,
        narrow={"height": 620, **plot_style.one_below_the_other(0.42, 0.58)},
    )


def cause_plot(summary: Summary) -> Picture | None:
    """Predicted less measured joules of each device, by cause."""
    found = _agreements(summary)
    if not found:
        return None
    names = [name for name, _ in found]
    figure = plot_style.figure(
        plot_style.row_height(len(found)),
        xaxis=plot_style.axis("predicted − measured, % of the device’s joules", zeroline=True),
        yaxis=plot_style.rows(names),
    )
    figure.update_layout(barmode="relative")
    for key, (cause, colour, pattern) in CAUSES.items():
        values = [_share(each, key) for _, each in found]
        if not any(abs(value) > 0.005 for value in values):
            continue
        figure.add_bar(
            orientation="h",
            x=values,
            y=list(range(len(found))),
            name=cause,
            marker=plot_style.bar(colour, pattern),
            text=[
                f"<b>{plot_style.label(name)}</b><br>{cause} {signed_percent(value)}"
                for name, value in zip(names, values, strict=True)
            ],
        )
    figure.add_scatter(
        x=[each.bias_percent for _, each in found],
        y=list(range(len(found))),
        mode="markers",
        name="sum",
        marker=plot_style.stroke(16, plot_style.INK),
        hovertemplate="sum %{x:+.1f} %<extra></extra>",
    )
    return Picture(
        name="causes",
        title="What the errors come from",
        caption="Over the whole run. Cycles: the work took more or less than predicted. "
        "Throttling: another frequency than planned. Rate: the link. Waiting: the round lasted "
        "longer or shorter. Power: the board drew more or less in the same state.",
        figure=figure,
    )


def prediction_table(summary: Summary) -> Html | None:
    """Errors of each device and of the fleet, and their causes in percent of its joules."""
    found, whole = _agreements(summary), summary.agreement
    if not found:
        return None
    foot = _cells(whole) if whole is not None else [None] * (3 + len(CAUSES))
    titles = [("Mean absolute error", "joules"), ("Mean absolute error", "busy time")]
    titles += [("Bias", "joules")]
    titles += [("of it, % of its joules", cause) for cause, _, _ in CAUSES.values()]
    columns = [Column("Device", "", itemgetter(0), "name", "Fleet" if whole else None)]
    for k, (title, unit) in enumerate(titles):
        columns.append(Column(title, unit, itemgetter(k + 1), foot=foot[k]))
    return table(columns, [(name, *_cells(each)) for name, each in found])


def _cells(each: Agreement) -> list[str]:
    return [
        percent_value(each.mape_percent),
        percent_value(each.time_mape_percent),
        signed_percent(each.bias_percent),
        *(signed_percent(_share(each, key)) for key in CAUSES),
    ]


def _share(each: Agreement, key: str) -> float:
    value: float = 100.0 * getattr(each.parts, key) / each.measured_j
    return value if abs(value) >= 0.05 else 0.0


def _largest(each: Agreement) -> str:
    key = max(CAUSES, key=lambda name: abs(getattr(each.parts, name)))
    return f"{CAUSES[key][0]} ({signed_percent(_share(each, key))})"


def _agreements(summary: Summary) -> list[tuple[str, Agreement]]:
    return [(d.device, d.agreement) for d in summary.devices if d.agreement is not None]
