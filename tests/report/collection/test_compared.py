"""Stored runs compared: groups by seed, kinds and scopes apart, intervals only where there are any.

Numbers are held against those of each run's own report and against plain statistics.
"""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from scipy import stats

from fimi.record.reader import read_run
from fimi.record.record import Generation
from fimi.record.summary import summarise
from fimi.report.collection.compared import ComparedRuns, compare_runs
from fimi.report.collection.compared_page import compared_page
from fimi.report.collection.compared_pictures import compared_pictures
from fimi.report.collection.compared_tables import compared_text, run_tables
from fimi.report.collection.compared_values import compared_json
from fimi.report.collection.grouping import ComparableRun, comparable, lettered_groups
from fimi.report.comparison.result import ComparisonError
from fimi.report.layout import Paper
from fimi.report.words import joules
from fimi.testbed.cli import main

DIGESTS = {
    f"{part}_digest": part for part in ("public", "validation", "private", "test", "partition")
}


def write(
    build: Any,
    folder: Path,
    *,
    strategy: str = "fimi",
    seed: int = 1,
    accuracy: tuple[float, ...] = (0.5, 0.8, 0.7),
    physical: tuple[str, ...] = (),
    data: str = "same",
    status: str = "completed",
    **config: Any,
) -> Path:
    names = ("device-0", "device-1")
    results = None
    if not physical:
        devices = [build.device_round(name) for name in names]
        results = [build.round_result(n, devices, a) for n, a in enumerate(accuracy, 1)]
    build.write(
        folder,
        names=names,
        rounds=results,
        physical=physical,
        about={
            "strategy": strategy,
            "seed": seed,
            "status": status,
            "started_at": f"2026-11-{seed:02d}T09:30:00",
            "config": {
                "run.strategy": strategy, "run.seed": seed, "run.name": folder.name,
                "plan.deadline_s": 12.0, "rounds.count": 3,
                **{key.replace("__", "."): value for key, value in config.items()},
            },
            "contract": {"dataset": "digits", "seed": seed, "alpha": 0.1},
            "versions": {"torch": "2.6"},
            "dataset": {"name": "digits", **{k: f"{v}-{seed}-{data}" for k, v in DIGESTS.items()}},
        },
    )  # fmt: skip
    return folder


def compared(*folders: Path, **more: Any) -> ComparedRuns:
    return compare_runs([comparable(read_run(f), f.name, {}) for f in folders], **more)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, build: Any) -> Path:
    """Five seeds of two strategies, boards on plugs, and a run with another deadline."""
    lab: Path = tmp_path_factory.mktemp("compared")
    for seed in range(1, 6):
        last = 0.70 + 0.02 * seed
        write(build, lab / f"fimi-{seed}", seed=seed, accuracy=(0.5, last + 0.1, last))
        write(build, lab / f"tfl-{seed}", strategy="tfl", seed=seed, accuracy=(0.4, 0.5, 0.6))
    write(build, lab / "boards", seed=1, physical=("device-0", "device-1"))
    write(build, lab / "half", seed=1, physical=("device-1",))
    write(build, lab / "late", seed=1, plan__deadline_s=20.0)
    write(build, lab / "tracked", seed=6, trackers__mlflow="sqlite:///x.db", otlp__interval_s=5.0)
    write(build, lab / "again", seed=3)
    write(build, lab / "other-data", seed=2, strategy="genfl", data="other")
    return lab


@pytest.fixture(scope="module")
def some(lab: Path) -> list[ComparableRun]:
    names = ("fimi-1", "fimi-2", "fimi-3", "tfl-1", "tfl-2", "late", "boards")
    return [comparable(read_run(lab / name), name, {}) for name in names]


def five(lab: Path, strategy: str) -> list[Path]:
    return [lab / f"{strategy}-{seed}" for seed in range(1, 6)]


def test_runs_that_differ_in_their_seeds_alone_are_a_group(lab: Path) -> None:
    found = compared(*five(lab, "fimi"), *five(lab, "tfl"), lab / "late")
    assert [(g.letter, g.label, g.seeds) for g in found.groups] == [
        ("A", "fimi, plan.deadline_s = 12.0", (1, 2, 3, 4, 5)),
        ("B", "tfl", (1, 2, 3, 4, 5)),
        ("C", "fimi, plan.deadline_s = 20.0", (1,)),
    ]
    assert [(d.of, d.key) for d in found.contrasts] == [
        ("configuration", "run.strategy"),
        ("configuration", "plan.deadline_s"),
    ]
    assert found.contrasts[1].values == ("12.0", "12.0", "20.0")


def test_who_else_was_told_of_a_run_makes_no_other_group(lab: Path) -> None:
    found = compared(*five(lab, "fimi"), lab / "tracked")
    assert [(group.label, group.seeds) for group in found.groups] == [("fimi", (1, 2, 3, 4, 5, 6))]
    assert found.contrasts == ()


def test_intervals_are_those_of_plain_statistics(lab: Path) -> None:
    found = compared(*five(lab, "fimi"), *five(lab, "tfl")).figures[0].final
    values = [0.70 + 0.02 * seed for seed in range(1, 6)]
    assert found.values == pytest.approx(values)
    half = stats.t.ppf(0.975, 4) * statistics.stdev(values) / math.sqrt(5)
    assert found.mean is not None and found.mean.low is not None and found.mean.high is not None
    assert (found.mean.value, found.mean.low, found.mean.high) == pytest.approx(
        (statistics.mean(values), statistics.mean(values) - half, statistics.mean(values) + half)
    )


def test_two_runs_have_no_interval_and_no_band_and_it_is_said(lab: Path) -> None:
    found = compared(lab / "fimi-1", lab / "fimi-2")
    (each,) = found.figures
    assert each.final.mean is not None and each.final.mean.low is None
    assert "A has 2 runs: without three there is no interval and no band" in found.remarks
    text = compared_text(found)
    assert "[" not in text.split("Costs are")[0]
    (curves, *_) = compared_pictures(found)
    assert not [t for t in curves.figure.data if t.fill == "toself"]
    three = compared(lab / "fimi-1", lab / "fimi-2", lab / "fimi-3")
    (curves, *_) = compared_pictures(three)
    bands = [t for t in curves.figure.data if t.fill == "toself"]
    assert len(bands) == 1
    assert all(0.0 <= y <= 100.0 for y in bands[0].y)


def test_prices_and_joules_are_those_of_each_report(lab: Path) -> None:
    found = compared(*five(lab, "fimi"), *five(lab, "tfl"), targets=(0.6, 0.99))
    first, never = found.targets
    for group, own in zip(found.groups, first.costs, strict=True):
        for k, run in enumerate(group.runs):
            data = read_run(run.path)
            summary = summarise(data)
            point = next((p for p in summary.points if p.accuracy >= 0.6), None)
            assert point is not None
            assert own["rounds"].values[k] == point.number
            assert own["board_j"].values[k] == point.energy_so_far.value_j
            assert own["duration_s"].values[k] == point.elapsed_s
    for figures in found.figures:
        for k, run in enumerate(figures.group.runs):
            assert figures.board.values[k] == summarise(read_run(run.path)).energy.value_j
    assert all(own["board_j"].never == 5 for own in never.costs)
    ratio = first.against[0]
    assert (ratio.letter, ratio.pairs) == ("B", 5)
    assert ratio.ratios["rounds"].values == (1.5,) * 5


def test_all_machines_took_at_least_what_is_known(lab: Path) -> None:
    """The generator node of one run has no meter: its boards alone are known."""
    made = Generation(requested=9, delivered=9, drawn=9, refused=0, seconds=1.0, energy=None)
    blind = replace(read_run(lab / "fimi-1"), generation=made)
    tfl = comparable(read_run(lab / "tfl-1"), "tfl-1", {})
    found = compare_runs([comparable(blind, "blind", {}), tfl], targets=(0.5,))
    (point, *_) = summarise(blind).points
    boards_j = point.energy_so_far.value_j
    assert boards_j is not None and point.total_so_far.value_j is None
    (table,) = [t for t in run_tables(found)["prices"] if "all machines" in t.heading][:1]
    at = table.heading.index("all machines")
    ours, theirs = (row[at] for row in table.rows)
    assert ours == f"≥ {joules(boards_j)}" and not theirs.startswith("≥")
    assert f"≥ {joules(boards_j)}" in compared_text(found, Paper(200))
    (target,) = json.loads(compared_json(found))["targets"]
    assert target["costs"]["A"]["total_j"]["values"] == [None]
    assert target["costs_at_least"]["A"]["total_j"]["values"] == [boards_j]
    never = compare_runs([comparable(blind, "blind", {}), tfl], targets=(0.99,))
    assert not any("≥" in cell for t in run_tables(never)["prices"] for r in t.rows for cell in r)


def test_an_accuracy_that_all_have_reached_where_none_is_asked_for(lab: Path) -> None:
    found = compared(lab / "fimi-1", lab / "tfl-1")
    (target,) = found.targets
    assert target.target == 0.6
    assert all(own["rounds"].never == 0 for own in target.costs)


def test_emulated_and_measured_are_in_no_sum_and_other_scopes_have_no_ratio(lab: Path) -> None:
    found = compared(lab / "fimi-1", lab / "boards", lab / "half", targets=(0.5,))
    assert [g.label for g in found.groups] == [
        "fimi (emulated, board)",
        "fimi (measured, wall)",
        "fimi (emulated+measured, board+wall)",
    ]
    assert any("no sum and no mean is over both" in each for each in found.remarks)
    assert any("there is no ratio of joules" in each for each in found.remarks)
    assert any("is no measurement" in each for each in found.remarks)
    for ratio in found.targets[0].against:
        assert ratio.why_not
        assert {"rounds", "duration_s"} <= ratio.ratios.keys()
        assert not any(cost.endswith("_j") for cost in ratio.ratios)
    axes = [p.figure.layout.xaxis.title.text for p in compared_pictures(found)]
    assert sum("(measured, wall)" in axis for axis in axes) == 1
    assert sum("(emulated, board)" in axis for axis in axes) == 1
    text = " ".join(compared_text(found, Paper(200)).split())
    assert "board and wall" in text


def test_a_seed_that_is_emulated_again_counts_once(lab: Path) -> None:
    again = compared(*five(lab, "fimi"), lab / "again")
    (group,) = again.groups
    assert len(group.runs) == 5 and [run.name for run in group.repeats] == ["again"]
    assert again.figures[0].final == compared(*five(lab, "fimi")).figures[0].final
    assert any("again repeats a seed" in each for each in again.remarks)


@pytest.mark.parametrize("physical", [(), ("device-0", "device-1")])
def test_a_run_that_ended_early_does_not_stand_for_the_one_after_it(
    tmp_path: Path, build: Any, physical: tuple[str, ...]
) -> None:
    whole = write(build, tmp_path / "whole", seed=4, physical=physical)
    early = write(build, tmp_path / "early", seed=4, physical=physical, status="interrupted")
    runs = [comparable(read_run(f), f.name, {}) for f in (early, whole)]
    figures = msgspec.structs.replace(runs[0].figures, points=runs[0].figures.points[:1])
    short = msgspec.structs.replace(runs[0], figures=figures, started_at="2026-11-01T09:30:00")
    late = msgspec.structs.replace(short, started_at="2026-11-29T09:30:00")
    for other in (short, late):
        found = compare_runs([other, runs[1]])
        (group,) = found.groups
        assert group.by_seed[4].name == "whole"
        assert [run.name for run in group.repeats] == ([] if physical else ["early"])
        if not physical:
            assert [each.target for each in found.targets] == [0.8]


def test_other_data_and_no_common_seed_are_said(lab: Path) -> None:
    found = compared(lab / "fimi-2", lab / "other-data", lab / "tfl-4")
    said = " ".join(found.remarks)
    assert "data of A and B differ (public, validation, private, test, partition) in 1 of 1" in said
    assert "A and C have no seed in common" in said
    assert found.targets[0].against[1].pairs == 0
    assert found.targets[0].against[1].why_not == "no common seed"
    text = compared_text(found, Paper(200))
    assert text.count("seed by seed") == 1 and "no common seed" not in text
    apart = compared_text(compared(lab / "fimi-2", lab / "tfl-4"), Paper(200))
    assert "seed by seed" not in apart  # no table without a pair: the note says why
    assert "Ratios pair runs of one seed: give runs of both with the same one" in apart


@pytest.mark.parametrize("width", [80, 100, 160])
def test_text_fits(lab: Path, width: int) -> None:
    found = compared(*five(lab, "fimi"), lab / "boards", lab / "half", lab / "late")
    lines = compared_text(found, Paper(width)).splitlines()
    assert max(map(len, lines)) <= width


def test_text_page_and_json_have_the_same_figures(lab: Path) -> None:
    found = compared(*five(lab, "fimi"), *five(lab, "tfl"))
    body = json.loads(compared_json(found))
    assert [g["energy_kind"] for g in body["groups"]] == ["emulated", "emulated"]
    assert body["groups"][0]["board_j"]["values"] == list(found.figures[0].board.values)
    assert body["targets"][0]["ratios"]["B"]["rounds"]["median"]["value"] == 1.5
    assert body["differences"][0] == {
        "of": "configuration",
        "key": "run.strategy",
        "values": {"A": '"fimi"', "B": '"tfl"'},
    }
    page = compared_page(found).replace("\N{NO-BREAK SPACE}", " ")
    text = compared_text(found, Paper(200))
    for tables in run_tables(found).values():
        for table in tables:
            for row in table.rows:
                for cell in row:
                    first = cell.partition(" [")[0].partition(" (")[0]
                    assert first.replace('"', "&quot;") in page
                    assert first in text
    assert "http" not in page.split("<script")[0].replace("http-equiv", "")


def test_foreign_text_is_escaped(tmp_path: Path, build: Any) -> None:
    write(build, tmp_path / "a", data__dataset="<script>alert(1)</script>")
    write(build, tmp_path / "b", seed=2)
    page = compared_page(compared(tmp_path / "a", tmp_path / "b"))
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_emissions_are_those_of_the_reports(lab: Path) -> None:
    options = ["--carbon", "intensity_g_per_kwh=360", "--carbon", "source=x"]
    names = [str(lab / "fimi-1"), str(lab / "fimi-2")]
    ended = CliRunner().invoke(
        main, ["compare", *names, *options, "--target", "0.75", "--format", "json"]
    )
    assert ended.exit_code == 0, ended.stderr
    body = json.loads(ended.stdout)
    told = []
    for name in names:
        report = CliRunner().invoke(main, ["report", name, "--format", "json", *options])
        told.append(json.loads(report.stdout)["carbon"]["figures"][0]["total"]["value_g"])
    assert body["groups"][0]["emissions_g"]["values"] == told
    until = body["targets"][0]["emissions_g"]["A"]["values"]
    assert until == pytest.approx([2 * (2 * 28.5 + 0.6) / 1e4] * 2)


def test_the_command(lab: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(main, ["compare", *arguments])

    page = tmp_path / "page.html"
    ended = run(str(lab), "--html", str(page))
    assert ended.exit_code == 0, ended.stderr
    assert "A" in ended.stdout and page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    alone = run(str(lab / "fimi-1"))
    assert (alone.exit_code, "name two runs or more" in alone.stderr) == (2, True)
    twice = run(str(lab / "fimi-1"), str(lab / "fimi-1"))
    assert (twice.exit_code, "name two runs or more" in twice.stderr) == (2, True)
    assert run(str(lab), "--target", "nan").exit_code == 2
    nowhere = run(str(lab), "--html", str(tmp_path / "nowhere" / "page.html"))
    assert nowhere.exit_code == 3 and f"{tmp_path}/nowhere/page.html" in nowhere.stderr
    assert run(str(lab / "fimi-9"), str(lab / "fimi-1")).exit_code == 3
    assert "did you mean" in run(str(lab / "fimi-11"), str(lab / "fimi-1")).stderr
    (lab / "mlflow.db").write_bytes(b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(lab)
        assert "left out" not in run("*").stderr
    assert run(str(tmp_path), str(lab)).exit_code == 3
    (tmp_path / "study" / "runs").mkdir(parents=True)
    (tmp_path / "study" / "results.json").write_text("{}")
    said = run(str(tmp_path / "study"), str(lab / "fimi-1"))
    assert said.exit_code == 2 and "fimi experiment compare" in said.stderr


def test_a_broken_run_that_was_named_is_an_error_and_one_in_a_folder_is_left_out(
    tmp_path: Path, build: Any
) -> None:
    for name in ("a", "b"):
        write(build, tmp_path / name, seed=ord(name) - 96)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "run.sqlite").write_text("no store")
    ended = CliRunner().invoke(main, ["compare", str(tmp_path), "--format", "json"])
    assert ended.exit_code == 0 and "left out:" in ended.stderr
    assert len(json.loads(ended.stdout)["groups"][0]["runs"]) == 2
    ended = CliRunner().invoke(main, ["compare", str(tmp_path / "a"), str(tmp_path / "c")])
    assert ended.exit_code == 3 and str(tmp_path / "c") in ended.stderr


def test_a_run_without_a_round_does_not_end_it(tmp_path: Path, build: Any) -> None:
    write(build, tmp_path / "a", accuracy=(), status="failed")
    write(build, tmp_path / "b", seed=2)
    found = compared(tmp_path / "a", tmp_path / "b")
    assert any("without a finished round: a" in each for each in found.remarks)
    assert any("not completed" in each for each in found.remarks)
    compared_page(found)
    compared_text(found)


@settings(max_examples=20)
@given(order=st.permutations(range(7)))
def test_the_order_of_runs_changes_letters_and_no_figure(
    lab: Path, some: list[ComparableRun], order: list[int]
) -> None:
    def figures(runs: list[ComparableRun]) -> dict[str, Any]:
        found = compare_runs(runs, targets=(0.5,))
        return {
            each.group.label: (each.final, each.board, each.group.seeds, costs)
            for each, costs in zip(found.figures, found.targets[0].costs, strict=True)
        }

    assert figures([some[k] for k in order]) == figures(some)


def test_letters() -> None:
    letters = lettered_groups(800)
    assert (letters[0], letters[25], letters[26], letters[27]) == ("A", "Z", "AA", "AB")
    assert len(set(letters)) == 800


def test_less_than_two_is_nothing_to_compare() -> None:
    with pytest.raises(ComparisonError, match="name two runs or more"):
        compare_runs([])
