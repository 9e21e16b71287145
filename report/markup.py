"""HTML that cannot be injected into: text is escaped unless it was made here.

:func:`element` escapes every child that is not already :class:`Html`, and every attribute.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Literal, TypeVar

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
T = TypeVar("T")


def escape(text: str) -> Html:
    """Any text as HTML."""
    if isinstance(text, Html):
        return text
    return Html(_UNIT.sub("\N{NO-BREAK SPACE}", html.escape(clean(text, 2000))))


def join(children: Iterable[Child]) -> Html:
    """Children one after the other; ``None`` is nothing."""
    return Html("".join(escape(child) for child in children if child is not None))


def element(name: str, *children: Child, **attributes: str | None) -> Html:
    """``<name ...>children</name>``; ``class_`` is ``class``, ``data_x`` is ``data-x``."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(clean(value, 2000))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>{join(children)}</{name}>")


class Column(Struct, Generic[T], frozen=True):
    """One column of a table; neighbours of the same title share it, side by side.

    Attributes:
        title: its heading.
        unit: in the heading's second line.
        of: the cell of an item.
        css: ``number``; ``name``, a word that is not broken; or ``text``.
        foot: its cell below the items.
    """

    title: str
    unit: str
    of: Callable[[T], Child]
    css: Literal["number", "name", "text"] = "number"
    foot: Child = None


def _head(columns: Sequence[Column[T]]) -> Html:
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


def table(columns: Sequence[Column[T]], items: Iterable[T], *, caption: str | None = None) -> Html:
    """A table with a row for each item; it scrolls sideways where it is too wide."""

    def row(cells: Iterable[Child]) -> Html:
        made = zip(columns, cells, strict=True)
        return element("tr", *(element("td", cell, class_=column.css) for column, cell in made))

    foot = [column.foot for column in columns]
    return element(
        "div",
        element(
            "table",
            element("caption", element("span", caption)) if caption else None,
            element("thead", _head(columns)),
            element("tbody", *(row(column.of(item) for column in columns) for item in items)),
            element("tfoot", row(foot)) if any(foot) else None,
        ),
        class_="scroll",
        tabindex="0",
        role="group",
        aria_label=caption or "table",
    )


def definitions(pairs: Iterable[tuple[str, Child]]) -> Html:
    """Terms and what they are."""
    made = (element("dt", term) + element("dd", what) for term, what in pairs)
    return element("dl", *map(Html, made), class_="facts")
