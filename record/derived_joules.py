"""Joules of the model's trials above resting, once more; and what of a run is computed nowhere.

A device takes from what a trial took what it had taken at rest before and after it:
:func:`check_derived` does so again, with what the readings give of both. The rest of what a store
tells is named by :func:`told_only`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from msgspec import Struct

from fimi.energy.joules import Energy
from fimi.energy.ledger import Evidence, PhaseRecord
from fimi.energy.resting import above, fit
from fimi.record.record import RunData
from fimi.record.recount import SAME, Recount


class DerivedCheck(Struct, frozen=True, kw_only=True):
    """What is known of such joules.

    Attributes:
        count: how many were computed again.
        wrong: a sentence for each that is another one.
        unchecked: those of trials whose readings are not there.
    """

    count: int
    wrong: tuple[str, ...] = ()
    unchecked: int = 0


def check_derived(run: RunData, found: Recount) -> DerivedCheck:
    """Compute these joules again.

    Args:
        run: the run.
        found: its phases, recounted.
    """
    count = unchecked = 0
    wrong: list[str] = []
    again = {
        (each.device, each.round, each.record.start_s): each.again
        for each in found.phases
        if each.record is not None and each.phase == "inference" and each.verdict == "holds"
    }
    for made in run.made:
        for device, trial in made.tried:
            if trial.above is None or trial.metered is None:
                continue
            record = again.get((device, made.round, trial.metered.start_s))
            if record is None:
                unchecked += 1
                continue
            known = [_above(record, each) for each in found.said.get(device, ())]
            same = any(_same(trial.above, each) for each in known)
            if not same and device in found.partial:
                unchecked += 1  # what a ledger knew before is not there
                continue
            count += 1
            if not same:
                stored_j = trial.above.value_j
                given_j = [each.value_j for each in known if each is not None]
                nearest_j = min(given_j, key=lambda each: abs(each - stored_j), default=None)
                wrong.append(
                    f"{device}, {trial.variant} after round {made.round}: {stored_j:.9g} J above "
                    "resting, its readings give "
                    + ("nothing" if nearest_j is None else f"{nearest_j:.9g} J")
                )
    return DerivedCheck(count=count, wrong=tuple(wrong), unchecked=unchecked)


def told_only(run: RunData) -> Iterator[str]:
    """What no check computes again, of what a run has, in words."""
    yield "accuracies, losses and learning metrics: the data are not in the bundle"
    if run.rounds:
        yield (
            "lengths of rounds, busy times, bytes moved, temperatures and labels of devices, which "
            "stand as they were reported"
        )
    if run.residuals:
        yield "predicted joules: formulas whose parameters the store has (docs/model.md)"
        yield (
            "whether a difference of predicted and metered joules is of all stretches of its "
            "phase: one may have come after the round"
        )
    if any(e.unknown_max is not None for result in run.rounds for e in result.devices):
        yield "bounds of what was not reported"
    if any(
        e.observed is not None and e.observed.monitor_energy is not None
        for result in run.rounds
        for e in result.devices
    ):
        yield "joules of watching a meter: its CPU time by the profile of the board"
    if any(result.server is not None and result.server.energy for result in run.rounds):
        yield "joules of the server, whose readings are not kept"
    if run.generation is not None and run.generation.energy is not None:
        yield "joules of the generator node, whose readings are not kept"


def _above(metered: PhaseRecord, evidence: Evidence) -> Energy | None:
    """The energy of a trial above resting, as the device computes it."""
    resting = fit(evidence.rests)
    if resting is None or metered.energy is None or not metered.resolved:
        return None
    middle_s = metered.start_s + metered.duration_s / 2.0
    return above(metered.energy, metered.duration_s, middle_s, resting)


def _same(one: Energy, other: Energy | None) -> bool:
    return (
        other is not None
        and all(
            math.isclose(mine or 0.0, its or 0.0, rel_tol=1e3 * SAME, abs_tol=1e-9)
            for mine, its in (
                (one.value_j, other.value_j),
                (one.uncertainty_j, other.uncertainty_j),
                (one.common_j, other.common_j),
            )
        )
        and (one.kind, one.source, one.scope) == (other.kind, other.source, other.scope)
    )
