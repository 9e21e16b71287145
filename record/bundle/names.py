"""Names of devices, hosts and users, and how a bundle calls them instead.

:func:`find_names` goes through a store once: devices are named in columns and under keys that hold
nothing else (:data:`HOLDERS`); hosts and users in addresses, home folders and notes of who asked
for something. :class:`HiddenNames` replaces them: ``device-001``, ``host-001``, ``user-001`` and so
on, in the order of the names.

A device may be called ``auto``, which is a word of the configuration as well. Where such a text
stands alone it is that word, and stays; where a device is named it is the name. In a sentence it is
taken for the name.
"""

from __future__ import annotations

import getpass
import re
import socket
import sqlite3
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, get_args

import msgspec
from msgspec import inspect

from fimi.record import schema
from fimi.record.events import Logged

HOLDERS = frozenset(
    {"device", "sender", "devices[]", "members[]", "fleet.members[]", "short[]", "silent[]"}
)
"""Columns and keys of JSON under which only names of devices stand; ``[]``: in a list there."""
KEYED = frozenset({"drift_percent"})
"""Keys of JSON under which a value stands for each device."""
STATES = "columns[]"
"""Key of JSON under which a phase stands with its operating point: ``compute@1000 MHz``."""

_ANY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_OWN_WORDS = (".name", ".directory", ".url", ".host", ".root", ".file", ".members", ".broker")
"""Ends of the keys of a configuration whose values are no words of it."""
_WORD_COLUMNS = ("strategy", "dataset", "split", "partition", "command", "status", "broker")
_WORD_PACKED = ("config", "versions", "class_names", "contract", "stages_wall_s", "origins")
_HERE = frozenset({"localhost", "localhost.localdomain", "127.0.0.1", "0.0.0.0", "::1"})
_NOBODY = frozenset({"root", "nobody", "user", "admin", "pi", "ubuntu", "debian", "fimi"})
"""Users that are on every machine of a kind, and so name nobody."""

_URL_HOST = re.compile(r"://(?:[^/\s\"'@]{0,400}@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][\w.-]*)")
_USER_HOST = re.compile(r"(?<![\w.+-])([\w.+-]{1,64})@([A-Za-z][\w.-]{0,254})")
_WHO = re.compile(r"\(([^\s()]{1,64}) on ([^\s()]{1,255})\)")
_NUMBERED = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_USER_HOME = re.compile(r"(?:/home/|/Users/|\\+Users\\+|(?<![\w/])~)([A-Za-z_][\w.-]*)")
_HOST_KEY = re.compile(r"(?:^|[._])host(?:name)?$")


class HiddenNames:
    """Replaces names.

    Args:
        devices: names of devices.
        hosts: names and numbers of machines.
        users: names of people.
        words: texts that are no names where they stand alone.
    """

    def __init__(
        self,
        devices: Iterable[str],
        hosts: Iterable[str] = (),
        users: Iterable[str] = (),
        words: Iterable[str] = (),
    ) -> None:
        self._devices = _numbered("device", set(devices))
        others = _numbered("user", set(users) - self._devices.keys())
        others |= _numbered("host", set(hosts) - self._devices.keys())
        self._names = others | self._devices
        self._folded = {name.lower(): other for name, other in self._names.items()}
        self._words = frozenset(words)
        marked = [name for name in self._names if _is_marked(name) and name not in self._words]
        plain = [name for name in self._names if name not in set(marked)]
        kept = [
            word
            for word in self._words
            if word not in self._names
            and _ANY_NAME.fullmatch(word)
            and any(name.lower() in word.lower() for name in self._names)
        ]
        groups = [
            (rf"(?<![A-Za-z0-9_.-])(?P<kept>{_any(kept)})(?![A-Za-z0-9_-]|\.[A-Za-z0-9])", kept),
            (rf"(?<![A-Za-z0-9])(?i:{_any(marked)})(?![A-Za-z0-9])", marked),
            (rf"(?<![A-Za-z0-9_-])(?:{_any(plain)})(?![A-Za-z0-9_-])", plain),
        ]
        said = "|".join(pattern for pattern, found in groups if found)
        self._found = re.compile(said) if said else None

    def at_name(self, text: str) -> str:
        """A text that stands where a device is named."""
        return self._devices.get(text) or self.in_text(text)

    def in_text(self, text: str) -> str:
        """Any other text."""
        if self._found is None or text in self._words:
            return text
        return self._found.sub(self._other, text)

    def _other(self, found: re.Match[str]) -> str:
        name = found[0]
        if found.groupdict().get("kept") is not None:
            return name
        return self._names.get(name) or self._folded[name.lower()]


def find_names(db: sqlite3.Connection) -> HiddenNames:
    """The names in a store, and the words that are none."""
    devices: set[str] = set()
    hosts: set[str] = set()
    users: set[str] = set()
    own_hosts, own_users = _here()
    words = {*_words_of_types(), *_words_of_run(db)}
    for table, column, text in _texts(db):
        for key, each in _strings(column, text):
            if key == STATES:
                continue
            if key in HOLDERS:
                devices |= {each} if _ANY_NAME.fullmatch(each) else set()
                continue
            if table == schema.PROFILE.name and key == "board":
                words.add(each)
            if _HOST_KEY.search(key) and _ANY_NAME.fullmatch(each):
                hosts.add(each)
            hosts |= set(_URL_HOST.findall(each)) | set(_NUMBERED.findall(each))
            hosts |= {host for host in own_hosts if host in each}
            users |= {user for user in own_users if user in each} | set(_USER_HOME.findall(each))
            for user, host in _USER_HOST.findall(each) + _WHO.findall(each):
                users.add(user)
                hosts.add(host)
    hosts = {host.strip("[]").rstrip(".") for host in hosts}
    return HiddenNames(
        devices, hosts - _HERE - words - {""}, users - _NOBODY - words - hosts, words
    )


def _here() -> tuple[list[str], list[str]]:
    """Host and user of this process: a dry run is often bundled where it ran."""
    host = socket.gethostname()
    try:
        user = [getpass.getuser()]
    except (KeyError, OSError, ImportError):  # no such user, and no variable that names one
        user = []
    return [host, host.split(".")[0]], user


def _is_marked(name: str) -> bool:
    """Whether nothing but this name looks like it, so that it is found inside of longer words."""
    return len(name) > 3 and any(not each.isalpha() for each in name)


def _numbered(kind: str, names: set[str]) -> dict[str, str]:
    return {name: f"{kind}-{number:03d}" for number, name in enumerate(sorted(names), 1)}


def _any(names: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(names, key=lambda name: (-len(name), name))))


def _texts(db: sqlite3.Connection) -> Iterator[tuple[str, str, str]]:
    """Every text of a store once: table, column, text."""
    tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    for (table,) in tables.fetchall():
        if table == schema.CHECKPOINT.name:
            continue
        for row in db.execute(f"PRAGMA table_info({table})").fetchall():
            column = row[1]
            asked = f"SELECT DISTINCT {column} FROM {table} WHERE typeof({column}) = 'text'"
            for (text,) in db.execute(asked):
                yield table, column, text


def _strings(key: str, text: str) -> Iterator[tuple[str, str]]:
    """The strings of a cell, each with the key or column that it stands under."""
    if text[:1] in ("{", "["):
        try:
            yield from _within(key, msgspec.json.decode(text))
            return
        except msgspec.DecodeError:
            pass
    yield key, text


def _within(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for each in value:
            yield from _within(f"{key}[]", each)
    elif isinstance(value, dict):
        for name, each in value.items():
            if key in KEYED:
                yield "device", name
            yield from _within(name, each)


def _words_of_run(db: sqlite3.Connection) -> Iterator[str]:
    """Words of a run's configuration, versions and data."""
    there = {row[1] for row in db.execute(f"PRAGMA table_info({schema.RUN.name})")}
    for column in there & {*_WORD_COLUMNS, *_WORD_PACKED}:
        for (text,) in db.execute(f"SELECT {column} FROM {schema.RUN.name}").fetchall():
            if not isinstance(text, str):
                continue
            for key, each in _strings(column, text):
                key = key.removesuffix("[]")
                yield key
                if not key.endswith(_OWN_WORDS) and "/" not in each and "\\" not in each:
                    yield each


@cache
def _words_of_types() -> frozenset[str]:
    """Words of the record: names of fields, and values of types that have few."""
    found = {"coordinator", "generator"}
    seen: set[type] = set()

    def of(info: inspect.Type) -> Iterator[str]:
        match info:
            case inspect.StructType():
                if info.cls in seen:
                    return
                seen.add(info.cls)
                if isinstance(info.tag, str):
                    yield info.tag
                for field in info.fields:
                    yield field.name
                    yield from of(field.type)
            case inspect.UnionType():
                for each in info.types:
                    yield from of(each)
            case inspect.LiteralType():
                yield from (each for each in info.values if isinstance(each, str))
            case inspect.VarTupleType() | inspect.ListType():
                yield from of(info.item_type)
            case inspect.TupleType():
                for each in info.item_types:
                    yield from of(each)
            case inspect.DictType():
                yield from of(info.key_type)
                yield from of(info.value_type)

    for table in schema.TABLES:
        found |= {column.name for column in table.described}
        found.update(of(inspect.type_info(table.of)))
    for event in get_args(Logged):
        found.update(of(inspect.type_info(event)))
    return frozenset(found)
