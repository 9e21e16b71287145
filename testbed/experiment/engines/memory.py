"""Memory of a process with its descendants, and whether one more run fits.

:class:`Need` learns the memory of a run from those that run. Before the first measurement it uses
the declared value, or a cautious guess.
"""

from __future__ import annotations

from collections.abc import Iterable

import psutil

GUESS_BYTES = 1.5e9
"""Assumed memory of a run before any has been measured, bytes."""
SPARE_BYTES = 0.5e9
"""Memory that is left for everything else on the machine, bytes."""


def family_bytes(pid: int) -> float:
    """Memory of a process and its descendants, bytes; shared pages count once if possible."""
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return 0.0
    taken = 0.0
    for process in family:
        try:
            sizes = process.memory_full_info()
            taken += float(getattr(sizes, "pss", sizes.rss))
        except (psutil.Error, OSError):
            continue
    return taken


class Need:
    """The largest memory of one run.

    Args:
        declared_gb: value of the experiment file, GB; 0: to be measured.
    """

    def __init__(self, declared_gb: float = 0.0) -> None:
        self._declared = declared_gb * 1e9
        self._peak = 0.0
        self._whole = False

    def seen(self, size_bytes: float, *, ended: bool = False) -> None:
        """Learn the peak of a run so far, or of one that has ended."""
        self._peak = max(self._peak, size_bytes)
        self._whole |= ended and size_bytes > 0

    @property
    def size_bytes(self) -> float:
        """Memory to reserve for one run, bytes."""
        if self._declared:
            return self._declared
        return self._peak if self._whole else max(self._peak, GUESS_BYTES)

    def fits(self, available_bytes: float, running_bytes: Iterable[float]) -> bool:
        """Whether there is room for one more.

        Args:
            available_bytes: memory that is available now.
            running_bytes: present memory of each run; its possible growth is reserved.
        """
        need = self.size_bytes
        growth = sum(max(0.0, need - now) for now in running_bytes)
        return available_bytes - growth - SPARE_BYTES >= need
