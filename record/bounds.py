"""The most that a device can have used while nobody was told what it used.

* :func:`own_s`        a round without what a device still did for the one before
* :func:`unmetered_s`  the part of a round without joules
* :func:`unknown_max`  the bound on the joules of that part, docs/model.md (46)
* :func:`remaining`    the same bound after more of the round became known

A bound is of kind ``modelled``, by the device's own cost parameters. It stands beside a sum with
gaps and is never added to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from fimi.energy.cost_model import BoardModel, largest_power_w
from fimi.energy.joules import Energy
from fimi.energy.ledger import PhaseRecord

SOURCE = "highest power of the board"
_NOTHING_S = 1e-6
"""A shorter time without joules is none, s: clocks do not agree better."""


def own_s(
    round_s: float, busy_s: float | None, waited_s: float, phases: Iterable[PhaseRecord]
) -> float:
    """The length of a round without the time in which a device still worked in the one before, s.

    The joules of that time are booked to the round before. An emulated device that was late begins
    the next round late, and counts as busy from the fleet's start.

    Args:
        round_s: length of the round, s.
        busy_s: as the device reported it; ``None`` if it did not.
        waited_s: how much longer it was at work, because it waited for others, s.
        phases: what was reported of the round.
    """
    work = [phase for phase in phases if phase.phase != "idle"]
    if busy_s is None or not work:
        return round_s
    took_s = work[-1].start_s + work[-1].duration_s - work[0].start_s
    return round_s - max(0.0, busy_s + waited_s - took_s)


def unmetered_s(round_s: float, phases: Iterable[PhaseRecord]) -> float:
    """How much of a round of ``round_s`` seconds has no joules, s; 0 if all of it has.

    A phase that was told and could not be read has none, also where phases last longer than the
    round.
    """
    told = list(phases)
    unread_s = math.fsum(phase.duration_s for phase in told if phase.energy is None)
    read_s = math.fsum(phase.duration_s for phase in told if phase.energy is not None)
    left_s = max(round_s - read_s, unread_s)
    return left_s if left_s > _NOTHING_S else 0.0


def unknown_max(
    board: BoardModel, round_s: float, phases: Iterable[PhaseRecord] = (), rate_bps: float = 0.0
) -> Energy | None:
    """(46) The most that a board can have used in the part of a round without joules.

    Args:
        board: its cost parameters.
        round_s: length of the round, s.
        phases: what was reported of it.
        rate_bps: the highest uplink rate of the device, bit/s.

    Returns:
        ``None`` if the whole round has joules.
    """
    left_s = unmetered_s(round_s, phases)
    if left_s == 0.0:
        return None
    value_j = largest_power_w(board, rate_bps) * left_s
    return Energy(value_j=value_j, kind="modelled", source=SOURCE)


def remaining(
    bound: Energy | None,
    was_s: float,
    left_s: float,
) -> Energy | None:
    """A bound after more phases of the round became known: it shrinks with the time, or goes.

    Args:
        bound: as it was.
        was_s: the part of the round without joules then, s.
        left_s: the same now, s.
    """
    if bound is None:
        return None
    if left_s == 0.0:
        return None
    if was_s == 0.0:
        return bound
    return msgspec.structs.replace(bound, value_j=bound.value_j * min(1.0, left_s / was_s))
