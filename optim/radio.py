"""What an upload costs in a window of time at a price of the band; docs/model.md (9)-(18).

A device has a window t' for its upload and pays μ for each hertz. It chooses its band b and the
time t ≤ t' in which it sends, no shorter than S over its highest rate. With x = S ln2/(b t) this
costs

    (N0/h) S ln2 e^θ(x) + P_w t + μ b        where the transmit power is chosen,
    P_w t + μ b                              where it is always p_max,

with P_w the power that flows for as long as it sends: that of the electronics, and p_max where the
power is not chosen. Where P_w is 0 all of the window is used; elsewhere the device is done earlier
if its window is long enough.

* :class:`Radio`    the radios of a fleet: energies, times, bands at given prices
* :class:`Sending`  how uploads are made
"""

from __future__ import annotations

from types import EllipsisType

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.energy.cost_model import Array
from fimi.optim.problem import FimiProblem
from fimi.optim.special import (
    LOG_X_MAX,
    inverse_free,
    inverse_full,
    inverse_psi,
    inverse_theta,
    log_psi,
    log_spread,
    log_theta,
)

Rows = NDArray[np.intp] | EllipsisType

_LEAST_THETA = 1e-12
_LOG_FREE_BAND = -700.0
"""A price of the band whose logarithm is below this is 0."""


class Sending(Struct, frozen=True, eq=False):
    """Uploads, in any shape that ends with the devices.

    Attributes:
        log_t: log of the time t in which a device sends, s.
        log_x: log of x = S ln2/(b t).
        hurried: whether it is done before its window ends.
        full: whether it sends with all its power.
        log_band: log of b, Hz.
        band_slope: d log b / d log μ, ≤ 0.
    """

    log_t: Array
    log_x: Array
    hurried: NDArray[np.bool_]
    full: NDArray[np.bool_]
    log_band: Array
    band_slope: Array


class Radio:
    """The radios of a fleet.

    Attributes:
        log_nats: log S ln2, (I,).
        log_k: log N0/h, (I,).
        settable: whether the transmit power is chosen, (I,) of bool.
        watts: P_w, power that flows while sending whatever the band, (I,).
        full_watts: power that flows while sending with p_max, (I,).
        shortest_s: S over the highest rate; 0 without a cap, (I,).
    """

    def __init__(self, problem: FimiProblem) -> None:
        nats = problem.payload_bits * np.log(2.0)
        self.log_nats = np.log(nats)
        self.log_k = np.log(problem.noise_density_w_per_hz) - np.log(problem.channel_gain)
        self.settable = problem.power_settable
        power = problem.transmit_power_max_w
        self.watts = problem.electronics_power_w + np.where(self.settable, 0.0, power)
        self.full_watts = problem.electronics_power_w + power
        self.shortest_s = problem.payload_bits / problem.rate_cap_bps
        with np.errstate(divide="ignore"):
            self._log_shortest = np.log(self.shortest_s)
            log_watts = np.log(self.watts)
        # θ(x) at full power is this plus log t, (18).
        self._log_reach = np.log(power) - self.log_k - self.log_nats
        self._reach = power * np.exp(-self.log_k)
        self._nats = nats
        # (11): what is added to log μ for the x of a hurried upload.
        self._free = log_watts - self.log_nats - 2.0 * self.log_k
        self._full = self.log_nats + 2.0 * self._log_reach - np.log(self.full_watts)
        self.eager = bool((self.watts > 0).any())

    def full_power_s(self, band_hz: Array | float) -> Array:
        """(3), (4) Shortest time of each device's upload over a band, s, (I,)."""
        seconds = self._nats / (band_hz * np.log1p(self._reach / band_hz))
        return np.asarray(np.maximum(seconds, self.shortest_s))

    def narrowest(self, log_t: Array, rows: Rows = ...) -> tuple[Array, Array]:
        """(18) The largest log x that p_max allows; by how much a time is too short for any x.

        Args:
            log_t: log of the time of sending, (..., len(rows)).
            rows: which devices; all if left out.
        """
        theta = self._log_reach[rows] + log_t
        short = np.maximum(-theta, self._log_shortest[rows] - log_t)
        return inverse_theta(np.maximum(theta, _LEAST_THETA)), short

    def send(self, log_window: Array, log_mu: Array | float, rows: Rows = ...) -> Sending:
        """Uploads of least cost within windows at a price of the band.

        Args:
            log_window: log t', (..., len(rows)), long enough for an upload.
            log_mu: log μ, broadcasts against it.
            rows: which devices; all if left out.
        """
        log_mu = np.maximum(log_mu, _LOG_FREE_BAND)
        log_t, settable = log_window, self.settable[rows]
        hurried = np.zeros(np.shape(log_t), bool)
        if self.eager:
            wished, wished_slope = self._wished(log_mu, rows)
            wished = np.maximum(wished, self._log_shortest[rows])
            hurried = wished < log_window
            log_t = np.where(hurried, wished, log_window)
        limit = self.narrowest(log_t, rows)[0]
        if settable.any():
            wanted, steepness = inverse_psi(log_mu - self.log_k[rows] - log_t)
            full = ~settable | (wanted >= limit)
            log_x = np.where(full, limit, wanted)
            slope = np.where(full, 0.0, -1.0 / steepness)
        else:
            shape = np.broadcast_shapes(np.shape(limit), np.shape(log_mu))
            full, log_x = np.ones(shape, bool), np.broadcast_to(limit, shape)
            slope = np.zeros(shape)
        if self.eager:
            moving = hurried & (log_t > self._log_shortest[rows])
            slope = np.where(moving, wished_slope, slope)
        return Sending(log_t, log_x, hurried, full, self.log_nats[rows] - log_x - log_t, slope)

    def energy_j(self, log_t: Array, log_x: Array, rows: Rows = ...) -> Array:
        """(5), (40) e_com without its joules per bit, J."""
        log_x = np.minimum(log_x, LOG_X_MAX)
        carried = np.exp(self.log_k[rows] + self.log_nats[rows] + log_theta(log_x)[0])
        carried = np.where(self.settable[rows], carried, 0.0)
        return np.asarray(carried + self.watts[rows] * np.exp(log_t))

    def time_price(
        self, log_window: Array, log_mu: Array | float, rows: Rows = ...
    ) -> tuple[Array, Array]:
        """(30) What a second less of the window costs, W, ≥ 0; d log price / d log window.

        The price is 0 where the device does not use all of its window.
        """
        log_mu = np.maximum(log_mu, _LOG_FREE_BAND)
        log_nats = self.log_nats[rows]
        limit = self.narrowest(log_window, rows)[0]
        x = np.exp(limit)
        spread = log_spread(limit)
        bend = -np.exp(limit + np.log(-np.expm1(-x)) - spread) / (x * log_theta(limit)[1])
        worth = log_mu + log_nats - 2.0 * log_window
        freed, freed_slope = np.exp(np.minimum(worth - spread, 690.0)), -2.0 + bend
        watts = self.full_watts[rows]
        if self.settable[rows].any():
            wanted, steepness = inverse_psi(log_mu - self.log_k[rows] - log_window)
            full = ~self.settable[rows] | (wanted >= limit)
            freed = np.where(full, freed, np.exp(np.minimum(worth - wanted, 690.0)))
            freed_slope = np.where(full, freed_slope, -2.0 + 1.0 / steepness)
            watts = np.where(full, watts, self.watts[rows])
        price = freed - watts
        price = np.where(log_window <= self._log_shortest[rows], np.maximum(price, 0.0), price)
        good = price > 0.0
        safe = np.where(good, price, 1.0)
        return np.maximum(price, 0.0), np.where(good, freed_slope * freed / safe, 0.0)

    def _wished(self, log_mu: Array | float, rows: Rows) -> tuple[Array, Array]:
        """(11) Log t of an upload without a window, and d log b / d log μ of it."""
        log_k = self.log_k[rows]
        full_x = inverse_full(log_mu + self._full[rows])
        theta, by_x = log_theta(full_x)
        full_t = theta - self._log_reach[rows]
        rise = np.exp(full_x) * by_x  # d θ / d log x
        spread = np.exp(
            full_x + np.log(-np.expm1(-np.exp(full_x))) - log_spread(full_x)
        )  # d log spread / d log x
        full_slope = -(1.0 + rise) / (2.0 * rise + spread)
        chosen = self.settable[rows] & (self.watts[rows] > 0)
        never = self.settable[rows] & (self.watts[rows] <= 0)
        if not chosen.any():
            return np.where(never, np.inf, full_t), full_slope
        start = np.where(chosen, log_mu + np.where(chosen, self._free[rows], 0.0), 0.0)
        free_x = inverse_free(start)
        psi, steepness = log_psi(free_x)
        free_t = np.broadcast_to(log_mu, np.shape(psi)) - log_k - psi
        free_slope = -steepness / (2.0 * steepness - 1.0)
        fits = log_theta(free_x)[0] - free_t <= self._log_reach[rows]
        free = chosen & fits
        log_t = np.where(free, free_t, full_t)
        return np.where(never, np.inf, log_t), np.where(free, free_slope, full_slope)
