"""Refresh period and smallest step of what a meter showed.

* :func:`refresh_s`     time between two new values
* :func:`smallest_step`  greatest common step of values
* :func:`news`          the values as they came, each once
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]

_FEWEST_CHANGES = 4
_ALL_NEW = 0.85
"""Share of looks that show another value than before, from which on each is taken for a new one."""
_CONSISTENT = 0.9
_JITTER = 0.03
_TRIAL = 0.01
"""Two trials of a period differ by less than this share of it."""
_MOST_TURNS = 10
_STEPS_MIN = 2
_REPEATS = 3
_PARTS_MAX = 5
_REGULAR = 0.95
_STEP_SLACK = 0.02


class News(NamedTuple):
    """New values, all of shape (n,).

    Attributes:
        times_s: when each was first seen, s.
        gaps_s: how long before that it may have come at most, s.
        values: the values.
    """

    times_s: _Array
    gaps_s: _Array
    values: _Array


def refresh_s(times_s: _Array, values: _Array) -> float | None:
    """Time between two new values, s; ``None`` if every look shows a new one, or none does.

    Changes of a value come a whole number of refreshes apart. A value may be the same as before, so
    that this number is not always 1. It is the longest time of which (nearly) all distances of
    changes are multiples, as far as looks can tell; where looks are hardly faster than the meter,
    the usual distance.

    Args:
        times_s: of the looks, s, shape (n,).
        values: what they showed, shape (n,).
    """
    changed = np.flatnonzero(np.diff(values)) + 1
    if len(changed) < _FEWEST_CHANGES or len(changed) > _ALL_NEW * (len(values) - 1):
        return None
    gaps = times_s[changed] - times_s[changed - 1]
    middles = times_s[changed] - gaps / 2.0
    apart_s = np.diff(middles)
    blur_s = (gaps[1:] + gaps[:-1]) / 2.0
    usual_gap_s = float(np.median(gaps))
    longest_s = 1.1 * float(np.quantile(apart_s, 0.5))
    best = float(np.median(apart_s))
    shortest_s = 3.0 * usual_gap_s
    if longest_s > shortest_s:
        trials = np.geomspace(shortest_s, longest_s, 400)[::-1]
        for trial in trials:
            turns = np.round(apart_s / trial)
            far = turns > _MOST_TURNS
            off_s = np.abs(apart_s - turns * trial)
            slack_s = trial * (_JITTER + _TRIAL * turns)
            fits = (off_s <= blur_s + slack_s) & (turns >= 1.0)
            if far.all():
                continue
            if float(fits[~far].mean()) >= _CONSISTENT:
                best = float(trial)
                break
    for most_turns in (3.0, 10.0, 30.0, 100.0, 300.0):
        best = _refined(best, middles, most_turns)
    return best


def _refined(refresh: float, middles: _Array, most_turns: float) -> float:
    """The period by least squares over changes that are up to so many refreshes apart."""
    squares = products = 0.0
    for apart in range(1, len(middles)):
        distances = middles[apart:] - middles[:-apart]
        turns = np.round(distances / refresh)
        near = (turns >= 1.0) & (turns <= most_turns)
        if not near.any():
            break
        squares += float(np.square(turns[near]).sum())
        products += float(turns[near] @ distances[near])
    return products / squares if squares else refresh


def news(times_s: _Array, values: _Array, refresh: float | None, *, repeats: bool = True) -> News:
    """The values as they came; one that is shown for longer than a refresh came again.

    A meter that refreshes regularly does so at times that all changes tell together, far better
    than looks tell one of them.

    Args:
        times_s: of the looks, s, shape (n,).
        values: what they showed, shape (n,).
        refresh: time between two new values, s; ``None`` if every look shows a new one.
        repeats: whether a new value may be the same as before; a counter's is not.
    """
    gaps = np.diff(times_s, prepend=times_s[0])
    if refresh is None:
        return News(times_s[1:], gaps[1:], values[1:])
    changed = np.flatnonzero(np.diff(values)) + 1
    regular = _grid(times_s[changed] - gaps[changed] / 2.0, gaps[changed], refresh)
    if regular is not None:
        first_s, every_s, slack_s = regular
        numbers = np.floor((times_s - slack_s - first_s) / every_s)
        chosen = np.flatnonzero(np.diff(numbers)) + 1
        made_s = first_s + numbers[chosen] * every_s
        return News(made_s + slack_s, np.full(len(chosen), 2.0 * slack_s), values[chosen])
    kept, due_s = [], np.inf
    known = gaps.copy()
    for place in range(1, len(values)):
        if values[place] != values[place - 1]:
            kept.append(place)
            due_s = times_s[place] - gaps[place] / 2.0 + refresh
        elif repeats and times_s[place] >= due_s + gaps[place] / 2.0:
            # It came without changing, about when it was due, by up to a gap to either side.
            kept.append(place)
            known[place] = 2.0 * gaps[place]
            due_s += refresh
    chosen = np.array(kept, int)
    return News(times_s[chosen], known[chosen], values[chosen])


def _grid(middles: _Array, gaps: _Array, refresh: float) -> tuple[float, float, float] | None:
    """First refresh, period and two deviations of these, s; ``None`` if it is not regular."""
    if float(np.median(gaps)) > refresh / 3.0:
        return None
    numbers = np.round((middles - middles[0]) / refresh)
    every_s, first_s = np.polyfit(numbers, middles, 1)
    off_s = np.abs(middles - first_s - every_s * numbers)
    if float(np.mean(off_s <= 0.55 * gaps + 0.01 * refresh)) < _REGULAR:
        return None
    return float(first_s), float(every_s), 2.0 * float(np.median(gaps)) / math.sqrt(3 * len(gaps))


def smallest_step(values: _Array) -> float | None:
    """Greatest common step of values, in their unit; ``None`` if they have none."""
    different = np.unique(values)
    steps = np.diff(different)
    scale = float(np.abs(different).max(initial=0.0))
    steps = steps[steps > 1e-9 * scale]
    if len(steps) < _STEPS_MIN or len(values) < _REPEATS * len(different):
        return None
    least = float(steps.min())
    for part in range(1, _PARTS_MAX + 1):
        step = least / part
        turns = np.round(steps / step)
        # Noise has steps of all sizes, which are no multiples of the least.
        if np.all(np.abs(steps - turns * step) <= _STEP_SLACK * step + 1e-9 * scale):
            return float(steps.sum() / turns.sum())
    return None
