"""What a ledger was told, reading by reading, so that its joules can be computed again.

A :class:`LedgerLog` notes the readings that a :class:`~fimi.energy.ledger.Ledger` uses and every
edge between them: where phases begin and end, where the board rests, what is taken for a report.
:meth:`LedgerLog.part` gives what was noted since the last part, packed without loss. The parts of a
ledger, one after the other, say all that it ever knew: :mod:`fimi.energy.replay` feeds them to
another ledger, which comes to the same figures.

Nothing is thinned here: what a recorder keeps is what the ledger saw. But all is bounded. Of a part
with more readings or bytes than :data:`READINGS_MOST` and :data:`BYTES_MOST` only a sentence is
left, which says so.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, get_args

import msgspec
import numpy as np
from msgspec import Meta, Struct

from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.reading_arrays import (
    floats,
    loosened,
    packed_floats,
    packed_wholes,
    squeezed,
    wholes,
)

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
BYTES_MOST = 1 << 17
"""Most bytes of the packed parts of one report: with it they travel, and wait on disk."""
PARTS_MOST = 17
"""Most parts of one report: one of each start of a device."""
_UNPACKED_MOST = 16 << 20
_VERSION = 1
_HAS_POWER, _HAS_COUNTER, _RESET = 1, 2, 4


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
    """

    meters: dict[Series, MeterDescription]
    steps: list[MarkedStep]
    follows: frozenset[Series] = frozenset()


class _Column(Struct, frozen=True, forbid_unknown_fields=True):
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


class _Body(Struct, frozen=True, forbid_unknown_fields=True):
    """A part before it is squeezed."""

    version: int
    texts: Annotated[tuple[str, ...], Meta(max_length=STEPS_MOST)]
    count: Annotated[int, Meta(ge=0, le=STEPS_MOST)]
    steps: bytes
    words: bytes
    regimes: bytes
    numbers: bytes
    at_s: bytes
    series: dict[Series, _Column]


class LedgerLog:
    """Notes what a ledger is told. One thread at a time.

    Args:
        life: name of the ledger; drawn where it is left out.
    """

    def __init__(self, life: str = "") -> None:
        self._life = life or secrets.token_hex(8)
        self._number = 0
        self._meters: dict[Series, MeterDescription] = {}
        self._steps: list[MarkedStep] = []
        self._count = 0
        self._lost = ""
        self._newest: dict[Series, Reading] = {}
        self._before: dict[Series, Reading] = {}
        """The last readings of the part before."""

    def begins(self, meters: Mapping[Series, MeterDescription]) -> None:
        """The ledger uses these meters."""
        self._meters = dict(meters)

    def note(
        self,
        step: Step,
        at_s: float = math.nan,
        *,
        words: str = "",
        regime: str = "",
        number: int = 0,
        readings: Mapping[Series, Sequence[Reading]] | None = None,
    ) -> None:
        """Note a step; see :class:`MarkedStep`."""
        given = {name: list(found) for name, found in (readings or {}).items()}
        self._count += sum(map(len, given.values()))
        self._newest |= {name: found[-1] for name, found in given.items() if found}
        if self._count > READINGS_MOST or len(self._steps) >= STEPS_MOST:
            self._lost = (
                f"more than {READINGS_MOST} readings or {STEPS_MOST} steps until a report were "
                "not kept"
            )
            self._steps = []
        if not self._lost:
            self._steps.append(MarkedStep(step, at_s, words, regime, number, given))

    def part(self, room_bytes: int = BYTES_MOST, *, cut: bool = True) -> tuple[ReadingsPart, ...]:
        """What was noted since the last part, which is one or none.

        Args:
            room_bytes: most bytes that it may have.
            cut: whether the next part begins here; else this one will be given again, with more,
                and stands beside the phases so far.
        """
        steps = self._steps if cut else [*self._steps, MarkedStep("so-far")]
        if not self._steps and not self._lost:
            return ()
        made = ReadingsPart(life=self._life, number=self._number, count=self._count)
        if self._lost:
            made = made.without(self._lost)
        else:
            body, count = _packed(self._meters, steps, self._before)
            if len(body) <= min(room_bytes, BYTES_MOST):
                digest = hashlib.sha256(body).hexdigest()
                made = msgspec.structs.replace(made, body=body, digest=digest, count=count)
            else:
                made = made.without(
                    f"{self._count} readings take {len(body)} B, more than the {room_bytes} B that "
                    "a report has room for"
                )
        if cut:
            self._number += 1
            self._steps, self._count, self._lost = [], 0, ""
            self._before = dict(self._newest)
        return (made,)


def _packed(
    meters: Mapping[Series, MeterDescription],
    steps: Sequence[MarkedStep],
    before: Mapping[Series, Reading],
) -> tuple[bytes, int]:
    """Steps with their readings as bytes, and how many readings these are."""
    texts: dict[str, int] = {}
    columns = {name: _column(name, meter, steps, before) for name, meter in meters.items()}

    def place(text: str) -> int:
        return texts.setdefault(text, len(texts))

    body = _Body(
        version=_VERSION,
        count=len(steps),
        steps=packed_wholes([STEPS.index(each.step) for each in steps]),
        words=packed_wholes([place(each.words) for each in steps]),
        regimes=packed_wholes([place(each.regime) for each in steps]),
        numbers=packed_wholes([each.number for each in steps]),
        at_s=packed_floats(np.array([each.at_s for each in steps if each.step in EDGES], float)),
        series=columns,
        texts=tuple(texts),
    )
    return squeezed(msgspec.msgpack.encode(body)), sum(each.count for each in columns.values())


def _column(
    name: Series,
    meter: MeterDescription,
    steps: Sequence[MarkedStep],
    before: Mapping[Series, Reading],
) -> _Column:
    """The readings of a series."""
    kept: list[Reading] = []
    last, at_edges, again = before.get(name), [], []
    for each in steps:
        if each.step not in EDGES:
            continue
        found = each.readings.get(name, [])
        repeats = bool(found) and found[0] is last
        at_edges.append(len(found))
        again.append(int(repeats))
        kept += found[1:] if repeats and kept else found
        last = found[-1] if found else last
    flags = [
        _HAS_POWER * (r.power_w is not None)
        + _HAS_COUNTER * (r.counter_j is not None)
        + _RESET * r.reset
        for r in kept
    ]
    return _Column(
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


def unpacked(part: ReadingsPart) -> LoggedPart:
    """What a part says.

    Raises:
        ValueError: it is missing, damaged, or absurd; the words say what is wrong.
    """
    return _read(_body_of(part))


def reworded(part: ReadingsPart, change: Callable[[str], str]) -> ReadingsPart:
    """The same part with other texts: sources of meters, and words and regimes of steps.

    One that would be larger than a part can be is left without its readings, and says so.

    Raises:
        ValueError: as :func:`unpacked` says.
    """
    body = _body_of(part)
    replace = msgspec.structs.replace
    series = {
        name: replace(column, meter=replace(column.meter, source=change(column.meter.source)))
        for name, column in body.series.items()
    }
    changed = replace(body, texts=tuple(map(change, body.texts)), series=series)
    if changed == body:
        return part
    packed = squeezed(msgspec.msgpack.encode(changed))
    if len(packed) > BYTES_MOST:
        return part.without(f"with other texts it takes {len(packed)} B, more than {BYTES_MOST} B")
    return replace(part, body=packed, digest=hashlib.sha256(packed).hexdigest())


def _body_of(part: ReadingsPart) -> _Body:
    """A part without its outer packing; raises ValueError as :func:`unpacked`."""
    if part.body is None:
        raise ValueError(part.missing or "it has no readings, and does not say why")
    if hashlib.sha256(part.body).hexdigest() != part.digest:
        raise ValueError("its checksum is another one")
    try:
        body = msgspec.msgpack.decode(loosened(part.body, _UNPACKED_MOST), type=_Body)
    except msgspec.MsgspecError as error:
        raise ValueError(f"it is no part of a log: {error}") from error
    if body.version != _VERSION:
        raise ValueError(f"it is of version {body.version}, this release reads {_VERSION}")
    if (found := sum(column.count for column in body.series.values())) != part.count:
        raise ValueError(f"it has {found} readings and is said to have {part.count}")
    return body


def _read(body: _Body) -> LoggedPart:
    codes = wholes(body.steps, body.count)
    if ((codes < 0) | (codes >= len(STEPS))).any():
        raise ValueError("it has an unknown step")
    names = [STEPS[code] for code in codes.tolist()]
    edges = [name in EDGES for name in names]
    at_s = iter(floats(body.at_s, sum(edges)).tolist())
    words, regimes = (_texts(data, body) for data in (body.words, body.regimes))
    numbers = wholes(body.numbers, body.count).tolist()
    given: dict[Series, list[list[Reading]]] = {}
    follows: set[Series] = set()
    for name, column in body.series.items():
        given[name], repeats = _readings(column, sum(edges))
        if repeats:
            follows.add(name)
    place, steps = 0, []
    for index, name in enumerate(names):
        readings: dict[Series, list[Reading]] = {}
        if edges[index]:
            readings = {series: found[place] for series, found in given.items()}
            place += 1
        steps.append(
            MarkedStep(
                name,
                next(at_s) if edges[index] else math.nan,
                words[index],
                regimes[index],
                numbers[index],
                readings,
            )
        )
    meters = {name: column.meter for name, column in body.series.items()}
    return LoggedPart(meters, steps, frozenset(follows))


def _texts(data: bytes, body: _Body) -> list[str]:
    places = wholes(data, body.count).tolist()
    if any(not 0 <= place < len(body.texts) for place in places):
        raise ValueError("a step has a text that is not there")
    return [body.texts[place] for place in places]


def _readings(column: _Column, edges: int) -> tuple[list[list[Reading]], bool]:
    """The readings at each edge, and whether the first one is of the part before."""
    flags = wholes(column.flags, column.count).tolist()
    times_s = floats(column.times_s, column.count).tolist()
    powers = iter(floats(column.power_w, sum(bool(f & _HAS_POWER) for f in flags)).tolist())
    counters = iter(floats(column.counter_j, sum(bool(f & _HAS_COUNTER) for f in flags)).tolist())
    all_ = [
        Reading(
            time_s=at_s,
            power_w=next(powers) if flag & _HAS_POWER else None,
            counter_j=next(counters) if flag & _HAS_COUNTER else None,
            reset=bool(flag & _RESET),
        )
        for at_s, flag in zip(times_s, flags, strict=True)
    ]
    place, found, follows = 0, [], False
    at_edges, again = wholes(column.at_edges, edges), wholes(column.again, edges)
    if (at_edges < 0).any() or ((again != 0) & (again != 1)).any():
        raise ValueError("it has an edge that cannot be")
    for count, repeats in zip(at_edges.tolist(), again.tolist(), strict=True):
        if repeats and not place:
            follows = True
        elif repeats:
            place -= 1
        if place + count > len(all_):
            raise ValueError("it has fewer readings than its edges")
        found.append(all_[place : place + count])
        place += count
    if place != len(all_):
        raise ValueError("it has more readings than its edges")
    return found, follows
