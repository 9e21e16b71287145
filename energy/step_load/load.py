"""All cores busy and at rest by turns, at times that are known.

* :func:`pattern`    how long each turn takes, pseudo-random
* :func:`run_load`   carries it out in child processes and says when power really changed
* :class:`Edges`     when it did

Turns are of random lengths, so that a delay of one turn is not taken for a delay of another. When a
process starts and how long that takes enters no edge: every process is told all times before the
first, and says afterwards when it began and ended.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from fimi import children
from fimi.children import Child
from fimi.energy.clock import Clock
from fimi.energy.meters.response import MeterResponse
from fimi.errors import SurroundingsError

SHORTEST_S = 0.4
"""Shortest turn of the load, s."""
_SETTLINGS = 1.2
START_S = 2.0
"""Time that the processes of a load have for their start, s."""
_START_EACH_S = 0.15
_APART_S = 0.02
_OTHERS_MAX = 0.15
_LOOK_AGAIN_S = 0.2


class StepLoadError(SurroundingsError):
    """A step load taught nothing; the message says why, and what to do."""

    code = "M004"


class Edges(Struct, frozen=True, kw_only=True):
    """When a load was on, by the clock of the meter's readings.

    Attributes:
        begins_s: when each stretch of work began, s, in order.
        ends_s: when it ended, s.
        from_s: when the readings begin, s; nothing works until the first beginning.
        until_s: when they end, s.
    """

    begins_s: tuple[float, ...]
    ends_s: tuple[float, ...]
    from_s: float
    until_s: float

    def on_s(self, at_s: ArrayLike) -> NDArray[np.float64]:
        """How long it was on until these times, s, of the same shape."""
        knots = np.array([t for pair in self._pairs for t in pair])
        worked = np.cumsum([0.0, *(e - b for b, e in self._pairs)])
        values = np.array([each for pair in pairwise(worked) for each in pair])
        return np.asarray(np.interp(np.asarray(at_s, float), knots, values))

    def is_on(self, at_s: ArrayLike) -> NDArray[np.float64]:
        """1 where it was on at these times, else 0, of the same shape."""
        knots = [t for pair in self._pairs for t in pair]
        return np.asarray(np.searchsorted(knots, at_s, side="right") % 2, float)

    @property
    def _pairs(self) -> list[tuple[float, float]]:
        return list(zip(self.begins_s, self.ends_s, strict=True))

    @property
    def stretches(self) -> tuple[tuple[float, float, bool], ...]:
        """Begin and end of every turn, s, and whether it was on."""
        times = [self.from_s, *(t for pair in self._pairs for t in pair), self.until_s]
        turns = enumerate(pairwise(times))
        return tuple((begin, end, bool(place % 2)) for place, (begin, end) in turns)


def turn_s(responses: Sequence[MeterResponse]) -> float:
    """How long the shortest turn must be for meters with these responses, s."""
    return max([SHORTEST_S, *(_SETTLINGS * (r.settling_s + r.delay_sd_s) for r in responses)])


def pattern(shortest_s: float, works: int, seed: int = 0) -> tuple[tuple[float, float], ...]:
    """Pairs of how long to rest and then to work, s, each from 1 to 3 times ``shortest_s``."""
    draws = np.random.default_rng(seed).uniform(1.0, 3.0, (works, 2)) * shortest_s
    return tuple((float(rest), float(work)) for rest, work in draws)


def run_load(
    turns: Sequence[tuple[float, float]],
    clock: Clock,
    *,
    settle_s: float,
    cores: int | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    progress: Callable[[float], None] = lambda left_s: None,
) -> Edges:
    """Work and rest by turns with all cores, and wait until a meter has shown the end of it.

    Args:
        turns: how long to rest and then to work, s.
        clock: of the meters' readings; the edges are of it.
        settle_s: how long to rest at the end, s.
        cores: how many are to work; all that this process may use if left out.
        cancelled: called a few times a second; the load ends when it returns true.
        progress: called as often, with the time that is left, s.

    Raises:
        StepLoadError: the processes did not keep to the times, other programs disturbed them, or it
            was cancelled.
    """
    cores = cores or _cores()
    # The clock of the readings may have another zero than that of the processes.
    ahead_s = clock.now_s() - time.monotonic()
    from_s = time.monotonic()
    at_s = from_s + START_S + _START_EACH_S * cores
    planned = []
    for rest_s, work_s in turns:
        planned.append((at_s + rest_s, at_s + rest_s + work_s))
        at_s += rest_s + work_s
    until_s = at_s + settle_s
    orders = msgspec.json.encode(planned)
    before = _busy_s()
    with tempfile.TemporaryDirectory(prefix="fimi-load-") as name:
        logs = [Path(name) / f"{number}" for number in range(cores)]
        workers: list[Child] = []
        try:
            for log in logs:
                workers.append(children.start("fimi.energy.step_load.busy", orders, log=log))
            while (left_s := until_s - time.monotonic()) > 0.0:
                if cancelled():
                    raise StepLoadError("the step load was stopped before its end")
                progress(left_s)
                time.sleep(min(left_s, _LOOK_AGAIN_S))
            after = _busy_s()
        finally:
            children.end(workers, 1.0)
        told = [_told(log) for log in logs]
    _judge_others(before, after, told, cores, until_s - from_s)
    begins, ends = [], []
    for place, (begin_s, end_s) in enumerate(planned):
        really = [pairs[place] for pairs, _ in told]
        kept = [pair for pair in really if pair is not None]
        spread_s = max(
            (max(abs(b - begin_s), abs(e - end_s)) for b, e in kept), default=float("inf")
        )
        if len(kept) < cores or spread_s > max(_APART_S, 0.01 * (end_s - begin_s)):
            raise StepLoadError(
                f"the processes of the step load did not keep to its times ({len(kept)} of {cores} "
                f"worked in turn {place + 1}"
                + (f", off by {1e3 * spread_s:.0f} ms" if kept else "")
                + "): the machine is too busy with other programs. Stop them and try again"
            )
        begins.append(float(np.mean([b for b, _ in kept])) + ahead_s)
        ends.append(float(np.mean([e for _, e in kept])) + ahead_s)
    return Edges(
        begins_s=tuple(begins),
        ends_s=tuple(ends),
        from_s=from_s + ahead_s,
        until_s=until_s + ahead_s,
    )


class _Told(Struct):
    busy: list[tuple[float, float] | None]
    cpu_s: float


def _told(log: Path) -> tuple[list[tuple[float, float] | None], float]:
    text = log.read_text(errors="replace")
    lines = text.strip().splitlines()
    try:
        told = msgspec.json.decode(lines[-1] if lines else "", type=_Told)
    except msgspec.DecodeError:
        raise StepLoadError(
            "a process of the step load ended early"
            + (f": {lines[-1][:300]}" if lines else " and said nothing")
        ) from None
    return told.busy, told.cpu_s


def _judge_others(
    before_s: float | None,
    after_s: float | None,
    told: Sequence[tuple[object, float]],
    cores: int,
    duration_s: float,
) -> None:
    """Refuse a load beside which other programs worked."""
    if before_s is None or after_s is None:
        return
    others_s = after_s - before_s - sum(cpu_s for _, cpu_s in told)
    share = others_s / (cores * duration_s)
    if share > _OTHERS_MAX:
        raise StepLoadError(
            f"other programs disturb: they took {share:.0%} of the processor during the step load, "
            "and what they draw cannot be told from the load. Stop them and try again"
        )


def _busy_s() -> float | None:
    """CPU time that all programs have taken, s; ``None`` if unknown."""
    try:
        line = Path("/proc/stat").read_text().splitlines()[0].split()
        ticks = [int(word) for word in line[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    if line[0] != "cpu" or len(ticks) < 8 or not hasattr(os, "sysconf"):
        return None
    idle, waiting, stolen = ticks[3], ticks[4], ticks[7]
    return (sum(ticks) - idle - waiting - stolen) / float(os.sysconf("SC_CLK_TCK"))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
