"""A first start from a card, in a system below a folder: each board takes its own bundle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fimi.messaging.bundle import Bundle

CARD = Path(__file__).parents[3] / "packaging" / "card"
SHELLS = [shell for shell in ("sh", "dash", "bash", "busybox") if shutil.which(shell)]

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("useradd") is None, reason="makes a user, below a folder"
)


class Card:
    """A machine that starts from a card."""

    def __init__(self, root: Path, boards: int) -> None:
        self.root, self.fimi = root, root / "boot/firmware/fimi"
        for folder in ("etc/systemd/system", "proc/device-tree", "run", "opt/fimi/bin", "var/lib"):
            (root / folder).mkdir(parents=True)
        (self.fimi / "bundles").mkdir(parents=True)
        for name, text in {"passwd": "root:x:0:0::/root:/bin/sh", "group": "root:x:0:"}.items():
            (root / "etc" / name).write_text(text + "\n")
        for name in ("shadow", "gshadow"):
            (root / "etc" / name).write_text("root:*:\n")
        (root / "etc/login.defs").write_text("SYS_UID_MIN 100\nSYS_UID_MAX 999\n")
        (root / "etc/hostname").write_text("raspberrypi\n")
        # An image in which fimi is installed already: this one.
        program = root / "opt/fimi/bin/fimi"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fimi.testbed.cli "$@"\n')
        program.chmod(0o755)
        lines = ["# serial, name"]
        for number in range(1, boards + 1):
            bundle = self.fimi / "bundles" / f"pi-{number:02d}.bundle"
            Bundle(
                fleet="desk", name=f"pi-{number:02d}", role="device", host="desk.lan", port=8883,
                password=f"secret-{number}", ca_pem="pem", update_key="A" * 43 + "=",
            ).write(bundle)  # fmt: skip
            bundle.chmod(0o755)  # as FAT shows every file
            lines.append(f"10000000abcdef{number:02x}, pi-{number:02d}\r")
        (self.fimi / "boards.csv").write_text("\n".join(lines) + "\n")

    def serial(self, text: bytes) -> None:
        (self.root / "proc/device-tree/serial-number").write_bytes(text)

    def start(self, shell: str = "sh") -> subprocess.CompletedProcess[str]:
        script = [*((shell, "sh") if shell == "busybox" else (shell,)), CARD / "first-boot.sh"]
        environment = {**os.environ, "FIMI_ROOT": str(self.root)}
        return subprocess.run(
            script, env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    def bundle(self) -> Bundle:
        return Bundle.read(self.root / "etc/fimi/agent.bundle")


@pytest.mark.parametrize("shell", SHELLS[-1:] + SHELLS[:1])
def test_a_board_takes_its_own_bundle_and_leaves_none(shell: str, tmp_path: Path) -> None:
    card = Card(tmp_path / "system", 40)
    card.serial(b"10000000ABCDEF11\0")
    (card.fimi / "options").write_text("--allow restart\r\n--allow update\n")
    done = card.start(shell)
    assert done.returncode == 0, done.stdout + done.stderr
    bundle = card.bundle()
    assert (bundle.name, bundle.password) == ("pi-17", "secret-17")
    assert (card.root / "etc/hostname").read_text() == "pi-17\n"
    assert list((card.fimi / "bundles").iterdir()) == []
    assert list((card.root / "run").iterdir()) == []
    config = (card.root / "etc/fimi/agent.toml").read_text()
    assert 'allow = ["restart", "update"]' in config
    (card.fimi / "bundles/pi-18.bundle").write_text("left by a loss of power")
    again = card.start(shell)
    assert list((card.fimi / "bundles").iterdir()) == []
    assert again.returncode == 0 and "installed already" in again.stdout


def test_a_serial_number_that_nobody_knows_is_left_on_the_card(tmp_path: Path) -> None:
    card = Card(tmp_path / "system", 2)
    card.serial(b"deadbeef\0")
    done = card.start()
    assert done.returncode == 1
    assert "deadbeef,NAME" in done.stderr
    assert (card.fimi / "UNKNOWN-SERIAL.txt").read_text() == "deadbeef\n"
    assert len(list((card.fimi / "bundles").iterdir())) == 2
    assert not (card.root / "etc/fimi").exists()


def test_by_host_name_with_a_profile_where_there_is_no_list(tmp_path: Path) -> None:
    import fimi.energy.host_profile

    card = Card(tmp_path / "system", 3)
    (card.fimi / "boards.csv").unlink()
    (card.root / "etc/hostname").write_text("pi-02\n")
    (card.fimi / "profiles").mkdir()
    example = (fimi.energy.host_profile.__doc__ or "").split("::\n", 1)[1]
    text = "\n".join(line.strip() for line in example.splitlines())
    (card.fimi / "profiles/default.toml").write_text(text)
    done = card.start()
    assert done.returncode == 0, done.stdout + done.stderr
    assert card.bundle().name == "pi-02"
    assert (card.root / "etc/fimi/profile/board.toml").read_text() == text


@pytest.mark.parametrize(
    ("name", "why"), [("../x", "is no id"), ("pi-99", "fimi fleet enroll pi-99")]
)
def test_names_without_a_bundle(name: str, why: str, tmp_path: Path) -> None:
    card = Card(tmp_path / "system", 1)
    (card.fimi / "boards.csv").unlink()
    (card.root / "etc/hostname").write_text(name)
    done = card.start()
    assert done.returncode == 1
    assert why in done.stderr
    assert not (card.root / "etc/fimi").exists()


def test_what_cloud_init_and_systemd_read(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    text = (CARD / "user-data").read_text()
    assert text.startswith("#cloud-config\n")
    found = yaml.safe_load(text)
    assert set(found) == {"package_update", "packages", "ntp", "runcmd"}
    assert all((CARD / Path(word).name).exists() for word in found["runcmd"][0][1:2])
    assert ["systemctl", "enable", "fimi-first-boot.service"] in found["runcmd"]
    assert "/boot/firmware/fimi/first-boot.sh" in (CARD / "fimi-first-boot.service").read_text()
    if shutil.which("systemd-analyze") is not None:
        unit = CARD / "fimi-first-boot.service"
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(unit)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "fimi-first-boot" not in done.stderr, done.stderr
