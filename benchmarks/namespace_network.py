"""A laboratory network on one machine: a hub and some boards, each in a network namespace.

::

    board-a ── eth0 ════ board-a ┐
                                 ├ br0 in the hub, 10.77.0.1
    board-b ── eth0 ════ board-b ┘

The bridge stands in a namespace of its own, so that nothing of the machine's network is changed
and two laboratories use the same addresses. Names carry the process that made them: what a process
has left behind that was killed is removed when the next one starts. It needs root and ``ip``
(iproute2).

* :class:`Network`   the namespaces, their links, and what runs in them
* :func:`why_not`    why there can be none on this machine
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

HUB = "hub"
HUB_ADDRESS = "10.77.0.1"
_PREFIX = "fimi-lab-"
_numbers = itertools.count()


class Network:
    """A hub and boards. A context manager; at its end everything in it is killed and removed.

    Args:
        boards: names of the boards, at most 12 characters each.
    """

    def __init__(self, boards: tuple[str, ...]) -> None:
        self.boards = boards
        self._tag = f"{_PREFIX}{os.getpid()}-{_born(os.getpid())}-{next(_numbers)}-"

    def __enter__(self) -> Network:
        remove_leftovers()
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes in it and remove it."""
        for name in _namespaces():
            if name.startswith(self._tag):
                _remove(name)

    def kill_all(self) -> None:
        """End all processes in it, and put its links up and in order."""
        for name in _namespaces():
            if name.startswith(self._tag):
                _kill_all(name)
        for board in self.boards:
            self.mend(board)

    def namespace(self, place: str) -> str:
        """The name of the namespace of a board or of the hub."""
        return self._tag + place

    def inside(self, place: str, *command: str) -> list[str]:
        """A command that runs there; the process is the command's own."""
        return ["ip", "netns", "exec", self.namespace(place), *command]

    def cut(self, board: str) -> None:
        """Take down the hub's end of a board's link: packets are lost, nobody is told."""
        _ip("-n", self.namespace(HUB), "link", "set", board, "down")

    def mend(self, board: str) -> None:
        """Put the link up again."""
        _ip("-n", self.namespace(HUB), "link", "set", board, "up")

    def impair(self, board: str, *what: str) -> None:
        """Let a board's link lose or delay what the hub sends, in the words of ``tc netem``."""
        for place, device in ((HUB, board), (board, "eth0")):
            tc = ["tc", "qdisc", "replace", "dev", device, "root", "netem", *what]
            _run(*self.inside(place, *tc))

    def _build(self) -> None:
        hub = self.namespace(HUB)
        for place in (HUB, *self.boards):
            _ip("netns", "add", self.namespace(place))
            _ip("-n", self.namespace(place), "link", "set", "lo", "up")
        _ip("-n", hub, "link", "add", "br0", "type", "bridge")
        _ip("-n", hub, "addr", "add", f"{HUB_ADDRESS}/24", "dev", "br0")
        _ip("-n", hub, "link", "set", "br0", "up")
        for number, board in enumerate(self.boards, 2):
            place = self.namespace(board)
            _ip("-n", place, "link", "add", "eth0", "type", "veth",
                "peer", "name", board, "netns", hub)  # fmt: skip
            _ip("-n", hub, "link", "set", board, "master", "br0", "up")
            _ip("-n", place, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
            _ip("-n", place, "link", "set", "eth0", "up")


def why_not() -> str:
    """Why this machine can hold no such network; empty if it can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no 'ip' (apt install iproute2)"
    try:
        with Network(("probe",)):
            return ""
    except OSError as error:
        return f"network namespaces cannot be made here: {error}"


def remove_leftovers() -> None:
    """Remove the laboratories of processes that are dead, with all that runs in them."""
    for name in _namespaces():
        if not name.startswith(_PREFIX):
            continue
        pid, born = name.removeprefix(_PREFIX).split("-")[:2]
        if _born(int(pid)) != born:
            _remove(name)


def _namespaces() -> Iterator[str]:
    folder = Path("/run/netns")
    yield from sorted(path.name for path in folder.iterdir()) if folder.is_dir() else ()


def _remove(name: str) -> None:
    """Kill whatever runs in a namespace, and remove it."""
    _kill_all(name)
    with contextlib.suppress(OSError):  # another process has removed it at the same time
        _ip("netns", "del", name)


def _kill_all(name: str) -> None:
    limit_s = time.monotonic() + 10.0
    while (pids := _ip("netns", "pids", name).split()) and time.monotonic() < limit_s:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.02)  # a killed process is there until its parent has been told


def _born(pid: int) -> str:
    """When a process started, in ticks since the machine did; empty if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _ip(*arguments: str) -> str:
    return _run("ip", *arguments)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
