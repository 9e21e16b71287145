"""From starting an agent to its first telemetry, without PyTorch.

Starts ``fimi agent run --host-profile`` on this machine (with a declared power where no meter can
be read) against a broker of its own, and watches the broker: until the device is online, and until
its profile has come, with which it answers an invitation that ships its samples. Printed beside it:
the time that the interpreter with the agent's libraries takes by itself.

    python benchmarks/agent_start.py [--times 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fimi.energy.host_profile
from fimi.learning.data import shares
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages.documents import Desired, Reported
from fimi.messaging.messages.facts import Profile
from fimi.messaging.messages.orders import Invitation
from fimi.messaging.messages.peers import DeviceState
from fimi.messaging.topics import COORDINATOR
from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.scenario import Scenario

PROFILE = (fimi.energy.host_profile.__doc__ or "").split("::\n", 1)[1]
LIBRARIES = "import onnxruntime, paho.mqtt.client, msgspec, numpy, psutil, safetensors, click"


def invite(desk: Peer, scenario: Scenario, device: str) -> None:
    """Leave an invitation at the broker."""
    contract = scenario.contract
    samples = shares.encode_samples(scenario.share(0), contract)
    invitation = Invitation(
        run="start",
        device=device,
        index=0,
        contract=contract,
        way="shipped",
        share=desk.transfers.serve(samples, shares.SAMPLES_MEDIA),
    )
    desired = Desired(
        run="start",
        device=device,
        instance="0" * 16,
        epoch=1,
        number=1,
        invitation=invitation,
    )
    desk.publish_state(device, "desired", desired)


def start(url: str, folder: Path, desk: Peer, fleet: str, name: str) -> tuple[float, float]:
    """Seconds until the device is online and until its profile is here."""
    began_s = time.monotonic()
    process = subprocess.Popen(
        [
            sys.executable, "-m", "fimi.testbed.cli", "agent", "run", "--id", name,
            "--host-profile", str(folder / "board.toml"), "--fleet", fleet,
        ],
        env={**os.environ, "FIMI_BROKER": url},
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    online_s: float | None = None
    try:
        while time.monotonic() - began_s < 60.0:
            received = desk.receive(timeout_s=0.5)
            if received is None or received[0] != name:
                continue
            if isinstance(received[1], DeviceState) and received[1].status == "online":
                online_s = online_s or time.monotonic() - began_s
            told = received[1].facts if isinstance(received[1], Reported) else ()
            if any(isinstance(fact.body, Profile) for fact in told) and online_s is not None:
                return online_s, time.monotonic() - began_s
    finally:
        process.terminate()
        process.wait(20)
    raise SystemExit("the agent has not reported within 60 s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    scenario = configuration.load()
    fleet = "start"
    with tempfile.TemporaryDirectory() as name, EmbeddedBroker() as broker:
        folder = Path(name)
        (folder / "board.toml").write_text(PROFILE.replace("\n    ", "\n").strip())
        url = broker.address.url(with_password=True)
        alone = []
        for _ in range(times):
            began_s = time.monotonic()
            subprocess.run([sys.executable, "-c", LIBRARIES], check=True)
            alone.append(time.monotonic() - began_s)
        with Peer(broker.address, fleet=fleet, peer=COORDINATOR, role="coordinator") as desk:
            names = [f"device-{index + 1:02d}" for index in range(times)]
            for device in names:
                invite(desk, scenario, device)
            found = [start(url, folder, desk, fleet, device) for device in names]
    online, profile = zip(*found, strict=True)
    base_s = statistics.median(alone)
    print(f"{'':<34}{'median s':>9}{'worst s':>9}{'ratio':>7}")
    for text, values in (
        ("interpreter and libraries alone", alone),
        ("agent: online at the broker", online),
        ("agent: profile with the meter", profile),
    ):
        middle_s = statistics.median(values)
        print(f"{text:<34}{middle_s:>9.2f}{max(values):>9.2f}{middle_s / base_s:>7.2f}")


if __name__ == "__main__":
    main()
