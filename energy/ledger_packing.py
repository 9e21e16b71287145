"""Steps of a ledger with their readings as bytes, without loss.

* :class:`PackedBody`, :class:`PackedColumn`  the form of a part before it is squeezed
* :func:`packed`                              its writer

:mod:`fimi.energy.ledger_opening` is its reader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct

from fimi.energy.ledger_parts import (
    EDGES,
    READINGS_MOST,
    STEPS,
    STEPS_MOST,
    TEXT_MOST,
    MarkedStep,
    Series,
)
from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.reading_arrays import packed_floats, packed_wholes, squeezed

VERSION = 1
"""Of the form."""
HAS_POWER, HAS_COUNTER, RESET = 1, 2, 4
"""Flags of a reading."""

Text = Annotated[str, Meta(max_length=TEXT_MOST)]


class PackedColumn(Struct, frozen=True, forbid_unknown_fields=True):
    """The readings of one series: how many there are, and how many stand at each edge.

    ``again`` is 1 where the first reading of an edge is the last one of the edge before; it stands
    in the columns once, unless that was in another part.
    """

    meter: MeterDescription
    count: Annotated[int, Meta(ge=0, le=READINGS_MOST)]
    at_edges: bytes
    again: bytes
    flags: bytes
    times_s: bytes
    power_w: bytes
    counter_j: bytes


class PackedBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A part before it is squeezed."""

    version: int
    texts: Annotated[tuple[Text, ...], Meta(max_length=2 * STEPS_MOST)]
    count: Annotated[int, Meta(ge=0, le=STEPS_MOST)]
    steps: bytes
    words: bytes
    regimes: bytes
    numbers: bytes
    at_s: bytes
    series: dict[Series, PackedColumn]
    left_out: dict[Series, Text] = {}


def packed(
    meters: Mapping[Series, MeterDescription],
    steps: Sequence[MarkedStep],
    before: Mapping[Series, Reading],
    left_out: Mapping[Series, str],
) -> tuple[bytes, int]:
    """Steps with their readings as bytes, and how many readings these are.

    Args:
        meters: of each series.
        steps: in order.
        before: the last reading of each series in the part before.
        left_out: series that are packed without their readings, and why.
    """
    texts: dict[str, int] = {}
    columns = {
        name: _column(name, meter, steps, before, empty=name in left_out)
        for name, meter in meters.items()
    }

    def place(text: str) -> int:
        return texts.setdefault(text[:TEXT_MOST], len(texts))

    body = PackedBody(
        version=VERSION,
        count=len(steps),
        steps=packed_wholes([STEPS.index(each.step) for each in steps]),
        words=packed_wholes([place(each.words) for each in steps]),
        regimes=packed_wholes([place(each.regime) for each in steps]),
        numbers=packed_wholes([each.number for each in steps]),
        at_s=packed_floats(np.array([each.at_s for each in steps if each.step in EDGES], float)),
        series=columns,
        texts=tuple(texts),
        left_out={name: why[:TEXT_MOST] for name, why in left_out.items()},
    )
    return squeezed(msgspec.msgpack.encode(body)), sum(each.count for each in columns.values())


def _column(
    name: Series,
    meter: MeterDescription,
    steps: Sequence[MarkedStep],
    before: Mapping[Series, Reading],
    *,
    empty: bool,
) -> PackedColumn:
    """The readings of a series; none of them where it is to be empty."""
    kept: list[Reading] = []
    last, at_edges, again = before.get(name), [], []
    for each in steps:
        if each.step not in EDGES:
            continue
        found = [] if empty else each.readings.get(name, [])
        repeats = bool(found) and found[0] is last
        at_edges.append(len(found))
        again.append(int(repeats))
        kept += found[1:] if repeats and kept else found
        last = found[-1] if found else last
    flags = [
        HAS_POWER * (r.power_w is not None)
        + HAS_COUNTER * (r.counter_j is not None)
        + RESET * r.reset
        for r in kept
    ]
    return PackedColumn(
        meter=meter,
        count=len(kept),
        at_edges=packed_wholes(at_edges),
        again=packed_wholes(again),
        flags=packed_wholes(flags),
        times_s=packed_floats(np.array([r.time_s for r in kept], float)),
        power_w=packed_floats(
            np.array([r.power_w for r in kept if r.power_w is not None], float), meter.resolution_w
        ),
        counter_j=packed_floats(
            np.array([r.counter_j for r in kept if r.counter_j is not None], float),
            meter.resolution_j,
        ),
    )
