"""Runs as a comparison has them, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from fimi.energy.cost_model import Phase, PhaseCost
from fimi.energy.hardware import Observation
from fimi.energy.joules import Energy, Kind
from fimi.energy.ledger import PhaseRecord
from fimi.learning.training.trainer import Evaluation
from fimi.messaging.messages.basis import Goodput
from fimi.record.curve import RoundPoint, points
from fimi.record.phases import run_parts
from fimi.record.record import DatasetInfo, Generation, PlanSummary, RunData, RunInfo
from fimi.record.resolution import DeviceMetering, above_rest, constant
from fimi.record.results import DeviceRound, RoundResult, ServerRound
from fimi.report.comparison.runs import ComparedCell, RunFigures, figures_of

RESTING = {"a": DeviceMetering(resting=constant(9.0, 0.0))}


def rounds(
    accuracy: Sequence[float],
    joules: Sequence[float | None],
    *,
    test: Sequence[float] | None = None,
    server: Energy | None = None,
    generation: Generation | None = None,
) -> tuple[RoundPoint, ...]:
    """Rounds of 5 s and 1 MB; a tenth of the joules is above idle where they are 10.

    The accuracy is that on the validation part, and on the test set unless that is given.
    """
    found = []
    for number, (share, value_j) in enumerate(zip(accuracy, joules, strict=True), 1):
        phases: list[tuple[Phase, float | None]] = [("compute", value_j)]
        device = DeviceRound(
            device="a",
            status="accepted",
            phases=tuple(
                PhaseRecord(
                    phase=phase,
                    start_s=0.0,
                    duration_s=1.0,
                    energy=None
                    if energy_j is None
                    else Energy(value_j=energy_j, kind="emulated", source="s"),
                    sample_count=2,
                    largest_gap_s=0.1,
                )
                for phase, energy_j in phases
            ),
            transfers=(Goodput(phase="upload", size_bytes=1_000_000, duration_s=1.0),),
        )
        found.append(
            RoundResult(
                number=number,
                start_s=5.0 * (number - 1),
                duration_s=5.0,
                evaluation=judged(share if test is None else test[number - 1]),
                validation=judged(share),
                devices=(device,),
                server=server and ServerRound(images=1, seconds=1.0, energy=server, loss=0.1),
            )
        )
    run = RunData(
        path=Path("run"), info=RunInfo(run="r"), rounds=tuple(found), generation=generation
    )
    parts = run_parts(run)
    return points(run, parts, above_rest(parts, RESTING))


Took = tuple[float, float | None, float | None]
"""Seconds, metered J, predicted J of a phase."""


def device_round(
    name: str,
    *,
    kind: Kind = "emulated",
    source: str = "s",
    temperature_c: float | None = None,
    **took: Took,
) -> DeviceRound:
    """A device that computed and idled; half of what is predicted of computing is above idle."""
    return DeviceRound(
        device=name,
        status="accepted",
        phases=tuple(
            PhaseRecord(
                phase=cast("Phase", phase),
                start_s=0.0,
                duration_s=duration_s,
                energy=None
                if value_j is None
                else Energy(value_j=value_j, kind=kind, source=source, uncertainty_j=0.01),
                sample_count=9,
                largest_gap_s=0.1,
            )
            for phase, (duration_s, value_j, _) in took.items()
        ),
        predicted=tuple(
            PhaseCost(
                phase=cast("Phase", phase),
                duration_s=duration_s,
                dynamic_j=predicted_j / 2 if phase == "compute" else 0.0,
                board_j=predicted_j,
            )
            for phase, (duration_s, _, predicted_j) in took.items()
            if predicted_j is not None
        ),
        observed=None if temperature_c is None else Observation(temperature_c=temperature_c),
    )


def planned_run(
    *devices: Sequence[DeviceRound],
    data: str = "a",
    round_s: float | None = 4.0,
    accuracy: Sequence[float] = (0.5, 0.6, 0.7, 0.8),
    **about: Any,
) -> RunFigures:
    """A run with these devices in each round of 5 s, whose plan has ``round_s`` for one."""
    digests = {f"{part}_digest": part for part in ("public", "validation", "private", "test")}
    info = RunInfo(run="r", dataset=DatasetInfo(**digests, partition_digest=data), **about)
    found = tuple(
        RoundResult(
            number=number,
            start_s=5.0 * (number - 1),
            duration_s=5.0,
            evaluation=judged(accuracy[number - 1]),
            validation=judged(accuracy[number - 1]),
            devices=tuple(own),
        )
        for number, own in enumerate(devices, 1)
    )
    plan = None if round_s is None else PlanSummary(objective="board", round_s=round_s)
    return figures_of(RunData(path=Path("run"), info=info, rounds=found, plan=plan))


def judged(accuracy: float) -> Evaluation:
    return Evaluation(accuracy=accuracy, loss=1.0, class_accuracy=(), samples=4)


def run(*accuracy: float, joules: float = 10.0, data: str = "a") -> RunFigures:
    return RunFigures(
        points=rounds(accuracy, [joules] * len(accuracy)),
        kind="emulated",
        data={"public": "p", "private": "q", "test": "t", "partition": data},
        synthetic_samples=0,
        wall_s=1.0,
    )


def cell(
    label: str,
    seed: int,
    figures: RunFigures | str,
    point: dict[str, Any] | None = None,
    **settings: Any,
) -> ComparedCell:
    where = "-".join(f"{value}-" for value in (*(point or {}).values(), *settings.values()))
    return ComparedCell(
        name=f"{where}{label}-seed{seed}",
        folder=f"runs/{where}{label}-seed{seed}",
        label=label,
        seed=seed,
        point=point or {},
        fills_devices=label == "fimi",
        devices_train=label != "aigc-only",
        error_max=0.08,
        settings=settings,
        figures=None if isinstance(figures, str) else figures,
        problem=figures if isinstance(figures, str) else "",
    )
