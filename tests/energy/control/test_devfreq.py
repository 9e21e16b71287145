"""The clock of a GPU against trees as Jetsons of four generations print them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from boards_of_files import NANO_GPU_HZ, ORIN_GPU_HZ, XAVIER_GPU_HZ, OldKernel, gpu

from fimi.energy.control.devfreq import GpuClock
from fimi.energy.control.journal import Journal


def clock(root: Path) -> tuple[GpuClock, Journal]:
    journal = OldKernel(root / "state", root)
    return GpuClock(root, journal), journal


@pytest.mark.parametrize(
    ("name", "hertz"),
    [
        ("57000000.gpu", NANO_GPU_HZ),
        ("17000000.gv11b", XAVIER_GPU_HZ),
        ("17000000.ga10b", ORIN_GPU_HZ),
        ("17000000.gpu", ORIN_GPU_HZ),
        ("ff9a0000.gpu", (200_000_000, 297_000_000, 800_000_000)),
    ],
)
def test_cap_and_restore(tmp_path: Path, name: str, hertz: tuple[int, ...]) -> None:
    folder = gpu(tmp_path, name, hertz)
    found, journal = clock(tmp_path)
    assert found.clocks_hz() == hertz
    for asked, wanted in ((hertz[1], hertz[1]), (hertz[1] + 1e6, hertz[2]), (9e9, hertz[-1])):
        cap = found.cap(asked)
        assert (cap.frequency_hz, cap.note) == (wanted, "")
        assert int((folder / "max_freq").read_text()) == wanted
    found.cap(hertz[0])
    journal.restore()
    assert int((folder / "max_freq").read_text()) == hertz[-1]


def test_a_floor_above_the_cap_is_lowered_first_and_comes_back(tmp_path: Path) -> None:
    folder = gpu(tmp_path, "57000000.gpu", NANO_GPU_HZ)
    (folder / "min_freq").write_text(f"{NANO_GPU_HZ[-1]}\n")  # as jetson_clocks leaves it
    found, journal = clock(tmp_path)
    assert found.cap(307_200_000).note == ""
    assert [(folder / n).read_text().strip() for n in ("min_freq", "max_freq")] == ["307200000"] * 2
    journal.restore()
    assert [int((folder / n).read_text()) for n in ("min_freq", "max_freq")] == [
        NANO_GPU_HZ[-1]
    ] * 2


def test_other_devices_have_no_clock_of_a_gpu(tmp_path: Path) -> None:
    gpu(tmp_path, "17000000.ga10b.emc", (204_000_000, 2_133_000_000))
    gpu(tmp_path, "gpu-nvd-0", (100_000_000, 200_000_000))
    gpu(tmp_path, "dmc", (200_000_000, 800_000_000))
    found, _ = clock(tmp_path)
    assert found.clocks_hz() == ()
    assert found.in_force_hz() is None
    assert "no GPU" in found.cap(3e8).note
    gpu(tmp_path, "gpu-gpc-0", (315_000_000, 1_575_000_000))
    assert found.clocks_hz() == (315e6, 1575e6)


def test_one_clock_is_no_variable(tmp_path: Path) -> None:
    gpu(tmp_path, "57000000.gpu", (921_600_000,))
    assert clock(tmp_path)[0].clocks_hz() == ()


def test_rounded_to_kilohertz_is_what_was_asked_for(tmp_path: Path) -> None:
    folder = gpu(tmp_path, "ff9a0000.gpu", (399_999_994, 666_666_656))

    class Rounding(Journal):
        def _write(self, path: Path, text: str) -> None:
            super()._write(path, str(-(-int(text) // 1000) * 1000))

    journal = Rounding(tmp_path / "state", tmp_path)
    cap = GpuClock(tmp_path, journal).cap(399_999_994)
    assert cap.note == ""
    assert (folder / "max_freq").read_text() == "400000000\n"


def test_overruled_and_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(tmp_path, "57000000.gpu", NANO_GPU_HZ)

    class Overruled(Journal):
        def _write(self, path: Path, text: str) -> None:
            super()._write(path, "640000000")

    cap = GpuClock(tmp_path, Overruled(tmp_path / "a", tmp_path)).cap(NANO_GPU_HZ[0])
    assert "overrules it" in cap.note
    assert cap.frequency_hz == 640e6

    class Closed(Journal):
        def _write(self, path: Path, text: str) -> None:
            raise PermissionError(13, os.strerror(13), str(path))

    for user, remedy in ((1000, "run the agent as root"), (0, "not even by root")):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        cap = GpuClock(tmp_path, Closed(tmp_path / f"b{user}", tmp_path)).cap(NANO_GPU_HZ[0])
        assert remedy in cap.note
