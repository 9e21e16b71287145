"""An experiment on a dashboard: progress and results so far, from its stores."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from msgspec.structs import replace
from stored_cells import better_with, store

from fimi.monitor.server.hooks import MetricHooks
from fimi.report.comparison.tables import all_tables
from fimi.testbed.experiment import run, windows
from fimi.testbed.experiment.definition import Experiment
from fimi.testbed.experiment.file import read_experiment
from fimi.testbed.experiment.progress import ExperimentPlainView
from fimi.testbed.experiment.windows import ExperimentWindows


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    path = tmp_path / "e.toml"
    path.write_text('strategies = ["tfl", "fimi"]\nseeds = [0, 1]\n')
    return replace(read_experiment(path), directory=tmp_path)


def test_what_is_shown_is_what_the_stores_hold(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "_AGAIN_S", 0.0)
    work = run.plan(experiment)
    tasks, stream = run.tasks(work), io.StringIO()
    terminal = ExperimentPlainView(stream, len(tasks))
    with ExperimentWindows(experiment, len(tasks), terminal, None) as seen:
        before = seen.snapshot()
        assert before.study is not None and (before.study.done, before.study.runs) == (0, 4)
        for number, (task, cell) in enumerate(zip(tasks, work.having("absent"), strict=True)):
            seen.tick([(task, 3.0)], 40.0)
            store(cell, accuracy=better_with(0.2, cell))
            seen.finished(task, 3.0, "" if number else "its run is absent")
        now = seen.snapshot()
        assert now.study is not None
        assert (now.study.done, list(now.study.failed)) == (4, [tasks[0].name])
        expected = all_tables(run.so_far(experiment))
        assert [each.rows for each in now.study.tables] == [each.rows for each in expected]
        assert any("fimi" in row for each in now.study.tables for row in each.rows)
        assert [each.problem for each in now.said.values()] == [True, False, False, False]
    assert seen.snapshot().run.state == "completed"
    assert "FAILED: its run is absent" in stream.getvalue()
    assert not (experiment.folder / "table.html").exists()  # looking writes nothing


def test_no_note_contradicts_what_runs_and_there_are_no_tables_without_results(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "_AGAIN_S", 0.0)
    work = run.plan(experiment)
    (first, second, *_), cells = run.tasks(work), work.having("absent")
    (experiment.folder / "logs").mkdir(parents=True)
    log = experiment.folder / "logs" / f"{first.name}.log"
    log.write_text("round 1/5: accuracy 10.0%\n")  # of an earlier start
    with ExperimentWindows(experiment, 4, ExperimentPlainView(io.StringIO(), 4), None) as seen:

        def notes(of: str) -> list[str]:
            study = seen.snapshot().study
            assert study is not None
            return [each for each in study.notes if each.startswith(f"{of}: ")]

        (one,) = notes(first.name)
        assert "not finished" in one and "round 1/5" in one
        study = seen.snapshot().study
        assert study is not None and study.tables == ()
        assert study.notes[0] == "no run has ended with results yet"
        seen.started(first)
        assert notes(first.name) == [] and len(notes(second.name)) == 1
        store(cells[0], accuracy=better_with(0.2, cells[0]))
        seen.finished(first, 3.0, "")
        assert notes(first.name) == [] and len(notes(second.name)) == 1
        study = seen.snapshot().study
        assert study is not None and study.tables
        assert "no run has ended with results yet" not in study.notes
        monkeypatch.setattr(windows, "_AGAIN_S", 1e9)  # not read again meanwhile
        seen.started(second)
        seen.finished(second, 3.0, "its run is absent")
        assert notes(second.name) == []


def test_runs_that_cannot_be_compared_are_said_and_end_nothing(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = run.plan(experiment)
    (cell, *_) = work.having("absent")
    cell.folder.mkdir(parents=True)
    (cell.folder / "run.sqlite").write_bytes(b"no store")
    with ExperimentWindows(experiment, 4, ExperimentPlainView(io.StringIO(), 4), None) as seen:
        assert seen.snapshot().study is not None
        body, media = MetricHooks(seen.snapshot).metrics("")
    assert media.startswith("text/plain")
    assert "fimi_experiment_runs_planned 4.0\n" in body.decode()
