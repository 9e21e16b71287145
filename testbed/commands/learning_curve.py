"""``fimi learning-curve``: how the error falls with data, for the planner."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
import msgspec

from fimi.testbed.commands.base import Command
from fimi.testbed.commands.interrupts import EXIT_INTERRUPTED, stop_on_signals
from fimi.testbed.commands.shared import (
    COMMON,
    EXIT_CONFIG,
    errors,
    fail,
    options,
    read_config,
    result_format,
)


@click.command("learning-curve", cls=Command)
@options(COMMON)
@click.option(
    "--amounts",
    metavar="D,D,…",
    help="Samples to train on; eight from one batch to the whole public part if left out.",
)
@click.option("--draws", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--steps",
    type=click.IntRange(0),
    default=600,
    show_default=True,
    help="Steps of each training, about; 0: training.epochs whatever the amount.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of finished trainings: made, or gone on with.",
)
@click.option(
    "--write",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the curve with its provenance, which plan.curve takes.",
)
@result_format("text", "json")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="An HTML page.")
def learning_curve(
    config_path: Path | None,
    settings: tuple[str, ...],
    amounts: str | None,
    draws: int,
    steps: int,
    keep: Path | None,
    write: Path | None,
    output: str,
    plot: Path | None,
    **given: Any,
) -> None:
    """Train at several amounts of data and fit Δ(D) = α D^(−β) + δ0 for [plan].

    Network, training settings and data set are those of the configuration. Samples are drawn from
    the public part, errors are those on the validation part: what devices hold and what models are
    tested with decides no plan.
    """
    scenario = read_config(config_path, settings, given, divides_data=False)
    config = scenario.config
    for path in (keep, write, plot):
        if path is not None and not path.absolute().parent.is_dir():
            said = f"{path}: there is no folder {path.parent}; create it"
            fail(said, EXIT_CONFIG, "U003")
    try:
        wanted = tuple(sorted({int(each) for each in amounts.split(",")})) if amounts else ()
    except ValueError:
        said = f"--amounts {amounts!r}: write whole numbers, for example 50,100,200"
        fail(said, EXIT_CONFIG, "U001")
    from fimi.coordinator.curves import measured
    from fimi.files import write_whole
    from fimi.learning.training.curve_points import (
        CurvePoint,
        PointFile,
        amounts_of,
        check_amounts,
        measure,
    )
    from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
    from fimi.learning.training.trainer import TrainingCancelled
    from fimi.report.layout import Paper
    from fimi.testbed.tools import learning_curve as show

    with errors(), stop_on_signals() as stop:
        split = scenario.split
        data, judges = split.public, split.validation
        wanted = wanted or amounts_of(data, config.training.batch_size)
        check_amounts(data, wanted)
        training = config.training
        what = {
            "data": f"{data.digest()} {judges.digest()}",
            "training": msgspec.json.encode(training).decode(),
            "steps": str(steps),
            "seed": str(config.run.seed),
        }
        kept = PointFile(keep, what) if keep is not None else None
        asked = {(samples, draw) for samples in wanted for draw in range(draws)}
        points: list[CurvePoint] = [
            msgspec.structs.replace(p, images=len(judges))
            for p in (kept.points if kept else ())
            if (p.samples, p.draw) in asked
        ]
        trainer = TorchTrainer.of(training, data.classes, data.image_shape)
        began_s, before = time.monotonic(), len(points)
        interrupted = False
        try:
            for point in measure(
                trainer,
                initial_parameters(
                    training.model, data.classes, data.image_shape, seed=config.run.seed
                ),
                data,
                judges,
                training,
                amounts=wanted,
                draws=draws,
                steps=steps,
                seed=config.run.seed,
                done=points,
                cancelled=stop.is_set,
                clock=time.monotonic,
            ):
                points.append(point)
                if kept is not None:
                    kept.add(point)
                each_s = (time.monotonic() - began_s) / (len(points) - before)
                click.echo(
                    f"{len(points)}/{len(asked)}: D = {point.samples}, draw {point.draw + 1}, "
                    f"error {point.error:.4f}, {point.epochs} epochs, {point.seconds:.1f} s; about "
                    f"{each_s * (len(asked) - len(points)):.0f} s left",
                    err=True,
                )
        except TrainingCancelled:
            interrupted = True
        result = show.result_of(points, interrupted=interrupted)
        if result.fit is not None:
            known = measured(points, scenario.subject, split, steps)
            result = msgspec.structs.replace(result, known=known)
            if write is not None:
                write_whole(write, msgspec.json.format(msgspec.json.encode(known)) + b"\n")
        if plot is not None:
            title = f"{training.model} on {config.data.dataset}, public part"
            from fimi.testbed.tools.curve_page import curve_page

            write_whole(plot, curve_page(result, title))
        click.echo(
            msgspec.json.encode(result).decode()
            if output == "json"
            else show.as_text(result, Paper.of(sys.stdout))
        )
        if interrupted:
            sys.exit(EXIT_INTERRUPTED)
        if result.fit is None:
            fail(f"no learning curve: {result.reason}", EXIT_CONFIG, "P007")
