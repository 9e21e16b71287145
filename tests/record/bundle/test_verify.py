"""Bundles that were cut, changed, made up or meant to harm: each is named, and none harms."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import stat
import struct
import zipfile
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from metered_runs import ROUNDS

from fimi.record.bundle import contents, files
from fimi.record.bundle.archive import CrateError, unpack, write_archive
from fimi.record.bundle.findings import BundleCheck, Verified
from fimi.record.bundle.making import Made
from fimi.record.bundle.verify import verify


def by_name(found: Verified) -> dict[str, BundleCheck]:
    return {check.what: check for check in found.checks}


@pytest.fixture
def unpacked(made: Made, tmp_path: Path) -> Path:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    unpack(made.path, folder)
    return folder


def forged(folder: Path) -> None:
    """Digests as somebody writes them who has changed the files."""
    path = folder / contents.METADATA
    document = msgspec.json.decode(path.read_bytes())
    for entity in document["@graph"]:
        if "sha256" in entity and (file := folder / entity["@id"]).is_file():
            entity["sha256"] = contents.digest(file)
            entity["contentSize"] = str(file.stat().st_size)
    path.write_bytes(msgspec.json.encode(document))
    (folder / contents.MANIFEST).write_text(contents.manifest(folder))


def rewritten(folder: Path) -> None:
    """Tables and figures as the changed store gives them, and all digests to match."""
    with contents.open_store(folder / "run.sqlite") as (_, db):
        for name, content in contents.tables(db):
            (folder / name).write_bytes(b"".join(contents.csv_of(content)))
    run = contents.read_run(folder / "run.sqlite")
    (folder / contents.FIGURES).write_bytes(msgspec.json.encode(contents.figures(run)))
    forged(folder)


def execute(folder: Path, sql: str) -> None:
    with closing(sqlite3.connect(folder / "run.sqlite")) as db, db:
        assert db.execute(sql).rowcount > 0


class TestWhole:
    def test_it_holds(self, made: Made) -> None:
        found = verify(made.path)
        assert found.holds
        assert found.digest == made.digest
        assert found.recount is not None
        assert {each.verdict for each in found.recount.phases} == {"holds"}
        assert len(found.recount.phases) == 2 * (1 + 4 * ROUNDS + 1)
        assert {check.what: check.verdict for check in found.checks} == dict.fromkeys(
            (
                *("archive", "digests", "metadata", "store", "settings", "models", "readings"),
                *("phases", "trials", "predictions", "tables", "figures"),
            ),
            "holds",
        )
        assert (
            "model.safetensors has the parameters of model.onnx" in by_name(found)["models"].words
        )
        for words in ("accuracies, losses", "lengths of rounds, busy times", "predicted joules"):
            assert any(said.startswith(words) for said in found.not_checked)

    def test_an_unpacked_one_holds_too(self, unpacked: Path) -> None:
        assert verify(unpacked).holds

    def test_there_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(CrateError, match="no such bundle"):
            verify(tmp_path / "nothing.zip")


class TestChanged:
    def test_one_changed_joule(self, unpacked: Path) -> None:
        execute(
            unpacked,
            "UPDATE sample SET energy_j = energy_j - 2 WHERE device = 'pi-plug' AND round = 2 "
            "AND phase = 'compute'",
        )
        found = by_name(verify(unpacked))
        assert "run.sqlite is not the file that the manifest names" in found["digests"].details[0]
        assert found["phases"].verdict == "fails"
        assert found["phases"].details[0].startswith("pi-plug, round 2, compute: energy")
        assert found["tables"].verdict == found["figures"].verdict == "fails"

    def test_one_changed_joule_with_all_digests_and_tables_to_match(self, unpacked: Path) -> None:
        """Whoever changes a joule and everything that follows from it is still found out."""
        execute(
            unpacked,
            "UPDATE sample SET energy_j = energy_j * 0.9 WHERE device = 'pi-chip' AND round = 3",
        )
        rewritten(unpacked)
        found = by_name(verify(unpacked))
        assert [c.what for c in found.values() if c.verdict == "fails"] == [
            *("metadata", "phases", "tables", "figures"),
        ]
        named = [each for each in found["phases"].details if each.startswith("pi-chip, round 3")]
        assert len(named) == 4
        lost_j = [abs(each.difference_j) for each in verify(unpacked).recount.of("differs")]  # type: ignore[union-attr]
        assert lost_j == sorted(lost_j, reverse=True)  # worst first
        assert "from the readings" in found["tables"].details[0]

    def test_one_reading_is_taken_out(self, unpacked: Path) -> None:
        execute(unpacked, "DELETE FROM readings WHERE device = 'pi-chip' AND part = 2")
        forged(unpacked)
        found = by_name(verify(unpacked))
        assert found["readings"].verdict == "fails"
        said = " ".join(found["readings"].details)
        assert "readings/pi-chip.csv does not say what the readings in the store say" in said
        assert "part 2 of its readings" in said
        assert any("not checked" in each for each in found["phases"].details)

    def test_joules_whose_readings_are_taken_out_are_not_known(self, unpacked: Path) -> None:
        execute(unpacked, "DELETE FROM readings WHERE device = 'pi-plug'")
        execute(unpacked, "UPDATE sample SET energy_j = energy_j / 2 WHERE device = 'pi-plug'")
        found = by_name(verify(unpacked))
        phases = found["phases"]
        assert phases.verdict == "unknown"
        assert "cannot be checked" in phases.words
        known = verify(unpacked).recount
        assert known is not None
        others = [each for each in known.phases if each.device != "pi-plug"]
        assert others
        said = f": {len(others)} of {len(known.phases)} were recounted"
        for what in ("tables", "figures"):
            assert found[what].words.endswith(said), found[what].words
        assert any("reported no readings" in said for said in phases.details)

    def test_one_line_of_a_table(self, unpacked: Path) -> None:
        path = unpacked / "tables" / "phases.csv"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:-1]))
        forged(unpacked)
        found = by_name(verify(unpacked))
        assert found["tables"].details == ("tables/phases.csv is not the table of the store",)

    def test_a_figure(self, unpacked: Path) -> None:
        path = unpacked / contents.FIGURES
        document = msgspec.json.decode(path.read_bytes())
        document["points"][1]["accuracy"] = 0.99
        path.write_bytes(msgspec.json.encode(document))
        forged(unpacked)
        found = by_name(verify(unpacked))
        assert "points[1].accuracy is 0.99" in found["figures"].details[0]

    def test_files_that_are_missing_or_too_many(self, unpacked: Path) -> None:
        (unpacked / "model.onnx").unlink()
        (unpacked / "more.txt").write_text("more")
        found = by_name(verify(unpacked))
        assert set(found["digests"].details) == {
            "model.onnx is missing",
            "more.txt is not in the manifest",
        }
        assert set(found["metadata"].details) == {
            "model.onnx is described, and not there",
            "more.txt is not described",
        }

    def test_what_the_store_says_of_models(self, unpacked: Path) -> None:
        other = hashlib.sha256(b"another").hexdigest()
        execute(unpacked, f"UPDATE model_file SET digest = '{other}'")
        found = by_name(verify(unpacked))
        assert "model.onnx is not the model of the run" in found["models"].details[0]
        (unpacked / "model.onnx").unlink()
        forged(unpacked)  # as of a run folder from which somebody has deleted it
        found = by_name(verify(unpacked))
        assert found["models"].verdict == "unknown"
        assert "the run had none left" in found["models"].details[0]

    @pytest.mark.parametrize("at", [30, -1])
    def test_other_parameters(self, unpacked: Path, at: int) -> None:
        """The store has no digest of them; those of the ONNX file are others."""
        path = unpacked / "model.safetensors"
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)
        models = files.check_models(unpacked, contents.read_run(unpacked / "run.sqlite"))
        assert models.verdict == "unknown"
        assert models.details[0].startswith("not checked: model.safetensors")

    def test_a_residual_with_all_that_follows_from_it(self, unpacked: Path) -> None:
        """What is said of predictions cannot be made better."""
        execute(unpacked, "UPDATE residual SET measured_j = predicted_j WHERE round = 2")
        rewritten(unpacked)
        found = by_name(verify(unpacked))
        assert [c.what for c in found.values() if c.verdict == "fails"] == ["predictions"]
        assert "phases have" in found["predictions"].details[0]

    def test_a_trial(self, unpacked: Path) -> None:
        execute(unpacked, "UPDATE deployment SET above_j = above_j * 0.9 WHERE device = 'pi-chip'")
        rewritten(unpacked)
        found = by_name(verify(unpacked))
        assert [c.what for c in found.values() if c.verdict == "fails"] == ["trials"]
        assert found["trials"].details[0].startswith("pi-chip, fp32 after round 4: ")

    @pytest.mark.parametrize(
        ("name", "old", "new", "what", "said"),
        [
            ("configuration.toml", b"count = 3", b"count = 4", "settings", "rounds.count is 4"),
            (
                "environment.json",
                b"amqtt 0.11",
                b"amqtt 0.12",
                "settings",
                "broker is 'amqtt 0.12'",
            ),
            ("environment.json", b'"emulated"', b'"measured"', "settings", "boards.pi-chip"),
            (
                contents.METADATA,
                b"2 devices, 4 rounds",
                b"9 devices, 99 rounds",
                "metadata",
                "9 dev",
            ),
            (
                contents.METADATA,
                b"joules are emulated",
                b"joules are measured",
                "metadata",
                "#board",
            ),
            (contents.METADATA, b'"2.6"', b'"2.7"', "metadata", "version is '2.7'"),
            (contents.METADATA, b"text/csv", b"text/tsv", "metadata", "encodingFormat"),
        ],
    )
    def test_a_file_that_follows_from_the_store(
        self, unpacked: Path, name: str, old: bytes, new: bytes, what: str, said: str
    ) -> None:
        path = unpacked / name
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new, 1))
        forged(unpacked)
        run = contents.read_run(unpacked / "run.sqlite")
        checks = (
            *(files.check_digests(unpacked), files.check_metadata(unpacked, run)),
            files.check_settings(unpacked, run),
        )
        assert [check.what for check in checks if check.verdict == "fails"] == [what]
        assert said in next(check for check in checks if check.what == what).details[0]

    @pytest.mark.parametrize(
        ("key", "value"),
        [("license", "CC0"), ("datePublished", "2020-01-01")],
    )
    def test_what_only_its_author_says_may_be_said_anew(
        self, unpacked: Path, key: str, value: str
    ) -> None:
        path = unpacked / contents.METADATA
        document = msgspec.json.decode(path.read_bytes())
        (root,) = [each for each in document["@graph"] if each["@id"] == "./"]
        licence = root["license"]["@id"]
        root[key] = value
        if key == "license":
            document["@graph"] = [e for e in document["@graph"] if e["@id"] != licence]
            root[key] = "Ask me"
        path.write_bytes(msgspec.json.encode(document))
        run = contents.read_run(unpacked / "run.sqlite")
        assert files.check_metadata(unpacked, run).verdict == "holds"

    @pytest.mark.parametrize("name", [contents.METADATA, contents.MANIFEST, "run.sqlite"])
    def test_one_that_cannot_be_read(self, unpacked: Path, name: str) -> None:
        (unpacked / name).write_bytes(b"\x00{")
        found = verify(unpacked)
        assert not found.holds


class TestZip:
    def test_one_flipped_bit(self, made: Made, tmp_path: Path) -> None:
        whole = made.path.read_bytes()
        with zipfile.ZipFile(made.path) as archive:
            entry = archive.getinfo("run.sqlite")
        at = entry.header_offset + 60 + entry.compress_size // 2
        path = tmp_path / "b.zip"
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        (only,) = verify(path).checks
        assert (only.what, only.verdict) == ("archive", "fails")
        assert "run.sqlite is damaged" in only.words

    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(where=st.floats(0.0, 0.999999), bit=st.integers(0, 7))
    def test_any_flipped_bit_is_named_or_changes_no_file(
        self, made: Made, tmp_path: Path, where: float, bit: int
    ) -> None:
        whole = bytearray(made.path.read_bytes())
        whole[int(where * len(whole))] ^= 1 << bit
        path, folder = tmp_path / "c.zip", tmp_path / "c"
        path.write_bytes(whole)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            unpack(path, folder)
        except CrateError:
            return
        told = (folder / contents.MANIFEST).read_text()
        assert contents.manifest(folder) == told

    def test_bits_of_what_a_zip_says_of_its_files(self, tmp_path: Path) -> None:
        """Bits of each byte of its directory: named, or the same files come out."""
        path, files = tmp_path / "d.zip", {"a": b"1,2\n" * 9, "b": b"c"}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        whole, named = path.read_bytes(), 0
        folder = tmp_path / "d"
        begins = whole.index(b"PK\1\2")
        for bit in range(8 * begins, 8 * len(whole), 3):
            changed = bytearray(whole)
            changed[bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            folder.mkdir()
            try:
                unpack(path, folder)
            except CrateError as error:
                assert str(error).startswith(f"{path}: ")
                assert " get it " in str(error)
                named += 1
            else:
                found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*")}
                there = {name: p.read_bytes() for name, p in found.items() if p.is_file()}
                assert there == files, bit
            shutil.rmtree(folder)
        assert named > len(whole) - begins  # the rest are times, versions and rights

    @pytest.mark.parametrize(
        ("names", "said"),
        [
            (["a", "a/b"], "'a' is a file, and the folder of 'a/b'"),
            (["A/b/c", "a/B"], "is a file, and the folder of"),
            (["x" * 300], "a name of 300 letters"),
            (["/".join(["x"] * 600)], "which is too long"),
            (["readings/Pi.csv", "readings/pi.csv"], "alike but for the case of letters"),
            (["a\x1b[31mb"], "is no name"),
        ],
    )
    def test_names_that_cannot_be_files(self, tmp_path: Path, names: list[str], said: str) -> None:
        path = tmp_path / "b.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "x")
        (only,) = verify(path).checks
        assert said in only.words
        assert "nothing was unpacked" in only.words

    @pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
    def test_packed_as_no_bundle_is(self, tmp_path: Path, method: int) -> None:
        path = tmp_path / "b.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("a", bytes(range(256)) * 50)
        (only,) = verify(path).checks
        assert f"packed by method {method}" in only.words

    def test_a_name_that_is_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "b.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("aé", "x")
        path.write_bytes(path.read_bytes().replace("aé".encode(), b"a\xff\xff"))
        (only,) = verify(path).checks
        assert "not a whole zip file" in only.words

    def test_what_the_disk_says_stays_what_it_is(self, tmp_path: Path, made: Made) -> None:
        taken = tmp_path / "taken"
        taken.write_text("a file")
        with pytest.raises(FileExistsError):
            unpack(made.path, taken)

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
    def test_one_that_was_cut_off(self, made: Made, tmp_path: Path, share: float) -> None:
        whole = made.path.read_bytes()
        path = tmp_path / "b.zip"
        path.write_bytes(whole[: int(share * len(whole))])
        (only,) = verify(path).checks
        assert "not a whole zip file" in only.words

    @pytest.mark.parametrize(
        "name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:evil", "a//b", "a/"]
    )
    def test_names_that_lead_out(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / "b.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo("aaaaaaaa"[: len(name)].ljust(len(name), "a")), "x")
        data = path.read_bytes().replace(b"a" * len(name), name.encode())
        path.write_bytes(data)
        (only,) = verify(path).checks
        assert only.verdict == "fails"
        assert "leads out of the folder" in only.words
        assert sorted(each.name for each in tmp_path.rglob("*")) == ["b.zip"]

    def test_a_bomb(self, tmp_path: Path) -> None:
        path = tmp_path / "b.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", bytes(10 << 20))
        assert path.stat().st_size < 100_000
        (only,) = verify(path).checks
        assert "would become 10485760 B" in only.words

    def test_a_bomb_that_lies(self, tmp_path: Path) -> None:
        path = tmp_path / "b.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", bytes(10 << 20))
        path.write_bytes(path.read_bytes().replace(struct.pack("<I", 10 << 20), b"\x64\0\0\0"))
        (only,) = verify(path).checks
        assert only.verdict == "fails"
        assert "zeros" in only.words

    def test_a_link(self, tmp_path: Path) -> None:
        path = tmp_path / "b.zip"
        entry = zipfile.ZipInfo("run.sqlite")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(entry, "/etc/passwd")
        (only,) = verify(path).checks
        assert "is a link" in only.words

    def test_two_of_one_name(self, tmp_path: Path) -> None:
        path = tmp_path / "b.zip"
        with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning):
            archive.writestr("run.sqlite", "a")
            archive.writestr("run.sqlite", "b")
        (only,) = verify(path).checks
        assert "two files called" in only.words

    @given(st.binary(max_size=300))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_anything_else(self, tmp_path: Path, data: bytes) -> None:
        path = tmp_path / "any.zip"
        path.write_bytes(data)
        assert not verify(path).holds

    def test_the_same_files_give_the_same_bytes(
        self, made: Made, unpacked: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "again.zip"
        write_archive(path, unpacked, contents.names_of(unpacked))
        assert path.read_bytes() == made.path.read_bytes()
