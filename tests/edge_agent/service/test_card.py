"""A first start from a card, in a system below a folder: each board takes its own bundle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fimi.messaging.bundle import Bundle

CARD = Path(__file__).parents[3] / "packaging" / "card"
ENTRY = "[console_scripts]\nfimi = started:main\n"
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
    card.serial(b"deadbea7\0")  # the same card in the next board, and once more in it
    card.start()
    card.start()
    assert (card.fimi / "UNKNOWN-SERIAL.txt").read_text() == "deadbeef\ndeadbea7\n"
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
    assert list((card.fimi / "profiles").iterdir()) == []  # the password of a plug may stand in it


def test_a_card_with_one_bundle_is_of_the_board_that_it_names(tmp_path: Path) -> None:
    """Forty cards of one image have one host name, ``raspberrypi``."""
    card = Card(tmp_path / "system", 1)
    (card.fimi / "boards.csv").unlink()
    done = card.start()
    assert done.returncode == 0, done.stdout + done.stderr
    assert card.bundle().name == "pi-01"
    assert (card.root / "etc/hostname").read_text() == "pi-01\n"


def wheel(folder: Path, name: str, requires: str, files: dict[str, str]) -> None:
    """A wheel of pure Python."""
    info = f"{name}-0.1.0.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{each},,\n" for each in [*files, f"{info}/RECORD"])
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-0.1.0-py3-none-any.whl", "w") as made:
        for path, text in files.items():
            made.writestr(path, text)


def test_fimi_comes_from_the_wheel_on_the_card_and_from_nowhere_else(tmp_path: Path) -> None:
    card = Card(tmp_path / "system", 1)
    card.serial(b"10000000abcdef01\0")
    (card.root / "opt/fimi/bin/fimi").unlink()
    done = card.start()
    assert done.returncode == 1
    assert "must hold one wheel of fimi" in done.stderr and "pip wheel --no-deps" in done.stderr
    assert len(list((card.fimi / "bundles").iterdir())) == 1
    program = "import sys, the_other\ndef main(): print(the_other.NAME, *sys.argv[1:3])\n"
    # What the wheel holds is looked at elsewhere; here a program that says that it was started.
    wheel(
        card.fimi / "wheels",
        "fimi_testbed",
        "Provides-Extra: update\nRequires-Dist: the-other>=0.1; extra == 'update'\n",
        {
            "started.py": program,
            "fimi_testbed-0.1.0.dist-info/entry_points.txt": ENTRY,
        },
    )
    wheel(card.fimi / "wheels", "the_other", "", {"the_other.py": "NAME = 'other'\n"})
    done = card.start()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "and what it needs from the card" in done.stdout
    assert "other agent install" in done.stdout


@pytest.mark.parametrize(
    ("name", "why"), [("../x", "is no id"), ("pi-99", "fimi fleet enroll pi-99")]
)
def test_names_without_a_bundle(name: str, why: str, tmp_path: Path) -> None:
    card = Card(tmp_path / "system", 2)
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
    (user,) = found["users"]
    assert user["name"] == "pi" and found["ssh_pwauth"] is False and user["lock_passwd"] is True
    assert user["ssh_authorized_keys"] == ["PUBLIC-KEY"]  # what docs/forty-boards.md replaces
    assert found["preserve_hostname"] is True  # first-boot.sh names the board
    assert "python3-venv" in found["packages"] and found["ntp"] == {"enabled": True}
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
