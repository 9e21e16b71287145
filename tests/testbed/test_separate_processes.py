"""The same federation from programs started one by one, as across terminals or machines."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from commandline import SMALL, SharedRun, Workplace, finish, is_whole, one_screen, rows, wait_until


class Fleet:
    """A broker, a generator node and three agents, each a program of its own."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.programs: dict[str, subprocess.Popen[str]] = {}
        broker = self._launch("broker", "broker", "--port", "0")
        (self.broker,) = re.findall(r"^export FIMI_BROKER='(.*)'$", self._hear(broker, 2)[1])
        self.programs["generator"] = self._launch(
            "generator", "generator", "run", "--log-file", "generator.log"
        )
        for index in range(3):
            self.start_agent(index)
        self._hear(self.programs["generator"], 1)
        for index in range(3):
            self.hear_agent(index)

    def start_agent(self, index: int) -> None:
        name = f"device-{index + 1:02d}"
        self.programs[name] = self._launch(name, "agent", "run", "--id", name)

    def hear_agent(self, index: int) -> str:
        program = self.programs[f"device-{index + 1:02d}"]
        (line,) = self._hear(program, 1)
        if line.startswith("peer id"):  # of one that was killed
            (line,) = self._hear(program, 1)
        assert ", connected to mqtt://fimi:***@127.0.0.1" in line  # never with the password
        return line

    def coordinate(self, *arguments: str) -> subprocess.Popen[str]:
        return self.place.start(
            "coordinator", "run", *arguments, environment={"FIMI_BROKER": self.broker}
        )

    def stop(self) -> dict[str, tuple[int, str, str]]:
        """Ask everybody to stop, the broker last; exit codes and outputs."""
        ends = {}
        for name, program in reversed(self.programs.items()):
            program.terminate()
            done = finish(program)
            ends[name] = (done.returncode, done.stdout, done.stderr)
        return ends

    def _launch(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        environment = {} if name == "broker" else {"FIMI_BROKER": self.broker}
        program = self.place.start(*arguments, environment=environment)
        self.programs[name] = program
        return program

    @staticmethod
    def _hear(program: subprocess.Popen[str], lines: int) -> list[str]:
        """The first lines that a program prints."""
        assert program.stdout is not None
        said = [program.stdout.readline() for _ in range(lines)]
        assert all(said), program.communicate()[1]
        return said


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    place = Workplace(tmp_path_factory.mktemp("separate"))
    try:
        yield Fleet(place)
    finally:
        place.clean_up()


def test_it_is_the_dry_run_and_survives_a_device(fleet: Fleet, reference: SharedRun) -> None:
    """One test, because starting five programs takes most of its time."""
    same_numbers_as_the_dry_run(fleet, reference)
    a_killed_agent_is_missed_and_welcome_again(fleet)
    everybody_ends_in_order(fleet)


def same_numbers_as_the_dry_run(fleet: Fleet, reference: SharedRun) -> None:
    done = finish(fleet.coordinate(*SMALL, "--format", "json", "--name", "first"))
    assert done.returncode == 0, done.stderr
    assert numbers(json.loads(done.stdout)) == numbers(reference.result)
    folder = fleet.place.folder / "runs" / "first"
    assert is_whole(folder / "run.sqlite")
    assert sorted(path.name for path in folder.iterdir()) == [
        "model-int8.onnx",
        "model.onnx",
        "model.safetensors",
        "report.html",
        "run.sqlite",
    ]


def a_killed_agent_is_missed_and_welcome_again(fleet: Fleet) -> None:
    """Also the second run of the same agents and the same generator node."""
    grace = ("--set", "rounds.grace_s=2")  # for which the killed one is waited for
    running = fleet.coordinate(
        *SMALL[:2], "--rounds", "5000", *SMALL[4:], *grace, "--name", "second"
    )
    store = fleet.place.folder / "runs" / "second" / "run.sqlite"

    def statuses(device: str) -> dict[int, tuple[str, str]]:
        try:
            found = rows(
                store, f"SELECT round, status, reason FROM device_round WHERE device = '{device}'"
            )
        except Exception:
            return {}
        return {number: (status, reason) for number, status, reason in found}

    def last_round() -> int:
        return max(statuses("device-01"), default=0)

    try:
        wait_until(lambda: last_round() >= 2, "two rounds")
        killed = fleet.programs["device-02"]
        killed.kill()
        finish(killed)
        at = last_round()
        wait_until(lambda: last_round() >= at + 3, "rounds without the device")
        without = statuses("device-02")
        last, _ = without[max(without)]
        assert last == "absent", "it is still asked"
        assert all(
            status in ("accepted", "absent") or (status == "missing" and "device-02" in reason)
            for status, reason in without.values()
        )
        fleet.start_agent(1)
        assert "device-02" in fleet.hear_agent(1)
        back = wait_until(
            lambda: {
                number: status
                for number, (status, _) in statuses("device-02").items()
                if number > max(without) and status != "absent"
            },
            "the device takes part again",
        )
        assert set(back.values()) == {"accepted"}
        assert all(status == "accepted" for status, _ in statuses("device-01").values())
    finally:
        running.terminate()
        done = finish(running)
    assert done.returncode == 130, done.stderr
    assert re.search(r"device-02(, round \d+)?: went offline", done.stdout)
    assert is_whole_but_for(store, "device-02")


def everybody_ends_in_order(fleet: Fleet) -> None:
    began_s = time.monotonic()
    for name, (code, out, err) in fleet.stop().items():
        assert code == 0, (name, err)
        assert one_screen(err), (name, err)
        if name != "broker":
            *before, last = out.splitlines()  # without the first, by which it was known who is here
            assert last.startswith(f"{name}: stopped"), last
            said = re.compile(r": (takes part in|done with) run |first images show their class")
            assert all(said.search(line) for line in before), before
    log = (fleet.place.folder / "generator.log").read_text("utf-8")
    assert re.search(r" DEBUG +testbed +device-01: \d+ images ready, \d+ drawn", log)
    assert time.monotonic() - began_s < 60
    assert fleet.place.leftovers() == []


def is_whole_but_for(store: Any, device: str) -> bool:
    assert rows(store, "PRAGMA integrity_check") == [("ok",)]
    counts = rows(
        store, f"SELECT count(*) FROM device_round WHERE device != '{device}' GROUP BY round"
    )
    return {count for (count,) in counts} == {2}


def numbers(result: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in result.items()
        if key not in ("run_dir", "wall_s", "insight_seconds")
    }
