"""Resources without a plan: a fleet that nobody optimises.

Every device gets the same share of the band, runs at its highest frequency and sends at its highest
power. It finishes as early as possible, at the price of more energy. What it uses is given, so that
budgets of joules are enough for it or not.

* :func:`equal_shares`  its plan, or the error that says what would be enough
"""

from __future__ import annotations

import msgspec
import numpy as np

from fimi.energy.cost_model import Array, compute_time_s, uplink_rate_bps
from fimi.optim.advice import Remedy
from fimi.optim.budget_advice import refusal, with_budgets
from fimi.optim.inner import InnerSolver
from fimi.optim.plans import Certified, Plan
from fimi.optim.problem import DURATION_MAX_S, FimiProblem, InfeasibleError
from fimi.optim.radio import Radio
from fimi.optim.realise import RunnablePlan
from fimi.optim.spending import above
from fimi.optim.wording import named, smallest

_HOW = "with equal bandwidth, at its highest frequency and power"


def equal_shares(problem: FimiProblem) -> Plan:
    """The plan of a fleet with equal bandwidth, highest frequency and power; no bound, no history.

    ``local_counts`` is the data that devices train on. The limits on synthetic data and on the
    error are ignored.

    Raises:
        InfeasibleError: a device does not finish before the deadline, or budgets of joules are too
            small; says what would be enough.
    """
    fleet = _at_full_speed(problem)
    busy_s = fleet.compute_s + fleet.upload_s
    if (busy_s > problem.t_max_s).any():
        raise _late(problem, fleet.compute_s, busy_s)
    spent = fleet.spent_j(problem)
    if above(problem, spent) > 1.0:
        raise refusal(problem, spent, spent, _works, fixed=f"{_HOW}, ")
    return Plan(
        devices=fleet.shares(problem, fleet.compute_s / busy_s),
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


def _at_full_speed(problem: FimiProblem) -> RunnablePlan:
    """What the fleet does, however long it takes."""
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
    return RunnablePlan(
        samples=samples.astype(np.int64),
        frequency_hz=frequency,
        settings=tuple(names[-1] if names else "" for names in problem.step_names),
        compute_s=compute_s,
        compute_j=inner.training_j(cycles, frequency, fastest),
        upload_s=upload_s,
        upload_j=upload_j,
        bandwidth_hz=np.full(problem.size, band),
        power_w=power,
        round_s=float((problem.receive_s + compute_s + upload_s).max()),
    )


def _works(problem: FimiProblem) -> bool:
    """Whether the fleet finishes in time and within its budgets."""
    fleet = _at_full_speed(problem)
    in_time = (fleet.compute_s + fleet.upload_s <= problem.t_max_s).all()
    return bool(in_time) and bool(above(problem, fleet.spent_j(problem)) <= 1.0)


def _spent_j(problem: FimiProblem) -> Array:
    """What each device uses in all rounds, J, (I,)."""
    return _at_full_speed(problem).spent_j(problem)


def _upload_s(problem: FimiProblem, band_hz: float) -> Array:
    """t_com at the highest power over a band of its own for every device, s, (I,)."""
    rate = uplink_rate_bps(
        band_hz,
        problem.transmit_power_max_w,
        problem.channel_gain,
        problem.noise_density_w_per_hz,
    )
    return np.asarray(problem.payload_bits / np.minimum(rate, problem.rate_cap_bps))


def _late(problem: FimiProblem, compute_s: Array, busy_s: Array) -> InfeasibleError:
    """The error for devices that do not finish in time; its remedies are tried as printed.

    Each comes with the budgets of joules that the fleet then needs.
    """
    late = [d for d, s, t in zip(problem.devices, busy_s, problem.t_max_s, strict=True) if s > t]
    found = []
    extra_s = smallest(
        float(np.max(busy_s - problem.t_max_s)),
        lambda more_s: bool((busy_s <= problem.t_max_s + more_s).all()),
    )
    if extra_s is not None and problem.t_max_s.max() + extra_s > DURATION_MAX_S:
        extra_s = None
    if extra_s is not None:
        changed = msgspec.structs.replace(problem, t_max_s=problem.t_max_s + extra_s)
        found.append(Remedy(text=f"every deadline extended by {extra_s:g} s", changed=changed))
    needed_hz = _band_needed_hz(problem, compute_s)
    if needed_hz is not None:
        changed = msgspec.structs.replace(problem, bandwidth_hz=needed_hz)
        found.append(Remedy(text=f"bandwidth_hz of at least {needed_hz:g}", changed=changed))
    each = [with_budgets(remedy, _works, _spent_j) for remedy in found]
    if any(remedy is not before for remedy, before in zip(each, found, strict=True)):
        extra_s = needed_hz = None  # a limit's number alone is not enough
    return InfeasibleError(
        f"deadline: {_HOW}, {named(late)} cannot train and send in time",
        constraint="deadline",
        devices=late,
        remedies=[remedy.text for remedy in each],
        smallest_t_max_s=None if extra_s is None else problem.t_max_s + extra_s,
        bandwidth_needed_hz=needed_hz,
    )


def _band_needed_hz(problem: FimiProblem, compute_s: Array) -> float | None:
    """The smallest B with which all finish in time; ``None`` if none is enough."""
    left_s = problem.t_max_s - compute_s
    if not (left_s > 0).all():
        return None
    radio, log_t = Radio(problem), np.log(left_s)
    log_x, short = radio.narrowest(log_t)
    if not (short <= 0).all():
        return None
    widest = float(np.exp((radio.log_nats - log_t - log_x).max()))
    return smallest(
        max(problem.size * widest, problem.bandwidth_hz),
        lambda hz: bool(
            (compute_s + _upload_s(problem, hz / problem.size) <= problem.t_max_s).all()
        ),
    )
