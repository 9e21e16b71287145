"""Runs of boards, stored by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fimi.learning.training.trainer import Evaluation
from fimi.record.record import Enrolment, RunInfo
from fimi.record.results import DeviceRound, DeviceStatus, RoundResult
from fimi.record.store import RunStore

JUDGED = Evaluation(accuracy=0.5, loss=1.0, class_accuracy=(), samples=4)


def store(
    folder: Path,
    rounds: Sequence[dict[str, DeviceStatus]],
    *,
    status: str = "completed",
    refused: dict[str, str] | None = None,
) -> None:
    """A run with these boards' rows in each round."""
    folder.mkdir(parents=True)
    made = RunStore(folder / "run.sqlite")
    made.describe(RunInfo(run=folder.name, status=status))  # type: ignore[arg-type]
    for number, rows in enumerate(rounds, 1):
        devices = tuple(
            DeviceRound(device=name, status=what, busy_s=2.0 if what == "late" else None)
            for name, what in rows.items()
        )
        made.write_round(
            RoundResult(number=number, start_s=0, duration_s=1, evaluation=JUDGED, devices=devices)
        )
    made.write_enrolments(
        [
            Enrolment(device=device, device_index=0, since_round=None, why_not=why)
            for device, why in (refused or {}).items()
        ]
    )
    made.close()
