"""A picture on the terminal that is drawn anew as things go on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

from rich.console import Console, RenderableType
from rich.live import Live

P = TypeVar("P", bound="Picture")


class Picture(ABC):
    """Drawn four times a second while its ``with`` block lasts, gone afterwards.

    Args:
        console: a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._live = Live(
            console=console, refresh_per_second=4, get_renderable=self._draw, transient=True
        )

    def __enter__(self: P) -> P:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, traceback)

    @abstractmethod
    def _draw(self) -> RenderableType:
        """How things are."""
