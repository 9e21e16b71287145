"""What a dashboard asks of its run, beside snapshots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from fimi.monitor.snapshot import Snapshot


class NotNow(Exception):  # noqa: N818 - not an error of anybody
    """What was asked for is not there at present; says why."""


class NoHooks:
    """Of what takes no requests and keeps no readings."""

    def trace(self, device: str, number: int) -> Any:
        """There is none."""
        raise NotNow(f"no readings of {device} in round {number} are kept here")

    def control(self, body: bytes) -> Any:
        """Nobody can act."""
        raise NotNow(
            "an experiment and its runs take no requests; Ctrl-C ends an experiment, and the same "
            "command goes on with it"
        )

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """There are none."""
        raise NotNow("there are no metrics here")


class MetricHooks(NoHooks):
    """The same, with metrics.

    Args:
        take: gives the present snapshot.
    """

    def __init__(self, take: Callable[[], Snapshot]) -> None:
        self._take = take

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """Figures for Prometheus."""
        try:
            from fimi.monitor.metrics.exposition import metrics
        except ImportError as error:
            raise NotNow(f"no metrics: {error.name} is not installed") from error
        return metrics(self._take(), accept)


class Hooks(Protocol):
    """Is called on worker threads; each may raise :class:`NotNow`."""

    def trace(self, device: str, number: int) -> Any:
        """The power of a device in a round, with its phases, as something that msgspec encodes."""

    def control(self, body: bytes) -> Any:
        """Answer a request of an experimenter, a JSON document.

        Raises:
            ValueError: it is no such request.
        """

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """Figures for other tools, and their media type.

        Args:
            accept: the media types that are asked for, as HTTP has it.
        """
