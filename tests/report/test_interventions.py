"""What people asked of a run stands on its page, in the terminal and in its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fimi.record.events import Event, Intervened
from fimi.record.interventions import (
    ExcludeDevice,
    GoOn,
    IncludeDevice,
    PauseRun,
    PlanAgain,
    Request,
    SetDeadline,
)
from fimi.record.reader import read_run
from fimi.record.record import RunData
from fimi.record.summary import summarise
from fimi.report.comparison.runs import figures_of
from fimi.report.document import document
from fimi.report.interventions import intervention_table, notices
from fimi.report.page import render
from fimi.report.terminal import as_text


def event(number: int, request: Request, words: str, **more: Any) -> Event:
    fields = {"by": "command line (anna)", "asked_at": 1.8e9, "done": True, **more}
    return Intervened(round=number, number=1, request=request, words=words, **fields)


def stored(folder: Path, build: Any, *events: Event, physical: str = "") -> RunData:
    store = build.write(folder, names="ab", close=False, physical=physical)
    for each in events:
        store.write_event(each)
    store.close()
    return read_run(folder)


@pytest.fixture
def run(tmp_path: Path, build: Any) -> RunData:
    return stored(
        tmp_path,
        build,
        event(1, PauseRun(), "pauses after round 1"),
        event(1, SetDeadline(deadline_s=0.5), "there is no such plan", done=False),
        event(1, ExcludeDevice(device="b"), "b rests from round 2 on", by="the \x1b[1mdashboard"),
        event(1, GoOn(), "goes on with round 2 after a pause of 7 s", paused_s=7.25),
    )


def test_the_terminal_tells_all_of_them(run: RunData) -> None:
    text = " ".join(as_text(run.path.parent).split())
    assert "after round 1: pause, asked by command line (anna) " in text
    assert "set the deadline to 0.5 s, asked by command line (anna): refused: there is no" in text
    assert "\x1b" not in text


def test_the_page_says_first_that_it_is_no_undisturbed_run(run: RunData) -> None:
    page = render(run).replace("\N{NO-BREAK SPACE}", " ")
    notice, card = page.index("Somebody intervened. "), page.index("Final accuracy")
    assert notice < card
    assert "exclude b, asked by the �[1mdashboard: b rests from round 2 on" in page
    assert "7.25 s" in page
    table = intervention_table(run)
    assert table is not None
    assert table.count("<tr>") == 5  # a heading, and four
    assert "refused: there is no such plan" in table


def test_the_document_has_them_as_data(run: RunData) -> None:
    found = json.loads(msgspec.json.encode(document(run, summarise(run))))["interventions"]
    assert [(each["after_round"], each["request"]["do"], each["done"]) for each in found] == [
        (1, "pause", True),
        (1, "deadline", False),
        (1, "exclude", True),
        (1, "resume", True),
    ]
    assert found[2]["request"]["device"] == "b"
    assert found[3]["paused_s"] == 7.25
    assert found[0]["asked_at"] == 1.8e9


def test_only_what_was_done_makes_a_run_another_one(run: RunData, build: Any) -> None:
    assert len(summarise(run).interventions) == figures_of(run).interventions == 3
    folder = run.path.parent / "calm"
    calm = stored(folder, build, event(1, PlanAgain(), "there is no such plan", done=False))
    assert summarise(calm).interventions == ()
    assert notices(calm) == []
    assert "Somebody intervened" not in render(calm)


def test_an_undisturbed_run_says_nothing_of_it(run_dir: Path) -> None:
    run = read_run(run_dir)
    assert run.interventions == ()
    assert intervention_table(run) is None
    assert "intervention" not in as_text(run_dir)


def test_a_thing_that_cannot_be_read_is_named_and_the_rest_is_told(
    tmp_path: Path, build: Any
) -> None:
    class Odd(Event, frozen=True, kw_only=True, tag="intervened"):
        round: int

    run = stored(tmp_path, build, Odd(round=1), event(2, PauseRun(), "pauses after round 2"))
    assert [each.after_round for each in run.interventions] == [2]
    assert any("event intervened" in warning for warning in run.warnings)


def test_many_are_counted_above_and_stand_in_the_table(tmp_path: Path, build: Any) -> None:
    run = stored(tmp_path, build, *(event(1, PauseRun(), "") for _ in range(20)))
    assert notices(run)[-1] == "and 8 more, in the table of interventions"


def test_the_deadline_is_the_last_one_that_was_set(run: RunData, run_dir: Path, build: Any) -> None:
    before = read_run(run_dir).info.config.get("plan.deadline_s")
    assert run.deadline_s == read_run(run_dir).deadline_s == before  # that one was refused
    later = [event(n, SetDeadline(deadline_s=s), "new plan") for n, s in ((1, 4.0), (2, 6.0))]
    changed = stored(run.path.parent / "changed", build, *later)
    assert changed.deadline_s == 6.0


def held(run: RunData) -> Any:
    return summarise(run).held


def test_a_plan_is_held_against_rounds_since_it_was_made(tmp_path: Path, build: Any) -> None:
    again = event(2, PlanAgain(), "new plan", planned=True)
    assert held(stored(tmp_path, build, again)).rounds == 1
    last = stored(tmp_path / "last", build, event(3, PlanAgain(), "new plan", planned=True))
    assert held(last) is None


def test_joules_of_a_pause_are_none_of_a_planned_round(tmp_path: Path, build: Any) -> None:
    went_on = event(1, GoOn(), "goes on", paused_s=60.0)
    assert held(stored(tmp_path / "emulated", build, went_on)).rounds == 3
    assert held(stored(tmp_path / "real", build, went_on, physical="b")).rounds == 2


def test_who_is_excluded_is_held_against_no_plan_that_has_it(tmp_path: Path, build: Any) -> None:
    out = event(1, ExcludeDevice(device="b"), "b rests from round 2 on")
    assert held(stored(tmp_path / "1", build, out)) is None
    again = event(1, PlanAgain(), "new plan", planned=True)
    without = stored(tmp_path / "2", build, out, again)
    whole = stored(tmp_path / "3", build, again)
    assert held(without).rounds == held(whole).rounds == 2
    of_both = held(whole).board.measured.value_j
    assert held(without).board.measured.value_j == pytest.approx(of_both / 2)
    back = event(2, IncludeDevice(device="b"), "b takes part", planned=True)
    found = held(stored(tmp_path / "4", build, out, back))
    assert (found.rounds, found.board.measured.value_j) == (1, pytest.approx(of_both))
