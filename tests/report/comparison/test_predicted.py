"""Metered beside predicted: ratios and errors over seeds, what is left out, and who was missing."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from compared_runs import cell, device_round, planned_run
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.energy.hardware import Observation
from fimi.record.results import DeviceRound
from fimi.report.comparison.page import render
from fimi.report.comparison.predicted import beside, of_run
from fimi.report.comparison.result import ExperimentResult, compare
from fimi.report.comparison.runs import AccuracyTarget, RunFigures
from fimi.report.comparison.tables import as_markdown, as_text, tables
from fimi.report.comparison.values import as_csv, as_json

COMPUTE, IDLE = (4.0, 20.0, 22.0), (1.0, 3.0, 3.0)
"""Two devices take 2 × 23 J in a round, 25 J each are predicted. A device rests at 3 W, so that
computing is 20 − 4 × 3 = 8 J above it; 11 J are predicted."""


def both(rounds: int = 3, factor: float = 1.0, **about: Any) -> RunFigures:
    own = {"compute": (4.0, 20.0 * factor, 22.0), "idle": (1.0, 3.0 * factor, 3.0)}
    return planned_run(*[[device_round(name, **own) for name in "ab"]] * rounds, **about)


def result(*runs: RunFigures | str, label: str = "fimi") -> ExperimentResult:
    base = [cell("tfl", seed, both(data=str(seed))) for seed in range(len(runs))]
    own = [cell(label, seed, run) for seed, run in enumerate(runs)]
    return compare(
        [*base, *own],
        name="e",
        title="",
        baseline="tfl",
        target=AccuracyTarget(value=0.55),
        confidence=0.95,
    )


def rows(found: ExperimentResult, label: str = "fimi") -> list[tuple[str, ...]]:
    (table,) = [each for each in tables(found) if "beside predicted" in each.caption]
    return [row[1:] for row in table.rows if row[0] == label]


class TestOfRun:
    def test_joules_and_seconds_of_all_rounds(self) -> None:
        run = both()
        board, dynamic, length = (of_run(run, name) for name in ("board_j", "dynamic_j", "round_s"))
        assert (board.measured, board.predicted) == (pytest.approx(138.0), pytest.approx(150.0))
        assert board.error == pytest.approx(12 / 138)
        assert (dynamic.measured, dynamic.predicted) == (pytest.approx(48.0), pytest.approx(66.0))
        assert (length.measured, length.predicted, length.error) == (5.0, 4.0, pytest.approx(-0.2))
        assert (board.kind, length.kind) == ("emulated", "")

    def test_what_has_no_reading_is_on_neither_side_and_is_counted(self) -> None:
        blind = device_round("b", compute=(4.0, None, 22.0), idle=IDLE)
        seeing = [device_round(name, compute=COMPUTE, idle=IDLE) for name in "ab"]
        found = of_run(planned_run(seeing, [seeing[0], blind]), "board_j")
        assert (found.measured, found.predicted) == (pytest.approx(72.0), pytest.approx(78.0))
        assert (found.lacking, found.among) == (1, 4)

    def test_kinds_of_boards_are_named(self) -> None:
        mixed = [
            device_round("a", compute=COMPUTE, idle=IDLE),
            device_round("b", kind="measured", compute=COMPUTE, idle=IDLE),
        ]
        assert of_run(planned_run(mixed), "board_j").kind == "emulated+measured"
        assert "emulated+measured" in as_text(result(planned_run(mixed, data="0")))

    def test_a_declared_power_is_no_meter(self) -> None:
        board = device_round("a", kind="modelled", source="declared:5W", compute=COMPUTE, idle=IDLE)
        assert of_run(planned_run([board]), "board_j").kind == "declared"

    def test_joules_below_what_the_meter_resolves_have_no_error(self) -> None:
        still = device_round("a", compute=(4.0, 12.0, 22.0), idle=IDLE)  # 12 J are resting alone
        found = of_run(planned_run([still]), "dynamic_j")
        assert found.measured == pytest.approx(0.0)
        assert found.error is None


class TestOverSeeds:
    def test_medians_with_the_ratios_between_seeds_and_the_mean_error(self) -> None:
        """As much as predicted, half and twice of it: ratios of 0.92 times 1, ½ and 2."""
        found = result(*(both(factor=f, data=str(n)) for n, f in enumerate((1.0, 0.5, 2.0))))
        errors = [150 / (138 * f) - 1 for f in (1.0, 0.5, 2.0)]
        mean = sum(errors) / 3
        spread = (sum((e - mean) ** 2 for e in errors) / 2) ** 0.5
        high = mean + 4.302653 * spread / 3**0.5  # Student's t, 2 degrees of freedom, 97.5 %
        (board, _, length) = rows(found)
        assert board[:3] == ("board", "138 J (emulated)", "150 J (modelled)")
        assert board[3] == "0.920 [0.460, 1.84]"
        assert board[4] == f"+{100 * mean:.1f} [−100.0, +{100 * high:.1f}]"
        assert board[5] == "0.0 %"
        assert length[1:4] == ("5.00 s", "4.00 s", "1.25 [1.25, 1.25]")

    def test_without_a_plan_a_meter_or_a_run_that_is_said(self) -> None:
        alone = [device_round("a", compute=(4.0, 20.0, None))]
        assert rows(result(planned_run(alone, round_s=None, data="0")))[0][1:] == (
            *("20.0 J (emulated)", "no plan", "–", "–", "100.0 %"),
        )
        blind = [device_round("a", compute=(4.0, None, 22.0))]
        assert rows(result(planned_run(blind, data="0")))[0][1:] == (
            *("not metered", "not metered", "–", "–", "100.0 %"),
        )
        assert rows(result("the disk was full"))[0][1:] == ("missing", "missing", "–", "–", "–")
        assert rows(result(planned_run([], data="0")))[0][1:] == ("none", "none", "–", "–", "–")

    def test_a_seed_without_numbers_is_counted(self) -> None:
        found = result(both(data="0"), "the disk was full")
        assert rows(found)[0][3] == "0.920 (1 unknown)"

    @given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=8))
    def test_ratio_and_error_say_the_same(self, factors: list[float]) -> None:
        board = beside([both(1, factor) for factor in factors], 0.95)["board_j"]
        for ratio, error in zip(board.ratio.values, board.error.values, strict=True):
            assert ratio is not None
            assert error is not None
            assert ratio * (1.0 + error) == pytest.approx(1.0)

    def test_it_is_in_every_form(self) -> None:
        found = result(both(data="0"))
        for text in (as_text(found), as_markdown(found), render(found)):
            assert "beside predicted" in text
            assert "150" in text
        row = list(csv.DictReader(io.StringIO(as_csv(found))))[1]
        assert float(row["compared_board_j"]) == pytest.approx(138.0)
        assert float(row["predicted_dynamic_j"]) == pytest.approx(66.0)
        assert (row["predicted_round_s"], row["left_out_board_j"]) == ("4.0", "0.0")
        body = json.loads(as_json(found))
        own = body["summaries"][1]["measured_and_predicted"]["board_j"]
        assert own["ratio"]["values"] == [pytest.approx(0.92)]
        assert (own["energy_kind"], own["left_out"]) == ("emulated", 0.0)
        of_seed = body["runs"][1]["series"]["measured_and_predicted"]["board_j"]
        assert of_seed["error"] == pytest.approx(12 / 138)

    def test_it_fits_on_80_columns(self) -> None:
        assert max(map(len, as_text(result(both(data="0"))).splitlines())) <= 80


class TestLive:
    def gone(self, *rounds: int, status: Any = "missing") -> RunFigures:
        there = device_round("a", compute=COMPUTE, idle=IDLE, temperature_c=41.2)
        silent = DeviceRound(device="device-03", status=status, predicted=there.predicted)
        warmer = Observation(temperature_c=43.9)
        here = replace(there, device="device-03", observed=warmer)
        found = [[there, silent if n in rounds else here] for n in (1, 2, 3, 4)]
        return planned_run(*found, data="0", resumed=2)

    def test_who_was_missing_and_what_was_resumed(self) -> None:
        figures = self.gone(2, 3, 4)
        assert figures.absent == {"device-03": (2, 3, 4)}
        board = of_run(figures, "board_j")
        assert (board.lacking, board.among) == (3, 8)
        (note,) = [each for each in result(figures).notes if "device-03" in each]
        assert note == (
            "fimi: processors at 41 to 44 °C in the first round that says so; device-03 missing in "
            "rounds 2–4 of seed 0; run of seed 0 resumed 2 times"
        )

    def test_who_had_not_joined_yet_is_not_missing(self) -> None:
        assert self.gone(1, status="absent").absent == {}

    def test_what_an_engine_says_of_a_run_stands_beside_it(self) -> None:
        told = replace(cell("tfl", 3, both()), remarks=("was begun 3 times",))
        found = compare(
            [told],
            name="e",
            title="",
            baseline="tfl",
            target=AccuracyTarget(value=0.5),
            confidence=0.95,
        )
        assert found.notes == ("tfl: run of seed 3 was begun 3 times",)

    def test_it_is_in_the_lines_and_in_the_document(self) -> None:
        found = result(self.gone(1, 3))
        row = list(csv.DictReader(io.StringIO(as_csv(found))))[1]
        assert (row["absent"], row["resumed"]) == ("device-03: rounds 1, 3", "2")
        series = json.loads(as_json(found))["runs"][1]["series"]
        assert series["absent"] == {"device-03": [1, 3]}
        assert series["first_temperature_c"] == {"a": 41.2, "device-03": 43.9}
