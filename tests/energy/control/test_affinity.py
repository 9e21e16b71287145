from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fimi.energy.control.affinity import CpuAffinity

REPOSITORY = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two cores whose use can be chosen",
)


def speeds(root: Path) -> int:
    """Make the last core the fastest; returns it."""
    cores = sorted(os.sched_getaffinity(0))
    for core in cores:
        folder = root / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "cpuinfo_max_freq").write_text(f"{1_000_000 + core}\n")
    return cores[-1]


def test_every_thread_runs_on_the_fastest_cores(tmp_path: Path) -> None:
    fastest, before = speeds(tmp_path), os.sched_getaffinity(0)
    begun, over = threading.Event(), threading.Event()
    found: dict[str, set[int]] = {}

    def work() -> None:
        begun.set()
        over.wait()
        found["running"] = os.sched_getaffinity(0)

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    control = CpuAffinity(tmp_path)
    try:
        assert control.limit(1) == ""
        assert os.sched_getaffinity(0) == {fastest}
        later = threading.Thread(target=lambda: found.update(later=os.sched_getaffinity(0)))
        later.start()
        later.join()
        assert control.why_not(len(before)) == "", "the limit of before is what counts"
    finally:
        over.set()
        thread.join()
        control.lift()
    assert found == {"running": {fastest}, "later": {fastest}}
    assert os.sched_getaffinity(0) == before
    control.lift()


def test_more_cores_than_there_are() -> None:
    control = CpuAffinity(Path("/"))
    assert "may use" in control.limit(10_000)
    assert control.count() == len(os.sched_getaffinity(0))


def test_it_ends_with_the_process(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from fimi.energy.control.affinity import CpuAffinity\n"
        "assert CpuAffinity(Path(sys.argv[1])).limit(1) == ''\n"
        "os.kill(os.getpid(), 9)\n"
    )
    before = os.sched_getaffinity(0)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=False)
    assert os.sched_getaffinity(0) == before
