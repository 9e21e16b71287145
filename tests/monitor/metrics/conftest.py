"""A stored run with a device on a plug and an emulated one, as a watcher sees it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from stored_runs import write_run

from fimi.messaging.messages.peers import DeviceState, Telemetry
from fimi.messaging.presence import PeerView
from fimi.monitor.snapshot import Snapshot
from fimi.monitor.watcher import Watcher
from fimi.record.events import DeviceJoined
from fimi.record.reader import read_run
from fimi.record.record import RunData
from fimi.record.summary import Summary, summarise


class Connected:
    """What a coordinator's connection knows of devices."""

    def __init__(self) -> None:
        self.peers: dict[str, PeerView] = {}
        self.said: dict[str, Telemetry] = {}

    def telemetry(self, reader: str = "") -> Mapping[str, Telemetry]:
        return self.said

    def broker_away_s(self) -> float | None:
        return None

    def show(self, device: str, status: Any = "online", **said: Any) -> None:
        state = DeviceState(peer=device, role="device", status=status, boot_id="b")
        self.peers[device] = PeerView(state=state, last_heard_s=98.0, since_s=98.0)
        if said:
            self.said[device] = Telemetry(
                device=device, boot_id="b", number=1, unix_s=1.0, stage="training", **said
            )


class Seen:
    """The run: its record, and what a watcher shows of it."""

    def __init__(self, folder: Path) -> None:
        write_run(folder, physical=("device-1",))
        self.run: RunData = read_run(folder)
        self.summary: Summary = summarise(self.run)
        self.devices = Connected()
        self.devices.show(
            "device-0", power_w=3.25, kind="emulated", source="meter", scope="board",
            temperature_c=41.5, frequency_hz=1.2e9,
        )  # fmt: skip
        self.devices.show("device-1", power_w=6.5, kind="measured", source="plug", scope="wall")
        config = {"rounds.count": 4, "training.model": "cnn"}
        watcher = Watcher(
            replace(self.run.info, config=config), clock=lambda: 100.0, unix=lambda: 5000.0
        )
        watcher.connect(self.devices, broker="mosquitto 2.0")
        watcher.recall(self.run)
        for device, kind in (("device-0", "emulated"), ("device-1", "physical")):
            joined = {"board": "pi", "samples": 10, "backend": "torch"}
            watcher(DeviceJoined(device=device, kind=kind, **joined))
        self.watcher = watcher

    def snapshot(self) -> Snapshot:
        return self.watcher.snapshot()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    return Seen(tmp_path_factory.mktemp("runs") / "a-run")
