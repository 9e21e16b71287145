"""Compared runs for programs: JSON.

* :func:`compared_json`   everything

``never`` stands where an accuracy was not reached, ``null`` where a value is not known.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fimi.record.description import plain
from fimi.report.collection.compared import LEAST_OF, ComparedRuns, GroupFigures, TargetFigures
from fimi.report.comparison.plans import plan_body
from fimi.report.comparison.predicted import QUANTITIES
from fimi.report.comparison.runs import ALL_COSTS
from fimi.report.comparison.values import sample_body


def compared_json(found: ComparedRuns) -> bytes:
    """Everything, for programs."""
    body = {
        "confidence": found.confidence,
        "remarks": found.remarks,
        "groups": [_group_body(each) for each in found.figures],
        "differences": [
            {
                "of": each.of,
                "key": each.key,
                "values": dict(zip([g.letter for g in found.groups], each.values, strict=True)),
            }
            for each in found.contrasts
        ],
        "targets": [_target_body(found, each) for each in found.targets],
    }
    return msgspec.json.format(msgspec.json.encode(body, enc_hook=plain), indent=1) + b"\n"


def _group_body(each: GroupFigures) -> dict[str, Any]:
    group = each.group
    return {
        "letter": group.letter,
        "label": group.label,
        "energy_kind": group.runs[0].figures.kind,
        "energy_scope": group.runs[0].figures.scope or None,
        "repeats": [run.path for run in group.repeats],
        "rounds": sample_body(each.rounds),
        "final_accuracy": sample_body(each.final),
        "best_accuracy": sample_body(each.best),
        "board_j": sample_body(each.board),
        "board_known_j": sample_body(each.least_board),
        "dynamic_j": sample_body(each.dynamic),
        "duration_s": sample_body(each.duration),
        "emissions_g": sample_body(each.carbon),
        "measured_and_predicted": {
            name: {
                "measured": sample_body(own.measured),
                "predicted": sample_body(own.predicted),
                "ratio": sample_body(own.ratio),
                "error": sample_body(own.error),
                "left_out": own.left_out,
            }
            for name in QUANTITIES
            for own in [each.beside[name]]
        },
        "runs": [
            {
                "name": run.name,
                "path": run.path,
                "seed": run.seed,
                "status": run.status,
                "started_at": run.started_at,
                "accuracy": run.figures.accuracy,
                "board_j": [p.energy_so_far.value_j for p in run.figures.points],
                "board_known_j": [p.energy_so_far.known_j for p in run.figures.points],
                "energy": run.figures.points[-1].energy_so_far if run.figures.points else None,
                "elapsed_s": [p.elapsed_s for p in run.figures.points],
                "plan": plan_body(run.plan),
                "devices": [
                    {
                        "device": d.device,
                        "board": d.board,
                        "synthetic_counts": d.synthetic_counts,
                        "frequency_planned_hz": d.frequency_planned_hz,
                        "bandwidth_hz": d.bandwidth_hz,
                        "predicted_busy_s": d.predicted_busy_s,
                        "busy_s": d.busy_s,
                        "energy": d.energy,
                        "predicted_j": d.compared.predicted_j,
                        "accuracy": d.accuracy,
                    }
                    for d in run.devices
                ],
                "carbon": run.carbon,
            }
            for run in group.runs
        ],
    }


def _target_body(found: ComparedRuns, each: TargetFigures) -> dict[str, Any]:
    letters = [group.letter for group in found.groups]
    return {
        "target_accuracy": each.target,
        "why": each.why,
        "costs": {
            letter: {cost: sample_body(own[cost]) for cost in ALL_COSTS}
            for letter, own in zip(letters, each.costs, strict=True)
        },
        "costs_at_least": {
            letter: {cost: sample_body(own[cost]) for cost in LEAST_OF}
            for letter, own in zip(letters, each.least, strict=True)
        },
        "emissions_g": dict(zip(letters, map(sample_body, each.carbon), strict=True)),
        "ratio_to": letters[0],
        "ratios": {
            ratio.letter: {
                "pairs": ratio.pairs,
                "joules_not_compared": ratio.why_not or None,
                **{cost: sample_body(sample) for cost, sample in ratio.ratios.items()},
            }
            for ratio in each.against
        },
    }
