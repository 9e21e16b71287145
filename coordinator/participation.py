"""k of n devices: which of them take part in a round, and the prediction of that round.

* :func:`draw`       the participants of a round, by seed and round alone
* :func:`predicted`  the phases of a round, for its participants and its resting devices

The plan divides the band among all devices of the fleet, so that any k of them fit into it; the
share of resting devices is not used. A resting device still draws its idle power for as long as the
round lasts. This energy is counted, because a board that waits is part of the cost of a federation.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from fimi.energy.cost_model import BoardModel, PhaseCost, idle_cost
from fimi.messaging.messages.orders import DevicePlan

_DRAW = 4
"""Number of the random stream for the draw of participants."""


def draw(
    fleet: Sequence[str], present: Collection[str], count: int, *, seed: int, number: int
) -> tuple[str, ...]:
    """The participants of a round.

    The whole fleet gets a random order, and the first ``count`` devices that are online take part.
    So the draw does not depend on when devices return. If a drawn device is offline, the next one
    in that order takes part, and nothing changes for the others.

    Args:
        fleet: ids of all planned devices.
        present: those of them that are online and follow their plan.
        count: k; 0 for all that are online. If fewer are online, all of them.
        seed: seed of the run.
        number: number of the round.

    Returns:
        Ids, sorted.
    """
    if not count:
        return tuple(sorted(present))
    stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_DRAW, number)))
    order = stream.permutation(sorted(fleet)).tolist()
    return tuple(sorted([device for device in order if device in present][:count]))


def predicted(
    present: Mapping[str, DevicePlan], drawn: Collection[str], boards: Mapping[str, BoardModel]
) -> dict[str, tuple[PhaseCost, ...]]:
    """The predicted phases of a round.

    It lasts as long as the slowest participant is busy. Participants wait for that one; resting
    devices idle for the whole round, but for receiving synthetic samples that are due.

    Args:
        present: plans of all devices that are online.
        drawn: the participants, at least one.
        boards: cost parameters of every device.
    """
    busy = {
        device: tuple(
            cost
            for cost in plan.predicted
            if cost.phase == "synthetic-download" or (device in drawn and cost.phase != "idle")
        )
        for device, plan in present.items()
    }
    seconds = {
        device: math.fsum(cost.duration_s for cost in costs) for device, costs in busy.items()
    }
    round_s = max(seconds[device] for device in drawn)
    return {
        device: (*costs, idle_cost(boards[device], max(round_s - seconds[device], 0.0)))
        for device, costs in busy.items()
    }
