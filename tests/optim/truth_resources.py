"""Band, times and round length for given samples and steps, by nested minimisation without slopes.

For given whole samples and given steps (or none) the rest of the problem is jointly convex in the
bands, the upload times, the compute times and the round's length. It is minimised one variable
inside the other: each minimum over some of the variables is a convex function of the others, and
:func:`least` finds the least of a convex function of one variable by looking at it alone. Every
number below is for many candidates at once, (..., N).

* :func:`least`      least value of a convex function between two ends
* :class:`Options`   what a device may do: samples at a step, as a law of its compute time
* :func:`device_j`   a device's energy with a band and a window
* :func:`fleet_j`    the fleet's energy with the best bands and the best round length
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from fimi.energy.cost_model import Array, uplink_rate_bps
from fimi.optim.problem import FimiProblem
from tests.optim.truth_costs import LN2

FINE, MIDDLE, COARSE = 16, 10, 7
"""Rounds of :func:`least`: an interval of 2e-10, 1e-6, or 6e-5 of the one it began with."""
PENALTY = 1e4
"""Joules per joule above a budget: more than any multiplier of a budget that can be met."""


def least(
    function: Callable[[Any], Any], low: Array, high: Array, rounds: int = FINE
) -> tuple[Array, Array]:
    """Where a convex function is least between two ends, and its value there.

    Args:
        function: of an array with one more axis in front of those of the ends.
        low: lower ends.
        high: upper ends, not below them.
        rounds: each leaves a quarter of the interval.
    """
    low, high = np.broadcast_arrays(np.asarray(low, float), np.asarray(high, float))
    grid = np.linspace(0.0, 1.0, 9).reshape((9,) + (1,) * low.ndim)
    for _ in range(rounds):
        places = np.minimum(low + grid * (high - low), high)
        values = function(places)
        best = values.argmin(axis=0)[None]
        where = np.take_along_axis(places, best, axis=0)[0]
        value = np.take_along_axis(values, best, axis=0)[0]
        low = np.take_along_axis(places, np.maximum(best - 1, 0), axis=0)[0]
        high = np.take_along_axis(places, np.minimum(best + 1, 8), axis=0)[0]
    return where, value


class Options(Struct, frozen=True, eq=False, kw_only=True):
    """Options of one device, (N,) each: e_cmp = cubic / t² + fixed + watts t for t_cmp = t.

    Attributes:
        samples: D.
        step: which of its steps; −1 for a law with any speed.
        fastest_s: shortest t_cmp.
        slowest_s: the t_cmp beyond which nothing is saved; of a step both are the same.
        cubic: J s².
        fixed: J, a round's share of the synthetic samples included where it counts.
        watts: W.
    """

    samples: Array
    step: Array
    fastest_s: Array
    slowest_s: Array
    cubic: Array
    fixed: Array
    watts: Array

    def take(self, rows: Any) -> Options:
        """Some of them."""
        return Options(**{name: getattr(self, name)[rows] for name in self.__struct_fields__})


def options_of(problem: FimiProblem, i: int, samples: Array, *, synthetic: bool) -> Options:
    """All of a device's options for these D, (n,): step by step; ``synthetic``: count them."""
    steps = problem.frequency_steps_hz[i]
    cycles = problem.cycles_per_pass[i] * samples
    kappa, linear = problem.capacitance_w_per_hz3[i], problem.linear_power_w_per_hz[i]
    active = problem.active_power_w[i]
    extra = problem.synthetic_j[i] * (samples - problem.local_samples[i]) / problem.rounds
    extra = extra if synthetic else 0.0 * samples
    nothing = np.zeros_like(samples)
    rows = []
    for k, hertz in enumerate(steps):
        measured = problem.step_power_w[i]
        watts = measured[k] if measured else kappa * hertz**3 + linear * hertz + active
        t = cycles / hertz
        rows.append([samples, nothing + k, t, t, nothing, watts * t + extra, nothing])
    if not steps:
        low, high = problem.frequency_min_hz[i], problem.frequency_max_hz[i]
        best = min(max((active / (2.0 * kappa)) ** (1.0 / 3.0), low), high)
        rows.append(
            [
                samples, nothing - 1, cycles / high, cycles / best, kappa * cycles**3,
                linear * cycles + extra, nothing + active,
            ]
        )  # fmt: skip
    joined = np.concatenate([np.array(row, float) for row in rows], axis=1)
    return Options(**dict(zip(Options.__struct_fields__, joined, strict=True)))


class Radio(Struct, frozen=True, eq=False, kw_only=True):
    """One device's radio and limits of time; numbers."""

    nats: float
    noise_over_gain: float
    gain: float
    noise: float
    power_w: float
    electronics_w: float
    bits: float
    cap_bps: float
    settable: bool

    def full_rate_s(self, band: Array) -> Array:
        """Shortest upload over a band: at full power, not beyond the cap."""
        rate = uplink_rate_bps(band, self.power_w, self.gain, self.noise)
        return np.asarray(self.bits / np.minimum(rate, self.cap_bps))

    def sent_j(self, band: Array, time_s: Array) -> Array:
        """(p + P_el) t_com of an upload that takes so long; joules per bit are not counted."""
        if not self.settable:
            return np.asarray((self.power_w + self.electronics_w) * time_s)
        u = band * time_s
        return np.asarray(
            self.noise_over_gain * u * np.expm1(self.nats / u) + self.electronics_w * time_s
        )

    def narrowest(self, time_s: Array, widest: float) -> Array:
        """The least band over which an upload can take no longer; infinite if none is enough."""
        low = np.full(np.shape(time_s), np.log(widest) - 60.0)
        high = np.full(np.shape(time_s), np.log(widest))
        with np.errstate(divide="ignore", invalid="ignore"):
            none = ~((time_s > 0) & (self.full_rate_s(np.exp(high)) <= time_s))
            for _ in range(60):
                middle = (low + high) / 2.0
                enough = self.full_rate_s(np.exp(middle)) <= time_s
                low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return np.where(none, np.inf, np.exp(high))


def radio_of(problem: FimiProblem, i: int) -> Radio:
    """The radio of a device."""
    return Radio(
        nats=float(problem.payload_bits[i] * LN2),
        noise_over_gain=float(problem.noise_density_w_per_hz[i] / problem.channel_gain[i]),
        gain=float(problem.channel_gain[i]),
        noise=float(problem.noise_density_w_per_hz[i]),
        power_w=float(problem.transmit_power_max_w[i]),
        electronics_w=float(problem.electronics_power_w[i]),
        bits=float(problem.payload_bits[i]),
        cap_bps=float(problem.rate_cap_bps[i]),
        settable=bool(problem.power_settable[i]),
    )


def device_j(
    radio: Radio, options: Options, band: Array, window_s: Array
) -> tuple[Array, Array, Array]:
    """Energy, t_cmp and t_com of a device with a band and a window for compute and upload.

    The window must be long enough. Joules per bit and receiving are not counted.
    """
    most = window_s - options.fastest_s
    first = np.minimum(radio.full_rate_s(band), most)
    t_com = _upload_s(radio, options, band, window_s, first, most) if radio.settable else first
    t_cmp = np.clip(window_s - t_com, options.fastest_s, options.slowest_s)
    return computed_j(options, t_cmp) + radio.sent_j(band, t_com), t_cmp, t_com


def _upload_s(
    radio: Radio, options: Options, band: Array, window_s: Array, low: Array, high: Array
) -> Array:
    """The upload of least energy: where the slope of a convex function is zero, or an end.

    The slope is P_el − (N0 b/h) ψ(x) + 2 cubic/t_cmp³ − watts, the last two only where more time
    for computing saves something; ψ(x) = 1 + (x − 1) eˣ, x = S ln2/(b t_com), t_cmp = W − t_com.
    """
    law = (options.cubic > 0) & (options.slowest_s > options.fastest_s)
    if not law.any() and radio.electronics_w == 0:
        return high
    shape = np.broadcast_shapes(np.shape(band), np.shape(window_s), options.samples.shape)
    low, high = np.broadcast_to(low, shape), np.broadcast_to(high, shape)
    a, k = radio.nats / band, radio.noise_over_gain * band

    def worth(t: Array, saves: Any) -> tuple[Array, Array, Array, Array]:
        """What the slope adds and takes away, and how these change with t."""
        x = a / t
        grown = np.exp(np.minimum(x, 600.0))
        near = x < 1e-4  # 1 + (x − 1) eˣ cancels
        psi = np.where(near, x * x * (0.5 + x / 3.0), 1.0 + (x - 1.0) * grown)
        rest = np.maximum(window_s - t, options.fastest_s)
        more = np.where(saves, 2.0 * options.cubic / rest**3, 0.0)
        faster = np.where(saves, 6.0 * options.cubic / rest**4, 0.0)
        less = k * psi + np.where(saves, options.watts, 0.0)
        return radio.electronics_w + more, less, faster, -k * x * x * grown / t

    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        # Beyond this upload the device computes faster; the slope may jump there.
        latest = np.clip(np.where(law, window_s - options.slowest_s, low), low, high)
        plus, minus, *_ = worth(latest, False)
        low, high = np.where(plus < minus, latest, low), np.where(plus < minus, high, latest)
        plus, minus, *_ = worth(latest, law)
        high = np.where(plus >= minus, np.minimum(high, latest), high)
        saves = law & (low >= latest)
        for end in (0, 1):
            plus, minus, *_ = worth((low, high)[end], saves)
            if end == 0:
                high = np.where(plus >= minus, low, high)
            else:
                low = np.where(plus <= minus, high, low)
        t = np.sqrt(low * high)
        for _ in range(100):
            plus, minus, up, down = worth(t, saves)
            low, high = np.where(plus < minus, t, low), np.where(plus < minus, high, t)
            # Newton's step for log plus − log minus in log t.
            step = t * np.exp(np.log(minus / plus) / (t * (up / plus - down / minus)))
            after = np.where((step > low) & (step < high), step, np.sqrt(low * high))
            if ((np.abs(after - t) <= 1e-9 * t) | (high - low <= 1e-9 * t)).all():
                break
            t = after
    return np.asarray(t)


def computed_j(options: Options, time_s: Array) -> Array:
    """e_cmp with so much time for it."""
    t = np.clip(time_s, options.fastest_s, options.slowest_s)
    with np.errstate(divide="ignore", invalid="ignore"):
        cubic = np.where(options.cubic > 0, options.cubic / t**2, 0.0)
    return np.asarray(cubic + options.fixed + options.watts * t)


class Resources(Struct, frozen=True, eq=False, kw_only=True):
    """The best of everything but samples and steps, for N candidates.

    Attributes:
        energy_j: the objective, (N,); infinite where there is no plan.
        value_j: with what is above budgets, at a penalty, (N,); what was made least.
        round_s: (N,).
        bandwidth_hz: (N, I).
        compute_s: (N, I).
        upload_s: (N, I).
        over_j: joules above budgets, (N,).
    """

    energy_j: Array
    value_j: Array
    round_s: Array
    bandwidth_hz: Array
    compute_s: Array
    upload_s: Array
    over_j: Array


class Fleet:
    """What of a problem does not depend on samples and steps."""

    def __init__(self, problem: FimiProblem) -> None:
        self.problem = problem
        self.radios = [radio_of(problem, i) for i in range(problem.size)]
        self.board = problem.objective == "board"
        budgets = np.isfinite(problem.budget_j).any() or np.isfinite(problem.fleet_budget_j)
        self.budgets = bool(budgets)
        limits = [*problem.budget_j, problem.fleet_budget_j]
        self.allowed_j = 1e-8 * min(limits) if budgets else 0.0
        self.idle_w = float(problem.idle_power_w.sum()) if self.board else 0.0
        bits_j = problem.energy_per_bit_j * problem.payload_bits
        self.received_j = problem.receive_power_w * problem.receive_s
        self.bits_j = bits_j
        self.constant_j = float(bits_j.sum() + (self.received_j.sum() if self.board else 0.0))

    def with_changes(self, **changes: Any) -> Fleet:
        """The same fleet with other values of the problem."""
        return Fleet(msgspec.structs.replace(self.problem, **changes))

    def window_s(self, i: int, round_s: Array) -> Array:
        """Time of a device for compute and upload in a round of this length."""
        problem = self.problem
        return np.asarray(np.minimum(problem.t_max_s[i], round_s - problem.receive_s[i]))

    def above_budgets_j(self, joules: list[Array], options: list[Options], round_s: Array) -> Array:
        """By how much a run's board energy is above budgets; ``joules``: e_cmp + e_com."""
        problem, total, over = self.problem, 0.0, 0.0
        for i, own in enumerate(joules):
            extra = problem.synthetic_j[i] * (options[i].samples - problem.local_samples[i])
            constant = self.bits_j[i] + self.received_j[i]
            a_round = own + constant + problem.idle_power_w[i] * round_s
            run = problem.rounds * a_round + (0.0 if self.board else extra)
            over = over + np.maximum(run - problem.budget_j[i], 0.0)
            total = total + run
        return np.asarray(over + np.maximum(total - problem.fleet_budget_j, 0.0))


def fleet_j(fleet: Fleet, options: list[Options], rounds: int = FINE) -> Resources:
    """The best bands, times and round for N candidates.

    Args:
        fleet: the problem.
        options: of each device, N long.
        rounds: precision of :func:`least`.
    """
    problem = fleet.problem
    size, count = problem.size, options[0].samples.size
    band = problem.bandwidth_hz
    longest = problem.round_max_s

    def narrowest(round_s: Array) -> list[Array]:
        return [
            radio.narrowest(fleet.window_s(i, round_s) - options[i].fastest_s, band)
            for i, radio in enumerate(fleet.radios)
        ]

    def enough(round_s: Array) -> Array:
        return np.asarray(sum(narrowest(round_s)) <= band)

    high = np.full(count, longest)
    possible = enough(high)
    low = np.zeros(count)
    if fleet.idle_w or fleet.budgets:
        for _ in range(60):
            middle = (low + high) / 2.0
            good = enough(middle)
            low, high = np.where(good, low, middle), np.where(good, middle, high)
        shortest = np.where(possible, high, longest)
    else:
        shortest = np.full(count, longest)
    keep = np.flatnonzero(possible)
    result = Resources(
        energy_j=np.full(count, np.inf),
        value_j=np.full(count, np.inf),
        round_s=np.full(count, longest),
        bandwidth_hz=np.full((count, size), np.nan),
        compute_s=np.full((count, size), np.nan),
        upload_s=np.full((count, size), np.nan),
        over_j=np.zeros(count),
    )
    if not keep.size:
        return result
    options = [each.take(keep) for each in options]

    def split(round_s: Array) -> tuple[Array, list[Array]]:
        """The objective less constants with the best bands, and these bands."""
        least_hz = narrowest(round_s)
        windows = [fleet.window_s(i, round_s) for i in range(size)]

        def down(i: int, rest: Array, before: list[Array]) -> tuple[Array, list[Array]]:
            if i == size - 1:
                own = device_j(fleet.radios[i], options[i], rest, windows[i])[0]
                joules = [*before, own]
                value = sum(joules)
                if fleet.budgets:
                    over = fleet.above_budgets_j(joules, options, round_s)
                    value = value + PENALTY * over / problem.rounds
                return np.asarray(value), [rest]
            low = least_hz[i]
            high = np.maximum(rest - sum(least_hz[i + 1 :]), low)

            def value(b: Array) -> Array:
                own = device_j(fleet.radios[i], options[i], b, windows[i])[0]
                return down(i + 1, rest - b, [*before, own])[0]

            b, found = least(value, low, high, rounds)
            own = device_j(fleet.radios[i], options[i], b, windows[i])[0]
            return found, [b, *down(i + 1, rest - b, [*before, own])[1]]

        return down(0, np.full(np.shape(round_s), band), [])

    if fleet.idle_w or fleet.budgets:
        round_s = least(
            lambda r: split(r)[0] + fleet.idle_w * r, shortest[keep], np.full(keep.size, longest),
            rounds,
        )[0]  # fmt: skip
    else:
        round_s = np.full(keep.size, longest)
    bands = split(round_s)[1]
    joules = []
    for i in range(size):
        own, t_cmp, t_com = device_j(
            fleet.radios[i], options[i], bands[i], fleet.window_s(i, round_s)
        )
        joules.append(own)
        result.bandwidth_hz[keep, i] = bands[i]
        result.compute_s[keep, i] = t_cmp
        result.upload_s[keep, i] = t_com
    over = fleet.above_budgets_j(joules, options, round_s)
    energy = sum(joules) + fleet.idle_w * round_s + fleet.constant_j
    result.energy_j[keep] = np.where(over <= fleet.allowed_j, energy, np.inf)
    result.value_j[keep] = energy + (PENALTY * over / problem.rounds if fleet.budgets else 0.0)
    result.round_s[keep] = round_s
    result.over_j[keep] = over
    return result
