"""What the agent of a board needs beyond an ordinary user's rights, and why: no more is given.

:func:`needs_of` derives it from the board's profile and from what the machine has. Of everything
that it grants, a :class:`Grant` says what it is for; the unit and the rules repeat these words.

==================  ==============================================================================
chosen              needs
==================  ==============================================================================
hwmon, ina3221,     nothing: the kernel's files are readable for everybody
battery
rapl                its counters, readable for the group ``fimi``
pmic                ``/dev/vcio``, group ``video``
nvml                the device files of the cards
plug, topic         the network only
cpufreq             ``scaling_min_freq`` and ``scaling_max_freq``, writable for the group ``fimi``
clock of the GPU    ``min_freq`` and ``max_freq`` of devfreq, the same
``tc``              ``CAP_NET_ADMIN``
cycle counter       ``perf_event_open``; ``CAP_PERFMON`` where the kernel is stricter than usual
==================  ==============================================================================

Power modes of a Jetson need root, and a share of the time needs a cgroup of its own: the installed
agent has neither, and :attr:`Needs.without` says what becomes of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from fimi.energy.control.cpufreq import CEILING, FLOOR, FOLDER, CpuFrequency
from fimi.energy.control.devfreq import GpuClock
from fimi.energy.control.journal import Journal
from fimi.energy.host_profile import HostProfile
from fimi.energy.meters.detect import MeterPair
from fimi.energy.meters.live import ReplaySettings
from fimi.energy.meters.names import Names, family
from fimi.energy.meters.rapl import SIDE_CHANNEL, zones
from fimi.energy.sysfs import read_signed

USER = "fimi"
"""The system user of the agent, and its group."""

_PERMISSIVE = 2
"""A kernel with this ``perf_event_paranoid`` lets a process count its own cycles."""


class Grant(Struct, frozen=True, kw_only=True):
    """One thing that is granted.

    Attributes:
        what: the group, device, capability, file or system call.
        why: what it is for, as a half sentence.
        mode: of a kernel file: its permissions.
    """

    what: str
    why: str
    mode: str = ""


class Needs(Struct, frozen=True, kw_only=True):
    """What an agent needs beyond the rights of an ordinary user.

    Attributes:
        groups: groups that it is in.
        devices: device files that it opens.
        capabilities: capabilities that it keeps.
        files: kernel files that its group reads or writes.
        writable: folders of ``/sys`` that stay writable for it, where their permissions allow it.
        visible: files and folders in home folders that it reads.
        system_calls: system calls beyond the usual ones.
        sees_others: whether it reads the names of other users' processes.
        without: what it does without, and what to do about it, a sentence each.
    """

    groups: tuple[Grant, ...] = ()
    devices: tuple[Grant, ...] = ()
    capabilities: tuple[Grant, ...] = ()
    files: tuple[Grant, ...] = ()
    writable: tuple[Grant, ...] = ()
    visible: tuple[Grant, ...] = ()
    system_calls: tuple[Grant, ...] = ()
    sees_others: bool = False
    without: tuple[str, ...] = ()


def needs_of(profile: HostProfile | None, root: Path = Path("/")) -> Needs:
    """What the agent of a board needs.

    Args:
        profile: of the board; ``None``: it is emulated, and needs nothing.
        root: root of its file system.
    """
    if profile is None:
        return Needs()
    meters = _families(profile)
    firmware = _firmware(root, "pmic" in meters)
    steered, writable, without = _control(profile, root)
    capabilities, calls = _cycles(root)
    if profile.rate_control == "tc":
        why = 'rate_control = "tc": it limits the sending rate of the whole interface'
        capabilities = (*capabilities, Grant(what="CAP_NET_ADMIN", why=why))
    if "nvml" in meters:
        without += (
            "the card's device files must be there before the agent starts: nvidia-persistenced "
            "makes them, the agent may not",
        )
    return Needs(
        groups=(Grant(what="video", why=firmware[0].why),) if firmware else (),
        devices=(*firmware, *(_cards(root) if "nvml" in meters else ())),
        capabilities=capabilities,
        files=(*(_counters(root) if "rapl" in meters else ()), *steered),
        writable=writable,
        visible=_recording(profile),
        system_calls=calls,
        sees_others=bool(steered),
        without=without,
    )


def _families(profile: HostProfile) -> set[str]:
    """The families of meters that the profile may come to use."""
    choice = profile.meter
    both: tuple[Names, ...] = (
        (choice.total, choice.split) if isinstance(choice, MeterPair) else (choice,)
    )
    if profile.second_meter is not None:
        both = (*both, profile.second_meter)
    every = [name for names in both for name in ([names] if isinstance(names, str) else names)]
    found = {family(name).removesuffix("-cpu") for name in every}
    return found | ({"rapl", "pmic"} if "auto" in found else set())


def _counters(root: Path) -> tuple[Grant, ...]:
    """The files of the RAPL zones, by their real paths: permissions are of those."""
    why = f"the meter rapl; {SIDE_CHANNEL}"
    names = ("energy_uj", "max_energy_range_uj")
    files = (zone.folder / name for zone in zones(root) for name in names)
    found = (_below(root, file) for file in files if file.exists())
    return tuple(Grant(what=path, why=why, mode="0440") for path in found)


def _firmware(root: Path, metered: bool) -> tuple[Grant, ...]:
    """The firmware of a Raspberry Pi: rails of the Pi 5, the clock, throttling."""
    why = "the Raspberry Pi's firmware: its clock and throttling"
    why += ", and the meter pmic" if metered else ""
    names = [name for name in ("vcio", "vcio_gencmd") if (root / "dev" / name).exists()]
    return tuple(Grant(what=f"/dev/{name}", why=why) for name in names)


def _cards(root: Path) -> tuple[Grant, ...]:
    """The device files of NVIDIA cards; all of the driver's where there are none yet."""
    why = "the meter nvml"
    cards = sorted(path.name for path in (root / "dev").glob("nvidia[0-9]*"))
    if not cards:
        return (Grant(what="char-nvidia*", why=why),)
    return tuple(Grant(what=f"/dev/{name}", why=why) for name in ("nvidiactl", *cards))


def _cycles(root: Path) -> tuple[tuple[Grant, ...], tuple[Grant, ...]]:
    """Capability and system call of the cycle counter."""
    why = "it counts its own cycles: the clock that was achieved"
    strictness = read_signed(root / "proc/sys/kernel/perf_event_paranoid")
    strict = strictness is not None and strictness > _PERMISSIVE
    said = f"{why}; here kernel.perf_event_paranoid is {strictness}"
    capability = (Grant(what="CAP_PERFMON", why=said),) if strict else ()
    return capability, (Grant(what="perf_event_open", why=why),)


def _control(
    profile: HostProfile, root: Path
) -> tuple[tuple[Grant, ...], tuple[Grant, ...], tuple[str, ...]]:
    """Files and folders that the control of the clocks writes, and what it does without."""
    choice, points = profile.frequency_control, profile.board.compute.points
    if choice == "none":
        return (), (), ()
    journal = Journal(Path("/nonexistent"), root)
    files: list[Grant] = []
    writable: list[Grant] = []
    without: list[str] = []
    cpu = CpuFrequency(root, journal)
    clusters = bool(cpu.policies() or cpu.off())
    if clusters and (choice in ("auto", "cpufreq") or any(p.setting.cpu_hz for p in points)):
        why = "it caps the clock of the processor, and puts it back"
        files += [
            Grant(what=f"/{FOLDER}policy*/{name}", why=why, mode="0664")
            for name in (FLOOR, CEILING)
        ]
        writable.append(Grant(what=f"/{FOLDER.rstrip('/')}", why=why))
    gpu = GpuClock(root, journal).gpu()
    if gpu is not None and any(point.setting.gpu_hz for point in points):
        why = "it caps the clock of the GPU, and puts it back"
        folder = _below(root, gpu)
        files += [
            Grant(what=f"{folder}/{name}", why=why, mode="0664")
            for name in ("min_freq", "max_freq")
        ]
        writable.append(Grant(what=folder, why=why))
    if choice == "nvpmodel" or any(p.setting.power_mode is not None for p in points):
        without.append(
            "power modes need root: set the mode once (sudo nvpmodel -m N); points of the profile "
            "with another mode are left out of plans"
        )
    if choice == "duty-cycle" or any(p.setting.duty_cycle is not None for p in points):
        without.append(
            "a share of the time needs a cgroup of its own: such points are left out of plans; "
            "sudo systemd-run --scope -p Delegate=yes fimi agent run … has one"
        )
    return tuple(files), tuple(writable), tuple(without)


def _recording(profile: HostProfile) -> tuple[Grant, ...]:
    """The recording that is read as a meter, if it lies in a home folder."""
    replay = profile.replay
    path = replay.file if isinstance(replay, ReplaySettings) else replay
    if path is None or not in_home(Path(path)):
        return ()
    return (Grant(what=path, why="the recording that is the meter replay"),)


def in_home(path: Path) -> bool:
    """Whether a path is in a folder that a service does not see."""
    return any(path.is_relative_to(home) for home in ("/home", "/root", "/run/user"))


def _below(root: Path, path: Path) -> str:
    """The real path of a file of the machine, as it is called there."""
    return f"/{path.resolve().relative_to(root.resolve())}"


def every_grant(needs: Needs) -> Iterator[Grant]:
    """All of them, in the order in which they are explained."""
    yield from needs.groups
    yield from needs.devices
    yield from needs.capabilities
    yield from needs.system_calls
    yield from needs.files
    yield from needs.writable
    yield from needs.visible
