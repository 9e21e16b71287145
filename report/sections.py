"""The texts of a report page: title, notices, headline, method.

All HTML is made with :mod:`fimi.report.markup`, which escapes every text.
"""

from __future__ import annotations

from fimi.energy.joules import format_energy
from fimi.plural import plural
from fimi.record.clean import clean
from fimi.record.record import RunData
from fimi.record.summary import Summary
from fimi.record.sums import Compared, Sum, is_told
from fimi.report import interventions, screened, skeleton
from fimi.report.attendance import resumed
from fimi.report.besides import extras
from fimi.report.markup import Child, Html, element, join
from fimi.report.planned import gap_of_search, over_budget
from fimi.report.skeleton import badge, items, notice
from fimi.report.words import (
    exposed_in_words,
    gaps_by_device,
    joules,
    parts,
    percent,
    percent_value,
    seconds,
    signed_percent,
    small_percent,
    whole,
)


def state(run: RunData) -> str:
    """How the run ended, in a few words."""
    count = len(run.rounds)
    if run.info.status == "running":
        return f"running, {plural(count, 'round')} finished so far"
    if count == 0:
        return f"{run.info.status} before the first round was finished"
    done = plural(count, "round")
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
    return skeleton.header(
        "run report",
        info.run,
        badge(info.status),
        *facts,
        lead=info.strategy_title or info.strategy or "strategy unknown",
    )


def notices(run: RunData, summary: Summary) -> Html:
    """What a reader must know before any number."""
    said: list[Html] = []
    if run.info.status != "completed":
        why = ""
        if run.info.status == "running":
            why = "The run is still going, or it was killed. "
        elif run.info.status == "failed" and run.info.reason:
            why = f"{run.info.reason.rstrip('.')}. "
        below = "Every number below is of the rounds that were finished."
        below = below if run.rounds else "There is nothing to compare."
        said.append(notice(f"{state(run).capitalize()}. ", why, below))
    if words := resumed(run):
        said.append(
            notice(
                "Resumed. ",
                f"Another process went on with this run {words}. Wall time is that of all "
                "processes, without the time between them.",
            )
        )
    if done := interventions.notices(run):
        said.append(notice("Somebody intervened. ", interventions.MEANING, items(done)))
    said += [notice("Set aside. ", clean(each.words, 600)) for each in run.offenders]
    if run.info.exposed:
        said.append(notice("Messages were unprotected. ", f"{exposed_in_words(run.info.exposed)}."))
    if summary.energy.missing:
        lacking = gaps_by_device(summary.energy.missing).items()
        said.append(
            notice(
                "Energy is incomplete. ",
                "These are not known, so that every sum they belong to is unknown",
                f"; all of them can hold {joules(most.value_j)} at most, by the cost parameters of "
                "the boards:"
                if (most := summary.energy.unknown_max)
                else ":",
                items([f"{device}: {which}" for device, which in lacking]),
            )
        )
    for title, sentences in screened.notices(run):
        said.append(notice(title, items(sentences)))
    if summary.overspent:
        lines = items(over_budget(summary))
        said.append(notice("The run took more than its budget. ", lines))
    if summary.warnings:
        said.append(notice("The store is not whole. ", items(summary.warnings)))
    return join(said)


def cards(run: RunData, summary: Summary) -> Html:
    """The headline."""
    points, known, plan = summary.points, summary.energy.known, run.plan
    compared, dynamic = summary.compared, summary.dynamic_compared
    best = max(points, key=lambda p: p.accuracy) if points else None
    reached = (
        f"best {percent(best.accuracy)} in round {best.number}" if best else "no round finished"
    )
    board: Child = "nothing was metered"
    above_idle: Child = "compute and upload above idle"
    if known:
        kind = badge(known.kind)
        mix = parts(device.energy.known for device in summary.devices)
        deviation = None if summary.energy.missing else f" ± {joules(known.uncertainty_j)}"
        board = join([kind, deviation, f"; {mix}" if mix else None, _of_it(summary.energy)])
        of_it = f";{_of_it(summary.dynamic)}" if summary.dynamic.missing else None
        taken = summary.dynamic.known
        sure = f" ± {joules(taken.uncertainty_j)}" if summary.dynamic.value and taken else None
        said_kind = badge(taken.kind) if taken else None
        above_idle = join([said_kind, sure, f"; predicted {_error(dynamic)}", of_it])
    modelled = None if compared.predicted_j is None else join([badge("modelled"), " "])
    errors = "nothing to compare"
    if compared.measured:
        mape = percent_value(summary.mape_percent)
        errors = f"{_error(compared, ' in all')}; {mape} mean absolute"
    search = "no plan"
    if plan:
        gap = gap_of_search(plan.search_gap_percent, plan.least.gap_percent)
        said = [f"{plan.objective} energy"] if plan.objective else []
        said += [] if gap is None else [f"search alone {small_percent(gap)}"]
        search = "; ".join(said)
    asked, status = run.info.config.get("rounds.count"), run.info.status
    cards = (
        ("Final accuracy", percent(points[-1].accuracy if points else None), reached),
        ("Energy, whole board", _headline(summary.energy), board),
        ("Energy, predicted", joules(compared.predicted_j), join([modelled, errors])),
        ("Energy, dynamic", _dynamic_headline(summary.dynamic), above_idle),
        ("Plan above its bound", small_percent(plan.least.gap_percent if plan else None), search),
        ("Rounds", str(len(points)), f"of {asked}, {status}" if isinstance(asked, int) else status),
    )
    return element("dl", *(_card(*each) for each in cards), class_="cards")


def _dynamic_headline(total: Sum) -> str:
    if total.value is not None and not is_told(total.value):
        return "below resolution"
    return _headline(total)


def _headline(total: Sum) -> str:
    return "unknown" if total.missing else joules(total.value_j)


def _error(compared: Compared, in_all: str = "") -> str:
    """An error of a prediction, and of which joules it is where those are not all."""
    if compared.measured is not None and compared.missing:
        joined = format_energy(compared.measured)
        in_all = f" of the {joined} that were metered and predicted"
    return signed_percent(compared.error_percent) + in_all


def _of_it(total: Sum) -> str | None:
    """The known part of a sum that is not."""
    return f" {whole(total)}" if total.missing else None


def besides(run: RunData, summary: Summary) -> Html | None:
    """The figures of :mod:`fimi.report.besides`: a line each below the headline."""
    said = extras(run, summary)
    if not said:
        return None
    pairs = (
        (element("dt", e.term.capitalize()), element("dd", element("strong", e.value), " ", e.note))
        for e in said
    )
    return element("dl", *(element("div", *pair) for pair in pairs), class_="besides")


def method(run: RunData, summary: Summary) -> Html:
    """How the numbers came to be."""
    kinds = {
        "measured": "A physical meter on each device read these joules.",
        "modelled": "A formula, not a meter, gave at least some of these joules.",
        "mixed": "The devices were not all of one kind: "
        f"{parts(device.energy.known for device in summary.devices)}. Tables say of each number "
        "what it is; a sum of several kinds is no measurement.",
        "emulated": "No physical device was involved: each device’s joules come from an emulated "
        "board in virtual time, whose true cost differs from the profile the planner was given, "
        "read by an emulated meter with gain error and noise. They test the method, not a board.",
    }
    waiting, bound = "", ""
    if any(cell.phase == "waiting" for cell in summary.phases):
        waiting = "waiting until the coordinator pulls its update (no plan has it), "
    if summary.energy.unknown_max:
        bound = (
            "What it can be at most is the highest power of the board, by its cost parameters, "
            "times the time of which nothing is known: a bound, in no sum. "
        )
    known = summary.energy.known
    sources = known.source.split("+") if known else []
    tested = f"{run.info.dataset.test} " if run.info.dataset.test else ""
    paragraphs = [
        (
            "Measured.",
            "Each device meters its phases — receiving the synthetic data, receiving the model, "
            f"computing, {waiting}uploading, idling until the round ends. A phase is metered "
            "directly where the meter has readings that show nothing else. Where it is too slow or "
            "too late for that, the powers of phases come from all rounds together, by regression, "
            "or are not resolved. The energy of the run is the sum over devices and rounds, in "
            "which what one phase has too much, its neighbour lacks.",
        ),
        (
            f"{known.kind.capitalize()}." if known else "Not metered.",
            kinds[known.kind] if known else "No joule was read.",
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
            "the same time; the idle power is measured at rest: before, between and after work.",
        ),
        (
            "Uncertainty.",
            "± is one standard deviation, from gain, resolution and noise of the meters. A "
            "device’s phases share the gain of its meter and its resting power, so that part adds "
            "up linearly; the rest, and those of different devices, add in quadrature.",
        ),
        (
            "Missing is missing.",
            "A sum of joules that lacks a part is unknown; what is known of it and what is missing "
            f"stand beside it. {bound}Predictions are compared with measurements over exactly the "
            "phases of which both are known.",
        ),
        ("Accuracy.", f"Of the global model on {tested}test images."),
        ("Meters.", ", ".join(sources) if sources else None),
    ]
    said = ((element("b", head), text) for head, text in paragraphs if text is not None)
    return element("div", *(element("p", head, " ", text) for head, text in said), class_="method")


def _card(title: str, value: str, note: Child) -> Html:
    return element(
        "div",
        element("dt", title),
        element("dd", value, class_="value"),
        element("dd", note, class_="note"),
        class_="card",
    )
