"""The search where nothing is convex: measured power, discrete frequencies, whole samples.

A cost is any function of samples and frequencies (:class:`Cost`): a table of measured powers, a
fitted curve, a simulator. The cross-entropy method searches over each device's share of the data
and its frequency; the amounts are scaled to meet the learning constraint and rounded up to whole
samples, the frequency is one that the device can set, and the bandwidth of every candidate is
optimal by (P3). docs/model.md (37)-(38).

* :class:`Cost`       seconds and joules of training
* :class:`PowerTable` measured powers at the frequencies a device can set
* :func:`search`      the best operating point found
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from msgspec import Struct

from fimi.energy.cost_model import Array
from fimi.optim.cross_entropy import Iteration, SearchSettings, Stop, minimise
from fimi.optim.inner import InnerSolver, UploadSolution
from fimi.optim.problem import FimiProblem, InfeasibleError
from fimi.optim.realise import RunnablePlan

_BISECTIONS = 60
_REACH = 6.0


class Cost(Protocol):
    """Seconds and joules of training; called with many candidates at once."""

    def __call__(self, samples: Array, frequency_hz: Array) -> tuple[Array, Array]:
        """Seconds and joules of a round's training with whole D at f, all four (S, I)."""
        ...


class PowerTable(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Power above idle as measured while training, at the frequencies that can be set.

    Attributes:
        frequencies_hz: per device, ascending.
        powers_w: per device, one per frequency. They may even fall with the frequency.
        cycles_per_pass: E C, per device.
    """

    frequencies_hz: tuple[tuple[float, ...], ...]
    powers_w: tuple[tuple[float, ...], ...]
    cycles_per_pass: tuple[float, ...]

    def __post_init__(self) -> None:
        shapes = {len(self.frequencies_hz), len(self.powers_w), len(self.cycles_per_pass)}
        if len(shapes) != 1:
            raise ValueError("power table: give frequencies, powers and cycles for every device")
        for i, (steps, powers) in enumerate(zip(self.frequencies_hz, self.powers_w, strict=True)):
            good = len(steps) == len(powers) > 0 and list(steps) == sorted(set(steps))
            numbers = (*steps, *powers, self.cycles_per_pass[i])
            if not good or not all(math.isfinite(v) and v > 0 for v in numbers):
                raise ValueError(
                    f"power table of device {i}: frequencies must ascend, one power each, all "
                    f"finite and above 0; got {steps} Hz, {powers} W"
                )

    def __call__(self, samples: Array, frequency_hz: Array) -> tuple[Array, Array]:
        """Seconds and joules; the power between two frequencies of the table is interpolated."""
        seconds = np.asarray(self.cycles_per_pass) * samples / frequency_hz
        power = np.stack(
            [
                np.interp(frequency_hz[:, i], steps, powers)
                for i, (steps, powers) in enumerate(
                    zip(self.frequencies_hz, self.powers_w, strict=True)
                )
            ],
            axis=1,
        )
        return seconds, power * seconds


class OperatingPlan(RunnablePlan, frozen=True, eq=False):
    """The best operating point that was found. There is no bound on it.

    Attributes:
        history: history of the search.
        stop: why the search ended.
        evaluations: number of candidates that it evaluated.
    """

    history: tuple[Iteration, ...]
    stop: Stop
    evaluations: int


class _Space:
    """Maps points to whole samples and settable frequencies, and to their cost."""

    def __init__(
        self, problem: FimiProblem, cost: Cost, frequencies_hz: Sequence[Sequence[float]] | None
    ) -> None:
        self.inner = InnerSolver(problem)
        self.problem = problem
        self.cost = cost
        steps = problem.frequency_steps_hz if frequencies_hz is None else frequencies_hz
        self.steps = [np.asarray(row, float) for row in steps]
        if len(self.steps) != problem.size:
            raise ValueError(f"frequencies_hz: {len(self.steps)} rows for {problem.size} devices")
        self.learns = self.inner.bound_by_error
        self.low, self.high = problem.local_samples, self.inner.samples_max

    @property
    def dimension(self) -> int:
        return self.problem.size * (2 if self.learns else 1)

    def decode(self, z: Array) -> tuple[Array, Array]:
        """(38) Whole samples and settable frequencies, (S, I) each."""
        size = self.problem.size
        share = 1.0 / (1.0 + np.exp(-z[:, :size]))
        frequency = np.empty_like(share)
        for i, row in enumerate(self.steps):
            if row.size:
                place = np.minimum((share[:, i] * row.size).astype(int), row.size - 1)
                frequency[:, i] = row[place]
            else:
                lowest = self.problem.frequency_min_hz[i]
                width = self.problem.frequency_max_hz[i] - lowest
                frequency[:, i] = lowest + share[:, i] * width
        if not self.learns:
            return np.broadcast_to(self.low, share.shape), frequency
        return self._samples(z[:, size:]), frequency

    def _samples(self, z: Array) -> Array:
        """D proportional to e^z between its bounds, at the scale that just meets Δ_max."""
        least = np.where((self.problem.weights > 0) & (self.low == 0), 1.0, self.low)
        least = np.minimum(least, self.high)
        log_budget = math.log(self.problem.error_budget)
        base = np.log(np.maximum(self.high, 1.0)) + z
        low, high = np.full(len(z), -40.0), np.full(len(z), 40.0)

        def at(log_scale: Array) -> Array:
            wanted = np.exp(np.minimum(base + log_scale[:, None], 60.0))
            return np.asarray(np.clip(np.ceil(wanted), least, self.high))

        for _ in range(_BISECTIONS):
            middle = (low + high) / 2.0
            with np.errstate(divide="ignore"):  # devices without weight may have no data
                error = self.inner.error_above_floor(np.log(at(middle)))
            enough = np.log(error) <= log_budget + 1e-12
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return at(high)

    def evaluate(
        self, z: Array
    ) -> tuple[Array, Array, tuple[Array, Array, Array, Array, UploadSolution]]:
        """Energy, violation and all other results of points (S, n)."""
        samples, frequency = self.decode(z)
        seconds, joules = self.cost(samples, frequency)
        good = np.isfinite(seconds) & np.isfinite(joules) & (seconds >= 0)
        left = self.problem.t_max_s - np.where(good, seconds, np.inf)
        late = np.log1p(np.maximum(-left, 0.0) / self.problem.t_max_s)
        late = np.where(left > 0, 0.0, np.clip(late, 1e-9, 700.0))
        upload = self.inner.upload(np.where(left > 0, left, 0.0))
        violation = upload.violation + late.sum(axis=1)
        if self.learns:
            with np.errstate(divide="ignore"):  # devices without weight may have no data
                error = self.inner.error_above_floor(np.log(samples))
            short = np.log(error / self.problem.error_budget)
            violation = violation + np.where(short > 1e-9, short, 0.0)
        energy = np.where(good, joules, np.inf).sum(axis=1) + upload.energy_j.sum(axis=1)
        return energy, violation, (samples, frequency, seconds, joules, upload)


def search(
    problem: FimiProblem,
    cost: Cost,
    *,
    seed: int,
    settings: SearchSettings | None = None,
    frequencies_hz: Sequence[Sequence[float]] | None = None,
) -> OperatingPlan:
    """The best operating point for any cost of training.

    Args:
        problem: limits, links, data; its own model of computing is not used.
        cost: seconds and joules of training. A candidate for which it gives NaN or infinity is
            infeasible.
        seed: the same seed gives the same result.
        settings: settings of the search.
        frequencies_hz: frequencies that each device can set; an empty row means any frequency
            within its limits. The problem's own steps if left out.

    Raises:
        InfeasibleError: no feasible candidate was found. This is no proof: one may still exist.
    """
    space = _Space(problem, cost, frequencies_hz)
    settings = settings or SearchSettings()
    start = np.zeros(space.dimension)
    start[: problem.size] = 1.5  # near the highest frequency, so that the deadline holds
    result = minimise(
        lambda z: space.evaluate(z)[:2], start, seed=seed, settings=settings, reach=_REACH
    )
    if result.violation > 0:
        raise InfeasibleError(
            f"deadline: none of {result.evaluations} candidates met every limit; the nearest "
            f"breaks them by a factor of {math.exp(min(result.violation, 700.0)):.4g} in all. A "
            "longer t_max_s, a larger bandwidth_hz or error_max, or another seed may help",
            constraint="deadline",
            devices=problem.devices,
        )
    samples, frequency, seconds, joules, upload = space.evaluate(result.best[None])[2]
    return OperatingPlan(
        samples=samples[0].astype(np.int64),
        frequency_hz=frequency[0],
        compute_s=seconds[0],
        compute_j=joules[0],
        upload_s=problem.t_max_s - seconds[0],
        upload_j=upload.energy_j[0],
        bandwidth_hz=upload.bandwidth_hz[0],
        power_w=upload.power_w[0],
        history=result.history,
        stop=result.stop,
        evaluations=result.evaluations,
    )
