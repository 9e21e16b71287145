"""The result of an experiment as text and Markdown.

* :func:`tables`    for people, grid point by grid point: medians, means, joules, metered beside
  predicted, and the comparison
* :func:`sides`     as configured, and as tuned
* :func:`as_text`, :func:`as_markdown`, :func:`as_latex`

``never`` stands where a target was not reached, ``–`` where a value is not known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from fimi.plural import plural
from fimi.record.clean import clean
from fimi.record.sums import Sum
from fimi.report import latex
from fimi.report.comparison.plans import HEADING, plan_rows
from fimi.report.comparison.predicted import HEADING as HEADING_BESIDE
from fimi.report.comparison.predicted import beside_rows
from fimi.report.comparison.result import Comparison, ExperimentResult, StrategySummary
from fimi.report.comparison.runs import ALL_COSTS, COSTS, RunFigures, point_text
from fimi.report.comparison.shown import NEVER, Table, in_lines, markdown, shown
from fimi.report.comparison.statistics import LEAST, Interval, Sample, median_level, wilson
from fimi.report.layout import Marked, Paper, entries, wrap
from fimi.report.words import joules, percent

_UNITS: dict[str, tuple[str, tuple[tuple[float, str], ...]]] = {
    "rounds": ("rounds", ((1.0, ""),)),
    "board_j": ("whole board", ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J"))),
    "dynamic_j": ("dynamic", ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J"))),
    "duration_s": ("time", ((3600.0, "h"), (60.0, "min"), (1.0, "s"))),
    "size_bytes": ("moved", ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))),
    "generator_j": ("generator", ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J"))),
    "server_j": ("server", ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J"))),
    "total_j": ("total", ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J"))),
}
"""Of a cost: its heading, and units with their sizes, the largest first."""


def tables(result: ExperimentResult) -> list[Table]:
    """Five tables for each grid point, and those of devices and plans where there are any."""
    found = []
    for point in result.points:
        here = [s for s in result.summaries if s.point == point]
        where = f"{point_text(point)}: " if point else ""
        found += [
            _costs(result, here, f"{where}median over seeds", lambda s: s.median),
            _costs(result, here, f"{where}mean over seeds", lambda s: s.mean),
            _joules(result, here, f"{where}joules to the target, median over seeds"),
            Table(
                caption=f"{where}metered beside predicted, all rounds",
                heading=HEADING_BESIDE,
                rows=beside_rows({each.label: each.beside for each in here}),
            ),
        ]
        if any(c.point == point for c in result.comparisons):
            found.append(_against(result, point, where))
        if any(summary.worst.mean for summary in here):
            found.append(_devices(here, f"{where}accuracy by device, mean over seeds"))
        if rows := plan_rows(here):
            caption = f"{where}plan of a round, median over seeds"
            found.append(Table(caption=caption, heading=HEADING, rows=rows))
    return found


def sides(result: ExperimentResult) -> list[tuple[str, ExperimentResult]]:
    """The result as configured and as tuned, each with its name; one without a name otherwise."""
    if not result.choices:
        return [("", result)]
    return [("as configured", result)] + ([("tuned", result.tuned)] if result.tuned else [])


def all_tables(result: ExperimentResult) -> list[Table]:
    """The tables of all sides, and between them what was chosen."""
    found = []
    for side, each in sides(result):
        if side == "tuned":
            found.append(chosen(result))
        name = f"{side}, " if side else ""
        found += [msgspec.structs.replace(t, caption=name + t.caption) for t in tables(each)]
    return found


def chosen(result: ExperimentResult) -> Table:
    """What was tried on the tuning seeds, and what was taken."""
    points, keys = result.points, list(result.choices[0].tried[0].settings)
    rows = []
    for choice in result.choices:
        taken = choice.taken
        rows += [
            (
                choice.label,
                *([point_text(choice.point)] if points != [{}] else []),
                *(
                    point_text({key: value}).partition(" = ")[2]
                    for key, value in tried.settings.items()
                ),
                "missing" if tried.accuracy is None else f"{tried.reached} of {choice.seeds}",
                joules(tried.joules) if tried.reached or tried.accuracy is None else NEVER,
                percent(tried.accuracy),
                "taken" if tried is taken else "",
            )
            for tried in choice.tried
        ]
    heading = ["strategy", *(["grid point"] if points != [{}] else [])]
    heading += [key.rpartition(".")[2].replace("_", " ") for key in keys]
    heading += ["target reached", f"joules\n({result.kind})", "best accuracy\nvalidation", "taken"]
    return Table(
        caption="settings on the tuning seeds, judged on the validation part",
        heading=tuple(heading),
        rows=tuple(rows),
    )


def methods(result: ExperimentResult) -> list[str]:
    """How the numbers came about, a sentence each."""
    asked = f"{100 * result.confidence:g} %"
    count = max((len(s.records) for s in result.summaries), default=0)
    if count < LEAST:
        brackets = f"{plural(count, 'seed')}: no interval."
    else:
        level = 100 * median_level(count, result.confidence)
        sure = "at least" if level >= 100 * result.confidence else "only"
        brackets = (
            f"In brackets: of a mean Student's t interval, {asked}; of a median two values of "
            f"single seeds, which with {count} seeds have it between them with {sure} {level:.1f} "
            "%. Fewer than three seeds have no interval."
        )
    return [
        f"Costs are those of reaching {result.target}, up to the first round that did; receiving "
        "synthetic data counts to the first round.",
        f"Joules: {result.kind}. Whole board: all phases, idle included. Dynamic: the paper's, "
        "compute and upload above idle. Those of plans are modelled; a gap is the distance from "
        "what no plan can go below, the largest over the seeds.",
        "Accuracy by device: of the last global model, accuracies of the classes weighted by each "
        "device's own labels; the worst device's, and the standard deviation over devices.",
        "Total: whole boards, and what drawing all images of the run and training on the server "
        "until then took; their kinds stand in the heading. Where one was not metered the total is "
        "at least what is known.",
        "Metered beside predicted: joules of all rounds, and of receiving synthetic data, over "
        "exactly the parts that were both metered and predicted, as in the report of each run; "
        "seconds of a round over those that were run by the last plan. Left out: device-rounds of "
        "which a part was not metered or not predicted, and rounds before the last plan. Joules, "
        "seconds and metered / predicted are medians over the seeds, the error, (predicted − "
        "metered) / metered, is a mean.",
        brackets,
        *_images(result),
        f'"{NEVER}": not reached within the rounds that were run; counts as infinite, so that a '
        "mean over it cannot be given. Ratios pair runs of the same seed; where only the baseline "
        "never got there a ratio is 0, where neither did the pair has none.",
        *_tuned(result),
    ]


def _images(result: ExperimentResult) -> list[str]:
    """How finely accuracies are told, by the number of images."""
    runs = [r.cell.figures for r in result.records if r.cell.figures is not None]
    test = {run.test_samples for run in runs if run.test_samples}
    kept = {run.validation_samples for run in runs if run.validation_samples}
    base = next((s for s in result.summaries if s.label == result.baseline), None)
    if not test or base is None or base.final.mean is None:
        return []
    least, share = min(test), base.final.mean.value
    of_one = wilson(share, least, result.confidence)
    said = (
        f"Final accuracies are of the test set, {least} images, {100 / least:.2f} points each: "
        f"{100 * share:.1f} % in a single run is between {100 * (of_one.low or 0):.1f} and "
        f"{100 * (of_one.high or 0):.1f} % with {100 * result.confidence:g} % (Wilson)."
    )
    if result.target.on == "validation" and kept:
        each = min(kept)
        said += (
            f" Targets are taken and reached on the validation part, {each} images, "
            f"{100 / each:.2f} points each; beside them stands the test accuracy of that round."
        )
    return [said]


def _tuned(result: ExperimentResult) -> list[str]:
    if not result.choices:
        return []
    first = result.choices[0]
    return [
        f"Tuned: for each strategy and grid point the best of the same {len(first.tried)} settings "
        f"on the same tuning seeds ({first.seeds}), which are not reported: the one that reaches "
        "the target on most of them, then with the least joules, then with the highest accuracy, "
        "all of it on the validation part. The target of a tuning seed is the accuracy that the "
        "strategy named in the experiment's target has with its most accurate setting."
    ]


def as_text(result: ExperimentResult, paper: Paper | None = None) -> str:
    """For a terminal; an interval stands below its value."""
    paper = paper or Paper()
    blocks = [paper.ink(result.title, "title")] if result.title else []
    for each in all_tables(result):
        blocks.append(in_lines(each, paper))
    blocks += ["\n".join(wrap(sentence, paper.text_width)) for sentence in methods(result)]
    if result.notes:
        said = [(Marked("note", "warning"), clean(note, 500)) for note in result.notes]
        blocks.append(entries(said, indent=6, paper=paper))
    return paper.kinds("\n\n".join(blocks))


def as_markdown(result: ExperimentResult) -> str:
    """For a page or an issue."""
    lines = [f"# {result.title or result.name}", ""]
    for each in all_tables(result):
        lines += markdown(each)
    lines += [f"- {sentence}" for sentence in methods(result)]
    lines += [f"- note: {clean(note, 500)}" for note in result.notes]
    return "\n".join(lines) + "\n"


def as_latex(result: ExperimentResult) -> str:
    """For a paper; what numbers mean stands in comments."""
    made = [latex.of_table(t, label=t.caption) for t in all_tables(result)]
    about = latex.document(made, f"{result.name}: {result.title or 'experiment'}")
    return about + "".join(f"% {clean(sentence, 500)}\n" for sentence in methods(result))


def _costs(
    result: ExperimentResult,
    summaries: Sequence[StrategySummary],
    caption: str,
    pick: Callable[[Sample], Interval | None],
) -> Table:
    scales = {
        cost: _scale(cost, [pick(summary.costs[cost]) for summary in summaries]) for cost in COSTS
    }
    apart = result.target.on == "validation"
    heading = ["strategy", "final accuracy\n%", "target reached"]
    heading += ["accuracy then\n%, test"] if apart else []
    for cost in COSTS:
        title, unit = _UNITS[cost][0], scales[cost][1]
        kind = f" ({result.kind})" if cost.endswith("_j") else ""
        heading.append(f"{title}\n{unit}{kind}" if unit or kind else title)
    rows = []
    for summary in summaries:
        rounds = summary.costs["rounds"]
        asked = len(rounds.values)
        reached = f"{rounds.reached} of {asked}"
        if rounds.unknown:
            reached += f", {rounds.unknown} missing"
        rows.append(
            (
                summary.label,
                shown(pick(summary.final), 0.01, digits=1),
                reached,
                *([shown(pick(summary.test_accuracy), 0.01, digits=1)] if apart else []),
                *(
                    shown(pick(summary.costs[cost]), scales[cost][0], never=rounds.never > 0)
                    + _partly(summary.costs[cost], rounds)
                    for cost in COSTS
                ),
            )
        )
    return Table(caption=caption, heading=tuple(heading), rows=tuple(rows))


def _devices(summaries: Sequence[StrategySummary], caption: str) -> Table:
    """How evenly the strategies serve the devices."""
    return Table(
        caption=caption,
        heading=("strategy", "final accuracy\n%", "worst device\n%", "over devices\nσ, points"),
        rows=tuple(
            (
                each.label,
                shown(each.final.mean, 0.01, digits=1),
                shown(each.worst.mean, 0.01, digits=1),
                shown(each.std.mean, 0.01, digits=1),
            )
            for each in summaries
        ),
    )


def _joules(result: ExperimentResult, summaries: Sequence[StrategySummary], caption: str) -> Table:
    """Joules of all machines; a total that lacks a part is at least what is known."""
    parts: dict[str, tuple[str, Callable[[RunFigures], Sum]]] = {
        "board_j": ("devices", lambda run: run.points[-1].energy_so_far),
        "generator_j": ("generator", lambda run: run.generator),
        "server_j": ("server", lambda run: run.server),
        "total_j": ("total", lambda run: run.points[-1].total_so_far),
    }
    runs = [r.cell.figures for s in summaries for r in s.records if r.cell.figures is not None]
    scale, unit = _scale("total_j", [s.least_total.median for s in summaries])
    heading = ["strategy"]
    for name, pick in parts.values():
        kinds = {known.kind for run in runs if run.points and (known := pick(run).known)}
        lacks = any(run.points and pick(run).missing for run in runs)
        kind = "+".join(sorted(kinds)) or ("not metered" if lacks else "none")
        heading.append(f"{name}\n{unit} ({kind})")
    rows = []
    for summary in summaries:
        rounds = summary.costs["rounds"]
        own = [r.cell.figures for r in summary.records if r.cell.figures and r.cell.figures.points]
        cells = [summary.label]
        for cost, (_, pick) in parts.items():
            sample = summary.costs[cost]
            lacks = sample.unknown > rounds.unknown
            never = rounds.never > 0
            if own and all(pick(run) == Sum() for run in own):
                cells.append("none")
            elif cost == "total_j" and lacks and summary.least_total.median:
                least = shown(summary.least_total.median, scale, never=never)
                cells.append(f"at least {least}" if least != NEVER else least)
            elif lacks and sample.median is None:
                cells.append("unknown")
            else:
                cells.append(shown(sample.median, scale, never=never) + _partly(sample, rounds))
        rows.append(tuple(cells))
    return Table(caption=caption, heading=tuple(heading), rows=tuple(rows))


def _against(result: ExperimentResult, point: dict[str, Any], where: str) -> Table:
    own = [each for each in result.comparisons if each.point == point]
    costs = [c for c in ALL_COSTS if c in COSTS or (c == "total_j" and _known(own, c))]
    heading = ["strategy", "final accuracy\npoints, mean", "pairs"]
    heading += [f"{_UNITS[cost][0]}\nratio, median" for cost in costs]
    rows = []
    for each in own:
        rounds = each.ratios["rounds"]
        pairs = len(rounds.values)
        rows.append(
            (
                each.label,
                shown(each.final.mean, 0.01, digits=1, sign=True),
                f"{pairs - rounds.unknown} of {pairs}",
                *(
                    shown(each.ratios[cost].median, 1.0, digits=2)
                    + _partly(each.ratios[cost], rounds)
                    for cost in costs
                ),
            )
        )
    return Table(
        caption=f"{where}against {result.baseline}, paired by seed",
        heading=tuple(heading),
        rows=tuple(rows),
    )


def _known(comparisons: Sequence[Comparison], cost: str) -> bool:
    return any(each.ratios[cost].median is not None for each in comparisons)


def _partly(sample: Sample, rounds: Sample) -> str:
    """Says so where less is known of a cost than of the rounds."""
    hidden = sample.unknown - rounds.unknown
    return f" ({hidden} unknown)" if hidden > 0 else ""


def _scale(cost: str, intervals: Sequence[Interval | None]) -> tuple[float, str]:
    """Size and name of the unit in which the largest value is a readable number."""
    largest = max(
        (i.value for i in intervals if i is not None and math.isfinite(i.value)), default=0.0
    )
    units = _UNITS[cost][1]
    return next(((size, name) for size, name in units if largest >= 2 * size), units[-1])
