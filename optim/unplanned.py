"""Resources without a plan: a fleet that nobody optimises.

Every device gets the same share of the band, runs at its highest frequency and sends at its highest
power. It finishes as early as possible, at the price of more energy.
"""

from __future__ import annotations

import numpy as np

from fimi.energy.cost_model import (
    OperatingPoint,
    compute_energy_j,
    compute_time_s,
    uplink_rate_bps,
)
from fimi.optim.plans import DeviceShare, Plan
from fimi.optim.problem import FimiProblem, InfeasibleError


def equal_shares(problem: FimiProblem) -> Plan:
    """The plan of a fleet with equal bandwidth, highest frequency and highest power.

    Args:
        problem: the problem, with the data that devices train on in ``local_counts``; its limits on
            synthetic data and on the error are ignored.

    Returns:
        A plan without bound or history.

    Raises:
        InfeasibleError: a device does not finish before the deadline.
    """
    samples = problem.local_samples
    frequency, power = problem.frequency_max_hz, problem.transmit_power_max_w
    band = problem.bandwidth_hz / problem.size
    cycles = problem.cycles_per_pass * samples
    compute_s = compute_time_s(cycles, frequency)
    compute_j = compute_energy_j(
        cycles, frequency, problem.capacitance_w_per_hz3, problem.active_power_w
    )
    rate = uplink_rate_bps(band, power, problem.channel_gain, problem.noise_density_w_per_hz)
    upload_s = problem.payload_bits / rate
    upload_j = power * upload_s
    busy_s = compute_s + upload_s
    if (busy_s > problem.t_max_s).any():
        late = [
            d for d, s, t in zip(problem.devices, busy_s, problem.t_max_s, strict=True) if s > t
        ]
        raise InfeasibleError(
            f"deadline: with equal bandwidth, at its highest frequency and power, {', '.join(late)}"
            f" cannot train and send in time; feasible with {np.max(busy_s - problem.t_max_s):.4g} "
            "s more a round, or a larger bandwidth_hz",
            constraint="deadline",
            devices=late,
            smallest_t_max_s=busy_s,
        )
    total_j = float(compute_j.sum() + upload_j.sum())
    return Plan(
        devices=tuple(
            DeviceShare(
                device=device,
                synthetic_counts=(0,) * problem.local_counts.shape[1],
                samples=int(samples[i]),
                point=OperatingPoint(
                    frequency_hz=float(frequency[i]),
                    bandwidth_hz=band,
                    transmit_power_w=float(power[i]),
                    time_split=float(np.clip(compute_s[i] / busy_s[i], 1e-9, 1.0 - 1e-9)),
                ),
                compute_s=float(compute_s[i]),
                upload_s=float(upload_s[i]),
                compute_j=float(compute_j[i]),
                upload_j=float(upload_j[i]),
            )
            for i, device in enumerate(problem.devices)
        ),
        status="uncertified",
        search="no search",
        energy_j=total_j,
        bound_j=None,
        gap_percent=None,
        search_energy_j=total_j,
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
