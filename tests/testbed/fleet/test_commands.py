"""``fimi fleet`` as a person types it, against real agents over a real broker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from bench import DEVICE, Bench
from click.testing import CliRunner, Result
from worlds import Ina226

import fimi.energy.host_profile
from fimi.edge_agent import answering
from fimi.energy.clock import VirtualClock
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.console import Console
from fimi.messaging.errors import NotAnswered
from fimi.messaging.questions import StatusQuestion
from fimi.messaging.retained import Retained
from fimi.testbed.cli import main
from fimi.testbed.fleet import logs
from fimi.testbed.processes.agent import serve

EXAMPLE = (fimi.energy.host_profile.__doc__ or "").split("::\n", 1)[1]
PROFILE = "\n".join(line.strip() for line in EXAMPLE.splitlines())
PATIENCE_S = 60.0


def until(true: Callable[[], Any], what: str) -> Any:
    limit_s = time.monotonic() + PATIENCE_S
    while not (found := true()):
        assert time.monotonic() < limit_s, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.05)
    return found


class Desk:
    """A person at the broker of a fleet of agents."""

    def __init__(self, broker: EmbeddedBroker, fleet: str, folder: Path) -> None:
        self.broker, self.fleet, self.folder = broker, fleet, folder
        self.stop = threading.Event()
        self.threads: list[threading.Thread] = []

    def fimi(self, *arguments: str, broker: bool = True) -> Result:
        url = self.broker.address.url(with_password=True) if broker else "mqtt://127.0.0.1:9"
        command, *rest = arguments
        return CliRunner().invoke(
            main,
            ["fleet", command, "--fleet", self.fleet, *rest],
            env={"FIMI_BROKER": url, "COLUMNS": "100"},
        )

    def agent(self, name: str, **options: Any) -> None:
        """An agent in this process, until the end of the test."""
        thread = threading.Thread(
            target=serve,
            args=(self.broker.address,),
            kwargs={"fleet": self.fleet, "name": name, "stop": self.stop, **options},
        )
        thread.start()
        self.threads.append(thread)
        with Console(self.broker.address, fleet=self.fleet) as console:
            until(lambda: answers(console, name), f"{name} answers")

    def kept(self, filter_: str) -> dict[str, bytes]:
        """What the broker keeps on some topics."""
        mark = f"fimi/v1/{self.fleet}/coordinator/coordinator/check"
        retained = Retained(self.broker.address, "looks", (filter_, mark), mark)
        retained.link.connect(PATIENCE_S)
        assert retained.is_complete()
        retained.link.close()
        return retained.kept

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()


def answers(console: Console, name: str) -> bool:
    try:
        console.ask(name, StatusQuestion(), 1.0)
    except NotAnswered:
        return False
    return True


@pytest.fixture
def desk(
    a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    desk = Desk(a_broker, fleet_name, tmp_path)
    yield desk
    desk.end()


class TestStatus:
    def test_text_and_json(self, desk: Desk) -> None:
        Ina226(desk.folder, VirtualClock())
        (desk.folder / "board.toml").write_text(PROFILE)
        desk.agent("raspi-1", host_profile=desk.folder / "board.toml", root=desk.folder)
        desk.agent("emulated-1")
        said = desk.fimi("status")
        assert said.exit_code == 0, said.output
        assert "2 boards, 2 ready" in said.output
        assert "measured: hwmon" in said.output
        found = json.loads(desk.fimi("status", "--format", "json").stdout)
        emulated, raspi = found["boards"]
        assert [emulated["device"], raspi["device"]] == ["emulated-1", "raspi-1"]
        assert raspi["status"]["meter"]["source"] == "hwmon:ina226"
        assert raspi["status"]["power_w"] > 0.0
        assert (raspi["problems"], emulated["standing"]) == ([], "answers")

    def test_a_fleet_without_boards(self, desk: Desk) -> None:
        said = desk.fimi("status")
        assert (said.exit_code, "0 boards" in said.output) == (0, True)

    def test_no_name_of_a_fleet(self, desk: Desk) -> None:
        said = desk.fimi("status", "--fleet", "a/b")
        assert said.exit_code == 2
        assert "--fleet 'a/b' cannot be used" in said.output

    def test_no_broker(self, desk: Desk) -> None:
        for command in (("status",), ("check",), ("doctor",), ("logs", "d1"), ("restart", "d1")):
            said = desk.fimi(*command, broker=False)
            assert said.exit_code == 3
            assert "cannot be reached" in said.output

    def test_it_is_drawn_again_until_it_is_stopped(self, desk: Desk, a_broker: Any) -> None:
        """On something that is no terminal: one table after another."""
        desk.agent("d1")
        process = subprocess.Popen(
            [sys.executable, "-m", "fimi.testbed.cli", "fleet", "status", "--watch", "--fleet",
             desk.fleet],
            env={**os.environ, "FIMI_BROKER": a_broker.address.url(with_password=True)},
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        tables = 0
        while tables < 2:
            tables += process.stdout.readline().startswith(f"fleet {desk.fleet}: 1 board, 1 ready")
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        process.stdout.close()


class TestHomeAssistant:
    def test_boards_are_announced_with_their_kind_and_taken_back(self, desk: Desk) -> None:
        Ina226(desk.folder, VirtualClock())
        (desk.folder / "board.toml").write_text(PROFILE)
        desk.agent("raspi-1", host_profile=desk.folder / "board.toml", root=desk.folder)
        desk.agent("emulated-1")
        said = desk.fimi("home-assistant", "--prefix", "ha")
        assert said.exit_code == 0, said.output
        assert said.output.splitlines() == [
            "emulated-1 is announced: energy and power, emulated",
            "raspi-1 is announced: energy and power, measured, board",
        ]
        kept = desk.kept(f"ha/device/fimi-{desk.fleet}/+/config")
        assert len(kept) == 2
        found = json.loads(kept[f"ha/device/fimi-{desk.fleet}/raspi-1/config"])
        assert found["device"]["hw_version"] == "meter hwmon:ina226"
        said = desk.fimi("home-assistant", "--prefix", "ha", "--off", "raspi-1")
        assert said.output == "raspi-1 is not announced any more\n"
        assert list(desk.kept(f"ha/device/fimi-{desk.fleet}/+/config")) == [
            f"ha/device/fimi-{desk.fleet}/emulated-1/config"
        ]

    def test_a_prefix_that_cannot_be(self, desk: Desk) -> None:
        said = desk.fimi("home-assistant", "--prefix", "a/b")
        assert said.exit_code == 2
        assert "one level of a topic" in said.output


class TestUnknown:
    @pytest.mark.parametrize("command", ["doctor", "logs", "restart", "calibrate"])
    def test_the_nearest_id_is_named(self, desk: Desk, command: str) -> None:
        desk.agent("raspi-1")
        said = desk.fimi(command, "rapsi-1")
        assert said.exit_code == 2
        assert "did you mean 'raspi-1'?" in said.output

    def test_no_board_at_all(self, desk: Desk) -> None:
        said = desk.fimi("doctor")
        assert said.exit_code == 2
        assert "knows no board in this fleet" in said.output


class TestOffline:
    @pytest.mark.parametrize("command", ["doctor", "logs", "restart", "calibrate"])
    def test_it_is_said(self, desk: Desk, command: str) -> None:
        desk.agent("d1")
        desk.end()
        with Console(desk.broker.address, fleet=desk.fleet) as console:
            until(lambda: console.seen("d1").standing == "offline", "it is offline")
        said = desk.fimi(command, "d1")
        assert said.exit_code == 3
        assert "d1 is offline: start its agent" in said.output.replace("\n", " ")


class TestDoctor:
    def test_one_table(self, desk: Desk) -> None:
        Ina226(desk.folder, VirtualClock())
        (desk.folder / "board.toml").write_text(PROFILE)
        desk.agent("raspi-1", host_profile=desk.folder / "board.toml", root=desk.folder)
        desk.agent("emulated-1")
        said = desk.fimi("doctor")
        heading = said.stdout.splitlines()[0].split()
        assert heading == ["check", "emulated-1", "raspi-1"]
        found = json.loads(desk.fimi("doctor", "raspi-1", "--format", "json").stdout)
        names = [check["name"] for check in found["boards"]["raspi-1"]["checks"]]
        assert "meter" in names and "disk" in names
        emulated = json.loads(desk.fimi("doctor", "emulated-1", "--format", "json").stdout)
        names = [check["name"] for check in emulated["boards"]["emulated-1"]["checks"]]
        assert "meter" not in names  # it has none, and needs none

    def test_a_silent_board_is_not_waited_for_longer_than_for_a_look(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        monkeypatch.setattr(Console, "ask", lambda _, device, *__, **___: asked.append(device))
        with Peer(desk.broker.address, fleet=desk.fleet, peer="old", role="device"):
            said = desk.fimi("doctor", "old")
        assert (said.exit_code, asked) == (3, [])
        assert "not examined: old is online and does not answer" in said.output.replace("\n", " ")

    def test_a_board_that_trains_declines(self, desk: Desk) -> None:
        remote = answering.Remote(errands={answering.CalibrationRequest: lambda *_: None})  # type: ignore[dict-item, return-value]
        with Bench(desk.broker, desk.fleet, remote=remote) as bench:
            bench.follow(bench.plan())
            bench.round(bench.start(4))
            said = desk.fimi("doctor", DEVICE)
        assert said.exit_code == 3
        assert f"not examined: {DEVICE}: this agent cannot do that" in said.output


class TestLogs:
    def test_the_last_lines(self, desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
        import logging

        caplog.set_level(logging.INFO, "fimi")
        desk.agent("d1")
        logging.getLogger("fimi.edge_agent").info("a line\x1b[31m of red\x07")
        said = desk.fimi("logs", "d1", "-n", "1")
        assert said.exit_code == 0, said.output
        (line,) = said.stdout.splitlines()
        assert "a line�[31m of red�" in line

    def test_those_that_come(
        self, desk: Desk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import logging

        monkeypatch.setattr(logs, "FOLLOW_S", 0.05)
        caplog.set_level(logging.INFO, "fimi")
        desk.agent("d1")
        log, stop = logging.getLogger("fimi.edge_agent"), threading.Event()
        with Console(desk.broker.address, fleet=desk.fleet) as console:
            lines = logs.follow(console, "d1", 1, stop)
            log.info("before")
            assert next(lines).endswith("before")
            log.info("after")
            assert next(lines).endswith("after")
            stop.set()
            assert list(lines) == []


class TestRestart:
    def start(self, desk: Desk, *more: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "fimi.testbed.cli", "agent", "run", "--id", "d1", "--fleet",
             desk.fleet, "-q", *more],
            env={**os.environ, "FIMI_BROKER": desk.broker.address.url(with_password=True)},
        )  # fmt: skip
        with Console(desk.broker.address, fleet=desk.fleet) as console:
            until(lambda: answers(console, "d1"), "it answers")
        return process

    def test_the_same_process_is_another_start(self, desk: Desk) -> None:
        process = self.start(desk, "--allow", "restart")
        try:
            before = self.boot_id(desk)
            line = psutil.Process(process.pid).cmdline()
            said = desk.fimi("restart", "d1")
            assert said.exit_code == 0, said.output
            assert said.stdout.startswith("d1 is back after ")
            assert self.boot_id(desk) != before
            assert psutil.Process(process.pid).cmdline() == line
            assert process.poll() is None
        finally:
            process.terminate()
            assert process.wait(PATIENCE_S) == 0

    def test_only_where_it_is_allowed(self, desk: Desk) -> None:
        desk.agent("d1")
        said = desk.fimi("restart", "--all")
        assert said.exit_code == 3
        assert "not allowed to restart from afar" in said.output
        assert "--allow restart" in said.output

    def test_the_profile_allows_it(self, desk: Desk) -> None:
        Ina226(desk.folder, VirtualClock())
        (desk.folder / "board.toml").write_text(PROFILE + '\n[remote]\nallow = ["restart"]\n')
        ended: list[str] = []

        def live() -> None:
            ended.append(
                serve(
                    desk.broker.address,
                    fleet=desk.fleet,
                    name="d1",
                    host_profile=desk.folder / "board.toml",
                    root=desk.folder,
                    stop=desk.stop,
                )
            )

        thread = threading.Thread(target=live)
        thread.start()
        from fimi.messaging.questions import Restarting, RestartRequest

        with Console(desk.broker.address, fleet=desk.fleet) as console:
            until(lambda: answers(console, "d1"), "it answers")
            assert console.ask("d1", RestartRequest()) == Restarting()
        thread.join(PATIENCE_S)
        assert ended == ["again"]

    def test_ids_or_all(self, desk: Desk) -> None:
        desk.agent("d1")
        for given in ((), ("d1", "--all")):
            said = desk.fimi("restart", *given)
            assert said.exit_code == 2
            assert "Name boards, or give '--all'" in said.output

    def boot_id(self, desk: Desk) -> str:
        with Console(desk.broker.address, fleet=desk.fleet) as console:
            state = console.seen("d1").state
            assert state is not None
            return state.boot_id


class TestCheck:
    def test_a_fleet_that_is_ready(self, desk: Desk) -> None:
        desk.agent("d1")
        desk.agent("d2")
        said = desk.fimi("check", "--set", "fleet.devices=2", "--set", "rounds.count=7")
        assert said.exit_code == 0, said.output
        assert "ready: d1, d2" in said.output
        assert "7 rounds of" in said.output
        assert "2 emulated boards" in said.output
        assert "(modelled, board)" in said.output

    def test_the_estimate_is_the_plan_times_its_rounds(self, desk: Desk) -> None:
        """As ``fimi check`` plans the same emulated boards."""
        desk.agent("device-01")
        desk.agent("device-02")
        given = ("--set", "fleet.devices=2", "--set", "rounds.count=10")
        found = json.loads(desk.fimi("check", *given, "--format", "json").stdout)["estimate"]
        check = CliRunner().invoke(main, ["check", *given, "-q"]).output.replace("\n", " ")
        (round_s,) = re.findall(r"rounds\s+of\s+([\d.]+)\s+s", check)
        (board_j,) = re.findall(r"board\s+energy\s+([\d.]+)\s+J", check)
        assert found["round_s"] == pytest.approx(float(round_s), rel=5e-3)
        assert found["total_j"] == pytest.approx(10 * float(board_j), rel=5e-3)
        parts_j = sum(found["by_kind"].values()) + found["preparation_j"]
        assert parts_j == pytest.approx(found["total_j"], rel=1e-6)

    def test_what_is_wrong(self, desk: Desk) -> None:
        desk.agent("d1")
        with Peer(desk.broker.address, fleet=desk.fleet, peer="old", role="device"):
            found = json.loads(
                desk.fimi("check", "--set", "fleet.devices=5", "--format", "json").stdout
            )
        assert not found["ready"]
        (silent,) = found["boards"]["old"]["checks"]
        assert silent["status"] == "failure"
        assert "of before there were fleet commands" in silent["found"]
        (boards,) = [check for check in found["checks"] if check["name"] == "boards"]
        assert boards["found"] == "fleet.devices is 5, 1 boards answer"
        assert {check["status"] for check in found["boards"]["d1"]["checks"]} == {"ok"}

    @pytest.mark.parametrize(("devices", "weight", "code"), [(2, "warning", 0), (3, "failure", 3)])
    def test_a_board_that_was_put_away_matters_only_where_it_is_needed(
        self, desk: Desk, devices: int, weight: str, code: int
    ) -> None:
        desk.agent("d1")
        desk.agent("d2")
        with Peer(desk.broker.address, fleet=desk.fleet, peer="put-away", role="device"):
            pass
        said = desk.fimi("check", "--set", f"fleet.devices={devices}", "--format", "json")
        (offline,) = json.loads(said.stdout)["boards"]["put-away"]["checks"]
        assert (offline["status"], said.exit_code) == (weight, code)
        assert "is offline" in offline["found"]

    def test_a_board_in_a_run_is_not_free(self, desk: Desk) -> None:
        with Bench(desk.broker, desk.fleet) as bench:
            bench.follow(bench.plan())
            found = json.loads(desk.fimi("check", "--format", "json").stdout)
        wrong = [c for c in found["boards"][DEVICE]["checks"] if c["status"] == "failure"]
        assert [check["name"] for check in wrong] == ["free"]
        assert "run r1" in wrong[0]["found"]

    def test_no_board(self, desk: Desk) -> None:
        said = desk.fimi("check")
        assert said.exit_code == 3
        assert "takes chunks of" in said.output  # the broker is tried all the same
        assert "the broker knows no board in this fleet" in said.output

    def test_a_plan_that_is_impossible(self, desk: Desk) -> None:
        """Its reason has two lines."""
        desk.agent("d1")
        said = desk.fimi("check", "--set", "fleet.devices=1", "--set", "plan.deadline_s=0.5")
        assert said.exit_code == 3
        words = " ".join(said.output.split())
        assert "FAILURE run, plan: deadline: " in words
        assert ", of which plan.deadline_margin 0.1 is kept free not ready" in words
        assert "\N{REPLACEMENT CHARACTER}" not in said.output

    def test_only_the_boards_that_the_configuration_names(self, desk: Desk) -> None:
        desk.agent("d1")
        desk.agent("d2")
        given = ("check", "--set", "fleet.devices=2", "--set")
        said = desk.fimi(*given, 'fleet.members=["d2", "d9"]', "--format", "json")
        found = json.loads(said.stdout)
        assert list(found["boards"]) == ["d2", "d9"]
        (unknown,) = found["boards"]["d9"]["checks"]
        assert unknown["found"] == "the broker knows no device d9 in this fleet"
        assert found["estimate"]["boards"] == {"emulated": 1}

    def test_shares_are_those_of_a_run(self, desk: Desk) -> None:
        """A board gets the share, and where it is emulated the kind, that its place says."""
        desk.agent("d1")
        desk.agent("d2")
        given = ("--set", "fleet.devices=2", "--set", "rounds.count=10")
        for members in ('["d1", "d2"]', '["d2", "d1"]'):
            checked = desk.fimi(
                "check", *given, "--set", f"fleet.members={members}", "--format", "json"
            )
            total_j = json.loads(checked.stdout)["estimate"]["total_j"]
            planned = CliRunner().invoke(
                main, ["check", *given, "--set", f"fleet.members={members}", "-q"]
            )
            (board_j,) = re.findall(r"board\s+energy\s+([\d.]+)\s+J", planned.output)
            assert total_j == pytest.approx(10 * float(board_j), rel=5e-3)
