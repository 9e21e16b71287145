"""``fimi fleet forget``: a board that was put away, or revoked, is not shown any more."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from fimi.plural import plural
from fimi.testbed.commands.base import Command
from fimi.testbed.commands.fleet import fleet
from fimi.testbed.commands.reaching import BROKER_OR_FOLDER, is_named, own_fleet, reach
from fimi.testbed.commands.shared import EXIT_SURROUNDINGS, errors, options
from fimi.testbed.configuration.sections import FleetConfig

if TYPE_CHECKING:
    from fimi.messaging.address import BrokerAddress


@fleet.command("forget", cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="FIMI_FLEET_FOLDER",
    metavar="FOLDER",
    help="The fleet's folder, whose keys may do this (or the variable FIMI_FLEET_FOLDER).",
)
@options([BROKER_OR_FOLDER])
@click.option(
    "--fleet",
    "fleet_name",
    default=FleetConfig().name,
    show_default=True,
    metavar="NAME",
    help="With --broker: the fleet.",
)
@click.option(
    "--gone", is_flag=True, help="Also if its last word is that it is online, and it is silent."
)
@click.pass_context
def fleet_forget(
    ctx: click.Context,
    names: tuple[str, ...],
    folder: Path | None,
    url: str,
    fleet_name: str,
    gone: bool,
) -> None:
    """Let the broker forget boards that were put away or revoked.

    All that it keeps from them and for them is cleared, so that 'fimi fleet status' shows them no
    more. One that answers is not forgotten, whatever is given. Credentials stay as they are ('fimi
    fleet revoke' ends them), and so does what runs have stored. Exits with 3 if one is not
    forgotten.
    """
    from fimi.errors import FimiError
    from fimi.messaging.forgetting import forget

    named = is_named(url)
    if folder is not None and named:
        typed = {
            name
            for name in ("folder", "url", "bundle")
            if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE
        }
        if "folder" in typed and len(typed) > 1:
            raise click.UsageError("'--folder' names the broker: leave the other one out.")
        if typed - {"folder"}:
            folder = None  # which the environment has named
    if folder is None and not named:
        raise click.UsageError(
            "Missing option '--folder', the folder of the fleet, or '--broker' for a broker "
            "without one."
        )
    known_gone: frozenset[str] = frozenset()
    with errors():
        if folder is not None:
            address, fleet_name, known_gone = _of_folder(folder)
        else:
            fleet_name, _ = own_fleet(fleet_name, role="coordinator")
            address = reach(url)
    failed = False
    for name in names:
        try:
            count = forget(address, fleet=fleet_name, name=name, gone=gone or name in known_gone)
        except (FimiError, ValueError) as error:
            click.echo(f"{name} is not forgotten: {error}", err=True)
            failed = True
            continue
        kept = plural(count, "document")
        click.echo(
            f"{name} is forgotten: {kept}" if count else f"the broker keeps nothing of {name}"
        )
    if failed:
        sys.exit(EXIT_SURROUNDINGS)


def _of_folder(path: Path) -> tuple[BrokerAddress, str, frozenset[str]]:
    """The broker of a fleet's folder, the fleet, and whose credentials were revoked."""
    from fimi.messaging.credentials.folder import FleetFolder

    folder = FleetFolder.open(path)
    decided = folder.decided
    there = {peer.name for peer in decided.peers}
    gone = frozenset({each.name for each in decided.revoked} - there)
    host = folder.local_host() if folder.run_by() else ""
    return folder.keeper(host), decided.fleet, gone
