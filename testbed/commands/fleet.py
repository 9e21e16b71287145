"""``fimi fleet``: boards that are up, looked after from one place over the broker."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import msgspec

from fimi.errors import FimiError
from fimi.record.clean import clean
from fimi.report.layout import Paper
from fimi.testbed.commands.base import Command, Group
from fimi.testbed.commands.interrupts import stop_on_signals
from fimi.testbed.commands.reaching import BROKER, own_fleet, reach
from fimi.testbed.commands.shared import (
    EXIT_SURROUNDINGS,
    errors,
    options,
    read_config,
    result_format,
)
from fimi.testbed.configuration.sections import FleetConfig
from fimi.testbed.logs import one_line

if TYPE_CHECKING:
    from fimi.messaging.console import Console, SeenBoard

WATCH_S = 2.0
"""Time between two looks of ``--watch``, s."""

FLEET = [
    BROKER,
    click.option(
        "--fleet",
        "name",
        default=FleetConfig().name,
        show_default=True,
        metavar="NAME",
        help="The fleet (fleet.name of the coordinator).",
    ),
]


@click.group(cls=Group)
def fleet() -> None:
    """Boards that are up: how they are, and what they are told.

    Speaks to the broker as the coordinator; a run that is on is not disturbed.
    """


@contextmanager
def console_of(url: str, name: str) -> Iterator[Console]:
    """A connection to a fleet; what goes wrong is said on one screen."""
    from fimi.messaging.console import Console
    from fimi.messaging.topics import check_name

    name, _ = own_fleet(name, role="coordinator")
    try:
        check_name(name, "--fleet")
    except ValueError as error:
        raise click.UsageError(f"{error}") from error
    with errors(), Console(reach(url), fleet=name) as console:
        yield console


def _json(body: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(body)).decode())


@fleet.command("status", cls=Command)
@options(FLEET)
@click.option("--watch", is_flag=True, help="Look again every 2 seconds until Ctrl-C.")
@result_format("text", "json")
def fleet_status(url: str, name: str, watch: bool, output: Literal["text", "json"]) -> None:
    """Every board, problems first: run, watts, temperature, room, last seen."""
    from fimi.testbed.fleet import status

    if watch and output == "json":
        raise click.UsageError("'--watch' goes with text; ask for JSON as often as you like.")
    with console_of(url, name) as console:
        if watch:
            with stop_on_signals() as stop:
                _watch(console, stop)
            return
        seen = console.look()
        if output == "json":
            _json(status.body(console, seen))
            return
        for line in status.lines(console, seen, Paper.of(sys.stdout)):
            click.echo(line)


BOARDS = click.argument("ids", nargs=-1, metavar="[ID]...")
"""Ids of boards; none: all."""


@fleet.command("doctor", cls=Command)
@options(FLEET)
@BOARDS
@result_format("text", "json")
def fleet_doctor(
    url: str, name: str, ids: tuple[str, ...], output: Literal["text", "json"]
) -> None:
    """Let boards examine themselves: one table, failures first, and what to do.

    All boards that are online, if none is named. One that takes part in a run declines. Exits with
    3 if a board cannot be a device, or does not answer.
    """
    from fimi.testbed.fleet import doctor
    from fimi.testbed.fleet.boards import chosen

    with console_of(url, name) as console:
        found = doctor.examine(console, chosen(console.look(), ids))
    if output == "json":
        _json(doctor.body(found))
    else:
        for line in doctor.lines(found, Paper.of(sys.stdout)):
            click.echo(line)
    sys.exit(EXIT_SURROUNDINGS if doctor.has_failed(found) else 0)


@fleet.command("check", cls=Command)
@options(FLEET)
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="The run's configuration: check for it, and estimate its duration and joules.",
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set any key of it.")
@result_format("text", "json")
def fleet_check(
    url: str,
    name: str,
    config_path: Path | None,
    settings: tuple[str, ...],
    output: Literal["text", "json"],
) -> None:
    """Try everything that a long run needs: broker, ways, clocks, room, versions, plan.

    Exits with 3 if something fails.
    """
    from fimi.testbed.fleet import check

    asked = config_path is not None or bool(settings)
    scenario = read_config(config_path, settings, {}) if asked else None
    with console_of(url, name) as console:
        seen = console.look()
        found = check.check(console, [seen[board] for board in sorted(seen)], scenario)
    if output == "json":
        _json(check.body(found))
    else:
        for line in check.lines(found, Paper.of(sys.stdout)):
            click.echo(line)
    sys.exit(EXIT_SURROUNDINGS if found.has_failed else 0)


@fleet.command("restart", cls=Command)
@options(FLEET)
@BOARDS
@click.option("--all", "every", is_flag=True, help="Every board that answers.")
@click.option("--force", is_flag=True, help="Also in the middle of a run.")
def fleet_restart(url: str, name: str, ids: tuple[str, ...], every: bool, force: bool) -> None:
    """Let agents leave in order and start again, with the code as it is there now.

    Only where the board allows it. Waits until each of them is back. Exits with 3 if one is not.
    """
    from fimi.messaging.errors import MessagingError
    from fimi.report.words import seconds
    from fimi.testbed.fleet.boards import each_of
    from fimi.testbed.fleet.restart import restart

    _check_named(ids, every)
    with console_of(url, name) as console:
        boards = _named(console, ids)
        done = each_of(boards, lambda board: restart(console, board.device, force=force))
    for board, took in done.items():
        if not isinstance(took, MessagingError):
            click.echo(f"{board} is back after {seconds(took)}")
    end("not restarted", done)


@fleet.command("update", cls=Command)
@options(FLEET)
@BOARDS
@click.option("--all", "every", is_flag=True, help="Every board that answers.")
@click.option(
    "--wheel",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    metavar="FILE",
    help="The wheel of fimi-testbed.",
)
@click.option(
    "--key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    metavar="FILE",
    help="The key that signs it: update.key in the fleet's folder (fimi fleet init).",
)
@click.option("--older", is_flag=True, help="Let it replace a higher version.")
@click.option("--force", is_flag=True, help="Also in the middle of a run.")
def fleet_update(
    url: str,
    name: str,
    ids: tuple[str, ...],
    every: bool,
    wheel: Path,
    key: Path,
    older: bool,
    force: bool,
) -> None:
    """Let agents run this version from now on, as soon as it has reported from there.

    Only where the board allows it and knows the key. The first board is alone: the others follow
    only if it is back in the new version. A board on which that does not report within a minute
    goes back to the one before. Exits with 3 if one has not got it.
    """
    from fimi.messaging.errors import MessagingError
    from fimi.report.words import seconds
    from fimi.testbed.fleet.boards import each_of
    from fimi.testbed.fleet.update import signed_wheel, update

    _check_named(ids, every)
    with console_of(url, name) as console:
        signed = signed_wheel(wheel, key, fleet=console.fleet, older=older)

        def one(board: SeenBoard) -> float:
            def say(words: str) -> None:
                click.echo(f"{board.device}: {clean(words)}", err=True)

            return update(console, board.device, signed, say, force=force)

        boards = _named(console, ids)
        done, others = each_of(boards[:1], one), boards[1:]
        if not any(isinstance(took, MessagingError) for took in done.values()):
            done |= each_of(others, one)
        elif others:
            click.echo(f"{len(others)} other boards are left as they are", err=True)
    for board, took in done.items():
        if not isinstance(took, MessagingError):
            click.echo(f"{board} is in the new version after {seconds(took)}")
    end("not updated", done)


def end(what: str, done: Mapping[str, object]) -> None:
    """Say which boards have not done what they were told, and why; exit with 3 if there are any."""
    from fimi.testbed.fleet.boards import alike, together

    errors = ((board, f"{error}") for board, error in done.items() if isinstance(error, FimiError))
    not_done = alike(errors)
    for words, boards in not_done.items():
        click.echo(one_line(f"{what}: {together(boards, words)}"), err=True)
    if not_done:
        sys.exit(EXIT_SURROUNDINGS)


def _named(console: Console, ids: tuple[str, ...]) -> list[SeenBoard]:
    """The boards that are told something that changes them: those named, or all that answer."""
    from fimi.testbed.fleet.boards import chosen

    boards = chosen(console.look(), ids)
    return [board for board in boards if ids or board.standing == "answers"]


def _check_named(ids: tuple[str, ...], every: bool) -> None:
    if bool(ids) == every:
        raise click.UsageError("Name boards, or give '--all' for every board that answers.")


@fleet.command("calibrate", cls=Command)
@options(FLEET)
@BOARDS
@click.option("--all", "every", is_flag=True, help="Every board that answers.")
@click.option("--at-once", is_flag=True, help="All at the same time. Left out: in turn.")
@click.option("--last", is_flag=True, help="Measure nothing: fetch what was found last.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Where calibrations are kept. Left out: fleet/<fleet>.",
)
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=10.0, show_default=True)
@click.option("--settle", type=click.FloatRange(0, 600), default=3.0, show_default=True)
@click.option("--repeats", type=click.IntRange(1, 50), default=2, show_default=True)
@click.option("--frequencies", type=click.IntRange(1, 50), default=13, show_default=True)
def fleet_calibrate(
    url: str,
    name: str,
    ids: tuple[str, ...],
    every: bool,
    at_once: bool,
    last: bool,
    out: Path | None,
    **given: Any,
) -> None:
    """Let boards calibrate themselves; keep what they find, and compare it with the last time.

    Only where the board allows it, and has a profile, which is replaced. Exits with 3 if one does
    not.
    """
    from fimi.messaging.errors import MessagingError
    from fimi.messaging.questions import CalibrationRequest
    from fimi.testbed.fleet import calibrate
    from fimi.testbed.fleet.boards import each_of

    request = None if last else CalibrationRequest(**given)
    folder = out or Path("fleet") / name

    def one(board: SeenBoard) -> calibrate.Stored:
        def say(words: str) -> None:
            click.echo(f"{board.device}: {clean(words)}", err=True)

        reply = calibrate.calibrate(console, board.device, request, say)
        return calibrate.store(board.device, reply, folder)

    _check_named(ids, every)
    with console_of(url, name) as console:
        boards = _named(console, ids)
        done = each_of(boards, one, in_turn=not at_once)
    for stored in done.values():
        if isinstance(stored, MessagingError):
            continue
        for line in calibrate.compared(stored, Paper.of(sys.stdout)):
            click.echo(line)
        click.echo()
    end("not calibrated", done)


@fleet.command("logs", cls=Command)
@options(FLEET)
@click.argument("board", metavar="ID")
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=200, show_default=True)
@click.option("--follow", is_flag=True, help="And those that come, until Ctrl-C.")
def fleet_logs(url: str, name: str, board: str, count: int, follow: bool) -> None:
    """Show the last lines of a board's log since its agent was started."""
    from fimi.testbed.fleet.boards import chosen
    from fimi.testbed.fleet.logs import follow as following
    from fimi.testbed.fleet.logs import last

    with console_of(url, name) as console:
        (seen,) = chosen(console.look(), [board])
        if not follow:
            for line in last(console, seen.device, count):
                click.echo(line)
            return
        with stop_on_signals() as stop:
            for line in following(console, seen.device, count, stop):
                click.echo(line)


def _watch(console: Console, stop: threading.Event) -> None:
    """Draw the fleet again and again; without a terminal, or without rich, print it."""
    from fimi.testbed.fleet import status

    if sys.stdout.isatty():
        try:
            from fimi.testbed.fleet.watching import watch
        except ModuleNotFoundError:  # the base install has no rich
            pass
        else:
            watch(console, stop, WATCH_S)
            return
    while not stop.is_set():
        for line in (*status.now(console, Paper.of(sys.stdout)), ""):
            click.echo(line)
        stop.wait(WATCH_S)
