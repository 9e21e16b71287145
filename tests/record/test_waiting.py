"""Waiting for a pull: board energy, and neither upload, busy time nor the paper's energy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from stored_runs import device_plan, profile

from fimi.record.prediction import residuals
from fimi.record.reader import open_store, read_run
from fimi.record.summary import Summary, summarise
from fimi.record.sums import Gap

WAITED_S, WAITED_J, IDLE_W = 1.5, 3.6, 2.0


def waiting(build: Any, **changes: Any) -> Any:
    """The usual round, in which the device waited before it uploaded and idled as much less."""
    whole = build.device_round("a")
    download, compute, upload, idle = whole.phases
    left = replace(idle, duration_s=0.5, energy=replace(idle.energy, value_j=1.0))
    phases = (download, compute, build.record("waiting", WAITED_S, WAITED_J), upload, left)
    return replace(whole, **{"phases": phases, **changes})


def summary(folder: Path, build: Any, *entries: Any) -> Summary:
    build.write(folder, names="a", rounds=[build.round_result(1, entries, 0.5)])
    return summarise(read_run(folder))


def test_it_counts_in_board_energy_only(tmp_path: Path, build: Any) -> None:
    found = summary(tmp_path, build, waiting(build))
    board_j = 0.6 + build.measured_j - 4.0 + 1.0 + WAITED_J
    assert found.energy.value_j == pytest.approx(board_j)
    assert found.dynamic.value_j == pytest.approx(build.dynamic_j)
    assert found.idle_power_w == {"a": IDLE_W}
    assert found.devices[0].busy_s == 5.5
    cells = {cell.phase: cell for cell in found.cells}
    assert cells["waiting"].energy.value_j == pytest.approx(WAITED_J)
    assert (cells["waiting"].measured_s, cells["waiting"].predicted_s) == (WAITED_S, 0.0)
    assert list(cells) == [
        "synthetic-download",
        "model-download",
        "compute",
        "waiting",
        "upload",
        "idle",
    ]


def test_all_of_a_round_stands_against_the_prediction_of_all_of_it(
    tmp_path: Path, build: Any
) -> None:
    found = summary(tmp_path, build, waiting(build))
    assert found.compared.missing == ()
    assert found.compared.whole_predicted_j == pytest.approx(0.5 + build.predicted_j)
    error = 100 * (build.predicted_j / (build.measured_j - 3.0 + WAITED_J) - 1)
    assert found.mape_percent == pytest.approx(error)
    with open_store(tmp_path) as (_, db):
        (row,) = db.execute("SELECT energy_j, predicted_board_j FROM rounds").fetchall()
    assert row == (
        pytest.approx(build.measured_j - 3.0 + WAITED_J),
        pytest.approx(build.predicted_j),
    )


def test_waiting_of_a_device_without_any_prediction_has_none(tmp_path: Path, build: Any) -> None:
    found = summary(tmp_path, build, waiting(build, predicted=()))
    assert Gap(device="a", round=1, phase="waiting") in found.compared.missing
    assert found.compared.measured is not None
    assert found.compared.measured.value_j == pytest.approx(0.6)


def test_who_waited_to_the_end_of_the_round_has_not_idled(tmp_path: Path, build: Any) -> None:
    entry = waiting(build)
    long = replace(entry.phases[2], duration_s=2.0)
    entry = replace(entry, phases=(*entry.phases[:2], long, entry.phases[3]))
    found = summary(tmp_path, build, entry)
    assert found.energy.missing == ()
    with open_store(tmp_path) as (_, db):
        assert db.execute("SELECT unmetered FROM rounds").fetchone() == (0,)
    short = replace(entry, phases=(*entry.phases[:2], *waiting(build).phases[2:4]))
    assert summary(tmp_path / "b", build, short).energy.missing == (
        Gap(device="a", round=1, phase="idle"),
    )


def test_residuals_compare_standing_still_with_standing_still(build: Any) -> None:
    board, point = profile("a").board, device_plan("a", 0).point
    found = residuals(1, waiting(build), point, board)
    assert [each.phase for each in found] == ["model-download", "compute", "upload", "idle"]
    idle = found[-1]
    assert (idle.measured_s, idle.measured_j) == (0.5 + WAITED_S, pytest.approx(1.0 + WAITED_J))
    assert math.isclose(idle.parts.sum_j, idle.predicted_j - idle.measured_j)
    without = residuals(1, build.device_round("a"), point, board)
    assert [each.phase for each in without] == [each.phase for each in found]
