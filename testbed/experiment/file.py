"""The experiment file: a base configuration, strategies, seeds, and what is varied.

:func:`read_experiment` makes a TOML file an
:class:`~fimi.testbed.experiment.definition.Experiment`.

Keys of the configuration are written as in ``fimi.toml``, below ``[base]``, ``[grid]`` and
``[overrides.STRATEGY]``: ``data.alpha = 0.1`` or a table ``[base.data]``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from fimi.report.comparison.runs import AccuracyTarget
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.load import ConfigError
from fimi.testbed.configuration.rules import first_twice
from fimi.testbed.configuration.sections import STRATEGY_NAMES
from fimi.testbed.experiment.definition import (
    Experiment,
    GeneratorPreparation,
    Label,
    LiveStudy,
    SlurmRequest,
    Tuning,
    Value,
)
from fimi.testbed.nearest import hint

_DECIDED_HERE = {
    "run.seed": "seeds = [0, 1, 2]",
    "run.name": "nothing: cells are named by what they are",
    "run.directory": 'directory = "experiments"',
}


Seeds = Annotated[tuple[Annotated[int, Meta(ge=0, lt=2**31)], ...], Meta(min_length=1)]


class _Tune(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[tune]`` before its names are looked at."""

    seeds: Seeds
    grid: dict[str, Any]


class _File(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file's top level, before its names are looked at."""

    strategies: Annotated[tuple[Label, ...], Meta(min_length=1)]
    seeds: Annotated[int, Meta(ge=1, le=1000)] | Seeds = 5
    name: Annotated[str, Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,63})?$")] = ""
    title: str = ""
    directory: Annotated[str, Meta(min_length=1)] = "experiments"
    baseline: str = ""
    target: str | float = ""
    target_on: Literal["validation", "test"] = "validation"
    equal_compute: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    jobs: Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"] = "auto"
    memory_gb: Annotated[float, Meta(ge=0)] = 0.0
    confidence: Annotated[float, Meta(gt=0.5, lt=1)] = 0.95
    base: dict[str, Any] = {}
    grid: dict[str, Any] = {}
    overrides: dict[str, dict[str, Any]] = {}
    tune: _Tune | None = None
    generator: tuple[GeneratorPreparation, ...] = ()
    live: LiveStudy = LiveStudy()
    slurm: SlurmRequest = SlurmRequest()


def read_experiment(path: Path) -> Experiment:
    """Read an experiment file.

    Raises:
        ConfigError: unreadable, or something in it is unknown or impossible; says what to do.
    """
    raw = configuration.read_toml(path, absent="; examples/experiments holds some to start from")
    top = _File.__struct_fields__
    for key in raw:
        if key not in top:
            sections = {name.split(".")[0] for name, _ in configuration.fields()}
            meant = (
                f"sections of the configuration stand below base: [base.{key}]"
                if key in sections and isinstance(raw[key], dict)
                else hint(key, top)
            )
            raise ConfigError(f"{path}: unknown key {key!r}; {meant}", code="C006")
    for key in raw["slurm"] if isinstance(raw.get("slurm"), dict) else ():
        if key not in SlurmRequest.__struct_fields__:
            meant = hint(key, SlurmRequest.__struct_fields__)
            raise ConfigError(f"{path}: [slurm]: unknown key {key!r}; {meant}", code="C006")
    if "strategies" not in raw:
        raise ConfigError(
            f"{path}: it names no strategies; write for example "
            'strategies = ["tfl", "fimi"] at its top',
            code="C006",
        )
    try:
        said = msgspec.convert(raw, _File, strict=True)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$.")
        raise ConfigError(
            f"{path}: {place.rstrip('`') or 'the file'}: {what}; see docs/experiments.md",
            code="C006",
        ) from error
    for name, given in (("strategies", said.strategies), ("seeds", said.seeds)):
        if isinstance(given, tuple) and (twice := first_twice(given)):
            raise ConfigError(f"{path}: {name} names {twice!r} twice; list it once", code="C006")
    grid = _grid(said.grid, path)
    overrides = {
        label: _keys(table, f"{path}: [overrides.{label}]", {"run.strategy"})
        for label, table in said.overrides.items()
    }
    for label, table in overrides.items():
        for key in table:
            _require_same_data(key, f"{path}: [overrides.{label}]")
    _check_labels(path, said.strategies, overrides)
    base_file, base = _base(said.base, path)
    baseline = said.baseline or ("tfl" if "tfl" in said.strategies else said.strategies[0])
    if baseline not in said.strategies:
        raise ConfigError(
            f"{path}: baseline {baseline!r} is not among strategies; take one of "
            f"{', '.join(said.strategies)}",
            code="C006",
        )
    seeds = tuple(range(said.seeds)) if isinstance(said.seeds, int) else said.seeds
    experiment = Experiment(
        path=path,
        name=said.name or re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).strip("-.") or "experiment",
        title=said.title,
        directory=Path(said.directory),
        strategies=said.strategies,
        seeds=seeds,
        baseline=baseline,
        target=replace(_target(said.target, baseline, said.strategies, path), on=said.target_on),
        jobs=0 if said.jobs == "auto" else said.jobs,
        memory_gb=said.memory_gb,
        confidence=said.confidence,
        base_file=base_file,
        base=base,
        grid=grid,
        overrides=overrides,
        generators=said.generator,
        equal_compute=said.equal_compute,
        tune=_tuning(said.tune, seeds, grid, path) if said.tune else None,
        live=said.live,
        slurm=said.slurm,
    )
    _check_generators(experiment)
    if experiment.equal_compute:
        _check_steps(experiment)
    return experiment


def _keys(table: Mapping[str, Any], where: str, allowed: set[str]) -> dict[str, Value]:
    """Tables of keys as dotted keys; ``"data.alpha" = 1`` means the same as ``data.alpha = 1``."""
    found: dict[str, Value] = {}
    for section, body in table.items():
        if isinstance(body, dict):
            found |= {f"{section}.{key}": value for key, value in body.items()}
        else:
            found[section] = body
    for dotted in found:
        if dotted.count(".") != 1:
            raise ConfigError(
                f"{where}: {dotted!r} is no key of the configuration; write section.key, for "
                "example data.alpha",
                code="C006",
            )
        configuration.require_known(dotted, where)
        if dotted in allowed:
            continue
        if dotted == "run.strategy":
            raise ConfigError(
                f"{where}: run.strategy is decided by strategies = [...]", code="C006"
            )
        if dotted in _DECIDED_HERE:
            raise ConfigError(
                f"{where}: {dotted} is decided by the experiment; write {_DECIDED_HERE[dotted]}",
                code="C006",
            )
    return found


def _require_same_data(key: str, where: str) -> None:
    if key.startswith("data.") or key == "fleet.devices":
        raise ConfigError(
            f"{where}: {key} would give this strategy other data than the rest, so that nothing "
            "could be compared; put it below [base] or [grid]",
            code="C006",
        )


def _tuning(said: _Tune, reported: tuple[int, ...], grid: Mapping[str, Any], path: Path) -> Tuning:
    found = _grid(said.grid, path, "tune.grid")
    if not found:
        raise ConfigError(
            f"{path}: [tune.grid] is empty; list what to try, for example "
            "training.learning_rate = [0.1, 0.2, 0.3]",
            code="C006",
        )
    for key in found:
        _require_same_data(key, f"{path}: [tune.grid]")
        if key == "plan.objective":
            raise ConfigError(
                f"{path}: [tune.grid]: plan.objective decides by which joules settings are judged, "
                "so that its values cannot be compared; put it below [base], [grid] or [overrides]",
                code="C006",
            )
        if key in grid:
            raise ConfigError(
                f"{path}: {key} stands in [grid] and in [tune.grid]; a key is either varied, with "
                "results for each value, or tuned, with one value chosen",
                code="C006",
            )
    if (twice := first_twice(said.seeds)) is not None:
        raise ConfigError(f"{path}: [tune] seeds names {twice!r} twice; list it once", code="C006")
    if both := sorted(set(said.seeds) & set(reported)):
        raise ConfigError(
            f"{path}: [tune] seeds: {', '.join(map(str, both))} would be reported as well, so that "
            "settings were chosen on results; take others, for example seeds = [100, 101]",
            code="C006",
        )
    return Tuning(seeds=said.seeds, grid=found)


def _check_steps(experiment: Experiment) -> None:
    """Nothing else may decide how much a device trains."""
    places: dict[str, Mapping[str, Any]] = {
        "[base]": experiment.base,
        "[grid]": experiment.grid,
        **{f"[overrides.{label}]": table for label, table in experiment.overrides.items()},
        "[tune.grid]": experiment.tune.grid if experiment.tune else {},
    }
    for place, table in places.items():
        for key in ("training.steps", "training.epochs"):
            if key in table:
                raise ConfigError(
                    f"{experiment.path}: {place}: {key} has no effect beside equal_compute = "
                    f"{experiment.equal_compute}, which sets the steps of every round; remove one",
                    code="C006",
                )


def _grid(table: Mapping[str, Any], path: Path, name: str = "grid") -> dict[str, tuple[Value, ...]]:
    found = _keys(table, f"{path}: [{name}]", set())
    for dotted, values in found.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"{path}: [{name}]: {dotted} = {values!r}; list the values it shall take, for "
                f"example {dotted} = [{configuration.to_toml(values) if values != [] else '...'}]",
                code="C006",
            )
        if twice := first_twice([configuration.to_toml(value) for value in values]):
            raise ConfigError(
                f"{path}: [{name}]: {dotted} lists {twice} twice; list it once", code="C006"
            )
    return {dotted: tuple(values) for dotted, values in found.items()}


def _base(table: Mapping[str, Any], path: Path) -> tuple[Path | None, dict[str, Value]]:
    rest = dict(table)
    file = rest.pop("file", None)
    if file is not None and not isinstance(file, str):
        raise ConfigError(
            f"{path}: [base]: file = {file!r}; write the path of a configuration", code="C006"
        )
    keys = _keys(rest, f"{path}: [base]", set())
    return (path.parent / file if file else None), keys


def _check_labels(
    path: Path, labels: tuple[str, ...], overrides: Mapping[str, Mapping[str, Value]]
) -> None:
    for label in overrides:
        if label not in labels:
            raise ConfigError(
                f"{path}: [overrides.{label}] belongs to no strategy of the experiment; there are "
                f"{', '.join(labels)}",
                code="C006",
            )
    for label in labels:
        strategy = overrides.get(label, {}).get("run.strategy", label)
        if strategy not in STRATEGY_NAMES and ":" not in str(strategy):
            raise ConfigError(
                f"{path}: strategies: there is no strategy {strategy!r}; "
                f"{hint(strategy, STRATEGY_NAMES)}. A label of your own says what it stands for: "
                f'[overrides.{label}] run.strategy = "tfl"',
                code="C006",
            )


def _target(
    said: str | float, baseline: str, labels: tuple[str, ...], path: Path
) -> AccuracyTarget:
    if isinstance(said, float):
        if not 0 < said < 1:
            raise ConfigError(
                f"{path}: target = {said:g}; an accuracy lies between 0 and 1, for example 0.9",
                code="C006",
            )
        return AccuracyTarget(value=said)
    label, dash, which = (said or f"{baseline}-final").rpartition("-")
    if not dash or which not in ("final", "best") or label not in labels:
        raise ConfigError(
            f"{path}: target = {said!r}; write a number such as 0.9, or a strategy of the "
            f'experiment with "-final" or "-best", for example "{baseline}-best"',
            code="C006",
        )
    return AccuracyTarget(of=label, which="final" if which == "final" else "best")


def _check_generators(experiment: Experiment) -> None:
    names = [each.name for each in experiment.generators]
    if twice := first_twice(names):
        raise ConfigError(f"{experiment.path}: two [[generator]] are called {twice!r}", code="C006")
    key = "generator.weights"
    said = [
        experiment.base.get(key, ""),
        *experiment.grid.get(key, ()),
        *(experiment.tune.grid.get(key, ()) if experiment.tune else ()),
        *(table.get(key, "") for table in experiment.overrides.values()),
    ]
    asked = {value[1:] for value in said if isinstance(value, str) and value.startswith("@")}
    for name in sorted(asked - set(names)):
        raise ConfigError(
            f'{experiment.path}: generator.weights = "@{name}" refers to no [[generator]]; '
            + (f"there are {', '.join(names)}" if names else "the file has none"),
            code="C006",
        )
    for name in sorted(set(names) - asked):
        raise ConfigError(
            f"{experiment.path}: [[generator]] {name!r} is used by no run; refer to it with "
            f'generator.weights = "@{name}" below [base.generator], [grid], [tune.grid] or '
            "[overrides]",
            code="C006",
        )
