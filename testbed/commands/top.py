"""``fimi top``: a run that goes on, in a terminal.

It asks the run's dashboard, on this machine by the file in the run folder, elsewhere by its
address.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from fimi.record.interventions import Request, login
from fimi.testbed.commands.base import Command
from fimi.testbed.commands.shared import EXIT_SURROUNDINGS, errors, fail
from fimi.testbed.nearest import nearest

if TYPE_CHECKING:
    from fimi.monitor.server.door import Door
    from fimi.monitor.snapshot import Snapshot
    from fimi.monitor.terminal.listener import FeedAddress

_FOLDERS = ("runs", "experiments")
"""Where runs and experiments are if nothing else is said."""


@click.command(cls=Command)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--url", help="Of a dashboard elsewhere, as its coordinator prints it, with ?key=…")
@click.option("--once", is_flag=True, help="Print the run as it is now, and end.")
@click.option(
    "--directory", default="", help="The folder of runs. Default: runs/ and experiments/."
)
def top(run: Path | None, url: str | None, once: bool, directory: str) -> None:
    """Look at a run, or an experiment, that goes on: devices, joules, events; ? names the keys.

    RUN is a name or a folder on this machine; left out, the one that goes on here. Without a
    terminal the run is printed once. Looking changes nothing: q and Ctrl-C end the display only.
    """
    from fimi.monitor.terminal.screen import can_be_drawn_on

    if run is not None and url is not None:
        raise click.UsageError("give RUN or --url, not both.")
    folders = (directory,) if directory else _FOLDERS
    with errors():
        folder = _folder(run, folders) if url is None else None
        given = _given(url) if url is not None else None

        def where() -> FeedAddress:
            return given if folder is None and given is not None else _address(folder or Path())

        if once or not can_be_drawn_on(sys.stdout):
            _print_once(where)
        else:
            _show(where, folder)


def _given(url: str) -> FeedAddress:
    from fimi.monitor.terminal.listener import FeedAddress

    return FeedAddress.of(url)


def _folder(run: Path | None, folders: tuple[str, ...]) -> Path:
    """The folder of the run that is meant; ends the command where there is none."""
    from fimi.monitor.server import door

    if run is not None:
        below = [each / run for each in (Path(), *map(Path, folders)) if (each / run).is_dir()]
        for path in sorted(below, key=lambda path: not (path / door.NAME).exists()):
            return path
        names = [each.name for path in folders for each in Path(path).glob("*/")]
        meant = nearest(run.name, names)
        said = f"did you mean {meant}?" if meant else f"name a folder below {folders[0]}/"
        fail(f"{run}: there is no run here; {said}", EXIT_SURROUNDINGS, "R004")
    found = sorted(each for below in folders for each in _going_on(Path(below)))
    if not found:
        fail(
            f"nothing goes on in {' or '.join(f'{each}/' for each in folders)} of this folder; "
            "name a run, or give --url with what its coordinator has printed",
            EXIT_SURROUNDINGS,
            "R015",
        )
    if len(found) == 1:
        return found[0]
    names = [str(each) for each in found]
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise click.UsageError(f"several go on here; name one: {', '.join(names)}.")
    for number, name in enumerate(names, 1):
        click.echo(f"{number:3}  {name}", err=True)
    chosen = click.prompt("which", type=click.IntRange(1, len(found)), err=True)
    return found[chosen - 1]


def _going_on(directory: Path) -> Iterator[Path]:
    """Folders whose dashboard's process lives."""
    from fimi.monitor.server import door

    for path in directory.glob(f"*/{door.NAME}"):
        try:
            found = door.find(path.parent)
        except door.NoDoorError:
            continue
        if _lives(found):
            yield path.parent


def _lives(found: Door) -> bool:
    if os.name != "posix" or found.elsewhere:
        return True  # the connection will tell
    try:
        os.kill(found.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _address(folder: Path) -> FeedAddress:
    """Where the dashboard of a run is at this moment.

    Raises:
        fimi.monitor.server.door.NoDoorError: it has none: it has ended.
        ConnectionError: its process was killed; it may be gone on with.
    """
    from fimi.monitor.server import door
    from fimi.monitor.terminal.listener import FeedAddress

    found = door.find(folder)
    if not _lives(found):
        from fimi.testbed.run_folder import way_on

        raise ConnectionError(
            f"the coordinator of {folder.name}, process {found.pid}, is gone without a word; "
            f"{way_on(folder)}"
        )
    return FeedAddress(url=found.url, key=found.key)


def _print_once(where: Callable[[], FeedAddress]) -> None:
    from fimi.monitor.server import door
    from fimi.monitor.terminal.listener import snapshot_at
    from fimi.monitor.terminal.picture import still
    from fimi.report.layout import Paper

    try:
        address = where()
    except ConnectionError as error:
        raise door.NoDoorError(str(error)) from error
    click.echo(still(snapshot_at(address), Paper.of(sys.stdout).width))


def _show(where: Callable[[], FeedAddress], folder: Path | None) -> None:
    """Draw until the run is over or the person leaves; the last state stays on the terminal."""
    from fimi.monitor.terminal.display import Display
    from fimi.monitor.terminal.listener import FeedListener

    def act(request: Request) -> str:
        from fimi.monitor.asking import Asking

        assert folder is not None
        return Asking(folder).ask(request, login("fimi top")).words

    with _ended_by_signals(), FeedListener(where) as listener:
        display = Display(
            sys.stdout, sys.stdin, listener.latest, link=listener.link, act=act if folder else None
        )
        try:
            with display.signals():
                display.run(lambda: listener.over)
        finally:
            _leave(listener.latest(), "" if listener.over else listener.link())
    if listener.over and listener.trouble:
        if listener.latest() is None:
            fail(listener.trouble, EXIT_SURROUNDINGS, "R018")
        click.echo(f"fimi: {listener.trouble}", err=True)


def _leave(snapshot: Snapshot | None, link: str) -> None:
    """Print the last state, as much of it as fits the terminal."""
    from fimi.monitor.terminal.picture import still
    from fimi.monitor.terminal.screen import Screen

    if snapshot is not None:
        width, height = Screen(sys.stdout).size
        with contextlib.suppress(OSError):  # the terminal may be gone
            click.echo(still(snapshot, width, max(8, height - 2), link))


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command in the orderly way, with the exit code of a shell."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
