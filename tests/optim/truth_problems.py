"""Random problems of every kind that have a plan by construction.

A plan is drawn first, and the limits are laid around it: so every problem can be solved, its limits
bind or do not, and the plan is a first upper bound.

* :class:`Kind`       what a random problem is made of
* :func:`any_kind`    a random kind
* :func:`planted`     a random problem and the plan that it was built around
* :func:`problems`    Hypothesis: problems with the plans that they were built around
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
import numpy as np
from hypothesis import strategies as st
from msgspec import Struct

from fimi.energy.cost_model import Array, uplink_rate_bps
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.problem import FimiProblem, Objective
from tests.optim.truth_costs import Trial, cost_of

Processors = Literal["laws", "steps", "points", "mixed"]
PROCESSORS: tuple[Processors, ...] = ("laws", "steps", "points", "mixed")
Problem = tuple[FimiProblem, Trial]


class Kind(Struct, frozen=True, kw_only=True):
    """What a random problem is made of.

    Attributes:
        objective: ``board`` or ``dynamic``.
        processors: ``laws`` of any speed, laws at ``steps``, measured ``points``, or ``mixed``.
        settable: transmit powers that can be chosen: all, none, or some.
        electronics: whether radios take power besides the transmitted one.
        capped: whether radios have a cap on the rate.
        idle: whether boards take power at rest.
        synthetic: whether receiving synthetic samples costs something.
        receiving: whether devices receive the model for a while.
        limits: whether every device has a deadline of its own.
        budgets: whether there are budgets of joules.
        learning: whether there is a limit on the learning error.
        empty: whether a device may be without data, or without weight.
        worth: whether samples are worth something else than one.
        generated_max: most synthetic samples of a device.
        steps_max: most steps of a processor.
    """

    objective: Objective = "board"
    processors: Processors = "mixed"
    settable: Literal["all", "none", "some"] = "some"
    electronics: bool = True
    capped: bool = True
    idle: bool = True
    synthetic: bool = True
    receiving: bool = True
    limits: bool = True
    budgets: bool = False
    learning: bool = True
    empty: bool = False
    worth: bool = False
    generated_max: int = 40
    steps_max: int = 6


def any_kind(seed: int, **fixed: Any) -> Kind:
    """A random kind; what is given stays."""
    rng = np.random.default_rng([seed, 1])
    drawn: dict[str, Any] = {
        "objective": rng.choice(["board", "board", "dynamic"]),
        "processors": rng.choice(PROCESSORS),
        "settable": rng.choice(["all", "none", "some"]),
        "learning": rng.random() < 0.85,
        "empty": rng.random() < 0.25,
        "budgets": rng.random() < 0.25,
        "worth": rng.random() < 0.15,
        "generated_max": rng.choice([6, 20, 40]),
        "steps_max": rng.choice([2, 4, 8]),
    }
    for name in ("electronics", "capped", "idle", "synthetic", "receiving", "limits"):
        drawn[name] = rng.random() < 0.6
    return Kind(**({k: v.item() if hasattr(v, "item") else v for k, v in drawn.items()} | fixed))


def planted(seed: int, size: int, kind: Kind | None = None) -> Problem:
    """A random problem of a kind (any, if left out), and the plan that it was built around."""
    kind = any_kind(seed) if kind is None else kind
    rng = np.random.default_rng([seed, size])
    epochs = int(rng.integers(1, 6))
    per_sample = 10 ** rng.uniform(6.3, 7.5, size)
    local = rng.integers(0 if kind.empty else 1, 60, size)
    weights = rng.dirichlet(np.full(size, 4.0))
    if kind.empty and size > 1 and rng.random() < 0.5:
        weights[rng.integers(size)] = 0.0
        weights = weights / weights.sum()
    low = 10 ** rng.uniform(8.2, 8.8, size)
    high = low * 10 ** rng.uniform(0.2, 0.9, size)
    kappa = 10 ** rng.uniform(-28.5, -27.3, size)
    linear = rng.choice([0.0, 1.0], size) * 10 ** rng.uniform(-10.5, -9.3, size)
    active = rng.choice([0.0, 1.0], size) * rng.uniform(0.1, 2.0, size)
    steps, watts, names = [], [], []
    for i in range(size):
        own = kind.processors
        if own == "mixed":
            own = ("laws", "steps", "points")[int(rng.integers(3))]
        count = int(rng.integers(1, kind.steps_max + 1))
        row = np.sort(rng.uniform(low[i], high[i], count)) if own != "laws" else np.zeros(0)
        if row.size:
            low[i], high[i] = row[0], row[-1]
        law = active[i] + linear[i] * row + kappa[i] * row**3
        measured = law * rng.uniform(0.7, 1.4, row.size) if own == "points" else np.zeros(0)
        steps.append(tuple(row.tolist()))
        watts.append(tuple(measured.tolist()))
        names.append(tuple(f"point {k}" for k in range(measured.size)))
    generated_max = rng.integers(0, kind.generated_max + 1, size)
    samples = local + np.floor(rng.random(size) * (generated_max + 1))
    samples = np.where((samples == 0) & (weights > 0) & kind.learning, 1.0, samples)
    generated_max = np.maximum(generated_max, samples - local)
    speed = np.array(
        [rng.choice(row) if row else rng.uniform(low[i], high[i]) for i, row in enumerate(steps)]
    )
    settable = np.full(size, kind.settable == "all")
    if kind.settable == "some":
        settable = rng.random(size) < 0.5
    gain = 10 ** (-rng.uniform(8.5, 11.0, size))
    noise = 10 ** rng.uniform(-20.5, -19.5, size)
    power_max = 10 ** rng.uniform(-1.7, 0.0, size)
    power = np.where(settable, power_max * 10 ** rng.uniform(-1.5, 0.0, size), power_max)
    band = 10 ** rng.uniform(4.8, 6.3, size)
    rate = uplink_rate_bps(band, power, gain, noise)
    cap = np.full(size, np.inf)
    if kind.capped:
        cap = np.where(rng.random(size) < 0.6, rate * 10 ** rng.uniform(-0.5, 0.7, size), np.inf)
    rate = np.minimum(rate, cap)
    payload = rate * 10 ** rng.uniform(-0.5, 1.2, size)  # 0.3 to 16 s
    compute_s = epochs * per_sample * samples / speed
    receive_s = rng.uniform(0.2, 3.0, size) if kind.receiving else np.zeros(size)
    slack = 1.0 + 10 ** rng.uniform(-3.0, 0.0, size)
    t_max_s = (compute_s + payload / rate) * slack
    if not kind.limits:
        t_max_s = np.full(size, t_max_s.max())
    problem = FimiProblem(
        devices=tuple(f"device-{i}" for i in range(size)),
        local_counts=_classes(rng, local),
        epochs=epochs,
        cycles_per_sample=per_sample,
        capacitance_w_per_hz3=kappa,
        linear_power_w_per_hz=linear,
        active_power_w=active,
        frequency_min_hz=low,
        frequency_max_hz=high,
        frequency_steps_hz=tuple(steps),
        step_power_w=tuple(watts),
        step_names=tuple(names),
        channel_gain=gain,
        noise_density_w_per_hz=noise,
        transmit_power_max_w=power_max,
        power_settable=settable,
        rate_cap_bps=cap,
        electronics_power_w=rng.uniform(0.0, 1.5, size) if kind.electronics else np.zeros(1),
        energy_per_bit_j=10 ** rng.uniform(-9, -7, size) if kind.electronics else np.zeros(1),
        payload_bits=payload,
        t_max_s=t_max_s,
        bandwidth_hz=float(band.sum() * (1.0 + 10 ** rng.uniform(-3.0, 0.0))),
        generated_max=np.asarray(generated_max, float),
        weights=weights,
        idle_power_w=rng.uniform(0.0, 4.0, size) * (rng.random(size) < 0.8)
        if kind.idle
        else np.zeros(1),
        receive_s=receive_s,
        receive_power_w=rng.uniform(0.0, 1.0, size) if kind.receiving else np.zeros(1),
        synthetic_j=10 ** rng.uniform(-2.0, 0.5, size) if kind.synthetic else np.zeros(1),
        rounds=float(rng.integers(1, 40)),
        objective=kind.objective,
        worth_scale=rng.uniform(0.5, 1.0, size) if kind.worth else np.ones(1),
        worth_exponent=rng.uniform(0.7, 1.0, size) if kind.worth else np.ones(1),
    )
    trial = Trial(
        samples=samples, speed_hz=speed, bandwidth_hz=band, transmit_power_w=power, round_s=None
    )
    return _limits(rng, problem, trial, kind), trial


def _limits(
    rng: np.random.Generator, problem: FimiProblem, trial: Trial, kind: Kind
) -> FimiProblem:
    """Limits on the error and budgets that the plan keeps."""
    if kind.learning:
        curve = LearningCurve(
            alpha=float(10 ** rng.uniform(-0.3, 0.9)),
            beta=float(rng.uniform(0.15, 1.2)),
            delta0=float(rng.choice([0.0, 0.05])),
        )
        problem = msgspec.structs.replace(problem, curve=curve)
        error = problem.error(trial.samples)
        slack = 1.0 + 10 ** rng.uniform(-4.0, -0.5)
        limit = curve.delta0 + (error - curve.delta0) * slack
        problem = msgspec.structs.replace(problem, error_max=limit)
    if kind.budgets:
        costs = cost_of(problem, trial)
        own = problem.rounds * costs.device_board_j
        slack = 1.0 + 10 ** rng.uniform(-2.0, 0.0, problem.size)
        chosen = np.where(rng.random(problem.size) < 0.5, own * slack, np.inf)
        whole = math.fsum(own) * (1.0 + 10 ** rng.uniform(-2.0, 0.0))
        problem = msgspec.structs.replace(
            problem,
            budget_j=chosen,
            fleet_budget_j=float(whole) if rng.random() < 0.5 else math.inf,
        )
    return problem


def _classes(rng: np.random.Generator, local: Array) -> Any:
    """So many samples spread over three classes."""
    return np.array([rng.multinomial(int(count), [0.5, 0.3, 0.2]) for count in local])


@st.composite
def problems(draw: st.DrawFn, sizes: tuple[int, int] = (2, 2), **fixed: Any) -> Problem:
    """Problems with the plans that they were built around; ``fixed``: fields of the kind."""
    seed = draw(st.integers(0, 2**32 - 1))
    size = draw(st.integers(*sizes))
    return planted(seed, size, any_kind(seed, **fixed))
