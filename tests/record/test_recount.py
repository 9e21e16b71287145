"""Joules of a stored run, computed again from the readings of its devices."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from metered_runs import METERS, ROUNDS, same, write_metered_run
from msgspec.structs import replace
from recorded_meters import METERS as RECORDED
from recorded_meters import Several
from stored_runs import ABOUT, device_round, profile, round_result

from fimi.energy.clock import VirtualClock
from fimi.energy.ledger import Ledger
from fimi.energy.ledger_log import LedgerLog
from fimi.energy.ledger_parts import BYTES_MOST, ReadingsPart
from fimi.energy.meters.combine import Beside
from fimi.record.reader import read_run
from fimi.record.readings import read_readings, trace
from fimi.record.readings_writing import PARTS_MOST
from fimi.record.recount import LEFT_OUT, Recount, recount, recounted
from fimi.record.store import RunStore
from fimi.record.summary import summarise


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_metered_run(tmp_path_factory.mktemp("metered") / "run")


@pytest.fixture
def copy(stored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stored, tmp_path / "copy"))


def execute(folder: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "run.sqlite")) as db, db:
        assert db.execute(sql, values).rowcount > 0


class TestRecount:
    def test_all_of_it_holds(self, stored: Path) -> None:
        found = recount(stored)
        assert Counter(each.verdict for each in found.phases) == {"holds": len(found.phases)}
        assert len(found.phases) == len(METERS) * (1 + ROUNDS * 4)
        assert found.holds
        assert found.evidence[0] == found.evidence[1] > 0
        assert (found.missing, found.damaged) == ((), ())
        assert {each.record.resolved for each in found.phases if each.record} == {True, False}

    def test_the_summary_of_the_recounted_run_is_the_same(self, stored: Path) -> None:
        run = read_run(stored)
        again = summarise(recounted(run, recount(stored, run)))
        assert again.energy == summarise(run).energy

    def test_the_integral_of_a_trace_is_the_energy_of_its_phases(self, stored: Path) -> None:
        """Second implementation: trapezoids between a phase's own readings, held to its edges."""
        found = trace(stored, "pi-chip", 2)
        assert found.missing == ()
        assert found.meter is not None
        for each in found.phases:
            start_s, end_s = each.record.start_s, each.record.start_s + each.record.duration_s
            here = (found.times_s > start_s) & (found.times_s <= end_s)
            times_s, power_w = found.times_s[here], found.power_w[here]
            joules = float(power_w[1:] @ np.diff(times_s) + power_w[:-1] @ np.diff(times_s)) / 2.0
            joules += float(
                power_w[0] * (times_s[0] - start_s) + power_w[-1] * (end_s - times_s[-1])
            )
            assert each.record.energy is not None
            assert each.record.energy.value_j == pytest.approx(joules, rel=1e-9)

    @pytest.mark.parametrize("device", METERS)
    def test_one_changed_joule_is_named(self, copy: Path, device: str) -> None:
        where = "WHERE device = ? AND round = 3 AND phase = 'compute'"
        execute(copy, f"UPDATE sample SET energy_j = energy_j - 1.0 {where}", device)
        found = recount(copy)
        assert not found.holds
        (wrong,) = found.of("differs")
        assert (wrong.device, wrong.round, wrong.phase) == (device, 3, "compute")
        assert wrong.difference_j == pytest.approx(-1.0)
        assert "its readings give" in wrong.why

    def test_a_phase_that_was_deleted_is_named(self, copy: Path) -> None:
        where = "WHERE device = 'pi-chip' AND round = 2 AND phase = 'upload'"
        execute(copy, f"DELETE FROM sample {where}")
        found = recount(copy)
        assert not found.holds
        (gone,) = found.of("absent")
        assert (gone.device, gone.round, gone.phase) == ("pi-chip", 2, "upload")
        assert gone.difference_j < 0.0

    def test_a_phase_that_was_made_up_is_named(self, copy: Path) -> None:
        columns = "round, device, phase, start_s, duration_s, energy_j, kind, source, scope"
        columns += ", uncertainty_j, readings, largest_gap_s"
        execute(
            copy,
            f"INSERT INTO sample ({columns}) SELECT {columns.replace('start_s', 'start_s + 0.5')} "
            "FROM sample WHERE device = 'pi-chip' AND round = 2 AND phase = 'upload'",
        )
        (wrong,) = recount(copy).of("differs")
        assert wrong.why == "there are no readings of such a phase"

    def test_evidence_that_no_readings_give_is_named(self, copy: Path) -> None:
        execute(copy, "UPDATE evidence SET rests = replace(rests, '\"power_w\":', '\"power_w\":1')")
        found = recount(copy)
        assert not found.holds
        assert "no readings give this evidence" in found.other_evidence[0]

    def test_one_flipped_bit_is_damage(self, copy: Path) -> None:
        with closing(sqlite3.connect(copy / "run.sqlite")) as db, db:
            where = "WHERE device = 'pi-chip' AND part = 3"
            ((body,),) = db.execute(f"SELECT body FROM readings {where}").fetchall()
            turned = bytes([body[0], *body[1:-1], body[-1] ^ 1])
            db.execute(f"UPDATE readings SET body = ? {where}", [turned])
        found = recount(copy)
        assert not found.holds
        assert "checksum" in found.damaged[0]
        assert not found.of("differs")  # of the others nothing is said wrongly

    def test_a_part_that_is_not_there_is_said(self, copy: Path) -> None:
        execute(copy, "DELETE FROM readings WHERE device = 'pi-chip' AND part = 3")
        found = recount(copy)
        assert found.holds  # as far as it can be checked
        assert "part 3 of its readings" in found.missing[0]
        unchecked = found.of("unchecked")
        assert {each.device for each in unchecked} == {"pi-chip"}
        assert {each.round for each in unchecked if "not there" in each.why} <= {2, 3}
        later = [e for e in found.of("holds") if e.device == "pi-chip" and e.round == 4]
        assert later


class TestWithout:
    def test_a_run_without_readings_is_valid_and_unchecked(self, tmp_path: Path) -> None:
        folder = write_metered_run(tmp_path / "run", ["pi-chip"], keeps=False)
        found = recount(folder)
        assert found.holds
        assert {each.verdict for each in found.phases} == {"unchecked"}
        assert "no readings" in found.phases[0].why
        assert trace(folder, "pi-chip", 1).missing == ("the device has reported none",)

    def test_nothing_is_said_of_its_evidence(self, tmp_path: Path) -> None:
        folder = write_metered_run(tmp_path / "run", ["pi-chip"], keeps=False)
        assert recount(folder).evidence == (0, 0)

    def test_an_older_store_has_none(self, copy: Path) -> None:
        with closing(sqlite3.connect(copy / "run.sqlite")) as db, db:
            db.execute("DROP TABLE readings")
        assert read_readings(copy) == []
        assert {each.verdict for each in recount(copy).phases} == {"unchecked"}


class TestRefused:
    @staticmethod
    def torn(device: str, number: int, parts: tuple[ReadingsPart, ...]) -> tuple[ReadingsPart, ...]:
        return tuple(replace(p, count=10**8) if number == 2 and p.body else p for p in parts)

    @pytest.mark.parametrize("what", ["count", "bytes"])
    def test_what_is_absurd_is_stored_as_missing(self, tmp_path: Path, what: str) -> None:
        def garbage(
            device: str, number: int, parts: tuple[ReadingsPart, ...]
        ) -> tuple[ReadingsPart, ...]:
            return tuple(replace(p, body=b"\x28\xb5\x2f\xfd junk") for p in parts)

        change: Callable[..., tuple[ReadingsPart, ...]] = self.torn if what == "count" else garbage
        folder = write_metered_run(tmp_path / "run", ["pi-chip"], changed=change)
        missing = [part.row.missing for part in read_readings(folder) if part.row.body is None]
        assert missing
        assert all("what the device sent was refused" in said for said in missing)
        found = recount(folder)
        assert found.holds
        assert found.of("unchecked")

    def test_the_same_again_is_stored_once_and_not_without_end(self, tmp_path: Path) -> None:
        folder = write_metered_run(tmp_path / "run", ["pi-chip"])
        before = read_readings(folder)
        path = folder / "run.sqlite"
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE run SET status = 'interrupted'")
            db.execute("DELETE FROM event")
        store = RunStore.reopen(path)
        part = next(part.row.packed for part in before if part.round == 1)
        store.write_readings(1, "pi-chip", [part, replace(part, missing="another")])
        lives = [replace(part, life=f"{n:016x}") for n in range(PARTS_MOST + 20)]
        store.write_readings(1, "pi-chip", lives)
        store.close()
        after = read_readings(folder)
        assert [p for p in after if p.row.life == part.life] == before
        assert sum(p.round == 1 for p in after) == PARTS_MOST

    def test_before_the_first_round_there_are_as_many_for_each_round(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Plans of later rounds are stored with that time too."""
        folder = write_metered_run(tmp_path / "run", ["pi-chip"])
        path = folder / "run.sqlite"
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE run SET status = 'interrupted'")
            db.execute("DELETE FROM event")
        store = RunStore.reopen(path)
        part = read_readings(folder)[0].row.packed
        most = PARTS_MOST * (1 + ROUNDS)
        lives = [replace(part, life=f"{n:016x}") for n in range(most + 5)]
        store.write_readings(0, "pi-chip", lives)
        store.close()
        assert sum(p.round == 0 for p in read_readings(folder)) == most
        assert "6 parts of the readings of pi-chip in the time before the first round are not " in (
            caplog.text
        )


def write_three_meters(folder: Path, room_bytes: Callable[[int], int]) -> Path:
    """A run of a board with a processor's share and a second meter; room by round."""
    clock = VirtualClock(100.0)
    others: dict[Beside, str] = {"cpu": "counter", "second": "at once"}
    recorder = Several(RECORDED["at once"], clock, 4, others)
    log = LedgerLog()
    ledger = Ledger(clock, recorder, log)
    folder.mkdir()
    store = RunStore(folder / "run.sqlite")
    store.describe(replace(ABOUT, run="run", instance="00000000000000aa"))
    described = profile("pi")
    store.write_profile(
        "pi", replace(described, hardware=replace(described.hardware, meter=recorder.describe()))
    )
    for number in range(1, ROUNDS + 1):
        for phase in ("model-download", "compute", "upload", "idle"):
            with ledger.phase(phase):
                clock.advance(7.0)
        entry = replace(device_round("pi"), phases=ledger.take(number))
        store.write_round(round_result(number, [entry], 0.5))
        store.write_readings(number, "pi", log.part(room_bytes(number)))
    store.end("completed", "rounds", "2025-01-02T03:04:05+00:00")
    store.close()
    return folder


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    whole = write_three_meters(tmp_path_factory.mktemp("three") / "run", lambda _: BYTES_MOST)
    (part,) = read_readings(whole, number=2)
    assert set(part.row.series) == {"total", "cpu", "second"}
    room = len(part.row.body or b"") - 1
    return write_three_meters(
        tmp_path_factory.mktemp("short") / "run", lambda n: room if n == 2 else BYTES_MOST
    )


class TestLeftOut:
    """The second meter's readings had no room in round 2: all that counts is recounted."""

    @staticmethod
    def changed(short: Path, tmp_path: Path, column: str) -> Recount:
        folder = Path(shutil.copytree(short, tmp_path / "run"))
        where = "WHERE round = 2 AND phase = 'compute'"
        execute(folder, f"UPDATE sample SET {column} = {column} + 1.0 {where}")
        return recount(folder)

    def test_all_holds_and_what_was_left_out_is_said(self, short: Path) -> None:
        (part,) = read_readings(short, number=2)
        assert set(part.row.series) == {"total", "cpu"}
        found = recount(short)
        assert found.holds
        assert {each.verdict for each in found.phases} == {"holds"}
        assert found.missing == ()
        (said,) = found.left_out
        assert said.startswith("pi, round 2, part 1: without those of the second meter: ")
        doubtful = {each.round for each in found.phases if each.why == LEFT_OUT}
        assert 2 in doubtful
        assert 1 not in doubtful
        assert trace(short, "pi", 2, "second").missing
        assert not trace(short, "pi", 2, "total").missing

    def test_the_summary_of_the_recounted_run_is_the_same(self, short: Path) -> None:
        run = read_run(short)
        again = summarise(recounted(run, recount(short, run)))
        assert again == summarise(run)

    @pytest.mark.parametrize("column", ["energy_j", "cpu_j"])
    def test_a_changed_joule_is_named(self, short: Path, tmp_path: Path, column: str) -> None:
        found = self.changed(short, tmp_path, column)
        (wrong,) = found.of("differs")
        assert (wrong.round, wrong.phase) == (2, "compute")

    def test_of_the_second_meter_nothing_is_claimed(self, short: Path, tmp_path: Path) -> None:
        found = self.changed(short, tmp_path, "second_j")
        assert found.holds
        (each,) = [e for e in found.phases if (e.round, e.phase) == (2, "compute")]
        assert (each.verdict, each.why) == ("holds", LEFT_OUT)


class TestTrace:
    @pytest.mark.parametrize("device", METERS)
    def test_readings_and_phases_of_a_round(self, stored: Path, device: str) -> None:
        found = trace(stored, device, 3)
        assert len(found.times_s) == len(found.power_w) == len(found.counter_j) > 5
        assert (np.diff(found.times_s) >= 0.0).all()
        assert [each.record.phase for each in found.phases] == [
            *("model-download", "compute", "upload", "idle"),
        ]
        counts = bool(np.isfinite(found.counter_j).any())
        assert counts == (device == "pi-counter")
        assert np.nanmean(found.power_w) == pytest.approx(4.0, abs=3.0)
        known = {"resolved", "regression", "unresolved"}
        assert {each.made for each in found.phases} <= known

    def test_parts_are_in_order(self, stored: Path) -> None:
        parts = read_readings(stored, "pi-plug")
        assert [part.row.part for part in parts] == list(range(len(parts)))
        assert same("", 0, ()) == ()
