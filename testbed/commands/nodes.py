"""``fimi broker`` and ``fimi agent``: one process of a federation each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource

from fimi.messaging.address import is_loopback
from fimi.testbed.commands.base import Command, Group, ServiceCommand
from fimi.testbed.commands.doctor import doctor, restore
from fimi.testbed.commands.interrupts import stop_on_signals
from fimi.testbed.commands.reaching import (
    BROKER,
    BROKER_VARIABLE,
    INSECURE_VARIABLE,
    own_fleet,
    parsed,
    reach,
)
from fimi.testbed.commands.service import confirm, install, switch, uninstall
from fimi.testbed.commands.shared import (
    COMMON,
    EXIT_CONFIG,
    EXIT_SURROUNDINGS,
    ROOT,
    WordChoice,
    errors,
    fail,
    options,
    read_config,
)
from fimi.testbed.commands.step_load import compare_meters
from fimi.testbed.configuration.sections import FleetConfig

MOVED = {
    "--index": "the coordinator numbers the devices of a run; '--id NAME' names this one",
    "--devices": "the coordinator knows how many devices take part (fleet.devices)",
    "--alpha": "the coordinator divides the data (data.alpha), and tells each device its share",
    "--seed": "the coordinator's run.seed comes with the invitation to a run",
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
@click.option(
    "--config",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Run the broker of a fleet, as 'fimi fleet init FOLDER' has made it: TLS, an identity for "
    "each peer, access rules. Needs mosquitto.",
)
@click.option(
    "--insecure",
    envvar=INSECURE_VARIABLE,
    is_flag=True,
    help="Listen on the network without TLS and with one password for all, on a network that you "
    f"trust (or {INSECURE_VARIABLE}=1).",
)
@click.pass_context
def broker(
    ctx: click.Context,
    bind: str,
    port: int,
    kind: Literal["auto", "mosquitto", "amqtt"],
    password: str | None,
    folder: Path | None,
    insecure: bool,
) -> None:
    """Run an MQTT broker until Ctrl-C.

    For a trial, with one password for everybody: prints a line that tells other commands its URL.
    For a fleet, with --config FOLDER: each peer has a bundle.
    """
    if folder is not None:
        given = [
            f"'--{name}'"
            for name in ("bind", "port", "kind", "password")
            if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE
        ]
        if kind == "amqtt":
            raise click.UsageError(
                "amqtt has no access rules and takes clients without a certificate: the broker of "
                "a fleet is mosquitto."
            )
        if given:
            raise click.UsageError(
                f"{', '.join(given)}: 'fimi fleet init' has decided that in {folder}."
            )
        _run_fleet_broker(folder)
        return
    if not (is_loopback(bind) or insecure):
        fail(
            f"--bind {bind}: one password for everybody, without TLS, and everybody may speak for "
            "everybody. 'fimi fleet init' makes a broker with credentials, 'fimi broker --config' "
            "runs it; on a network that you trust say --insecure",
            EXIT_CONFIG,
            "B011",
        )
    from fimi.messaging.broker.embedded import EmbeddedBroker

    with (
        errors(),
        stop_on_signals() as stop,
        EmbeddedBroker(kind=kind, port=port, bind=bind, password=password) as running,
    ):
        address = running.address
        click.echo(f"{running.kind} {running.version} on {address.host}, port {address.port}")
        if not is_loopback(bind):
            click.echo(
                "warning: one password for everybody, unencrypted, and everybody may speak for "
                "everybody: for trials on a network you trust (docs/security.md)",
                err=True,
            )
        click.echo(f"export {BROKER_VARIABLE}='{address.url(with_password=True)}'")
        sys.stdout.flush()
        while not stop.wait(0.5):
            if not running.alive:
                fail("the broker ended by itself", EXIT_SURROUNDINGS, "B008")


def _run_fleet_broker(path: Path) -> None:
    """Run the broker of a fleet's folder until Ctrl-C."""
    from fimi.messaging.broker.of_fleet import FleetBroker
    from fimi.messaging.credentials.folder import FleetFolder
    from fimi.testbed.fleet.credentials import warnings

    with (
        errors(),
        stop_on_signals() as stop,
        FleetBroker(FleetFolder.open(path)) as running,
    ):
        decided = running.folder.decided
        kind = "a certificate" if decided.by_certificate else "a password"
        click.echo(
            f"mosquitto {running.version} for fleet {decided.fleet}, TLS 1.3, {kind} for each "
            f"peer, port {decided.port} on {decided.bind or 'all addresses'}"
        )
        click.echo(f"its certificate is for {', '.join(decided.hosts)} and this machine")
        for line in warnings(running.folder):
            click.echo(line, err=True)
        sys.stdout.flush()
        while not stop.wait(0.5):
            if not running.alive:
                said = running.said() or "it said nothing"
                fail(f"the broker ended by itself: {said}", EXIT_SURROUNDINGS, "B008")
            done = running.follow()
            if done == "reread":
                click.echo("credentials have changed: the broker has read them again")
            elif done == "restarted":
                click.echo(
                    "certificates were revoked or replaced: the broker was started again, and "
                    "connections with the old ones are gone"
                )
            sys.stdout.flush()


@click.group(cls=Group)
def agent() -> None:
    """The process on a device."""


def _read_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Let the keys of a file be the defaults of the other options."""
    from fimi.testbed.commands.agent_config import read_agent_config

    if path is not None and not ctx.resilient_parsing:
        known = {each.name: each for each in ctx.command.params if isinstance(each, click.Option)}
        with errors():
            ctx.default_map = read_agent_config(path, known)


@agent.command("run", cls=ServiceCommand)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=_read_config,
    metavar="FILE",
    help="TOML file whose keys are these options (fimi agent install writes one). What is given "
    "here goes before.",
)
@click.option(
    "--id", "name", metavar="NAME", help="Name of the device. Left out: the name of this machine."
)
@BROKER
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
    "--calibrated",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Keep the profile that a calibration from afar finds here, and use it in place of the one "
    "given. Left out: the given one is replaced.",
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
    type=WordChoice(["calibrate", "restart", "update"]),
    help="Let this be done from afar (fimi fleet); once for each. Left out: what the profile "
    "allows, else nothing that changes this machine.",
)
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Wait for a broker that does not answer, or end with 3.",
)
@click.option(
    "--versions",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Where signed versions of the agent lie that come over the broker (fimi agent install).",
)
@click.option(
    "--telemetry-s",
    type=click.FloatRange(min=0.1, max=60.0),
    metavar="SECONDS",
    help="Tell the coordinator so often what the board draws and does, 60 at most. Left out: not "
    "at all.",
)
@click.option(
    "--telemetry-when-looked-at",
    is_flag=True,
    help="Tell it each second as well while somebody looks at the fleet's run: a dashboard, a "
    "'fimi top'.",
)
@ROOT
@options([_moved(*each) for each in MOVED.items()])
def agent_run(
    url: str,
    name: str | None,
    fleet: str,
    host_profile: Path | None,
    calibrated: Path | None,
    place: Path | None,
    cache: Path | None,
    state: Path | None,
    allow: tuple[Any, ...],
    wait: bool,
    versions: Path | None,
    telemetry_s: float | None,
    telemetry_when_looked_at: bool,
    root: Path,
) -> None:
    """Run one device until Ctrl-C.

    It takes part in the runs that a coordinator of its fleet invites it to; what a run needs comes
    with the invitation. It may be started before the broker is.
    """
    from fimi.edge_agent.service.notify import Notifier
    from fimi.edge_agent.service.versions import EXIT_UPDATE, Versions, spool_folder
    from fimi.testbed.processes.waiting import wait_for

    with errors(), stop_on_signals() as stop:
        fleet, name = own_fleet(fleet, role="device", name=name)
        address = parsed(url) if wait else reach(url)
        notifier = Notifier()
        notifier.ready()
        if wait and not wait_for(address, stop, notifier):
            return
        from fimi.messaging.looking import LOOKED_S
        from fimi.testbed.processes.agent import serve

        ending = serve(
            address,
            fleet=fleet,
            name=name,
            host_profile=host_profile,
            calibrated=calibrated,
            place=place,
            root=root,
            cache=cache,
            state=state if state is not None or cache is None else cache / "state",
            allow=allow,
            telemetry_s=telemetry_s or 0.0,
            looked_s=LOOKED_S if telemetry_when_looked_at else 0.0,
            stop=stop,
            notifier=notifier,
            versions=None if versions is None else Versions(versions, spool_folder()),
        )
    if ending == "again":
        from fimi.testbed.processes.errands import start_again

        start_again()
    if ending == "updated":
        sys.exit(EXIT_UPDATE)


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
        fail(f"--index {index}: there are {devices} devices", EXIT_CONFIG, "U001")
    from fimi.learning.data import data_file

    with errors():
        share = scenario.share(index)
        data_file.save(share, file, scenario.contract)
    click.echo(f"{file}: {len(share)} samples of {share.name}")


agent.add_command(doctor)
agent.add_command(restore)
agent.add_command(compare_meters)
for _of_service in (install, uninstall, switch, confirm):
    agent.add_command(_of_service)
