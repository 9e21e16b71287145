"""Making a drawn figure fit its size: labels are folded, names turned or thinned out, or refused.

* :func:`fit`      once all is drawn: what is written lies within its axes, and the axes are no slit
* :func:`legend`   above the axes, in as many columns as there is room for
* :func:`written`  text with the letters that a font has

Text has its 8 pt at any width, so that a figure can be too small for what is written in it: then it
is refused. Where no height is given a figure becomes higher instead.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Set
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from fimi.report.plots.figure import Axis, Figure, FigureError

_ROW_M = 0.0033
"""Two lines of 8 pt are at least so far from each other."""
_LEAST_M = (0.028, 0.016)
"""The smallest axes, width and height."""
_INCH_M = 0.0254
_PASSES = 4


def fit(canvas: Canvas, axes: Axes, figure: Figure, *, free: bool) -> None:
    """Make what is written fit, and the figure higher where it must be.

    Args:
        canvas: the drawing, with a layout that leaves room for what is written.
        axes: its axes, with all that lies in them and the legend.
        figure: what is drawn.
        free: whether its height may grow.

    Raises:
        FigureError: there is no room; says how large the figure must be.
    """
    _write(canvas, axes, figure, free=free)
    if not free and _axes_m(canvas, axes)[1] < _lowest_m(canvas, axes) - 1e-4:
        said = _size(canvas, figure)
        _write(canvas, axes, figure, free=True)
        _refuse_narrow(canvas, axes, figure)
        least_mm = math.ceil(1e3 * _INCH_M * canvas.get_figheight())
        raise FigureError(f"{said}; write --height {least_mm}mm or more, or leave it out")
    _refuse_narrow(canvas, axes, figure)


def _write(canvas: Canvas, axes: Axes, figure: Figure, *, free: bool) -> None:
    """Fold titles, turn names, and grow, until nothing changes any more."""
    before: tuple[Any, ...] = ()
    for _ in range(_PASSES):
        wide_m, high_m = _axes_m(canvas, axes)
        lacking_m = _wanted_m(canvas, figure) - high_m
        if free and lacking_m > 1e-4:
            canvas.set_figheight(canvas.get_figheight() + lacking_m / _INCH_M)
            high_m += lacking_m
        axes.set_xlabel(_folded(canvas, figure.x, wide_m))
        axes.set_ylabel(_folded(canvas, figure.y, high_m))
        _ticks(canvas, axes, figure, wide_m, high_m)
        after = (axes.get_xlabel(), axes.get_ylabel(), round(wide_m, 4), round(high_m, 4))
        if after == before:
            return
        before = after


def legend(canvas: Canvas, axes: Axes) -> None:
    """A legend above the axes."""
    handles, labels = axes.get_legend_handles_labels()
    renderer = FigureCanvasAgg(canvas).get_renderer()
    for columns in range(len(labels), 0, -1):
        drawn = canvas.legend(handles, labels, loc="outside upper left", ncols=columns)
        if columns == 1 or drawn.get_window_extent(renderer).width <= 0.97 * canvas.bbox.width:
            return
        drawn.remove()


def written(text: str, letters: Set[int]) -> str:
    """Text in which letters that the font has not are named by their code points.

    A space keeps a name apart from the next one, and from a letter or digit beside it.
    """
    out, before, named_before = "", "\n", False
    for each in text:
        named = ord(each) not in letters and each != "\n"
        if (named and before.isalnum()) or (named_before and (named or each.isalnum())):
            out += " "
        out += f"U+{ord(each):04X}" if named else each
        before, named_before = each, named
    return out


def _axes_m(canvas: Canvas, axes: Axes) -> tuple[float, float]:
    """Width and height of the axes once everything has its place, m."""
    canvas.draw_without_rendering()
    box = axes.get_window_extent()
    return box.width / canvas.dpi * _INCH_M, box.height / canvas.dpi * _INCH_M


def _wanted_m(canvas: Canvas, figure: Figure) -> float:
    """How high the axes are to be, m."""
    if figure.rows:
        return min(0.2, _ROW_M * 1.25 * figure.rows)
    width_m = canvas.get_figwidth() * _INCH_M
    title_m = _length_m(canvas, figure.y.words) + 0.001
    return max(_LEAST_M[1], 0.36 * width_m, title_m if title_m < 0.5 * width_m else 0.0)


def _folded(canvas: Canvas, axis: Axis, room_m: float) -> str:
    """The title of an axis, in lines that are not longer than the axis."""
    longest_m = _length_m(canvas, axis.words)
    most = max(6, int(len(axis.words) * room_m / longest_m)) if longest_m else 6
    if len(axis.words) <= most or len(axis.unit) <= 4:
        return _wrapped(axis.words, most)
    return "\n".join([_wrapped(f"{axis.title},", most), _wrapped(axis.unit, most)])


def _wrapped(text: str, most: int) -> str:
    """Text in lines; a word that is too long stays whole."""
    return "\n".join(textwrap.wrap(text, most, break_long_words=False))


def _length_m(canvas: Canvas, text: str) -> float:
    """How long a line of text is, m."""
    drawn = canvas.text(0.0, 0.0, text)
    box = drawn.get_window_extent(FigureCanvasAgg(canvas).get_renderer())
    drawn.remove()
    return float(box.width) / canvas.dpi * _INCH_M


def _ticks(canvas: Canvas, axes: Axes, figure: Figure, wide_m: float, high_m: float) -> None:
    """Names along an axis: those beside each other are turned where they would meet."""
    if names := figure.y.names:
        step = max(1, -(-len(names) // max(1, int(high_m / _ROW_M))))
        axes.set_yticks(range(0, len(names), step), names[::step])
    if names := figure.x.names:
        length_m = max(_length_m(canvas, name) for name in names) + 0.001
        turned = length_m * len(names) > wide_m
        step = max(1, -(-len(names) // max(1, int(wide_m / _ROW_M)))) if turned else 1
        look: dict[str, Any] = {"rotation": 90 if turned else 0}
        axes.set_xticks(range(0, len(names), step), names[::step], **look)


def _lowest_m(canvas: Canvas, axes: Axes) -> float:
    """How high axes must be, m: as their title is long."""
    label = axes.yaxis.label
    if not label.get_text():
        return _LEAST_M[1]
    box = label.get_window_extent(FigureCanvasAgg(canvas).get_renderer())
    return max(_LEAST_M[1], float(box.height) / canvas.dpi * _INCH_M / 1.05)


def _refuse_narrow(canvas: Canvas, axes: Axes, figure: Figure) -> None:
    """Refuse a width at which something is cut off, or the axes are a slit."""
    wide_m, _ = _axes_m(canvas, axes)
    renderer = FigureCanvasAgg(canvas).get_renderer()
    lacking_m = _LEAST_M[0] - wide_m
    labels = [each for each in (axes.xaxis.label, axes.yaxis.label) if each.get_text()]
    for drawn in (*canvas.legends, *labels):
        box = drawn.get_window_extent(renderer)
        over = max(box.x1 - canvas.bbox.x1, canvas.bbox.x0 - box.x0)
        lacking_m = max(lacking_m, over / canvas.dpi * _INCH_M)
    if lacking_m > 1e-4:
        width_m = canvas.get_figwidth() * _INCH_M + lacking_m
        raise FigureError(
            f"{_size(canvas, figure)}; write --width {5 * math.ceil(200 * width_m)}mm or more"
        )


def _size(canvas: Canvas, figure: Figure) -> str:
    width_mm, height_mm = (1e3 * _INCH_M * each for each in canvas.get_size_inches())
    return (
        f"{width_mm:.0f} mm by {height_mm:.0f} mm are too small for the figure {figure.kind}, "
        "whose text has 8 pt"
    )
