"""``table.html``: the result of an experiment as one page that loads nothing from anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import itemgetter

from fimi.plural import plural
from fimi.report.comparison.pictures import point_pictures, sweep_pictures
from fimi.report.comparison.result import ExperimentResult, Record
from fimi.report.comparison.runs import point_text
from fimi.report.comparison.shown import NEVER, Table
from fimi.report.comparison.tables import chosen, methods, sides, tables
from fimi.report.markup import Column, Html, element, join, table
from fimi.report.skeleton import (
    badge,
    details,
    footer,
    header,
    items,
    noscript,
    notice,
    page,
    pair,
    picture,
    section,
)
from fimi.report.words import MISSING, joules, percent, seconds


def render(result: ExperimentResult) -> str:
    """The page of an experiment."""
    final = result.tuned or result
    sweeps = sweep_pictures(final)
    drawn = {each.name: each for each in sweeps}
    sections = []
    for side, each in sides(result):
        if side == "tuned":
            sections.append(section("Tuning", "", table_of(chosen(result), "")))
        for point in each.points:
            pictures = point_pictures(each, point, len(drawn))
            drawn |= {picture.name: picture for picture in pictures}
            where = point_text(point)
            here = [t for t in tables(each) if t.caption.startswith(f"{where}: ") or not where]
            sections.append(
                section(
                    ", ".join(filter(None, (where or "All strategies", side))),
                    "",
                    *(table_of(one, where) for one in here),
                    pair(*map(picture, pictures)),
                )
            )
    content = join(
        [
            _header(result),
            _notices(result),
            noscript(),
            section("Over the sweep", "", pair(*map(picture, sweeps))),
            *sections,
            section("Method", "", items(methods(result))),
            section(
                "Records",
                "",
                *(
                    details(", ".join(filter(None, ("Runs", side))), _runs(each))
                    for side, each in sides(result)
                ),
            ),
            footer(
                "Made from the run stores; ",
                element("code", "results.json"),
                " holds the same numbers.",
            ),
        ]
    )
    return page(f"{result.name} · FIMI testbed", content, drawn)


def _header(result: ExperimentResult) -> Html:
    seeds = max((len(s.records) for s in result.summaries), default=0)
    labels = list(dict.fromkeys(s.label for s in result.summaries))
    facts = [
        f"{len(labels)} strategies",
        plural(seeds, "seed"),
        plural(len(result.points), "grid point"),
        f"target: {result.target}",
    ]
    kind = "mixed" if "+" in result.kind else result.kind
    marks = [badge(result.kind, kind)]
    return header("experiment", result.name, *marks, *facts, lead=result.title)


def _notices(result: ExperimentResult) -> Html | None:
    if not result.notes:
        return None
    shown = result.notes[:20]
    more = len(result.notes) - len(shown)
    return notice(
        "Runs that are missing, and what else to know",
        items(shown),
        element("p", f"and {more} more") if more else None,
    )


def table_of(each: Table, where: str) -> Html:
    """A table of a grid point, which its caption need not name again."""
    columns: list[Column[tuple[str, ...]]] = [
        Column(title, unit, itemgetter(k), "number" if k else "name")
        for k, (title, _, unit) in enumerate(h.partition("\n") for h in each.heading)
    ]
    caption = each.caption.removeprefix(f"{where}: ") if where else each.caption
    return table(columns, each.rows, caption=caption[0].upper() + caption[1:])


def _runs(result: ExperimentResult) -> Html:
    def reaching(record: Record, cost: str, shown: Callable[[float | None], str]) -> str:
        return NEVER if record.costs["rounds"] == math.inf else shown(record.costs[cost])

    def then(record: Record) -> str:
        found = record.test_interval(result.confidence)
        if found is None:
            return percent(record.test_accuracy)
        return f"{percent(found.value)} [{percent(found.low)}, {percent(found.high)}]"

    columns: list[Column[Record]] = [
        Column("run", "", lambda r: r.cell.name, "name"),
        Column(
            "final accuracy",
            "",
            lambda r: percent(r.cell.judged("final")),
        ),
        Column("target", "", lambda r: percent(r.target)),
        Column("accuracy then", "test", then),
        Column("rounds", "to target", lambda r: reaching(r, "rounds", _count)),
        Column("whole board", "to target", lambda r: reaching(r, "board_j", joules)),
        Column("wall time", "", _wall_time),
        Column("problem", "", lambda r: r.cell.problem, "text"),
    ]
    return table(columns, result.records)


def _wall_time(record: Record) -> str:
    return seconds(record.cell.figures.wall_s if record.cell.figures else None)


def _count(value: float | None) -> str:
    return MISSING if value is None else f"{value:.0f}"
