"""The problem of a fleet of boards, as they are declared or calibrated.

* :func:`from_boards`         :class:`~fimi.optim.problem.FimiProblem` of their cost models
* :func:`downlink_rates_bps`  the rates at which they receive, checked

A measured operating point becomes a step: its speed is the cycles that it trains in a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fimi.energy.cost_model import Array, BoardModel, ComputeModel, speed_hz
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.problem import (
    SMALLEST,
    FimiProblem,
    InfeasibleError,
    Objective,
    ProblemError,
)
from fimi.optim.wording import named

_OF_COMPUTE = (
    "cycles_per_sample",
    "capacitance_w_per_hz3",
    "active_power_w",
    "linear_power_w_per_hz",
)
_OF_LINK = (
    "channel_gain",
    "noise_density_w_per_hz",
    "transmit_power_max_w",
    "receive_power_w",
    "electronics_power_w",
    "energy_per_bit_j",
)


def from_boards(
    boards: Mapping[str, BoardModel],
    *,
    local_counts: Mapping[str, Sequence[int]],
    epochs: int,
    deadline_s: float,
    upload_bits: float,
    download_bits: float,
    bandwidth_hz: float,
    generated_max: Array | float,
    error_max: float = math.inf,
    curve: LearningCurve | None = None,
    weights: Array | None = None,
    objective: Objective = "board",
    rounds: float = 1.0,
    synthetic_bits: float = 0.0,
    budget_j: Array | float = math.inf,
    fleet_budget_j: float = math.inf,
) -> FimiProblem:
    """The problem for a fleet of boards, in the order in which ``boards`` names them.

    Args:
        boards: cost parameters per device.
        local_counts: samples per class, per device.
        epochs: E.
        deadline_s: T_max of a round, from the start of the model's download.
        upload_bits: S.
        download_bits: size of the global model; its download time is subtracted from ``t_max_s``.
        bandwidth_hz: B.
        generated_max: D_gen_max, (I,) or one for all.
        error_max: Δ_max.
        curve: Δ(D).
        weights: w; equal if ``None``.
        objective: which energy to make least.
        rounds: number of rounds of the run.
        synthetic_bits: size of one synthetic sample on its way to a device.
        budget_j: most board energy of a device in the run, (I,) or one for all.
        fleet_budget_j: the same for the fleet.

    Raises:
        ProblemError: a value is impossible.
        InfeasibleError: a device cannot even receive the model before the deadline.
    """
    devices = tuple(boards)
    missing = [device for device in devices if device not in local_counts]
    if missing:
        raise ProblemError(f"local_counts: nothing for {named(missing)}")
    compute = [board.compute for board in boards.values()]
    links = [board.link for board in boards.values()]
    rate = downlink_rates_bps(boards)
    with np.errstate(all="ignore"):  # What is no number is refused with the problem.
        download_s = download_bits / rate
    if math.isfinite(deadline_s) and devices and (download_s >= deadline_s).any():
        late = [d for d, s in zip(devices, download_s, strict=True) if s >= deadline_s]
        worst = float(download_s.max())
        raise InfeasibleError(
            f"deadline: {named(late)} cannot receive the model within {deadline_s:.4g} s "
            f"(it takes {worst:.4g} s); a round must last longer than that",
            constraint="deadline",
            devices=late,
        )
    measured = [_points(c) for c in compute]
    points = [row for row, _ in measured]
    steps = tuple(
        tuple(speed for speed, _, _ in row) or c.frequency_steps_hz
        for c, row in zip(compute, points, strict=True)
    )
    limits = [
        (s[0], s[-1]) if s else (c.frequency_min_hz, c.frequency_max_hz)
        for c, s in zip(compute, steps, strict=True)
    ]
    idle_w = _column(board.idle_power_w for board in boards.values())
    receive_w = _column(link.receive_power_w for link in links)
    with np.errstate(all="ignore"):
        synthetic_j = (idle_w + receive_w) * synthetic_bits / rate
    return FimiProblem(
        devices=devices,
        local_counts=np.asarray([list(local_counts[d]) for d in devices], dtype=np.int64),
        epochs=epochs,
        frequency_min_hz=_column(low for low, _ in limits),
        frequency_max_hz=_column(high for _, high in limits),
        frequency_steps_hz=steps,
        step_power_w=tuple(tuple(watts for _, watts, _ in row) for row in points),
        step_names=tuple(tuple(name for _, _, name in row) for row in points),
        beaten_names=tuple(beaten for _, beaten in measured),
        rate_cap_bps=_column(
            math.inf if link.rate_cap_bps is None else link.rate_cap_bps for link in links
        ),
        power_settable=np.array([link.power_settable for link in links]),
        idle_power_w=idle_w,
        receive_s=download_s,
        downlink_rate_bps=rate,
        synthetic_j=synthetic_j,
        rounds=rounds,
        objective=objective,
        budget_j=np.asarray(budget_j, float),
        fleet_budget_j=fleet_budget_j,
        payload_bits=np.full(len(devices), float(upload_bits)),
        t_max_s=deadline_s - download_s,
        bandwidth_hz=bandwidth_hz,
        generated_max=np.asarray(generated_max, float),
        error_max=error_max,
        curve=curve,
        weights=np.zeros(0) if weights is None else np.asarray(weights, float),
        **{name: _column(getattr(c, name) for c in compute) for name in _OF_COMPUTE},
        **{name: _column(getattr(link, name) for link in links) for name in _OF_LINK},
    )


def downlink_rates_bps(boards: Mapping[str, BoardModel]) -> Array:
    """The rates at which boards receive, bit/s, (I,).

    Raises:
        ProblemError: a rate is not above 0; names the device.
    """
    rates = {device: board.link.downlink_rate_bps for device, board in boards.items()}
    for device, rate in rates.items():
        if not rate >= SMALLEST:
            raise ProblemError(
                f"device {device!r}: downlink_rate_bps is {rate:g}; it must be greater than 0 "
                f"({SMALLEST:g} bit/s or more; inf: receiving takes no time)"
            )
    return _column(rates.values())


def _points(
    compute: ComputeModel,
) -> tuple[list[tuple[float, float, str]], tuple[str, ...]]:
    """Speed, Hz, power, W, and name of the measured points by speed; of equals the thriftiest.

    Returns:
        These points, and the names of the others in ascending speed.
    """
    by_speed: dict[float, tuple[float, float, str]] = {}
    beaten = []
    for point in sorted(compute.points, key=lambda point: point.power_w):
        speed = speed_hz(compute, point)
        if speed in by_speed:
            beaten.append((speed, point.name))
        by_speed.setdefault(speed, (speed, point.power_w, point.name))
    names = tuple(name for _, name in sorted(beaten, key=lambda each: each[0]))
    return [by_speed[speed] for speed in sorted(by_speed)], names


def _column(values: Iterable[float]) -> Array:
    return np.fromiter(values, dtype=float)
