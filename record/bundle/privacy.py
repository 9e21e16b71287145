"""What does not go into a bundle: secrets, folders of the machine, and names if so wished.

:func:`clean_text` takes out of a text, and :func:`clean_store` out of every cell of a copy of a run
store, the packed readings included:

* passwords and names of users in addresses (``mqtt://user:…@host``, ``user@host:/path``), and
  values of keys and parameters that sound like secrets (``token=…``, ``?key=…``)
* folders of absolute paths, which name users and machines: the name of the file stays. ``/dev``,
  ``/proc`` and ``/sys`` are the same everywhere, and stay
* what only a process needs that goes on with the run (its checkpoint)
* if so wished, names of devices, hosts and users (:mod:`fimi.record.bundle.names`)
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from fimi.energy.ledger_opening import reworded
from fimi.energy.ledger_parts import ReadingsPart
from fimi.record import schema
from fimi.record.bundle.names import HOLDERS, KEYED, STATES, HiddenNames, find_names

HIDDEN = "…"

_PART = r"[^\s/\"'<>|;,:()\[\]{}\\]+"
_SPACED = r"[^/\"'<>|;,:()\[\]{}\\\n]+"
_FIRST = r"(?!dev/|proc/|sys/)"
_ROOT = rf"(?:~[A-Za-z_][\w.-]*|~|/{_FIRST}{{part}}|[A-Za-z]:(?=[/\\])|\\\\{{part}})"
_BEFORE = r"(?<![\w./…~\\-])"


def _path(part: str) -> str:
    return _ROOT.format(part=part) + rf"(?:[/\\]{part})+"


_WHOLE_PATH = re.compile(_path(_SPACED))
_PLACE = re.compile(
    r"(?P<url>(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,30}://[^\s\"'<>]*)"
    rf"|(?P<quote>[\"'])(?P<quoted>{_path(_SPACED)})(?P=quote)"
    rf"|{_BEFORE}(?P<path>{_path(_PART)})"
    r"|(?<![^\s\"'=:(])(?P<home>~[a-z_][\w.-]*)"
)
_OWNER = re.compile(r"(?<![\w.…@-])[\w.+-]{1,64}@(?=[\w.-]{1,255}:[/~])")
_HOME = re.compile(r"(?:/home|/Users|[A-Za-z]:[/\\]Users)[/\\][^/\\]+", re.IGNORECASE)
_SOUNDS = r"(?:password|passwd|passphrase|secret|token|credential|private_?key|api_?key)"
_KEY = re.compile(_SOUNDS, re.IGNORECASE)
_QUOTED_SECRET = re.compile(
    rf"(\"[\w.-]{{0,64}}{_SOUNDS}[\w.-]{{0,64}}\"\s{{0,9}}:\s{{0,9}}\")(?:[^\"\\]|\\.)+(\")",
    re.IGNORECASE,
)
_SECRET = re.compile(
    rf"([\w.-]{{0,64}}{_SOUNDS}[\w.-]{{0,64}}\s{{0,9}}=\s{{0,9}})"
    r"(?:\"[^\"]+\"|'[^']+'|[^\s,;&\"'<>)\]}]+)"
    r"|([?&](?:key|auth|sig|signature|code|pass|pw)=)[^\s&\"'<>)]+"
    r"|(\bBearer )[A-Za-z0-9._~+/=-]{6,}",
    re.IGNORECASE,
)
_CACHED = 1 << 16


def clean_text(text: str) -> str:
    """A text without secrets and without folders of absolute paths."""
    if _WHOLE_PATH.fullmatch(text) and " /" not in text:
        return _file_of(text)
    text = _QUOTED_SECRET.sub(rf"\g<1>{HIDDEN}\g<2>", text)
    text = _SECRET.sub(lambda found: f"{found[1] or found[2] or found[3]}{HIDDEN}", text)
    text = _OWNER.sub(f"{HIDDEN}@", text)
    return _PLACE.sub(_cleaned_place, text)


def _cleaned_place(found: re.Match[str]) -> str:
    """An address or a path without what is secret in it."""
    if (url := found["url"]) is not None:
        return _cleaned_url(url)
    if found["quoted"] is not None:
        return f"{found['quote']}{_file_of(found['quoted'])}{found['quote']}"
    return HIDDEN if found["path"] is None else _file_of(found["path"])


def _cleaned_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    place = re.match(r"[^/?#]*", rest)
    authority = place[0] if place is not None else ""
    user, colon, word = authority.partition(":")
    if "@" in authority:
        rest = f"{HIDDEN}@" + rest[authority.rindex("@") + 1 :]
    elif colon and not word.isdecimal() and not user.startswith("[") and "@" in rest:
        rest = f"{HIDDEN}@" + rest[rest.rindex("@") + 1 :]  # a password with a slash in it
    elif not authority or scheme.lower() == "file":
        path = "/" + rest[len(authority) :].lstrip("/")
        if _WHOLE_PATH.fullmatch(path):
            rest = _file_of(path)
    return f"{scheme}://{rest}"


def _file_of(path: str) -> str:
    """A path without its folders; nothing of a home, whose name is its user's."""
    if re.match(r"/(?:dev|proc|sys)/", path):
        return path
    name = re.split(r"[/\\]", path)[-1]
    return HIDDEN if _HOME.fullmatch(path) else f"{HIDDEN}/{name}"


class Cleaner:
    """Takes out of values what is not for others.

    Args:
        hidden: names to hide as well.
    """

    def __init__(self, hidden: HiddenNames | None = None) -> None:
        self._hidden = hidden
        self.text: Callable[[str], str] = lru_cache(_CACHED)(self._text)

    def _text(self, text: str) -> str:
        cleaned = clean_text(text)
        return cleaned if self._hidden is None else self._hidden.in_text(cleaned)

    def cell(self, column: str, text: str) -> str:
        """The text of a cell; JSON is gone through value by value."""
        if column in HOLDERS:
            return self.named(text)
        if text[:1] in ("{", "["):
            try:
                value = msgspec.json.decode(text)
            except msgspec.DecodeError:
                return self.text(text)
            cleaned = self.value(value)
            return text if cleaned == value else msgspec.json.encode(cleaned).decode()
        return self.text(text)

    def named(self, name: str) -> str:
        """A text that stands where a device is named."""
        return name if self._hidden is None else self._hidden.at_name(name)

    def value(self, value: Any, key: str = "") -> Any:
        """A value of JSON that stands under a key."""
        if isinstance(value, str):
            if value and _KEY.search(key):
                return HIDDEN
            if key == STATES:
                phase, at, regime = value.partition("@")
                return f"{phase}{at}{self.text(regime)}"
            return self.named(value) if key in HOLDERS else self.text(value)
        if isinstance(value, list):
            return [self.value(each, f"{key}[]") for each in value]
        if isinstance(value, dict):
            of_key = self.named if key in KEYED else self._key
            return {of_key(name): self.value(each, name) for name, each in value.items()}
        return value

    def _key(self, name: str) -> str:
        return name if self._hidden is None else self._hidden.in_text(name)

    def part(self, part: ReadingsPart) -> ReadingsPart:
        """A part of readings: its texts are names of meters, phases and operating points.

        One that is damaged cannot be looked into: where names are hidden its bytes are left out.
        """
        try:
            return reworded(part, self.text)
        except ValueError as error:
            if self._hidden is None or part.body is None:
                return part
            return part.without(f"it was damaged before names were hidden in it: {error}")


def clean_store(db: sqlite3.Connection, *, names: bool) -> None:
    """Take out of a copy of a store what does not go into a bundle.

    Args:
        db: the copy, open for writing.
        names: whether names of devices, hosts and users stay.
    """
    there = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    cleaner = Cleaner(None if names else find_names(db))
    db.create_function("cleaned", 2, cleaner.cell, deterministic=True)
    with db:
        if schema.CHECKPOINT.name in there:
            db.execute(f"DELETE FROM {schema.CHECKPOINT.name}")
        if schema.READINGS.name in there:
            _clean_readings(db, cleaner)
        for table in sorted(there):
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            for column in columns:
                # Two steps: a new name may be one that another row still has.
                db.execute(
                    f"UPDATE {table} SET {column} = char(1) || cleaned('{column}', {column}) "
                    f"WHERE typeof({column}) = 'text' "
                    f"AND {column} IS NOT cleaned('{column}', {column})"
                )
                db.execute(
                    f"UPDATE {table} SET {column} = substr({column}, 2) "
                    f"WHERE typeof({column}) = 'text' AND substr({column}, 1, 1) = char(1)"
                )


def _clean_readings(db: sqlite3.Connection, cleaner: Cleaner) -> None:
    """The packed parts of readings, one after the other."""
    table = schema.READINGS.name
    rows = db.execute(f"SELECT rowid FROM {table} WHERE body IS NOT NULL").fetchall()
    for (row,) in rows:
        life, number, count, body, digest = db.execute(
            f"SELECT life, part, count, body, digest FROM {table} WHERE rowid = ?", [row]
        ).fetchone()
        try:
            part = msgspec.convert(
                {"life": life, "number": number, "count": count, "body": body, "digest": digest},
                ReadingsPart,
            )
        except msgspec.ValidationError:  # no device sends such a row, and verify names it
            part = ReadingsPart(life="0" * 16, number=0, body=bytes(body)[:1])
        cleaned = cleaner.part(part)
        if cleaned != part:
            db.execute(
                f"UPDATE {table} SET body = ?, digest = ?, missing = ? WHERE rowid = ?",
                [cleaned.body, cleaned.digest, cleaned.missing, row],
            )
