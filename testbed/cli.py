"""The command ``fimi``.

Exit codes: 0 done; 1 an error of ours; 2 wrong usage or configuration; 3 the surroundings (broker,
port, disk, permissions); 4 no plan meets the limits; 5 the federation could not start or go on;
130 stopped by Ctrl-C, with the report of what was done.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NoReturn

import click
import msgspec

from testbed import config as configuration
from testbed.config import ConfigError, Effective

EXIT_CONFIG, EXIT_SURROUNDINGS, EXIT_INFEASIBLE, EXIT_FEDERATION = 2, 3, 4, 5
EXIT_INTERRUPTED = 130

_COMMON = [
    click.option(
        "--config", "config_path", type=click.Path(path_type=Path), help="TOML file (fimi init)."
    ),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set any key."),
    click.option("--seed", type=int, help="run.seed"),
]
_RUN = [
    click.option("--strategy", help="run.strategy: fimi or tfl"),
    click.option("--devices", type=int, help="fleet.devices"),
    click.option("--rounds", type=int, help="rounds.count"),
    click.option("--alpha", type=float, help="data.alpha"),
    click.option(
        "--target-accuracy", type=float, help="plan.target_accuracy: choose error_max for it."
    ),
    click.option("--name", help="run.name"),
    click.option("--directory", help="run.directory"),
    click.option(
        "--format", "output", type=click.Choice(["text", "json"]), default="text", help="Result."
    ),
]
_KEYS = {
    "seed": "run.seed",
    "strategy": "run.strategy",
    "devices": "fleet.devices",
    "rounds": "rounds.count",
    "alpha": "data.alpha",
    "target_accuracy": "plan.target_accuracy",
    "name": "run.name",
    "directory": "run.directory",
    "broker_kind": "broker.kind",
    "port": "broker.port",
}
_BROKER_URL = click.option(
    "--broker",
    "url",
    envvar="FIMI_BROKER",
    required=True,
    metavar="URL",
    help="mqtt://user:password@host:1883 (or the variable FIMI_BROKER, which hides it from ps).",
)


def options(*groups: list[Any]) -> Callable[[Any], Any]:
    """Add groups of options to a command."""

    def decorate(command: Any) -> Any:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


class _Group(click.Group):
    """Ctrl-C that no command handles (while it is still loading) also ends with 130."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            fail("stopped", EXIT_INTERRUPTED)


@click.group(
    cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="fimi-testbed", prog_name="fimi")
def main() -> None:
    """Energy-aware federated learning on real edge devices."""


@main.command()
@click.argument("path", type=click.Path(path_type=Path), default=Path("fimi.toml"))
@click.option("--force", is_flag=True, help="Replace an existing file.")
def init(path: Path, force: bool) -> None:
    """Write a configuration with every key, its default and what it means."""
    if path.exists() and not force:
        fail(f"{path} exists; --force replaces it", EXIT_CONFIG)
    try:
        path.write_text(configuration.template(), encoding="utf-8")
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}", EXIT_SURROUNDINGS)
    click.echo(f"{path} written; check it with: fimi check {path}")


@main.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set any key.")
def check(path: Path | None, settings: tuple[str, ...]) -> None:
    """Validate a configuration and show every effective value with its origin."""
    effective = read_config(path, settings, {})
    rows = configuration.values(effective.config)
    width = max(map(len, rows))
    for key, value in rows.items():
        click.echo(f"{key:<{width}}  {configuration.to_toml(value):<28} {effective.origins[key]}")


@main.command("dry-run")
@options(_COMMON, _RUN)
@click.option("--broker-kind", help="broker.kind: auto, mosquitto or amqtt")
@click.option("--port", type=int, help="broker.port")
def dry_run(config_path: Path | None, settings: tuple[str, ...], output: str, **given: Any) -> None:
    """Run a whole federation of emulated devices on this machine."""
    effective = read_config(config_path, settings, given)

    def run(folder: Any, view: Any, cancel: threading.Event) -> Any:
        from testbed.dry_run import dry_run as start

        return start(effective, folder, view=view, cancel=cancel)

    federate(effective, output, "FIMI dry run, emulated devices", run)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
def report(run: Path) -> None:
    """Make the report of a run again from its run store."""
    with errors():
        click.echo(show_report(run))


@main.command()
@click.option("--bind", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", type=int, default=1883, help="Port to listen on.")
@click.option("--kind", type=click.Choice(["auto", "mosquitto", "amqtt"]), default="auto")
@click.option("--password", envvar="FIMI_PASSWORD", help="Password; generated if left out.")
def broker(
    bind: str, port: int, kind: Literal["auto", "mosquitto", "amqtt"], password: str | None
) -> None:
    """Run an MQTT broker until Ctrl-C and print the URL of it."""
    from messaging.broker import EmbeddedBroker

    with (
        errors(),
        stop_on_signals() as stop,
        EmbeddedBroker(kind=kind, port=port, bind=bind, password=password) as running,
    ):
        click.echo(f"{running.kind} {running.version}")
        if bind not in ("127.0.0.1", "::1", "localhost"):
            click.echo(
                "warning: one password for everybody, unencrypted, and everybody may speak for "
                "everybody: for trials on a network you trust (docs/guide.md has the rules for "
                "a mosquitto of your own)",
                err=True,
            )
        click.echo(running.address.url(with_password=True))
        sys.stdout.flush()
        while not stop.wait(0.5):
            if not running.alive:
                fail("the broker ended by itself", EXIT_SURROUNDINGS)


@main.group()
def coordinator() -> None:
    """The process that plans, aggregates and evaluates."""


@coordinator.command("run")
@options(_COMMON, _RUN)
@_BROKER_URL
def coordinator_run(
    url: str, config_path: Path | None, settings: tuple[str, ...], output: str, **given: Any
) -> None:
    """Run a federation over a broker, with devices and generator node started elsewhere."""
    effective = read_config(config_path, settings, given)
    with errors():
        address = reach(url)

    def run(folder: Any, view: Any, cancel: threading.Event) -> Any:
        from testbed.coordination import coordinate

        return coordinate(
            effective,
            address,
            folder,
            broker=str(address),
            view=view,
            cancel=cancel,
            say=view.say,
        )

    federate(effective, output, "FIMI coordinator", run)


@main.group()
def generator() -> None:
    """The process that makes synthetic images."""


@generator.command("run")
@options(_COMMON)
@_BROKER_URL
@click.option("--id", "peer", default="generator", help="Name of this node.")
def generator_run(
    url: str, peer: str, config_path: Path | None, settings: tuple[str, ...], **given: Any
) -> None:
    """Serve synthetic images over a broker until Ctrl-C."""
    effective = read_config(config_path, settings, given)
    from testbed.generator_process import serve

    with errors(), stop_on_signals() as stop:
        config = effective.config
        pool = Path(config.generator.pool or Path(config.run.directory) / "pool")
        serve(config, reach(url), peer=peer, stop=stop, say=click.echo, pool=pool)


@generator.command("train")
@options(_COMMON)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--steps", type=click.IntRange(1), default=6000, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def generator_train(
    out: Path,
    steps: int,
    threads: int,
    config_path: Path | None,
    settings: tuple[str, ...],
    **given: Any,
) -> None:
    """Train the diffusion model on the public part of the data."""
    effective = read_config(config_path, settings, given)
    from testbed.generator_process import train

    with errors():
        train(effective.config, out, steps=steps, threads=threads, say=click.echo)


@main.group()
def agent() -> None:
    """The process on a device."""


@agent.command("run")
@options(_COMMON)
@_BROKER_URL
@click.option("--index", type=click.IntRange(0), required=True, help="Which device, from 0.")
@click.option("--id", "name", help="Name of the device; from its index if left out.")
@click.option("--devices", type=int, help="fleet.devices")
@click.option("--alpha", type=float, help="data.alpha")
@click.option(
    "--host-profile",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Calibrated cost parameters of this machine: meter and steer it. Left out: emulated.",
)
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
    data_file: Path | None,
    cache: Path | None,
    config_path: Path | None,
    settings: tuple[str, ...],
    **given: Any,
) -> None:
    """Run one device until Ctrl-C."""
    effective = read_config(config_path, settings, given, divides_data=data_file is None)
    if index >= effective.config.fleet.devices:
        fail(
            f"--index {index}: fleet.devices is {effective.config.fleet.devices}, so the last "
            f"index is {effective.config.fleet.devices - 1}",
            EXIT_CONFIG,
        )
    from testbed.agent_process import serve

    with errors(), stop_on_signals() as stop:
        serve(
            effective.config,
            index,
            reach(url),
            name=name,
            host_profile=host_profile,
            data_file=data_file,
            cache=cache,
            stop=stop,
            say=click.echo,
        )


@main.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--example", is_flag=True, help="Print a problem file with every key explained.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="NAME=FROM:TO:COUNT",
    help="Vary t_max, error_max, bandwidth, devices or alpha; may be given more than once.",
)
@click.option("--target-accuracy", type=float, help="Choose error_max for the fewest joules to it.")
@click.option(
    "--deadlines",
    metavar="LEAST:MOST",
    help="With --target-accuracy: factors on t_max_s between which the deadline is chosen as well.",
)
@click.option(
    "--inner",
    type=click.Choice(["fast", "reference"]),
    default="fast",
    show_default=True,
    help="Inner problems by our own solvers, or by CVXPY.",
)
@click.option("--format", "output", type=click.Choice(["table", "json", "csv"]), default="table")
@click.option("--plot", type=click.Path(path_type=Path), help="With --sweep: an HTML page.")
def optimise(
    path: Path | None,
    example: bool,
    seed: int,
    sweeps: tuple[str, ...],
    target_accuracy: float | None,
    deadlines: str | None,
    inner: Literal["fast", "reference"],
    output: str,
    plot: Path | None,
) -> None:
    """Plan a problem file: a certified plan, a sweep, or the cheapest way to an accuracy."""
    from testbed import problem_file

    if example:
        click.echo(problem_file.EXAMPLE, nl=False)
        return
    if path is None:
        fail("optimise: give a problem file; --example prints one", EXIT_CONFIG)
    if plot is not None and not sweeps:
        fail("--plot draws a sweep; give --sweep as well", EXIT_CONFIG)
    if sweeps and target_accuracy is not None:
        fail("--sweep and --target-accuracy are two questions; ask one at a time", EXIT_CONFIG)
    from optim.cross_entropy import SearchSettings
    from optim.planner import plan
    from optim.sweep import parse_range, sweep
    from optim.target import RoundsModel, choose
    from testbed import optimise as show

    with errors():
        problem, file = problem_file.read(path)
        if sweeps:
            points = sweep(problem, dict(parse_range(text) for text in sweeps), seed=seed)
            if plot is not None:
                show.write_plot(points, plot)
            texts = {
                "table": lambda: show.sweep_table(points) + "\n",
                "csv": lambda: show.sweep_csv(points),
                "json": lambda: msgspec.json.encode(points).decode() + "\n",
            }
            click.echo(texts[output](), nl=False)
            return
        if target_accuracy is not None:
            choice = choose(
                problem,
                target_accuracy,
                rounds=RoundsModel(scale=file.rounds.scale, sensitivity=file.rounds.sensitivity),
                constant_power_w=file.idle_power_w,
                deadline_scales=show.parse_deadlines(deadlines),
            )
            problem = choice.apply(problem)
            if output != "json":
                click.echo(show.choice_table(choice) + "\n", err=output == "csv")
        found = plan(problem, seed=seed, settings=SearchSettings(inner=inner))
        if output == "json":
            body = {"plan": found} | ({} if target_accuracy is None else {"choice": choice})
            click.echo(msgspec.json.encode(body))
        elif output == "csv":
            click.echo("\n".join(",".join(row) for row in show.plan_rows(found)))
        else:
            click.echo(show.plan_table(found))


@agent.command("data")
@options(_COMMON)
@click.option("--index", type=click.IntRange(0), required=True, help="Which device, from 0.")
@click.option("--devices", type=int, help="fleet.devices")
@click.option("--alpha", type=float, help="data.alpha")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def agent_data(
    file: Path, index: int, config_path: Path | None, settings: tuple[str, ...], **given: Any
) -> None:
    """Write a device's share of the data to FILE (.npz), to be copied to the device."""
    effective = read_config(config_path, settings, given)
    if index >= effective.config.fleet.devices:
        fail(f"--index {index}: there are {effective.config.fleet.devices} devices", EXIT_CONFIG)
    from learning import datasets
    from testbed.devices import load_split, local_data

    with errors():
        share = local_data(effective.config, load_split(effective.config))[index]
        datasets.save(share, file)
    click.echo(f"{file}: {len(share)} samples of {share.name}")


def read_config(
    path: Path | None,
    settings: tuple[str, ...],
    given: dict[str, Any],
    *,
    divides_data: bool = True,
) -> Effective:
    """The effective configuration of a command, or a one-screen error."""
    overrides: dict[str, tuple[Any, str]] = {}
    try:
        for text in settings:
            key, value = configuration.parse_setting(text)
            overrides[key] = (value, f"--set {key}")
        for option, value in given.items():
            if value is not None:
                overrides[_KEYS[option]] = (value, f"--{option.replace('_', '-')}")
        effective = configuration.load(path, overrides)
        if divides_data:
            from testbed.devices import check_data

            check_data(effective.config)
        return effective
    except ConfigError as error:
        fail(str(error), EXIT_CONFIG)


def federate(
    effective: Effective,
    output: str,
    title: str,
    run: Callable[[Any, Any, threading.Event], Any],
) -> None:
    """Run a federation with a view, store it, report it, and choose the exit code."""
    from rich.console import Console

    from testbed.live import LiveView, PlainView, View
    from testbed.run_folder import RunFolder
    from testbed.torch_cache import torch_cache

    began_s = time.monotonic()
    rounds = effective.config.rounds.count
    console = Console(stderr=output == "json")
    view: View
    if console.is_terminal:
        view = LiveView(console, rounds, title)
    else:
        view = PlainView(console.file, rounds)
    with errors(), stop_on_signals() as stop, torch_cache():
        folder = RunFolder(effective.config)
        federation: Any = None
        try:
            with view:
                federation = run(folder, view, stop)
        finally:
            wall_s = time.monotonic() - began_s
            try:
                folder.store.put(wall_s=wall_s)
            finally:
                kept = folder.close()
            if kept and federation is None:
                with contextlib.suppress(Exception):  # the error that ended the run comes first
                    click.echo(show_report(folder.path), err=True)
        if not kept:
            fail("stopped before there was a plan; nothing is kept", EXIT_INTERRUPTED)
        text = show_report(folder.path)
        from testbed.coordination import summarise

        summary = summarise(federation, str(folder.path), wall_s)
        if output == "json":
            click.echo(msgspec.json.encode(summary))
        else:
            click.echo(text)
    if federation.status == "interrupted":
        sys.exit(EXIT_INTERRUPTED)


def show_report(run: Path) -> str:
    """Write ``report.html`` of a run and return its tables as text."""
    from testbed.report.html import write_report
    from testbed.report.tables import as_text

    path = write_report(run)
    return f"{as_text(run)}\nreport: {path}"


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM into an event; a second one breaks off at once."""
    stop = threading.Event()

    def ask(number: int, _: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


_EXIT_CODES = (
    ("optim.problem", "InfeasibleError", EXIT_INFEASIBLE),
    ("optim.problem", "ProblemError", EXIT_CONFIG),
    ("energy.host", "ProfileError", EXIT_CONFIG),
    ("learning.datasets", "DataFileError", EXIT_CONFIG),
    ("learning.onnx_lowering", "ExportError", EXIT_CONFIG),
    ("energy.meters", "MeterUnavailableError", EXIT_SURROUNDINGS),
    ("generator_node.generators", "GeneratorError", EXIT_SURROUNDINGS),
    ("messaging.errors", "MessagingError", EXIT_SURROUNDINGS),
    ("coordinator.store", "StoreError", EXIT_SURROUNDINGS),
    ("coordinator.federation", "FederationError", EXIT_FEDERATION),
    ("testbed.run_folder", "RunFolderError", EXIT_SURROUNDINGS),
    ("testbed.processes", "ChildFailedError", EXIT_FEDERATION),
    ("builtins", "OSError", EXIT_SURROUNDINGS),
)
"""Errors a person can do something about. Named, not imported: an agent's machine need not have
the coordinator's libraries, and an error comes from a module that is loaded already."""


@contextmanager
def errors() -> Iterator[None]:
    """Turn the errors a person can do something about into one screen and an exit code."""
    try:
        yield
    except Exception as error:
        for module, name, code in _EXIT_CODES:
            if module in sys.modules and isinstance(error, getattr(sys.modules[module], name)):
                fail(str(error), code)
        raise


def reach(url: str) -> Any:
    """The address of a broker that lets us in; tried before anything heavy is loaded.

    Raises:
        messaging.errors.BrokerError: it does not, or nobody is there.
    """
    from messaging.address import BrokerAddress
    from messaging.link import probe

    try:
        address = BrokerAddress.parse(url)
    except ValueError as error:
        fail(str(error), EXIT_CONFIG)
    probe(address)
    return address


def fail(message: str, code: int) -> NoReturn:
    """Print an error and leave."""
    click.echo(f"fimi: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
