"""The words of a report page: title, notices, headline, method, and what holds its parts.

Everything is made with :mod:`fimi.report.markup`, which escapes what it did not make itself.
"""

from __future__ import annotations

from fimi.record.record import RunData
from fimi.record.summary import Summary
from fimi.report.besides import extras
from fimi.report.markup import Child, Html, element, join
from fimi.report.plot_style import Picture
from fimi.report.words import (
    MISSING,
    joules,
    parts,
    percent,
    seconds,
    signed_percent,
    small_percent,
)


def badge(word: str) -> Html:
    """How a number came to be, or how a run ended."""
    return element("span", word, class_=f"badge {word}")


def state(run: RunData) -> str:
    """How the run ended, in a few words."""
    count = len(run.rounds)
    if run.info.status == "running":
        return f"running, {count} round{'' if count == 1 else 's'} finished so far"
    if count == 0:
        return f"{run.info.status} before the first round was finished"
    done = f"{count} round{'' if count == 1 else 's'}"
    if run.info.status == "completed":
        return f"completed, {done}"
    return f"{run.info.status} after {done}"


def header(run: RunData) -> Html:
    """Title, strategy, and what the run was."""
    info = run.info
    facts = [
        f"seed {info.seed}" if info.seed is not None else None,
        f"{len(run.devices)} devices",
        f"{info.dataset.name} data" if info.dataset.name else None,
        f"started {info.started_at.replace('T', ' ')[:19]}" if info.started_at else None,
        f"{seconds(info.wall_s)} wall time" if info.wall_s is not None else None,
        info.broker or None,
    ]
    return element(
        "header",
        element("p", "FIMI testbed · run report", class_="kicker"),
        element("h1", info.run),
        element("p", info.strategy_title or info.strategy or "strategy unknown", class_="lead"),
        element(
            "div",
            badge(info.status),
            *(element("span", fact) for fact in facts if fact is not None),
            class_="meta",
        ),
    )


def notices(run: RunData, summary: Summary) -> Html:
    """What a reader must know before any number."""
    said: list[Html] = []
    if run.info.status != "completed":
        why = (
            "The run is still going, or it was killed. "
            if run.info.status == "running"
            else f"{run.info.reason.rstrip('.')}. "
            if run.info.status == "failed" and run.info.reason
            else ""
        )
        said.append(
            _notice(
                f"{state(run).capitalize()}. ",
                why,
                "Every number below is of the rounds that were finished."
                if run.rounds
                else "There is nothing to compare.",
            )
        )
    if summary.unmetered:
        said.append(
            _notice(
                "Energy is incomplete. ",
                "These are in no sum of joules, measured or predicted:",
                element(
                    "ul",
                    *(
                        element("li", f"{device}: {rounds_in_words(rounds)}")
                        for device, rounds in summary.unmetered
                    ),
                ),
            )
        )
    if summary.warnings:
        said.append(_notice("The store is not whole. ", element("ul", *_items(summary.warnings))))
    return join(said)


def cards(run: RunData, summary: Summary) -> Html:
    """The headline."""
    points, measured, plan = summary.points, summary.measured, run.plan
    best = max(points, key=lambda p: p.accuracy) if points else None
    kind = badge(measured.kind) if measured else None
    mix = parts(device.measured for device in summary.devices)
    board = (
        _card(
            "Energy, whole board",
            joules(measured.value_j),
            join([kind, f" ± {joules(measured.uncertainty_j)}", f" {mix}" if mix else None]),
        )
        if measured
        else _card("Energy, whole board", MISSING, "nothing was metered")
    )
    dynamic_error = (
        100 * (summary.predicted_dynamic_j - summary.dynamic_j) / summary.dynamic_j
        if summary.dynamic_j and summary.predicted_dynamic_j is not None
        else None
    )
    return element(
        "dl",
        _card(
            "Final accuracy",
            percent(points[-1].accuracy if points else None),
            f"best {percent(best.accuracy)} in round {best.number}"
            if best
            else "no round finished",
        ),
        board,
        _card(
            "Energy, predicted",
            joules(summary.predicted_j) if measured else MISSING,
            f"{signed_percent(summary.bias_percent)} in all; "
            f"{percent_value(summary.mape_percent)} mean absolute"
            if measured
            else "nothing to compare",
        ),
        _card(
            "Energy, dynamic",
            joules(summary.dynamic_j),
            join([kind, f" predicted {signed_percent(dynamic_error)}"])
            if measured
            else "compute and upload above idle",
        ),
        _card(
            "Plan above its bound",
            small_percent(plan.gap_percent) if plan else MISSING,
            f"search alone {small_percent(plan.search_gap_percent)}" if plan else "no plan",
        ),
        _card(
            "Rounds",
            str(len(points)),
            _of(run, "rounds.count", f"{run.info.status}"),
        ),
        class_="cards",
    )


def besides(run: RunData) -> Html | None:
    """What else was made and taken, in no device's joules: a line each below the headline."""
    said = extras(run)
    if not said:
        return None
    return element(
        "dl",
        *(
            element(
                "div",
                element("dt", extra.term.capitalize()),
                element("dd", element("strong", extra.value), " ", extra.note),
            )
            for extra in said
        ),
        class_="besides",
    )


def picture(drawn: Picture | None) -> Html | None:
    """A figure with its words; the script fills it."""
    if drawn is None:
        return None
    return element(
        "figure",
        element(
            "figcaption",
            element("h3", drawn.title),
            element("p", drawn.caption, class_="how"),
        ),
        element(
            "div",
            id=drawn.name,
            class_="plot",
            style=f"min-height:{drawn.figure.layout.height}px",
            role="img",
            aria_label=f"{drawn.title}. {drawn.caption}",
        ),
    )


def pair(*panels: Html | None) -> Html | None:
    """Panels side by side, one alone over the whole width."""
    there = [panel for panel in panels if panel is not None]
    if not there:
        return None
    return element("div", *there, class_="pair" if len(there) > 1 else "single")


def section(title: str, lede: str, *parts: Html | None) -> Html | None:
    """A section, if there is anything in it."""
    if not any(parts):
        return None
    return element(
        "section", element("h2", title), element("p", lede, class_="lede") if lede else None, *parts
    )


def details(title: str, content: Html | None, *, opened: bool = False) -> Html | None:
    """Something to unfold."""
    if content is None:
        return None
    return element("details", element("summary", title), content, open="" if opened else None)


def method(run: RunData, summary: Summary) -> Html:
    """How the numbers came to be."""
    kinds = {
        "measured": "A physical meter on each device read these joules.",
        "modelled": "A formula, not a meter, gave at least some of these joules.",
        "mixed": "The devices were not all of one kind: "
        f"{parts(device.measured for device in summary.devices)}. Tables say of each number what "
        "it is; a sum of several kinds is no measurement.",
        "emulated": "No physical device was involved: each device’s joules come from an emulated "
        "board in virtual time, whose true cost differs from the profile the planner was given, "
        "read by an emulated meter with gain error and noise. They test the method, not a board.",
    }
    sources = summary.measured.source.split("+") if summary.measured else []
    paragraphs = [
        (
            "Measured.",
            "Each device meters its phases — receiving the synthetic data, receiving the model, "
            "computing, uploading, idling until the round ends — with a reading forced at both "
            "edges of each. The energy of the run is their sum over devices and rounds.",
        ),
        (
            f"{summary.measured.kind.capitalize()}." if summary.measured else "Not metered.",
            kinds[summary.measured.kind] if summary.measured else "No joule was read.",
        ),
        (
            "Predicted.",
            "What the cost model said of the same phases when the plan was made, from the "
            "devices’ own profiles; it knows nothing of what came after. Errors are (predicted − "
            "measured) / measured. The mean absolute error is taken over devices and rounds.",
        ),
        (
            "Board and dynamic.",
            "Board energy is all a device drew, idle power included. Dynamic energy, the one the "
            "paper counts, is that of computing and uploading less the device’s idle power over "
            "the same time; the idle power is the one metered while it idled.",
        ),
        (
            "Uncertainty.",
            "± is one standard deviation, from gain, resolution and noise of the meters. A "
            "device’s phases share the gain of its meter, so theirs add up linearly; those of "
            "different devices add in quadrature.",
        ),
        (
            "Missing is missing.",
            "A device-round with a phase that could not be read is left out of both sides of "
            "every comparison, and named above.",
        ),
        (
            "Accuracy.",
            f"Of the global model on {run.info.dataset.test} held-out samples."
            if run.info.dataset.test
            else "Of the global model on held-out samples.",
        ),
        ("Meters.", ", ".join(sources) if sources else None),
    ]
    return element(
        "div",
        *(
            element("p", element("b", head), " ", text)
            for head, text in paragraphs
            if text is not None
        ),
        class_="method",
    )


def rounds_in_words(rounds: tuple[int, ...]) -> str:
    """``rounds 4, 6–9`` and ``preparation``."""
    runs: list[list[int]] = []
    for number in (n for n in sorted(rounds) if n > 0):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    words = ["preparation"] if 0 in rounds else []
    if runs:
        spans = ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs)
        words.append(f"round{'s' if len(runs) > 1 or runs[0][0] < runs[0][1] else ''} {spans}")
    return ", ".join(words)


def percent_value(value: float | None) -> str:
    """A percentage without a sign."""
    return MISSING if value is None else f"{value:.1f} %"


def _notice(head: str, *rest: Child) -> Html:
    return element("div", element("strong", head), *rest, class_="notice")


def _items(lines: tuple[str, ...]) -> list[Html]:
    return [element("li", line) for line in lines]


def _card(title: str, value: str, note: Child) -> Html:
    return element(
        "div",
        element("dt", title),
        element("dd", value, class_="value"),
        element("dd", note, class_="note"),
        class_="card",
    )


def _of(run: RunData, key: str, status: str) -> str:
    asked = run.info.config.get(key)
    return f"of {asked}, {status}" if isinstance(asked, int) else status
