"""A plan's own figures of a round against the rounds that were run by it.

* :class:`PlanHeld`  both, board energy beside board energy and dynamic beside dynamic
* :func:`plan_held`  of a run

A device's predictions, which are compared in :mod:`fimi.record.prediction`, are made anew for what
the generator node delivered and for who takes part in a round. This is about the plan itself: what
it was chosen for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from fimi.energy.joules import Energy
from fimi.record.interventions import ExcludeDevice, IncludeDevice
from fimi.record.phases import add_dynamic
from fimi.record.record import PlannedEnergy, RunData
from fimi.record.resolution import PartKey
from fimi.record.sums import Compared, EnergyPart, EnergyTally, error_percent, mean


class PlanHeld(Struct, frozen=True, kw_only=True):
    """A round of the plan in force, and the mean of the rounds that were run by it.

    Attributes:
        rounds: how many these are; the first of a run holds receiving the synthetic samples, of
            which a round of the plan has its share.
        board: whole boards in a round; nothing is measured if a part is missing.
        dynamic: compute and upload above idle likewise.
        round_s: how long a round lasted, s.
        planned_round_s: by the plan, s; ``None`` if the store does not say.
    """

    rounds: int
    board: Compared
    dynamic: Compared
    round_s: float
    planned_round_s: float | None


def plan_held(
    run: RunData, parts: Sequence[EnergyPart], above: Mapping[PartKey, Energy]
) -> PlanHeld | None:
    """The plan in force against its rounds; ``None`` without a plan or such a round.

    Devices that somebody has excluded, and that the plan leaves out, are left out; where it has
    them, there is no such comparison. So are rounds in which real boards have the joules of a
    pause.

    Where k of n devices are drawn, a round takes k/n of the plan's joules on average.

    Args:
        run: the run.
        parts: what it is made of.
        above: from :func:`fimi.record.resolution.above_rest`.
    """
    changed = [*run.refits, *(number - 1 for number in run.joined_late.values())]
    changed += [each.after_round for each in run.changed_by_hand if each.planned]
    excluded = _excluded(run)
    changed += excluded.values()
    since = max([*changed, *_other_data(run)], default=0)
    paused = _paused(run)
    lengths_s = [r.duration_s for r in run.rounds if r.number > since and r.number not in paused]
    if run.plan is None or not lengths_s:
        return None
    if excluded and not _planned_since(run, max(excluded.values())):
        return None  # the plan has devices that rest
    own = [
        part
        for part in parts
        if (part.round > since or since == 0)
        and part.round not in paused
        and part.device not in excluded
    ]
    drawn, fleet = run.drawn or (1, 1)
    if run.drawn is not None:
        fleet = max(fleet - len(excluded), 1)
        drawn = min(drawn, fleet)

    def against(
        planned: PlannedEnergy, add: Callable[[EnergyTally, Iterable[EnergyPart]], None]
    ) -> Compared:
        tally = EnergyTally()
        add(tally, own)
        planned_j = None if planned.energy_j is None else planned.energy_j * drawn / fleet
        return _mean(tally, len(lengths_s), planned_j)

    return PlanHeld(
        rounds=len(lengths_s),
        board=against(run.plan.board, lambda tally, found: tally.add(found)),
        dynamic=against(run.plan.dynamic, lambda tally, found: add_dynamic(tally, found, above)),
        round_s=mean(lengths_s) or 0.0,
        planned_round_s=run.plan.round_s,
    )


def _excluded(run: RunData) -> dict[str, int]:
    """Devices that rest at the end because somebody has excluded them, and since which round."""
    found: dict[str, int] = {}
    for each in run.changed_by_hand:
        if isinstance(each.request, ExcludeDevice):
            found[each.request.device] = each.after_round
        elif isinstance(each.request, IncludeDevice):
            found.pop(each.request.device, None)
    return found


def _paused(run: RunData) -> set[int]:
    """Rounds that hold what real boards idled while the run paused before them."""
    if all(profile.hardware.kind == "emulated" for profile in run.profiles.values()):
        return set()
    return {e.after_round + 1 for e in run.changed_by_hand if e.paused_s is not None}


def _planned_since(run: RunData, after_round: int) -> bool:
    """Whether the fleet was planned again after devices were excluded after that round."""
    done = run.changed_by_hand
    last = max(i for i, each in enumerate(done) if isinstance(each.request, ExcludeDevice))
    again = [*run.refits, *(refit.round for refit in run.learning_refits if refit.images)]
    return any(each.planned for each in done[last:]) or any(n > after_round for n in again)


def _other_data(run: RunData) -> list[int]:
    """Rounds after which was planned for other samples: top-ups, and a schedule of their use.

    A device that trains on another number of given samples than when it was drawn before tells
    that there was such a round in between.
    """
    found = [refit.round for refit in run.learning_refits if refit.images]
    seen: dict[str, tuple[int, int]] = {}
    for result in run.rounds:
        for entry in result.participants:
            if entry.status != "accepted" or entry.unlabelled_samples:
                continue  # of images without labels every round keeps others
            since, count = seen.get(entry.device, (0, entry.synthetic_samples))
            known = any(since <= each < result.number for each in found)
            if entry.synthetic_samples != count and not known:
                found.append(result.number - 1)
            seen[entry.device] = result.number, entry.synthetic_samples
    return found


def _mean(tally: EnergyTally, rounds: int, planned_j: float | None) -> Compared:
    """The mean of rounds against what was planned of one."""
    whole = tally.sum()
    if whole.value is None:
        return Compared(predicted_j=planned_j, missing=whole.missing)
    value_j = whole.value.value_j / rounds
    deviation_j = whole.value.uncertainty_j / rounds
    common_j = whole.value.common_j
    measured = replace(
        whole.value,
        value_j=value_j,
        uncertainty_j=deviation_j,
        common_j=None if common_j is None else common_j / rounds,
    )
    return Compared(
        measured=measured,
        predicted_j=planned_j,
        error_percent=None if planned_j is None else error_percent(planned_j, value_j),
    )
