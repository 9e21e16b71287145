"""The picture of planned and measured local errors beside the error of the global model."""

from __future__ import annotations

from fimi.record.record import RunData
from fimi.report import plot_style
from fimi.report.plot_style import Picture
from fimi.report.words import percent

_TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100)
_AUTOMATIC = 4
"""Up to this ratio of the largest to the smallest value plotly's own ticks are dense enough."""


def planned_error_plot(run: RunData) -> Picture | None:
    """Δ of each round as planned, measured on every device, and what became of it."""
    rounds = [each for each in run.rounds if each.local_error is not None]
    if not rounds:
        return None
    figure = plot_style.figure(
        360,
        xaxis=plot_style.round_axis(len(rounds)),
        yaxis=plot_style.axis("error, %", type="log"),
    )
    points = [
        (each.number, entry.local_error, entry.device)
        for each in rounds
        for entry in each.devices
        if entry.local_error is not None
    ]
    figure.add_scatter(
        x=[number for number, _, _ in points],
        y=[_drawn(error) for _, error, _ in points],
        mode="markers",
        name="of one device, measured",
        marker={"size": 5, "color": plot_style.MEASURED, "symbol": "circle-open"},
        opacity=0.5,
        text=[
            f"<b>{plot_style.label(device)}</b><br>round {number}<br>measured {percent(error)}"
            for number, error, device in points
        ],
    )
    figure.add_scatter(
        x=[each.number for each in rounds],
        y=[_drawn(each.local_error) for each in rounds],
        mode="lines+markers",
        name="mean of devices, measured",
        line={"color": plot_style.MEASURED, "width": 2.5},
        marker={"size": 7},
        text=[
            f"<b>round {each.number}</b><br>measured {percent(each.local_error)}" for each in rounds
        ],
    )
    planned = [each for each in rounds if each.planned_error is not None]
    if planned:
        figure.add_scatter(
            x=[each.number for each in planned],
            y=[_drawn(each.planned_error) for each in planned],
            mode="lines+markers",
            name="mean of devices, planned",
            line={"color": plot_style.PREDICTED, "width": 2.5, "dash": "dash"},
            marker={"size": 7, "symbol": "diamond"},
            text=[
                f"<b>round {each.number}</b><br>planned {percent(each.planned_error)}"
                for each in planned
            ],
        )
    figure.add_scatter(
        x=[each.number for each in run.rounds],
        y=[_drawn(1.0 - each.evaluation.accuracy) for each in run.rounds],
        mode="lines",
        name="global model, test images",
        line={"color": plot_style.LINE, "width": 2, "dash": "dot"},
        text=[
            f"<b>round {each.number}</b><br>error {percent(1.0 - each.evaluation.accuracy)}"
            for each in run.rounds
        ],
    )
    drawn = [value for trace in figure.data for value in trace.y]
    if max(drawn) > _AUTOMATIC * min(drawn):
        figure.update_yaxes(tickvals=_TICKS, ticktext=[f"{tick:g}" for tick in _TICKS])
    for refit in run.learning_refits:
        figure.add_vline(
            x=refit.round + 0.5, line={"color": plot_style.LINE, "dash": "dash", "width": 1}
        )
    return Picture(
        name="planned-error",
        title="Planned and measured local error",
        caption="Wrong answers of devices’ models on images for validation, before they are "
        "averaged. What is planned for a round follows from the learning curve and the rounds "
        "before it; a dashed upright line: the curve was fitted to the run, and data were planned "
        "again.",
        figure=figure,
    )


def _drawn(error: float | None) -> float:
    """An error in percent, as far as it is on the axis, whose logarithm is drawn."""
    return max(100.0 * (error or 0.0), _TICKS[0])
