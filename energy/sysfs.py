"""Reading numbers out of sysfs: what is missing, unreadable or garbage is ``None``, never zero.

The root is a parameter everywhere, so that a tree of files stands in for a board in tests.
"""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str | None:
    """The file's text without surrounding white space, or ``None`` if it cannot be read."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def read_count(path: Path) -> int | None:
    """The non-negative integer a file holds, or ``None`` if it holds or gives anything else."""
    text = read_text(path)
    return int(text) if text is not None and text.isdecimal() else None


def read_signed(path: Path) -> int | None:
    """The integer a file holds, of either sign, or ``None``."""
    text = read_text(path)
    if text is None or not text.removeprefix("-").isdecimal():
        return None
    return int(text)


def why_unreadable(path: Path) -> str:
    """Why :func:`read_count` gives ``None`` for a file, as the end of a sentence."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except PermissionError:
        return "may not be read by this user"
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except UnicodeDecodeError:
        return "does not hold text"
    return f"holds {text[:40]!r} instead of a number"
