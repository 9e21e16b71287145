"""What a figure for a paper shows: series of numbers in SI units, axes with theirs, and the CSV.

* :class:`Figure`   one figure, all that drawing needs to know
* :class:`Axis`     what lies along an axis, in which unit it is drawn
* :class:`FigureSeries`   one line, set of points, set of bars or band
* :class:`FigureError`  one that cannot be drawn
* :func:`as_csv`    the numbers, one per line, as they are in the record
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from fimi.energy.joules import Energy
from fimi.errors import InputError
from fimi.report import plot_style


class FigureError(InputError, ValueError):
    """A figure that cannot be drawn: no such kind, point, device or font, or no numbers for it."""

    code = "R017"


Values = tuple[float | None, ...]
Style = Literal["line", "dashed", "points", "bars", "thin", "step", "mean"]


class Axis(Struct, frozen=True, kw_only=True):
    """What lies along an axis.

    Attributes:
        name: column of the CSV, with its unit: ``energy_j``.
        title: what is written beside the axis, without a unit.
        unit: in which it is drawn; empty for a plain number.
        scale: size of that unit: values are divided by it for drawing.
        names: of categories, where the axis has no numbers; the values are their places.
        most: so many letters of a name are drawn; the CSV has all.
        whole: whether it has whole numbers only.
        log: whether it is logarithmic.
        limits: its ends in drawn units; ``None`` where the values say it.
        from_zero: whether it begins at zero.
    """

    name: str
    title: str
    unit: str = ""
    scale: float = 1.0
    names: tuple[str, ...] = ()
    most: int = 24
    whole: bool = False
    log: bool = False
    limits: tuple[float, float] | None = None
    from_zero: bool = False

    @property
    def words(self) -> str:
        """Title and unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


class FigureSeries(Struct, frozen=True, kw_only=True):
    """One line, set of points, or set of bars.

    Attributes:
        name: in the legend, and in the CSV.
        x: values along the horizontal axis, SI.
        y: along the vertical one, SI; ``None``: not known, a gap.
        low: lower ends, in the unit of the values of the numeric axis; empty without.
        high: upper ends.
        style: how it is drawn; ``bars`` are stacked in the order of the series.
        look: which of the series' looks, or the name of a colour of the tokens.
        pattern: of bars: ``/``, ``x`` …
        about: columns that all its lines of the CSV have, the name of a strategy for instance.
        each: columns of each line: kind and source of its joules, its device, what is missing.
        least: whether each value is a part of the sum that it stands for; empty: none is.
        legend: whether it stands in the legend.
    """

    name: str
    x: Values
    y: Values
    low: Values = ()
    high: Values = ()
    style: Style = "line"
    look: int | str = 0
    pattern: str = ""
    about: dict[str, str] = {}
    each: tuple[dict[str, str], ...] = ()
    least: tuple[bool, ...] = ()
    legend: bool = True


class Figure(Struct, frozen=True, kw_only=True):
    """One figure.

    Attributes:
        kind: its name on the command line.
        title: drawn only where that is asked for.
        x: horizontal axis.
        y: vertical axis; it has the categories of horizontal bars.
        series: what is drawn, first the lowest.
        across: whether bars and points lie along the horizontal axis, a row per category.
        marks: upright lines, in SI.
        note: what a caption must say: kind of joules, what a band is.
        rows: height of a figure of categories, in rows; 0: height follows from the width.
        least: rows of bars that are a part of the sum that they stand for.
        dodge: whether lines stand a little beside each other, so that intervals can be seen.
    """

    kind: str
    title: str
    x: Axis
    y: Axis
    series: tuple[FigureSeries, ...]
    across: bool = False
    marks: tuple[float, ...] = ()
    note: str = ""
    rows: int = 0
    least: tuple[float, ...] = ()
    dodge: bool = False


def joule_axis(title: str, largest_j: float, said: str = "", *, name: str = "energy_j") -> Axis:
    """An axis of joules.

    Args:
        title: what they are of.
        largest_j: up to where it reaches.
        said: kind and scope, as ``emulated, board``.
        name: column of the CSV.
    """
    scale, unit = plot_style.joule_unit(largest_j)
    unit = f"{unit} ({said})" if said else unit
    return Axis(name=name, title=title, unit=unit, scale=scale, from_zero=True)


def about(energy: Energy | None) -> dict[str, str]:
    """What makes joules more than a number: kind, scope and source, as columns."""
    if energy is None:
        return {"kind": "", "scope": "", "source": ""}
    return {"kind": energy.kind, "scope": energy.scope, "source": energy.source}


def as_csv(figure: Figure) -> str:
    """The numbers of a figure: a line for each point, in SI units, whatever is drawn.

    The columns are the series, both axes, the ends of an interval where there is one, and what is
    said of the series and of the point. What is not known is empty; a point of which nothing is
    known has a line where it says what is missing.
    """
    extra = list(dict.fromkeys(k for s in figure.series for of in (s.about, *s.each) for k in of))
    ends = any(each.low or each.high for each in figure.series)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heading = ["series", figure.x.name, figure.y.name]
    writer.writerow([*heading, *(("low", "high") if ends else ()), *extra])
    for each in figure.series:
        for k, (x, y) in enumerate(zip(each.x, each.y, strict=True)):
            said = each.about | (each.each[k] if each.each else {})
            if (x is None or y is None) and not said.get("missing"):
                continue
            row = [each.name, _cell(figure.x, x), _cell(figure.y, y)]
            if ends:
                row += [_at(each.low, k), _at(each.high, k)]
            writer.writerow([*row, *(said.get(key, "") for key in extra)])
    return out.getvalue()


def _cell(axis: Axis, value: float | None) -> str:
    if value is None:
        return ""
    if axis.names:
        return axis.names[round(value)]
    return str(round(value)) if axis.whole else repr(float(value))


def _at(values: Sequence[float | None], k: int) -> str:
    value = values[k] if k < len(values) else None
    return "" if value is None else repr(float(value))
