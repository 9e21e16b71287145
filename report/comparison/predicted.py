"""What runs took beside what their plans predicted, over the seeds of a strategy.

* :class:`Beside`       joules or seconds as they were and as predicted, with ratio and error
* :func:`beside`        all three quantities of a strategy at a grid point
* :func:`of_run`        one quantity of one run
* :func:`beside_rows`   a strategy in three rows

Joules are those of :class:`fimi.record.sums.Compared`, as in the report of each run: over exactly
the parts that were both metered and predicted. Seconds are the mean length of the rounds that were
run by the last plan, and what this plan has of one (:class:`fimi.record.planned.PlanHeld`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from fimi.record.sums import error_percent
from fimi.report.comparison import statistics
from fimi.report.comparison.runs import RunFigures
from fimi.report.comparison.shown import shown
from fimi.report.comparison.statistics import Sample
from fimi.report.words import MISSING, joules, percent, seconds

Quantity = Literal["board_j", "dynamic_j", "round_s"]
QUANTITIES: dict[Quantity, str] = {"board_j": "board", "dynamic_j": "dynamic", "round_s": "a round"}
"""Whole boards and the paper's energy of a run, the length of a round; with a word for each."""

HEADING = (
    "strategy",
    "of",
    "metered",
    "predicted",
    "metered / predicted",
    "error of prediction\n%",
    "left out",
)


class OfRun(NamedTuple):
    """One quantity of one run.

    Attributes:
        measured: J or s; ``None`` if nothing is known.
        predicted: of the same parts; ``None`` without a prediction.
        error: (predicted − measured) / measured; ``None`` also where the measured joules are below
            what their meter resolves.
        kind: of the joules; empty of seconds.
        lacking: device-rounds, or rounds, that are in neither.
        among: how many there are.
        why: what stands in place of ``measured``, and of ``predicted``, where there is none.
    """

    measured: float | None
    predicted: float | None
    error: float | None
    kind: str
    lacking: int
    among: int
    why: tuple[str, str] = ("", "")


class Beside(Struct, frozen=True, kw_only=True):
    """One quantity of a strategy at a grid point.

    Attributes:
        measured: J or s, a value for each seed.
        predicted: of the same parts of the run.
        ratio: measured over predicted.
        error: (predicted − measured) / measured: positive where the model promised more.
        kinds: of the joules, those of several runs or boards joined by ``+``; empty of seconds.
        left_out: share of device-rounds of which something was not metered or not predicted, for
            seconds of the rounds before the last plan, over all seeds; 0 to 1, ``None`` of nothing.
        why: what stands in place of ``measured``, and of ``predicted``, where no seed has one.
    """

    measured: Sample
    predicted: Sample
    ratio: Sample
    error: Sample
    kinds: str
    left_out: float | None
    why: tuple[str, str]


def beside(runs: Sequence[RunFigures | None], confidence: float) -> dict[Quantity, Beside]:
    """Every quantity of a strategy at a grid point; ``None`` stands for a run that is missing."""
    return {name: _beside([of_run(run, name) for run in runs], confidence) for name in QUANTITIES}


def _beside(runs: Sequence[OfRun], confidence: float) -> Beside:
    def over(values: Sequence[float | None], bounds: statistics.Bounds = statistics.COST) -> Sample:
        return statistics.sample(values, confidence, bounds)

    among = sum(run.among for run in runs)
    return Beside(
        measured=over([run.measured for run in runs]),
        predicted=over([run.predicted for run in runs]),
        ratio=over(
            [
                run.measured / run.predicted
                if run.measured is not None and run.predicted and run.error is not None
                else None
                for run in runs
            ]
        ),
        error=over([run.error for run in runs], (-1.0, math.inf)),
        kinds=joined_kinds(run.kind for run in runs),
        left_out=sum(run.lacking for run in runs) / among if among else None,
        why=next((run.why for run in runs if run.among), runs[0].why),
    )


def of_run(run: RunFigures | None, quantity: Quantity) -> OfRun:
    """What a run took of something, beside what was predicted of the same parts of it."""
    if run is None or not run.points:
        return OfRun(None, None, None, "", 0, 0, ("missing", "missing"))
    last, planless = run.points[-1], "no plan" if run.plan is None else "not predicted"
    if quantity == "round_s":
        held = run.held
        if held is None:
            lasted_s = math.fsum(point.round_s for point in run.points) / len(run.points)
            return OfRun(lasted_s, None, None, "", 0, 0, ("", planless))
        planned_s = held.planned_round_s
        error = None if planned_s is None else error_percent(planned_s, held.round_s)
        return OfRun(
            held.round_s,
            planned_s,
            None if error is None else error / 100.0,
            "",
            len(run.points) - held.rounds,
            len(run.points),
            ("", planless),
        )
    if quantity == "board_j":
        compared, whole = last.compared_so_far, last.energy_so_far
    else:
        compared, whole = last.dynamic_compared_so_far, last.dynamic_so_far
    told = compared.measured or whole.known
    nothing = "not metered" if whole.missing else "none"
    return OfRun(
        told.value_j if told else None,
        compared.predicted_j,
        None if compared.error_percent is None else compared.error_percent / 100.0,
        run.kind or "" if told else "",
        len({(gap.device, gap.round) for gap in compared.missing}),
        run.device_rounds,
        (nothing, nothing if told is None else planless),
    )


def joined_kinds(kinds: Iterable[str]) -> str:
    """Kinds of joules, each once and sorted: ``emulated+measured``."""
    return "+".join(sorted({each for kind in kinds for each in kind.split("+") if each}))


def beside_rows(found: Mapping[str, Mapping[Quantity, Beside]]) -> tuple[tuple[str, ...], ...]:
    """A row for each strategy and quantity, under :data:`HEADING`."""
    return tuple(
        (
            label,
            word,
            _said(own.measured, quantity, own.kinds, own.why[0]),
            _said(own.predicted, quantity, "modelled", own.why[1]),
            shown(own.ratio.median) + _unknown(own.ratio),
            shown(own.error.mean, 0.01, digits=1, sign=True),
            percent(own.left_out),
        )
        for label, quantities in found.items()
        for quantity, word in QUANTITIES.items()
        for own in [quantities[quantity]]
    )


def _said(sample: Sample, quantity: Quantity, kinds: str, why: str) -> str:
    if sample.median is None:
        return why or MISSING
    if quantity == "round_s":
        return seconds(sample.median.value)
    return f"{joules(sample.median.value)} ({kinds})"


def _unknown(sample: Sample) -> str:
    known = sample.reached
    return f" ({sample.unknown} unknown)" if known and sample.unknown else ""
