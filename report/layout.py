"""Text for a terminal of 80 columns: tables that fit, paragraphs that are wrapped, a few colours.

* :class:`Paper`   how wide a stream is, and whether it shows colours
* :func:`table`    rows under a heading, never wider than asked
* :func:`entries`  terms with their explanations beside them, wrapped
* :class:`Marked`  text that stands out where there are colours
* :func:`fitted`   text cut with an ellipsis

A colour repeats what the text says and never says anything alone. It is left out where the output
is no terminal, where the variable ``NO_COLOR`` is set, and where ``TERM`` is ``dumb``. Standard
library only: devices print tables too.
"""

from __future__ import annotations

import os
import re
import shutil
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from typing import IO, Any, Literal, NamedTuple

WIDTH = 80
"""Columns of what does not go to a terminal."""
TEXT_WIDTH = 100
"""Most columns of a paragraph: longer lines are hard to read."""

Style = Literal["problem", "warning", "good", "title", "measured", "modelled", "emulated", "mixed"]
_CODES: dict[str, str] = {
    "problem": "31", "warning": "33", "good": "32", "title": "1",
    "measured": "32", "modelled": "34", "emulated": "36", "mixed": "35",
}  # fmt: skip
_KINDS = re.compile(r"\b(measured|modelled|emulated|mixed)\b")
_SHORTEST = 10
"""Columns below which a name is not cut."""
_LONGEST = 20
"""Columns of a name for whose sake columns move closer together."""
_UNIT = re.compile(
    r"(?<=\d) (?=(?:%|[kMGmµn]?[JWsBV]|[kMG]?Hz|[kM]?bit/s|min|h|°C)(?![\w/]))"
    r"|(?<=[\w%]) (?=are \d)|(?<= are) (?=\d)"
)
"""The space between a number and its unit, and those of "0.4 MHz are 4e+05 Hz"."""


class Paper(NamedTuple):
    """What text is written on.

    Attributes:
        width: columns.
        colour: whether escape sequences for colours are understood and wanted.
    """

    width: int = WIDTH
    colour: bool = False

    @classmethod
    def of(cls, stream: IO[Any]) -> Paper:
        """That of a stream."""
        if not stream.isatty():
            return cls()
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return cls(max(40, shutil.get_terminal_size().columns), not plain)

    @property
    def text_width(self) -> int:
        """Columns of a paragraph."""
        return min(self.width, TEXT_WIDTH)

    def ink(self, text: str, style: Style | None = None) -> str:
        """A text in its style, if colours are shown; its own one if it is :class:`Marked`."""
        style = style or getattr(text, "style", None)
        if not (self.colour and style and text):
            return text
        return f"\x1b[{_CODES[style]}m{text}\x1b[{22 if style == 'title' else 39}m"

    def kinds(self, text: str) -> str:
        """A text with every kind of joules in the colour of that kind."""
        return _KINDS.sub(lambda word: self.ink(word[0], word[0]), text) if self.colour else text  # type: ignore[arg-type]


class Marked(str):
    """Text that stands out; a plain string wherever there are no colours."""

    style: Style

    def __new__(cls, text: str, style: Style) -> Marked:
        """Mark a text."""
        made = super().__new__(cls, text)
        made.style = style
        return made


def columns(text: str) -> int:
    """How many columns a terminal takes for a line: ideographs take two, accents none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def fitted(text: str, width: int) -> str:
    """Text of at most ``width`` columns; an ellipsis stands for what is cut off."""
    if columns(text) <= width:
        return text
    used = end = 0
    while end < len(text) and used + columns(text[end]) < width:
        used += columns(text[end])
        end += 1
    kept = text[:end]
    return Marked(f"{kept}…", text.style) if isinstance(text, Marked) else f"{kept}…"


def table(
    heading: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    footer: Sequence[str] = (),
    paper: Paper | None = None,
    whole: bool = False,
) -> str:
    """Aligned columns: the first to the left, the others to the right.

    Where the paper is too narrow names in the first column are cut with an ellipsis, down to 10
    columns; where that is not enough, columns go on in a second table below that names the rows
    again.

    Args:
        heading: one per column; a line break begins another line, such as that of the unit.
        rows: cells, which may have several lines.
        footer: one more row, apart from the others.
        paper: what it is for; plain text of 80 columns if left out.
        whole: cut nothing, as somebody will copy it; on narrow paper the table may be wider.
    """
    paper = paper or Paper()
    body = [list(row) for row in rows]
    if footer:
        body.append(list(footer))
    every = [list(heading), *body]
    widths = [
        max(columns(line) for row in every for line in row[k].split("\n"))
        for k in range(len(heading))
    ]
    named, rest = min(widths[0], _LONGEST), sum(widths[1:])
    several = len(widths) - 1
    # Columns move closer together for the sake of a name, or of a table in one piece.
    closer = named + rest + 2 * several > paper.width >= min(named, _SHORTEST) + rest + several
    gap = 1 if closer else 2
    if whole:
        room = max([paper.width - widths[0], *(width + gap for width in widths[1:])])
    else:
        widths[0] = min(widths[0], max(_SHORTEST, paper.width - rest - gap * several))
        room = paper.width - widths[0]
    widths[1:] = [min(width, room - gap) for width in widths[1:]]
    blocks = _split(widths, gap, room)
    while room and len(narrower := _split(widths, gap, room - 1)) == len(blocks):
        blocks, room = narrower, room - 1  # tables of about the same width
    return "\n\n".join(
        _block(every, [0, *block], widths, gap, paper, foot=bool(footer)) for block in blocks
    )


def _split(widths: Sequence[int], gap: int, room: int) -> list[list[int]]:
    """Which columns stand in which table, if each has room for so many columns of text."""
    blocks: list[list[int]] = [[]]
    left = room
    for k, width in enumerate(widths[1:], start=1):
        if blocks[-1] and left < width + gap:
            blocks.append([])
            left = room
        blocks[-1].append(k)
        left -= width + gap
    return blocks


def _block(
    every: Sequence[Sequence[str]],
    shown: list[int],
    widths: list[int],
    gap: int,
    paper: Paper,
    *,
    foot: bool,
) -> str:
    def lines(row: Sequence[str], *, bottom: bool = False) -> list[str]:
        cells = [_lines(row[k]) for k in shown]
        height = max(map(len, cells))
        made = []
        for n in range(height):
            words = []
            for k, cell in zip(shown, cells, strict=True):
                at = n - (height - len(cell)) if bottom else n
                word = fitted(cell[at], widths[k]) if 0 <= at < len(cell) else ""
                space = " " * (widths[k] - columns(word))
                words.append(paper.ink(word) + space if k == 0 else space + paper.ink(word))
            made.append((" " * gap).join(words).rstrip())
        return made

    top = [paper.ink(line, "title") for line in lines(every[0], bottom=True)]
    rule = "─" * (sum(widths[k] for k in shown) + gap * (len(shown) - 1))
    rows = every[1 : len(every) - foot]
    made = [*top, rule, *(line for row in rows for line in lines(row))]
    return "\n".join([*made, rule, *lines(every[-1])] if foot else made)


def wrap(text: str, width: int) -> list[str]:
    """Lines of a paragraph; a number and its unit stay together."""
    bound = _UNIT.sub("\N{NO-BREAK SPACE}", text)
    lines = textwrap.wrap(bound, max(20, width), break_on_hyphens=False) or [""]
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _lines(cell: str) -> list[str]:
    style = getattr(cell, "style", None)
    return [Marked(line, style) if style else line for line in cell.split("\n")]


def entries(said: Iterable[tuple[str, str]], *, indent: int, paper: Paper | None = None) -> str:
    """Terms to the left, wrapped explanations to the right.

    Args:
        said: term and explanation; a marked term keeps its style.
        indent: where explanations begin, columns.
        paper: what it is for; plain text of 80 columns if left out.
    """
    paper = paper or Paper()
    made = []
    for term, words in said:
        wrapped = wrap(words, paper.text_width - indent)
        lead = paper.ink(term, getattr(term, "style", "title")) + " " * (indent - columns(term))
        made.append((lead + ("\n" + " " * indent).join(wrapped)).rstrip())
    return "\n".join(made)
