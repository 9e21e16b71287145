"""However an agent's process ends, the machine is as it was before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fimi.energy.host_profile

ROOT = Path(__file__).parents[2]
EXAMPLE = (fimi.energy.host_profile.__doc__ or "").split("::\n", 1)[1]
AGENT = """
import sys
from pathlib import Path
from fimi.energy.cost_model import OperatingPoint
from fimi.energy.host import HostHardware
from fimi.energy.host_profile import load_profile
from fimi.testbed.commands.interrupts import stop_on_signals
root, how = Path(sys.argv[1]), sys.argv[2]
point = OperatingPoint(frequency_hz=1e9, bandwidth_hz=1e6, transmit_power_w=0.1, time_split=0.5)
with stop_on_signals() as stop, HostHardware(
    load_profile(root / "board.toml"), root=root, state=root / "state"
) as hardware:
    assert hardware.apply(point).frequency_control == "cpufreq"
    if how == "error":
        raise RuntimeError("in the middle of a round")
    if how == "wait":
        print("capped", flush=True)
        stop.wait(60)
"""


@pytest.fixture
def ceiling(tmp_path: Path) -> Path:
    policy = tmp_path / "sys/devices/system/cpu/cpufreq/policy0"
    policy.mkdir(parents=True)
    (policy / "scaling_max_freq").write_text("1800000\n")
    text = "\n".join(line.strip() for line in EXAMPLE.splitlines())
    (tmp_path / "board.toml").write_text(text)
    return policy / "scaling_max_freq"


def start(root: Path, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", AGENT, str(root), how],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("how", "code"), [("exit", 0), ("error", 1)])
def test_at_the_end_and_on_exceptions(ceiling: Path, tmp_path: Path, how: str, code: int) -> None:
    process = start(tmp_path, how)
    process.communicate(timeout=30)
    assert process.returncode == code
    assert ceiling.read_text() == "1800000\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_on_signals(ceiling: Path, tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, "wait")
    assert process.stdout is not None
    assert process.stdout.readline() == "capped\n"
    assert ceiling.read_text() == "1000000\n"
    process.send_signal(number)
    process.communicate(timeout=30)
    if number == signal.SIGKILL:
        assert ceiling.read_text() == "1000000\n"
        start(tmp_path, "exit").communicate(timeout=30)  # the next agent
    assert ceiling.read_text() == "1800000\n"


def test_one_that_was_told_to_ignore_a_closed_terminal_does(tmp_path: Path) -> None:
    """As under nohup."""
    code = (
        "import signal\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from fimi.testbed.commands.interrupts import stop_on_signals\n"
        "with stop_on_signals() as stop:\n"
        "    signal.raise_signal(signal.SIGHUP)\n"
        "    assert not stop.is_set()\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    assert stop.is_set()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60
    )
    assert done.returncode == 0
