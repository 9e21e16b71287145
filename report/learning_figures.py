"""Pictures of the learning metrics of updates, over the rounds that have an insight."""

from __future__ import annotations

from collections.abc import Callable

from fimi.record.insight import DeviceInsight
from fimi.record.record import RunData
from fimi.record.sums import mean
from fimi.report import plot_style
from fimi.report.plot_style import Picture


def similarity_plot(run: RunData) -> Picture | None:
    """Cosine of each device's update to the IID one."""
    if not any(d.similarity is not None for each in run.insights for d in each.devices):
        return None
    samples = max(each.reference_samples for each in run.insights)
    return _plot(
        run,
        "similarity",
        "Similarity to the IID update",
        "Cosine between what each device’s data did to the global model and what the same training "
        f"on {samples} public samples, as many of every class, did. 1: the same direction.",
        lambda device: device.similarity,
        "cosine similarity",
    )


def local_error_plot(run: RunData) -> Picture | None:
    """Local learning error of each device before aggregation."""
    if not any(each.devices for each in run.insights):
        return None
    return _plot(
        run,
        "local-error",
        "Local learning error",
        "Wrong answers on held-out data of each device’s model, before aggregation.",
        lambda device: 100.0 * device.local_error,
        "local error, %",
    )


def _plot(
    run: RunData,
    name: str,
    title: str,
    caption: str,
    value: Callable[[DeviceInsight], float | None],
    unit: str,
) -> Picture:
    """A faint line for each device, a strong one for their mean."""
    figure = plot_style.figure(
        330,
        xaxis=plot_style.axis("round", tickformat="d"),
        yaxis=plot_style.axis(unit),
        showlegend=False,
    )
    devices = sorted({d.device for each in run.insights for d in each.devices})
    for device in devices:
        points = [
            (each.round, found)
            for each in run.insights
            for d in each.devices
            if d.device == device and (found := value(d)) is not None
        ]
        figure.add_scatter(
            x=[number for number, _ in points],
            y=[found for _, found in points],
            mode="lines+markers",
            name=plot_style.label(device),
            line={"color": plot_style.MEASURED, "width": 1},
            marker={"size": 5},
            opacity=0.45,
            hovertemplate=f"<b>{plot_style.label(device)}</b><br>round %{{x}}<br>{unit} %{{y:.2f}}"
            "<extra></extra>",
        )
    means = {each.round: mean(map(value, each.devices)) for each in run.insights}
    known = {number: found for number, found in means.items() if found is not None}
    hover = f"round %{{x}}<br>mean {unit} %{{y:.2f}}<extra></extra>"
    plot_style.add_mean(figure, [*known], [*known.values()], hovertemplate=hover)
    return Picture(name=name, title=title, caption=caption, figure=figure)
