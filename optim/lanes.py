"""A device's training as convex pieces: a law of its frequency, or one piece for each step.

A device whose frequency is continuous has one *lane*: its law P_act + c f + κ f³ between its
limits. A device with discrete steps, by its law or measured, has a lane for each step that can be
the best one: at a fixed frequency its energy and its time are proportional to its samples. The
problem of a lane is convex; the best of a device is the best of its lanes. docs/model.md (13)-(16),
(37).

* :class:`EnergyWeights`  which energies are minimised, device by device
* :class:`Lanes`          all lanes of a fleet, as arrays
* :func:`lanes_of`        the lanes of a problem
* :func:`merged`         several parts of the lanes of a fleet
* :func:`useful_steps`    the steps of a device that can be the best one
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.energy.cost_model import Array
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.problem import FimiProblem, Objective

Rows = NDArray[np.intp]

_NO_KAPPA = 1e-300
"""κ of a lane at a fixed frequency, whose whole power is P_act."""


class EnergyWeights(Struct, frozen=True, eq=False):
    """How much a joule of each device counts.

    Attributes:
        dynamic: of compute and upload above idle, (I,), > 0.
        board: of what only a meter of the board sees, (I,): idle power, receiving.
    """

    dynamic: Array
    board: Array

    @classmethod
    def of(cls, problem: FimiProblem, objective: Objective | None = None) -> EnergyWeights:
        """The weights of an objective, that of the problem if left out."""
        board = (objective or problem.objective) == "board"
        return cls(np.ones(problem.size), np.full(problem.size, 1.0 if board else 0.0))


class Lanes(Struct, frozen=True, eq=False):
    """Lanes of a fleet, shape (L,), those of a device next to each other.

    Attributes:
        owner: index of the device.
        starts: index of the first lane of each device, (I,).
        step: index of the step; −1 for a law.
        cycles: E C, cycles of a sample in a round.
        sample_j: energy that a sample costs at every speed, as weighted, J.
        kappa: κ, as weighted, W/Hz³.
        active_w: power while computing at every frequency, as weighted, W.
        lowest_hz: lowest frequency.
        highest_hz: highest frequency.
        floor_hz: f0, the frequency below which nothing is saved, (14).
        log_low: log of the least D.
        log_high: log of the largest D.
        log_weight: log w α of the power law of the error.
        beta: its exponent.
    """

    owner: Rows
    starts: Rows
    step: Rows
    cycles: Array
    sample_j: Array
    kappa: Array
    active_w: Array
    lowest_hz: Array
    highest_hz: Array
    floor_hz: Array
    log_low: Array
    log_high: Array
    log_weight: Array
    beta: Array

    @property
    def size(self) -> int:
        """L, the number of lanes."""
        return self.owner.size

    @property
    def fixed(self) -> NDArray[np.bool_]:
        """Whether the frequency of a lane is fixed, (L,)."""
        return self.lowest_hz >= self.highest_hz

    @property
    def single(self) -> bool:
        """Whether every device has one lane."""
        return self.size == self.starts.size

    def least(self, values: Array) -> Rows:
        """The first lane of least value of each device, (..., I), for values (..., L)."""
        if self.single:
            return np.asarray(np.broadcast_to(np.arange(self.size), values.shape))
        best = np.minimum.reduceat(values, self.starts, axis=-1)
        ties = np.where(values <= best[..., self.owner], np.arange(self.size), self.size)
        return np.asarray(np.minimum.reduceat(ties, self.starts, axis=-1))


def lanes_of(
    problem: FimiProblem, weights: EnergyWeights, samples_min: Array, samples_max: Array
) -> Lanes:
    """The lanes of a problem.

    Args:
        problem: laws, steps, measured powers.
        weights: which energies count.
        samples_min: least D that any feasible plan gives a device, (I,).
        samples_max: largest D, (I,).
    """
    owner: list[int] = []
    step: list[int] = []
    power: list[float] = []
    starts: list[int] = []
    for i, hertz in enumerate(problem.frequency_steps_hz):
        starts.append(len(owner))
        if not hertz:
            owner.append(i)
            step.append(-1)
            power.append(math.nan)
            continue
        watts = step_power_w(problem, i)
        for k in useful_steps(hertz, watts):
            owner.append(i)
            step.append(k)
            power.append(watts[k])
    own, steps, watts_of = np.array(owner), np.array(step), np.array(power)
    law = steps < 0
    at = np.array(
        [
            problem.frequency_steps_hz[i][k] if k >= 0 else math.nan
            for i, k in zip(owner, step, strict=True)
        ]
    )
    lowest = np.where(law, problem.frequency_min_hz[own], at)
    highest = np.where(law, problem.frequency_max_hz[own], at)
    counted = weights.dynamic[own]
    kappa = np.where(law, problem.capacitance_w_per_hz3[own] * counted, _NO_KAPPA)
    active = np.where(law, problem.active_power_w[own], watts_of) * counted
    linear = np.where(law, problem.linear_power_w_per_hz[own], 0.0)
    cycles = problem.cycles_per_pass[own]
    received = (weights.board * problem.synthetic_j / problem.rounds)[own]
    curve = problem.curve or LearningCurve(alpha=1.0, beta=1.0)
    with np.errstate(divide="ignore"):
        # A device's error is w α (g D^s)^(−β): a power law again.
        log_weight = np.log(problem.weights) + math.log(curve.alpha)
        log_weight = log_weight - curve.beta * np.log(problem.worth_scale)
        log_low, log_high = np.log(samples_min), np.log(samples_max)
    with np.errstate(over="ignore"):  # of lanes without κ: their frequency is given
        floor_hz = np.clip(np.cbrt(active / (2.0 * kappa)), lowest, highest)
    return Lanes(
        owner=own,
        starts=np.array(starts),
        step=steps,
        cycles=cycles,
        sample_j=linear * cycles * counted + received,
        kappa=kappa,
        active_w=active,
        lowest_hz=lowest,
        highest_hz=highest,
        floor_hz=floor_hz,
        log_low=log_low[own],
        log_high=log_high[own],
        log_weight=log_weight[own],
        beta=(curve.beta * problem.worth_exponent)[own],
    )


def merged(parts: Sequence[Lanes]) -> Lanes:
    """The lanes of several parts of one fleet, those of a device next to each other again."""
    owner = np.concatenate([part.owner for part in parts])
    order = np.argsort(owner, kind="stable")
    columns = {
        field: np.concatenate([getattr(part, field) for part in parts])[order]
        for field in Lanes.__struct_fields__
        if field != "starts"
    }
    return Lanes(starts=np.flatnonzero(np.diff(columns["owner"], prepend=-1)), **columns)


def step_power_w(problem: FimiProblem, device: int) -> tuple[float, ...]:
    """Power above idle at each step of a device, W: as measured, else by its law."""
    if problem.step_power_w[device]:
        return problem.step_power_w[device]
    kappa, linear = problem.capacitance_w_per_hz3[device], problem.linear_power_w_per_hz[device]
    active = problem.active_power_w[device]
    return tuple(
        float(kappa * hertz**3 + linear * hertz + active)
        for hertz in problem.frequency_steps_hz[device]
    )


def useful_steps(hertz: tuple[float, ...], watts: tuple[float, ...]) -> list[int]:
    """Steps that take less energy a sample than every faster one, ascending; the last is one.

    Any other step is slower and takes no less: it is never the best.
    """
    useful: list[int] = []
    least = math.inf
    for k in reversed(range(len(hertz))):
        joules = watts[k] / hertz[k]  # of a cycle
        if joules < least:
            useful.append(k)
            least = joules
    return useful[::-1]
