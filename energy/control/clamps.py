"""What holds a clock below the cap that was set: heat, firmware, or somebody else.

The kernel keeps the wishes of all who limit a clock, and shows the lowest. So a cap that reads back
lower than it was set is in force behind another one. That is reported; it is no failure of the cap,
and no reason for a second brake by other means.

* :class:`Clamp`             who holds the clock, and at what
* :func:`clamp_of_cluster`   of a cpufreq policy whose cap reads back too low
* :func:`clamp_of_gpu`       of a GPU whose cap reads back too low
* :func:`held_by_heat`       the cooling devices that hold a cluster now
* :func:`at_work`           those that hold any processor or GPU now
* :func:`heat_limit_khz`     at which frequency, where the steps are those of the cluster
* :func:`firmware_note`      a Raspberry Pi's firmware, which no cap shows
* :func:`overruling`         programs that are known to set limits themselves and run now

A cooling device of a processor is named ``cpufreq-cpu0`` (Linux 5.8 and newer, after a core of the
cluster), ``thermal-cpufreq-0`` (before, numbered), ``Processor`` (ACPI); that of a GPU
``devfreq-17000000.gpu`` or ``thermal-devfreq-0``. Fans are cooling devices too and hold nothing.
Their ``cur_state`` counts steps from the highest clock downwards; zero means that nothing is held.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fimi.energy.clusters import cores_of
from fimi.energy.sysfs import read_count, read_text

_CPU = re.compile(r"^cpufreq-cpu(\d+)$")
_ANY_CPU = re.compile(r"^(thermal-cpufreq-\d+|Processor|cpu-balanced|intel_powerclamp)$")
_GPU = re.compile(r"^(devfreq-.*(gpu|gp10b|gv11b|ga10b)|thermal-devfreq-\d+|gpu-balanced)")
_PROGRAMS = (
    "thermald", "power-profiles-daemon", "tuned", "tlp", "auto-cpufreq", "cpufreqd", "gamemoded",
    "laptop_mode", "cpupower-gui-helper", "nvpower", "nvfancontrol", "jetson_clocks", "uperf",
)  # fmt: skip
_COMM_LENGTH = 15
"""The kernel cuts names of programs at this length."""
_PI = "sys/devices/platform/soc/soc:firmware/get_throttled"
_PI_BITS = {1: "its clock is capped", 2: "it is throttled", 3: "its soft limit of heat is reached"}


class Clamp(NamedTuple):
    """What holds a clock below its cap.

    Attributes:
        by: who, as the end of "clamped by".
        heat: whether it is heat.
    """

    by: str
    heat: bool = False

    def said(self, what: str, found_hz: float, wanted_hz: float) -> str:
        """The sentence about it."""
        return (
            f"{what}: clamped by {self.by} at {found_hz / 1e9:.4g} GHz, "
            f"{wanted_hz / 1e9:.4g} GHz was set"
        )


def clamp_of_cluster(root: Path, policy: Path, found_khz: int) -> Clamp:
    """Who holds a policy's cap at ``found_khz``, below what was set."""
    if held := held_by_heat(root, policy):
        return Clamp(f"heat ({'; '.join(held)})", heat=True)
    bios_khz = read_count(policy / "bios_limit")
    if bios_khz and bios_khz <= found_khz * 1.01:
        return Clamp(f"the firmware (bios_limit {bios_khz} kHz)")
    return Clamp(_others(root))


def clamp_of_gpu(root: Path) -> Clamp:
    """Who holds the GPU's cap below what was set."""
    held = [said for kind, said in _cooling(root) if _GPU.match(kind)]
    return Clamp(f"heat ({'; '.join(held)})", heat=True) if held else Clamp(_others(root))


def held_by_heat(root: Path, policy: Path) -> list[str]:
    """The cooling devices that hold a policy's clock now, in words."""
    cores = cores_of(policy)
    found = []
    for kind, said in _cooling(root):
        named = _CPU.match(kind)
        if (named and int(named[1]) in cores) or _ANY_CPU.match(kind):
            found.append(said)
    return found


def at_work(root: Path) -> list[str]:
    """The cooling devices that hold a processor or a GPU now, in words."""
    return [
        said
        for kind, said in _cooling(root)
        if _CPU.match(kind) or _ANY_CPU.match(kind) or _GPU.match(kind)
    ]


def heat_limit_khz(root: Path, policy: Path, points_khz: Sequence[int]) -> int | None:
    """The frequency at which cooling devices hold a policy, kHz; ``None`` if it cannot be told.

    Args:
        root: root of the file system.
        policy: folder of the policy.
        points_khz: the operating points of the policy, ascending; a step of a cooling device is one
            of them.
    """
    cores, found = cores_of(policy), []
    for folder in (root / "sys/class/thermal").glob("cooling_device*"):
        named = _CPU.match(read_text(folder / "type") or "")
        state, last = read_count(folder / "cur_state"), read_count(folder / "max_state")
        if named and int(named[1]) in cores and state and last == len(points_khz) - 1:
            found.append(points_khz[max(0, last - state)])
    return min(found, default=None)


def firmware_note(root: Path) -> str:
    """That a Raspberry Pi's firmware holds the processor down now, which no cap shows."""
    text = read_text(root / _PI)
    try:
        bits = int(text, 16) if text else 0
    except ValueError:
        return ""
    held = [said for place, said in _PI_BITS.items() if bits & 1 << place]
    if not held:
        return ""
    return f"the firmware holds the processor below its clock now: {', '.join(held)}"


def overruling(root: Path) -> list[str]:
    """Names of the programs that run now and are known to set limits of clocks."""
    cut = {name[:_COMM_LENGTH]: name for name in _PROGRAMS}
    names = {read_text(file) for file in (root / "proc").glob("[0-9]*/comm")}
    return sorted(cut[name] for name in names if name in cut)


def _others(root: Path) -> str:
    programs = overruling(root)
    if programs:
        return f"another limit of the kernel or of {', '.join(programs)}, which runs here"
    return "another limit of the kernel, of the firmware or of another program"


def _cooling(root: Path) -> list[tuple[str, str]]:
    """Type of each cooling device that is at work, and the words for it."""
    found = []
    for folder in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind, state = read_text(folder / "type") or "", read_count(folder / "cur_state")
        if state:
            last = read_count(folder / "max_state")
            of = f" of {last}" if last else ""
            found.append((kind, f"cooling device {kind} at step {state}{of}"))
    return found
