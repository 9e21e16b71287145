"""Drawing a figure for a paper with matplotlib: light, at its final size, the same bytes each time.

Text is 8 pt, lines 0.5 pt or more, at the width that is asked for. Lines differ in colour, dash and
marker, bars in colour and hatching, so that grey print tells them apart. Fonts go into a PDF as
TrueType (type 42), which publishers accept; an SVG has letters as outlines, so that it looks the
same without the font.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy
from msgspec.structs import replace

from fimi.record.clean import shortened
from fimi.report import plot_style
from fimi.report.plots.figure import Axis, Figure, FigureError, FigureSeries
from fimi.report.plots.fitting import fit, legend, written
from fimi.report.tokens import LIGHT

Format = Literal["pdf", "svg", "png"]
PNG_DPI = 600
_DASHES = {"solid": "-", "dash": (0, (5, 2)), "dot": (0, (1, 1.5)), "dashdot": (0, (5, 2, 1, 2))}
_MARKERS = {
    "circle": "o",
    "diamond": "D",
    "square": "s",
    "triangle-up": "^",
    "x": "X",
    "cross": "P",
    "star": "*",
}
_HATCHES = {
    "": "",
    "/": "///",
    "\\": "\\\\\\",
    "x": "xxx",
    "-": "---",
    "|": "|||",
    ".": "...",
    "+": "+++",
}
_OWN: dict[str, tuple[str, str]] = {
    "measured": ("solid", "circle"),
    "predicted": ("dash", "diamond"),
}
"""Dash and marker of the two hands of a comparison."""
_MOST_MARKERS = 25
_OWN_FONT = "DejaVu Sans"
"""Of matplotlib: there wherever it is, and the one that lends letters to others."""
_DODGE_PT = 3.5


def draw(
    figure: Figure,
    form: Format,
    *,
    width_m: float = 0.088,
    height_m: float | None = None,
    title: bool = False,
    font: str = _OWN_FONT,
) -> bytes:
    """A figure as a file.

    Args:
        figure: what to draw.
        form: of the file.
        width_m: of the whole figure, m.
        height_m: of it, m; left out: what suits its kind and what is written in it.
        title: whether its title is drawn.
        font: a family that matplotlib finds; its own is the same everywhere.

    Raises:
        FigureError: there is no such font, or the figure is too small to be read.
    """
    free = height_m is None
    size_m = (width_m, _height_m(figure, width_m) if height_m is None else height_m)
    with mpl.rc_context(_style(font)), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what has no room is refused in words
        figure = _in_letters(figure, _letters(font))
        canvas = Canvas(figsize=(size_m[0] / 0.0254, size_m[1] / 0.0254), layout="constrained")
        axes = canvas.add_subplot()
        _axes(axes, figure)
        for series in figure.series:
            _DRAWN[series.style](axes, figure, series)
        _parts(axes, figure)
        for mark in figure.marks:
            axes.axvline(mark / figure.x.scale, color=LIGHT["line"], linewidth=0.6, dashes=(4, 2))
        _limits(axes, figure)
        if title and figure.title:
            axes.set_title(figure.title, fontsize=8, loc="left")
        legend(canvas, axes)
        fit(canvas, axes, figure, free=free)
        out = io.BytesIO()
        canvas.savefig(out, format=form, dpi=PNG_DPI, metadata=_NO_DATE[form])
    return out.getvalue()


_NO_DATE: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Creator": "FIMI testbed", "Producer": "FIMI testbed"},
    "svg": {"Date": None, "Creator": "FIMI testbed"},
    "png": {"Software": None},
}


def _style(font: str) -> dict[str, Any]:
    """Settings of matplotlib; what a person's own say has no effect."""
    ink, soft = LIGHT["ink"], LIGHT["soft"]
    return dict(mpl.rcParamsDefault) | {
        "backend": "agg",
        "pdf.fonttype": 42,
        "pdf.compression": 9,
        "svg.fonttype": "path",
        "svg.hashsalt": "fimi",
        "font.family": [font, _OWN_FONT],
        "font.size": 8.0,
        "axes.labelsize": 8.0,
        "axes.titlesize": 8.0,
        "xtick.labelsize": 8.0,
        "ytick.labelsize": 8.0,
        "legend.fontsize": 8.0,
        "axes.linewidth": 0.6,
        "axes.edgecolor": soft,
        "axes.labelcolor": ink,
        "text.color": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "axes.grid": True,
        "grid.color": LIGHT["grid"],
        "grid.linewidth": 0.5,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "hatch.linewidth": 0.5,
        "lines.linewidth": 1.2,
        "lines.markersize": 3.5,
        "legend.frameon": False,
        "legend.handlelength": 2.4,
        "legend.borderaxespad": 0.0,
        "legend.columnspacing": 1.2,
        "savefig.facecolor": "white",
        "figure.facecolor": "white",
        "figure.constrained_layout.h_pad": 0.03,
        "figure.constrained_layout.w_pad": 0.04,
        "axes.unicode_minus": True,
        "text.parse_math": False,  # a dollar in the name of a device is a dollar
    }


def _letters(font: str) -> frozenset[int]:
    """Code points of the letters that a font has, or matplotlib's own."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    try:
        files = [
            findfont(FontProperties(family=each), fallback_to_default=False)
            for each in (font, _OWN_FONT)
        ]
    except ValueError as error:
        raise FigureError(
            f"there is no font {font!r} here; 'DejaVu Sans', 'DejaVu Serif' and 'STIXGeneral' come "
            "with matplotlib"
        ) from error
    return frozenset(point for file in files for point in get_font(file).get_charmap())


def _in_letters(figure: Figure, letters: frozenset[int]) -> Figure:
    """A figure in which all that is written can be."""

    def axis(given: Axis) -> Axis:
        names = tuple(written(name, letters) for name in shortened(given.names, given.most))
        return replace(given, title=written(given.title, letters), names=names)

    return replace(
        figure,
        title=written(figure.title, letters),
        x=axis(figure.x),
        y=axis(figure.y),
        series=tuple(replace(s, name=written(s.name, letters)) for s in figure.series),
    )


def _height_m(figure: Figure, width_m: float) -> float:
    """A height for a width: by rows where there are any, else about the golden ratio."""
    if not figure.rows:
        return 0.64 * width_m
    return min(0.22, max(0.45 * width_m, 0.018 + 0.0046 * figure.rows))


def _axes(axes: Axes, figure: Figure) -> None:
    for axis, kind, place in ((figure.x, "x", axes.xaxis), (figure.y, "y", axes.yaxis)):
        if axis.names:
            place.grid(False)
            place.set_tick_params(length=0)
        elif axis.whole:
            place.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        if axis.log:
            getattr(axes, f"set_{kind}scale")("log")


def _limits(axes: Axes, figure: Figure) -> None:
    """Ends of the axes, once all is drawn."""
    ends = axes.dataLim.max
    for axis, limit, end in (
        (figure.x, axes.set_xlim, ends[0]),
        (figure.y, axes.set_ylim, ends[1]),
    ):
        if axis.names:
            limit(-0.6, len(axis.names) - 0.4)
        elif axis.limits is not None:
            low, high = axis.limits
            limit(low, high + 0.02 * (high - low))
        elif axis.from_zero:
            limit(0.0, 1.05 * end if end > 0.0 else None)  # no mark is cut off at the edge
    if figure.y.names:
        axes.invert_yaxis()  # the first device on top


def _values(series: FigureSeries, figure: Figure) -> tuple[list[float], list[float]]:
    """What is drawn, in the units of the axes; a gap is not a number."""

    def drawn(values: Sequence[float | None], axis: Axis) -> list[float]:
        return [float("nan") if v is None else v / axis.scale for v in values]

    return drawn(series.x, figure.x), drawn(series.y, figure.y)


def _looks(series: FigureSeries) -> tuple[str, Any, str]:
    """Colour, dash and marker."""
    if isinstance(series.look, int):
        look = plot_style.look(series.look)
        return look["color"], _DASHES[look["dash"]], _MARKERS[look["symbol"]]
    dash, symbol = _OWN.get(series.look, ("solid", "square"))
    return LIGHT[series.look], _DASHES[dash], _MARKERS[symbol]


def _line(axes: Axes, figure: Figure, series: FigureSeries) -> None:
    x, y = _values(series, figure)
    colour, dash, marker = _looks(series)
    ends = [
        [float("nan") if v is None else v / figure.y.scale for v in end]
        for end in (series.low, series.high)
    ]
    place = axes.transData
    if figure.dodge:
        lines = [each for each in figure.series if each.style == series.style]
        aside_pt = _DODGE_PT * (lines.index(series) - (len(lines) - 1) / 2)
        axes.update_datalim([(a, b) for a, b in zip(x, y, strict=True)])
        place = offset_copy(axes.transData, axes.get_figure(root=True), x=aside_pt, units="points")
        for at, middle, low, end in zip(x, y, *ends, strict=True) if all(ends) else ():
            high = middle if math.isnan(end) else end  # an interval without an upper end
            axes.update_datalim([(at, low), (at, high)])
            axes.plot(
                [at, at], [low, high], color=colour, linewidth=0.8, transform=place, label="_"
            )
    elif all(ends):
        axes.fill_between(x, ends[0], ends[1], color=colour, alpha=0.18, linewidth=0, label="_")
    every = max(1, -(-len(x) // _MOST_MARKERS))
    look: dict[str, Any] = {"color": colour, "marker": marker, "transform": place}
    axes.plot(x, y, linestyle=dash, markevery=every, label=_label(series), **look)
    parts = [k for k in range(0, len(x), every) if series.least and series.least[k]]
    axes.plot(
        [x[k] for k in parts],
        [y[k] for k in parts],
        linestyle="none",
        markerfacecolor="white",
        markeredgewidth=0.8,
        label="_",
        **look,
    )
    axes.autoscale_view()


def _points(axes: Axes, figure: Figure, series: FigureSeries) -> None:
    x, y = _values(series, figure)
    colour, _, marker = _looks(series)
    hollow = series.look == "predicted"
    many = len(x) > 60
    for at, low, high in zip(y, series.low, series.high, strict=False):
        if low is not None and high is not None:
            scale = figure.x.scale
            axes.plot([low / scale, high / scale], [at, at], color=colour, linewidth=0.8, label="_")
    axes.plot(
        x,
        y,
        linestyle="none",
        marker=marker,
        color=colour,
        markerfacecolor="white" if hollow else colour,
        markeredgewidth=0.8,
        markersize=2.2 if many else 4.5 if hollow else 3.5,
        alpha=0.5 if many else 1.0,
        label=_label(series),
    )


def _thin(axes: Axes, figure: Figure, series: FigureSeries) -> None:
    x, y = _values(series, figure)
    colour, dash, _ = _looks(series)
    axes.plot(x, y, color=colour, linestyle=dash, linewidth=0.5, alpha=0.6, label=_label(series))


def _step(axes: Axes, figure: Figure, series: FigureSeries) -> None:
    x, y = _values(series, figure)
    axes.plot(x, y, color=_looks(series)[0], linewidth=0.5, alpha=0.8, label=_label(series))


def _mean(axes: Axes, figure: Figure, series: FigureSeries) -> None:
    x, y = _values(series, figure)
    number = [f"phase-{phase}" for phase in plot_style.PHASE_NAMES].index(str(series.look))
    dash = list(_DASHES.values())[number % len(_DASHES)]
    axes.plot(
        x, y, color=LIGHT[str(series.look)], linewidth=2.0, linestyle=dash, label=_label(series)
    )


def _bars(axes: Axes, figure: Figure, series: FigureSeries) -> None:
    """Bars on those of the series before."""
    x, y = _values(series, figure)
    before = _stacked(figure, figure.series[: figure.series.index(series)])
    look: dict[str, Any] = {
        "color": LIGHT[str(series.look)],
        "edgecolor": "white",
        "linewidth": 0.0,
        "hatch": _HATCHES.get(series.pattern, ""),
        "label": _label(series),
    }
    if figure.across:
        axes.barh(y, x, left=[before.get(at, 0.0) for at in y], height=0.7, **look)
    else:
        axes.bar(x, y, bottom=[before.get(at, 0.0) for at in x], width=0.7, **look)


def _stacked(figure: Figure, series: Sequence[FigureSeries]) -> dict[float, float]:
    """How far the bars of some series reach, in drawn units, by their places."""
    reached: dict[float, float] = {}
    for each in series:
        if each.style == "bars":
            others = _values(each, figure)
            along, place = others if figure.across else others[::-1]
            for at, value in zip(place, along, strict=True):
                reached[at] = reached.get(at, 0.0) + (0.0 if math.isnan(value) else value)
    return reached


def _parts(axes: Axes, figure: Figure) -> None:
    """An open arrow at the end of bars that are a part only."""
    reached = _stacked(figure, figure.series)
    if figure.least:
        axes.plot(
            [reached.get(at, 0.0) for at in figure.least],
            figure.least,
            linestyle="none",
            marker=">",
            color=LIGHT["ink"],
            markerfacecolor="white",
            markersize=4.5,
            markeredgewidth=0.8,
            clip_on=False,
            label="at least (a part is not known)",
        )


_DRAWN = {
    "line": _line,
    "dashed": _line,
    "points": _points,
    "bars": _bars,
    "thin": _thin,
    "step": _step,
    "mean": _mean,
}


def _label(series: FigureSeries) -> str:
    """Text of the legend; one that begins with an underscore would be left out of it."""
    return series.name.lstrip("_") if series.legend else "_"
