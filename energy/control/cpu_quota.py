"""A share of the processor's time through cgroup v2: a duty cycle, used as the last resort.

``cpu.max`` lets the agent run for part of every period and stops it for the rest. The work takes as
long as it would at the planned frequency. Clock and voltage stay as they are, so the energy of a
cycle does not fall with the square of a frequency. It is labelled ``duty-cycle``, and is never
reported as a frequency.
"""

from __future__ import annotations

import os
from pathlib import Path

from fimi.energy.control.cpufreq import FrequencyCap, refused
from fimi.energy.control.journal import Journal
from fimi.energy.control.refusals import forbidden, refusal
from fimi.energy.sysfs import own_cgroup, read_text, why_unreadable

PERIOD_US = 100_000


class CpuQuota:
    """The quota of the cgroup that this process is in.

    Args:
        frequency_max_hz: the highest frequency of the processor; it stands for all of its time.
        cpus: over how many processors the time is counted.
    """

    def __init__(
        self,
        root: Path,
        journal: Journal,
        *,
        frequency_max_hz: float,
        cpus: int | None = None,
    ) -> None:
        self._root = root
        self._journal = journal
        self._frequency_max_hz = frequency_max_hz
        self._cpus = cpus or len(os.sched_getaffinity(0))

    def cap(self, frequency_hz: float) -> FrequencyCap:
        """Limit this process to the share ``frequency_hz`` / ``frequency_max_hz`` of the time."""
        return self.limit(min(1.0, frequency_hz / self._frequency_max_hz))

    def why_not(self) -> str:
        """Why there is no quota here, as far as the files show; empty if there is."""
        folder = own_cgroup(self._root)
        if folder is None or not (folder / "cpu.max").exists():
            return "this process is in no cgroup (v2) with a cpu.max"
        if why := forbidden(folder / "cpu.max"):
            return f"{folder / 'cpu.max'} {why.why}"
        others = set((read_text(folder / "cgroup.procs") or "").split()) - {str(os.getpid())}
        return f"{len(others)} other processes are in {folder}" if others else ""

    def limit(self, share: float) -> FrequencyCap:
        """Limit this process to a share of the processors' time, above 0 and at most 1."""
        folder = own_cgroup(self._root)
        if folder is None or not (folder / "cpu.max").exists():
            return refused(
                "no CPU quota: this process is in no cgroup (v2) with a cpu.max; start it with "
                "systemd-run --scope -p Delegate=yes fimi agent run …"
            )
        others = set((read_text(folder / "cgroup.procs") or "").split()) - {str(os.getpid())}
        if others:
            return refused(
                f"no CPU quota: {len(others)} other processes are in {folder} and would be slowed "
                "down too; start the agent with systemd-run --scope -p Delegate=yes"
            )
        quota_us = max(1000, round(share * self._cpus * PERIOD_US))
        file = folder / "cpu.max"
        try:
            self._journal.write(file, f"{quota_us} {PERIOD_US}")
        except OSError as error:
            why = refusal(error, f"{quota_us} {PERIOD_US}")
            return refused(why.about(error.filename or file))
        if (now := read_text(file)) != f"{quota_us} {PERIOD_US}":
            now = why_unreadable(file) if now is None else f"reads back {now!r}"
            return refused(f"{file} was set to {quota_us} {PERIOD_US} and {now}")
        return FrequencyCap(
            frequency_hz=None,
            applied=True,
            means="duty-cycle",
            notes=(
                f"the agent runs {share:.0%} of the time at full clock (cpu.max {quota_us} "
                f"{PERIOD_US}): a duty cycle, whose energy does not follow κ f²",
            ),
        )
