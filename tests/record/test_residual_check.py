"""Differences of predicted and metered joules, computed once more: each forgery is named."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from metered_runs import ROUNDS, write_metered_run

from fimi.record.reader import open_store, read_run
from fimi.record.recount import Recount, recount
from fimi.record.residual_check import ResidualCheck, check_residuals

HERE = "WHERE device = 'pi-chip' AND round = 2 AND phase = 'compute'"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_metered_run(tmp_path_factory.mktemp("compared") / "run", ["pi-chip", "pi-counter"])


@pytest.fixture(scope="module")
def phases(stored: Path) -> Recount:
    return recount(stored)


@pytest.fixture
def copy(stored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stored, tmp_path / "copy"))


def checked(folder: Path, phases: Recount) -> ResidualCheck:
    with open_store(folder) as (_, db):
        return check_residuals(db, read_run(folder), phases)


def execute(folder: Path, sql: str) -> None:
    with closing(sqlite3.connect(folder / "run.sqlite")) as db, db:
        assert db.execute(sql).rowcount > 0


def test_all_of_them_hold(stored: Path, phases: Recount) -> None:
    found = checked(stored, phases)
    assert found.count == len(read_run(stored).residuals) >= 2 * ROUNDS
    assert (found.wrong, found.unchecked) == ((), 0)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("measured_j = measured_j / 2", "measured "),
        ("measured_j = predicted_j, cycles_j = 0, power_j = 0", "measured "),
        ("predicted_j = measured_j", "its prediction says 22 J"),
        ("predicted_s = 4.5", "its prediction says 4 s"),
        ("measured_s = measured_s * 1.01", " s, its phases have "),
        ("cycles_j = power_j, power_j = cycles_j", "follows from no plan and no fit"),
        ("phase = 'waiting'", "nothing was predicted of it"),
        ("device = 'pi-other'", "the device did not take part in the round"),
    ],
)
def test_one_that_was_changed(copy: Path, phases: Recount, sql: str, said: str) -> None:
    execute(copy, f"UPDATE residual SET {sql} {HERE}")
    wrong = checked(copy, phases).wrong
    assert any(said in each for each in wrong), wrong
    assert all(", round 2" in each for each in wrong)


def test_one_that_is_left_out(copy: Path, phases: Recount) -> None:
    execute(copy, f"DELETE FROM residual {HERE}")
    assert checked(copy, phases).wrong == (
        "pi-chip, round 2: compute was predicted and metered, and is left out",
    )


def test_a_device_that_is_left_out_of_a_round_is_told(
    copy: Path, stored: Path, phases: Recount
) -> None:
    """Of some no whole round is seen: nobody can tell one from the other."""
    execute(copy, "DELETE FROM residual WHERE device = 'pi-chip' AND round = 2")
    found, before = checked(copy, phases), checked(stored, phases)
    assert found.wrong == ()
    assert found.without == before.without + before.count - found.count


def test_a_fit_of_the_device_explains_it(copy: Path, phases: Recount) -> None:
    """Parts are those by any plan and any fit that the store has."""
    with open_store(copy) as (_, db):
        (body,) = db.execute("SELECT body FROM device_plan WHERE device = 'pi-chip'").fetchone()
    execute(copy, "DELETE FROM device_plan WHERE device = 'pi-chip'")
    assert any("follows from no plan" in each for each in checked(copy, phases).wrong)
    with closing(sqlite3.connect(copy / "run.sqlite")) as db, db:
        db.execute("INSERT INTO device_plan VALUES (7, 'pi-chip', ?)", [body])
    assert checked(copy, phases).wrong == ()
