"""``fimi fleet home-assistant``: boards as devices of Home Assistant."""

from __future__ import annotations

import click

from fimi.testbed.commands.base import Command
from fimi.testbed.commands.fleet import BOARDS, FLEET, console_of, end, fleet
from fimi.testbed.commands.shared import options


@fleet.command("home-assistant", cls=Command)
@options(FLEET)
@BOARDS
@click.option(
    "--prefix",
    default="homeassistant",
    show_default=True,
    metavar="PREFIX",
    help="The discovery prefix of Home Assistant.",
)
@click.option("--off", is_flag=True, help="Take back what was announced.")
def fleet_home_assistant(url: str, name: str, ids: tuple[str, ...], prefix: str, off: bool) -> None:
    """Announce boards to Home Assistant: energy, power and temperature, with their kind.

    All boards that the broker knows, if none is named. It stays until --off, or until a board is
    forgotten; nothing is announced unless this command is given. Values come with the telemetry of
    the boards: start their agents with --telemetry-s, at most 60. Exits with 3 if one is not
    announced.
    """
    from fimi.messaging.errors import NotAnswered
    from fimi.messaging.home_assistant import check_prefix
    from fimi.testbed.fleet.boards import chosen
    from fimi.testbed.fleet.home_assistant import announce, shown

    try:
        check_prefix(prefix)
    except ValueError as error:
        raise click.UsageError(f"{error}") from error
    with console_of(url, name) as console:
        told = {
            board.device: None if off else shown(board) for board in chosen(console.look(), ids)
        }
        known = {device: what for device, what in told.items() if not isinstance(what, str)}
        done: dict[str, Exception | None] = {
            device: NotAnswered(why) for device, why in told.items() if isinstance(why, str)
        }
        done |= announce(console.address, fleet=console.fleet, prefix=prefix, boards=known)
    for device, board in known.items():
        if done[device] is not None:
            continue
        click.echo(
            f"{device} is not announced any more"
            if board is None
            else f"{device} is announced: energy and power, {board.kind}"
            + (f", {board.scope}" if board.scope else "")
        )
    end("not announced" if not off else "not taken back", done)
