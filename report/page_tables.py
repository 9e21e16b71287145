"""The tables of a report page: devices, phases, prices of accuracies, the plan, rounds, settings.

Everything is made with :mod:`fimi.report.markup`, which escapes what it did not make itself.
"""

from __future__ import annotations

import json

from fimi.record.curve import Moved, price
from fimi.record.record import RunData
from fimi.record.summary import DeviceSummary, Summary
from fimi.record.sums import Compared
from fimi.report import plot_style
from fimi.report.markup import Child, Column, Html, definitions, element, table
from fimi.report.words import (
    MISSING,
    alike,
    byte_count,
    gaps,
    gaps_by_device,
    heading,
    hertz,
    joules,
    percent,
    seconds,
    signed_percent,
    small_percent,
    sum_cell,
)

TARGETS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
"""Accuracies whose price is listed."""


def device_table(summary: Summary) -> Html:
    """One row per device."""
    known = [d.energy.known for d in summary.devices]
    bare = alike(known)
    columns = [
        Column("Device", css="name"),
        Column("Board", css="name"),
        Column("Samples", "real"),
        Column("Samples", "synthetic"),
        Column("Frequency", "planned"),
        Column("Frequency", "achieved"),
        Column("Bandwidth", "planned"),
        Column("Busy per round", "predicted"),
        Column("Busy per round", "metered"),
        Column("Energy", "predicted"),
        Column("Energy", heading(known)),
        Column("Error"),
        Column("Updates", "accepted"),
    ]
    return table(
        columns,
        (_device_row(device, bare=bare) for device in summary.devices),
        foot=[
            "Fleet",
            None,
            str(sum(sum(d.local_counts) for d in summary.devices)),
            str(sum(sum(d.synthetic_counts) for d in summary.devices)),
            *[None] * 5,
            _predicted(summary.compared),
            sum_cell(summary.energy, bare=bare),
            signed_percent(summary.compared.error_percent),
            f"{sum(d.accepted for d in summary.devices)}/{sum(d.rounds for d in summary.devices)}",
        ],
    )


def _device_row(device: DeviceSummary, *, bare: bool) -> list[Child]:
    return [
        device.device,
        _board(device),
        str(sum(device.local_counts)) if device.local_counts else MISSING,
        str(sum(device.synthetic_counts)) if device.synthetic_counts else MISSING,
        hertz(device.frequency_planned_hz),
        hertz(device.frequency_achieved_hz),
        hertz(device.bandwidth_hz),
        seconds(device.predicted_busy_s),
        seconds(device.busy_s),
        _predicted(device.compared),
        sum_cell(device.energy, bare=bare),
        signed_percent(device.compared.error_percent),
        f"{device.accepted}/{device.rounds}",
    ]


def _predicted(compared: Compared) -> str:
    """A prediction, and of how much it is where that is not all."""
    if compared.measured is None:
        return MISSING
    of_part = f" for {joules(compared.measured.value_j)}" if compared.missing else ""
    return f"{joules(compared.predicted_j)}{of_part}"


def _board(device: DeviceSummary) -> str:
    if not device.board:
        return MISSING
    return f"{device.board} ({device.hardware})" if device.hardware else device.board


def phase_table(summary: Summary) -> Html:
    """One row per phase, the whole fleet."""
    known = [phase.energy.known for phase in summary.phases]
    bare = alike(known)
    whole_j = summary.energy.value_j
    return table(
        [
            Column("Phase", css="text"),
            Column("Energy", "predicted"),
            Column("Energy", heading(known)),
            Column("Error"),
            Column("Share of energy"),
            Column("Mean length", "predicted"),
            Column("Mean length", "metered"),
        ],
        (
            [
                plot_style.PHASE_NAMES.get(phase.phase, phase.phase),
                _predicted(phase.compared),
                sum_cell(phase.energy, bare=bare),
                signed_percent(phase.compared.error_percent),
                percent(phase.energy.value.value_j / whole_j)
                if phase.energy.value and whole_j
                else MISSING,
                seconds(phase.predicted_s),
                seconds(phase.measured_s),
            ]
            for phase in summary.phases
        ),
    )


def target_panel(run: RunData, summary: Summary) -> Html | None:
    """The price of accuracies."""
    if not summary.points or summary.energy.known is None:
        return None
    kind = summary.energy.known.kind
    prices = [price(summary.points, target) for target in TARGETS]
    usual = prices[: 1 + sum(each.rounds is not None for each in prices)]
    asked = [each for each in summary.prices if each.target not in {u.target for u in usual}]
    missing = dict.fromkeys(
        gap
        for each in (*usual, *asked)
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
        table(
            [
                Column("Accuracy"),
                Column("Round"),
                Column("Whole board", kind),
                Column("Dynamic", kind),
                Column("Time"),
                Column("Bytes"),
            ],
            (
                [
                    percent(each.target, 0 if each.target in TARGETS else 1),
                    "not reached" if each.rounds is None else str(each.rounds),
                    sum_cell(each.energy, bare=True) if each.energy else MISSING,
                    sum_cell(each.dynamic, bare=True) if each.dynamic else MISSING,
                    seconds(each.duration_s),
                    _bytes(each.moved),
                ]
                for each in sorted([*usual, *asked], key=lambda each: each.target)
            ),
        ),
        element("p", f"Unknown without {gaps(missing)}.", class_="how") if missing else None,
        class_="panel",
    )


def _bytes(moved: Moved | None) -> str:
    if moved is None or not moved.missing:
        return byte_count(moved.size_bytes if moved else None)
    known = moved.known_bytes
    return "unknown" if known is None else f"unknown; {byte_count(known)} known"


def _plan_scope(run: RunData) -> str:
    """What one round of the plan is."""
    said = "One round of the whole fleet, energy above idle (modelled)."
    if run.drawn is None:
        return said
    drawn, fleet = run.drawn
    return (
        f"{said} {drawn} of {fleet} devices take part in a round, so it takes {drawn}/{fleet} "
        "of this on average; errors of predictions are of those that took part."
    )


def plan_panel(run: RunData) -> Html | None:
    """The plan in figures."""
    plan = run.plan
    if plan is None:
        return None
    return element(
        "div",
        element("h3", "The plan"),
        element("p", _plan_scope(run), class_="how"),
        definitions(
            [
                ("Energy as it runs", _precise(plan.energy_j)),
                ("before rounding", _precise(plan.search_energy_j)),
                ("Certified bound", _precise(plan.bound_j)),
                ("Gap as it runs", small_percent(plan.gap_percent)),
                ("Gap of the search", small_percent(plan.search_gap_percent)),
                (
                    "Learning error",
                    MISSING
                    if plan.error is None
                    else f"{plan.error:.4f}, at most {plan.error_max:.4g} allowed"
                    if plan.error_max is not None
                    else f"{plan.error:.4f}",
                ),
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
            "The gap as it runs contains the price of whole samples and of frequencies that the "
            "boards can set; no plan, rounded or not, needs less than the bound.",
            class_="how",
        ),
        class_="panel",
    )


def round_table(run: RunData, summary: Summary) -> Html | None:
    """One row per round."""
    if not run.rounds:
        return None
    return table(
        [
            Column("Round"),
            Column("Accuracy"),
            Column("Loss"),
            Column("Length", "fleet’s clock"),
            Column("Updates", "accepted"),
            Column("Energy", "metered"),
            Column("Energy", "predicted"),
            Column("Not accepted, not metered", css="text"),
        ],
        (
            [
                str(r.number),
                percent(r.evaluation.accuracy),
                f"{r.evaluation.loss:.3f}",
                seconds(r.duration_s),
                f"{r.accepted}/{len(r.participants)}",
                sum_cell(point.energy, bare=False),
                _predicted(point.compared),
                "; ".join(
                    [
                        *(
                            f"{d.device} {d.status}{': ' + d.reason if d.reason else ''}"
                            for d in r.participants
                            if d.status != "accepted"
                        ),
                        *(
                            f"{device} not metered: {which}"
                            for device, which in gaps_by_device(point.energy.missing).items()
                        ),
                    ]
                ),
            ]
            for r, point in zip(run.rounds, summary.points, strict=True)
        ),
        caption="The first round holds receiving the synthetic data",
    )


def notes_table(summary: Summary) -> Html | None:
    """What devices could not do as planned."""
    noted = [(d.device, note) for d in summary.devices for note in d.notes]
    if not noted:
        return None
    return table([Column("Device", css="name"), Column("Note", css="text")], noted)


def configuration_table(run: RunData) -> Html | None:
    """Every effective value with its origin."""
    if not run.info.config:
        return None
    return table(
        [Column("Key", css="text"), Column("Value", css="text"), Column("Origin", css="text")],
        (
            [
                element("code", key),
                element("code", json.dumps(value, ensure_ascii=False)),
                run.info.origins.get(key, MISSING),
            ]
            for key, value in run.info.config.items()
        ),
    )


def versions_table(run: RunData) -> Html | None:
    """What it ran on."""
    if not run.info.versions:
        return None
    rows = [*sorted(run.info.versions.items())]
    return table([Column("Package", css="text"), Column("Version", css="text")], rows)


def _precise(value_j: float | None) -> str:
    """Joules with enough digits to tell a plan from its bound."""
    return MISSING if value_j is None else f"{value_j:.6g} J"
