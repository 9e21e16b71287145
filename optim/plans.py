"""A plan as values: each device's share, energy, bound, and the search that found it."""

from __future__ import annotations

import math
from typing import Literal

from msgspec import Struct

from fimi.energy.cost_model import OperatingPoint
from fimi.optim.cross_entropy import Iteration
from fimi.optim.problem import Objective

SearchName = Literal[
    "dual decomposition",
    "dual decomposition, then steps and samples",
    "cross-entropy from the dual decomposition",
    "cross-entropy",
    "no search",
]
"""What found a plan. Steps and samples are chosen together where devices have steps."""
PlanStatus = Literal["optimal", "feasible", "uncertified"]
"""``optimal``: the plan as it will run is within the gap tolerance of the bound. ``feasible``: it
is not, because of the search or of whole samples and settable frequencies. ``uncertified``: no
bound was asked for."""


class DeviceShare(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One device's share of a plan.

    Attributes:
        device: id of the device.
        synthetic_counts: synthetic samples per class.
        samples: D, local and synthetic.
        point: frequency, bandwidth, power, time split.
        compute_s: predicted time of training in a round.
        upload_s: predicted time of the upload.
        compute_j: predicted dynamic energy of training.
        upload_j: predicted dynamic energy of the upload.
        budget_price: joules that the fleet would save in a run for each joule more in this device's
            budget; 0 where the budget does not bind.
    """

    device: str
    synthetic_counts: tuple[int, ...]
    samples: int
    point: OperatingPoint
    compute_s: float
    upload_s: float
    compute_j: float
    upload_j: float
    budget_price: float = 0.0


class Certified(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An energy of a plan, and how much less of it any plan could take.

    Attributes:
        energy_j: of one round of the plan as it will run, J.
        bound_j: proved: no plan that keeps the limits takes less; ``None`` if not asked for.
    """

    energy_j: float
    bound_j: float | None = None

    @property
    def gap_percent(self) -> float | None:
        """(24) Distance of the energy from the bound, percent of the bound; ``None`` without."""
        return gap_percent(self.energy_j, self.bound_j)


def gap_percent(energy_j: float, bound_j: float | None) -> float | None:
    """(24) How far an energy is above a bound; infinite for a bound of 0, ``None`` for none."""
    if bound_j is None:
        return None
    return 100.0 * (energy_j - bound_j) / bound_j if bound_j > 0 else math.inf


class Expectation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a plan for a target accuracy expects, to be held against the run afterwards.

    Attributes:
        accuracy: the target, 0 to 1.
        rounds: to it, a real number.
        energy_j: of the plan's objective until then, J, preparation included.
        error_max: Δ_max that was chosen.
    """

    accuracy: float
    rounds: float
    energy_j: float
    error_max: float


class Plan(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A plan for every device, with its bound.

    Attributes:
        devices: the devices' shares, in the problem's order.
        status: whether it is proved to be optimal.
        search: the search that found it.
        objective: the energy that the plan makes least.
        board: energy of the boards in a round: above idle, idle power over the whole round, and a
            round's share of receiving the synthetic samples.
        dynamic: compute and upload above idle in a round, the paper's energy.
        round_s: how long a round of this plan lasts, s.
        preparation_j: board energy of receiving the synthetic samples, once in a run, J.
        search_energy_j: the objective before rounding to whole samples and settable frequencies.
        search_gap_percent: its distance from the bound.
        error: mean learning error Σ w Δ of the whole samples, synthetic ones counted as
            ``synthetic_value``; ``None`` without a learning constraint.
        error_max: the constraint on it; ``None`` for none.
        learning_multiplier: λ: joules that a round would save per unit by which Δ_max is raised.
        band_multiplier: μ: joules that a round would save per additional hertz.
        history: history of the search, one entry per iteration.
        stop: why the search ended.
        evaluations: number of candidates that it evaluated.
        search_s: wall time of the search, s.
        certificate_s: wall time of the certificate, s.
        budget_cost_j: how much more of the objective a round takes because of the budgets, J.
        synthetic_value: q: the worth of a synthetic sample in real ones that was assumed.
        epochs: local epochs of a round that were chosen with it; ``None``: as configured.
        expected: with a target accuracy, what is expected of the run.
    """

    devices: tuple[DeviceShare, ...]
    status: PlanStatus
    search: SearchName
    objective: Objective
    board: Certified
    dynamic: Certified
    round_s: float
    search_energy_j: float
    search_gap_percent: float | None
    error: float | None
    error_max: float | None
    learning_multiplier: float
    band_multiplier: float
    history: tuple[Iteration, ...]
    stop: str
    evaluations: int
    search_s: float
    certificate_s: float
    synthetic_value: float = 1.0
    preparation_j: float = 0.0
    budget_cost_j: float = 0.0
    epochs: int | None = None
    expected: Expectation | None = None

    @property
    def least(self) -> Certified:
        """The energy that the plan makes least."""
        return self.board if self.objective == "board" else self.dynamic

    @property
    def energy_j(self) -> float:
        """The energy that the plan makes least, J in one round."""
        return self.least.energy_j

    @property
    def bound_j(self) -> float | None:
        """Certified lower bound on it; ``None`` if not asked for."""
        return self.least.bound_j

    @property
    def gap_percent(self) -> float | None:
        """Distance of ``energy_j`` from the bound, percent of the bound."""
        return self.least.gap_percent

    @property
    def iterations(self) -> int:
        """How many iterations the search took."""
        return len(self.history)
