"""``fimi agent doctor --step-load``, ``fimi agent compare-meters``: meters under a known load."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import msgspec

from fimi.energy.toml_text import quoted
from fimi.record.clean import clean
from fimi.testbed.commands.base import Command
from fimi.testbed.commands.interrupts import stop_on_signals
from fimi.testbed.commands.shared import (
    EXIT_CONFIG,
    EXIT_SURROUNDINGS,
    ROOT,
    errors,
    fail,
    result_format,
)

if TYPE_CHECKING:
    from fimi.energy.host_profile import HostProfile
    from fimi.energy.meters import Meter
    from fimi.energy.step_load.compare import Pair, Tried
    from fimi.energy.step_load.fit import Learned


def step_load(
    host_profile: Path | None, root: Path, output: Literal["text", "json"], *, store: bool
) -> None:
    """Learn the response of the meters that a profile chooses, and store it there."""
    from fimi.energy.clock import MonotonicClock
    from fimi.energy.meters.detect import MeterSettings, chosen_meters
    from fimi.energy.step_load.kept import keep
    from fimi.energy.step_load.trying import kept_of

    profile = _profile(host_profile)
    settings = profile.meters() if profile else MeterSettings()
    with errors(), contextlib.ExitStack() as opened:
        clock = MonotonicClock()
        meters = chosen_meters(settings, root, clock)
        for meter in meters:
            opened.enter_context(contextlib.closing(meter))
        stated = {meter.describe().source: meter.stated for meter in meters}
        tried = _run(meters, clock)[1]
    results: list[dict[str, Any]] = []
    lines: list[str] = []
    warnings: list[str] = []
    for each in tried:
        before = settings.responses.get(each.meter.source)
        found = each.learned
        body: dict[str, Any] = {"source": each.meter.source, "before": each.meter.response}
        if found is None:
            lines += [f"{each.meter.source}: nothing learned", f"  {each.problem}"]
            results.append({**body, "problem": each.problem})
            continue
        stored = ""
        if store and host_profile is not None:
            with errors():
                keep(host_profile, each.meter.source, kept_of(found, stated[each.meter.source]))
            stored = str(host_profile)
        differs = [] if before is None else _differences(before.response, found)
        if differs:
            warnings.append(
                f"{each.meter.source} is not as it was: {', '.join(differs)}, which is more than "
                "both uncertainties. Has its firmware, its setting or its place changed?"
            )
        lines += _learned_lines(each, found)
        if stored:
            lines.append(f"  stored in {stored}, [meter_response.{quoted(each.meter.source)}]")
        results.append({**body, "learned": found, "stored_in": stored, "changed": differs})
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(results)).decode())
    else:
        for line in lines:
            click.echo(clean(line, 1500))
        if not store:
            click.echo("\nnothing was stored (--no-store)")
        elif host_profile is None:
            click.echo("\nnothing was stored: name the board's profile with --host-profile FILE")
    for warning in warnings:
        click.echo(f"fimi: {clean(warning, 1000)}", err=True)
    sys.exit(0 if any(each.learned for each in tried) else EXIT_SURROUNDINGS)


@click.command("compare-meters", cls=Command)
@click.option(
    "--host-profile",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Profile with the meters' tables ([plug], [topic], meter_scope), where they need any.",
)
@click.option(
    "--meter",
    "names",
    multiple=True,
    metavar="NAME",
    help="A meter that 'fimi agent doctor' lists; at least twice. Left out: every one that can be "
    "read.",
)
@result_format("text", "json")
@ROOT
def compare_meters(
    host_profile: Path | None,
    names: tuple[str, ...],
    output: Literal["text", "json"],
    root: Path,
) -> None:
    """Run a known load and compare what the meters of this machine say of it.

    Reports gain, offset, delay, noise and disagreement of every pair, with a verdict. Takes seconds
    with chips, a minute or more with a plug. Exits with 3 if no pair could be compared.
    """
    from fimi.energy.clock import MonotonicClock
    from fimi.energy.meters.detect import MeterSettings, open_sum, usable
    from fimi.energy.step_load.compare import compare

    profile = _profile(host_profile)
    settings = profile.meters() if profile else MeterSettings()
    clock = MonotonicClock()
    with errors(), contextlib.ExitStack() as opened:
        wanted = names or usable(settings, root, clock)
        if len(set(wanted)) < 2:
            fail(
                f"there is nothing to compare: {', '.join(wanted) or 'no meter'} can be read here. "
                "fimi agent doctor says why others cannot",
                EXIT_SURROUNDINGS,
                "M008",
            )
        meters: list[Meter] = []
        for name in dict.fromkeys(wanted):
            meter = open_sum(name, settings, root, clock)
            opened.enter_context(contextlib.closing(meter))
            if meter.describe().source not in {each.describe().source for each in meters}:
                meters.append(meter)
        edges, tried = _run(meters, clock)
        pairs = compare(edges, tried)
    if output == "json":
        learned = [
            {"source": e.meter.source, "learned": e.learned, "problem": e.problem} for e in tried
        ]
        body = {"meters": learned, "pairs": pairs}
        click.echo(msgspec.json.format(msgspec.json.encode(body)).decode())
    else:
        for each in tried:
            lines = (
                _learned_lines(each, each.learned)
                if each.learned
                else [f"{each.meter.source}: nothing learned", f"  {each.problem}"]
            )
            for line in lines:
                click.echo(clean(line, 1500))
        for pair in pairs:
            click.echo()
            for line in _pair_lines(pair):
                click.echo(clean(line, 1500))
    sys.exit(0 if any(pair.gain is not None for pair in pairs) else EXIT_SURROUNDINGS)


def _profile(path: Path | None) -> HostProfile | None:
    from fimi.energy.host_profile import ProfileError, load_profile

    try:
        return load_profile(path) if path else None
    except ProfileError as error:
        fail(str(error), EXIT_CONFIG, error.code)


def _run(meters: Sequence[Meter], clock: Any) -> tuple[Any, Any]:
    """Run the load, with the time that is left on standard error."""
    from fimi.energy.step_load.trying import try_meters

    def announce(about_s: float, again: bool) -> None:
        said = (
            "a meter is later than it was taken for: once more with longer turns"
            if again
            else "all cores will be busy and at rest by turns"
        )
        click.echo(f"{said}, for about {about_s:.0f} s: do nothing else here meanwhile", err=True)

    with stop_on_signals() as stop, _countdown() as show:
        return try_meters(meters, clock, cancelled=stop.is_set, announce=announce, progress=show)


@contextlib.contextmanager
def _countdown() -> Iterator[Callable[[float], None]]:
    shown = sys.stderr.isatty()

    def show(left_s: float) -> None:
        if shown:
            click.echo(f"\r{left_s:5.0f} s left ", err=True, nl=False)

    try:
        yield show
    finally:
        if shown:
            click.echo("\r" + " " * 16 + "\r", err=True, nl=False)


def _differences(before: Any, found: Learned) -> list[str]:
    from fimi.energy.step_load.kept import changed

    return changed(before, found.response)


def _learned_lines(tried: Tried, found: Learned) -> list[str]:
    return [
        f"{found.source}: {found.response}",
        f"  before: {tried.meter.response}",
        f"  the load changes its power by {found.step_w:.3g} ± {found.step_sd_w:.1g} W from "
        f"{found.idle_w:.3g} W; its values scatter by {found.noise_w:.2g} W"
        + (f" and have steps of {found.resolution_w:.3g} W" if found.resolution_w else "")
        + f" ({found.values} values)",
    ]


def _pair_lines(pair: Pair) -> list[str]:
    lines = [f"{pair.first} ({pair.scopes[0]}) and {pair.second} ({pair.scopes[1]})"]
    if pair.gain is not None and pair.noise_w is not None:
        lines += [
            f"  gain          {pair.gain:.4f} ± {pair.gain_sd:.1g}, of the second over the first; "
            f"the meters' own are known within {100 * (pair.gains_sd or 0.0):.2g} %",
            f"  offset        {pair.offset_w:+.3g} ± {pair.offset_sd_w:.1g} W",
            f"  later         {pair.later_s:+.3g} ± {pair.later_sd_s:.1g} s, the second",
            f"  noise         {pair.noise_w[0]:.2g} W and {pair.noise_w[1]:.2g} W",
            f"  disagreement  {pair.disagreement_w:.2g} W, over {pair.turns} turns of the load",
        ]
    return [*lines, f"  {pair.verdict}"]
