"""What a run paid for an accuracy: rounds, joules, seconds, bytes."""

from __future__ import annotations

from collections.abc import Sequence

from fimi.learning.training.metrics import TargetCost, cost_to_target
from fimi.record.results import Preparation, RoundResult, board_energy


def costs_to_targets(
    targets: Sequence[float], preparations: Sequence[Preparation], rounds: Sequence[RoundResult]
) -> tuple[TargetCost, ...]:
    """The price of each accuracy; a target that was never reached has none.

    Joules are of the whole fleet's boards, idling included, and unknown where a device of a round
    was not metered. Seconds are on the fleet's clock. Bytes are what devices say they moved, both
    ways. All of them count from the beginning, the synthetic batches included.

    Args:
        targets: accuracies, 0 to 1.
        preparations: what came before the first round.
        rounds: finished rounds, all of them, in order.
    """
    energy_j: list[float | None] = []
    size_bytes: list[float | None] = []
    duration_s: list[float | None] = []
    for number, result in enumerate(rounds):
        before = () if number else preparations
        energy = None if result.unmetered else board_energy(before, (result,))
        energy_j.append(energy.value_j if energy else None)
        moved = [t.size_bytes for p in before for t in p.transfers]
        moved += [t.size_bytes for device in result.devices for t in device.transfers]
        size_bytes.append(float(sum(moved)))
        duration_s.append(result.duration_s + (0.0 if number else result.start_s))
    accuracies = [result.evaluation.accuracy for result in rounds]
    return tuple(
        cost_to_target(
            accuracies, target, energy_j=energy_j, duration_s=duration_s, size_bytes=size_bytes
        )
        for target in targets
    )
