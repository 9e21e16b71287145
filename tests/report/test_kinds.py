"""A physical and an emulated device in one run: each number says what it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fimi.energy.joules import Energy
from fimi.record.reader import read_run
from fimi.record.summary import summarise
from fimi.report.figures import pictures
from fimi.report.page import write_report
from fimi.report.terminal import as_text
from fimi.report.words import alike, cell, heading, parts, word

PLUG = Energy(value_j=3.0, kind="measured", source="plug", scope="wall")
RAPL = Energy(value_j=1.0, kind="measured", source="rapl", scope="cpu")
BOARD = Energy(value_j=8.0, kind="emulated", source="emulated:pi")
SUM = Energy(value_j=12.0, kind="mixed", source="emulated:pi+plug+rapl", scope="wall")


class TestWords:
    def test_of_one_kind_the_heading_says_it(self) -> None:
        assert alike([BOARD, None, BOARD])
        assert heading([BOARD, None]) == "emulated, board"
        assert cell(BOARD, bare=True) == "8.00 J"
        assert parts([BOARD, BOARD]) == ""

    def test_of_several_each_says_it(self) -> None:
        assert not alike([BOARD, PLUG])
        assert heading([BOARD, PLUG]) == "each of its kind"
        assert cell(PLUG, bare=False) == "3.00 J (measured, wall)"
        assert parts([BOARD, PLUG, None, RAPL]) == "4.00 J measured + 8.00 J emulated"

    def test_what_differs_is_named(self) -> None:
        assert word(PLUG, [PLUG, RAPL]) == "wall"
        assert word(BOARD, [PLUG, BOARD]) == "emulated, board"
        assert word(SUM, [PLUG, BOARD, RAPL]) == "mixed, wall"

    def test_nothing(self) -> None:
        assert (heading([None]), cell(None, bare=True), word(None, [])) == ("–", "–", "–")
        assert parts([]) == ""


@pytest.fixture
def mixed(tmp_path: Path, build: Any) -> Path:
    build.write(tmp_path / "run", physical=["device-1"])
    return tmp_path / "run"


def test_in_the_terminal(mixed: Path) -> None:
    text = as_text(mixed, "utf-8")
    assert max(map(len, text.splitlines())) <= 100
    lines = [" ".join(line.split()) for line in text.splitlines()]
    rows = {
        name: lines[place : place + 2]
        for name in ("device-0", "device-1", "fleet")
        for place, line in enumerate(lines)
        if line.startswith(name)
    }
    assert rows["device-0"][0].endswith("92.0 J 86.1 J emulated, +6.9 %")
    assert rows["device-1"][0].endswith("92.0 J 86.1 J measured, +6.9 %")
    assert rows["fleet"][0].endswith("184 J 172 J mixed, +6.9 %")
    assert [rows[name][1] for name in rows] == ["board", "wall", "wall"]
    words = " ".join(text.split())
    assert "172 J (mixed, wall) = 86.1 J measured + 86.1 J emulated, predicted 184 J" in words
    assert "(emulated" not in text  # of no total
    assert text.count("metered") == 2  # joules; seconds, as one clock is real and one is not


JOULES = re.compile(r"[0-9] [kMmµ]?J\b(?: ± [0-9.]+ [kMmµ]?J\b)?(.{0,14})")
OF_KIND = re.compile(r" ?\(?(measured|modelled|emulated|mixed)\b")


@pytest.mark.parametrize("physical", [(), ("device-1",), ("device-0", "device-1")])
def test_no_joule_is_bare(tmp_path: Path, build: Any, physical: tuple[str, ...]) -> None:
    """Each has its kind behind it; a bound has that of the energy before it."""
    gap = build.device_round("device-0", unread=("upload",))
    rounds = [build.round_result(n, [gap, build.device_round("device-1")], 0.3) for n in (1, 2)]
    for name, more in (("whole", {}), ("gaps", {"rounds": rounds})):
        build.write(tmp_path / name, physical=physical, **more)
        table, _, lines = as_text(tmp_path / name, "utf-8").partition("\n\nrun ")
        assert "modelled" in table
        said = re.sub(r"bound [0-9.]+ [kMm]?J", "", " ".join(lines.split()))
        found = JOULES.findall(said)
        assert len(found) >= 6
        assert [behind for behind in found if not OF_KIND.match(behind)] == []


def test_a_long_name_costs_no_number(tmp_path: Path, build: Any) -> None:
    names = ["a-device-with-a-very-long-name-indeed", "device-1"]
    build.write(tmp_path, names=names, physical=["device-1"])
    text = as_text(tmp_path, "utf-8")
    assert max(map(len, text.splitlines())) <= 100
    assert " ".join(text.split()).count("92.0 J 86.1 J") == 2
    assert text.count("+6.9 %") == 4  # both devices, the fleet, the words below


def test_on_the_page(mixed: Path) -> None:
    page = write_report(mixed).read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert '<td class="number">86.1 J (measured, wall)</td>' in page
    assert '<td class="number">86.1 J (emulated, board)</td>' in page
    assert '<td class="number">172 J (mixed, wall)</td>' in page
    assert "raspberry-pi-4 (physical)" in page
    assert "The devices were not all of one kind: 86.1 J measured + 86.1 J emulated" in page
    assert "No physical device was involved" not in page
    assert ">emulated, board</th>" not in page


def test_in_the_pictures(mixed: Path) -> None:
    run = read_run(mixed)
    drawn = pictures(run, summarise(run))
    for name in ("energy-to-accuracy", "cumulative-energy"):
        layout = drawn[name].figure.to_json()
        assert "(mixed, wall)" in layout
        assert "emulated" not in layout
    hover = drawn["measured-predicted"].figure.to_json()
    assert "measured 86.1 J (measured, wall)" in hover
    assert "measured 86.1 J (emulated, board)" in hover
