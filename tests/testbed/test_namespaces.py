"""A federation of two boards in network namespaces, in which everybody is killed once.

The boards have the base install only, the broker has a user for each device, and every process is
one of its own, as people start them. ``benchmarks/namespaces.py`` has many more disturbances.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("network namespaces are Linux's", allow_module_level=True)

from namespace_lab import Lab
from namespace_network import HUB, HUB_ADDRESS, Network, why_not
from namespaces import DISTURBANCES, judge, oddities, run

from fimi.messaging.broker.embedded import find_mosquitto

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
pytest.importorskip("hatchling", reason="builds the wheel that the boards have")
if find_mosquitto() is None:
    pytest.skip("mosquitto is not installed (apt install mosquitto)", allow_module_level=True)


@pytest.fixture(scope="module")
def undisturbed(
    network: Network, python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Path]:
    """The run folder of a run in which nothing happens, made once."""
    made: list[Path] = []

    def make() -> Path:
        if not made:
            lab, _ = run(network, tmp_path_factory.mktemp("undisturbed") / "lab", python, None)
            assert [*oddities(lab.logs())] == []
            made.append(lab.store.parent)
        return made[0]

    return make


def test_a_board_has_the_base_install_only(python: Path) -> None:
    look = "import importlib.util as u; print([n for n in {!r} if u.find_spec(n)])"
    names = ("fimi", "onnxruntime", "torch", "scipy", "sklearn", "rich", "plotly", "onnx", "amqtt")
    command = [str(python), "-c", look.format(names)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["['fimi',", "'onnxruntime']"], done.stderr


@pytest.mark.parametrize("name", ["everybody-once", "everybody-at-once"])
def test_a_run_goes_on_whoever_is_killed(
    name: str,
    network: Network,
    python: Path,
    undisturbed: Callable[[], Path],
    tmp_path: Path,
) -> None:
    """Every round is whole; the numbers are those of an undisturbed run until an update is lost."""
    expected = undisturbed()
    lab, seconds = run(network, tmp_path / "lab", python, DISTURBANCES[name])
    found = judge(lab, expected, seconds)
    print(name, found)
    assert found.whole
    assert found.differences == []
    assert found.said == []
    if not DISTURBANCES[name].may_lose:
        assert found.lost == {}
    else:  # the agent was killed after round 6; nothing else costs an update
        assert all(number > 6 for number in found.lost)
        assert all("board-a" in each for lost in found.lost.values() for each in lost)
    (finished,) = lab.rows("SELECT status, resumed FROM run")
    assert finished == ("completed", 1)


def test_one_agent_for_an_id(network: Network, python: Path, tmp_path: Path) -> None:
    """A second one, on another board, is refused and told who has the id."""
    lab = Lab(network, tmp_path / "lab", python)
    try:
        lab.start("broker")
        lab.start("board-a")
        lab.until(lambda: "waiting for a coordinator" in lab.log("board-a"), "the first agent")
        place, command = lab.commands["board-a"]
        lab.commands["other"] = ("board-b", command)
        lab.start("other", user="board-a")
        code = lab.running["other"].wait(60)
        said = lab.log("other")
        holder = f"process {lab.running['board-a'].pid} on "
        assert code == 3, said
        assert "the id 'board-a' of fleet 'desk' is in use by an agent (" + holder in said
        assert "another id needs credentials of its own" in said  # it is the name of its login
        assert "Traceback" not in said
        assert lab.running["board-a"].poll() is None
        assert place == "board-a"
    finally:
        network.kill_all()


def test_what_a_killed_process_has_left_behind_is_removed() -> None:
    """The namespaces of a laboratory whose process was killed, and what runs in them."""
    if reason := why_not():
        pytest.skip(reason)
    script = (
        "import subprocess, sys, time\n"
        "from pathlib import Path\n"
        "from namespace_network import Network\n"
        "network = Network(('board-a',)).__enter__()\n"
        "child = subprocess.Popen(network.inside('board-a', 'sleep', '1000'))\n"
        "while not Path(f'/proc/{child.pid}/cmdline').read_text().startswith('sleep'):\n"
        "    time.sleep(0.01)\n"  # until then it is ip, perhaps not in the namespace yet
        "print(network.namespace('board-a'), child.pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "benchmarks")}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        name, child = process.stdout.readline().split()
        process.send_signal(signal.SIGKILL)
        process.wait()
    there = Path("/run/netns") / name
    assert there.exists()
    with Network(("board-b",)) as network:
        assert not there.exists()
        assert (
            not Path(f"/proc/{child}").exists()
            or "sleep" not in Path(f"/proc/{child}/cmdline").read_text()
        )
        ping = network.inside("board-b", sys.executable, "-c", CONNECT)
        with subprocess.Popen(network.inside(HUB, sys.executable, "-c", LISTEN)) as listener:
            assert subprocess.run(ping, timeout=60, check=False).returncode == 0
            listener.wait(10)


LISTEN = f"import socket; s = socket.create_server(('{HUB_ADDRESS}', 7)); s.accept()"
CONNECT = f"""
import socket, time
while True:
    try:
        socket.create_connection(('{HUB_ADDRESS}', 7), timeout=5).close()
        break
    except ConnectionRefusedError:
        time.sleep(0.05)
"""
