"""The report in a terminal: one table, and the run in a few lines.

:func:`as_text` reads a run and writes it for a terminal of some width, or as plain text of 80
columns; colours repeat what the words say.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fimi.record.carbon import with_carbon
from fimi.record.clean import clean, enumerated
from fimi.record.reader import read_run
from fimi.record.record import RunData
from fimi.record.summary import DeviceSummary, Summary, summarise
from fimi.record.sums import Sum
from fimi.report import (
    attendance,
    coding,
    deployment,
    interventions,
    labels,
    prediction,
    resolution,
    screened,
)
from fimi.report.besides import extras
from fimi.report.layout import Marked, Paper, Style, entries, table
from fimi.report.observed import unusual
from fimi.report.planned import energies, gap_of_search, held, over_budget
from fimi.report.second import second_lines
from fimi.report.sections import state
from fimi.report.words import (
    MISSING,
    above_rest,
    alike,
    exposed_in_words,
    fairness_words,
    gaps_by_device,
    joules,
    parts,
    percent,
    percent_value,
    predicted,
    seconds,
    signed_percent,
    small_percent,
    whole,
    word,
)

_BARS = "▁▂▃▄▅▆▇█"
_PLAINER = str.maketrans(f"{_BARS}−–─·’±…", "12345678---.'~.")
_TERM_WIDTH = 15
_STYLES: dict[str, Style] = {
    "not accepted": "problem",
    "not metered": "warning",
    "meter doubted": "warning",
    "not used": "problem",
    "absent": "warning",
    "over budget": "warning",
    "unprotected": "warning",
    "intervention": "warning",
    "warning": "warning",
}


def as_text(
    run_dir: Path,
    encoding: str | None = None,
    paper: Paper | None = None,
    given: Mapping[str, Any] | None = None,
) -> str:
    """A run's report as text.

    Args:
        run_dir: folder of the run.
        encoding: what the text is for; characters that it lacks are replaced by plainer ones.
            Standard output's if left out.
        paper: what the text is for; plain text of 80 columns if left out.
        given: settings of a carbon figure, see :func:`fimi.record.carbon.with_carbon`.

    Raises:
        ReportError: the run cannot be read.
    """
    paper = paper or Paper()
    run = with_carbon(read_run(run_dir), given or {})
    summary = summarise(run)
    blocks = [device_table(summary, paper)] if summary.devices else []
    blocks.append(entries(lines(run, summary), indent=_TERM_WIDTH, paper=paper))
    text = paper.kinds("\n\n".join(blocks)) + "\n"
    encoding = encoding or sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAINER).encode(encoding, "replace").decode(encoding)
    return text


def device_table(summary: Summary, paper: Paper) -> str:
    """One row per device."""
    all_energies = [device.energy.known for device in summary.devices]
    bare = alike(all_energies)
    fleet = summary.energy.known
    kind = fleet.kind if fleet and bare else "metered"
    boards = {device.hardware for device in summary.devices if device.hardware}
    clock = {"physical": "measured", "emulated": "emulated"}.get("/".join(boards), "metered")
    images = str(sum(sum(d.synthetic_counts) for d in summary.devices))
    columns: list[tuple[str, Callable[[DeviceSummary], str], str]] = [
        ("device", _name, "fleet"),
        ("synthetic\nsamples", _images, images),
        ("GHz\nplan", lambda d: _scaled(d.frequency_planned_hz, 1e9), ""),
        ("GHz\nset", lambda d: _scaled(d.frequency_achieved_hz, 1e9), ""),
        ("kHz\nplan", lambda d: _scaled(d.bandwidth_hz, 1e3), ""),
        ("busy\ns/round\npred.", lambda d: _scaled(d.predicted_busy_s, 1.0), ""),
        (f"busy\ns/round\n{clock}", lambda d: _scaled(d.busy_s, 1.0), ""),
    ]
    of_joules: list[tuple[str, Callable[[DeviceSummary | Summary], str]]] = [
        ("energy\npred.,\nmodelled", lambda d: joules(d.compared.predicted_j)),
        (f"energy\n\n{kind}", lambda d: _joules(d.energy)),
        ("of kind", lambda d: word(d.energy.known, all_energies).replace(", ", ",\n")),
        ("error", lambda d: signed_percent(d.compared.error_percent)),
    ]
    for heading, cell in of_joules:
        if heading != "of kind" or not bare:
            columns.append((heading, cell, cell(summary)))
    rows = [[cell(device) for _, cell, _ in columns] for device in summary.devices]
    headings, footer = [each for each, _, _ in columns], [each for _, _, each in columns]
    return table(headings, rows, footer=footer, paper=paper)


def _name(device: DeviceSummary) -> str:
    name = clean(device.device)
    return Marked(name, "problem") if device.problems else name


def _images(device: DeviceSummary) -> str:
    return str(sum(device.synthetic_counts)) if device.synthetic_counts else MISSING


def _joules(total: Sum) -> str:
    """A sum in the table; the lines below it name what is missing."""
    return "unknown" if total.missing else joules(total.value_j)


def _scaled(value: float | None, unit: float) -> str:
    """Three significant digits without the unit, which the heading has."""
    if value is None:
        return MISSING
    scaled = value / unit
    return f"{scaled:#.3g}".rstrip(".") if scaled < 1000 else f"{scaled:.0f}"


def lines(run: RunData, summary: Summary) -> list[tuple[str, str]]:
    """The run in a few entries: accuracy, joules, the plan, and what is missing."""
    said = [("run", _run_words(run))]
    points = summary.points
    if points:
        best = max(points, key=lambda p: p.accuracy)
        in_the_end = f"{percent(points[-1].accuracy)} after round {points[-1].number}"
        highest = f"best {percent(best.accuracy)} in round {best.number}"
        said.append(("accuracy", f"{in_the_end}, {highest}"))
        said.append(("per round", accuracy_curve(summary)))
        if even := fairness_words(points[-1].fairness):
            said.append(("by device", even))
    said += _energy_words(summary)
    said += [(extra.term, f"{extra.value} {extra.note}") for extra in extras(run, summary)]
    said += _first(second_lines(summary))
    if agreed := prediction.words(run, summary):
        said.append(("prediction", agreed))
    if coded := coding.words(summary.coding):
        said.append(("coding", coded))
    if planned := _plan_words(run):
        said.append(("plan", planned))
    if curve := _curve_words(run):
        said.append(("curve", curve))
    if summary.held is not None and (against := held(summary.held)):
        said.append(("plan held", against))
    said += _first(_settings(summary), "operating points")
    if uneven := labels.words(run):
        said.append(("labels", uneven))
    said += [("model file", line) for line in deployment.lines(run)]
    out_of_order = attendance.lines(run, summary)
    for term in dict.fromkeys(term for term, _ in out_of_order):
        said += _first([words for words in out_of_order if words[0] == term])
    said += _first(interventions.lines(run), "interventions")
    said += _first(
        [
            ("not metered", f"{row.device}: {gaps_by_device(row.energy.missing)[row.device]}")
            for row in summary.devices
            if row.energy.missing
        ]
    )
    said += _first([_refused(row) for row in summary.devices if row.problems])
    doubtful = screened.lines(run)
    for term in dict.fromkeys(term for term, _ in doubtful):
        said += _first([words for words in doubtful if words[0] == term])
    found = [words for row in summary.devices for words in unusual(row.observed)]
    for term in dict.fromkeys(term for term, _ in found):
        said += _first([words for words in found if words[0] == term])
    said += _first(resolution.lines(summary))
    said += _first([("over budget", words) for words in over_budget(summary)])
    if run.info.exposed:
        said.append(("unprotected", exposed_in_words(run.info.exposed)))
    said += [("warning", warning) for warning in summary.warnings]
    return [
        (Marked(term, _STYLES[term]) if term in _STYLES else term, clean(words, 2000))
        for term, words in said
    ]


def _settings(summary: Summary) -> list[tuple[str, str]]:
    """The measured operating points of the plan, and which devices work at each."""
    of_point: dict[str, list[str]] = {}
    for row in summary.devices:
        if row.setting:
            of_point.setdefault(row.setting, []).append(row.device)
    said = [("set", f"{enumerated(names)}: {point}") for point, names in of_point.items()]
    if said:
        first = f"{said[0][1]}; their GHz are cycles of the training in a second"
        said[0] = (said[0][0], first)
    return said


def _refused(row: DeviceSummary) -> tuple[str, str]:
    """How many updates of a device were not accepted, and why the last one was not."""
    number, status, reason = row.problems[-1]
    return (
        "not accepted",
        f"{row.device}: {len(row.problems)} of {row.rounds} updates; last in round {number}, "
        f"{status}{': ' + reason if reason else ''}",
    )


def _first(
    said: list[tuple[str, str]], what: str = "devices", most: int = 5
) -> list[tuple[str, str]]:
    """The first few of what is said about devices, and how many more there are."""
    if len(said) <= most:
        return said
    return [*said[:most], (said[0][0], f"{len(said) - most} more {what}; the report names them")]


def accuracy_curve(summary: Summary, most: int = 60) -> str:
    """Accuracy per round as a row of bars from 0 to 100 %, thinned out to ``most``."""
    points = summary.points
    step = max(1, -(-len(points) // most))
    shown = [*points[:-1:step], points[-1]]
    bars = "".join(_BARS[min(7, max(0, int(8 * p.accuracy)))] for p in shown)
    return f"{percent(points[0].accuracy)} {bars} {percent(points[-1].accuracy)}"


def _run_words(run: RunData) -> str:
    info = run.info
    words = [
        info.run,
        info.strategy or None,
        f"seed {info.seed}" if info.seed is not None else None,
        state(run),
        f"{seconds(info.wall_s)} wall time" if info.wall_s is not None else None,
    ]
    said = " · ".join(word for word in words if word)
    if info.reason and info.status not in ("completed", "running"):
        said += f" ({info.reason})"
    return said


def _energy_words(summary: Summary) -> list[tuple[str, str]]:
    if summary.energy.known is None:
        return [("energy", "nothing was metered")]
    mix = parts(device.energy.known for device in summary.devices)
    mix = f" = {mix}" if mix else ""
    mape = f"; mean absolute {percent_value(summary.mape_percent)}"
    board = predicted(summary.compared, summary.energy, mape)
    dynamic = predicted(summary.dynamic_compared, summary.dynamic)
    taken = above_rest(summary.dynamic) or "none yet"
    above_idle = f"{taken}, compute and upload above idle, {dynamic}"
    return [("energy", f"{whole(summary.energy)}{mix}, {board}"), ("dynamic energy", above_idle)]


def _curve_words(run: RunData) -> str:
    """The learning curve that data were planned with; empty where none were."""
    known, plan = run.info.curve, run.plan
    if known is None or plan is None or plan.error is None:
        return ""
    return "; ".join(filter(None, [known.law, known.origin, run.beyond_curve, run.refitted_curve]))


def _plan_words(run: RunData) -> str:
    plan = run.plan
    if plan is None or plan.least.energy_j is None:
        return ""
    said = f"{energies(plan)} of a round"
    if plan.round_s is not None:
        said += f" of {seconds(plan.round_s)}"
    if run.drawn is not None:
        drawn, fleet = run.drawn
        said += f" of all {fleet} devices, of which {drawn} are drawn for each"
    if (gap := gap_of_search(plan.search_gap_percent, plan.least.gap_percent)) is not None:
        said += f"; gap of the search alone {small_percent(gap)}"
    return f"{said}; found by {plan.search}" if plan.search else said
