"""Checks of frequency and operating points: what can be set, what plans assume, the journal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fimi.edge_agent.doctor.machine import Machine, judged, open_files
from fimi.energy.clusters import cores_of, cores_off, in_words
from fimi.energy.compute_points import never_chosen
from fimi.energy.control.clamps import overruling
from fimi.energy.control.cpufreq import CEILING, FLOOR, CpuFrequency
from fimi.energy.control.devfreq import GpuClock
from fimi.energy.control.frequency import FrequencyControl
from fimi.energy.control.journal import FILE_NAME, Journal
from fimi.energy.control.nvpmodel import PowerModes
from fimi.energy.control.refusals import PERMIT
from fimi.energy.cost_model import ComputeModel, ComputeSetting
from fimi.energy.host_profile import HostProfile
from fimi.energy.meters import MeterUnavailableError
from fimi.energy.observe.cycles import Cycles
from fimi.energy.sysfs import read_text
from fimi.messaging.questions import Check

_SHOWN = 5


def frequency(machine: Machine) -> Iterator[Check]:
    """Frequency, cycle counter, and the journal that restores changes."""
    journal = Journal(machine.journal_folder, machine.root)
    cpufreq = CpuFrequency(machine.root, journal)
    yield from _cores(machine, cpufreq)
    if machine.profile is not None:
        yield from _of_profile(machine, machine.profile, journal, cpufreq)
    elif why := cpufreq.why_not():
        yield _fixed(why, cpufreq.in_force_hz(), cpufreq)
    else:
        yield judged("frequency", f"can be set{_kernel(cpufreq)}")
    yield from _gpu(machine, journal)
    if programs := overruling(machine.root):
        yield judged("limits", f"{', '.join(programs)} may set limits of its own: it runs here")
    yield _cycles()
    yield _journal(machine)


def _cores(machine: Machine, cpufreq: CpuFrequency) -> Iterator[Check]:
    """Which cores are off, and which clusters plans therefore do without."""
    cores = cores_off(machine.root)
    if not cores:
        return
    found = f"CPU {in_words(cores)} {'is' if len(cores) == 1 else 'are'} switched off"
    off = cpufreq.off()
    if off:
        found += f"; plans do without {', '.join(policy.name for policy in off)}"
    yield judged("cores", found, _how_to_switch_on(off) if off else "")


def _how_to_switch_on(off: Sequence[Path]) -> str:
    """The command that switches clusters on, by the first core of each."""
    files = " ".join(f"/sys/devices/system/cpu/cpu{cores_of(each)[0]}/online" for each in off)
    return (
        f"to use them, echo 1 | sudo tee {files} (a power mode may have switched them off), "
        "the same for their other cores, and start the agent again"
    )


def _of_profile(
    machine: Machine, profile: HostProfile, journal: Journal, cpufreq: CpuFrequency
) -> Iterator[Check]:
    """The frequencies or operating points that an agent with this profile will publish."""
    measured = profile.board.compute.points
    compute, why, dropped = FrequencyControl(
        machine.root,
        journal,
        choice=profile.frequency_control,
        frequency_max_hz=profile.board.compute.frequency_max_hz,
        run=machine.run,
    ).reachable(profile.board.compute)
    wanted = profile.frequency_control == "none"
    if measured:
        lost = {p.name: p.setting for p in profile.board.compute.points if p.name in dropped}
        fix = "" if wanted else _remedy(machine, lost, journal, cpufreq)
        yield _points(compute, dropped, cpufreq, fix)
        if beaten := never_chosen(compute.points):
            yield judged("points", _never(beaten, len(compute.points)))
        if compute.points:
            return
    if why:
        yield _fixed(why, compute.frequency_max_hz, cpufreq, wanted=wanted)
        return
    low, high = compute.frequency_min_hz / 1e9, compute.frequency_max_hz / 1e9
    found = f"plans choose from {low:.4g} to {high:.4g} GHz{_kernel(cpufreq)}"
    yield judged("frequency", found)


def _points(
    compute: ComputeModel, dropped: Mapping[str, str], cpufreq: CpuFrequency, fix: str
) -> Check:
    """Which measured points can be set here."""
    here, every = len(compute.points), len(compute.points) + len(dropped)
    found = f"plans choose from {here} of {every} measured points{_kernel(cpufreq)}"
    for why in dict.fromkeys(dropped.values()):
        names = [name for name, reason in dropped.items() if reason == why]
        found += f"; left out: {_some(names)} ({why})"
    return judged("operating points", found, fix if dropped else "")


def _remedy(
    machine: Machine,
    lost: Mapping[str, ComputeSetting],
    journal: Journal,
    cpufreq: CpuFrequency,
) -> str:
    """What helps against the loss of these settings: one remedy for each reason that they have."""
    gpu, modes = GpuClock(machine.root, journal), PowerModes(machine.root, journal, machine.run)
    off = {policy.name: policy for policy in cpufreq.off()}
    found: list[str] = []
    for setting in lost.values():
        if out := [off[name] for name in setting.cpu_hz if name in off]:
            found.append(_how_to_switch_on(out))
        elif setting.cpu_hz and cpufreq.absent(setting.cpu_hz):
            found.append("calibrate this machine: the profile is of one with other clusters")
        elif setting.cpu_hz and cpufreq.why_not(setting.cpu_hz):
            found.append(_how_to_open(cpufreq))
        if setting.gpu_hz is not None and gpu.gpu() is None:
            found.append("restart the board: on some boots the folder of its GPU is missing")
        elif setting.gpu_hz is not None and gpu.why_not(setting.gpu_hz):
            found.append("run the agent as root")
        if setting.power_mode is not None and modes.why_not(setting.power_mode):
            found.append("run the agent as root, on the Jetson itself")
        if setting.duty_cycle is not None:
            found.append("start the agent with systemd-run --scope -p Delegate=yes")
    every = list(dict.fromkeys(each for each in found if each))
    return "; ".join(every) or "calibrate again on this machine"


def _never(beaten: dict[str, str], every: int) -> str:
    """Which points no plan will choose, and why the first of them."""
    first, *others = beaten
    if not others:
        return beaten[first]
    return (
        f"{len(beaten)} of {every} are kept and no plan will choose them, because another one "
        f"takes fewer joules and less time a sample: {_some(list(beaten))}. {beaten[first]}"
    )


def _some(names: list[str]) -> str:
    """At most five names; the others are counted."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return "; ".join(names[:_SHOWN]) + more


def _fixed(
    why: str, frequency_hz: float | None, cpufreq: CpuFrequency, *, wanted: bool = False
) -> Check:
    at = f" at {frequency_hz / 1e9:.4g} GHz" if frequency_hz else ""
    fix = "" if wanted else _how_to_open(cpufreq)
    return judged("frequency", f"plans take it as fixed{at}: {why}", fix)


def _how_to_open(cpufreq: CpuFrequency) -> str:
    """The remedy that fits why the frequency cannot be set."""
    if not cpufreq.policies():
        if off := cpufreq.off():
            return _how_to_switch_on(off)
        return "run the agent on the board itself; here no plan can save energy by a lower clock"
    closed = cpufreq.closed()
    if closed is None:  # what can be written and not read is no matter of permissions
        return "look at the line 'journal' here and at the last lines of dmesg"
    if closed.remedy != PERMIT:
        return closed.remedy
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


def _gpu(machine: Machine, journal: Journal) -> Iterator[Check]:
    """The GPU's clock, where there is one that can be chosen."""
    gpu = GpuClock(machine.root, journal)
    clocks_hz = gpu.clocks_hz()
    if not clocks_hz:
        return
    low, high = clocks_hz[0] / 1e6, clocks_hz[-1] / 1e6
    found = f"{len(clocks_hz)} clocks from {low:.6g} to {high:.6g} MHz"
    if why := gpu.why_not(clocks_hz[0]):
        yield judged("gpu clock", f"{found}; {why}", "run the agent as root")
    else:
        yield judged("gpu clock", found)


def _cycles() -> Check:
    try:
        Cycles().close()
    except MeterUnavailableError as error:
        return judged(
            "cycles",
            str(error).split(":")[0],
            "sudo sysctl kernel.perf_event_paranoid=2 (does not help in a virtual machine "
            "without such a counter; the clock is sampled instead)",
        )
    return judged("cycles", "the processor's cycle counter can be read")


def _journal(machine: Machine) -> Check:
    folder = machine.journal_folder
    journal = folder / FILE_NAME
    if journal.exists() and journal.stat().st_size:
        return judged(
            "journal",
            f"{journal} holds changes: an agent is running, or one was killed",
            "fimi agent restore",
        )
    if Journal(folder, machine.root).writable:
        return judged("journal", f"{journal} can be written")
    return judged(
        "journal",
        f"{journal} cannot be written, so nothing will be changed on this machine",
        f"sudo install -d -o $USER {folder}",
    )
