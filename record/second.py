"""What a second meter of a device says beside the first one; it is in no sum.

* :class:`SecondMeter`   one device over the whole run
* :func:`second_meter`   the same, from a run

A phase is compared over those of its stretches that both meters can tell from those beside it. The
whole is compared over all stretches that both have metered: what one phase lacks, the next one has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from fimi.energy.cost_model import PHASES, Phase
from fimi.energy.joules import Energy, total
from fimi.energy.ledger import PhaseRecord
from fimi.record.record import RunData


class BothMeters(Struct, frozen=True, kw_only=True):
    """Energy of the same stretches by two meters.

    Attributes:
        phase: the phase; ``None`` for all of them together.
        first: by the meter whose joules count.
        second: by the other one.
        gain: the second over the first; ``None`` where there is no stretch of the phase that both
            can tell, or one of them has no joules.
        gain_sd: one standard deviation of it, by the uncertainties of both.
        count: stretches that both can tell; where there is none, and of the whole, stretches that
            both have metered.
    """

    phase: Phase | None
    first: Energy
    second: Energy
    gain: float | None
    gain_sd: float | None
    count: int


class SecondMeter(Struct, frozen=True, kw_only=True):
    """A second meter of one device over the whole run.

    Attributes:
        whole: all phases together.
        phases: each phase, in the order of a round.
        missing: stretches that one of the two has not metered.
    """

    whole: BothMeters
    phases: tuple[BothMeters, ...]
    missing: int


def second_meter(run: RunData, device: str) -> SecondMeter | None:
    """What the second meter of a device says; ``None`` where it has none."""
    records = [record for each in run.stretches_of(device) for record in each.phases]
    both = [r for r in records if r.energy is not None and r.second is not None]
    whole = _compared(None, both)
    if whole is None:
        return None
    phases = (_compared(phase, [r for r in both if r.phase == phase]) for phase in PHASES)
    return SecondMeter(
        whole=whole,
        phases=tuple(each for each in phases if each is not None),
        missing=len(records) - len(both),
    )


def _compared(phase: Phase | None, records: Sequence[PhaseRecord]) -> BothMeters | None:
    told = [r for r in records if phase is None or (r.resolved and r.second_resolved)]
    records = told or records
    first = total((r.energy for r in records if r.energy is not None), one_meter=True)
    second = total((r.second for r in records if r.second is not None), one_meter=True)
    if first is None or second is None:
        return None
    gain = gain_sd = None
    if told and first.value_j > 0.0 and second.value_j > 0.0:
        gain = second.value_j / first.value_j
        shares = (each.uncertainty_j / each.value_j for each in (first, second))
        gain_sd = gain * math.hypot(*shares)
    return BothMeters(
        phase=phase, first=first, second=second, gain=gain, gain_sd=gain_sd, count=len(records)
    )
