"""Pictures of learning, device by device over the rounds."""

from __future__ import annotations

import math
from collections.abc import Callable

from fimi.record.insight import DeviceInsight
from fimi.record.record import RunData
from fimi.record.summary import Summary
from fimi.report import plot_style
from fimi.report.plot_style import Picture


def gradient_similarity_plot(run: RunData) -> Picture | None:
    """Cosine of each device's gradient to the IID one, as the paper draws it."""
    found = _of_insights(run, lambda device: device.gradient_similarity)
    samples = max((each.gradient_samples for each in run.insights), default=0)
    return _plot(
        found,
        "gradient-similarity",
        "Similarity to the IID gradient",
        "Cosine between the gradient on all that a device trains on, real and synthetic, and the "
        f"one on the {samples} real samples of all devices, both at the round’s global model. 1: "
        "the same direction.",
        "cosine similarity",
    )


def similarity_plot(run: RunData) -> Picture | None:
    """Cosine of each device's update to the IID one."""
    found = _of_insights(run, lambda device: device.similarity)
    samples = max((each.reference_samples for each in run.insights), default=0)
    return _plot(
        found,
        "similarity",
        "Similarity to the IID update",
        "Cosine between what each device’s data did to the global model and what the same training "
        f"on {samples} public samples, as many of every class, did. 1: the same direction.",
        "cosine similarity",
    )


def local_error_plot(run: RunData) -> Picture | None:
    """Local learning error of each device before aggregation."""
    return _plot(
        _of_insights(run, lambda device: 100.0 * device.local_error),
        "local-error",
        "Local learning error",
        "Wrong answers of each device’s model on test images, before aggregation.",
        "local error, %",
    )


def device_accuracy_plot(summary: Summary) -> Picture | None:
    """Accuracy of the global model as each device would see it."""
    found = {
        point.number: {
            device: None if accuracy is None else 100.0 * accuracy
            for device, accuracy in point.fairness.devices.items()
        }
        for point in summary.points
    }
    return _plot(
        found,
        "device-accuracy",
        "Accuracy by device",
        "Accuracy of the global model as each device would see it: that of the classes on test "
        "images, weighted by the device’s own labels.",
        "accuracy, %",
    )


def _of_insights(
    run: RunData, value: Callable[[DeviceInsight], float | None]
) -> dict[int, dict[str, float | None]]:
    return {each.round: {d.device: value(d) for d in each.devices} for each in run.insights}


def _plot(
    found: dict[int, dict[str, float | None]], name: str, title: str, caption: str, unit: str
) -> Picture | None:
    """Faint lines of the devices, a strong one for their mean; nothing without a value.

    ``found`` has values by round and device, ``None`` where one is not known.
    """
    known = {
        number: {device: value for device, value in of.items() if value is not None}
        for number, of in found.items()
    }
    devices = sorted({device for of in known.values() for device in of})
    if not devices:
        return None
    figure = plot_style.figure(
        330,
        xaxis=plot_style.round_axis(max(known)),
        yaxis=plot_style.axis(unit),
        showlegend=False,
    )
    # One trace with gaps between devices: a thousand traces would take a browser minutes.
    points = [
        point
        for device in devices
        for point in (
            *((n, of[device], device) for n, of in known.items() if device in of),
            (None, None, ""),
        )
    ][:-1]
    figure.add_scatter(
        x=[number for number, _, _ in points],
        y=[value for _, value, _ in points],
        mode="lines+markers",
        name="a device",
        line={"color": plot_style.MEASURED, "width": 1},
        marker={"size": 5},
        opacity=0.45,
        text=[
            f"<b>{plot_style.label(device)}</b><br>round {number}<br>{unit} {value:.2f}"
            if value is not None
            else ""
            for number, value, device in points
        ],
    )
    means = {number: math.fsum(of.values()) / len(of) for number, of in known.items() if of}
    hover = f"round %{{x}}<br>mean {unit} %{{y:.2f}}<extra></extra>"
    plot_style.add_mean(figure, [*means], [*means.values()], hovertemplate=hover)
    return Picture(name=name, title=title, caption=caption, figure=figure)
