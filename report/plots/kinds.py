"""Which figures there are: of a run, and of an experiment.

* :data:`RUN_KINDS`, :data:`STUDY_KINDS`  name to what draws it
* :func:`figure_of`  one of them, from a folder
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from fimi.record.reader import read_run
from fimi.record.record import RunData
from fimi.record.summary import Summary, summarise
from fimi.report.comparison.stored import FILE_NAME, StoredResult, read_result
from fimi.report.plots import curves, devices, studies
from fimi.report.plots.figure import Figure, FigureError
from fimi.report.plots.powers import power_trace

FromRun = Callable[[RunData, Summary], Figure | None]
FromStudy = Callable[[StoredResult, str | None], Figure | None]

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
    "cost": studies.study_cost,
}


class FigureChoice(Struct, frozen=True, kw_only=True):
    """What a figure is of, where its kind leaves that open.

    Attributes:
        device: of a power trace; empty: the first one.
        round: of a power trace.
        point: grid point of an experiment, in words; ``None``: the only one.
    """

    device: str = ""
    round: int = 1
    point: str | None = None


def is_study(folder: Path) -> bool:
    """Whether a folder or file is that of an experiment's results."""
    return folder.name == FILE_NAME or (folder / FILE_NAME).is_file()


def sentences() -> list[tuple[str, str, str]]:
    """Every kind: what it is of, its name, what it shows."""
    found = [("run", name, _says(draw)) for name, draw in RUN_KINDS.items()]
    found.append(("run", POWER_TRACE, _says(power_trace)))
    return found + [("experiment", name, _says(draw)) for name, draw in STUDY_KINDS.items()]


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
    if is_study(folder):
        if kind not in STUDY_KINDS:
            raise FigureError(_unknown(folder, kind, list(STUDY_KINDS), "an experiment"))
        drawn = STUDY_KINDS[kind](read_result(folder), choice.point)
    elif kind == POWER_TRACE:
        drawn = power_trace(folder, choice.device, choice.round)
    elif kind not in RUN_KINDS:
        raise FigureError(_unknown(folder, kind, [*RUN_KINDS, POWER_TRACE], "a run"))
    else:
        run = read_run(folder)
        drawn = RUN_KINDS[kind](run, summarise(run))
    if drawn is None:
        raise FigureError(
            f"{folder} has no numbers for the figure {kind}: it shows "
            f"{_of(folder, kind)[0].lower()}{_of(folder, kind)[1:]}"
        )
    return drawn


def _of(folder: Path, kind: str) -> str:
    draw = STUDY_KINDS[kind] if is_study(folder) else RUN_KINDS.get(kind, power_trace)
    return _says(draw)


def _says(draw: Callable[..., object]) -> str:
    """The first sentence of what draws a kind."""
    return (draw.__doc__ or "").strip().partition("\n")[0].rstrip(".")


def _unknown(folder: Path, kind: str, kinds: list[str], what: str) -> str:
    return f"{folder} is {what}; it has no figure {kind!r}, but {', '.join(kinds)}"
