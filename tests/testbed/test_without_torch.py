"""Devices that have nothing but the base install take part in a whole federation."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.topics import device_id
from fimi.testbed.configuration import load as configuration
from fimi.testbed.processes.coordinator import coordinate
from fimi.testbed.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
REFUSED = (
    "torch", "torchvision", "diffusers", "onnx", "onnxscript", "sklearn", "scipy", "cvxpy",
    "plotly", "rich", "amqtt",
)  # fmt: skip
AGENT = f"""
import sys, threading
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
    agents = [
        subprocess.Popen(
            [
                sys.executable, "-c", AGENT, "agent", "run", "--broker", url,
                "--id", device_id(index, 2), "--fleet", fleet_name,
                "--cache", str(tmp_path / "cache"),
            ],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for index in range(2)
    ]  # fmt: skip
    said: list[str] = []
    try:
        folder = RunFolder(effective.config)
        federation = coordinate(
            effective,
            a_broker.address,
            folder,
            broker="test",
            view=lambda event: None,
            cancel=threading.Event(),
            say=said.append,
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
    assert "as a training graph" in said[0]
    (trained_with,) = {d.backend for r in federation.rounds for d in r.devices}
    assert trained_with.startswith("onnxruntime ")
    for output in outputs:
        assert "refused modules []" in output
        peak_mb = int(output.split("peak kB ")[1].split()[0]) / 1024
        assert peak_mb < 150, output
    assert len(list((tmp_path / "cache").glob("*.graphs"))) == 1
