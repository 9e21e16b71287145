"""The cores that this process may run on: a setting of its own threads, for which it needs no root.

The fastest cores are taken. Threads that begin later inherit the choice of the one that starts
them. It ends with the process, so no journal is needed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from fimi.energy.sysfs import read_count


class CpuAffinity:
    """The cores of this process.

    Args:
        root: where the speeds of the cores are read.
        threads: folder with one entry for each thread of this process.
    """

    def __init__(self, root: Path, threads: Path = Path("/proc/self/task")) -> None:
        self._root = root
        self._threads = threads
        self._before: frozenset[int] | None = None

    def allowed(self) -> frozenset[int]:
        """The cores that this process might use without a limit of ours; none if unknown."""
        if self._before is not None:
            return self._before
        if not hasattr(os, "sched_getaffinity"):
            return frozenset()
        return frozenset(os.sched_getaffinity(0))

    def count(self) -> int | None:
        """The number of cores that this process may use now; ``None`` if unknown."""
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None

    def why_not(self, cores: int) -> str:
        """Why this process cannot use so many cores; empty if it can."""
        allowed = self.allowed()
        if not allowed:
            return "this system does not tell which cores a process may use"
        if cores > len(allowed):
            return f"{cores} cores are asked for and this process may use {len(allowed)}"
        return ""

    def limit(self, cores: int) -> str:
        """Run on so many cores, the fastest ones; returns what went wrong, or nothing."""
        if why := self.why_not(cores):
            return why
        allowed = self.allowed()
        fastest = sorted(allowed, key=lambda core: (-self._speed_khz(core), core))[:cores]
        try:
            self._set(fastest)
        except OSError as error:
            return f"the cores of this process cannot be chosen ({error.strerror})"
        self._before = allowed
        found = os.sched_getaffinity(0)
        if found != set(fastest):
            return f"cores {sorted(fastest)} were chosen and {sorted(found)} are in force"
        return ""

    def lift(self) -> None:
        """Give back all cores."""
        if self._before is not None:
            with contextlib.suppress(OSError):
                self._set(self._before)
            self._before = None

    def _set(self, cores: Iterable[int]) -> None:
        chosen = set(cores)
        os.sched_setaffinity(0, chosen)
        for entry in self._threads.glob("*"):
            # A thread may have ended meanwhile.
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.sched_setaffinity(int(entry.name), chosen)

    def _speed_khz(self, core: int) -> int:
        folder = self._root / "sys/devices/system/cpu" / f"cpu{core}" / "cpufreq"
        return read_count(folder / "cpuinfo_max_freq") or 0
