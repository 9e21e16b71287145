"""The energies of a plan in words, the same wherever a plan is shown.

* :func:`certified`  joules with their bound and the gap between them
* :func:`energies`   both energies of a plan, first the one that it makes least
* :func:`gap_of_search`  how much of a plan's gap is the search's
* :func:`over_budget`  budgets that a run has not kept
* :func:`held`       what rounds took, and what the plan has of one
"""

from __future__ import annotations

from typing import Protocol

from fimi.energy.joules import format_energy
from fimi.record.planned import PlanHeld
from fimi.record.summary import Budget, Summary
from fimi.record.sums import Compared
from fimi.report.words import joules, modelled, seconds, signed_percent, small_percent


class CertifiedEnergy(Protocol):
    """Joules of a round, and the least that any plan takes."""

    @property
    def energy_j(self) -> float | None:
        """The joules, J."""

    @property
    def bound_j(self) -> float | None:
        """The certified bound, J."""

    @property
    def gap_percent(self) -> float | None:
        """How far the first is above the second."""


class TwoEnergies(Protocol):
    """A plan, as far as its energies go."""

    @property
    def objective(self) -> str:
        """Which of both it makes least."""

    @property
    def board(self) -> CertifiedEnergy:
        """Whole boards."""

    @property
    def dynamic(self) -> CertifiedEnergy:
        """Compute and upload above idle."""

    @property
    def budget_cost_j(self) -> float | None:
        """How much more the first takes because of budgets, J."""


def certified(energy: CertifiedEnergy) -> str:
    """``92.1 J (modelled; bound 92.0 J, gap 0.11 %)``."""
    if energy.bound_j is None:
        return modelled(energy.energy_j, "no bound")
    gap = f", gap {small_percent(energy.gap_percent)}" if energy.bound_j > 0 else ""
    return modelled(energy.energy_j, f"bound {joules(energy.bound_j)}{gap}")


def energies(plan: TwoEnergies) -> str:
    """Both energies of a round: ``least board energy 92.1 J (modelled; bound 92.0 J, …), …``."""
    both = [("board", plan.board), ("dynamic", plan.dynamic)]
    if plan.objective != "board":
        both.reverse()
    (name, least), (other, rest) = both
    said = f"least {name} energy {certified(least)}"
    if plan.budget_cost_j:
        said += f", {modelled(plan.budget_cost_j)} of it for the budgets"
    return said if rest.energy_j is None else f"{said}, {other} {certified(rest)}"


def gap_of_search(search_percent: float | None, plan_percent: float | None) -> float | None:
    """The gap before rounding, percent, where it is a part of the plan's; else ``None``.

    Whole samples may keep budgets and the error limit with less than the search's plan, which keeps
    some room for them. Then its gap says nothing about the plan that runs.
    """
    if search_percent is None or plan_percent is None or search_percent >= plan_percent:
        return None
    return max(search_percent, 0.0)


def over_budget(summary: Summary) -> list[str]:
    """One line for each budget that a run has not kept, the fleet's first."""
    return [_over(each) for each in summary.overspent]


def _over(budget: Budget) -> str:
    taken, more_j = budget.taken, budget.taken.value_j - budget.budget_j
    within = ", which is within the uncertainty" if more_j <= taken.uncertainty_j else ""
    return (
        f"{budget.device or 'the fleet'} took {joules(more_j)} "
        f"({small_percent(100.0 * more_j / budget.budget_j)}) more than its budget of "
        f"{budget.budget_j:g} J: {format_energy(taken)} ± {joules(taken.uncertainty_j)}{within}"
    )


def held(found: PlanHeld) -> str:
    """``mean of 20 rounds: 95.1 J (emulated, board), planned 92.1 J (modelled; −3.2 %); …``."""
    said = []
    for name, energy in (("", found.board), ("dynamic ", found.dynamic)):
        if energy.predicted_j is not None:
            said.append(f"{name}{_against(energy)}")
    if found.planned_round_s is not None:
        said.append(f"{seconds(found.round_s)}, planned {seconds(found.planned_round_s)}")
    if not said:
        return ""
    rounds = "1 round" if found.rounds == 1 else f"mean of {found.rounds} rounds"
    return f"{rounds}: {'; '.join(said)}"


def _against(energy: Compared) -> str:
    took = "unknown joules" if energy.measured is None else format_energy(energy.measured)
    error = signed_percent(energy.error_percent) if energy.measured is not None else ""
    return f"{took}, planned {modelled(energy.predicted_j, error)}"
