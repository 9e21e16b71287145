"""A terminal of its own for a process: it is read, typed on, and its modes are looked at."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_PLACED = re.compile(r"\x1b\[(\d+);1H")
_CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class OwnTerminal:
    """A pseudo terminal with what was written on its second screen.

    Attributes:
        written: all that came, as text.
    """

    def __init__(self, width: int = 80, height: int = 24) -> None:
        self.master, self.slave = os.openpty()
        self.written = ""
        self.resize(width, height)
        self.before = self.modes()

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def modes(self) -> list[object]:
        return termios.tcgetattr(self.slave)

    @property
    def is_restored(self) -> bool:
        """Whether modes, cursor and first screen are what they were."""
        off = self.written.rfind("\x1b[?1049l")
        shown = self.written.rfind("\x1b[?25h")
        return (
            self.modes() == self.before
            and off > self.written.rfind("\x1b[?1049h")
            and shown > self.written.rfind("\x1b[?25l")
        )

    @property
    def screen(self) -> dict[int, str]:
        """The lines of the second screen, without codes."""
        lines: dict[int, str] = {}
        drawn = self.written[self.written.rfind("\x1b[2J") :]
        parts = _PLACED.split(drawn)[1:]
        for at, text in zip(parts[::2], parts[1::2], strict=True):
            lines[int(at)] = _CODE.sub("", text)
        return lines

    @property
    def text(self) -> str:
        return "\n".join(line for _, line in sorted(self.screen.items()))

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def read(self, seconds: float) -> None:
        """Take what has been written so far, or comes within that time."""
        while select.select([self.master], [], [], seconds)[0]:
            try:
                self.written += os.read(self.master, 65_536).decode("utf-8", "replace")
            except OSError:
                return
            seconds = 0.0

    def until(self, what: object, limit_s: float = 30.0) -> None:
        """Read until this text is on the screen, or this function says so."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            self.read(0.1)
            if what() if callable(what) else str(what) in self.text:
                return
        raise AssertionError(f"{what} did not come: {self.text or self.written[-2000:]}")

    def close(self) -> None:
        for fd in (self.master, self.slave):
            with contextlib.suppress(OSError):
                os.close(fd)


@contextlib.contextmanager
def started(
    terminal: OwnTerminal, command: Sequence[str], folder: Path, **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose terminal this is."""

    def own() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        command,
        stdin=terminal.slave,
        stdout=terminal.slave,
        stderr=terminal.slave,
        cwd=folder,
        env={**os.environ, "TERM": "xterm-256color", **variables},
        start_new_session=True,
        preexec_fn=own,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        process.kill()
        process.wait(20)
