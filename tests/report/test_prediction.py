"""Residuals in the report: what is stored is what is shown."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fimi.record.prediction import residuals
from fimi.record.reader import read_run
from fimi.record.record import RunData
from fimi.record.store import RunStore
from fimi.record.summary import summarise
from fimi.report import prediction
from fimi.report.figures import pictures
from fimi.report.page import render
from fimi.report.terminal import as_text

NAMES = ("device-0", "device-1")


@pytest.fixture
def stored(tmp_path: Path, build: Any) -> RunData:
    """Two devices and two rounds; boards were fitted again after the first."""
    return read_run(write(tmp_path / "run", build))


def write(folder: Path, build: Any) -> Path:
    about = read_about(build, folder.parent / "other")
    store: RunStore = build.write(folder, rounds=(), close=False)
    for number in (1, 2):
        entries = [build.device_round(name) for name in NAMES]
        result = build.round_result(number, entries, 0.5)
        found = [
            each
            for entry in entries
            for each in residuals(
                number,
                entry,
                about.device_plans[entry.device].point,
                about.profiles[entry.device].board,
            )
        ]
        store.write_round(result, found)
    boards = {name: about.profiles[name].board for name in NAMES}
    store.write_refit(1, boards, {"device-1": 12.0})
    store.close()
    return folder


def read_about(build: Any, folder: Path) -> RunData:
    build.write(folder)
    return read_run(folder)


def test_what_was_stored_is_read(stored: RunData) -> None:
    assert len(stored.residuals) == 2 * 2 * 4  # rounds × devices × phases
    assert stored.refits == (1,)
    compute = [r for r in stored.residuals if r.phase == "compute"]
    assert {(r.predicted_j, r.measured_j) for r in compute} == {(22.0, 20.0)}
    assert all(r.parts.sum_j == pytest.approx(2.0) for r in compute)


def test_the_residual_plot_is_the_first_picture_of_its_section(stored: RunData) -> None:
    page = render(stored)
    assert next(iter(pictures(stored, summarise(stored)))) == "residuals"
    names = ("residuals", "measured-predicted", "causes")
    places = [page.index(f'id="{name}"') for name in names]
    assert places == sorted(places)


def test_errors_and_the_refit_are_drawn(stored: RunData) -> None:
    drawn = prediction.residual_plot(stored)
    assert drawn is not None
    points = drawn.figure.data[0]
    assert list(points.y) == pytest.approx([100 * 2 / 28.5] * 4)
    assert [shape.x0 for shape in drawn.figure.layout.shapes] == [1.5, 1.5]


def test_causes_of_a_device_add_up_to_its_bias(stored: RunData) -> None:
    drawn = prediction.cause_plot(summarise(stored))
    assert drawn is not None
    bars = [trace for trace in drawn.figure.data if trace.type == "bar"]
    total = sum(bar.x[0] for bar in bars)
    assert total == pytest.approx(100 * 2 / 28.5, abs=0.2)


def test_words_and_tables(stored: RunData) -> None:
    said = prediction.words(stored, summarise(stored))
    assert "mean absolute error 7.0 %" in said
    assert "fitted again after round 1: 7.0 % before, 7.0 % after" in said
    errors = {point.number: point.error_percent for point in summarise(stored).points}
    assert errors == pytest.approx({1: 100 * 2 / 28.5, 2: 100 * 2 / 28.5})
    table = prediction.prediction_table(summarise(stored))
    assert table is not None
    assert "device-1" in str(table)
    assert "−0.0" not in str(table)


def test_the_terminal_says_it_too(tmp_path: Path, build: Any) -> None:
    assert "prediction" in as_text(write(tmp_path / "run", build), "utf-8")


def test_a_store_of_before_there_were_residuals(tmp_path: Path, build: Any) -> None:
    build.write(tmp_path / "old")
    with sqlite3.connect(tmp_path / "old" / "run.sqlite") as db:
        db.execute("DROP TABLE residual")
        db.execute("DROP TABLE refit")
    run = read_run(tmp_path / "old")
    assert (run.residuals, run.refits) == ((), ())
    assert prediction.words(run, summarise(run)) == ""
    assert prediction.residual_plot(run) is prediction.cause_plot(summarise(run)) is None
    assert 'id="residuals"' not in render(run)


def test_where_no_phase_is_resolved_the_terminal_says_why_nothing_is_compared(
    tmp_path: Path, build: Any
) -> None:
    def unresolved(entry: Any) -> Any:
        phases = tuple(replace(record, resolved=False) for record in entry.phases)
        return replace(entry, phases=phases)

    rounds = [build.round_result(1, [unresolved(build.device_round("device-0"))], 0.5)]
    build.write(tmp_path / "run", names=("device-0",), rounds=rounds)
    text = " ".join(as_text(tmp_path / "run").split())
    assert "no meter resolves a single phase" in text
