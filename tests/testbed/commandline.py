"""The program as a person runs it: the console script, in a folder, as a process of its own.

Every process that a :class:`Workplace` starts, and whatever those start, carries a mark in its
environment, so that a process left behind is found however it was orphaned. Temporary files go to
a folder of the workplace's own for the same reason.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import psutil

PATIENCE_S = 90.0
"""Far beyond what anything takes on an idle machine."""

SMALL = ("--devices", "3", "--rounds", "3", "--set", "plan.error_max=0.08")
"""A federation that is quick and still needs synthetic images."""

_MARK = "FIMI_TEST_WORKPLACE"
_script = Path(sys.executable).with_name("fimi")
PROGRAM = [str(_script)] if _script.exists() else [sys.executable, "-m", "fimi.testbed.cli"]


def wait_until(true: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Poll until something is true, and return it."""
    limit = time.monotonic() + patience_s
    while not (value := true()):
        assert time.monotonic() < limit, f"not within {patience_s:g} s: {what}"
        time.sleep(0.05)
    return value


class Workplace:
    """A folder to run ``fimi`` in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.mark = uuid.uuid4().hex
        self.environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(self.temporary),
            _MARK: self.mark,
        }
        for name in (
            *("FIMI_BROKER", "FIMI_BUNDLE", "FIMI_INSECURE", "FIMI_PASSWORD"),
            *("FORCE_COLOR", "NO_COLOR", "COLUMNS"),
        ):
            self.environment.pop(name, None)

    def start(
        self, *arguments: str, environment: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start ``fimi`` and return at once; output in pipes, own session."""
        return subprocess.Popen(
            [*PROGRAM, *arguments],
            cwd=self.folder,
            env={**self.environment, **(environment or {})},
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=options.pop("stderr", subprocess.PIPE),
            text=True,
            start_new_session=True,
            **options,
        )

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run ``fimi`` to its end."""
        return finish(self.start(*arguments, **options))

    def on_a_terminal(
        self, *arguments: str, columns: int = 80, environment: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Run ``fimi`` to its end on a terminal of 24 lines; exit code and what it showed."""
        import fcntl
        import pty
        import struct
        import termios

        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = self.start(
            *arguments,
            environment={"TERM": "xterm-256color", **(environment or {})},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # it has ended: that is how Linux says so
            pass
        finally:
            os.close(ours)
        return process.wait(PATIENCE_S), shown.decode().replace("\r\n", "\n")

    def processes(self) -> list[psutil.Process]:
        """Whoever was started from here, directly or not, and still runs."""
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.environ().get(_MARK) == self.mark
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def wait_for_silence(self, patience_s: float = 30.0) -> None:
        """Wait until no process is left."""
        wait_until(lambda: not self.processes(), "all processes ended", patience_s)

    def leftovers(self) -> list[str]:
        """Processes and temporary files that should not be there any more."""
        return [str(process) for process in self.processes()] + [
            str(path.relative_to(self.folder)) for path in self.temporary.rglob("*")
        ]

    def run_folder(self) -> Path:
        """The one run of this workplace."""
        (folder,) = (self.folder / "runs").iterdir()
        return folder

    def run_logs(self, run: str) -> list[Path]:
        """What the processes of a run have said, a file each."""
        return sorted((self.folder / "runs" / run / "logs").glob("*.log"))

    def finished_rounds(self) -> int:
        """How many rounds a running ``fimi`` has stored so far."""
        folders = [*(self.folder / "runs").glob("*/run.sqlite")]
        try:
            return len(rows(folders[0], "SELECT number FROM round")) if folders else 0
        except sqlite3.Error:
            return 0  # it is just being made

    def clean_up(self) -> None:
        """End whatever a failed test has left running."""
        for process in self.processes():
            try:
                process.kill()
            except psutil.Error:
                continue


class SharedRun(msgspec.Struct, frozen=True):
    """A dry run that has ended."""

    folder: Path
    code: int
    out: str
    err: str
    left: tuple[str, ...]

    @property
    def result(self) -> dict[str, Any]:
        """The JSON object that it printed."""
        result: dict[str, Any] = json.loads(self.out)
        return result

    @property
    def run_folder(self) -> Path:
        (folder,) = (self.folder / "runs").iterdir()
        return folder


def finish(
    process: subprocess.Popen[str], patience_s: float = PATIENCE_S
) -> subprocess.CompletedProcess[str]:
    """Wait for a process, with all that it printed."""
    try:
        out, err = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def rows(store: Path, query: str) -> list[tuple[Any, ...]]:
    """What a run store answers."""
    db = sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=10)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


def run_value(folder: Path, key: str) -> Any:
    """One column of a run store's table ``run``."""
    ((value,),) = rows(folder / "run.sqlite", f"SELECT {key} FROM run")
    return value


def is_whole(store: Path, *, everybody: bool = True) -> bool:
    """Whether a run store is undamaged and every round in it complete.

    Args:
        store: ``run.sqlite``.
        everybody: every device took part in every round.
    """
    if rows(store, "PRAGMA integrity_check") != [("ok",)]:
        return False
    numbers = [number for (number,) in rows(store, "SELECT number FROM round ORDER BY number")]
    devices = rows(store, "SELECT count(*) FROM device_round GROUP BY round")
    (fleet,) = rows(store, "SELECT count(*) FROM device_plan")
    if everybody:
        return numbers == [*range(1, len(numbers) + 1)] and devices == [fleet] * len(numbers)
    return numbers == [*range(1, len(numbers) + 1)] and len(devices) == len(numbers)


def one_screen(said: str) -> bool:
    """Whether an error is short and for people."""
    return "Traceback" not in said and "Warning" not in said and len(said.splitlines()) <= 25
