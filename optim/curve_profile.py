"""The squares of a power law about measured errors, exponent by exponent; docs/model.md (33).

For a given exponent β the law is linear in α and δ0, so that its best values, and how far they may
go before the squares exceed a limit, are known in closed form. What is left is a function of β.

* :class:`CurveProfile`  the best law for given variances, and the region around it
* :func:`variance_of`    how the variance of an error goes with the error, estimated
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fimi.energy.cost_model import Array

BETA_LOW, BETA_HIGH = 0.02, 5.0
_LOG_BETAS = np.linspace(math.log(BETA_LOW), math.log(BETA_HIGH), 241)
_SHARES = (0.0, 0.3, 0.6, 0.8, 0.9, 0.96, 1.0)
"""Shares of the mean variance that may be in proportion to the square of the error."""
_ALPHA_MIN = 1e-12
_ROUNDS = 3
"""Fits until the variances, which depend on the fitted errors, have settled."""
_POINTS = 161
"""Exponents at which the region of an interval is looked at."""

Span = tuple[float, float]


class Region(NamedTuple):
    """From where to where each parameter goes among the laws whose squares are below a limit."""

    alpha: Span
    beta: Span
    delta0: Span


class Variances(NamedTuple):
    """Variances of the errors, (n,), the part of the test images in them, and the law."""

    profile: CurveProfile
    variance: Array
    of_images: Array


class _Lines(NamedTuple):
    """Best lines errors = slope · shape + level, one per exponent; every entry (G,).

    ``variance`` is the slope's, ``level_variance`` the level's, and ``tilt`` by how much the level
    falls for a unit of slope, where all else is free.
    """

    squares: Array
    slope: Array
    level: Array
    variance: Array
    level_variance: Array
    tilt: Array


class CurveProfile:
    """Weighted least squares of α D^(−β) + δ0, with α > 0, δ0 ≥ 0 and β from 0.02 to 5.

    Attributes:
        alpha: α of the best law.
        beta: its β.
        delta0: its δ0.
        squares: its squares, each divided by its variance.
        likelihood: restricted log-likelihood of the variances, whatever their common factor.

    Args:
        amounts: D, (n,).
        errors: measured errors, (n,).
        variance: of each error, (n,).
        exact: whether to look for the best β between the points of a grid, 2 % apart.
    """

    def __init__(
        self, amounts: Array, errors: Array, variance: Array, *, exact: bool = True
    ) -> None:
        self._errors, self._variance = errors, variance
        logs = np.log(amounts)
        self._middle = float(logs.mean())
        self._logs = logs - self._middle
        grid = self._best(_LOG_BETAS).squares
        place = int(grid.argmin())
        self._log_beta = float(_LOG_BETAS[place])
        if exact:
            self._log_beta = self._between(place, float(grid[place]))
        best = self._best(np.array([self._log_beta]))
        self._slope = float(best.slope[0])
        self.beta = math.exp(self._log_beta)
        self.alpha = self._slope * math.exp(self._middle * self.beta)
        self.delta0 = float(best.level[0])
        self.squares = float(best.squares[0])
        self.likelihood = self._likelihood()

    @property
    def fitted(self) -> Array:
        """Errors by the best law, (n,)."""
        return np.asarray(self._slope * np.exp(-self.beta * self._logs) + self.delta0)

    def _likelihood(self) -> float:
        shape = np.exp(-self.beta * self._logs)
        jacobian = np.stack([shape, self._slope * shape * self._logs, np.ones_like(shape)], axis=1)
        with np.errstate(divide="ignore"):
            _, information = np.linalg.slogdet(jacobian.T @ (jacobian / self._variance[:, None]))
        information = max(float(information), -1e3)
        freedom = self._errors.size - 3
        squares = freedom * math.log(max(self.squares, 1e-300))
        return -0.5 * float(squares + np.log(self._variance).sum() + information)

    def region(self, excess: float) -> Region:
        """The laws whose squares exceed the least ones by at most ``excess``."""
        limit = self.squares + excess
        low, high = self._end(limit, -1), self._end(limit, 1)
        log_betas = np.union1d(np.linspace(low, high, _POINTS), [self._log_beta])
        free, edge = self._lines(log_betas), self._lines_through_zero(log_betas)
        scale = np.exp(self._middle * np.exp(log_betas))
        slopes, levels = [free.slope[:0]], [free.slope[:0]]
        for lines in (free, edge):
            inside = lines.squares <= limit
            room = np.sqrt(np.maximum(limit - lines.squares, 0.0))
            for sign in (-1.0, 1.0):
                step = sign * room * np.sqrt(lines.variance)
                # Where the slope's extreme needs δ0 < 0, the lines through zero have it.
                reached = inside & (lines.level - step * lines.tilt >= 0.0)
                slopes.append(((lines.slope + step) * scale)[reached])
                level = lines.level + sign * room * np.sqrt(lines.level_variance)
                levels.append(np.maximum(level[inside], 0.0))
        alphas, delta0s = np.concatenate(slopes), np.concatenate(levels)
        return Region(
            alpha=(
                max(min(float(alphas.min(initial=math.inf)), self.alpha), 0.0),
                max(float(alphas.max(initial=0.0)), self.alpha),
            ),
            beta=(min(math.exp(low), self.beta), max(math.exp(high), self.beta)),
            delta0=(
                min(float(delta0s.min(initial=math.inf)), self.delta0),
                max(float(delta0s.max(initial=0.0)), self.delta0),
            ),
        )

    def _between(self, place: int, squares: float) -> float:
        """The best log β around one of the grid that has these squares."""
        from scipy.optimize import minimize_scalar

        ends = _LOG_BETAS[max(place - 1, 0)], _LOG_BETAS[min(place + 1, _LOG_BETAS.size - 1)]
        found = minimize_scalar(
            self._squares, bounds=ends, method="bounded", options={"xatol": 1e-10}
        )
        return float(found.x) if float(found.fun) < squares else float(_LOG_BETAS[place])

    def _end(self, limit: float, sign: int) -> float:
        """The largest log β on one side within a limit of the squares."""
        from scipy.optimize import brentq

        side = _LOG_BETAS[(_LOG_BETAS - self._log_beta) * sign > 0.0][::sign]
        if not side.size:
            return self._log_beta
        within = np.flatnonzero(self._best(side).squares <= limit)
        beyond = int(within[-1]) + 1 if within.size else 0
        if beyond == side.size:
            return float(side[-1])
        inner = float(side[beyond - 1]) if within.size else self._log_beta
        outer = float(side[beyond])
        if self._squares(inner) - limit >= 0.0:
            return inner
        return float(brentq(lambda b: self._squares(b) - limit, inner, outer, xtol=1e-10))

    def _squares(self, log_beta: float) -> float:
        return float(self._best(np.array([log_beta])).squares[0])

    def _best(self, log_betas: Array) -> _Lines:
        """The best lines within α > 0 and δ0 ≥ 0."""
        free, edge = self._lines(log_betas), self._lines_through_zero(log_betas)
        best = _Lines(*(np.where(free.level < 0.0, b, a) for a, b in zip(free, edge, strict=True)))
        falls = best.slope > 0.0
        if falls.all():
            return best
        weights = 1.0 / self._variance
        mean = float((weights * self._errors).sum() / weights.sum())
        flat = float((weights * (self._errors - mean) ** 2).sum())
        return best._replace(
            squares=np.where(falls, best.squares, flat),
            slope=np.where(falls, best.slope, _ALPHA_MIN),
            level=np.where(falls, best.level, mean),
        )

    def _lines(self, log_betas: Array) -> _Lines:
        weights = 1.0 / self._variance
        total = weights.sum()
        shape = np.exp(-np.exp(log_betas)[:, None] * self._logs)
        centre = (shape * weights).sum(axis=1) / total
        mean = float((weights * self._errors).sum() / total)
        apart = shape - centre[:, None]
        size = np.maximum((weights * apart**2).sum(axis=1), 1e-300)
        slope = (weights * apart * (self._errors - mean)).sum(axis=1) / size
        residuals = self._errors - mean - slope[:, None] * apart
        return _Lines(
            squares=(weights * residuals**2).sum(axis=1),
            slope=slope,
            level=mean - slope * centre,
            variance=1.0 / size,
            level_variance=1.0 / total + centre**2 / size,
            tilt=centre,
        )

    def _lines_through_zero(self, log_betas: Array) -> _Lines:
        weights = 1.0 / self._variance
        shape = np.exp(-np.exp(log_betas)[:, None] * self._logs)
        size = (weights * shape**2).sum(axis=1)
        slope = (weights * shape * self._errors).sum(axis=1) / size
        residuals = self._errors - slope[:, None] * shape
        none = np.zeros_like(slope)
        return _Lines(
            squares=(weights * residuals**2).sum(axis=1),
            slope=slope,
            level=none,
            variance=1.0 / size,
            level_variance=none,
            tilt=none,
        )


def variance_of(amounts: Array, errors: Array, images: Array | None) -> Variances:
    """Variances of the errors, and the best law under them.

    One part of a variance is the binomial one of the test images; without their numbers it is the
    same for every error. The other part, which the choice of training samples makes, goes with the
    square of the error. Their proportion is the one of the highest restricted likelihood.

    Args:
        amounts: D, (n,).
        errors: measured errors, (n,).
        images: number of test images of each error, (n,), or ``None``.
    """
    fitted = _pooled(amounts, errors, images)
    found = _likeliest(amounts, errors, images, fitted)
    for _ in range(_ROUNDS - 1):
        fitted = _clipped(found.profile.fitted, errors, images)
        found = _likeliest(amounts, errors, images, fitted)
    return found._replace(profile=CurveProfile(amounts, errors, found.variance))


def _likeliest(amounts: Array, errors: Array, images: Array | None, fitted: Array) -> Variances:
    """The best proportion of the two parts, where the errors of the law are ``fitted``."""
    part = np.full_like(errors, (fitted**2).mean())
    if images is not None:
        part = fitted * (1.0 - fitted) / images
    candidates = []
    for share in _SHARES:
        variance = (1.0 - share) * part + share * part.mean() * _relative(fitted**2)
        profile = CurveProfile(amounts, errors, variance, exact=False)
        candidates.append(Variances(profile, variance, part))
    return max(candidates, key=lambda each: each.profile.likelihood)


def _relative(values: Array) -> Array:
    return np.asarray(values / values.mean())


def _pooled(amounts: Array, errors: Array, images: Array | None) -> Array:
    """Mean error at each amount, (n,)."""
    _, place = np.unique(amounts, return_inverse=True)
    weights = np.ones_like(errors) if images is None else images
    mean = np.bincount(place, weights=errors * weights) / np.bincount(place, weights=weights)
    return _clipped(np.asarray(mean[place]), errors, images)


def _clipped(fitted: Array, errors: Array, images: Array | None) -> Array:
    """Errors of which no variance is zero: away from 0, and with images from 1, (n,)."""
    if images is None:
        return np.asarray(np.maximum(fitted, 0.01 * errors.max()))
    edge = 0.5 / (images.sum() + 1.0)
    return np.asarray(np.clip(fitted, edge, 1.0 - edge))
