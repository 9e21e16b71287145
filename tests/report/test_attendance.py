"""Who took part, what gaps can hold at most, and that a run was resumed: page, terminal, JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from stored_runs import profile

from fimi.record.bounds import unknown_max
from fimi.record.events import Resumed
from fimi.record.reader import read_run
from fimi.record.record import Enrolment
from fimi.record.results import DeviceRound, RoundResult
from fimi.record.store import RunStore
from fimi.record.summary import summarise
from fimi.record.sums import Gap
from fimi.report.attendance import attendance_table, lines
from fimi.report.document import document
from fimi.report.page import render
from fimi.report.terminal import as_text

BOUND = unknown_max(profile("a").board, 7.5)
ABSENT = DeviceRound(device="b", status="absent", reason="b was offline", unknown_max=BOUND)
ENROLLED = (
    Enrolment(device="b", device_index=1, since_round=1),
    Enrolment(device="a", device_index=0, since_round=1),
    Enrolment(device="late", device_index=2, since_round=3),
    Enrolment(device="twin", why_not="has the same images as a"),
)


def rounds(build: Any, *absent: int, bound: Any = BOUND) -> list[RoundResult]:
    gone = msgspec.structs.replace(ABSENT, unknown_max=bound)
    return [
        build.round_result(
            number,
            [build.device_round("a"), gone if number in absent else build.device_round("b")],
            0.5,
        )
        for number in (1, 2, 3)
    ]


def written(folder: Path, build: Any, results: list[RoundResult], *, resume: bool = False) -> None:
    store = build.write(folder, names="ab", rounds=results, close=False)
    store.write_enrolments(ENROLLED)
    store.close()
    if resume:
        store = RunStore.reopen(folder / "run.sqlite")
        store.end("completed", "3 rounds")
        store.close()


def plain(page: str) -> str:
    return page.replace("\N{NO-BREAK SPACE}", " ")


class TestAbsent:
    def test_it_is_no_participant_and_its_joules_are_a_gap_with_a_bound(
        self, tmp_path: Path, build: Any
    ) -> None:
        written(tmp_path, build, rounds(build, 2, 3))
        run = read_run(tmp_path)
        summary = summarise(run)
        row = summary.devices[1]
        assert (row.rounds, row.accepted, row.problems, row.absent) == (1, 1, (), (2, 3))
        assert [(p.participants, p.accepted, p.absent) for p in summary.points] == [
            (2, 2, 0),
            (1, 1, 1),
            (1, 1, 1),
        ]
        assert summary.energy.missing == tuple(
            Gap(device="b", round=n, absent=True, unknown_max=BOUND) for n in (2, 3)
        )
        assert BOUND is not None and summary.energy.unknown_max is not None
        assert summary.energy.unknown_max.value_j == pytest.approx(2 * BOUND.value_j)
        assert summary.energy.known_j == pytest.approx(1.2 + 4 * build.measured_j)
        assert summary.dynamic.value_j == pytest.approx(4 * build.dynamic_j)
        assert summary.dynamic.unknown_max is None

    def test_everybody_says_so(self, tmp_path: Path, build: Any) -> None:
        written(tmp_path, build, rounds(build, 2, 3))
        words = " ".join(as_text(tmp_path, "utf-8").split())
        # 2 × 7.5 s × (2.5 W idle + 0.583 W computing + 0.1 W sending)
        known = "unknown; 115 J (emulated, board) known, without rounds 2–3 of b (absent)"
        assert f"{known}: at most 47.7 J (modelled, board)" in words
        assert "absent b: rounds 2–3 (b was offline)" in words
        assert "not metered b: absent in rounds 2–3: at most 47.7 J (modelled, board)" in words
        run = read_run(tmp_path)
        page = plain(render(run))
        assert "all of them can hold 47.7 J at most" in page
        assert "<li>b: absent in rounds 2–3: at most 47.7 J (modelled, board)</li>" in page
        assert "b absent: b was offline" in page
        assert '<th class="number" scope="col" rowspan="2">Absent</th>' in page
        body = json.loads(msgspec.json.encode(document(run, summarise(run))))
        assert body["absent"] == {"b": [2, 3]}
        assert body["statuses"][1:] == [{"accepted": 1, "absent": 1}] * 2
        assert body["energy"]["unknown_max"]["kind"] == "modelled"
        assert body["energy_measured_j"] is None

    def test_one_gap_without_a_bound_leaves_the_sum_without_one(
        self, tmp_path: Path, build: Any
    ) -> None:
        *before, last = rounds(build, 2)
        silent = DeviceRound(device="b", status="missing", reason="b is silent")
        devices = (last.devices[0], silent)
        written(tmp_path, build, [*before, msgspec.structs.replace(last, devices=devices)])
        assert summarise(read_run(tmp_path)).energy.unknown_max is None
        text = as_text(tmp_path, "utf-8")
        assert "at most" not in text
        assert "J at most" not in plain(render(read_run(tmp_path)))

    def test_a_device_that_had_not_joined_has_no_part_in_the_joules(
        self, tmp_path: Path, build: Any
    ) -> None:
        written(tmp_path, build, rounds(build, 2, 3, bound=None))
        summary = summarise(read_run(tmp_path))
        assert summary.energy.missing == ()
        assert summary.energy.value_j == pytest.approx(1.2 + 4 * build.measured_j)
        assert summary.devices[1].absent == (2, 3)

    def test_gaps_of_one_round_share_its_bound(self, tmp_path: Path, build: Any) -> None:
        entry = build.device_round("b", unread={"compute", "idle"}, unknown_max=BOUND)
        result = build.round_result(1, [build.device_round("a"), entry], 0.5)
        written(tmp_path, build, [result])
        summary = summarise(read_run(tmp_path))
        assert len(summary.energy.missing) == 2
        assert summary.energy.unknown_max == replace(BOUND, common_j=0.0)


class TestAttendance:
    def test_late_and_refused_devices_are_named(self, tmp_path: Path, build: Any) -> None:
        written(tmp_path, build, rounds(build))
        run = read_run(tmp_path)
        assert [e.device for e in run.enrolments] == ["a", "b", "late", "twin"]
        assert lines(run, summarise(run)) == [
            ("joined late", "late: from round 3 on"),
            ("not used", "twin: has the same images as a"),
        ]
        table = str(attendance_table(run, summarise(run)))
        assert "has the same images as a" in table
        body = document(run, summarise(run))
        assert (body.joined_late, body.not_used) == (
            {"late": 3},
            {"twin": "has the same images as a"},
        )

    def test_a_resume_is_said_with_its_round_and_time(self, tmp_path: Path, build: Any) -> None:
        written(tmp_path, build, rounds(build), resume=True)
        run = read_run(tmp_path)
        (resumption,) = run.resumptions
        assert resumption.after_round == 3
        assert "resumed" in dict(lines(run, summarise(run)))
        assert "Another process went on with this run after round 3 (20" in render(run)
        assert document(run, summarise(run)).resumed_after == (3,)

    def test_times_are_in_the_zone_of_the_run(self, tmp_path: Path) -> None:
        for name, started_at, hour in (
            ("a", "2026-01-01T00:00:00+02:00", "02:00:00"),
            ("b", "2026-01-01T00:00:00", "00:00:00"),
            ("c", "yesterday", "00:00:00"),
        ):
            folder = tmp_path / name
            folder.mkdir()
            store = RunStore(folder / "run.sqlite")
            store.describe(msgspec.structs.replace(store.info, started_at=started_at))
            store.write_event(Resumed(after_round=0))
            store._db.execute("UPDATE event SET at = 0")
            store.close()
            run = read_run(folder)
            assert lines(run, summarise(run)) == [
                ("resumed", f"before round 1 (1970-01-01 {hour})")
            ]

    def test_an_ordinary_run_has_nothing_of_it(self, run_dir: Path) -> None:
        run = read_run(run_dir)
        summary = summarise(run)
        assert lines(run, summary) == []
        assert attendance_table(run, summary) is None
        page = plain(render(run))
        for word in ("Absent", "Resumed", "waiting until", "at most is"):
            assert word not in page


def test_names_and_reasons_cannot_be_markup(tmp_path: Path, build: Any) -> None:
    store = build.write(tmp_path, names="a", close=False)
    store.write_enrolments([Enrolment(device="<b>x", why_not="<script>alert(1)</script>\x1b[2J")])
    store.close()
    run = read_run(tmp_path)
    table = str(attendance_table(run, summarise(run)))
    assert "<script>" not in table and "<b>" not in table
    assert "\x1b" not in as_text(tmp_path, "utf-8")
