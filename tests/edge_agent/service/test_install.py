"""A board in one step, in a system below a folder: what is made, updated, kept, and taken away."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import click
import msgspec
import pytest
from boards_of_files import policy
from click.testing import CliRunner
from worlds import TwoPackages

import fimi.energy.host_profile
from fimi.edge_agent.own_profile import OwnProfile
from fimi.edge_agent.service import install as installing
from fimi.edge_agent.service.install import (
    BUNDLE,
    CONFIG,
    PROFILE,
    UNIT_FILE,
    VERSIONS,
    InstallError,
    InstallInputError,
    InstallOrder,
    install,
    uninstall,
)
from fimi.edge_agent.service.roots import NotRootsError
from fimi.energy.clock import VirtualClock
from fimi.messaging.bundle import Bundle

EXAMPLE = (fimi.energy.host_profile.__doc__ or "").split("::\n", 1)[1]
KEY = "A" * 43 + "="

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("useradd") is None, reason="makes a user, below a folder"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system as Debian makes it, with a processor whose counters and clocks are root's."""
    place = tmp_path / "system"
    for folder in ("etc/systemd/system", "var/lib", "var/cache", "run", "proc/sys/kernel"):
        (place / folder).mkdir(parents=True)
    files = {
        "passwd": "root:x:0:0::/root:/bin/sh",
        "group": "root:x:0:",
        "shadow": "root:*:1::::::",
    }
    files["gshadow"] = "root:*::"
    for name, text in files.items():
        for ending in ("", "-"):
            (place / "etc" / (name + ending)).write_text(text + "\n")
    (place / "etc/login.defs").write_text("SYS_UID_MIN 100\nSYS_UID_MAX 999\nSYS_GID_MIN 100\n")
    TwoPackages(place, VirtualClock())
    policy(place, 0, 800_000, 3_000_000)
    return place


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    made = Bundle(
        fleet="desk", name="pi-01", role="device", host="desk.lan", port=8883,
        password="secret", ca_pem="pem", update_key=KEY,
    )  # fmt: skip
    made.write(tmp_path / "pi-01.bundle")
    return tmp_path / "pi-01.bundle"


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    file = tmp_path / "board.toml"
    text = "\n".join(line.strip() for line in EXAMPLE.splitlines())
    file.write_text(text.replace('meter = "auto"', 'meter = "rapl"'))
    return file


def tree(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file and folder: permissions, owner, content; without what useradd itself leaves."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.endswith("-") and name.startswith("etc/"):
            continue  # the accounts as they were before the last change
        kept = path.lstat()
        data = str(path.readlink()).encode() if path.is_symlink() else b""
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
        found[name] = (stat.S_IMODE(kept.st_mode), kept.st_uid, data)
    return found


@needs_root
def test_with_purge_nothing_is_left(root: Path, bundle: Path, profile: Path) -> None:
    before = tree(root)
    order = InstallOrder(
        bundle=bundle, host_profile=profile, allow=("calibrate", "restart", "update")
    )
    said = install(order, root=root)
    assert "user fimi made" in said
    made = tree(root)
    new = set(made) - set(before)
    assert {CONFIG, BUNDLE, PROFILE, UNIT_FILE, f"{VERSIONS.lstrip('/')}/trust.json"} <= new
    assert "etc/systemd/system/multi-user.target.wants/fimi-agent.service" in new
    assert "etc/tmpfiles.d/fimi-agent.conf" in new and "etc/udev/rules.d/70-fimi-agent.rules" in new
    assert made[BUNDLE][:2] == (0o640, 0)  # the agent reads it, and cannot change the key in it
    trust = msgspec.json.decode(made[f"{VERSIONS.lstrip('/')}/trust.json"][2])
    assert trust == {"fleet": "desk", "update_key": KEY}
    for folder in ("var/lib/fimi", "var/cache/fimi", "run/fimi"):  # as the service manager does
        (root / folder).mkdir()
        (root / folder / "something").write_text("kept")
    # As systemd-tmpfiles does.
    for line in (root / "etc/tmpfiles.d/fimi-agent.conf").read_text().splitlines():
        if line.startswith("z "):
            _, pattern, mode, *_ = line.split()
            matched = list(root.glob(pattern.lstrip("/")))
            assert matched, line
            for path in matched:
                path.chmod(int(mode, 8))
                os.chown(path, 0, 4711)
    for path in root.glob("sys/**/energy_uj"):
        path.chmod(0o440)
    gone = uninstall(root=root, purge=True)
    assert "user fimi removed" in gone
    after = tree(root)
    opened = {name for name in before if before[name][0] != after.get(name, (0, 0, b""))[0]}
    assert all(name.endswith(("energy_uj", "range_uj")) for name in opened)  # 0644 in the test tree
    assert all(after[name][0] == 0o400 for name in opened)
    assert {k: v[1:] for k, v in after.items()} == {k: v[1:] for k, v in before.items()}
    assert all((root / name).lstat().st_gid == 0 for name in after if name.startswith("sys/"))
    with pytest.raises(InstallError, match="no agent is installed"):
        uninstall(root=root, purge=True)


@needs_root
def test_without_purge_what_cannot_be_made_again_stays(root: Path, bundle: Path) -> None:
    before = tree(root)
    install(InstallOrder(bundle=bundle), root=root)
    said = uninstall(root=root)
    left = set(tree(root)) - set(before)
    assert left == {"etc/fimi", CONFIG, BUNDLE, "etc/fimi/installed.json"}
    assert any("--purge" in line for line in said)
    uninstall(root=root, purge=True)
    assert tree(root) == before


@needs_root
def test_twice_is_an_update_and_what_was_changed_by_hand_stays(
    root: Path, bundle: Path, profile: Path
) -> None:
    order = InstallOrder(bundle=bundle, host_profile=profile, allow=("restart",))
    install(order, root=root)
    first = tree(root)
    said = install(InstallOrder(), root=root)
    assert said[0] == "systemd does not run here: the agent begins at the next boot"
    assert [line for line in said[1:] if "the unit starts" not in line] == []
    assert tree(root) == first
    # A key by hand: kept, and still in force when something else is changed.
    config = root / CONFIG
    config.write_text(config.read_text() + '\ndata = "/srv/images"  # mine\n')
    mine = config.read_text()
    assert install(InstallOrder(), root=root)[0].startswith("systemd")
    assert config.read_text() == mine
    said = install(InstallOrder(allow=("restart", "calibrate")), root=root)
    assert any("changed by hand and stays" in line and CONFIG in line for line in said)
    assert config.read_text() == mine
    proposed = msgspec.toml.decode((root / f"{CONFIG}.new").read_bytes())
    assert proposed["data"] == "/srv/images"
    assert proposed["allow"] == ["restart", "calibrate"]
    said = install(InstallOrder(allow=("restart", "calibrate")), root=root, force=True)
    assert msgspec.toml.decode(config.read_bytes()) == proposed
    assert (root / f"{CONFIG}.old").read_text() == mine
    assert not (root / f"{CONFIG}.new").exists()
    assert "/etc/fimi" not in "".join(
        line for line in (root / UNIT_FILE).read_text().splitlines() if "ReadWrite" in line
    )
    # A unit by hand stays as well, and new rules come.
    unit = root / UNIT_FILE
    unit.write_text(unit.read_text().replace("WatchdogSec=60", "WatchdogSec=600"))
    profile.write_text(profile.read_text().replace('"rapl"', '"battery"'))
    said = install(InstallOrder(host_profile=profile), root=root)
    assert "WatchdogSec=600" in unit.read_text()
    assert any(f"/{PROFILE} replaced" in line for line in said)
    assert "energy_uj" not in (root / "etc/tmpfiles.d/fimi-agent.conf").read_text()
    uninstall(root=root, purge=True)
    assert not (root / "etc/fimi").exists()


@needs_root
@pytest.mark.parametrize("by", ["bundle", "broker"])
def test_the_agent_understands_what_the_command_writes(
    by: str, root: Path, bundle: Path, profile: Path
) -> None:
    from fimi.testbed.cli import main
    from fimi.testbed.commands.agent_config import read_agent_config
    from fimi.testbed.commands.nodes import agent_run

    who = ["--bundle", str(bundle)]
    if by == "broker":
        who = ["--broker", "mqtt://u:p@10.0.0.2", "--insecure", "--id", "d1", "--fleet", "lab"]
    every = ["--host-profile", str(profile), "--data", str(root), "--allow", "calibrate"]
    words = ["agent", "install", *who, *every, "--root", str(root), "--no-start"]
    done = CliRunner().invoke(main, words, env={"FIMI_BROKER": None})
    assert done.exit_code == 0, done.output
    options = {each.name: each for each in agent_run.params if isinstance(each, click.Option)}
    given = read_agent_config(root / CONFIG, {str(name): each for name, each in options.items()})
    assert given["host_profile"] == f"/{PROFILE}"
    assert given["place"] == str(root)
    assert given["allow"] == ["calibrate"]
    assert given.get("bundle", given.get("url")) == (
        f"/{BUNDLE}" if by == "bundle" else "mqtt://u:p@10.0.0.2"
    )
    assert ("insecure" in given) == (by == "broker")
    unit = CliRunner().invoke(main, ["agent", "install", "--print-unit", "--root", str(root)])
    assert unit.exit_code == 0, unit.output
    assert unit.output == (root / UNIT_FILE).read_text()


@needs_root
@pytest.mark.parametrize("by", ["--insecure", "FIMI_INSECURE"])
def test_an_exposed_broker_is_written_down_and_the_agent_takes_it(
    by: str, root: Path, free_port: int
) -> None:
    """The service has no environment of whoever has installed it."""
    from fimi.testbed.cli import main

    url = f"mqtt://u:p@0.0.0.0:{free_port}"  # this machine, and no loopback address
    words = ["agent", "install", "--broker", url, "--root", str(root), "--no-start"]
    quiet = {"FIMI_BROKER": None, "FIMI_BUNDLE": None, "FIMI_INSECURE": None}
    refused = CliRunner().invoke(main, words, env=quiet)
    assert refused.exit_code == 2
    assert "--insecure" in refused.output
    given = [by] if by == "--insecure" else []
    done = CliRunner().invoke(main, [*words, *given], env={**quiet, **({} if given else {by: "1"})})
    assert done.exit_code == 0, done.output
    agent = ["agent", "run", "--no-wait", "--config", str(root / CONFIG)]
    ran = CliRunner().invoke(main, agent, env=quiet)
    assert ran.exit_code == 3, "nobody listens there; it was not refused"
    assert "without TLS" in ran.output
    again = CliRunner().invoke(main, words, env=quiet)
    assert again.exit_code == 0, "nothing has changed"
    words[3] = url.replace("0.0.0.0", "10.0.0.9")
    other = CliRunner().invoke(main, words, env=quiet)
    assert other.exit_code == 2, "it was said of another broker"
    text = (root / CONFIG).read_text().replace("insecure = true\n", "")
    (root / CONFIG).write_text(text)
    assert CliRunner().invoke(main, agent, env=quiet).exit_code == 2


@needs_root
def test_a_broker_is_named_in_one_way(root: Path, bundle: Path) -> None:
    """A file with both would let the agent end at each start."""
    trial = {"id": "d1", "fleet": "lab", "insecure": True}
    install(InstallOrder(broker="mqtt://u:p@10.0.0.2", options=trial), root=root)
    install(InstallOrder(bundle=bundle, allow=("restart",)), root=root)
    given = msgspec.toml.decode((root / CONFIG).read_bytes())
    assert given == {"bundle": f"/{BUNDLE}", "cache": "/var/cache/fimi", "allow": ["restart"]}
    with pytest.raises(InstallInputError, match="--insecure"):
        install(InstallOrder(broker="mqtt://u:p@10.0.0.2"), root=root)
    install(InstallOrder(broker="mqtt://u:p@127.0.0.1"), root=root)
    given = msgspec.toml.decode((root / CONFIG).read_bytes())
    assert given["broker"] == "mqtt://u:p@127.0.0.1" and "bundle" not in given


@needs_root
def test_a_board_that_calibrates_itself_cannot_widen_its_grants(
    root: Path, bundle: Path, profile: Path
) -> None:
    """What the agent writes is not what root reads; where it once was, root stops."""
    order = InstallOrder(bundle=bundle, host_profile=profile, allow=("calibrate",))
    install(order, root=root)
    unit_before = (root / UNIT_FILE).read_text()
    owned_by_root = {name for name, kept in tree(root).items() if kept[1] == 0}
    assert {CONFIG, BUNDLE, PROFILE, str(Path(PROFILE).parent)} <= owned_by_root
    config = msgspec.toml.decode((root / CONFIG).read_bytes())
    assert config["calibrated"] == "/var/lib/fimi/calibrated"
    wide = profile.read_text().replace("[board", 'rate_control = "tc"\n[board', 1)
    calibrated = OwnProfile(root / PROFILE, root / "var/lib/fimi/calibrated")
    made = root / "made.toml"
    made.write_text(wide)
    calibrated.replace(made)
    assert calibrated.load().rate_control == "tc"  # the agent may wish for it
    install(InstallOrder(), root=root)
    assert (root / UNIT_FILE).read_text() == unit_before
    # As installed by a version in which the folder was the agent's.
    mine = (root / PROFILE).parent
    os.chown(mine, 4711, 4711)
    (root / PROFILE).write_text(wide)
    for refused in (InstallOrder(), order):
        with pytest.raises(NotRootsError, match="profile belongs to user 4711"):
            install(refused, root=root)
    os.chown(mine, 0, 0)
    os.chown(root / PROFILE, 4711, 4711)
    with pytest.raises(NotRootsError, match=r"board\.toml belongs to user 4711"):
        install(InstallOrder(), root=root)
    assert (root / UNIT_FILE).read_text() == unit_before


@needs_root
@pytest.mark.parametrize(
    "path", ["/home/pi/my images", "/home/a\nExecStartPre=+/bin/sh", "/home/%h"]
)
def test_paths_that_a_unit_reads_in_another_way(root: Path, bundle: Path, path: str) -> None:
    before = tree(root)
    with pytest.raises(InstallInputError, match="cannot stand in a systemd unit"):
        install(InstallOrder(bundle=bundle, data=Path(path)), root=root)
    assert tree(root) == before


@needs_root
def test_data_in_a_home_folder_are_seen(root: Path, bundle: Path) -> None:
    install(InstallOrder(bundle=bundle, data=Path("/home/pi/images")), root=root)
    assert "BindReadOnlyPaths=/home/pi/images" in (root / UNIT_FILE).read_text()


@needs_root
def test_a_new_bundle_replaces_the_old_one(root: Path, bundle: Path) -> None:
    install(InstallOrder(bundle=bundle), root=root)
    msgspec.structs.replace(Bundle.read(bundle), password="another").write(bundle)
    said = install(InstallOrder(bundle=bundle), root=root)
    assert f"/{BUNDLE} replaced" in said
    assert Bundle.read(root / BUNDLE).password == "another"


@needs_root
def test_what_others_have_put_there_is_not_removed(root: Path, bundle: Path) -> None:
    install(InstallOrder(bundle=bundle), root=root)
    (root / "etc/fimi/notes.txt").write_text("mine")
    said = uninstall(root=root, purge=True)
    assert (root / "etc/fimi/notes.txt").read_text() == "mine"
    assert any("notes.txt" in line for line in said)


@needs_root
def test_a_user_of_that_name_that_was_there_before_stays(root: Path, bundle: Path) -> None:
    passwd = root / "etc/passwd"
    passwd.write_text(passwd.read_text() + "fimi:x:321:654::/:/bin/false\n")
    install(InstallOrder(bundle=bundle), root=root)
    assert (root / BUNDLE).stat().st_gid == 654
    uninstall(root=root, purge=True)
    assert "fimi:x:321" in passwd.read_text()


def test_what_cannot_be_installed_changes_nothing(root: Path, bundle: Path, tmp_path: Path) -> None:
    before = tree(root)
    with pytest.raises(InstallInputError, match="--bundle FILE"):
        install(InstallOrder(), root=root)
    other = tmp_path / "other.bundle"
    kept = Bundle.read(bundle)
    msgspec.structs.replace(kept, role="coordinator", name="coordinator").write(other)
    with pytest.raises(InstallInputError, match="bundle of the coordinator"):
        install(InstallOrder(bundle=other), root=root)
    msgspec.structs.replace(kept, update_key="").write(other)
    with pytest.raises(InstallInputError, match="names no key for updates"):
        install(InstallOrder(bundle=other, allow=("update",)), root=root)
    for broker in ("mqtt://u:p@10.0.0.2", "mqtts://10.0.0.2"):
        with pytest.raises(InstallInputError, match="--insecure"):
            install(InstallOrder(broker=broker), root=root)
    with pytest.raises(InstallInputError, match="mqtt://"):
        install(InstallOrder(broker="http://h"), root=root)
    bad = tmp_path / "bad.toml"
    bad.write_text("name = 3\n")
    with pytest.raises(fimi.energy.host_profile.ProfileError):
        install(InstallOrder(bundle=bundle, host_profile=bad), root=root)
    assert tree(root) == before


def test_it_needs_root(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InstallError, match="sudo"):
        installing.install(InstallOrder(bundle=bundle))
    with pytest.raises(InstallError, match="sudo"):
        installing.uninstall()
