"""Parts that several commands use: options, exit codes, errors, signals.

How they reach a broker is in :mod:`fimi.testbed.commands.reaching`.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from fimi.coordinator.strategies import STRATEGIES
from fimi.errors import CODE_LINE, FimiError, InputError, RunFailedError, SurroundingsError
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.logs import SHOWN, folded
from fimi.testbed.nearest import nearest

log = logging.getLogger(__name__)

EXIT_CONFIG = InputError.exit_code
EXIT_SURROUNDINGS = SurroundingsError.exit_code
EXIT_FEDERATION = RunFailedError.exit_code
_PLAIN = ("U001", "U002")
"""Codes of errors whose message says all that there is to say."""
_OF_SYSTEM = {
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR), "U003"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "U004"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "U005"),
}
EXIT_UNREAD = 141
"""Of a command whose output nobody reads any more, as a shell shows a process that SIGPIPE ends."""


class WordChoice(click.Choice):  # type: ignore[type-arg]  # in click 8.1 it is not generic
    """One of some words; the error of an unknown word suggests the nearest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The word."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            meant = nearest(str(value), map(str, self.choices))
            self.fail(error.message + (f" Did you mean {meant!r}?" if meant else ""), param, ctx)


def result_format(*names: str) -> Callable[[Any], Any]:
    """The option ``--format`` of a command, whose default is the first name."""
    return click.option(
        "--format", "output", type=WordChoice(names), default=names[0], help="Result."
    )


COMMON = [
    click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        help="TOML file (fimi init). Left out: ./fimi.toml where there is one.",
    ),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set any key."),
    click.option("--seed", type=int, help="run.seed"),
]
RUN = [
    click.option("--strategy", help=f"run.strategy: {', '.join(STRATEGIES)}"),
    click.option("--devices", type=int, help="fleet.devices"),
    click.option("--rounds", type=int, help="rounds.count"),
    click.option("--alpha", type=float, help="data.alpha"),
    click.option(
        "--target-accuracy",
        type=float,
        help="plan.target_accuracy: choose error limit and local epochs for it.",
    ),
    click.option("--name", help="run.name"),
    click.option("--directory", help="run.directory"),
    result_format("text", "json"),
    click.option(
        "--resume",
        metavar="NAME",
        help="Go on with a run that ended early, as it was begun; or the path of its folder.",
    ),
    click.option(
        "--accept-changes",
        is_flag=True,
        help="With --resume: with other values and versions than the run was begun with.",
    ),
]
_KEYS = {
    "seed": "run.seed",
    "strategy": "run.strategy",
    "devices": "fleet.devices",
    "rounds": "rounds.count",
    "alpha": "data.alpha",
    "target_accuracy": "plan.target_accuracy",
    "name": "run.name",
    "directory": "run.directory",
    "broker_kind": "broker.kind",
    "port": "broker.port",
}
ROOT = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path("/"),
    help="Find sysfs, /proc and /dev below this folder: a tree of files instead of the machine.",
)


def options(*groups: list[Any]) -> Callable[[Any], Any]:
    """Add groups of options to a command."""

    def decorate(command: Any) -> Any:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


def read_config(
    path: Path | None,
    settings: tuple[str, ...],
    given: dict[str, Any],
    *,
    divides_data: bool = True,
) -> Scenario:
    """The scenario of a command; errors are printed on one screen.

    Without a path, ``fimi.toml`` in the working folder is read if there is one.
    """
    path = path or configuration.default_file()
    try:
        overrides = read_overrides(settings, given)
        scenario = configuration.load(path, overrides)
        if divides_data:
            scenario.check()
        log.debug("configuration: %s", path or f"defaults; there is no ./{configuration.FILE_NAME}")
        return scenario
    except InputError as error:
        fail(str(error), EXIT_CONFIG, error.code)


def read_overrides(settings: tuple[str, ...], given: dict[str, Any]) -> dict[str, tuple[Any, str]]:
    """Dotted key to (value, option), from ``--set`` and from the options of a command.

    Raises:
        ConfigError: there is no such key.
    """
    overrides: dict[str, tuple[Any, str]] = {}
    for text in settings:
        key, value = configuration.parse_setting(text)
        overrides[key] = (value, f"--set {key}")
    for option, value in given.items():
        if value is not None:
            overrides[_KEYS[option]] = (value, f"--{option.replace('_', '-')}")
    return overrides


@contextmanager
def errors() -> Iterator[None]:
    """Print errors that a user can act on, on one screen, and exit with their code."""
    try:
        yield
    except FimiError as error:
        fail(str(error), error.exit_code, error.code)
    except BrokenPipeError as error:
        end_if_unread()
        fail(str(error), EXIT_SURROUNDINGS, code_of(error))
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        fail(f"{where}{error.strerror or error}", EXIT_SURROUNDINGS, code_of(error))


def end_if_unread() -> None:
    """End without a word if the reader of standard output or standard error has closed it.

    This is no error: ``fimi report RUN | head -3``.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            look = select.poll()
            look.register(stream, 0)
        except (AttributeError, OSError, ValueError):  # Windows, or a stream without a file
            continue
        if any(state & select.POLLERR for _, state in look.poll(0)):
            # The interpreter flushes at its end, which must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            sys.exit(EXIT_UNREAD)


def fail(message: str, exit_code: int, code: str = "") -> NoReturn:
    """Print an error, and what ``fimi explain`` knows it by, and exit.

    Args:
        message: what is wrong, where, and what to do.
        exit_code: of the command.
        code: the code of the error; empty for an end that is none, such as Ctrl-C.
    """
    log.error("%s", f"{message} [{code}]" if code else message, extra=SHOWN)
    click.echo(folded(f"fimi: {message}", sys.stderr), err=True)
    if code:
        say_code(code)
    sys.exit(exit_code)


def say_code(code: str) -> None:
    """The last line of an error: ``error[B003]``, and where more is said if more can be said."""
    more = "" if code in _PLAIN else f": 'fimi explain {code}' says what to do"
    click.echo(f"{CODE_LINE}{code}]{more}", err=True)


def code_of(error: BaseException, otherwise: str = "U006") -> str:
    """The code of an error; that of the operating system is found by what it says.

    Args:
        error: any error.
        otherwise: the code if the error has none.
    """
    if isinstance(error, FimiError):
        return error.code or otherwise
    if isinstance(error, OSError):
        return _OF_SYSTEM.get(error.errno or 0, "U006")
    return otherwise
