"""Comparing runs: targets of each seed's own, pairs, what is missing, and different data."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fimi.energy.cost_model import Phase
from fimi.energy.joules import Energy
from fimi.energy.ledger import PhaseRecord
from fimi.learning.training.trainer import Evaluation
from fimi.messaging.messages import Goodput
from fimi.record.curve import RoundPoint, points
from fimi.record.fairness import fairness
from fimi.record.phases import run_parts
from fimi.record.record import PlannedEnergy, PlanSummary, RunData, RunInfo
from fimi.record.resolution import DeviceMetering, above_rest, constant
from fimi.record.results import DeviceRound, RoundResult
from fimi.report.comparison.page import render
from fimi.report.comparison.result import ComparisonError, ExperimentResult, compare
from fimi.report.comparison.runs import AccuracyTarget, ComparedCell, RunFigures
from fimi.report.comparison.tables import as_csv, as_json, as_markdown, as_text, tables

RESTING = {"a": DeviceMetering(resting=constant(9.0, 0.0))}


def rounds(accuracy: Sequence[float], joules: Sequence[float | None]) -> tuple[RoundPoint, ...]:
    """Rounds of 5 s and 1 MB; a tenth of the joules is above idle where they are 10."""
    found = []
    for number, (share, value_j) in enumerate(zip(accuracy, joules, strict=True), 1):
        phases: list[tuple[Phase, float | None]] = [("compute", value_j)]
        device = DeviceRound(
            device="a",
            status="accepted",
            phases=tuple(
                PhaseRecord(
                    phase=phase,
                    start_s=0.0,
                    duration_s=1.0,
                    energy=None
                    if energy_j is None
                    else Energy(value_j=energy_j, kind="emulated", source="s"),
                    sample_count=2,
                    largest_gap_s=0.1,
                )
                for phase, energy_j in phases
            ),
            transfers=(Goodput(phase="upload", size_bytes=1_000_000, duration_s=1.0),),
        )
        found.append(
            RoundResult(
                number=number,
                start_s=5.0 * (number - 1),
                duration_s=5.0,
                evaluation=Evaluation(accuracy=share, loss=1.0, class_accuracy=(), samples=4),
                devices=(device,),
            )
        )
    run = RunData(path=Path("run"), info=RunInfo(run="r"), rounds=tuple(found))
    parts = run_parts(run)
    return points(run, parts, above_rest(parts, RESTING))


def run(*accuracy: float, joules: float = 10.0, data: str = "a") -> RunFigures:
    return RunFigures(
        points=rounds(accuracy, [joules] * len(accuracy)),
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


TARGET = AccuracyTarget(of="tfl", which="best")


def cell(
    label: str, seed: int, figures: RunFigures | str, point: dict[str, Any] | None = None
) -> ComparedCell:
    where = "-".join(f"{value}-" for value in (point or {}).values())
    return ComparedCell(
        name=f"{where}{label}-seed{seed}",
        folder=f"runs/{where}{label}-seed{seed}",
        label=label,
        seed=seed,
        point=point or {},
        fills_devices=label == "fimi",
        devices_train=label != "aigc-only",
        error_max=0.08,
        figures=None if isinstance(figures, str) else figures,
        problem=figures if isinstance(figures, str) else "",
    )


def by_device(accuracies: tuple[float, ...], counts: dict[str, tuple[int, int]]) -> RunFigures:
    """A run of one round, by the accuracies of two classes of which devices hold samples."""
    figures = run(0.5)
    found = fairness(accuracies, counts)
    return replace(figures, points=(replace(figures.points[0], fairness=found),))


def compared(cells: Sequence[ComparedCell], target: AccuracyTarget = TARGET) -> ExperimentResult:
    return compare(cells, name="e", title="", baseline="tfl", target=target, confidence=0.95)


def result(target: AccuracyTarget = TARGET, **changes: RunFigures | str) -> ExperimentResult:
    runs = {**RUNS, **changes}
    return compared(
        [
            cell(label, seed, runs[f"{label}-seed{seed}"])
            for label in ("tfl", "fimi")
            for seed in (0, 1)
        ],
        target,
    )


class TestTargets:
    def test_each_seed_has_its_own(self) -> None:
        found = result()
        assert {(r.cell.seed, r.target) for r in found.records} == {(0, 0.5), (1, 0.6)}

    def test_costs_up_to_the_first_round_that_reached_it(self) -> None:
        found = {r.cell.name: r.costs for r in result().records}
        assert found["tfl-seed0"] == {
            "rounds": 2.0,
            "board_j": 20.0,
            "dynamic_j": 2.0,
            "duration_s": 10.0,
            "size_bytes": 2e6,
        }
        assert found["fimi-seed0"]["board_j"] == 10.0
        assert set(found["fimi-seed1"].values()) == {math.inf}

    def test_a_number_is_the_same_for_all(self) -> None:
        found = result(AccuracyTarget(value=0.45))
        assert {r.target for r in found.records} == {0.45}


class TestComparison:
    def test_pairs_of_the_same_seed(self) -> None:
        (found,) = result().comparisons
        assert found.label == "fimi"
        assert found.ratios["board_j"].values == (0.5, math.inf)
        assert found.final.values == (pytest.approx(0.5), pytest.approx(-0.05))

    def test_unmetered_is_unknown_not_free(self) -> None:
        blind = replace(RUNS["fimi-seed0"], points=rounds((0.5, 0.8, 0.9), (None, 10.0, 10.0)))
        found = result(**{"fimi-seed0": blind})
        costs = next(r.costs for r in found.records if r.cell.name == "fimi-seed0")
        assert costs["board_j"] is None
        assert costs["rounds"] == 1.0
        assert "(1 unknown)" in as_text(found)

    def test_a_missing_run_is_named_and_counted(self) -> None:
        found = result(**{"fimi-seed1": "the disk was full"})
        assert "fimi-seed1: the disk was full" in as_text(found)
        assert "1 of 2, 1 missing" in as_text(found)

    def test_filling_nothing_is_said(self) -> None:
        (note,) = result().notes
        assert note.startswith("fimi: devices got no synthetic samples in any run")
        assert "plan.error_max 0.08" in note
        filled = replace(RUNS["fimi-seed0"], synthetic_samples=1)
        assert result(**{"fimi-seed0": filled}).notes == ()

    def test_samples_that_did_not_come_are_said(self) -> None:
        short = replace(RUNS["fimi-seed0"], synthetic_samples=7, undelivered=3)
        (note,) = result(**{"fimi-seed0": short}).notes
        assert note.startswith("fimi: 3 synthetic samples that were asked for did not come")

    def test_a_strategy_without_devices_has_no_joules_and_another_clock(self) -> None:
        blind = rounds((0.5, 0.8, 0.9), (None,) * 3)
        found = compared(
            [
                cell(label, seed, replace(figures, points=blind) if label != "tfl" else figures)
                for label in ("tfl", "aigc-only")
                for seed in (0, 1)
                for figures in [RUNS[f"tfl-seed{seed}"]]
            ]
        )
        assert any("aigc-only: no device takes part" in note for note in found.notes)
        (against,) = [table for table in tables(found) if table.caption.startswith("against")]
        board = [title.startswith("whole board") for title in against.heading].index(True)
        assert [row[board] for row in against.rows] == ["– (2 unknown)"]

    def test_without_the_run_that_decides_it_there_is_no_target(self) -> None:
        found = result(**{"tfl-seed0": "not run yet"})
        record = next(r for r in found.records if r.cell.name == "fimi-seed0")
        assert record.target is None
        assert set(record.costs.values()) == {None}

    def test_different_data_are_not_compared(self) -> None:
        with pytest.raises(ComparisonError, match=r"fimi-seed1.*tfl-seed1.*partition"):
            result(**{"fimi-seed1": run(0.4, data="c")})

    def test_a_run_that_does_not_say_who_held_what_is_not_compared(self) -> None:
        with pytest.raises(ComparisonError, match="partition"):
            result(**{"fimi-seed1": run(0.4, data="")})


class TestShown:
    def test_never_is_said_everywhere_and_never_a_zero(self) -> None:
        found = result()
        assert "never" in as_text(found)
        assert "1 of 2" in as_text(found)
        rows = list(csv.DictReader(io.StringIO(as_csv(found))))
        row = next(r for r in rows if r["run"] == "fimi-seed1")
        assert row["board_j_to_target"] == "never"
        body = json.loads(as_json(found))
        ours = next(s for s in body["summaries"] if s["strategy"] == "fimi")
        assert ours["to_target"]["board_j"]["values"] == [10.0, "never"]
        assert ours["to_target"]["board_j"]["mean"] is None

    def test_of_what_nobody_reached_one_never_is_enough(self) -> None:
        poor = {name: run(0.1, 0.1, 0.1, data=d) for name, d in (("0", "a"), ("1", "b"))}
        text = as_text(result(**{f"fimi-seed{seed}": p for seed, p in poor.items()}))
        assert "never" in text
        assert "[never, never]" not in text

    def test_joules_carry_their_kind(self) -> None:
        found = result()
        for text in (as_text(found), as_markdown(found), render(found), as_csv(found)):
            assert "emulated" in text

    def test_markdown_tables_are_whole(self) -> None:
        lines = [x for x in as_markdown(result()).splitlines() if x.startswith("|")]
        assert {line.count("|") for line in lines} == {9}

    def test_the_page_loads_nothing_and_obeys_no_name(self) -> None:
        page = render(replace(result(), title="<script>alert(1)</script>"))
        assert "<script>alert(1)" not in page
        assert "default-src 'none'" in page
        assert "joules-0" in page

    def test_a_sweep_is_drawn(self) -> None:
        page = render(
            compared(
                [
                    cell(label, 0, RUNS[f"{label}-seed0"], {"plan.deadline_s": deadline_s})
                    for deadline_s in (8.0, 10.0, 20.0)
                    for label in ("tfl", "fimi")
                ]
            )
        )
        for what in ("joules", "dynamic-joules", "accuracy"):
            assert f'id="sweep-{what}-plan-deadline_s-0"' in page


def test_cells_without_a_run_are_in_the_table() -> None:
    found = result(**dict.fromkeys(RUNS, "not run yet"))
    assert len(found.records) == 4
    assert {r.cell.problem for r in found.records} == {"not run yet"}
    assert "2 missing" in as_text(found)


def planned(objective: str, board_j: float, dynamic_j: float) -> PlanSummary:
    return PlanSummary(
        objective=objective,
        search="dual decomposition",
        board=PlannedEnergy(energy_j=board_j, bound_j=0.99 * board_j),
        dynamic=PlannedEnergy(energy_j=dynamic_j, bound_j=0.0),
        round_s=6.0,
        preparation_j=1.5,
    )


class TestPlans:
    def test_both_energies_with_their_gaps_in_every_form(self) -> None:
        first, second = planned("board", 100.0, 8.0), planned("board", 120.0, 10.0)
        found = result(
            **{
                "fimi-seed0": replace(RUNS["fimi-seed0"], plan=first),
                "fimi-seed1": replace(RUNS["fimi-seed1"], plan=second),
            }
        )
        plans = next(table for table in tables(found) if "plan" in table.caption)
        assert plans.rows == (
            ("tfl", *["–"] * 7),
            ("fimi", "board", "110 J", "1.01", "9.00 J", "–", "6.00 s", "dual decomposition"),
        )
        assert "dual decomposition" in as_text(found)
        assert "| fimi | board | 110 J |" in as_markdown(found)
        rows = list(csv.DictReader(io.StringIO(as_csv(found))))
        row = next(row for row in rows if row["run"] == "fimi-seed1")
        assert (row["plan_objective"], row["plan_board_j"]) == ("board", "120.0")
        assert float(row["plan_board_gap_percent"]) == pytest.approx(100 / 99)
        assert (row["plan_dynamic_bound_j"], row["plan_dynamic_gap_percent"]) == ("0.0", "")
        assert (row["plan_round_s"], row["plan_preparation_j"]) == ("6.0", "1.5")
        body = json.loads(as_json(found))
        series = {run["run"]: run["series"]["plan"] for run in body["runs"]}
        assert series["tfl-seed0"] is None
        assert series["fimi-seed0"]["board"] == {
            "energy_j": 100.0,
            "bound_j": 99.0,
            "gap_percent": pytest.approx(100 / 99),
        }
        assert "dual decomposition" in render(found)

    def test_no_table_without_a_plan(self) -> None:
        assert not any("plan" in table.caption for table in tables(result()))


class TestDevices:
    def result(self) -> ExperimentResult:
        held = {"x": (1, 0), "y": (0, 1)}
        even, uneven, worse = (
            by_device(accuracies, held) for accuracies in ((0.5, 0.5), (0.9, 0.3), (0.9, 0.1))
        )
        return compared(
            [
                cell("tfl", 0, uneven),
                cell("tfl", 1, worse),
                cell("fimi", 0, even),
                cell("fimi", 1, even),
            ]
        )

    def test_the_worst_device_and_the_spread_are_means_over_seeds(self) -> None:
        tfl, fimi = self.result().summaries
        assert tfl.worst.mean is not None
        assert tfl.std.mean is not None
        assert fimi.std.mean is not None
        assert tfl.worst.mean.value == pytest.approx((0.3 + 0.1) / 2)
        assert tfl.std.mean.value == pytest.approx((0.3 + 0.4) / 2)
        assert fimi.std.mean.value == 0.0

    def test_they_are_in_a_table_in_the_lines_and_in_the_document(self) -> None:
        result = self.result()
        (table,) = (each for each in tables(result) if "by device" in each.caption)
        assert [row[0] for row in table.rows] == ["tfl", "fimi"]
        assert table.rows[0][2].startswith("20.0")
        assert table.rows[0][3].startswith("35.0")
        (first, *_) = csv.DictReader(io.StringIO(as_csv(result)))
        assert float(first["worst_device_accuracy"]) == pytest.approx(0.3)
        summary = json.loads(as_json(result))["summaries"][0]
        assert summary["accuracy_std"]["mean"]["value"] == pytest.approx(0.35)

    def test_without_label_counts_there_is_no_table(self) -> None:
        result = compared([cell(label, 0, RUNS[f"{label}-seed0"]) for label in ("tfl", "fimi")])
        assert not [each for each in tables(result) if "by device" in each.caption]
        assert result.summaries[0].worst.mean is None
