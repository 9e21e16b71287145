"""The display of a run in its own process, on a real terminal."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from own_terminal import OwnTerminal

from fimi.monitor.watcher import Watcher
from fimi.record.events import DeviceJoined, DeviceLost
from fimi.record.record import RunInfo
from fimi.testbed.display import RunDisplay, _Kept
from fimi.testbed.logs import LogSettings, set_up

Streams = tuple[IO[str], IO[str]]
JOINED = DeviceJoined(device="device-01", board="pi", kind="emulated", samples=7, backend="torch")
LOST = DeviceLost(device="device-01", reason="went offline")


@pytest.fixture
def terminal() -> Iterator[OwnTerminal]:
    made = OwnTerminal()
    yield made
    made.close()


@pytest.fixture
def streams(terminal: OwnTerminal) -> Iterator[Streams]:
    name = Path(os.ttyname(terminal.slave))
    with name.open("w", encoding="utf-8") as out, name.open(encoding="utf-8") as keys:
        yield out, keys


def shown(streams: Streams) -> tuple[RunDisplay, Watcher]:
    return RunDisplay(*streams, rounds=4), Watcher(
        RunInfo(run="r", config={"rounds.count": 4}), "FIMI dry run"
    )


def test_it_is_drawn_and_wipes_itself_away(
    terminal: OwnTerminal,
    streams: Streams,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    view, watcher = shown(streams)
    set_up(LogSettings())
    before = sys.stdout, sys.stderr
    with view:
        view.watch(watcher, tmp_path)
        view.tell("dashboard: http://127.0.0.1:1/?key=secret")
        for see in (watcher, view):
            see(JOINED)
        print("printed by a library")
        logging.getLogger("fimi.x").warning("the clock is wrong")
        terminal.until("> device-01 joined")
        terminal.until("warning: the clock is wrong")
        assert "printed by a library" in terminal.text
        assert "?key=secret" in terminal.text
        assert not any("secret" in each.text for each in watcher.snapshot().said.values())
        assert capsys.readouterr().out == ""  # nothing disturbs the screen
    terminal.read(0.1)
    assert terminal.is_restored
    assert terminal.written.endswith("\x1b[?1049l")
    assert (sys.stdout, sys.stderr) == before
    said = capsys.readouterr()  # what was printed is not lost
    assert said.out == "printed by a library\n"
    assert said.err == "warning: the clock is wrong\n"


def test_who_leaves_it_sees_lines_and_the_run_goes_on(
    terminal: OwnTerminal, streams: Streams, tmp_path: Path
) -> None:
    view, watcher = shown(streams)
    with view:
        view.watch(watcher, tmp_path)
        view(JOINED)
        terminal.until("Ctrl-C stops the run", 20)
        terminal.type("q")
        terminal.until("leave this display? the run goes on")
        terminal.type("x")
        terminal.until("q leave")
        terminal.type("qq")
        terminal.until(lambda: "the run goes on; Ctrl-C stops it" in terminal.written)
        assert terminal.is_restored
        view(LOST)
        terminal.until(lambda: "device-01: went offline" in terminal.written)
        assert "joined" not in terminal.written.rpartition("\x1b[?1049l")[2]


def test_a_display_that_fails_does_not_hurt_the_run(
    terminal: OwnTerminal,
    streams: Streams,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Watcher):
        def snapshot(self):  # type: ignore[no-untyped-def]
            raise ZeroDivisionError("by mistake")

    view = RunDisplay(*streams, rounds=4)
    with view:
        view.watch(Broken(RunInfo(run="r")), tmp_path)
        terminal.until(lambda: "the run goes on" in terminal.written)
        view(LOST)
    terminal.read(0.1)
    assert terminal.is_restored
    assert "device-01: went offline" in terminal.written
    assert "the display has ended" in caplog.text and "by mistake" in caplog.text


def test_ctrl_c_is_what_it_was(terminal: OwnTerminal, streams: Streams, tmp_path: Path) -> None:
    """Its handler is not touched, and a terminal in this mode still sends it."""
    before = signal.getsignal(signal.SIGINT)
    stops = signal.getsignal(signal.SIGTSTP)
    view, watcher = shown(streams)
    with view:
        view.watch(watcher, tmp_path)
        terminal.until("0/4 rounds")
        assert signal.getsignal(signal.SIGINT) == before
        flags = terminal.modes()[3]
        assert isinstance(flags, int)
        assert flags & termios.ISIG and not flags & (termios.ICANON | termios.ECHO)
    assert signal.getsignal(signal.SIGTSTP) == stops


def test_a_progress_bar_is_one_line_that_takes_no_more_than_its_last_state() -> None:
    lines: list[str] = []
    kept = _Kept(io.StringIO(), lines.append)
    for done in range(1000):
        kept.write(f"\r{done} of 1000")
    assert len(kept._begun) < 20
    kept.write("\r1000 of 1000\n")
    for done in range(3):
        kept.write(f"{done} %\r")
    kept.write("ready\r\nsaid with both\r\nhalf")
    kept.write("\r")
    kept.end()
    assert lines == ["1000 of 1000", "ready", "said with both", "half"]
    kept.write("." * 70_000)
    assert len(lines) == 5 and not kept._begun


def test_without_keys_it_is_drawn_all_the_same(
    terminal: OwnTerminal, streams: Streams, tmp_path: Path
) -> None:
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        view, watcher = RunDisplay(streams[0], nothing, 4), Watcher(RunInfo(run="r"))
        with view:
            view.watch(watcher, tmp_path)
            terminal.until("no devices yet")
            assert terminal.modes() == terminal.before
            watcher(JOINED)
            terminal.until("device-01")
