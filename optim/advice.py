"""What would make a plan possible: for each limit alone, the smallest change with which one exists.

A remedy holds for the plan that runs. It is computed in real numbers, rounded outwards to a short
decimal, and then tried as it is printed: a plan in whole samples must exist with it
(:func:`fimi.optim.whole.exists`), and whatever else the caller asks for. A limit that cannot help
alone is not named.

* :func:`remedies`  the remedies of a problem without a plan
* :class:`Remedies` the result
* :class:`Remedy`   one of them: its words, and the problem with it
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import msgspec
import numpy as np
from msgspec import Struct

from fimi.optim.leanest import least_bandwidth
from fimi.optim.problem import DURATION_MAX_S, FimiProblem
from fimi.optim.whole import FullSpeed, exists, least_whole
from fimi.optim.wording import named, outwards, smallest

Check = Callable[[FimiProblem], bool]

_TIME_FIRST, _TIME_LEAST = 1e-3, 1e-6
"""Later deadlines that are tried first, relative to the longest one."""
_TIME_FINE = 1e-5
_LOOSER = (1.0, 1.1, 1.5, 3.0)
"""Factors on a remedy that is enough for the limits but not for what else is asked for."""
_MADE_MAX = 2**40


class Remedy(Struct, frozen=True, eq=False, kw_only=True):
    """A change of a problem.

    Attributes:
        text: as it is printed.
        changed: the problem with it, the numbers being those that are printed.
    """

    text: str
    changed: FimiProblem


class Remedies(Struct, frozen=True, eq=False, kw_only=True):
    """What would make a plan possible, each alone; ``None`` for what does not help.

    Attributes:
        extra_s: by how much every deadline must be later, s.
        error_max: Δ_max.
        bandwidth_hz: B.
        generated_max: D_gen_max of the devices that are concerned.
        together: Δ_max and seconds for every deadline, where neither is enough alone.
        each: these with the problems that they make; may be followed together with more.
    """

    extra_s: float | None = None
    error_max: float | None = None
    bandwidth_hz: float | None = None
    generated_max: float | None = None
    together: tuple[float, float] | None = None
    each: tuple[Remedy, ...] = ()


def remedies(
    problem: FimiProblem, synthetic_value: float = 1.0, *, also: Check | None = None
) -> Remedies:
    """The remedies of a problem without a plan.

    Args:
        problem: the problem.
        synthetic_value: q, what a synthetic sample is worth in real ones.
        also: what must hold besides; tried with few problems that have a plan.
    """
    find = _Finder(problem, synthetic_value, also)
    extra_s, error_max, bandwidth_hz = find.extra_s(), find.error_max(), find.bandwidth_hz()
    concerned, generated = find.generated_max()
    each = []
    if extra_s is not None:
        each.append(Remedy(text=_of_time(extra_s), changed=_later(problem, extra_s)))
    if error_max is not None:
        changed = _with_error(problem, error_max)
        each.append(Remedy(text=_of_error(problem, error_max), changed=changed))
    if bandwidth_hz is not None:
        text = f"bandwidth_hz of at least {bandwidth_hz:g}"
        each.append(Remedy(text=text, changed=_with_band(problem, bandwidth_hz)))
    if generated is not None:
        text = f"generated_max of at least {generated:g}{concerned}"
        each.append(Remedy(text=text, changed=find.with_made(generated)))
    both = None if each else find.error_max_and_extra_s()
    if both is not None:
        text = f"{_of_error(problem, both[0])} together with {_of_time(both[1])}"
        each.append(Remedy(text=text, changed=_later(_with_error(problem, both[0]), both[1])))
    return Remedies(
        extra_s=extra_s,
        error_max=error_max,
        bandwidth_hz=bandwidth_hz,
        generated_max=generated,
        together=both,
        each=tuple(each),
    )


def _of_time(extra_s: float) -> str:
    """Later deadlines in words."""
    return f"every deadline extended by {extra_s:g} s"


def _later(problem: FimiProblem, extra_s: float) -> FimiProblem:
    late_s = np.minimum(problem.t_max_s + extra_s, DURATION_MAX_S)
    return msgspec.structs.replace(problem, t_max_s=late_s)


def _with_band(problem: FimiProblem, bandwidth_hz: float) -> FimiProblem:
    return msgspec.structs.replace(problem, bandwidth_hz=bandwidth_hz)


def _left_out(problem: FimiProblem, error_max: float) -> bool:
    """Whether a larger Δ_max means no limit: an error is a share."""
    return problem.error_max <= 1.0 < error_max


def _with_error(problem: FimiProblem, error_max: float) -> FimiProblem:
    error_max = math.inf if _left_out(problem, error_max) else error_max
    return msgspec.structs.replace(problem, error_max=error_max)


def _of_error(problem: FimiProblem, error_max: float) -> str:
    """A larger Δ_max in words."""
    if _left_out(problem, error_max):
        return "error_max left out"
    return f"error_max of at least {error_max:g}"


class _Finder:
    """Finds the remedies of one problem."""

    def __init__(self, problem: FimiProblem, value: float, also: Check | None) -> None:
        self._problem = problem
        self._value = value
        self._also = also
        fleet = FullSpeed(problem, value)
        most = problem.local_samples + problem.generated_max
        self._without = (fleet.low > most).nonzero()[0]
        """Devices whose error counts and that can have no data."""
        self._reachable = (
            not self._without.size
            and not fleet.error(np.maximum(most, fleet.low)).sum() > fleet.limit
        )
        alone = math.inf
        if (fleet.high >= fleet.low).all():
            alone = float(fleet.band_hz(fleet.low).sum())
        self._sends = alone <= problem.bandwidth_hz and not self._without.size
        self._binds = fleet.constrained
        self._bound_by_data = fleet.constrained and not self._reachable

    def extra_s(self) -> float | None:
        """By how much every deadline must be later."""
        if not self._reachable:
            return None
        problem = self._problem
        later = functools.partial(_later, problem)
        longest = float(problem.t_max_s.max())
        low, high = 0.0, max(_TIME_FIRST * longest, self._shortfall_s())
        if self._real(problem):
            high = _TIME_LEAST * longest
        else:
            while not self._real(later(high)):
                low, high = high, 2.0 * high
                if longest + high > DURATION_MAX_S:
                    return None
            while high - low > _TIME_FINE * high:
                middle = (low + high) / 2.0
                low, high = (low, middle) if self._real(later(middle)) else (middle, high)
        found = self._tried(smallest(high, lambda extra_s: self._exists(later(extra_s))), later)
        return None if found is None or longest + found > DURATION_MAX_S else found

    def _shortfall_s(self) -> float:
        """How much later a deadline must be for training alone, with the data there is, s; or 0."""
        problem = self._problem
        need_s = problem.cycles_per_pass * problem.local_samples / problem.frequency_max_hz
        return float((need_s - problem.t_max_s).max(initial=0.0))

    def error_max(self) -> float | None:
        """The smallest Δ_max."""
        if not (self._binds and self._sends):
            return None
        problem = self._problem
        lean = least_bandwidth(
            problem, band_limit_hz=problem.bandwidth_hz, synthetic_value=self._value
        )
        estimate = problem.error_max
        if math.isfinite(lean.error):
            estimate = max(estimate, lean.error * (1.0 - 1e-9) + problem.error_floor)
        with_error = functools.partial(_with_error, problem)
        return self._tried(smallest(estimate, lambda e: self._exists(with_error(e))), with_error)

    def bandwidth_hz(self) -> float | None:
        """The smallest B."""
        if not self._reachable:
            return None
        problem = self._problem
        needed = least_whole(problem, self._value).bandwidth_hz
        if not math.isfinite(needed):
            return None
        with_band = functools.partial(_with_band, problem)
        return self._tried(smallest(needed, lambda b: self._exists(with_band(b))), with_band)

    def generated_max(self) -> tuple[str, float | None]:
        """Which devices are to be given more synthetic data, and the smallest D_gen_max."""
        problem = self._problem
        if not self._bound_by_data or problem.error_budget <= 0.0:
            return "", None
        concerned = ""
        if self._without.size:
            concerned = f" for {named([problem.devices[i] for i in self._without])}"

        def holds(made: float) -> bool:
            return self._exists(self.with_made(made))

        low, high = 0.0, 1.0
        while not holds(high):
            low, high = high, 2.0 * high
            if high > _MADE_MAX:
                return "", None
        while high - low > 1.0:
            middle = float((low + high) // 2.0)
            low, high = (low, middle) if holds(middle) else (middle, high)
        return concerned, self._tried(outwards(high), self.with_made)

    def with_made(self, made: float) -> FimiProblem:
        """The problem with so large a D_gen_max of the devices that are concerned."""
        rows = self._without if self._without.size else slice(None)
        most = self._problem.generated_max.copy()
        most[rows] = np.maximum(most[rows], made)
        return msgspec.structs.replace(self._problem, generated_max=most)

    def error_max_and_extra_s(self) -> tuple[float, float] | None:
        """The smallest Δ_max that all the data allows, and by how much deadlines must be later."""
        problem = self._problem
        if not self._bound_by_data or self._without.size:
            return None
        fleet = FullSpeed(problem, self._value)
        most = float(fleet.error(problem.local_samples + problem.generated_max).sum())
        error_max = outwards(most + problem.error_floor)
        allowed = _with_error(problem, error_max)
        extra_s = _Finder(allowed, self._value, self._also).extra_s()
        return None if extra_s is None else (error_max, extra_s)

    def _real(self, problem: FimiProblem) -> bool:
        """Whether a plan in real numbers of samples exists."""
        lean = least_bandwidth(problem, synthetic_value=self._value)
        return lean.bandwidth_hz <= problem.bandwidth_hz

    def _exists(self, problem: FimiProblem) -> bool:
        return exists(problem, self._value)

    def _tried(self, value: float | None, change: Callable[[float], FimiProblem]) -> float | None:
        """The value, or one a little larger, with which everything holds that is asked for."""
        if value is None or self._also is None:
            return value
        for factor in _LOOSER:
            tried = outwards(value * factor)
            changed = change(tried)
            if self._exists(changed) and self._also(changed):
                return tried
        return None
