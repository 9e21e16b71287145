from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fimi.report.layout import Paper
from fimi.report.page import write_report
from fimi.report.terminal import as_text


def test_says_what_a_run_came_to(run_dir: Path) -> None:
    text = as_text(run_dir, "utf-8")
    assert "completed, 3 rounds" in text
    assert "70.0 % after round 3, best 80.0 % in round 2" in text
    words = " ".join(text.split())
    for said in (
        "172 J (emulated, board), predicted 184 J (modelled; +6.9 %; mean absolute 7.0 %)",
        "least board energy 10.1 J (modelled; bound 10.0 J, gap 1.00 %), dynamic 4.00 J (modelled; ",
        "mean of 3 rounds: 57.4 J (emulated, board), planned 10.1 J (modelled; −82.4 %)",
    ):
        assert said in words
    assert "found by cross-entropy" in words
    row = next(line for line in text.splitlines() if "device-1" in line)
    assert " ".join(row.split()) == "device-1 6 1.35 1.40 50.0 5.50 5.50 92.0 J 86.1 J +6.9 %"


@pytest.mark.parametrize("width", [80, 120])
def test_a_row_per_device_whatever_its_name(tmp_path: Path, build: Any, width: int) -> None:
    name = "a-device-with-a-very-long-name-that-somebody-gave-it"
    late = build.device_round(name, status="late", reason="busy for far too long " * 8)
    build.write(tmp_path, names=[name], rounds=[build.round_result(1, [late], 0.5)])
    text = as_text(tmp_path, "utf-8", Paper(width))
    assert max(map(len, text.splitlines())) <= width
    table = text.split("\n\n")[0].splitlines()
    (row,) = [line for line in table if line.startswith("a-device")]
    assert name in row or "…" in row  # nothing is cut off silently
    assert table[-1].startswith("fleet")


def test_colours_are_for_terminals_and_say_nothing_alone(tmp_path: Path, build: Any) -> None:
    late = build.device_round("a", status="late", reason="busy")
    build.write(tmp_path, names="a", rounds=[build.round_result(1, [late], 0.5)])
    plain, coloured = (as_text(tmp_path, "utf-8", Paper(80, c)) for c in (False, True))
    assert "\x1b" not in plain
    assert "\x1b[31ma\x1b[39m" in coloured  # the device whose update was not accepted
    assert "\x1b[31mnot accepted\x1b[39m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain


def test_a_budget_that_was_not_kept(tmp_path: Path, build: Any) -> None:
    build.write(tmp_path, about={"config": {"plan.device_budget_j": 80, "plan.fleet_budget_j": 0}})
    words = " ".join(as_text(tmp_path, "utf-8").split())
    assert "over budget device-0 took 6." in words
    assert "more than its budget of 80 J: 86.1 J (emulated, board) ± " in words
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "The run took more than its budget." in page
    assert "more than its budget of 80 J: 86.1 J (emulated, board)" in " ".join(page.split())


def test_a_budget_that_was_kept(tmp_path: Path, build: Any) -> None:
    build.write(
        tmp_path, about={"config": {"plan.device_budget_j": 100, "plan.fleet_budget_j": 1000}}
    )
    words = " ".join(as_text(tmp_path, "utf-8").split())
    assert "budget the fleet took 172 J (emulated, board) of 1000 J" in words
    assert "budget device-0 took 86.1 J (emulated, board) of 100 J, the nearest of 2" in words
    assert "over budget" not in words
    page = " ".join(write_report(tmp_path).read_text(encoding="utf-8").split())
    assert "<strong>the fleet took 172 J (emulated, board)</strong> of 1000 J" in page


def test_a_round_is_no_mean(tmp_path: Path, build: Any) -> None:
    build.write(tmp_path, rounds=[build.round_result(1, [build.device_round("device-0")], 0.5)])
    words = " ".join(as_text(tmp_path, "utf-8").split())
    assert "plan held 1 round: " in words


def test_unmetered_and_refused_are_named(tmp_path: Path, build: Any) -> None:
    entry = build.device_round("a", unread={"idle"}, status="refused", reason="NaN in conv1")
    build.write(tmp_path, names="a", rounds=[build.round_result(1, [entry], 0.5)])
    text = as_text(tmp_path, "utf-8")
    assert "not metered    a: idle in round 1" in text
    words = " ".join(text.split())
    assert "unknown; 25.1 J (emulated, board) known, without idle in round 1 of a" in words
    assert "1 of 1 updates; last in round 1, refused: NaN in conv1" in text


def test_of_many_refused_devices_the_first_are_named(tmp_path: Path, build: Any) -> None:
    names = [f"d{n}" for n in range(8)]
    entries = [build.device_round(name, status="late", reason="busy") for name in names]
    build.write(tmp_path, names=names, rounds=[build.round_result(1, entries, 0.5)])
    text = as_text(tmp_path, "utf-8")
    assert text.count("1 of 1 updates") == 5
    assert "not accepted   3 more devices; the report names them" in text


def test_no_rounds(tmp_path: Path, build: Any) -> None:
    build.write(tmp_path, names=(), rounds=[], about={})
    text = as_text(tmp_path, "utf-8")
    assert "running, 0 rounds finished so far" in text
    assert "nothing was metered" in text


def test_names_cannot_steer_the_terminal(tmp_path: Path, build: Any) -> None:
    names = ["[bold]x[/bold]", "\x1b[2Jgone", "line\nbreak"]
    build.write(tmp_path, names=names)
    text = as_text(tmp_path, "utf-8", Paper(100, True))
    assert "[bold]x[/bold]" in text
    assert "\x1b[2J" not in text
    assert "line\nbreak" not in text


def test_characters_the_reader_lacks_are_replaced(run_dir: Path) -> None:
    text = as_text(run_dir, "ascii")
    assert text.isascii()
    assert "50.0 % 576 70.0 %" in text  # the curve as levels 1 to 8
    assert "?" not in text


def test_measured_operating_points_are_named(tmp_path: Path, build: Any) -> None:
    names = [f"d{n}" for n in range(8)]
    build.write(
        tmp_path,
        names=names,
        rounds=[build.round_result(1, [build.device_round(name) for name in names], 0.5)],
    )
    assert "\nset  " not in as_text(tmp_path, "utf-8")
    with sqlite3.connect(tmp_path / "run.sqlite") as db:
        change = "UPDATE device_plan SET body = json_set(body, '$.point.setting', ?) WHERE device "
        db.execute(change + "< 'd7'", ["cpu 1.5 GHz, gpu 306 MHz"])
        db.execute(change + "= 'd7'", ["mode 2\x1b[31m"])
    db.close()
    words = " ".join(as_text(tmp_path, "utf-8").split())
    assert "set d0, d1, d2, d3, d4 and 2 more: cpu 1.5 GHz, gpu 306 MHz; their GHz are" in words
    assert "set d7: mode 2" in words
    assert "\x1b" not in words
    page = " ".join(write_report(tmp_path).read_text(encoding="utf-8").split())
    assert page.count("cpu 1.5 GHz, gpu 306 MHz") == 7


@pytest.mark.parametrize(("search_percent", "said"), [(0.01, True), (1.5, False), (-0.2, True)])
def test_the_search_has_a_gap_of_its_own_where_it_is_a_part_of_the_plan_s(
    run_dir: Path, search_percent: float, said: bool
) -> None:
    with sqlite3.connect(run_dir / "run.sqlite") as db:
        change = "UPDATE plan SET body = json_set(body, '$.search_gap_percent', ?)"
        assert db.execute(change, [search_percent]).rowcount == 1
    db.close()
    text = " ".join(as_text(run_dir, "utf-8").split())
    page = " ".join(write_report(run_dir).read_text(encoding="utf-8").split())
    assert ("gap of the search alone" in text) == said
    assert ("search alone 0" in page) == said
    assert ("its gap, of the search alone" in page) == said
    assert ("search alone −" in page) is False


@pytest.mark.parametrize("exposed", [None, "", "without TLS: whoever is there reads it"])
def test_messages_that_were_open_to_others(tmp_path: Path, build: Any, exposed: str | None) -> None:
    build.write(tmp_path, about={"exposed": exposed})
    words = " ".join(as_text(tmp_path, "utf-8").split())
    page = " ".join(write_report(tmp_path).read_text(encoding="utf-8").split())
    assert ("unprotected the broker was used without TLS" in words) == bool(exposed)
    assert ("Messages were unprotected." in page) == bool(exposed)
