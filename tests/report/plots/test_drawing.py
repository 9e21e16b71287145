"""Figures as files: their size, fonts, lines and colours, and the same bytes each time."""

from __future__ import annotations

import itertools
import re
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("matplotlib", reason="pip install 'fimi-testbed[figures]'")

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from fimi.report.plots import drawing, fitting
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


def numbered(**about: Any) -> Figure:
    """A figure of three points with intervals, of two lines that lie on each other."""
    x, y = Axis(name="x", title="x"), Axis(name="y", title="y", from_zero=True)
    ends: dict[str, Any] = {"low": (3.0,) * 3, "high": (7.0,) * 3}
    same = [
        FigureSeries(
            name=f"s{k}",
            x=(1.0, 2.0, 3.0),
            y=(4.0, 5.0, 6.0),
            look=k,
            **(ends | about.pop(f"s{k}", {})),
        )
        for k in range(2)
    ]
    return Figure(kind="a", title="", x=x, y=y, series=tuple(same), **about)


def uprights(svg: str, colour: str) -> set[float]:
    """Where upright lines of a colour stand."""
    found = re.findall(
        rf'd="M ([\d.]+) [\d.]+ \nL ([\d.]+) [\d.]+ \n"[^>]*style="[^"]*stroke: {colour}', svg
    )
    return {float(a) for a, b in found if a == b}


def test_intervals_of_two_lines_stand_side_by_side() -> None:
    svg = draw(numbered(dodge=True), "svg").decode()
    left, right = (uprights(svg, LIGHT[f"series-{k}"]) for k in (1, 2))
    assert len(left) == len(right) == 3
    for one, other in zip(sorted(left), sorted(right), strict=True):
        assert other - one == pytest.approx(3.5, abs=0.01)


def test_an_interval_without_an_upper_end_has_its_lower_half() -> None:
    """Where the value that ends it is never reached, it goes up to the median."""
    cut = numbered(dodge=True, s0={"high": (7.0, None, 7.0)}, s1={"low": (), "high": ()})
    assert len(uprights(draw(cut, "svg").decode(), LIGHT["series-1"])) == 3


def test_what_is_a_part_only_is_hollow() -> None:
    whole, part = (
        draw(numbered(s0={"least": (False, least, least)}), "svg").decode()
        for least in (False, True)
    )
    assert part.count("fill: #ffffff; stroke: " + LIGHT["series-1"]) > whole.count(
        "fill: #ffffff; stroke: " + LIGHT["series-1"]
    )


@pytest.mark.parametrize("width", ["30mm", "60mm", "88mm", "180mm"])
def test_what_is_written_lies_in_its_axes_or_is_refused(
    figures: dict[str, Figure], width: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen with a canvas that is asked for the extents of all text, after it is drawn."""
    seen: list[Any] = []
    monkeypatch.setattr(drawing, "Canvas", lambda **how: seen.append(Canvas(**how)) or seen[-1])
    figure = figures["accuracy-joules"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if width == "30mm":
            with pytest.raises(FigureError, match=r"30 mm by .* too small .* write --width \d+mm"):
                draw(figure, "png", width_m=length_m(width))
            return
        draw(figure, "pdf", width_m=length_m(width))
    (canvas,) = seen
    canvas.draw_without_rendering()
    (axes,) = canvas.axes
    box = axes.get_window_extent()
    (legend,) = canvas.legends
    upright = axes.yaxis.label.get_window_extent()
    assert upright.height <= 1.06 * box.height
    assert upright.y1 < legend.get_window_extent().y0
    for each in (upright, axes.xaxis.label.get_window_extent(), legend.get_window_extent()):
        assert canvas.bbox.x0 <= each.x0 and each.x1 <= canvas.bbox.x1
    assert box.height > 0.3 * canvas.bbox.width  # no slit


def test_a_height_without_room_is_refused(figures: dict[str, Figure]) -> None:
    """What is advised is enough."""
    with pytest.raises(FigureError, match=r"88 mm by 15 mm .* write --height \d+mm") as refused:
        draw(figures["accuracy-joules"], "png", height_m=0.015)
    (advised,) = re.findall(r"--height (\S+)", str(refused.value))
    assert draw(figures["accuracy-joules"], "svg", height_m=length_m(advised))


def test_long_names_of_classes_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(drawing, "Canvas", lambda **how: seen.append(Canvas(**how)) or seen[-1])
    names = tuple(f"a long name {k}" for k in range(43))
    bars = FigureSeries(
        name="real", x=tuple(map(float, range(43))), y=(1.0,) * 43, style="bars", look="measured"
    )
    x, y = Axis(name="class", title="class", names=names), Axis(name="n", title="images")
    draw(Figure(kind="images", title="", x=x, y=y, series=(bars,)), "svg")
    (axes,) = seen[0].axes
    boxes = [each.get_window_extent() for each in axes.get_xticklabels()]
    assert len(boxes) > 15
    assert all(one.x1 <= other.x0 for one, other in itertools.pairwise(boxes))


def test_letters_that_no_font_has_are_named() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = draw(named("板-1"), "svg").decode()
    assert svg.startswith("<?xml")
    assert fitting.written("板-1\n", frozenset(map(ord, "-1"))) == "U+677F-1\n"
    assert fitting.written("东京\n东", frozenset()) == "U+4E1C U+4EAC\nU+4E1C"
    known = frozenset(map(ord, "ab1 "))
    assert fitting.written("a东b1 东 b", known) == "a U+4E1C b1 U+4E1C b"


def named(name: str) -> Figure:
    """A figure of a device with this name."""
    bar = FigureSeries(name="real", x=(1.0,), y=(0.0,), style="bars", look="measured")
    y = Axis(name="device", title="", names=(name,))
    x = Axis(name="images", title="images")
    return Figure(kind="a", title="", x=x, y=y, series=(bar,), across=True, rows=1)


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
            (("RUN", "accuracy", "--width", "31mm"), "write --width"),
            (("RUN", "accuracy", "--device", "x"), "--device would change nothing"),
            (("RUN", "accuracy", "--round", "1"), "accuracy takes none of these"),
            (("RUN", "power-trace", "--point", "a = 1"), "power-trace takes --device and --round"),
            (("RUN", "images", "--over", "a"), "cost of an experiment"),
        ],
    )
    def test_what_cannot_be_drawn_is_said(
        self, folder: Path, arguments: tuple[str, ...], says: str
    ) -> None:
        done = self.run(*(folder if each == "RUN" else each for each in arguments))
        assert done.exit_code == 2, done.output
        assert says in done.output.replace("\n", " ")
