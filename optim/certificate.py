"""The whole of (P1) as one convex program, and the proof of a lower bound; docs/model.md (21)-(24).

In the variables log D, log t_cmp, log t_com, log b the problem is a generalised geometric program:
energies, times and errors are sums of exponentials of affine functions. The one term that is not
a finite sum is the upload's (eˣ − 1)/x = Σ_{k≥0} xᵏ/(k + 1)!, x = S ln2/(b t_com); it is cut off
where its tail is negligible at the largest x of the solution.

CVXPY states the program and Clarabel solves it. The bound that is reported is *not* the solver's
objective but the exact dual function (:mod:`fimi.optim.dual`) at the solver's multipliers, improved
by ascending that function where the two differ. It holds for every tolerance and status of the
solver and for every truncation.

CVXPY is imported when :func:`certify` is called: importing it takes a second.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from scipy.special import gammaln

from fimi.energy.cost_model import Array
from fimi.optim.dual import ascend, dual
from fimi.optim.inner import InnerSolver

_TAIL = 1e-10
_TERMS_MAX = 640
_LOOSE = 1e-6

CertificateStatus = Literal["optimal", "inaccurate", "failed"]
_STATUS: dict[str, CertificateStatus] = {"optimal": "optimal", "failed": "failed"}


class Certificate(Struct, frozen=True, eq=False):
    """A proved lower bound and the time splits that (nearly) attain it.

    Attributes:
        bound_j: no feasible plan uses less dynamic energy.
        program_j: the convex program's own optimum; NaN if the solver failed.
        tau: (I,) its time splits t_cmp / t_max; 0 for devices without work.
        learning_multiplier: λ, J per unit of mean error.
        band_multiplier: μ, J/Hz.
        status: how the solver ended; the bound holds in every case.
    """

    bound_j: float
    program_j: float
    tau: Array
    learning_multiplier: float
    band_multiplier: float
    status: CertificateStatus


def series_terms(x: float) -> int:
    """How many terms of Σ xᵏ/(k + 1)! leave a relative tail below 1e-10 up to this x."""
    count = 4
    while count < _TERMS_MAX:
        # Behind term n the series falls faster than geometrically with ratio x / (n + 2).
        ratio = x / (count + 2)
        if ratio < 0.5:
            log_term = count * math.log(max(x, 1e-300)) - math.lgamma(count + 2)
            log_tail = log_term - math.log1p(-ratio) - max(0.0, x - math.log(max(x, 1.0)))
            if log_tail < math.log(_TAIL):
                break
        count += 2
    return count


def certify(inner: InnerSolver, *, scale_j: float | None = None) -> Certificate:
    """Solve the joint program and prove a lower bound.

    The problem should be feasible. The bound is tight even where the solver fails (status
    ``"failed"``): the multipliers are then found by ascending the dual function alone.
    ``scale_j`` is the approximate energy of the fleet, J, for the solver's conditioning.
    """
    x = 4.0  # the series grows if this was too small
    scales_j = [_energy_scale(inner) if scale_j is None else scale_j, 1.0]
    scales_j.append(30.0 * scales_j[0])
    solution: dict[str, Any] | None = None
    terms = 0
    while terms == 0 or (series_terms(x) > terms and terms < _TERMS_MAX):
        terms = series_terms(x)
        # Whether Clarabel's last digits converge depends on the scale; no scale is always best.
        found = (_solve(inner, terms, scale) for scale in scales_j)
        longer = next((solved for solved in found if solved is not None), None)
        if longer is None:
            break  # multipliers of a shorter series are still a good start
        solution = longer
        x = 1.3 * float(solution["x"].max()) if series_terms(solution["x"].max()) > terms else 0.0
    if solution is None:
        best = ascend(inner, 0.0, 0.0)
    else:
        best = dual(inner, solution["learning"], solution["band"])
        if abs(best.bound_j - solution["energy_j"]) > _LOOSE * abs(solution["energy_j"]):
            best = ascend(inner, solution["learning"], solution["band"])
    return Certificate(
        bound_j=max(best.bound_j, 0.0),
        program_j=math.nan if solution is None else solution["energy_j"],
        tau=best.tau if solution is None else np.clip(solution["tau"], 0.0, 1.0),
        learning_multiplier=best.learning_multiplier,
        band_multiplier=best.band_multiplier,
        status=_STATUS.get("failed" if solution is None else solution["status"], "inaccurate"),
    )


def attempt(program: Any, **tolerances: float) -> bool:
    """Solve a CVXPY program with Clarabel; whether the solver has ended with any status."""
    import cvxpy as cp

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "inaccurate" is in the status
            program.solve(solver=cp.CLARABEL, **tolerances)
    except (cp.SolverError, ArithmeticError, ValueError):
        return False
    return True


def _energy_scale(inner: InnerSolver) -> float:
    tau = np.full((1, inner.problem.size), 0.5)
    energy_j = float(inner.evaluate(tau).energy_j[0])
    return energy_j if math.isfinite(energy_j) and energy_j > 0 else 1.0


def _solve(inner: InnerSolver, terms: int, scale_j: float) -> dict[str, Any] | None:
    """The program with a series of ``terms`` terms, times in units of t_max, band in units of B."""
    import cvxpy as cp

    problem = inner.problem
    size, work = problem.size, np.flatnonzero(inner.has_work)
    total_s = problem.t_max_s
    log_c = cp.Variable(size)  # t_com / t_max
    log_b = cp.Variable(size)  # b / B
    log_e = cp.Variable(size)  # e_com / scale
    log_x0 = inner.log_nats - np.log(problem.bandwidth_hz * total_s)
    log_x = log_x0 - log_c - log_b
    powers = np.arange(terms, dtype=float)
    series = (
        cp.reshape(log_x, (size, 1), order="C") @ powers[None, :]
        + (inner.log_k + inner.log_nats - math.log(scale_j))[:, None]
        - gammaln(powers + 2.0)[None, :]
    )
    limit = np.log(problem.transmit_power_max_w * total_s / scale_j)
    constraints = [cp.log_sum_exp(series, axis=1) <= log_e, log_e - log_c <= limit]
    energy = cp.sum(cp.exp(log_e))
    compute_share: Any = np.zeros(size)
    learning = None
    if work.size:
        log_t = cp.Variable(work.size)  # t_cmp / t_max
        log_n, learning, bounds = _data(cp, inner, work)
        constraints += bounds
        per_pass = np.log(problem.cycles_per_pass[work])
        log_total = np.log(total_s[work])
        log_f = per_pass + log_n - log_t - log_total
        dynamic = np.log(problem.capacitance_w_per_hz3[work] / scale_j)
        energy += cp.sum(cp.exp(dynamic + per_pass + log_n + 2.0 * log_f))
        active = np.flatnonzero(problem.active_power_w[work] > 0)
        if active.size:
            power = np.log(problem.active_power_w[work][active] / scale_j)
            energy += cp.sum(cp.exp(power + log_t[active] + log_total[active]))
        constraints += [
            log_f <= np.log(problem.frequency_max_hz[work]),
            log_f >= np.log(problem.frequency_min_hz[work]),
        ]
        place = np.zeros((size, work.size))
        place[work, np.arange(work.size)] = 1.0
        compute_share = place @ cp.exp(log_t)
    constraints.append(compute_share + cp.exp(log_c) <= 1.0)
    band = cp.sum(cp.exp(log_b)) <= 1.0
    constraints.append(band)
    if learning is not None:
        constraints.append(learning)
    program = cp.Problem(cp.Minimize(energy), constraints)
    if not attempt(program) or log_c.value is None or band.dual_value is None:
        return None
    tau = np.zeros(size)
    if work.size:
        tau[work] = np.exp(log_t.value)
    learned = 0.0 if learning is None else float(learning.dual_value)
    solution = {
        "status": program.status,
        "energy_j": float(program.value) * scale_j,
        "tau": tau,
        "x": np.exp(np.asarray(log_x0 - log_c.value - log_b.value)),
        "learning": max(learned, 0.0) * scale_j / problem.error_budget,
        "band": max(float(band.dual_value), 0.0) * scale_j / problem.bandwidth_hz,
    }
    numbers = [solution["energy_j"], solution["learning"], solution["band"], *tau, *solution["x"]]
    return solution if np.isfinite(numbers).all() else None


def _data(cp: Any, inner: InnerSolver, work: Any) -> tuple[Any, Any, list[Any]]:
    """Log D of the devices with work, the learning constraint, and the bounds on D."""
    problem = inner.problem
    low = np.log(inner.samples_min[work])
    room = np.log(inner.samples_max[work]) - low
    free = np.flatnonzero(room > 0) if inner.bound_by_error else np.zeros(0, int)
    log_n: Any = low
    bounds: list[Any] = []
    if free.size:
        more = cp.Variable(free.size)
        place = np.zeros((work.size, free.size))
        place[free, np.arange(free.size)] = 1.0
        log_n = low + place @ more
        bounds = [more >= 0, more <= room[free]]
    counted = np.flatnonzero(problem.weights[work] > 0)
    if not (inner.bound_by_error and free.size and counted.size):
        return log_n, None, bounds
    weight = inner.log_weight[work][counted] - math.log(problem.error_budget)
    worth = weight - cp.multiply(inner.beta[work][counted], log_n[counted])
    return log_n, cp.sum(cp.exp(worth)) <= 1.0, bounds
