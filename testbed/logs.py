"""The log of a process: on the terminal, and in a file (``--log-file``).

Every module logs with ``logging.getLogger(__name__)``. The terminal shows::

    -q     warnings and errors
           and the beginning and end of work (INFO)
    -v     and every phase of every round (DEBUG of fimi)
    -vv    and messages of libraries (DEBUG of all)

A log file gets the messages of ``-v``, or of ``-vv``, whatever the terminal shows; they are
appended. Child processes get the same settings (:func:`current`, :func:`arguments`).
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import textwrap
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from msgspec import Struct

from fimi.record.clean import clean
from fimi.report.layout import Paper, Style

SHOWN: dict[str, Any] = {"shown": True}
"""``extra`` of a record that the terminal already shows in another way."""
_LONGEST = 10_000
_KEY = re.compile(r"([?&]key=)[\w-]+")
"""The key of a dashboard in its address: others may read a log file."""


class LogSettings(Struct, frozen=True, kw_only=True):
    """How much a process logs, and where.

    Attributes:
        verbosity: how often ``-v`` was given, less how often ``-q``.
        file: absolute path of the log file; empty for none.
    """

    verbosity: int = 0
    file: str = ""


_current = LogSettings()


def current() -> LogSettings:
    """The settings of this process."""
    return _current


def quiet() -> bool:
    """Whether only results, warnings and errors are to be shown."""
    return _current.verbosity < 0


def arguments() -> tuple[str, ...]:
    """Options that give another ``fimi`` the log settings of this process."""
    letter = "v" if _current.verbosity > 0 else "q"
    asked = (f"-{letter * abs(_current.verbosity)}",) if _current.verbosity else ()
    return (*asked, "--log-file", _current.file) if _current.file else asked


def set_up(settings: LogSettings, *, talks: bool = False, child: bool = False) -> None:
    """Set up the log of this process; earlier settings end.

    Args:
        settings: how much, and where.
        talks: whether messages below warnings go to standard output instead of standard error.
        child: whether standard error is a file that has only problems, unless ``-v`` is given.

    Raises:
        OSError: the log file cannot be opened.
    """
    global _current
    verbosity = settings.verbosity
    handlers: list[logging.Handler] = [_Terminal(talks, child)]
    quiet = verbosity < (1 if child else 0)
    handlers[0].setLevel(
        logging.WARNING if quiet else logging.INFO if verbosity <= 0 else logging.DEBUG
    )
    if settings.file:
        handlers.append(_File(settings.file, encoding="utf-8"))
        handlers[1].setFormatter(_Line())
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, _Terminal | _File):
            root.removeHandler(handler)
            handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbosity > 1 else logging.WARNING)
    logging.getLogger("fimi").setLevel(logging.DEBUG if settings.file else handlers[0].level)
    _current = settings


class _Line(logging.Formatter):
    """``2026-01-31T12:00:00.000+01:00 INFO    edge_agent  device-01: ...``, always one line."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")
        words = record.name.split(".")
        room = words[1] if words[0] == "fimi" and len(words) > 1 else record.name
        said = _KEY.sub(r"\1…", one_line(record.getMessage()))
        line = f"{at} {record.levelname:<7} {room:<14} {said}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _Terminal(logging.Handler):
    """Messages for people; those of a child have time and module, because they are in a file.

    The streams are looked up for every message, because a live display replaces them.
    """

    def __init__(self, talks: bool, child: bool) -> None:
        super().__init__()
        self._talks = talks
        self._line = _Line() if child else None

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "shown", False):
            return
        try:
            problem = record.levelno >= logging.WARNING
            stream = sys.stdout if self._talks and not problem else sys.stderr
            text = self._line.format(record) if self._line else _said(record, stream)
            print(folded(text, stream), file=stream)
            stream.flush()
        except Exception:
            self.handleError(record)


def _said(record: logging.LogRecord, stream: IO[str]) -> str:
    text = record.getMessage()
    if record.exc_info and (error := record.exc_info[1]):
        text += f": {type(error).__name__}: {error}"
    if record.levelno < logging.WARNING:
        return one_line(text)
    style: Style = "problem" if record.levelno >= logging.ERROR else "warning"
    return f"{Paper.of(stream).ink(record.levelname.lower(), style)}: {one_line(text)}"


class _File(logging.FileHandler):
    """A log file; if it cannot be written any more, standard error says so once."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        self.setLevel(logging.CRITICAL + 1)
        print(
            f"fimi: {self.baseFilename} cannot be written any more: {sys.exc_info()[1]}; "
            "the run goes on without a log file",
            file=sys.stderr,
        )

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what could not be written before cannot be flushed
            super().close()


def one_line(text: str) -> str:
    """A message without line breaks or control characters; it may come from the network."""
    return clean("; ".join(map(str.strip, text.splitlines())), _LONGEST)


def folded(text: str, stream: IO[str]) -> str:
    """A text whose lines break between words where a terminal is too narrow for them."""
    if not stream.isatty():
        return text
    width = Paper.of(stream).width
    return "\n".join(
        textwrap.fill(
            line,
            width,
            subsequent_indent="  ",
            replace_whitespace=False,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in text.split("\n")
    )


def absolute(path: Path | None) -> str:
    """The absolute path of a log file, because children may have another working folder."""
    return str(path.absolute()) if path else ""
