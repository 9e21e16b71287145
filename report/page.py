"""One page, ``report.html``: self-contained, offline, with interactive pictures.

plotly.js comes from the installed package and is written into the page once. The page forbids
itself to load anything (Content-Security-Policy) and runs no script but the two whose digests it
names, so that no text from a device can become code.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from fimi.files import write_whole
from fimi.record.carbon import with_carbon
from fimi.record.reader import ReportError, read_run
from fimi.record.record import RunData
from fimi.record.summary import Summary, summarise
from fimi.report import (
    attendance,
    carbon,
    coding,
    deployment,
    labels,
    page_tables,
    prediction,
    resolution,
    sections,
)
from fimi.report.figures import pictures
from fimi.report.markup import Html, element, join
from fimi.report.observed import observed_table
from fimi.report.plot_style import Picture
from fimi.report.second import second_table
from fimi.report.sections import details, pair, picture, section
from fimi.report.words import joules, percent_value, predicted, whole

REPORT_NAME = "report.html"

_SPLITS = {
    "writers": "the public part was written by other people than the rest",
    "random": "the public part was drawn at random",
}


def write_report(run_dir: Path, given: Mapping[str, Any] | None = None) -> Path:
    """Write a run's page beside its store, whole or not at all.

    Args:
        run_dir: folder of the run.
        given: settings of a carbon figure, see :func:`fimi.record.carbon.with_carbon`.

    Returns:
        The page.

    Raises:
        ReportError: the run cannot be read, or the page not be written.
    """
    page = render(with_carbon(read_run(run_dir), given or {}))
    target = run_dir / REPORT_NAME
    try:
        write_whole(target, page)
    except OSError as error:
        raise ReportError(
            f"{target}: the report cannot be written: {error.strerror or error}; the run is "
            f"stored, 'fimi report {run_dir}' makes the report again"
        ) from error
    return target


def render(run: RunData) -> str:
    """The page of a run."""
    summary = summarise(run)
    drawn = pictures(run, summary)
    return page(f"{run.info.run} · FIMI testbed", _content(run, summary, drawn), drawn)


def page(title: str, content: Html, drawn: dict[str, Picture]) -> str:
    """A self-contained page.

    Args:
        title: of the window.
        content: what it shows; each picture has its place in it.
        drawn: the pictures, by name.
    """
    style, script = _asset("page.css"), _asset("page.js")
    library = get_plotlyjs().replace("</script", "<\\/script")
    policy = (
        f"default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'unsafe-inline'; "
        f"img-src data: blob:; script-src {_digest(library)} {_digest(script)}"
    )
    head = element(
        "head",
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<link rel="icon" href="data:,">'),
        element("title", title),
        element("style", Html(style)),
    )
    scripts = (
        element("script", Html(_figures_json(drawn)), type="application/json", id="figures"),
        element("script", Html(library)),
        element("script", Html(script)),
    )
    body = element("body", element("main", content), *(scripts if drawn else ()))
    return f'<!DOCTYPE html>\n<html lang="en">{head}{body}</html>\n'


def _content(run: RunData, summary: Summary, drawn: dict[str, Picture]) -> Html:
    def show(name: str) -> Html | None:
        return picture(drawn.get(name))

    return join(
        [
            sections.header(run),
            sections.notices(run, summary),
            sections.cards(run, summary),
            sections.besides(run, summary),
            noscript(),
            section(
                "Measured against predicted",
                _agreement(run, summary),
                pair(show("residuals")),
                pair(show("measured-predicted")),
                pair(show("causes")),
                prediction.prediction_table(summary),
                page_tables.phase_table(summary) if summary.phases else None,
                resolution.figures_table(summary),
                resolution.resting_table(summary),
            ),
            section(
                "Learning, and its price",
                "",
                pair(show("accuracy"), show("energy-to-accuracy")),
                pair(show("planned-error")),
                pair(show("cumulative-energy"), page_tables.target_panel(run, summary)),
                pair(show("gradient-similarity"), show("similarity")),
                pair(show("local-error"), show("device-accuracy")),
            ),
            section(
                "Devices",
                "",
                pair(show("joules-by-phase"), show("round-timeline")),
                page_tables.device_table(summary) if summary.devices else None,
                attendance.attendance_table(run, summary),
                second_table(summary),
                coding.coding_table(summary.coding),
                observed_table([device.observed for device in summary.devices]),
            ),
            section("Plan", "", pair(show("search"), page_tables.plan_panel(run, summary))),
            section(
                "Data",
                " ".join(filter(None, [_data_words(run), labels.words(run)])),
                pair(show("labels"), show("label-skew")),
                pair(show("class-accuracy")),
                details("Labels of each device", labels.skew_table(run)),
            ),
            section(
                "What was made",
                deployment.words(run),
                deployment.absence(run),
                deployment.file_table(run),
                deployment.trial_table(run),
                deployment.remarks(run),
            ),
            section(
                "Carbon",
                carbon.carbon_method(summary.carbon) if summary.carbon else "",
                carbon.carbon_table(summary.carbon),
            ),
            section("Method", "", sections.method(run, summary)),
            section(
                "Records",
                "",
                details("Rounds", page_tables.round_table(run, summary)),
                details("Notes of the devices", page_tables.notes_table(summary)),
                details("Configuration", page_tables.configuration_table(run)),
                details("Versions", page_tables.versions_table(run)),
            ),
            element(
                "footer",
                "Made from ",
                element("code", run.path.name),
                ", which holds every reading. This page loads nothing from anywhere.",
            ),
        ]
    )


def _agreement(run: RunData, summary: Summary) -> str:
    total, compared = summary.energy, summary.compared
    if total.known is None:
        return "Nothing was metered, so there is nothing to compare."
    used = f"What the fleet used is {whole(total)}"
    if not total.missing:
        used = f"The fleet used {total.known} ± {joules(total.known.uncertainty_j)}"
    by_round = prediction.words(run, summary)
    return (
        f"{used}; the plan had {predicted(compared, total)}. Over single devices and rounds the "
        f"mean absolute error is {percent_value(summary.mape_percent)}."
        + (f" Phase by phase: {by_round}." if by_round else "")
    )


def _data_words(run: RunData) -> str:
    data = run.info.dataset
    counts = (
        (data.private, "private samples on the devices"),
        (data.public, "public ones for the generator"),
        (data.validation, "public ones for validation"),
        (data.test, "held out for evaluation"),
    )
    split = _SPLITS.get(data.split, f"public part: {data.split}") if data.split else None
    parts = ", ".join(f"{count} {what}" for count, what in counts if count is not None)
    said = "; ".join(filter(None, [parts, _division(run), split]))
    return f"{data.name or 'Data'}: {said}." if said else ""


def _division(run: RunData) -> str | None:
    """Who got what, by the configuration; older stores know of Dirichlet's α only."""
    config, alpha = run.info.config, run.info.dataset.alpha
    if alpha is not None:
        return f"divided by a Dirichlet distribution with α = {alpha:g}" + (
            ", as many each" if config.get("data.partition") == "balanced" else ""
        )
    ways = {
        "shards": f"sorted by class and dealt out in pieces, {config.get('data.shards')} each",
        "iid": "divided at random, as many each",
        "quantity": "divided at random, sizes by a Dirichlet distribution with "
        f"α = {config.get('data.alpha')}",
        "file": f"divided as {config.get('data.partition_file')} says",
    }
    return ways.get(str(config.get("data.partition")))


def noscript() -> Html:
    """Said where the pictures cannot be drawn."""
    return element(
        "noscript",
        Html("<style>.plot{display:none}</style>"),
        element(
            "div",
            "The pictures need JavaScript, which this page contains; the tables hold the numbers.",
            class_="notice",
        ),
    )


def _figures_json(drawn: dict[str, Picture]) -> str:
    """The pictures as JSON that cannot end its own element."""
    figures = {
        name: {**json.loads(each.figure.to_json(validate=False)), "narrow": each.narrow}
        for name, each in drawn.items()
    }
    text = json.dumps(figures, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return (resources.files("fimi.report") / "assets" / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"
