"""How a run is described when it begins, and what must still be so when it is gone on with.

* :func:`describe`      a run from its first moment on, for its record
* :func:`versions`      what decides results beside the configuration and the data
* :func:`look`          a run that ended early, with the configuration that it goes on with
* :class:`Begun`        the same as a value
* :class:`ResumeError`  it cannot be gone on with as it is asked for

A run goes on with the configuration, the versions and the data that it was begun with. What differs
is refused, every difference with both values. The configuration and the versions may be changed all
the same where that is asked for; the data never, nor what the model and the plan were made for.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from fimi.coordinator.strategies import STRATEGIES
from fimi.errors import InputError
from fimi.learning.data.contract import Contract, Difference, differences
from fimi.record.reader import STORE_NAME, ReportError, read_info
from fimi.record.record import RunInfo
from fimi.record.store import RunStore
from fimi.record.store_file import StoreError
from fimi.sources import source_digest
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.run_folder import find_run, resuming_command, tidy

BeginCommand = Literal["dry-run", "coordinator run"]

_PACKAGES = (
    "fimi-testbed",
    "torch",
    "diffusers",
    "numpy",
    "cvxpy",
    "paho-mqtt",
    "onnx",
    "onnxruntime",
)
_NEVER = ("run.strategy", "run.seed", "training.model", "fleet.devices")
"""Keys that decide what the model and the plan of a run are for."""
_ITS_OWN = ("run.name", "run.directory")
"""Keys that say where the run lies: it is where it was found."""
_TOLD_ELSEWHERE = ("trackers.", "otlp.")
"""Sections that say which other tools are told of the run; nothing in it depends on them."""
_NOT_COMPARED = ("platform",)
"""Versions of which results do not depend."""


class ResumeError(InputError, ValueError):
    """A run cannot be gone on with as it is asked for; the message says why and what to do."""

    code = "R006"


class Begun(Struct, frozen=True, kw_only=True):
    """A run that ended early.

    Attributes:
        path: its folder.
        info: its description as stored.
        scenario: what it goes on with.
        changes: in what that differs from what it was begun with, a sentence each.
    """

    path: Path
    info: RunInfo
    scenario: Scenario
    changes: tuple[str, ...] = ()

    def changed(self, info: RunInfo) -> RunInfo:
        """Its description with what it goes on with."""
        return msgspec.structs.replace(
            info,
            config=configuration.values(self.scenario.config),
            origins=self.scenario.origins,
            versions=versions(),
        )


def describe(scenario: Scenario, command: BeginCommand, instance: str) -> RunInfo:
    """The description of a run that begins now; its name is for the run folder to say.

    Args:
        scenario: what is run.
        command: that begins it.
        instance: its random id.
    """
    config = scenario.config
    strategy = STRATEGIES[config.run.strategy]
    return RunInfo(
        run=config.run.name,
        strategy=strategy.name,
        strategy_title=strategy.title,
        fills_devices=strategy.fills_devices,
        seed=config.run.seed,
        started_at=datetime.now().astimezone().isoformat(timespec="seconds"),
        config=configuration.values(config),
        origins=scenario.origins,
        versions=versions(),
        dataset=scenario.dataset,
        instance=instance,
        contract=msgspec.to_builtins(scenario.contract),
        command=command,
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results; absent ones left out."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {**found, "fimi source": source_digest()}


def look(
    name: str,
    command: BeginCommand,
    *,
    directory: str = "runs",
    config_path: Path | None = None,
    overrides: Mapping[str, tuple[Any, str]] | None = None,
    accept_changes: bool = False,
) -> Begun:
    """A run that ended early, with what it goes on with; nothing is changed in it.

    Args:
        name: of the run, or the path of its folder.
        command: that is to go on with it.
        directory: the folder of runs.
        config_path: a configuration file that was named beside it.
        overrides: dotted key to (value, option), that were given beside it.
        accept_changes: whether other values and versions than it was begun with are meant.

    Raises:
        RunFolderError: there is no such run; suggests the nearest name.
        StoreError: it is completed, in use, of an older release, or cannot be read.
        ResumeError: what is here differs from what it was begun with, or another command began it.
        ConfigError: the configuration that is given beside it cannot be used.
        DatasetError: the data cannot be loaded any more.
    """
    path = find_run(Path(name), directory)
    path = path.parent if path.is_file() else path
    info = _described(path)
    if info.command and info.command != command:
        raise ResumeError(
            f"{path} was begun with 'fimi {info.command}' and goes on with it: "
            f"{resuming_command(info.command, path)}"
        )
    scenario = _scenario(path, info, config_path, overrides or {})
    scenario.check()
    where = {key: f" ({option})" for key, (_, option) in (overrides or {}).items()}
    of_data = differences(scenario.contract, _contract(path, info))
    changed = _of_config(scenario, info, {each.key for each in of_data})
    never = [*of_data, *(each for each in changed if each.key in _NEVER)]
    changed = [each for each in changed if each.key not in _NEVER]
    count, stored = scenario.config.rounds.count, read_info(path)[1]
    if count < stored:
        raise ResumeError(
            f"{path}: rounds.count is {count}{where.get('rounds.count', '')}, and {stored} rounds "
            "are stored; a run does not become shorter"
        )
    changed += _of_versions(info)
    if never:
        raise ResumeError(
            f"{path} cannot be gone on with:{_told(never, where)}\n"
            "Its data, and what its model and its plan were made for, stay as they were, also with "
            "--accept-changes: put back what has changed, or start a new run."
        )
    if changed and not accept_changes:
        raise ResumeError(
            f"{path} was begun otherwise:{_told(changed, where)}\n"
            "Leave out what differs, install the versions that the run was begun with, or go on "
            "with what is here now: --accept-changes"
        )
    return Begun(
        path=path,
        info=info,
        scenario=scenario,
        changes=tuple(f"{each.key} was {each.theirs}, is {each.ours}" for each in changed),
    )


def _described(path: Path) -> RunInfo:
    """The description of a run that can be gone on with."""
    store = path / STORE_NAME
    if not store.exists():
        raise ResumeError(
            f"{path}: nothing was stored here, so there is nothing to go on with; start the run "
            "again as it was started, under the same name"
        )
    try:
        info = RunStore.resumable(store)
    except StoreError:
        try:
            completed = read_info(path)[0].status == "completed"
        except ReportError:
            completed = False
        if completed:
            tidy(path)  # its process may have been killed before it could
        raise
    if not info.config:
        raise ResumeError(
            f"{path} does not say how it was configured; start it again, without --resume"
        )
    return info


def _scenario(
    path: Path,
    info: RunInfo,
    config_path: Path | None,
    overrides: Mapping[str, tuple[Any, str]],
) -> Scenario:
    """The stored configuration with what was given beside it."""
    stored = {
        key: (value, info.origins.get(key, f"the run {info.run}"))
        for key, value in info.config.items()
    }
    here = {"run.name": path.resolve().name, "run.directory": str(path.parent)}
    stored |= {key: (value, "--resume") for key, value in here.items()}
    return configuration.load(config_path, overrides, stored=stored)


def _contract(path: Path, info: RunInfo) -> Contract:
    try:
        return msgspec.convert(info.contract, Contract)
    except msgspec.ValidationError as error:
        raise ResumeError(
            f"{path}: the contract of its data cannot be read ({error}); resume it with the "
            "release that began it, or start a new run"
        ) from error


def _of_config(scenario: Scenario, info: RunInfo, known: set[str]) -> list[Difference]:
    """Keys whose value is another one than in the run, but for those that are known already."""
    now, then = configuration.values(scenario.config), info.config
    apart = {*_ITS_OWN, *known}
    return [
        Difference(
            key=key, ours=configuration.to_toml(value), theirs=configuration.to_toml(then[key])
        )
        for key, value in now.items()
        if key not in apart and key in then and not _same(value, then[key])
        if not key.startswith(_TOLD_ELSEWHERE)
    ]


def _same(value: Any, stored: Any) -> bool:
    """Whether a value is the one that was read from JSON."""
    return bool(msgspec.json.decode(msgspec.json.encode(value)) == stored)


def _of_versions(info: RunInfo) -> list[Difference]:
    now, then = versions(), info.versions
    return [
        Difference(key=name, ours=now.get(name, "not here"), theirs=then.get(name, "not there"))
        for name in dict.fromkeys((*then, *now))
        if name not in _NOT_COMPARED and now.get(name) != then.get(name)
    ]


def _told(found: list[Difference], where: Mapping[str, str]) -> str:
    return "".join(
        f"\n  {each.key} is {each.ours}{where.get(each.key, '')}, in the run {each.theirs}"
        for each in found
    )
