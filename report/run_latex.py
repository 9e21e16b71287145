"""The tables of a run for a paper: ``fimi report RUN --format latex``.

Devices, phases, and what accuracies have cost, from the columns of the page; joules have their
uncertainty in a column of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from fimi.energy.joules import Energy
from fimi.record.record import RunData
from fimi.record.summary import Summary
from fimi.report import latex, page_tables
from fimi.report.markup import Column
from fimi.report.words import MISSING, joules

T = TypeVar("T")
_OF_DEVICES = ("Device", "Board", "Samples", "Frequency", "Energy", "Error", "Accuracy")
"""Columns of the page's table that a paper has room for."""
_OF_PHASES = ("Phase", "Energy", "Error", "Told by", "Share of energy")


def run_latex(run: RunData, summary: Summary) -> str:
    """The tables, with a comment that says of which run."""
    made = []
    if summary.devices:
        made.append(
            latex.of_columns(
                _with_deviation(
                    _only(page_tables.device_columns(summary), _OF_DEVICES),
                    lambda device: device.energy.value,
                    summary.energy.value,
                ),
                summary.devices,
                caption="Devices of the run",
                label="devices",
            )
        )
    if summary.phases:
        made.append(
            latex.of_columns(
                _with_deviation(
                    _only(page_tables.phase_columns(summary), _OF_PHASES),
                    lambda phase: phase.energy.value,
                ),
                summary.phases,
                caption="Energy of all devices by phase",
                label="phases",
            )
        )
    if prices := page_tables.listed_prices(summary):
        made.append(
            latex.of_columns(
                page_tables.price_columns(summary),
                prices,
                caption="What an accuracy had cost when it was reached; joules of all devices",
                label="prices",
            )
        )
    return latex.document(
        made, f"Run {run.info.run}, {run.info.strategy}, seed {run.info.seed}; +- is one s.d."
    )


def _only(columns: Sequence[Column[T]], titles: Sequence[str]) -> list[Column[T]]:
    return [column for column in columns if column.title in titles]


def _with_deviation(
    columns: Sequence[Column[T]], energy: Callable[[T], Energy | None], whole: Energy | None = None
) -> list[Column[T]]:
    """The columns, with one for the uncertainty behind the last one of joules."""
    last = max(k for k, column in enumerate(columns) if column.title == "Energy")
    deviation: Column[T] = Column(
        "Energy",
        "± 1 s.d.",
        lambda item: _deviation(energy(item)),
        foot=_deviation(whole) if whole is not None else None,
    )
    return [*columns[: last + 1], deviation, *columns[last + 1 :]]


def _deviation(energy: Energy | None) -> str:
    return MISSING if energy is None else joules(energy.uncertainty_j)
