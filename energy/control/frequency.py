"""Which means caps the frequency, and which frequencies it can reach.

Cpufreq is tried first, then a power mode, and a share of the processor's time as a last resort.
Only the first two set a frequency. Where neither can, the frequency is fixed, and a plan must know
it: a device publishes :meth:`FrequencyControl.reachable`. Where operating points were measured, it
publishes those that :mod:`fimi.energy.control.setting` can set here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from msgspec.structs import replace

from fimi.energy.control.cpu_quota import CpuQuota
from fimi.energy.control.cpufreq import CpuFrequency, FrequencyCap
from fimi.energy.control.journal import Journal
from fimi.energy.control.nvpmodel import PowerModes
from fimi.energy.control.programs import Run, run_program
from fimi.energy.control.setting import AppliedSetting, SettingControl
from fimi.energy.cost_model import ComputeModel, ComputeSetting

Choice = Literal["auto", "cpufreq", "nvpmodel", "duty-cycle", "none"]


class Reach(NamedTuple):
    """What a plan may ask of this machine's processor.

    Attributes:
        compute: cost parameters with the frequencies that can be set; a single frequency where
            the frequency is fixed. Of measured points, those that can be set.
        why_fixed: why it is fixed; empty where it is not.
        dropped: why a measured point cannot be set here, by its name.
    """

    compute: ComputeModel
    why_fixed: str
    dropped: Mapping[str, str] = MappingProxyType({})


class FrequencyControl:
    """Caps the frequency of this machine.

    Args:
        choice: the means; ``auto`` tries cpufreq, then power modes, then a duty cycle.
        frequency_max_hz: the processor's highest frequency, used where the kernel does not show it.
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
        self._modes = PowerModes(root, journal, run)
        self._choice = choice
        full_hz = self.cpufreq.in_force_hz() or frequency_max_hz
        quota = CpuQuota(root, journal, frequency_max_hz=full_hz)
        self.setting = SettingControl(
            root, journal, cpufreq=self.cpufreq, modes=self._modes, quota=quota
        )
        """Sets whole operating points."""
        means: dict[str, CpuFrequency | PowerModes | CpuQuota] = {
            "cpufreq": self.cpufreq,
            "nvpmodel": self._modes,
            "duty-cycle": quota,
        }
        self._means = [each for name, each in means.items() if choice in ("auto", name)]

    def reachable(self, compute: ComputeModel) -> Reach:
        """Cost parameters with the frequencies that can be set here; nothing is set.

        Where the frequency is fixed, it is the cap in force, at which a busy processor runs, or
        ``frequency_max_hz`` where the kernel shows no cap. A duty cycle is not a frequency: its
        whole range is offered only if the profile asks for ``duty-cycle`` by name.

        Of measured points those stay that can be set, or are in force already. Where there are
        none, the processor is taken by its law, as one without points.
        """
        if not compute.points:
            return self._reachable(compute)
        dropped = {
            point.name: why for point in compute.points if (why := self._why_not(point.setting))
        }
        points = tuple(point for point in compute.points if point.name not in dropped)
        if points:
            return Reach(replace(compute, points=points), "", dropped)
        by_law = self._reachable(replace(compute, points=()))
        return by_law._replace(dropped=dropped)

    def _why_not(self, setting: ComputeSetting) -> str:
        if self._choice == "none":
            return "" if self.setting.in_force(setting) else 'frequency_control = "none"'
        return self.setting.why_not(setting)

    def _reachable(self, compute: ComputeModel) -> Reach:
        """What can be set of a processor that is taken by its law."""
        if self._choice == "duty-cycle":
            return Reach(compute, "")
        why = 'frequency_control = "none"'
        if self._choice in ("auto", "cpufreq"):
            why = self.cpufreq.why_not()
            if not why:
                return Reach(_within(compute, *self.cpufreq.range_hz()), "")
        if self._choice in ("auto", "nvpmodel"):
            limits = self._modes.limits_hz()
            if limits:
                top_hz = compute.frequency_max_hz
                points = sorted({min(limit or top_hz, top_hz) for limit in limits})
                return Reach(_within(compute, tuple(points), True), "")
            if self._choice == "nvpmodel":
                why = "no power mode can be set: not a Jetson, no nvpmodel, or not root"
        fixed_hz = self.cpufreq.in_force_hz() or compute.frequency_max_hz
        fixed = replace(
            compute, frequency_min_hz=fixed_hz, frequency_max_hz=fixed_hz, frequency_steps_hz=()
        )
        return Reach(fixed, why)

    def apply(self, setting: ComputeSetting) -> AppliedSetting:
        """Set a measured operating point; with ``"none"`` it is only compared with what is so."""
        if self._choice != "none":
            return self.setting.apply(setting)
        whole = self.setting.in_force(setting)
        note = 'the operating point is not set: frequency_control = "none"'
        return AppliedSetting(
            setting=setting if whole else ComputeSetting(),
            whole=whole,
            means="none",
            notes=() if whole else (note,),
        )

    def cap(self, frequency_hz: float) -> FrequencyCap:
        """Cap the frequency by the first means that can; the notes say why others could not."""
        notes: list[str] = []
        for means in self._means:
            cap = means.cap(frequency_hz)
            notes += cap.notes
            if cap.applied:
                return replace(cap, notes=tuple(notes))
        if not self._means:
            notes.append('the frequency stays as it is: frequency_control = "none"')
        return FrequencyCap(
            frequency_hz=self.cpufreq.in_force_hz(), applied=False, notes=tuple(notes)
        )


def _within(compute: ComputeModel, settable_hz: tuple[float, ...], discrete: bool) -> ComputeModel:
    """The frequencies that the profile allows and the machine can set."""
    if not settable_hz:
        return compute
    lowest_hz = max(compute.frequency_min_hz, settable_hz[0])
    highest_hz = min(compute.frequency_max_hz, settable_hz[-1])
    if lowest_hz > highest_hz:  # the profile is of another machine; the kernel's range is right
        lowest_hz, highest_hz = settable_hz[0], settable_hz[-1]
    offered = settable_hz if discrete else compute.frequency_steps_hz
    steps = tuple(point for point in offered if lowest_hz <= point <= highest_hz)
    return replace(
        compute,
        frequency_min_hz=steps[0] if steps else lowest_hz,
        frequency_max_hz=steps[-1] if steps else highest_hz,
        frequency_steps_hz=steps,
    )
