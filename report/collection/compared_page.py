"""Compared runs as one page that loads nothing from anywhere."""

from __future__ import annotations

from fimi.report.collection.compared import ComparedRuns
from fimi.report.collection.compared_pictures import compared_pictures
from fimi.report.collection.compared_tables import compared_methods, run_tables
from fimi.report.comparison.page import table_of
from fimi.report.markup import Html, element, join
from fimi.report.page import noscript, page
from fimi.report.sections import details, pair, picture, section


def compared_page(found: ComparedRuns) -> str:
    """The page of compared runs."""
    drawn = {each.name: each for each in compared_pictures(found)}
    tables = run_tables(found, devices_most=10**6)
    made = {each.caption: table_of(each, "") for each in tables}
    of_devices = {c: t for c, t in made.items() if "of each device" in c or "median over runs" in c}
    plan = {c: t for c, t in of_devices.items() if c.startswith("plan of a round")}
    devices = {c: t for c, t in of_devices.items() if c not in plan}
    beside = {c: t for c, t in made.items() if c.startswith("metered beside")}
    prices = {c: t for c, t in made.items() if c.startswith("to ")}
    differs = {c: t for c, t in made.items() if c == "what differs"}
    apart = {*devices, *plan, *beside, *prices, *differs}
    first = [t for c, t in made.items() if c not in apart]
    joules = [picture(each) for name, each in drawn.items() if name.startswith("joules-")]
    content = join(
        [
            _header(found),
            _notice(found),
            noscript(),
            section("Groups", "", *first, *differs.values()),
            section(
                "Learning, and its price",
                "",
                pair(picture(drawn.get("curves"))),
                pair(*joules),
                *prices.values(),
            ),
            section(
                "Metered beside predicted",
                "",
                pair(picture(drawn.get("predictions"))),
                *beside.values(),
            ),
            section("Plans", "", *plan.values()),
            section("Devices", "", *(details(c[0].upper() + c[1:], t) for c, t in devices.items())),
            section(
                "Method", "", element("ul", *(element("li", m) for m in compared_methods(found)))
            ),
            element(
                "footer",
                "Made from the stores of the runs. This page loads nothing from anywhere.",
            ),
        ]
    )
    return page("Runs compared · FIMI testbed", content, drawn)


def _header(found: ComparedRuns) -> Html:
    count = sum(len(group.runs) + len(group.repeats) for group in found.groups)
    return element(
        "header",
        element("p", "FIMI testbed · runs compared", class_="kicker"),
        element("h1", f"{count} runs in {len(found.groups)} groups"),
        element(
            "ul",
            *(
                element(
                    "li",
                    element("strong", group.letter),
                    f" {group.label}: {', '.join(run.name for run in group.runs)}",
                )
                for group in found.groups
            ),
        ),
    )


def _notice(found: ComparedRuns) -> Html | None:
    if not found.remarks:
        return None
    return element(
        "div",
        element("strong", "What to know of this comparison"),
        element("ul", *(element("li", each) for each in found.remarks)),
        class_="notice",
    )
