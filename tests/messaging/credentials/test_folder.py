from __future__ import annotations

import shutil
import stat
import subprocess
from datetime import date, timedelta
from pathlib import Path

import msgspec
import pytest

from fimi.files import FileLock
from fimi.messaging.bundle import Bundle
from fimi.messaging.credentials.decided import Revoked
from fimi.messaging.credentials.folder import FleetFolder, FolderError
from fimi.messaging.credentials.rules import access_rules
from fimi.messaging.credentials.settings import REVOKED
from fimi.messaging.home_assistant import discovery_filter


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> FleetFolder:
    return FleetFolder.begin(
        tmp_path_factory.mktemp("kept") / "fl", fleet="desk", hosts=["desk.local", "10.0.0.3"]
    )


class TestBeginning:
    def test_only_the_owner_gets_at_it(self, kept: FleetFolder) -> None:
        for path in (kept.path, *kept.path.rglob("*")):
            mode = stat.S_IMODE(path.lstat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), path

    def test_its_keys_come_into_no_repository(self, tmp_path: Path) -> None:
        """The walkthroughs make it in the folder of the sources."""
        if shutil.which("git") is None:
            pytest.skip("git is not installed (apt install git)")
        FleetFolder.begin(tmp_path / "lab", fleet="desk", hosts=["h"])
        (tmp_path / "fimi.toml").write_text("")
        for words in (["init", "-q"], ["add", "-A"], ["ls-files"]):
            done = subprocess.run(
                ["git", *words], cwd=tmp_path, capture_output=True, text=True, check=True
            )
        assert done.stdout == "fimi.toml\n"

    def test_a_folder_that_is_there_is_left_alone(self, kept: FleetFolder, tmp_path: Path) -> None:
        before = (kept.path / "ca.key").read_bytes()
        with pytest.raises(FolderError, match="there already"):
            FleetFolder.begin(kept.path, fleet="desk", hosts=["h"])
        assert (kept.path / "ca.key").read_bytes() == before
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        with pytest.raises(FolderError, match="there already"):
            FleetFolder.begin(tmp_path / "link", fleet="desk", hosts=["h"])

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ({"fleet": "a/b"}, "a/b"),
            ({"hosts": []}, "--host"),
            ({"hosts": ["desk local"]}, "desk local"),
            ({"hosts": ["mqtt://desk"]}, "mqtt"),
            ({"days": 0}, "0 days"),
        ],
    )
    def test_bad(self, tmp_path: Path, given, says: str) -> None:
        with pytest.raises(FolderError, match=says):
            FleetFolder.begin(tmp_path / "f", **{"fleet": "f", "hosts": ["h"], **given})
        assert not (tmp_path / "f").exists()

    def test_half_a_folder_does_not_stay(self, tmp_path: Path, monkeypatch) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Bundle, "write", full)
        with pytest.raises(OSError, match="No space"):
            FleetFolder.begin(tmp_path / "f", fleet="f", hosts=["h"])
        assert not (tmp_path / "f").exists()

    def test_the_first_bundles(self, kept: FleetFolder) -> None:
        for name in ("coordinator", "generator"):
            bundle = Bundle.read(kept.bundle(name))
            assert (bundle.fleet, bundle.name, bundle.role) == ("desk", name, name)
            assert (bundle.host, bundle.port) == ("desk.local", 8883)
            assert bundle.update_key == kept.decided.update_key
            assert bundle.expires


class TestOpening:
    def test_what_was_stored(self, kept: FleetFolder) -> None:
        assert FleetFolder.open(kept.path).decided == kept.decided

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(FolderError, match="fimi fleet init"):
            FleetFolder.open(tmp_path)

    @pytest.mark.parametrize("text", ["", "{}", "[1]", '{"fleet": 3}'])
    def test_damaged(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "fleet.json").write_text(text)
        with pytest.raises(FolderError, match="backup"):
            FleetFolder.open(tmp_path)

    def test_without_its_authority_nobody_is_enrolled(self, tmp_path: Path) -> None:
        made = FleetFolder.begin(tmp_path / "f", fleet="f", hosts=["h"])
        (made.path / "ca.key").write_text("")
        with pytest.raises(FolderError, match=r"ca\.key.*backup"):
            made.enroll("pi")


class TestEnrolling:
    @pytest.mark.parametrize(
        "name", ["coordinator", "broker", ".keeper", "all", "shared", "a/b", "", "+", "#", "a" * 65]
    )
    def test_names_that_cannot_be(self, kept: FleetFolder, name: str) -> None:
        with pytest.raises(FolderError):
            kept.enroll(name)

    def test_the_longest_name(self, kept: FleetFolder) -> None:
        assert Bundle.read(kept.enroll("a" * 64)).name == "a" * 64

    def test_twice(self, kept: FleetFolder) -> None:
        kept.enroll("twice")
        with pytest.raises(FolderError, match="rotate twice"):
            kept.enroll("twice")

    def test_all_or_none(self, kept: FleetFolder) -> None:
        kept.enroll("known")
        before = kept.decided
        for names, says in (
            (["fresh", "known"], "rotate known"),
            (["fresh", "a/b"], "a/b"),
            (["fresh", "other", "fresh"], "named twice"),
        ):
            with pytest.raises(FolderError, match=says):
                kept.require_new(names)
        kept.require_new(["fresh", "other"])
        assert kept.decided == before

    def test_who_is_not_there(self, kept: FleetFolder) -> None:
        for call in (kept.rotate, kept.revoke):
            with pytest.raises(FolderError, match="nobody has no credentials"):
                call("nobody")

    def test_one_command_at_a_time(self, kept: FleetFolder) -> None:
        lock = FileLock(kept.path / ".lock")
        try:
            with pytest.raises(FolderError, match="another command"):
                kept.enroll("late")
        finally:
            lock.release()

    def test_two_views_of_a_folder_lose_nothing(self, kept: FleetFolder) -> None:
        other = FleetFolder.open(kept.path)
        kept.enroll("by-one")
        other.enroll("by-other")
        names = {peer.name for peer in FleetFolder.open(kept.path).decided.peers}
        assert {"by-one", "by-other"} <= names

    def test_revoking_takes_the_bundle_away(self, kept: FleetFolder) -> None:
        path = kept.enroll("going")
        kept.revoke("going")
        assert not path.exists()
        rules = (kept.path / "rules").read_text()
        assert "user going\ntopic deny #" in rules
        kept.enroll("going")
        assert "user going\n" not in (kept.path / "rules").read_text()

    def test_revoking_that_was_broken_off_is_done_by_doing_it_again(
        self, kept: FleetFolder
    ) -> None:
        """Noted, and the broker was not told: a full disk, or a command that was killed."""
        path = kept.enroll("half")
        (peer,) = (each for each in kept.decided.peers if each.name == "half")
        listed = kept.path / REVOKED
        listed.unlink()
        listed.mkdir()  # in the way of the list
        with pytest.raises(OSError, match=REVOKED):
            kept.revoke("half")
        listed.rmdir()
        again = FleetFolder.open(kept.path)
        again.revoke("half")
        assert peer.serial in again.revoked_serials()
        assert [each.name for each in again.decided.revoked].count("half") == 1
        assert not path.exists()

    def test_a_generator_node_with_another_name(self, kept: FleetFolder) -> None:
        assert Bundle.read(kept.enroll("node-2", "generator")).role == "generator"
        rules = (kept.path / "rules").read_text()
        assert "pattern write fimi/v1/desk/%u/node-2/want" in rules
        assert "user node-2" in rules


def test_a_broker_keeps_the_names_that_bundles_have(tmp_path: Path) -> None:
    made = FleetFolder.begin(tmp_path / "f", fleet="f", hosts=["desk.local", "10.0.0.3"])
    made.rotate("broker", ["new.local", "10.0.0.3"])
    assert made.decided.hosts == ("new.local", "10.0.0.3", "desk.local")
    assert Bundle.read(made.enroll("pi")).host == "new.local"


class TestEnding:
    def test_what_ends_soon(self, kept: FleetFolder) -> None:
        end = kept.decided.broker_expires
        assert not kept.ending(30, end - timedelta(days=30))
        assert "broker" in {each.name for each in kept.ending(30, end - timedelta(days=29))}
        assert "broker" in {each.name for each in kept.ending(30, end + timedelta(days=3))}

    def test_what_has_ended_anyway_is_forgotten(self, kept: FleetFolder) -> None:
        old = Revoked(name="old", serial="ab", on=date(2020, 1, 1), expires=date(2021, 1, 1))
        kept.decided = msgspec.structs.replace(kept.decided, revoked=(old,))
        kept._store()
        kept.enroll("new-one")
        kept.revoke("new-one")
        assert [each.name for each in kept.decided.revoked] == ["new-one"]


def test_rules_name_one_fleet_only() -> None:
    lines = access_rules("desk", ["generator"], ["gone"]).splitlines()
    for line in lines:
        if line.startswith(("pattern", "topic")) and "deny" not in line:
            topic = line.split(maxsplit=2)[2]
            of_home_assistant = topic == discovery_filter("desk")
            assert topic.startswith("fimi/v1/desk/") or of_home_assistant, line
    assert lines[-2:] == ["user gone", "topic deny #"]
