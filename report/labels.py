"""How uneven the devices' labels are, before and after the plan fills them."""

from __future__ import annotations

import math

from fimi.record.record import Labels, RunData
from fimi.report import plot_style
from fimi.report.markup import Column, Html, table
from fimi.report.plot_style import Picture
from fimi.report.words import MISSING

BEFORE, AFTER = "local", "filled"


def words(run: RunData) -> str:
    """Mean distance and entropy over devices, weighted by samples; empty if nothing is known."""
    before, after = _stage(run, BEFORE), _stage(run, AFTER)
    emd, entropy = _mean(before, "emd"), _mean(before, "entropy_bits")
    if emd is None or entropy is None:
        return ""
    most = math.log2(max(len(each.counts) for each in before.values()))
    said = f"EMD to the population {emd:.2f} (0 to 2), entropy {entropy:.2f} of {most:.2f} bit"
    filled = any(after[d].counts != before[d].counts for d in after if d in before)
    emd, entropy = _mean(after, "emd"), _mean(after, "entropy_bits")
    if filled and emd is not None and entropy is not None:
        said += f"; filled with synthetic samples {emd:.2f} and {entropy:.2f} bit"
    return f"{said} (means over devices by samples)."


def skew(run: RunData) -> Picture | None:
    """The distance of each device's labels to the population, before and after filling."""
    before, after = _stage(run, BEFORE), _stage(run, AFTER)
    names = [device for device, each in before.items() if each.emd is not None]
    if not names:
        return None
    figure = plot_style.figure(
        plot_style.row_height(len(names), row_px=38),
        xaxis=plot_style.axis("EMD to the population", range=[-0.05, 2.05]),
        yaxis=plot_style.rows(names, range=[len(names) - 0.45, -0.95]),
    )
    joins: list[tuple[float | None, int | None]] = []
    for row, device in enumerate(names):
        ends = [before[device].emd, after[device].emd if device in after else None]
        if None not in ends and ends[0] != ends[1]:
            joins += [(ends[0], row), (ends[1], row), (None, None)]
    if joins:
        figure.add_scatter(
            x=[x for x, _ in joins],
            y=[row for _, row in joins],
            mode="lines",
            line={"color": plot_style.LINE, "width": 2},
            showlegend=False,
            hoverinfo="skip",
        )
    for name, colour, shape, stage in (
        ("local", plot_style.MEASURED, "circle", before),
        ("local + synthetic", plot_style.PREDICTED, "diamond", after),
    ):
        there = [(row, d) for row, d in enumerate(names) if d in stage]
        figure.add_scatter(
            x=[stage[d].emd for _, d in there],
            y=[row for row, _ in there],
            mode="markers",
            name=name,
            marker={"color": colour, "symbol": shape, "size": 10},
            text=[
                f"<b>{plot_style.label(d)}</b>, {name}<br>EMD {_number(stage[d].emd)}, entropy "
                f"{_number(stage[d].entropy_bits)} bit, {sum(stage[d].counts)} samples"
                for _, d in there
            ],
        )
    return Picture(
        name="label-skew",
        title="How uneven the labels are",
        caption="Distance of a device’s label distribution to that of the real samples of all "
        "devices: 0 alike, 2 nothing in common.",
        figure=figure,
    )


def skew_table(run: RunData) -> Html | None:
    """One row per device."""
    before, after = _stage(run, BEFORE), _stage(run, AFTER)
    if not before:
        return None
    columns: list[Column[tuple[str, Labels, Labels]]] = [
        Column("Device", "", lambda r: r[0], "name"),
        Column("Samples", "local", lambda r: str(sum(r[1].counts))),
        Column("Samples", "filled", lambda r: str(sum(r[2].counts))),
        Column("EMD", "local", lambda r: _number(r[1].emd)),
        Column("EMD", "filled", lambda r: _number(r[2].emd)),
        Column("Entropy, bit", "local", lambda r: _number(r[1].entropy_bits)),
        Column("Entropy, bit", "filled", lambda r: _number(r[2].entropy_bits)),
    ]
    return table(columns, [(d, own, after.get(d, own)) for d, own in before.items()])


def _stage(run: RunData, stage: str) -> dict[str, Labels]:
    return run.labels.get(stage, {})


def _mean(stage: dict[str, Labels], name: str) -> float | None:
    known = [
        (sum(each.counts), value)
        for each in stage.values()
        if (value := getattr(each, name)) is not None
    ]
    samples = sum(count for count, _ in known)
    return math.fsum(count * value for count, value in known) / samples if samples else None


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"
