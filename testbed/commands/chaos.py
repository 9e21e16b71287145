"""``fimi chaos``: faults on purpose, between peers and a broker, and to processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from fimi.testbed.commands.base import Command, Group, ServiceCommand
from fimi.testbed.commands.interrupts import stop_on_signals
from fimi.testbed.commands.reaching import BROKER_VARIABLE, BUNDLE_VARIABLE
from fimi.testbed.commands.shared import (
    EXIT_SURROUNDINGS,
    code_of,
    errors,
    fail,
    options,
)

if TYPE_CHECKING:
    from fimi.testbed.chaos.runner import Incident
    from fimi.testbed.chaos.script import Script

_BROKER = click.option(
    "--broker",
    "url",
    envvar=BROKER_VARIABLE,
    metavar="URL",
    default="",
    help="The broker behind the proxies, mqtt://user:password@host:1883 (or FIMI_BROKER).",
)
_LOG = click.option(
    "--log",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Append a line of JSON for every fault that begins or ends.",
)
_FOR = click.option(
    "--for",
    "for_s",
    type=click.FloatRange(min=0.0, min_open=True),
    metavar="SECONDS",
    help="End after so long. Left out: at Ctrl-C.",
)
_SCRIPT = click.argument("script", type=click.Path(path_type=Path, dir_okay=False))
_SEED = click.option("--seed", type=click.IntRange(0), help="In place of that of the script.")


@click.group(cls=Group)
def chaos() -> None:
    """Faults on purpose: bad links, killed processes, full disks. To see what a fleet makes of it.

    'fimi chaos example' prints a script with everything there is; docs/chaos.md explains it.
    """


@chaos.command("example", cls=Command)
def example() -> None:
    """Print a script that shows every key."""
    from fimi.testbed.chaos.script import EXAMPLE

    click.echo(EXAMPLE, nl=False)


@chaos.command("plan", cls=Command)
@_SCRIPT
@_SEED
@click.option(
    "--for", "for_s", type=click.FloatRange(min=0.0), default=300.0, show_default=True,
    metavar="SECONDS", help="Until when.",
)  # fmt: skip
def plan(script: Path, seed: int | None, for_s: float) -> None:
    """Print what a script will do, and when. Nothing is done."""
    from fimi.testbed.chaos.faults import kind_of_fault, target_of
    from fimi.testbed.chaos.script import read_script, timeline, with_seed

    with errors():
        read = with_seed(read_script(script), seed)
    for each in timeline(read):
        if each.at_s > for_s:
            break
        fault = read.fault[each.index]
        lasts = "" if each.for_s is None else f"for {each.for_s:.1f} s"
        click.echo(
            f"{each.at_s:9.1f} s  {kind_of_fault(fault):10} {target_of(fault):16} {lasts}".rstrip()
        )


@chaos.command("run", cls=ServiceCommand)
@_SCRIPT
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@options([_BROKER, _LOG, _FOR, _SEED])
def run(
    script: Path,
    command: tuple[str, ...],
    url: str,
    log: Path | None,
    for_s: float | None,
    seed: int | None,
) -> None:
    """Run a script of faults until Ctrl-C, or as long as COMMAND runs (behind --).

    The exit status is then that of COMMAND.

    \b
        fimi chaos run bad-wifi.toml --log faults.jsonl -- fimi coordinator run
    """  # noqa: D301 - click reads the control character
    from fimi.testbed.chaos.script import read_script, with_seed

    with errors():
        read = with_seed(read_script(script), seed)
    _run(read, url=url, log=log, for_s=for_s, command=command)


_RATE = click.FloatRange(1.0)
_SHARE = click.FloatRange(0.0, 1.0)
_FROM_0 = click.FloatRange(0.0)
_ABOVE_0 = click.FloatRange(0.0, min_open=True)


@chaos.command("proxy", cls=ServiceCommand)
@options([_BROKER])
@click.option(
    "--listen", default="127.0.0.1:0", show_default=True, metavar="HOST:PORT",
    help="Where peers connect; port 0 is a free one.",
)  # fmt: skip
@click.option("--up-bps", type=_RATE, help="Rate from the peers to the broker, bit/s.")
@click.option("--down-bps", type=_RATE, help="Rate back, bit/s.")
@click.option("--buffer-bytes", type=click.IntRange(2048), help="What waits before a slow link.")
@click.option("--delay-s", type=_FROM_0, default=0.0, help="Delay, each way, s.")
@click.option("--jitter-s", type=_FROM_0, default=0.0, help="Up to so much more, s.")
@click.option(
    "--cut-every-s", type=click.FloatRange(0.0, min_open=True), help="Reset all so often."
)
@click.option("--cut-for-s", type=_FROM_0, default=0.0, help="How long nobody gets in then, s.")
@click.option(
    "--duplicate", type=click.FloatRange(0.0, 1.0), default=0.0, help="Share of messages."
)
@click.option("--reorder", type=_SHARE, default=0.0, help="Share that later ones overtake.")
@options([_LOG, _FOR, _SEED])
def proxy(
    url: str,
    listen: str,
    up_bps: float | None,
    down_bps: float | None,
    buffer_bytes: int | None,
    delay_s: float,
    jitter_s: float,
    cut_every_s: float | None,
    cut_for_s: float,
    duplicate: float,
    reorder: float,
    log: Path | None,
    for_s: float | None,
    seed: int | None,
) -> None:
    """One bad link, without a script: a proxy before a broker.

    \b
        fimi chaos proxy --listen 127.0.0.1:1884 --up-bps 20e6 --down-bps 20e6 --cut-every-s 3
    """  # noqa: D301 - click reads the control character
    from fimi.testbed.chaos.faults import AnyFault, Cut, Messages
    from fimi.testbed.chaos.line import LinkShape
    from fimi.testbed.chaos.script import ProxyPart, Script

    shape = LinkShape(delay_s=min(delay_s, 60.0), jitter_s=min(jitter_s, 60.0))
    if buffer_bytes is not None:
        shape = replace(shape, buffer_bytes=buffer_bytes)
    part = ProxyPart(
        listen=listen, up=replace(shape, rate_bps=up_bps), down=replace(shape, rate_bps=down_bps)
    )
    faults: list[AnyFault] = []
    if cut_every_s is not None:
        faults.append(Cut(proxy="link", every_s=cut_every_s, for_s=cut_for_s))
    if duplicate or reorder:
        faults.append(Messages(proxy="link", at_s=0.0, duplicate=duplicate, reorder=reorder))
    script = Script(seed=seed or 0, proxy={"link": part}, fault=tuple(faults))
    _run(script, url=url, log=log, for_s=for_s, command=())


def _run(
    script: Script, *, url: str, log: Path | None, for_s: float | None, command: tuple[str, ...]
) -> None:
    from fimi.testbed.chaos.processes import through
    from fimi.testbed.chaos.runner import Chaos

    code = 0
    with (
        errors(),
        stop_on_signals() as stop,
        Chaos(script, broker=url, log=log, told=_say) as running,
    ):
        for name, each in running.proxies.items():
            host, port = each.address
            click.echo(f"proxy {name} listens on {host}:{port}")
            if url.startswith("mqtts:") and "@" not in url and "cert=" not in url:
                click.echo("  (TLS: a peer goes through it by 'bundle' and 'through' of a script)")
            elif url:
                click.echo(f"  export {BROKER_VARIABLE}='{through(url, each.address)}'")
        sys.stdout.flush()
        child = _start(command, url)

        def over() -> bool:
            return stop.is_set() or (child is not None and child.poll() is not None)

        try:
            running.run(over, for_s=float("inf") if for_s is None else for_s)
        finally:
            code = _ended(child)
    sys.exit(code)


def _start(command: tuple[str, ...], url: str) -> subprocess.Popen[bytes] | None:
    """Start the command behind ``--``; Ctrl-C in the terminal reaches it as well."""
    if not command:
        return None
    named = url and not os.environ.get(BUNDLE_VARIABLE)  # with that it is the proxies' broker only
    environment = {**os.environ, **({BROKER_VARIABLE: url} if named else {})}
    try:
        return subprocess.Popen(command, env=environment)
    except OSError as error:
        said = f"{command[0]!r} cannot be started: {error.strerror}"
        fail(said, EXIT_SURROUNDINGS, code_of(error))


def _ended(child: subprocess.Popen[bytes] | None) -> int:
    """Exit status of the command; it is asked to end if it still runs."""
    if child is None:
        return 0
    if child.poll() is None:
        child.terminate()
    try:
        code = child.wait(30.0)
    except subprocess.TimeoutExpired:
        child.kill()
        code = child.wait()
    return 128 - code if code < 0 else code


def _say(incident: Incident) -> None:
    """A line for people."""
    if incident.phase == "start":
        return
    words = " ".join(filter(None, (incident.kind, incident.target)))
    lasts = f" for {incident.for_s:.1f} s" if incident.for_s and incident.phase == "begin" else ""
    what = ", ".join(f"{key} {value}" for key, value in incident.what.items())
    if incident.phase == "stop":
        what = "; ".join(
            f"{name}: {each['accepted']} connections, {each['bytes_up']} B up, "
            f"{each['bytes_down']} B down"
            for name, each in incident.what.items()
        )
    click.echo(
        f"{incident.at_s:9.2f} s  {incident.phase:7} {words}{lasts}{': ' if what else ''}{what}"
    )
