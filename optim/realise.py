"""From a plan in real numbers to one a fleet can run: whole samples, settable speeds.

1. :func:`whole_samples` rounds the data amounts so that the learning constraint still holds.
2. :func:`realise` gives each device its speed for them and solves (P3) again. Where devices have
   steps, :mod:`fimi.optim.steps` then looks for a better choice of steps, samples and length of the
   round.
3. :func:`least_whole_work` is the last resort: if any plan in whole samples exists, there is one on
   the samples that need the least bandwidth.

docs/model.md, section "What a fleet can run".
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.energy.cost_model import Array, OperatingPoint
from fimi.optim.categories import fill
from fimi.optim.feasibility import refusal
from fimi.optim.inner import InnerSolver, UploadSolution
from fimi.optim.joint import solve
from fimi.optim.leanest import Leanest
from fimi.optim.plans import DeviceShare
from fimi.optim.problem import FimiProblem, InfeasibleError
from fimi.optim.spending import limited, over_s, ranked, spent_j
from fimi.optim.whole import least_whole

Samples = NDArray[np.int64]
Rows = NDArray[np.intp]

_SLACK = 1e-9
_SPLIT_EDGE = 1e-9
_BLENDS = np.linspace(0.0, 1.0, 33)
_MORE_MAX = 10_000
_STRETCHES = 1.0 + np.array([0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2])


class Work(Struct, frozen=True, eq=False):
    """What S candidates do, (S, I) each but for the round.

    Attributes:
        samples: D, whole numbers.
        lane: the lane of each device.
        frequency_hz: f.
        round_s: length of the round, (S,).
    """

    samples: Array
    lane: Rows
    frequency_hz: Array
    round_s: Array

    def row(self, number: int) -> Work:
        """One candidate, S = 1."""
        pick = slice(number, number + 1)
        return Work(
            self.samples[pick], self.lane[pick], self.frequency_hz[pick], self.round_s[pick]
        )


class WorkCosts(Struct, frozen=True, eq=False):
    """What candidates cost.

    Attributes:
        energy_j: the objective, (S,); infinite where a candidate is not feasible, and above that of
            all others where it does not keep the budgets.
        upload: (P3) in the time that is left.
    """

    energy_j: Array
    upload: UploadSolution


class RunnablePlan(Struct, frozen=True, eq=False):
    """A plan in whole samples and settable speeds, shape (I,) each.

    Attributes:
        samples: D.
        frequency_hz: f.
        settings: names of the measured operating points; empty where only a frequency is set.
        compute_s: t_cmp = E C D / f.
        compute_j: e_cmp.
        upload_s: t_com.
        upload_j: e_com, with its joules per bit.
        bandwidth_hz: b.
        power_w: p.
        round_s: length of the round, s.
    """

    samples: Samples
    frequency_hz: Array
    settings: tuple[str, ...]
    compute_s: Array
    compute_j: Array
    upload_s: Array
    upload_j: Array
    bandwidth_hz: Array
    power_w: Array
    round_s: float

    @property
    def dynamic_j(self) -> float:
        """Compute and upload above idle, of the fleet in one round, J."""
        return float(self.compute_j.sum() + self.upload_j.sum())

    def preparation_j(self, problem: FimiProblem) -> float:
        """Board energy of receiving the synthetic samples, once in a run, J."""
        made = self.samples - problem.local_samples
        return float((problem.synthetic_j * made).sum())

    def board_j(self, problem: FimiProblem) -> float:
        """Energy of the boards in one round with its share of the preparation, J."""
        receiving = float((problem.receive_power_w * problem.receive_s).sum())
        idle = float(problem.idle_power_w.sum()) * self.round_s
        return self.dynamic_j + receiving + idle + self.preparation_j(problem) / problem.rounds

    def spent_j(self, problem: FimiProblem) -> Array:
        """What each device uses in all rounds, J, (I,)."""
        bits_j = problem.energy_per_bit_j * problem.payload_bits
        worn_j = self.compute_j + self.upload_j - bits_j
        return spent_j(problem, worn_j, self.samples.astype(float), self.round_s)

    def shares(self, problem: FimiProblem, time_splits: Array) -> tuple[DeviceShare, ...]:
        """The plan device by device, with synthetic samples spread over the classes by (P4).

        The time splits, (I,), are moved off 0 and 1, where no device can be.
        """
        splits = np.clip(time_splits, _SPLIT_EDGE, 1.0 - _SPLIT_EDGE)
        return tuple(
            DeviceShare(
                device=device,
                synthetic_counts=fill(
                    problem.local_counts[i], int(self.samples[i] - problem.local_samples[i])
                ),
                samples=int(self.samples[i]),
                point=OperatingPoint(
                    frequency_hz=float(self.frequency_hz[i]),
                    bandwidth_hz=float(self.bandwidth_hz[i]),
                    transmit_power_w=float(self.power_w[i]),
                    time_split=float(splits[i]),
                    setting=self.settings[i],
                ),
                compute_s=float(self.compute_s[i]),
                upload_s=float(self.upload_s[i]),
                compute_j=float(self.compute_j[i]),
                upload_j=float(self.upload_j[i]),
            )
            for i, device in enumerate(problem.devices)
        )


def whole_samples(
    inner: InnerSolver, samples: Array, window_s: Array, spare: Array | None = None
) -> Samples:
    """Round a feasible D, (I,): up for as few devices as the learning constraint allows.

    Devices with time for one more sample in their windows, (I,), are rounded up first. Those whose
    budgets have no room for it, ``spare`` (I,) samples, are not as long as others can have more.
    """
    problem = inner.problem
    down = np.maximum(np.floor(samples + 1e-6), problem.local_samples)
    up = np.minimum(np.ceil(samples - 1e-6), inner.samples_max)
    up = np.maximum(up, down)
    if not inner.bound_by_error:
        return down.astype(np.int64)
    spare = np.full(problem.size, np.inf) if spare is None else spare
    short = up - samples > spare
    per_sample = problem.cycles_per_pass / problem.frequency_max_hz
    in_time = per_sample * up <= window_s
    order = np.lexsort((-(samples - down), ~in_time, short))
    limit = problem.error_max * (1.0 + _SLACK)
    chosen = down
    # No data at all has an infinite error: one sample is the least.
    chosen = np.where((chosen == 0) & (problem.weights > 0), up, chosen)
    for device in order:
        if problem.error(chosen) <= limit:
            break
        if short[device]:
            chosen = _more(inner, chosen, samples, spare, limit)
            if problem.error(chosen) <= limit:
                break
        chosen[device] = max(up[device], chosen[device])
    return np.asarray(chosen, dtype=np.int64)


def _more(inner: InnerSolver, chosen: Array, samples: Array, spare: Array, limit: float) -> Array:
    """More samples than rounding up gives, one by one, where budgets have room for them."""
    problem, chosen = inner.problem, chosen.copy()
    room = np.minimum(np.floor(samples + spare), inner.samples_max)
    for _ in range(_MORE_MAX):
        better = inner.errors(chosen) - inner.errors(chosen + 1.0)
        better = np.where(chosen + 1.0 <= room, better, 0.0)
        if problem.error(chosen) <= limit or not better.max() > 0:
            break
        chosen[int(np.argmax(better))] += 1.0
    return chosen


def realise(
    inner: InnerSolver,
    samples: Array,
    lane: Rows,
    window_s: Array,
    round_s: float,
    leanest: Callable[[], Leanest],
) -> Work | None:
    """The work of a plan with D and windows in real numbers, (I,) each: one candidate.

    ``leanest`` gives the plan that needs the least bandwidth; it is used if rounding up needs more
    time than there is. ``None``: no split that was tried has room for whole samples.
    """
    spare = _spare(inner, samples, lane, window_s, round_s) if limited(inner.problem) else None
    whole = whole_samples(inner, samples, window_s, spare).astype(float)
    work = _nearest(inner, whole, lane, window_s, round_s)
    if work is not None:
        return work
    longest = inner.problem.round_max_s
    windows = window_s + _BLENDS[:, None] * (leanest().window_s - window_s)
    return _best(inner, _work(inner, whole, windows, round_s + _BLENDS * (longest - round_s)))


def _spare(
    inner: InnerSolver, samples: Array, lane: Rows, window_s: Array, round_s: float
) -> Array:
    """How many samples more the budget of each device has room for, (I,), in real numbers."""
    problem = inner.problem
    work = _work(inner, samples, window_s[None], np.array([round_s]), lane)
    spent = _spent(inner, work, cost(inner, work).upload)[0]
    once = inner.training_j(problem.cycles_per_pass, work.frequency_hz[0], work.lane[0])
    each_j = problem.rounds * once + problem.synthetic_j
    return np.asarray((problem.budget_j - spent) / np.maximum(each_j, 1e-300))


def least_whole_work(inner: InnerSolver) -> Work:
    """Work on the whole samples that need the least bandwidth: the last resort of every plan.

    Speeds, band and length of the round are those of least energy for these samples.

    Raises:
        InfeasibleError: no plan in whole samples exists.
    """
    problem = inner.problem
    whole = least_whole(problem, enough_hz=problem.bandwidth_hz)
    if whole.bandwidth_hz > problem.bandwidth_hz * (1.0 + _SLACK):
        raise refusal(problem)
    samples = whole.samples
    cycles = problem.cycles_per_pass * samples
    fixed = msgspec.structs.replace(
        problem,
        local_counts=samples.astype(np.int64)[:, None],
        generated_max=np.zeros(problem.size),
        error_max=math.inf,
    )
    found: list[Work] = []
    with contextlib.suppress(InfeasibleError):  # by rounding, where there is one plan only
        solution = solve(InnerSolver(fixed, inner.weights))
        chosen = solution.evaluation.compute
        work = _nearest(inner, samples, chosen.lane[0], chosen.time_s[0], solution.round_s)
        found = [work] if work is not None else []
    at_once = cycles / problem.frequency_max_hz
    work = _best(inner, _work(inner, samples, at_once[None], np.array([problem.round_max_s])))
    found += [work] if work is not None else []
    if not found:
        raise refusal(problem)
    return min(found, key=lambda each: cost(inner, each).energy_j[0])


def _nearest(
    inner: InnerSolver, samples: Array, lane: Rows, window_s: Array, round_s: float
) -> Work | None:
    """The best work on whole samples, (I,), at windows and a length of the round, or next to it."""
    rounds = np.array([round_s])
    if inner.free_round:  # rounding up may take a little more time than a tight round has
        rounds = np.minimum(round_s * _STRETCHES, inner.problem.round_max_s)
    windows = np.repeat(window_s[None], len(rounds), axis=0)
    return _best(
        inner,
        _work(inner, samples, windows, rounds, lane),
        _work(inner, samples, windows, rounds),
    )


def _best(inner: InnerSolver, *works: Work) -> Work | None:
    """The candidate of least energy; ``None`` if none is feasible."""
    best, best_j = None, math.inf
    for work in works:
        energies = cost(inner, work).energy_j
        first = int(np.argmin(energies))
        if energies[first] < best_j:
            best, best_j = work.row(first), float(energies[first])
    return best


def _work(
    inner: InnerSolver,
    samples: Array,
    window_s: Array,
    round_s: Array,
    lane: Rows | None = None,
) -> Work:
    """Work on whole samples, (I,), within windows, (S, I): in given lanes, or by the windows.

    By the windows a device with steps gets its slowest useful one that is fast enough.
    """
    lanes = inner.lanes
    cycles = inner.problem.cycles_per_pass * samples
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(cycles > 0, cycles / np.maximum(window_s, 1e-300), 0.0)
    if lane is None:
        fast = lanes.highest_hz >= needed[:, lanes.owner] * (1.0 - _SLACK)
        last = np.append(lanes.starts[1:], lanes.size) - 1
        first = np.where(fast, np.arange(lanes.size), lanes.size)
        lane = np.minimum(np.minimum.reduceat(first, lanes.starts, axis=1), last)
    lane = np.broadcast_to(lane, window_s.shape)
    frequency = np.clip(needed, lanes.floor_hz[lane], lanes.highest_hz[lane])
    return Work(np.broadcast_to(samples, window_s.shape), lane, frequency, round_s)


def cost(inner: InnerSolver, work: Work, counted: InnerSolver | None = None) -> WorkCosts:
    """The objective of candidates, bandwidth and power optimal; infinite where not feasible.

    ``counted``: weighs the joules of the objective, if not as bandwidth and power are chosen.
    """
    problem = inner.problem
    cycles = problem.cycles_per_pass * work.samples
    compute_s = cycles / work.frequency_hz
    left_s = inner.windows_s(work.round_s) - compute_s
    upload = inner.upload(np.maximum(left_s, 1e-9 * problem.t_max_s))
    energy = (counted or inner).objective_j(
        inner.training_j(cycles, work.frequency_hz, work.lane),
        upload.energy_j,
        work.samples,
        work.round_s,
    )
    feasible = (left_s > 0).all(axis=1) & (upload.violation <= _SLACK)
    if inner.bound_by_error:
        with np.errstate(divide="ignore"):
            error = inner.error_above_floor(np.log(work.samples))
        feasible &= error <= problem.error_budget + _SLACK * problem.error_max
    energy = np.where(feasible, energy, np.inf)
    if limited(problem):
        energy = ranked(problem, energy, _spent(inner, work, upload))
    return WorkCosts(energy, upload)


def _spent(inner: InnerSolver, work: Work, upload: UploadSolution) -> Array:
    """What each device of each candidate uses in all rounds, J, (S, I)."""
    problem = inner.problem
    cycles = problem.cycles_per_pass * work.samples
    training = inner.training_j(cycles, work.frequency_hz, work.lane)
    round_s = work.round_s
    if not inner.free_round:
        round_s = over_s(problem, cycles / work.frequency_hz, upload.time_s, round_s)
    return spent_j(problem, training + upload.energy_j, work.samples, round_s)


def runnable(inner: InnerSolver, work: Work) -> RunnablePlan:
    """The plan of one feasible candidate."""
    problem = inner.problem
    samples, lane, frequency = work.samples[0], work.lane[0], work.frequency_hz[0]
    upload = cost(inner, work).upload
    cycles = problem.cycles_per_pass * samples
    steps = inner.lanes.step[lane]
    compute_s = cycles / frequency
    round_s = float(work.round_s[0])
    if not inner.free_round:
        round_s = float(over_s(problem, compute_s, upload.time_s[0], round_s))
    return RunnablePlan(
        samples=samples.astype(np.int64),
        frequency_hz=frequency,
        settings=tuple(
            names[step] if step >= 0 and names else ""
            for names, step in zip(problem.step_names, steps, strict=True)
        ),
        compute_s=compute_s,
        compute_j=inner.training_j(cycles, frequency, lane),
        upload_s=upload.time_s[0],
        upload_j=upload.energy_j[0] + problem.energy_per_bit_j * problem.payload_bits,
        bandwidth_hz=upload.bandwidth_hz[0],
        power_w=np.minimum(upload.power_w[0], problem.transmit_power_max_w),
        round_s=round_s,
    )
