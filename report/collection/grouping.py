"""Stored runs in groups: those that differ only in their seeds are one.

* :class:`ComparableRun`  a run, as far as it is compared
* :func:`comparable`      the same from its record
* :class:`RunGroup`       runs of one configuration, with a letter and a name
* :func:`grouped`         the groups of some runs
* :func:`lettered_groups` ``A``, ``B`` … ``Z``, ``AA``

Joules of one kind and scope are in a group with others of the same kind and scope alone, so that no
mean is over emulated and measured ones, and none over what different meters see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from fimi.record.carbon import Carbon, emissions_so_far
from fimi.record.clean import clean
from fimi.record.headline import standing
from fimi.record.record import DECIDE_NOTHING, PlanSummary, RunData
from fimi.record.summary import DeviceSummary, summarise
from fimi.report.comparison.runs import RunFigures, figures_of, point_text

ITS_OWN = (
    *("run.name", "run.directory", "run.seed", "broker.kind", "broker.port", "fleet.name"),
    *("rounds.target_accuracies", "generator.pool", "generator.threads"),
)
"""Keys that say which run it is, where it was run, or what is asked of it afterwards."""
_NAMED_KEYS = 2
"""Most keys that stand in the name of a group."""


class ComparableRun(Struct, frozen=True, kw_only=True):
    """A run, as far as it is compared.

    Attributes:
        name: by which it is known here; unique among the runs that are compared.
        path: its folder.
        strategy: short name.
        seed: of everything that was drawn; ``None`` if the store does not say.
        status: how it stands, see :data:`fimi.record.headline.Standing`.
        started_at: ISO 8601.
        config: dotted key to value, defaults of keys that its store lacks included.
        contract: of its data, key to value.
        figures: of its rounds.
        devices: one by one.
        carbon: emissions; ``None`` where no intensity is given.
        emitted: g CO2eq up to the end of each round; ``None`` where that is not known.
        targets: accuracies that it was asked for, 0 to 1.
    """

    name: str
    path: str
    strategy: str
    seed: int | None
    status: str
    started_at: str
    config: dict[str, Any]
    contract: dict[str, Any]
    figures: RunFigures
    devices: tuple[DeviceSummary, ...]
    carbon: Carbon | None
    emitted: tuple[float | None, ...]
    targets: tuple[float, ...]

    @property
    def joules(self) -> str:
        """Kind and scope of its joules: ``emulated, board``; empty without any."""
        kind = self.figures.kind
        return f"{kind}, {self.figures.scope}" if kind else ""

    @property
    def plan(self) -> PlanSummary | None:
        """The last one."""
        return self.figures.plan


def comparable(run: RunData, name: str, defaults: Mapping[str, Any]) -> ComparableRun:
    """A run, as far as it is compared.

    Args:
        run: its record.
        name: by which it is known here.
        defaults: of all keys of a configuration, for those that an older store lacks.
    """
    summary = summarise(run)
    return ComparableRun(
        name=clean(name, 100),
        path=str(run.path.parent),
        strategy=clean(run.info.strategy or "?", 40),
        seed=run.info.seed,
        status=standing(run.path, run.info),
        started_at=run.info.started_at,
        config={**(defaults if run.info.config else {}), **run.info.config},
        contract=run.info.contract,
        figures=figures_of(run, summary),
        devices=summary.devices,
        carbon=summary.carbon,
        emitted=tuple(
            each.value_g if each else None
            for each in (emissions_so_far(run, summary.points) if summary.carbon else ())
        ),
        targets=run.targets,
    )


class RunGroup(Struct, frozen=True, kw_only=True):
    """Runs of one configuration.

    Attributes:
        letter: by which it is named in tables.
        label: its strategy, and what tells it from other groups of that.
        runs: one for each seed that is counted, by seed.
        repeats: emulated runs of a seed that another one of :attr:`runs` has, which is as long or
            longer: they repeat it, and are in no mean and no interval.
    """

    letter: str
    label: str
    runs: tuple[ComparableRun, ...]
    repeats: tuple[ComparableRun, ...] = ()

    @property
    def name(self) -> str:
        """``A fimi``, for tables: beside them stands what the letter means."""
        return f"{self.letter} {self.runs[0].strategy}"

    @property
    def whole_name(self) -> str:
        """``A fimi, plan.deadline_s = 20``."""
        return f"{self.letter} {self.label}"

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """Of its runs."""
        return tuple(run.seed for run in self.runs)

    @property
    def joules(self) -> str:
        """Kind and scope of its joules; empty without any."""
        return self.runs[0].joules

    @property
    def by_seed(self) -> dict[int, ComparableRun]:
        """Its runs by seed; of each that boards have run again the longest, of these the last."""
        ordered = sorted(self.runs, key=lambda run: (len(run.figures.points), run.started_at))
        longest = {run.seed: run for run in ordered if run.seed is not None}
        return {seed: longest[seed] for seed in self.seeds if seed is not None}


def grouped(runs: Sequence[ComparableRun]) -> tuple[RunGroup, ...]:
    """Runs in groups, in the order of the first of each."""
    found: dict[bytes, list[ComparableRun]] = {}
    for run in runs:
        found.setdefault(_key(run), []).append(run)
    letters, labels = lettered_groups(len(found)), _labels([own[0] for own in found.values()])
    return tuple(
        _group(letter, label, own)
        for letter, label, own in zip(letters, labels, found.values(), strict=True)
    )


def _group(letter: str, label: str, runs: Sequence[ComparableRun]) -> RunGroup:
    def place(run: ComparableRun) -> tuple[object, ...]:
        """By seed; of one that was run again the longest first, as the others ended early."""
        whole = (-len(run.figures.points), run.status != "completed")
        return (run.seed is None, run.seed or 0, *whole, run.started_at)

    counted: list[ComparableRun] = []
    repeats: list[ComparableRun] = []
    for run in sorted(runs, key=place):
        again = counted and run.seed is not None and counted[-1].seed == run.seed
        if again and run.figures.kind in ("emulated", None):
            repeats.append(run)
        else:
            counted.append(run)
    return RunGroup(letter=letter, label=label, runs=tuple(counted), repeats=tuple(repeats))


def deciding(run: ComparableRun) -> dict[str, Any]:
    """The keys of a run that decide what it gives, beside its seed."""
    return {
        key: value
        for key, value in run.config.items()
        if key not in ITS_OWN and not key.startswith(DECIDE_NOTHING)
    }


def _key(run: ComparableRun) -> bytes:
    """Equal for runs that differ in nothing but their seeds and where they were run."""
    told = [run.strategy, run.joules, sorted(deciding(run).items())]
    return msgspec.json.encode(told)


def _labels(first: Sequence[ComparableRun]) -> list[str]:
    """A name for each group, by the first run of it."""
    labels = []
    several = len({run.joules for run in first if run.joules}) > 1
    for run in first:
        same = [other for other in first if other.strategy == run.strategy]
        keys = [
            key
            for key in deciding(run)
            if any(deciding(other).get(key) != run.config[key] for other in same)
        ]
        label = run.strategy
        if keys and len(keys) <= _NAMED_KEYS:
            told = point_text({key: run.config[key] for key in keys})
            label += f", {told}"
        elif keys:
            label += f" ({same.index(run) + 1})"
        labels.append(f"{label} ({run.joules})" if several and run.joules else label)
    return labels


def lettered_groups(count: int) -> list[str]:
    """``A``, ``B`` … ``Z``, ``AA``, ``AB`` …, one for each."""
    found = []
    for number in range(1, count + 1):
        letters, left = "", number
        while left:
            left, at = divmod(left - 1, 26)
            letters = chr(ord("A") + at) + letters
        found.append(letters)
    return found
