"""Figures of the devices of a run: joules, phases, the plan, the powers of a round."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from fimi.energy.joules import total
from fimi.record.clean import clean
from fimi.record.record import RunData
from fimi.record.summary import DeviceSummary, Summary
from fimi.record.sums import Gap
from fimi.report import plot_style
from fimi.report.energy_figures import qualifier
from fimi.report.plots.figure import Axis, Figure, FigureSeries, about, joule_axis
from fimi.report.words import gaps


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
    kind = qualifier(total(energy for _, energy, _ in pairs))
    said = kind.strip(" ()")
    lacking = [_missing(d.compared.missing) for d, _, _ in pairs]
    measured = FigureSeries(
        name=f"metered ± 1 s.d.{kind}",
        x=tuple(energy.value_j for _, energy, _ in pairs),
        y=rows,
        low=tuple(energy.value_j - energy.uncertainty_j for _, energy, _ in pairs),
        high=tuple(energy.value_j + energy.uncertainty_j for _, energy, _ in pairs),
        style="points",
        look="measured",
        each=tuple(
            about(energy) | {"uncertainty_j": repr(energy.uncertainty_j), **missing}
            for (_, energy, _), missing in zip(pairs, lacking, strict=True)
        ),
    )
    predicted = FigureSeries(
        name="predicted (modelled)",
        x=tuple(predicted_j for _, _, predicted_j in pairs),
        y=rows,
        style="points",
        look="predicted",
        each=tuple(
            {"kind": "modelled", "scope": energy.scope, "source": "cost model", **missing}
            for (_, energy, _), missing in zip(pairs, lacking, strict=True)
        ),
    )
    left_out = [gap for d, _, _ in pairs for gap in d.compared.missing]
    return Figure(
        kind="energy-devices",
        title="Energy of each device, predicted and measured",
        x=joule_axis("energy of the run", largest),
        y=_named([d.device for d, _, _ in pairs]),
        series=(predicted, measured),
        across=True,
        rows=len(pairs),
        note=f"Measured joules are {said}, predicted ones modelled"
        + (f"; without {gaps(left_out)}, in both." if left_out else "."),
    )


def energy_phases(run: RunData, summary: Summary) -> Figure | None:
    """What each device used its joules for, phase by phase."""
    whole = {d.device: d.energy for d in summary.devices if d.energy.known or d.energy.missing}
    cells = [c for c in summary.cells if c.device in whole]
    largest = max((d.known_j or 0.0 for d in whole.values()), default=0.0)
    if not any(c.energy.known for c in cells):
        return None
    names = list(whole)
    series = [
        FigureSeries(
            name=plot_style.PHASE_NAMES[phase],
            x=tuple(c.energy.known_j for c in chosen),
            y=tuple(float(names.index(c.device)) for c in chosen),
            style="bars",
            look=f"phase-{phase}",
            pattern=pattern,
            each=tuple(about(c.energy.known) | _missing(c.energy.missing) for c in chosen),
        )
        for phase, pattern in plot_style.PHASE_PATTERNS.items()
        for chosen in [[c for c in cells if c.phase == phase]]
        if any(c.energy.known for c in chosen)
    ]
    if untold := _untold(summary, names):
        series.append(untold)
    said = qualifier(summary.energy.known).strip(" ()")
    short = [name for name, energy in whole.items() if energy.missing]
    missing = [gap for energy in whole.values() for gap in energy.missing]
    return Figure(
        kind="energy-phases",
        title="What the joules were used for",
        x=joule_axis("energy of the run", largest, said),
        y=_named(names),
        series=tuple(series),
        across=True,
        rows=len(names),
        least=tuple(float(names.index(name)) for name in short),
        note=f"Joules of whole boards, {said}"
        + (f"; at least, without {gaps(missing)}" if missing else "")
        + ("; not told apart: phases that a meter does not tell apart." if untold else "."),
    )


def _untold(summary: Summary, names: Sequence[str]) -> FigureSeries | None:
    """What is in a device's joules and in none of its phases, as its meter cannot tell them apart.

    It is worked out from the two, and has no uncertainty of its own.
    """
    left = []
    for row, name in enumerate(names):
        own = [c for c in summary.cells if c.device == name]
        energy = next(d.energy.known for d in summary.devices if d.device == name)
        if energy is None or not any("unresolved" in c.hows for c in own):
            continue
        rest_j = energy.value_j - math.fsum(c.energy.known_j or 0.0 for c in own)
        if rest_j > 0.0:
            left.append((float(row), rest_j, about(energy)))
    if not left:
        return None
    return FigureSeries(
        name="not told apart",
        x=tuple(rest_j for _, rest_j, _ in left),
        y=tuple(row for row, _, _ in left),
        style="bars",
        look="line",
        pattern="+",
        each=tuple(said for _, _, said in left),
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
    names = [clean(given[k]) if k < len(given) else str(k) for k in range(classes)]
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
        x=Axis(name="class", title="class", names=tuple(names), most=12),
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
        title=f"What each device {'learns from' if run.devices_train else 'holds'}",
        x=Axis(name="images", title="images", whole=True),
        y=_named([d.device for d in devices]),
        series=tuple(series),
        across=True,
        rows=len(devices),
    )


def _missing(found: Iterable[Gap]) -> dict[str, str]:
    """What is not in some joules, as a column; empty where they are whole."""
    return {"missing": gaps(found, most=20)}


def _named(names: Sequence[str]) -> Axis:
    return Axis(name="device", title="", names=tuple(map(clean, names)))


def _of(
    summary: Summary, value: Callable[[DeviceSummary], float | None]
) -> list[tuple[int, float]]:
    return [(k, v) for k, d in enumerate(summary.devices) if (v := value(d)) is not None]
