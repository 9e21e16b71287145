"""``fimi generator``: the generator node, and the training and evaluation of generators."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from fimi.testbed.commands.base import Group, ServiceCommand
from fimi.testbed.commands.interrupts import stop_on_signals
from fimi.testbed.commands.reaching import (
    BROKER,
    fleet_setting,
    own_fleet,
    reach,
)
from fimi.testbed.commands.shared import (
    COMMON,
    WordChoice,
    errors,
    options,
    read_config,
)
from fimi.testbed.configuration.sections import FleetConfig

ID = "generator"
"""Name of a node that was given no other."""

PUBLIC = [
    click.option(
        "--data",
        "data_file",
        type=click.Path(path_type=Path, exists=True),
        metavar="PATH",
        help="Public images: a data file (.npz), or a folder with one folder per class. "
        "Left out: the public part of the configured data.",
    ),
    click.option("--threads", type=click.IntRange(1), default=1, show_default=True),
]


@click.group(cls=Group)
def generator() -> None:
    """The process that makes synthetic samples."""


@generator.command("run", cls=ServiceCommand)
@options(COMMON)
@BROKER
@click.option("--devices", type=int, help="fleet.devices")
@click.option("--alpha", type=float, help="data.alpha")
@click.option("--id", "peer", default=ID, help="Name of this node.")
def generator_run(
    url: str, peer: str, config_path: Path | None, settings: tuple[str, ...], **given: Any
) -> None:
    """Serve synthetic samples over a broker until Ctrl-C."""
    _, name = own_fleet(FleetConfig().name, role="generator", name=None if peer == ID else peer)
    scenario = read_config(config_path, fleet_setting(settings), given)
    from fimi.testbed.processes.generator_node import serve

    config, public, contract = scenario.config, scenario.split.public, scenario.undivided
    del scenario  # frees the private part while the node runs
    pool = Path(config.generator.pool or Path(config.run.directory) / "pool")
    with errors(), stop_on_signals() as stop:
        serve(config, public, reach(url), peer=name or ID, stop=stop, contract=contract, pool=pool)


@generator.command("train")
@options(COMMON, PUBLIC)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option(
    "--model",
    type=WordChoice(["diffusion", "gan"]),
    default="diffusion",
    show_default=True,
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    help="Of the optimiser; 8,000 (diffusion) or 6,000 (GAN) if left out.",
)
@click.option("--batch-size", type=click.IntRange(2), help="Images per step.")
@click.option(
    "--channels",
    help="Of each level of the diffusion network, for example 64,128,128; from the image's size "
    "if left out.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, or cuda.")
@click.option(
    "--every",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="Steps between checkpoints and sheets of samples.",
)
def generator_train(
    out: Path,
    model: Literal["diffusion", "gan"],
    steps: int | None,
    batch_size: int | None,
    channels: str | None,
    device: str,
    every: int,
    threads: int,
    data_file: Path | None,
    config_path: Path | None,
    settings: tuple[str, ...],
    **given: Any,
) -> None:
    """Train a diffusion model or a GAN on public images.

    A training that was stopped goes on from its checkpoint if it is started again with the same
    options.
    """
    scenario = read_config(config_path, settings, given)
    from fimi.testbed.tools.generators import GeneratorRecipe, parse_channels, train

    with errors():
        recipe = GeneratorRecipe(
            model=model,
            steps=steps,
            batch_size=batch_size,
            channels=parse_channels(channels),
            device=device,
            every=every,
            threads=threads,
        )
        train(scenario, data_file, out, recipe, say=click.echo)


@generator.command("evaluate")
@options(COMMON, PUBLIC)
@click.option(
    "--test",
    "test_file",
    type=click.Path(path_type=Path, exists=True),
    metavar="PATH",
    help="Real images to test on, as --data. Left out: the validation part of the configured "
    "data, public images that nobody trains on.",
)
@click.option("--per-class", type=click.IntRange(2), default=360, show_default=True)
@click.option("--classifiers", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for results and a sheet per class."
)
def generator_evaluate(
    per_class: int,
    classifiers: int,
    threads: int,
    out: Path | None,
    data_file: Path | None,
    test_file: Path | None,
    config_path: Path | None,
    settings: tuple[str, ...],
    **given: Any,
) -> None:
    """Measure the configured generator, quality gate included, against real images."""
    scenario = read_config(config_path, settings, given)
    from fimi.testbed.tools.generators import evaluate

    with errors():
        evaluate(
            scenario,
            data_file,
            test_file,
            out,
            per_class=per_class,
            classifiers=classifiers,
            threads=threads,
            say=click.echo,
        )
