"""The picture: it fits, all devices are reached, order and filter are right, nothing is bare."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_snapshots import fleet, joules
from msgspec.structs import replace

from fimi.monitor.snapshot import (
    PROBLEMS,
    DeviceNow,
    JoulesNow,
    RoundNow,
    RunNow,
    Said,
    Snapshot,
    StudyNow,
    StudyTable,
    TaskNow,
)
from fimi.monitor.terminal.cells import age
from fimi.monitor.terminal.picture import draw, still
from fimi.monitor.terminal.state import Drawn, ViewState, press
from fimi.record.interventions import SetDeadline

FLEETS = {count: fleet(count) for count in (0, 1, 3, 30, 100, 500)}
KEYS = [
    *("up", "down", "page up", "page down", "home", "end", "enter", "escape", "left", "right"),
    *(
        "backspace",
        "s",
        "<",
        ">",
        "r",
        "/",
        "p",
        "e",
        "t",
        "D",
        "?",
        "j",
        "k",
        "g",
        "G",
        " ",
        "é",
        "7",
    ),
]


def wide(text: str) -> int:
    """Columns of a text, counted in another way than the product does."""
    return sum(
        0 if unicodedata.category(c) == "Mn" else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def check(picture: Drawn, width: int, height: int) -> None:
    assert len(picture.lines) == height
    for line in picture.lines:
        assert wide(line.text) <= width, line.text
        assert line.text.isprintable()


def ids(picture: Drawn) -> list[str]:
    """Devices that are on the screen."""
    found = [re.match(r"[> ][! ](device-\d+)", line.text) for line in picture.lines]
    return [match[1] for match in found if match]


@pytest.mark.parametrize("count", [3, 30, 500])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 12), (200, 60)])
def test_every_device_is_reached_by_scrolling(count: int, width: int, height: int) -> None:
    for key in ("down", "page down", "up") if count < 100 else ("page down", "page up"):
        state, seen = ViewState(), set()
        picture = draw(FLEETS[count], state, width, height)
        if key.endswith("up"):
            state = press(state, "end", picture)
        for _ in range(count + 1):
            picture = draw(FLEETS[count], state, width, height)
            check(picture, width, height)
            seen |= set(ids(picture))
            (at,) = [line for line in picture.lines if line.chosen]
            assert at.text.startswith(">")
            if len(seen) == count:
                break
            state = press(state, key, picture)
        assert seen == set(FLEETS[count].devices)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from([0, 1, 3, 30, 100]),
    st.lists(
        st.tuples(st.sampled_from(KEYS), st.integers(1, 220), st.integers(1, 70)), max_size=12
    ),
)
def test_whatever_is_pressed_it_fits(count: int, steps: list[tuple[str, int, int]]) -> None:
    state = ViewState()
    picture = draw(FLEETS[count], state, 80, 24)
    for key, width, height in steps:
        state = press(state, key, picture, asks=True)
        picture = draw(FLEETS[count], state, width, height, runs=True, link="not connected")
        check(picture, width, height)
        if state.pane == "devices" and picture.devices and height >= 1:
            assert sum(line.chosen for line in picture.lines) == 1
    assert not state.done  # nothing of these leaves


@given(st.integers(1, 30), st.integers(1, 8))
def test_the_smallest_screens_show_a_device(width: int, height: int) -> None:
    picture = draw(FLEETS[30], ViewState(), width, height)
    check(picture, width, height)
    assert any(line.chosen for line in picture.lines)


class TestOrder:
    def order(self, **chosen: object) -> list[str]:
        return list(draw(FLEETS[30], ViewState(**chosen), 200, 60).devices)  # type: ignore[arg-type]

    def test_problems_are_first(self) -> None:
        devices = FLEETS[30].devices
        found = [devices[each] for each in self.order()]
        ranks = [
            PROBLEMS.index(each.state) if each.state in PROBLEMS else 9 - bool(each.problem)
            for each in found
        ]
        assert ranks == sorted(ranks) and ranks[0] == PROBLEMS.index("gone")
        assert self.order(reverse=True)[0] == "device-001"

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("power", lambda now: now.power_w),
            ("temperature", lambda now: now.temperature_c),
            ("energy", lambda now: now.round_energy.energy.value_j),
            ("error", lambda now: now.round_energy.error_percent),
            ("synthetic", lambda now: now.synthetic),
        ],
    )
    def test_numbers_fall_and_what_is_unknown_is_last(self, column: str, value) -> None:  # type: ignore[no-untyped-def]
        devices = FLEETS[30].devices
        found = [value(devices[each]) for each in self.order(sort=column)]
        known = [each for each in found if each is not None]
        assert known == sorted(known, reverse=True)
        assert found[: len(known)] == known
        back = [value(devices[each]) for each in self.order(sort=column, reverse=True)]
        assert back[: len(known)] == sorted(known)

    def test_names_count_as_people_do(self) -> None:
        now = DeviceNow()
        named = replace(FLEETS[0], devices={"d-10": now, "d-9": now, "b": now, "D-2": now})
        assert draw(named, ViewState(), 80, 24).devices == ("b", "D-2", "d-9", "d-10")

    def test_keys_go_through_all_that_is_shown(self) -> None:
        state, seen = ViewState(), []
        for _ in range(40):
            picture = draw(FLEETS[3], state, 80, 24)
            state = press(state, "s", picture)
            seen.append(state.sort)
        assert set(seen) == set(picture.orders) and len(set(seen)) > 5
        assert press(press(state, ">", picture), "<", picture) == state


class TestFilter:
    def test_all_words_must_be_there(self) -> None:
        for words in ("gone", "jetson", "GONE jetson", "device-01", "compute", "zzz"):
            picture = draw(FLEETS[30], ViewState(filter=words), 80, 24)
            expected = {
                name
                for name, now in FLEETS[30].devices.items()
                if all(
                    any(
                        word in text
                        for text in (name, now.board, now.state, str(now.phase), now.problem)
                    )
                    for word in words.lower().split()
                )
            }
            assert set(picture.devices) == expected
            assert any(f"{len(expected)} of 30" in line.text for line in picture.lines)

    def test_typing_goes_into_it_and_escape_clears_it(self) -> None:
        state = ViewState()
        picture = draw(FLEETS[30], state, 80, 24)
        for key in ("/", "g", "o", "q", "backspace", "n", "e", "enter"):
            state = press(state, key, picture)
        assert (state.filter, state.typing) == ("gone", False)
        assert press(state, "escape", picture).filter == ""

    def test_problems_only(self) -> None:
        picture = draw(FLEETS[30], ViewState(problems_only=True), 80, 24)
        assert set(picture.devices) == {
            name for name, now in FLEETS[30].devices.items() if now.state in ("gone", "failed")
        }

    def test_the_cursor_stays_with_its_device(self) -> None:
        state = ViewState()
        picture = draw(FLEETS[30], state, 80, 24)
        for key in ("down", "down", "r", "p", "p", "s"):
            state = press(state, key, picture)
            picture = draw(FLEETS[30], state, 80, 24)
        (at,) = [line for line in picture.lines if line.chosen]
        assert "device-021" in at.text


class TestNothingIsBare:
    def lines(self, snapshot: Snapshot, width: int = 200) -> list[str]:
        return [line.text for line in draw(snapshot, ViewState(), width, 24).lines]

    def test_what_is_alike_stands_above(self) -> None:
        lines = self.lines(FLEETS[3], 80)
        assert any("W and J emulated, board" in line for line in lines)
        assert any("165 J (emulated, board) so far" in line for line in lines)

    def test_what_differs_stands_with_each(self) -> None:
        devices = dict(FLEETS[3].devices)
        one = devices["device-001"]
        devices["device-001"] = replace(one, power_kind="measured", power_scope="cpu")
        text = "\n".join(self.lines(replace(FLEETS[3], devices=devices)))
        assert "4.70 W (measured, cpu)" in text and "8.40 W (emulated, board)" in text
        assert "W emulated" not in text and "J emulated, board" in text
        devices["device-002"] = replace(one, round_energy=joules(7.0, kind="measured"))
        text = "\n".join(self.lines(replace(FLEETS[3], devices=devices)))
        assert "7.00 J (measured, board)" in text and "11.0 J (emulated, board)" in text
        devices["device-003"] = replace(one, power_kind=None, power_scope=None)
        text = "\n".join(self.lines(replace(FLEETS[3], devices=devices)))
        assert "4.70 W (of unknown kind)" in text

    def test_what_is_missing_is_said(self) -> None:
        found = replace(joules(5.0), whole=False, missing="upload in round 2 of device-002")
        devices = {"device-002": replace(FLEETS[3].devices["device-002"], round_energy=found)}
        run = replace(FLEETS[3].run, energy=found)
        text = "\n".join(self.lines(replace(FLEETS[3], devices=devices, run=run)))
        assert "≥ 5.00 J" in text
        assert "unknown; 5.00 J (emulated, board) known so far" in text
        assert "without upload in round 2 of device-002" in text


def test_foreign_text_does_nothing() -> None:
    evil = "x\x1b[2J\r\n\x07\u202e\x9b31m"
    now = DeviceNow(board=evil, problem=evil, state="failed", meter=evil, point=evil, power_w=1.0)
    names = {evil: now, "設備-一二三四五六七八九十設備設備設備": now, "é" * 90: now}
    snapshot = Snapshot(
        unix_s=1.0,
        run=RunNow(name=evil, title=evil, doing=evil, plan=evil, broker=evil, exposed=evil),
        devices=names,
        said={"1": Said(unix_s=1.0, text=evil, device=evil, problem=True)},
    )
    for pane in ("devices", "device", "events", "help"):
        for width in (20, 40, 80, 200):
            for name in names:
                state = ViewState(pane=pane, chosen=name, filter="")  # type: ignore[arg-type]
                check(draw(snapshot, state, width, 24, link=evil), width, 24)
    assert still(snapshot, 80).replace("\n", "").isprintable()


@pytest.mark.parametrize("unix_s", [1e20, -1e20, 1e308, float("nan"), float("inf"), 0.0])
def test_a_time_that_no_clock_shows_is_dashes(unix_s: float) -> None:
    snapshot = Snapshot(
        unix_s=1.0, run=RunNow(name="r"), said={"1": Said(unix_s=unix_s, text="it happened")}
    )
    (line,) = [
        line.text
        for line in draw(snapshot, ViewState(pane="events"), 80, 24).lines
        if "it happened" in line.text
    ]
    shown = line.split()[0]
    assert (shown == "--:--:--") == (unix_s != 0.0)


class TestPanes:
    def text(self, **chosen: object) -> str:
        picture = draw(FLEETS[30], ViewState(**chosen), 100, 60, runs=True)  # type: ignore[arg-type]
        return "\n".join(line.text for line in picture.lines)

    def test_a_device(self) -> None:
        said = self.text(pane="device", chosen="device-007")
        for words in (
            "! went offline",
            "gone, not connected",
            "17.0 J (emulated, board), predicted 17.5 J (modelled; +2.9 %)",
            "planned 1.50 GHz, in force 1.40 GHz, runs at 1.39 GHz",
            "last upload 7.40 Mbit/s, planned 8.00 Mbit/s",
            "61 s ago",
            "round 29: it took longer",
        ):
            assert words in said

    def test_every_event_is_reached(self) -> None:
        state, seen = ViewState(pane="events"), set()
        for _ in range(60):
            picture = draw(FLEETS[3], state, 50, 14)
            seen |= set(re.findall(r"round (\d+): it", " ".join(x.text for x in picture.lines)))
            state = press(state, "up", picture)
        assert seen == {str(n) for n in range(1, 30)}

    def test_leaving_a_run_of_this_process_is_asked(self) -> None:
        picture = draw(FLEETS[3], ViewState(), 80, 24, runs=True)
        asked = press(ViewState(), "q", picture, asks=True)
        assert asked.leaving and not asked.done
        assert "the run goes on" in draw(FLEETS[3], asked, 80, 24).lines[-1].text
        assert press(asked, "j", picture, asks=True) == ViewState()
        assert press(asked, "q", picture, asks=True).done
        assert press(ViewState(), "q", picture).done


def test_as_text_all_devices_or_as_many_as_fit() -> None:
    whole = still(FLEETS[500], 80)
    assert all(name in whole for name in FLEETS[500].devices)
    few = still(FLEETS[500], 80, 20).splitlines()
    assert len(few) == 20 and "more devices" in few[-1]
    assert max(map(len, whole.splitlines())) <= 80


def test_an_experiment_shows_its_runs_and_results() -> None:
    study = StudyNow(
        name="trial",
        done=3,
        runs=8,
        failed={"fimi-seed-2": "no plan"},
        running={"tfl-seed-1": TaskNow(done=4, steps=10, since_s=12.0)},
        tables=(
            StudyTable(caption="accuracy", heading=("cell", "final"), rows=(("fimi", "98 %"),)),
        ),
    )
    snapshot = replace(FLEETS[0], study=study, run=RunNow(name="trial", title="experiment trial"))
    for width in (30, 80):
        picture = draw(snapshot, ViewState(), width, 30)
        check(picture, width, 30)
        said = "\n".join(line.text for line in picture.lines)
        for words in ("3 of 8 runs", "fimi-seed-2", "tfl-seed-1", "4/10", "98 %"):
            assert words in said
    assert "98 %" in still(snapshot, 80)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *[(None, "–"), (-3.0, "0 s"), (0.4, "0 s"), (99.0, "99 s"), (100.0, "2 min")],
        *[(5900.0, "98 min"), (7200.0, "2 h"), (172_000.0, "48 h"), (900_000.0, "10 d")],
    ],
)
def test_how_long_ago(seconds: float | None, said: str) -> None:
    assert age(seconds) == said


def test_every_round_is_reached_and_its_joules_have_their_kind() -> None:
    def now(number: int, kind: str = "emulated") -> RoundNow:
        of_round = joules(3.0 + number, 4.0 + number, kind)
        missing = JoulesNow(energy=of_round.energy, whole=False)
        return RoundNow(
            accuracy=number / 1000,
            loss=None,
            duration_s=12.5,
            elapsed_s=12.5 * number,
            accepted=2,
            participants=3,
            energy=of_round,
            so_far=missing,
        )

    some = Snapshot(
        unix_s=1.0, run=RunNow(name="r"), rounds={str(n): now(n) for n in range(1, 301)}
    )
    for width, height, key in ((80, 24, "page up"), (36, 14, "up")):
        state = press(ViewState(), "t", Drawn())
        assert state.pane == "rounds"
        seen: set[str] = set()
        for _ in range(300):
            picture = draw(some, state, width, height)
            check(picture, width, height)
            text = [line.text for line in picture.lines]
            seen |= {line.split()[0] for line in text if line[:6].strip().isdigit()}
            if picture.length <= state.up + picture.page:
                break
            state = press(state, key, picture)
        assert seen == {str(n) for n in range(1, 301)}
    text = [line.text for line in draw(some, state, 80, 24).lines]
    (line,) = [line for line in text if line.split()[:1] == ["7"]]
    assert line.split()[1:9] == ["0.7", "%", "10.0", "J", "11.0", "J", "+10.0", "%"]
    assert "≥ 10.0 J" in line
    assert any("joules: emulated, board; predicted: modelled" in line for line in text)
    for width in (20, 40, 50, 200):
        check(draw(some, state, width, 24), width, 24)
        said = " ".join(line.text for line in draw(some, state, width, 24).lines)
        assert " J " not in said or "emulated, board" in said
    mixed = Snapshot(
        unix_s=1.0, run=RunNow(name="r"), rounds={"1": now(1), "2": now(2, "measured")}
    )
    text = [line.text for line in draw(mixed, state, 120, 24).lines]
    assert any("4.00 J (emulated, board)" in line for line in text)
    assert any("5.00 J (measured, board)" in line for line in text)
    empty = draw(Snapshot(unix_s=1.0, run=RunNow(name="r")), state, 80, 24)
    assert any("no round has ended yet" in line.text for line in empty.lines)


def typed(keys: str, *, acts: bool = True) -> ViewState:
    state = ViewState()
    for key in keys:
        named = {"\n": "enter", "\b": "backspace", "\x1b": "escape"}.get(key, key)
        state = press(state, named, Drawn(), acts=acts)
    return state


def test_a_deadline_is_typed_and_asked_for_after_yes() -> None:
    assert typed("D12.5\n").wants == SetDeadline(deadline_s=12.5)
    assert typed("D12.5\n").asks is None
    asked = typed("D12.5\ny")
    assert asked.asks == SetDeadline(deadline_s=12.5) and asked.wants is None
    assert typed("D12.5\nq").asks is None and typed("D12.5\nq").wants is None
    assert typed("D1x2\b3q\n").wants == SetDeadline(deadline_s=13.0)
    for none in ("", "0", ".", "1.2.3", "86401", "999999999999"):
        assert typed(f"D{none}\n").number == none, "it stays to be mended"
    assert typed("D12\x1b").number is None
    assert typed("D", acts=False).number is None
    footer = draw(FLEETS[3], typed("D37"), 80, 24).lines[-1].text
    assert footer.startswith("deadline of a round, s: 37")


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("by", ["the dashboard", "anna on desk-7 (command line)"])
def test_the_command_that_ends_a_pause_is_whole(width: int, by: str) -> None:
    said = (
        f"paused after round 12 for 345 s, as {by} has asked; 'fimi control live2 resume' goes on"
    )
    now = fleet(3)
    now = replace(now, run=replace(now.run, state="paused", doing=said, waiting=""))
    picture = draw(now, ViewState(), width, 24)
    check(picture, width, 24)
    lines = [line.text for line in picture.lines]
    assert any("'fimi control live2 resume' goes on" in line for line in lines)
    assert said in " ".join(line.strip() for line in lines)
