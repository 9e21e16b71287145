"""The screen of a terminal: it is filled with lines, and given back as it was.

The terminal's second screen is used, so that what was on the first is there again afterwards. Only
lines that have changed are written, in one piece: over a slow line that is what counts.

* :class:`Screen`         one terminal
* :func:`can_be_drawn_on`  whether a stream is one
* :func:`has_the_terminal`  whether this process is in the foreground
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import IO, Any

from fimi.monitor.terminal.text import TextLine, coded
from fimi.report.layout import columns

_OPEN = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
"""The second screen; no cursor; nothing wraps; empty."""
_CLOSE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"


def can_be_drawn_on(stream: IO[Any]) -> bool:
    """Whether a stream is a terminal that understands where to write."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def has_the_terminal(stream: IO[Any]) -> bool:
    """Whether this process is in the foreground; one in the background must not touch it."""
    try:
        return os.tcgetpgrp(stream.fileno()) == os.getpgrp()
    except (AttributeError, OSError, ValueError):  # Windows, or not the process's own terminal
        return True


def _whole(line: TextLine, width: int, colour: bool) -> str:
    """A line with the code that clears what is right of it, unless it reaches the edge.

    There the cursor stands on the last column still, which would be cleared.
    """
    shorter = columns(line.text) < width and not line.chosen
    return coded(line, width, colour=colour) + ("\x1b[K" if shorter else "")


class Screen:
    """A terminal. One thread uses it at a time.

    Args:
        stream: the terminal.

    Attributes:
        is_open: whether it is filled now.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._colour = not os.environ.get("NO_COLOR")
        self._shown: list[str] = []
        self.is_open = False

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        try:
            width, height = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            width, height = 0, 0
        return width or 80, height or 24

    def open(self) -> None:
        """Begin."""
        if sys.platform == "win32":
            os.system("")  # makes a console understand escape sequences
        self._shown = []
        self.is_open = True
        self._write(_OPEN)

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self.is_open:
            self.is_open = False
            self._write(_CLOSE)

    def show(self, lines: Sequence[TextLine]) -> None:
        """Fill the screen; what is there already is not written again."""
        if not self.is_open:
            return
        width, _ = self.size
        new = [_whole(line, width, self._colour) for line in lines]
        old = self._shown if len(self._shown) == len(new) else []
        said = [
            f"\x1b[{at};1H{line}"
            for at, line in enumerate(new, 1)
            if not old or old[at - 1] != line
        ]
        self._shown = new
        if said:
            self._write("".join(said))

    def _write(self, text: str) -> None:
        """Write in one piece; a terminal that is gone is nobody's trouble."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text.encode(encoding, "replace").decode(encoding, "replace"))
            self._stream.flush()
