"""Keys of a terminal by their names: ``up``, ``page down``, ``enter``, ``escape``, or a character.

* :class:`Decoder`   bytes become keys; sequences that nobody knows become none
* :class:`Keyboard`  the keys that are pressed, each at once and without being shown

Ctrl-C and Ctrl-Z stay what they are to the process. There is no keyboard on Windows, nor where
standard input is no terminal.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import select
import time
from typing import IO, Any

_PLAIN: dict[str, str] = {
    "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\x0c": "redraw",
}  # fmt: skip
_FINAL: dict[str, str] = {
    "A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end",
}  # fmt: skip
"""Last characters of sequences."""
_NUMBERED: dict[str, str] = {
    "1": "home", "7": "home", "4": "end", "8": "end", "5": "page up", "6": "page down",
}  # fmt: skip
"""Numbers in sequences that end with a tilde."""
_SEQUENCE = re.compile(r"\x1b(?:\[([0-?]*)[ -/]*([@-~])|O([0-9]*)([A-Za-z]))")
_BEGUN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O[0-9]*)?")
_LONGEST = 64
"""Characters after which a sequence that does not end is given up."""
ESCAPE_S = 0.05
"""After what time an escape by itself is the key, s: what terminals send for others comes whole."""


class Decoder:
    """Bytes become keys, however they are cut into pieces."""

    def __init__(self) -> None:
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._kept = ""

    @property
    def waits(self) -> bool:
        """Whether a sequence has begun and has not ended."""
        return bool(self._kept)

    def feed(self, data: bytes) -> list[str]:
        """Keys that are complete."""
        text, self._kept = self._kept + self._text.decode(data), ""
        found = []
        while text:
            if text[0] != "\x1b":
                found.append(_PLAIN.get(text[0], text[0] if text[0].isprintable() else ""))
                text = text[1:]
            elif match := _SEQUENCE.match(text):
                found.append(_named(match))
                text = text[match.end() :]
            elif _BEGUN.fullmatch(text) and len(text) < _LONGEST:
                self._kept = text
                break
            else:  # an escape by itself, then something else
                found.append("escape")
                text = text[1:]
        return [key for key in found if key]

    def end(self) -> list[str]:
        """Keys that are in what has begun: nothing more comes now."""
        text, self._kept = self._kept, ""
        return ["escape"] if text == "\x1b" else []


def _named(match: re.Match[str]) -> str:
    parameters, final = match[1] or "", match[2] or match[4]
    if final == "~":
        return _NUMBERED.get(parameters.split(";")[0], "")
    return _FINAL.get(final, "")


class Keyboard:
    """The keys of a terminal.

    Args:
        stream: usually standard input.

    Attributes:
        open: whether keys can be read now.
    """

    def __init__(self, stream: IO[Any] | None) -> None:
        self._fd = -1
        self._before: list[Any] | None = None
        self._decoder = Decoder()
        self._ended = False
        with contextlib.suppress(ImportError, AttributeError, OSError, ValueError):
            import termios

            if stream is not None and stream.isatty():
                termios.tcgetattr(stream.fileno())
                self._fd = stream.fileno()

    @property
    def open(self) -> bool:
        """Whether keys can be read now."""
        return self._before is not None and not self._ended

    def take(self) -> None:
        """Get each key at once, and show none. Does nothing where there is no keyboard."""
        if self._fd < 0 or self._before is not None:
            return
        import termios

        with contextlib.suppress(termios.error):
            self._before = termios.tcgetattr(self._fd)
            self._set(self._before)

    def again(self) -> None:
        """The same once more: a shell has had the terminal in between."""
        if self._before is not None:
            self._set(self._before)

    def give_back(self) -> None:
        """Make the terminal what it was before."""
        before, self._before = self._before, None
        if before is None:
            return
        import termios

        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._fd, termios.TCSANOW, before)

    def _set(self, before: list[Any]) -> None:
        import termios

        now = [*before[:6], list(before[6])]
        now[3] &= ~(termios.ECHO | termios.ICANON)
        now[6][termios.VMIN], now[6][termios.VTIME] = 1, 0
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._fd, termios.TCSANOW, now)

    def wait(self, seconds: float) -> list[str]:
        """Keys that are pressed; waits for the first so long, without a keyboard as well."""
        if not self.open:
            time.sleep(seconds)
            return []
        if not self._ready(seconds):
            return self._decoder.end()
        keys = self._read()
        if self._decoder.waits:
            keys += self._read() if self._ready(ESCAPE_S) else self._decoder.end()
        return keys

    def _ready(self, seconds: float) -> bool:
        try:
            return bool(select.select([self._fd], [], [], seconds)[0])
        except (OSError, ValueError):
            self._ended = True
            return False

    def _read(self) -> list[str]:
        try:
            data = os.read(self._fd, 4096)
        except OSError:
            data = b""
        if not data:  # the terminal is gone
            self._ended = True
        return self._decoder.feed(data)
