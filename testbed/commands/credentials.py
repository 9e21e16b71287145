"""``fimi fleet init``, ``enroll``, ``rotate``, ``revoke``, ``credentials``: who may be what.

They work on the folder of a fleet, and need no broker. Each says what the broker makes of it: one
that ``fimi broker --config`` runs on this machine follows by itself, for another one the command is
named.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import msgspec

from fimi.messaging.topics import COORDINATOR
from fimi.report.layout import Paper
from fimi.testbed.commands.base import Command
from fimi.testbed.commands.fleet import fleet
from fimi.testbed.commands.shared import WordChoice, errors, result_format
from fimi.testbed.configuration.sections import FleetConfig

if TYPE_CHECKING:
    from fimi.messaging.credentials.folder import FleetFolder


def _require_folder(ctx: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    if path is None and not ctx.resilient_parsing:
        raise click.UsageError(
            "Missing option '--folder', the folder of the fleet; FIMI_FLEET_FOLDER can name it "
            "instead, and 'fimi fleet init FOLDER' makes one.",
            ctx,
        )
    return path


_FOLDER = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="FIMI_FLEET_FOLDER",
    callback=_require_folder,
    metavar="FOLDER",
    help="The folder that 'fimi fleet init' has made (or the variable FIMI_FLEET_FOLDER).",
)


@fleet.command("init", cls=Command)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--host",
    "hosts",
    multiple=True,
    required=True,
    metavar="HOST",
    help="Name or IP address under which boards reach the broker; once for each. Bundles name the "
    "first.",
)
@click.option(
    "--fleet",
    "name",
    default=FleetConfig().name,
    show_default=True,
    metavar="NAME",
    help="The fleet (fleet.name of the coordinator).",
)
@click.option("--port", type=click.IntRange(1, 65535), default=8883, show_default=True)
@click.option("--bind", default="", metavar="ADDRESS", help="Listen here only. Left out: anywhere.")
@click.option(
    "--passwords", is_flag=True, help="Peers show a password in place of a certificate, over TLS."
)
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=730,
    show_default=True,
    help="How long certificates are valid.",
)
def fleet_init(
    folder: Path,
    hosts: tuple[str, ...],
    name: str,
    port: int,
    bind: str,
    passwords: bool,
    days: int,
) -> None:
    """Make a fleet's folder: authority, broker, coordinator's and generator's bundles.

    It holds the keys of the fleet: keep it on one machine, and a copy in a safe place.
    """
    from fimi.messaging.credentials.folder import FleetFolder

    with errors():
        made = FleetFolder.begin(
            folder,
            fleet=name,
            hosts=hosts,
            port=port,
            bind=bind,
            by_certificate=not passwords,
            days=days,
        )
    click.echo(f"{folder}: fleet {name}, broker {hosts[0]}, port {port}; keep it secret")
    click.echo(f"fimi broker --config {folder}")
    click.echo(f"fimi generator run --bundle {made.bundle('generator')}")
    click.echo(f"fimi coordinator run --bundle {made.bundle(COORDINATOR)}")
    click.echo(f"fimi fleet enroll pi-01 --folder {folder}")
    _warn(folder)


@fleet.command("enroll", cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_FOLDER
@click.option(
    "--role",
    type=WordChoice(["device", "generator"]),
    default="device",
    show_default=True,
    help="What it may be.",
)
def fleet_enroll(
    names: tuple[str, ...], folder: Path, role: Literal["device", "generator"]
) -> None:
    """Give devices credentials: a bundle for each, to be brought there.

    The name is the device's id. The bundle is a secret: copy it (scp), and remove it here.
    """
    from fimi.messaging.credentials.folder import FleetFolder

    with errors():
        opened = FleetFolder.open(folder)
        opened.require_new(names, role)  # all or none
        for name in names:
            click.echo(opened.enroll(name, role))
    _warn(folder)
    click.echo(f"enrolled; {_follows(opened)}", err=True)
    _say_what_stays(opened, names)


@fleet.command("rotate", cls=Command)
@click.argument("name", metavar="NAME")
@_FOLDER
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="HOST",
    help="With 'broker': a further name or address of it, which new bundles name first.",
)
def fleet_rotate(name: str, folder: Path, hosts: tuple[str, ...]) -> None:
    """Give a peer, or 'broker', new credentials; the old ones end.

    A device that is connected is cut within seconds, and comes back with the new bundle only.
    """
    from fimi.messaging.credentials.folder import FleetFolder

    with errors():
        opened = FleetFolder.open(folder)
        click.echo(opened.rotate(name, hosts))
    _warn(folder)
    if name == "broker":
        click.echo(f"peers keep their bundles; {_follows(opened)}", err=True)
    else:
        click.echo(f"the old credentials end; {_follows(opened, ended=True)}", err=True)


@fleet.command("revoke", cls=Command)
@click.argument("name", metavar="NAME")
@_FOLDER
def fleet_revoke(name: str, folder: Path) -> None:
    """End a peer's credentials.

    As soon as the broker has read that, the peer says and hears nothing more, and gets no new
    connection; within seconds the one that it has is cut. 'fimi fleet enroll' lets the name in
    again, 'fimi fleet forget' clears what it has left at the broker.
    """
    from fimi.messaging.credentials.folder import FleetFolder

    with errors():
        opened = FleetFolder.open(folder)
        opened.revoke(name)
    _warn(folder)
    click.echo(f"{name} is revoked; {_follows(opened, ended=True)}", err=True)
    # 'fimi broker --config' says for the peer that it is offline
    more = "" if opened.run_by() else " (before the next run, which would wait for that peer)"
    stays = f"what it said last stays at the broker until: fimi fleet forget {name}{more}"
    click.echo(stays, err=True)


@fleet.command("credentials", cls=Command)
@_FOLDER
@result_format("text", "json")
def fleet_credentials(folder: Path, output: Literal["text", "json"]) -> None:
    """Who has credentials, and until when."""
    from fimi.messaging.credentials.folder import FleetFolder
    from fimi.testbed.fleet import credentials

    with errors():
        opened = FleetFolder.open(folder)
        if output == "json":
            text = msgspec.json.format(msgspec.json.encode(credentials.body(opened)))
            click.echo(text.decode())
            return
        for line in credentials.lines(opened, Paper.of(sys.stdout)):
            click.echo(line)
    _warn(folder)


def _follows(folder: FleetFolder, *, ended: bool = False) -> str:
    """What the broker makes of a change, and what is to be done for it.

    Args:
        folder: of the fleet.
        ended: whether credentials have ended.
    """
    cuts = ended and folder.decided.by_certificate
    if folder.run_by():
        more = ", and cuts connections with the old certificate within seconds" if cuts else ""
        return f"'fimi broker --config' reads it within a second{more}"
    if not cuts:
        return (
            "no 'fimi broker --config' runs here for this folder; where mosquitto is a service, "
            "let it read that now: sudo systemctl reload mosquitto (or send it SIGHUP)"
        )
    return (
        "no 'fimi broker --config' runs here for this folder; where mosquitto is a service, start "
        "it again now: sudo systemctl restart mosquitto. Until then a connection that is open with "
        "the old certificate stays open"
    )


def _say_what_stays(folder: FleetFolder, names: tuple[str, ...]) -> None:
    """Say that a connection with an earlier certificate of a name has the rights of the name.

    A broker that this program runs has cut it when that certificate ended.
    """
    earlier = {each.name for each in folder.decided.revoked if each.serial}
    if (found := [name for name in names if name in earlier]) and not folder.run_by():
        click.echo(
            f"a connection that is open with an earlier certificate of {', '.join(found)} speaks "
            "and hears as the new one does; if mosquitto was not started again since that one "
            "ended, say now: sudo systemctl restart mosquitto",
            err=True,
        )


def _warn(folder: Path) -> None:
    """Say which certificates end soon."""
    from fimi.messaging.credentials.folder import FleetFolder
    from fimi.testbed.fleet.credentials import warnings

    with errors():
        for line in warnings(FleetFolder.open(folder)):
            click.echo(line, err=True)
