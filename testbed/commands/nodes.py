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
from fimi.testbed.commands.step_load import compare_meters
from fimi.testbed.configuration.sections import FleetConfig

MOVED = {
    "--index": "the coordinator numbers the devices of a run; '--id NAME' names this one",
    "--devices": "the coordinator knows how many devices take part (fleet.devices)",
    "--alpha": "the coordinator divides the data (data.alpha), and tells each device its share",
    "--seed": "the coordinator's run.seed comes with the invitation to a run",
    "--config": "only the coordinator has a configuration; '--fleet NAME' names the fleet",
    "--set": "only the coordinator has a configuration; '--fleet NAME' names the fleet",
}
"""Options that agents had once, and what came instead."""


def _moved(option: str, instead: str) -> Any:
    """A hidden option that says what came instead of it."""

    def refuse(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value not in (None, ()):
            raise click.UsageError(f"an agent has no option '{option}' any more: {instead}.", ctx)

    return click.option(
        option, hidden=True, expose_value=False, multiple=True, callback=refuse, metavar="VALUE"
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
@click.option(
    "--id", "name", metavar="NAME", help="Name of the device. Left out: the name of this machine."
)
@BROKER_URL
@click.option(
    "--fleet",
    default=FleetConfig().name,
    show_default=True,
    metavar="NAME",
    help="The fleet it belongs to (fleet.name of the coordinator).",
)
@click.option(
    "--host-profile",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Calibrated cost parameters of this machine: meter and steer it. Left out: emulated.",
)
@click.option(
    "--data",
    "place",
    type=click.Path(path_type=Path, exists=True),
    metavar="PATH",
    help="Where its data lie: a folder with the files of the run's data set, or images of its own: "
    "a file (fimi agent data) or a folder of images for each class. Left out: the digits, or what "
    "the coordinator ships.",
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Keep here what is fetched once: batches, shares, training graphs. Left out: in memory.",
)
@click.option(
    "--state",
    envvar="STATE_DIRECTORY",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Keep here what the coordinator has not stored: facts, and the update on offer; a few "
    "writes in a round. Left out: the folder 'state' in that of --cache, else in memory.",
)
@click.option(
    "--allow",
    multiple=True,
    type=WordChoice(["calibrate", "restart"]),
    help="Let this be done from afar (fimi fleet); once for each. Left out: what the profile "
    "allows, else nothing that changes this machine.",
)
@ROOT
@options([_moved(*each) for each in MOVED.items()])
def agent_run(
    url: str,
    name: str | None,
    fleet: str,
    host_profile: Path | None,
    place: Path | None,
    cache: Path | None,
    state: Path | None,
    allow: tuple[Any, ...],
    root: Path,
) -> None:
    """Run one device until Ctrl-C.

    It takes part in the runs that a coordinator of its fleet invites it to; what a run needs comes
    with the invitation.
    """
    from fimi.testbed.processes.agent import serve
    from fimi.testbed.processes.errands import start_again

    with errors(), stop_on_signals() as stop:
        again = serve(
            reach(url),
            fleet=fleet,
            name=name,
            host_profile=host_profile,
            place=place,
            root=root,
            cache=cache,
            state=state if state is not None or cache is None else cache / "state",
            allow=allow,
            stop=stop,
        )
    if again:
        start_again()


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
agent.add_command(compare_meters)
