"""Tables for a paper in LaTeX: booktabs and nothing else, compiled by any pdfLaTeX of today.

* :func:`of_columns`   a table of pages, headings in groups
* :func:`of_table`     a table of comparisons
* :func:`document`     tables with what the preamble needs

A table is no wider than a column of a paper: its text is that of footnotes, long headings and cells
are in lines, and what has no room stands in a second table that begins with the same names.

Numbers stand as the terminal and the page show them, with ± and the kind of joules; no package
rounds or converts them (siunitx is not needed).
"""

from __future__ import annotations

import html
import itertools
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from fimi.record.clean import clean
from fimi.report.comparison.shown import Table
from fimi.report.latex_letters import escaped, width_pt
from fimi.report.markup import Child, Column, Html

T = TypeVar("T")
PREAMBLE = r"\usepackage[T1]{fontenc}\usepackage[utf8]{inputenc}\usepackage{textcomp,booktabs}"
"""What the tables need in front of ``\\begin{document}``."""
COLUMN_PT = 240.0
"""How wide a table is at most, TeX points: a column of the usual papers with two."""
_GAP_PT = 2.5
"""On either side of a column."""
_LONG = 28
"""Letters of a cell from which on it is broken into lines."""


def of_columns(
    columns: Sequence[Column[T]], items: Iterable[T], *, caption: str, label: str
) -> str:
    """A table of pages, or several beside which it would be too wide.

    Neighbours of the same title share it, as there.

    Args:
        columns: what stands in it.
        items: a row for each.
        caption: what it shows.
        label: for references, such as ``devices``.
    """
    rows = list(items)
    groups = [list(same) for _, same in itertools.groupby(columns, key=lambda c: c.title)]
    made = [
        [
            _Printed(
                c.title if len(group) > 1 else "",
                [c.unit] if len(group) > 1 else [c.title, c.unit],
                "r" if c.css == "number" else "l",
                [_plain(c.of(item)) for item in rows],
                _plain(c.foot),
            )
            for c in group
        ]
        for group in groups
    ]
    return _tables(made, caption, label)


def of_table(table: Table, *, label: str) -> str:
    """A table of comparisons: its first column are names, the others numbers."""
    made = [
        [_Printed("", title.split("\n"), "r" if k else "l", [row[k] for row in table.rows], "")]
        for k, title in enumerate(table.heading)
    ]
    return _tables(made, _begun(table.caption), label)


def document(tables: Iterable[str], about: str) -> str:
    """Tables to be pasted or included, after what they need and what they are of."""
    head = [f"% {clean(about, 300)}", f"% In the preamble: {PREAMBLE}", ""]
    return "\n".join([*head, *tables])


class _Printed(Struct, frozen=True):
    """A column in plain text: its group, lines of its heading, side, cells, foot; how it is folded.

    Folded for good are intervals and what stands in parentheses, below their values.
    """

    group: str
    heading: list[str]
    side: str
    cells: list[str]
    foot: str
    folded: bool = False

    def lines(self, cell: str) -> list[str]:
        """A cell in lines."""
        if self.folded:
            cell = cell.replace(" [", "\n[").replace(" (", "\n(")
        return [line for part in cell.split("\n") for line in _broken(part, _LONG)]

    def head(self, title: Sequence[str]) -> list[str]:
        """A heading or a foot in lines that are not much longer than the cells below."""
        most = max([10, *(len(line) for cell in self.cells for line in self.lines(cell))])
        return [line for part in title if part for line in _broken(part, most)] or [""]

    @property
    def width_pt(self) -> float:
        """About how wide it is."""
        cells = [line for cell in self.cells for line in self.lines(cell)]
        lines = [*self.head(self.heading), *cells, *self.head([self.foot])]
        return max(map(width_pt, lines)) + 2 * _GAP_PT


def _tables(groups: list[list[_Printed]], caption: str, label: str) -> str:
    """A table, or as few as there must be, none wider than a column of a paper."""
    parts = _divided(groups)
    if len(parts) > 1:
        parts = _divided([[replace(column, folded=True) for column in same] for same in groups])
    made = []
    for k, part in enumerate(parts, 1):
        of = f" ({k} of {len(parts)})" if len(parts) > 1 else ""
        made.append(_float(part, caption + of, f"{_key(label)}{f'-{k}' * (k > 1)}"))
    return "\n".join(made)


def _divided(groups: list[list[_Printed]]) -> list[list[list[_Printed]]]:
    """The groups of columns of each table: the first one, and as many others as fit."""
    first, others = groups[:1], groups[1:]
    room_pt = COLUMN_PT + 2 * _GAP_PT - sum(c.width_pt for group in first for c in group)
    pieces = [
        piece
        for group in others
        for piece in (
            [group] if sum(c.width_pt for c in group) <= room_pt else [[c] for c in group]
        )
    ]
    parts = _parts(pieces, room_pt)
    for less_pt in range(5, int(COLUMN_PT), 5):  # as alike as they can be
        narrower = _parts(pieces, room_pt - less_pt)
        if len(narrower) > len(parts):
            break
        parts = narrower
    return [[*first, *part] for part in parts]


def _parts(pieces: list[list[_Printed]], room_pt: float) -> list[list[list[_Printed]]]:
    """Pieces in as many tables as they need; a piece that fits in none has one of its own."""
    parts: list[list[list[_Printed]]] = [[]]
    left_pt = room_pt
    for piece in pieces:
        width_pt = sum(column.width_pt for column in piece)
        if parts[-1] and width_pt > left_pt:
            parts.append([])
            left_pt = room_pt
        parts[-1].append(piece)
        left_pt -= width_pt
    return parts


def _float(groups: list[list[_Printed]], caption: str, key: str) -> str:
    columns = [column for group in groups for column in group]
    upper, rules, at = [], [], 1
    for title, same in itertools.groupby(columns, key=lambda c: c.group):
        count = len(list(same))
        if title:
            upper.append(rf"\multicolumn{{{count}}}{{c}}{{{escaped(title)}}}")
            rules.append(rf"\cmidrule(lr){{{at}-{at + count - 1}}}")
        else:
            upper += [""] * count
        at += count
    head = [_row(upper) + " ".join(rules)] if rules else []
    head.append(_row([_stacked(c.head(c.heading), c.side, "b") for c in columns]))
    body = [
        _row([_stacked(c.lines(c.cells[k]), c.side, "t") for c in columns])
        for k in range(len(columns[0].cells) if columns else 0)
    ]
    foot = [_row([_stacked(c.head([c.foot]), c.side, "t") for c in columns])]
    lines = [
        r"\begin{table}",
        r"  \centering",
        r"  \footnotesize",
        rf"  \setlength{{\tabcolsep}}{{{_GAP_PT}pt}}",
        rf"  \caption{{{escaped(caption)}}}",
        rf"  \label{{tab:{key}}}",
        rf"  \begin{{tabular}}{{@{{}}{''.join(column.side for column in columns)}@{{}}}}",
        r"    \toprule",
        *(f"    {line}" for line in head),
        r"    \midrule",
        *(f"    {line}" for line in body),
        *(
            [r"    \midrule", *(f"    {line}" for line in foot)]
            if any(column.foot for column in columns)
            else []
        ),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _key(label: str) -> str:
    """A label of lower-case letters, digits and hyphens, its first words where it is long."""
    words = re.findall(r"[a-z0-9]+", label.lower())
    return "-".join(words[:8]) or "table"


def _row(cells: Sequence[str]) -> str:
    return rf"{' & '.join(map(_begins, cells))} \\"


def _begins(line: str) -> str:
    """A line that begins with a bracket or a star, which would be an argument of the one before."""
    return f"{{}}{line}" if line.startswith(("[", "*")) else line


def _broken(text: str, most: int) -> list[str]:
    glued = re.sub(r"(\d) (?=\S{1,6}(?: |$))", "\\1\N{NO-BREAK SPACE}", text)  # 1.13 kJ
    found = textwrap.wrap(glued, most, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in found] or [text]


def _stacked(parts: Sequence[str], side: str, end: str) -> str:
    """Lines of a heading or of a cell, one on the other; ``end`` lies on the line of the row."""
    if len(parts) == 1:
        return escaped(parts[0])
    lines = r" \\ ".join(_begins(escaped(part)) for part in parts)
    return rf"\begin{{tabular}}[{end}]{{@{{}}{side}@{{}}}}{lines}\end{{tabular}}"


def _begun(caption: str) -> str:
    """A caption with a capital letter, where it does not begin with the name of a key."""
    first = caption.partition(" ")[0]
    return caption[:1].upper() + caption[1:] if first.isalpha() else caption


def _plain(child: Child) -> str:
    """A cell of a page as text."""
    if child is None:
        return ""
    return html.unescape(re.sub(r"<[^>]*>", "", child)) if isinstance(child, Html) else child
