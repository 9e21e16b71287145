"""A signed version comes over the broker, is tried, and is left again if it does not report.

The agents are processes of their own, started line by line from the unit that an installation
writes, as the service manager would (:class:`Manager`); the broker is a Mosquitto.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("cryptography", reason="the extra 'update' checks signatures")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from fimi.edge_agent.service.unit import Service, unit
from fimi.edge_agent.service.versions import Trust, Versions, write_trust
from fimi.messaging.broker.embedded import EmbeddedBroker, find_mosquitto
from fimi.messaging.console import Console
from fimi.messaging.errors import BoardDeclines
from fimi.messaging.questions import BoardStatus, StatusQuestion, UpdateOffer
from fimi.sources import source_digest, version
from fimi.testbed.cli import main

ROOT = Path(__file__).parents[3]
PATIENCE_S = 90.0
FLEET = "desk"


class Manager:
    """Starts a service from its unit: what stands before and behind it, and again when it failed.

    Attributes:
        said: what its commands have printed, start by start.
        ended: exit codes of the main process.
        trial_s: how long a new version may take to report, s.
    """

    def __init__(self, text: str, folder: Path, environment: dict[str, str]) -> None:
        self.said: list[str] = []
        self.ended: list[int] = []
        self.trial_s = PATIENCE_S
        self._lines = re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)
        runtime = folder / "run"
        runtime.mkdir()
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify"))
        self._notify.settimeout(0.1)
        self._environment = {
            **environment,
            "NOTIFY_SOCKET": str(folder / "notify"),
            "RUNTIME_DIRECTORY": str(runtime),
        }
        self._log = (folder / "log").open("w+")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        self._notify.close()
        self._log.close()

    def words(self) -> str:
        return Path(self._log.name).read_text() + "\n".join(self.said)

    def _commands(self, key: str) -> Iterator[list[str]]:
        for name, value in self._lines:
            if name == key:
                yield shlex.split(value.removeprefix("+"))

    def _serve(self) -> None:
        again = True
        while again and not self._stop.is_set():
            code = self._one()
            self.ended.append(code)
            again = code != 0

    def _one(self) -> int:
        for command in self._commands("ExecStartPre"):
            done = subprocess.run(
                command, env=self._environment, capture_output=True, text=True, check=False
            )
            self.said.append(done.stdout + done.stderr)
            if done.returncode:
                return done.returncode
        (command,) = self._commands("ExecStart")
        main = subprocess.Popen(command, env=self._environment, stdout=self._log, stderr=self._log)
        try:
            if self._is_ready(main):
                for behind in self._commands("ExecStartPost"):
                    waits = subprocess.Popen(
                        [*behind, "--seconds", str(self.trial_s)], env=self._environment
                    )
                    while waits.poll() is None and main.poll() is None:
                        time.sleep(0.02)
                    if waits.poll() is None:
                        waits.terminate()
                    if waits.wait():
                        main.terminate()
            while main.poll() is None and not self._stop.is_set():
                time.sleep(0.02)
        finally:
            main.terminate()
        return main.wait() or (0 if self._stop.is_set() else 1)

    def _is_ready(self, main: subprocess.Popen[bytes]) -> bool:
        while main.poll() is None and not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                if self._notify.recv(1000) == b"READY=1":
                    return True
        return False


def wheel(number: str, **changed: str) -> bytes:
    """A wheel of this tree with another version, and modules that hold something else."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        for folder, _, names in os.walk(ROOT / "fimi", followlinks=True):
            for path in (Path(folder) / name for name in names if name.endswith(".py")):
                inside = path.relative_to(ROOT).as_posix()
                text = path.read_text()
                made.writestr(inside, text + changed.get(path.stem, ""))
        info = f"fimi_testbed-{number}.dist-info"
        needs = "Requires-Dist: click>=8.1\nRequires-Dist: nowhere; extra == 'more'\n"
        made.writestr(
            f"{info}/METADATA",
            f"Metadata-Version: 2.3\nName: fimi-testbed\nVersion: {number}\n{needs}",
        )
    return out.getvalue()


class Desk(NamedTuple):
    folder: Path
    broker: EmbeddedBroker
    manager: Manager
    versions: Versions
    key: ed25519.Ed25519PrivateKey

    def update(self, data: bytes, *more: str) -> Result:
        file, key = self.folder / "sent.whl", self.folder / "update.key"
        file.write_bytes(data)
        key.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        words = ["fleet", "update", "d1", "--fleet", FLEET, "--wheel", str(file)]
        environment = {"FIMI_BROKER": self.broker.address.url(with_password=True)}
        return CliRunner().invoke(main, [*words, "--key", str(key), *more], env=environment)

    def status(self) -> BoardStatus:
        until_s = time.monotonic() + PATIENCE_S
        with Console(self.broker.address, fleet=FLEET) as console:
            while time.monotonic() < until_s:
                seen = console.look().get("d1")
                if seen is not None and seen.answered and seen.status is not None:
                    return seen.status
        raise AssertionError(f"d1 does not answer: {self.manager.words()}")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    if find_mosquitto() is None:
        pytest.skip("no mosquitto")
    folder = tmp_path_factory.mktemp("desk")
    key = ed25519.Ed25519PrivateKey.generate()
    place = folder / "versions"
    place.mkdir()
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    write_trust(place, Trust(fleet=FLEET, update_key=public))
    with EmbeddedBroker(kind="mosquitto") as broker:
        url = broker.address.url(with_password=True)
        config = folder / "agent.toml"
        config.write_text(
            f'broker = "{url}"\nid = "d1"\nfleet = "{FLEET}"\nallow = ["update"]\n'
            f'versions = "{place}"\n'
        )
        text = unit(
            Service(fimi=(sys.executable, "-m", "fimi.testbed.cli"), config=config, updates=place)
        )
        # What is installed by hand is this tree; a version goes before it.
        text = text.replace(f"PYTHONPATH={place}/current", f"PYTHONPATH={place}/current:{ROOT}")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FIMI")}
        environment |= {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
        manager = Manager(text, folder, environment)
        try:
            yield Desk(folder, broker, manager, Versions(place, folder / "run/update"), key)
        finally:
            manager.stop()


def test_a_new_version_stays_once_it_has_reported(desk: Desk) -> None:
    before = desk.status()
    assert before.sources == source_digest()
    done = desk.update(wheel("9.0.0", units="\n# of the new version\n"))
    assert done.exit_code == 0, done.output + desk.manager.words()
    assert "d1 is in the new version after" in done.output
    after = desk.status()
    assert after.version == "9.0.0"
    assert after.sources != before.sources
    assert desk.manager.ended == [75]
    outcome = desk.versions.outcome
    assert outcome is not None and outcome.what == "installed"
    assert desk.versions.current.startswith("9.0.0-")


@pytest.mark.parametrize(
    ("module", "broken", "why"),
    [
        ("agent", "\nraise ImportError('a mistake')\n", "it ends at its start"),
        ("receiving", "\nReceiving.report = lambda self: None\n", "it never reports"),
    ],
    ids=["ends", "silent"],
)
def test_a_version_that_does_not_report_is_left(
    desk: Desk, module: str, broken: str, why: str
) -> None:
    before, starts = desk.status(), len(desk.manager.ended)
    held = desk.versions.current
    sent = wheel(f"9.1.{len(module)}", **{module: broken})
    desk.manager.trial_s = 2.0  # too short for the silent one only: the other has none
    done = desk.update(sent)
    assert done.exit_code == 3, (why, done.output, desk.manager.words())
    assert "d1 is in fimi" in done.output and "has not reported" in done.output
    desk.manager.trial_s = PATIENCE_S
    after = desk.status()
    assert desk.versions.current == held
    assert after.sources == before.sources
    assert after.version == before.version
    assert "has not reported" in after.update
    assert len(desk.manager.ended) >= starts + 2


def test_what_was_sent_before_is_refused_also_if_the_signature_is_right(desk: Desk) -> None:
    from fimi.edge_agent.service.release import sign

    desk.status()
    data = wheel("9.2.0")
    pem = (desk.folder / "update.key").read_bytes()
    old = sign(data, pem, fleet=FLEET)
    desk_last = desk.update(wheel("9.2.1"))
    assert desk_last.exit_code == 0, desk_last.output
    with Console(desk.broker.address, fleet=FLEET) as console:
        with pytest.raises(BoardDeclines, match="signed before the last one"):
            console.ask("d1", UpdateOffer(statement=old.statement, signature=old.signature))
        assert isinstance(console.ask("d1", StatusQuestion()), BoardStatus)
    lower = desk.update(wheel("0.0.1"))
    assert lower.exit_code == 3
    assert "lower than 9.2.1" in lower.output and "--older" in lower.output
    assert desk.status().version == "9.2.1"
    assert version() != "9.2.1"
