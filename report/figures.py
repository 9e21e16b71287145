"""The pictures of a report; :func:`pictures` makes each for which the run has numbers.

Energy per device and phase is drawn in :mod:`fimi.report.energy_figures`; here are the curves
over rounds, the planner's search, and the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fimi.record.clean import shortened
from fimi.record.curve import RoundPoint
from fimi.record.record import RunData
from fimi.record.summary import Summary
from fimi.record.sums import Gap, Sum
from fimi.report import plot_style
from fimi.report.energy_figures import (
    joules_by_phase,
    measured_against_predicted,
    qualifier,
    round_timeline,
)
from fimi.report.error_figures import planned_error_plot
from fimi.report.labels import skew
from fimi.report.learning_figures import (
    device_accuracy_plot,
    gradient_similarity_plot,
    local_error_plot,
    similarity_plot,
)
from fimi.report.plot_style import Picture
from fimi.report.prediction import cause_plot, residual_plot
from fimi.report.words import (
    MISSING,
    cross_entropy,
    modelled,
    percent,
    seconds,
    small_percent,
    whole,
)

_MEASURED_LINE = {"color": plot_style.MEASURED, "width": 2.5}
_DYNAMIC_LINE = {"color": plot_style.PREDICTED, "width": 2.5}


def pictures(run: RunData, summary: Summary) -> dict[str, Picture]:
    """Every picture by its name, in the order of the page; those without numbers are left out."""
    drawn = (
        residual_plot(run),
        cause_plot(summary),
        measured_against_predicted(summary),
        accuracy_by_round(summary),
        planned_error_plot(run),
        accuracy_by_energy(summary),
        cumulative_energy(summary),
        joules_by_phase(summary),
        round_timeline(run, summary),
        search_history(run),
        labels(run, summary),
        skew(run),
        class_accuracy(run),
        gradient_similarity_plot(run),
        similarity_plot(run),
        local_error_plot(run),
        device_accuracy_plot(summary),
    )
    return {picture.name: picture for picture in drawn if picture is not None}


def accuracy_by_round(summary: Summary) -> Picture | None:
    """Accuracy of the global model after each round."""
    points = summary.points
    if not points:
        return None
    figure = plot_style.figure(
        330,
        xaxis=plot_style.round_axis(len(points), rangemode="tozero"),
        yaxis=plot_style.accuracy_axis(),
        showlegend=False,
    )
    figure.add_scatter(
        x=[p.number for p in points],
        y=[100 * p.accuracy for p in points],
        mode="lines+markers",
        line=_MEASURED_LINE,
        marker={"size": 6},
        text=[
            f"<b>round {p.number}</b><br>accuracy {percent(p.accuracy)}"
            f"<br>loss {cross_entropy(p.loss)}"
            f"<br>{p.accepted} of {p.participants} updates{_and_absent(p)}<br>{seconds(p.round_s)}"
            for p in points
        ],
    )
    return Picture(
        name="accuracy",
        title="Accuracy per round",
        caption="Global model, evaluated on samples that no device and no generator has seen.",
        figure=figure,
    )


def _and_absent(point: RoundPoint) -> str:
    return f", {point.absent} absent" if point.absent else ""


def accuracy_by_energy(summary: Summary) -> Picture | None:
    """What an accuracy costs, in both energies."""
    points = summary.points
    if not points or summary.energy.known is None:
        return None
    scale, unit = plot_style.joule_unit(points[-1].energy_so_far.known_j or 0.0)
    figure = plot_style.figure(
        330,
        xaxis=plot_style.axis(
            f"energy of all devices so far, {unit}{qualifier(summary.energy.known)}",
            rangemode="tozero",
        ),
        yaxis=plot_style.accuracy_axis(),
    )
    for name, line, dash, sums in (
        ("dynamic (the paper’s)", _DYNAMIC_LINE, "dash", [p.dynamic_so_far for p in points]),
        ("whole board", _MEASURED_LINE, "solid", [p.energy_so_far for p in points]),
    ):
        figure.add_scatter(
            x=[None if each.known_j is None else each.known_j / scale for each in sums],
            y=[100 * p.accuracy for p in points],
            mode="lines+markers",
            name=name + _partly(sums[-1].missing),
            line={**line, "dash": dash},
            marker={"size": 6, "symbol": "diamond" if dash == "dash" else "circle"},
            text=[
                f"<b>round {p.number}</b><br>accuracy {percent(p.accuracy)}<br>{name} "
                f"{_hover(each)}"
                for p, each in zip(points, sums, strict=True)
            ],
        )
    return Picture(
        name="energy-to-accuracy",
        title="Energy to accuracy",
        caption="The same curve against joules: those of the whole board, receiving the synthetic "
        "data and idling included, and those above idle for compute and upload.",
        figure=figure,
    )


def _partly(missing: Sequence[Gap]) -> str:
    """Said of a curve that lacks parts."""
    return ", what is known" if missing else ""


def _hover(total: Sum) -> str:
    return plot_style.label(whole(total) or MISSING, 300)


def cumulative_energy(summary: Summary) -> Picture | None:
    """Joules up to each round, measured and predicted, in both energies."""
    points = summary.points
    if not points or summary.energy.known is None:
        return None
    last = points[-1]
    largest = max(last.energy_so_far.known_j or 0.0, last.compared_so_far.predicted_j or 0.0)
    scale, unit = plot_style.joule_unit(largest)
    figure = plot_style.figure(
        330,
        xaxis=plot_style.round_axis(len(points), rangemode="tozero"),
        yaxis=plot_style.axis(f"energy so far, {unit}", rangemode="tozero"),
    )
    for name, line, pairs in (
        ("board", _MEASURED_LINE, [(p.energy_so_far, p.compared_so_far) for p in points]),
        ("dynamic", _DYNAMIC_LINE, [(p.dynamic_so_far, p.dynamic_compared_so_far) for p in points]),
    ):
        known = [total.known_j for total, _ in pairs]
        predicted = [compared.whole_predicted_j for _, compared in pairs]
        said = [_hover(total) for total, _ in pairs]
        promised = [f"predicted {modelled(value)}" for value in predicted]
        kind = qualifier(pairs[-1][0].known)
        metered = name + kind + _partly(pairs[-1][0].missing)
        for title, dash, values, hovers in (
            (metered, "solid", known, said),
            (f"{name}, predicted (modelled)", "dot", predicted, promised),
        ):
            if all(value is None for value in values):
                continue
            figure.add_scatter(
                x=[p.number for p in points],
                y=[None if value is None else value / scale for value in values],
                mode="lines",
                name=title,
                line={**line, "width": 2.5 if dash == "solid" else 1.5, "dash": dash},
                text=[
                    f"<b>round {p.number}</b><br>{name} {said}"
                    for p, said in zip(points, hovers, strict=True)
                ],
            )
    return Picture(
        name="cumulative-energy",
        title="Energy up to each round",
        caption="All devices. Solid: metered; dotted: predicted, as far as all of it was.",
        figure=figure,
    )


def search_history(run: RunData) -> Picture | None:
    """The planner's search, and the bound that no plan can go below."""
    plan = run.plan
    steps = [(step.number, step.best) for step in plan.history if step.best] if plan else []
    if plan is None or not steps:
        return None
    scale, unit = plot_style.joule_unit(max(best for _, best in steps))
    figure = plot_style.figure(
        440,
        xaxis=plot_style.count_axis("iteration of the search", steps[-1][0]),
        yaxis=plot_style.axis(f"{plan.objective} energy of a round, {unit} (modelled)".strip()),
    )
    bound = plan.least.bound_j
    figure.add_scatter(
        x=[iteration for iteration, _ in steps],
        y=[best / scale for _, best in steps],
        mode="lines",
        name="best plan so far",
        line={**_MEASURED_LINE, "shape": "hv"},
        text=[
            f"<b>iteration {iteration}</b><br>{modelled(best)}"
            + (
                f"<br>{small_percent(100 * (best - bound) / bound)} above the bound"
                if bound
                else ""
            )
            for iteration, best in steps
        ],
    )
    if bound is not None:
        ends = [steps[0][0], steps[-1][0]]
        figure.add_scatter(
            x=ends,
            y=[bound / scale] * 2,
            mode="lines",
            name="certified bound",
            line={**_DYNAMIC_LINE, "width": 2, "dash": "dash"},
            text=[f"no plan needs less than {modelled(bound)}"] * 2,
        )
    return Picture(
        name="search",
        title="The search for the plan",
        caption="Cross-entropy search over the devices’ time splits; energy of the fleet that the "
        "plan makes least. The bound is that of every plan, proved by the dual of the problem.",
        figure=figure,
    )


def labels(run: RunData, summary: Summary) -> Picture | None:
    """What each device holds of each class, real and synthetic."""
    devices = [d for d in summary.devices if sum(d.local_counts)]
    if not devices:
        return None
    names = [d.device for d in devices]
    classes = max(len(d.local_counts) for d in devices)
    titles = _class_names(run, classes)
    real = [_padded(d.local_counts, classes) for d in devices]
    made = [_padded(d.synthetic_counts, classes) for d in devices]
    rows = zip(real, made, strict=True)
    largest = max(sum(pair) for row in rows for pair in zip(*row, strict=True))
    scale = 0.85 / largest
    figure = plot_style.figure(
        plot_style.row_height(len(devices), row_px=38),
        xaxis=_class_axis(titles),
        yaxis=plot_style.rows(
            names, range=[len(names) - 0.45, -0.95], showgrid=True, ticklabelshift=10
        ),
    )
    nothing = [[0] * classes for _ in devices]
    for name, colour, counts, below in (
        ("real", plot_style.MEASURED, real, nothing),
        ("synthetic", plot_style.PREDICTED, made, real),
    ):
        figure.add_bar(
            x=[k for _ in devices for k in range(classes)],
            y=[-scale * n for row in counts for n in row],
            base=[i - scale * n for i, row in enumerate(below) for n in row],
            width=0.74,
            name=name,
            marker=plot_style.bar(colour, "/" if name == "synthetic" else ""),
            text=[
                f"<b>{plot_style.label(device.device)}</b>, class {plot_style.label(titles[k])}"
                f"<br>{real[i][k]} real, {made[i][k]} synthetic samples"
                for i, device in enumerate(devices)
                for k in range(classes)
            ],
        )
    return Picture(
        name="labels",
        title=f"What each device {'learns from' if run.devices_train else 'holds'}",
        caption=f"Samples per class, one row per device; the highest bar is {largest} samples."
        + ("" if run.devices_train else " No device learnt from them: none took part."),
        figure=figure,
    )


def class_accuracy(run: RunData) -> Picture | None:
    """Accuracy of each class after each round."""
    rounds = [r for r in run.rounds if r.evaluation.class_accuracy]
    if not rounds:
        return None
    classes = max(len(r.evaluation.class_accuracy) for r in rounds)
    names = _class_names(run, classes)
    columns = [[*r.evaluation.class_accuracy] for r in rounds]
    table = [[row[k] if k < len(row) else None for row in columns] for k in range(classes)]
    figure = plot_style.figure(
        min(700, plot_style.row_height(len(run.devices), row_px=38, least_px=330)),
        xaxis=plot_style.round_axis(len(rounds), showgrid=False),
        yaxis=_class_axis(names, range=[classes - 0.5, -0.5]),
        showlegend=False,
    )
    figure.add_heatmap(
        x=[r.number for r in rounds],
        y=list(range(classes)),
        z=[[100 * v if v is not None else None for v in row] for row in table],
        zmin=0,
        zmax=100,
        colorscale=plot_style.SCALE,
        xgap=1,
        ygap=1,
        colorbar={
            "title": {"text": "accuracy, %", "side": "right"},
            "thickness": 10,
            "outlinewidth": 0,
            "tickvals": [0, 50, 100],
        },
        text=[
            [
                f"<b>round {r.number}</b>, class {plot_style.label(name)}"
                f"<br>accuracy {percent(value)}"
                for r, value in zip(rounds, row, strict=True)
            ]
            for name, row in zip(names, table, strict=True)
        ],
        hoverongaps=False,
    )
    return Picture(
        name="class-accuracy",
        title="Accuracy of each class",
        caption="Global model on test images, round by round.",
        figure=figure,
    )


def _class_names(run: RunData, classes: int) -> list[str]:
    names = shortened(run.info.dataset.class_names[:classes], 12)
    return names + [str(k) for k in range(len(names), classes)]


def _class_axis(names: Sequence[str], **more: Any) -> dict[str, Any]:
    return plot_style.axis(
        "class",
        tickmode="array",
        tickvals=list(range(len(names))),
        ticktext=[plot_style.label(name) for name in names],
        showgrid=False,
        **more,
    )


def _padded(counts: tuple[int, ...], length: int) -> list[int]:
    return [*counts, *[0] * (length - len(counts))][:length]
