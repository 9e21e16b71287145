"""Federations from Python: ``fimi.dry_run`` and ``fimi.run_experiment``.

Both run the commands of the same name in processes of their own. So they work in a script (with or
without ``if __name__ == "__main__"``), in a notebook and in an interactive interpreter: this
process is not forked, its signal handlers stay, and it does not load PyTorch. Ctrl-C, or
"interrupt" in a notebook, ends the run in order and then raises :class:`KeyboardInterrupt`;
finished rounds and runs are stored.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from fimi import children, errors
from fimi.errors import InputError
from fimi.messaging.address import BrokerAddress
from fimi.messaging.bundle import Bundle
from fimi.record.reader import read_run
from fimi.record.record import RunData
from fimi.report.comparison.result import ExperimentResult
from fimi.testbed.commands.interrupts import EXIT_INTERRUPTED
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.sections import ConfigError
from fimi.testbed.experiment import run
from fimi.testbed.experiment.engines.base import GRACE_S, Task, View, last_code, last_words
from fimi.testbed.experiment.file import read_experiment
from fimi.testbed.experiment.where import Where

_LOOK_S = 0.2
"""Time between two reads of the output of a run, s."""

Say = Callable[[str], object]


def dry_run(
    config: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    run_dir: str | Path | None = None,
    say: Say | None = None,
) -> RunData:
    """Run a federation of emulated devices on this machine: ``fimi dry-run``.

    Args:
        config: a configuration file (``fimi init`` writes one); ``None``: all defaults.
        settings: dotted key to value, over the file: ``{"fleet.devices": 3, "rounds.count": 5}``.
            ``fimi check`` lists all keys.
        run_dir: folder for the run, which must not exist yet; ``None``: as ``run.directory`` and
            ``run.name`` say, a new folder below ``runs``.
        say: called with every line of progress, for example :func:`print`; ``None``: silence.

    Returns:
        The run as :func:`fimi.read_run` reads it; ``path`` says where it is stored. Joules are
        :class:`fimi.energy.joules.Energy`, with kind, scope and uncertainty; the kind of emulated
        boards is ``"emulated"``.

    Raises:
        fimi.errors.InputError: a key, a value, a file or the data cannot be used.
        fimi.errors.SurroundingsError: the folder exists or cannot be written, no broker could be
            started, or there is no generator for the data.
        fimi.errors.NoPlanError: no plan meets the limits.
        fimi.errors.RunFailedError: the federation could not start or go on.
        KeyboardInterrupt: Ctrl-C.
    """
    if isinstance(config, Mapping):
        raise ConfigError(
            "config is a dict; it is the path of a file: give keys as settings={...}, the second "
            "argument",
            code="C003",
        )
    given = dict(settings or {})
    if run_dir is not None:
        path = Path(run_dir).absolute()
        if path.exists():
            raise errors.SurroundingsError(
                f"run_dir {path} exists; name a folder that does not", code="R005"
            )
        given |= {"run.directory": str(path.parent), "run.name": path.name}
    written = [f"{key}={_toml(key, value)}" for key, value in given.items()]
    read = dict(configuration.parse_setting(text, "settings") for text in written)
    file = None if config is None else Path(config)
    configuration.load(file, {key: (value, "settings") for key, value in read.items()})
    with tempfile.TemporaryDirectory(prefix="fimi-dry-run-") as folder:
        log = Path(folder) / "output"
        if file is None:
            file = Path(folder) / configuration.FILE_NAME
            file.touch()
        arguments = ["dry-run", "--format", "json", "--config", str(file)]
        for setting in written:
            arguments += ["--set", setting]
        child = children.start("fimi.testbed.child", arguments=arguments, log=log)
        said = 0
        try:
            while child.code is None:
                child.wait(_LOOK_S)
                said = _pass_on(log, said, say)
        finally:
            child.end(GRACE_S)
        _pass_on(log, said, say)
        if (code := child.code) in (-signal.SIGKILL, -signal.SIGTERM, EXIT_INTERRUPTED):
            raise errors.RunFailedError(
                f"the run was stopped from outside (exit code {code})", code="R012"
            )
        if code:
            raise errors.of_exit_code(code)(last_words(log), code=last_code(log))
        result = log.read_text(encoding="utf-8").splitlines()[-1]
        return read_run(Path(msgspec.json.decode(result, type=_Printed).run_dir))


def run_experiment(
    file: str | Path,
    *,
    directory: str | Path | None = None,
    jobs: int = 0,
    redo: bool = False,
    on: str = "local",
    broker: str | None = None,
    generator: bool = False,
    say: Say | None = None,
) -> ExperimentResult:
    """Run what an experiment file asks for and is not finished, and compare: ``fimi experiment``.

    Args:
        file: strategies, seeds and a grid of settings; ``docs/experiments.md`` describes it.
        directory: where the experiment is kept, in place of the file's ``directory``.
        jobs: runs side by side; 0: what the file says, or as many as cores and memory allow.
        redo: whether finished runs whose configuration has changed are run again.
        on: what runs them: ``"local"``, ``"ray"``, ``"ray:ADDRESS"`` or ``"slurm"``.
        broker: URL of a broker, or path of the coordinator's bundle: run on the boards of its fleet
            instead, one run after another.
        generator: with boards: a generator node here beside each run that needs images.
        say: called with a line for every run that ends; ``None``: silence.

    Returns:
        One summary per strategy and grid point, with intervals over the seeds: accuracies 0 to 1,
        costs of the target accuracy in rounds, J, s and bytes. Runs that failed are in ``notes``,
        with the reason. The folder of the experiment holds the same as tables and pictures.

    Raises:
        fimi.errors.InputError: the file or the data cannot be used, or finished runs have another
            configuration and ``redo`` is not set.
        fimi.errors.SurroundingsError: the folder cannot be written, or another process works in it;
            there is no broker, or another study holds the fleet.
        fimi.errors.RunFailedError: runs that are to be compared had different data; too few boards.
        KeyboardInterrupt: Ctrl-C; the next call continues with the runs that are not finished.
    """
    where = Where(on=on, jobs=jobs, live=bool(broker), generator=generator)
    asked = read_experiment(Path(file))
    if directory is not None:
        asked = msgspec.structs.replace(asked, directory=Path(directory))
    asked = where.experiment(asked)
    work = run.plan(asked)
    run.check_data(work.cells)
    if not redo:
        run.require_fresh(work)
    view, stop = _Lines(say), threading.Event()
    if not work.to_do:
        return run.summarise(asked)
    with (
        run.alone(asked.folder) as held,
        where.opened(asked, lambda: _address(broker or ""), view.waiting, stop, held) as (
            ready,
            engine,
        ),
    ):
        run.conduct(run.plan(ready), engine=engine, view=view, stop=stop, keep_open=held)
    return run.summarise(asked)


def _address(url: str) -> BrokerAddress:
    """The broker of a study, by its URL or by the path of the coordinator's bundle.

    Raises:
        InputError: it is exposed to the network, and FIMI_INSECURE does not say that it may be; or
            the bundle cannot be used.
    """
    if "://" in url:
        address = BrokerAddress.parse(url)
    else:
        path = str(Path(url).absolute())
        address = msgspec.structs.replace(Bundle.read(Path(url)).address(), bundle_path=path)
    if (exposed := address.exposed()) and os.environ.get("FIMI_INSECURE") != "1":
        raise InputError(
            f"{address}: {exposed}. Use TLS and credentials (docs/security.md), or set "
            "FIMI_INSECURE=1 on a network that you trust",
            code="B011",
        )
    return address


class _Printed(Struct):
    """The part of the JSON object printed by ``fimi dry-run`` that is read here."""

    run_dir: str


class _Lines(View):
    """A line for each run that ends.

    Args:
        say: called with it.
    """

    def __init__(self, say: Say | None) -> None:
        self._say = say
        self._waits_for = ""

    def noted(self, task: Task, note: str) -> None:
        """Show the note."""
        if self._say is not None:
            self._say(f"{task.name}: {note}")

    def waiting(self, what: str) -> None:
        """Show for what it waits, when that changes."""
        kind = what.split(",")[0]
        if self._say is not None and what and kind != self._waits_for:
            self._say(what)
        self._waits_for = kind

    def finished(self, task: Task, seconds: float, problem: str) -> None:
        """Show the outcome."""
        if self._say is not None:
            self._say(f"{task.name}: {problem or 'done'} ({seconds:.0f} s)")


def _toml(key: str, value: Any) -> str:
    """A setting in TOML; a path becomes a text, a number of NumPy a plain number."""
    plain = os.fspath(value) if isinstance(value, os.PathLike) else value
    try:
        return configuration.to_toml(plain.item() if hasattr(plain, "item") else plain)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"settings: {key} is a {type(value).__name__}; give a number, a text, a truth value or "
            "a list of those",
            code="C003",
        ) from error


def _pass_on(log: Path, before: int, say: Say | None) -> int:
    """Call ``say`` with the complete lines after the first ``before`` bytes; returns their end."""
    data = log.read_bytes()
    whole = data.rfind(b"\n") + 1
    if say is not None:
        for line in data[before:whole].decode(errors="replace").splitlines():
            if not line.startswith("{"):
                say(line)
    return max(before, whole)
