"""The whole problem with laws as one convex program, by CVXPY; docs/model.md (21).

In the variables log D, log t_cmp, log t_com, log b and log R the problem is a generalised geometric
program: energies, times and errors are sums of exponentials of affine functions. The one term that
is not a finite sum is the upload's (eˣ − 1)/x = Σ_{k≥0} xᵏ/(k + 1)!, x = S ln2/(b t_com); it is cut
off where its tail is negligible at the largest x of the solution.

CVXPY states the program and Clarabel solves it. Nothing is planned with it: it is a second solver
that shares no formula of an optimum with the first, and says by how much the two differ. Its
optimum is as accurate as Clarabel's tolerances; it is no proved bound.

* :func:`solve_program`    the optimum, its variables and its multipliers
* :class:`ProgramSolution`  what is returned
* :func:`series_terms`     how many terms the series needs

CVXPY is imported when :func:`solve_program` is called: importing it takes a second.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from scipy.special import gammaln

from fimi.energy.cost_model import Array
from fimi.optim.problem import FimiProblem, ProblemError

_TAIL = 1e-10
_TERMS_MAX = 640
_LN2 = math.log(2.0)

ProgramStatus = Literal["optimal", "inaccurate", "infeasible", "failed"]
_STATUS: dict[str, ProgramStatus] = {"optimal": "optimal", "infeasible": "infeasible"}


class ProgramSolution(Struct, frozen=True, eq=False, kw_only=True):
    """The optimum of the convex program, in real numbers.

    Without a solution (``infeasible``, ``failed``) energies, variables and multipliers are NaN.

    Attributes:
        status: how the solver ended.
        energy_j: the problem's objective in a round, J.
        samples: D, (I,).
        compute_s: t_cmp, (I,); 0 for a device without samples.
        upload_s: t_com, (I,).
        bandwidth_hz: b, (I,).
        round_s: R, or when the last device is ready where no energy depends on it, s.
        learning_multiplier: λ, J per unit of mean error.
        band_multiplier: μ, J/Hz.
        deadline_multipliers: joules that one more second of ``t_max_s`` would save, (I,), J/s.
        round_multipliers: joules that would be saved if a device were ready a second earlier, (I,),
            J/s; 0 where no energy depends on the round's length.
        budget_multipliers: joules of a round that one more joule of a device's budget would save,
            (I,).
        fleet_budget_multiplier: the same for the fleet's budget.
    """

    status: ProgramStatus
    energy_j: float
    samples: Array
    compute_s: Array
    upload_s: Array
    bandwidth_hz: Array
    round_s: float
    learning_multiplier: float
    band_multiplier: float
    deadline_multipliers: Array
    round_multipliers: Array
    budget_multipliers: Array
    fleet_budget_multiplier: float


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


def solve_program(problem: FimiProblem, *, scale_j: float | None = None) -> ProgramSolution:
    """Solve the whole problem in real numbers; discrete frequencies of a law may be any between.

    Args:
        problem: a problem whose processors are laws.
        scale_j: the approximate energy of the fleet, J, for the solver's conditioning.

    Raises:
        ProblemError: a processor has measured powers, which are no law.
    """
    for i, watts in enumerate(problem.step_power_w):
        if watts:
            raise ProblemError(
                f"device {problem.devices[i]!r}: step_power_w are measured powers; the convex "
                "program needs a law. Leave them out"
            )
    sketch = _Sketch(problem)
    if not sketch.possible:
        return _nothing(problem, "infeasible")
    rough_j = sketch.rough_j if scale_j is None else scale_j
    x, terms, status = 4.0, 0, "failed"  # the series grows if this was too small
    found: ProgramSolution | None = None
    while terms == 0 or (series_terms(x) > terms and terms < _TERMS_MAX):
        terms = series_terms(x)
        # Whether Clarabel's last digits converge depends on the scale; no scale is always best.
        for scale in (rough_j, 1.0, 30.0 * rough_j):
            status, found, largest = _Program(sketch, terms, scale).solve()
            if status in ("optimal", "infeasible"):
                break
        if found is None:
            return _nothing(problem, _STATUS.get(status, "failed"))
        x = 1.3 * largest if series_terms(largest) > terms else 0.0
        rough_j = found.energy_j
    assert found is not None
    return found


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


class _Sketch:
    """What the program needs to know of a problem before it is stated.

    Attributes:
        low: no feasible plan has a smaller D, (I,).
        room: log of the largest D over the smallest, (I,).
        free: devices whose D is to be chosen.
        work: devices that train.
        times_cost: whether any energy depends on the length of a round.
        possible: whether the learning error can be met at all, and budgets exceed what is fixed.
    """

    def __init__(self, problem: FimiProblem) -> None:
        self.problem = problem
        local = problem.local_samples
        most = local + problem.generated_max
        self.learns = problem.curve is not None and math.isfinite(problem.error_max)
        counted = (problem.weights > 0) & self.learns
        self.log_weight = np.full(problem.size, -np.inf)
        self.beta = np.ones(problem.size)
        self.possible = True
        self.low = local
        if problem.curve is not None and self.learns:
            curve = problem.curve
            # A device's error is w α (g D^s)^(−β): a power law again.
            self.beta = curve.beta * problem.worth_exponent
            weight = problem.weights * curve.alpha * problem.worth_scale**-curve.beta
            with np.errstate(divide="ignore"):
                self.log_weight = np.log(weight)
                least = np.where(counted, weight * most**-self.beta, 0.0)
            spare = problem.error_budget - least.sum()
            self.possible = bool(spare >= -1e-12 * abs(problem.error_budget))
            if self.possible:
                # What the limit on the error implies, a little below: its price is the limit's own.
                own = np.where(counted, np.maximum(spare, 0.0) + least, 1.0)
                needed = 0.99 * (np.where(counted, weight, 1.0) / own) ** (1.0 / self.beta)
                self.low = np.where(counted, np.clip(needed, local, most), local)
        self.counted = np.flatnonzero(counted)
        self.work = np.flatnonzero(self.low > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(self.low > 0, np.log(most / self.low), 0.0)
        self.free = np.flatnonzero(counted & (room > 1e-12))
        self.room = room
        limited = np.isfinite(problem.budget_j)
        run_j = problem.rounds * problem.fixed_j - problem.synthetic_j * local
        self.budget_left_j = problem.budget_j - run_j
        self.fleet_left_j = problem.fleet_budget_j - float(run_j.sum())
        self.limited = np.flatnonzero(limited)
        self.possible &= bool((self.budget_left_j[limited] > 0).all() and self.fleet_left_j > 0)
        budgets = bool(limited.any()) or math.isfinite(problem.fleet_budget_j)
        counts_idle = problem.objective == "board" or budgets
        self.times_cost = counts_idle and bool((problem.idle_power_w > 0).any())

    @property
    def rough_j(self) -> float:
        """The size of the fleet's energy, J."""
        problem = self.problem
        speed = np.sqrt(problem.frequency_min_hz * problem.frequency_max_hz)
        busy_j = problem.compute_j(problem.cycles_per_pass * np.maximum(self.low, 1.0), speed)
        sent_j = 0.1 * (problem.transmit_power_max_w + problem.electronics_power_w)
        idle_j = problem.idle_power_w if problem.objective == "board" else 0.0
        return float((busy_j + (sent_j + idle_j) * problem.t_max_s).sum())


class _Program:
    """The program with a series of some length: times in t_max, band in B, energy in a scale."""

    def __init__(self, sketch: _Sketch, terms: int, scale_j: float) -> None:
        import cvxpy as cp

        self.cp: Any = cp
        self.sketch, self.problem, self.scale_j = sketch, sketch.problem, scale_j
        problem, size = self.problem, self.problem.size
        self.log_t_max = np.log(problem.t_max_s)
        self.log_c = cp.Variable(size)  # t_com / t_max
        self.log_b = cp.Variable(size)  # b / B
        self.log_r = cp.Variable() if sketch.times_cost else None  # R / the longest round
        self.log_n, self.constraints = self._samples()
        self.log_t = cp.Variable(sketch.work.size) if sketch.work.size else None  # t_cmp / t_max
        # Energy of devices per round: rows of devices and the logarithm of joules over the scale.
        self.energies: list[tuple[NDArray[np.intp], Any]] = []
        self._training()
        self._sending(terms)
        self.deadline, self.ready = self._times()
        self.band = cp.sum(cp.exp(self.log_b)) <= 1.0
        self.learning = self._learning()
        self.budgets, self.fleet_budget = self._budgets()
        self.constraints += [self.deadline, self.band]
        for limit in (self.ready, self.learning, self.budgets, self.fleet_budget):
            if limit is not None:
                self.constraints.append(limit)
        total = sum(cp.sum(cp.exp(log_j)) for _, log_j in [*self.energies, *self._board()])
        self.program = cp.Problem(cp.Minimize(total), self.constraints)

    def _samples(self) -> tuple[Any, list[Any]]:
        """Log D of the devices that train, and its bounds."""
        sketch, cp = self.sketch, self.cp
        log_low = np.log(sketch.low[sketch.work])
        if not sketch.free.size:
            return cp.Constant(log_low), []
        more = cp.Variable(sketch.free.size)
        place = (sketch.work[:, None] == sketch.free).astype(float)
        return log_low + place @ more, [more >= 0, more <= sketch.room[sketch.free]]

    def _training(self) -> None:
        """(2) κ (E C)³ D³ t_cmp^(−2) + c E C D + P_act t_cmp, and the range of f."""
        problem, work = self.problem, self.sketch.work
        if self.log_t is None:
            return
        log_cycles = np.log(problem.cycles_per_pass[work]) + self.log_n
        log_s = self.log_t + self.log_t_max[work]
        log_f = log_cycles - log_s
        self.constraints += [
            log_f <= np.log(problem.frequency_max_hz[work]),
            log_f >= np.log(problem.frequency_min_hz[work]),
        ]
        self._add(work, problem.capacitance_w_per_hz3[work], log_cycles + 2.0 * log_f)
        self._add(work, problem.linear_power_w_per_hz[work], log_cycles)
        self._add(work, problem.active_power_w[work], log_s)

    def _sending(self, terms: int) -> None:
        """(5), (40) p t_com + P_el t_com with p at most p_max, the rate at most its cap."""
        problem, cp = self.problem, self.cp
        size = problem.size
        nats = problem.payload_bits * _LN2
        log_max = np.log(problem.transmit_power_max_w) + self.log_t_max - math.log(self.scale_j)
        free = np.flatnonzero(problem.power_settable)
        fixed = np.flatnonzero(~problem.power_settable)
        log_e: Any = np.zeros(size)  # e_com without electronics, or all that p_max allows
        if free.size:
            sent = cp.Variable(free.size)
            log_e = log_e + _place(size, free) @ sent
            self.constraints.append(sent <= log_max[free] + self.log_c[free])
            self.energies.append((free, sent))
        if fixed.size:
            log_e = log_e + _place(size, fixed) @ (log_max[fixed] + self.log_c[fixed])
        self.log_x0 = np.log(nats / (problem.bandwidth_hz * problem.t_max_s))
        log_k = np.log(problem.noise_density_w_per_hz / problem.channel_gain)
        powers = np.arange(terms, dtype=float)
        series = (
            cp.reshape(self.log_x0 - self.log_c - self.log_b, (size, 1), order="C")
            @ powers[None, :]
            + (log_k + np.log(nats) - math.log(self.scale_j))[:, None]
            - gammaln(powers + 2.0)[None, :]
        )
        self.constraints.append(cp.log_sum_exp(series, axis=1) <= log_e)
        watts = problem.electronics_power_w + np.where(
            problem.power_settable, 0.0, problem.transmit_power_max_w
        )
        self._add(np.arange(size), watts, self.log_c + self.log_t_max)
        capped = np.flatnonzero(np.isfinite(problem.rate_cap_bps))
        if capped.size:
            shortest = (problem.payload_bits / problem.rate_cap_bps / problem.t_max_s)[capped]
            self.constraints.append(self.log_c[capped] >= np.log(shortest))

    def _add(self, rows: NDArray[np.intp], factor: Array, log_rest: Any) -> None:
        """A term of the energy: a factor, which may be 0, times an exponential."""
        some = np.flatnonzero(factor > 0)
        if some.size:
            log_factor = np.log(factor[some]) - math.log(self.scale_j)
            self.energies.append((rows[some], log_rest[some] + log_factor))

    def _times(self) -> tuple[Any, Any]:
        """t_cmp + t_com ≤ t_max, and with the time of receiving at most R."""
        problem, cp, size = self.problem, self.cp, self.problem.size
        shares = cp.exp(self.log_c)
        if self.log_t is not None:
            shares = shares + _place(size, self.sketch.work) @ cp.exp(self.log_t)
        if self.log_r is None:
            return shares <= 1.0, None
        self.constraints.append(self.log_r <= 0.0)
        log_unit = self.log_t_max - math.log(problem.round_max_s)
        of_round = cp.exp(self.log_c + log_unit - self.log_r)
        if self.log_t is not None:
            work = self.sketch.work
            of_round = of_round + _place(size, work) @ cp.exp(
                self.log_t + log_unit[work] - self.log_r
            )
        receiving = np.flatnonzero(problem.receive_s > 0)
        if receiving.size:
            log_s = np.log(problem.receive_s[receiving] / problem.round_max_s)
            of_round = of_round + _place(size, receiving) @ cp.exp(log_s - self.log_r)
        return shares <= 1.0, of_round <= 1.0

    def _learning(self) -> Any:
        """Σ w α D^(−β) ≤ Δ_max − δ0."""
        sketch, cp = self.sketch, self.cp
        if not sketch.free.size:
            return None
        where = np.searchsorted(sketch.work, sketch.counted)
        log_weight = sketch.log_weight[sketch.counted] - math.log(self.problem.error_budget)
        share = cp.multiply(sketch.beta[sketch.counted], self.log_n[where])
        return cp.sum(cp.exp(log_weight - share)) <= 1.0

    def _board(self) -> list[tuple[NDArray[np.intp], Any]]:
        """What only the board's energy counts and a plan changes: idle power, synthetic samples."""
        if self.problem.objective != "board":
            return []
        return [*self._resting(), *self._received(1.0 / self.problem.rounds)]

    def _resting(self) -> list[tuple[NDArray[np.intp], Any]]:
        idle = np.flatnonzero(self.problem.idle_power_w > 0)
        if self.log_r is None or not idle.size:
            return []
        log_w = np.log(self.problem.idle_power_w[idle] * self.problem.round_max_s / self.scale_j)
        return [(idle, self.log_r + log_w)]

    def _received(self, times: float) -> list[tuple[NDArray[np.intp], Any]]:
        """Receiving all samples as if all were synthetic; that of local ones is a constant."""
        work = self.sketch.work
        some = np.flatnonzero(self.problem.synthetic_j[work] > 0)
        if not some.size:
            return []
        log_j = np.log(times * self.problem.synthetic_j[work][some] / self.scale_j)
        return [(work[some], self.log_n[some] + log_j)]

    def _budgets(self) -> tuple[Any, Any]:
        """Board energy of all rounds, less what is constant, over what is left of the budgets."""
        problem, sketch, cp = self.problem, self.sketch, self.cp
        fleet = math.isfinite(problem.fleet_budget_j)
        if not (sketch.limited.size or fleet):
            return None, None
        log_rounds = math.log(problem.rounds)
        terms = [(rows, log_j + log_rounds) for rows, log_j in self.energies]
        terms += [(rows, log_j + log_rounds) for rows, log_j in self._resting()]
        terms += self._received(1.0)
        own: Any = None
        if sketch.limited.size:
            share: Any = np.zeros(sketch.limited.size)
            left = np.log(sketch.budget_left_j[sketch.limited] / self.scale_j)
            for rows, log_j in terms:
                hit = np.flatnonzero(np.isin(rows, sketch.limited))
                if hit.size:
                    place = (sketch.limited[:, None] == rows[hit]).astype(float)
                    share = share + place @ cp.exp(log_j[hit] - place.T @ left)
            own = share <= 1.0
        if not fleet:
            return own, None
        log_left = math.log(sketch.fleet_left_j / self.scale_j)
        return own, sum(cp.sum(cp.exp(log_j - log_left)) for _, log_j in terms) <= 1.0

    def solve(self) -> tuple[str, ProgramSolution | None, float]:
        """The solver's status, the solution if there is one, and the largest x in it."""
        problem, sketch, scale_j = self.problem, self.sketch, self.scale_j
        if not attempt(self.program):
            return "failed", None, math.nan
        status = str(self.program.status)
        if self.log_c.value is None or self.band.dual_value is None:
            return status, None, math.nan
        compute_s = np.zeros(problem.size)
        samples = sketch.low.copy()
        if self.log_t is not None:
            compute_s[sketch.work] = np.exp(self.log_t.value) * problem.t_max_s[sketch.work]
            chosen = np.isin(sketch.work, sketch.free)
            samples[sketch.free] = np.exp(self.log_n.value[chosen])
        upload_s = np.exp(self.log_c.value) * problem.t_max_s
        round_s = float((problem.receive_s + compute_s + upload_s).max())
        if self.log_r is not None:
            round_s = problem.round_max_s * float(np.exp(self.log_r.value))
        constant_j = float((problem.energy_per_bit_j * problem.payload_bits).sum())
        if problem.objective == "board":
            constant_j += float((problem.receive_power_w * problem.receive_s).sum())
            local_j = problem.synthetic_j * problem.local_samples
            constant_j -= float(local_j.sum()) / problem.rounds
        budgets = np.zeros(problem.size)
        budgets[sketch.limited] = self._price(self.budgets) / sketch.budget_left_j[sketch.limited]
        solution = ProgramSolution(
            status=_STATUS.get(status, "inaccurate"),
            energy_j=float(self.program.value) * scale_j + constant_j,
            samples=samples,
            compute_s=compute_s,
            upload_s=upload_s,
            bandwidth_hz=np.exp(self.log_b.value) * problem.bandwidth_hz,
            round_s=round_s,
            learning_multiplier=float(self._price(self.learning)) / problem.error_budget,
            band_multiplier=float(self._price(self.band)) / problem.bandwidth_hz,
            deadline_multipliers=self._price(self.deadline) / problem.t_max_s,
            round_multipliers=np.broadcast_to(self._price(self.ready) / round_s, budgets.shape),
            budget_multipliers=budgets,
            fleet_budget_multiplier=float(self._price(self.fleet_budget)) / sketch.fleet_left_j,
        )
        x = np.exp(self.log_x0 - self.log_c.value - self.log_b.value)
        numbers = [solution.energy_j, solution.round_s, *samples, *compute_s, *upload_s, *x]
        if not np.isfinite(numbers).all():
            return "failed", None, math.nan
        return status, solution, float(x.max())

    def _price(self, limit: Any) -> Array:
        """Joules per relative change of a limit; 0 for one that is not there."""
        value = 0.0 if limit is None else limit.dual_value
        return np.asarray(np.maximum(np.asarray(value, float), 0.0) * self.scale_j)


def _place(size: int, rows: NDArray[np.intp]) -> Array:
    """The matrix that puts a vector's entries into these rows, (size, len(rows))."""
    place = np.zeros((size, rows.size))
    place[rows, np.arange(rows.size)] = 1.0
    return place


def _nothing(problem: FimiProblem, status: ProgramStatus) -> ProgramSolution:
    unknown = np.full(problem.size, np.nan)
    return ProgramSolution(
        status=status,
        energy_j=math.nan,
        samples=unknown,
        compute_s=unknown,
        upload_s=unknown,
        bandwidth_hz=unknown,
        round_s=math.nan,
        learning_multiplier=math.nan,
        band_multiplier=math.nan,
        deadline_multipliers=unknown,
        round_multipliers=unknown,
        budget_multipliers=unknown,
        fleet_budget_multiplier=math.nan,
    )
