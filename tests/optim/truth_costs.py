"""What any plan of a problem costs and which limits it breaks, from the cost model alone.

Nothing here is shared with the solvers of :mod:`fimi.optim`: every number comes from the formulas
of :mod:`fimi.energy.cost_model` at the plan's own samples, speeds, bands and powers.

* :class:`Trial`     one plan as arrays, whoever made it
* :func:`trial_of`   the plan that a planner returned
* :func:`cost_of`    its seconds, its joules both ways, and by how much it breaks each limit
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct

from fimi.energy.cost_model import Array, compute_power_w, compute_time_s, uplink_rate_bps
from fimi.optim.plans import Plan
from fimi.optim.problem import FimiProblem

LN2 = math.log(2.0)
KEPT = 1e-9
"""A limit that is broken by less, relative to its value, is kept: rounding."""


class Trial(Struct, frozen=True, eq=False, kw_only=True):
    """One plan of a fleet.

    Attributes:
        samples: D, (I,).
        speed_hz: f, (I,); of a device without samples it does not count.
        bandwidth_hz: b, (I,).
        transmit_power_w: p, (I,).
        round_s: R; ``None``: when the last device is ready.
    """

    samples: Array
    speed_hz: Array
    bandwidth_hz: Array
    transmit_power_w: Array
    round_s: float | None = None


class Costs(Struct, frozen=True, eq=False, kw_only=True):
    """Seconds and joules of a round of a :class:`Trial`.

    Attributes:
        compute_s: t_cmp, (I,).
        upload_s: t_com, (I,).
        round_s: R.
        compute_j: e_cmp, (I,).
        upload_j: e_com, (I,).
        dynamic_j: Σ e_cmp + e_com, the paper's energy.
        device_board_j: board energy of each device, a round's share of its synthetic samples
            included, (I,).
        board_j: their sum.
        broken: every limit that is broken, and by how much relative to its value.
    """

    compute_s: Array
    upload_s: Array
    round_s: float
    compute_j: Array
    upload_j: Array
    dynamic_j: float
    device_board_j: Array
    board_j: float
    broken: dict[str, float]

    def energy_j(self, problem: FimiProblem) -> float:
        """The energy that the problem wants to be least."""
        return self.board_j if problem.objective == "board" else self.dynamic_j


def trial_of(plan: Plan) -> Trial:
    """The plan that a planner returned, as devices would work by it."""
    points = [share.point for share in plan.devices]
    return Trial(
        samples=np.array([share.samples for share in plan.devices], float),
        speed_hz=np.array([point.frequency_hz for point in points]),
        bandwidth_hz=np.array([point.bandwidth_hz for point in points]),
        transmit_power_w=np.array([point.transmit_power_w for point in points]),
        round_s=plan.round_s,
    )


def step_of(problem: FimiProblem, device: int, speed_hz: float) -> int | None:
    """Which of a device's steps a speed is; ``None`` for a speed that it cannot set."""
    for k, step in enumerate(problem.frequency_steps_hz[device]):
        if math.isclose(step, speed_hz, rel_tol=KEPT):
            return k
    return None


def power_w(problem: FimiProblem, device: int, speed_hz: float) -> float:
    """Power above idle of a device while it trains: measured at its step, else (2)."""
    measured = problem.step_power_w[device]
    step = step_of(problem, device, speed_hz)
    if measured and step is not None:
        return measured[step]
    return float(
        compute_power_w(
            speed_hz,
            problem.capacitance_w_per_hz3[device],
            problem.active_power_w[device],
            problem.linear_power_w_per_hz[device],
        )
    )


def cost_of(problem: FimiProblem, trial: Trial, *, whole: bool = True) -> Costs:
    """What a plan costs and which limits it breaks; ``whole``: whether samples must be whole."""
    size = problem.size
    cycles = problem.cycles_per_pass * trial.samples
    works = trial.samples > 0
    compute_s = np.where(works, compute_time_s(cycles, trial.speed_hz), 0.0)
    watts = np.array([power_w(problem, i, float(trial.speed_hz[i])) for i in range(size)])
    compute_j = watts * compute_s
    radio_w = np.where(problem.power_settable, trial.transmit_power_w, problem.transmit_power_max_w)
    rate = uplink_rate_bps(
        trial.bandwidth_hz, radio_w, problem.channel_gain, problem.noise_density_w_per_hz
    )
    upload_s = problem.payload_bits / np.minimum(rate, problem.rate_cap_bps)
    upload_j = (radio_w + problem.electronics_power_w) * upload_s
    upload_j = upload_j + problem.energy_per_bit_j * problem.payload_bits
    ready_s = problem.receive_s + compute_s + upload_s
    round_s = float(ready_s.max()) if trial.round_s is None else trial.round_s
    synthetic = trial.samples - problem.local_samples
    device_board_j = (
        compute_j
        + upload_j
        + problem.receive_power_w * problem.receive_s
        + problem.idle_power_w * round_s
        + problem.synthetic_j * synthetic / problem.rounds
    )
    excess: dict[str, float] = {
        "round": _above(ready_s, round_s),
        "longest round": _above(round_s, problem.round_max_s),
        "deadline": _above(compute_s + upload_s, problem.t_max_s),
        "band": _above(float(trial.bandwidth_hz.sum()), problem.bandwidth_hz),
        "power": _above(radio_w, problem.transmit_power_max_w),
        "local samples": _above(problem.local_samples, np.maximum(trial.samples, 1e-300)),
        "most samples": _above(
            trial.samples, np.maximum(problem.local_samples + problem.generated_max, 1e-300)
        ),
        "device budget": _above(problem.rounds * device_board_j, problem.budget_j),
        "fleet budget": _above(problem.rounds * math.fsum(device_board_j), problem.fleet_budget_j),
    }
    if problem.curve is not None and math.isfinite(problem.error_max):
        excess["learning error"] = _above(problem.error(trial.samples), problem.error_max)
    if whole and (trial.samples != np.round(trial.samples)).any():
        excess["whole samples"] = math.inf
    for i in np.flatnonzero(works):
        speed_hz = float(trial.speed_hz[i])
        if problem.frequency_steps_hz[i]:
            if step_of(problem, i, speed_hz) is None:
                excess["steps"] = math.inf
        else:
            least, most = problem.frequency_min_hz[i], problem.frequency_max_hz[i]
            outside = max(_above(speed_hz, most), _above(least, speed_hz))
            excess["frequency"] = max(excess.get("frequency", 0.0), outside)
    if not (np.isfinite(upload_s).all() and (trial.bandwidth_hz > 0).all()):
        excess["upload"] = math.inf
    return Costs(
        compute_s=compute_s,
        upload_s=upload_s,
        round_s=round_s,
        compute_j=compute_j,
        upload_j=upload_j,
        dynamic_j=math.fsum(compute_j) + math.fsum(upload_j),
        device_board_j=device_board_j,
        board_j=math.fsum(device_board_j),
        broken={limit: by for limit, by in excess.items() if by > KEPT},
    )


def _above(value: Array | float, limit: Array | float) -> float:
    """By how much values exceed limits at most, relative to the limit."""
    return max(0.0, float(np.max(np.asarray(value) / np.asarray(limit) - 1.0)))
