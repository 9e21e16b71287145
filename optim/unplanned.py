"""Resources without a plan: a fleet that nobody optimises.

Every device gets the same share of the band, runs at its highest frequency and sends at its highest
power. It finishes as early as possible, at the price of more energy.
"""

from __future__ import annotations

import numpy as np

from fimi.energy.cost_model import Array, compute_time_s, uplink_rate_bps
from fimi.optim.inner import InnerSolver
from fimi.optim.plans import Certified, Plan
from fimi.optim.problem import DURATION_MAX_S, FimiProblem, InfeasibleError
from fimi.optim.realise import RunnablePlan
from fimi.optim.wording import named, smallest


def equal_shares(problem: FimiProblem) -> Plan:
    """The plan of a fleet with equal bandwidth, highest frequency and power; no bound, no history.

    ``local_counts`` is the data that devices train on. The limits on synthetic data and on the
    error are ignored.

    Raises:
        InfeasibleError: a device does not finish before the deadline.
    """
    samples = problem.local_samples
    inner = InnerSolver(problem)
    frequency, power = problem.frequency_max_hz, problem.transmit_power_max_w
    fastest = np.append(inner.lanes.starts[1:], inner.lanes.size) - 1
    band = problem.bandwidth_hz / problem.size
    cycles = problem.cycles_per_pass * samples
    compute_s = compute_time_s(cycles, frequency)
    upload_s = _upload_s(problem, band)
    upload_j = (power + problem.electronics_power_w) * upload_s
    upload_j += problem.energy_per_bit_j * problem.payload_bits
    busy_s = compute_s + upload_s
    if (busy_s > problem.t_max_s).any():
        raise _late(inner, compute_s, busy_s)
    fleet = RunnablePlan(
        samples=samples.astype(np.int64),
        frequency_hz=frequency,
        settings=tuple(names[-1] if names else "" for names in problem.step_names),
        compute_s=compute_s,
        compute_j=inner.training_j(cycles, frequency, fastest),
        upload_s=upload_s,
        upload_j=upload_j,
        bandwidth_hz=np.full(problem.size, band),
        power_w=power,
        round_s=float((problem.receive_s + busy_s).max()),
    )
    return Plan(
        devices=fleet.shares(problem, compute_s / busy_s),
        status="uncertified",
        search="no search",
        objective=problem.objective,
        board=Certified(energy_j=fleet.board_j(problem)),
        dynamic=Certified(energy_j=fleet.dynamic_j),
        round_s=fleet.round_s,
        search_energy_j=(
            fleet.board_j(problem) if problem.objective == "board" else fleet.dynamic_j
        ),
        search_gap_percent=None,
        error=None,
        error_max=None,
        learning_multiplier=0.0,
        band_multiplier=0.0,
        history=(),
        stop="converged",
        evaluations=0,
        search_s=0.0,
        certificate_s=0.0,
    )


def _upload_s(problem: FimiProblem, band_hz: float) -> Array:
    """t_com at the highest power over a band of its own for every device, s, (I,)."""
    rate = uplink_rate_bps(
        band_hz,
        problem.transmit_power_max_w,
        problem.channel_gain,
        problem.noise_density_w_per_hz,
    )
    return np.asarray(problem.payload_bits / np.minimum(rate, problem.rate_cap_bps))


def _late(inner: InnerSolver, compute_s: Array, busy_s: Array) -> InfeasibleError:
    """The error for devices that do not finish in time; its remedies are tried as printed."""
    problem = inner.problem
    late = [d for d, s, t in zip(problem.devices, busy_s, problem.t_max_s, strict=True) if s > t]
    extra_s = smallest(
        float(np.max(busy_s - problem.t_max_s)),
        lambda more_s: bool((busy_s <= problem.t_max_s + more_s).all()),
    )
    if extra_s is not None and problem.t_max_s.max() + extra_s > DURATION_MAX_S:
        extra_s = None
    remedies = [] if extra_s is None else [f"every deadline extended by {extra_s:g} s"]
    left_s = problem.t_max_s - compute_s
    needed_hz = None
    if (left_s > 0).all():
        log_t = np.log(left_s)
        log_x, short = inner.radio.narrowest(log_t)
        if (short <= 0).all():
            widest = float(np.exp((inner.radio.log_nats - log_t - log_x).max()))
            needed_hz = smallest(
                max(problem.size * widest, problem.bandwidth_hz),
                lambda hz: bool(
                    (compute_s + _upload_s(problem, hz / problem.size) <= problem.t_max_s).all()
                ),
            )
    if needed_hz is not None:
        remedies.append(f"bandwidth_hz of at least {needed_hz:g}")
    return InfeasibleError(
        f"deadline: with equal bandwidth, at its highest frequency and power, {named(late)} cannot "
        "train and send in time",
        constraint="deadline",
        devices=late,
        remedies=remedies,
        smallest_t_max_s=None if extra_s is None else problem.t_max_s + extra_s,
        bandwidth_needed_hz=needed_hz,
    )
