"""A dashboard of what this process does, where one is asked for and can be had."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fimi.monitor.server.hooks import Hooks
    from fimi.monitor.server.service import Watched
    from fimi.testbed.commands.dashboard import Place


def open_dashboard(
    stack: ExitStack,
    watched: Watched,
    hooks: Hooks,
    *,
    folder: Path,
    place: Place,
    say: Callable[[str], None],
    tell: Callable[[str], None],
    keeps_up: bool = False,
    failed: Callable[[], None] = lambda: None,
) -> bool:
    """Open a dashboard; why there is none is said.

    Args:
        stack: closes it.
        watched: the run or experiment that it shows.
        hooks: what that gives beside snapshots.
        folder: gets the file that says where the dashboard is.
        place: where it listens.
        say: called with a line for everybody.
        tell: called with its address, whose key is not for all who look.
        keeps_up: as :class:`~fimi.monitor.server.service.Dashboard` has it.
        failed: likewise.

    Returns:
        Whether there is one.
    """
    try:
        from fimi.monitor.server.service import Dashboard
    except ImportError as error:
        say(f"no dashboard: {error.name} is not installed")
        return False
    served = stack.enter_context(
        Dashboard(
            watched,
            hooks,
            folder=folder,
            host=place.host,
            port=place.port,
            say=say,
            keeps_up=keeps_up,
            failed=failed,
        )
    )
    if served.url:
        tell(f"dashboard: {served.url}")
    return bool(served.url)
