"""Rate caps of an interface: the command, and the kernel itself where a namespace may be made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fimi.energy.control.journal import Journal
from fimi.energy.control.programs import ProgramResult, run_program
from fimi.energy.control.traffic import HANDLE, TrafficControl, arguments

REPOSITORY = Path(__file__).parents[3]
REAL = """
import json, sys
from pathlib import Path
from fimi.energy.control.journal import Journal
from fimi.energy.control.programs import run_program
from fimi.energy.control.traffic import TrafficControl
root = Path(sys.argv[1])
journal = Journal(root / "state", root)
cap = TrafficControl("lo", journal, run_program).cap(2e6)
shown = run_program(["tc", "-j", "qdisc", "show", "dev", "lo"]).out
journal.close()
said = Journal(root / "state", root).recover()
after = run_program(["tc", "-j", "qdisc", "show", "dev", "lo"]).out
kinds = [[each["kind"] for each in json.loads(text)] for text in (shown, after)]
print(json.dumps([cap.rate_bps, said, *kinds]))
"""


class Tc:
    """The program tc with one interface."""

    def __init__(self, root: dict[str, Any], error: str = "") -> None:
        self.root = root
        self.error = error
        self.ran: list[list[str]] = []

    def __call__(self, arguments: Sequence[str]) -> ProgramResult:
        self.ran.append(list(arguments))
        if "show" in arguments:
            return ProgramResult(0, json.dumps([{**self.root, "root": True}]), "")
        if self.error:
            return ProgramResult(2, "", self.error)
        rate = int(arguments[arguments.index("rate") + 1].removesuffix("bit")) // 8
        self.root = {"kind": "tbf", "handle": HANDLE, "options": {"rate": rate}}
        return ProgramResult(0, "", "")


def control(folder: Path, tc: Tc) -> TrafficControl:
    return TrafficControl("wlan0", Journal(folder, folder, tc), tc)


def test_the_command() -> None:
    command = arguments("wlan0", 2e6)
    assert command[:6] == ["tc", "qdisc", "replace", "dev", "wlan0", "root"]
    assert command[-7:] == ["tbf", "rate", "2000000bit", "burst", "15140b", "latency", "400ms"]
    assert "1250000b" in arguments("eth0", 1e9)


def test_capped_again_and_read_back(tmp_path: Path) -> None:
    tc = Tc({"kind": "fq_codel", "handle": "0:"})
    traffic = control(tmp_path, tc)
    assert traffic.cap(2e6).rate_bps == 2e6
    assert traffic.cap(4e6).rate_bps == 4e6


def test_what_somebody_has_chosen_is_left_alone(tmp_path: Path) -> None:
    tc = Tc({"kind": "htb", "handle": "1:"})
    cap = control(tmp_path, tc).cap(2e6)
    assert cap.rate_bps is None
    assert "htb" in cap.note
    assert all("replace" not in each for each in tc.ran)


def test_not_allowed(tmp_path: Path) -> None:
    cap = control(tmp_path, Tc({"kind": "noqueue", "handle": "0:"}, "Operation not permitted")).cap(
        1e6
    )
    assert cap.rate_bps is None
    assert "CAP_NET_ADMIN" in cap.note


@pytest.mark.parametrize("answer", ["", "not json"])
def test_an_answer_that_is_none(tmp_path: Path, answer: str) -> None:
    traffic = TrafficControl(
        "x", Journal(tmp_path, tmp_path), lambda _: ProgramResult(0, answer, "")
    )
    assert "tc answers" in traffic.cap(1e6).note


def test_in_a_network_of_its_own(tmp_path: Path) -> None:
    if shutil.which("tc") is None or run_program(["unshare", "--net", "true"]).code:
        pytest.skip("needs tc and the right to make a network namespace")
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", REAL, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    rate_bps, said, capped, after = json.loads(done.stdout)
    if rate_bps is None:
        pytest.skip("this kernel has no sch_tbf")
    assert (rate_bps, capped) == (2e6, ["tbf"])
    assert said == ["put back: lo to what it was"]
    assert "tbf" not in after
