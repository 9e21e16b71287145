"""Compared runs as tables, and as text.

* :func:`run_tables`      groups, targets, metered beside predicted, plans, devices, differences
* :func:`compared_text`   for a terminal of 80 columns
* :func:`compared_latex`  for a paper
* :func:`compared_methods`  how the numbers came about
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median
from typing import Literal

from fimi.record.clean import clean, enumerated
from fimi.record.summary import DeviceSummary
from fimi.report import latex
from fimi.report.carbon import boundary_words, intensity_words, name_of
from fimi.report.collection.compared import ComparedRuns, GroupFigures, TargetFigures
from fimi.report.collection.grouping import RunGroup
from fimi.report.comparison.plans import HEADING as HEADING_PLANS
from fimi.report.comparison.plans import plan_rows_of
from fimi.report.comparison.predicted import HEADING as HEADING_BESIDE
from fimi.report.comparison.predicted import beside_rows
from fimi.report.comparison.runs import COSTS
from fimi.report.comparison.shown import NEVER, Table, in_lines, shown
from fimi.report.comparison.statistics import LEAST, Sample, median_level
from fimi.report.layout import Marked, Paper, entries, wrap
from fimi.report.words import MISSING, joules, percent, seconds

_DEVICES_MOST = 40
"""Devices in a table of a terminal; the page and JSON have all."""
_GROUPS_OF_DEVICES = 8
"""Groups whose devices are told one by one."""

_UNKNOWN = "unknown"
_OF_BOARDS = ("board_j", "dynamic_j")
_COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "rounds": ("rounds", lambda v: f"{v:.3g}"),
    "board_j": ("whole board", joules),
    "dynamic_j": ("dynamic", joules),
    "duration_s": ("time", seconds),
    "size_bytes": ("moved", lambda v: f"{v / 1e6:#.3g} MB".replace(". ", " ")),
    "total_j": ("all machines", joules),
}


Part = Literal["groups", "prices", "beside", "plans", "devices", "differences"]
"""What a table is about, in the order of a terminal."""


def run_tables(
    found: ComparedRuns, *, devices_most: int = _DEVICES_MOST
) -> dict[Part, list[Table]]:
    """All tables by what they are about; those without anything to say are left out."""
    prices = []
    for each in found.targets:
        prices.append(_prices(found, each))
        if any(ratio.ratios or ratio.why_not for ratio in each.against):
            prices += _ratios(found, each)
    beside = Table(
        caption="metered beside predicted, all rounds",
        heading=("group", *HEADING_BESIDE[1:]),
        rows=beside_rows({each.group.name: each.beside for each in found.figures}),
    )
    plans = {
        group.name: [run.plan for run in group.runs if run.plan is not None]
        for group in found.groups
    }
    plan = Table(
        caption="plan of a round, median over runs",
        heading=("group", *HEADING_PLANS[1:]),
        rows=plan_rows_of(plans),
    )
    return {
        "groups": [_groups(found)],
        "prices": prices,
        "beside": [beside],
        "plans": [plan] if plan.rows else [],
        "devices": _devices(found, devices_most),
        "differences": [_contrasts(found)] if found.contrasts else [],
    }


def _groups(found: ComparedRuns) -> Table:
    emitted = any(each.carbon.median for each in found.figures)
    rows = [
        (
            each.group.name,
            _seeds(each.group),
            shown(each.rounds.median, digits=0),
            shown(each.final.mean, 0.01, digits=1),
            shown(each.best.mean, 0.01, digits=1),
            _energy(each),
            *([_grams(each.carbon)] if emitted else []),
        )
        for each in found.figures
    ]
    heading = ["group", "seeds", "rounds", "final accuracy\n%, test", "best accuracy\n%, test"]
    heading += ["boards\nin all", *(["emissions\nin all"] if emitted else [])]
    return Table(
        caption="runs that differ in their seeds alone are a group; accuracies are means, the rest "
        "medians",
        heading=tuple(heading),
        rows=tuple(rows),
    )


def _seeds(group: RunGroup) -> str:
    seeds = ["?" if seed is None else str(seed) for seed in group.seeds]
    return enumerated(seeds, 4) if len(seeds) < 5 else f"{len(seeds)} of them"


def _energy(each: GroupFigures) -> str:
    """Joules with their kind; what is known of them where a part is missing in every run.

    Those of several kinds are not added up.
    """
    kind = each.group.joules
    if "+" in (each.group.runs[0].figures.kind or ""):
        return _by_kind(each.group)
    if each.board.median is not None:
        hidden = each.board.unknown
        more = f" [{hidden} unknown]" if hidden else ""
        return f"{joules(each.board.median.value)} ({kind}){more}"
    if each.least_board.median is not None:
        return f"≥ {joules(each.least_board.median.value)} ({kind})"
    return MISSING


def _by_kind(group: RunGroup) -> str:
    """Known joules of the boards of each kind, medians over runs."""
    found: dict[str, list[float]] = {}
    for run in group.runs:
        own: dict[str, list[float]] = {}
        for known in (d.energy.known for d in run.devices if d.energy.known is not None):
            own.setdefault(f"{known.kind}, {known.scope}", []).append(known.value_j)
        for kind, values in own.items():
            found.setdefault(kind, []).append(math.fsum(values))
    told = (f"{joules(median(values))} ({kind})" for kind, values in sorted(found.items()))
    return " and ".join(told)


def _grams(sample: Sample) -> str:
    if sample.median is None:
        return MISSING
    if math.isinf(sample.median.value):
        return NEVER
    value_g = sample.median.value
    scale, unit = (1e-3, "mg") if value_g < 1 else (1.0, "g") if value_g < 1e3 else (1e3, "kg")
    return f"{shown(sample.median, scale)} {unit} CO2eq"


def _prices(found: ComparedRuns, each: TargetFigures) -> Table:
    costs = [c for c in _COSTS if c != "total_j" or _has_others(each)]
    emitted = any(sample.median for sample in each.carbon)
    kinds = {group.joules for group in found.groups if group.joules}
    once = f"\n({', '.join(kinds)})" if len(kinds) == 1 else ""
    rows = []
    for group, own, least, carbon in zip(
        found.groups, each.costs, each.least, each.carbon, strict=True
    ):
        rounds = own["rounds"]
        cells = [group.name, f"{rounds.reached} of {len(rounds.values)}"]
        for cost in costs:
            kind = group.joules if cost in _OF_BOARDS and not once else ""
            several = cost in _OF_BOARDS and "+" in (group.runs[0].figures.kind or "")
            price = "of several kinds" if several else _price(own[cost], _COSTS[cost][1], kind)
            known = least[cost].median if cost in least and not several else None
            if price == _UNKNOWN and known is not None and 0.0 < known.value < math.inf:
                price = f"≥ {joules(known.value)}" + (f" ({kind})" if kind else "")
            cells.append(price)
        rows.append((*cells, *([_grams(carbon)] if emitted else [])))
    heading = ["group", "reached"]
    heading += [_COSTS[cost][0] + (once if cost in _OF_BOARDS else "") for cost in costs]
    return Table(
        caption=f"to {percent(each.target)} on the test set, {each.why}: medians over runs",
        heading=(*heading, *(["emissions"] if emitted else [])),
        rows=tuple(rows),
    )


def _has_others(each: TargetFigures) -> bool:
    """Whether any group took joules of generator node or server, known or not."""
    return any(
        own["total_j"].values != own["board_j"].values
        for own in each.costs
        if own["board_j"].median
    )


def _price(sample: Sample, unit: Callable[[float], str], kind: str) -> str:
    """A median in its unit, with its interval and the kind of joules."""
    found = sample.median
    if found is None:
        return _UNKNOWN if sample.unknown else MISSING
    if math.isinf(found.value):
        return NEVER
    told = unit(found.value)
    if found.low is not None and found.high is not None:
        high = NEVER if math.isinf(found.high) else unit(found.high)
        told += f" [{unit(found.low)}, {high}]"
    if sample.unknown:
        told += f" [{sample.unknown} unknown]"
    return f"{told} ({kind})" if kind else told


def _ratios(found: ComparedRuns, each: TargetFigures) -> list[Table]:
    """Costs over those of the first group; none without a seed that both have, as a note says."""
    names = {group.letter: group.name for group in found.groups}
    rows = []
    for ratio in each.against:
        if not ratio.pairs:
            continue
        cells = [names[ratio.letter], str(ratio.pairs)]
        for cost in COSTS:
            sample = ratio.ratios.get(cost)
            cells.append(shown(sample.median, digits=2) if sample else ratio.why_not or MISSING)
        rows.append(tuple(cells))
    first = found.groups[0]
    table = Table(
        caption=f"to {percent(each.target)}: what it took, over what it took {first.name}, seed by "
        "seed, medians of the ratios",
        heading=("group", "pairs", *(_COSTS[cost][0] for cost in COSTS)),
        rows=tuple(rows),
    )
    return [table] if rows else []


def _devices(found: ComparedRuns, most: int) -> list[Table]:
    """The fleet device by device: a table for each quantity, a column for each group."""
    groups = found.groups[:_GROUPS_OF_DEVICES]
    names = sorted({d.device for group in groups for run in group.runs for d in run.devices})
    kinds = {group.joules for group in groups if group.joules}
    kind = f" ({kinds.pop()})" if len(kinds) == 1 else ", each of its kind"
    quantities: list[tuple[str, Callable[[DeviceSummary], float | None], Callable[..., str]]] = [
        ("synthetic images of each device", _images, lambda v: f"{v:.0f}"),
        ("planned GHz", lambda d: d.frequency_planned_hz, lambda v: f"{v / 1e9:#.3g}"),
        ("predicted busy time of a round", lambda d: d.predicted_busy_s, seconds),
        ("metered busy time of a round", lambda d: d.busy_s, seconds),
        (f"joules of the run{kind}", lambda d: d.energy.value_j, joules),
    ]
    tables = []
    for what, pick, unit in quantities:
        rows = [
            (clean(name, 40), *(_of_device(group, name, pick, unit) for group in groups))
            for name in names[:most]
        ]
        if any(cell != MISSING for row in rows for cell in row[1:]):
            more = f"; {len(names) - most} more devices on the page" if len(names) > most else ""
            heading = ("device", *(_column(group, "joules" in what, kinds) for group in groups))
            tables.append(
                Table(caption=f"{what}, median over runs{more}", heading=heading, rows=tuple(rows))
            )
    return tables


def _column(group: RunGroup, of_joules: bool, kinds: set[str]) -> str:
    """A group's letter, with the kind of its joules where groups differ in that."""
    return f"{group.letter}\n{group.joules}" if of_joules and kinds else group.letter


def _images(device: DeviceSummary) -> float | None:
    return float(sum(device.synthetic_counts)) if device.synthetic_counts else None


def _of_device(
    group: RunGroup,
    name: str,
    pick: Callable[[DeviceSummary], float | None],
    unit: Callable[..., str],
) -> str:
    values = [
        value
        for run in group.runs
        for device in run.devices
        if device.device == name and (value := pick(device)) is not None
    ]
    return unit(median(values)) if values else MISSING


def _contrasts(found: ComparedRuns) -> Table:
    return Table(
        caption="what differs",
        heading=("key", *(group.letter for group in found.groups)),
        rows=tuple(
            (each.key if each.of == "configuration" else f"{each.of}: {each.key}", *each.values)
            for each in found.contrasts
        ),
    )


def compared_methods(found: ComparedRuns) -> list[str]:
    """How the numbers came about, a sentence each."""
    asked = f"{100 * found.confidence:g} %"
    counts = sorted({len(group.runs) for group in found.groups if len(group.runs) >= LEAST})
    said = [
        "Costs are those up to the first round that reached the accuracy on the test set; "
        "receiving synthetic data counts to the first round. Whole board: all phases, idle "
        "included; dynamic: the paper's, compute and upload above idle. All machines: boards, "
        "generator node and server.",
        "Metered beside predicted: over exactly the parts that were both metered and predicted. "
        "Left out: device-rounds of which a part was not, and rounds before the last plan.",
    ]
    if counts:
        levels = ", ".join(
            f"{100 * median_level(count, found.confidence):.0f} % with {count}" for count in counts
        )
        said.append(
            f"In brackets: of a mean Student's t interval, {asked}; of a median the two values of "
            f"single runs that have it between them, {levels} runs."
        )
    said.append(
        f'"{NEVER}": not reached in the rounds that were run; it counts as infinite. Without '
        f"{LEAST} runs there is no interval."
    )
    told: dict[str, dict[str, None]] = {}
    for group in found.groups:
        for carbon in (run.carbon for run in group.runs if run.carbon is not None):
            what = (
                f"{name_of(carbon)}, {intensity_words(carbon)}; {boundary_words(carbon)}; E is "
                f"{group.joules or 'not metered'}"
            )
            told.setdefault(what, {})[group.letter] = None
    return said + [f"Emissions in {', '.join(own)}: {what}." for what, own in told.items()]


def compared_text(found: ComparedRuns, paper: Paper | None = None) -> str:
    """For a terminal; intervals and kinds stand below their values."""
    paper = paper or Paper()
    groups = [
        (
            Marked(group.letter, "title"),
            f"{group.label}: {enumerated([run.name for run in group.runs], 6)}",
        )
        for group in found.groups
    ]
    indent = max(len(group.letter) for group in found.groups) + 2
    blocks = [entries(groups, indent=indent, paper=paper)]
    if found.remarks:
        said = [(Marked("note", "warning"), clean(text, 600)) for text in found.remarks]
        blocks.append(entries(said, indent=6, paper=paper))
    blocks += [in_lines(each, paper) for part in run_tables(found).values() for each in part]
    blocks += ["\n".join(wrap(text, paper.text_width)) for text in compared_methods(found)]
    return paper.kinds("\n\n".join(blocks))


def compared_latex(found: ComparedRuns) -> str:
    """For a paper; what letters stand for, and how numbers came about, stands in comments."""
    made = [table for tables in run_tables(found).values() for table in tables]
    about = "; ".join(
        f"{group.letter}: {group.label}: {enumerated([run.name for run in group.runs], 6)}"
        for group in found.groups
    )
    text = latex.document([latex.of_table(each, label=each.caption) for each in made], about)
    return text + "".join(f"% {clean(each, 500)}\n" for each in compared_methods(found))
