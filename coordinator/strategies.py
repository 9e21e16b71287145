"""FIMI and the baselines it is held against.

A strategy decides what a device trains on and under which constraint its plan is made; planner,
deadlines, bandwidth, rounds and aggregation are the same for all, so that strategies compare.
"""

from __future__ import annotations

from typing import Protocol

from optim.problem import FimiProblem, tfl


class Strategy(Protocol):
    """How a federation is planned."""

    @property
    def name(self) -> str:
        """As given on the command line."""
        ...

    @property
    def title(self) -> str:
        """As shown in the report."""
        ...

    def constrain(self, problem: FimiProblem) -> FimiProblem:
        """The problem under this strategy's constraints, from FIMI's."""
        ...


class Fimi:
    """Filling the missing: synthetic data and resources planned together (arXiv 2310.13981)."""

    name = "fimi"
    title = "FIMI: synthetic data and resources planned together"

    def constrain(self, problem: FimiProblem) -> FimiProblem:
        """As it is: as many synthetic samples as the error constraint asks for."""
        return problem


class Tfl:
    """Traditional federated learning: local data only, frequency and bandwidth still optimal."""

    name = "tfl"
    title = "TFL: local data only, resources planned"

    def constrain(self, problem: FimiProblem) -> FimiProblem:
        """No synthetic samples, no constraint on learning."""
        return tfl(problem)


STRATEGIES: dict[str, Strategy] = {"fimi": Fimi(), "tfl": Tfl()}
"""Name to strategy."""
