"""Writes parts of meters' readings into a run store, as many of a device as it can have.

* :func:`write_parts`  those that are new, up to :data:`PARTS_MOST` in a round
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from fimi.energy.ledger_parts import ReadingsPart
from fimi.record import schema
from fimi.record.readings_rows import stored
from fimi.record.store_file import StoreFile

PARTS_MOST = 64
"""Most parts of a device in one round that are stored; a round has two of each start. With the time
before the first round come the parts of all plans, of which a run may have one in each round: there
it is that many for each round so far, and for the time before."""

log = logging.getLogger(__name__)


def write_parts(file: StoreFile, number: int, device: str, parts: Iterable[ReadingsPart]) -> None:
    """Store parts; what is there already stays as it is. The caller has a transaction open.

    Args:
        file: of the store.
        number: of the round with which they came; 0 for the time before the first.
        device: whose.
        parts: as it has sent them.
    """
    db, name = file.db, schema.READINGS.name
    most = PARTS_MOST
    if not number:
        begun = f"SELECT coalesce(max(number), 0) FROM {schema.ROUNDS.name}"
        most *= 1 + db.execute(begun).fetchone()[0]
    of_device = f"SELECT count(*) FROM {name} WHERE device = ?"
    refused = 0
    for part in parts:
        (there,) = db.execute(
            f"{of_device} AND life = ? AND part = ?", [device, part.life, part.number]
        ).fetchone()
        if there:
            continue
        (of_round,) = db.execute(f"{of_device} AND round = ?", [device, number]).fetchone()
        if of_round >= most:
            refused += 1
            continue
        file.insert(schema.READINGS, [stored(part)], round=number, device=device)
    if refused:
        where = f"round {number}" if number else "the time before the first round"
        log.warning(
            "%d parts of the readings of %s in %s are not stored: %d are the most of one device",
            *(refused, device, where, most),
        )
