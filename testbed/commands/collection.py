"""``fimi runs`` and ``fimi export``: which runs there are, and one as files for other tools."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from fimi.testbed.commands.base import Command
from fimi.testbed.commands.carbon import CARBON, carbon_of
from fimi.testbed.commands.shared import EXIT_CONFIG, WordChoice, errors, fail, result_format
from fimi.testbed.configuration import load as configuration

if TYPE_CHECKING:  # the other commands do without what reads a store
    from fimi.record.export.tables import TakenTable

_EXPERIMENTS = "experiments"
"""Where ``fimi experiment`` keeps its runs if nothing else is said."""


class Keys(click.ParamType):  # type: ignore[type-arg]  # in click 8.1 it is not generic
    """One of the keys by which runs are sorted; they are looked up when they are needed."""

    name = "key"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The key."""
        from fimi.report.collection.selection import KEYS
        from fimi.testbed.nearest import hint

        if value not in KEYS:
            self.fail(f"{value!r} is no key; {hint(str(value), KEYS)}", param, ctx)
        return str(value)


@click.command(cls=Command)
@click.argument("folders", metavar="[DIR]...", type=click.Path(path_type=Path), nargs=-1)
@click.option("--strategy", multiple=True, help="Only of this strategy; * stands for any letters.")
@click.option("--data", multiple=True, help="Only on this data set, likewise.")
@click.option("--status", multiple=True, help="Only completed, interrupted, running, broken …")
@click.option("--since", help="Begun then or later: 2026-11-30, 2026-11-30T14:05, today, 12h, 3d.")
@click.option("--until", help="Begun before the end of that day, or before that time.")
@click.option(
    "--sort",
    type=Keys(),
    default="began",
    help="By began, name, strategy, data, devices, rounds, accuracy, energy, wall or status.",
)
@click.option("--reverse", is_flag=True, help="The newest or largest first.")
@click.option(
    "--last", type=click.IntRange(min=1), metavar="N", help="Only the last N of the list."
)
@result_format("text", "csv", "json")
def runs(
    folders: tuple[Path, ...],
    strategy: tuple[str, ...],
    data: tuple[str, ...],
    status: tuple[str, ...],
    since: str | None,
    until: str | None,
    sort: str,
    reverse: bool,
    last: int | None,
    output: str,
) -> None:
    """List runs: what they were, how far they came, accuracy, joules, how they stand.

    DIR is a folder of runs, an experiment, one above them, or a run, by its name as well; left out:
    run.directory (runs/) and experiments/. The newest is the last. A run that cannot be read is
    listed with the reason.
    """
    from fimi.record.catalogue import find, listed
    from fimi.report.collection import listing
    from fimi.report.collection.selection import STANDINGS, RunFilter, moment, ordered, unmet
    from fimi.report.layout import Paper
    from fimi.testbed.nearest import hint

    for word in status:
        if word not in STANDINGS:
            fail(f"--status {word!r}: no such status; {hint(word, STANDINGS)}", EXIT_CONFIG, "U001")
    now = datetime.now().astimezone()
    try:
        wanted = RunFilter(
            strategy=strategy,
            data=data,
            standing=status,
            since=None if since is None else moment(since, now),
            until=None if until is None else moment(until, now, end=True),
        )
    except ValueError as error:
        fail(f"--since, --until: {error}", EXIT_CONFIG, "U001")
    with errors():
        roots = [*map(_place, folders)] or _usual()
        places = dict.fromkeys(path for root in roots for path in find(root))
        found = [*map(listed, places)]
    chosen = ordered(filter(wanted, found), sort, reverse=reverse)
    chosen = chosen[-last:] if last else chosen
    if output == "csv":
        click.echo(listing.as_csv(chosen), nl=False)
    elif output == "json":
        click.echo(msgspec.json.encode(listing.as_rows(chosen)))
    else:
        for line in listing.as_lines(chosen, Paper.of(sys.stdout)):
            click.echo(line)
        if len(roots) == 1 and [*places] == roots:
            click.echo(f"\n'fimi report {roots[0]}' says all of this run", err=True)
        lines = [each.headline for each in found if each.headline is not None]
        for option, asked, there in (
            ("--strategy", strategy, {line.strategy for line in lines if line.strategy}),
            ("--data", data, {line.data for line in lines if line.data}),
        ):
            for word in unmet(asked, there) if there else ():
                click.echo(
                    f"{option} {word!r}: no run has it; {hint(word, sorted(there))}", err=True
                )
        if len(chosen) < len(found):
            left = len(found) - len(chosen)
            are = "is" if left == 1 else "are"
            click.echo(f"\n{left} of {len(found)} runs {are} left out", err=True)


def _place(named: Path) -> Path:
    """A folder, or the run or the experiment that is called so.

    Raises:
        fimi.testbed.run_folder.RunFolderError: there is nothing of this name; suggests the nearest.
    """
    from fimi.record.catalogue import find
    from fimi.testbed.nearest import nearest
    from fimi.testbed.run_folder import RunFolderError, find_run

    if named.exists():
        return named
    if (experiment := Path(_EXPERIMENTS) / named).is_dir():
        return experiment
    try:
        return find_run(named, str(_directory()))
    except RunFolderError:
        there = [path.name for root in _usual() if root.is_dir() for path in find(root)]
        meant = nearest(named.name, there)
        raise RunFolderError(
            f"{named}: there is no such folder, and no run of this name; "
            + (f"did you mean {meant}? Else " if meant else "")
            + "name a folder that runs are kept in (run.directory, runs/ if it is not set), an "
            "experiment's, or one above them"
        ) from None


def _directory() -> Path:
    """The folder of runs, by the configuration here."""
    if (file := configuration.default_file()) is None:
        return Path("runs")
    with errors():
        return Path(configuration.load(file).config.run.directory)


def _usual() -> list[Path]:
    """The folders in which runs are, by the configuration here; they need not be there yet."""
    directory = _directory()
    there = [path for path in (directory, Path(_EXPERIMENTS)) if path.is_dir()]
    return there or [directory]


@click.command(cls=Command)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--to", "output", type=WordChoice(["csv", "parquet", "json"]), required=True, help="Format."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder; left out: export-FORMAT in the run's."
)
@click.option(
    "--all", "everything", is_flag=True, help="Also tables that views have nearly all of."
)
@click.option(
    "--exact",
    is_flag=True,
    help="CSV text as it is, also where a spreadsheet would run it as a formula.",
)
@CARBON
def export(
    run: Path,
    output: Any,
    out: Path | None,
    everything: bool,
    exact: bool,
    carbon: tuple[str, ...],
) -> None:
    """Write the tables of a run as files, with datapackage.json that describes them.

    One file for each view and table of docs/record.md, units in the names of the columns, numbers
    with all their digits. What is missing is empty, never 0.
    """
    from fimi.record.export.writing import export as write
    from fimi.report.layout import Paper, table
    from fimi.testbed.run_folder import find_run

    with errors():
        found = find_run(run)
        given = carbon_of(carbon, found)
        beside = found if found.is_dir() else found.parent
        folder = out or beside / f"export-{output}"
        written = write(
            found,
            output,
            folder,
            everything=everything,
            exact=exact,
            more=lambda: _emitted(found, given),
        )
    rows = [(f"{name}.{output}", str(count)) for name, count in written.rows.items()]
    click.echo(table(["file", "rows"], rows, paper=Paper.of(sys.stdout)))
    click.echo(f"\n{written.folder}")
    if written.guarded:
        click.echo(
            f"{written.guarded} cells begin like a formula and have an apostrophe before them, so "
            "that no spreadsheet runs them; --exact leaves them as they are",
            err=True,
        )


def _emitted(run: Path, given: Mapping[str, Any]) -> Iterator[TakenTable]:
    """The carbon figures of a run; none without an intensity."""
    from fimi.record.carbon import with_carbon
    from fimi.record.export.carbon import carbon_rows
    from fimi.record.reader import read_run
    from fimi.record.summary import summarise

    emitted = summarise(with_carbon(read_run(run), given)).carbon
    if emitted is not None:
        yield carbon_rows(emitted)
