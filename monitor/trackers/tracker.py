"""What a tracker is: four calls, on one thread, in this order.

A tracker is a class with a name and the calls of :class:`Tracker`. It imports its tool when it
begins, so that a tool that is not installed is a failure like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

Figures = Mapping[str, float]
"""Numbers by name (:mod:`fimi.monitor.trackers.figures`)."""


class Tracked(Struct, frozen=True, kw_only=True):
    """The run that a tracker is told of.

    Attributes:
        name: of the run.
        instance: its random id, the same for a run that is gone on with.
        after_round: the last round that earlier processes have stored; 0 for a run that begins now.
        about: what else tells it from others: strategy, seed, data, versions; texts by name.
        config: its configuration, dotted key to value.
    """

    name: str
    instance: str
    after_round: int = 0
    about: Mapping[str, str] = {}
    config: Mapping[str, Any] = {}


class Tracker(Protocol):
    """One tracker. Whatever it raises, the run goes on without it.

    Attributes:
        name: of the tool, for people.
        extra: of the package, which installs the tool.
        place: where it writes, for people.
    """

    name: str
    extra: str
    place: str

    def begin(self, run: Tracked) -> int:
        """A run begins, or is gone on with.

        Returns:
            The last round that it has, of those that are stored; it is told the stored ones after
            it, which an earlier process was killed over. 0: none.
        """

    def round(self, number: int, figures: Figures) -> None:
        """A round is over; each number, from 1, is told once."""

    def end(self, status: str, figures: Figures, files: Sequence[Path]) -> None:
        """The run is over.

        Args:
            status: ``completed``, ``interrupted`` or ``failed``.
            figures: of the whole run.
            files: what it has left: report and models.
        """
