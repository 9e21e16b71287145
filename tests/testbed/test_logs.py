"""What a process says: how much of it, where, and in which form."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fimi.testbed import logs
from fimi.testbed.logs import SHOWN, LogSettings

OURS = logging.getLogger("fimi.edge_agent.agent")
THEIRS = logging.getLogger("somebody.else")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    ours = logging.getLogger("fimi")
    levels = logging.root.level, ours.level
    yield
    logs.set_up(LogSettings())
    for handler in logging.root.handlers[:]:
        if type(handler).__module__ == logs.__name__:
            logging.root.removeHandler(handler)
    logging.root.setLevel(levels[0])
    ours.setLevel(levels[1])


def speak() -> None:
    OURS.debug("a phase")
    OURS.info("a start")
    OURS.warning("a problem")
    THEIRS.info("chatter")
    THEIRS.warning("trouble")


class TestTerminal:
    @pytest.mark.parametrize(
        ("verbosity", "said"),
        [
            (-1, ["warning: a problem", "warning: trouble"]),
            (0, ["a start", "warning: a problem", "warning: trouble"]),
            (1, ["a phase", "a start", "warning: a problem", "warning: trouble"]),
            (2, ["a phase", "a start", "warning: a problem", "chatter", "warning: trouble"]),
        ],
    )
    def test_how_much(
        self, verbosity: int, said: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        logs.set_up(LogSettings(verbosity=verbosity))
        speak()
        out, err = capsys.readouterr()
        assert out == ""
        assert err.splitlines() == said

    def test_a_process_without_results_talks_on_standard_output(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        logs.set_up(LogSettings(), talks=True)
        speak()
        out, err = capsys.readouterr()
        assert out == "a start\n"
        assert err.splitlines() == ["warning: a problem", "warning: trouble"]

    def test_a_child_says_problems_only_unless_asked(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        logs.set_up(LogSettings(), child=True)
        speak()
        assert [line.split(None, 3)[1:] for line in capsys.readouterr().err.splitlines()] == [
            ["WARNING", "edge_agent", "a problem"],
            ["WARNING", "somebody.else", "trouble"],
        ]
        logs.set_up(LogSettings(verbosity=1), child=True)
        speak()
        assert "a phase" in capsys.readouterr().err

    def test_it_cannot_be_steered_from_outside(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.set_up(LogSettings())
        OURS.warning("%s", "device-1: \x1b[2J\nerror: all is lost")
        (line,) = capsys.readouterr().err.splitlines()
        assert "\x1b" not in line

    def test_an_exception_is_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.set_up(LogSettings())
        try:
            raise ValueError("too large")
        except ValueError:
            OURS.warning("not drawn", exc_info=True)
        assert capsys.readouterr().err == "warning: not drawn: ValueError: too large\n"

    def test_setting_up_again_replaces_what_was_before(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for _ in range(3):
            logs.set_up(LogSettings())
        OURS.info("once")
        assert capsys.readouterr().err == "once\n"


class TestFile:
    def test_it_has_what_v_shows_with_time_level_and_room(self, tmp_path: Path) -> None:
        file = tmp_path / "fimi.log"
        file.write_text("from before\n")
        logs.set_up(LogSettings(verbosity=-1, file=str(file)))
        speak()
        OURS.info("a round", extra=SHOWN)
        before, *lines = file.read_text("utf-8").splitlines()
        assert before == "from before"
        pattern = r"\d{4}-\d\d-\d\dT[\d:.]{12}[+-]\d\d:\d\d (\w+) +([\w.]+) +(.*)"
        assert [re.fullmatch(pattern, line).groups() for line in lines] == [  # type: ignore[union-attr]
            ("DEBUG", "edge_agent", "a phase"),
            ("INFO", "edge_agent", "a start"),
            ("WARNING", "edge_agent", "a problem"),
            ("WARNING", "somebody.else", "trouble"),
            ("INFO", "edge_agent", "a round"),
        ]

    def test_a_folder_that_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            logs.set_up(LogSettings(file=str(tmp_path / "none" / "fimi.log")))

    @pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
    def test_a_full_disk_is_said_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        logs.set_up(LogSettings(file="/dev/full"))
        speak()
        speak()
        err = capsys.readouterr().err
        assert err.count("/dev/full cannot be written any more") == 1
        assert err.count("a problem") == 2


@pytest.mark.parametrize("verbosity", [-1, 0, 1, 2])
@pytest.mark.parametrize("file", ["", "/dev/null"])
def test_children_get_the_options_that_set_them_up_alike(verbosity: int, file: str) -> None:
    from fimi.testbed.cli import main

    logs.set_up(LogSettings(verbosity=verbosity, file=file))
    asked, settings = logs.arguments(), logs.current()
    logs.set_up(LogSettings())
    main([*asked, "optimise", "--example"], standalone_mode=False)
    assert logs.current() == settings


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_whole_words_and_a_file_whole_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = "device-01: " + "joules from /sys/class/powercap/intel-rapl, " * 5 + "\n  remedy"
    shown = logs.folded(text, Screen())
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.split() == text.split()
    assert logs.folded(text, io.StringIO()) == text
    assert logs.one_line("no plan\n  deadline_s is 2") == "no plan; deadline_s is 2"


def test_the_key_of_a_dashboard_is_not_in_the_log_file(tmp_path: Path) -> None:
    logs.set_up(LogSettings(file=str(tmp_path / "log")))
    OURS.info("dashboard: http://127.0.0.1:8765/?key=abc-DEF_123", extra=SHOWN)
    said = (tmp_path / "log").read_text()
    assert "http://127.0.0.1:8765/?key=…" in said and "DEF" not in said
