"""Children that never outlive their parent: real processes, really killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from fimi.children import Child
from fimi.testbed.processes.nursery import ChildFailedError, Nursery

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
def nursery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nursery]:
    (tmp_path / "fimi_test_child.py").write_text(CHILD)
    monkeypatch.syspath_prepend(tmp_path)
    with Nursery(tmp_path) as nursery:
        yield nursery


def start(nursery: Nursery, mode: str) -> Child:
    child = nursery.start(mode, "fimi_test_child", Orders(mode))
    wait_for(lambda: f"mode {mode}" in child.tail())
    return child


ROOT = str(Path(__file__).parents[3])


def wait_for(true, timeout_s: float = 15.0) -> None:
    limit = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < limit, "did not happen"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_child_gets_its_orders_and_stops_when_asked(nursery: Nursery) -> None:
    child = start(nursery, "obedient")
    nursery.check()
    child.end(8.0)
    assert gone(child.pid)
    assert child.code == 0
    assert child.tail().endswith("stopped")


def test_children_share_a_server_and_are_ended_together(nursery: Nursery) -> None:
    before = psutil.Process().children()  # brokers of other tests
    pids = [start(nursery, mode).pid for mode in ("obedient", "obedient", "obedient")]
    nursery.__exit__()
    assert len({*pids}) == 3
    assert all(gone(pid) for pid in pids)
    assert psutil.Process().children() == before


def test_a_child_that_crashes_is_reported_with_its_last_words(nursery: Nursery) -> None:
    start(nursery, "crash")
    with pytest.raises(ChildFailedError, match=r"'crash' ended by itself \(exit code 1\).*\n.*\n"
                                               "boom: disk on fire"):  # fmt: skip
        wait_for(nursery.check)  # the process is gone a little before its exit code is known


def test_a_child_that_is_killed_is_reported(nursery: Nursery) -> None:
    os.kill(start(nursery, "obedient").pid, signal.SIGKILL)
    with pytest.raises(ChildFailedError, match=r"exit code -9"):
        wait_for(nursery.check)


def test_a_deaf_child_is_ended(nursery: Nursery) -> None:
    child = start(nursery, "deaf")
    child.end(0.3)
    assert gone(child.pid)
    assert child.code == -signal.SIGTERM


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
