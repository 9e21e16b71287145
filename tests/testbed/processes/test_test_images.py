"""Test images are for the accuracy that is reported, and decide nothing: a run with all of their
labels wrong plans, trains and asks for images as the same run with right ones."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from told import Told

from fimi.coordinator.federation import Coordinator
from fimi.learning.data.dataset import Dataset
from fimi.record.reader import read_run
from fimi.record.record import RunData
from fimi.testbed.configuration import load as configuration
from fimi.testbed.processes import coordinator
from fimi.testbed.processes.dry_run import dry_run
from fimi.testbed.processes.windows import Windows
from fimi.testbed.resuming import describe
from fimi.testbed.run_folder import RunFolder

SETTINGS = {
    "fleet.devices": 3,
    "rounds.count": 5,
    "rounds.insight_every": 0,
    "deployment.export": False,
    "generator.kind": "bootstrap",
    "generator.gate": False,
    # by this curve local data are enough, so that images are asked for within the run
    "plan.curve_alpha": 2.0,
    "plan.curve_beta": 0.93,
    "plan.curve_delta0": 0.002,
    "plan.error_max": 0.05,
}


def ran(folder: Path, name: str) -> RunData:
    settings = SETTINGS | {"run.directory": str(folder), "run.name": name}
    asked = configuration.load(None, {key: (v, "test") for key, v in settings.items()})
    place = RunFolder(asked.config, describe(asked, "dry-run", "instance"))
    view = Windows(place, Told(), "a test", None)
    try:
        done = dry_run(asked, place, view=view, cancel=threading.Event())
    finally:
        place.close()
    assert done.status == "completed"
    return read_run(folder / name)


def of_learning(run: RunData) -> list[Any]:
    assert run.plan is not None
    return [
        run.info.curve,
        run.learning_refits,
        run.plan.error,
        {device: plan.synthetic_counts for device, plan in run.device_plans.items()},
        [result.validation for result in run.rounds],
        [
            (d.device, d.local_error, d.planned_error, d.synthetic_samples, d.training_loss)
            for result in run.rounds
            for d in result.devices
        ],
    ]


def test_wrong_labels_of_test_images_change_the_reported_accuracy_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = ran(tmp_path, "right")
    assert [refit for refit in right.learning_refits if refit.images], "the run decides something"

    class Poisoned(Coordinator):
        def __init__(self, *given: Any, **named: Any) -> None:
            assert sum(isinstance(each, Dataset) for each in given) == 1
            super().__init__(*map(self.poisoned, given), **named)

        @staticmethod
        def poisoned(each: Any) -> Any:
            if not isinstance(each, Dataset):
                return each
            return replace(each, labels=(np.asarray(each.labels) + 1) % each.classes)

    monkeypatch.setattr(coordinator, "Coordinator", Poisoned)
    wrong = ran(tmp_path, "wrong")
    accuracies = [[r.evaluation.accuracy for r in run.rounds] for run in (right, wrong)]
    assert accuracies[0][-1] > 0.8 and accuracies[1][-1] < 0.2
    assert of_learning(wrong) == of_learning(right)
