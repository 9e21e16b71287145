"""A run whose learning curve is measured first: a whole dry run, its curve with few steps."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from told import Told

from fimi.coordinator import curves
from fimi.coordinator.outcome import Federation
from fimi.record.reader import read_run
from fimi.report.page import write_report
from fimi.report.terminal import as_text
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.processes.dry_run import dry_run
from fimi.testbed.processes.windows import Windows
from fimi.testbed.resuming import describe
from fimi.testbed.run_folder import RunFolder
from fimi.testbed.tools.check import curve_words, plan_words


class Said(Told):
    def about_the_curve(self) -> list[str]:
        return [line for line in self.said if line.startswith("learning curve: ")]


def scenario(folder: Path, name: str, **changes: object) -> Scenario:
    settings = {
        "run.directory": str(folder),
        "run.name": name,
        "fleet.devices": 2,
        "rounds.count": 1,
        "training.learning_rate": 0.3,
        "plan.error_max": 0.95,
        "deployment.export": False,
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    return configuration.load(None, {key: (v, "test") for key, v in settings.items()})


def ran(asked: Scenario, terminal: Said, cancel: threading.Event | None = None) -> Federation:
    folder = RunFolder(asked.config, describe(asked, "dry-run", "instance"))
    try:
        view = Windows(folder, terminal, "a test", None)
        return dry_run(asked, folder, view=view, cancel=cancel or threading.Event())
    finally:
        folder.close()


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "STEPS", 60)
    monkeypatch.setattr(curves, "DRAWS", 1)


def test_it_is_measured_stored_shown_and_found_again(tmp_path: Path) -> None:
    first, second = Said(), Said()
    asked = scenario(tmp_path, "a")
    assert "measured on the public part when the run starts" in curve_words(asked)
    usual = scenario(tmp_path, "b", training__learning_rate=0.2, plan__curve="fit")
    assert curve_words(usual).startswith("that of small-cnn on digits is measured on the public")
    assert plan_words(asked).startswith("not tried")
    assert ran(asked, first).status == "completed"
    assert first.about_the_curve()[0].startswith("learning curve: 7 trainings of small-cnn")
    known = read_run(tmp_path / "a").info.curve
    assert known is not None and known.subject == asked.subject
    assert (known.source, known.trainings) == ("fitted", 7)
    assert known.provenance in first.about_the_curve()[1]
    assert read_run(tmp_path / "a").info.stages_wall_s["curve"] > 0
    assert f"curve {known.law}" in " ".join(as_text(tmp_path / "a").split())
    page = write_report(tmp_path / "a").read_text(encoding="utf-8")
    assert "7 trainings of about 60 steps on 20 to 240 of 575 public images" in page
    assert ran(scenario(tmp_path, "b"), second).status == "completed"
    assert "trainings of small-cnn on up to" not in " ".join(second.said)
    assert read_run(tmp_path / "b").info.curve == known
    assert known.provenance in curve_words(scenario(tmp_path, "c"))
    assert plan_words(scenario(tmp_path, "c")).startswith("there is one for the 2 emulated boards")


def test_whoever_stops_meanwhile_has_no_run(tmp_path: Path) -> None:
    cancel = threading.Event()
    view = Said()
    view.say = lambda text: cancel.set() if "trainings of" in text else None  # type: ignore[method-assign]
    federation = ran(scenario(tmp_path, "a"), view, cancel)
    assert (federation.status, federation.plan) == ("interrupted", None)
    assert "while the learning curve was measured" in federation.reason
    assert [path.name for path in tmp_path.iterdir()] == ["curves"]


def test_who_plans_no_data_measures_none(tmp_path: Path) -> None:
    view = Said()
    assert ran(scenario(tmp_path, "a", run__strategy="tfl"), view).status == "completed"
    assert not view.about_the_curve()
    assert read_run(tmp_path / "a").info.curve is None
    assert not (tmp_path / "curves").exists()
