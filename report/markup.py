"""HTML that cannot be injected into: text is escaped unless it was made here.

:func:`element` escapes every child that is not already :class:`Html`, and every attribute.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from fimi.record.clean import clean

_UNIT = re.compile(
    r"(?<=\d) (?=(?:%|[kMGmµ]?J\b|[kMG]?Hz\b|[kMG]?bit/s|dBm|m?s\b))|(?<=±) |(?<=&lt;) (?=\d)"
)
"""The space between a number and its unit, where no line is to break."""


class Html(str):
    """Text that is HTML already; only this module and constants of the report make it."""

    __slots__ = ()


Child = str | None


def escape(text: str) -> Html:
    """Any text as HTML."""
    if isinstance(text, Html):
        return text
    return Html(_UNIT.sub("\N{NO-BREAK SPACE}", html.escape(clean(text, 2000))))


def join(children: Iterable[Child], between: str = "") -> Html:
    """Children one after the other; ``None`` is nothing."""
    return Html(between.join(escape(child) for child in children if child is not None))


def element(name: str, *children: Child, **attributes: str | None) -> Html:
    """``<name ...>children</name>``; ``class_`` is ``class``, ``data_x`` is ``data-x``."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(clean(value, 2000))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>{join(children)}</{name}>")


class Column(Struct, frozen=True):
    """One column of a table; neighbours of the same title share it, side by side.

    Attributes:
        title: its heading.
        unit: in the heading's second line.
        css: ``number``; ``name``, a word that is not broken; or ``text``.
    """

    title: str
    unit: str = ""
    css: Literal["number", "name", "text"] = "number"


def _head(columns: Sequence[Column]) -> Html:
    groups = [list(same) for _, same in itertools.groupby(columns, key=lambda c: c.title)]
    two_lines = any(len(group) > 1 for group in groups)
    upper, lower = [], []
    for group in groups:
        title, first = group[0].title, group[0]
        if len(group) > 1:
            span = str(len(group))
            upper.append(element("th", title, class_="group", colspan=span, scope="colgroup"))
            lower += [element("th", c.unit, class_=f"{c.css} sub", scope="col") for c in group]
        else:
            unit = element("small", first.unit) if first.unit else None
            rows = "2" if two_lines else None
            upper.append(element("th", title, unit, class_=first.css, scope="col", rowspan=rows))
    return join([element("tr", *upper), element("tr", *lower) if lower else None])


def table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[Child]],
    *,
    caption: str | None = None,
    foot: Sequence[Child] | None = None,
) -> Html:
    """A table that scrolls sideways where it is too wide."""

    def line(cells: Sequence[Child]) -> Html:
        return element(
            "tr",
            *(
                element("td", cell, class_=column.css)
                for column, cell in zip(columns, cells, strict=True)
            ),
        )

    return element(
        "div",
        element(
            "table",
            element("caption", caption) if caption else None,
            element("thead", _head(columns)),
            element("tbody", *(line(row) for row in rows)),
            element("tfoot", line(foot)) if foot else None,
        ),
        class_="scroll",
        tabindex="0",
        role="group",
        aria_label=caption or "table",
    )


def definitions(pairs: Iterable[tuple[str, Child]]) -> Html:
    """Terms and what they are."""
    return element(
        "dl", *(child for term, what in pairs for child in _pair(term, what)), class_="facts"
    )


def _pair(term: str, what: Child) -> tuple[Html, Html]:
    return element("dt", term), element("dd", what)
