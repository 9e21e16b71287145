"""Figures of each run, for a comparison.

* :class:`AccuracyTarget`  the accuracy whose price is asked for
* :class:`RunFigures`      a run in numbers
* :func:`figures_of`       the same from a stored run
* :class:`ComparedCell`    a strategy at a seed and a grid point, and its run
* :func:`point_text`       a grid point in words
* :func:`on_axis`          a value of a grid key as a place on an axis
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from fimi.energy.joules import Energy
from fimi.record.curve import JudgedOn, RoundPoint, price, reached
from fimi.record.phases import run_parts
from fimi.record.planned import PlanHeld
from fimi.record.record import OWN_IMAGES, PlanSummary, RunData
from fimi.record.summary import Summary, summarise
from fimi.record.sums import Sum

COSTS = ("rounds", "board_j", "dynamic_j", "duration_s", "size_bytes")
"""What an accuracy may cost the devices, in the order of the tables."""
ALL_COSTS = (*COSTS, "generator_j", "server_j", "total_j")
"""And what it costs besides: drawing images, training on the server, all machines together."""


class AccuracyTarget(Struct, frozen=True):
    """An accuracy to reach.

    Attributes:
        of: strategy whose own accuracy it is, at the same seed and grid point; empty: ``value``.
        which: that strategy's ``final`` or ``best`` accuracy.
        value: 0 to 1, where ``of`` is empty.
        on: the part of the data on which the target is taken and reached.
    """

    of: str = ""
    which: Literal["final", "best"] = "final"
    value: float = 0.0
    on: JudgedOn = "validation"

    def __str__(self) -> str:
        where = "on the test set" if self.on == "test" else "on the validation part"
        if self.of:
            return f"{self.of}'s {self.which} accuracy {where}, same seed"
        return f"{100 * self.value:g} % accuracy {where}"


class RunFigures(Struct, frozen=True, kw_only=True):
    """A run in numbers.

    Attributes:
        points: the run round by round.
        kind: what the devices' joules are, several kinds joined by ``+``, ``declared`` where a
            board has no meter but a declared power; ``None`` without any.
        data: digests of the parts of the data and of who holds what; equal for paired runs.
        synthetic_samples: that the devices were to get together.
        wall_s: how long the run took, s; ``None`` if not known.
        warnings: what else a reader must know.
        undelivered: synthetic samples that were asked for and did not come.
        plan: the last one, without the history of its search; ``None`` if none was made.
        generator: joules of drawing its images; empty where there were none.
        test_samples: images of the test set; ``None`` if not known.
        validation_samples: images of the validation part; likewise.
        held: the last plan's round against those that were run by it; ``None`` without any.
        device_rounds: how often a device had a part in a round, receiving synthetic data before the
            first counted as one.
        absent: rounds for which a device was not there, or was silent, by device; not those before
            it had joined.
        resumed: how often another process went on with the run.
        interventions: how often people changed it while it went on.
        first_temperature_c: mean of a device's processor in the first round that says so, °C.
        scope: what the devices' meters see: ``board``, or several scopes joined by ``+``.
        config: dotted key to value.
        versions: package to version, of the coordinator.
    """

    points: tuple[RoundPoint, ...]
    kind: str | None
    data: dict[str, str]
    synthetic_samples: int
    wall_s: float | None
    warnings: tuple[str, ...] = ()
    undelivered: int = 0
    plan: PlanSummary | None = None
    generator: Sum = Sum()
    test_samples: int | None = None
    validation_samples: int | None = None
    held: PlanHeld | None = None
    device_rounds: int = 0
    absent: dict[str, tuple[int, ...]] = {}
    resumed: int = 0
    interventions: int = 0
    first_temperature_c: dict[str, float] = {}
    scope: str = ""
    config: dict[str, Any] = {}
    versions: dict[str, str] = {}

    @property
    def accuracy(self) -> tuple[float, ...]:
        """Of the global model on the test set after each round, 0 to 1."""
        return tuple(point.accuracy for point in self.points)

    @property
    def server(self) -> Sum:
        """Joules of training on the server; empty if it did not train."""
        return self.points[-1].server_so_far if self.points else Sum()

    def judged(self, which: Literal["final", "best"], on: JudgedOn = "test") -> float | None:
        """The final or the best accuracy of the run; ``None`` if it has none."""
        points = self.points[-1:] if which == "final" else self.points
        found = [p.accuracy if on == "test" else p.validation_accuracy for p in points]
        return max((each for each in found if each is not None), default=None)

    def cost(self, target: float, on: JudgedOn) -> dict[str, float | None]:
        """What it took to reach an accuracy, by the names of :data:`ALL_COSTS`; ``None``: unknown.

        All are infinite if it was never reached.
        """
        paid = price(self.points, target, on)
        if paid.rounds is None:
            return dict.fromkeys(ALL_COSTS, math.inf)
        costs = (
            *(paid.rounds, paid.energy_j, paid.dynamic_j, paid.duration_s, paid.size_bytes),
            *map(_joules, (self.generator, paid.server, paid.total)),
        )
        return {
            name: None if value is None else float(value)
            for name, value in zip(ALL_COSTS, costs, strict=True)
        }

    def at(self, target: float, on: JudgedOn) -> RoundPoint | None:
        """The first round that reached an accuracy; ``None`` if none did."""
        return reached(self.points, target, on)


class ComparedCell(Struct, frozen=True, kw_only=True):
    """A strategy at a seed and a grid point, and its run.

    Attributes:
        name: of the run.
        folder: of the run.
        label: of the strategy.
        seed: of the run.
        point: grid key to value.
        fills_devices: whether the strategy gives devices synthetic samples.
        devices_train: whether devices take part in it.
        error_max: ``plan.error_max``.
        saves: name of the joules that its plan makes least, as in :data:`ALL_COSTS`.
        settings: keys that are tuned to the values that this cell has; empty without any.
        figures: of its run; ``None`` if there is none to look at.
        problem: why not.
        remarks: what else to know of how the run came about, as the end of a sentence each that
            begins with the run: ``"was begun 3 times"``.
    """

    name: str
    folder: str
    label: str
    seed: int
    point: dict[str, Any]
    fills_devices: bool
    devices_train: bool
    error_max: float
    saves: str = "board_j"
    settings: dict[str, Any] = {}
    figures: RunFigures | None = None
    problem: str = ""
    remarks: tuple[str, ...] = ()

    def judged(self, which: Literal["final", "best"], on: JudgedOn = "test") -> float | None:
        """The final or the best accuracy of the run; ``None`` if it has none, or there is none."""
        return self.figures.judged(which, on) if self.figures else None


def figures_of(run: RunData, summary: Summary | None = None) -> RunFigures:
    """A stored run in numbers; its summary is made where it is not given."""
    summary, data, parts = summary or summarise(run), run.info.dataset, run_parts(run)
    energies = [part.energy for part in parts if part.energy is not None]
    return RunFigures(
        points=summary.points,
        kind="+".join(sorted(set(map(_kind, energies)))) or None,
        data=_data(run),
        synthetic_samples=summary.synthetic_samples,
        wall_s=run.info.wall_s,
        warnings=run.warnings,
        undelivered=run.generation.undelivered if run.generation else 0,
        plan=run.plan and msgspec.structs.replace(run.plan, history=()),
        generator=summary.generator,
        test_samples=data.test,
        validation_samples=data.validation,
        held=summary.held,
        device_rounds=len({(part.device, part.round) for part in parts}),
        absent=_absent(run),
        resumed=run.info.resumed,
        interventions=len(summary.interventions),
        first_temperature_c=_first_temperature_c(run),
        scope="+".join(sorted({each.scope for each in energies})),
        config=run.info.config,
        versions=run.info.versions,
    )


def _kind(energy: Energy) -> str:
    """Its kind; ``declared`` of a board without a meter, as what is predicted is modelled, too."""
    return "declared" if energy.source.startswith("declared:") else energy.kind


def _absent(run: RunData) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for result in run.rounds:
        for entry in result.devices:
            if entry.is_gone and not entry.is_outside:
                found[entry.device] = (*found.get(entry.device, ()), result.number)
    return dict(sorted(found.items()))


def _first_temperature_c(run: RunData) -> dict[str, float]:
    found: dict[str, float] = {}
    for entry in (entry for result in run.rounds for entry in result.devices):
        if entry.observed is not None and entry.observed.temperature_c is not None:
            found.setdefault(entry.device, entry.observed.temperature_c)
    return found


def _data(run: RunData) -> dict[str, str]:
    """Digests of the parts of the data, and of who holds what.

    Nobody but the devices knows images that they have brought: their counts stand for them.
    """
    data = run.info.dataset
    private, partition = data.private_digest, data.partition_digest
    if data.partition == OWN_IMAGES and run.profiles:
        counts = [f"{device} {each.label_counts}" for device, each in sorted(run.profiles.items())]
        private = partition = hashlib.sha256("\n".join(counts).encode()).hexdigest()
    return {
        "public": data.public_digest,
        "validation": data.validation_digest,
        "private": private,
        "test": data.test_digest,
        "partition": partition,
    }


def _joules(total: Sum | None) -> float | None:
    """A sum in J, 0 where there was nothing to add; ``None`` where a part is missing."""
    return None if total is None or total.missing else total.value_j or 0.0


def point_text(point: Mapping[str, Any]) -> str:
    """A grid point for people: ``data.alpha = 0.1, plan.deadline_s = 20``."""
    return ", ".join(f"{key} = {_value_text(value)}" for key, value in point.items())


def on_axis(value: Any) -> float | None:
    """A value of a grid key as a place on an axis; ``None`` for words, lists and truth values."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _value_text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value_text, value))}]"
    if isinstance(value, float):
        return repr(value) if abs(value) < 1e6 else f"{value:.6g}".replace("e+0", "e")
    return msgspec.json.encode(value).decode()
