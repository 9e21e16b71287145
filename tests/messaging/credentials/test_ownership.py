"""Whose the files are, and as whom the broker runs, where root makes a fleet."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fimi.messaging.broker.embedded import find_mosquitto
from fimi.messaging.broker.of_fleet import FleetBroker
from fimi.messaging.bundle import Bundle
from fimi.messaging.credentials.folder import FleetFolder, FolderError
from fimi.messaging.credentials.ownership import BROKER_READS
from fimi.messaging.link import probe

pytest.importorskip("cryptography", reason="certificates are made with it (fimi-testbed[fleet])")


def has_user(name: str) -> bool:
    try:
        return pwd.getpwnam(name).pw_uid != 0
    except KeyError:
        return False


as_root = pytest.mark.skipif(
    os.geteuid() != 0 or not has_user("mosquitto") or not has_user("nobody"),
    reason="needs root, and the users mosquitto and nobody",
)


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that every user of this machine may enter; those of pytest are closed."""
    place = Path(tempfile.mkdtemp(prefix="fimi-place-", dir="/tmp"))
    place.chmod(0o711)
    yield place
    shutil.rmtree(place)


def read_as(user: str, folder: Path) -> set[str]:
    """The files of a folder that a user can read, as the system decides."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    code = (
        "import sys\nfor name in sys.argv[2:]:\n    try:\n        open(f'{sys.argv[1]}/{name}')\n"
        "        print(name)\n    except OSError:\n        pass\n"
    )
    row = pwd.getpwnam(user)
    said = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", code, str(folder), *names],
        user=row.pw_uid,
        group=row.pw_gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    return set(said.stdout.split())


def mosquittos(folder: Path) -> list[psutil.Process]:
    return [
        each
        for each in psutil.process_iter(["cmdline", "status"])
        if (words := each.info["cmdline"])
        and "mosquitto" in words[0]
        and str(folder) in words[-1]
        and each.info["status"] != psutil.STATUS_ZOMBIE
    ]


def made(path: Path, port: int = 8883) -> FleetFolder:
    return FleetFolder.begin(path, fleet="desk", hosts=["127.0.0.1"], port=port)


@as_root
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="no python for all users")
def test_the_broker_reads_what_it_needs_and_no_more(open_place: Path) -> None:
    folder = made(open_place / "fl")
    assert "user mosquitto\n" in (folder.path / "mosquitto.conf").read_text()
    folder.enroll("pi-01")
    needed = {name for name in BROKER_READS if name != "passwords"}
    assert read_as("mosquitto", folder.path) == needed
    assert read_as("nobody", folder.path) == set()
    assert folder.ownership.warning == ""


@as_root
def test_a_broker_that_was_taken_over_gets_nothing_of_roots(open_place: Path) -> None:
    """It may put what it likes where it keeps things, and cannot say as whom it is started."""
    folder = made(open_place / "fl")
    row = pwd.getpwnam("mosquitto")
    (victim := open_place / "victim").write_text("root's")
    kept = folder.path / "state"
    os.link(victim, kept / "mosquitto.db")
    (open_place / "others").mkdir()
    (open_place / "others" / "file").touch()
    (kept / "inner").symlink_to(open_place / "others")
    (kept / "own").touch()
    folder.enroll("pi-01")
    assert victim.owner() == "root"
    assert (open_place / "others" / "file").owner() == "root"
    assert (kept / "own").owner() == "mosquitto"
    said = (folder.path / "mosquitto.conf").stat()
    assert (said.st_uid, said.st_gid, said.st_mode & 0o777) == (0, row.pw_gid, 0o640)


@as_root
def test_it_runs_as_mosquitto(
    open_place: Path, free_port: int, settle: Callable[..., None]
) -> None:
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    folder = made(open_place / "fl", free_port)
    with FleetBroker(folder) as broker:
        (process,) = mosquittos(folder.path)
        assert process.username() == "mosquitto"
        bundle = Bundle.read(folder.enroll("pi-01"))
        assert broker.follow() == "reread"
        settle(lambda: _is_let_in(bundle))
        parent = process.parent()
        assert parent is not None
        assert parent.username() == "root"
        parent.send_signal(signal.SIGKILL)  # then the broker goes as well: the port is free
        settle(lambda: not mosquittos(folder.path))
        assert not broker.alive
    assert (folder.path / "state").owner() == "mosquitto"


def _is_let_in(bundle: Bundle) -> bool:
    probe(bundle.address())
    return True


@as_root
def test_with_sudo_it_is_the_callers(open_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "nobody")
    folder = made(open_place / "fl")
    monkeypatch.delenv("SUDO_USER")
    FleetFolder.open(folder.path).enroll("pi-01")  # by root, later
    FleetFolder.open(folder.path).rotate("pi-01")
    everything = (folder.path, *folder.path.rglob("*"))
    assert {path.owner() for path in everything} == {"nobody"}
    assert "user nobody\n" in (folder.path / "mosquitto.conf").read_text()
    assert (folder.path.stat().st_mode & 0o777) == 0o700
    (folder.path / "rules").unlink()
    (folder.path / "rules").symlink_to(open_place / "elsewhere")
    with pytest.raises(FolderError, match="is a link"):
        FleetFolder.open(folder.path).enroll("pi-02")
    assert not (open_place / "elsewhere").exists()


@as_root
def test_a_place_that_is_closed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setenv("SUDO_USER", "nobody")
    folder = made(closed / "fl")
    assert "may not enter" in folder.ownership.warning
    assert "user root\n" in (folder.path / "mosquitto.conf").read_text()


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="not for root")
def test_a_users_folder_is_that_users(tmp_path: Path) -> None:
    folder = made(tmp_path / "fl")
    name = pwd.getpwuid(os.geteuid()).pw_name
    assert f"user {name}\n" in (folder.path / "mosquitto.conf").read_text()
