"""A run in numbers, from its store: what is not known is not nothing."""

from __future__ import annotations

from pathlib import Path

from fimi.learning.training.trainer import Evaluation
from fimi.record.record import RunInfo
from fimi.record.results import RoundResult
from fimi.record.store import RunStore
from fimi.testbed.experiment.series import read_outcome


def test_where_no_device_takes_part_energy_and_bytes_are_unknown(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "run.sqlite")
    store.describe(RunInfo(run="alone", strategy="aigc-only", status="completed"))
    for number, accuracy in ((1, 0.4), (2, 0.7)):
        store.write_round(
            RoundResult(
                number=number,
                start_s=3.0 * (number - 1),
                duration_s=3.0,
                evaluation=Evaluation(
                    accuracy=accuracy, loss=1.0, class_accuracy=(accuracy,), samples=10
                ),
                devices=(),
            )
        )
    store.close()
    found = read_outcome(tmp_path)
    assert found.kind is None
    assert found.cost(0.6) == {
        "rounds": 2.0,
        "board_j": None,
        "dynamic_j": None,
        "duration_s": 6.0,
        "size_bytes": None,
    }
