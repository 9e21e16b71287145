"""Figures of a run over its rounds: accuracy, errors of predictions, what gradients say."""

from __future__ import annotations

import math
from collections.abc import Callable

from fimi.record.insight import DeviceInsight
from fimi.record.prediction import by_device_round, energy_error
from fimi.record.record import RunData
from fimi.record.summary import Summary
from fimi.record.sums import Sum, mean
from fimi.report.energy_figures import qualifier
from fimi.report.plots.figure import Axis, Figure, FigureSeries, about, joule_axis

ROUND = Axis(name="round", title="round", whole=True)
ACCURACY = Axis(
    name="accuracy_percent", title="accuracy on test images", unit="%", limits=(0.0, 100.0)
)


def accuracy(run: RunData, summary: Summary) -> Figure | None:
    """Accuracy of the global model on test images, after each round."""
    points = summary.points
    if not points:
        return None
    return Figure(
        kind="accuracy",
        title="Accuracy over rounds",
        x=ROUND,
        y=ACCURACY,
        series=(
            FigureSeries(
                name="",
                x=tuple(float(point.number) for point in points),
                y=tuple(100.0 * point.accuracy for point in points),
                look="measured",
                about={"run": run.info.run, "strategy": run.info.strategy},
            ),
        ),
        note=f"One run of {run.info.strategy}, seed {run.info.seed}.",
    )


def accuracy_joules(run: RunData, summary: Summary) -> Figure | None:
    """The same over the joules of all devices so far: whole boards, and above idle."""
    points, known = summary.points, summary.energy.known
    if not points or known is None:
        return None

    def line(name: str, sums: list[Sum], look: str, style: str) -> FigureSeries:
        last = sums[-1].known
        return FigureSeries(
            name=name,
            x=tuple(each.known_j for each in sums),
            y=tuple(100.0 * point.accuracy for point in points),
            look=look,
            style="dashed" if style == "dashed" else "line",
            about=about(last) | {"missing": "yes" if sums[-1].missing else "no"},
        )

    said = qualifier(known).strip(" ()")
    return Figure(
        kind="accuracy-joules",
        title="Accuracy over energy",
        x=joule_axis("energy of all devices", points[-1].energy_so_far.known_j or 0.0, said),
        y=ACCURACY,
        series=(
            line("whole board", [p.energy_so_far for p in points], "measured", "line"),
            line("above idle", [p.dynamic_so_far for p in points], "predicted", "dashed"),
        ),
        note="Whole board: idling and receiving synthetic data included. Above idle: compute and "
        "upload. Joules are " + said + ".",
    )


def prediction_error(run: RunData, summary: Summary) -> Figure | None:
    """Error of the predicted joules of each device in each round, and their mean."""
    groups = by_device_round(run.residuals)
    points = [
        (float(number), device, 100.0 * error)
        for (number, device), group in groups.items()
        if (error := energy_error(group)) is not None
    ]
    if not points:
        return None
    rounds = sorted({number for number, _, _ in points})
    means = [mean(e for number, _, e in points if number == at) for at in rounds]
    metered = about(summary.compared.measured)
    return Figure(
        kind="prediction-error",
        title="Error of the predicted energy",
        x=ROUND,
        y=Axis(name="error_percent", title="(predicted − measured) / measured", unit="%"),
        series=(
            FigureSeries(
                name="a device in a round",
                x=tuple(number for number, _, _ in points),
                y=tuple(error for _, _, error in points),
                style="points",
                look="measured",
                about=metered,
            ),
            FigureSeries(
                name="mean of the devices",
                x=tuple(rounds),
                y=tuple(means),
                look="predicted",
                about=metered,
            ),
        ),
        marks=tuple(number + 0.5 for number in run.refits),
        note="Joules of whole boards"
        + ("; upright lines: boards were fitted again." if run.refits else "."),
    )


def gradient_similarity(run: RunData, summary: Summary) -> Figure | None:
    """Cosine of each device's gradient to that on the data of all devices, and the mean."""
    return _insight(
        run,
        lambda device: device.gradient_similarity,
        "gradient-similarity",
        "Similarity to the gradient on all data",
        Axis(name="cosine", title="cosine similarity"),
        1.0,
    )


def local_error(run: RunData, summary: Summary) -> Figure | None:
    """Error of each device's model on test images before it is averaged, and the mean."""
    return _insight(
        run,
        lambda device: device.local_error,
        "local-error",
        "Local learning error",
        Axis(name="local_error_percent", title="local error", unit="%"),
        100.0,
    )


def _insight(
    run: RunData,
    value: Callable[[DeviceInsight], float | None],
    kind: str,
    title: str,
    axis: Axis,
    factor: float,
) -> Figure | None:
    found = {
        each.round: {d.device: factor * v for d in each.devices if (v := value(d)) is not None}
        for each in run.insights
    }
    found = {number: of for number, of in found.items() if of}
    devices = sorted({device for of in found.values() for device in of})
    if not devices:
        return None
    lines = tuple(
        FigureSeries(
            name="a device" if device == devices[0] else "",
            x=tuple(float(number) for number, of in found.items() if device in of),
            y=tuple(of[device] for of in found.values() if device in of),
            style="thin",
            look="measured",
            about={"device": device},
        )
        for device in devices
    )
    means = FigureSeries(
        name="mean of the devices",
        x=tuple(map(float, found)),
        y=tuple(math.fsum(of.values()) / len(of) for of in found.values()),
        look="predicted",
        about={"device": "mean"},
    )
    return Figure(kind=kind, title=title, x=ROUND, y=axis, series=(*lines, means))
