"""Whether a run can be gone on with, by its store.

* :func:`resumable`      the description of a run that ended early
* :class:`NotResumable`  it cannot be gone on with; the text says why and what to do
"""

from __future__ import annotations

import sqlite3

import msgspec

from fimi.record import schema
from fimi.record.events import Resumed, RunFinished, tag
from fimi.record.migration import version
from fimi.record.record import RunInfo


class NotResumable(ValueError):  # noqa: N818 - the store is as it should be
    """A run cannot be gone on with; the text says why and what to do."""


def resumable(db: sqlite3.Connection) -> RunInfo:
    """The description of the run in an open store.

    Raises:
        NotResumable: it is completed, of another version, or not written by this one.
        sqlite3.Error: the store cannot be read.
        msgspec.MsgspecError: its log cannot be read.
    """
    if (found := version(db)) != schema.VERSION:
        raise NotResumable(
            f"run store version {found}, this release goes on with runs of version "
            f"{schema.VERSION}; resume it with the release that began it, or start it anew"
        )
    for table in schema.TABLES:
        there = {row[1] for row in db.execute(f"PRAGMA table_info({table.name})")}
        if lacking := [c.name for c in table.described if c.name not in there]:
            raise NotResumable(
                f"begun by an older release: its table {table.name} "
                + (f"lacks {', '.join(lacking)}" if there else "is not there")
                + "; resume it with the release that began it, or start it anew"
            )
    try:
        infos = schema.RUN.values(db)
    except msgspec.MsgspecError as error:
        raise NotResumable(
            f"its table run cannot be read, the store is damaged: {error}"
        ) from error
    if len(infos) != 1:
        raise NotResumable(f"table run has {len(infos)} rows instead of one; the store is damaged")
    info = infos[0]
    status, reason = _end(db) or (info.status, info.reason)
    if "completed" in (info.status, status):
        said = f" ({reason})" if reason else ""
        raise NotResumable(
            f"the run {info.run} is completed{said}: there is nothing to go on with; look at it "
            "with 'fimi report', or start a run of another name"
        )
    return info


def _end(db: sqlite3.Connection) -> tuple[str, str] | None:
    """How the run ended by its log, where that is the last that the log says of it."""
    last = db.execute(
        f"SELECT event, body FROM {schema.EVENT.name} WHERE event IN (?, ?) "
        "ORDER BY id DESC LIMIT 1",
        [tag(RunFinished), tag(Resumed)],
    ).fetchone()
    if last is None or last[0] != tag(RunFinished):
        return None
    event = msgspec.json.decode(last[1], type=RunFinished)
    return event.status, event.reason
