"""The command ``fimi``.

Exit codes: 0 done; 1 an error of ours; 2 wrong usage or configuration; 3 the surroundings (broker,
port, disk, permissions); 4 no plan meets the limits; 5 the federation could not start or go on;
130 stopped by Ctrl-C, with the report of what was done; 141 the reader of the output has closed it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fimi.files import write_whole
from fimi.report.layout import Paper, entries
from fimi.testbed import logs
from fimi.testbed.commands import credentials as _credentials  # noqa: F401  more of fleet
from fimi.testbed.commands import forget as _forget  # noqa: F401  more of fleet
from fimi.testbed.commands import home_assistant as _home  # noqa: F401  likewise
from fimi.testbed.commands.base import CONTEXT, Group
from fimi.testbed.commands.bundle import bundle, verify
from fimi.testbed.commands.calibrate import calibrate
from fimi.testbed.commands.chaos import chaos
from fimi.testbed.commands.collection import export, runs
from fimi.testbed.commands.compare_runs import compare_runs
from fimi.testbed.commands.control import control
from fimi.testbed.commands.experiment import experiment
from fimi.testbed.commands.explain import explain
from fimi.testbed.commands.federation import coordinator, dry_run, report
from fimi.testbed.commands.fleet import fleet
from fimi.testbed.commands.generate import generator
from fimi.testbed.commands.learning_curve import learning_curve
from fimi.testbed.commands.meter import meter
from fimi.testbed.commands.nodes import agent, broker
from fimi.testbed.commands.optimise import optimise
from fimi.testbed.commands.pilot import pilot
from fimi.testbed.commands.plot import plot
from fimi.testbed.commands.shared import (
    EXIT_CONFIG,
    EXIT_SURROUNDINGS,
    code_of,
    errors,
    fail,
    read_config,
)
from fimi.testbed.commands.top import top
from fimi.testbed.configuration import load as configuration


@click.group(cls=Group, context_settings=CONTEXT)
@click.version_option(package_name="fimi-testbed", prog_name="fimi")
def main() -> None:
    """Energy-aware federated learning on real edge devices."""


@main.command()
@click.argument("path", type=click.Path(path_type=Path), default=Path(configuration.FILE_NAME))
@click.option("--force", is_flag=True, help="Replace an existing file.")
def init(path: Path, force: bool) -> None:
    """Write a configuration with every key and what it means, defaults as comments."""
    if path.exists() and not force:
        fail(f"{path} exists; --force replaces it", EXIT_CONFIG, "U002")
    try:
        write_whole(path, configuration.template())
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}", EXIT_SURROUNDINGS, code_of(error))
    click.echo(f"{path} written; check it with: fimi check {path}")


@main.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set any key.")
def check(path: Path | None, settings: tuple[str, ...]) -> None:
    """Validate a configuration, show every value with its origin, and plan the fleet.

    Without PATH, ./fimi.toml where there is one. With -q, the summary only. Exits with 4 if no
    plan meets the limits.
    """
    from fimi.testbed.tools import check as show

    scenario = read_config(path, settings, {})
    with errors():
        network = show.network_words(scenario)
    paper = Paper.of(sys.stdout)
    if not logs.quiet():
        for line in show.value_lines(scenario, paper, whole=not sys.stdout.isatty()):
            click.echo(line)
        click.echo()
    said = [
        ("file", f"{path or configuration.default_file() or 'none; every default'}"),
        *show.differing(scenario),
        *show.idle_words(scenario),
        *show.data_words(scenario),
        ("network", network),
    ]
    click.echo(entries(said, indent=11, paper=paper))
    with errors():
        click.echo(entries([("curve", show.curve_words(scenario))], indent=11, paper=paper))
        plan = show.plan_words(scenario, lambda text: click.echo(text, err=True))
    click.echo(entries([("plan", plan)], indent=11, paper=paper))


for _command in (
    dry_run,
    report,
    plot,
    top,
    control,
    bundle,
    verify,
    runs,
    compare_runs,
    export,
    experiment,
    learning_curve,
    pilot,
    broker,
    coordinator,
    generator,
    agent,
    fleet,
    meter,
    optimise,
    calibrate,
    chaos,
    explain,
):
    main.add_command(_command)


if __name__ == "__main__":
    main()
