"""``fimi broker`` and ``fimi agent``: one process of a federation each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import click

from fimi.testbed.commands.base import Command, Group, ServiceCommand
from fimi.testbed.commands.doctor import doctor, restore
from fimi.testbed.commands.shared import (
    BROKER_URL,
    BROKER_VARIABLE,
    COMMON,
    EXIT_CONFIG,
    EXIT_SURROUNDINGS,
    ROOT,
    WordChoice,
    errors,
    fail,
    options,
    reach,
    read_config,
    stop_on_signals,
)


def _require_index(ctx: click.Context, param: click.Parameter, index: int | None) -> int:
    if index is None and not ctx.resilient_parsing:
        raise click.UsageError(
            "Missing option '--index', which device of the fleet this is: 0 for the first, at most "
            "fleet.devices - 1.",
            ctx,
        )
    return index or 0


DEVICE = [
    click.option(
        "--index",
        type=click.IntRange(0),
        callback=_require_index,
        help="Which device, from 0.  [required]",
    ),
    click.option("--devices", type=int, help="fleet.devices"),
    click.option("--alpha", type=float, help="data.alpha"),
]


@click.command(cls=Command)
@click.option("--bind", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=1883,
    show_default=True,
    help="Port to listen on; 0: a free one.",
)
@click.option(
    "--kind",
    type=WordChoice(["auto", "mosquitto", "amqtt"]),
    default="auto",
    show_default=True,
    help="Which broker; auto: mosquitto where it is installed.",
)
@click.option("--password", envvar="FIMI_PASSWORD", help="Password; generated if left out.")
def broker(
    bind: str, port: int, kind: Literal["auto", "mosquitto", "amqtt"], password: str | None
) -> None:
    """Run an MQTT broker until Ctrl-C and print a line that tells other commands its URL."""
    from fimi.messaging.broker.embedded import EmbeddedBroker

    with (
        errors(),
        stop_on_signals() as stop,
        EmbeddedBroker(kind=kind, port=port, bind=bind, password=password) as running,
    ):
        address = running.address
        click.echo(f"{running.kind} {running.version} on {address.host}, port {address.port}")
        if bind not in ("127.0.0.1", "::1", "localhost"):
            click.echo(
                "warning: one password for everybody, unencrypted, and everybody may speak for "
                "everybody: for trials on a network you trust (docs/guide.md has the rules for "
                "a mosquitto of your own)",
                err=True,
            )
        click.echo(f"export {BROKER_VARIABLE}='{address.url(with_password=True)}'")
        sys.stdout.flush()
        while not stop.wait(0.5):
            if not running.alive:
                fail("the broker ended by itself", EXIT_SURROUNDINGS)


@click.group(cls=Group)
def agent() -> None:
    """The process on a device."""


@agent.command("run", cls=ServiceCommand)
@options(COMMON)
@BROKER_URL
@options(DEVICE)
@click.option("--id", "name", help="Name of the device; from its index if left out.")
@click.option(
    "--host-profile",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Calibrated cost parameters of this machine: meter and steer it. Left out: emulated.",
)
@ROOT
@click.option(
    "--data",
    "data_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="The device's samples (fimi agent data). Left out: its share of the configured data.",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Keep training graphs here between runs. Left out: in memory.",
)
def agent_run(
    url: str,
    index: int,
    name: str | None,
    host_profile: Path | None,
    root: Path,
    data_file: Path | None,
    cache: Path | None,
    config_path: Path | None,
    settings: tuple[str, ...],
    **given: Any,
) -> None:
    """Run one device until Ctrl-C."""
    scenario = read_config(config_path, settings, given, divides_data=data_file is None)
    config = scenario.config
    if index >= config.fleet.devices:
        fail(
            f"--index {index}: fleet.devices is {config.fleet.devices}, so the last index is "
            f"{config.fleet.devices - 1}",
            EXIT_CONFIG,
        )
    from fimi.learning.data import data_file as data_files
    from fimi.testbed.processes.agent import serve

    with errors(), stop_on_signals() as stop:
        address = reach(url)
        data = data_files.load(data_file).dataset if data_file else scenario.share(index)
        del scenario  # frees the other devices' samples while the agent runs
        serve(
            config,
            index,
            data,
            address,
            name=name,
            host_profile=host_profile,
            root=root,
            cache=cache,
            stop=stop,
        )


@agent.command("data")
@options(COMMON, DEVICE)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def agent_data(
    file: Path, index: int, config_path: Path | None, settings: tuple[str, ...], **given: Any
) -> None:
    """Write a device's share of the data to FILE (.npz), to be copied to the device.

    The file holds the contract of its data, by which a run with other data refuses it.
    """
    scenario = read_config(config_path, settings, given)
    devices = scenario.config.fleet.devices
    if index >= devices:
        fail(f"--index {index}: there are {devices} devices", EXIT_CONFIG)
    from fimi.learning.data import data_file

    with errors():
        share = scenario.share(index)
        data_file.save(share, file, scenario.contract)
    click.echo(f"{file}: {len(share)} samples of {share.name}")


agent.add_command(doctor)
agent.add_command(restore)
