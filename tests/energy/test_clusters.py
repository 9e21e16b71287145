"""Clusters that are on or off, by what kernels of different ages show."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from boards_of_files import Answers, policy, switch_off
from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.clusters import clusters, cores_of, cores_off, in_words, is_off, off_in_words

POINTS = (408_000, 1_800_000)


def core(root: Path, number: int, online: str | None, cluster: Path | None = None) -> None:
    folder = root / "sys/devices/system/cpu" / f"cpu{number}"
    folder.mkdir(parents=True)
    if online is not None:
        (folder / "online").write_text(f"{online}\n")
    if cluster is not None:
        (folder / "cpufreq").symlink_to(Path("..") / "cpufreq" / cluster.name)


class TestOff:
    @pytest.mark.parametrize("answer", [errno.EBUSY, errno.ENODEV, errno.ENXIO])
    def test_by_what_it_answers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int
    ) -> None:
        folder = policy(tmp_path, 4, *POINTS)
        answers = Answers(monkeypatch)
        assert not is_off(folder)
        answers.reads[folder] = answer
        assert is_off(folder)

    @pytest.mark.parametrize("answer", [errno.EACCES, errno.EPERM, errno.EIO, errno.EINVAL])
    def test_other_answers_do_not_mean_off(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int
    ) -> None:
        folder = policy(tmp_path, 4, *POINTS)
        Answers(monkeypatch).reads[folder] = answer
        assert not is_off(folder)

    def test_by_no_affected_cores(self, tmp_path: Path) -> None:
        """Linux 4.3 to 5.x: stale limits can be read, nothing can be written."""
        folder = policy(tmp_path, 4, *POINTS)
        (folder / "affected_cpus").write_text("\n")
        assert is_off(folder)
        (folder / "affected_cpus").write_text("5\n")
        assert not is_off(folder), "one core is enough for a clock"

    def test_by_its_cores(self, tmp_path: Path) -> None:
        folder = policy(tmp_path, 4, *POINTS)
        (folder / "related_cpus").write_text("4 5\n")
        core(tmp_path, 4, "0")
        core(tmp_path, 5, "1")
        assert not is_off(folder)
        (tmp_path / "sys/devices/system/cpu/cpu5/online").write_text("0\n")
        assert is_off(folder)

    def test_a_busy_cluster_whose_cores_are_on_is_not_off(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = policy(tmp_path, 4, *POINTS)
        core(tmp_path, 4, "1", folder)
        Answers(monkeypatch).goes_off(folder)
        assert not is_off(folder)

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        assert clusters(tmp_path) == []
        assert not is_off(tmp_path / "sys/devices/system/cpu/cpufreq/policy3")
        assert cores_off(tmp_path) == ()


class TestCores:
    def test_a_policy_that_answers_nothing_still_has_its_cores(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        little, big = policy(tmp_path, 0, *POINTS), policy(tmp_path, 8, *POINTS)
        for number in range(16):
            core(tmp_path, number, None, little if number < 8 else big)
        Answers(monkeypatch).goes_off(big)
        assert cores_of(big) == tuple(range(8, 16))
        assert off_in_words(big) == "policy8 (CPU 8-15)"
        assert cores_off(tmp_path) == tuple(range(8, 16))

    def test_cores_that_a_machine_does_not_have_are_not_off(self, tmp_path: Path) -> None:
        """Virtual machines list all that they might get."""
        for number, online in enumerate((None, "1", "0", "1")):
            core(tmp_path, number, online)
        folder = tmp_path / "sys/devices/system/cpu"
        (folder / "present").write_text("0-3\n")
        (folder / "offline").write_text("2,4-127\n")
        assert cores_off(tmp_path) == (2,)

    def test_in_the_order_of_numbers(self, tmp_path: Path) -> None:
        for number in (10, 2, 0):
            policy(tmp_path, number, *POINTS)
        switch_off(tmp_path / "sys/devices/system/cpu/cpufreq/policy2")
        (tmp_path / "sys/devices/system/cpu/cpufreq/policyx").mkdir()
        assert [each.name for each in clusters(tmp_path)] == ["policy0", "policy2", "policy10"]


@given(st.sets(st.integers(0, 300)))
def test_words_say_the_same_numbers(cores: set[int]) -> None:
    said = in_words(cores)
    again: set[int] = set()
    for part in said.split(",") if said else []:
        first, _, last = part.partition("-")
        again |= set(range(int(first), int(last or first) + 1))
    assert again == cores
