"""Runs found, chosen, sorted and listed; broken ones are named and end nothing."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sqlite3
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fimi.record.catalogue import Listed, find, listed
from fimi.record.reader import ReportError, read_run
from fimi.record.summary import summarise
from fimi.report.collection.listing import as_csv, as_lines, as_rows
from fimi.report.collection.selection import KEYS, RunFilter, moment, ordered, stands
from fimi.report.document import document
from fimi.report.layout import Paper
from fimi.testbed.cli import main


def about(strategy: str, day: int, data: str = "digits", **more: Any) -> dict[str, Any]:
    return {
        "strategy": strategy,
        "seed": day,
        "started_at": f"2026-11-{day:02d}T09:30:00+00:00",
        "status": "completed",
        "config": {"rounds.count": 3},
        "dataset": {"name": data, "alpha": 0.1},
        **more,
    }


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, build: Any) -> Path:
    """A lab after a week: runs, an experiment, and what has gone wrong."""
    lab: Path = tmp_path_factory.mktemp("lab")
    build.write(lab / "runs" / "fimi-a", about=about("fimi", 3))
    build.write(lab / "runs" / "tfl-a", about=about("tfl", 2))
    build.write(
        lab / "runs" / "boards", about=about("fimi", 5, data="mnist"), physical=("device-0",)
    )
    gap = [build.device_round("device-0", unread=("upload",)), build.device_round("device-1")]
    build.write(
        lab / "runs" / "gap",
        about=about("tfl", 4, status="interrupted", resumed=2),
        rounds=[build.round_result(1, gap, 0.25)],
    )
    build.write(lab / "runs" / "killed", about=about("genfl", 6, status="running"))
    for seed in (1, 2):
        build.write(
            lab / "experiments" / "alpha" / "runs" / f"tfl-seed{seed}", about=about("tfl", 7)
        )
    (lab / "experiments" / "alpha" / "cells").mkdir()
    whole = (lab / "runs" / "fimi-a" / "run.sqlite").read_bytes()
    broken = lab / "runs" / "z-broken"
    for name in ("cut", "newer", "text", "empty", "without"):
        (broken / name).mkdir(parents=True)
    (broken / "cut" / "run.sqlite").write_bytes(whole[: len(whole) // 3])
    (broken / "text" / "run.sqlite").write_text("no database\n" * 100)
    (broken / "empty" / "run.sqlite").write_bytes(b"")
    (broken / "without" / "model.safetensors").write_bytes(b"x")
    (broken / "newer" / "run.sqlite").write_bytes(whole)
    db = sqlite3.connect(broken / "newer" / "run.sqlite")
    db.execute("PRAGMA user_version = 99")
    db.close()
    (lab / "runs" / "notes").mkdir()
    (lab / "runs" / "notes" / "todo.txt").write_text("buy a plug")
    return lab


@pytest.fixture(scope="module")
def found(lab: Path) -> list[Listed]:
    return ordered(map(listed, find(lab)), "began")


def test_all_runs_are_found_and_nothing_else(found: list[Listed]) -> None:
    assert {run.name for run in found} == {
        *("fimi-a", "tfl-a", "boards", "gap", "killed", "alpha/tfl-seed1", "alpha/tfl-seed2"),
        *("cut", "newer", "text", "empty", "without"),
    }


def test_broken_ones_say_why(found: list[Listed]) -> None:
    said = {run.name: run.problem for run in found if run.headline is None}
    assert said.keys() == {"cut", "newer", "text", "empty", "without"}
    assert "malformed" in said["cut"]
    assert "run store version 99" in said["newer"] and "update" in said["newer"]
    assert "not a database" in said["text"]
    assert "lacks the tables" in said["empty"] and "run.sqlite-wal" in said["empty"]
    assert said["without"] == "its store run.sqlite is missing; there is only model.safetensors"


def test_standings(found: list[Listed]) -> None:
    known = {run.name: stands(run) for run in found}
    assert known["killed"] == "killed"
    assert known["gap"] == "interrupted"
    assert known["fimi-a"] == "completed"
    assert known["cut"] == "broken"


def test_numbers_are_those_of_the_report(found: list[Listed]) -> None:
    for run, row in zip(found, as_rows(found), strict=True):
        if run.headline is None:
            assert row["problem"] and row["energy_known_j"] is None and row["accuracy"] is None
            continue
        data = read_run(run.path)
        told = document(data, summarise(data))
        assert row["energy_j"] == told.energy_measured_j
        known = told.energy.known
        assert known is not None
        assert (row["energy_known_j"], row["energy_kind"]) == (known.value_j, known.kind)
        assert (row["energy_scope"], row["energy_uncertainty_j"]) == (
            known.scope,
            known.uncertainty_j,
        )
        assert (row["rounds"], row["accuracy"]) == (told.rounds, told.accuracy[-1])
        assert row["devices"] == len(data.devices)
    by_name = {row["run"]: row for row in as_rows(found)}
    assert by_name["boards"]["energy_kind"] == "mixed"
    assert by_name["gap"]["energy_j"] is None and by_name["gap"]["resumed"] == 2


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_it_fits(found: list[Listed], width: int) -> None:
    lines = list(as_lines(found, Paper(width)))
    assert all(len(line) <= width for line in lines)
    text = "\n".join(lines)
    for word in ("broken", "killed", "interrupted", "malformed", "12 runs: 5 completed"):
        assert word in text
    if width == 80:
        assert "strategy" in text.split("in a wider")[0] and "emulated, board" in text


def test_joules_say_their_kind_and_what_is_only_a_part(found: list[Listed]) -> None:
    text = "\n".join(as_lines(found, Paper(200)))
    (gap,) = [line for line in text.splitlines() if line.startswith("gap")]
    at = next(n for n, line in enumerate(text.splitlines()) if line.startswith("boards"))
    boards, below = text.splitlines()[at : at + 2]
    assert "≥ " in gap and "emulated, board" in text.split("───")[0]
    assert "if not said" in text
    assert "≥" not in boards and below.strip() == "mixed, wall"
    alike = [run for run in found if run.name in ("fimi-a", "tfl-a")]
    text = "\n".join(as_lines(alike, Paper(80)))
    assert "emulated, board" in text and "if not said" not in text
    assert "all: data digits, devices 2, α 0.1" in text


def test_a_broken_run_has_no_time_at_which_it_began(found: list[Listed]) -> None:
    for row in as_rows(found):
        assert (row["began"] is None) == (row["status"] == "broken"), row["path"]
    broken = [run for run in found if run.headline is None]
    assert not any("20" in line for line in as_lines(broken, Paper(80)) if "broken" in line)


def test_csv_and_json_hold_every_run(lab: Path, found: list[Listed]) -> None:
    ended = CliRunner().invoke(main, ["runs", str(lab), "--format", "json"])
    assert ended.exit_code == 0
    rows = json.loads(ended.stdout)
    assert rows == json.loads(msgspec.json.encode(as_rows(found)))
    read = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [row["path"] for row in read] == [row["path"] for row in rows]
    for there, row in zip(read, rows, strict=True):
        for key, value in row.items():
            assert there[key] == ("" if value is None else str(value))


def chosen(lab: Path, *options: str) -> list[str]:
    ended = CliRunner().invoke(main, ["runs", str(lab), "--format", "json", *options])
    assert ended.exit_code == 0, ended.stderr
    return [Path(row["path"]).name for row in json.loads(ended.stdout)]


def test_filters(lab: Path) -> None:
    assert chosen(lab, "--strategy", "fimi") == ["fimi-a", "boards"]
    assert chosen(lab, "--strategy", "*f*", "--data", "mnist") == ["boards"]
    assert chosen(lab, "--status", "killed", "--status", "interrupted") == ["gap", "killed"]
    assert len(chosen(lab, "--status", "broken")) == 5
    assert chosen(lab, "--since", "2026-11-03T00:00", "--until", "2026-11-04", "--data", "*") == [
        "fimi-a",
        "gap",
    ]
    assert chosen(lab, "--status", "completed", "--sort", "accuracy", "--last", "1") != []
    assert chosen(lab, "--strategy", "tfl", "--sort", "energy", "--reverse")[-1] == "gap"
    assert chosen(lab / "experiments") == ["tfl-seed1", "tfl-seed2"]
    assert chosen(lab / "runs" / "tfl-a") == ["tfl-a"]


def test_what_trackers_keep_below_the_folder_is_no_broken_run(tmp_path: Path) -> None:
    for place in ("mlflow-artifacts/b0/artifacts", "tensorboard/a", "wandb/wandb/latest-run/files"):
        (tmp_path / place).mkdir(parents=True)
        for name in ("report.html", "model.onnx", "model-int8.onnx"):
            (tmp_path / place / name).write_bytes(b"x")
    assert list(find(tmp_path)) == []


def test_a_link_to_no_store_is_said(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.sqlite").symlink_to("/away/run.sqlite")
    said = listed(tmp_path / "run").problem
    assert said == "its store run.sqlite is a link to /away/run.sqlite: no file"


def test_wrong_words_are_said(lab: Path) -> None:
    for options, said in (
        (("--status", "brokn"), "did you mean 'broken'?"),
        (("--since", "tomorrow"), "is no time"),
        (("--since", ""), "is no time"),
        (("--sort", "joules"), "is no key"),
    ):
        ended = CliRunner().invoke(main, ["runs", str(lab), *options])
        assert ended.exit_code == 2
        assert said in ended.stderr
    for options, said in (
        (("--strategy", "FIMI"), "--strategy 'FIMI': no run has it; did you mean 'fimi'?"),
        (("--data", "minst", "--strategy", "tf*"), "--data 'minst': no run has it"),
    ):
        ended = CliRunner().invoke(main, ["runs", str(lab), *options])
        assert (ended.exit_code, ended.stdout) == (0, "0 runs\n")
        assert said in ended.stderr and "tf*" not in ended.stderr
    ended = CliRunner().invoke(main, ["runs", str(lab / "nowhere")])
    assert ended.exit_code == 3
    assert "there is no such folder" in ended.stderr


def test_one_run_by_its_name_or_its_folder(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab)
    for named, path in (
        ("boards", "runs/boards"),
        ("runs/boards", "runs/boards"),
        ("alpha/tfl-seed1", "experiments/alpha/runs/tfl-seed1"),
    ):
        ended = CliRunner().invoke(main, ["runs", named, "--format", "csv"])
        assert ended.exit_code == 0, ended.stderr
        _, only = csv.reader(io.StringIO(ended.stdout))  # the heading, and this run
        assert only[0] == path
        assert f"fimi report {path}" in CliRunner().invoke(main, ["runs", named]).stderr
    ended = CliRunner().invoke(main, ["runs", "alpha", "--format", "csv"])
    assert ended.stdout.count("\nexperiments/alpha/runs/tfl-seed") == 2  # the experiment
    ended = CliRunner().invoke(main, ["runs", "bords"])
    assert ended.exit_code == 3 and "R004" in ended.stderr
    assert "did you mean boards?" in ended.stderr


def test_an_empty_folder_has_no_runs(tmp_path: Path) -> None:
    ended = CliRunner().invoke(main, ["runs", str(tmp_path)])
    assert (ended.exit_code, ended.stdout) == (0, "0 runs\n")
    ended = CliRunner().invoke(main, ["runs", str(tmp_path), "--format", "csv"])
    assert ended.stdout.startswith("path,run,experiment,status")
    with pytest.raises(ReportError):
        list(find(tmp_path / "file"))


def test_a_loop_of_links_ends(tmp_path: Path, lab: Path) -> None:
    shutil.copytree(lab / "runs" / "tfl-a", tmp_path / "runs" / "tfl-a")
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    found = {os.path.realpath(path) for path in find(tmp_path)}
    assert found == {str(tmp_path / "runs" / "tfl-a")}


@given(damage=st.lists(st.tuples(st.integers(0, 200_000), st.binary(min_size=1, max_size=64))))
def test_a_damaged_store_never_ends_the_list(lab: Path, damage: list[tuple[int, bytes]]) -> None:
    folder = lab / "experiments" / "damaged"
    folder.mkdir(exist_ok=True)
    data = bytearray((lab / "runs" / "fimi-a" / "run.sqlite").read_bytes())
    for at, piece in damage:
        at %= len(data)
        data[at : at + len(piece)] = piece
    (folder / "run.sqlite").write_bytes(data)
    try:
        list(as_lines([listed(folder)], Paper(80)))
    finally:
        shutil.rmtree(folder)


NOW = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)


def test_moments() -> None:
    assert moment("3d", NOW) == NOW - timedelta(days=3)
    assert moment("90min", NOW) == NOW - timedelta(hours=1.5)
    assert moment("2026-11-30T14:05Z", NOW) == NOW.replace(hour=14, minute=5)
    local = NOW.astimezone()
    assert moment("today", local).date() == local.date()
    assert moment("2026-11-02", NOW, end=True) - moment("2026-11-02", NOW) == timedelta(days=1)


@given(st.text(max_size=12) | st.from_regex(r"[0-9]{1,5}[-:dhw.T ]{0,2}[0-9]{0,3}", fullmatch=True))
def test_any_text_is_a_moment_or_an_error_that_shows_it(text: str) -> None:
    try:
        assert moment(text, NOW).tzinfo is not None
    except ValueError as error:
        assert repr(text) in str(error)


def test_every_key_sorts(found: list[Listed]) -> None:
    for key in KEYS:
        up, down = ordered(found, key), ordered(found, key, reverse=True)
        assert sorted(r.name for r in up) == sorted(r.name for r in down)
    assert [run for run in found if RunFilter(standing=("broken",))(run)] == [
        run for run in found if run.problem
    ]


def test_a_pause_is_said_and_the_run_still_counts_as_running(lab: Path) -> None:
    run = listed(lab / "runs" / "killed")
    assert run.headline is not None
    found = [
        msgspec.structs.replace(
            run, headline=msgspec.structs.replace(run.headline, standing="running", paused=paused)
        )
        for paused in (True, False)
    ]
    lines = [*as_lines(found, Paper(80))]
    assert lines[0] == "2 runs: 2 running"
    assert [line.endswith("running, paused") for line in lines[-2:]] == [True, False]
    assert [(row["status"], row["paused"]) for row in as_rows(found)] == [
        ("running", True),
        ("running", False),
    ]
