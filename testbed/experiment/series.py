"""A stored run in numbers: accuracy, joules, seconds and bytes of every round.

* :func:`read_outcome`   from the run store alone, so that nothing has to run again
* :class:`RunSeries`     the numbers

The first round holds what came before it: receiving the synthetic data. What a device could not
read makes its round unknown, never cheaper.
"""

from __future__ import annotations

import math
from pathlib import Path

from msgspec import Struct

from fimi.learning.training.metrics import TargetCost, cost_to_target
from fimi.record import results
from fimi.record.reader import read_run
from fimi.record.record import RunData
from fimi.record.results import Preparation, RoundResult


class RunSeries(Struct, frozen=True, kw_only=True):
    """A run, round by round.

    Attributes:
        accuracy: of the global model, 0 to 1.
        board_j: whole boards, all phases, J; ``None`` where a device's energy is not known.
        dynamic_j: the paper's energy, compute and upload above idle, J; ``None`` likewise.
        duration_s: on the fleet's clock, s.
        size_bytes: moved by the devices; empty if the store does not say.
        kind: what the joules are; ``None`` without any.
        data: digests of the parts of the data and of who holds what; equal for paired runs.
        synthetic_samples: that the devices were to get together.
        wall_s: how long the run took; ``None`` if not known.
        warnings: what else a reader must know.
        undelivered: synthetic samples that were asked for and did not come.
    """

    accuracy: tuple[float, ...]
    board_j: tuple[float | None, ...]
    dynamic_j: tuple[float | None, ...]
    duration_s: tuple[float, ...]
    size_bytes: tuple[float, ...]
    kind: str | None
    data: dict[str, str]
    synthetic_samples: int
    wall_s: float | None
    warnings: tuple[str, ...] = ()
    undelivered: int = 0

    def cost(self, target: float) -> dict[str, float | None]:
        """What it took to reach an accuracy, by the names of :data:`COSTS`; ``None``: unknown.

        All are infinite if it was never reached.
        """
        board = self._to(target, self.board_j)
        if board.rounds is None:
            return dict.fromkeys(COSTS, math.inf)
        return {
            "rounds": float(board.rounds),
            "board_j": board.energy_j,
            "dynamic_j": self._to(target, self.dynamic_j).energy_j,
            "duration_s": board.duration_s,
            "size_bytes": board.size_bytes,
        }

    def _to(self, target: float, energy_j: tuple[float | None, ...]) -> TargetCost:
        return cost_to_target(
            self.accuracy,
            target,
            energy_j=energy_j,
            duration_s=self.duration_s,
            size_bytes=self.size_bytes,
        )


COSTS = ("rounds", "board_j", "dynamic_j", "duration_s", "size_bytes")
"""What an accuracy may cost, in the order of the tables."""


def read_outcome(folder: Path) -> RunSeries:
    """A run from its folder.

    Raises:
        ReportError: there is none, or it cannot be read.
    """
    run = read_run(folder)
    declared = {device: profile.board.idle_power_w for device, profile in run.profiles.items()}
    idle_w = results.idle_powers_w(run.rounds, declared)
    energy = results.board_energy(run.preparations, run.rounds)
    before = {True: run.preparations, False: ()}
    data = run.info.dataset
    return RunSeries(
        accuracy=tuple(r.evaluation.accuracy for r in run.rounds),
        board_j=tuple(_board_j(before[r.number == 1], r) for r in run.rounds),
        dynamic_j=tuple(
            None if r.unmetered or r.energy is None else results.dynamic_energy_j((r,), idle_w)
            for r in run.rounds
        ),
        duration_s=tuple(_duration_s(before[r.number == 1], r) for r in run.rounds),
        size_bytes=_bytes(run),
        kind=energy.kind if energy else None,
        data={
            "public": data.public_digest,
            "private": data.private_digest,
            "test": data.test_digest,
            "partition": data.partition_digest,
        },
        synthetic_samples=sum(
            sum(p.synthetic_counts) + p.unlabelled for p in run.device_plans.values()
        ),
        wall_s=run.info.wall_s,
        warnings=run.warnings,
        undelivered=run.generation.undelivered if run.generation else 0,
    )


def _board_j(before: tuple[Preparation, ...], result: RoundResult) -> float | None:
    parts = [results.metered(p.phases) for p in before if p.phases] + [result.energy]
    if result.unmetered or any(part is None for part in parts):
        return None
    return math.fsum(part.value_j for part in parts if part is not None)


def _duration_s(before: tuple[Preparation, ...], result: RoundResult) -> float:
    """A round and what came before it; devices receive their data side by side."""
    waits = [math.fsum(phase.duration_s for phase in p.phases) for p in before]
    return result.duration_s + max(waits, default=0.0)


def _bytes(run: RunData) -> tuple[float, ...]:
    first = sum(t.size_bytes for p in run.preparations for t in p.transfers)
    moved = [sum(t.size_bytes for d in r.devices for t in d.transfers) for r in run.rounds]
    if not any(moved):
        return ()
    return tuple(float(size + (first if i == 0 else 0)) for i, size in enumerate(moved))
