"""cpufreq against trees of files; :class:`Kernel` behaves as the kernel does on writes."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from fimi.energy.control.cpufreq import CpuFrequency, FrequencyCap
from fimi.energy.control.journal import Journal

POINTS_KHZ = (600_000, 1_000_000, 1_400_000, 1_800_000)


def policy(
    sysfs: Path, number: int = 0, *, points: tuple[int, ...] = POINTS_KHZ, floor_khz: int = 600_000
) -> Path:
    path = sysfs / "sys" / "devices" / "system" / "cpu" / "cpufreq" / f"policy{number}"
    path.mkdir(parents=True)
    files = {
        "cpuinfo_min_freq": 600_000,
        "cpuinfo_max_freq": 1_800_000,
        "scaling_min_freq": floor_khz,
        "scaling_max_freq": 1_800_000,
    }
    for name, khz in files.items():
        (path / name).write_text(f"{khz}\n")
    if points:
        (path / "scaling_available_frequencies").write_text(" ".join(map(str, points)) + " \n")
    return path


def limits_khz(path: Path) -> tuple[int, int]:
    return (
        int((path / "scaling_min_freq").read_text()),
        int((path / "scaling_max_freq").read_text()),
    )


class Kernel(Journal):
    """Refuses a floor above its ceiling and a ceiling below its floor, as some kernels do."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / "state", root)
        self.frequency = CpuFrequency(root, self)

    def cap(self, frequency_hz: float) -> FrequencyCap:
        return self.frequency.cap(frequency_hz)

    def _write(self, path: Path, text: str) -> None:
        khz = int(text)
        floor, ceiling = limits_khz(path.parent)
        floor, ceiling = (khz, ceiling) if path.name == "scaling_min_freq" else (floor, khz)
        if floor > ceiling:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))
        super()._write(path, text)


class ReadOnly(Kernel):
    """Every write is refused, as for a user who is not root."""

    def _write(self, path: Path, text: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


class TestCap:
    @pytest.mark.parametrize(
        ("asked_hz", "set_khz"),
        [(1.0e9, 1_000_000), (1.01e9, 1_400_000), (0.1e9, 600_000), (1.8e9, 1_800_000)],
    )
    def test_lowest_operating_point_that_holds_the_deadline(
        self, tmp_path: Path, asked_hz: float, set_khz: int
    ) -> None:
        path = policy(tmp_path)
        cap = Kernel(tmp_path).cap(asked_hz)
        assert limits_khz(path)[1] == set_khz
        assert (cap.frequency_hz, cap.applied, cap.notes) == (set_khz * 1e3, True, ())

    def test_continuous_frequencies_are_taken_as_they_are(self, tmp_path: Path) -> None:
        path = policy(tmp_path, points=())
        assert Kernel(tmp_path).cap(1.2345678e9).frequency_hz == 1_234_568e3
        assert limits_khz(path)[1] == 1_234_568

    def test_all_policies(self, tmp_path: Path) -> None:
        paths = [policy(tmp_path, number) for number in (0, 4)]
        assert Kernel(tmp_path).cap(1.0e9).applied
        assert [limits_khz(path)[1] for path in paths] == [1_000_000, 1_000_000]

    def test_a_floor_above_the_cap_is_lowered(self, tmp_path: Path) -> None:
        path = policy(tmp_path, floor_khz=1_800_000)  # as jetson_clocks leaves it
        assert Kernel(tmp_path).cap(1.0e9).applied
        assert limits_khz(path) == (1_000_000, 1_000_000)

    def test_more_than_the_processor_can_is_noted(self, tmp_path: Path) -> None:
        policy(tmp_path)
        cap = Kernel(tmp_path).cap(3e9)
        assert (cap.frequency_hz, cap.applied) == (1.8e9, True)
        assert "above what this processor can do" in cap.notes[0]


class TestTrouble:
    def test_read_only(self, tmp_path: Path) -> None:
        path = policy(tmp_path)
        cap = ReadOnly(tmp_path).cap(1.0e9)
        assert (cap.frequency_hz, cap.applied) == (1.8e9, False)
        assert str(path / "scaling_max_freq") in cap.notes[0]
        assert "root" in cap.notes[0]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
    def test_read_only_for_real(self, tmp_path: Path) -> None:
        path = policy(tmp_path)
        (path / "scaling_max_freq").chmod(0o444)
        assert not Kernel(tmp_path).cap(1.0e9).applied

    def test_overruled(self, tmp_path: Path) -> None:
        class Overruled(Kernel):
            def _write(self, path: Path, text: str) -> None:
                super()._write(path, "1400000")

        policy(tmp_path)
        cap = Overruled(tmp_path).cap(1.0e9)
        assert (cap.frequency_hz, cap.applied) == (1.4e9, False)
        assert "overrules" in cap.notes[0]

    def test_no_policies(self, tmp_path: Path) -> None:
        cap = Kernel(tmp_path).cap(1e9)
        assert (cap.frequency_hz, cap.applied) == (None, False)
        assert "no cpufreq policy" in cap.notes[0]

    def test_garbage(self, tmp_path: Path) -> None:
        path = policy(tmp_path)
        (path / "scaling_max_freq").write_text("<unknown>\n")
        cap = Kernel(tmp_path).cap(1e9)
        assert (cap.frequency_hz, cap.applied) == (None, False)
        assert "<unknown>" in cap.notes[0]


class TestRestore:
    def test_puts_back_what_was_there_at_first(self, tmp_path: Path) -> None:
        path = policy(tmp_path, floor_khz=1_000_000)
        kernel = Kernel(tmp_path)
        # The second cap needs a lower floor: it must not come back before the ceiling does.
        assert kernel.cap(1.4e9).applied
        assert kernel.cap(0.6e9).applied
        assert limits_khz(path) == (600_000, 600_000)
        kernel.restore()
        assert limits_khz(path) == (1_000_000, 1_800_000)

    def test_touches_nothing_without_a_cap(self, tmp_path: Path) -> None:
        policy(tmp_path)
        kernel = ReadOnly(tmp_path)
        kernel.cap(1e9)
        kernel.restore()  # would raise or log if it wrote

    def test_twice_is_once(self, tmp_path: Path) -> None:
        path = policy(tmp_path)
        kernel = Kernel(tmp_path)
        kernel.cap(1e9)
        kernel.restore()
        (path / "scaling_max_freq").write_text("1400000\n")  # somebody else's wish
        kernel.restore()
        assert limits_khz(path)[1] == 1_400_000

    def test_failure_is_logged(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        path = policy(tmp_path)
        kernel = Kernel(tmp_path)
        kernel.cap(1e9)
        (path / "scaling_max_freq").unlink()
        (path / "scaling_max_freq").mkdir()
        with caplog.at_level(logging.WARNING):
            kernel.restore()
        assert "could not be set back to 1800000" in caplog.text


def test_one_process_steers_at_a_time(tmp_path: Path) -> None:
    path = policy(tmp_path)
    first, second = Kernel(tmp_path), Kernel(tmp_path)
    assert first.cap(1.4e9).applied
    refused = second.cap(1.0e9)
    assert (refused.applied, refused.frequency_hz) == (False, 1.4e9)
    assert "another process steers" in refused.notes[0]
    first.restore()
    assert second.cap(1.0e9).applied
    second.restore()
    assert limits_khz(path)[1] == 1_800_000
