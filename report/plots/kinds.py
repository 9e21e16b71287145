"""Which figures there are: of a run, and of an experiment.

* :data:`RUN_KINDS`, :data:`STUDY_KINDS`  name to what draws it
* :func:`figure_of`  one of them, from a folder
* :func:`refuse_unused`  what is chosen and has no meaning for a figure
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from fimi.record.reader import read_run
from fimi.record.record import RunData
from fimi.record.summary import Summary, summarise
from fimi.report.comparison.stored import FILE_NAME, StoredResult, read_result
from fimi.report.plots import costs, curves, devices, studies
from fimi.report.plots.figure import Figure, FigureError
from fimi.report.plots.powers import power_trace

FromRun = Callable[[RunData, Summary], Figure | None]
FromStudy = Callable[[StoredResult, str | None], Figure | None]
Kinds = Mapping[str, Callable[..., Figure | None]]

RUN_KINDS: dict[str, FromRun] = {
    "accuracy": curves.accuracy,
    "accuracy-joules": curves.accuracy_joules,
    "energy-devices": devices.energy_devices,
    "energy-phases": devices.energy_phases,
    "prediction-error": curves.prediction_error,
    "frequencies": devices.frequencies,
    "images": devices.images,
    "device-images": devices.device_images,
    "gradient-similarity": curves.gradient_similarity,
    "local-error": curves.local_error,
}
POWER_TRACE = "power-trace"
"""Of a device in a round, which are named besides."""
STUDY_KINDS: dict[str, FromStudy] = {
    "accuracy": studies.study_accuracy,
    "accuracy-joules": studies.study_accuracy_joules,
    "accuracy-dynamic-joules": studies.study_accuracy_dynamic,
}
COST = "cost"
"""Of an experiment, over a grid key that can be named besides."""
_OPTIONS: dict[str, tuple[str, ...]] = {
    POWER_TRACE: ("device", "round"),
    COST: ("point", "over"),
    **dict.fromkeys(STUDY_KINDS, ("point",)),
}
"""What can be chosen of a kind; nothing of a run's but of a power trace."""


class FigureChoice(Struct, frozen=True, kw_only=True):
    """What a figure is of, where its kind leaves that open.

    Attributes:
        device: of a power trace; ``None``: the first one.
        round: of a power trace; ``None``: the first one.
        point: grid point of an experiment, in words; ``None``: the only one.
        over: grid key along the axis of costs; ``None``: the first with three numbers.
    """

    device: str | None = None
    round: int | None = None
    point: str | None = None
    over: str | None = None


def is_study(folder: Path) -> bool:
    """Whether a folder or file is that of an experiment's results."""
    return folder.name == FILE_NAME or (folder / FILE_NAME).is_file()


def sentences() -> list[tuple[str, str, str]]:
    """Every kind: what it is of, its name, what it shows."""
    found = [("run", name, _says(draw)) for name, draw in RUN_KINDS.items()]
    found.append(("run", POWER_TRACE, _says(power_trace)))
    return found + [("experiment", name, _says(draw)) for name, draw in _kinds(True).items()]


def refuse_unused(folder: Path, kinds: Sequence[str], choice: FigureChoice) -> None:
    """Refuse what has no meaning for any of some figures.

    Raises:
        FigureError: says what can be chosen, and of which figure.
    """
    study = is_study(folder)
    kinds = [kind for kind in kinds if kind in _kinds(study)]  # others are refused by figure_of
    usable = {name for kind in kinds for name in _options(kind, study)}
    chosen = [n for n in choice.__struct_fields__ if getattr(choice, n) is not None]
    if kinds and (unused := [name for name in chosen if name not in usable]):
        said = [
            f"{kind} takes {_flags(_options(kind, study)) or 'none of these'}" for kind in kinds
        ]
        others = [
            f"{name} of {what}"
            for what, of_study in (("a run", False), ("an experiment", True))
            for name in _kinds(of_study)
            if set(unused) & set(_options(name, of_study)) and (name not in kinds)
        ]
        raise FigureError(
            f"{_flags(unused)} would change nothing: {'; '.join(said)}. Leave it out, or name a "
            f"figure that it is for: {', '.join(others)}"
        )


def _kinds(study: bool) -> Kinds:
    if study:
        return {**STUDY_KINDS, COST: costs.study_cost}
    return {**RUN_KINDS, POWER_TRACE: power_trace}


def _options(kind: str, study: bool) -> tuple[str, ...]:
    return _OPTIONS.get(kind, ()) if study or kind == POWER_TRACE else ()


def _flags(names: Sequence[str]) -> str:
    return " and ".join(f"--{name}" for name in names)


def figure_of(folder: Path, kind: str, choice: FigureChoice | None = None) -> Figure:
    """A figure in numbers.

    Args:
        folder: of a run or of an experiment.
        kind: its name.
        choice: which device, round or grid point.

    Raises:
        FigureError: there is no such kind, or no numbers for it.
        ReportError: the folder cannot be read.
    """
    choice = choice or FigureChoice()
    study = is_study(folder)
    if kind not in _kinds(study):
        what = "an experiment" if study else "a run"
        raise FigureError(
            f"{folder} is {what}; it has no figure {kind!r}, but {', '.join(_kinds(study))}"
        )
    if study:
        result = read_result(folder)
        drawn = (
            costs.study_cost(result, choice.point, choice.over)
            if kind == COST
            else STUDY_KINDS[kind](result, choice.point)
        )
    elif kind == POWER_TRACE:
        number = 1 if choice.round is None else choice.round
        drawn = power_trace(folder, choice.device or "", number)
    else:
        run = read_run(folder)
        drawn = RUN_KINDS[kind](run, summarise(run))
    if drawn is None:
        says = _says(_kinds(study)[kind])
        raise FigureError(
            f"{folder} has no numbers for the figure {kind}: it shows {says[0].lower()}{says[1:]}"
        )
    return drawn


def _says(draw: Callable[..., object]) -> str:
    """The first sentence of what draws a kind."""
    return (draw.__doc__ or "").strip().partition("\n")[0].rstrip(".")
