"""The tables of a report page: devices, phases, prices of accuracies, the plan, rounds, settings.

Everything is made with :mod:`fimi.report.markup`, which escapes what it did not make itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from operator import itemgetter

from fimi.energy.joules import format_energy
from fimi.record.curve import Moved, Price, RoundPoint, price
from fimi.record.phases import PhaseCell
from fimi.record.planned import PlanHeld
from fimi.record.record import PlannedEnergy, PlanSummary, RunData
from fimi.record.results import RoundResult
from fimi.record.summary import DeviceSummary, Summary
from fimi.record.sums import Compared, Sum
from fimi.report import plot_style
from fimi.report.markup import Column, Html, definitions, element, table
from fimi.report.planned import gap_of_search
from fimi.report.resolution import told_by
from fimi.report.words import (
    MISSING,
    alike,
    byte_count,
    cross_entropy,
    gaps,
    gaps_by_device,
    heading,
    hertz,
    joules,
    modelled,
    percent,
    seconds,
    signed_percent,
    small_percent,
    sum_cell,
)

PREDICTED = "predicted, modelled"
"""What a column says of joules that a plan predicted."""

TARGETS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
"""Accuracies whose price is listed."""


def device_table(summary: Summary) -> Html:
    """One row per device."""
    return table(device_columns(summary), summary.devices)


def device_columns(summary: Summary) -> list[Column[DeviceSummary]]:
    """What is said of a device, and of the fleet below."""
    devices, compared = summary.devices, summary.compared
    known = [d.energy.known for d in devices]
    bare = alike(known)
    real, made = (
        str(sum(sum(getattr(d, name)) for d in devices))
        for name in ("local_counts", "synthetic_counts")
    )
    updates = f"{sum(d.accepted for d in devices)}/{sum(d.rounds for d in devices)}"
    error = signed_percent(compared.error_percent)
    worst = summary.points[-1].fairness.worst if summary.points else None
    even = MISSING if worst is None else f"worst {percent(worst)}"
    fleet = sum_cell(summary.energy, bare=bare)
    hardware = {device.hardware for device in devices}
    all_are = hardware.pop() if len(hardware) == 1 else ""
    setting: Column[DeviceSummary] = Column(
        "Operating", "point", lambda d: d.setting or MISSING, "text"
    )
    columns: list[Column[DeviceSummary]] = [
        Column("Device", "", lambda d: d.device, "name", "Fleet"),
        Column("Board", all_are, lambda d: _board(d, bare=bool(all_are)), "name"),
        Column("Samples", "real", lambda d: _count(d.local_counts), foot=real),
        Column("Samples", "synthetic", lambda d: _count(d.synthetic_counts), foot=made),
        *([setting] if any(device.setting for device in devices) else []),
        Column("Frequency", "planned", lambda d: hertz(d.frequency_planned_hz)),
        Column("Frequency", "achieved", lambda d: hertz(d.frequency_achieved_hz)),
        Column("Bandwidth", "planned", lambda d: hertz(d.bandwidth_hz)),
        Column("Busy per round", "predicted", lambda d: seconds(d.predicted_busy_s)),
        Column("Busy per round", "metered", lambda d: seconds(d.busy_s)),
        Column("Energy", PREDICTED, lambda d: _predicted(d.compared), foot=_predicted(compared)),
        Column("Energy", heading(known), lambda d: _metered(d, bare=bare), foot=fleet),
        Column("Error", "", lambda d: signed_percent(d.compared.error_percent), foot=error),
        Column("Updates", "accepted", lambda d: f"{d.accepted}/{d.rounds}", foot=updates),
        Column("Accuracy", "by its labels", lambda d: percent(d.accuracy), foot=even),
    ]
    return columns


def _metered(device: DeviceSummary, *, bare: bool) -> str:
    """Its joules, and that its meter is doubtful."""
    said = sum_cell(device.energy, bare=bare)
    return f"{said}, doubtful" if device.observed.doubts else said


def _count(counts: Sequence[int]) -> str:
    return str(sum(counts)) if counts else MISSING


def _predicted(compared: Compared) -> str:
    """A prediction, and of how much it is where that is not all."""
    if compared.measured is None:
        return MISSING
    of_part = f" for {format_energy(compared.measured)}" if compared.missing else ""
    return f"{joules(compared.predicted_j)}{of_part}"


def _board(device: DeviceSummary, *, bare: bool) -> str:
    """Its make; whether it is emulated, where the heading does not say it of all."""
    if not device.board:
        return MISSING
    said = device.hardware and not bare
    return f"{device.board} ({device.hardware})" if said else device.board


def phase_table(summary: Summary) -> Html:
    """One row per phase, the whole fleet."""
    return table(phase_columns(summary), summary.phases)


def phase_columns(summary: Summary) -> list[Column[PhaseCell]]:
    """What is said of a phase."""
    known = [phase.energy.known for phase in summary.phases]
    bare = alike(known)
    whole_j = summary.energy.value_j
    columns: list[Column[PhaseCell]] = [
        Column("Phase", "", lambda p: plot_style.PHASE_NAMES.get(p.phase, p.phase), "text"),
        Column("Energy", PREDICTED, lambda p: _predicted(p.compared)),
        Column("Energy", heading(known), lambda p: sum_cell(p.energy, bare=bare)),
        Column("Error", "", lambda p: signed_percent(p.compared.error_percent)),
        Column("Told by", "", told_by, "text"),
        Column("Share of energy", "", lambda p: percent(_share(p.energy.value_j, whole_j))),
        Column("Mean length", "predicted", lambda p: seconds(p.predicted_s)),
        Column("Mean length", "metered", lambda p: seconds(p.measured_s)),
    ]
    return columns


def _share(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def listed_prices(summary: Summary) -> list[Price]:
    """The accuracies that are listed: usual ones up to the first not reached, and those asked for.

    None where nothing was metered.
    """
    if not summary.points or summary.energy.known is None:
        return []
    prices = [price(summary.points, target) for target in TARGETS]
    usual = prices[: 1 + sum(each.rounds is not None for each in prices)]
    asked = [each for each in summary.prices if each.target not in {u.target for u in usual}]
    return sorted([*usual, *asked], key=lambda each: each.target)


def price_columns(summary: Summary) -> list[Column[Price]]:
    """What an accuracy had cost."""
    kind = summary.energy.known.kind if summary.energy.known else MISSING
    return [
        Column("Accuracy", "", lambda p: percent(p.target, 0 if p.target in TARGETS else 1)),
        Column("Round", "", lambda p: "not reached" if p.rounds is None else str(p.rounds)),
        Column("Whole board", kind, lambda p: _spent(p.energy)),
        Column("Dynamic", kind, lambda p: _spent(p.dynamic)),
        Column("Time", "", lambda p: seconds(p.duration_s)),
        Column("Bytes", "", lambda p: _bytes(p.moved)),
    ]


def target_panel(run: RunData, summary: Summary) -> Html | None:
    """The price of accuracies."""
    prices = listed_prices(summary)
    if not prices:
        return None
    missing = dict.fromkeys(
        gap
        for each in prices
        for total in (each.energy, each.dynamic, each.moved)
        if total is not None
        for gap in total.missing
    )
    return element(
        "div",
        element("h3", "The price of an accuracy"),
        element(
            "p",
            "Round after which the global model first reached it; the joules of all devices by "
            "then, the time on the fleet’s clock, and the bytes that devices had moved.",
            class_="how",
        ),
        table(price_columns(summary), prices),
        element("p", f"Unknown without {gaps(missing)}.", class_="how") if missing else None,
        class_="panel",
    )


def _spent(total: Sum | None) -> str:
    return MISSING if total is None else sum_cell(total, bare=True)


def _bytes(moved: Moved | None) -> str:
    if moved is None or not moved.missing:
        return byte_count(moved.size_bytes if moved else None)
    known = moved.known_bytes
    return "unknown" if known is None else f"unknown; {byte_count(known)} known"


def _plan_scope(run: RunData) -> str:
    """What one round of the plan is."""
    said = (
        "One round of the whole fleet (modelled). Board: whole boards, idle power over the whole "
        "round included. Dynamic: compute and upload above idle, the paper’s energy."
    )
    if run.drawn is None:
        return said
    drawn, fleet = run.drawn
    return (
        f"{said} {drawn} of {fleet} devices take part in a round, so it takes {drawn}/{fleet} "
        "of this on average; errors of predictions are of those that took part."
    )


def _planned(energy: PlannedEnergy) -> str:
    """An energy of the plan with its bound and gap, with enough digits to tell them apart."""
    if energy.energy_j is None or energy.bound_j is None:
        return _precise(energy.energy_j)
    gap = small_percent(energy.gap_percent)
    return f"{_precise(energy.energy_j)}; bound {_precise(energy.bound_j)}, gap {gap}"


def _took(compared: Compared | None) -> str:
    """What the rounds took that were run by the plan."""
    if compared is None or compared.measured is None:
        return MISSING
    took = sum_cell(Sum(value=compared.measured, known=compared.measured), bare=False)
    if compared.error_percent is None:
        return took
    return f"{took}; the plan is {signed_percent(compared.error_percent)} off"


def _lengths(plan: PlanSummary, held: PlanHeld | None) -> str:
    planned = seconds(plan.round_s)
    return f"{planned}; {seconds(held.round_s)} on average" if held else planned


def _curve(run: RunData) -> str:
    """The curve of the first plan, where it comes from, who is beyond it, and the one in force."""
    known = run.info.curve
    if known is None:
        return MISSING
    said = f"{known.law}, {known.provenance}"
    return "; ".join(filter(None, [said, *known.doubts, run.beyond_curve, run.refitted_curve]))


def plan_panel(run: RunData, summary: Summary) -> Html | None:
    """The plan in figures, beside what its rounds took."""
    plan, held = run.plan, summary.held
    if plan is None:
        return None
    return element(
        "div",
        element("h3", "The plan"),
        element("p", _plan_scope(run), class_="how"),
        definitions(
            [
                ("Made least", f"{plan.objective} energy" if plan.objective else MISSING),
                ("Board energy", _planned(plan.board)),
                ("Board energy of a mean round", _took(held.board if held else None)),
                ("Dynamic energy", _planned(plan.dynamic)),
                ("Dynamic energy of a mean round", _took(held.dynamic if held else None)),
                ("Length of a round", _lengths(plan, held)),
                ("Receiving synthetic samples, once", modelled(plan.preparation_j)),
                *(
                    [("Of what is made least, for budgets", modelled(plan.budget_cost_j))]
                    if plan.budget_cost_j
                    else []
                ),
                *(
                    [
                        ("Made least, before rounding", _precise(plan.search_energy_j)),
                        ("its gap, of the search alone", small_percent(gap)),
                    ]
                    if (gap := gap_of_search(plan.search_gap_percent, plan.least.gap_percent))
                    is not None
                    else []
                ),
                (
                    "Learning error",
                    MISSING
                    if plan.error is None
                    else f"{plan.error:.4f}, at most {plan.error_max:.4g} allowed"
                    if plan.error_max is not None
                    else f"{plan.error:.4f}",
                ),
                ("Learning curve", _curve(run)),
                (
                    "A synthetic sample counts as",
                    MISSING
                    if plan.synthetic_value is None
                    else f"{plan.synthetic_value:.3g} real ones (q)",
                ),
                ("Search", ", ".join(filter(None, [plan.search, plan.stop])) or MISSING),
                (
                    "Effort",
                    f"{len(plan.history)} iterations, {plan.evaluations or 0:,} candidates, "
                    f"{seconds(plan.search_s)}; certificate {seconds(plan.certificate_s)}",
                ),
            ]
        ),
        element(
            "p",
            "A gap is that of the plan as it runs: it contains the price of whole samples and of "
            "what boards can set, and of the two energies only one is made least. No plan, rounded "
            "or not, needs less than a bound. "
            + (f"A mean round is that of the {held.rounds} run by this plan." if held else ""),
            class_="how",
        ),
        class_="panel",
    )


def round_table(run: RunData, summary: Summary) -> Html | None:
    """One row per round."""
    if not run.rounds:
        return None
    absent: Column[tuple[RoundResult, RoundPoint]] = Column(
        "Absent", "", lambda r: str(r[1].absent)
    )
    columns: list[Column[tuple[RoundResult, RoundPoint]]] = [
        Column("Round", "", lambda r: str(r[0].number)),
        Column("Accuracy", "", lambda r: percent(r[1].accuracy)),
        Column("Loss", "", lambda r: cross_entropy(r[1].loss)),
        Column("Length", "fleet’s clock", lambda r: seconds(r[1].round_s)),
        Column("Updates", "accepted", lambda r: _updates(*r)),
        *([absent] if any(point.absent for point in summary.points) else []),
        Column("Energy", "metered", lambda r: sum_cell(r[1].energy, bare=False)),
        Column("Energy", "predicted", lambda r: _predicted(r[1].compared)),
        Column("Not accepted, clipped, not metered", "", lambda r: _problems(*r), "text"),
    ]
    return table(
        columns,
        zip(run.rounds, summary.points, strict=True),
        caption="The first round holds receiving the synthetic data",
    )


def _updates(result: RoundResult, point: RoundPoint) -> str:
    late = f" + {len(result.late)} late" if result.late else ""
    return f"{point.accepted}/{point.participants}{late}"


def _problems(result: RoundResult, point: RoundPoint) -> str:
    said = [
        f"{d.device} {d.status}{': ' + d.reason if d.reason else ''}"
        for d in result.participants
        if d.status != "accepted"
    ]
    said += [
        f"{d.device} clipped to {100 * (d.update_scale or 0.0):.3g} % of its change"
        for d in result.devices
        if d.is_clipped
    ]
    if result.model_kept is not None:
        said.append(f"no new model: {result.model_kept}")
    said += [f"{late.device} added late: of round {late.of_round}" for late in result.late]
    said += [f"{d.device} absent{': ' + d.reason if d.reason else ''}" for d in result.absent]
    missing = gaps_by_device(point.energy.missing).items()
    return "; ".join([*said, *(f"{device} not metered: {which}" for device, which in missing)])


def notes_table(summary: Summary) -> Html | None:
    """What devices could not do as planned."""
    noted = [(d.device, note) for d in summary.devices for note in d.notes]
    return _plain(noted, Column("Device", "", itemgetter(0), "name"), _text("Note", 1))


def configuration_table(run: RunData) -> Html | None:
    """Every effective value with its origin."""
    rows = [
        (
            element("code", key),
            element("code", json.dumps(value, ensure_ascii=False)),
            run.info.origins.get(key, MISSING),
        )
        for key, value in run.info.config.items()
    ]
    return _plain(rows, _text("Key", 0), _text("Value", 1), _text("Origin", 2))


def versions_table(run: RunData) -> Html | None:
    """What it ran on."""
    return _plain(sorted(run.info.versions.items()), _text("Package", 0), _text("Version", 1))


def _plain(rows: Sequence[Sequence[str]], *columns: Column[Sequence[str]]) -> Html | None:
    return table(columns, rows) if rows else None


def _text(title: str, at: int) -> Column[Sequence[str]]:
    return Column(title, "", itemgetter(at), "text")


def _precise(value_j: float | None) -> str:
    """Joules with enough digits to tell a plan from its bound."""
    return MISSING if value_j is None else f"{value_j:.6g} J"
