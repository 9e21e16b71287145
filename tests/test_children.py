"""Children that never outlive their parent, with an interpreter of their own or forked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from fimi import children
from fimi.children import Child, module_path
from fimi.fork_server import ForkServer

ROOT = str(Path(__file__).parents[1])

CHILD = """
import os, sys, time
from fimi.children import when_parent_is_gone
def main(orders):
    orders = orders.decode()
    if "deaf" not in orders:
        when_parent_is_gone(lambda: os._exit(7), 5.0)
    print("orders", len(orders), orders[:30], "arguments", sys.argv[1:], flush=True)
    print("an error", file=sys.stderr, flush=True)
    if "return" in orders:
        return 3
    if "raise" in orders:
        raise ValueError("disk on fire")
    if "exit" in orders:
        sys.exit("said why")
    if "import" in orders:
        import lonely
        return lonely.NUMBER
    time.sleep(60)
"""

Start = Callable[[str], Child]


def wait_for(true: Callable[[], object], timeout_s: float = 15.0) -> None:
    limit = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < limit, "did not happen"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def ended(child: Child) -> int:
    wait_for(lambda: child.code is not None)
    assert child.code is not None
    return child.code


@pytest.fixture(params=["own interpreter", "forked"])
def start(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Start]:
    """Starts a child of this test; it is ended with the test."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "fimi_test_child.py").write_text(CHILD)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    started: list[Child] = []
    before = psutil.Process().children()  # brokers of other tests
    with ForkServer() as server:

        def start(orders: str) -> Child:
            log = tmp_path / f"{len(started)}.log"
            told = msgspec.json.encode(orders)
            if request.param == "forked":
                started.append(server.start("fimi_test_child", told, log))
            else:
                started.append(children.start("fimi_test_child", told, log=log))
            return started[-1]

        yield start
        children.end(started, 0.5)
    assert psutil.Process().children() == before


def test_orders_of_any_size_arrive_and_output_is_kept(start: Start) -> None:
    for size in (0, 10, 300_000):
        child = start("x" * size)
        wait_for(lambda child=child: "an error" in child.tail())
        assert f"orders {size + 2} " in child.tail()


def test_orders_are_not_on_the_command_line(start: Start) -> None:
    child = start("secret-password")
    wait_for(lambda: "an error" in child.tail())
    assert "secret" in child.tail()
    assert "secret" not in " ".join(psutil.Process(child.pid).cmdline())


@pytest.mark.parametrize(
    ("orders", "code", "last"),
    [("return", 3, "an error"), ("raise", 1, "ValueError: disk on fire"), ("exit", 1, "said why")],
)
def test_how_it_ends(start: Start, orders: str, code: int, last: str) -> None:
    child = start(orders)
    assert ended(child) == code
    assert child.tail(1) == last


def test_a_signal_is_a_negative_code(start: Start) -> None:
    child = start("")
    os.kill(child.pid, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL


def test_it_ends_when_asked(start: Start) -> None:
    child = start("")
    wait_for(lambda: "an error" in child.tail())
    child.end(10.0)
    assert child.code == 7


def test_the_deaf_are_made_to_end_all_at_once(start: Start) -> None:
    all_ = [start("deaf") for _ in range(3)]
    for child in all_:
        wait_for(lambda child=child: "an error" in child.tail())
    children.end(all_, 0.1)
    assert [child.code for child in all_] == [-signal.SIGTERM] * 3


def test_it_lives_in_a_session_of_its_own(start: Start) -> None:
    child = start("")
    wait_for(lambda: "an error" in child.tail())
    assert os.getsid(child.pid) != os.getsid(0)


def test_arguments_and_output_that_nobody_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fimi_test_child.py").write_text(CHILD)
    monkeypatch.syspath_prepend(tmp_path)
    for keeps, said in (
        (True, "orders 8 \"return\" arguments ['a', '-b c']\nan error"),
        (False, "an error"),
    ):
        child = children.start(
            "fimi_test_child",
            b'"return"',
            arguments=("a", "-b c"),
            log=tmp_path / "log",
            keeps_output=keeps,
        )
        assert ended(child) == 3
        assert child.tail() == said


def test_when_the_server_dies_its_children_end_and_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fimi_test_child.py").write_text(CHILD)
    monkeypatch.syspath_prepend(tmp_path)
    before = psutil.Process().children()
    with ForkServer() as server:
        child = server.start("fimi_test_child", b'""', tmp_path / "log")
        pid = child.pid
        (process,) = (p for p in psutil.Process().children() if p not in before)
        process.kill()
        wait_for(lambda: gone(pid))
        assert ended(child) == 255
        after = server.start("fimi_test_child", b'""', tmp_path / "log")
        assert ended(after) == 255
        assert after.pid == 0


def test_a_module_that_is_not_there_to_preload_is_left_to_the_child(tmp_path: Path) -> None:
    with ForkServer(["no_such_module"]) as server:
        child = server.start("no_such_module", b'""', tmp_path / "log")
        assert ended(child) == 1
        assert "No module named 'no_such_module'" in child.tail(1)


PARENT = """
import sys, time
from pathlib import Path
from fimi import children
from fimi.fork_server import ForkServer
log = Path(sys.argv[1])
with ForkServer() as server:
    for child in (children.start("fimi_test_child", log=log / "a"),
                  server.start("fimi_test_child", b'""', log / "b")):
        print(child.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_children_end_with_their_parent(tmp_path: Path, how: signal.Signals) -> None:
    """The parent is a script without a guard: children do not run it again."""
    (tmp_path / "fimi_test_child.py").write_text(CHILD)
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "parent.py", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": ROOT},
    )
    assert parent.stdout is not None
    with parent.stdout:
        pids = [int(parent.stdout.readline()) for _ in range(2)]
    family = psutil.Process(parent.pid).children(recursive=True)
    assert {*pids} < {each.pid for each in family}
    for name in "ab":
        wait_for(lambda name=name: "an error" in (tmp_path / name).read_text())
    parent.send_signal(how)
    parent.wait()
    wait_for(lambda: all(gone(each.pid) for each in family))


class TestWhereModulesAreFound:
    def test_the_working_folder_comes_last(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("PYTHONPATH", raising=False)
        for front in ("", str(tmp_path)):
            monkeypatch.setattr(sys, "path", [front, "/a", "/b"])
            assert module_path() == ["/a", "/b", str(tmp_path)]
        monkeypatch.setattr(sys, "path", ["/a", "/b"])
        assert module_path() == ["/a", "/b"]

    def test_unless_the_person_has_put_it_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [str(tmp_path), "/a"])
        for named in (str(tmp_path), f"/x{os.pathsep}."):
            monkeypatch.setenv("PYTHONPATH", named)
            assert module_path() == [str(tmp_path), "/a"]

    def test_a_module_of_ones_own_is_found_there(
        self, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "here").mkdir()
        (tmp_path / "here" / "lonely.py").write_text("NUMBER = 42")
        monkeypatch.chdir(tmp_path / "here")
        assert ended(start("import")) == 1
        monkeypatch.syspath_prepend("")
        assert ended(start("import")) == 42
