"""Figures of a run over its rounds: accuracy, errors of predictions, what gradients say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from fimi.energy.joules import Energy, total
from fimi.record.insight import DeviceInsight
from fimi.record.prediction import Residual, by_device_round, energy_error
from fimi.record.record import RunData
from fimi.record.results import DeviceRound, metered
from fimi.record.summary import Summary
from fimi.record.sums import Sum, mean
from fimi.report.energy_figures import qualifier
from fimi.report.plots.figure import Axis, Figure, FigureSeries, Style, about, joule_axis
from fimi.report.words import gaps

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
                name="global model",
                legend=False,
                x=tuple(float(point.number) for point in points),
                y=tuple(100.0 * point.accuracy for point in points),
                look="measured",
                about={"run": run.info.run, "strategy": run.info.strategy},
            ),
        ),
        note=f"One run of {run.info.strategy}, seed {run.info.seed}.",
    )


def accuracy_joules(run: RunData, summary: Summary) -> Figure | None:
    """Accuracy over the joules of all devices so far: whole boards, and above idle."""
    points, known = summary.points, summary.energy.known
    if not points or known is None:
        return None

    def line(name: str, sums: list[Sum], look: str, style: Style) -> FigureSeries:
        least = tuple(bool(each.missing) for each in sums)
        return FigureSeries(
            name=f"{name}{' (hollow: at least)' if any(least) else ''}",
            x=tuple(each.known_j for each in sums),
            y=tuple(100.0 * point.accuracy for point in points),
            look=look,
            style=style,
            about={"joules": name},
            each=tuple(
                {"round": str(point.number)}
                | about(each.known)
                | {"missing": gaps(each.missing, most=20)}
                for point, each in zip(points, sums, strict=True)
            ),
            least=least,
        )

    said = qualifier(known).strip(" ()")
    missing = points[-1].energy_so_far.missing
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
        f"upload. Joules are {said}."
        + (
            f" Hollow: at least, as a part is not known; whole boards without {gaps(missing)}."
            if missing
            else ""
        ),
    )


def prediction_error(run: RunData, summary: Summary) -> Figure | None:
    """Error of the predicted joules of each device in each round, and their mean."""
    groups = by_device_round(run.residuals)
    entries = {(r.number, d.device): d for r in run.rounds for d in r.devices}
    points = [
        (float(number), device, 100.0 * error, _metered(entries.get((number, device)), group))
        for (number, device), group in groups.items()
        if (error := energy_error(group)) is not None
    ]
    if not points:
        return None
    rounds = sorted({number for number, _, _, _ in points})
    means = [mean(e for number, _, e, _ in points if number == at) for at in rounds]
    of_round = [
        total(energy for number, _, _, energy in points if number == at and energy is not None)
        for at in rounds
    ]
    whole = total(energy for energy in of_round if energy is not None)
    return Figure(
        kind="prediction-error",
        title="Error of the predicted energy",
        x=ROUND,
        y=Axis(name="error_percent", title="(predicted − measured) / measured", unit="%"),
        series=(
            FigureSeries(
                name="a device in a round",
                x=tuple(number for number, _, _, _ in points),
                y=tuple(error for _, _, error, _ in points),
                style="points",
                look="measured",
                each=tuple({"device": d} | about(energy) for _, d, _, energy in points),
            ),
            FigureSeries(
                name="mean of the devices",
                x=tuple(rounds),
                y=tuple(means),
                look="predicted",
                each=tuple({"device": "mean"} | about(energy) for energy in of_round),
            ),
        ),
        marks=tuple(number + 0.5 for number in run.refits),
        note=f"Measured joules are of whole boards{qualifier(whole)}, predicted ones modelled"
        + ("; upright lines: boards were fitted again." if run.refits else "."),
    )


def _metered(entry: DeviceRound | None, group: Sequence[Residual]) -> Energy | None:
    """The joules that an error is of: those of the phases that are compared."""
    if entry is None:
        return None
    phases = {each.phase for each in group} | ({"waiting"} if _idles(group) else set())
    return metered(record for record in entry.phases if record.phase in phases)


def _idles(group: Sequence[Residual]) -> bool:
    """Whether idling is compared, and with it waiting for a pull."""
    return any(each.phase == "idle" for each in group)


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
            name="a device",
            legend=device == devices[0],
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
