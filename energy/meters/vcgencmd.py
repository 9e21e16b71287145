"""Questions to the firmware of a Raspberry Pi, as ``vcgencmd`` asks them.

They go through the mailbox device where this user may open it (``/dev/vcio_gencmd``, else
``/dev/vcio``; group ``video``), which takes well under a millisecond of this process; else through
the program ``vcgencmd``, which costs a process per question.

* :class:`Firmware`       one of these ways, and why its last question had no answer
* :func:`ways`            those that this machine has
* :func:`find_firmware`   the first that answers
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

Ask = Callable[[str], str | None]
"""Asks the firmware one question; ``None`` for no answer."""

GENCMD_TAG = 0x00030080
TRIES = 3
"""How often a question is asked at the start before it counts as not answered."""
PAUSE_S = 0.2
"""Between two tries, s."""

_ANSWER_BYTES = 1024
_TIMEOUT_S = 2.0
# _IOWR(100, 0, char *): read and write, the size of a pointer, "type" 100, number 0
_MAILBOX_PROPERTY = (3 << 30) | (struct.calcsize("P") << 16) | (100 << 8)
_HEAD = struct.Struct("=6I")


class Firmware:
    """A way to ask the firmware: the mailbox device, or the program.

    Attributes:
        why: why the last question had no answer: the way, and the error number, the exit status,
            what was written to standard error, or the firmware's refusal; empty after an answer.
        hopeless: whether asking again cannot help: there is no such way, or it is forbidden.
    """

    def __init__(self, path: Path, *, program: bool) -> None:
        self._path = path
        self._program = program
        self.why = ""
        self.hopeless = False

    def __call__(self, question: str) -> str | None:
        """Its answer; ``None`` if there is none, and :attr:`why` says why."""
        self.why, self.hopeless = "", False
        found = self._by(question) if self._program else self._through(question)
        return None if self.why else found

    def persistently(self, question: str) -> str | None:
        """Its answer, asked up to :data:`TRIES` times; for the start."""
        for turn in range(TRIES):
            if turn:
                time.sleep(PAUSE_S)
            if (found := self(question)) is not None or self.hopeless:
                return found
        self.why += f"; asked {TRIES} times"
        return None

    def _through(self, question: str) -> str | None:
        buffer = request(question)
        try:
            with self._path.open("rb", buffering=0) as file:
                fcntl.ioctl(file, _MAILBOX_PROPERTY, buffer)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "")
            self.why = f"{self._path}: {error.strerror} ({name or error.errno})"
            self.hopeless = error.errno in (
                *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTTY, errno.ENXIO),
                *(errno.ENODEV, errno.EINVAL, errno.EISDIR),
            )
            return None
        found = answer(buffer)
        if found is None:
            text = bytes(buffer[_HEAD.size : _HEAD.size + _ANSWER_BYTES]).split(b"\0", 1)[0]
            self.why = (
                f"{self._path}: the firmware refuses ({_short(text.decode('ascii', 'replace'))})"
            )
        return found

    def _by(self, question: str) -> str | None:
        command = [str(self._path), *question.split()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.why = f"{' '.join(command)}: no answer within {_TIMEOUT_S:g} s"
            return None
        except (OSError, ValueError) as error:
            self.why = f"{' '.join(command)}: {error}"
            self.hopeless = isinstance(error, FileNotFoundError | PermissionError)
            return None
        text, said = done.stdout.strip(), _short(done.stderr)
        if done.returncode:
            said = said or _short(text)
            status = f"exit status {done.returncode}"
            if done.returncode < 0:
                status = f"ended by signal {-done.returncode}"
            self.why = f"{' '.join(command)}: {status}" + (f", {said!r}" if said else "")
        elif text.startswith("error=") or not text:
            said = _short(text) or said
            self.why = f"{' '.join(command)}: " + (f"{said!r}" if said else "an empty answer")
        return text


def ways(root: Path) -> list[Firmware]:
    """The mailbox devices and the program that this machine has, allowed or not."""
    devices = [root / "dev" / name for name in ("vcio_gencmd", "vcio")]
    found = [Firmware(path, program=False) for path in devices if os.path.lexists(path)]
    program = shutil.which("vcgencmd", path=f"{root / 'usr/bin'}:{root / 'opt/vc/bin'}")
    return found + ([Firmware(Path(program), program=True)] if program else [])


def find_firmware(root: Path) -> Firmware | None:
    """The first way to ask this machine's firmware that answers, or ``None`` if none does."""
    return next((way for way in ways(root) if way.persistently("version") is not None), None)


def request(question: str) -> bytearray:
    """A property buffer that asks one question.

    Six words of 32 bits (size of the whole, 0 for a request, tag, size of the value, 0, 0 for the
    firmware's error number), the question as a string, and an end tag.

    Raises:
        ValueError: the question is too long.
    """
    text = question.encode("ascii")
    if len(text) >= _ANSWER_BYTES:
        raise ValueError(f"a question to the firmware has less than {_ANSWER_BYTES} bytes")
    size = _HEAD.size + _ANSWER_BYTES + 4
    head = _HEAD.pack(size, 0, GENCMD_TAG, _ANSWER_BYTES, 0, 0)
    return bytearray(head + text.ljust(_ANSWER_BYTES, b"\0") + bytes(4))


def answer(buffer: bytes | bytearray) -> str | None:
    """The text in a buffer that came back; ``None`` if the firmware refused."""
    error = _HEAD.unpack_from(buffer)[5]
    text = bytes(buffer[_HEAD.size : _HEAD.size + _ANSWER_BYTES]).split(b"\0", 1)[0]
    refused = error or text.startswith(b"error=")
    return None if refused else text.decode("ascii", "replace")


def _short(text: str) -> str:
    """The first line of a text, not too long."""
    return (text.strip().splitlines() or [""])[0][:160]
