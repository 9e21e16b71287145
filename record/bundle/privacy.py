"""What does not go into a bundle: secrets, folders of the machine, and names if so wished.

:func:`clean_store` works on a copy of a run store, in every text cell:

* passwords in addresses (``mqtt://user:…@host``), and values of keys that sound like secrets
* folders of absolute paths, which name users and machines: the name of the file stays. ``/dev``,
  ``/proc`` and ``/sys`` are the same everywhere, and stay
* what only a process needs that goes on with the run (its checkpoint)
* if so wished, ids of devices: ``device-001`` and so on, in the order of the ids
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

from fimi.record import schema

HIDDEN = "…"

_ADDRESS = re.compile(r"(?<=\w)(://)[^/\s\"@]{1,400}@")
_PATH = re.compile(
    r"(?<![\w.:/…~-])(?:~|(?:/(?!dev/|proc/|sys/)[^\s/\"'<>|;,:()\[\]{}\\]+))"
    r"(?:/[^\s/\"'<>|;,:()\[\]{}\\]+)*/([^\s/\"'<>|;,:()\[\]{}\\]+)"
)
_SECRET = re.compile(
    r"(\"[\w.-]{0,64}(?:password|passwd|secret|token|credential|private_key)[\w.-]{0,64}\""
    r"\s{0,9}:\s{0,9}\")"
    r"(?:[^\"\\]|\\.)+(\")",
    re.IGNORECASE,
)
_WORD = r"[A-Za-z0-9_.-]"


def clean_text(text: str) -> str:
    """A text without passwords and without folders of absolute paths."""
    text = _ADDRESS.sub(rf"\g<1>{HIDDEN}@", text)
    text = _SECRET.sub(rf"\g<1>{HIDDEN}\g<2>", text)
    return _PATH.sub(rf"{HIDDEN}/\g<1>", text)


def renamed(devices: Iterable[str]) -> Callable[[str], str]:
    """A function that replaces ids of devices in a text, wherever they are whole words."""
    names = {
        device: f"device-{number:03d}" for number, device in enumerate(sorted(set(devices)), 1)
    }
    if not names:
        return lambda text: text
    longest_first = sorted(names, key=len, reverse=True)
    found = re.compile(rf"(?<!{_WORD})({'|'.join(map(re.escape, longest_first))})(?!{_WORD})")
    return lambda text: found.sub(lambda match: names[match.group(1)], text)


def clean_store(db: sqlite3.Connection, *, names: bool) -> None:
    """Take out of a copy of a store what does not go into a bundle.

    Args:
        db: the copy, open for writing.
        names: whether ids of devices stay.
    """
    there = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    rename = renamed(_devices(db, there)) if not names else (lambda text: text)

    def clean(text: Any) -> Any:
        return rename(clean_text(text)) if isinstance(text, str) else text

    db.create_function("cleaned", 1, clean, deterministic=True)
    with db:
        if schema.CHECKPOINT.name in there:
            db.execute(f"DELETE FROM {schema.CHECKPOINT.name}")
        for table in sorted(there):
            columns = db.execute(f"PRAGMA table_info({table})").fetchall()
            for column in (row[1] for row in columns if row[2] == "TEXT"):
                db.execute(
                    f"UPDATE {table} SET {column} = cleaned({column}) "
                    f"WHERE {column} IS NOT cleaned({column})"
                )


def _devices(db: sqlite3.Connection, there: set[str]) -> list[str]:
    """Ids of all devices that a store names."""
    found: set[str] = set()
    for table in there:
        if any(row[1] == "device" for row in db.execute(f"PRAGMA table_info({table})")):
            found |= {device for (device,) in db.execute(f"SELECT DISTINCT device FROM {table}")}
    return sorted(found)
