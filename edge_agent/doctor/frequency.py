"""Checks of the CPU's frequency: whether it can be set, what plans assume, how it is restored."""

from __future__ import annotations

from collections.abc import Iterator

from fimi.edge_agent.doctor.patient import Check, Patient, judged, open_files
from fimi.energy.control.cpufreq import CEILING, FLOOR, CpuFrequency
from fimi.energy.control.frequency import FrequencyControl
from fimi.energy.control.journal import FILE_NAME, Journal
from fimi.energy.host_profile import HostProfile
from fimi.energy.meters import MeterUnavailableError
from fimi.energy.observe.cycles import Cycles
from fimi.energy.sysfs import read_text


def frequency(patient: Patient) -> Iterator[Check]:
    """Frequency, cycle counter, and the journal that restores changes."""
    journal = Journal(patient.journal_folder, patient.root)
    cpufreq = CpuFrequency(patient.root, journal)
    if patient.profile is not None:
        yield _of_profile(patient, patient.profile, journal, cpufreq)
    elif why := cpufreq.why_not():
        yield _fixed(why, cpufreq.in_force_hz(), cpufreq)
    else:
        yield judged("frequency", f"can be set{_kernel(cpufreq)}")
    yield _cycles()
    yield _journal(patient)


def _of_profile(
    patient: Patient, profile: HostProfile, journal: Journal, cpufreq: CpuFrequency
) -> Check:
    """The frequencies that an agent with this profile will publish."""
    compute, why = FrequencyControl(
        patient.root,
        journal,
        choice=profile.frequency_control,
        frequency_max_hz=profile.board.compute.frequency_max_hz,
        run=patient.run,
    ).reachable(profile.board.compute)
    if why:
        wanted = profile.frequency_control == "none"
        return _fixed(why, compute.frequency_max_hz, cpufreq, wanted=wanted)
    low, high = compute.frequency_min_hz / 1e9, compute.frequency_max_hz / 1e9
    found = f"plans choose from {low:.4g} to {high:.4g} GHz{_kernel(cpufreq)}"
    return judged("frequency", found)


def _fixed(
    why: str, frequency_hz: float | None, cpufreq: CpuFrequency, *, wanted: bool = False
) -> Check:
    at = f" at {frequency_hz / 1e9:.4g} GHz" if frequency_hz else ""
    fix = "" if wanted else _how_to_open(cpufreq)
    return judged("frequency", f"plans take it as fixed{at}: {why}", fix)


def _how_to_open(cpufreq: CpuFrequency) -> str:
    if not cpufreq.policies():
        return "run the agent on the board itself; here no plan can save energy by a lower clock"
    folder = "/sys/devices/system/cpu/cpufreq/policy*"
    rules = "\\n".join(f"z {folder}/{name} 0664 root fimi -" for name in (CEILING, FLOOR))
    return f"{open_files(rules, 'cpufreq')}; or run the agent as root"


def _kernel(cpufreq: CpuFrequency) -> str:
    """The driver, where the kernel has one."""
    policies = cpufreq.policies()
    if not policies:
        return ""
    driver = read_text(policies[0] / "scaling_driver") or "unknown driver"
    governor = read_text(policies[0] / "scaling_governor") or "unknown governor"
    many = "policy" if len(policies) == 1 else "policies"
    return f" ({len(policies)} cpufreq {many}, {driver}, {governor})"


def _cycles() -> Check:
    try:
        Cycles().close()
    except MeterUnavailableError as error:
        return judged(
            "cycles",
            str(error).split(":")[0],
            "sudo sysctl kernel.perf_event_paranoid=2 (no virtual machine without such a "
            "counter will have one by that; the clock is sampled instead)",
        )
    return judged("cycles", "the processor's cycle counter can be read")


def _journal(patient: Patient) -> Check:
    folder = patient.journal_folder
    journal = folder / FILE_NAME
    if journal.exists() and journal.stat().st_size:
        return judged(
            "journal",
            f"{journal} holds changes: an agent is running, or one was killed",
            "fimi agent restore",
        )
    if Journal(folder, patient.root).writable:
        return judged("journal", f"{journal} can be written")
    return judged(
        "journal",
        f"{journal} cannot be written, so nothing will be changed on this machine",
        f"sudo install -d -o $USER {folder}",
    )
