"""Checks of frequency and operating points: what can be set, what plans assume, the journal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fimi.edge_agent.doctor.machine import Check, Machine, judged, open_files
from fimi.energy.compute_points import never_chosen
from fimi.energy.control.cpufreq import CEILING, FLOOR, CpuFrequency
from fimi.energy.control.devfreq import FOLDER, GpuClock
from fimi.energy.control.frequency import FrequencyControl
from fimi.energy.control.journal import FILE_NAME, Journal
from fimi.energy.cost_model import ComputeModel
from fimi.energy.host_profile import HostProfile
from fimi.energy.meters import MeterUnavailableError
from fimi.energy.observe.cycles import Cycles
from fimi.energy.sysfs import read_text

_SHOWN = 5


def frequency(machine: Machine) -> Iterator[Check]:
    """Frequency, cycle counter, and the journal that restores changes."""
    journal = Journal(machine.journal_folder, machine.root)
    cpufreq = CpuFrequency(machine.root, journal)
    if machine.profile is not None:
        yield from _of_profile(machine, machine.profile, journal, cpufreq)
    elif why := cpufreq.why_not():
        yield _fixed(why, cpufreq.in_force_hz(), cpufreq)
    else:
        yield judged("frequency", f"can be set{_kernel(cpufreq)}")
    yield from _gpu(machine, journal)
    yield _cycles()
    yield _journal(machine)


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
        yield _points(compute, dropped, cpufreq, wanted=wanted)
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
    compute: ComputeModel, dropped: Mapping[str, str], cpufreq: CpuFrequency, *, wanted: bool
) -> Check:
    """Which measured points can be set here."""
    here, every = len(compute.points), len(compute.points) + len(dropped)
    found = f"plans choose from {here} of {every} measured points{_kernel(cpufreq)}"
    for why in dict.fromkeys(dropped.values()):
        names = [name for name, reason in dropped.items() if reason == why]
        found += f"; left out: {_some(names)} ({why})"
    if not dropped or wanted:
        return judged("operating points", found)
    gpu = [name for name, why in dropped.items() if FOLDER in why]
    fix = "run the agent as root" if gpu or not cpufreq.policies() else _how_to_open(cpufreq)
    return judged("operating points", found, fix)


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
