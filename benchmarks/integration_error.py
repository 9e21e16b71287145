"""How far joules are from the truth, by load, sampling rate and rule.

Phases of about 10 s that begin anywhere in the load's period; every row is over several hundred of
them. Loads: constant 5 W; square, 2 and 8 W at 10 Hz; bursty, 2 W with bursts of 9 W that last 20
to 120 ms and come every 0.4 s on average. Meters show the power of an instant, or (the second
table) its mean since the reading before, as chips that average do. Constant power is metered over
about 0.2 s as well.

* spread: trapezoids with a reading forced at both edges and looks spread over the period, one a
  period: what the ledger does with meters that show an instant
* random: the same with each look at an independent random place of its period
* in step: the same with looks in step: what it does with meters that average
* rectangles: a poll loop that adds each reading times the time since the last, as many tools do

Columns: root mean square and worst error, percent of the truth.

    python benchmarks/integration_error.py [--phases 400]
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from plain_integration import integrate

from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.meters.sampler import places

Array = NDArray[np.float64]
RATES_HZ = (1, 5, 10, 50, 100)
STEP_S = 1e-4


class Load:
    """A power over time, with its exact integral on a fine grid."""

    def __init__(self, power_w: Array) -> None:
        self.times_s = np.arange(len(power_w) + 1) * STEP_S
        self.energy_j = np.concatenate([[0.0], np.cumsum(power_w) * STEP_S])

    def between_j(self, start_s: float, end_s: float) -> float:
        """The truth."""
        first, last = np.interp([start_s, end_s], self.times_s, self.energy_j)
        return float(last - first)

    def at_w(self, times_s: Array) -> Array:
        """Power of an instant: its mean over one step."""
        after = np.interp(times_s + STEP_S, self.times_s, self.energy_j)
        return (after - np.interp(times_s, self.times_s, self.energy_j)) / STEP_S

    def mean_w(self, times_s: Array, period_s: float) -> Array:
        """Mean over the period before each time."""
        before = np.interp(times_s - period_s, self.times_s, self.energy_j)
        return (np.interp(times_s, self.times_s, self.energy_j) - before) / period_s


def loads(seconds: float, rng: np.random.Generator) -> dict[str, Load]:
    count = round(seconds / STEP_S)
    times = np.arange(count) * STEP_S
    bursty = np.full(count, 2.0)
    for begin_s in np.cumsum(rng.exponential(0.4, round(seconds * 4))):
        first = round(begin_s / STEP_S)
        bursty[first : first + round(rng.uniform(0.02, 0.12) / STEP_S)] = 9.0
    return {
        "constant": Load(np.full(count, 5.0)),
        "square": Load(np.where((times * 10.0) % 1.0 < 0.5, 8.0, 2.0)),
        "bursty": Load(bursty),
    }


def trapezoids(
    read: Callable[[Array], Array], start_s: float, end_s: float, inner: Array
) -> float | None:
    times = np.concatenate([[start_s], inner, [end_s]])
    readings = [
        Reading(time_s=t, power_w=p)
        for t, p in zip(times.tolist(), read(times).tolist(), strict=True)
    ]
    meter = MeterDescription(source="m:1", kind="measured", scope="board", rate_hz=1.0)
    energy = integrate(readings, start_s, end_s, meter)
    return None if energy is None else energy.value_j


def rectangles(read: Callable[[Array], Array], start_s: float, end_s: float, ticks: Array) -> float:
    """A loop that wakes up at its ticks and knows of no edges."""
    seen = ticks[(ticks > start_s) & (ticks <= end_s)]
    before = ticks[ticks <= start_s][-1:]
    gaps = np.diff(np.concatenate([before, seen]))
    return float(read(seen) @ gaps) if len(seen) else 0.0


def errors(
    load: Load, rate_hz: float, window_s: float, phases: int, averages: bool, seed: int
) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    place = places(random.Random(seed))
    period_s = 1.0 / rate_hz
    found: dict[str, list[float]] = {
        name: [] for name in ("spread", "random", "in step", "rectangles")
    }

    def read(times: Array) -> Array:
        return load.mean_w(times, period_s) if averages else load.at_w(times)

    for start_s in rng.uniform(2.0, load.times_s[-1] - window_s - 2.0, phases):
        end_s = start_s + window_s * rng.uniform(0.8, 1.2)
        truth_j = load.between_j(start_s, end_s)
        grid = np.arange(start_s - 1.5 + rng.uniform(0, period_s), end_s + period_s, period_s)
        ticks = np.arange(grid[0] - 2 * period_s, end_s + period_s, period_s)
        looks = [next(place) for _ in grid]
        spread = grid + period_s * np.array(looks)
        at_random = grid + rng.uniform(0.0, period_s, len(grid))
        for rule, joules in (
            ("spread", trapezoids(read, start_s, end_s, _inside(spread, start_s, end_s))),
            ("random", trapezoids(read, start_s, end_s, _inside(at_random, start_s, end_s))),
            ("in step", trapezoids(read, start_s, end_s, _inside(grid, start_s, end_s))),
            ("rectangles", rectangles(read, start_s, end_s, ticks)),
        ):
            if joules is not None:
                found[rule].append(100.0 * (joules - truth_j) / truth_j)
    return {rule: np.array(values) for rule, values in found.items()}


def _inside(times: Array, start_s: float, end_s: float) -> Array:
    return times[(times > start_s) & (times < end_s)]


def table(phases: int, averages: bool) -> None:
    everything = loads(120.0, np.random.default_rng(1))
    kind = "mean since the reading before" if averages else "power of an instant"
    print(f"\nmeter: {kind}; error in % of the truth, rms (worst)")
    rules = "".join(f"  {rule:>16}" for rule in ("spread", "random", "in step", "rectangles"))
    print(f"{'load':<18}{'Hz':>5}{rules}")
    cases = [("constant", 0.2), ("constant", 10.0), ("square", 10.0), ("bursty", 10.0)]
    for name, window_s in cases:
        for rate_hz in RATES_HZ:
            found = errors(everything[name], rate_hz, window_s, phases, averages, seed=rate_hz)
            cells = [
                f"{np.sqrt(np.mean(values**2)):7.2f} ({np.abs(values).max():6.1f})"
                for values in found.values()
            ]
            print(f"{name + f' {window_s:g} s':<18}{rate_hz:>5}  " + "  ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--phases", type=int, default=400)
    phases = parser.parse_args().phases
    for averages in (False, True):
        table(phases, averages)


if __name__ == "__main__":
    main()
