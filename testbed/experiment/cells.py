"""From an experiment to its runs: one cell for each strategy, seed and grid point.

Where an experiment tunes, there are cells to tune with, and those with what was chosen.

* :func:`cells`            all of them, each with its whole configuration
* :func:`preparations`     the generators to train first
* :func:`state`            whether a cell's run is there, finished, and of this configuration

Cells whose configurations are the same (an override that wins over the grid, for instance) share
one run. A run is known by the configuration in its own store, not by a list beside it.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from fimi.coordinator.strategies import STRATEGIES
from fimi.record.reader import ReportError, read_info
from fimi.record.record import DECIDE_NOTHING
from fimi.report.comparison.tuning import TuningChoice
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.load import ConfigError
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import Config
from fimi.testbed.experiment.definition import Experiment, GeneratorPreparation, Value

_NAME_MAX = 64
_OUTSIDE = ("run.name", "run.directory", "broker.kind", "broker.port", "fleet.members")
"""Keys that decide where a run is, and not what it gives."""

Progress = Literal["absent", "unfinished", "stale", "finished"]
Part = Literal["configured", "tuning", "tuned"]


class Cell(Struct, frozen=True, kw_only=True):
    """One run of an experiment.

    Attributes:
        point: grid key to value.
        label: of the strategy.
        seed: of the run.
        part: as configured, to tune with, or with the settings that were chosen.
        settings: keys that are tuned to the values that this cell has.
        name: of the run's folder.
        scenario: its configuration, with name and folder.
        digest: of what decides its result.
    """

    point: dict[str, Value]
    label: str
    seed: int
    part: Part = "configured"
    settings: dict[str, Value] = {}
    name: str
    scenario: Scenario
    digest: str

    @property
    def config(self) -> Config:
        """The values of :attr:`scenario`."""
        return self.scenario.config

    @property
    def folder(self) -> Path:
        """Of the run."""
        return Path(self.config.run.directory) / self.name


class PreparedGenerator(Struct, frozen=True, kw_only=True):
    """A generator, and the public part it is trained on.

    Attributes:
        recipe: what the file says.
        folder: where it is, or will be.
        config: decides the public part.
    """

    recipe: GeneratorPreparation
    folder: Path
    config: Config


class State(Struct, frozen=True, kw_only=True):
    """The state of a cell's run.

    Attributes:
        progress: ``stale``: finished, of another configuration.
        changed: keys that differ, with the stored value and the one asked for.
        wall_s: how long it took; ``None`` if not known.
        failed: not finished, because of an error.
    """

    progress: Progress
    changed: tuple[str, ...] = ()
    wall_s: float | None = None
    failed: bool = False


def cells(experiment: Experiment, choices: Iterable[TuningChoice] = ()) -> list[Cell]:
    """Every cell, grid point by grid point, strategy by strategy, seed by seed.

    Args:
        experiment: as the file has it.
        choices: settings that were chosen; there are no cells of others.

    Raises:
        ConfigError: a value is impossible; says in which part of the file.
    """
    naming = _Naming(experiment)
    points = [
        dict(zip(experiment.grid, values, strict=True))
        for values in itertools.product(*experiment.grid.values())
    ]
    found = [
        naming.cell(point, label, seed, "configured", {})
        for point in points
        for label, seed in itertools.product(experiment.strategies, experiment.seeds)
    ]
    if experiment.tune is None:
        return found
    tune = experiment.tune
    found += [
        naming.cell(point, label, seed, "tuning", settings)
        for point in points
        for label in experiment.strategies
        for settings, seed in itertools.product(tune.settings, tune.seeds)
    ]
    if "training.epochs" in tune.grid:
        for cell in found:
            _require_held_epochs(experiment, cell)
    return found + [
        naming.cell(choice.point, choice.label, seed, "tuned", choice.taken.settings)
        for choice in choices
        if choice.taken is not None
        for seed in experiment.seeds
    ]


def _require_held_epochs(experiment: Experiment, cell: Cell) -> None:
    """Epochs are tuned only where no plan chooses others."""
    config = cell.config
    if config.plan.epochs_choices and STRATEGIES[config.run.strategy].plans_data:
        raise ConfigError(
            f"{experiment.path}: [tune.grid]: training.epochs would change little for "
            f"{cell.label}, which chooses them for plan.target_accuracy = "
            f"{config.plan.target_accuracy:g}, while the others are tuned; set "
            f"plan.choose_epochs = false below [overrides.{cell.label}], or tune other keys",
            code="C006",
        )


class _Naming:
    """Makes cells, and names their runs so that the same configuration has one run."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._runs = str(experiment.folder / "runs")
        self._taken: dict[str, str] = {}
        self._shared: dict[str, str] = {}

    def cell(
        self,
        point: Mapping[str, Value],
        label: str,
        seed: int,
        part: Part,
        settings: Mapping[str, Value],
    ) -> Cell:
        """A cell with its whole configuration."""
        experiment = self._experiment
        scenario = _configured(experiment, point, label, seed, settings)
        digest = digest_of(scenario.config)
        decided = experiment.overrides.get(label, {})
        own = {key: value for key, value in point.items() if key not in decided} | dict(settings)
        name = self._shared.get(digest) or _name(own, label, seed)
        if self._taken.get(name, digest) != digest:
            name = f"{name[: _NAME_MAX - 9]}-{digest[:8]}"
        self._taken[name] = digest
        self._shared[digest] = name
        run = msgspec.structs.replace(scenario.config.run, name=name, directory=self._runs)
        fleet = scenario.config.fleet
        if experiment.boards and not fleet.members:
            fleet = msgspec.structs.replace(fleet, members=experiment.boards[: fleet.devices])
        config = msgspec.structs.replace(scenario.config, run=run, fleet=fleet)
        values = configuration.values(config)
        return Cell(
            point=dict(point),
            label=label,
            seed=seed,
            part=part,
            settings={
                key: values[key] for key in (experiment.tune.grid if experiment.tune else ())
            },
            name=name,
            scenario=msgspec.structs.replace(scenario, config=config),
            digest=digest,
        )


def distinct(all_cells: Iterable[Cell]) -> list[Cell]:
    """One cell for each run, in order."""
    return list({cell.name: cell for cell in reversed(list(all_cells))}.values())[::-1]


def preparations(experiment: Experiment, all_cells: Iterable[Cell]) -> list[PreparedGenerator]:
    """The generators that the cells refer to, each once.

    Raises:
        ConfigError: cells that share one have different public parts.
    """
    found: dict[Path, PreparedGenerator] = {}
    for cell in all_cells:
        for recipe in experiment.generators:
            folder = _generator_folder(experiment, recipe, cell.config)
            if cell.config.generator.weights != str(folder):
                continue
            other = found.setdefault(
                folder, PreparedGenerator(recipe=recipe, folder=folder, config=cell.config)
            )
            if _public_part(other.config) != _public_part(cell.config):
                raise ConfigError(
                    f"{experiment.path}: [[generator]] {recipe.name!r} is kept in {folder}, but "
                    "cells that use it have different public parts; leave out its folder, then "
                    "there is one for each, or set data.split_seed, so that seeds share it",
                    code="C006",
                )
    return list(found.values())


def state(cell: Cell) -> State:
    """The state of a cell's run, by the run's own store."""
    if not cell.folder.exists():
        return State(progress="absent")
    try:
        info, _ = read_info(cell.folder)
    except ReportError:
        return State(progress="unfinished")
    if info.status != "completed":
        return State(progress="unfinished", failed=info.status == "failed")
    before = info.config
    default = _plain(configuration.values(Config()))
    changed = tuple(
        f"{key} was {configuration.to_toml(before.get(key, default[key]))}, "
        f"is {configuration.to_toml(value)}"
        for key, value in _deciding(cell.config).items()
        if before.get(key, default[key]) != value
    )
    return State(progress="stale" if changed else "finished", changed=changed, wall_s=info.wall_s)


def finished_rounds(folder: Path) -> int:
    """How many rounds a run has stored so far."""
    try:
        return read_info(folder)[1]
    except ReportError:
        return 0


def digest_of(config: Config) -> str:
    """SHA-256 of everything in a configuration that decides a run's result, hexadecimal."""
    return hashlib.sha256(msgspec.json.encode(_deciding(config))).hexdigest()


def toml(config: Config) -> str:
    """A configuration as a file that ``fimi dry-run --config`` reads."""
    lines: list[str] = []
    section = ""
    for dotted, value in configuration.values(config).items():
        table, key = dotted.split(".")
        if table != section:
            lines += ["", f"[{table}]"] if lines else [f"[{table}]"]
            section = table
        lines.append(f"{key} = {configuration.to_toml(value)}")
    return "\n".join(lines) + "\n"


def _configured(
    experiment: Experiment,
    point: Mapping[str, Value],
    label: str,
    seed: int,
    settings: Mapping[str, Value],
) -> Scenario:
    path = experiment.path
    overrides: dict[str, tuple[Value, str]] = {
        key: (value, f"{path} [base]") for key, value in experiment.base.items()
    }
    overrides |= {key: (value, f"{path} [grid]") for key, value in point.items()}
    overrides["run.strategy"] = (label, f"{path} strategies")
    overrides |= {
        key: (value, f"{path} [overrides.{label}]")
        for key, value in experiment.overrides.get(label, {}).items()
    }
    overrides |= {key: (value, f"{path} [tune.grid]") for key, value in settings.items()}
    if experiment.equal_compute:
        overrides["training.steps"] = (experiment.equal_compute, f"{path} equal_compute")
    overrides["run.seed"] = (seed, f"{path} seeds")
    scenario = configuration.load(experiment.base_file, overrides)
    weights = scenario.config.generator.weights
    if not weights.startswith("@"):
        return scenario
    recipe = next(each for each in experiment.generators if f"@{each.name}" == weights)
    folder = str(_generator_folder(experiment, recipe, scenario.config))
    generator = msgspec.structs.replace(scenario.config.generator, weights=folder)
    return msgspec.structs.replace(
        scenario, config=msgspec.structs.replace(scenario.config, generator=generator)
    )


def _generator_folder(experiment: Experiment, recipe: GeneratorPreparation, config: Config) -> Path:
    """Where a generator is kept: as declared, else by its recipe and its public part."""
    if recipe.folder:
        return Path(recipe.folder).expanduser()
    decides = msgspec.json.encode((recipe, _public_part(config)))
    return (
        experiment.folder
        / "generators"
        / (f"{recipe.name}-{hashlib.sha256(decides).hexdigest()[:8]}")
    )


def _public_part(config: Config) -> list[Any]:
    """What decides the public part of the data."""
    data = config.data
    random = data.split == "random" or (data.split == "auto" and data.dataset != "digits")
    drawn = random or data.limit
    seed = (config.run.seed if data.split_seed < 0 else data.split_seed) if drawn else 0
    return [
        data.dataset,
        data.root,
        data.image_size,
        data.image_mode,
        data.limit,
        data.split,
        data.public_fraction,
        data.validation_fraction,
        seed,
    ]


def _name(point: Mapping[str, Value], label: str, seed: int) -> str:
    """Of a run's folder: letters, digits, dots and dashes, at most 64."""
    parts = [f"{key.split('.')[1]}-{_word(value)}" for key, value in point.items()]
    text = "-".join([*parts, label, f"seed{seed}"])
    text = re.sub(r"[^A-Za-z0-9_.-]+", "-", text)
    if len(text) <= _NAME_MAX:
        return text
    tail = f"-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return text[: _NAME_MAX - len(tail)] + tail


def _word(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "-".join(map(_word, value)) if isinstance(value, list) else str(value)


def _deciding(config: Config) -> dict[str, Any]:
    return {
        key: value
        for key, value in _plain(configuration.values(config)).items()
        if key not in _OUTSIDE and not key.startswith(DECIDE_NOTHING)
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON has them, which is how a run store keeps them."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(values))
    return plain
