"""From a plan in real numbers to one a fleet can run: whole samples, settable frequencies.

1. :func:`whole_samples` rounds the data amounts so that the learning constraint still holds.
2. :func:`realise` gives each device the lowest frequency it can set that still meets its compute
   window, gives the time that this frees to the upload and solves (P3) again. Where frequencies are
   discrete, a descent over single steps (one device one step up or down) follows, because
   rounding every device up is rarely the best of the discrete plans.

docs/model.md, section "What a fleet can run".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.energy.cost_model import Array, OperatingPoint
from fimi.optim.categories import fill
from fimi.optim.feasibility import require_feasible
from fimi.optim.inner import InnerSolver, UploadSolution
from fimi.optim.plans import DeviceShare
from fimi.optim.problem import FimiProblem, InfeasibleError

Samples = NDArray[np.int64]

_SLACK = 1e-9
_SPLIT_EDGE = 1e-9
_DESCENT_DEVICES_MAX = 300
_BLENDS = np.linspace(0.0, 1.0, 33)


class RunnablePlan(Struct, frozen=True, eq=False):
    """A plan in whole samples and settable frequencies, shape (I,) each.

    Attributes:
        samples: D.
        frequency_hz: f.
        compute_s: t_cmp = E C D / f.
        compute_j: e_cmp.
        upload_s: t_com, all the time that is left.
        upload_j: e_com.
        bandwidth_hz: b.
        power_w: p.
    """

    samples: Samples
    frequency_hz: Array
    compute_s: Array
    compute_j: Array
    upload_s: Array
    upload_j: Array
    bandwidth_hz: Array
    power_w: Array

    @property
    def energy_j(self) -> float:
        """Dynamic energy of the fleet in one round."""
        return float(self.compute_j.sum() + self.upload_j.sum())

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
                ),
                compute_s=float(self.compute_s[i]),
                upload_s=float(self.upload_s[i]),
                compute_j=float(self.compute_j[i]),
                upload_j=float(self.upload_j[i]),
            )
            for i, device in enumerate(problem.devices)
        )


def whole_samples(inner: InnerSolver, samples: Array, tau: Array) -> Samples:
    """Round a feasible D, (I,): up for as few devices as the learning constraint allows.

    Devices with time for one more sample, by the splits ``tau``, (I,), are rounded up first.
    """
    problem = inner.problem
    down = np.maximum(np.floor(samples + 1e-6), problem.local_samples)
    up = np.minimum(np.ceil(samples - 1e-6), inner.samples_max)
    up = np.maximum(up, down)
    if not inner.bound_by_error:
        return down.astype(np.int64)
    per_sample = problem.cycles_per_pass / problem.frequency_max_hz
    in_time = per_sample * up <= tau * problem.t_max_s
    order = np.lexsort((-(samples - down), ~in_time))
    limit = problem.error_max * (1.0 + _SLACK)
    chosen = down
    # No data at all has an infinite error: one sample is the least.
    chosen = np.where((chosen == 0) & (problem.weights > 0), up, chosen)
    for device in order:
        if problem.error(chosen) <= limit:
            break
        chosen[device] = up[device]
    return np.asarray(chosen, dtype=np.int64)


def realise(
    inner: InnerSolver, samples: Array, tau: Array, leanest_tau: Callable[[], Array]
) -> RunnablePlan:
    """The plan with D and τ in real numbers, (I,) each, as it will run.

    ``leanest_tau`` gives the splits that need the least bandwidth; it is used if rounding up needs
    more time than there is.

    Raises:
        InfeasibleError: no split that was tried has room for whole samples.
    """
    problem = inner.problem
    whole = whole_samples(inner, samples, tau)
    cycles = problem.cycles_per_pass * whole
    frequencies = _frequencies(inner, cycles, tau[None])
    energy, feasible, _ = _cost(inner, cycles, frequencies)
    if not feasible.any():
        blends = tau + _BLENDS[:, None] * (leanest_tau() - tau)
        frequencies = _frequencies(inner, cycles, blends)
        energy, feasible, _ = _cost(inner, cycles, frequencies)
    if not feasible.any():
        raise InfeasibleError(
            "learning error: plans exist with fractions of samples, but rounded to whole samples "
            "they run out of time or bandwidth; a slightly larger error_max, t_max_s or "
            "bandwidth_hz is feasible",
            constraint="learning error",
            devices=problem.devices,
        )
    first = int(np.argmin(np.where(feasible, energy, np.inf)))
    frequency = _descend(inner, cycles, frequencies[first], float(energy[first]))
    _, _, upload = _cost(inner, cycles, frequency[None])
    power = problem.capacitance_w_per_hz3 * frequency**3 + problem.active_power_w
    compute_s = cycles / frequency
    return RunnablePlan(
        samples=whole,
        frequency_hz=frequency,
        compute_s=compute_s,
        compute_j=power * compute_s,
        upload_s=problem.t_max_s - compute_s,
        upload_j=upload.energy_j[0],
        bandwidth_hz=upload.bandwidth_hz[0],
        power_w=np.minimum(upload.power_w[0], problem.transmit_power_max_w),
    )


def leanest_plan(inner: InnerSolver) -> RunnablePlan:
    """The runnable plan at the time splits of least bandwidth.

    Raises:
        InfeasibleError: there is none in real numbers, or none in whole samples.
    """
    tau = require_feasible(inner).tau
    samples = inner.evaluate(tau[None]).compute.samples[0]
    return realise(inner, samples, tau, lambda: tau)


def _frequencies(inner: InnerSolver, cycles: Array, tau: Array) -> Array:
    """The frequency that each device needs to train within τ T, (S, I)."""
    problem = inner.problem
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(cycles > 0, cycles / (tau * problem.t_max_s), 0.0)
    wanted = np.clip(needed, inner.floor_hz, problem.frequency_max_hz)
    return np.stack([settable(inner, row) for row in wanted])


def settable(inner: InnerSolver, frequency_hz: Array) -> Array:
    """The lowest frequency each device can set that is not below the wanted one, (I,)."""
    chosen = np.array(frequency_hz, float)
    for i, steps in enumerate(inner.problem.frequency_steps_hz):
        if steps:
            place = int(np.searchsorted(steps, frequency_hz[i] * (1.0 - _SLACK)))
            chosen[i] = steps[min(place, len(steps) - 1)]
    return chosen


def _cost(
    inner: InnerSolver, cycles: Array, frequency_hz: Array
) -> tuple[Array, NDArray[np.bool_], UploadSolution]:
    """Energy and feasibility of frequencies (S, I) at fixed cycles (I,), bandwidth optimal."""
    problem = inner.problem
    compute_s = cycles / frequency_hz
    left_s = problem.t_max_s - compute_s
    upload = inner.upload(np.maximum(left_s, 1e-9 * problem.t_max_s))
    power = problem.capacitance_w_per_hz3 * frequency_hz**3 + problem.active_power_w
    energy = (power * compute_s + upload.energy_j).sum(axis=1)
    feasible = (left_s > 0).all(axis=1) & (upload.violation <= _SLACK)
    return energy, feasible, upload


def _descend(inner: InnerSolver, cycles: Array, frequency_hz: Array, energy_j: float) -> Array:
    """The best plan reachable by moving one device by one frequency step at a time."""
    steps = inner.problem.frequency_steps_hz
    stepped = [i for i, row in enumerate(steps) if len(row) > 1]
    if len(stepped) > _DESCENT_DEVICES_MAX:
        return frequency_hz  # the cost of a pass of moves grows with the square of the fleet
    current = frequency_hz
    for _ in range(8 * len(stepped)):
        moves = []
        for i in stepped:
            place = int(np.searchsorted(steps[i], current[i] * (1.0 - _SLACK)))
            for neighbour in (place - 1, place + 1):
                if 0 <= neighbour < len(steps[i]):
                    move = current.copy()
                    move[i] = steps[i][neighbour]
                    moves.append(move)
        if not moves:
            break
        candidates = np.stack(moves)
        energy, feasible, _ = _cost(inner, cycles, candidates)
        energy = np.where(feasible, energy, np.inf)
        best = int(np.argmin(energy))
        if energy[best] >= energy_j * (1.0 - 1e-12):
            break
        current, energy_j = candidates[best], float(energy[best])
    return current
