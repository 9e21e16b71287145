"""Lines of a picture: text with looks, never wider than asked, without control characters.

* :class:`TextLine`  pieces of text, each with its look
* :func:`of`         a line of one piece
* :func:`flow`       phrases side by side, and in further lines where there is no room
* :func:`wrapped`    a text over as many lines as it takes
* :func:`fit`        a line cut to a width
* :func:`coded`      a line with the codes that a terminal understands

A look repeats what the text says. The row that the cursor is on is marked with a character too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from fimi.record.clean import clean
from fimi.report.layout import columns, fitted

Look = Literal["plain", "title", "faint", "problem", "warning"]
Piece = tuple[str, Look]

LONGEST = 4000
"""Most characters of a piece that are looked at."""
_CODES: dict[Look, str] = {"title": "1", "faint": "2", "problem": "31", "warning": "33"}
_COLOURS: tuple[Look, ...] = ("problem", "warning")
_RESET, _REVERSE = "\x1b[0m", "\x1b[7m"
SEPARATOR = " · "


class TextLine(NamedTuple):
    """A line.

    Attributes:
        pieces: text and look, from the left.
        chosen: whether the cursor is on it.
    """

    pieces: tuple[Piece, ...] = ()
    chosen: bool = False

    @property
    def text(self) -> str:
        """What it says."""
        return "".join(text for text, _ in self.pieces)


def of(text: str, look: Look = "plain") -> TextLine:
    """A line of one piece."""
    return TextLine(((clean(text, LONGEST), look),))


def padded(text: str, width: int, *, right: bool = False) -> str:
    """A text of exactly ``width`` columns; an ellipsis stands for what is cut off."""
    text = fitted(clean(text, LONGEST), width) if width > 0 else ""
    room = " " * (width - columns(text))
    return room + text if right else text + room


def fit(line: TextLine, width: int) -> TextLine:
    """A line of at most ``width`` columns, without control characters."""
    left, pieces = width, []
    for text, look in line.pieces:
        text = clean(text, LONGEST)
        if left <= 0:
            break
        kept = fitted(text, left)
        pieces.append((kept, look))
        left = 0 if kept != text else left - columns(kept)
    return TextLine(tuple(pieces), line.chosen)


def flow(phrases: Iterable[Piece], width: int) -> list[TextLine]:
    """Phrases with dots between them; lines break between phrases only.

    A phrase that is wider than a line is broken between its words.
    """
    lines: list[list[Piece]] = [[]]
    used = 0
    for text, look in phrases:
        text = clean(text, LONGEST)
        if not text:
            continue
        room = columns(text) + (len(SEPARATOR) if used else 0)
        if used and used + room > width:
            lines.append([])
            used, room = 0, columns(text)
        if room > width:
            few = wrapped(text, width, look)
            lines[-1:] = [list(each.pieces) for each in few]
            used = columns(few[-1].text)
            continue
        if used:
            lines[-1].append((SEPARATOR, "faint"))
        lines[-1].append((text, look))
        used += room
    return [TextLine(tuple(pieces)) for pieces in lines if pieces]


def wrapped(text: str, width: int, look: Look = "plain", indent: str = "") -> list[TextLine]:
    """A text over as many lines as it takes, broken between words where there are any.

    Args:
        text: the text.
        width: columns, at least 1.
        look: of all of it.
        indent: stands before every line but the first.
    """
    width = max(1, width)
    if columns(indent) > width // 2:
        indent = ""
    lines: list[str] = []
    now, used = "", 0
    for word in clean(text, LONGEST).split(" "):
        room = columns(word)
        if now.strip() and used + 1 + room > width:
            lines.append(now)
            now, used = indent, columns(indent)
        elif now.strip():
            now, used = now + " ", used + 1
        for character in word if used + room > width else (word,):
            each = columns(character)
            if used + each > width and now.strip():
                lines.append(now)
                now, used = indent, columns(indent)
            now, used = now + character, used + each
    lines.append(now)
    return [TextLine(((line, look),)) for line in lines]


def coded(line: TextLine, width: int, *, colour: bool) -> str:
    """A line for a terminal.

    Args:
        line: not wider than ``width``.
        width: columns of the terminal; the chosen row goes over all of them.
        colour: whether colours are wanted; bold and reversed text is shown in any case.
    """
    said = []
    for text, look in line.pieces:
        code = _CODES.get(look) if colour or look not in _COLOURS else None
        said.append(f"\x1b[{code}m{text}\x1b[0m" if code and not line.chosen else text)
    whole = "".join(said)
    if not line.chosen:
        return whole
    return f"{_REVERSE}{whole}{' ' * (width - columns(line.text))}{_RESET}"
