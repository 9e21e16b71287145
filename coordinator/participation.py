"""k of n: which devices take part in a round, and what each device is then expected to draw.

* :func:`draw`       the participants of a round, by seed and round alone
* :func:`predicted`  the phases of a round of these participants, for them and for those that rest

The plan divides the band among all devices of the fleet, so that any k of them fit into it; those
that are not drawn leave their share unused. A device that rests still draws its idle power for as
long as the round lasts, and that is counted: a board that stands ready for a federation is part of
what the federation costs.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from fimi.energy.cost_model import BoardModel, PhaseCost, idle_cost
from fimi.messaging.messages import DevicePlan

_DRAW = 4
"""Keeps this stream of random numbers apart from those of other purposes."""


def draw(
    fleet: Sequence[str], present: Collection[str], count: int, *, seed: int, number: int
) -> tuple[str, ...]:
    """The participants of a round.

    The whole fleet is put in a random order, and the first ``count`` that are there take part: so
    who has come back or when plays no part in it, and where someone drawn is absent, the next in
    that order steps in without changing anything for the others.

    Args:
        fleet: ids of all planned devices.
        present: those of them that are there and follow their plan.
        count: k; 0 for all that are there. If fewer are there, all of them.
        seed: of the run.
        number: of the round.

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
    """What a round of these participants is expected to take.

    It lasts as long as the slowest participant is busy. Participants wait for that one, the others
    idle through all of it.

    Args:
        present: plans of all devices that are there.
        drawn: those that take part, at least one.
        boards: cost parameters of every device.
    """
    busy = {
        device: tuple(cost for cost in plan.predicted if cost.phase != "idle")
        for device, plan in present.items()
    }
    seconds = {
        device: math.fsum(cost.duration_s for cost in busy[device]) if device in drawn else 0.0
        for device in present
    }
    round_s = max(seconds.values())
    return {
        device: (
            *(busy[device] if device in drawn else ()),
            idle_cost(boards[device], round_s - seconds[device]),
        )
        for device in present
    }
