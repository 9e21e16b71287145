"""How the mean local error falls over the rounds of a run; docs/model.md (48).

Δ(D) of the learning curve is where local training ends up with D samples. In a run, devices start
each round from the global model of the round before, which only guesses at first. So Δ of a round
begins near guessing and falls towards Δ(D), with the factor e^(−1/τ) a round by which the error of
the global model falls, τ = r e^(cΔ) of (34):

    Δ_t = Δ_∞ + A e^(−(t − 1)/τ)

* :class:`Progress`   the law
* :func:`foresee`     the law after some rounds were measured, from what was expected before
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from scipy.optimize import least_squares

from fimi.energy.cost_model import Array

_FORGET = 0.7
"""Weight of a round over that of the next one: the law is to hold from here on."""
_RELATIVE_SD, _ABSOLUTE_SD = 0.12, 0.01
"""Standard deviation of a round's mean error: a share of it, and what few images leave open."""
_FLOOR_SD, _START_SD, _ROUNDS_SD = 0.7, 0.7, 0.5
"""Standard deviation of the logarithm of each parameter before anything is measured."""


class Progress(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """(48) Δ_t = Δ_∞ + A e^(−(t − 1)/τ) of round t, from 1; at most 1.

    Attributes:
        floor: Δ_∞, to which the error falls.
        start: A, what guessing adds to it.
        rounds: τ, rounds in which the excess falls by a factor e.
        floor_sd: standard deviation of ln Δ_∞.
    """

    floor: float
    start: float
    rounds: float
    floor_sd: float = _FLOOR_SD

    def error(self, number: int) -> float:
        """Δ_t of a round."""
        return min(1.0, self.floor + self.start * math.exp(-(number - 1) / self.rounds))


def foresee(before: Progress, numbers: Sequence[int], errors: Sequence[float]) -> Progress:
    """The law after some rounds: the most probable one, with older rounds counting less.

    Args:
        before: what was expected before the first round.
        numbers: of measured rounds, from 1.
        errors: their mean local errors, 0 to 1.
    """
    if not errors:
        return before
    t, measured = np.asarray(numbers, float), np.asarray(errors, float)
    expected = np.log([max(before.floor, 1e-4), before.start, before.rounds])
    spread = np.array([before.floor_sd, _START_SD, _ROUNDS_SD])
    deviation = np.hypot(_RELATIVE_SD * measured, _ABSOLUTE_SD)
    weight = _FORGET ** ((t.max() - t) / 2.0) / deviation

    def off(logs: Array) -> Array:
        floor, start, rounds = np.exp(logs)
        seen = (floor + start * np.exp(-(t - 1.0) / rounds) - measured) * weight
        robust = np.sign(seen) * np.sqrt(2.0 * (np.sqrt(1.0 + seen**2) - 1.0))  # soft L1
        return np.concatenate([robust, (logs - expected) / spread])

    found = least_squares(off, expected, bounds=(expected - 6.0, expected + 6.0))
    floor, start, rounds = np.exp(found.x)
    covariance = np.linalg.inv(found.jac.T @ found.jac)
    return Progress(
        floor=float(floor),
        start=float(start),
        rounds=float(rounds),
        floor_sd=float(math.sqrt(covariance[0, 0])),
    )
