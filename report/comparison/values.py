"""The result of an experiment for programs: CSV and JSON.

* :func:`as_csv`    one line per run
* :func:`as_json`   everything
* :func:`sample_body`  a quantity over the seeds

``never`` stands where a target was not reached, ``null`` or nothing where a value is not known.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

import msgspec

from fimi.record.clean import clean
from fimi.report.comparison.plans import plan_body, plan_columns
from fimi.report.comparison.predicted import QUANTITIES, of_run
from fimi.report.comparison.result import ExperimentResult, Record, fairness
from fimi.report.comparison.runs import ALL_COSTS, RunFigures
from fimi.report.comparison.shown import NEVER
from fimi.report.comparison.statistics import Interval, Sample
from fimi.report.comparison.tables import methods, sides
from fimi.report.words import rounds_in_words

_BESIDE = ("measured", "predicted", "ratio", "error")


def as_csv(result: ExperimentResult) -> str:
    """One line per run; a cell that has not run has a line as well."""
    out = io.StringIO()
    rows = [
        _csv_row(record, side, result.confidence)
        for side, each in sides(result)
        for record in each.records
    ]
    writer = csv.DictWriter(out, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _csv_value(value) for key, value in row.items()} for row in rows)
    return out.getvalue()


def _csv_row(record: Record, side: str, confidence: float) -> dict[str, Any]:
    """A cell of an experiment; ``None`` is an empty cell of the table."""
    cell, run = record.cell, record.cell.figures
    last = run.points[-1] if run and run.points else None
    then = record.test_interval(confidence)
    even = fairness(run)
    return {
        **cell.point,
        "strategy": cell.label,
        **({"side": side, **cell.settings} if side else {}),
        "seed": cell.seed,
        "run": cell.name,
        "problem": clean(cell.problem, 500),
        "rounds_run": len(run.points) if run else None,
        "final_accuracy": cell.judged("final"),
        "best_accuracy": cell.judged("best"),
        "best_validation_accuracy": cell.judged("best", "validation"),
        "worst_device_accuracy": even.worst if even else None,
        "accuracy_std": even.std if even else None,
        "target_accuracy": record.target,
        "test_accuracy_at_target": record.test_accuracy,
        "test_accuracy_low": then.low if then else None,
        "test_accuracy_high": then.high if then else None,
        **{f"{cost}_to_target": _named(record.costs[cost]) for cost in ALL_COSTS},
        "total_at_least_j_to_target": _named(record.least_total_j),
        "total_board_j": last.energy_so_far.value_j if last else None,
        "total_dynamic_j": last.dynamic_so_far.value_j if last else None,
        "total_at_least_j": last.total_so_far.known_j if last else None,
        **_columns_beside(run),
        "energy_kind": run.kind if run else None,
        "synthetic_samples": run.synthetic_samples if run else None,
        "partition": run.data["partition"] if run else None,
        **plan_columns(run.plan if run else None),
    }


def _columns_beside(run: RunFigures | None) -> dict[str, Any]:
    """What a run took beside what was predicted of it, and who was missing, as columns of CSV."""
    row: dict[str, Any] = {}
    for name in QUANTITIES:
        own = of_run(run, name)
        row |= {f"compared_{name}": own.measured, f"predicted_{name}": own.predicted}
        if name != "dynamic_j":
            row[f"left_out_{name}"] = own.lacking / own.among if own.among else None
    absent = run.absent if run else {}
    said = "; ".join(f"{device}: {rounds_in_words(own)}" for device, own in absent.items())
    counts = {name: getattr(run, name, None) for name in ("resumed", "interventions")}
    return row | {"absent": said, **counts}


def as_json(result: ExperimentResult) -> bytes:
    """Everything, series of single runs included.

    Keys of the configuration, and versions, that all runs share stand once; beside each run stand
    its others.
    """
    runs = [r.cell.figures for _, each in sides(result) for r in each.records if r.cell.figures]
    config, versions = (
        _shared([run.config for run in runs]),
        _shared([run.versions for run in runs]),
    )
    body: dict[str, Any] = {
        "name": result.name,
        "title": result.title,
        "baseline": result.baseline,
        "target": str(result.target),
        "confidence": result.confidence,
        "energy_kind": result.kind,
        "methods": methods(result),
        "notes": result.notes,
        "config": config,
        "versions": versions,
        **_side(result, config, versions),
        "choices": [
            {
                "point": choice.point,
                "strategy": choice.label,
                "taken": choice.taken.settings if choice.taken else None,
                "tried": choice.tried,
            }
            for choice in result.choices
        ],
        "tuned": _side(result.tuned, config, versions) if result.tuned else None,
    }
    return msgspec.json.format(msgspec.json.encode(body), indent=1) + b"\n"


def _shared(dictionaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is in all of them with the same value."""
    first, *others = dictionaries or [{}]
    return {k: v for k, v in first.items() if all(k in o and o[k] == v for o in others)}


def _side(
    result: ExperimentResult, config: dict[str, Any], versions: dict[str, str]
) -> dict[str, Any]:
    """Summaries, comparisons and runs, as configured or as tuned."""
    return {
        "summaries": [
            {
                "point": s.point,
                "strategy": s.label,
                "seeds": [r.cell.seed for r in s.records],
                "final_accuracy": sample_body(s.final),
                "best_accuracy": sample_body(s.best),
                "test_accuracy_at_target": sample_body(s.test_accuracy),
                "worst_device_accuracy": sample_body(s.worst),
                "accuracy_std": sample_body(s.std),
                "to_target": {cost: sample_body(s.costs[cost]) for cost in ALL_COSTS},
                "total_at_least_j_to_target": sample_body(s.least_total),
                "measured_and_predicted": {
                    name: {
                        **{key: sample_body(getattr(own, key)) for key in _BESIDE},
                        "energy_kind": own.kinds or None,
                        "left_out": own.left_out,
                    }
                    for name, own in s.beside.items()
                },
            }
            for s in result.summaries
        ],
        "comparisons": [
            {
                "point": c.point,
                "strategy": c.label,
                "baseline": result.baseline,
                "final_accuracy_difference": sample_body(c.final),
                "best_accuracy_difference": sample_body(c.best),
                "ratio_to_target": {cost: sample_body(c.ratios[cost]) for cost in ALL_COSTS},
            }
            for c in result.comparisons
        ],
        "runs": [
            {
                "point": r.cell.point,
                "strategy": r.cell.label,
                "settings": r.cell.settings,
                "seed": r.cell.seed,
                "run": r.cell.name,
                "problem": r.cell.problem,
                "devices_train": r.cell.devices_train,
                "config": _beyond(config, r.cell.figures.config if r.cell.figures else {}),
                "versions": _beyond(versions, r.cell.figures.versions if r.cell.figures else {}),
                "target_accuracy": r.target,
                "test_accuracy_at_target": r.test_accuracy,
                "test_accuracy_interval": _interval(r.test_interval(result.confidence)),
                "to_target": {cost: _named(r.costs[cost]) for cost in ALL_COSTS},
                "total_at_least_j_to_target": _named(r.least_total_j),
                "series": _series(r.cell.figures),
            }
            for r in result.records
        ],
    }


def _beyond(shared: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in own.items() if key not in shared}


def _series(run: RunFigures | None) -> dict[str, Any] | None:
    """A run round by round; what came before the first round counts to it."""
    if run is None:
        return None
    return {
        "accuracy": run.accuracy,
        "validation_accuracy": [point.validation_accuracy for point in run.points],
        "test_samples": run.test_samples,
        "validation_samples": run.validation_samples,
        "board_j": [point.energy.value_j for point in run.points],
        "board_known_j": [point.energy.known_j for point in run.points],
        "dynamic_j": [point.dynamic.value_j for point in run.points],
        "dynamic_known_j": [point.dynamic.known_j for point in run.points],
        "duration_s": [point.duration_s for point in run.points],
        "size_bytes": [point.moved.size_bytes for point in run.points],
        "missing": run.points[-1].energy_so_far.missing if run.points else (),
        "generator": run.generator,
        "server": run.server,
        "total": run.points[-1].total_so_far if run.points else None,
        "kind": run.kind,
        "scope": run.scope,
        "measured_and_predicted": {
            name: {
                **{key: getattr(own, key) for key in ("measured", "predicted", "error")},
                "energy_kind": own.kind or None,
                "left_out": own.lacking / own.among if own.among else None,
            }
            for name in QUANTITIES
            for own in [of_run(run, name)]
        },
        "absent": run.absent,
        "resumed": run.resumed,
        "interventions": run.interventions,
        "first_temperature_c": run.first_temperature_c,
        "data": run.data,
        "synthetic_samples": run.synthetic_samples,
        "wall_s": run.wall_s,
        "warnings": run.warnings,
        "undelivered": run.undelivered,
        "plan": plan_body(run.plan),
    }


def _csv_value(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return msgspec.json.encode(value).decode()
    return "" if value is None else value


def sample_body(sample: Sample) -> dict[str, Any]:
    """A quantity over the seeds for JSON."""
    return {
        "values": [_named(value) for value in sample.values],
        "reached": sample.reached,
        "never": sample.never,
        "unknown": sample.unknown,
        "mean": _interval(sample.mean),
        "median": _interval(sample.median),
    }


def _interval(interval: Interval | None) -> dict[str, Any] | None:
    """An estimate for JSON."""
    if interval is None:
        return None
    return {name: _named(getattr(interval, name)) for name in interval.__struct_fields__}


def _named(value: float | None) -> float | str | None:
    """A value for JSON and CSV: an infinite one is ``never``."""
    return NEVER if value is not None and math.isinf(value) else value
