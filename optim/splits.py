"""The outer search's space: one unbounded coordinate per time split, docs/model.md (19).

* :class:`SplitSpace`  maps points to time splits and back
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
from fimi.optim.inner import InnerSolver

Z_EDGE = 12.0
"""A coordinate this far out is at the end of its window, to 6e-6 of its width."""
Z_REACH = 5.0
"""Largest distance of the centre of the search's Gaussians from 0."""
_BLOCK = 10_000
"""Candidates times devices that are evaluated at once: their arrays fit the processor's cache."""


class SplitSpace:
    """Time splits as points of an unbounded space: a logit inside each device's time window.

    τ = low + (high − low) / (1 + e^(−z)), (19). Devices without work have no coordinate.
    """

    def __init__(self, inner: InnerSolver) -> None:
        earliest, latest = time_windows(inner)
        total_s = inner.problem.t_max_s
        self.inner = inner
        self._work = np.flatnonzero(inner.has_work)
        self._low = (earliest / total_s)[self._work]
        self._width = np.maximum((latest / total_s)[self._work] - self._low, 0.0)

    @property
    def dimension(self) -> int:
        """Number of splits to choose."""
        return int(self._work.size)

    def tau(self, z: Array) -> Array:
        """(S, n) points to (S, I) time splits; 0 for devices without work."""
        return self.whole(self._low + self._width / (1.0 + np.exp(-z)))

    def whole(self, tau: Array) -> Array:
        """(S, n) time splits of the devices with work to those of all devices, (S, I)."""
        full = np.zeros((len(tau), self.inner.problem.size))
        full[:, self._work] = tau
        return full

    def point(self, tau: Array) -> Array:
        """(I,) time splits to the (n,) point, at most 12 from the middle."""
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (tau[self._work] - self._low) / self._width
            z = np.log(share) - np.log1p(-share)
        return np.asarray(np.clip(np.nan_to_num(z, nan=0.0), -Z_EDGE, Z_EDGE))


class Objective:
    """Energy and violation of points. The multipliers of one batch are the start of the next."""

    def __init__(self, space: SplitSpace) -> None:
        self._space = space
        self._starts: tuple[float, float] | None = None

    def __call__(self, z: Array) -> tuple[Array, Array]:
        """Energy (S,) and violation (S,) of points (S, n)."""
        rows = max(1, _BLOCK // max(1, z.shape[1]))
        starts = self._starts
        found = []
        for block in np.split(z, range(rows, len(z), rows)):
            guesses = [np.full(len(block), start) for start in starts or ()]
            found.append(
                self._space.inner.evaluate(
                    self._space.tau(block), starts=(guesses[0], guesses[1]) if guesses else None
                )
            )
        energy_j = np.concatenate([part.energy_j for part in found])
        violation = np.concatenate([part.violation for part in found])
        good = violation == 0
        if good.any():
            log_lam = np.concatenate([part.compute.log_multiplier for part in found])
            log_mu = np.concatenate([part.upload.log_multiplier for part in found])
            self._starts = float(np.median(log_lam[good])), float(np.median(log_mu[good]))
        return energy_j, violation


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
