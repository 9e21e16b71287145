"""The tables of a report page: devices, phases, prices of accuracies, the plan, rounds, settings.

Everything is made with :mod:`fimi.report.markup`, which escapes what it did not make itself.
"""

from __future__ import annotations

import json

from fimi.record.record import RunData
from fimi.record.summary import DeviceSummary, Summary, energy_to_target
from fimi.record.targets import costs_to_targets
from fimi.report import plot_style
from fimi.report.markup import Child, Column, Html, definitions, element, table
from fimi.report.words import (
    MISSING,
    alike,
    byte_count,
    cell,
    heading,
    hertz,
    joules,
    percent,
    seconds,
    signed_percent,
    small_percent,
)

TARGETS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
"""Accuracies whose price is listed."""


def device_table(summary: Summary) -> Html:
    """One row per device."""
    bare = alike(d.measured for d in summary.devices)
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
        Column("Energy", heading(d.measured for d in summary.devices)),
        Column("Error"),
        Column("Updates", "accepted"),
    ]
    predicted = summary.predicted_j if summary.measured else None
    return table(
        columns,
        (_device_row(device, bare=bare) for device in summary.devices),
        foot=[
            "Fleet",
            None,
            str(sum(sum(d.local_counts) for d in summary.devices)),
            str(sum(sum(d.synthetic_counts) for d in summary.devices)),
            *[None] * 5,
            joules(predicted),
            cell(summary.measured, bare=bare),
            signed_percent(summary.bias_percent),
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
        joules(device.predicted_j if device.measured else None),
        cell(device.measured, bare=bare),
        signed_percent(device.error_percent),
        f"{device.accepted}/{device.rounds}",
    ]


def _board(device: DeviceSummary) -> str:
    if not device.board:
        return MISSING
    return f"{device.board} ({device.hardware})" if device.hardware else device.board


def phase_table(summary: Summary) -> Html:
    """One row per phase, the whole fleet."""
    bare = alike(phase.measured for phase in summary.phases)
    whole = summary.measured.value_j if summary.measured else 0.0
    return table(
        [
            Column("Phase", css="text"),
            Column("Energy", "predicted"),
            Column("Energy", heading(phase.measured for phase in summary.phases)),
            Column("Error"),
            Column("Share of energy"),
            Column("Mean length", "predicted"),
            Column("Mean length", "metered"),
        ],
        (
            [
                plot_style.PHASE_NAMES.get(phase.phase, phase.phase),
                joules(phase.predicted_j if phase.count else None),
                cell(phase.measured, bare=bare),
                signed_percent(phase.error_percent),
                percent(phase.measured.value_j / whole if phase.measured and whole else None),
                seconds(phase.predicted_s),
                seconds(phase.measured_s),
            ]
            for phase in summary.phases
        ),
    )


def target_panel(run: RunData, summary: Summary) -> Html | None:
    """The price of accuracies."""
    if not summary.points or summary.measured is None:
        return None
    kind = summary.measured.kind
    targets = energy_to_target(summary, TARGETS)
    asked = energy_to_target(summary, run.targets)
    shown = sorted(
        {*targets[: 1 + sum(target.reached is not None for target in targets)], *asked},
        key=lambda target: target.accuracy,
    )
    prices = {
        cost.target: cost
        for cost in costs_to_targets(
            [target.accuracy for target in shown], run.preparations, run.rounds
        )
    }
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
                    percent(target.accuracy, 0 if target.accuracy in TARGETS else 1),
                    str(target.reached.number) if target.reached else "not reached",
                    joules(target.reached.board_j if target.reached else None),
                    joules(target.reached.dynamic_j if target.reached else None),
                    seconds(prices[target.accuracy].duration_s),
                    byte_count(prices[target.accuracy].size_bytes),
                ]
                for target in shown
            ),
        ),
        class_="panel",
    )


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


def round_table(run: RunData) -> Html | None:
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
                str(r.energy) if r.energy else MISSING,
                joules(r.predicted_j if r.energy else None),
                "; ".join(
                    [
                        *(
                            f"{d.device} {d.status}{': ' + d.reason if d.reason else ''}"
                            for d in r.participants
                            if d.status != "accepted"
                        ),
                        *(f"{name} not metered" for name in r.unmetered),
                    ]
                ),
            ]
            for r in run.rounds
        ),
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
