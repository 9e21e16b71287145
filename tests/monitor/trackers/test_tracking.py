"""A tracker that fails is dropped with one warning; figures carry kind and unit."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fimi.monitor.trackers import figures, tracking
from fimi.monitor.trackers.mlflow_sink import MlflowTracker
from fimi.monitor.trackers.tracker import Figures, Tracked
from fimi.record.events import Credited, Prepared, RoundFinished
from fimi.record.summary import summarise


class Notebook:
    """A tracker that keeps what it is told; raises where it should."""

    name, extra, place = "Notebook", "notebook", "here"

    def __init__(self, fails: str = "", problem: Exception | None = None, has: int = 0) -> None:
        self.has = has
        self.fails = fails
        self.problem = problem or OSError("the disk is full")
        self.calls: list[str] = []
        self.rounds: dict[int, dict[str, float]] = {}
        self.last: dict[str, float] = {}
        self.files: list[str] = []
        self.run: Tracked | None = None

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.fails:
            raise self.problem

    def begin(self, run: Tracked) -> int:
        self.run = run
        self._call("begin")
        return self.has

    def round(self, number: int, figures: Figures) -> None:
        self._call("round")
        assert number not in self.rounds
        self.rounds[number] = dict(figures)

    def end(self, status: str, figures: Figures, files: Sequence[Path]) -> None:
        self._call("end")
        self.last, self.files = dict(figures), [file.name for file in files]


def test_rounds_are_told_in_order_and_the_figures_are_those_of_the_record(stored: Any) -> None:
    notebook = Notebook()
    assert stored.tell([notebook]) == []
    assert notebook.calls == ["begin", "round", "round", "round", "end"]
    assert notebook.files == ["report.html"]
    assert notebook.rounds == {p.number: figures.of_round(p) for p in stored.summary.points}
    assert notebook.last == figures.of_run(stored.summary)
    assert notebook.run is not None and notebook.run.about["version/torch"] == "2.6"


@pytest.mark.parametrize("where", ["begin", "round", "end"])
def test_a_tracker_that_fails_is_named_once_and_the_others_are_told_all(
    stored: Any, where: str
) -> None:
    bad, good = Notebook(where), Notebook()
    (said,) = stored.tell([bad, good])
    assert "Notebook is not told of this run any more: OSError: the disk is full" in said
    assert "trackers.notebook, here" in said
    assert bad.calls[-1] == where and bad.calls.count(where) == 1
    assert good.calls == ["begin", "round", "round", "round", "end"]


def test_a_tool_that_is_not_installed_is_named_with_its_extra(stored: Any) -> None:
    (said,) = stored.tell([Notebook("begin", ModuleNotFoundError("No module named 'notebook'"))])
    assert "No module named 'notebook'; pip install 'fimi-testbed[notebook]'" in said
    assert "leave trackers.notebook out" in said


def test_a_real_tracker_that_cannot_write_is_dropped(stored: Any, tmp_path: Path) -> None:
    pytest.importorskip(
        "mlflow", reason="MLflow is not installed: pip install fimi-testbed[mlflow]"
    )
    (tmp_path / "file").write_text("no folder")
    (said,) = stored.tell([MlflowTracker(f"sqlite:///{tmp_path}/file/mlflow.db", "desk")])
    assert "MLflow is not told of this run any more" in said


def test_a_tracker_that_does_not_come_back_holds_up_the_end_and_not_the_rounds(
    stored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE_S", 0.2)
    free = threading.Event()
    slow = Notebook()
    slow.round = lambda number, figures: free.wait(20) and None  # type: ignore[method-assign]
    try:
        (said,) = stored.tell([slow])
    finally:
        free.set()
    assert "have not finished within 0.2 s" in said and "Notebook" in said


@pytest.mark.parametrize("has", [0, 1, 2])
def test_each_tracker_gets_the_stored_rounds_that_it_has_not(stored: Any, has: int) -> None:
    behind, level = Notebook(has=has), Notebook(has=2)
    before = replace(stored.run, rounds=stored.run.rounds[:2])
    assert stored.tell([behind, level], before=before) == []
    told = {p.number: figures.of_round(p) for p in stored.summary.points}
    assert behind.rounds == {number: told[number] for number in told if number > has}
    assert level.rounds == {3: told[3]}


def test_a_run_without_further_rounds_tells_what_is_behind(stored: Any) -> None:
    behind = Notebook(has=1)
    assert stored.tell([behind], before=stored.run) == []
    assert [*behind.rounds] == [2, 3] and behind.calls[-1] == "end"


def test_figures_that_cannot_be_made_are_named_once_and_told_with_a_later_round(
    stored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, tried = tracking.points, []

    def fails_twice(run: Any, *others: Any) -> Any:
        tried.append(len(run.rounds))
        if len(tried) <= 2:
            raise RuntimeError("no such part")
        return whole(run, *others)

    monkeypatch.setattr(tracking, "points", fails_twice)
    monkeypatch.setattr(tracking, "REST", 0.0)
    notebook, said = Notebook(), []
    with tracking.Tracking([notebook], stored.run.info, warn=said.append) as told:
        for preparation in stored.run.preparations:
            told(Prepared(preparation=preparation))
        for count, result in enumerate(stored.run.rounds, 1):
            told(RoundFinished(result=result))
            limit_s = time.monotonic() + 20.0
            while len(tried) < count and time.monotonic() < limit_s:
                time.sleep(0.005)
    assert tried == [1, 2, 3]
    (one,) = said
    assert "RuntimeError: no such part" in one and "round 1" in one
    assert notebook.rounds == {p.number: figures.of_round(p) for p in stored.summary.points}
    assert notebook.calls[-1] == "end"


@pytest.mark.parametrize("mends", [True, False])
def test_figures_of_the_last_round_are_tried_at_the_end_and_what_lacks_is_named(
    stored: Any, monkeypatch: pytest.MonkeyPatch, mends: bool
) -> None:
    whole, tried = tracking.points, threading.Event()

    def fails(run: Any, *others: Any) -> Any:
        if mends and tried.is_set():
            return whole(run, *others)
        tried.set()
        raise RuntimeError("no such part")

    monkeypatch.setattr(tracking, "points", fails)
    notebook, said = Notebook(has=1), []
    before = replace(stored.run, rounds=stored.run.rounds[:1])
    with tracking.Tracking([notebook], stored.run.info, before=before, warn=said.append) as told:
        for result in stored.run.rounds[1:]:
            told(RoundFinished(result=result))
        assert tried.wait(20.0)
    assert "tried again after the next round, and when the run ends" in said[0]
    assert [*notebook.rounds] == ([2, 3] if mends else [])
    assert [*said[1:]] == (
        []
        if mends
        else [
            "trackers are not told of rounds 2–3, as their figures cannot be made: RuntimeError: "
            "no such part; the run's own record has them"
        ]
    )
    assert notebook.calls[-1] == "end"


def test_a_sum_with_a_missing_part_has_another_name(stored: Any) -> None:
    whole = stored.run.rounds[1]
    first, *others = whole.devices
    unread = tuple(
        replace(phase, energy=None) if phase.phase == "compute" else phase for phase in first.phases
    )
    broken = replace(whole, devices=(replace(first, phases=unread), *others))
    rounds = (stored.run.rounds[0], broken, stored.run.rounds[2])
    summary = summarise(replace(stored.run, rounds=rounds))
    one, two, three = (figures.of_round(point) for point in summary.points)
    assert "board_energy_j/mixed/wall" in one and "board_energy_j/mixed/wall" in three
    assert not any(name.startswith("board_energy_j") for name in two)
    known = summary.points[1].energy.known
    assert known is not None
    assert two["board_energy_known_j/mixed/wall"] == known.value_j
    assert "board_energy_so_far_known_j/mixed/wall" in three
    assert not any(name.startswith("board_energy_so_far_j") for name in three)


def test_no_metered_joule_is_without_its_kind_and_scope(stored: Any) -> None:
    names = {name for p in stored.summary.points for name in figures.of_round(p)}
    names |= set(figures.of_run(stored.summary))
    joules = {name for name in names if "_j/" in name or name.endswith("_j")}
    assert len(joules) > 8
    for name in joules:
        kind = r"_j/(measured|modelled|emulated|mixed)/(cpu|gpu|module|board|wall)$"
        assert re.search(kind, name) or name.endswith("_predicted_j"), name


def test_what_comes_late_or_twice_is_in_the_sums_that_follow(stored: Any) -> None:
    rounds, preparations = stored.run.rounds, stored.run.preparations
    entry = rounds[0].devices[0]
    silent = replace(entry, phases=(), busy_s=None, status="missing")
    first = replace(rounds[0], devices=(silent, *rounds[0].devices[1:]))
    notebook = Notebook()
    with tracking.Tracking([notebook], stored.run.info) as told:
        for preparation in (*preparations, *preparations):
            told(Prepared(preparation=preparation))
        told(RoundFinished(result=first))
        told(Credited(round=1, device=entry.device, entry=entry))
        for result in rounds[1:]:
            told(RoundFinished(result=result))
    points = {p.number: figures.of_round(p) for p in stored.summary.points}
    assert notebook.rounds[3] == points[3]
