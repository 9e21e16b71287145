"""Devices that have nothing but the base install take part in a whole federation.

They run as their unit lets them: no memory may be made executable after it was written
(``MemoryDenyWriteExecute``; here by ``prctl``). And they do not wear out an SD card: what they
write to the folders of their configuration, state and cache is counted, while they wait and in
rounds, with telemetry twice a second.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from told import Told
from written import Watch

from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.console import Console
from fimi.messaging.topics import device_id
from fimi.record.events import Event, RoundFinished
from fimi.testbed.configuration import load as configuration
from fimi.testbed.processes.coordinator import coordinate
from fimi.testbed.processes.windows import Windows
from fimi.testbed.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
REFUSED = (
    "torch", "torchvision", "diffusers", "onnx", "onnxscript", "sklearn", "scipy", "cvxpy",
    "plotly", "rich", "amqtt",
)  # fmt: skip
KERNEL = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
MOST_WRITES = 40
"""Of two agents in one round: up to four files each (three facts, an update), of which each is
made, written, renamed, and removed later. Nothing is written every second."""

AGENT = f"""
import ctypes, sys, threading
print('execution denied', ctypes.CDLL(None).prctl(65, 1, 0, 0, 0))  # PR_SET_MDWE, Linux 6.3
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {REFUSED!r}:
            raise ModuleNotFoundError(f'{{name}} is not in the base install', name=name)
sys.meta_path.insert(0, Refuse())
from fimi.testbed.cli import main
try:
    main(sys.argv[1:])
finally:
    peak = [line for line in open('/proc/self/status') if line.startswith('VmHWM')]
    print('peak kB', peak[0].split()[1] if peak else 0, flush=True)
    with_torch = [name for name in sys.modules if name.split('.')[0] in {REFUSED!r}]
    print('refused modules', with_torch, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("shares", ["indices", "shipped"])
def test_a_federation_of_devices_without_torch(
    a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path, shares: str
) -> None:
    """They load the digits, or get their share shipped, without scikit-learn as well."""
    effective = configuration.load(
        None,
        {
            "fleet.name": (fleet_name, "test"),
            "fleet.devices": (2, "test"),
            "run.strategy": ("tfl", "test"),
            "run.directory": (str(tmp_path / "runs"), "test"),
            "rounds.count": (2, "test"),
            "rounds.gather_timeout_s": (15.0, "test"),
            "data.alpha": (10.0, "test"),
            "training.backend": ("onnx", "test"),
            "data.shares": (shares, "test"),
        },
    )
    url = a_broker.address.url(with_password=True)
    board = tmp_path / "board"
    for name in ("etc", "lib"):
        (board / name).mkdir(parents=True)
    configs = [board / "etc" / f"{index}.toml" for index in range(2)]
    for index, config in enumerate(configs):
        config.write_text(
            f'broker = "{url}"\nid = "{device_id(index, 2)}"\nfleet = "{fleet_name}"\n'
            f'cache = "{board / "cache"}"\ntelemetry_s = 0.5\n'
        )
    watch = Watch(board)
    by_round: list[Counter[str]] = []
    command = [sys.executable, "-c", AGENT, "agent", "run", "--config"]
    environments = [
        {
            **os.environ,
            "XDG_STATE_HOME": str(board / "lib"),
            "RUNTIME_DIRECTORY": str(tmp_path / f"run-{index}"),  # in memory, on a board
        }
        for index in range(2)
    ]
    agents = [
        subprocess.Popen(
            [*command, str(config)],
            cwd=ROOT, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for config, environment in zip(configs, environments, strict=True)
    ]  # fmt: skip
    told = Told()

    def count(event: Event) -> None:
        if isinstance(event, RoundFinished):
            by_round.append(watch.take())

    try:
        with Console(a_broker.address, fleet=fleet_name) as console:
            while sum(each.answered for each in console.look().values()) < 2:
                assert all(agent.poll() is None for agent in agents)
        watch.take()
        time.sleep(2.5)  # they look at their status every second meanwhile
        idle = watch.take()
        folder = RunFolder(effective.config)
        federation = coordinate(
            effective,
            a_broker.address,
            folder,
            broker="test",
            view=Windows(folder, told, "a test", None, also=(count,)),
            cancel=threading.Event(),
        )
        folder.close()
    finally:
        for agent in agents:
            agent.terminate()
        outputs = [agent.communicate(timeout=20)[0] for agent in agents]
        print(*outputs)
    assert federation.status == "completed", outputs
    assert len(federation.rounds) == 2
    for result in federation.rounds:
        assert [device.status for device in result.devices] == ["accepted"] * 2, outputs
    assert federation.rounds[-1].evaluation.accuracy > 0.3
    assert "as a training graph" in told.said[0]
    (trained_with,) = {d.backend for r in federation.rounds for d in r.devices}
    assert trained_with.startswith("onnxruntime ")
    for output in outputs:
        assert "refused modules []" in output
        peak_mb = int(output.split("peak kB ")[1].split()[0]) / 1024
        assert peak_mb < 150, output
        assert "execution denied 0" in output or KERNEL < (6, 3)
    assert len(list((board / "cache").glob("*.graphs"))) == 1
    assert idle == Counter()
    first, second = by_round
    assert any(name.endswith(".graphs") for name in first), "the watch sees what is written"
    assert sum(second.values()) <= MOST_WRITES, second
    assert not any(name.startswith(str(board / "etc")) for name in first + second)
