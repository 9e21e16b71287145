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
from collections.abc import Sequence
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

Between = Literal["table", "law"]
"""What predicts at speeds between measured ones: a straight line between them, or the law."""

_LN2 = math.log(2.0)
_SAME_SPEED = 0.005


class ComputeSetting(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is set on a board to bring it to an operating point; ``None``: left as it is.

    Attributes:
        cpu_hz: cap of each CPU cluster, Hz, by its name: that of cpufreq's policy (``policy0``);
            ``all`` stands for every cluster.
        cores: number of CPU cores that train.
        gpu_hz: clock of the GPU (devfreq), Hz.
        power_mode: number of a Jetson's power mode (nvpmodel).
        duty_cycle: share of the processor's time.
    """

    cpu_hz: dict[str, Positive] = {}
    cores: Annotated[int, Meta(ge=1)] | None = None
    gpu_hz: Positive | None = None
    power_mode: Annotated[int, Meta(ge=0)] | None = None
    duty_cycle: Annotated[float, Meta(gt=0, le=1)] | None = None


class ComputePoint(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A measured operating point of a processor: what is set, and what training then costs.

    Attributes:
        name: by which a plan names it, for example ``"cpu 1.5 GHz, gpu 306 MHz"``.
        seconds_per_sample: forward and backward pass of one sample of the actual training, s.
        power_w: power above idle while it trains, W.
        setting: what is set.
    """

    name: Annotated[str, Meta(min_length=1)]
    seconds_per_sample: Positive
    power_w: NonNegative
    setting: ComputeSetting = ComputeSetting()


class ComputeModel(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Cost parameters of a device's processor: a law of its frequency, or measured points.

    Attributes:
        cycles_per_sample: C, CPU cycles for the forward and backward pass of one sample.
        capacitance_w_per_hz3: κ, effective switched capacitance, W/Hz³.
        linear_power_w_per_hz: c, power that grows in proportion to the frequency, W/Hz.
        active_power_w: P_act, power that flows only while computing, whatever the frequency, W.
        frequency_min_hz: lowest frequency the governor allows, Hz.
        frequency_max_hz: highest frequency the governor allows, Hz.
        frequency_steps_hz: the frequencies that can be set, ascending; empty if continuous.
        points: measured operating points. Where there are any, they are what plans choose from and
            what predictions use; the law and its frequencies are not used.
        between_points: what predicts the power at a speed between those of the points, such as that
            of a throttled processor: calibration chooses it by the error for frequencies that it
            held out.
    """

    cycles_per_sample: Positive
    capacitance_w_per_hz3: Positive
    frequency_min_hz: Positive
    frequency_max_hz: Positive
    active_power_w: NonNegative = 0.0
    linear_power_w_per_hz: NonNegative = 0.0
    frequency_steps_hz: tuple[Positive, ...] = ()
    points: tuple[ComputePoint, ...] = ()
    between_points: Between = "table"

    def __post_init__(self) -> None:
        if self.frequency_min_hz > self.frequency_max_hz:
            raise ValueError(
                f"frequency_min_hz ({self.frequency_min_hz:.4g}) is above "
                f"frequency_max_hz ({self.frequency_max_hz:.4g})"
            )
        steps = self.frequency_steps_hz
        if said := steps_out_of_order(steps):
            raise ValueError(said)
        _require_distinct(self.points)
        if steps and not self.frequency_min_hz <= steps[0] <= steps[-1] <= self.frequency_max_hz:
            raise ValueError(
                f"frequency_steps_hz reach from {steps[0]:.4g} to {steps[-1]:.4g}, outside "
                f"frequency_min_hz ({self.frequency_min_hz:.4g}) to "
                f"frequency_max_hz ({self.frequency_max_hz:.4g})"
            )


def steps_out_of_order(steps: Sequence[float]) -> str:
    """What is wrong with the order of frequencies, Hz, and what to do; empty if they ascend."""
    steps = tuple(steps)
    twice = sorted({step for step in steps if steps.count(step) > 1})
    if twice:
        places = [str(k + 1) for k, step in enumerate(steps) if step == twice[0]]
        return (
            f"frequency_steps_hz holds {twice[0]:.6g} Hz {len(places)} times (numbers "
            f"{' and '.join(places)}); each step needs a frequency of its own: remove all but one, "
            "and what belongs to them in step_power_w and step_names"
        )
    for place, (low, high) in enumerate(itertools.pairwise(steps), start=1):
        if not low < high:
            return (
                f"frequency_steps_hz must ascend: {high:.6g} Hz (number {place + 1}) comes after "
                f"{low:.6g} Hz; sort them, and step_power_w and step_names with them"
            )
    return ""


def _require_distinct(points: tuple[ComputePoint, ...]) -> None:
    """Two points with one name, or with one setting, cannot be told apart."""
    for first, second in itertools.combinations(points, 2):
        if first.name == second.name or first.setting == second.setting:
            what = "name" if first.name == second.name else "setting"
            raise ValueError(
                f"points: {first.name!r} and {second.name!r} have the same {what}; each operating "
                "point needs its own. Leave one out, or calibrate again"
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
        rate_cap_bps: most that the radio sends, whatever its band and power, bit/s; ``None``: no
            cap is known.
        power_settable: whether a plan can choose the transmit power. On Wi-Fi it cannot: the device
            then always sends with ``transmit_power_max_w``.
    """

    channel_gain: Positive
    noise_density_w_per_hz: Positive
    transmit_power_max_w: Positive
    downlink_rate_bps: Positive
    receive_power_w: NonNegative = 0.0
    electronics_power_w: NonNegative = 0.0
    energy_per_bit_j: NonNegative = 0.0
    rate_cap_bps: Positive | None = None
    power_settable: bool = True


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
        frequency_hz: f, CPU frequency cap, Hz. At a measured operating point: C / seconds per
            sample, the cycles of the training that it does in a second.
        bandwidth_hz: b, share of the uplink band, Hz.
        transmit_power_w: p, W.
        time_split: τ, share of the round's working time that is planned for compute.
        rate_bps: r, the uplink rate that the plan assumes, bit/s; a board that limits its rate
            limits it to this. ``None``: (3) with the board's own link budget.
        setting: name of the measured operating point, a :class:`ComputePoint` of the board; empty
            where the frequency is all that is set.
    """

    frequency_hz: Positive
    bandwidth_hz: Positive
    transmit_power_w: Positive
    time_split: Annotated[float, Meta(gt=0, lt=1)]
    rate_bps: Positive | None = None
    setting: str = ""


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


def speed_hz(compute: ComputeModel, point: ComputePoint) -> float:
    """Cycles of the training that a processor does in a second at a measured point, Hz."""
    return compute.cycles_per_sample / point.seconds_per_sample


def measured_point(compute: ComputeModel, point: OperatingPoint) -> ComputePoint | None:
    """The measured point at which a board works when a plan asks for ``point``.

    It is the one that the plan names, else the one of least power that is not slower than
    ``point.frequency_hz``, else the fastest; ``None`` where nothing was measured.
    """
    for measured in compute.points:
        if measured.name == point.setting:
            return measured
    wanted_hz = point.frequency_hz * (1.0 - 1e-9)
    fast = [each for each in compute.points if speed_hz(compute, each) >= wanted_hz]
    if fast:
        return min(fast, key=lambda each: each.power_w)
    return min(compute.points, key=lambda each: each.seconds_per_sample, default=None)


def operating_frequency_hz(compute: ComputeModel, frequency_hz: float) -> float:
    """The frequency a board runs at when a plan asks for ``frequency_hz``, by its law.

    It is the lowest frequency it can set that is not below it, so that the planned deadline holds,
    and never outside the board's range. A request within 1 ppb above a step means that step.
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
    linear_power_w_per_hz: Array | float = 0.0,
) -> Array:
    """(2) p_cmp = κ f³ + c f + P_act, above idle."""
    frequency = np.asarray(frequency_hz, float)
    switching = np.asarray(capacitance_w_per_hz3, float) * frequency**3
    return np.asarray(switching + linear_power_w_per_hz * frequency + active_power_w)


def formula_power_w(compute: ComputeModel, frequency_hz: float) -> float:
    """(2) Power of a processor while computing, above idle, W, by its κ, c and P_act."""
    return float(
        compute_power_w(
            frequency_hz,
            compute.capacitance_w_per_hz3,
            compute.active_power_w,
            compute.linear_power_w_per_hz,
        )
    )


def computing_power_w(compute: ComputeModel, frequency_hz: float) -> float:
    """Power of a processor while computing, above idle, W: by its measured points, else by (2).

    Between two measured speeds the power is interpolated, or that of (2) where the points say so;
    of several points of one speed the one of least power counts. Within half a percent of a
    measured speed the measured power counts.
    """
    if not compute.points:
        return formula_power_w(compute, frequency_hz)
    if compute.between_points == "law" and not any(
        abs(speed_hz(compute, point) / frequency_hz - 1.0) < _SAME_SPEED for point in compute.points
    ):
        return formula_power_w(compute, frequency_hz)
    power_w: dict[float, float] = {}
    for point in sorted(compute.points, key=lambda point: -point.power_w):
        power_w[speed_hz(compute, point)] = point.power_w
    speeds = sorted(power_w)
    return float(np.interp(frequency_hz, speeds, [power_w[speed] for speed in speeds]))


def training_power_w(compute: ComputeModel, point: OperatingPoint) -> float:
    """Power above idle while training at a plan's operating point, W."""
    for measured in compute.points:
        if measured.name == point.setting:
            return measured.power_w
    return computing_power_w(compute, point.frequency_hz)


def achieved_power_w(compute: ComputeModel, point: OperatingPoint, frequency_hz: float) -> float:
    """Power above idle while training under a plan, W, where ``frequency_hz`` was achieved.

    Within half a percent of the planned speed it is that of the planned operating point: clocks are
    read no better, and another measured point of nearly that speed may draw another power.
    """
    if abs(frequency_hz / point.frequency_hz - 1.0) < _SAME_SPEED:
        return training_power_w(compute, point)
    return computing_power_w(compute, frequency_hz)


def largest_power_w(board: BoardModel, rate_bps: float = 0.0) -> float:
    """(46) The highest power of a board by its cost parameters, W: everything at once.

    Args:
        board: cost parameters; measured points come before the law.
        rate_bps: highest uplink rate of the device, bit/s, for what the host takes for each bit.
    """
    compute, link = board.compute, board.link
    computing_w = [point.power_w for point in compute.points]
    if not computing_w:
        computing_w = [formula_power_w(compute, compute.frequency_max_hz)]
    sending_w = link.transmit_power_max_w + link.electronics_power_w
    sending_w += link.energy_per_bit_j * rate_bps
    return board.idle_power_w + max(computing_w) + sending_w + link.receive_power_w


def compute_energy_j(
    cycles: Array | float,
    frequency_hz: Array | float,
    capacitance_w_per_hz3: Array | float,
    active_power_w: Array | float = 0.0,
    linear_power_w_per_hz: Array | float = 0.0,
) -> Array:
    """(2) e_cmp = (κ f³ + c f + P_act) t_cmp."""
    power_w = compute_power_w(
        frequency_hz, capacitance_w_per_hz3, active_power_w, linear_power_w_per_hz
    )
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
    """(3) Uplink rate of a device at an operating point, by its link budget and cap, bit/s."""
    gain, noise = link.channel_gain, link.noise_density_w_per_hz
    power_w = sending_power_w(link, point.transmit_power_w)
    rate_bps = float(uplink_rate_bps(point.bandwidth_hz, power_w, gain, noise))
    return rate_bps if link.rate_cap_bps is None else min(rate_bps, link.rate_cap_bps)


def sending_power_w(link: LinkModel, transmit_power_w: float) -> float:
    """Transmit power that a radio sends with when asked for ``transmit_power_w``, W."""
    return transmit_power_w if link.power_settable else link.transmit_power_max_w


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
    e_cmp = training_power_w(board.compute, point) * t_cmp
    phases.append(_phase("compute", t_cmp, e_cmp, idle_w))
    t_com = upload_bits / point_rate_bps(link, point)  # (4)
    sending_w = sending_power_w(link, point.transmit_power_w) + link.electronics_power_w
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
