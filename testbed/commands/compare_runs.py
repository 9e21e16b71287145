"""``fimi compare``: stored runs side by side, whatever they were begun for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from fimi.files import write_whole
from fimi.testbed.commands.base import Command
from fimi.testbed.commands.carbon import CARBON, checked
from fimi.testbed.commands.shared import EXIT_CONFIG, errors, fail, result_format
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.sections import Config

if TYPE_CHECKING:
    from fimi.report.collection.grouping import ComparableRun


@click.command("compare", cls=Command)
@click.argument("places", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "--target",
    "targets",
    type=click.FloatRange(0, 1, min_open=True),
    multiple=True,
    help="An accuracy whose price is told, 0 to 1; left out: those of the runs.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0.5, 0.999),
    default=0.95,
    help="Of intervals and bands.",
)
@click.option("--html", type=click.Path(path_type=Path), help="Also write this page.")
@CARBON
@result_format("text", "latex", "json")
def compare_runs(
    places: tuple[str, ...],
    targets: tuple[float, ...],
    confidence: float,
    html: Path | None,
    carbon: tuple[str, ...],
    output: str,
) -> None:
    """Lay stored runs side by side.

    RUN is a run, a folder of runs, or a pattern with *. Runs that differ in their seeds alone are a
    group. Shown are accuracy, what accuracies cost, metered beside predicted, plans, devices, and
    what differs in configuration, data and versions. Experiments: fimi experiment compare.
    """
    from fimi.report.collection import compared_page, compared_tables, compared_values
    from fimi.report.collection.compared import compare_runs as compare
    from fimi.report.layout import Paper

    if not all(0 < each <= 1 for each in targets):  # a range of click lets nan through
        raise click.BadParameter("an accuracy is above 0, 1 at most.", param_hint="'--target'")
    with errors():
        folders = _folders(places)
        if len(folders) < 2:
            raise click.UsageError(
                f"there is nothing to compare {next(iter(folders))} with; name two runs or more."
            )
        runs = _read(folders, carbon)
        found = compare(runs, targets=targets, confidence=confidence)
        if html is not None:
            write_whole(html, compared_page.compared_page(found))
    if output == "json":
        click.echo(compared_values.compared_json(found), nl=False)
    elif output == "latex":
        click.echo(compared_tables.compared_latex(found), nl=False)
    else:
        click.echo(compared_tables.compared_text(found, Paper.of(sys.stdout)))
    if html is not None:
        click.echo(f"page: {html}", err=True)


def _folders(places: Sequence[str]) -> dict[Path, bool]:
    """The runs that are meant, each once, in the order in which they were named.

    Returns:
        Each with whether it was named itself, and not found below a folder or by a pattern.

    Raises:
        ReportError: there is none at a place.
    """
    from fimi.record.reader import ReportError
    from fimi.testbed.run_folder import find_run

    found: dict[Path, tuple[Path, bool]] = {}
    for place in places:
        path = Path(place)
        if "*" in place and not path.exists():
            matches = (match for match in sorted(Path().glob(place)) if _may_be_one(match))
            several = [each for match in matches for each in _below(match)]
            if not several:
                raise ReportError(f"{place}: no run here has such a name", code="R004")
        elif path.is_dir() and not _is_run(path):
            several = _below(path)
            if not several:
                raise ReportError(f"{path}: there is no run below this folder", code="R004")
        else:
            run = find_run(path)
            found[run.resolve()] = (run, True)
            continue
        for run in several:
            found.setdefault(run.resolve(), (run, False))
    return dict(found.values())


def _may_be_one(path: Path) -> bool:
    """Whether a pattern can mean it: a folder or a store, and not, say, the file of a tracker."""
    return path.is_dir() or path.suffix == ".sqlite"


def _is_run(path: Path) -> bool:
    from fimi.record.reader import STORE_NAME

    return path.is_file() or (path / STORE_NAME).exists()


def _below(path: Path) -> list[Path]:
    """The runs at and below a folder; an experiment is none of them."""
    from fimi.record.catalogue import find

    if _is_run(path):
        return [path]
    if (path / "results.json").exists():
        fail(
            f"{path} is an experiment: 'fimi experiment compare' lays experiments side by side; "
            f"to compare its runs as runs, name {path / 'runs'}",
            EXIT_CONFIG,
            "U001",
        )
    return [each for each in find(path) if _is_run(each)] if path.is_dir() else []


def _read(folders: dict[Path, bool], carbon: tuple[str, ...]) -> list[ComparableRun]:
    """The runs; of those that nobody named one that cannot be read is told and left out.

    Raises:
        ReportError: a run that was named cannot be read.
    """
    from fimi.record.carbon import with_carbon
    from fimi.record.reader import ReportError, read_run
    from fimi.report.collection.grouping import comparable

    # as JSON has them, which is how stores keep them
    defaults = msgspec.json.decode(msgspec.json.encode(configuration.values(Config())))
    runs = []
    for (folder, was_named), name in zip(folders.items(), _names([*folders]), strict=True):
        try:
            run = read_run(folder)
        except ReportError as error:
            if was_named:
                raise
            click.echo(f"left out: {error}", err=True)
            continue
        given = checked(carbon, run.info.config) if carbon else {}
        runs.append(comparable(with_carbon(run, given), name, defaults))
    return runs


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of paths that tell them apart."""
    whole = [folder.resolve().parts for folder in folders]
    names = []
    for parts in whole:
        count = 1
        while sum(other[-count:] == parts[-count:] for other in whole) > 1 and count < len(parts):
            count += 1
        names.append("/".join(parts[-count:]))
    return names
