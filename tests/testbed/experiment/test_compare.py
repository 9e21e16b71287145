"""Comparing runs: targets of each seed's own, pairs, what is missing, and different data."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest
from msgspec.structs import replace

from fimi.testbed.experiment.cells import Cell, cells
from fimi.testbed.experiment.definition import AccuracyTarget, Experiment
from fimi.testbed.experiment.file import read_experiment
from fimi.testbed.experiment.page import render
from fimi.testbed.experiment.result import ComparisonError, ExperimentResult, compare
from fimi.testbed.experiment.series import RunSeries
from fimi.testbed.experiment.tables import as_csv, as_json, as_markdown, as_text, tables


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    path = tmp_path / "e.toml"
    path.write_text('strategies = ["tfl", "fimi"]\nseeds = 2\ntarget = "tfl-best"\n')
    return read_experiment(path)


def run(*accuracy: float, joules: float = 10.0, data: str = "a") -> RunSeries:
    count = len(accuracy)
    return RunSeries(
        accuracy=accuracy,
        board_j=(joules,) * count,
        dynamic_j=(joules / 10,) * count,
        duration_s=(5.0,) * count,
        size_bytes=(1e6,) * count,
        kind="emulated",
        data={"public": "p", "private": "q", "test": "t", "partition": data},
        synthetic_samples=0,
        wall_s=1.0,
    )


RUNS = {
    "tfl-seed0": run(0.2, 0.5, 0.4),
    "tfl-seed1": run(0.3, 0.4, 0.6, data="b"),
    "fimi-seed0": run(0.5, 0.8, 0.9),
    "fimi-seed1": run(0.4, 0.5, 0.55, joules=20.0, data="b"),
}


def result(experiment: Experiment, **changes: RunSeries) -> ExperimentResult:
    return compare(experiment, cells(experiment), {**RUNS, **changes}, {})


class TestTargets:
    def test_each_seed_has_its_own(self, experiment: Experiment) -> None:
        found = result(experiment)
        assert {(r.cell.seed, r.target) for r in found.records} == {(0, 0.5), (1, 0.6)}

    def test_costs_up_to_the_first_round_that_reached_it(self, experiment: Experiment) -> None:
        found = {r.cell.name: r.costs for r in result(experiment).records}
        assert found["tfl-seed0"] == {
            "rounds": 2.0,
            "board_j": 20.0,
            "dynamic_j": 2.0,
            "duration_s": 10.0,
            "size_bytes": 2e6,
        }
        assert found["fimi-seed0"]["board_j"] == 10.0
        assert set(found["fimi-seed1"].values()) == {math.inf}

    def test_a_number_is_the_same_for_all(self, experiment: Experiment) -> None:
        found = result(replace(experiment, target=AccuracyTarget(value=0.45)))
        assert {r.target for r in found.records} == {0.45}


class TestComparison:
    def test_pairs_of_the_same_seed(self, experiment: Experiment) -> None:
        (found,) = result(experiment).comparisons
        assert found.label == "fimi"
        assert found.ratios["board_j"].values == (0.5, math.inf)
        assert found.final.values == (pytest.approx(0.5), pytest.approx(-0.05))

    def test_unmetered_is_unknown_not_free(self, experiment: Experiment) -> None:
        blind = replace(RUNS["fimi-seed0"], board_j=(None, 10.0, 10.0))
        found = result(experiment, **{"fimi-seed0": blind})
        costs = next(r.costs for r in found.records if r.cell.name == "fimi-seed0")
        assert costs["board_j"] is None
        assert costs["rounds"] == 1.0
        assert "(1 unknown)" in as_text(found)

    def test_a_missing_run_is_named_and_counted(self, experiment: Experiment) -> None:
        rest = {name: each for name, each in RUNS.items() if name != "fimi-seed1"}
        found = compare(experiment, cells(experiment), rest, {"fimi-seed1": "the disk was full"})
        assert "fimi-seed1: the disk was full" in as_text(found)
        assert "1 of 2, 1 missing" in as_text(found)

    def test_filling_nothing_is_said(self, experiment: Experiment) -> None:
        (note,) = result(experiment).notes
        assert note.startswith("fimi: devices got no synthetic samples in any run")
        assert "plan.error_max 0.08" in note
        filled = replace(RUNS["fimi-seed0"], synthetic_samples=1)
        assert result(experiment, **{"fimi-seed0": filled}).notes == ()

    def test_samples_that_did_not_come_are_said(self, experiment: Experiment) -> None:
        short = replace(RUNS["fimi-seed0"], synthetic_samples=7, undelivered=3)
        (note,) = result(experiment, **{"fimi-seed0": short}).notes
        assert note.startswith("fimi: 3 synthetic samples that were asked for did not come")

    def test_a_strategy_without_devices_has_no_joules_and_another_clock(
        self, experiment: Experiment
    ) -> None:
        alone = replace(experiment, strategies=("tfl", "aigc-only"))
        blind = replace(RUNS["fimi-seed0"], board_j=(None,) * 3, dynamic_j=(None,) * 3)
        runs = {f"aigc-only-seed{s}": replace(blind, data=RUNS[f"tfl-seed{s}"].data) for s in "01"}
        runs |= {name: each for name, each in RUNS.items() if name.startswith("tfl")}
        found = compare(alone, cells(alone), runs, {})
        assert any("aigc-only: no device takes part" in note for note in found.notes)
        (against,) = [table for table in tables(found) if table.caption.startswith("against")]
        board = [title.startswith("whole board") for title in against.heading].index(True)
        assert [row[board] for row in against.rows] == ["– (2 unknown)"]

    def test_without_the_run_that_decides_it_there_is_no_target(
        self, experiment: Experiment
    ) -> None:
        rest = {name: each for name, each in RUNS.items() if name != "tfl-seed0"}
        found = compare(experiment, cells(experiment), rest, {})
        record = next(r for r in found.records if r.cell.name == "fimi-seed0")
        assert record.target is None
        assert set(record.costs.values()) == {None}

    def test_different_data_are_not_compared(self, experiment: Experiment) -> None:
        with pytest.raises(ComparisonError, match=r"fimi-seed1.*tfl-seed1.*partition"):
            result(experiment, **{"fimi-seed1": run(0.4, data="c")})

    def test_a_run_that_does_not_say_who_held_what_is_not_compared(
        self, experiment: Experiment
    ) -> None:
        with pytest.raises(ComparisonError, match="partition"):
            result(experiment, **{"fimi-seed1": run(0.4, data="")})


class TestShown:
    def test_never_is_said_everywhere_and_never_a_zero(self, experiment: Experiment) -> None:
        found = result(experiment)
        assert "never" in as_text(found)
        assert "1 of 2" in as_text(found)
        rows = list(csv.DictReader(io.StringIO(as_csv(found))))
        row = next(r for r in rows if r["run"] == "fimi-seed1")
        assert row["board_j_to_target"] == "never"
        body = json.loads(as_json(found))
        ours = next(s for s in body["summaries"] if s["strategy"] == "fimi")
        assert ours["to_target"]["board_j"]["values"] == [10.0, "never"]
        assert ours["to_target"]["board_j"]["mean"] is None

    def test_of_what_nobody_reached_one_never_is_enough(self, experiment: Experiment) -> None:
        poor = {name: run(0.1, 0.1, 0.1, data=d) for name, d in (("0", "a"), ("1", "b"))}
        text = as_text(result(experiment, **{f"fimi-seed{seed}": p for seed, p in poor.items()}))
        assert "never" in text
        assert "[never, never]" not in text

    def test_joules_carry_their_kind(self, experiment: Experiment) -> None:
        found = result(experiment)
        for text in (as_text(found), as_markdown(found), render(found), as_csv(found)):
            assert "emulated" in text

    def test_markdown_tables_are_whole(self, experiment: Experiment) -> None:
        lines = [x for x in as_markdown(result(experiment)).splitlines() if x.startswith("|")]
        assert {line.count("|") for line in lines} == {9}

    def test_the_page_loads_nothing_and_obeys_no_name(self, experiment: Experiment) -> None:
        page = render(replace(result(experiment), title="<script>alert(1)</script>"))
        assert "<script>alert(1)" not in page
        assert "default-src 'none'" in page
        assert "joules-0" in page

    def test_a_sweep_is_drawn(self, experiment: Experiment) -> None:
        swept = replace(experiment, grid={"plan.deadline_s": (8.0, 10.0, 20.0)}, seeds=(0,))
        found = cells(swept)
        runs = {cell.name: RUNS[f"{cell.label}-seed0"] for cell in found}
        page = render(compare(swept, found, runs, {}))
        for what in ("joules", "dynamic-joules", "accuracy"):
            assert f'id="sweep-{what}-plan-deadline_s-0"' in page


def test_cells_without_a_run_are_in_the_table(experiment: Experiment) -> None:
    all_cells: list[Cell] = cells(experiment)
    found = compare(experiment, all_cells, {}, {})
    assert len(found.records) == 4
    assert {r.problem for r in found.records} == {"not run yet"}
    assert "2 missing" in as_text(found)
