"""How pictures look: one palette, shapes beside colours, axes with units.

The palette (:mod:`fimi.report.tokens`) follows Okabe and Ito's, so that no two colours of a
picture differ in red and green alone; where points of several kinds meet, their shapes differ as
well, and bars have patterns. Figures have the light colours; a page that is dark replaces them, and
adds those of text, grid and paper.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from msgspec import Struct

from fimi.energy.cost_model import Phase
from fimi.record.clean import clean, shortened
from fimi.report.tokens import LIGHT

INK = LIGHT["ink"]
MEASURED = LIGHT["measured"]
PREDICTED = LIGHT["predicted"]
LINE = LIGHT["line"]
"""Reference lines and what joins two points."""

_PHASE_LOOKS: dict[Phase, tuple[str, str]] = {
    "synthetic-download": ("triangle-up", "."),
    "model-download": ("square", "x"),
    "compute": ("pentagon", ""),
    "waiting": ("hourglass", "|"),
    "upload": ("diamond", "/"),
    "idle": ("x", "-"),
    "inference": ("star", "\\"),
}
PHASE_COLOURS = {phase: LIGHT[f"phase-{phase}"] for phase in _PHASE_LOOKS}
PHASE_SHAPES = {phase: shape for phase, (shape, _) in _PHASE_LOOKS.items()}
PHASE_PATTERNS = {phase: pattern for phase, (_, pattern) in _PHASE_LOOKS.items()}
PHASE_NAMES = {phase: phase.replace("-", " ") for phase in _PHASE_LOOKS}
SERIES = tuple(LIGHT[f"series-{k}"] for k in range(1, 10))
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "cross", "star")
SCALE = [[k / 2, LIGHT[f"scale-{k}"]] for k in range(3)]


class Picture(Struct, frozen=True, kw_only=True):
    """A figure and its words.

    Attributes:
        name: its id on the page.
        title: what it shows.
        caption: how to read it, one or two sentences; plain text.
        figure: the figure, without colours of text and paper.
        narrow: layout that replaces the figure's on a narrow screen, dotted key to value.
    """

    name: str
    title: str
    caption: str
    figure: go.Figure
    narrow: dict[str, Any] = {}


def figure(height: int, **layout: Any) -> go.Figure:
    """An empty figure in the report's design; where not said otherwise, hovering shows texts."""
    drawing = go.Figure()
    text = {"hovertemplate": "%{text}<extra></extra>"}
    bar = {**text, "textposition": "none", "marker": {"line": {"width": 0}}}
    drawing.layout.template = {"data": {"scatter": [text], "heatmap": [text], "bar": [bar]}}
    drawing.update_layout(
        height=height,
        autosize=True,
        margin={"l": 8, "r": 14, "t": 34, "b": 8},
        legend={
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.0,
            "yanchor": "bottom",
            "yref": "paper",
            "itemsizing": "constant",
            "traceorder": "normal",
        },
        hovermode="closest",
        barmode="overlay",
        bargap=0.3,
        **layout,
    )
    return drawing


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis with its unit in the title."""
    return {"title": {"text": title, "standoff": 8}, "automargin": True, "zeroline": False, **more}


def count_axis(title: str, most: float, **more: Any) -> dict[str, Any]:
    """An axis of whole numbers up to ``most``.

    Where they are few every one has its tick; plotly alone would set some between them, and write
    two of them as the same number.
    """
    few = {"dtick": 1} if most <= 12 else {}
    return axis(title, **few, **more)


def round_axis(count: int, **more: Any) -> dict[str, Any]:
    """An axis of so many rounds."""
    return count_axis("round", count, **more)


def look(index: int) -> dict[str, str]:
    """Colour, dash and symbol of the so-manieth of several lines; no two of the first 252 agree.

    Neighbours differ in all three, so that lines that lie on each other can be seen, in grey too.
    """
    return {
        "color": SERIES[index % len(SERIES)],
        "dash": DASHES[index % len(DASHES)],
        "symbol": SYMBOLS[index % len(SYMBOLS)],
    }


def bar(colour: str, pattern: str = "", **more: Any) -> dict[str, Any]:
    """The look of bars, with a pattern for those who see no colour."""
    drawn = {"shape": pattern, "fillmode": "overlay", "fgcolor": "rgba(255,255,255,0.55)"}
    return {"color": colour, "line": {"width": 0}, "pattern": {**drawn, "size": 6}, **more}


def accuracy_axis() -> dict[str, Any]:
    """The axis of an accuracy of the global model."""
    return axis("accuracy on test images, %", range=[0, 102])


def marker(
    symbol: str, size: float | Sequence[float], colour: str, *, line_width: float = 0, **more: Any
) -> dict[str, Any]:
    """A mark, by default without an outline; its size is in px."""
    outline = {"width": line_width}
    return {"symbol": symbol, "size": size, "color": colour, "line": outline, **more}


def stroke(size: float, colour: str) -> dict[str, Any]:
    """A vertical stroke; its height is in px."""
    return {"symbol": "line-ns", "size": size, "line": {"width": 2.5, "color": colour}}


def one_below_the_other(top: float, bottom: float) -> dict[str, Any]:
    """Layout of two pictures side by side, for a narrow screen.

    Args:
        top: of the lower one, as a share of the height.
        bottom: of the upper one.
    """
    whole = {"xaxis.domain": [0, 1], "xaxis2.domain": [0, 1]}
    return {**whole, "yaxis.domain": [bottom, 1], "yaxis2.domain": [0, top]}


def add_mean(drawing: go.Figure, x: Sequence[int], y: Sequence[float | None], **more: Any) -> None:
    """Add the strong line of the devices' mean."""
    drawing.add_scatter(
        x=x,
        y=y,
        mode="lines+markers",
        name="mean of the devices",
        line={"color": PREDICTED, "width": 2.5},
        marker={"symbol": "diamond", "size": 7},
        **more,
    )


def label(name: str, limit: int = 64) -> str:
    """A foreign name as text of a figure, where a few HTML tags would be obeyed."""
    return html.escape(clean(name, limit))


def rows(names: Sequence[str], **more: Any) -> dict[str, Any]:
    """A vertical axis with one row per device, the first on top; thinned out if they are many."""
    step = max(1, -(-len(names) // 100))
    return {
        "tickmode": "array",
        "tickvals": list(range(0, len(names), step)),
        "ticktext": [label(name) for name in shortened(names)[::step]],
        "range": [len(names) - 0.4, -0.6],
        "automargin": True,
        "zeroline": False,
        "showgrid": False,
        **more,
    }


def row_height(count: int, row_px: int = 30, frame_px: int = 100, least_px: int = 300) -> int:
    """Height of a figure with one row per device, px."""
    return max(least_px, min(frame_px + row_px * count, frame_px + 1600))


def joule_unit(largest_j: float) -> tuple[float, str]:
    """Divisor and unit of an axis that reaches up to ``largest_j``."""
    if largest_j >= 2e6:
        return 1e6, "MJ"
    if largest_j >= 2e3:
        return 1e3, "kJ"
    return (1.0, "J") if largest_j >= 1 else (1e-3, "mJ")
