"""Questions to the firmware of a Raspberry Pi, as ``vcgencmd`` asks them.

They go through the mailbox device where this user may open it (``/dev/vcio_gencmd``, else
``/dev/vcio``; group ``video``), which takes well under a millisecond of this process; else through
the program ``vcgencmd``, which costs a process per question.
"""

from __future__ import annotations

import fcntl
import functools
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

Ask = Callable[[str], str | None]
"""Asks the firmware one question; ``None`` for no answer."""

GENCMD_TAG = 0x00030080
_ANSWER_BYTES = 1024
# _IOWR(100, 0, char *): read and write, the size of a pointer, "type" 100, number 0
_MAILBOX_PROPERTY = (3 << 30) | (struct.calcsize("P") << 16) | (100 << 8)
_HEAD = struct.Struct("=6I")


def find_firmware(root: Path) -> Ask | None:
    """A function that asks this machine's firmware, or ``None`` if there is none."""
    for name in ("vcio_gencmd", "vcio"):
        ask = functools.partial(_through, root / "dev" / name)
        if ask("version") is not None:
            return ask
    program = shutil.which("vcgencmd", path=f"{root / 'usr/bin'}:{root / 'opt/vc/bin'}")
    if program is None:
        return None
    ask = functools.partial(_by, program)
    return None if ask("version") is None else ask


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


def _through(device: Path, question: str) -> str | None:
    buffer = request(question)
    try:
        with device.open("rb", buffering=0) as file:
            fcntl.ioctl(file, _MAILBOX_PROPERTY, buffer)
    except OSError:
        return None
    return answer(buffer)


def _by(program: str, question: str) -> str | None:
    try:
        done = subprocess.run(
            [program, *question.split()], capture_output=True, text=True, timeout=2.0
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = done.stdout.strip()
    return None if done.returncode or text.startswith("error=") else text
