"""``fimi fleet status --watch``: the table, drawn again on the same place of a terminal."""

from __future__ import annotations

import sys
import threading

from rich.console import Console as Terminal
from rich.live import Live
from rich.text import Text

from fimi.messaging.console import Console
from fimi.report.layout import Paper
from fimi.testbed.fleet import status

_AROUND = 10
"""Lines besides those of boards and problems."""


def watch(console: Console, stop: threading.Event, every_s: float) -> None:
    """Look and draw until ``stop`` is set; the last look stays on the terminal.

    Args:
        console: the fleet.
        stop: ends it.
        every_s: time between two looks, s.
    """
    terminal = Terminal()
    with Live(console=terminal, auto_refresh=False, vertical_overflow="crop") as live:
        while not stop.is_set():
            paper = Paper.of(sys.stdout)._replace(width=max(40, terminal.width))
            most = max(2, (terminal.height - _AROUND) // 2)
            text = "\n".join(status.now(console, paper, most=most))
            live.update(Text.from_ansi(text, no_wrap=True), refresh=True)
            stop.wait(every_s)
