"""Reads parts of what a ledger was told, whoever has sent them.

* :func:`opened`     what is in a part, checked, as arrays: cheap, whatever was sent
* :func:`unpacked`   the same as steps and readings, for :mod:`fimi.energy.replay`
* :func:`reworded`   a part with other texts

A part may come from anybody. All that it says of sizes is compared with the limits before anything
of that size is made; no reading is made before all of them are checked.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from fimi.energy.ledger_packing import (
    HAS_COUNTER,
    HAS_POWER,
    RESET,
    VERSION,
    PackedBody,
    PackedColumn,
)
from fimi.energy.ledger_parts import (
    BYTES_MOST,
    EDGES,
    READINGS_MOST,
    STEPS,
    TEXT_MOST,
    LoggedPart,
    MarkedStep,
    ReadingsPart,
    Series,
)
from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.reading_arrays import Floats, Wholes, floats, loosened, squeezed, wholes

_UNPACKED_MOST = 16 << 20
_NUMBER_MOST = 1e12


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

    def __init__(self, body: PackedBody) -> None:
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


def _body_of(part: ReadingsPart) -> PackedBody:
    """A part without its outer packing, checked; raises ValueError as :func:`opened`."""
    if part.body is None:
        raise ValueError(part.missing or "it has no readings, and does not say why")
    if len(part.body) > BYTES_MOST:
        raise ValueError(f"it has {len(part.body)} B, the limit is {BYTES_MOST} B")
    if hashlib.sha256(part.body).hexdigest() != part.digest:
        raise ValueError("its checksum is another one")
    try:
        body = msgspec.msgpack.decode(loosened(part.body, _UNPACKED_MOST), type=PackedBody)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"it is no part of a log: {error}") from error
    if body.version != VERSION:
        raise ValueError(f"it is of version {body.version}, this release reads {VERSION}")
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


def _places(data: bytes, body: PackedBody) -> Wholes:
    places = wholes(data, body.count)
    if ((places < 0) | (places >= len(body.texts))).any():
        raise ValueError("a step has a text that is not there")
    return places


def _shown(name: Series, column: PackedColumn, edges: int, *, empty: bool) -> _Shown:
    """The arrays of a series.

    Raises:
        ValueError: they do not fit together.
    """
    if empty and column.count:
        raise ValueError(f"series {name} is said to be left out and has {column.count} readings")
    flags = wholes(column.flags, column.count)
    if ((flags < 0) | (flags > HAS_POWER + HAS_COUNTER + RESET)).any():
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
        floats(column.power_w, int(((flags & HAS_POWER) != 0).sum())),
        floats(column.counter_j, int(((flags & HAS_COUNTER) != 0).sum())),
        at_edges,
        again,
    )


def _readings(shown: _Shown) -> tuple[list[list[Reading]], bool]:
    """The readings at each edge, and whether the first one is of the part before."""
    powers, counters = iter(shown.power_w.tolist()), iter(shown.counter_j.tolist())
    all_ = [
        Reading(
            time_s=at_s,
            power_w=next(powers) if flag & HAS_POWER else None,
            counter_j=next(counters) if flag & HAS_COUNTER else None,
            reset=bool(flag & RESET),
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
