"""Processes that faults happen to: started here and started again, or found by their id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import psutil

from fimi.messaging.address import BrokerAddress
from fimi.testbed.chaos.script import ProcessPart
from fimi.testbed.chaos.surroundings import FaultError, OwnClock, OwnDisk, limit_files

_LEASHED = 'exec 3<&0; (read _ <&3; kill -KILL 0) & exec "$@" 3<&- </dev/null'
"""Runs a command in the place of the shell. A second shell, of the same group, reads from a pipe
that this process holds open, and kills the group when that is closed: this process was killed."""

GRACE_S = 5.0
"""How long a command may take to end when it is asked to, s."""


class Target:
    """One process of a script.

    Args:
        name: its name there.
        part: what the script says.
        environment: variables of its command, beside those of this process; an empty one takes
            that of this process away.
        folder: for what is written while it runs.
        handles: what its command inherits.

    Raises:
        FaultError: it cannot have the disk or the clock that the script wants.
    """

    def __init__(
        self,
        name: str,
        part: ProcessPart,
        environment: dict[str, str],
        folder: Path,
        handles: tuple[int, ...] = (),
    ) -> None:
        self.name = name
        self.part = part
        self.starts = 0
        """How often its command was started."""
        self._handles = handles
        self._leash = -1
        self._child: subprocess.Popen[bytes] | None = None
        self._known: psutil.Process | None = None
        self.disk = OwnDisk(Path(part.disk.folder), part.disk.size_bytes) if part.disk else None
        self.clock = OwnClock(folder, name) if part.own_clock else None
        given = {**os.environ, **environment}
        self._environment = {
            key: value for key, value in given.items() if value or key not in environment
        }
        if self.clock is not None:
            self._environment |= self.clock.environment

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        if self.part.words:
            return self._child is not None and self._child.poll() is None
        with contextlib.suppress(FaultError):
            return self._process() is not None
        return False

    @property
    def code(self) -> int | None:
        """Exit code of its command, negative for a signal; ``None`` while it runs."""
        return None if self._child is None else self._child.poll()

    @property
    def pid(self) -> int:
        """Its process id.

        Raises:
            FaultError: it does not run.
        """
        return int(self._process().pid)

    def start(self) -> None:
        """Start its command, unless it runs or there is none.

        Raises:
            FaultError: it cannot be started.
        """
        words = self.part.words
        if not words or self.alive:
            return
        if shutil.which(words[0]) is None:
            raise FaultError(
                f"process.{self.name} cannot be started: there is no program {words[0]!r}"
            )
        if self.disk is not None:
            words = (*self.disk.prefix, *words)
        self._let_go()
        leash, self._leash = os.pipe()
        try:
            with contextlib.ExitStack() as stack:
                stack.callback(os.close, leash)
                output = subprocess.DEVNULL
                if self.part.output:
                    output = stack.enter_context(Path(self.part.output).open("ab")).fileno()
                self._child = subprocess.Popen(
                    ["sh", "-c", _LEASHED, "sh", *words],
                    stdin=leash,
                    stdout=output,
                    stderr=output,
                    env=self._environment,
                    start_new_session=True,
                    pass_fds=self._handles,
                )
        except OSError as error:
            raise FaultError(f"process.{self.name} cannot be started: {error}") from error
        self.starts += 1

    def kill(self) -> int:
        """SIGKILL to it, and to its children where it was started here; returns its id."""
        return self._signal(signal.SIGKILL)

    def stop(self) -> int:
        """SIGSTOP."""
        return self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT, if it still runs."""
        with contextlib.suppress(FaultError):
            self._signal(signal.SIGCONT)

    def limit_files(self, limit_bytes: int | None) -> None:
        """See :func:`~fimi.testbed.chaos.surroundings.limit_files`."""
        limit_files(self.pid, limit_bytes)

    def close(self) -> None:
        """End what was started here; what was found running is left alone."""
        child = self._child
        if child is not None:
            for number in (signal.SIGCONT, signal.SIGTERM):
                with contextlib.suppress(OSError):
                    os.killpg(child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(GRACE_S)
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        self._let_go()
        if self.disk is not None:
            self.disk.close()

    def _let_go(self) -> None:
        leash, self._leash = self._leash, -1
        if leash >= 0:
            os.close(leash)

    def _signal(self, number: signal.Signals) -> int:
        process = self._process()
        try:
            if self._child is not None:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
        except (OSError, psutil.Error) as error:
            raise FaultError(
                f"process.{self.name} ({process.pid}) cannot be given {number.name}: {error}"
            ) from error
        if number == signal.SIGKILL and self._child is not None:
            self._child.wait()
        return int(process.pid)

    def _process(self) -> psutil.Process:
        """The process; one whose id was given must still be the same one."""
        if self.part.words:
            if self._child is None or self._child.poll() is not None:
                raise FaultError(f"process.{self.name} does not run")
            return psutil.Process(self._child.pid)
        try:
            if self.part.pid_file:
                pid = int(Path(self.part.pid_file).read_text(encoding="ascii").split()[0])
                return psutil.Process(pid)
            if self._known is None:
                self._known = psutil.Process(self.part.pid)
            if not self._known.is_running() or self._known.status() == psutil.STATUS_ZOMBIE:
                raise FaultError(f"process.{self.name} ({self.part.pid}) has ended")
            return self._known
        except (OSError, ValueError, IndexError) as error:
            raise FaultError(
                f"process.{self.name}: {self.part.pid_file} names no process: {error}"
            ) from error
        except psutil.Error as error:
            raise FaultError(f"process.{self.name}: {error}") from error


def through(url: str, place: tuple[str, int]) -> str:
    """The URL of a broker, with the address of a proxy in the broker's place."""
    from msgspec.structs import replace

    address = replace(BrokerAddress.parse(url), host=place[0], port=place[1])
    return address.url(with_password=True)
