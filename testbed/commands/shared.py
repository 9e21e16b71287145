"""Parts that several commands use: options, exit codes, errors, signals, the broker."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from fimi.coordinator.strategies import STRATEGIES
from fimi.errors import FimiError, InputError, RunFailedError, SurroundingsError
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.logs import SHOWN

log = logging.getLogger(__name__)

EXIT_CONFIG = InputError.exit_code
EXIT_SURROUNDINGS = SurroundingsError.exit_code
EXIT_FEDERATION = RunFailedError.exit_code
EXIT_INTERRUPTED = 130

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
        "--target-accuracy", type=float, help="plan.target_accuracy: choose error_max for it."
    ),
    click.option("--name", help="run.name"),
    click.option("--directory", help="run.directory"),
    click.option(
        "--format", "output", type=click.Choice(["text", "json"]), default="text", help="Result."
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


BROKER_VARIABLE = "FIMI_BROKER"
"""Environment variable with the URL of the broker."""


def _require_broker(ctx: click.Context, param: click.Parameter, url: str | None) -> str:
    if not (url or ctx.resilient_parsing):
        raise click.UsageError(
            "Missing option '--broker', the URL of the broker; FIMI_BROKER can hold it instead.\n"
            "'fimi broker' starts a broker and prints a line to paste:\n"
            "  export FIMI_BROKER='mqtt://…'",
            ctx,
        )
    return url or ""


BROKER_URL = click.option(
    "--broker",
    "url",
    envvar=BROKER_VARIABLE,
    callback=_require_broker,
    metavar="URL",
    help="mqtt://user:password@host:1883 (or the variable FIMI_BROKER, which hides it from ps).  "
    "[required]",
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
    overrides: dict[str, tuple[Any, str]] = {}
    try:
        for text in settings:
            key, value = configuration.parse_setting(text)
            overrides[key] = (value, f"--set {key}")
        for option, value in given.items():
            if value is not None:
                overrides[_KEYS[option]] = (value, f"--{option.replace('_', '-')}")
        scenario = configuration.load(path, overrides)
        if divides_data:
            scenario.check()
        log.debug("configuration: %s", path or f"defaults; there is no ./{configuration.FILE_NAME}")
        return scenario
    except InputError as error:
        fail(str(error), EXIT_CONFIG)


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM into an event; a second one ends the process at once."""
    stop = threading.Event()

    def ask(number: int, _: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def errors() -> Iterator[None]:
    """Print errors that a user can act on, on one screen, and exit with their code."""
    try:
        yield
    except FimiError as error:
        fail(str(error), error.exit_code)
    except OSError as error:
        fail(str(error), EXIT_SURROUNDINGS)


def reach(url: str) -> Any:
    """The address of a broker, after a trial connection; called before heavy libraries are loaded.

    Raises:
        fimi.messaging.errors.BrokerError: it refuses, or there is no answer.
    """
    from fimi.messaging.address import BrokerAddress
    from fimi.messaging.link import probe

    try:
        address = BrokerAddress.parse(url)
    except ValueError as error:
        fail(str(error), EXIT_CONFIG)
    probe(address)
    return address


def fail(message: str, code: int) -> NoReturn:
    """Print an error and exit."""
    log.error("%s", message, extra=SHOWN)
    click.echo(f"fimi: {message}", err=True)
    sys.exit(code)
