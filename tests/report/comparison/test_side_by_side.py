"""Experiments side by side: pairs of seeds, kinds of joules, what differs, and what is the same."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from compared_runs import cell, device_round, planned_run
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.energy.joules import Kind
from fimi.energy.ledger import PhaseRecord
from fimi.record.reader import ReportError
from fimi.report.comparison.differences import unequal
from fimi.report.comparison.result import ComparisonError, compare
from fimi.report.comparison.runs import AccuracyTarget, ComparedCell, RunFigures
from fimi.report.comparison.side_by_side import SideBySide, lay
from fimi.report.comparison.side_page import side_page
from fimi.report.comparison.side_tables import side_json, side_markdown, side_tables, side_text
from fimi.report.comparison.statistics import Sample
from fimi.report.comparison.stored import StoredResult, read_result
from fimi.report.comparison.tuning import choose
from fimi.report.comparison.values import as_json


def ran(
    factor: float = 1.0, *, kind: Kind = "emulated", rounds: int = 2, **about: Any
) -> RunFigures:
    """A device that takes 20 J and 3 J in each round, times a factor; 25 J were predicted."""
    one = device_round(
        "a", kind=kind, compute=(4.0, 20.0 * factor, 22.0), idle=(1.0, 3.0 * factor, 3.0)
    )
    return planned_run(*[[one]] * rounds, **about)


def ran_phases() -> tuple[PhaseRecord, ...]:
    """Of a board that is emulated."""
    return device_round("a", compute=(4.0, 20.0, 22.0), idle=(1.0, 3.0, 3.0)).phases


def stored(
    folder: Path, cells: Sequence[ComparedCell], *, target: float = 0.55, **changes: Any
) -> StoredResult:
    found = compare(
        cells,
        name=folder.name,
        title="",
        baseline="tfl",
        target=AccuracyTarget(value=target),
        confidence=0.95,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_bytes(as_json(replace(found, **changes)))
    return read_result(folder)


def experiment(
    folder: Path, factors: Sequence[float], *, first: int = 0, label: str = "fimi", **about: Any
) -> StoredResult:
    """TFL as predicted, and another strategy with a factor for each seed."""
    seeds = range(first, first + len(factors))
    return stored(
        folder,
        [
            *(cell("tfl", seed, ran(data=str(seed), **about)) for seed in seeds),
            *(
                cell(label, seed, ran(factor, data=str(seed), **about))
                for seed, factor in zip(seeds, factors, strict=True)
            ),
        ],
    )


def against(laid: SideBySide, measure: str, label: str = "fimi") -> Sample:
    (found,) = [each for each in laid.strategies if each.label == label]
    return found.measures[measure].against[0]


class TestPairs:
    def test_seeds_that_both_have_are_paired_whatever_their_order(self, tmp_path: Path) -> None:
        """Seeds 0, 1, 2 with factors 1, 2, 4, and 1, 2, 3 with 3, 2, 9: ratios of 1 and 2."""
        one = experiment(tmp_path / "a", (1.0, 2.0, 4.0))
        two = experiment(tmp_path / "b", (3.0, 2.0, 9.0), first=1)
        laid = lay([one, two])
        (fimi,) = [each for each in laid.strategies if each.label == "fimi"]
        assert fimi.seeds == ((0, 1, 2), (1, 2, 3))
        found = against(laid, "all_board_j")
        assert found.values == (pytest.approx(3 / 2), pytest.approx(2 / 4))
        assert against(laid, "predicted_board_j").values == (1.0, 1.0)
        assert fimi.measures["all_board_j"].own[1].values == tuple(
            pytest.approx(46.0 * factor) for factor in (3.0, 2.0, 9.0)
        )
        assert "seeds of fimi: 3 in A, 3 in B (of which A has 2)" in side_text(laid)

    @settings(max_examples=15)
    @given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=6), st.floats(0.1, 10.0))
    def test_as_many_times_more_is_that_ratio(
        self, tmp_path_factory: pytest.TempPathFactory, factors: list[float], more: float
    ) -> None:
        folder = tmp_path_factory.mktemp("pairs")
        one = experiment(folder / "a", factors)
        two = experiment(folder / "b", [more * factor for factor in factors])
        found = against(lay([one, two]), "all_board_j")
        assert found.values == (pytest.approx(more),) * len(factors)
        assert against(lay([one, one]), "all_board_j").values == (1.0,) * len(factors)

    def test_accuracies_are_subtracted(self, tmp_path: Path) -> None:
        one = experiment(tmp_path / "a", (1.0,), accuracy=(0.5, 0.6))
        two = experiment(tmp_path / "b", (1.0,), accuracy=(0.5, 0.75))
        assert against(lay([one, two]), "final_accuracy").values == (pytest.approx(0.15),)
        assert "+15.0 points" in side_text(lay([one, two]))

    def test_a_third_is_held_against_the_first_as_well(self, tmp_path: Path) -> None:
        three = [experiment(tmp_path / n, (f,)) for n, f in (("a", 1.0), ("b", 2.0), ("c", 4.0))]
        laid = lay(three)
        (fimi,) = [each for each in laid.strategies if each.label == "fimi"]
        ratios = [each.values[0] for each in fimi.measures["all_board_j"].against]
        assert ratios == [pytest.approx(2.0), pytest.approx(4.0)]
        assert "C/A" in side_markdown(laid)

    def test_who_never_reached_the_target_says_so(self, tmp_path: Path) -> None:
        one = experiment(tmp_path / "a", (1.0,))
        two = experiment(tmp_path / "b", (1.0,), accuracy=(0.1, 0.2))
        (row,) = [
            row
            for _, table in side_tables(lay([one, two]))
            for row in table.rows
            if table.heading[0] == "fimi" and row[0] == "board to target"
        ]
        assert row == ("board to target", "46.0 J (emulated)", "never (emulated)", "never")

    def test_the_ratio_to_the_baseline_is_that_of_each(self, tmp_path: Path) -> None:
        one, two = (experiment(tmp_path / n, (f,)) for n, f in (("a", 0.5), ("b", 2.0)))
        (table,) = [t for _, t in side_tables(lay([one, two])) if t.caption.startswith("against")]
        (row,) = [row for row in table.rows if row[:2] == ("fimi", "board")]
        assert row[2:] == ("0.500", "2.00")


class TestDifferences:
    def test_kinds_stand_on_every_number_and_are_said(self, tmp_path: Path) -> None:
        one = experiment(tmp_path / "a", (1.0,))
        two = experiment(tmp_path / "b", (1.1,), kind="measured")
        laid = lay([one, two])
        assert laid.differences[0].startswith("joules are emulated in A, measured in B: ")
        for _, table in side_tables(laid):
            for row in table.rows:
                if table.heading[0] == "fimi" and re.search(r"\d J", " ".join(row)):
                    kinds = re.findall(r"\((\w+)\)", " ".join(row))
                    same = "predicted" in row[0]
                    assert kinds == (["modelled"] * 2 if same else ["emulated", "measured"])

    def test_configuration_versions_data_and_targets(self, tmp_path: Path) -> None:
        def of(folder: str, deadline_s: float, version: str, data: str) -> StoredResult:
            about = {
                "config": {"plan.deadline_s": deadline_s, "run.name": folder, "run.seed": 0},
                "versions": {"fimi-testbed": version, "torch": "2.6"},
            }
            runs = [cell(label, 0, ran(data=data, **about)) for label in ("tfl", "fimi")]
            return stored(tmp_path / folder, runs, target=0.55 if folder == "a" else 0.5)

        said = lay([of("a", 12.0, "0.3", "x"), of("b", 20.0, "0.4", "y")]).differences
        assert said == (
            "target: 55 % accuracy on the validation part in A, 50 % accuracy on the validation "
            "part in B",
            "the target is another accuracy in 2 of 2 runs that both have, on average 55.0 % in A, "
            "50.0 % in B: costs are those of reaching it",
            "plan.deadline_s: 12.0 in A, 20.0 in B",
            "data of A and B differ (partition) in 2 of 2 runs that both have: so do accuracies "
            "and costs for that reason",
            "version of fimi-testbed: 0.3 in A, 0.4 in B",
        )

    def test_missing_cells_are_named(self, tmp_path: Path) -> None:
        one = experiment(tmp_path / "a", (1.0, 1.0))
        two = stored(
            tmp_path / "b",
            [cell("tfl", 1, ran(data="1")), cell("fimi", 1, "the disk was full")],
        )
        assert lay([one, two]).differences == (
            "B has no tfl, seed 0",
            "B has no fimi, seed 0",
            "B: fimi, seed 1 has no run: the disk was full",
        )
        assert "–" in side_text(lay([one, two]))

    def test_joules_of_a_part_of_the_rounds_are_said_to_be_that(self, tmp_path: Path) -> None:
        blind = device_round("a", compute=(4.0, None, 22.0), idle=(1.0, 3.0, 3.0))
        seeing = device_round("a", compute=(4.0, 20.0, 22.0), idle=(1.0, 3.0, 3.0))
        half = planned_run([seeing], [blind])
        one = stored(tmp_path / "a", [cell("tfl", 0, ran())])
        two = stored(tmp_path / "b", [cell("tfl", 0, half)])
        assert lay([one, two]).differences == (
            "B: 50.0 % of the device-rounds of tfl are in neither the metered nor the predicted "
            "joules of all rounds",
        )

    def test_the_same_experiment_differs_in_nothing(self, tmp_path: Path) -> None:
        one = experiment(tmp_path / "a", (1.0, 2.0))
        assert lay([one, one]).differences == ()


class TestTuned:
    def of(self, folder: Path, factor: float, rate: float) -> StoredResult:
        goal = AccuracyTarget(value=0.55)
        tuned = compare(
            [cell("tfl", 0, ran(factor))],
            name="",
            title="",
            baseline="tfl",
            target=goal,
            confidence=0.95,
        )
        choices = choose([cell("tfl", 100, ran(), rate=rate)], goal)
        return stored(folder, [cell("tfl", 0, ran())], choices=choices, tuned=tuned)

    def test_both_sides_are_laid_beside_their_own(self, tmp_path: Path) -> None:
        one, two = self.of(tmp_path / "a", 1.0, 0.1), self.of(tmp_path / "b", 2.0, 0.1)
        laid = lay([one, two])
        ratios = {s.side: s.measures["all_board_j"].against[0].values[0] for s in laid.strategies}
        assert ratios == {"": 1.0, "tuned": pytest.approx(2.0)}
        assert "tuned: seeds of tfl: 1 in A, 1 in B" in side_text(laid)

    def test_another_setting_that_was_taken_is_a_difference(self, tmp_path: Path) -> None:
        one, two = self.of(tmp_path / "a", 1.0, 0.1), self.of(tmp_path / "b", 1.0, 0.2)
        assert unequal(one, two) == ['setting taken for tfl is {"rate":0.1} and {"rate":0.2}']

    def test_who_has_not_tuned_lacks_that_side(self, tmp_path: Path) -> None:
        one = self.of(tmp_path / "a", 1.0, 0.1)
        two = stored(tmp_path / "b", [cell("tfl", 0, ran())])
        assert lay([one, two]).differences == ("B has no tuned tfl, seed 0",)


class TestRefused:
    def test_nothing_in_common(self, tmp_path: Path) -> None:
        one = stored(tmp_path / "a", [cell("tfl", 0, ran(), {"data.alpha": 0.1})])
        two = stored(tmp_path / "b", [cell("tfl", 0, ran())])
        with pytest.raises(ComparisonError, match=r"a has tfl \(data.alpha = 0.1\); .*b has tfl$"):
            lay([one, two])

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (None, "No such file or directory"),
            ("{", "is no JSON"),
            ("[]", "was not written by this version"),
            ('{"name": "e", "baseline": "tfl"}', "--summarise' makes it again"),
        ],
    )
    def test_files_that_are_no_results(self, tmp_path: Path, text: str | None, said: str) -> None:
        if text is not None:
            (tmp_path / "results.json").write_text(text)
        with pytest.raises(ReportError, match=said):
            read_result(tmp_path)


class TestSame:
    def test_walls_names_and_real_work_of_the_machine_are_no_difference(
        self, tmp_path: Path
    ) -> None:
        one = experiment(tmp_path / "a", (1.0, 2.0))
        seeds = (0, 1)
        other = [
            replace(
                each, name=f"x-{each.name}", figures=replace(each.figures, wall_s=99.0, resumed=2)
            )
            for each in (
                *(cell("tfl", seed, ran(data=str(seed))) for seed in seeds),
                *(cell("fimi", seed, ran(seed + 1.0, data=str(seed))) for seed in seeds),
            )
            if each.figures
        ]
        assert unequal(one, stored(tmp_path / "b", other)) == []

    def test_the_last_digit_is_one(self, tmp_path: Path) -> None:
        one = experiment(tmp_path / "a", (1.0,))
        two = experiment(tmp_path / "b", (1.0,), accuracy=(0.5, 0.6000000000000001))
        found = unequal(one, two)
        assert "fimi, seed 0: series.accuracy[1] is 0.6 and 0.6000000000000001" in found

    @settings(max_examples=25)
    @given(st.data())
    def test_one_value_that_is_another_is_found_and_no_other(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        one = experiment(tmp_path_factory.mktemp("one"), (1.0, 2.0))
        raw = json.loads(json.dumps(one.raw))
        at = data.draw(st.integers(0, 3))
        series = raw["runs"][at]["series"]
        key = data.draw(st.sampled_from(["accuracy", "board_j", "dynamic_j", "duration_s"]))
        number = data.draw(st.integers(0, 1))
        series[key][number] = math.nextafter(series[key][number], math.inf)
        (found,) = unequal(one, replace(one, raw=raw))
        run = raw["runs"][at]
        assert found.startswith(
            f"{run['strategy']}, seed {run['seed']}: series.{key}[{number}] is "
        )

    def test_what_is_in_one_only_is_a_difference(self, tmp_path: Path) -> None:
        one, two = experiment(tmp_path / "a", (1.0,)), experiment(tmp_path / "b", (1.0, 1.0))
        assert "fimi, seed 1: seed is not there and 1" in unequal(one, two)

    def test_the_servers_own_clock_is_no_difference(self, tmp_path: Path) -> None:
        def alone(folder: str, duration_s: float) -> StoredResult:
            run = ran()
            slow = tuple(replace(p, duration_s=duration_s, round_s=duration_s) for p in run.points)
            alone = cell("aigc-only", 0, replace(run, points=slow, held=None))
            return stored(tmp_path / folder, [cell("tfl", 0, run), alone])

        assert unequal(alone("a", 1.0), alone("b", 2.0)) == []


class TestShown:
    def test_it_fits_on_80_columns_and_is_in_every_form(self, tmp_path: Path) -> None:
        one = experiment(tmp_path / "a", (1.0, 1.5, 2.0))
        two = experiment(tmp_path / "b", (1.0, 2.0, 1.0), kind="measured")
        laid = lay([one, two])
        text = side_text(laid)
        assert max(map(len, text.splitlines())) <= 80
        for said in (text, side_markdown(laid), side_page(laid)):
            assert "what differs besides" in said.lower()
            assert "dynamic, predicted" in said
            assert "B/A" in said
        assert "default-src 'none'" in side_page(laid)
        assert 'id="ratios-0-0"' in side_page(laid)
        body = json.loads(side_json(laid, [["x"]]))
        (fimi,) = [each for each in body["strategies"] if each["strategy"] == "fimi"]
        own = fimi["measures"]["all_board_j"]
        assert own["against"]["B"]["values"] == [
            pytest.approx(each) for each in (1.0, 2.0 / 1.5, 0.5)
        ]
        assert own["energy_kinds"] == {"A": "emulated", "B": "measured"}
        assert body["unequal"] == {"B": ["x"]}

    def test_long_grid_points_and_several_kinds_fit_as_well(self, tmp_path: Path) -> None:
        point = {"data.alpha": 0.1, "plan.deadline_s": 20.0, "training.learning_rate": 0.05}
        board = device_round("b", kind="measured", compute=(4.0, 20.0, 22.0), idle=(1.0, 3.0, 3.0))
        mixed = planned_run([board, replace(board, device="a", phases=ran_phases())])
        cells = [cell("tfl-of-a-very-long-name", seed, mixed, point) for seed in range(3)]
        cells += [cell("tfl", seed, mixed, point) for seed in range(3)]
        one = stored(tmp_path / "a", cells)
        text = side_text(lay([one, one, one]))
        assert "emulated+measured" in text
        assert max(map(len, text.splitlines())) <= 80

    def test_a_foreign_name_is_no_markup(self, tmp_path: Path) -> None:
        one = experiment(tmp_path / "a", (1.0,), label="<script>alert(1)</script>")
        assert "<script>alert(1)" not in side_page(lay([one, one]))
