"""``fimi optimise``: plan a problem file without a federation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click
import msgspec

from fimi.testbed.commands.base import Command
from fimi.testbed.commands.shared import EXIT_CONFIG, WordChoice, errors, fail, result_format


@click.command(cls=Command)
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--example", is_flag=True, help="Print a problem file with every key explained.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="NAME=FROM:TO:COUNT",
    help="Vary t_max, error_max, bandwidth, budget, fleet_budget, devices or alpha; may be given "
    "more than once.",
)
@click.option(
    "--target-accuracy",
    type=float,
    help="Choose error_max, the epochs among epochs_choices, and the length of a round with them, "
    "for the fewest joules to it.",
)
@click.option(
    "--objective",
    type=WordChoice(["board", "dynamic"]),
    help="Energy to make least, instead of the file's objective.",
)
@click.option(
    "--inner",
    type=WordChoice(["fast", "reference"]),
    default="fast",
    show_default=True,
    help="Inner problems by our own solvers, or by CVXPY.",
)
@click.option(
    "--search",
    type=WordChoice(["dual", "cold"]),
    default="dual",
    show_default=True,
    help="Begin the cross-entropy search at the dual decomposition's plan, or cold.",
)
@result_format("table", "json", "csv")
@click.option("--plot", type=click.Path(path_type=Path), help="With --sweep: an HTML page.")
def optimise(
    path: Path | None,
    example: bool,
    seed: int,
    sweeps: tuple[str, ...],
    target_accuracy: float | None,
    objective: Literal["board", "dynamic"] | None,
    inner: Literal["fast", "reference"],
    search: Literal["dual", "cold"],
    output: str,
    plot: Path | None,
) -> None:
    """Plan a problem file: a certified plan, a sweep, or the cheapest way to an accuracy."""
    from fimi.optim import problem_file

    if example:
        click.echo(problem_file.EXAMPLE, nl=False)
        return
    if path is None:
        fail("optimise: give a problem file; --example prints one", EXIT_CONFIG, "U001")
    if plot is not None and not sweeps:
        fail("--plot draws a sweep; give --sweep as well", EXIT_CONFIG, "U001")
    if plot is not None and not plot.absolute().parent.is_dir():
        wrong = f"--plot {plot}: there is no folder {plot.parent}; create it"
        fail(wrong, EXIT_CONFIG, "U003")
    if plot is not None and plot.is_dir():
        fail(f"--plot {plot} is a folder; give a file name in it", EXIT_CONFIG, "U001")
    if sweeps and target_accuracy is not None:
        wrong = "--sweep and --target-accuracy are two questions; ask one at a time"
        fail(wrong, EXIT_CONFIG, "U001")
    if sweeps and inner != "fast":
        fail(
            f"--inner {inner} is for a single plan; --sweep plans by dual decomposition",
            EXIT_CONFIG,
            "U001",
        )
    if sweeps and search != "dual":
        wrong = "--search is for a single plan; --sweep plans by dual decomposition"
        fail(wrong, EXIT_CONFIG, "U001")
    from fimi.optim.cross_entropy import SearchSettings
    from fimi.optim.doubts import doubts, never_chosen
    from fimi.optim.quality import choose, plan
    from fimi.optim.sweep import parse_range, sweep
    from fimi.report.layout import Paper, wrap
    from fimi.testbed.tools import optimise as show

    paper = Paper.of(sys.stdout)
    with errors():
        problem, file = problem_file.read(path)
        if objective is not None:
            problem = msgspec.structs.replace(problem, objective=objective)
        said = [f"warning: {doubt}" for doubt in doubts(problem)]
        said += [f"note: {points}" for points in show.idle_points(never_chosen(problem))]
        aside = Paper.of(sys.stderr)
        for line in (line for each in said for line in wrap(each, aside.text_width)):
            click.echo(line, err=True)
        value = file.problem.synthetic_value
        if sweeps and value < 1:
            fail(
                f"{path}: --sweep counts a synthetic sample as a real one, synthetic_value is "
                f"{value:g}; plan each point by itself, or leave synthetic_value out",
                EXIT_CONFIG,
                "P001",
            )
        if sweeps:
            ranges: dict[str, tuple[float, ...]] = {}
            for name, values in map(parse_range, sweeps):
                if name in ranges:
                    wrong = f"--sweep {name} is given twice; list all its values once"
                    fail(wrong, EXIT_CONFIG, "U001")
                ranges[name] = values
            points = sweep(problem, ranges, seed=seed)
            if plot is not None:
                from fimi.files import write_whole
                from fimi.testbed.tools.sweep_page import sweep_page

                write_whole(plot, sweep_page(points, problem.objective, path.name))
            texts = {
                "table": lambda: show.sweep_table(points, problem.objective, paper) + "\n",
                "csv": lambda: show.sweep_csv(points),
                "json": lambda: msgspec.json.encode(points).decode() + "\n",
            }
            click.echo(texts[output](), nl=False)
            return
        if target_accuracy is not None:
            choice = choose(
                problem,
                target_accuracy,
                synthetic_value=value,
                epochs=file.problem.epochs_choices,
                rounds=file.rounds.model,
            )
            problem = choice.apply(problem)
            if output != "json":
                text = show.choice_table(choice, problem.objective, paper)
                click.echo(text + "\n", err=output == "csv")
        found = plan(
            problem,
            synthetic_value=value,
            seed=seed,
            settings=SearchSettings(inner=inner, start=search),
        )
        if output == "json":
            body: dict[str, object] = {"plan": show.plan_body(found)}
            if target_accuracy is not None:
                body["choice"] = choice
                body["to_target"] = show.certified_body(show.to_target(choice, found))
            click.echo(msgspec.json.encode(body))
        elif output == "csv":
            click.echo(show.plan_csv(found), nl=False)
        else:
            click.echo(paper.kinds(show.plan_table(found, paper)))
        if target_accuracy is not None and output != "json":
            click.echo(show.target_words(choice, found, paper), err=output == "csv")
