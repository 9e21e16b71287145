"""What groups of runs differ in besides their numbers.

* :class:`Contrast`     a key of the configuration, of the data or of the versions, group by group
* :func:`contrasts`     all of them
* :func:`remarks`       what a reader must know of the comparison, a sentence each
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from msgspec import Struct

from fimi.plural import plural
from fimi.record.clean import clean, enumerated
from fimi.report.collection.grouping import ComparableRun, RunGroup, deciding
from fimi.report.comparison.runs import point_text
from fimi.report.comparison.statistics import LEAST

_OF_THE_SEED = ("seed", "split_seed")
_MOST = 12


class Contrast(Struct, frozen=True, kw_only=True):
    """Something that is not the same in all groups.

    Attributes:
        of: what it is of.
        key: which.
        values: of each group, in words; those of its runs joined where they differ.
    """

    of: Literal["configuration", "data", "versions"]
    key: str
    values: tuple[str, ...]


def contrasts(groups: Sequence[RunGroup]) -> tuple[Contrast, ...]:
    """What is not the same in all groups, or not in all runs of one."""

    def told(
        of: Literal["configuration", "data", "versions"],
        pick: Callable[[ComparableRun], dict[str, Any]],
    ) -> Iterable[Contrast]:
        keys = dict.fromkeys(key for group in groups for run in group.runs for key in pick(run))
        for key in keys:
            values = [_values([pick(run) for run in group.runs], key) for group in groups]
            if len(set(values)) > 1 or any(" and " in value for value in values):
                yield Contrast(of=of, key=key, values=tuple(values))

    return (
        *told("configuration", deciding),
        *told("data", _contract),
        *told("versions", lambda run: run.figures.versions),
    )


def _values(told: Sequence[dict[str, Any]], key: str) -> str:
    """A key's value, or those of several runs."""
    words = dict.fromkeys(
        point_text({key: own[key]}).partition(" = ")[2] if key in own else "–" for own in told
    )
    return clean(" and ".join(words), 200)


def _contract(run: ComparableRun) -> dict[str, Any]:
    """What the data are, whatever the seed."""
    return {
        key: value
        for key, value in run.contract.items()
        if key not in _OF_THE_SEED and not key.endswith("_digest")
    }


def remarks(groups: Sequence[RunGroup]) -> tuple[str, ...]:
    """What a reader must know of a comparison, a sentence each."""
    runs = [run for group in groups for run in group.runs]
    said = [*_joules(groups), *_few(groups), *_repeats(groups), *_data(groups)]
    unfinished = [run for run in runs if run.status != "completed"]
    if unfinished:
        told = enumerated([f"{run.name} ({run.status})" for run in unfinished])
        said.append(f"not completed, and compared by the rounds that were finished: {told}")
    if empty := [run.name for run in runs if not run.figures.points]:
        said.append(f"without a finished round: {enumerated(empty)}")
    for run in runs:
        said += [f"{run.name}: {warning}" for warning in run.figures.warnings[:2]]
    return tuple(said[: 2 * _MOST])


def _joules(groups: Sequence[RunGroup]) -> Iterable[str]:
    kinds = {g.letter: g.runs[0].figures.kind for g in groups if g.runs[0].figures.kind}
    scopes = {g.letter: g.runs[0].figures.scope for g in groups if g.runs[0].figures.scope}
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{kind} in {letter}" for letter, kind in kinds.items())
        yield (
            f"joules are {told}: a ratio between them says how far one is from the other, and "
            "nothing of what is saved; no sum and no mean is over both"
        )
    if len(set(scopes.values())) > 1:
        told = ", ".join(f"{scope} in {letter}" for letter, scope in scopes.items())
        yield f"meters see the {told}: between those there is no ratio of joules"
    if mixed := [letter for letter, kind in kinds.items() if "+" in kind]:
        yield (
            f"boards of {', '.join(mixed)} are of several kinds themselves: a sum of their joules "
            "is no measurement"
        )


def _few(groups: Sequence[RunGroup]) -> Iterable[str]:
    few = [group for group in groups if len(group.runs) < LEAST]
    if few:
        told = ", ".join(
            f"{group.letter} has {plural(len(group.runs), 'run')}" for group in few[:_MOST]
        )
        more = f" and {len(few) - _MOST} more" if len(few) > _MOST else ""
        yield f"{told}{more}: without three there is no interval and no band"


def _repeats(groups: Sequence[RunGroup]) -> Iterable[str]:
    for group in groups:
        if group.repeats:
            said = (
                "repeats a seed in emulation and tells nothing new; it is"
                if len(group.repeats) == 1
                else "repeat a seed in emulation and tell nothing new; they are"
            )
            yield (
                f"{group.letter}: {enumerated([run.name for run in group.repeats])} {said} in no "
                "mean and no interval"
            )
        known = [seed for seed in group.seeds if seed is not None]
        if again := sorted({seed for seed in known if known.count(seed) > 1}):
            told = enumerated([str(seed) for seed in again])
            yield (
                f"{group.letter}: boards have run seed {told} several times; its interval shows "
                "what boards vary as well"
            )


def _data(groups: Sequence[RunGroup]) -> Iterable[str]:
    """Whether devices held the same samples in pairs of the same seed."""
    first = groups[0]
    for group in groups[1:]:
        shared = [seed for seed in first.by_seed if seed in group.by_seed]
        if not shared:
            yield (
                f"{first.letter} and {group.letter} have no seed in common: their data differ, "
                "and there are no ratios between them. Ratios pair runs of one seed: give runs of "
                "both with the same one"
            )
            continue
        other: dict[str, None] = {}
        apart = 0
        for seed in shared:
            ours, theirs = first.by_seed[seed].figures.data, group.by_seed[seed].figures.data
            parts = [part for part in ours if ours[part] != theirs.get(part)]
            other |= dict.fromkeys(parts)
            apart += bool(parts)
        if other:
            yield (
                f"data of {first.letter} and {group.letter} differ ({', '.join(other)}) in {apart} "
                f"of {len(shared)} pairs of a seed: so do accuracies and costs for that reason"
            )
