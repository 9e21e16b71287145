"""The outer search's space: an unbounded coordinate for each time split, docs/model.md (19).

Where the length of the round is a variable it has a coordinate of its own, the last one.

* :class:`SplitSpace`  maps points to compute windows and lengths of the round, and back
* :class:`Objective`   the cost of points, for :func:`fimi.optim.cross_entropy.minimise`
* :func:`try_edges`    the last step of a search
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from fimi.energy.cost_model import Array
from fimi.optim.cross_entropy import SearchResult
from fimi.optim.feasibility import time_windows
from fimi.optim.inner import InnerSolver, SplitCosts

Z_EDGE = 12.0
"""A coordinate this far out is at the end of its window, to 6e-6 of its width."""
Z_REACH = 5.0
"""Largest distance of the centre of the search's Gaussians from 0."""
_BLOCK = 10_000
"""Candidates times devices that are evaluated at once: their arrays fit the processor's cache."""


class SplitSpace:
    """Compute windows as points of an unbounded space: a logit inside each device's range.

    t_cmp = low + (high − low) / (1 + e^(−z)), (19), with the ends that the length of the round
    allows; the round itself lies between the shortest that any plan can have and the longest. A
    device without work has no coordinate.
    """

    def __init__(self, inner: InnerSolver) -> None:
        problem = inner.problem
        self.inner = inner
        self._work = np.flatnonzero(inner.has_work)
        self._low_s, latest = time_windows(inner)
        self._sending_s = problem.t_max_s - latest
        self._longest_s = problem.round_max_s
        busy = problem.receive_s + self._low_s + inner.radio.full_power_s(problem.bandwidth_hz)
        self._shortest_s = min(float(busy.max()), self._longest_s)

    @property
    def dimension(self) -> int:
        """Number of coordinates."""
        return int(self._work.size) + int(self.inner.free_round)

    def decode(self, z: Array) -> tuple[Array, Array]:
        """(S, n) points to compute windows, s, (S, I), 0 without work, and rounds, s, (S,)."""
        round_s = np.full(len(z), self._longest_s)
        if self.inner.free_round:
            share = 1.0 / (1.0 + np.exp(-z[:, -1]))
            round_s = self._shortest_s + share * (self._longest_s - self._shortest_s)
        room = self._room(round_s)[:, self._work]
        share = 1.0 / (1.0 + np.exp(-z[:, : self._work.size]))
        window_s = np.zeros((len(z), self.inner.problem.size))
        window_s[:, self._work] = self._low_s[self._work] + share * room
        return window_s, round_s

    def point(self, window_s: Array, round_s: float) -> Array:
        """Compute windows, (I,), and a round to the (n,) point, at most 12 from the middle."""
        room = self._room(np.array([round_s]))[0][self._work]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (window_s - self._low_s)[self._work] / room
            if self.inner.free_round:
                whole = (round_s - self._shortest_s) / (self._longest_s - self._shortest_s)
                share = np.append(share, whole)
            z = np.log(share) - np.log1p(-share)
        return np.asarray(np.clip(np.nan_to_num(z, nan=0.0), -Z_EDGE, Z_EDGE))

    def _room(self, round_s: Array) -> Array:
        """Widths of the ranges of t_cmp, (S, I)."""
        return np.maximum(self.inner.windows_s(round_s) - self._sending_s - self._low_s, 0.0)


class Objective:
    """Energy and violation of points. The multipliers of one batch are the start of the next."""

    def __init__(self, space: SplitSpace) -> None:
        self._space = space
        self._starts: tuple[float, float] | None = None

    def __call__(self, z: Array) -> tuple[Array, Array]:
        """Energy (S,) and violation (S,) of points (S, n)."""
        rows = max(1, _BLOCK // max(1, z.shape[1]))
        found = [self._evaluate(block) for block in np.split(z, range(rows, len(z), rows))]
        energy_j = np.concatenate([part.energy_j for part in found])
        violation = np.concatenate([part.violation for part in found])
        good = violation == 0
        if good.any():
            log_lam = np.concatenate([part.compute.log_multiplier for part in found])
            log_mu = np.concatenate([part.upload.log_multiplier for part in found])
            self._starts = float(np.median(log_lam[good])), float(np.median(log_mu[good]))
        return energy_j, violation

    def _evaluate(self, z: Array) -> SplitCosts:
        starts = None
        if self._starts is not None:
            starts = np.full(len(z), self._starts[0]), np.full(len(z), self._starts[1])
        return self._space.inner.evaluate(*self._space.decode(z), starts=starts)


def try_edges(
    objective: Callable[[Array], tuple[Array, Array]], result: SearchResult
) -> SearchResult:
    """Move coordinates to the ends of their windows, one at a time, as long as it helps.

    The Gaussians come near an end but do not reach it. Where the optimum is at an end (a device at
    full speed on its least data), this is the last step.
    """
    best, value = result.best.copy(), result.value
    outer = np.flatnonzero(np.abs(best) > Z_REACH / 2.0)
    for _ in range(outer.size):
        moves = np.repeat(best[None], outer.size, axis=0)
        moves[np.arange(outer.size), outer] = np.copysign(Z_EDGE, best[outer])
        values, violations = objective(moves)
        values = np.where(violations == 0, values, np.inf)
        choice = int(np.argmin(values))
        if not values[choice] < value:
            break
        best, value = moves[choice], float(values[choice])
    return msgspec.structs.replace(result, best=best, value=value)
