"""Parts of what a ledger was told: what they are, and how large they can be.

* :class:`ReadingsPart`  a part as it travels and is stored
* :class:`LoggedPart`    the same unpacked: :class:`MarkedStep` by step

:mod:`fimi.energy.ledger_packing` writes a part, :mod:`fimi.energy.ledger_opening` reads it.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from fimi.energy.meters import MeterDescription, Reading

Series = Literal["total", "cpu", "second"]
"""Whose readings: those of the meter whose joules count, the processor's share, a second meter."""
Step = Literal["begin", "end", "rest", "rested", "take", "drop", "correct", "evidence", "so-far"]
"""What a ledger does: a phase begins or ends, the board begins or ends to rest, phases are taken
for a report or dropped, corrections or evidence are taken, phases are told that will be taken
later."""

SERIES: tuple[Series, ...] = get_args(Series)
STEPS: tuple[Step, ...] = get_args(Step)
EDGES: tuple[Step, ...] = ("begin", "end", "rest", "rested")
"""Steps at which readings are forced and the clock is read."""

READINGS_MOST = 1 << 17
"""Most readings of a part; a recorder keeps 4,096 of a phase."""
STEPS_MOST = 1 << 16
BYTES_MOST = 3 << 16
"""Most bytes of the packed parts of one report: with it they travel, and wait on disk."""
PARTS_MOST = 17
"""Most parts of one report: one of each start of a device."""
TEXT_MOST = 400
"""Most characters of a text in a part."""


class ReadingsPart(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of what a ledger was told.

    Attributes:
        life: random name of the ledger; a device that is started again has another one.
        number: of the part, from 0, without gaps.
        count: readings in it, of all series.
        body: the part, packed; ``None`` where it is missing.
        digest: SHA-256 of ``body``; empty where that is missing.
        missing: why it is missing, in words; empty if it is not.
    """

    life: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    number: Annotated[int, Meta(ge=0, le=2**48)]
    count: Annotated[int, Meta(ge=0, le=2**48)] = 0
    body: Annotated[bytes, Meta(max_length=BYTES_MOST)] | None = None
    digest: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""
    missing: Annotated[str, Meta(max_length=400)] = ""

    def without(self, why: str) -> ReadingsPart:
        """The same part without its readings, and why."""
        return msgspec.structs.replace(self, body=None, digest="", missing=why[:400])


class MarkedStep(Struct, frozen=True):
    """One step of a ledger.

    Attributes:
        step: what it did.
        at_s: the device's clock, s; not a number where it was not read.
        words: name of the phase or kind of rest.
        regime: operating point of the phase.
        number: of the round that is taken.
        readings: those that it was given at this edge, by series.
    """

    step: Step
    at_s: float = math.nan
    words: str = ""
    regime: str = ""
    number: int = 0
    readings: dict[Series, list[Reading]] = {}


class LoggedPart(Struct, frozen=True):
    """What a part says, unpacked.

    Attributes:
        meters: description of the meter of each series.
        steps: in order.
        follows: series whose first reading is the last one of the part before.
        left_out: series whose readings had no room, and why, in words.
    """

    meters: dict[Series, MeterDescription]
    steps: list[MarkedStep]
    follows: frozenset[Series] = frozenset()
    left_out: dict[Series, str] = {}
