"""A whole operating point by one call: set, read back, given back, restored after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from boards_of_files import NANO_GPU_HZ, Modes, control, gpu, policy, switch_off
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fimi.energy.control.journal import Journal
from fimi.energy.cost_model import ComputeSetting

REPOSITORY = Path(__file__).parents[3]
LITTLE = (408_000, 1_008_000, 1_416_000)
BIG = (408_000, 1_200_000, 1_800_000)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="power modes are for root")


def board(root: Path) -> tuple[Path, Path, Path]:
    """Two clusters and a GPU."""
    return policy(root, 0, *LITTLE), policy(root, 4, *BIG), gpu(root, "57000000.gpu", NANO_GPU_HZ)


def limits(*folders: Path) -> list[tuple[int, int]]:
    found = []
    for folder in folders:
        prefix = "scaling_" if "policy" in folder.name else ""
        files = [folder / f"{prefix}{end}_freq" for end in ("min", "max")]
        found.append((int(files[0].read_text()), int(files[1].read_text())))
    return found


class TestApply:
    def test_only_the_named_clusters(self, tmp_path: Path) -> None:
        little, big, graphics = board(tmp_path)
        before = limits(little, big, graphics)
        setting, journal = control(tmp_path)
        done = setting.apply(ComputeSetting(cpu_hz={"policy4": 1.2e9}))
        assert (done.whole, done.means, done.notes) == (True, "cpufreq", ())
        assert done.setting.cpu_hz == {"policy4": 1.2e9}
        assert limits(little, graphics) == [before[0], before[2]]
        assert limits(big) == [(408_000, 1_200_000)]
        journal.restore()
        assert limits(little, big, graphics) == before

    def test_what_the_next_point_does_not_name_is_given_back(self, tmp_path: Path) -> None:
        little, big, graphics = board(tmp_path)
        before = limits(little, big, graphics)
        setting, journal = control(tmp_path)
        cores = os.sched_getaffinity(0)
        first = ComputeSetting(cpu_hz={"policy0": 408e6, "policy4": 408e6}, gpu_hz=76.8e6, cores=1)
        assert setting.apply(first).whole
        assert setting.in_force(first)
        assert len(os.sched_getaffinity(0)) == 1
        second = ComputeSetting(cpu_hz={"policy4": 1.2e9})
        assert setting.apply(second).whole
        assert limits(little, graphics) == [before[0], before[2]]
        assert os.sched_getaffinity(0) == cores
        assert not setting.in_force(first)
        setting.apply(ComputeSetting())
        assert limits(little, big, graphics) == before
        assert journal.changes == ()

    def test_a_cluster_that_is_off_is_left_out_with_a_note(self, tmp_path: Path) -> None:
        little, big, _ = board(tmp_path)
        switch_off(big)
        setting, _ = control(tmp_path)
        assert setting.cpufreq.why_not() == "", "the other one can be set"
        every = ComputeSetting(cpu_hz={"all": 1.0e9})
        done = setting.apply(every)
        assert done.whole
        assert done.notes == ("policy4 (CPU 4) is switched off: left out",)
        assert limits(little) == [(408_000, 1_008_000)]
        named = ComputeSetting(cpu_hz={"policy0": 408e6, "policy4": 408e6})
        assert "policy4 (CPU 4) is switched off" in setting.why_not(named)
        done = setting.apply(named)
        assert not done.whole
        assert "policy4" in done.notes[0]
        assert limits(little) == [(408_000, 408_000)], "what can be set is set"

    def test_what_is_not_there_is_said(self, tmp_path: Path) -> None:
        policy(tmp_path, 0, *LITTLE)
        setting, _ = control(tmp_path)
        wish = ComputeSetting(
            cpu_hz={"policy7": 1e9}, gpu_hz=3e8, power_mode=1, cores=10_000, duty_cycle=0.5
        )
        why = setting.why_not(wish)
        for word in ("policy7", "no GPU", "no power modes", "10000 cores", "cpu.max"):
            assert word in why
        done = setting.apply(wish)
        assert (done.whole, done.means) == (False, "none")
        assert len(done.notes) == 5
        assert done.setting.gpu_hz is None

    def test_the_present_state_needs_no_permission(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        board(tmp_path)
        setting, _ = control(tmp_path)
        monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everything
        here = ComputeSetting(cpu_hz={"policy0": 1.416e9, "policy4": 1.8e9}, gpu_hz=921.6e6)
        assert setting.why_not(here) == ""
        lower = ComputeSetting(cpu_hz={"policy0": 408e6})
        assert "cannot be written by this user" in setting.why_not(lower)
        assert "cannot be written by this user" in setting.why_not(ComputeSetting(gpu_hz=76.8e6))


@root_only
class TestPowerModes:
    def test_the_mode_comes_first_because_it_sets_clocks(self, tmp_path: Path) -> None:
        folder = policy(tmp_path, 0, 408_000, 918_000, 1_479_000)

        def limit(mode: int) -> None:
            khz = 918_000 if mode else 1_479_000
            (folder / "scaling_max_freq").write_text(f"{khz}\n")

        modes = Modes(tmp_path, limit)
        setting, journal = control(tmp_path, modes.run)
        done = setting.apply(ComputeSetting(power_mode=1, cpu_hz={"policy0": 408e6}))
        assert (done.whole, done.means) == (True, "nvpmodel, cpufreq")
        assert (modes.mode, limits(folder)) == (1, [(408_000, 408_000)])
        assert done.setting.power_mode == 1
        setting.apply(ComputeSetting(cpu_hz={"policy0": 918e6}))
        assert (modes.mode, limits(folder)) == (0, [(408_000, 918_000)])
        journal.restore()
        assert limits(folder) == [(408_000, 1_479_000)]

    def test_an_unknown_mode(self, tmp_path: Path) -> None:
        modes = Modes(tmp_path)
        setting, _ = control(tmp_path, modes.run)
        assert "no power mode 7" in setting.why_not(ComputeSetting(power_mode=7))
        assert not setting.apply(ComputeSetting(power_mode=7)).whole
        assert modes.mode == 0


STEER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from boards_of_files import control
from fimi.energy.cost_model import ComputeSetting
setting, _ = control(Path(sys.argv[1]))
wish = ComputeSetting(cpu_hz={"policy0": 408e6, "policy4": 1.2e9}, gpu_hz=307.2e6, cores=1)
print(setting.apply(wish).whole, flush=True)
time.sleep(60)
"""


def test_the_next_process_undoes_what_a_killed_one_left(tmp_path: Path) -> None:
    folders = board(tmp_path)
    before = limits(*folders)
    process = subprocess.Popen(
        [sys.executable, "-c", STEER, str(tmp_path), str(Path(__file__).parents[1])],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "True"
    assert limits(*folders) != before
    process.send_signal(signal.SIGKILL)
    process.communicate()
    said = Journal(tmp_path / "state", tmp_path).recover()
    assert len(said) == 3
    assert all(line.startswith("put back: sys/") for line in said)
    assert limits(*folders) == before


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(
            ComputeSetting,
            cpu_hz=st.dictionaries(
                st.sampled_from(["policy0", "policy4"]),
                st.sampled_from([408e6, 1.0e9, 1.2e9, 1.4e9, 1.8e9]),
            ),
            gpu_hz=st.none() | st.sampled_from([float(hz) for hz in NANO_GPU_HZ]),
            cores=st.none() | st.just(1),
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_whatever_was_applied_the_machine_is_as_before(
    tmp_path_factory: pytest.TempPathFactory, wishes: list[ComputeSetting], floors: bool
) -> None:
    root = tmp_path_factory.mktemp("board")
    folders = board(root)
    if floors:  # as jetson_clocks leaves it: the lowest is the highest
        for folder in folders:
            prefix = "scaling_" if "policy" in folder.name else ""
            highest = (folder / f"{prefix}max_freq").read_text()
            (folder / f"{prefix}min_freq").write_text(highest)
    before, cores = limits(*folders), os.sched_getaffinity(0)
    setting, journal = control(root)
    for wish in wishes:
        done = setting.apply(wish)
        assert done.whole
        assert setting.in_force(done.setting)
        for low, high in limits(*folders):
            assert low <= high
    setting.restore()
    journal.restore()
    assert limits(*folders) == before
    assert os.sched_getaffinity(0) == cores
    assert journal.changes == ()
