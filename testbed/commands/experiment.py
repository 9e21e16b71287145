"""``fimi experiment``: strategies, seeds and a grid of settings, compared on the same data.

``fimi experiment compare`` stands beside it (:mod:`fimi.testbed.commands.compare`).
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any, Literal

import click

from fimi.testbed import logs
from fimi.testbed.commands.base import Branching
from fimi.testbed.commands.compare import compare
from fimi.testbed.commands.dashboard import DASHBOARD, Place
from fimi.testbed.commands.interrupts import EXIT_INTERRUPTED, stop_on_signals
from fimi.testbed.commands.reaching import (
    BROKER_OF_STUDY,
    BROKER_VARIABLE,
    BUNDLE_VARIABLE,
    as_typed,
    is_named,
    own_fleet,
    reach,
    use_environment,
)
from fimi.testbed.commands.shared import (
    EXIT_CONFIG,
    EXIT_FEDERATION,
    errors,
    fail,
    result_format,
)
from fimi.testbed.configuration.sections import FleetConfig


@click.command(cls=Branching)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--list", "--dry", "only_list", is_flag=True, help="Show the cells; run nothing.")
@click.option("--summarise", is_flag=True, help="Make the results again; run nothing.")
@click.option("--redo", is_flag=True, help="Run cells again whose configuration has changed.")
@click.option("--jobs", type=click.IntRange(1), help="Runs side by side, over the file's jobs.")
@click.option(
    "--on",
    default="local",
    metavar="ENGINE",
    help="What runs the cells: local (the default), ray, ray:ADDRESS or slurm.",
)
@click.option("--directory", type=click.Path(path_type=Path), help="Over the file's directory.")
@BROKER_OF_STUDY
@click.option(
    "--live",
    is_flag=True,
    help=f"The same, over the broker of {BROKER_VARIABLE} or {BUNDLE_VARIABLE}.",
)
@click.option(
    "--generator",
    is_flag=True,
    help="With boards: a generator node here, beside each run that needs images.",
)
@DASHBOARD
@result_format("text", "json")
def experiment(
    path: Path,
    only_list: bool,
    summarise: bool,
    redo: bool,
    jobs: int | None,
    on: str,
    directory: Path | None,
    url: str,
    live: bool,
    generator: bool,
    dashboard: Place | None,
    output: Literal["text", "json"],
) -> None:
    """Run an experiment file: every strategy, seed and grid point, each a dry run of its own.

    With --broker or --live they are runs on boards, in a folder of their own. What is finished is
    kept, so that an experiment that was stopped goes on where it was.
    """
    from msgspec.structs import replace

    from fimi.testbed.configuration.effects import idle_in_all
    from fimi.testbed.experiment import run
    from fimi.testbed.experiment.file import read_experiment
    from fimi.testbed.experiment.where import Where

    where = Where(on=on, jobs=jobs or 0, live=live or is_named(url), generator=generator)
    with errors():
        asked = read_experiment(path)
        if directory is not None:
            asked = replace(asked, directory=directory)
        asked = where.experiment(asked)
        work = run.plan(asked)
        for sentence in idle_in_all(cell.scenario for cell in work.cells).values():
            click.echo(f"fimi: in every run {sentence}", err=True)
        if only_list:
            _list(work)
            return
        if not summarise:
            run.check_data(work.cells)
            if not redo:
                run.require_fresh(work)
    failures: dict[str, str] = {}
    interrupted = False
    with errors():
        if not summarise:
            with run.alone(asked.folder) as held:
                outcome = _run(asked, where, url, held, dashboard)
            failures, interrupted = outcome.failures, outcome.interrupted
        result = run.summarise(asked)
        _show(result, asked.folder, output)
    if strangers := run.plan(asked).strangers:
        click.echo(
            f"{asked.folder / 'runs'} holds {len(strangers)} more, which belong to no cell of "
            f"{path} and are left out: {', '.join(strangers[:5])}"
            + (", …" if len(strangers) > 5 else ""),
            err=True,
        )
    for name, why in failures.items():
        click.echo(f"fimi: {name} failed: {why}", err=True)
    if interrupted:
        again = f"fimi experiment {shlex.quote(str(path))}{where.options(as_typed(url))}"
        again += f" --directory {shlex.quote(str(directory))}" if directory is not None else ""
        click.echo(f"stopped; '{again}' goes on from here", err=True)
        sys.exit(EXIT_INTERRUPTED)
    if failures:
        sys.exit(EXIT_FEDERATION)


experiment.commands["compare"] = compare


def _run(asked: Any, where: Any, url: str, held: tuple[int, ...], dashboard: Place | None) -> Any:
    """Run what is not finished, and show the progress."""
    from rich.console import Console

    from fimi.testbed.experiment import run
    from fimi.testbed.experiment.engines.base import Outcome, Stopped
    from fimi.testbed.experiment.progress import ExperimentLiveView, ExperimentPlainView
    from fimi.testbed.experiment.windows import ExperimentWindows

    # Another process may have finished runs while this one waited for the folder.
    work = run.plan(asked)
    console = Console(stderr=True)
    to_do, kept = work.to_do, len(work.having("finished"))
    title = f"experiment {work.experiment.name}"
    terminal: ExperimentLiveView | ExperimentPlainView
    if console.is_terminal and not logs.quiet():
        terminal = ExperimentLiveView(console, to_do, title)
    else:
        terminal = ExperimentPlainView(console.file, to_do, quiet=logs.quiet())
    with (
        stop_on_signals() as stop,
        terminal,
        ExperimentWindows(work.experiment, to_do, terminal, dashboard) as view,
    ):
        most = "at most " if work.to_come else ""
        view.say(f"{title}: {most}{to_do} to do, {kept} runs finished before")
        if not to_do:
            return Outcome(failures={}, interrupted=False)
        try:
            with where.opened(asked, lambda: _broker(url), view.waiting, stop, held) as found:
                asked, engine = found
                work = run.plan(asked)
                return run.conduct(work, engine=engine, view=view, stop=stop, keep_open=held)
        except Stopped:
            return Outcome(failures={}, interrupted=True)


def _broker(url: str) -> Any:
    """The address of the fleet's broker."""
    if not is_named(url):
        url = use_environment()
    if not is_named(url):
        fail(
            f"--live: neither {BROKER_VARIABLE} nor {BUNDLE_VARIABLE} names a broker; or give "
            "--broker URL or --bundle FILE",
            EXIT_CONFIG,
            "U001",
        )
    own_fleet(FleetConfig().name, role="coordinator")
    return reach(url)


def _list(work: Any) -> None:
    from fimi.record.clean import enumerated
    from fimi.report.comparison.runs import point_text
    from fimi.report.layout import Paper, table
    from fimi.report.words import seconds

    state = {cell.name: found.progress for cell, found in work.runs}
    tune = work.experiment.tune
    what = {"configured": "as configured", "tuning": "to tune with", "tuned": "tuned"}
    rows = [
        (
            *(cell.name, cell.label, str(cell.seed)),
            "\n".join(point_text({key: value}) for key, value in cell.point.items()) or "-",
            *((what[cell.part],) if tune else ()),
            state[cell.name],
        )
        for cell in work.cells
    ]
    heading = ("run", "strategy", "seed", "grid point", *(("what for",) if tune else ()), "state")
    click.echo(table(heading, rows, paper=Paper.of(sys.stdout), whole=True))
    for cell, found in work.runs:
        if found.changed:
            click.echo(f"stale: {cell.name}: {'; '.join(found.changed)}")
    for each in work.generators:
        there = "to train" if each in work.lacking else "there"
        click.echo(f"generator {each.recipe.name}: {each.folder}, {there}")
    click.echo(f"{len(work.runs)} runs for {len(work.cells)} cells in {work.experiment.folder}")
    if tune is not None:
        seeds = enumerated([str(seed) for seed in tune.seeds])
        click.echo(
            f"tuning: {len(tune.settings)} settings on seeds {seeds} for every strategy "
            f"and grid point, {len(work.of('tuning'))} runs"
            + (f"; then at most {work.to_come} with what is chosen" if work.to_come else "")
        )
        for choice in work.choices:
            taken = point_text(choice.taken.settings) if choice.taken else "nothing: runs failed"
            where = point_text(choice.point)
            click.echo(f"chosen for {choice.label}{' at ' + where if where else ''}: {taken}")
    left_s = work.left_s
    if left_s:
        click.echo(f"what is not finished takes about {seconds(left_s)} one after another")
    elif left_s is None:
        click.echo("how long they take is not known: no run has ended yet")


def _show(result: Any, folder: Path, output: str) -> None:
    from fimi.report.comparison.tables import as_text
    from fimi.report.comparison.values import as_json
    from fimi.report.layout import Paper

    if output == "json":
        click.echo(as_json(result), nl=False)
    else:
        click.echo(as_text(result, Paper.of(sys.stdout)))
        names = "table.html, table.md, table.tex, results.csv, results.json"
        click.echo(f"\nresults: {folder}/{names}")
