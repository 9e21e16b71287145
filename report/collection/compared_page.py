"""Compared runs as one page that loads nothing from anywhere."""

from __future__ import annotations

from fimi.record.clean import enumerated
from fimi.report.collection.compared import ComparedRuns
from fimi.report.collection.compared_pictures import compared_pictures
from fimi.report.collection.compared_tables import compared_methods, run_tables
from fimi.report.comparison.page import table_of
from fimi.report.markup import Html, element, join
from fimi.report.skeleton import (
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


def compared_page(found: ComparedRuns) -> str:
    """The page of compared runs."""
    drawn = {each.name: each for each in compared_pictures(found)}
    tables = run_tables(found, devices_most=10**6)
    made = {part: [table_of(each, "") for each in own] for part, own in tables.items()}
    devices = [
        details(each.caption[0].upper() + each.caption[1:], table_of(each, ""))
        for each in tables["devices"]
    ]
    joules = [picture(each) for name, each in drawn.items() if name.startswith("joules-")]
    content = join(
        [
            _header(found),
            _notice(found),
            noscript(),
            section("Groups", "", *made["groups"], *made["differences"]),
            section(
                "Learning, and its price",
                "",
                pair(picture(drawn.get("curves"))),
                pair(*joules),
                *made["prices"],
            ),
            section(
                "Metered beside predicted",
                "",
                pair(picture(drawn.get("predictions"))),
                *made["beside"],
            ),
            section("Plans", "", *made["plans"]),
            section("Devices", "", *devices),
            section("Method", "", items(compared_methods(found))),
            footer("Made from the stores of the runs."),
        ]
    )
    return page("Runs compared · FIMI testbed", content, drawn)


def _header(found: ComparedRuns) -> Html:
    count = sum(len(group.runs) + len(group.repeats) for group in found.groups)
    return header(
        "runs compared",
        f"{count} runs in {len(found.groups)} groups",
        *(
            element(
                "span",
                element("strong", group.letter),
                f" {group.label}: {enumerated([run.name for run in group.runs], 8)}",
            )
            for group in found.groups
        ),
    )


def _notice(found: ComparedRuns) -> Html | None:
    if not found.remarks:
        return None
    return notice("What to know of this comparison", items(found.remarks))
