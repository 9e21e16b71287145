"""How numbers of a comparison stand in tables.

* :class:`Table`   text in rows, for every form of a table
* :func:`shown`    an estimate with its interval
* :func:`in_lines`, :func:`markdown`  a table for a terminal, and for a page or an issue
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from fimi.report.comparison.statistics import Interval
from fimi.report.layout import Paper, table, wrap
from fimi.report.words import MISSING

NEVER = "never"


class Table(Struct, frozen=True, kw_only=True):
    """A table for people.

    Attributes:
        caption: what it shows.
        heading: of its columns; a line break stands before the unit.
        rows: text.
    """

    caption: str
    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def shown(
    interval: Interval | None,
    scale: float = 1.0,
    *,
    digits: int | None = None,
    sign: bool = False,
    never: bool = False,
) -> str:
    """``12.3 [11.0, 14.2]`` in units of ``scale``.

    Args:
        interval: what to show.
        scale: size of the unit.
        digits: behind the point; left out: three that count.
        sign: whether a plus is shown.
        never: whether the target was never reached where there is no estimate.
    """

    def number(value: float) -> str:
        if math.isinf(value):
            return NEVER
        value /= scale
        if digits is not None:
            value = round(value, digits) + 0.0  # never a minus before a zero
            text = f"{value:{'+' if sign else ''}.{digits}f}"
        else:
            text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
        return text.replace("-", "−")

    if interval is None:
        return NEVER if never else MISSING
    text = number(interval.value)
    if interval.low is not None and interval.high is not None and interval.low < math.inf:
        text += f" [{number(interval.low)}, {number(interval.high)}]"
    return text


def in_lines(each: Table, paper: Paper) -> str:
    """A table for a terminal: intervals and kinds stand below their values."""

    def broken(cells: Sequence[str]) -> list[str]:
        return [cell.replace(" [", "\n[").replace(" (", "\n(") for cell in cells]

    heading = [cell.replace(" ", "\n") for cell in each.heading]
    caption = wrap(each.caption, paper.text_width)
    return "\n".join([*caption, table(heading, map(broken, each.rows), paper=paper)])


def markdown(each: Table) -> list[str]:
    """A table as lines of Markdown."""
    heading = [cell.replace("\n", ", ") for cell in each.heading]
    rows = (heading, ["---"] * len(heading), *each.rows)
    return [f"## {each.caption}", "", *map(_row, rows), ""]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
