"""The command ``fimi explain``: what the code of an error means, without a network."""

from __future__ import annotations

import difflib
import re
import sys

import click

from fimi.testbed.commands.base import Command
from fimi.testbed.commands.shared import EXIT_CONFIG, fail


@click.command(cls=Command)
@click.argument("code", required=False)
def explain(code: str | None) -> None:
    """Say what the code of an error means, its usual causes, and what to do.

    Errors end with a line such as error[B003]. Without CODE, all codes are listed.
    """
    from fimi.report.layout import Paper
    from fimi.testbed.explanations import as_text, explanations, subjects

    known = explanations()
    if code is None:
        for letter, subject in subjects().items():
            click.echo(f"{letter}: {subject}")
            for each, one in known.items():
                if each.startswith(letter) and not one.retired:
                    click.echo(f"  {each}  {one.title}")
        return
    found = re.fullmatch(r"(?:error)?\[?([A-Z]\d{1,9})\]?:?", code.strip(), re.IGNORECASE)
    meant = f"{found[1][0].upper()}{int(found[1][1:]):03d}" if found else code.upper()
    if meant not in known:
        near = difflib.get_close_matches(meant, known, n=3, cutoff=0.5)
        said = f"perhaps {', '.join(near)}?" if near else "a code is a letter and three digits."
        fail(f"there is no code {code!r}; {said} 'fimi explain' lists all", EXIT_CONFIG, "U001")
    click.echo(as_text(meant, Paper.of(sys.stdout)))
