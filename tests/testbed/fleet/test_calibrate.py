"""A board that is calibrated from afar: its profile is replaced, nothing that was measured is lost.

The sweep itself is that of an emulated board (``fimi calibrate --emulated``), in a process of its
own as a real one; what it finds is tested where it is made.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from worlds import Ina226

import fimi.energy.host_profile
from fimi.energy.clock import VirtualClock
from fimi.energy.host_profile import load_profile
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.console import Console
from fimi.messaging.errors import BoardDeclines, NotAnswered
from fimi.messaging.questions import CalibrationRequest, ModelQuestion, ModelReply, StatusQuestion
from fimi.testbed.cli import main
from fimi.testbed.processes.agent import serve
from fimi.testbed.processes.errands import Errands

EXAMPLE = (fimi.energy.host_profile.__doc__ or "").split("::\n", 1)[1]
PROFILE = "\n".join(line.strip() for line in EXAMPLE.splitlines())
PATIENCE_S = 60.0


class Board:
    """An agent of a profile in a thread; its sweeps are of an emulated board."""

    def __init__(self, broker: EmbeddedBroker, fleet: str, folder: Path) -> None:
        self.broker, self.fleet, self.folder = broker, fleet, folder
        self.profile = folder / "board.toml"
        self.sweep = ["--emulated", "mini-pc", "--seconds", "4", "--settle", "1"]
        self.begin()

    def begin(self, **options: Any) -> None:
        self.stop = threading.Event()
        given = {"host_profile": self.profile, "root": self.folder, "allow": ("calibrate",)}
        self.thread = threading.Thread(
            target=serve,
            args=(self.broker.address,),
            kwargs={"fleet": self.fleet, "name": "d1", "stop": self.stop, **given, **options},
        )
        self.thread.start()
        limit_s = time.monotonic() + PATIENCE_S
        with self.console() as console:
            while True:
                try:
                    console.ask("d1", StatusQuestion(), 1.0)
                    return
                except NotAnswered:
                    assert time.monotonic() < limit_s

    def end(self) -> None:
        self.stop.set()
        self.thread.join()

    def console(self) -> Console:
        return Console(self.broker.address, fleet=self.fleet)

    def command(self, made: Path) -> list[str]:
        words = ["--out", str(made), "--force", "--progress", "--format", "json"]
        return [sys.executable, "-m", "fimi.testbed.cli", "calibrate", *self.sweep, *words]

    def fimi(self, *arguments: str) -> Result:
        url = self.broker.address.url(with_password=True)
        return CliRunner().invoke(
            main,
            ["fleet", "calibrate", "--fleet", self.fleet, *arguments],
            env={"FIMI_BROKER": url},
        )


@pytest.fixture
def board(
    a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Board]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    Ina226(tmp_path, VirtualClock())
    (tmp_path / "board.toml").write_text(PROFILE)
    board = Board(a_broker, fleet_name, tmp_path)
    monkeypatch.setattr(Errands, "_command", lambda self, asked, made: board.command(made))
    yield board
    board.end()


def test_its_profile_is_replaced_and_kept_here(board: Board) -> None:
    before = load_profile(board.profile)
    said = board.fimi("d1")
    assert said.exit_code == 0, said.output
    assert "d1: [" in said.stderr  # progress
    now = load_profile(board.profile)
    assert now.name == "mini-pc" and now != before
    assert load_profile(board.folder / "board.previous.toml") == before
    with board.console() as console:
        reply = console.ask("d1", ModelQuestion())
    assert isinstance(reply, ModelReply) and reply.board is not None
    assert reply.board.idle_power_w == now.board.idle_power_w  # it is used from now on
    (kept,) = (board.folder / "fleet" / board.fleet / "d1").glob("*.toml")
    assert kept.read_bytes() == board.profile.read_bytes()
    assert "mini-pc" in kept.with_suffix(".html").read_text()
    found = json.loads(kept.with_suffix(".json").read_text())
    assert found["idle_w"]["value"] == pytest.approx(now.board.idle_power_w, rel=1e-3)


def test_the_next_one_is_compared_with_it(board: Board) -> None:
    assert board.fimi("d1").exit_code == 0
    (first,) = (board.folder / "fleet" / board.fleet / "d1").glob("*.json")
    first.rename(first.with_name("2020-01-01T000000Z.json"))
    board.sweep += ["--seed", "7"]  # another board of that make
    said = board.fimi("d1")
    assert said.exit_code == 0, said.output
    (row,) = [line for line in said.stdout.splitlines() if line.startswith("P_idle")]
    _, unit, now, before, change, *_ = row.split()
    assert unit == "W"
    expected = 100.0 * (float(now) / float(before) - 1.0)
    assert float(change.replace("−", "-").replace("+", "")) == pytest.approx(expected, abs=0.1)
    assert float(change.replace("−", "-")) != 0.0


def test_what_was_found_is_not_lost_when_the_console_goes_away(board: Board) -> None:
    """As a service, whose profile is root's: what is found is kept elsewhere, and used."""
    board.end()
    kept_in = board.folder / "lib/calibrated"
    board.begin(calibrated=kept_in)
    given = board.profile.read_bytes()
    with board.console() as console, pytest.raises(NotAnswered):
        console.ask("d1", CalibrationRequest(), timeout_s=0.01)
    limit_s = time.monotonic() + PATIENCE_S
    while not list(kept_in.glob("board-*.calibration.json")):
        assert time.monotonic() < limit_s
        time.sleep(0.1)
    board.end()
    board.begin(calibrated=kept_in)  # not even when the agent is started again
    said = board.fimi("d1", "--last", "--out", "kept")
    assert said.exit_code == 0, said.output
    (kept,) = (board.folder / "kept" / "d1").glob("*.toml")
    (found,) = (each for each in kept_in.glob("*.toml") if "previous" not in each.name)
    assert kept.read_bytes() == found.read_bytes() != given == board.profile.read_bytes()
    with board.console() as console:
        reply = console.ask("d1", ModelQuestion())
    assert isinstance(reply, ModelReply) and reply.board is not None
    assert reply.board.idle_power_w == load_profile(found).board.idle_power_w


def test_there_is_no_last_one_yet(board: Board) -> None:
    said = board.fimi("d1", "--last")
    assert said.exit_code == 3
    assert "not calibrated from afar yet" in said.output


def test_one_that_fails_changes_nothing(board: Board) -> None:
    before = board.profile.read_bytes()
    board.sweep = ["--emulated", "no-such-board"]
    said = board.fimi("d1")
    assert said.exit_code == 3
    assert "no-such-board" in said.output
    assert board.profile.read_bytes() == before
    assert sorted(path.name for path in board.folder.glob("board*")) == ["board.toml"]
    with board.console() as console:
        status = console.look(PATIENCE_S)["d1"].status
    assert status is not None and status.power_w is not None  # it is metered as before


def test_an_agent_that_is_stopped_stops_its_sweep(board: Board) -> None:
    before = board.profile.read_bytes()
    board.sweep = ["--emulated", "mini-pc", "--seconds", "600", "--repeats", "50"]
    told = threading.Event()

    def ask() -> None:
        with board.console() as console, pytest.raises((BoardDeclines, NotAnswered)):
            console.ask("d1", CalibrationRequest(), PATIENCE_S, progress=lambda _: told.set())

    asking = threading.Thread(target=ask)
    asking.start()
    assert told.wait(PATIENCE_S)
    board.end()
    asking.join()
    assert board.profile.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"allow": ()}, "--allow calibrate"),
        ({"host_profile": None}, "runs without a profile of its machine"),
    ],
)
def test_boards_that_are_not_calibrated(board: Board, options: dict[str, Any], words: str) -> None:
    board.end()
    board.begin(**options)
    said = board.fimi("--all")
    assert said.exit_code == 3
    assert words in said.output
