"""What is looked at: a live federation of programs of their own, and a fleet of hundreds."""

from __future__ import annotations

import re
import subprocess

from commandline import Workplace, wait_until
from synthetic_fleet import SyntheticFleet

from fimi.monitor.server import door
from fimi.monitor.server.door import Door
from fimi.monitor.server.hooks import NoHooks
from fimi.monitor.server.service import Dashboard
from fimi.monitor.watcher import Watcher
from fimi.record.record import RunInfo

DEVICES = ("device-01", "device-02", "device-03")


class Federation:
    """A broker, three agents and a coordinator, each a program of its own."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        broker = place.start("broker", "--port", "0")
        assert broker.stdout is not None
        said = [broker.stdout.readline() for _ in range(2)]
        (url,) = re.findall(r"^export FIMI_BROKER='(.*)'$", said[1])
        self.agents = {
            name: self._start(url, "agent", "run", "--id", name, "--telemetry-s", "1")
            for name in DEVICES
        }
        self.coordinator = self._start(
            url,
            *("coordinator", "run", "--devices", "3", "--rounds", "5000", "--name", "live"),
            *("--strategy", "tfl", "--dashboard", "127.0.0.1:0"),
            *("--set", "rounds.grace_s=2", "--log-file", "coordinator.log"),
        )
        self.folder = place.folder / "runs" / "live"
        wait_until((self.folder / door.NAME).exists, "the dashboard is there")
        self.door: Door = door.find(self.folder)

    def _start(self, url: str, *arguments: str) -> subprocess.Popen[str]:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return self.place.start(*arguments, environment={"FIMI_BROKER": url}, **quiet)


class Hundreds:
    """A dashboard over a synthetic fleet, in this process."""

    def __init__(self, size: int) -> None:
        info = RunInfo(run="hundreds", config={"rounds.count": 40})
        self.watcher = Watcher(info, "a fleet that was made up")
        self.fleet = SyntheticFleet(self.watcher, size)

    def serve(self, port: int = 0) -> Dashboard:
        return Dashboard(self.watcher, NoHooks(), folder=None, port=port)
