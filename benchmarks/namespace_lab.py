"""A federation of real processes in network namespaces, of which any may be killed.

* :func:`base_environment`  a virtual environment with the base install and nothing else
* :class:`Lab`              a broker, a generator node, agents and a coordinator, each a process
* :func:`numbers`           what a run store holds, without what a clock on the wall said
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from namespace_network import HUB, HUB_ADDRESS, Network
from packaging.requirements import Requirement

from fimi.messaging.broker.embedded import find_mosquitto
from fimi.messaging.broker.passwords import password_hash
from fimi.messaging.credentials.rules import access_rules
from fimi.testbed.configuration.sections import FleetConfig

ROOT = Path(__file__).parents[1]
PORT = 1883
PATIENCE_S = 600.0
"""Far beyond what anything takes here."""
SETTINGS = (
    "--devices", "2", "--set", "generator.kind=bootstrap", "--set", "generator.gate=false",
    "--set", "plan.error_max=0.066", "--set", "plan.candidates=32", "--set", "plan.iterations=40",
)  # fmt: skip
"""A federation that is quick and still needs synthetic images."""

BrokerKind = Literal["mosquitto", "amqtt"]


def base_environment(folder: Path) -> Path:
    """A virtual environment that holds what a board has: fimi, as a wheel, and what it requires.

    What it requires is linked from the present environment, package by package.

    Returns:
        Its Python.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name in _required("fimi-testbed"):
        if name != "fimi-testbed":
            _link(importlib.metadata.distribution(name), packages)
    wheels = folder / "wheels"
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = wheels.iterdir()
    shutil.unpack_archive(wheel, packages, "zip")
    return folder / "bin" / "python"


def _required(name: str) -> set[str]:
    """A distribution and all that it requires, without extras."""
    found: set[str] = set()
    left = [name]
    while left:
        each = left.pop()
        if each in found:
            continue
        found.add(each)
        for text in importlib.metadata.requires(each) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                left.append(requirement.name)
    return found


def _link(distribution: importlib.metadata.Distribution, packages: Path) -> None:
    for top in {Path(str(file)).parts[0] for file in distribution.files or ()}:
        place, there = Path(str(distribution.locate_file(top))), packages / top
        if top not in ("..", "__pycache__") and not there.exists():
            there.symlink_to(place)


class Lab:
    """All processes of a federation, in a network and a folder.

    Args:
        network: where they run; coordinator, generator node and broker in its hub.
        folder: of their files.
        python: of the agents.
        settings: options of coordinator and generator node.
        broker: which program.
        keeps: whether a mosquitto keeps what it holds when it ends.
    """

    def __init__(
        self,
        network: Network,
        folder: Path,
        python: Path,
        *,
        settings: tuple[str, ...] = SETTINGS,
        broker: BrokerKind = "mosquitto",
        keeps: bool = True,
    ) -> None:
        self.network = network
        self.folder = folder
        self.settings = settings
        self.store = folder / "runs" / "lab" / "run.sqlite"
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.commands: dict[str, tuple[str, list[str]]] = {}
        self.options: tuple[str, ...] = ()
        self._starts: dict[str, int] = {}
        (folder / "logs").mkdir(parents=True)
        fimi = [sys.executable, "-m", "fimi.testbed.cli", "-v"]
        agent = [str(python), "-m", "fimi.testbed.cli", "-v", "agent", "run"]
        self.commands["broker"] = (HUB, self._broker(broker, keeps))
        self.commands["generator"] = (HUB, [*fimi, "generator", "run", *settings])
        for board in network.boards:
            self.commands[board] = (board, [*agent, "--id", board, "--cache", f"cache-{board}"])
        self._coordinator = [*fimi, "coordinator", "run"]

    def start(
        self,
        name: str,
        *more: str,
        user: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start a process: with the same command as before, or a first time.

        Args:
            name: ``"broker"``, ``"generator"``, a board, or another one of ``commands``.
            more: further options.
            user: its name at the broker, if that is another one.
            environment: further variables.
        """
        place, command = self.commands[name]
        number = self._starts[name] = self._starts.get(name, 0) + 1
        with (self.folder / "logs" / f"{name}-{number}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                self.network.inside(place, *command, *more),
                cwd=self.folder,
                env={**self._environment(name, user or name), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def coordinate(self, *options: str) -> None:
        """Start the coordinator of a new run."""
        self.commands["coordinator"] = (
            HUB,
            [*self._coordinator, "--name", "lab", "--format", "json", *self.settings, *options],
        )
        self.start("coordinator")

    def resume(self) -> None:
        """Start a coordinator that goes on with the run."""
        self.commands["coordinator"] = (
            HUB, [*self._coordinator, "--resume", "lab", "--format", "json"]
        )  # fmt: skip
        self.start("coordinator")

    def kill(self, *names: str) -> None:
        """Kill processes at once, with SIGKILL."""
        for name in names:
            self.running[name].send_signal(signal.SIGKILL)
        for name in names:
            self.running.pop(name).wait(10)

    def restart(self, *names: str) -> None:
        """Kill processes and start them again; the coordinator goes on with its run."""
        self.kill(*names)
        for name in names:
            if name == "coordinator":
                self.resume()
            else:
                self.start(name)

    def bring_up(self) -> None:
        """Start everybody but the coordinator."""
        self.start("broker")
        self.until(lambda: "10.77.0.1:1883" in self._listening(), "a broker that listens")
        for name in self.commands:
            if name not in ("broker", "coordinator"):
                self.start(name)

    def until(self, true: Callable[[], Any], what: str) -> Any:
        """Wait until something is true, and return it."""
        limit_s = time.monotonic() + PATIENCE_S
        while not (value := true()):
            coordinator = self.running.get("coordinator")
            if coordinator is not None and coordinator.poll():
                raise RuntimeError(f"{what}: the coordinator ended: {self.log('coordinator')}")
            if time.monotonic() > limit_s:
                raise TimeoutError(f"not within {PATIENCE_S:g} s: {what}; logs: {self.folder}")
            time.sleep(0.02)
        return value

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the run store answers; nothing while there is none."""
        try:
            db = sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=10)
        except sqlite3.Error:
            return []
        try:
            return db.execute(query).fetchall()
        except sqlite3.Error:
            return []
        finally:
            db.close()

    def last_round(self) -> int:
        """Number of the last stored round; 0 before the first."""
        return len(self.rows("SELECT number FROM round"))

    def after_round(self, number: int) -> None:
        """Wait until a round is stored."""
        self.until(lambda: self.last_round() >= number, f"round {number} is stored")

    def after_event(self, event: str, count: int = 1) -> None:
        """Wait until an event has been stored so many times."""
        query = f"SELECT id FROM event WHERE event = '{event}'"
        self.until(lambda: len(self.rows(query)) >= count, f"event {event!r} {count} times")

    def finish(self) -> dict[str, Any]:
        """Wait for the end of the run; returns what the coordinator prints."""
        process = self.running["coordinator"]
        code = self.until(lambda: process.poll() is not None and (process.returncode,), "an end")
        log = self.log("coordinator")
        if code != (0,):
            raise RuntimeError(f"coordinator ended with {code[0]}: {log[-3000:]}")
        result: dict[str, Any] = json.loads(log[log.index("\n{") :])
        return result

    def log(self, name: str) -> str:
        """What the latest process of that name has said."""
        return (self.folder / "logs" / f"{name}-{self._starts[name]}.log").read_text("utf-8")

    def logs(self) -> dict[str, str]:
        """What all processes have said, by file."""
        files = sorted((self.folder / "logs").iterdir())
        return {path.stem: path.read_text("utf-8") for path in files}

    def close(self) -> dict[str, int]:
        """Ask everybody to stop, the broker last; exit codes."""
        codes = {}
        for name in sorted(self.running, key=lambda name: name == "broker"):
            self.running[name].terminate()
        for name, process in self.running.items():
            codes[name] = process.wait(30)
        self.running.clear()
        return codes

    def _listening(self) -> str:
        command = self.network.inside(HUB, "ss", "-Hltn")
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def _environment(self, name: str, user: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FIMI_", "PYTHON"))}
        # The network is of this machine's kernel alone; only the address looks like another's.
        kept.update(OMP_NUM_THREADS="1", PYTHONFAULTHANDLER="1", FIMI_INSECURE="1")
        if name not in self.network.boards:
            kept["PYTHONPATH"] = str(ROOT)
        if name == "broker":
            kept["FIMI_PASSWORD"] = "secret"
        elif self._one_user:
            kept["FIMI_BROKER"] = f"mqtt://fimi:secret@{HUB_ADDRESS}:{PORT}"
        else:
            kept["FIMI_BROKER"] = f"mqtt://{user}:secret-of-{user}@{HUB_ADDRESS}:{PORT}"
        return kept

    def _broker(self, kind: BrokerKind, keeps: bool) -> list[str]:
        """The command of the broker."""
        self._one_user = kind == "amqtt"
        if self._one_user:
            command = [sys.executable, "-m", "fimi.testbed.cli", "broker", "--kind", kind]
            return [*command, "--bind", HUB_ADDRESS, "--port", str(PORT)]
        program = find_mosquitto()
        assert program is not None
        place = self.folder / "broker"
        place.mkdir()
        users = ("coordinator", "generator", *self.network.boards)
        passwords = [
            f"{user}:{password_hash(f'secret-of-{user}', os.urandom(12))}" for user in users
        ]
        (place / "passwords").write_text("\n".join(passwords) + "\n")
        (place / "rights").write_text(access_rules(FleetConfig().name, ["generator"], []))
        lines = [
            f"listener {PORT} {HUB_ADDRESS}",
            "allow_anonymous false",
            f"password_file {place}/passwords",
            f"acl_file {place}/rights",
            "user root",
            "log_dest stderr",
            f"persistence {'true' if keeps else 'false'}",
            f"persistence_location {place}/",
            "autosave_interval 1",
            "autosave_on_changes true",
        ]
        (place / "conf").write_text("\n".join(lines) + "\n")
        for each in place.iterdir():
            each.chmod(0o600)
        return [program, "-c", str(place / "conf")]
