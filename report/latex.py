"""Tables for a paper in LaTeX: booktabs and nothing else, compiled by any pdfLaTeX of today.

* :func:`escaped`      text as LaTeX; a letter that LaTeX has not is named by its code point
* :func:`of_columns`   a table of pages, headings in groups
* :func:`of_table`     a table of comparisons
* :func:`document`     tables with what the preamble needs

Numbers stand as the terminal and the page show them, with ± and the kind of joules; no package
rounds or converts them (siunitx is not needed).
"""

from __future__ import annotations

import html
import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TypeVar

from fimi.record.clean import clean
from fimi.report.comparison.shown import Table
from fimi.report.markup import Child, Column, Html

T = TypeVar("T")
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "|": r"\ensuremath{|}",
    '"': r"\textquotedbl{}",
    "\N{NO-BREAK SPACE}": "~",
    "−": r"\ensuremath{-}",
    "±": r"\ensuremath{\pm}",
    "×": r"\ensuremath{\times}",
    "·": r"\ensuremath{\cdot}",
    "≤": r"\ensuremath{\leq}",
    "≥": r"\ensuremath{\geq}",
    "≈": r"\ensuremath{\approx}",
    "∞": r"\ensuremath{\infty}",
    "→": r"\ensuremath{\rightarrow}",
    "–": "--",
    "—": "---",
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
    "µ": r"\ensuremath{\mu}",
    "μ": r"\ensuremath{\mu}",
    "Δ": r"\ensuremath{\Delta}",
    "α": r"\ensuremath{\alpha}",
    "β": r"\ensuremath{\beta}",
    "δ": r"\ensuremath{\delta}",
    "κ": r"\ensuremath{\kappa}",
    "σ": r"\ensuremath{\sigma}",
    "τ": r"\ensuremath{\tau}",
    "²": r"\ensuremath{^2}",
    "³": r"\ensuremath{^3}",
    "°": r"\ensuremath{^\circ}",
    "½": r"\ensuremath{\frac{1}{2}}",
}
PREAMBLE = r"\usepackage[T1]{fontenc}\usepackage[utf8]{inputenc}\usepackage{textcomp,booktabs}"
"""What the tables need in front of ``\\begin{document}``."""


def escaped(text: str) -> str:
    """Any text as LaTeX."""
    return "".join(_letter(letter) for letter in clean(text, 2000))


def _letter(letter: str) -> str:
    if letter in _SPECIAL:
        return _SPECIAL[letter]
    if letter.isascii() and letter.isprintable():
        return letter
    plain = unicodedata.normalize("NFKD", letter)
    if len(letter) == 1 and plain[0].isascii() and plain[0].isalpha() and ord(letter) < 0x180:
        return letter  # a Latin letter with an accent
    return rf"\texttt{{U+{ord(letter):04X}}}"


def of_columns(
    columns: Sequence[Column[T]], items: Iterable[T], *, caption: str, label: str
) -> str:
    """A table of pages; neighbours of the same title share it, as there.

    Args:
        columns: what stands in it.
        items: a row for each.
        caption: what it shows.
        label: for references, such as ``devices``.
    """
    groups = [list(same) for _, same in itertools.groupby(columns, key=lambda c: c.title)]
    upper, rules, at = [], [], 1
    for group in groups:
        if len(group) > 1:
            upper.append(rf"\multicolumn{{{len(group)}}}{{c}}{{{escaped(group[0].title)}}}")
            rules.append(rf"\cmidrule(lr){{{at}-{at + len(group) - 1}}}")
        else:
            upper.append("")
        at += len(group)
    lower = [
        escaped(c.unit) if len(group) > 1 else _heading([c.title, *([c.unit] if c.unit else [])], c)
        for group in groups
        for c in group
    ]
    head = [_row(upper) + " ".join(rules)] if rules else []
    foot = [column.foot for column in columns]
    return _float(
        "".join("r" if column.css == "number" else "l" for column in columns),
        [*head, _row(lower)],
        [_row([_cell(column.of(item)) for column in columns]) for item in items],
        [_row([_cell(cell) for cell in foot])] if any(foot) else [],
        caption,
        label,
    )


def of_table(table: Table, *, label: str) -> str:
    """A table of comparisons: its first column are names, the others numbers."""
    heading = []
    for k, title in enumerate(table.heading):
        parts = title.split("\n")
        side = "l" if k == 0 else "r"
        heading.append(_stacked(parts, side))
    return _float(
        "l" + "r" * (len(table.heading) - 1),
        [_row(heading)],
        [_row([escaped(cell) for cell in row]) for row in table.rows],
        [],
        _begun(table.caption),
        label,
    )


def document(tables: Iterable[str], about: str) -> str:
    """Tables to be pasted or included, after what they need and what they are of."""
    head = [f"% {clean(about, 300)}", f"% In the preamble: {PREAMBLE}", ""]
    return "\n".join([*head, *tables])


def _float(
    sides: str, head: list[str], body: list[str], foot: list[str], caption: str, label: str
) -> str:
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escaped(caption)}}}",
        rf"  \label{{tab:{_key(label)}}}",
        rf"  \begin{{tabular}}{{{sides}}}",
        r"    \toprule",
        *(f"    {line}" for line in head),
        r"    \midrule",
        *(f"    {line}" for line in body),
        *([r"    \midrule", *(f"    {line}" for line in foot)] if foot else []),
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
    # A line that begins with a bracket would be read as an argument of the one before.
    said = " & ".join(f"{{}}{cell}" if cell.startswith("[") else cell for cell in cells)
    return rf"{said} \\"


def _heading(parts: Sequence[str], column: Column[T]) -> str:
    return _stacked(parts, "r" if column.css == "number" else "l")


def _stacked(parts: Sequence[str], side: str) -> str:
    """Lines of a heading, one on the other."""
    if len(parts) == 1:
        return escaped(parts[0])
    lines = r" \\ ".join(escaped(part) for part in parts)
    return rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{lines}\end{{tabular}}"


def _begun(caption: str) -> str:
    """A caption with a capital letter, where it does not begin with the name of a key."""
    first = caption.partition(" ")[0]
    return caption[:1].upper() + caption[1:] if first.isalpha() else caption


def _cell(child: Child) -> str:
    if child is None:
        return ""
    text = html.unescape(re.sub(r"<[^>]*>", "", child)) if isinstance(child, Html) else child
    return escaped(text)
