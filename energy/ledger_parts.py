"""Parts of what a ledger was told, packed without loss: their form, their writer, their reader.

* :class:`ReadingsPart`  a part as it travels and is stored
* :func:`packed`         steps with their readings as bytes
* :func:`opened`         what is in a part, checked, as arrays: cheap, whatever was sent
* :func:`unpacked`       the same as steps and readings, for :mod:`fimi.energy.replay`

A part may come from anybody. All that it says of sizes is compared with the limits before anything
of that size is made; no reading is made before all of them are checked.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec
import numpy as np
from msgspec import Meta, Struct

from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.reading_arrays import (
    Floats,
    Wholes,
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
BYTES_MOST = 3 << 16
"""Most bytes of the packed parts of one report: with it they travel, and wait on disk."""
PARTS_MOST = 17
"""Most parts of one report: one of each start of a device."""
TEXT_MOST = 400
"""Most characters of a text in a part."""
_UNPACKED_MOST = 16 << 20
_NUMBER_MOST = 1e12
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
        left_out: series whose readings had no room, and why, in words.
    """

    meters: dict[Series, MeterDescription]
    steps: list[MarkedStep]
    follows: frozenset[Series] = frozenset()
    left_out: dict[Series, str] = {}


_Text = Annotated[str, Meta(max_length=TEXT_MOST)]


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
    texts: Annotated[tuple[_Text, ...], Meta(max_length=2 * STEPS_MOST)]
    count: Annotated[int, Meta(ge=0, le=STEPS_MOST)]
    steps: bytes
    words: bytes
    regimes: bytes
    numbers: bytes
    at_s: bytes
    series: dict[Series, _Column]
    left_out: dict[Series, _Text] = {}


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
) -> _Column:
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


class _Shown(NamedTuple):
    """The readings of a series as arrays, checked.

    Attributes:
        flags: of each reading, shape (n,).
        times_s: of each, s, shape (n,).
        power_w: of those that have one, W.
        counter_j: of those that have one, J.
        at_edges: how many stand at each edge.
        again: 1 where the first one at an edge is the last one of the edge before.
    """

    flags: Wholes
    times_s: Floats
    power_w: Floats
    counter_j: Floats
    at_edges: Wholes
    again: Wholes


class OpenedPart:
    """What is in a part, checked and not yet made into readings."""

    def __init__(self, body: _Body) -> None:
        self._body = body
        self._codes = wholes(body.steps, body.count)
        if ((self._codes < 0) | (self._codes >= len(STEPS))).any():
            raise ValueError("it has an unknown step")
        self._is_edge = np.isin(self._codes, [STEPS.index(each) for each in EDGES])
        edges = int(self._is_edge.sum())
        self._at_s = floats(body.at_s, edges)
        if not np.isfinite(self._at_s).all():
            raise ValueError("it has an edge at no time")
        self._words, self._regimes = (_places(data, body) for data in (body.words, body.regimes))
        self._numbers = wholes(body.numbers, body.count)
        self._shown = {
            name: _shown(name, column, edges, empty=name in body.left_out)
            for name, column in body.series.items()
        }

    @property
    def from_s(self) -> float | None:
        """The earliest edge, s on the device's clock; ``None`` without any."""
        return float(self._at_s.min()) if len(self._at_s) else None

    @property
    def until_s(self) -> float | None:
        """The latest one."""
        return float(self._at_s.max()) if len(self._at_s) else None

    @property
    def counts(self) -> dict[str, int]:
        """How many readings each series has at all edges together; without what was left out."""
        return {
            name: int(shown.at_edges.sum())
            for name, shown in self._shown.items()
            if name not in self._body.left_out
        }

    def logged(self) -> LoggedPart:
        """All of it, as steps and readings."""
        body = self._body
        given: dict[Series, list[list[Reading]]] = {}
        follows: set[Series] = set()
        for name, shown in self._shown.items():
            given[name], repeats = _readings(shown)
            if repeats:
                follows.add(name)
        steps, place = [], 0
        for index, is_edge in enumerate(self._is_edge.tolist()):
            readings: dict[Series, list[Reading]] = {}
            at_s = math.nan
            if is_edge:
                readings = {name: found[place] for name, found in given.items()}
                at_s = float(self._at_s[place])
                place += 1
            steps.append(
                MarkedStep(
                    STEPS[self._codes[index]],
                    at_s,
                    body.texts[self._words[index]],
                    body.texts[self._regimes[index]],
                    int(self._numbers[index]),
                    readings,
                )
            )
        meters = {name: column.meter for name, column in body.series.items()}
        return LoggedPart(meters, steps, frozenset(follows), dict(body.left_out))


def opened(part: ReadingsPart) -> OpenedPart:
    """What is in a part, checked.

    Raises:
        ValueError: it is missing, damaged, or absurd; the words say what is wrong.
    """
    return OpenedPart(_body_of(part))


def reworded(part: ReadingsPart, change: Callable[[str], str]) -> ReadingsPart:
    """The same part with other texts: sources of meters, words and regimes of steps, and reasons.

    One that would be larger than a part can be is left without its readings, and says so.

    Raises:
        ValueError: as of :func:`opened`.
    """
    body = _body_of(part)
    replace = msgspec.structs.replace
    series = {
        name: replace(column, meter=replace(column.meter, source=change(column.meter.source)))
        for name, column in body.series.items()
    }
    changed = replace(
        body,
        texts=tuple(map(change, body.texts)),
        series=series,
        left_out={name: change(why) for name, why in body.left_out.items()},
    )
    if changed == body:
        return part
    data = squeezed(msgspec.msgpack.encode(changed))
    if len(data) > BYTES_MOST:
        return part.without(f"with other texts it takes {len(data)} B, more than {BYTES_MOST} B")
    return replace(part, body=data, digest=hashlib.sha256(data).hexdigest())


def _body_of(part: ReadingsPart) -> _Body:
    """A part without its outer packing, checked; raises ValueError as :func:`opened`."""
    if part.body is None:
        raise ValueError(part.missing or "it has no readings, and does not say why")
    if len(part.body) > BYTES_MOST:
        raise ValueError(f"it has {len(part.body)} B, the limit is {BYTES_MOST} B")
    if hashlib.sha256(part.body).hexdigest() != part.digest:
        raise ValueError("its checksum is another one")
    try:
        body = msgspec.msgpack.decode(loosened(part.body, _UNPACKED_MOST), type=_Body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"it is no part of a log: {error}") from error
    if body.version != _VERSION:
        raise ValueError(f"it is of version {body.version}, this release reads {_VERSION}")
    found = sum(column.count for column in body.series.values())
    if found != part.count:
        raise ValueError(f"it has {found} readings and is said to have {part.count}")
    if found > READINGS_MOST:
        raise ValueError(f"it has {found} readings, the limit is {READINGS_MOST}")
    for name, column in body.series.items():
        _check(name, column.meter)
    if "total" not in body.series or "total" in body.left_out:
        raise ValueError("it has no readings of the meter whose joules count")
    return body


def unpacked(part: ReadingsPart) -> LoggedPart:
    """What a part says.

    Raises:
        ValueError: as of :func:`opened`.
    """
    return opened(part).logged()


def _check(name: Series, meter: MeterDescription) -> None:
    """Refuse a meter that cannot be."""
    numbers = ("rate_hz", "resolution_w", "resolution_j", "noise_w", "relative_uncertainty")
    for field in numbers:
        value = getattr(meter, field)
        if value is not None and not 0.0 <= value <= _NUMBER_MOST:
            raise ValueError(f"the meter of series {name} has {field} = {value}")
    if len(meter.source) > TEXT_MOST:
        raise ValueError(f"the meter of series {name} has a name of {len(meter.source)} characters")


def _places(data: bytes, body: _Body) -> Wholes:
    places = wholes(data, body.count)
    if ((places < 0) | (places >= len(body.texts))).any():
        raise ValueError("a step has a text that is not there")
    return places


def _shown(name: Series, column: _Column, edges: int, *, empty: bool) -> _Shown:
    """The arrays of a series.

    Raises:
        ValueError: they do not fit together.
    """
    if empty and column.count:
        raise ValueError(f"series {name} is said to be left out and has {column.count} readings")
    flags = wholes(column.flags, column.count)
    if ((flags < 0) | (flags > _HAS_POWER + _HAS_COUNTER + _RESET)).any():
        raise ValueError("it has a reading of an unknown form")
    times_s = floats(column.times_s, column.count)
    if not np.isfinite(times_s).all():
        raise ValueError("it has a reading at no time")
    at_edges, again = wholes(column.at_edges, edges), wholes(column.again, edges)
    if (
        ((at_edges < 0) | (at_edges > column.count)).any()
        or ((again != 0) & (again != 1)).any()
        or (at_edges < again).any()
    ):
        raise ValueError("it has an edge that cannot be")
    begun = np.concatenate([[0], np.cumsum(at_edges)])[:-1] > 0  # what repeats stands once but here
    new = int(at_edges.sum()) - int((again * begun).sum())
    if new != column.count:
        more = "fewer" if new > column.count else "more"
        raise ValueError(f"it has {more} readings than its edges")
    return _Shown(
        flags,
        times_s,
        floats(column.power_w, int(((flags & _HAS_POWER) != 0).sum())),
        floats(column.counter_j, int(((flags & _HAS_COUNTER) != 0).sum())),
        at_edges,
        again,
    )


def _readings(shown: _Shown) -> tuple[list[list[Reading]], bool]:
    """The readings at each edge, and whether the first one is of the part before."""
    powers, counters = iter(shown.power_w.tolist()), iter(shown.counter_j.tolist())
    all_ = [
        Reading(
            time_s=at_s,
            power_w=next(powers) if flag & _HAS_POWER else None,
            counter_j=next(counters) if flag & _HAS_COUNTER else None,
            reset=bool(flag & _RESET),
        )
        for at_s, flag in zip(shown.times_s.tolist(), shown.flags.tolist(), strict=True)
    ]
    place, found, follows = 0, [], False
    for count, repeats in zip(shown.at_edges.tolist(), shown.again.tolist(), strict=True):
        if repeats and not place:
            follows = True
        elif repeats:
            place -= 1
        found.append(all_[place : place + count])
        place += count
    return found, follows
