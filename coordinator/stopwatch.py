"""Where a run's wall time goes, seen from the coordinator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds up the wall time of named stages, which do not overlap."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Everything inside counts for ``name``, also if it fails."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            passed_s = time.monotonic() - began_s
            self.seconds[name] = self.seconds.get(name, 0.0) + passed_s
