"""Delay and window of a meter, from what it showed while a load of known edges was on.

A value is the mean power of a window that ended some time before it came, and it came at a time
between the last look that did not show it and the first that did. With the power at two levels, the
load on or off, a value is

    idle power + drift + step × share of its window in which the load was on.

The share follows from the edges, the delay, the window and the value's age at the look, which is
equally likely to be anything between zero and the gap of looks. :func:`learn` goes over all delays
and windows: for each pair, least squares give idle power, drift and step, and the scatter of values
far from edges gives the likelihood. Three hypotheses of the window count by their likelihood: none,
as long as the refresh, and any. The delay is the mean over the likelihood, and its standard
deviation that of the likelihood, widened where values near edges fit worse than others, and where
the scatter of neighbours is alike.

For an energy counter a value is the difference of two counts over the time between them.

The gain is not learned: it takes a second meter (:mod:`fimi.energy.step_load.compare`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.meters.response import MeterResponse, uniform_sd_s
from fimi.energy.step_load.load import Edges, StepLoadError
from fimi.energy.step_load.steps import News, news, refresh_s, smallest_step

LONGEST_DELAY_S = 60.0
FEWEST_VALUES = 12
_AGES = 6
_LOOKS_TELL, _COARSE_LOOKS_TELL = 20.0, 4.0
"""The gap of looks over this is the least standard deviation of a delay; the second one where looks
are less than four times as fast as the meter, so that the times of its refreshes stay unknown."""
_MOST_VALUES = 800
_SPAN_AGES = 10.0
_SPAN_S = 0.05
_DISTINCT = 8.0
"""The step is told from the scatter if it is so many times its own deviation."""
_SETTLED = 0.02
_DEEP = 14.0
_GRID = 17
_ZOOMS = 12

_Array = NDArray[np.float64]


class Learned(Struct, frozen=True, kw_only=True):
    """What a step load says of a meter.

    Attributes:
        source: the meter's.
        response: its response; its origin is ``learned``.
        idle_w: mean power while the load was off, W.
        step_w: by how much the load changes the power, W.
        step_sd_w: one standard deviation of that, W.
        noise_w: scatter of values while nothing changes, W; that of the power is in it.
        resolution_w: smallest step of values, W; ``None`` if they have none, or it counts.
        values: number of new values behind it.
    """

    source: str
    response: MeterResponse
    idle_w: float
    step_w: float
    step_sd_w: float
    noise_w: float
    resolution_w: float | None
    values: int


class _Values(NamedTuple):
    """New values, all of shape (n,).

    Attributes:
        times_s: when each was first seen, s.
        ages_s: how long before that it may have come at most, s.
        power_w: the values, W.
        spans_s: the time of which a counter's difference is, s; NaN for a power.
    """

    times_s: _Array
    ages_s: _Array
    power_w: _Array
    spans_s: _Array


class _Levels(NamedTuple):
    """Idle power, drift and step by least squares, and deviations of values about them.

    Attributes:
        power_w: (3,): idle power W, drift W in half of the time, step W.
        step_sd_w: one standard deviation of the step, W.
        off_w, on_w: scatter of values while the load is off and on, W.
        alike: how many values say as much as one independent one, at least 1.
        misfit: mean square of all values' deviations over that scatter, at least 1.
    """

    power_w: _Array
    step_sd_w: float
    off_w: float
    on_w: float
    alike: float
    misfit: float


class _Found(NamedTuple):
    """A hypothesis of the window: its weight, and mean and deviation of delay and window, s."""

    log_weight: float
    delay_s: float
    delay_sd_s: float
    window_s: float


def learn(edges: Edges, readings: Sequence[Reading], meter: MeterDescription) -> Learned:
    """The response of a meter.

    Args:
        edges: when the load was on, by the clock of the readings.
        readings: of the meter, as often as it can be read.
        meter: what is known of it; its refresh counts where it is shorter than looks can tell.

    Raises:
        StepLoadError: they say nothing: too few values, a load that the meter does not see, or
            disturbances that are larger.
    """
    times = np.array([r.time_s for r in readings])
    shown = np.array(
        [r.counter_j if meter.counts else r.power_w for r in readings], dtype=float
    ).reshape(-1)
    whole = np.isfinite(shown)
    times, shown = times[whole], shown[whole]
    if len(times) < FEWEST_VALUES:
        raise StepLoadError(
            f"{meter.source} gave {len(times)} readings during the step load, and "
            f"{FEWEST_VALUES} are needed: see fimi agent doctor for why it cannot be read"
        )
    refresh = refresh_s(times, shown)
    fresh = news(times, shown, refresh, repeats=not meter.counts)
    gap_s = float(np.median(np.diff(times)))
    known_s = float(np.median(fresh.gaps_s)) if len(fresh.gaps_s) else gap_s
    if refresh is None:
        known_s = min(meter.response.refresh_s, gap_s)
    values = _counted(fresh, known_s, readings) if meter.counts else _powers(fresh)
    if refresh is None:
        values = values._replace(ages_s=np.full(len(values.times_s), known_s))
    values = _thinned(_without_gaps(values))
    if len(values.times_s) < FEWEST_VALUES:
        raise StepLoadError(
            f"{meter.source} showed {len(values.times_s)} new values during the step load, and "
            f"{FEWEST_VALUES} are needed: it answers too seldom, or what it shows does not change"
        )
    step_w = None if meter.counts else smallest_step(shown)
    quantum_w = step_w or meter.resolution_w
    work = _Fit(edges, values, quantum_w, refresh, counts=meter.counts)
    found = work.found()
    levels = work.levels
    # How old values are that are all new is known to the gap of looks only.
    unknown_s = uniform_sd_s(gap_s) / 2.0 if refresh is None else 0.0
    coarse = refresh is not None and gap_s > refresh / 4.0
    least_s = gap_s / (_COARSE_LOOKS_TELL if coarse else _LOOKS_TELL)
    response = MeterResponse(
        delay_s=round(found.delay_s, 4),
        window_s=0.0 if meter.counts else round(found.window_s, 4),
        refresh_s=round(float(values.ages_s[0]) if refresh is None else refresh, 4),
        delay_sd_s=round(math.hypot(found.delay_sd_s, unknown_s, least_s, 1e-4), 5),
        origin="learned",
    )
    return Learned(
        source=meter.source,
        response=response,
        idle_w=float(levels.power_w[0]),
        step_w=float(levels.power_w[2]),
        step_sd_w=levels.step_sd_w,
        noise_w=min(levels.off_w, levels.on_w),
        resolution_w=step_w,
        values=len(values.times_s),
    )


def _powers(fresh: News) -> _Values:
    return _Values(fresh.times_s, fresh.gaps_s, fresh.values, np.full(len(fresh.values), np.nan))


def _counted(fresh: News, age_s: float, readings: Sequence[Reading]) -> _Values:
    """Differences of a counter, over times that are long beside the age of a value."""
    resets = [r.time_s for r in readings if r.reset]
    shortest_s = max(_SPAN_S, _SPAN_AGES * age_s)
    kept = [0] if len(fresh.times_s) else []
    for place in range(1, len(fresh.times_s)):
        if fresh.times_s[place] - fresh.times_s[kept[-1]] >= shortest_s * 0.999:
            kept.append(place)
    chosen = np.array(kept, int)
    times, counts = fresh.times_s[chosen], fresh.values[chosen]
    spans = np.diff(times)
    grown_j = np.diff(counts)
    whole = (grown_j >= 0.0) & (spans > 0.0)
    for reset_s in resets:
        whole &= ~((times[:-1] < reset_s) & (reset_s <= times[1:]))
    return _Values(
        times[1:][whole],
        fresh.gaps_s[chosen][1:][whole],
        (grown_j / np.where(spans > 0.0, spans, 1.0))[whole],
        spans[whole],
    )


def _without_gaps(values: _Values) -> _Values:
    """Without values that came while nobody looked for long."""
    if not len(values.ages_s):
        return values
    kept = values.ages_s <= 3.0 * np.median(values.ages_s) + 1e-9
    return _Values(*(each[kept] for each in values))


def _thinned(values: _Values) -> _Values:
    stride = -(-len(values.times_s) // _MOST_VALUES)
    return _Values(*(each[::stride] for each in values))


class _Fit:
    """Delay and window of some values."""

    def __init__(
        self,
        edges: Edges,
        values: _Values,
        quantum_w: float,
        refresh: float | None,
        *,
        counts: bool,
    ) -> None:
        self._edges, self._values, self._quantum_w = edges, values, quantum_w
        self._refresh, self._counts = refresh, counts
        fractions = (np.arange(_AGES) + 0.5) / _AGES
        self._seen_s = values.times_s[:, None] - values.ages_s[:, None] * fractions
        self._step_s = max(1e-3, float(np.median(values.ages_s)))
        length_s = edges.ends_s[-1] - edges.begins_s[0]
        self._longest_s = min(LONGEST_DELAY_S, 0.4 * length_s)
        # In halves of all the time, so that drift and step are numbers of one size.
        middle_s, half_s = float(values.times_s.mean()), float(np.ptp(values.times_s)) / 2.0
        self._since_middle = (values.times_s - middle_s) / half_s
        self.levels = self._coarse()

    def found(self) -> _Found:
        """The mean over the hypotheses."""
        hypotheses: list[_Found] = []
        for _ in range(2):
            hypotheses = self._hypotheses()
            best = max(hypotheses, key=lambda each: each.log_weight)
            self.levels = self._levels(best.delay_s, best.window_s, judged=True)
        hypotheses = self._hypotheses()
        most = max(each.log_weight for each in hypotheses)
        weights = [math.exp(each.log_weight - most) for each in hypotheses]
        delay_s = float(np.average([h.delay_s for h in hypotheses], weights=weights))
        window_s = float(np.average([h.window_s for h in hypotheses], weights=weights))
        squares = [h.delay_sd_s**2 + (h.delay_s - delay_s) ** 2 for h in hypotheses]
        deviation_s = math.sqrt(float(np.average(squares, weights=weights)))
        if deviation_s > self._longest_s / 8.0:
            raise self._too_small()
        return _Found(most, delay_s, deviation_s, window_s)

    # -- what a delay and a window predict -------------------------------------------------------

    def _shares(self, delay_s: float, window_s: float) -> _Array:
        """Share of each value in which the load was on, for each age, shape (n, ages)."""
        end_s = self._seen_s - delay_s
        if self._counts:
            spans = self._values.spans_s[:, None]
            # The value before has an age of its own: on average a half of the most.
            begin_s = (self._values.times_s - self._values.ages_s / 2.0 - delay_s)[:, None] - spans
            return (self._edges.on_s(end_s) - self._edges.on_s(begin_s)) / spans
        if window_s < 1e-6:
            return self._edges.is_on(end_s)
        return (self._edges.on_s(end_s) - self._edges.on_s(end_s - window_s)) / window_s

    def _levels(self, delay_s: float, window_s: float, *, judged: bool = False) -> _Levels:
        """Least squares of idle power, drift and step.

        Args:
            delay_s: to try, s.
            window_s: to try, s.
            judged: take the scatter from values far from edges, and refuse what says nothing.
        """
        shares, power = self._shares(delay_s, window_s), self._values.power_w
        mean = shares.mean(1)
        sure = np.ptp(shares, axis=1) < 0.05
        chosen = sure if sure.sum() >= FEWEST_VALUES else np.ones(len(mean), bool)
        table = np.stack([np.ones(len(mean)), self._since_middle, mean], axis=1)
        solved, *_ = np.linalg.lstsq(table[chosen], power[chosen], rcond=None)
        left = power - table @ solved
        off = chosen & (mean < _SETTLED)
        on = chosen & (mean > 1.0 - _SETTLED)
        floor_w = max(self._quantum_w / math.sqrt(12.0), 1e-3 * abs(solved[2]), 1e-9)
        everywhere = float(np.sqrt(np.mean(np.square(left[chosen]))))
        off_w, on_w = (
            max(floor_w, float(np.sqrt(np.mean(np.square(left[at]))))) if at.sum() > 3 else None
            for at in (off, on)
        )
        off_w, on_w = off_w or on_w or everywhere, on_w or off_w or everywhere
        off_w, on_w = max(off_w, floor_w), max(on_w, floor_w)
        scatter = self._scatter(mean, off_w, on_w)
        alike = 1.0
        settled = off | on
        following = settled[1:] & settled[:-1] & (on[1:] == on[:-1])
        if following.sum() >= 8:
            scaled = left / scatter
            correlation = float(np.mean((scaled[1:] * scaled[:-1])[following]))
            correlation = min(0.95, max(0.0, correlation))
            alike = (1.0 + correlation) / (1.0 - correlation)
        misfit = max(1.0, float(np.mean(np.square(left / scatter)[chosen])))
        inverse = np.linalg.pinv(table[chosen].T @ table[chosen])
        step_sd_w = everywhere * math.sqrt(max(0.0, float(inverse[2, 2])) * alike)
        if judged and not solved[2] > _DISTINCT * step_sd_w:
            raise self._too_small(float(solved[2]), everywhere)
        return _Levels(solved, step_sd_w, off_w, on_w, alike, misfit)

    def _scatter(self, mean: _Array, off_w: float, on_w: float) -> _Array:
        return np.sqrt((1.0 - mean) * off_w**2 + mean * on_w**2)

    def _log_likelihood(self, delay_s: float, window_s: float) -> float:
        shares = self._shares(delay_s, window_s)
        power, known = self._values.power_w, self.levels
        mean = shares.mean(1)
        sure = np.ptp(shares, axis=1) < 0.05
        if sure.sum() < FEWEST_VALUES:
            sure = np.ones(len(mean), bool)
        scatter = self._scatter(mean, known.off_w, known.on_w)
        table = np.stack([np.ones(len(mean)), self._since_middle, mean], axis=1)
        weighted = table[sure] / scatter[sure, None]
        gram = weighted.T @ weighted
        solved = np.linalg.pinv(gram) @ (weighted.T @ (power[sure] / scatter[sure]))
        expected = (table[:, :2] @ solved[:2])[:, None] + solved[2] * shares
        # Between two ages that are tried, a share is as likely to be anything.
        apart = (np.ptp(shares, axis=1) / _AGES)[:, None]
        partial = np.sqrt(np.maximum(0.0, 4.0 * mean * (1.0 - mean)))
        partial *= self._quantum_w / math.sqrt(12.0)
        scatter = np.hypot(scatter, partial)[:, None]
        scatter = np.hypot(scatter, solved[2] * uniform_sd_s(1.0) * apart)
        squares = -0.5 * np.square((power[:, None] - expected) / scatter)
        most = squares.max(1)
        each = most + np.log(np.exp(squares - most[:, None]).mean(1)) - np.log(scatter[:, 0])
        return float(each.sum()) / (known.alike * known.misfit)

    # -- going over all --------------------------------------------------------------------------

    def _coarse(self) -> _Levels:
        """Where to begin: the delay and window with the least squares."""
        step_s = max(self._step_s, self._longest_s / 400.0)
        delays = np.arange(0.0, self._longest_s, step_s)
        refresh = self._refresh or 0.0
        windows = [0.0] if self._counts else [0.0, *{refresh, 4.0 * refresh, 0.3, 1.0} - {0.0}]
        power = self._values.power_w
        best = (math.inf, 0.0, 0.0)
        base = np.stack([np.ones(len(power)), self._since_middle], axis=1)
        basis, _ = np.linalg.qr(base)
        plain = power - basis @ (basis.T @ power)
        for window_s in windows:
            for delay_s in delays:
                mean = self._shares(float(delay_s), window_s).mean(1)
                mean = mean - basis @ (basis.T @ mean)
                norm = float(mean @ mean)
                along = float(mean @ plain)
                if norm <= 1e-9 or along <= 0.0:
                    continue
                left = float(plain @ plain) - along**2 / norm
                best = min(best, (left, float(delay_s), window_s))
        if math.isinf(best[0]):
            raise self._too_small()
        self._begin_s, self._window_s = best[1], best[2]
        return self._levels(best[1], best[2], judged=True)

    def _hypotheses(self) -> list[_Found]:
        refresh = self._refresh or 0.0
        found = [self._delays(0.0)]
        if self._counts:
            return found
        if refresh > 0.0:
            found.append(self._delays(refresh))
        found.append(self._both())
        return found

    def _delays(self, window_s: float) -> _Found:
        """The likelihood over the delay, for one window."""
        lag_s = self._begin_s + self._window_s / 2.0 - window_s / 2.0
        reach_s = 4.0 * self._step_s + self._window_s + window_s + 2.0 * (self._refresh or 0.0)
        low, high = max(0.0, lag_s - reach_s), max(lag_s, 0.0) + reach_s
        for _ in range(_ZOOMS):
            delays = np.linspace(low, high, 2 * _GRID)
            logs = np.array([self._log_likelihood(float(d), window_s) for d in delays])
            inside = np.flatnonzero(logs > logs.max() - _DEEP)
            new = _around(delays, inside)
            if new[1] - new[0] > 0.5 * (high - low) and low <= new[0] and new[1] <= high:
                break
            low, high = new
        weights = np.exp(logs - logs.max())
        mean = float(np.average(delays, weights=weights))
        deviation = math.sqrt(float(np.average((delays - mean) ** 2, weights=weights)))
        return _Found(float(logs.max()), mean, deviation, window_s)

    def _both(self) -> _Found:
        """The likelihood over delay and window; over where the window ends and its middle.

        The middle of the window is known better than either of its ends.
        """
        middle = self._begin_s + self._window_s / 2.0
        reach_s = 4.0 * self._step_s + self._window_s / 2.0 + 0.5 * (self._refresh or 0.0)
        widest_s = 2.0 * min(self._longest_s, max(1.0, 2.0 * self._window_s))
        box = [middle - reach_s, middle + reach_s, 0.0, widest_s]
        box[0] = max(0.0, box[0])
        for _ in range(_ZOOMS):
            middles = np.linspace(box[0], box[1], _GRID)
            windows = np.linspace(box[2], box[3], _GRID)
            logs = np.full((_GRID, _GRID), -np.inf)
            for row, mid in enumerate(middles):
                for column, window_s in enumerate(windows):
                    if mid - window_s / 2.0 >= 0.0:
                        logs[row, column] = self._log_likelihood(
                            float(mid - window_s / 2.0), float(window_s)
                        )
            rows, columns = np.nonzero(logs > logs.max() - _DEEP)
            new = list(box)
            for at, cells, grid in ((0, rows, middles), (2, columns, windows)):
                new[at : at + 2] = _around(grid, np.unique(cells))
            shrunk = [(new[at + 1] - new[at]) / (box[at + 1] - box[at]) for at in (0, 2)]
            held = all(box[at] <= new[at] and new[at + 1] <= box[at + 1] for at in (0, 2))
            if min(shrunk) > 0.5 and held:
                break
            box = new
        weights = np.exp(logs - logs.max())
        delays = middles[:, None] - windows[None, :] / 2.0
        mean = float(np.average(delays, weights=weights))
        deviation = math.sqrt(float(np.average((delays - mean) ** 2, weights=weights)))
        window_s = float(np.average(np.broadcast_to(windows, weights.shape), weights=weights))
        return _Found(float(logs.max()), max(0.0, mean), deviation, window_s)

    def _too_small(self, step_w: float | None = None, scatter_w: float | None = None) -> Exception:
        said = ""
        if step_w is not None and scatter_w is not None:
            said = f": {step_w:.3g} W, where its values scatter by {scatter_w:.3g} W"
        return StepLoadError(
            "the load changes the power by less than the meter can tell" + said + ". Stop other "
            "programs and try again; a meter that cannot tell this load cannot tell phases either"
        )


def _around(grid: _Array, inside: NDArray[np.int64]) -> tuple[float, float]:
    """The part of a grid that has these places; wider where they come to its end, not below 0."""
    step = float(grid[1] - grid[0])
    wide = float(grid[-1] - grid[0]) / 2.0
    low = grid[inside[0]] - (wide if inside[0] == 0 and grid[0] > 0.0 else step)
    high = grid[inside[-1]] + (wide if inside[-1] == len(grid) - 1 else step)
    return max(0.0, float(low)), float(high)
