"""Capping the clock of a GPU through the kernel's devfreq files, and restoring it.

A GPU is a folder of ``/sys/class/devfreq``: ``57000000.gpu`` on a Jetson Nano and TX1,
``17000000.gp10b`` on a TX2, ``17000000.gv11b`` on a Xavier, ``17000000.ga10b`` (JetPack 5) or
``17000000.gpu`` (JetPack 6) on an Orin, ``gpu-gpc-0`` on a Thor, ``ff9a0000.gpu`` for a Mali. All
values are Hz, other than cpufreq's kHz. A cap is ``max_freq``; the governor chooses below it.

Pitfalls, from the kernel's sources and public reports: older kernels (those of JetPack 4) refuse a
``max_freq`` below ``min_freq`` and the reverse, newer ones accept both and show the result of all
wishes, rounded to kHz. A value between two of ``available_frequencies`` is rounded. With some
governors the files answer "permission denied" to root too. On some boots the folder of an Orin's
GPU is missing. A GPU that lists no clocks, or only one, is no variable of a plan.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from fimi.energy.control.clamps import clamp_of_gpu
from fimi.energy.control.journal import Journal
from fimi.energy.control.refusals import forbidden, refusal
from fimi.energy.sysfs import read_count, read_text, why_unreadable

FOLDER = "sys/class/devfreq"
FLOOR, CEILING = "min_freq", "max_freq"
_GPU = re.compile(r"(gpu|gp10b|gv11b|ga10b)")
_NO_GPU = re.compile(r"nvd|emc|memory")
"""A Thor's video engines, and the memory of a GPU, which have the GPU in their names."""


class ClockCap(NamedTuple):
    """The result of setting a cap.

    Attributes:
        frequency_hz: the cap in force; ``None`` if unknown.
        note: what could not be done and why; empty if it was done.
        clamped: whether the cap was taken and a lower limit is in force; the note says whose.
    """

    frequency_hz: float | None
    note: str = ""
    clamped: bool = False


class GpuClock:
    """The GPU of this machine that has a clock; a journal writes its files."""

    def __init__(self, root: Path, journal: Journal) -> None:
        self._root = root
        self._folder = root / FOLDER
        self._journal = journal

    def gpu(self) -> Path | None:
        """The folder of the GPU, the first by name; ``None`` if there is none with clocks."""
        if not self._folder.is_dir():
            return None
        for folder in sorted(self._folder.iterdir()):
            name = folder.name
            if _GPU.search(name) and not _NO_GPU.search(name) and len(_clocks(folder)) > 1:
                return folder
        return None

    def clocks_hz(self) -> tuple[float, ...]:
        """The clocks that can be set, ascending, Hz; none where there is no such GPU."""
        gpu = self.gpu()
        return () if gpu is None else tuple(map(float, _clocks(gpu)))

    def in_force_hz(self) -> float | None:
        """The cap in force, Hz; ``None`` if it cannot be read."""
        gpu = self.gpu()
        return None if gpu is None or (cap := read_count(gpu / CEILING)) is None else float(cap)

    def now_hz(self) -> float | None:
        """The present clock, Hz; ``None`` if it cannot be read, or if the GPU is off."""
        gpu = self.gpu()
        return None if gpu is None else float(read_count(gpu / "cur_freq") or 0) or None

    def why_not(self, frequency_hz: float) -> str:
        """Why this cap cannot be set, as far as the files show; empty if it can, or is in force."""
        gpu = self.gpu()
        if gpu is None:
            return f"no GPU under {self._folder} lists clocks that can be set"
        if _close(self.in_force_hz(), _at_least(gpu, frequency_hz)):
            return ""
        for path in (gpu / CEILING, gpu / FLOOR):
            if why := forbidden(path):
                return f"{path} {why.why}"
        if not self._journal.writable:
            return f"{self._journal.path} cannot be written, and nothing is changed without it"
        return ""

    def cap(self, frequency_hz: float) -> ClockCap:
        """Cap the clock at the lowest one that is not below ``frequency_hz``, and read it back."""
        gpu = self.gpu()
        if gpu is None:
            return ClockCap(None, f"no GPU under {self._folder} lists clocks that can be set")
        target, floor, before = _at_least(gpu, frequency_hz), gpu / FLOOR, gpu / CEILING
        if read_count(before) is None:
            return ClockCap(None, f"{before} {why_unreadable(before)}: the clock stays as it is")
        writing = before
        try:
            self._journal.claim()
            if (lowest := read_count(floor)) is not None and lowest > target:
                writing = floor
                self._journal.write(floor, str(target))
                writing = before
            if not _close(self.in_force_hz(), target):
                self._journal.write(before, str(target))
        except OSError as error:
            why = [refusal(error, f"{target} Hz").about(error.filename or writing)]
            return ClockCap(self.in_force_hz(), "; ".join(why + self._put_back()))
        if _close(found := self.in_force_hz(), target):
            return ClockCap(found)
        if found is not None and found < target:
            said = clamp_of_gpu(self._root).said("GPU", found, target)
            return ClockCap(found, said, clamped=True)
        shown = why_unreadable(before) if found is None else f"reads back {found:.0f} Hz"
        why = [
            f"{before} was set to {target} Hz and {shown}: the kernel or a power mode overrules it"
        ]
        why += self._put_back()
        return ClockCap(self.in_force_hz(), "; ".join(why))

    def _put_back(self) -> list[str]:
        """Undo what was written to the GPU's files: half a cap is none."""
        return self._journal.put_back(lambda change: change.target.startswith(FOLDER))


def _clocks(gpu: Path) -> list[int]:
    listed = read_text(gpu / "available_frequencies") or ""
    return sorted({int(word) for word in listed.split() if word.isdecimal() and int(word) > 0})


def _at_least(gpu: Path, frequency_hz: float) -> int:
    clocks = _clocks(gpu)
    return next((each for each in clocks if each >= frequency_hz * (1.0 - 1e-6)), clocks[-1])


def _close(found_hz: float | None, wanted_hz: float) -> bool:
    """Whether a clock reads back as it was set, but for the rounding to kHz."""
    return found_hz is not None and abs(found_hz - wanted_hz) <= 0.005 * wanted_hz
