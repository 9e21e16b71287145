"""``fimi agent install`` and ``fimi agent uninstall``: a machine becomes a board, in one step.

``fimi agent switch`` and ``fimi agent confirm`` are for the unit that the first one writes: see
:mod:`fimi.edge_agent.service.unit`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from fimi.testbed.commands.base import Command
from fimi.testbed.commands.reaching import INSECURE_VARIABLE
from fimi.testbed.commands.shared import EXIT_SURROUNDINGS, WordChoice, errors

_ROOT = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True, resolve_path=True),
    default=Path("/"),
    help="Root of another system, as of a card that is mounted. Left out: this machine.",
)
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
_VERSIONS = click.option(
    "--versions",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="FOLDER",
    help="Where the versions lie.",
)


@click.command(cls=Command)
@click.option("--bundle", type=_FILE, metavar="FILE", help="Credentials (fimi fleet enroll).")
@click.option(
    "--broker",
    metavar="URL",
    help="In place of a bundle, for trials: mqtt://user:password@host:1883.",
)
@click.option("--id", "name", metavar="NAME", help="With --broker: name of the device.")
@click.option("--fleet", metavar="NAME", help="With --broker: the fleet it belongs to.")
@click.option(
    "--insecure",
    envvar=INSECURE_VARIABLE,
    is_flag=True,
    help="Use a broker on another machine without TLS, or without a password; it is written into "
    f"the configuration (or {INSECURE_VARIABLE}=1).",
)
@click.option(
    "--host-profile",
    type=_FILE,
    metavar="FILE",
    help="Calibrated cost parameters: meter and steer this machine. Left out: emulated.",
)
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True), metavar="PATH", help="Its data."
)
@click.option(
    "--allow",
    multiple=True,
    type=WordChoice(["calibrate", "restart", "update"]),
    help="Let this be done from afar (fimi fleet); once for each.",
)
@click.option("--force", is_flag=True, help="Replace files that were changed by hand, too.")
@click.option("--no-start", is_flag=True, help="Write everything, and start nothing.")
@click.option("--print-unit", is_flag=True, help="Print the systemd unit, and change nothing.")
@_ROOT
def install(
    bundle: Path | None,
    broker: str | None,
    name: str | None,
    fleet: str | None,
    insecure: bool,
    host_profile: Path | None,
    data: Path | None,
    allow: tuple[Any, ...],
    force: bool,
    no_start: bool,
    print_unit: bool,
    root: Path,
) -> None:
    """Let this machine be a board from now on: user, unit, rules, configuration. As root.

    Once more, it updates what is there: what is not given stays as it was, and files that were
    changed by hand are not replaced without --force.
    """
    from fimi.edge_agent.service import install as installing

    if bundle is not None and (broker or name or fleet):
        raise click.UsageError("'--broker', '--id' and '--fleet': the bundle names all three.")
    options = {"id": name, "fleet": fleet, "insecure": insecure or None}
    order = installing.InstallOrder(
        bundle=bundle,
        broker=broker,
        host_profile=host_profile,
        data=data,
        allow=allow or None,
        options={key: value for key, value in options.items() if value is not None},
    )
    with errors():
        if print_unit:
            click.echo(installing.preview(order, root=root), nl=False)
            return
        for line in installing.install(order, root=root, force=force, start=not no_start):
            click.echo(line)


@click.command(cls=Command)
@click.option("--purge", is_flag=True, help="Also credentials, configuration, state and user.")
@_ROOT
def uninstall(purge: bool, root: Path) -> None:
    """Remove the agent's service from this machine. As root."""
    from fimi.edge_agent.service import install as installing

    with errors():
        for line in installing.uninstall(root=root, purge=purge):
            click.echo(line)


@click.command(cls=Command, hidden=True)
@_VERSIONS
def switch(versions: Path) -> None:
    """Before each start: take over an update that has come, or go back. For the unit; as root."""
    from fimi.edge_agent.service.versions import Versions, spool_folder

    with errors():
        done = Versions(versions, spool_folder()).switch()
    if done is not None:
        click.echo(done.words)


@click.command(cls=Command, hidden=True)
@_VERSIONS
@click.option("--seconds", type=click.FloatRange(0.0), default=60.0, show_default=True)
def confirm(versions: Path, seconds: float) -> None:
    """Behind each start: wait until a new version has reported. For the unit; as root.

    Exits with 3 if it has not, upon which the service is started again, and goes back.
    """
    from fimi.edge_agent.service.versions import Versions, spool_folder

    if not Versions(versions, spool_folder()).confirm(seconds):
        click.echo(f"the new version has not reported within {seconds:g} s", err=True)
        sys.exit(EXIT_SURROUNDINGS)
