"""A study on two boards in network namespaces, with a real Mosquitto between them.

The boards have the base install only and are emulated; everything else is as on a desk: one
command, a coordinator that is killed, an agent that is killed and started again by whoever keeps it
running. The same file in emulation is the truth to which its table is compared.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

if sys.platform != "linux":
    pytest.skip("network namespaces are Linux's", allow_module_level=True)

from namespace_lab import ROOT, Lab
from namespace_network import HUB, Network
from same_record import differences

from fimi.messaging.broker.embedded import find_mosquitto

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
pytest.importorskip("hatchling", reason="builds the wheel that the boards have")
if find_mosquitto() is None:
    pytest.skip("mosquitto is not installed (apt install mosquitto)", allow_module_level=True)

STUDY = """
strategies = ["tfl", "fimi"]
seeds = 2
target = "tfl-best"
[live]
lost_max = 0.0
wait_s = 120
[base]
fleet.devices = 2
fleet.members = ["board-a", "board-b"]
rounds.count = 5
generator.kind = "bootstrap"
generator.gate = false
plan.error_max = 0.066
plan.candidates = 32
plan.iterations = 40
"""
OTHERWISE = ("table profile", "table run")
"""What an agent has installed, how samples came, and by which command the run was begun."""
RUNS = {"tfl-seed0", "tfl-seed1", "fimi-seed0", "fimi-seed1"}


@pytest.fixture
def lab(network: Network, python: Path, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(network, tmp_path / "lab", python)
    (lab.folder / "study.toml").write_text(STUDY)
    fimi = [sys.executable, "-m", "fimi.testbed.cli"]
    lab.commands["coordinator"] = (HUB, [*fimi, "experiment", "study.toml", "--live"])
    try:
        yield lab
    finally:
        network.kill_all()


class Study:
    """The folder of a study."""

    def __init__(self, lab: Lab) -> None:
        self.folder = lab.folder / "experiments" / "study-live"

    def journal(self) -> list[dict[str, Any]]:
        try:
            lines = (self.folder / "journal.jsonl").read_text("utf-8").splitlines()
        except OSError:
            return []
        return [json.loads(line) for line in lines]

    def results(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "results.json").read_text("utf-8"))
        return found


def coordinator_of(lab: Lab) -> psutil.Process | None:
    """The process of the present run of a study."""
    for child in psutil.Process(lab.running["coordinator"].pid).children(recursive=True):
        try:
            if {"coordinator", "run"} < set(child.cmdline()):
                return child
        except psutil.Error:
            continue
    return None


def until(true: Callable[[], Any], what: str) -> Any:
    limit_s = time.monotonic() + 300.0
    while not (value := true()):
        assert time.monotonic() < limit_s, what
        time.sleep(0.05)
    return value


def rounds(lab: Lab, study: Study, run: str) -> int:
    lab.store = study.folder / "runs" / run / "run.sqlite"
    return lab.last_round()


def test_whoever_is_killed_the_table_is_complete_and_that_of_the_emulation(lab: Lab) -> None:
    study = Study(lab)
    lab.bring_up()
    lab.start("coordinator")
    first = until(study.journal, "the first run begins")[0]["run"]
    until(lambda: rounds(lab, study, first) >= 2, "two rounds of the first run")
    killed = until(lambda: coordinator_of(lab), "its coordinator")
    os.kill(killed.pid, signal.SIGKILL)

    def second_begins() -> str:
        begun = dict.fromkeys(line["run"] for line in study.journal())
        return [*begun, "", ""][1]

    second = until(second_begins, "the second run begins")
    until(lambda: rounds(lab, study, second) >= 2, "two rounds of the second run")
    lab.restart("board-b")
    assert lab.running["coordinator"].wait(600) == 0, lab.log("coordinator")

    notes = study.journal()
    codes = [line["code"] for line in notes if line["what"] == "ended"]
    assert codes.count(-signal.SIGKILL) == 1
    assert set(codes) == {-signal.SIGKILL, 0}
    finished = {line["run"] for line in notes if line["what"] == "ended" and line["code"] == 0}
    assert finished == RUNS
    results = study.results()
    assert {run["run"] for run in results["runs"]} == RUNS
    assert "Traceback" not in "".join(lab.logs().values())

    # A second call finds nothing to do, and gives the same table.
    before = (study.folder / "results.json").read_bytes()
    lab.start("coordinator")
    assert lab.running["coordinator"].wait(120) == 0, lab.log("coordinator")
    assert "0 to do, 4 runs finished before" in lab.log("coordinator")
    assert study.journal() == notes
    assert (study.folder / "results.json").read_bytes() == before

    # The boards are emulated, so that every run is that of the same file without a broker.
    command = [sys.executable, "-m", "fimi.testbed.cli", "experiment", "study.toml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=lab.folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    emulated = lab.folder / "experiments" / "study"
    for run in RUNS:
        found = differences(study.folder / "runs" / run, emulated / "runs" / run)
        found = [each for each in found if not each.startswith(OTHERWISE)]
        if run == second:  # board-b kept its place in it: what it could not tell is its own
            found = [each for each in found if not ("board-b" in each or " rows and " in each)]
        assert found == [], run
    command[-1:] = ["compare", "--same", str(study.folder), str(emulated)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    if done.returncode:  # board-b was killed before it told how long it idled
        assert "of the device-rounds of" in done.stdout, done.stdout
        ratios = re.findall(r" (\d+\.\d\d)$", done.stdout, re.MULTILINE)
        assert ratios
        assert all(0.95 <= float(ratio) <= 1.05 for ratio in ratios), done.stdout


def test_a_board_that_vanishes_for_good_is_named_and_the_rest_is_completed(lab: Lab) -> None:
    """With a quorum of one, and one repetition that cannot help either."""
    text = STUDY.replace("wait_s = 120", "wait_s = 4").replace("seeds = 2", "seeds = 1")
    text = text.replace("error_max = 0.066", "error_max = 0.09")  # there is a plan for one board
    text += "rounds.quorum = 1\nrounds.gather_timeout_s = 3\nrounds.grace_s = 2\n"
    (lab.folder / "study.toml").write_text(text)
    study = Study(lab)
    lab.bring_up()
    lab.start("coordinator")
    first = until(study.journal, "the first run begins")[0]["run"]
    until(lambda: rounds(lab, study, first) >= 2, "two rounds of the first run")
    lab.kill("board-b")
    assert lab.running["coordinator"].wait(600) == 0, lab.log("coordinator")
    said = lab.log("coordinator")
    assert f"{first}: repeated, " in said
    assert "begins without board-b" in said
    assert "kept although" in said
    runs = {run["run"]: run for run in study.results()["runs"]}
    assert set(runs) == {"tfl-seed0", "fimi-seed0"}
    assert any("board-b" in note for note in study.results()["notes"])
    # The attempt that counts is the first one of the first run: it lost the fewest.
    (aside,) = (study.folder / "lost").glob(f"{first}.*")
    lab.store = study.folder / "runs" / first / "run.sqlite"
    kept = lab.rows("SELECT count(*) FROM device_round WHERE status = 'accepted'")
    lab.store = aside / "run.sqlite"
    assert kept > lab.rows("SELECT count(*) FROM device_round WHERE status = 'accepted'")


def test_a_second_study_is_refused_and_a_person_in_a_pause_is_waited_for(lab: Lab) -> None:
    study = Study(lab)
    (lab.folder / "other.toml").write_text(STUDY.replace("seeds = 2", "seeds = 1"))
    fimi = [sys.executable, "-m", "fimi.testbed.cli"]
    lab.bring_up()
    lab.start("coordinator")
    until(study.journal, "the first run begins")
    lab.commands["other"] = (HUB, [*fimi, "experiment", "other.toml", "--live"])
    lab.start("other", user="coordinator")
    assert lab.running["other"].wait(60) == 3
    said = " ".join(lab.log("other").split())
    assert "fleet 'desk' is in use by a study (process " in said
    assert "study study-live" in said
    lab.running["coordinator"].send_signal(signal.SIGTERM)
    assert lab.running["coordinator"].wait(120) == 130
    assert "'fimi experiment study.toml --live' goes on from here" in lab.log("coordinator")
