"""The page of a run, ``report.html``: what stands in it, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    interventions,
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
from fimi.report.skeleton import details, footer, noscript, page, pair, picture, section
from fimi.report.words import joules, percent_value, predicted, whole

REPORT_NAME = "report.html"

_SPLITS = {
    "writers": "the public part was written by other people than the rest",
    "random": "the public part was drawn at random",
}


class NotWrittenError(ReportError):
    """A page cannot be written; the run itself is stored."""

    code = "U006"


def write_report(run_dir: Path, given: Mapping[str, Any] | None = None) -> Path:
    """Write a run's page beside its store, whole or not at all.

    Args:
        run_dir: folder of the run.
        given: settings of a carbon figure, see :func:`fimi.record.carbon.with_carbon`.

    Returns:
        The page.

    Raises:
        ReportError: the run cannot be read.
        NotWrittenError: the page cannot be written.
    """
    page = render(with_carbon(read_run(run_dir), given or {}))
    target = run_dir / REPORT_NAME
    try:
        write_whole(target, page)
    except OSError as error:
        raise NotWrittenError(
            f"{target}: the report cannot be written: {error.strerror or error}; the run is "
            f"stored, 'fimi report {run_dir}' makes the report again, and with '--format json' "
            "prints its numbers without a file"
        ) from error
    return target


def render(run: RunData) -> str:
    """The page of a run."""
    summary = summarise(run)
    drawn = pictures(run, summary)
    return page(f"{run.info.run} · FIMI testbed", _content(run, summary, drawn), drawn)


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
                interventions.intervention_table(run),
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
            footer("Made from ", element("code", run.path.name), ", which holds every reading."),
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
