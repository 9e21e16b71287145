"""``fimi experiment compare``: experiments side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

from fimi.files import write_whole
from fimi.record.clean import clean
from fimi.testbed.commands.base import Command
from fimi.testbed.commands.shared import EXIT_FEDERATION, errors, fail, result_format

_MOST = 20
"""Values that are not equal, after which the rest is counted."""


@click.command(cls=Command)
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("others", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--same", is_flag=True, help="Exit with 5 unless the tables are equal, all digits.")
@click.option("--html", type=click.Path(path_type=Path), help="Also write this page.")
@result_format("text", "markdown", "latex", "json")
def compare(
    first: Path,
    others: tuple[Path, ...],
    same: bool,
    html: Path | None,
    output: Literal["text", "markdown", "latex", "json"],
) -> None:
    """Lay experiments side by side.

    FIRST and OTHERS are their folders, or their results.json: the same file in emulation and on
    boards, or on another engine. Shown are accuracy, costs, metered and predicted joules of every
    strategy, and what differs besides.
    """
    from fimi.report.comparison import side_tables
    from fimi.report.comparison.differences import unequal
    from fimi.report.comparison.side_by_side import lay
    from fimi.report.comparison.side_page import side_page
    from fimi.report.comparison.stored import read_result
    from fimi.report.layout import Paper

    with errors():
        results = [read_result(path) for path in (first, *others)]
        laid = lay(results)
        found = [unequal(results[0], other) for other in results[1:]] if same else None
        if html is not None:
            write_whole(html, side_page(laid))
    if output == "json":
        click.echo(side_tables.side_json(laid, found), nl=False)
    elif output == "markdown":
        click.echo(side_tables.side_markdown(laid), nl=False)
    elif output == "latex":
        click.echo(side_tables.side_latex(laid), nl=False)
    else:
        click.echo(side_tables.side_text(laid, Paper.of(sys.stdout)))
    if found is None:
        return
    for path, places in zip(others, found, strict=True):
        for place in places[:_MOST]:
            click.echo(f"{first} and {path}: {clean(place, 500)}", err=True)
        if len(places) > _MOST:
            click.echo(f"… and {len(places) - _MOST} more", err=True)
    if count := sum(map(len, found)):
        fail(f"the tables are not the same: {count} values differ", EXIT_FEDERATION, "X003")
    click.echo("the tables are the same to the last digit", err=True)
