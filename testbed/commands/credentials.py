"""``fimi fleet init``, ``enroll``, ``rotate``, ``revoke``, ``credentials``: who may be what.

They work on the folder of a fleet, and need no broker.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click
import msgspec

from fimi.messaging.topics import COORDINATOR
from fimi.report.layout import Paper
from fimi.testbed.commands.base import Command
from fimi.testbed.commands.fleet import fleet
from fimi.testbed.commands.shared import WordChoice, errors, result_format
from fimi.testbed.configuration.sections import FleetConfig

_FOLDER = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="FIMI_FLEET_FOLDER",
    required=True,
    metavar="FOLDER",
    help="The folder that 'fimi fleet init' has made (or the variable FIMI_FLEET_FOLDER).",
)
_REREADS = (
    "a broker that 'fimi broker --config' runs reads it within a second; another mosquitto when "
    "it is told so (systemctl reload mosquitto)"
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
        for name in names:
            click.echo(opened.enroll(name, role))
    _warn(folder)
    click.echo(f"enrolled; {_REREADS}", err=True)
    _say_what_stays(folder, names)


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

    A device that is connected stays so until its connection is lost (with passwords it is lost at
    once): bring it the new bundle.
    """
    from fimi.messaging.credentials.folder import FleetFolder

    with errors():
        click.echo(FleetFolder.open(folder).rotate(name, hosts))
    _warn(folder)
    if name == "broker":
        click.echo(f"peers keep their bundles; {_REREADS}", err=True)
    else:
        click.echo(f"the old credentials open no new connection; {_REREADS}", err=True)
        _say_what_stays(folder, (name,))


@fleet.command("revoke", cls=Command)
@click.argument("name", metavar="NAME")
@_FOLDER
def fleet_revoke(name: str, folder: Path) -> None:
    """End a peer's credentials.

    As soon as the broker has read that, the peer says and hears nothing more, and gets no new
    connection. 'fimi fleet enroll' lets the name in again.
    """
    from fimi.messaging.credentials.folder import FleetFolder

    with errors():
        FleetFolder.open(folder).revoke(name)
    _warn(folder)
    click.echo(f"{name} is revoked; {_REREADS}", err=True)


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


def _say_what_stays(folder: Path, names: tuple[str, ...]) -> None:
    """Say that a connection with an earlier certificate of a name has the rights of the name."""
    from fimi.messaging.credentials.folder import FleetFolder

    with errors():
        decided = FleetFolder.open(folder).decided
    earlier = {each.name for each in decided.revoked if each.serial}
    if found := [name for name in names if name in earlier]:
        click.echo(
            f"a connection that is open with an earlier certificate of {', '.join(found)} speaks "
            "and hears as the new one does until it is lost; if somebody else may have it, start "
            "the broker again: that ends it",
            err=True,
        )


def _warn(folder: Path) -> None:
    """Say which certificates end soon."""
    from fimi.messaging.credentials.folder import FleetFolder
    from fimi.testbed.fleet.credentials import warnings

    with errors():
        for line in warnings(FleetFolder.open(folder)):
            click.echo(line, err=True)
