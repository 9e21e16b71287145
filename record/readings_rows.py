"""Parts of readings as rows of the run store: what is stored of each, and what is refused.

A device may send anything. :func:`stored` opens a part once, without making a reading of it: what
cannot be opened, or says to have more than a part can have, is stored as missing, with the reason,
and the run goes on.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from fimi.energy.ledger_opening import opened
from fimi.energy.ledger_parts import ReadingsPart


class StoredReadings(Struct, frozen=True, kw_only=True):
    """A part of a device's readings, as it is stored.

    Attributes:
        life: name of the ledger.
        part: its place in that life.
        series: how many readings it has of each; what was left out is not among them.
        count: of all together.
        from_s: the first edge of a phase in it, on the device's clock, s; ``None`` if unknown.
        until_s: the last one.
        digest: SHA-256 of ``body``.
        missing: why there is none; empty if there is.
        body: the part, packed (:mod:`fimi.energy.ledger_parts`).
    """

    life: str
    part: int
    series: dict[str, int] = {}
    count: int = 0
    from_s: float | None = None
    until_s: float | None = None
    digest: str = ""
    missing: str = ""
    body: bytes | None = None

    @property
    def packed(self) -> ReadingsPart:
        """As the device has sent it.

        Raises:
            ValueError: the row holds what no device sends; the words say what.
        """
        try:
            return msgspec.convert(
                {
                    "life": self.life,
                    "number": self.part,
                    "count": self.count,
                    "body": self.body,
                    "digest": self.digest,
                    "missing": self.missing,
                },
                ReadingsPart,
            )
        except msgspec.ValidationError as error:
            raise ValueError(f"its row cannot be: {error}") from error


def stored(part: ReadingsPart) -> StoredReadings:
    """The row of a part that has come; one that cannot be used is missing."""
    row = StoredReadings(life=part.life, part=part.number, count=part.count)
    try:
        found = opened(part)
    except ValueError as error:
        why = part.missing or f"what the device sent was refused: {error}"
        return msgspec.structs.replace(row, missing=why)
    return msgspec.structs.replace(
        row,
        series=found.counts,
        from_s=found.from_s,
        until_s=found.until_s,
        digest=part.digest,
        body=part.body,
    )
