"""Which means caps the frequency: cpufreq, a power mode, or a share of time as a last resort."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from energy.control.cpu_quota import CpuQuota
from energy.control.cpufreq import CpuFrequency, FrequencyCap
from energy.control.journal import Journal
from energy.control.nvpmodel import PowerModes
from energy.control.programs import Run, run_program

Choice = Literal["auto", "cpufreq", "nvpmodel", "duty-cycle", "none"]


class _Means(Protocol):
    def cap(self, frequency_hz: float) -> FrequencyCap: ...


class FrequencyControl:
    """Caps the frequency of this machine.

    Args:
        root: of the file system.
        journal: remembers what was there.
        choice: the means; ``auto`` tries cpufreq, then power modes, then a duty cycle.
        frequency_max_hz: the processor's highest frequency.
        run: runs programs.
    """

    def __init__(
        self,
        root: Path,
        journal: Journal,
        *,
        choice: Choice = "auto",
        frequency_max_hz: float,
        run: Run = run_program,
    ) -> None:
        self.cpufreq = CpuFrequency(root, journal)
        self._choice = choice
        means: dict[str, _Means] = {
            "cpufreq": self.cpufreq,
            "nvpmodel": PowerModes(root, journal, run),
            "duty-cycle": CpuQuota(root, journal, frequency_max_hz=frequency_max_hz),
        }
        self._means = [each for name, each in means.items() if choice in ("auto", name)]

    def cap(self, frequency_hz: float) -> FrequencyCap:
        """Cap the frequency by the first means that can; the notes say why others could not."""
        notes: list[str] = []
        for means in self._means:
            cap = means.cap(frequency_hz)
            notes += cap.notes
            if cap.applied:
                return FrequencyCap(
                    frequency_hz=cap.frequency_hz,
                    applied=True,
                    means=cap.means,
                    notes=tuple(notes),
                )
        if not self._means:
            notes.append('the frequency stays as it is: frequency_control = "none"')
        return FrequencyCap(
            frequency_hz=self.cpufreq.in_force_hz(), applied=False, notes=tuple(notes)
        )
