"""A terminal that remembers what it is told."""

from __future__ import annotations

from pathlib import Path

from fimi.monitor.watcher import Watcher
from fimi.record.events import Event


class Told:
    wants_telemetry = False

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.said: list[str] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def say(self, text: str) -> None:
        self.said.append(text)

    def tell(self, text: str) -> None:
        self.said.append(text)

    def watch(self, watcher: Watcher, folder: Path) -> None:
        self.watched = (watcher, folder)
