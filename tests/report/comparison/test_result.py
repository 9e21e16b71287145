"""Comparing runs: targets of each seed's own, pairs, what is missing, and different data."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from compared_runs import cell, rounds, run
from msgspec.structs import replace
from stored_runs import profile

from fimi.energy.joules import Energy
from fimi.record.curve import generator_sum
from fimi.record.fairness import fairness
from fimi.record.record import DatasetInfo, Generation, PlannedEnergy, PlanSummary, RunData, RunInfo
from fimi.report.comparison.page import render
from fimi.report.comparison.result import ComparisonError, ExperimentResult, compare
from fimi.report.comparison.runs import AccuracyTarget, ComparedCell, RunFigures, figures_of
from fimi.report.comparison.tables import as_markdown, as_text, tables
from fimi.report.comparison.tuning import choose
from fimi.report.comparison.values import as_csv, as_json
from fimi.report.words import percent

RUNS = {
    "tfl-seed0": run(0.2, 0.5, 0.4),
    "tfl-seed1": run(0.3, 0.4, 0.6, data="b"),
    "fimi-seed0": run(0.5, 0.8, 0.9),
    "fimi-seed1": run(0.4, 0.5, 0.55, joules=20.0, data="b"),
}


TARGET = AccuracyTarget(of="tfl", which="best")


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


def by_device(accuracies: tuple[float, ...], counts: dict[str, tuple[int, int]]) -> RunFigures:
    """A run of one round, by the accuracies of two classes of which devices hold samples."""
    figures = run(0.5)
    found = fairness(accuracies, counts)
    return replace(figures, points=(replace(figures.points[0], fairness=found),))


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
            "generator_j": 0.0,
            "server_j": 0.0,
            "total_j": 20.0,
        }
        assert found["fimi-seed0"]["board_j"] == 10.0
        assert set(found["fimi-seed1"].values()) == {math.inf}

    def test_a_number_is_the_same_for_all(self) -> None:
        found = result(AccuracyTarget(value=0.45))
        assert {r.target for r in found.records} == {0.45}


class TestValidation:
    def test_the_test_set_decides_nothing(self) -> None:
        """Its accuracies are moved by a round; targets and costs stay."""
        moved = {
            name: replace(
                run,
                points=rounds(
                    [p.validation_accuracy for p in run.points],
                    [10.0] * 3,
                    test=[0.91, 0.12, 0.34],
                ),
            )
            for name, run in RUNS.items()
            if name != "fimi-seed1"
        }
        before, after = result(), result(**moved)
        assert [r.target for r in before.records] == [r.target for r in after.records]
        costs = [[r.costs["rounds"] for r in each.records] for each in (before, after)]
        assert costs[0] == costs[1]
        then = {r.cell.name: r.test_accuracy for r in after.records}
        assert then == {  # in the round that reached it on validation
            "tfl-seed0": 0.12,
            "tfl-seed1": 0.34,
            "fimi-seed0": 0.91,
            "fimi-seed1": None,
        }
        assert "34.0" in as_text(after)

    def test_the_old_way_is_there_for_comparison(self) -> None:
        figures = replace(
            RUNS["tfl-seed0"], points=rounds((0.2, 0.5, 0.4), [10.0] * 3, test=(0.7, 0.1, 0.1))
        )
        found = result(AccuracyTarget(of="tfl", which="best", on="test"), **{"tfl-seed0": figures})
        assert {r.target for r in found.records if r.cell.seed == 0} == {0.7}
        assert "on the test set" in as_markdown(found)

    def test_the_number_of_images_says_how_finely_it_is_told(self) -> None:
        """Wilson's interval of 340 right of 358 by its formula: [0.9219, 0.9680]."""
        share, n, z = 340 / 358, 358, 1.959964
        middle = (share + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        figures = {
            f"tfl-seed{seed}": replace(
                RUNS[f"tfl-seed{seed}"],
                points=rounds((0.4, 0.5, 0.6), [10.0] * 3, test=(0.1, 0.1, share)),
                test_samples=n,
                validation_samples=144,
            )
            for seed in (0, 1)
        }
        found = result(**figures)
        rows = [r for r in csv.DictReader(io.StringIO(as_csv(found))) if r["strategy"] == "tfl"]
        for row in rows:
            assert float(row["test_accuracy_low"]) == pytest.approx(middle - half, abs=1e-6)
            assert float(row["test_accuracy_high"]) == pytest.approx(middle + half, abs=1e-6)
        page = render(found).replace("\u00a0", " ")
        assert f"[{percent(middle - half)}, {percent(middle + half)}]" in page
        said = as_markdown(found)
        assert "358 images, 0.28 points each" in said
        assert f"between {100 * (middle - half):.1f} and {100 * (middle + half):.1f} %" in said
        assert "144 images, 0.69 points each" in said


MEASURED = Energy(value_j=3.0, kind="measured", source="rapl", scope="cpu")


def images(energy: Energy | None) -> Generation:
    return Generation(requested=9, delivered=9, drawn=9, refused=0, seconds=1.0, energy=energy)


def drawn_for(energy: Energy | None, server: Energy | None = None) -> RunFigures:
    """FIMI's first run with a generator node, and perhaps a server that trains."""
    made = images(energy)
    found = rounds((0.5, 0.8, 0.9), [10.0] * 3, server=server, generation=made)
    data = RunData(path=Path("r"), info=RunInfo(run="r"), generation=made)
    return replace(RUNS["fimi-seed0"], points=found, generator=generator_sum(data))


class TestTotal:
    def rows(self, found: ExperimentResult) -> dict[str, tuple[str, ...]]:
        table = next(t for t in tables(found) if t.caption.startswith("joules"))
        assert [h.partition("\n")[0] for h in table.heading[1:]] == [
            *("devices", "generator", "server", "total")
        ]
        return {row[0]: row[1:] for row in table.rows}

    def one_seed(self, fimi: RunFigures) -> ExperimentResult:
        return compared([cell("tfl", 0, RUNS["tfl-seed0"]), cell("fimi", 0, fimi)])

    def test_generator_and_server_stand_beside_the_devices(self) -> None:
        found = self.one_seed(drawn_for(MEASURED, MEASURED))
        assert self.rows(found) == {
            "tfl": ("20.0", "none", "none", "20.0"),
            "fimi": ("10.0", "3.00", "3.00", "16.0"),
        }
        (against,) = found.comparisons
        assert against.ratios["total_j"].values == (16 / 20,)
        (table,) = [t for t in tables(found) if t.caption.startswith("joules")]
        assert "(measured)" in table.heading[2]
        assert "(emulated+mixed)" in table.heading[4]

    def test_who_takes_no_part_has_none_also_where_nobody_gets_there(self) -> None:
        found = compared(
            [
                cell("tfl", 0, RUNS["tfl-seed0"]),
                cell("fimi", 0, replace(RUNS["fimi-seed0"], points=rounds((0.1,), [10.0]))),
            ]
        )
        assert self.rows(found)["fimi"] == ("never", "none", "none", "never")

    def test_without_a_meter_the_total_is_at_least_what_is_known(self) -> None:
        found = self.one_seed(drawn_for(None))
        assert self.rows(found)["fimi"] == ("10.0", "unknown", "none", "at least 10.0")
        row = next(r for r in csv.DictReader(io.StringIO(as_csv(found))) if r["strategy"] == "fimi")
        assert (row["total_j_to_target"], row["total_at_least_j_to_target"]) == ("", "10.0")


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
        assert {line.count("|") for line in lines} == {6, 8, 10}

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


class TestTuned:
    def tuned(self) -> ExperimentResult:
        configured = [cell(s, 0, RUNS[f"{s}-seed0"], rate=0.2) for s in ("tfl", "fimi")]
        better = [
            cell("tfl", 0, run(0.6, 0.7), rate=0.3),
            cell("fimi", 0, run(0.75), rate=0.3),
        ]
        tried = [
            cell(label, 100, figures, rate=rate)
            for label in ("tfl", "fimi")
            for rate, figures in ((0.2, run(0.5)), (0.3, run(0.6)))
        ]
        return replace(
            compared(configured),
            choices=choose(tried, TARGET),
            tuned=compared(better),
        )

    def test_both_tables_and_what_was_chosen_in_every_form(self) -> None:
        found = self.tuned()
        for text in (as_text(found), as_markdown(found)):
            first, between, last = (
                text.index(what)
                for what in ("as configured, against", "settings on the tuning", "tuned, against")
            )
            assert first < between < last
            assert "taken" in text
            assert "validation part" in text
        page = render(found)
        assert "All strategies, as configured" in page
        assert "All strategies, tuned" in page
        rows = list(csv.DictReader(io.StringIO(as_csv(found))))
        assert [(r["side"], r["rate"], r["board_j_to_target"]) for r in rows] == [
            ("as configured", "0.2", "20.0"),
            ("as configured", "0.2", "10.0"),
            ("tuned", "0.3", "20.0"),
            ("tuned", "0.3", "10.0"),
        ]
        body = json.loads(as_json(found))
        assert [c["taken"] for c in body["choices"]] == [{"rate": 0.3}] * 2
        assert body["tuned"]["runs"][1]["target_accuracy"] == 0.7

    def test_each_table_has_the_target_of_its_own_baseline(self) -> None:
        found = self.tuned()
        assert found.tuned is not None
        assert {r.target for r in found.records} == {0.5}
        assert {r.target for r in found.tuned.records} == {0.7}


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


class TestOwnImages:
    """Nobody but the devices knows images that they have brought."""

    def own(self, counts: tuple[int, int]) -> RunFigures:
        digests = {f"{part}_digest": part for part in ("public", "validation", "test")}
        info = RunInfo(
            run="r",
            dataset=DatasetInfo(**digests, partition="own images"),
            config={"data.shares": "file"},
        )
        brought = replace(profile("a"), label_counts=counts)
        return figures_of(RunData(path=Path("run"), info=info, profiles={"a": brought}))

    def test_equal_counts_are_compared_and_a_note_says_what_is_known(self) -> None:
        cells = [cell(label, 0, self.own((7, 3))) for label in ("tfl", "fimi")]
        notes = compared(cells).notes
        assert sum("images of their own" in note for note in notes) == 1

    def test_other_counts_are_not(self) -> None:
        cells = [cell("tfl", 0, self.own((7, 3))), cell("fimi", 0, self.own((6, 4)))]
        with pytest.raises(ComparisonError, match=r"different data \(private, partition\)"):
            compared(cells)
