"""``fimi dry-run``, ``fimi coordinator run`` and ``fimi report``: a whole federation.

Both runs can be gone on with: ``--resume NAME``.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from fimi.testbed import logs
from fimi.testbed.commands.base import Command, Group
from fimi.testbed.commands.carbon import CARBON, carbon_of
from fimi.testbed.commands.dashboard import DASHBOARD, Place
from fimi.testbed.commands.interrupts import EXIT_INTERRUPTED, stop_on_signals
from fimi.testbed.commands.reaching import (
    BROKER,
    as_typed,
    fleet_setting,
    own_fleet,
    reach,
)
from fimi.testbed.commands.shared import (
    COMMON,
    RUN,
    code_of,
    errors,
    fail,
    options,
    read_config,
    read_overrides,
    result_format,
)
from fimi.testbed.configuration.effects import idle
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import FleetConfig

if TYPE_CHECKING:  # the commands of an agent do without what a run store needs
    from fimi.testbed.resuming import BeginCommand, Begun

log = logging.getLogger(__name__)


@click.command("dry-run", cls=Command)
@options(COMMON, RUN)
@click.option("--broker-kind", help="broker.kind: auto, mosquitto or amqtt")
@click.option("--port", type=int, help="broker.port")
@DASHBOARD
def dry_run(
    config_path: Path | None,
    settings: tuple[str, ...],
    output: str,
    dashboard: Place | None,
    **given: Any,
) -> None:
    """Run a whole federation of emulated devices on this machine."""
    scenario, begun = begin("dry-run", config_path, settings, given)

    def run(folder: Any, view: Any, cancel: threading.Event) -> Any:
        from fimi.testbed.processes.dry_run import dry_run as start

        return start(scenario, folder, view=view, cancel=cancel)

    title = "FIMI dry run, emulated devices"
    federate(scenario, output, title, run, command="dry-run", dashboard=dashboard, begun=begun)


@click.group(cls=Group)
def coordinator() -> None:
    """The process that plans, aggregates and evaluates."""


@coordinator.command("run")
@options(COMMON, RUN)
@BROKER
@DASHBOARD
def coordinator_run(
    url: str,
    config_path: Path | None,
    settings: tuple[str, ...],
    output: str,
    dashboard: Place | None,
    **given: Any,
) -> None:
    """Run a federation over a broker, with devices and generator node started elsewhere."""
    own_fleet(FleetConfig().name, role="coordinator")
    scenario, begun = begin("coordinator run", config_path, fleet_setting(settings), given)
    with errors():
        address = reach(url)

    def run(folder: Any, view: Any, cancel: threading.Event) -> Any:
        from fimi.testbed.processes.coordinator import coordinate

        return coordinate(
            scenario,
            address,
            folder,
            broker=str(address),
            view=view,
            cancel=cancel,
        )

    federate(
        scenario,
        output,
        "FIMI coordinator",
        run,
        command="coordinator run",
        dashboard=dashboard,
        begun=begun,
        reached=as_typed(url),
    )


@click.command(cls=Command)
@click.argument("run", type=click.Path(path_type=Path))
@CARBON
@result_format("text", "json", "latex")
def report(run: Path, carbon: tuple[str, ...], output: str) -> None:
    """Make the report of a run again from its run store; as JSON, print its numbers only."""
    from fimi.testbed.run_folder import find_run

    if carbon and output == "latex":
        raise click.UsageError(
            "the LaTeX tables have no carbon figure: leave '--carbon' out, or take '--format json'."
        )
    with errors():
        folder = find_run(run)
        given = carbon_of(carbon, folder)
        if output == "latex":
            click.echo(as_latex(folder), nl=False)
        elif output == "json":
            click.echo(as_json(folder, given))
        else:
            _report(folder, given)


def _report(folder: Path, given: Mapping[str, Any] | None) -> None:
    """Print a run's tables, also where its page cannot be written: in an archive, for example."""
    from fimi.report.layout import Paper
    from fimi.report.page import NotWrittenError
    from fimi.report.terminal import as_text

    try:
        click.echo(show_report(folder, given))
    except NotWrittenError:
        click.echo(as_text(folder, paper=Paper.of(sys.stdout), given=given))
        raise


def begin(
    command: BeginCommand,
    config_path: Path | None,
    settings: tuple[str, ...],
    given: dict[str, Any],
) -> tuple[Scenario, Begun | None]:
    """What a command is to run: anew, or a run that ended early (``--resume``).

    Args:
        command: the command.
        config_path: the configuration file that was named.
        settings: of ``--set``.
        given: its other options; those about resuming are taken out.
    """
    name, accept = given.pop("resume"), given.pop("accept_changes")
    if name is None:
        if accept:
            raise click.UsageError("'--accept-changes' goes with '--resume NAME'.")
        scenario = read_config(config_path, settings, given)
        for sentence in idle(scenario.config, scenario.origins).values():
            log.warning("%s", sentence)
        return scenario, None
    if given.get("name") is not None:
        raise click.UsageError(
            "'--resume' names the run to go on with; it keeps its name, so leave '--name' out."
        )
    from fimi.testbed.resuming import look

    with errors():
        overrides = read_overrides(settings, given)
        directory, _ = overrides.pop("run.directory", ("runs", ""))
        begun = look(
            name,
            command,
            directory=directory,
            config_path=config_path,
            overrides=overrides,
            accept_changes=accept,
        )
    return begun.scenario, begun


def federate(
    scenario: Scenario,
    output: str,
    title: str,
    run: Callable[[Any, Any, threading.Event], Any],
    *,
    command: BeginCommand,
    dashboard: Place | None,
    begun: Begun | None = None,
    reached: str = "",
) -> None:
    """Run a federation with a view, store it, report it, and choose the exit code.

    Args:
        scenario: what to run.
        output: format of the result.
        title: of the view.
        run: runs it, with its folder, the view, and an event that ends it.
        command: the command.
        dashboard: where the dashboard listens; ``None``: there is none.
        begun: the run to go on with; ``None`` for a new one.
        reached: options by which the command line reaches its broker.
    """
    from fimi.monitor.terminal.screen import can_be_drawn_on
    from fimi.testbed.display import RunDisplay
    from fimi.testbed.live import PlainView
    from fimi.testbed.processes.torch_cache import torch_cache
    from fimi.testbed.processes.tracked import tell_end, tracking_of
    from fimi.testbed.processes.windows import Windows
    from fimi.testbed.resuming import describe
    from fimi.testbed.run_folder import RunFolder, resuming_command

    began_s = time.monotonic()
    rounds = scenario.config.rounds.count
    stream = sys.stderr if output == "json" or logs.quiet() else sys.stdout
    view: RunDisplay | PlainView
    if can_be_drawn_on(stream) and not logs.quiet():
        view = RunDisplay(stream, sys.stdin, rounds)
    else:
        view = PlainView(stream, rounds, quiet=logs.quiet())
    with errors(), stop_on_signals() as stop, torch_cache(), contextlib.ExitStack() as stack:
        if begun is None:
            about = describe(scenario, command, secrets.token_hex(8))
            folder = RunFolder(scenario.config, about)
        else:
            folder = RunFolder.reopen(begun.path, changes=begun.changes)
            if begun.changes:
                folder.store.describe(begun.changed(folder.store.info))
        if folder.before is not None:
            view.recall(folder.before)
        tracking = stack.enter_context(tracking_of(scenario.config.trackers, folder))
        federation: Any = None
        try:
            otlp = scenario.config.otlp
            with (
                view,
                Windows(folder, view, title, dashboard, also=(tracking,), otlp=otlp) as windows,
            ):
                federation = run(folder, windows, stop)
        finally:
            try:
                folder.store.spend(wall_s=time.monotonic() - began_s)
            finally:
                kept = folder.close()
            go_on = f"go on with it: {resuming_command(command, folder.path, reached)}"
            if kept and federation is None:
                with contextlib.suppress(Exception):  # the error that ended the run comes first
                    click.echo(show_report(folder.path), err=True)
                    tell_end(tracking, folder.path)
                click.echo(go_on, err=True)
        if not kept:
            fail(
                "stopped before there was a plan; nothing is kept but finished trainings of a "
                "learning curve",
                EXIT_INTERRUPTED,
            )
        text = show_report(folder.path)
        click.echo(as_json(folder.path) if output == "json" else text)
        tell_end(tracking, folder.path)
    if federation.status == "interrupted":
        click.echo(go_on, err=True)
        sys.exit(EXIT_INTERRUPTED)


def as_json(run: Path, given: Mapping[str, Any] | None = None) -> bytes:
    """The numbers of a stored run as one JSON document; ``given`` as for its page."""
    from fimi.record.carbon import with_carbon
    from fimi.record.reader import read_run
    from fimi.record.summary import summarise
    from fimi.report.document import document

    data = with_carbon(read_run(run), given or {})
    return msgspec.json.encode(document(data, summarise(data)))


def as_latex(run: Path) -> str:
    """The tables of a stored run for a paper."""
    from fimi.record.reader import read_run
    from fimi.record.summary import summarise
    from fimi.report.run_latex import run_latex

    data = read_run(run)
    return run_latex(data, summarise(data))


def show_report(run: Path, given: Mapping[str, Any] | None = None) -> str:
    """Write ``report.html`` of a run and return its tables as text for standard output.

    Args:
        run: its folder.
        given: settings of a carbon figure, see :func:`fimi.record.carbon.with_carbon`.
    """
    from fimi.report.layout import Paper
    from fimi.report.page import NotWrittenError, write_report
    from fimi.report.terminal import as_text

    try:
        path = write_report(run, given)
    except NotWrittenError as error:
        if error.__cause__ is not None:
            error.code = code_of(error.__cause__)
        raise
    return f"{as_text(run, paper=Paper.of(sys.stdout), given=given)}\nreport: {path}"
