"""Children that never outlive their parent: real processes, really killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from fimi.testbed.processes.nursery import Child, ChildFailedError, Nursery

CHILD = """
import threading, time
import msgspec
class ORDERS(msgspec.Struct):
    mode: str
def main(orders, stop):
    print("mode", orders.mode, flush=True)
    if orders.mode == "crash":
        raise SystemExit("boom: disk on fire")
    if orders.mode == "deaf":
        while True:
            time.sleep(1)
    stop.wait()
    print("stopped", flush=True)
"""


class Orders(msgspec.Struct):
    mode: str


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Child]]:
    (tmp_path / "fimi_test_child.py").write_text(CHILD)
    monkeypatch.syspath_prepend(tmp_path)
    with Nursery(tmp_path) as nursery:

        def start(mode: str) -> Child:
            child = nursery.start(mode, "fimi_test_child", Orders(mode))
            wait_for(lambda: f"mode {mode}" in child.log_path.read_text())
            return child

        yield start


ROOT = str(Path(__file__).parents[3])


def wait_for(true, timeout_s: float = 15.0) -> None:
    limit = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < limit, "did not happen"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_child_gets_its_orders_and_stops_when_asked(start) -> None:
    child = start("obedient")
    child.check()
    child.stop()
    assert gone(child.pid)
    assert "stopped" in child.log_path.read_text()


def test_below_a_temporary_folder_with_a_long_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork server's socket would not fit; children start without one."""
    (tmp_path / "fimi_test_child.py").write_text(CHILD)
    monkeypatch.syspath_prepend(tmp_path)
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with Nursery(tmp_path) as nursery:
        child = nursery.start("obedient", "fimi_test_child", Orders("obedient"))
        wait_for(lambda: "mode obedient" in child.log_path.read_text())


def test_a_child_that_crashes_is_reported_with_its_last_words(start) -> None:
    child = start("crash")
    with pytest.raises(ChildFailedError, match="disk on fire"):
        wait_for(child.check)  # the process is gone a little before its exit code is known


def test_a_deaf_child_is_ended_by_itself(start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fimi.testbed.processes.nursery.GRACE_S", 0.3)
    child = start("deaf")
    child.stop()
    assert gone(child.pid)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_ends_with_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "fimi_test_child.py").write_text(CHILD)
    code = textwrap.dedent(f"""
        import time
        import msgspec
        from pathlib import Path
        from fimi.testbed.processes.nursery import Nursery
        class Orders(msgspec.Struct):
            mode: str
        if __name__ == "__main__":
            with Nursery(Path({str(tmp_path)!r})) as nursery:
                print(nursery.start("kid", "fimi_test_child", Orders("obedient")).pid, flush=True)
                time.sleep(60)
    """)
    script = tmp_path / "parent.py"
    script.write_text(code)
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join([str(tmp_path), ROOT])),
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    wait_for(lambda: "mode obedient" in (tmp_path / "kid.log").read_text())
    parent.send_signal(how)
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: gone(pid))
