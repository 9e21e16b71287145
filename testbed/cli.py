"""The command ``fimi``.

Exit codes: 0 done; 1 an error of ours; 2 wrong usage or configuration; 3 the surroundings (broker,
port, disk, permissions); 4 no plan meets the limits; 5 the federation could not start or go on;
130 stopped by Ctrl-C, with the report of what was done.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fimi.files import write_whole
from fimi.learning.data.dataset import Split
from fimi.learning.data.partition_summary import LabelSkew
from fimi.testbed.commands.calibrate import calibrate
from fimi.testbed.commands.experiment import experiment
from fimi.testbed.commands.federation import coordinator, dry_run, report
from fimi.testbed.commands.generate import generator
from fimi.testbed.commands.learning_curve import learning_curve
from fimi.testbed.commands.nodes import agent, broker
from fimi.testbed.commands.optimise import optimise
from fimi.testbed.commands.shared import (
    EXIT_CONFIG,
    EXIT_INTERRUPTED,
    EXIT_SURROUNDINGS,
    errors,
    fail,
    read_config,
)
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.load import ConfigError


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
        write_whole(path, configuration.template())
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}", EXIT_SURROUNDINGS)
    click.echo(f"{path} written; check it with: fimi check {path}")


@main.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set any key.")
def check(path: Path | None, settings: tuple[str, ...]) -> None:
    """Validate a configuration and show every effective value with its origin."""
    from fimi.testbed.processes.devices import check_data, check_network

    effective = read_config(path, settings, {}, divides_data=False)
    try:
        division = check_data(effective.config)
    except ConfigError as error:
        fail(str(error), EXIT_CONFIG)
    with errors():
        network = check_network(effective.config, division.split.test)
    rows = configuration.values(effective.config)
    width = max(map(len, rows))
    for key, value in rows.items():
        click.echo(f"{key:<{width}}  {configuration.to_toml(value):<28} {effective.origins[key]}")
    click.echo(f"\n{_parts(division.split)}")
    click.echo(_in_words(division.skew))
    click.echo(network)


def _parts(split: Split) -> str:
    """The parts of the data in one line."""
    test = split.test
    size = "×".join(map(str, test.image_shape))
    return (
        f"{test.name.split('/')[0]}: {size} images of {test.classes} classes; "
        f"{len(split.public)} public ({split.kind}), {len(split.private)} private, "
        f"{len(test)} for tests"
    )


def _in_words(skew: LabelSkew) -> str:
    """A division of the data in one line."""
    known = [bits for bits in skew.entropy_bits if bits is not None]
    words = [
        f"{len(skew.samples)} devices with {min(skew.samples)} to {max(skew.samples)} samples each",
        f"label entropy {min(known):.2f} to {max(known):.2f} bits" if known else None,
        f"mean distance to the population {skew.mean_emd:.2f} (0 alike, 2 nothing in common)"
        if skew.mean_emd is not None
        else None,
    ]
    return "; ".join(word for word in words if word)


for _command in (
    dry_run,
    report,
    experiment,
    learning_curve,
    broker,
    coordinator,
    generator,
    agent,
    optimise,
    calibrate,
):
    main.add_command(_command)


if __name__ == "__main__":
    main()
