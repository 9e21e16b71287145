"""An experiment from beginning to end: the plan, the runs, the results.

* :func:`plan`        cells, and the state of each run
* :func:`check_data`  whether every cell's data are there and can be divided
* :func:`require_fresh`  whether finished runs are what is asked for
* :func:`conduct`     train generators, run what is missing
* :func:`tasks`       what is missing, as an engine takes it
* :func:`so_far`      read all runs and compare them
* :func:`summarise`   the same, and write the results beside them
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct

from fimi.coordinator.strategies import STRATEGIES
from fimi.generator_node.generators.card import CARD
from fimi.learning.data import registry
from fimi.learning.data.collection import DatasetOptions
from fimi.record.reader import STORE_NAME, ReportError, read_run
from fimi.report.comparison.page import render
from fimi.report.comparison.result import ExperimentResult, check_pairs, compare
from fimi.report.comparison.runs import ComparedCell, RunFigures, figures_of
from fimi.report.comparison.tables import as_latex, as_markdown
from fimi.report.comparison.tuning import TuningChoice, choose
from fimi.report.comparison.values import as_csv, as_json
from fimi.testbed.configuration.scenario import check_division
from fimi.testbed.configuration.sections import ConfigError
from fimi.testbed.experiment import cells as making
from fimi.testbed.experiment.cells import Cell, Part, PreparedGenerator, State
from fimi.testbed.experiment.definition import Experiment
from fimi.testbed.experiment.engines.base import (
    CommandLine,
    Engine,
    Outcome,
    Task,
    TaskTimes,
    View,
    last_words,
)
from fimi.testbed.experiment.engines.beginning import beginning, write_config
from fimi.testbed.experiment.engines.pool import LocalPool
from fimi.testbed.run_folder import RunFolderError, write_atomically

_PATIENCE_S = 60.0
"""How long to wait for the processes of an interrupted experiment to end."""


class ExperimentPlan(Struct, frozen=True, kw_only=True):
    """What an experiment will run.

    Attributes:
        experiment: as the file has it.
        cells: all of them.
        runs: one cell per run, with its state.
        generators: to have before the runs.
        choices: settings that were chosen; empty until all runs to tune with have ended.
    """

    experiment: Experiment
    cells: tuple[Cell, ...]
    runs: tuple[tuple[Cell, State], ...]
    generators: tuple[PreparedGenerator, ...]
    choices: tuple[TuningChoice, ...] = ()

    def having(self, *progress: str) -> list[Cell]:
        """Runs of which there is that much."""
        return [cell for cell, state in self.runs if state.progress in progress]

    def of(self, part: Part) -> list[Cell]:
        """The cells as configured, to tune with, or with what was chosen."""
        return [cell for cell in self.cells if cell.part == part]

    @property
    def to_come(self) -> int:
        """How many more runs there can be once settings are chosen."""
        waits = self.experiment.tune is not None and not self.choices
        return len(self.of("configured")) if waits else 0

    @property
    def to_do(self) -> int:
        """How many runs and trainings there are to do, at most."""
        runs = self.having("absent", "unfinished", "stale")
        return len(runs) + len(self.lacking) + self.to_come

    @property
    def times(self) -> TaskTimes:
        """How long runs take, by those that are finished."""
        return TaskTimes(
            [
                (cell.label, state.wall_s)
                for cell, state in self.runs
                if state.progress == "finished" and state.wall_s
            ]
        )

    @property
    def left_s(self) -> float | None:
        """Time that the runs take which are not finished, one after another, s.

        ``None`` if none has ended, so that nothing is known.
        """
        to_do = self.having("absent", "unfinished", "stale")
        each = [self.times.expected_s(cell.label) for cell in to_do]
        each += [self.times.expected_s("")] * self.to_come
        return None if None in each else math.fsum(s for s in each if s is not None)

    @property
    def lacking(self) -> list[PreparedGenerator]:
        """Generators that are not there."""
        return [each for each in self.generators if not (each.folder / CARD).exists()]

    @property
    def strangers(self) -> list[str]:
        """Runs in the folder that belong to no cell."""
        mine = {cell.name for cell in self.cells}
        try:
            folders = (self.experiment.folder / "runs").iterdir()
            there = [path.name for path in folders if (path / STORE_NAME).exists()]
        except OSError:
            return []
        return sorted(set(there) - mine)


def plan(experiment: Experiment) -> ExperimentPlan:
    """Cells, and the state of each run.

    Raises:
        ConfigError: a value in the file is impossible.
    """
    found = making.cells(experiment)
    choices = _choices(experiment, [cell for cell in found if cell.part == "tuning"])
    if choices:
        found = making.cells(experiment, choices)
    return ExperimentPlan(
        experiment=experiment,
        cells=tuple(found),
        runs=tuple((cell, making.state(cell)) for cell in making.distinct(found)),
        generators=tuple(making.preparations(experiment, found)),
        choices=choices,
    )


def _choices(experiment: Experiment, cells: Sequence[Cell]) -> tuple[TuningChoice, ...]:
    """The settings that suit each strategy, once every run to tune with has ended."""
    runs = []
    for cell in cells:
        state = making.state(cell)
        if state.progress != "finished" and not state.failed:
            return ()
        runs.append(compared_cell(cell, _figures(experiment, cell, state)))
    if not runs:
        return ()
    check_pairs(runs)
    return choose(runs, experiment.target)


def check_data(cells: Sequence[Cell]) -> None:
    """Make sure that every cell's data are there and can be divided; a data set is loaded once.

    Raises:
        ConfigError: they cannot be divided.
        DatasetError: they are missing or unusable.
    """
    seen: set[bytes] = set()
    loaded: tuple[str, DatasetOptions] | None = None
    for cell in sorted(cells, key=lambda cell: msgspec.json.encode(cell.config.data)):
        config = cell.config
        decides = msgspec.json.encode((config.data, config.fleet.devices, config.run.seed))
        if decides in seen:
            continue
        seen.add(decides)
        wanted = config.data.dataset, config.data.options()
        if wanted != loaded:
            loaded, collection = wanted, registry.load(*wanted)
        check_division(config, collection)


def require_fresh(work: ExperimentPlan) -> None:
    """Make sure that every finished run has the configuration that is now asked for.

    Raises:
        ConfigError: names the runs that have another, and what differs.
    """
    stale = [(cell, state) for cell, state in work.runs if state.progress == "stale"]
    if stale:
        asked = work.experiment
        lines = [f"  {cell.name}: {'; '.join(state.changed)}" for cell, state in stale[:8]]
        lines += ["  …"] if len(stale) > 8 else []
        raise ConfigError(
            f"{len(stale)} finished runs in {asked.folder} have another configuration than "
            f"{asked.path} now asks for:\n" + "\n".join(lines) + "\n--redo (redo=True in Python) "
            "runs them again and discards the old ones; or give the experiment another name",
            code="X006",
        )


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[tuple[int, ...]]:
    """Hold an experiment's folder for this process and its children; gives the open files.

    Raises:
        RunFolderError: another one works there, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("wb")
    except OSError as error:
        raise RunFolderError(
            f"cannot write {folder}: {error.strerror}; set directory in the experiment file (or "
            "--directory) to a folder that can be written",
            code="U004",
        ) from error
    with file:
        try:
            import fcntl
        except ImportError:  # Windows: nobody is kept out
            yield ()
            return
        limit = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > limit:
                    raise RunFolderError(
                        f"another 'fimi experiment' works in {folder}, or runs of one that was "
                        "killed are still ending; wait for it, or end it",
                        code="X004",
                    ) from error
                time.sleep(0.5)
        yield (file.fileno(),)


def conduct(
    work: ExperimentPlan,
    *,
    engine: Engine,
    view: View,
    stop: threading.Event,
    keep_open: Sequence[int] = (),
) -> Outcome:
    """Train the generators that lack, on this machine, then do every run that is not finished.

    Where settings are to be chosen, the runs with what was chosen come last.

    Args:
        work: what is to do.
        engine: runs the cells.
        view: shows the progress.
        stop: ends it.
        keep_open: files that trainings hold open.

    Raises:
        FimiError: the engine cannot run anything.
    """
    experiment = work.experiment
    trained = LocalPool(1, keep_open=keep_open).run(
        [_training(experiment, each) for each in work.lacking],
        clock=TaskTimes(),
        view=view,
        stop=stop,
    )
    if trained.interrupted or trained.failures:
        return trained
    first = engine.run(tasks(work), clock=work.times, view=view, stop=stop)
    if experiment.tune is None or work.choices or first.interrupted:
        return first
    tuned = plan(experiment)
    kept = msgspec.structs.replace(
        tuned, runs=tuple((cell, state) for cell, state in tuned.runs if cell.part == "tuned")
    )
    to_do = tasks(kept)
    view.expect(len(to_do))
    then = engine.run(to_do, clock=kept.times, view=view, stop=stop)
    return Outcome(failures=first.failures | then.failures, interrupted=then.interrupted)


def tasks(work: ExperimentPlan) -> list[Task]:
    """Every run that is not finished, in order."""
    to_do = work.having("absent", "unfinished", "stale")
    return [_run(work.experiment, cell) for cell in to_do]


def summarise(experiment: Experiment) -> ExperimentResult:
    """Read all runs and write ``results`` as CSV and JSON, ``table`` as Markdown, LaTeX and HTML.

    Raises:
        ComparisonError: runs that are to be compared had different data.
        RunFolderError: the results cannot be written.
    """
    result, folder = so_far(experiment), experiment.folder
    write_atomically(folder / "results.csv", as_csv(result))
    write_atomically(folder / "results.json", as_json(result))
    write_atomically(folder / "table.md", as_markdown(result))
    write_atomically(folder / "table.tex", as_latex(result))
    write_atomically(folder / "table.html", render(result))
    return result


def so_far(experiment: Experiment) -> ExperimentResult:
    """Read all runs that are there, and compare them; nothing is written.

    Raises:
        ComparisonError: runs that are to be compared had different data.
    """
    work = plan(experiment)
    states = {cell.name: state for cell, state in work.runs}

    def side(part: Part) -> ExperimentResult:
        return compare(
            [
                compared_cell(cell, _figures(experiment, cell, states[cell.name]))
                for cell in work.of(part)
            ],
            name=experiment.name,
            title=experiment.title,
            baseline=experiment.baseline,
            target=experiment.target,
            confidence=experiment.confidence,
        )

    result = side("configured")
    tuned = side("tuned") if work.of("tuned") else None
    steps = experiment.equal_compute
    equal = f"equal compute: every device trains {steps} steps a round under every strategy"
    return msgspec.structs.replace(
        result,
        notes=(*([equal] if steps else []), *notes_of(result, work.choices, tuned)),
        choices=work.choices,
        tuned=tuned,
    )


def notes_of(
    result: ExperimentResult, choices: Sequence[TuningChoice], tuned: ExperimentResult | None
) -> list[str]:
    """Notes of the runs as configured, of those to tune with, and of the tuned ones."""
    if not choices:
        return list(result.notes)
    failed = [tried.problem for choice in choices for tried in choice.tried if tried.problem]
    return [
        *(f"as configured: {note}" for note in result.notes),
        *(f"to tune with: {problem}" for problem in failed),
        *(f"tuned: {note}" for note in (tuned.notes if tuned else ())),
    ]


def _figures(experiment: Experiment, cell: Cell, state: State) -> RunFigures | str:
    """What a cell's run gave, or why there is none to look at."""
    if state.progress != "finished":
        return _why(experiment, cell, state)
    try:
        return _read(cell.folder, (cell.folder / STORE_NAME).stat().st_mtime_ns)
    except (ReportError, OSError) as error:
        return str(error)


@functools.cache
def _read(folder: Path, changed_ns: int) -> RunFigures:
    """The figures of a finished run, read once: settings are chosen by them more than once."""
    return figures_of(read_run(folder))


def compared_cell(cell: Cell, run: RunFigures | str) -> ComparedCell:
    """A cell as the comparison takes it.

    Args:
        cell: of the experiment.
        run: what its run gave, or why there is none to look at.
    """
    strategy = STRATEGIES[cell.config.run.strategy]
    return ComparedCell(
        name=cell.name,
        folder=str(cell.folder),
        label=cell.label,
        seed=cell.seed,
        point=cell.point,
        fills_devices=strategy.fills_devices,
        devices_train=strategy.devices_train,
        error_max=cell.config.plan.error_max,
        saves=f"{cell.config.plan.objective}_j",
        settings=cell.settings,
        figures=None if isinstance(run, str) else run,
        problem=run if isinstance(run, str) else "",
    )


def _why(experiment: Experiment, cell: Cell, state: State) -> str:
    if state.progress == "stale":
        return f"left out, its configuration has changed: {'; '.join(state.changed)}"
    log = _log(experiment, cell)
    if log.exists() and log.stat().st_size:
        return f"not finished: {last_words(log)}"
    return "not run yet" if state.progress == "absent" else "not finished"


def _log(experiment: Experiment, cell: Cell) -> Path:
    return experiment.folder / "logs" / f"{cell.name}.log"


def _run(experiment: Experiment, cell: Cell) -> Task:
    file = experiment.folder / "cells" / f"{cell.name}.toml"

    def problem() -> str:
        state = making.state(cell)
        return "" if state.progress == "finished" else f"its run is {state.progress}"

    return Task(
        name=cell.name,
        kind=cell.label,
        command=partial(beginning, cell.folder, file, cell.config),
        log=_log(experiment, cell),
        folder=cell.folder,
        config=cell.config,
        problem=problem,
        done=partial(making.finished_rounds, cell.folder),
        steps=cell.config.rounds.count,
    )


def _training(experiment: Experiment, each: PreparedGenerator) -> Task:
    file = experiment.folder / "cells" / f"generator-{each.recipe.name}-{each.folder.name}.toml"
    recipe = each.recipe
    arguments = [
        *("generator", "train", "--config", str(file), "--out", str(each.folder)),
        *("--model", recipe.kind, "--steps", str(recipe.steps)),
        *("--device", recipe.device, "--threads", str(recipe.threads)),
    ]
    if recipe.batch_size:
        arguments += ["--batch-size", str(recipe.batch_size)]
    if recipe.channels:
        arguments += ["--channels", ",".join(map(str, recipe.channels))]
    log = experiment.folder / "logs" / f"generator-{recipe.name}-{each.folder.name}.log"

    def command() -> CommandLine:
        write_config(file, each.config)
        return CommandLine(arguments=tuple(arguments))

    return Task(
        name=f"generator {recipe.name}",
        kind=f"generator {recipe.kind}",
        command=command,
        log=log,
        keeps_output=True,
        folder=each.folder,
        problem=lambda: (
            "" if (each.folder / CARD).exists() else f"{each.folder} holds no generator"
        ),
        done=partial(trained_steps, log),
        steps=recipe.steps,
    )


def trained_steps(log: Path) -> int:
    """How many steps ``fimi generator train`` has said it has done."""
    try:
        said = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    steps = re.findall(r"^step (\d+)/", said, re.MULTILINE)
    return int(steps[-1]) if steps else 0
