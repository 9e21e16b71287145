"""``fimi bundle`` and ``fimi verify``: a run as one file, and whether such a file holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

from fimi.errors import InputError
from fimi.plural import plural
from fimi.record.clean import clean
from fimi.testbed.commands.base import Command
from fimi.testbed.commands.shared import errors, result_format

EXIT_DIFFERS = 1
"""What was looked at does not hold."""
_MARKS = {"holds": "holds", "fails": "FAILS", "unknown": "not known"}


@click.command(cls=Command)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write; <run>.zip if left out.",
)
@click.option(
    "--licence",
    "--license",
    "licence",
    default="",
    metavar="SPDX",
    help="Under which others may use it: an SPDX id such as CC-BY-4.0, an address, or a sentence.",
)
@click.option("--author", default="", help="Who made the run.")
@click.option("--orcid", default="", help="The author's ORCID iD.")
@click.option(
    "--date", default="", metavar="YYYY-MM-DD", help="Of publication; the run's if left out."
)
@click.option(
    "--hide-names",
    is_flag=True,
    help="Call devices device-001 and so on; hosts and users likewise.",
)
def bundle(
    run: Path,
    out: Path | None,
    licence: str,
    author: str,
    orcid: str,
    date: str,
    hide_names: bool,
) -> None:
    """Put a run into one file that can be given away.

    RUN is its name or folder. The file is an RO-Crate: run store, readings of the meters, tables,
    models, configuration, versions, digests. Passwords and folders of this machine are not in it.
    """
    from fimi.record.bundle.crate import About
    from fimi.record.bundle.making import make
    from fimi.report.words import byte_count
    from fimi.testbed.configuration.load import to_toml
    from fimi.testbed.run_folder import find_run

    with errors():
        about = About(licence=licence, author=author, orcid=_orcid(orcid), published=_date(date))
        run = find_run(run)
        folder = run if run.is_dir() else run.parent
        path = out or Path(f"{folder.resolve().name}.zip")
        made = make(run, path, about, toml=to_toml, names=not hide_names)
    click.echo(f"bundle   {made.path}: {byte_count(made.size_bytes)}, {made.files} files")
    click.echo(f"sha256   {made.digest}")
    rounds, devices = len(made.run.rounds), len(made.run.profiles)
    click.echo(
        f"run      {clean(made.run.info.run)}, {plural(rounds, 'round')}, readings of "
        f"{made.readings} of {plural(devices, 'device')}"
    )
    if not licence:
        click.echo("licence  none: nobody may use it without asking; --licence CC-BY-4.0 gives one")
    click.echo(f"check it with: fimi verify {made.path}")


@click.command(cls=Command)
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path))
@result_format("text", "json")
def verify(path: Path, output: Literal["text", "json"]) -> None:
    """Say whether a bundle holds: its files, and joules of devices, computed again from readings.

    BUNDLE is the zip, or a folder that it was unpacked into. Exits with 1 if something that can be
    checked does not hold. What cannot be computed again is named at the end: accuracies, for
    example, and what a server or a generator node took.
    """
    import msgspec

    from fimi.record.bundle.verify import verify as look
    from fimi.report.layout import Paper, entries

    with errors():
        found = look(path)
    if output == "json":
        told = {
            "holds": found.holds,
            "sha256": found.digest,
            "checks": msgspec.to_builtins(found.checks),
            "not_checked": list(found.not_checked),
        }
        click.echo(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
    else:
        paper = Paper.of(sys.stdout)
        rows: list[tuple[str, str]] = []
        for check in found.checks:
            rows.append((check.what, f"{_MARKS[check.verdict]}: {clean(check.words, 500)}"))
            rows += [("", clean(said, 500)) for said in check.details]
        titles = ["not checked", *[""] * len(found.not_checked)]
        rows += zip(titles, (clean(said, 500) for said in found.not_checked), strict=False)
        if found.digest:
            rows.append(("sha256", found.digest))
        click.echo(entries(rows, indent=13, paper=paper))
        click.echo(_verdict(found.holds, all(c.verdict == "holds" for c in found.checks)))
    if not found.holds:
        sys.exit(EXIT_DIFFERS)


def _verdict(holds: bool, whole: bool) -> str:
    if not holds:
        return "\nthe bundle does not hold"
    return "\nthe bundle holds" if whole else "\nthe bundle holds, as far as it can be checked"


def _orcid(said: str) -> str:
    """An ORCID iD as an address.

    Raises:
        InputError: it is none.
    """
    import re

    number = said.removeprefix("https://orcid.org/")
    if said and not re.fullmatch(r"\d{4}-\d{4}-\d{4}-\d{3}[\dX]", number):
        raise InputError(
            f"--orcid {said!r} is no ORCID iD; one looks like 0000-0002-1825-0097", code="U001"
        )
    return f"https://orcid.org/{number}" if said else ""


def _date(said: str) -> str:
    """A date, as it is.

    Raises:
        InputError: it is none.
    """
    from datetime import date

    try:
        return date.fromisoformat(said).isoformat() if said else ""
    except ValueError as error:
        raise InputError(
            f"--date {said!r} is no date; write it as 2026-11-30", code="U001"
        ) from error
