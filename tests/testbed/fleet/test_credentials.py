"""``fimi fleet init`` and what follows it, as a person types it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fimi.messaging import forgetting
from fimi.messaging.broker.embedded import find_mosquitto
from fimi.messaging.bundle import Bundle
from fimi.messaging.client import Peer
from fimi.messaging.console import Console
from fimi.messaging.errors import BrokerError
from fimi.testbed.cli import main

pytest.importorskip("cryptography", reason="certificates are made with it (fimi-testbed[fleet])")


class Keeper:
    """Somebody who looks after a fleet's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fimi(self, *arguments: str) -> Result:
        return CliRunner().invoke(
            main,
            ["fleet", *arguments],
            env={"FIMI_FLEET_FOLDER": str(self.folder), "COLUMNS": "100"},
        )


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Keeper:
    found = Keeper(tmp_path_factory.mktemp("keeper") / "fl")
    done = found.fimi("init", str(found.folder), "--host", "desk.local", "--fleet", "lab")
    assert done.exit_code == 0, done.output
    assert f"fimi broker --config {found.folder}" in done.output
    return found


def test_enrol_rotate_revoke(keeper: Keeper) -> None:
    done = keeper.fimi("enroll", "pi-01", "pi-02")
    assert done.exit_code == 0, done.output
    first, second = (Path(line) for line in done.stdout.split())
    old = Bundle.read(first)
    assert (old.fleet, old.name, old.role, old.host) == ("lab", "pi-01", "device", "desk.local")
    assert keeper.fimi("rotate", "pi-01").exit_code == 0
    assert Bundle.read(first).key_pem != old.key_pem
    assert keeper.fimi("revoke", "pi-02").exit_code == 0
    again = keeper.fimi("rotate", "pi-01").output.replace("\n", " ")
    assert "sudo systemctl restart mosquitto" in again, "nobody here runs that broker"
    new = keeper.fimi("enroll", "pi-03").output.replace("\n", " ")
    assert "sudo systemctl reload mosquitto" in new
    assert "restart" not in new
    keeper.fimi("revoke", "pi-03")
    back = keeper.fimi("enroll", "pi-03").output.replace("\n", " ")
    assert "an earlier certificate of pi-03" in back
    assert "sudo systemctl restart mosquitto" in back
    assert not second.exists()
    listed = json.loads(keeper.fimi("credentials", "--format", "json").stdout)["credentials"]
    by_name = {each["name"]: each for each in listed}
    assert by_name["pi-02"]["revoked"] == datetime.now(timezone.utc).date().isoformat()
    assert by_name["pi-01"]["revoked"] is None
    assert by_name["pi-01"]["expires"] == Bundle.read(first).expires
    text = keeper.fimi("credentials").stdout
    assert "revoked on" in text
    assert by_name["broker"]["expires"] in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["enroll", "coordinator"], "no name for a peer"),
        (["enroll", "a/b"], "a/b"),
        (["rotate", "nobody"], "these have: coordinator, generator"),
        (["rotate", "generator", "--host", "h"], "rotate broker"),
        (["revoke", "nobody"], "no credentials"),
        (["revoke", "coordinator"], "rotate coordinator"),
    ],
)
def test_refused(keeper: Keeper, arguments: list[str], says: str) -> None:
    done = keeper.fimi(*arguments)
    assert done.exit_code == 2
    assert says in done.output.replace("\n", " ")


def test_a_folder_that_is_there(keeper: Keeper) -> None:
    done = keeper.fimi("init", str(keeper.folder), "--host", "h")
    assert done.exit_code == 2
    assert "there already" in done.output.replace("\n", " ")


def test_what_ends_soon_is_said_with_every_command(tmp_path: Path) -> None:
    short = Keeper(tmp_path / "short")
    short.fimi("init", str(short.folder), "--host", "h", "--days", "5")
    done = short.fimi("enroll", "pi-01")
    words = done.output.replace("\n", " ")
    assert "the certificate of broker ends in 5 days" in words
    assert "fimi fleet rotate coordinator" in words
    end = datetime.now(timezone.utc).date() + timedelta(days=5)
    assert Bundle.read(short.folder / "bundles" / "pi-01.bundle").expires == end.isoformat()
    agent = CliRunner().invoke(
        main,
        ["agent", "run", "--no-wait", "--bundle", str(short.folder / "bundles" / "pi-01.bundle")],
    )
    assert agent.exit_code == 3, "there is no such broker"


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = CliRunner().invoke(main, ["fleet", "init", str(tmp_path / "file" / "f"), "--host", "h"])
    assert done.exit_code == 3
    words = done.stderr.replace("\n", " ")
    assert "Errno" not in words
    assert str(tmp_path / "file") in words


class TestBroker:
    @pytest.mark.parametrize(
        ("given", "says"),
        [
            (["--kind", "amqtt"], "no access rules"),
            (["--port", "1884"], "has decided that"),
            (["--bind", "0.0.0.0"], "has decided that"),
        ],
    )
    def test_what_does_not_go_with_a_folder(self, keeper: Keeper, given, says: str) -> None:
        done = CliRunner().invoke(main, ["broker", "--config", str(keeper.folder), *given])
        assert done.exit_code == 2
        assert says in done.output.replace("\n", " ")

    def revoked_and_forgotten(
        self, own: Keeper, coordinator: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        address = Bundle.read(own.folder / "bundles" / "pi-01.bundle").address()
        with Peer(address, fleet="desk", peer="pi-01", role="device") as board:
            done = own.fimi("forget", "pi-01")
            assert done.exit_code == 3
            assert "pi-01 is not forgotten: it is up and answers" in done.stderr
            done = own.fimi("revoke", "pi-01")
            assert "cuts connections with the old certificate within seconds" in done.stderr
            limit_s = time.monotonic() + 30.0
            while board.online:  # until the broker is started again
                assert time.monotonic() < limit_s
                time.sleep(0.02)
            assert "pi-01" in self.known(coordinator), "its last word was that it is online"
            monkeypatch.setattr(forgetting, "ALIVE_S", 0.1)  # it is gone for sure
            done = own.fimi("forget", "pi-01", "--bundle", coordinator)
            assert "give --folder" in done.stderr, "the coordinator may not"
            assert "pi-01" in self.known(coordinator)
            done = own.fimi("forget", "pi-01", "pi-02")
            assert done.exit_code == 0, done.output
            assert "pi-01 is forgotten: 2 documents" in done.stdout
            assert "the broker keeps nothing of pi-02" in done.stdout
            assert "pi-01" not in self.known(coordinator)

    def known(self, coordinator: str) -> set[str]:
        """Whom a console knows, as soon as the broker is there."""
        limit_s = time.monotonic() + 30.0
        while True:
            try:
                address = Bundle.read(Path(coordinator)).address()
                with Console(address, fleet="desk") as console:
                    return set(console.look(0.1))
            except BrokerError:
                assert time.monotonic() < limit_s
                time.sleep(0.05)

    def test_it_runs_and_reads_again(
        self, tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if find_mosquitto() is None:
            pytest.skip("mosquitto is not installed (apt install mosquitto)")
        own = Keeper(tmp_path / "fl")
        own.fimi("init", str(own.folder), "--host", "127.0.0.1", "--port", str(free_port))
        broker = subprocess.Popen(
            [sys.executable, "-m", "fimi.testbed.cli", "broker", "--config", str(own.folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert broker.stdout is not None
            assert "TLS 1.3, a certificate for each peer" in broker.stdout.readline()
            assert "127.0.0.1" in broker.stdout.readline()
            bundle = str(own.folder / "bundles" / "coordinator.bundle")
            looked = CliRunner().invoke(main, ["fleet", "status", "--bundle", bundle])
            assert looked.exit_code == 0, looked.output
            enrolled = own.fimi("enroll", "pi-01", "pi-02")
            assert "'fimi broker --config' reads it within a second" in enrolled.stderr
            assert "read them again" in broker.stdout.readline()
            self.revoked_and_forgotten(own, bundle, monkeypatch)
            said = broker.stdout.readline() + broker.stdout.readline()
            assert "read them again" in said
            assert "started again" in said
        finally:
            broker.terminate()
            assert broker.wait(20) == 0
