"""What is in a bundle, how it is described, and what is not in it."""

from __future__ import annotations

import csv
import os
import re
import shutil
import sqlite3
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.ledger_opening import reworded
from fimi.energy.reading_arrays import loosened
from fimi.record.bundle import contents
from fimi.record.bundle.archive import unpack
from fimi.record.bundle.crate import CONTEXT, CRATE, NO_LICENCE, PROFILE, About
from fimi.record.bundle.making import Made, make
from fimi.record.bundle.names import HiddenNames
from fimi.record.bundle.privacy import clean_text
from fimi.record.bundle.verify import verify
from fimi.record.reader import read_run
from fimi.record.readings import read_readings
from fimi.testbed.configuration.load import to_toml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture(scope="module")
def folder(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("files")
    unpack(made.path, found)
    return found


@pytest.fixture(scope="module")
def graph(folder: Path) -> dict[str, Any]:
    document = msgspec.json.decode((folder / contents.METADATA).read_bytes())
    assert document.keys() == {"@context", "@graph"}
    assert document["@context"] == CONTEXT
    return {entity["@id"]: entity for entity in document["@graph"]}


class TestCrate:
    """What RO-Crate 1.3 and Process Run Crate 0.5 require, point by point."""

    def test_it_is_flat_and_every_entity_is_named_once(self, graph: dict[str, Any]) -> None:
        for entity in graph.values():
            assert entity["@type"]
            for value in entity.values():
                for each in value if isinstance(value, list) else [value]:
                    assert not isinstance(each, dict) or each.keys() == {"@id"}

    def test_descriptor_and_root(self, graph: dict[str, Any]) -> None:
        descriptor = graph["ro-crate-metadata.json"]
        assert descriptor["@type"] == "CreativeWork"
        assert descriptor["conformsTo"] == {"@id": CRATE}
        root = graph[descriptor["about"]["@id"]]
        assert (root["@id"], root["@type"]) == ("./", "Dataset")
        assert root["name"]
        assert root["description"]
        assert root["datePublished"] == "2025-01-02"
        licence = graph[root["license"]["@id"]]
        assert licence["@id"] == "https://spdx.org/licenses/CC-BY-4.0"
        assert licence["name"] and licence["description"]
        assert root["conformsTo"] == {"@id": PROFILE}
        assert "CreativeWork" in graph[PROFILE]["@type"]

    def test_every_file_is_described_and_nothing_else(
        self, graph: dict[str, Any], folder: Path
    ) -> None:
        files = {e["@id"]: e for e in graph.values() if e["@type"] == "File"}
        there = set(contents.names_of(folder)) - {contents.METADATA}
        assert files.keys() == there == {part["@id"] for part in graph["./"]["hasPart"]}
        for name, entity in files.items():
            assert int(entity["contentSize"]) == (folder / name).stat().st_size
            if name != contents.MANIFEST:
                assert entity["sha256"] == contents.digest(folder / name)

    def test_the_run_is_an_action(self, graph: dict[str, Any]) -> None:
        (action,) = [e for e in graph.values() if e["@type"] == "CreateAction"]
        assert {"@id": action["@id"]} in graph["./"]["mentions"]
        assert graph[action["instrument"]["@id"]]["@type"] == "SoftwareApplication"
        assert {"@id": "configuration.toml"} in action["object"]
        assert {"@id": "run.sqlite"} in action["result"]
        assert action["actionStatus"] == "http://schema.org/CompletedActionStatus"
        assert action["endTime"] == "2025-01-02T03:04:05+00:00"
        assert graph[action["agent"]["@id"]]["@type"] == "Person"

    def test_all_that_is_referred_to_is_there(self, graph: dict[str, Any]) -> None:
        for entity in graph.values():
            for value in entity.values():
                for each in value if isinstance(value, list) else [value]:
                    if isinstance(each, dict) and each["@id"] != CRATE:
                        assert each["@id"] in graph

    def test_software_and_boards_have_versions_and_kinds(self, graph: dict[str, Any]) -> None:
        software = [e for e in graph.values() if e["@type"] == "SoftwareApplication"]
        assert all("version" in each for each in software)
        boards = [e for e in graph.values() if e["@type"] == "IndividualProduct"]
        assert len(boards) == 2
        assert all("joules are emulated" in each["description"] for each in boards)


class TestFiles:
    def test_the_same_run_gives_the_same_bytes(
        self, made: Made, about: About, run_folder: Path, tmp_path: Path
    ) -> None:
        again = make(run_folder, tmp_path / "b.zip", about, toml=to_toml)
        assert again.path.read_bytes() == made.path.read_bytes()

    def test_readings_are_there_one_by_one(self, folder: Path) -> None:
        with (folder / "readings" / "pi-chip.csv").open() as file:
            rows = list(csv.DictReader(file))
        with contents.open_store(folder / "run.sqlite") as (_, db):
            (told,) = db.execute(
                "SELECT sum(count) FROM readings WHERE device='pi-chip'"
            ).fetchone()
        read = [row for row in rows if row["series"] == "total"]
        assert len(read) >= told
        assert {row["phase"] for row in rows} >= {"compute", "upload", "idle", "before"}
        assert all(float(row["power_w"]) >= 0.0 for row in read if row["power_w"])

    def test_tables_are_the_views(self, folder: Path) -> None:
        with (folder / "tables" / "phases.csv").open() as file:
            phases = list(csv.DictReader(file))
        assert {row["device"] for row in phases} == {"pi-chip", "pi-plug"}
        assert all(row["kind"] == "emulated" for row in phases if row["energy_j"])

    def test_the_configuration_is_toml(self, folder: Path) -> None:
        found = tomllib.loads((folder / "configuration.toml").read_text())
        assert found["rounds"]["count"] == 3

    def test_the_run_is_only_read(self, made: Made, run_folder: Path) -> None:
        there = sorted(path.name for path in run_folder.iterdir())
        assert there == ["model.onnx", "run.sqlite"]

    def test_without_a_licence_it_says_so(self, run_folder: Path, tmp_path: Path) -> None:
        found = make(run_folder, tmp_path / "b.zip", About(), toml=to_toml)
        with zipfile.ZipFile(found.path) as archive:
            document = msgspec.json.decode(archive.read(contents.METADATA))
        (root,) = [e for e in document["@graph"] if e["@id"] == "./"]
        assert root["license"] == NO_LICENCE
        assert verify(found.path).holds


def every_byte(folder: Path) -> str:
    """All files of a folder, and what is packed in their readings."""
    found = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    found += [str(path.relative_to(folder)).encode() for path in folder.rglob("*")]
    found += [loosened(part.row.body, 1 << 24) for part in read_readings(folder) if part.row.body]
    return b"\n".join(found).decode("latin-1")


class TestPrivacy:
    @pytest.fixture
    def talkative(self, secretive: Path) -> Path:
        """The same with meters that are called after device, host and folder."""
        with closing(sqlite3.connect(secretive / "run.sqlite")) as db, db:
            for part in read_readings(secretive):
                source = f"topic:power/{part.device}@desk.lan"
                again = reworded(part.row.packed, lambda text, s=source: s if ":" in text else text)
                db.execute(
                    "UPDATE readings SET body = ?, digest = ? WHERE life = ? AND part = ?",
                    [again.body, again.digest, again.life, again.number],
                )
                db.execute(
                    "UPDATE sample SET source = ? WHERE device = ? AND source IS NOT NULL",
                    [source, part.device],
                )
            events = (
                {"event": "device-refused", "device": "pi-gone", "reason": "of 10.1.2.3"},
                {
                    "event": "device-lost",
                    "device": "pi-chip",
                    "reason": "PI-CHIP.desk.lan is gone.",
                },
                {
                    "event": "intervention-asked",
                    "number": 1,
                    "asked_at": 1.0,
                    "by": "fimi control (ann on lab-pc)",
                    "request": {"do": "exclude", "device": "pi-plug"},
                },
                {
                    "event": "refitted",
                    "round": 2,
                    "drift_percent": {"pi-plug": 3.0},
                    "energy_j": None,
                    "reason": "see /home/ann",
                    "short": ["pi-chip"],
                },
            )
            for event in events:
                body = msgspec.json.encode(event).decode()
                db.execute(
                    "INSERT INTO event (at, event, body) VALUES (1.0, ?, ?)",
                    [event["event"], body],
                )
        assert not read_run(secretive).warnings
        return secretive

    @pytest.fixture
    def secretive(self, run_folder: Path, tmp_path: Path) -> Path:
        copy = Path(shutil.copytree(run_folder, tmp_path / "run"))
        said = (
            '{"data.root":"/home/ann/hoard/digits","broker.password":"hunter2x",'
            '"generator.weights":"~/models/w.pt","fleet.members":["pi-chip","pi-plug"],"data.split":"auto",'
            '"rounds.count":3,"meter":"/dev/ttyUSB0"}'
        )
        why = (
            "cannot reach mqtt://fimi:s3cr3t@desk.lan:1883; see /var/lib/ann/logs/a.log of pi-chip"
        )
        with closing(sqlite3.connect(copy / "run.sqlite")) as db, db:
            db.execute("UPDATE run SET config = ?", [said])
            db.execute("UPDATE device_round SET reason = ? WHERE round = 2", [why])
            db.execute("INSERT INTO checkpoint VALUES ('key', x'736563726574')")
        return copy

    def test_secrets_and_folders_are_not_in_it(self, secretive: Path, tmp_path: Path) -> None:
        found = make(secretive, tmp_path / "b.zip", About(), toml=to_toml)
        files = tmp_path / "files"
        files.mkdir()
        unpack(found.path, files)
        everything = b"".join(p.read_bytes() for p in files.rglob("*") if p.is_file())
        for secret in (b"hunter2x", b"s3cr3t", b"/home/ann", b"/var/lib", b"~/models", b"secret"):
            assert secret not in everything
        assert os.fsencode(tmp_path) not in everything
        for kept in (b"digits", b"w.pt", b"/dev/ttyUSB0", b"desk.lan", b"a.log", b"pi-chip"):
            assert kept in everything
        assert verify(found.path).holds

    def test_names_can_be_hidden(self, talkative: Path, tmp_path: Path) -> None:
        """No byte of any file has a name, those that are packed in readings included."""
        told = make(talkative, tmp_path / "a.zip", About(), toml=to_toml)
        found = make(talkative, tmp_path / "b.zip", About(), toml=to_toml, names=False)
        names = ("pi-chip", "pi-plug", "pi-gone", "desk", "lab-pc", "10.1.2.3", "ann", "hoard")
        for made, kept in ((told, names[:-1]), (found, ())):
            files = tmp_path / made.path.stem
            files.mkdir()
            unpack(made.path, files)
            everything = every_byte(files)
            for name in names:
                whole = re.search(rf"(?<![A-Za-z]){re.escape(name)}(?![A-Za-z])", everything, re.I)
                assert (whole is not None) == (name in kept), name
            again = verify(made.path)
            assert again.holds, again.checks
            assert again.recount is not None
            assert {each.verdict for each in again.recount.phases} == {"holds"}
        assert sorted(p.name for p in (files / "readings").iterdir()) == [
            *("device-001.csv", "device-003.csv"),
        ]
        assert {p.noted().meters["total"].source for p in read_readings(files)} == {
            *("topic:power/device-001@host-002", "topic:power/device-003@host-002"),
        }
        config = read_run(files).info.config
        assert config["data.split"] == "auto"
        assert config["fleet.members"] == ["device-001", "device-003"]

    @pytest.mark.parametrize("word", ["auto", "compute", "total", "fleet", "device-002"])
    def test_a_device_that_is_called_like_a_word(
        self, talkative: Path, tmp_path: Path, word: str
    ) -> None:
        """It is renamed where it is named, and the word stays a word."""
        whole = read_run(talkative)
        with closing(sqlite3.connect(talkative / "run.sqlite")) as db, db:
            tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (table,) in tables:
                for column in db.execute(f"PRAGMA table_info({table})").fetchall():
                    if column[1] == "device":
                        db.execute(f"UPDATE {table} SET device = ? WHERE device='pi-chip'", [word])
            db.execute("""UPDATE run SET config = replace(config, '"pi-chip"', ?)""", [f'"{word}"'])
        found = make(talkative, tmp_path / "b.zip", About(), toml=to_toml, names=False)
        files = tmp_path / "files"
        files.mkdir()
        unpack(found.path, files)
        assert verify(found.path).holds
        run = read_run(files)
        order = sorted([word, "pi-chip", "pi-gone", "pi-plug"])
        told = {name: f"device-{number:03d}" for number, name in enumerate(order, 1)}
        assert run.devices == tuple(sorted((told[word], told["pi-plug"])))
        said = {key: value for key, value in run.info.config.items() if key.startswith("data.")}
        assert said["data.split"] == whole.info.config["data.split"] == "auto"
        assert set(said) == {key for key in whole.info.config if key.startswith("data.")}
        assert run.info.config["fleet.members"] == [told[word], told["pi-plug"]]
        (mine,) = [each for each in run.rounds[0].devices if each.device == told[word]]
        (before,) = [each for each in whole.rounds[0].devices if each.device == "pi-chip"]
        assert [p.phase for p in mine.phases] == [p.phase for p in before.phases]

    def test_readings_that_are_damaged(self, talkative: Path, tmp_path: Path) -> None:
        """Nobody can look into them, so they are left out where names are hidden."""
        with closing(sqlite3.connect(talkative / "run.sqlite")) as db, db:
            db.execute(
                "UPDATE readings SET body = CAST(substr(body, 1, 40) || x'00' AS BLOB) "
                "WHERE part = 2 AND device = 'pi-chip'"
            )
        found = make(talkative, tmp_path / "b.zip", About(), toml=to_toml, names=False)
        files = tmp_path / "files"
        files.mkdir()
        unpack(found.path, files)
        (lost,) = [part.row for part in read_readings(files) if part.row.body is None]
        assert "was damaged before names were hidden" in lost.missing
        again = verify(found.path)
        assert again.holds
        assert any(check.verdict == "unknown" for check in again.checks)

    @pytest.mark.parametrize(
        ("said", "left"),
        [
            ("in /a/b/c.txt, line 3", "in …/c.txt, line 3"),
            ('{"x":"/srv/me/run"}', '{"x":"…/run"}'),
            ("12 bit/s and J/kg/h", "12 bit/s and J/kg/h"),
            ("https://example.org/a/b", "https://example.org/a/b"),
            ("/sys/class/hwmon/hwmon2 and /dev/i2c-1", "/sys/class/hwmon/hwmon2 and /dev/i2c-1"),
            ("mqtts://u:p%40ss@h:8883/x", "mqtts://…@h:8883/x"),
            ('"api_token" : "a\\"b"', '"api_token" : "…"'),
            ("file:///home/ann/x.pt is lost", "file://…/x.pt is lost"),
            ("sqlite:////home/ann/x.db", "sqlite://…/x.db"),
            ("ann@desk:/home/ann/data", "…@desk:…/data"),
            ("ssh://ann@desk/x", "ssh://…@desk/x"),
            ("http://ann:p/w@desk/", "http://…@desk/"),
            ("https://example.org/@scope/x", "https://example.org/@scope/x"),
            ("of ~ann/models/w.pt", "of …/w.pt"),
            ("~ann", "…"),
            ("/home/ann", "…"),
            ("root=/home/ann, a=/home/ann/x", "root=…, a=…/x"),
            ("in C:\\Users\\ann\\runs\\x", "in …/x"),
            (r"\\nas\share\x", "…/x"),
            ("/home/ann/My Data/x.pt", "…/x.pt"),
            ("cannot read '/home/ann/My Data/x.pt'", "cannot read '…/x.pt'"),
            ("http://desk:8765/?key=abcDEF&x=1", "http://desk:8765/?key=…&x=1"),
            ("https://h/a?x=1&access_token=abc", "https://h/a?x=1&access_token=…"),
            ("--set broker.password=hunter2 --name a", "--set broker.password=… --name a"),
            ("password = 'a b'", "password = …"),
            ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer …"),
            ("about ~ 4 W, ±~3 %", "about ~ 4 W, ±~3 %"),
        ],
    )
    def test_texts(self, said: str, left: str) -> None:
        assert clean_text(said) == left

    @given(st.text(alphabet='/ab.~:@" \\…{}', max_size=40))
    def test_twice_is_once(self, text: str) -> None:
        assert clean_text(clean_text(text)) == clean_text(text)

    def test_only_whole_words_are_renamed(self) -> None:
        rename = HiddenNames(["pi", "pi-2", "zero"]).in_text
        said = rename("pi, pi-2 and pi-20; api zero's. It was pi.")
        assert said == "device-001, device-002 and pi-20; api device-003's. It was device-001."

    def test_names_within_others(self) -> None:
        hidden = HiddenNames(["pi-4"], ["desk"], ["ann"], words=["raspberry-pi-4", "desk.x_s"])
        said = hidden.in_text("raspberry-pi-4, tasmota_PI-4.lan, desk.lan of ann; desk.x_s")
        assert said == "raspberry-pi-4, tasmota_device-001.lan, host-001.lan of user-001; desk.x_s"
