"""The prices that couple the devices, and a first guess of them; docs/model.md (27).

* :class:`Prices`  λ of the error, μ of the band, and the length R of the round
* :func:`guess`    prices of a plan that is easily found
* :func:`error_binds`  whether the error has a price at all
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from fimi.optim.feasibility import require_feasible
from fimi.optim.inner import InnerSolver
from fimi.optim.roots import LOG_LIMIT

NO_BAND = -LOG_LIMIT + 20.0
"""A price of the band whose logarithm is below this is none: there is more band than is used."""
_CLOSE = 1e-10
_GUESS_ROWS, _GUESS_CELLS = 72, 60_000


class Prices(Struct, frozen=True):
    """What couples the devices.

    Attributes:
        log_lam: log λ; −inf for none.
        log_mu: log μ; −inf for none.
        round_s: R.
    """

    log_lam: float
    log_mu: float
    round_s: float

    @classmethod
    def of(cls, lam: float, mu: float, round_s: float) -> Prices:
        """From λ and μ themselves; 0 for none."""
        log_lam, log_mu = (math.log(p) if p > 0 else -math.inf for p in (lam, mu))
        return cls(log_lam, log_mu, round_s)


def guess(inner: InnerSolver) -> Prices:
    """Prices of the best of some even time splits and lengths of the round, or of the leanest."""
    problem = inner.problem
    rows = int(np.clip(_GUESS_CELLS // problem.size, 6, _GUESS_ROWS))
    longest = problem.round_max_s
    upload_s = inner.radio.full_power_s(problem.bandwidth_hz)
    rounds = np.array([longest])
    if inner.free_round:
        shortest = float((problem.receive_s + inner.earliest_s + upload_s).max())
        rounds = np.geomspace(min(1.02 * shortest, longest), longest, max(rows // 6, 3))
    shares = np.linspace(0.1, 0.95, max(rows // len(rounds), 2))
    round_s = np.repeat(rounds, len(shares))
    room_s = np.maximum(inner.windows_s(round_s) - upload_s - inner.earliest_s, 0.0)
    window_s = inner.earliest_s + np.tile(shares, len(rounds))[:, None] * room_s
    found = inner.evaluate(np.maximum(window_s, 1e-300), round_s)
    best = int(np.lexsort((found.energy_j, found.violation))[0])
    if found.violation[best] > 0:  # its prices would mean nothing
        lean = require_feasible(inner)
        round_s = np.array([longest])
        found, best = inner.evaluate(np.maximum(lean.window_s, 1e-300)[None], round_s), 0
    lam = float(found.compute.log_multiplier[best])
    mu = float(found.upload.log_multiplier[best])
    return Prices(
        lam if math.isfinite(lam) else 0.0,
        min(mu, LOG_LIMIT / 2.0) if math.isfinite(mu) else -30.0,
        float(round_s[best]),
    )


def error_binds(inner: InnerSolver) -> bool:
    """Whether the least data of the devices do not meet the error, so that more have a price."""
    if not inner.bound_by_error:
        return False
    with np.errstate(divide="ignore"):
        error = inner.error_above_floor(np.log(inner.samples_min))
        return float(np.log(error / inner.problem.error_budget)) > _CLOSE
