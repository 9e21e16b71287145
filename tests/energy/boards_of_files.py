"""Trees of files that stand for a machine's clocks, and the kernels that answer for them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fimi.energy.control.affinity import CpuAffinity
from fimi.energy.control.cpu_quota import CpuQuota
from fimi.energy.control.cpufreq import CpuFrequency
from fimi.energy.control.journal import Journal
from fimi.energy.control.nvpmodel import PowerModes
from fimi.energy.control.programs import ProgramResult
from fimi.energy.control.setting import SettingControl

NANO_GPU_HZ = tuple(76_800_000 * k for k in range(1, 13))
"""Clocks of a Jetson Nano's GPU, as its kernel lists them."""
XAVIER_GPU_HZ = (114_750_000, 306_000_000, 510_000_000, 803_250_000, 1_109_250_000)
ORIN_GPU_HZ = (306_000_000, 408_000_000, 510_000_000, 612_000_000, 624_750_000)

MODES = """
< POWER_MODEL ID=0 NAME=MAXN >
CPU_A57 MAX_FREQ -1
GPU MAX_FREQ -1
< POWER_MODEL ID=1 NAME=5W >
CPU_A57 MAX_FREQ 918000
GPU MAX_FREQ 640000000
"""


def policy(root: Path, number: int, *khz: int) -> Path:
    """A cluster with these clocks, kHz."""
    folder = root / "sys/devices/system/cpu/cpufreq" / f"policy{number}"
    folder.mkdir(parents=True)
    (folder / "scaling_available_frequencies").write_text(" ".join(map(str, khz)) + " \n")
    for end, value in (("min", min(khz)), ("max", max(khz))):
        (folder / f"cpuinfo_{end}_freq").write_text(f"{value}\n")
        (folder / f"scaling_{end}_freq").write_text(f"{value}\n")
    return folder


def switch_off(folder: Path) -> None:
    """Switch a cluster off: its files are there and cannot be read, root or not."""
    for file in list(folder.iterdir()):
        file.unlink()
        file.mkdir()


def gpu(root: Path, name: str, hertz: Sequence[int]) -> Path:
    """A GPU with these clocks, Hz, below the class folder, which links to the device."""
    device = root / "sys/devices" / name / "devfreq" / name
    device.mkdir(parents=True)
    (device / "available_frequencies").write_text(" ".join(map(str, hertz)) + "\n")
    (device / "min_freq").write_text(f"{min(hertz)}\n")
    (device / "max_freq").write_text(f"{max(hertz)}\n")
    (device / "cur_freq").write_text(f"{min(hertz)}\n")
    (device / "governor").write_text("nvhost_podgov\n")
    shown = root / "sys/class/devfreq"
    shown.mkdir(parents=True, exist_ok=True)
    (shown / name).symlink_to(Path(os.path.relpath(device, shown)))
    return shown / name


class OldKernel(Journal):
    """Refuses a floor above its ceiling and a ceiling below its floor, as JetPack 4's does."""

    def _write(self, path: Path, text: str) -> None:
        pairs = {
            "min_freq": "max_freq",
            "max_freq": "min_freq",
            "scaling_min_freq": "scaling_max_freq",
            "scaling_max_freq": "scaling_min_freq",
        }
        if path.name in pairs:
            other = int((path.parent / pairs[path.name]).read_text())
            floor, ceiling = (int(text), other) if "min" in path.name else (other, int(text))
            if floor > ceiling:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))
        super()._write(path, text)


class Modes:
    """A Jetson's program nvpmodel: a mode sets the clocks' limits itself."""

    def __init__(self, root: Path, limits: Callable[[int], None] = lambda mode: None) -> None:
        self.mode = 0
        self._limits = limits
        (root / "etc").mkdir(exist_ok=True)
        (root / "etc/nvpmodel.conf").write_text(MODES)

    def run(self, arguments: Sequence[str]) -> ProgramResult:
        if arguments[:2] == ["nvpmodel", "-q"]:
            return ProgramResult(0, f"NV Power Mode: X\n{self.mode}\n", "")
        if arguments[:2] == ["nvpmodel", "-m"]:
            self.mode = int(arguments[2])
            self._limits(self.mode)
        return ProgramResult(0, "", "")


def control(
    root: Path, run: Callable[[Sequence[str]], ProgramResult] | None = None
) -> tuple[SettingControl, Journal]:
    """The control of a machine of files, and its journal."""
    run = run or (lambda arguments: ProgramResult(127, "", ""))
    journal = OldKernel(root / "state", root, run)
    return (
        SettingControl(
            root,
            journal,
            cpufreq=CpuFrequency(root, journal),
            modes=PowerModes(root, journal, run),
            quota=CpuQuota(root, journal, frequency_max_hz=2e9),
            affinity=CpuAffinity(root),
        ),
        journal,
    )


class Answers:
    """What a kernel answers to reads and writes of single files, which no tree of files can.

    A key is a file, or a folder for all files in it. A value is the number of an error.

    Attributes:
        reads: answers to reads.
        writes: answers to writes; a file that was opened to be written is not emptied.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.reads: dict[Path, int] = {}
        self.writes: dict[Path, int] = {}
        self.after_writes: Callable[[Path], None] = lambda path: None
        """Called after every write that succeeded, as a kernel that changes its mind."""
        read, read_bytes, write = Path.read_text, Path.read_bytes, Path.write_text

        def refuse(path: Path, answers: dict[Path, int]) -> None:
            for place in (path, path.parent):
                if place in answers:
                    raise OSError(answers[place], os.strerror(answers[place]))

        def read_text(path: Path, *args: Any, **more: Any) -> str:
            refuse(path, self.reads)
            return read(path, *args, **more)

        def bytes_of(path: Path) -> bytes:
            refuse(path, self.reads)
            return read_bytes(path)

        def write_text(path: Path, text: str, *args: Any, **more: Any) -> int:
            refuse(path, self.writes)
            done = write(path, text, *args, **more)
            self.after_writes(path)
            return done

        patch.setattr(Path, "read_text", read_text)
        patch.setattr(Path, "read_bytes", bytes_of)
        patch.setattr(Path, "write_text", write_text)

    def goes_off(self, folder: Path) -> None:
        """All cores of a cluster go off: a newer kernel answers "busy" to everything."""
        self.reads[folder] = self.writes[folder] = errno.EBUSY

    def comes_back(self, folder: Path) -> None:
        """A core of a cluster goes on again."""
        self.reads.pop(folder, None)
        self.writes.pop(folder, None)


def cooling(root: Path, number: int, kind: str, state: int, last: int) -> Path:
    """A cooling device at a step; returns its folder."""
    folder = root / "sys/class/thermal" / f"cooling_device{number}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("type", kind), ("cur_state", state), ("max_state", last)):
        (folder / name).write_text(f"{text}\n")
    return folder
