"""Applying a whole operating point: power mode, clocks, cores, duty cycle, by one call.

:class:`SettingControl` sets what a :class:`~fimi.energy.cost_model.ComputeSetting` names, reads it
back, and gives back what the setting before it had changed and this one leaves alone. The power
mode comes first, because it changes clocks and cores itself. All but the cores goes through the
journal, and is restored with it, also after a crash.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from fimi.energy.control.affinity import CpuAffinity
from fimi.energy.control.cpu_quota import CpuQuota
from fimi.energy.control.cpufreq import EVERY_CLUSTER, CpuFrequency
from fimi.energy.control.devfreq import FOLDER, GpuClock
from fimi.energy.control.journal import Change, Journal
from fimi.energy.control.nvpmodel import PowerModes
from fimi.energy.cost_model import ComputeSetting

_CPUFREQ = "sys/devices/system/cpu/cpufreq/"


class AppliedSetting(Struct, frozen=True, kw_only=True):
    """The result of applying a setting.

    Attributes:
        setting: what is in force of it, as read back.
        whole: whether all of it is in force.
        means: how, for example ``"cpufreq, devfreq"``; ``"none"`` if nothing was set.
        notes: what could not be set and why, one sentence each.
        clamped: whether all of it was set, and a clock is held lower by heat, firmware or another
            program.
    """

    setting: ComputeSetting
    whole: bool
    means: str
    notes: tuple[str, ...] = ()
    clamped: bool = False


class SettingControl:
    """The settings of this machine's processors; a journal writes the files."""

    def __init__(
        self,
        root: Path,
        journal: Journal,
        *,
        cpufreq: CpuFrequency,
        modes: PowerModes,
        quota: CpuQuota,
        affinity: CpuAffinity | None = None,
    ) -> None:
        self.cpufreq = cpufreq
        self.modes = modes
        self.gpu = GpuClock(root, journal)
        self.affinity = affinity or CpuAffinity(root)
        self._quota = quota
        self._journal = journal

    def why_not(self, setting: ComputeSetting) -> str:
        """Why this cannot be set here, as far as can be seen; empty if it can, or is in force.

        Nothing is set.
        """
        reasons = []
        if setting.cpu_hz:
            reasons.append(self.cpufreq.why_not(setting.cpu_hz))
        if setting.gpu_hz is not None:
            reasons.append(self.gpu.why_not(setting.gpu_hz))
        if setting.cores is not None:
            reasons.append(self.affinity.why_not(setting.cores))
        if setting.power_mode is not None:
            reasons.append(self.modes.why_not(setting.power_mode))
        if setting.duty_cycle is not None:
            reasons.append(self._quota.why_not())
        return "; ".join(reason for reason in reasons if reason)

    def in_force(self, setting: ComputeSetting) -> bool:
        """Whether all of this is so already, as far as it can be read."""
        if setting.duty_cycle is not None:
            return False
        cpu_hz = self.cpufreq.in_force(setting.cpu_hz)
        return (
            all(_near(cpu_hz.get(name), hertz) for name, hertz in setting.cpu_hz.items())
            and (setting.gpu_hz is None or _near(self.gpu.in_force_hz(), setting.gpu_hz))
            and (setting.cores is None or setting.cores == self.affinity.count())
            and (setting.power_mode is None or setting.power_mode == self.modes.present())
        )

    def clocks(self, setting: ComputeSetting) -> ComputeSetting:
        """The caps in force of those clocks that a setting names, as far as they can be read."""
        return ComputeSetting(
            cpu_hz=self.cpufreq.in_force(setting.cpu_hz),
            gpu_hz=None if setting.gpu_hz is None else self.gpu.in_force_hz(),
        )

    def apply(self, setting: ComputeSetting) -> AppliedSetting:
        """Set all of it, read it back, and give back what it does not name."""
        notes = list(self._give_back(setting))
        failed = clamped = False
        means: list[str] = []
        found: dict[str, object] = {}
        if setting.power_mode is not None:
            mode = self.modes.set(setting.power_mode)
            failed |= not mode.applied
            notes += mode.notes
            means += ["nvpmodel"] if mode.applied else []
            found["power_mode"] = self.modes.present()
        if setting.cpu_hz:
            cap = self.cpufreq.set_clusters(setting.cpu_hz)
            absent = self.cpufreq.absent(setting.cpu_hz)
            failed |= not cap.applied or bool(absent)
            failed |= any(name in setting.cpu_hz for name in cap.left_out)
            clamped |= cap.clamped
            notes += [absent] if cap.applied and absent and not cap.notes else list(cap.notes)
            means += ["cpufreq"] if cap.applied else []
            found["cpu_hz"] = self.cpufreq.in_force(setting.cpu_hz)
        if setting.gpu_hz is not None:
            clock = self.gpu.cap(setting.gpu_hz)
            taken = clock.clamped or not clock.note
            failed |= not taken
            clamped |= clock.clamped
            notes += [clock.note] if clock.note else []
            means += ["devfreq"] if taken else []
            found["gpu_hz"] = clock.frequency_hz
        if setting.cores is not None:
            problem = self.affinity.limit(setting.cores)
            failed |= bool(problem)
            notes += [problem] if problem else []
            means += [] if problem else ["affinity"]
            found["cores"] = self.affinity.count()
        if setting.duty_cycle is not None:
            share = self._quota.limit(setting.duty_cycle)
            failed |= not share.applied
            notes += share.notes
            means += ["duty-cycle"] if share.applied else []
            found["duty_cycle"] = setting.duty_cycle if share.applied else None
        return AppliedSetting(
            setting=ComputeSetting(**found),  # type: ignore[arg-type]
            whole=not failed and not clamped,
            means=", ".join(means) or "none",
            notes=tuple(notes),
            clamped=clamped and not failed,
        )

    def restore(self) -> None:
        """Give back the cores; the journal restores everything else."""
        self.affinity.lift()

    def _give_back(self, setting: ComputeSetting) -> list[str]:
        """Undo what was set before and is not named now; the problems, one sentence each."""
        if setting.cores is None:
            self.affinity.lift()
        kinds = {change.kind for change in self._journal.changes}
        if "power-mode" in kinds and setting.power_mode is None:
            # What clocks were before was noted under a mode that ends now.
            return self._journal.put_back(lambda change: change.kind != "qdisc")
        return self._journal.put_back(lambda change: not _named(change, setting))


def _named(change: Change, setting: ComputeSetting) -> bool:
    """Whether a setting names what a change is about; rate caps are none of ours."""
    if change.kind == "power-mode":
        return setting.power_mode is not None
    if change.kind == "qdisc":
        return True
    if change.target.startswith(FOLDER):
        return setting.gpu_hz is not None
    if change.target.startswith(_CPUFREQ):
        cluster = change.target.removeprefix(_CPUFREQ).split("/")[0]
        return cluster in setting.cpu_hz or EVERY_CLUSTER in setting.cpu_hz
    return setting.duty_cycle is not None


def _near(found_hz: float | None, wanted_hz: float) -> bool:
    return found_hz is not None and abs(found_hz - wanted_hz) <= 0.01 * wanted_hz
