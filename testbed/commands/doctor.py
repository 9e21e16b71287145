"""``fimi agent doctor`` and ``fimi agent restore``: checking and restoring a device's machine.

With ``--discover`` the doctor lists what announces itself at a broker instead, with ``--step-load``
it learns how late the meter is (:mod:`fimi.testbed.commands.step_load`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import msgspec

from fimi.plural import plural
from fimi.record.clean import clean
from fimi.report.layout import Marked, Paper, wrap
from fimi.testbed.commands.base import Command
from fimi.testbed.commands.reaching import (
    BROKER_IF_ANY,
    is_named,
    parsed,
    reach,
)
from fimi.testbed.commands.shared import (
    EXIT_CONFIG,
    EXIT_SURROUNDINGS,
    ROOT,
    code_of,
    fail,
    result_format,
)
from fimi.testbed.commands.step_load import step_load

if TYPE_CHECKING:
    from fimi.messaging.questions import Check

_MARKS = {
    "ok": Marked("ok", "good"),
    "absent": "–",
    "warning": Marked("warning", "warning"),
    "failure": Marked("FAILURE", "problem"),
}

_NAME_WIDTH = 18
_COPIED = re.compile(r"\b(sudo|fimi|pip3?|echo|dtoverlay) | = ")
"""What there is in a line that holds a command, or lines of a profile."""


@click.command(cls=Command)
@BROKER_IF_ANY
@click.option(
    "--host-profile",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Check what this profile asks for.",
)
@click.option(
    "--discover",
    is_flag=True,
    help="List plugs and meters that announce themselves at the broker, as lines for a profile: "
    "Tasmota, Shelly, Zigbee2MQTT, Home Assistant's discovery, fimi meter publish.",
)
@click.option(
    "--step-load",
    "step",
    is_flag=True,
    help="Learn how late the profile's meter is, with a load of known edges, and store that in the "
    "profile. Seconds for a chip, a minute or more for a plug.",
)
@click.option(
    "--no-store",
    is_flag=True,
    help="With --step-load: leave the profile as it is.",
)
@result_format("text", "json")
@ROOT
def doctor(
    url: str,
    host_profile: Path | None,
    discover: bool,
    step: bool,
    no_store: bool,
    output: Literal["text", "json"],
    root: Path,
) -> None:
    """Check whether this machine is ready to be a device, and say how to mend what is not.

    Exits with 0 if an agent can run, with 3 if something keeps it from running.
    """
    if discover:
        _discover(url, output)
        return
    if step:
        step_load(host_profile, root, output, store=not no_store)
        return
    from fimi.edge_agent.doctor import examine
    from fimi.edge_agent.doctor.machine import Machine
    from fimi.energy.host_profile import ProfileError, load_profile

    try:
        machine = Machine(
            root=root,
            profile=load_profile(host_profile) if host_profile else None,
            broker=parsed(url) if is_named(url) else None,
        )
    except (ProfileError, ValueError) as error:
        fail(str(error), EXIT_CONFIG, code_of(error, "M001"))
    checks = examine(machine)
    failures = sum(check.status == "failure" for check in checks)
    if output == "json":
        body = {"ready": not failures, "checks": checks}
        click.echo(msgspec.json.format(msgspec.json.encode(body)).decode())
    else:
        paper = Paper.of(sys.stdout)
        for line in _lines(checks, paper):
            click.echo(line)
        warnings = sum(check.status == "warning" for check in checks)
        click.echo(
            f"\n{plural(failures, 'failure')}, {plural(warnings, 'warning')}: "
            + ("an agent cannot run here" if failures else "an agent can run here")
        )
    sys.exit(EXIT_SURROUNDINGS if failures else 0)


def _lines(checks: Sequence[Check], paper: Paper) -> Iterator[str]:
    """The checks as text: names on the left; one that is long stands on a line of its own."""
    indent = 11 + min(_NAME_WIDTH, max(len(check.name) for check in checks))
    for check in checks:
        mark = _MARKS[check.status]
        name = f"{paper.ink(mark)}{'':{9 - len(mark)}}{check.name}"
        found = wrap(clean(check.found, 1000), paper.text_width - indent)
        if len(check.name) > _NAME_WIDTH:
            found = ["", *found]
        space = " " * (indent - 9 - len(check.name)) if found[0] else ""
        yield name + space + f"\n{'':{indent}}".join(found)
        if check.fix == check.found:
            continue
        for place, raw in enumerate(check.fix.splitlines()):
            line = clean(raw, len(raw))
            # What can be copied is not wrapped.
            whole = _COPIED.search(line)
            wrapped = [line] if whole else wrap(line, paper.text_width - 11)
            yield f"{'':9}{'  ' if place else '→ '}" + f"\n{'':11}".join(wrapped)


def _discover(url: str, output: Literal["text", "json"]) -> None:
    """Print what announces itself at a broker."""
    from fimi.edge_agent.discovery.listening import discover
    from fimi.testbed.commands.shared import errors

    if not url:
        raise click.UsageError("'--discover' needs '--broker', the URL of the plugs' broker.")
    with errors():
        # It only listens to plugs, most of which have no TLS, and says nothing of the fleet.
        address = reach(url, of_plugs=True)
        found = discover(address)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    if address.tls:
        click.echo("This broker was reached with TLS; [plug] and [topic] speak MQTT without it.\n")
    for each in found:
        shows = f": {each.shows}" if each.shows else ""
        click.echo(clean(f"# {each.maker}, {each.name}{shows}", 300))
        if each.note:
            click.echo(clean(f"# {each.note}", 1000))
        for line in each.lines:
            click.echo(clean(line, 1500))
        click.echo()
    useful = sum(bool(each.lines) for each in found)
    if useful:
        click.echo(
            "# The lines of one meter go at the end of the board's profile, beside its name and "
            "[board]\n# (docs/calibration.md, 'A host instead of an emulated board')\n"
        )
    click.echo(
        f"{plural(useful, 'meter')} to choose from on {address}"
        + (f", {plural(len(found) - useful, 'other device')}" if len(found) > useful else "")
        + (
            ""
            if found
            else ": nothing announces itself here within some seconds. MQTT is switched off in new "
            "plugs: enable it in their web page, with this broker"
        )
    )


@click.command(cls=Command)
@ROOT
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Folder of the journal. Left out: this user's.",
)
def restore(root: Path, state: Path | None) -> None:
    """Put back what a killed agent has left changed (frequency, power mode, rate caps)."""
    from fimi.energy.control.journal import Journal, SteeredElsewhereError, default_folder

    folder = state or default_folder(root)
    try:
        said = Journal(folder, root).recover()
    except SteeredElsewhereError:
        steered = f"an agent is running and steers this machine ({folder})"
        fail(steered, EXIT_SURROUNDINGS, "M007")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", EXIT_SURROUNDINGS, code_of(error))
    for line in said or ["nothing to put back"]:
        click.echo(line)
    if any(line.startswith("not ") for line in said):
        sys.exit(EXIT_SURROUNDINGS)
