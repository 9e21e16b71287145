"""What a run has lost, and runs that are set aside."""

from __future__ import annotations

from pathlib import Path

import pytest
from stored import store

from fimi.record.reader import read_info
from fimi.testbed.experiment.live.loss import LostRuns, lost, refusals

OK = "accepted"


def test_missing_absent_and_never_seen_are_lost_and_late_is_not(tmp_path: Path) -> None:
    rounds = [
        {"a": OK, "b": "missing"},
        {"a": OK, "b": "absent"},
        {"a": "late", "b": OK},
        {"a": "resting", "b": "refused"},
    ]
    store(tmp_path / "run", rounds)
    found = lost(tmp_path / "run", ("a", "b"))
    assert found.rounds == {"b": (1, 2)}
    assert found.share == 2 / 8
    assert str(found) == "b in rounds 1–2"
    found = lost(tmp_path / "run", ("a", "b", "never"))
    assert found.rounds == {"b": (1, 2), "never": (1, 2, 3, 4)}
    assert found.share == pytest.approx(6 / 12)


def test_a_run_without_rounds_has_lost_nothing(tmp_path: Path) -> None:
    store(tmp_path / "run", [])
    assert lost(tmp_path / "run", ("a",)).share == 0.0


def test_who_refuses_says_why(tmp_path: Path) -> None:
    assert refusals(tmp_path / "absent") == {}
    store(tmp_path / "run", [], status="running", refused={"a": "", "b": "no \x1b[2Jimages"})
    assert refusals(tmp_path / "run") == {"b": "no \ufffd[2Jimages"}


class TestLostRuns:
    def test_nothing_is_deleted(self, tmp_path: Path) -> None:
        run, aside = tmp_path / "runs" / "fimi-seed1", LostRuns(tmp_path / "lost")
        for count in (1, 2, 3):
            store(run, [{"a": OK}] * count)
            assert aside.set_aside(run) == tmp_path / "lost" / f"fimi-seed1.{count}"
            assert not run.exists()
        assert [read_info(path)[1] for path in aside.of("fimi-seed1")] == [1, 2, 3]
        assert aside.of("fimi-seed") == []

    def test_a_folder_without_a_store_is_no_run(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        assert LostRuns(tmp_path / "lost").set_aside(tmp_path / "run") is None
        assert not (tmp_path / "run").exists()

    def test_the_attempt_that_lost_least_counts(self, tmp_path: Path) -> None:
        run, aside = tmp_path / "runs" / "r", LostRuns(tmp_path / "lost")
        attempts = (
            ([{"a": "missing"}] * 2, "completed"),
            ([{"a": OK}, {"a": "missing"}], "completed"),
            ([{"a": OK}] * 2, "failed"),  # whole, but not to its end
        )
        for rounds, status in attempts:
            store(run, rounds, status=status)
            aside.set_aside(run)
        store(run, [{"a": "absent"}] * 2)
        assert aside.best(run, ("a",)).share == 0.5
        assert lost(run, ("a",)).share == 0.5
        assert [lost(path, ("a",)).share for path in aside.of("r")] == [1.0, 1.0, 0.0]
        assert aside.best(run, ("a",)).share == 0.5
