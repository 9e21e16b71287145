"""Experiments side by side as text, Markdown and JSON.

* :func:`side_tables`  a table for each strategy, and the comparisons with the baseline
* :func:`side_text`, :func:`side_markdown`, :func:`side_latex`, :func:`side_json`
* :func:`legend`, :func:`side_methods`  what letters stand for, and how the numbers came about
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from fimi.record.clean import clean
from fimi.report import latex
from fimi.report.comparison.shown import Table, in_lines, markdown, shown
from fimi.report.comparison.side_by_side import (
    MEASURES,
    LaidMeasure,
    LaidStrategy,
    SideBySide,
    Unit,
)
from fimi.report.comparison.statistics import Interval, Sample
from fimi.report.comparison.stored import StoredInterval
from fimi.report.comparison.values import sample_body
from fimi.report.layout import Paper, entries, wrap
from fimi.report.words import MISSING

_UNITS: dict[Unit, tuple[tuple[float, str], ...]] = {
    "share": ((0.01, "%"),),
    "rounds": ((1.0, ""),),
    "J": ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J")),
    "s": ((3600.0, "h"), (60.0, "min"), (1.0, "s")),
}
_AGAINST = {"rounds": "rounds", "duration_s": "time", "board_j": "board", "dynamic_j": "dynamic"}
"""Costs of the comparison with the baseline, and words for them."""
_NOTHING = "nothing: configuration, data, versions and cells are the same"


def side_tables(laid: SideBySide) -> list[tuple[str, Table]]:
    """Grid point and side with each table: the strategies, then what they are to the baseline."""
    found = []
    for where in dict.fromkeys(each.where for each in laid.strategies):
        here = [each for each in laid.strategies if each.where == where]
        found += [(where, _strategy(laid, each)) for each in here]
        if any(any(each.against_baseline) for each in here):
            found.append((where, _against(laid, here)))
    return found


def _strategy(laid: SideBySide, each: LaidStrategy) -> Table:
    letters = laid.letters
    first = set(each.seeds[0])
    seeds = ", ".join(
        f"{len(own)} in {letter}"
        + ("" if set(own) == first else f" (of which {letters[0]} has {len(first & set(own))})")
        for letter, own in zip(letters, each.seeds, strict=True)
    )
    against = [f"{letter}/{letters[0]}" for letter in letters[1:]]
    return Table(
        caption=f"{_prefix(each.where)}seeds of {each.label}: {seeds}",
        heading=(
            each.label,
            letters[0],
            *(t for pair in zip(letters[1:], against, strict=True) for t in pair),
        ),
        rows=tuple(_row(name, own) for name, own in each.measures.items()),
    )


def _prefix(where: str) -> str:
    return f"{where}: " if where else ""


def _row(name: str, own: LaidMeasure) -> tuple[str, ...]:
    measure = MEASURES[name]
    largest = max(
        (i.value for s in own.own if (i := _middle(s, measure.unit)) and math.isfinite(i.value)),
        default=0.0,
    )
    units = _UNITS[measure.unit]
    scale, unit = next((each for each in units if largest >= 2 * each[0]), units[-1])
    cells = [
        _value(sample, measure.unit, scale, unit, kinds)
        for sample, kinds in zip(own.own, own.kinds, strict=True)
    ]
    ratios = [_ratio(sample, measure.unit) for sample in own.against]
    return (
        measure.title,
        cells[0],
        *(t for pair in zip(cells[1:], ratios, strict=True) for t in pair),
    )


def _middle(sample: Sample, unit: Unit) -> Interval | None:
    return sample.mean if unit == "share" else sample.median


def _value(sample: Sample, unit: Unit, scale: float, word: str, kinds: str) -> str:
    middle = _middle(sample, unit)
    if middle is None:
        return MISSING
    text = shown(middle, scale, digits=1 if unit == "share" else None)
    value, _, interval = text.partition(" [")
    said = f"{value} {word}".rstrip() if math.isfinite(middle.value) else value
    unknown = f" ({sample.unknown} unknown)" if sample.unknown else ""
    return said + (f" [{interval}" if interval else "") + (f" ({kinds})" if kinds else "") + unknown


def _ratio(sample: Sample, unit: Unit) -> str:
    if unit == "share":
        text = shown(sample.mean, 0.01, digits=1, sign=True)
        value, bracket, interval = text.partition(" [")
        return f"{value} points{bracket}{interval}" if sample.mean else MISSING
    known = len(sample.values) - sample.unknown
    few = f" ({known} of {len(sample.values)} pairs)" if known and sample.unknown else ""
    return shown(sample.median) + few


def _against(laid: SideBySide, here: Sequence[LaidStrategy]) -> Table:
    rows = []
    for each in here:
        if not any(each.against_baseline):
            continue
        rows.append(
            (
                each.label,
                "accuracy",
                *(
                    _read(
                        own.final_accuracy_difference.mean,
                        0.01,
                        digits=1,
                        sign=True,
                        after=" points",
                    )
                    if own
                    else MISSING
                    for own in each.against_baseline
                ),
            )
        )
        rows += [
            (
                each.label,
                word,
                *(
                    _read(own.ratio_to_target[cost].median) if own else MISSING
                    for own in each.against_baseline
                ),
            )
            for cost, word in _AGAINST.items()
        ]
    baselines = list(dict.fromkeys(clean(result.baseline, 100) for result in laid.results))
    return Table(
        caption=f"{_prefix(here[0].where)}against {' and '.join(baselines)} in each, to target",
        heading=("strategy", "ratio of", *laid.letters),
        rows=tuple(rows),
    )


def _read(found: StoredInterval | None, scale: float = 1.0, *, after: str = "", **how: Any) -> str:
    if found is None:
        return MISSING
    value, low, high = (
        math.inf if each == "never" else each for each in (found.value, found.low, found.high)
    )
    if value is None:
        return MISSING
    text, bracket, interval = shown(Interval(value, low, high), scale, **how).partition(" [")
    return f"{text}{after}{bracket}{interval}"


def legend(laid: SideBySide) -> list[tuple[str, str]]:
    """What the letters stand for."""
    return [
        (letter, clean(f"{r.path}: {r.name}, joules {r.energy_kind}, {len(r.runs)} runs", 500))
        for letter, r in zip(laid.letters, laid.results, strict=True)
    ]


def side_methods(laid: SideBySide) -> list[str]:
    """How the numbers came about, a sentence each."""
    return [
        "Accuracies are means over the seeds with Student's t interval, all else medians with the "
        "interval by ranks. B/A is the median of ratios seed by seed, of the seeds that both "
        "have; of an accuracy it is the mean difference in points.",
        "To target: what the accuracy cost that each experiment itself asks for. Metered, "
        "predicted: of all rounds, over the parts of a run of which both are known; without a "
        "prediction all that was metered.",
        f"Intervals are those of {100 * laid.confidence:g} %; fewer than three seeds have none.",
    ]


def side_text(laid: SideBySide, paper: Paper | None = None) -> str:
    """For a terminal; an interval and the kind of joules stand below their value."""
    paper = paper or Paper()
    blocks = [entries(legend(laid), indent=3, paper=paper)]
    said = [("-", each) for each in laid.differences] or [("-", _NOTHING)]
    blocks.append("what differs besides\n" + entries(said, indent=2, paper=paper))
    blocks += [in_lines(each, paper) for _, each in side_tables(laid)]
    blocks += ["\n".join(wrap(sentence, paper.text_width)) for sentence in side_methods(laid)]
    return paper.kinds("\n\n".join(blocks))


def side_markdown(laid: SideBySide) -> str:
    """For a page or an issue."""
    lines = ["# Experiments side by side", ""]
    lines += [f"- {letter}: {what}" for letter, what in legend(laid)]
    lines += ["", "What differs besides:", ""]
    lines += [f"- {clean(each, 500)}" for each in laid.differences or [_NOTHING]]
    lines += [""]
    for _, each in side_tables(laid):
        lines += markdown(each)
    return "\n".join([*lines, *(f"- {sentence}" for sentence in side_methods(laid))]) + "\n"


def side_latex(laid: SideBySide) -> str:
    """For a paper."""
    about = "; ".join(f"{letter}: {what}" for letter, what in legend(laid))
    made = [
        latex.of_table(each, label=f"side-by-side-{k}")
        for k, (_, each) in enumerate(side_tables(laid), 1)
    ]
    return latex.document(made, about)


def side_json(laid: SideBySide, unequal: Sequence[Sequence[str]] | None = None) -> bytes:
    """Everything.

    Args:
        laid: experiments side by side.
        unequal: where each of the others is not equal to the first; ``None`` if nobody asked.
    """
    letters = laid.letters
    body: dict[str, Any] = {
        "experiments": [
            {
                "letter": letter,
                "path": result.path,
                "name": result.name,
                "target": result.target,
                "baseline": result.baseline,
                "energy_kind": result.energy_kind,
            }
            for letter, result in zip(letters, laid.results, strict=True)
        ],
        "differences": laid.differences,
        "strategies": [
            {
                "side": each.side,
                "point": each.point,
                "strategy": each.label,
                "seeds": dict(zip(letters, each.seeds, strict=True)),
                "measures": {
                    name: {
                        "own": dict(zip(letters, map(sample_body, own.own), strict=True)),
                        "energy_kinds": dict(zip(letters, own.kinds, strict=True)),
                        "against": dict(
                            zip(letters[1:], map(sample_body, own.against), strict=True)
                        ),
                    }
                    for name, own in each.measures.items()
                },
                "against_baseline": dict(zip(letters, each.against_baseline, strict=True)),
            }
            for each in laid.strategies
        ],
        "methods": side_methods(laid),
    }
    if unequal is not None:
        body["unequal"] = dict(zip(letters[1:], unequal, strict=True))
    return msgspec.json.format(msgspec.json.encode(body), indent=1) + b"\n"
