"""The plans behind the runs of an experiment: both energies of a round, their bounds and gaps.

* :func:`plan_rows`     a strategy in a row: medians over the seeds, and the largest gap
* :func:`plan_columns`  a run's plan as columns of CSV
* :func:`plan_body`     the same for JSON
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fimi.record.record import PlannedEnergy, PlanSummary
from fimi.report.comparison.result import StrategySummary
from fimi.report.words import MISSING, joules, seconds, small_percent

_KEYS = ("energy_j", "bound_j", "gap_percent")


HEADING = (
    "strategy",
    "made least",
    "board\n(modelled)",
    "largest gap\n%",
    "dynamic\n(modelled)",
    "largest gap\n%",
    "length",
    "found by",
)


def plan_rows(summaries: Sequence[StrategySummary]) -> tuple[tuple[str, ...], ...]:
    """A row for each strategy, under :data:`HEADING`; none where no run has a plan."""
    return plan_rows_of({summary.label: _plans(summary) for summary in summaries})


def plan_rows_of(plans: Mapping[str, Sequence[PlanSummary]]) -> tuple[tuple[str, ...], ...]:
    """The same of plans by what stands in the first column."""
    return (
        tuple((label, *_cells(own)) for label, own in plans.items()) if any(plans.values()) else ()
    )


def _plans(summary: StrategySummary) -> list[PlanSummary]:
    figures = [record.cell.figures for record in summary.records]
    return [run.plan for run in figures if run is not None and run.plan is not None]


def _cells(plans: Sequence[PlanSummary]) -> tuple[str, ...]:
    if not plans:
        return (MISSING,) * 7
    return (
        _each(plan.objective for plan in plans),
        *_energy([plan.board for plan in plans]),
        *_energy([plan.dynamic for plan in plans]),
        seconds(_median(plan.round_s for plan in plans)),
        _each(plan.search for plan in plans),
    )


def _energy(energies: Sequence[PlannedEnergy]) -> tuple[str, str]:
    gaps = [gap for each in energies if (gap := _finite(each.gap_percent)) is not None]
    largest = small_percent(max(gaps)).removesuffix(" %") if gaps else MISSING
    return joules(_median(each.energy_j for each in energies)), largest


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _each(words: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(word for word in words if word)) or MISSING


def plan_columns(plan: PlanSummary | None) -> dict[str, Any]:
    """A run's plan as columns of CSV; unknown without one."""
    plan = plan or PlanSummary()
    row: dict[str, Any] = {"plan_objective": plan.objective, "plan_search": plan.search}
    for name, energy in (("board", plan.board), ("dynamic", plan.dynamic)):
        row |= {
            f"plan_{name}_{key.removeprefix('energy_')}": _finite(getattr(energy, key))
            for key in _KEYS
        }
    return row | {"plan_round_s": plan.round_s, "plan_preparation_j": plan.preparation_j}


def plan_body(plan: PlanSummary | None) -> dict[str, Any] | None:
    """A run's plan for JSON; ``None`` without one."""
    if plan is None:
        return None
    return {
        "objective": plan.objective,
        "search": plan.search,
        "board": {key: _finite(getattr(plan.board, key)) for key in _KEYS},
        "dynamic": {key: _finite(getattr(plan.dynamic, key)) for key in _KEYS},
        "round_s": plan.round_s,
        "preparation_j": plan.preparation_j,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
