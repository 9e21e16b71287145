"""Figures of the devices of a run: joules, phases, the plan, the powers of a round."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fimi.record.clean import clean
from fimi.record.record import RunData
from fimi.record.summary import DeviceSummary, Summary
from fimi.report import plot_style
from fimi.report.energy_figures import qualifier
from fimi.report.plots.figure import Axis, Figure, FigureSeries, about, joule_axis


def energy_devices(run: RunData, summary: Summary) -> Figure | None:
    """Joules of each device: predicted, and measured with one standard deviation."""
    pairs = [
        (d, d.compared.measured, d.compared.predicted_j)
        for d in summary.devices
        if d.compared.measured is not None and d.compared.predicted_j is not None
    ]
    if not pairs:
        return None
    largest = max(max(energy.value_j, predicted_j) for _, energy, predicted_j in pairs)
    rows = tuple(map(float, range(len(pairs))))
    known = summary.energy.known
    said = qualifier(known).strip(" ()")
    measured = tuple(
        FigureSeries(
            name="measured ± 1 s.d." if k == 0 else "",
            x=(energy.value_j,),
            y=(rows[k],),
            low=(energy.value_j - energy.uncertainty_j,),
            high=(energy.value_j + energy.uncertainty_j,),
            style="points",
            look="measured",
            about=about(energy) | {"uncertainty_j": repr(energy.uncertainty_j)},
        )
        for k, (_, energy, _) in enumerate(pairs)
    )
    predicted = FigureSeries(
        name="predicted",
        x=tuple(predicted_j for _, _, predicted_j in pairs),
        y=rows,
        style="points",
        look="predicted",
        about={"kind": "modelled", "scope": known.scope if known else "", "source": "cost model"},
    )
    return Figure(
        kind="energy-devices",
        title="Energy of each device, predicted and measured",
        x=joule_axis("energy of the run", largest, said),
        y=_named([d.device for d, _, _ in pairs]),
        series=(predicted, *measured),
        across=True,
        rows=len(pairs),
        note=f"Joules are {said}, as far as they were metered and predicted.",
    )


def energy_phases(run: RunData, summary: Summary) -> Figure | None:
    """What each device used its joules for, phase by phase."""
    cells = [(c, energy) for c in summary.cells if (energy := c.energy.known) is not None]
    whole = {d.device: d.energy.known.value_j for d in summary.devices if d.energy.known}
    if not cells or not whole:
        return None
    names = list(whole)
    series = []
    for phase, pattern in plot_style.PHASE_PATTERNS.items():
        chosen = [(c, energy) for c, energy in cells if c.phase == phase and c.device in whole]
        if not chosen:
            continue
        series.append(
            FigureSeries(
                name=plot_style.PHASE_NAMES[phase],
                x=tuple(energy.value_j for _, energy in chosen),
                y=tuple(float(names.index(c.device)) for c, _ in chosen),
                style="bars",
                look=f"phase-{phase}",
                pattern=pattern,
                about=about(summary.energy.known),
            )
        )
    said = qualifier(summary.energy.known).strip(" ()")
    return Figure(
        kind="energy-phases",
        title="What the joules were used for",
        x=joule_axis("energy of the run", max(whole.values()), said),
        y=_named(names),
        series=tuple(series),
        across=True,
        rows=len(names),
        note=f"Joules of whole boards, {said}; phases that a meter does not tell apart are left "
        "out.",
    )


def frequencies(run: RunData, summary: Summary) -> Figure | None:
    """The plan's frequency of each device, and the one that was achieved."""
    planned = _of(summary, lambda d: d.frequency_planned_hz)
    achieved = _of(summary, lambda d: d.frequency_achieved_hz)
    if not planned:
        return None
    names = [d.device for d in summary.devices]
    series = [
        FigureSeries(
            name=name,
            x=tuple(value for _, value in found),
            y=tuple(float(row) for row, _ in found),
            style="points",
            look=look,
        )
        for name, found, look in (
            ("planned", planned, "predicted"),
            ("achieved, mean", achieved, "measured"),
        )
        if found
    ]
    return Figure(
        kind="frequencies",
        title="Frequencies of the plan",
        x=Axis(name="frequency_hz", title="processor frequency", unit="GHz", scale=1e9),
        y=_named(names),
        series=tuple(series),
        across=True,
        rows=len(names),
    )


def images(run: RunData, summary: Summary) -> Figure | None:
    """Images per class of all devices together: those they hold, and those that are filled in."""
    held = [d.local_counts for d in summary.devices if d.local_counts]
    if not held:
        return None
    classes = max(map(len, held))
    given = run.info.dataset.class_names
    names = [clean(given[k], 12) if k < len(given) else str(k) for k in range(classes)]
    made = [d.synthetic_counts for d in summary.devices]
    at = tuple(map(float, range(classes)))
    series = [
        FigureSeries(
            name=name,
            x=at,
            y=tuple(float(sum(c[k] for c in counts if k < len(c))) for k in range(classes)),
            style="bars",
            look=look,
            pattern=pattern,
        )
        for name, counts, look, pattern in (
            ("real", held, "measured", ""),
            ("synthetic", made, "predicted", "/"),
        )
    ]
    return Figure(
        kind="images",
        title="Images per class",
        x=Axis(name="class", title="class", names=tuple(names)),
        y=Axis(name="images", title="images of all devices", whole=True),
        series=tuple(series),
    )


def device_images(run: RunData, summary: Summary) -> Figure | None:
    """Images of each device: those it holds, and those that the plan fills in."""
    devices = [d for d in summary.devices if sum(d.local_counts)]
    if not devices:
        return None
    rows = tuple(map(float, range(len(devices))))
    series = [
        FigureSeries(
            name=name,
            x=tuple(float(sum(counts)) for counts in each),
            y=rows,
            style="bars",
            look=look,
            pattern=pattern,
        )
        for name, each, look, pattern in (
            ("real", [d.local_counts for d in devices], "measured", ""),
            ("synthetic", [d.synthetic_counts for d in devices], "predicted", "/"),
        )
    ]
    return Figure(
        kind="device-images",
        title="What each device learns from",
        x=Axis(name="images", title="images", whole=True),
        y=_named([d.device for d in devices]),
        series=tuple(series),
        across=True,
        rows=len(devices),
    )


def _named(names: Sequence[str]) -> Axis:
    return Axis(name="device", title="", names=tuple(clean(name, 24) for name in names))


def _of(
    summary: Summary, value: Callable[[DeviceSummary], float | None]
) -> list[tuple[int, float]]:
    return [(k, v) for k, d in enumerate(summary.devices) if (v := value(d)) is not None]
