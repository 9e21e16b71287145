"""Tables for a paper: LaTeX that compiles, whatever names are in it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from compared_runs import cell, run
from hypothesis import given
from hypothesis import strategies as st

from fimi.record.reader import read_run
from fimi.record.summary import summarise
from fimi.report.comparison.result import compare
from fimi.report.comparison.runs import AccuracyTarget
from fimi.report.comparison.shown import Table
from fimi.report.comparison.tables import as_latex
from fimi.report.comparison.values import as_json
from fimi.report.latex import COLUMN_PT, PREAMBLE, document, of_table
from fimi.report.latex_letters import escaped
from fimi.report.run_latex import run_latex
from fimi.testbed.cli import main

PDFLATEX = shutil.which("pdflatex")
HOSTILE = ["a_b%c$d#e&f", r"\input{/etc/passwd}", '[1] ~^{}<>|"', "µΩ 漢字 Žižek", "--- ''"]


def cells(tex: str) -> list[list[list[str]]]:
    """The rows of each table, by a small reading of LaTeX: braces, escapes, ``&`` and ``\\\\``."""
    found = []
    for body in re.findall(
        r"\\begin\{tabular\}\{@\{\}[lr]+@\{\}\}\n(.*?)\n  \\end\{tabular\}", tex, re.S
    ):
        rows: list[list[str]] = []
        lines = re.sub(r"\\(?:top|mid|bottom)rule|\\cmidrule\(lr\)\{\d+-\d+\}", "", body)
        depth, cell, row, i = 0, "", [], 0
        nested = 0
        while i < len(lines):
            two = lines[i : i + 2]
            if lines.startswith(r"\begin{tabular}", i):
                nested += 1
            elif lines.startswith(r"\end{tabular}", i):
                nested -= 1
            if two == "\\\\" and not nested:
                rows.append([*row, cell.strip()])
                row, cell, i = [], "", i + 2
                continue
            if two[:1] == "\\":
                cell, i = cell + two, i + 2
                continue
            letter = lines[i]
            assert letter not in "#$%^_~" or letter == "~" or depth, f"bare {letter!r} in {lines}"
            depth += (letter == "{") - (letter == "}")
            assert depth >= 0
            if letter == "&" and not nested:
                row, cell = [*row, cell.strip()], ""
            else:
                cell += letter
            i += 1
        assert depth == nested == 0 and not cell.strip()
        found.append(rows)
    return found


def width(row: list[str]) -> int:
    """How many columns a row has, those that a cell spans counted."""
    spans = [re.match(r"\\multicolumn\{(\d+)\}", cell) for cell in row]
    return sum(int(span[1]) if span else 1 for span in spans)


@pytest.fixture
def hostile(tmp_path: Path, build: Any) -> Path:
    build.write(tmp_path / "run", names=HOSTILE)
    return tmp_path / "run"


def test_the_tables_of_a_run_have_its_numbers_with_kind_and_uncertainty(run_dir: Path) -> None:
    stored = read_run(run_dir)
    tex = run_latex(stored, summarise(stored))
    settings, devices, *phases, prices = cells(tex)
    for each in (settings, devices, *phases):
        assert [width(row) for row in each] == [width(each[0])] * len(each)
    by_name = {row[0]: row for row in devices}
    assert by_name["device-0"][1:4] == ["92.0 J", "86.1 J", "861 mJ"]
    assert by_name["Fleet"][1:4] == ["184 J", "172 J", "1.22 J"]
    assert r"emulated, \\ board" in devices[1][2]
    assert {row[0]: row[2:4] for row in settings}["device-0"] == ["10", "6"]
    for each in phases:
        assert [row[0] for row in each[-5:]] == [
            "synthetic download", "model download", "compute", "upload", "idle"
        ]  # fmt: skip
    assert prices[1][:2] == ["50 \\%", "1"]
    assert r"\caption{Devices of the run (2 of 2)}" in tex
    assert r"\label{tab:devices-2}" in tex and PREAMBLE in tex


@pytest.mark.skipif(PDFLATEX is None, reason="pdflatex is not installed")
def test_tables_are_no_wider_than_a_column(run_dir: Path, tmp_path: Path) -> None:
    """As TeX says; wide tables of comparisons as well, and a cell that begins as an argument."""
    stored = read_run(run_dir)
    heading = ("what", *(f"strategy-{k}\nJ (emulated)" for k in range(6)))
    row = ("joules to the target", *("76.9 J [71.0, 77.7] (emulated)",) * 6)
    star = ("*", "a sentence that is longer than a cell of a paper may be", *("[1, 2]",) * 5)
    wide = of_table(Table(caption="c", heading=heading, rows=(row, star)), label="a")
    tex = run_latex(stored, summarise(stored)) + wide
    tables = re.findall(r"\\setlength.*?\n|\\begin\{tabular\}\{@.*?\n  \\end\{tabular\}", tex, re.S)
    assert len(tables) % 2 == 0 and len(tables) > 8
    body = "".join(
        f"\\setbox0\\hbox{{\\footnotesize{gap}{table}}}\\message{{WIDTH:\\the\\wd0:}}\n"
        for gap, table in zip(tables[::2], tables[1::2], strict=True)
    )
    said = compiled(body, tmp_path)
    widths = [float(pt) for pt in re.findall(r"WIDTH:([\d.]+)pt:", said)]
    assert len(widths) == len(tables) // 2
    assert 100.0 < max(widths) <= COLUMN_PT


def test_hostile_names_are_text(hostile: Path) -> None:
    stored = read_run(hostile)
    devices = cells(run_latex(stored, summarise(stored)))[0]
    assert len({width(row) for row in devices}) == 1
    names = {row[0] for row in devices}
    assert r"a\_b\%c\$d\#e\&f" in names
    assert r"\textbackslash{}input\{/etc/passwd\}" in names


@given(st.lists(st.text(max_size=12), min_size=1, max_size=4))
def test_any_text_keeps_a_table_whole(texts: list[str]) -> None:
    row = tuple(texts)
    made = of_table(Table(caption=texts[0], heading=row, rows=(row, row)), label="a")
    found = cells(made)
    for each in found:
        assert [len(line) for line in each] == [len(each[0])] * 3
    others = sum(len(each[0]) - 1 for each in found)
    assert others == len(texts) - 1  # beside the first column, which every table has
    assert all(letter.isascii() or ord(letter) < 0x180 for letter in escaped(texts[0]))


@pytest.mark.skipif(PDFLATEX is None, reason="pdflatex is not installed")
def test_it_compiles(hostile: Path, tmp_path: Path) -> None:
    stored = read_run(hostile)
    shown = Table(
        caption="Every letter that is told: ± × ≤ ≥ µ Δ α σ τ ² ³ ° – — ’ … −",
        heading=("one\nJ (emulated)", "two"),
        rows=(("[1, 2]", "never"), ("–", "1.02 [1.00, 1.03]")),
    )
    tables = [run_latex(stored, summarise(stored)), of_table(shown, label="All of them")]
    text = document(tables, "all")
    compiled(text, tmp_path)
    assert (tmp_path / "paper.pdf").stat().st_size > 1000


def compiled(text: str, folder: Path) -> str:
    """What pdfLaTeX says of a paper with this text."""
    whole = f"\\documentclass{{article}}{PREAMBLE}\\begin{{document}}\n{text}x\\end{{document}}\n"
    (folder / "paper.tex").write_text(whole, encoding="utf-8")
    done = subprocess.run(
        [str(PDFLATEX), "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=folder,
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:].decode(errors="replace")
    return done.stdout.decode(errors="replace").replace("\n", "")


def test_the_command(run_dir: Path) -> None:
    done = CliRunner().invoke(main, ["report", str(run_dir), "--format", "latex"])
    assert done.exit_code == 0, done.output
    stored = read_run(run_dir)
    assert done.output == run_latex(stored, summarise(stored))
    assert not (run_dir / "report.html").exists()


def test_runs_side_by_side(tmp_path: Path, build: Any) -> None:
    for name in ("one_run", "other"):
        build.write(tmp_path / name, about={"strategy": f"s_{name}"})
    places = [str(tmp_path / name) for name in ("one_run", "other")]
    done = CliRunner().invoke(main, ["compare", *places, "--format", "latex"])
    assert done.exit_code == 0, done.output
    found = cells(done.stdout)
    assert len(found) > 3
    for rows in found:
        assert len({width(row) for row in rows}) == 1
    labels = re.findall(r"\\label\{tab:([a-z0-9-]+)\}", done.stdout)
    assert len(labels) == len(found)


def test_experiments_side_by_side(tmp_path: Path) -> None:
    for name in ("a", "b"):
        found = compare(
            [cell("tfl", seed, run(0.5, 0.6, 0.7)) for seed in range(3)],
            name=name,
            title="",
            baseline="tfl",
            target=AccuracyTarget(value=0.55),
            confidence=0.95,
        )
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_bytes(as_json(found))
        tables = cells(as_latex(found))
        assert any("tfl" in row for rows in tables for row in rows)
    places = [str(tmp_path / name) for name in ("a", "b")]
    done = CliRunner().invoke(main, ["experiment", "compare", *places, "--format", "latex"])
    assert done.exit_code == 0, done.output
    (table,) = cells(done.stdout)
    rows = {row[0]: row[1:] for row in table}
    assert rows["tfl"] == ["A", "B", "B/A"]
    below = r"\begin{tabular}[t]{@{}r@{}}70.0 \% \\ {}[70.0, 70.0]\end{tabular}"
    assert rows["final accuracy"][:2] == [below] * 2
