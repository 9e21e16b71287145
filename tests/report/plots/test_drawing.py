"""Figures as files: their size, fonts, lines and colours, and the same bytes each time."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("matplotlib", reason="pip install 'fimi-testbed[figures]'")

import matplotlib as mpl

from fimi.report.plots.drawing import draw
from fimi.report.plots.figure import Axis, Figure, FigureError, FigureSeries
from fimi.report.plots.kinds import RUN_KINDS, figure_of
from fimi.report.plots.lengths import length_m
from fimi.report.tokens import DARK, LIGHT
from fimi.testbed.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, build: Any) -> Path:
    where = tmp_path_factory.mktemp("drawn") / "a-run"
    build.write(where, names=["$x_1$", "_hidden", "<b>%"])
    return where


@pytest.fixture(scope="module")
def figures(folder: Path) -> dict[str, Figure]:
    found = {}
    for kind in RUN_KINDS:
        try:
            found[kind] = figure_of(folder, kind)
        except FigureError:
            continue
    return found


def streams(pdf: bytes) -> bytes:
    """All that a PDF draws and embeds, unpacked."""
    found = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    unpacked = []
    for each in found:
        try:
            unpacked.append(zlib.decompress(each))
        except zlib.error:
            continue
    return b"\n".join(unpacked)


def test_every_kind_is_drawn_whatever_devices_are_called(figures: dict[str, Figure]) -> None:
    assert {"accuracy", "accuracy-joules", "energy-devices", "energy-phases", "images"} <= {
        *figures
    }
    for figure in figures.values():
        assert draw(figure, "svg").startswith(b"<?xml")


def test_a_pdf_has_its_size_true_type_fonts_of_8_pt_and_no_hair_lines(
    figures: dict[str, Figure],
) -> None:
    pdf = draw(figures["energy-devices"], "pdf", width_m=length_m("88mm"))
    (box,) = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", pdf)
    assert float(box[0]) == pytest.approx(88 / 25.4 * 72, abs=0.01)
    assert b"/Type3" not in pdf and b"/FontFile2" in pdf
    drawn = streams(pdf)
    sizes = {float(size) for size in re.findall(rb"/F\d+ ([\d.]+) Tf", drawn)}
    assert sizes == {8.0}
    widths = {float(width) for width in re.findall(rb"(?<![\d.])([\d.]+) w\b", drawn)}
    assert {0.6, 0.8} <= widths  # of axes and of ±
    assert min(widths - {0.0}) >= 0.5
    assert b"CreationDate" not in pdf


def test_a_png_and_an_svg_have_the_width_that_is_asked_for(figures: dict[str, Figure]) -> None:
    png = draw(figures["accuracy"], "png", width_m=length_m("2in"), height_m=length_m("1.5in"))
    assert struct.unpack(">II", png[16:24]) == (1200, 900)
    svg = draw(figures["accuracy"], "svg", width_m=length_m("252pt")).decode()
    assert 'width="252pt"' in svg


@pytest.mark.parametrize("form", ["pdf", "svg", "png"])
def test_the_same_bytes_each_time_and_light_whatever_is_set(
    figures: dict[str, Figure], form: Any
) -> None:
    first = draw(figures["accuracy-joules"], form)
    with mpl.rc_context({"figure.facecolor": "black", "font.size": 20, "savefig.dpi": 30}):
        assert draw(figures["accuracy-joules"], form) == first
    if form == "svg":
        assert LIGHT["measured"] in first.decode() and DARK["measured"] not in first.decode()


def test_a_title_is_drawn_only_where_it_is_asked_for(figures: dict[str, Figure]) -> None:
    plain = draw(figures["accuracy"], "svg")
    assert draw(figures["accuracy"], "svg", title=True) != plain


def test_lines_on_each_other_differ_in_dash_and_marker() -> None:
    axis = Axis(name="x", title="x")
    same = [FigureSeries(name=f"s{k}", x=(0.0, 1.0), y=(0.0, 1.0), look=k) for k in range(4)]
    svg = draw(Figure(kind="a", title="", x=axis, y=axis, series=tuple(same)), "svg").decode()
    dashes = set(re.findall(r"stroke-dasharray: ([\d., ]+)", svg))
    assert len(dashes) == 3  # and one solid


def test_no_such_font(figures: dict[str, Figure]) -> None:
    with pytest.raises(FigureError, match="no font 'Nonesuch' here; 'DejaVu Sans'"):
        draw(figures["accuracy"], "png", font="Nonesuch")


@pytest.mark.parametrize(
    ("text", "metres"),
    [("88mm", 0.088), ("8.8cm", 0.088), ("3.5in", 0.0889), (" 252 pt ", 252 * 0.0254 / 72)],
)
def test_lengths(text: str, metres: float) -> None:
    assert length_m(text) == pytest.approx(metres)


@pytest.mark.parametrize("text", ["88", "mm", "-5mm", "1e2mm", "1mm", "9m", "600mm", "nan in"])
def test_no_lengths(text: str) -> None:
    with pytest.raises(ValueError, match=r"88mm|from 30 to 500 mm"):
        length_m(text)


class TestCommand:
    def run(self, *arguments: object) -> Any:
        return CliRunner().invoke(main, ["plot", *map(str, arguments)])

    def test_a_figure_and_its_numbers(self, folder: Path, tmp_path: Path) -> None:
        out = tmp_path / "new" / "curve.svg"
        done = self.run(folder, "accuracy", "--out", out, "--width", "60mm")
        assert done.exit_code == 0, done.output
        assert out.read_bytes() == draw(figure_of(folder, "accuracy"), "svg", width_m=0.06)
        numbers = out.with_suffix(".csv").read_text(encoding="utf-8").splitlines()
        assert numbers[0].startswith("series,round,accuracy_percent")
        assert len(numbers) == 4

    def test_several_go_below_the_run(self, folder: Path) -> None:
        done = self.run(folder, "images", "frequencies")
        assert done.exit_code == 0, done.output
        made = sorted(path.name for path in (folder / "figures").iterdir())
        assert made == ["frequencies.csv", "frequencies.pdf", "images.csv", "images.pdf"]

    def test_the_list(self) -> None:
        done = self.run("--list")
        assert done.exit_code == 0
        assert "energy-devices" in done.output and "Of an experiment:" in done.output

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ((), "fimi plot --list"),
            (("RUN",), "fimi plot --list"),
            (("RUN", "accuracy", "images", "--out", "one.pdf"), "name a folder"),
            (("RUN", "accuracy", "--out", "a.gif"), "write pdf, svg, png"),
            (("RUN", "accuracy", "--out", "a.png", "--format", "pdf"), "differ"),
            (("RUN", "accuracy", "--width", "88"), "write 88mm"),
            (("RUN", "acuracy"), "but accuracy"),
        ],
    )
    def test_what_cannot_be_drawn_is_said(
        self, folder: Path, arguments: tuple[str, ...], says: str
    ) -> None:
        done = self.run(*(folder if each == "RUN" else each for each in arguments))
        assert done.exit_code == 2, done.output
        assert says in done.output.replace("\n", " ")
