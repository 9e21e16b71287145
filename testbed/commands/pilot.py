"""``fimi pilot``: how many rounds an accuracy takes, for plans that aim at one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from fimi.testbed.commands.base import Command
from fimi.testbed.commands.interrupts import stop_on_signals
from fimi.testbed.commands.shared import (
    COMMON,
    EXIT_CONFIG,
    errors,
    fail,
    options,
    read_config,
)


@click.command(cls=Command)
@options(COMMON)
@click.option(
    "--target-accuracy",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="plan.target_accuracy; 0.9 where neither is given.",
)
@click.option(
    "--epochs",
    default="2,5",
    show_default=True,
    metavar="E,E,…",
    help="Local epochs to try, at least two numbers.",
)
@click.option("--rounds", type=click.IntRange(2), default=20, show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=2, show_default=True)
@click.option(
    "--seconds", type=click.FloatRange(1), default=600.0, show_default=True, help="Most wall time."
)
def pilot(
    config_path: Path | None,
    settings: tuple[str, ...],
    target_accuracy: float | None,
    epochs: str,
    rounds: int,
    seeds: int,
    seconds: float,
    **given: Any,
) -> None:
    """Train short federations on the public part and fit rounds(Δ, E) for [plan].

    Network, training settings, data set and its division are those of the configuration.
    """
    scenario = read_config(config_path, settings, given, divides_data=False)
    try:
        tried = tuple(sorted({int(each) for each in epochs.split(",")}))
    except ValueError:
        fail(f"--epochs {epochs!r}: write whole numbers, for example 2,5", EXIT_CONFIG, "U001")
    if len(tried) < 2 or tried[0] < 1:
        said = f"--epochs {epochs!r}: give at least two numbers of 1 or more"
        fail(said, EXIT_CONFIG, "U001")
    config = scenario.config
    target = target_accuracy or config.plan.target_accuracy or 0.9
    from fimi.coordinator import curves
    from fimi.testbed.tools import pilot as tools

    with errors(), stop_on_signals() as stop:
        curve_folder = curves.folder_of(config.run.directory)
        known = curves.chosen(config.plan, scenario.subject) or curves.fitted(
            scenario.subject,
            scenario.split,
            config.training,
            curve_folder,
            seconds=config.plan.curve_seconds,
            say=lambda text: click.echo(text, err=True),
            cancelled=stop.is_set,
        )
        began_s, found = time.monotonic(), []
        for each in tools.pilots(
            scenario,
            known.curve,
            target,
            epochs=tried,
            rounds=rounds,
            seeds=seeds,
            cancelled=lambda: stop.is_set() or time.monotonic() - began_s > seconds,
        ):
            found.append(each)
            took = ", ".join(f"{100 * a:.3g} % in {n}" for a, n in sorted(each.reached.items()))
            click.echo(
                f"{len(found)}: {each.epochs} epochs, Δ {each.error:.3f}: best "
                f"{100 * each.best:.1f} %{'; ' if took else ''}{took}",
                err=True,
            )
        model = tools.fit(found)
        click.echo(
            f"# {len(found)} federations on {len(scenario.split.public)} public images; standard "
            f"deviation of ln(rounds seen / predicted): {tools.scatter(model, found):.2f}"
        )
        click.echo(tools.lines(model), nl=False)
