"""What is wrong with boards, and the table that says so, without a broker."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from fimi.learning.data.contract import PROTOCOL
from fimi.messaging.console import SeenBoard
from fimi.messaging.messages.peers import DeviceState, Lease
from fimi.messaging.questions import BoardStatus, SeenMeter
from fimi.report.layout import Paper, columns
from fimi.sources import source_digest, version
from fimi.testbed.fleet import boards, status
from fimi.testbed.fleet.boards import UnknownBoardError

GIGABYTE = 10**9


def state(device: str, online: bool = True, **others: Any) -> DeviceState:
    return DeviceState(
        peer=device,
        role="device",
        status="online" if online else "offline",
        boot_id="b",
        **{"protocol": PROTOCOL, **others},
    )


def said(device: str, **others: Any) -> BoardStatus:
    fine: dict[str, Any] = {
        "version": version(),
        "sources": source_digest(),
        "board": "raspberry-pi-5",
        "kind": "physical",
        "meter": SeenMeter(source="pmic", kind="measured", scope="module"),
        "power_w": 4.21,
        "temperature_c": 55.4,
        "memory_free_bytes": GIGABYTE,
        "memory_bytes": 4 * GIGABYTE,
        "disk_free_bytes": 12 * GIGABYTE,
        "contract": "ab" * 32,
    }
    return BoardStatus(device=device, boot_id="b", **{**fine, **others})


def seen(device: str, **others: Any) -> SeenBoard:
    return SeenBoard(
        device=device, state=state(device), status=said(device, **others), answered=True
    )


def fleet(*found: SeenBoard) -> dict[str, SeenBoard]:
    return {board.device: board for board in found}


def shown(*found: SeenBoard, width: int = 80, lease: Lease | None = None, most: int = 99) -> str:
    console: Any = SimpleNamespace(fleet="desk", coordinator=lease)
    return "\n".join(status.lines(console, fleet(*found), Paper(width), most=most))


def row(text: str, device: str) -> str:
    (line,) = [
        line for line in text.partition("───")[2].splitlines() if line.split()[:1] == [device]
    ]
    return line


OFFLINE = SeenBoard(
    device="gone",
    state=state("gone", online=False),
    status=said("gone", unix_s=time.time() - 200_000.0),
)


class TestProblems:
    def test_none(self) -> None:
        assert boards.problems(seen("d1")) == ()

    @pytest.mark.parametrize(
        ("others", "words", "weight"),
        [
            ({"troubles": ("the meter shows nothing",)}, "the meter shows nothing", "failure"),
            ({"version": "0.0.9"}, "its agent is of fimi 0.0.9", "warning"),
            ({"version": ""}, "its agent is of fimi that was never installed", "warning"),
            ({"sources": "0" * 12}, "its agent's code (000000000000) differs", "warning"),
            ({"memory_free_bytes": 10**8}, "only 100 MB of memory are free", "warning"),
            ({"disk_free_bytes": 10**7}, "only 10 MB of disk are free", "warning"),
            ({"temperature_c": 81.0}, "81 °C: cool it", "warning"),
        ],
    )
    def test_each(self, others: dict[str, Any], words: str, weight: str) -> None:
        (problem,) = boards.problems(seen("d1", **others))
        assert words in problem.what
        assert problem.weight == weight

    def test_they_come_first(self) -> None:
        found = [seen("d1"), seen("d2", temperature_c=90.0), OFFLINE, seen("a", power_w=None)]
        assert [board.device for board, _ in boards.ordered(found)] == ["gone", "d2", "a", "d1"]


class TestChosen:
    def test_all_or_those_named(self) -> None:
        found = fleet(seen("d1"), seen("d2"))
        assert [board.device for board in boards.chosen(found, [])] == ["d1", "d2"]
        assert [board.device for board in boards.chosen(found, ["d2", "d2"])] == ["d2"]

    def test_the_nearest_name_is_meant(self) -> None:
        with pytest.raises(UnknownBoardError, match="did you mean 'raspi-1'"):
            boards.chosen(fleet(seen("raspi-1")), ["rapsi-1"])
        with pytest.raises(UnknownBoardError, match="knows no board in this fleet"):
            boards.chosen({}, [])


class TestTable:
    def test_what_a_board_does(self) -> None:
        text = shown(
            seen("d1", run="desk-3", round=7, stage="training"),
            seen("d2"),
            seen("d3", errand="calibrate"),
            width=120,
        )
        assert "desk-3 round 7 training" in row(text, "d1")
        assert "free" in row(text, "d2")
        assert "errand: calibrate" in row(text, "d3")
        assert row(text, "d2").endswith("now")

    @pytest.mark.parametrize(
        ("others", "words"),
        [
            ({}, "measured: pmic (module)"),
            (
                {"meter": SeenMeter(source="declared:5W", kind="modelled", scope="board")},
                "none: declared",
            ),
            (
                {"meter": SeenMeter(source="emulated:pi", kind="emulated", scope="board")},
                "emulated",
            ),
            ({"meter": None, "kind": "emulated", "power_w": None}, "emulated"),
        ],
    )
    def test_no_watts_without_their_kind(self, others: dict[str, Any], words: str) -> None:
        assert words in row(shown(seen("d1", **others)), "d1")

    def test_an_offline_board_shows_what_was_kept_and_how_old_it_is(self) -> None:
        line = row(shown(OFFLINE), "gone")
        assert "offline" in line
        assert "12 GB" in line
        assert "4.21" not in line and "55" not in line  # of now it knows nothing
        assert line.endswith("2 days ago")

    @pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
    def test_it_fits(self, width: int) -> None:
        found = [
            seen("a-board-with-a-long-name", run="a-run-with-a-long-name", round=100),
            seen("d2", meter=None),
            OFFLINE,
        ]
        text = shown(*found, width=width)
        table = text.partition("device")[2].splitlines()
        assert max(columns(line) for line in table) <= width
        for title in ("board", "version", "contract"):
            assert title in text  # as a column, or as one that has no room

    def test_boards_whose_names_begin_alike_are_told_apart(self) -> None:
        text = shown(*(seen(f"raspberry-pi-5-lab-west-{number:02}") for number in range(3)))
        assert [row(text, f"raspberry-…b-west-{number:02}") for number in range(3)]

    def test_a_wide_terminal_shows_everything(self) -> None:
        text = shown(seen("d1"), width=160)
        assert "wider terminal" not in text
        line = row(text, "d1")
        assert f"{version()} {source_digest()[:6]}" in line
        assert "ab" * 4 in line and "raspberry-pi-5" in line and "1 GB" in line

    def test_the_same_problem_of_many_is_said_once(self) -> None:
        text = shown(seen("d1", sources="1" * 12), seen("d2", sources="1" * 12))
        assert text.count("differs from the code") == 1
        assert "d1, d2: its agent's code" in text

    def test_forty_boards_without_power_are_one_problem(self) -> None:
        gone = [
            SeenBoard(device=f"d{number:02}", state=state(f"d{number:02}", online=False))
            for number in range(40)
        ]
        text = " ".join(shown(*gone).partition("device")[0].split())
        assert "40 boards, 0 ready, 1 problem ✗ d00, d01, d02, d03, d04 and 35 more: each" in text
        assert text.endswith("each is offline: start its agent, or look at its power and network")
        assert "✗ gone is offline" in shown(OFFLINE, seen("d1"))

    def test_control_characters_are_none(self) -> None:
        text = shown(seen("d1", run="\x1b[2J", board="\x07", troubles=("\x1b]0;x\x07",)), width=160)
        assert not [c for c in text if not c.isprintable() and c != "\n"]

    def test_who_holds_the_fleet(self) -> None:
        lease = Lease(
            peer="coordinator", role="coordinator", boot_id="b", epoch=1, host="desk", pid=7,
            since="", held=True, what="run r1",
        )  # fmt: skip
        assert "coordinator: process 7 on desk, run r1" in shown(seen("d1"), lease=lease)

    def test_a_screen_of_24_lines(self) -> None:
        found = [seen(f"d{number:02}", sources=f"{number:012}") for number in range(50)]
        text = shown(*found, most=7)
        assert len(text.splitlines()) <= 24
        assert "… and 43 more boards" in text

    def test_no_board(self) -> None:
        assert shown() == "fleet desk: 0 boards, 0 ready\nstart their agents: fimi agent run"


def test_how_long_ago() -> None:
    said = [status.ago(seconds) for seconds in (0.2, 59.0, 61.0, 3600.0, 86400.0, 2.5 * 86400)]
    assert said == ["0 s ago", "59 s ago", "1 min ago", "1 h ago", "1 day ago", "2 days ago"]


def test_json_holds_everything() -> None:
    console: Any = SimpleNamespace(fleet="desk", coordinator=None)
    body = status.body(console, fleet(seen("d1"), OFFLINE))
    gone, here = body["boards"]
    assert (gone["standing"], here["standing"]) == ("offline", "answers")
    assert here["status"]["meter"] == {"source": "pmic", "kind": "measured", "scope": "module"}
    assert here["problems"] == () and gone["problems"][0]["weight"] == "failure"


def test_room() -> None:
    assert [boards.room(size) for size in (0, 512 * 10**6, 12_345 * 10**6)] == [
        "0 MB",
        "512 MB",
        "12.3 GB",
    ]
