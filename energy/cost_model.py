"""Seconds and joules of one federated round, as formulas.

The cost model is written once, here. :mod:`fimi.optim` minimises it, the coordinator predicts with
it, and the report compares measurements with it. Equation numbers refer to ``docs/model.md``.

Terms
    compute    local training: (1) time, (2) energy
    upload     the model update on the uplink: (3) rate, (4) time, (5) energy
    download   the global model, and once the synthetic batch, on the downlink: (6)
    waiting    the update is ready and nobody pulls it yet: not predicted
    idle       the board waits for the round to end: (7)

*Dynamic* energy is what the paper counts: compute and upload above idle. *Board* energy is what a
meter at the plug sees: dynamic energy, receiving, and the idle power over the whole round.

All arguments are SI and may be NumPy arrays that broadcast against each other.
"""

from __future__ import annotations

import bisect
import itertools
import math
from typing import Annotated, Literal, get_args

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

Array = NDArray[np.float64]
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]

Phase = Literal[
    "synthetic-download", "model-download", "compute", "waiting", "upload", "idle", "inference"
]
PHASES: tuple[Phase, ...] = get_args(Phase)
"""In the order of a round. In ``waiting`` an update is ready and its pull has not begun; no plan
has it. ``inference``, the trial of the trained model, belongs to no round."""

_LN2 = math.log(2.0)


class ComputeModel(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Cost parameters of a device's processor.

    Attributes:
        cycles_per_sample: C, CPU cycles for the forward and backward pass of one sample.
        capacitance_w_per_hz3: κ, effective switched capacitance, W/Hz³.
        active_power_w: P_act, power that flows only while computing, whatever the frequency, W.
        frequency_min_hz: lowest frequency the governor allows, Hz.
        frequency_max_hz: highest frequency the governor allows, Hz.
        frequency_steps_hz: the discrete operating points, ascending; empty if continuous.
        table_frequencies_hz: frequencies at which the power while computing was measured,
            ascending.
        table_power_w: that power above idle, W. Predictions use this table where there is one;
            the optimiser uses κ f³ + P_act.
    """

    cycles_per_sample: Positive
    capacitance_w_per_hz3: Positive
    frequency_min_hz: Positive
    frequency_max_hz: Positive
    active_power_w: NonNegative = 0.0
    frequency_steps_hz: tuple[Positive, ...] = ()
    table_frequencies_hz: tuple[Positive, ...] = ()
    table_power_w: tuple[NonNegative, ...] = ()

    def __post_init__(self) -> None:
        if self.frequency_min_hz > self.frequency_max_hz:
            raise ValueError(
                f"frequency_min_hz ({self.frequency_min_hz:.4g}) is above "
                f"frequency_max_hz ({self.frequency_max_hz:.4g})"
            )
        table_hz = self.table_frequencies_hz
        if len(table_hz) != len(self.table_power_w):
            raise ValueError(
                f"table_frequencies_hz has {len(table_hz)} values, table_power_w "
                f"{len(self.table_power_w)}; they belong together"
            )
        steps = self.frequency_steps_hz
        for name, points in (("table_frequencies_hz", table_hz), ("frequency_steps_hz", steps)):
            if any(low >= high for low, high in itertools.pairwise(points)):
                raise ValueError(f"{name} must ascend strictly: {points}")
        if steps and not self.frequency_min_hz <= steps[0] <= steps[-1] <= self.frequency_max_hz:
            raise ValueError(
                f"frequency_steps_hz reach from {steps[0]:.4g} to {steps[-1]:.4g}, outside "
                f"frequency_min_hz ({self.frequency_min_hz:.4g}) to "
                f"frequency_max_hz ({self.frequency_max_hz:.4g})"
            )


class LinkModel(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Cost parameters of a device's radio.

    Attributes:
        channel_gain: h, power gain from the device's antenna to the receiver, dimensionless.
        noise_density_w_per_hz: N0, W/Hz (thermal noise at 290 K: 4.0e-21).
        transmit_power_max_w: p_max, W.
        downlink_rate_bps: rate at which the device receives, bit/s.
        receive_power_w: extra power while receiving, W.
        electronics_power_w: extra power while sending, above the transmit power, W.
        energy_per_bit_j: energy that the host takes for every sent bit, J.
    """

    channel_gain: Positive
    noise_density_w_per_hz: Positive
    transmit_power_max_w: Positive
    downlink_rate_bps: Positive
    receive_power_w: NonNegative = 0.0
    electronics_power_w: NonNegative = 0.0
    energy_per_bit_j: NonNegative = 0.0


class BoardModel(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything the planner must know about a board's cost.

    Attributes:
        compute: processor.
        link: radio.
        idle_power_w: what the board draws when it does nothing, W.
    """

    compute: ComputeModel
    link: LinkModel
    idle_power_w: NonNegative


class OperatingPoint(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a device works under a plan.

    Attributes:
        frequency_hz: f, CPU frequency cap, Hz.
        bandwidth_hz: b, share of the uplink band, Hz.
        transmit_power_w: p, W.
        time_split: τ, share of the round's working time that is planned for compute.
        rate_bps: r, the uplink rate that the plan assumes, bit/s; a board that limits its rate
            limits it to this. ``None``: (3) with the board's own link budget.
    """

    frequency_hz: Positive
    bandwidth_hz: Positive
    transmit_power_w: Positive
    time_split: Annotated[float, Meta(gt=0, lt=1)]
    rate_bps: Positive | None = None


class PhaseCost(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Seconds and joules of one phase of one round by the cost model.

    Attributes:
        phase: the phase.
        duration_s: duration, s.
        dynamic_j: energy above idle, J: the paper's energy for ``compute`` and ``upload``.
        board_j: energy of the whole board during the phase, J.
    """

    phase: Phase
    duration_s: float
    dynamic_j: float
    board_j: float


def operating_frequency_hz(compute: ComputeModel, frequency_hz: float) -> float:
    """The frequency a board runs at when a plan asks for ``frequency_hz``.

    It is the lowest operating point that is not below it, so that the planned deadline holds, and
    never outside the board's range. A request within 1 ppb above an operating point means that
    point.
    """
    steps = compute.frequency_steps_hz
    floor, ceiling = compute.frequency_min_hz, compute.frequency_max_hz
    if not steps:
        return min(max(frequency_hz, floor), ceiling)
    place = bisect.bisect_left(steps, frequency_hz * (1.0 - 1e-9))
    return steps[min(place, len(steps) - 1)]


def compute_time_s(cycles: Array | float, frequency_hz: Array | float) -> Array:
    """(1) t_cmp = cycles / f, with cycles = E · C · D."""
    return np.asarray(np.asarray(cycles, float) / np.asarray(frequency_hz, float))


def compute_power_w(
    frequency_hz: Array | float,
    capacitance_w_per_hz3: Array | float,
    active_power_w: Array | float = 0.0,
) -> Array:
    """(2) p_cmp = κ f³ + P_act, above idle."""
    frequency = np.asarray(frequency_hz, float)
    return np.asarray(np.asarray(capacitance_w_per_hz3, float) * frequency**3 + active_power_w)


def formula_power_w(compute: ComputeModel, frequency_hz: float) -> float:
    """(2) Power of a processor while computing, above idle, W, by its κ and P_act."""
    power_w = compute_power_w(frequency_hz, compute.capacitance_w_per_hz3, compute.active_power_w)
    return float(power_w)


def computing_power_w(compute: ComputeModel, frequency_hz: float) -> float:
    """Power of a processor while computing, above idle, W: by its measured table, else by (2)."""
    if compute.table_frequencies_hz:
        return float(np.interp(frequency_hz, compute.table_frequencies_hz, compute.table_power_w))
    return formula_power_w(compute, frequency_hz)


def largest_power_w(board: BoardModel, rate_bps: float = 0.0) -> float:
    """(46) The highest power of a board by its cost parameters, W: everything at once.

    Args:
        board: cost parameters; a measured table of powers comes before κ and P_act.
        rate_bps: highest uplink rate of the device, bit/s, for what the host takes for each bit.
    """
    compute, link = board.compute, board.link
    computing_w = [computing_power_w(compute, compute.frequency_max_hz), *compute.table_power_w]
    if not compute.table_frequencies_hz or (
        compute.table_frequencies_hz[-1] < compute.frequency_max_hz
    ):
        computing_w.append(formula_power_w(compute, compute.frequency_max_hz))
    sending_w = link.transmit_power_max_w + link.electronics_power_w
    sending_w += link.energy_per_bit_j * rate_bps
    return board.idle_power_w + max(computing_w) + sending_w + link.receive_power_w


def compute_energy_j(
    cycles: Array | float,
    frequency_hz: Array | float,
    capacitance_w_per_hz3: Array | float,
    active_power_w: Array | float = 0.0,
) -> Array:
    """(2) e_cmp = (κ f³ + P_act) t_cmp."""
    power_w = compute_power_w(frequency_hz, capacitance_w_per_hz3, active_power_w)
    return np.asarray(power_w * compute_time_s(cycles, frequency_hz))


def uplink_rate_bps(
    bandwidth_hz: Array | float,
    transmit_power_w: Array | float,
    channel_gain: Array | float,
    noise_density_w_per_hz: Array | float,
) -> Array:
    """(3) r = b log2(1 + p h / (N0 b)), Shannon's capacity."""
    bandwidth = np.asarray(bandwidth_hz, float)
    snr = np.asarray(transmit_power_w, float) * channel_gain / (noise_density_w_per_hz * bandwidth)
    return np.asarray(bandwidth * np.log1p(snr) / _LN2)


def point_rate_bps(link: LinkModel, point: OperatingPoint) -> float:
    """(3) Uplink rate of a device at an operating point, by its link budget, bit/s."""
    gain, noise = link.channel_gain, link.noise_density_w_per_hz
    return float(uplink_rate_bps(point.bandwidth_hz, point.transmit_power_w, gain, noise))


def transmit_power_w(
    rate_bps: Array | float,
    bandwidth_hz: Array | float,
    channel_gain: Array | float,
    noise_density_w_per_hz: Array | float,
) -> Array:
    """(3) solved for p: the power that carries ``rate_bps`` over ``bandwidth_hz``."""
    bandwidth = np.asarray(bandwidth_hz, float)
    exponent = np.asarray(rate_bps, float) * _LN2 / bandwidth
    with np.errstate(over="ignore"):
        return np.asarray(np.expm1(exponent) * noise_density_w_per_hz * bandwidth / channel_gain)


def upload_energy_j(
    payload_bits: Array | float,
    upload_time_s: Array | float,
    bandwidth_hz: Array | float,
    channel_gain: Array | float,
    noise_density_w_per_hz: Array | float,
) -> Array:
    """(5) e_com = p t_com = (N0/h) Φ(u), Φ(u) = u (2^(S/u) − 1), u = b t_com."""
    u = np.asarray(bandwidth_hz, float) * upload_time_s
    with np.errstate(over="ignore"):
        growth = np.expm1(np.asarray(payload_bits, float) * _LN2 / u)
        return np.asarray(u * growth * noise_density_w_per_hz / channel_gain)


def download_cost(phase: Phase, board: BoardModel, size_bits: float) -> PhaseCost:
    """(6) Time and energy of receiving: t = bits / downlink rate, e = P_rx t."""
    duration_s = size_bits / board.link.downlink_rate_bps
    return _phase(phase, duration_s, board.link.receive_power_w * duration_s, board.idle_power_w)


def idle_cost(board: BoardModel, duration_s: float) -> PhaseCost:
    """(7) Time and energy of waiting: no power above idle."""
    return _phase("idle", max(0.0, duration_s), 0.0, board.idle_power_w)


def predict_round(
    board: BoardModel,
    point: OperatingPoint,
    *,
    cycles: float,
    upload_bits: float,
    download_bits: float,
    round_s: float | None = None,
) -> tuple[PhaseCost, ...]:
    """Seconds and joules of one round at an operating point, phase by phase.

    Args:
        board: the device's cost parameters.
        point: its operating point.
        cycles: E · C · D, CPU cycles of the round's training.
        upload_bits: S, size of the model update.
        download_bits: size of the global model.
        round_s: when the round ends for all devices, s; adds the idle phase (7) up to then.

    Returns:
        One :class:`PhaseCost` per phase, in the order in which they happen.
    """
    link, idle_w = board.link, board.idle_power_w
    phases = [download_cost("model-download", board, download_bits)]
    t_cmp = float(compute_time_s(cycles, point.frequency_hz))
    e_cmp = computing_power_w(board.compute, point.frequency_hz) * t_cmp
    phases.append(_phase("compute", t_cmp, e_cmp, idle_w))
    t_com = upload_bits / point_rate_bps(link, point)  # (4)
    sending_w = point.transmit_power_w + link.electronics_power_w
    e_com = sending_w * t_com + link.energy_per_bit_j * upload_bits  # (5) and (40)
    phases.append(_phase("upload", t_com, e_com, idle_w))
    if round_s is not None:
        busy_s = math.fsum(phase.duration_s for phase in phases)
        phases.append(idle_cost(board, round_s - busy_s))
    return tuple(phases)


def _phase(phase: Phase, duration_s: float, dynamic_j: float, idle_power_w: float) -> PhaseCost:
    return PhaseCost(
        phase=phase,
        duration_s=duration_s,
        dynamic_j=dynamic_j,
        board_j=dynamic_j + idle_power_w * duration_s,
    )
