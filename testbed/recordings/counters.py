"""A counter in a table that falls: it was reset, dropped out, or ran ahead in one row.

* :func:`continued`  its rows as if it had not been reset, without those where it dropped out

A counter that was reset goes on from there. One that dropped out comes back to where it would be
anyway, and has not counted while it was down. Its own other steps say how fast it may rise.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from fimi.energy.timestamps import Stamp
from fimi.testbed.recordings.recording import RecordingDraft, RecordingError

_RESETS = 0.05
"""A column that falls in a larger share of rows is no counter."""
_ODD = 2.0
"""A step beside a fall is odd if its power is so many times the largest of all other steps."""
_BEGINS = 10.0
"""Zeros before a step of so many times this power are of a counter that did not count yet."""


def continued(
    path: str, draft: RecordingDraft, name: str, rows: Sequence[tuple[int, Stamp, float]]
) -> list[tuple[int, Stamp, float]]:
    """The rows of a counter as if it had not been reset; rows where it dropped out are left out.

    Raises:
        RecordingError: it falls too often to be a counter.
    """
    values = [value for _, _, value in rows]
    falls = [at for at in range(1, len(rows)) if values[at] < values[at - 1]]
    if len(falls) > max(2.0, _RESETS * len(rows)):
        raise RecordingError(
            f"{path}: column {name!r} falls in {len(falls)} of {len(rows)} rows, so that it is no "
            "counter. If it is the energy of each row, add it up first, or name a column of power "
            "with --column"
        )
    power = _Powers(rows)
    rises = _next_rises(values)
    begin = rises[0] if values[0] == 0.0 else 0
    doubtful = {begin, *(at - 1 for at in falls), *(rises[at] for at in falls)}
    most = max((power(at - 1, at) for at in range(1, len(rows)) if at not in doubtful), default=0.0)
    kept: list[int] = []
    back = 0
    for place, (line, _, value) in enumerate(rows):
        if kept and value < values[kept[-1]] and place >= back:
            if _drops_out(values, power, kept[-1], place, rises[place], _ODD * most):
                back = rises[place]
            elif len(kept) > 1 and values[kept[-2]] <= value and (
                power(kept[-2], place) <= _ODD * most < power(kept[-2], kept[-1])
            ):  # fmt: skip
                odd = kept.pop()
                draft.leave_out(rows[odd][0], f"the counter runs ahead, to {values[odd]:g}")
        if place < back:  # it is down
            draft.leave_out(line, f"the counter runs back, from {values[kept[-1]]:g} to {value:g}")
        else:
            kept.append(place)
    # Rows that are kept have no steps of drop-outs; those after a reset are work.
    steps = [power(a, b) for a, b in itertools.pairwise(kept) if b != begin]
    if begin in kept[1:] and power(begin - 1, begin) > _BEGINS * max(steps, default=0.0) > 0.0:
        draft.notes.append(f"the counter begins in line {rows[begin][0]}, after zeros")
    else:
        begin = 0
    return _added_up(draft, [rows[place] for place in kept], rows[begin][0] if begin else None)


def _added_up(
    draft: RecordingDraft, rows: Sequence[tuple[int, Stamp, float]], begin: int | None
) -> list[tuple[int, Stamp, float]]:
    """A counter that goes on where it fell, and where it begins in line ``begin``."""
    resets: list[int] = []
    added: list[tuple[int, Stamp, float]] = []
    last, before = rows[0][2], 0.0  # the counter, and the sum of what its breaks took from it
    for line, stamp, value in rows:
        if value < last:
            resets.append(line)
        if value < last or line == begin:
            draft.breaks.append(line)
            before += last - value
        last = value
        added.append((line, stamp, value + before))
    if resets:
        draft.notes.append(
            f"the counter was reset {len(resets)} times (line "
            f"{', '.join(map(str, resets[:5]))}); it goes on from there"
        )
    return added


class _Powers:
    """The power between two rows of a counter, in its unit a second.

    It is that of the stamps' step and of the mean gap at least: of rows closer than these nobody
    knows how close they are.
    """

    def __init__(self, rows: Sequence[tuple[int, Stamp, float]]) -> None:
        self._rows = rows
        mean_s = (rows[-1][1].unix_s - rows[0][1].unix_s) / max(1, len(rows) - 1)
        self._least_s = max(mean_s, max(stamp.step_s for _, stamp, _ in rows)) or 1.0

    def __call__(self, a: int, b: int) -> float:
        (_, since, low), (_, till, high) = self._rows[a], self._rows[b]
        return (high - low) / max(till.unix_s - since.unix_s, self._least_s)


def _next_rises(values: Sequence[float]) -> list[int]:
    """For each row the next that is above the one before it; 0 if there is none."""
    found = [0] * len(values)
    for at in range(len(values) - 2, -1, -1):
        found[at] = at + 1 if values[at + 1] > values[at] else found[at + 1]
    return found


def _drops_out(
    values: Sequence[float], power: _Powers, last: int, low: int, back: int, most: float
) -> bool:
    """Whether a counter that fell drops out until ``back``: it does not count while it is down.

    Its power since the ``last`` row is at most ``most`` then, if that is known. One low row may
    also be that of a reset, so the power from there must be more.
    """
    if not back or values[back] < values[last] or 0.0 < most < power(last, back):
        return False
    return back - low > 1 or power(low, back) > most
