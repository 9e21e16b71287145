"""``fimi plot``: figures for a paper, from a run or an experiment, their numbers beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fimi.files import write_whole
from fimi.testbed.commands.base import Command
from fimi.testbed.commands.shared import EXIT_CONFIG, EXIT_SURROUNDINGS, code_of, errors, fail

FORMATS = ("pdf", "svg", "png")


class _Length(click.ParamType[float]):
    """A length with its unit, in metres."""

    name = "LENGTH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        from fimi.report.plots.lengths import length_m

        try:
            return value if isinstance(value, float) else length_m(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(cls=Command)
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.argument("kinds", metavar="[KIND]...", nargs=-1)
@click.option("--list", "listed", is_flag=True, help="Say which figures there are.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="Left out: that of --out's ending, else pdf.",
)
@click.option("--width", type=_Length(), default="88mm", show_default=True, help="Of the figure.")
@click.option("--height", type=_Length(), help="Left out: what suits the figure.")
@click.option("--title/--no-title", default=False, help="Write its title above it.")
@click.option("--font", default="DejaVu Sans", show_default=True, help="A family installed here.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="File, or a folder for several. Left out: figures/ of the run.",
)
@click.option("--device", help="Of a power trace. Left out: the first one.")
@click.option(
    "--round", "number", type=click.IntRange(min=0), help="Of a power trace. Left out: 1."
)
@click.option("--point", metavar="KEY = VALUE", help="Grid point of an experiment with several.")
@click.option("--over", metavar="KEY", help="Grid key along the axis of cost.")
def plot(
    run: Path | None,
    kinds: tuple[str, ...],
    listed: bool,
    form: str | None,
    width: float,
    height: float | None,
    title: bool,
    font: str,
    out: Path | None,
    device: str | None,
    number: int | None,
    point: str | None,
    over: str | None,
) -> None:
    """Draw figures for a paper, always light, at their final size.

    RUN is a run, by its folder or name, or the folder of an experiment. KIND is a figure (see
    --list); several may be named. Beside each figure stands a CSV file with its numbers.
    """
    from fimi.report.plots.kinds import FigureChoice, figure_of, is_study, refuse_unused, sentences

    if listed:
        _list(sentences())
        return
    if run is None or not kinds:
        fail(
            "give a run and a figure: fimi plot RUN KIND; 'fimi plot --list' says which there are",
            EXIT_CONFIG,
            "U001",
        )
    if out is not None and out.suffix and len(kinds) > 1:
        fail(
            f"--out {out} is one file, for {len(kinds)} figures; name a folder", EXIT_CONFIG, "U001"
        )
    from fimi.report.plots.drawing import draw
    from fimi.report.plots.figure import as_csv
    from fimi.testbed.run_folder import find_run

    with errors():
        folder = run if is_study(run) else find_run(run)
        chosen = _format(form, out)
        choice = FigureChoice(device=device, round=number, point=point, over=over)
        refuse_unused(folder, kinds, choice)
        for kind in kinds:
            figure = figure_of(folder, kind, choice)
            drawn = draw(figure, chosen, width_m=width, height_m=height, title=title, font=font)
            target = _target(folder, out, kind, chosen)
            numbers = target.with_suffix(".csv")
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                write_whole(target, drawn)
                write_whole(numbers, as_csv(figure))
            except OSError as error:
                fail(
                    f"cannot write {target}: {error.strerror or error}",
                    EXIT_SURROUNDINGS,
                    code_of(error),
                )
            click.echo(f"{target}, {numbers.name}" + (f": {figure.note}" if figure.note else ""))


def _format(form: str | None, out: Path | None) -> Any:
    """The format that is meant; refuses two that differ."""
    ending = out.suffix.lower().lstrip(".") if out is not None else ""
    if ending and ending not in FORMATS:
        fail(f"--out {out}: no figure ends so; write {', '.join(FORMATS)}", EXIT_CONFIG, "U001")
    if form and ending and form != ending:
        fail(f"--format {form} and --out {out} differ; leave one of them out", EXIT_CONFIG, "U001")
    return form or ending or "pdf"


def _target(folder: Path, out: Path | None, kind: str, form: str) -> Path:
    if out is not None and out.suffix:
        return out
    home = folder if folder.is_dir() else folder.parent
    return (out if out is not None else home / "figures") / f"{kind}.{form}"


def _list(found: list[tuple[str, str, str]]) -> None:
    longest = max(len(name) for _, name, _ in found)
    for what in ("run", "experiment"):
        click.echo(f"Of {'a run' if what == 'run' else 'an experiment'}:")
        for of, name, says in found:
            if of == what:
                click.echo(f"  {name:{longest}}  {says}")
