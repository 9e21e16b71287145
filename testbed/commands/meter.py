"""``fimi meter``: a machine as a meter for boards beside it, and recordings of other tools."""

from __future__ import annotations

import contextlib
import logging
import math
import socket
from pathlib import Path
from typing import Any

import click

from fimi.testbed.commands.base import Command, Group, ServiceCommand
from fimi.testbed.commands.interrupts import stop_on_signals
from fimi.testbed.commands.reaching import BROKER, reach
from fimi.testbed.commands.shared import (
    EXIT_CONFIG,
    EXIT_SURROUNDINGS,
    ROOT,
    WordChoice,
    code_of,
    errors,
    fail,
)

log = logging.getLogger(__name__)


class _FiniteRange(click.FloatRange):
    """A range that a value which is not a number does not pass."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


@click.group(cls=Group)
def meter() -> None:
    """Meters elsewhere: publish this machine's, import the recordings of other tools."""


@meter.command("publish", cls=ServiceCommand)
@BROKER
@click.option(
    "--meter",
    "meters",
    multiple=True,
    required=True,
    metavar="METER[=NAME]",
    help="A meter that 'fimi agent doctor' lists, and the name under which it is published (left "
    "out: the names of this machine and of the meter). Several times for several meters.",
)
@click.option(
    "--rate",
    "rate_hz",
    type=_FiniteRange(0.01, 100.0),
    default=10.0,
    show_default=True,
    help="Readings a second, at most as many as the meter has new values.",
)
@click.option(
    "--host-profile",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Profile with the meter's tables ([plug], meter_scope), where it needs any; it may have "
    "these alone.",
)
@ROOT
def publish(
    url: str, meters: tuple[str, ...], rate_hz: float, host_profile: Path | None, root: Path
) -> None:
    """Read meters of this machine and publish them for the boards beside it, until Ctrl-C.

    A board reads one with the table that is printed, in its profile. Its readings carry the time
    at which they were made, so that the delay of the network does not blur phases.
    """
    from fimi.edge_agent.discovery.announced import table
    from fimi.edge_agent.meter_sender import MeterSender, topic_of
    from fimi.energy.clock import MonotonicClock
    from fimi.energy.host_profile import ProfileError, load_meters
    from fimi.energy.meters.detect import MeterSettings, open_meter

    try:
        settings = load_meters(host_profile) if host_profile else MeterSettings()
        named = [_named(text) for text in meters]
        topics = [topic_of(name) for _, name in named]
    except (ProfileError, ValueError) as error:
        fail(str(error), EXIT_CONFIG, code_of(error, "M002"))
    for topic in topics:
        if topics.count(topic) > 1:
            fail(f"two meters have the name {topic!r}; give each its own", EXIT_CONFIG, "U001")
    with errors(), stop_on_signals() as stop, contextlib.ExitStack() as opened:
        address = reach(url)
        senders = []
        for name, published in named:
            source = open_meter(name, settings, root, MonotonicClock())
            try:
                sender = MeterSender(source, published, address, rate_hz=rate_hz)
            except BaseException:
                source.close()
                raise
            senders.append(opened.enter_context(contextlib.closing(sender)))
            described = source.describe()
            log.info(
                "%s (%s, scope %s) at %g Hz on %s",
                described.source,
                described.kind,
                described.scope,
                sender.rate_hz,
                sender.topic,
            )
            own = address.host in ("127.0.0.1", "::1", "localhost")
            mind = "  # this machine, as the board sees it" if own else ""
            click.echo("# at the end of the metered board's profile, beside its name and [board]:")
            for line in table("topic", {"topic": sender.topic}, address):
                click.echo(line + (mind if line.startswith("host") else ""))
            click.echo()
        while not stop.wait(0.5):
            pass
        for sender in senders:
            log.info(
                "%s: %d readings published, %d of them without a value, %d dropped while the "
                "broker was away",
                sender.topic,
                sender.published,
                sender.failed,
                sender.dropped,
            )


def _named(text: str) -> tuple[str, str]:
    """The meter's name, and the name under which it is published."""
    name, _, published = text.partition("=")
    if not name:
        raise ValueError(f"--meter {text!r} names no meter; write it as METER or METER=NAME")
    if not published:
        words = f"{socket.gethostname()}-{name}"
        published = "".join(c if c.isalnum() or c in "._-" else "-" for c in words)
    return name, published


@meter.command("import", cls=Command)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--format",
    "kind",
    type=WordChoice(["auto", "tegrastats", "csv", "jtop", "codecarbon"]),
    default="auto",
    show_default=True,
    help="What wrote the file.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.csv",
    help="Write what 'replay' of a profile reads. Left out: only say what is in the file.",
)
@click.option(
    "--unit",
    type=WordChoice(["W", "mW", "kW", "uW", "J", "mJ", "kJ", "uJ", "Wh", "kWh", "mWh"]),
    help="Unit of the column, whatever its heading says.",
)
@click.option("--column", metavar="NAME", help="The column of power or energy.")
@click.option("--time-column", metavar="NAME", help="The column of times.")
@click.option(
    "--time-unit",
    type=WordChoice(["s", "ms", "us", "ns", "min", "h"]),
    help="Unit of this column, whatever its heading says.",
)
@click.option(
    "--rail",
    metavar="NAME[+NAME…]",
    help="Rails of tegrastats to add up. Left out: those that are the whole module.",
)
@click.option(
    "--interval",
    "interval_s",
    type=_FiniteRange(0.001, 3600.0),
    metavar="SECONDS",
    help="Time between two lines, where the file has no times (tegrastats of JetPack 4: 1).",
)
@click.option(
    "--timezone",
    "zone",
    metavar="ZONE",
    help="Zone of times without one, such as UTC or Europe/Berlin. Left out: this machine's.",
)
@click.option("--run", "run_id", metavar="ID", help="Which run of a CodeCarbon file (run_id).")
@click.option(
    "--holds/--no-holds",
    default=None,
    help="Whether a power holds until the next row, as where rows are written only when it "
    "changes, or goes there in a straight line (the default, unless rows look otherwise).",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
def import_(
    file: Path,
    kind: str,
    out: Path | None,
    unit: str | None,
    column: str | None,
    time_column: str | None,
    time_unit: str | None,
    rail: str | None,
    interval_s: float | None,
    zone: str | None,
    run_id: str | None,
    holds: bool | None,
    force: bool,
) -> None:
    """Read a recording of another tool, check its unit, and write it as a recording of fimi.

    Knows tegrastats (JetPack 4 to 7), CSV files with a column of times and one of power or energy,
    jtop and CodeCarbon. Lines that cannot be read are named and counted.
    """
    from fimi.energy.toml_text import quoted
    from fimi.testbed.recordings import importing
    from fimi.testbed.recordings.recording import ImportSettings

    if out is not None and out.exists() and file.exists() and out.samefile(file):
        fail(f"{out} is the file that is read; write to another", EXIT_CONFIG, "U002")
    if out is not None and out.exists() and not force:
        fail(f"{out} exists; --force replaces it", EXIT_CONFIG, "U002")
    with errors():
        settings = ImportSettings(
            unit=unit,
            column=column,
            time_column=time_column,
            time_unit=time_unit,
            rails=tuple(rail.split("+")) if rail else (),
            interval_s=interval_s,
            zone=zone,
            run=run_id,
            holds=holds,
        )
        recording = importing.read(file, kind, settings)
    for warning in recording.warnings():
        click.echo(f"fimi: {warning}", err=True)
    for line in recording.lines():
        click.echo(line)
    if out is not None:
        try:
            importing.write(recording, out)
        except OSError as error:
            fail(f"cannot write {out}: {error.strerror}", EXIT_SURROUNDINGS, code_of(error))
        click.echo(f'{out} written; in a profile:\nmeter = "replay"\nreplay = {quoted(str(out))}')
