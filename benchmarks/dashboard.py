"""What a dashboard costs with hundreds of devices, and how soon its page can be used.

    python benchmarks/dashboard.py [--devices 500] [--viewers 5] [--seconds 60]

A process serves a fleet that was made up at 1 Hz, with a round every 6 s: once without viewers and
once with some, each a real HTTP client of the feed. Its processor time and memory are read from the
kernel; what it takes without viewers is the fleet itself and an idle server, and the difference is
the dashboard. Then the page is opened in headless Chromium, where there is one: until the first
rows of the fleet are drawn. The aims are 10 % of a core, 150 MB, 1 s.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil

ROOT = Path(__file__).resolve().parent.parent
AIM_SHARE, AIM_MB, AIM_S = 0.10, 150.0, 1.0
DRAWN = "document.querySelectorAll('.js-plotly-plot').length >= 2"
ROWS = "document.querySelectorAll('tr[data-device]').length > 0"


def serve(devices: int) -> None:
    """Serve a fleet until the input ends; prints the address."""
    from synthetic_fleet import Pulse, SyntheticFleet

    from fimi.monitor.server.hooks import NoHooks
    from fimi.monitor.server.service import Dashboard
    from fimi.monitor.watcher import Watcher
    from fimi.record.record import RunInfo

    watcher = Watcher(RunInfo(run="benchmark", config={"rounds.count": 40}))
    fleet = SyntheticFleet(watcher, devices)
    with Dashboard(watcher, NoHooks(), folder=None) as served, Pulse(fleet):
        print(served.url, flush=True)
        sys.stdin.read()


class Viewer(threading.Thread):
    """Reads the feed as a browser does, and counts."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._at = urlsplit(url)
        self.events = self.size_bytes = self.wholes = 0

    def run(self) -> None:
        """Read until the server is gone."""
        connection = http.client.HTTPConnection(self._at.hostname or "", self._at.port, timeout=30)
        connection.request("GET", "/feed")
        answer = connection.getresponse()
        try:
            while line := answer.readline():
                self.size_bytes += len(line)
                self.events += line.startswith(b"event:")
                self.wholes += line.startswith(b"event: whole")
        except OSError:
            pass


def measured(devices: int, viewers: int, seconds: float) -> tuple[float, float, list[Viewer]]:
    """Share of a core, memory in MB, and the viewers, of a server of its own."""
    command = [sys.executable, __file__, "--serve", str(devices)]
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        seen = [Viewer(url) for _ in range(viewers)]
        for viewer in seen:
            viewer.start()
        process = psutil.Process(server.pid)
        time.sleep(3.0)
        before, began_s = process.cpu_times(), time.monotonic()
        time.sleep(seconds)
        after, took_s = process.cpu_times(), time.monotonic() - began_s
        spent_s = after.user + after.system - before.user - before.system
        return spent_s / took_s, process.memory_info().rss / 1e6, seen
    finally:
        server.communicate("")


def usable(devices: int, times: int) -> tuple[list[float], list[float]]:
    """Seconds from asking for the page to its first rows, each in a fresh browser.

    Returns:
        These, and the share of a core that the page's main thread took in the 15 s after its
        pictures were drawn.
    """
    sys.path.insert(0, str(ROOT / "tests" / "report"))
    from chromium import CHROMIUM, Browser

    if CHROMIUM is None:
        return [], []
    command = [sys.executable, __file__, "--serve", str(devices)]
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    found: list[float] = []
    busy: list[float] = []
    try:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        time.sleep(3.0)
        for _ in range(times):
            with Browser() as browser:
                browser.look()
                browser.visit(url)
                browser.wait(ROWS)
                # the page notes itself when its first rows are there
                marks = browser.run(
                    "JSON.stringify(performance.getEntriesByName('rows').map(m => m.startTime))"
                )
                found.append(json.loads(marks)[0] / 1e3)
                browser.wait(DRAWN)
                browser.busy_s()
                before_s, began_s = browser.busy_s(), time.monotonic()
                time.sleep(15.0)
                busy.append((browser.busy_s() - before_s) / (time.monotonic() - began_s))
    finally:
        server.communicate("")
    return found, busy


def main() -> None:
    """Run as a program."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--devices", type=int, default=500)
    options.add_argument("--viewers", type=int, default=5)
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--openings", type=int, default=5)
    options.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve is not None:
        serve(given.serve)
        return
    alone, alone_mb, _ = measured(given.devices, 0, given.seconds)
    seen, seen_mb, viewers = measured(given.devices, given.viewers, given.seconds)
    rate = sum(viewer.size_bytes for viewer in viewers) / len(viewers) / (given.seconds + 3.0)
    print(f"{given.devices} devices at 1 Hz, {given.viewers} viewers, {given.seconds:g} s")
    print(f"without viewers: {alone:.1%} of a core, {alone_mb:.0f} MB")
    print(f"with viewers:    {seen:.1%} of a core, {seen_mb:.0f} MB: {seen / alone:.2f} times")
    print(f"the dashboard:   {seen - alone:.1%} of a core, aim {AIM_SHARE:.0%}; ", end="")
    print(f"{seen_mb - alone_mb:.0f} MB more, the whole process {seen_mb:.0f}, aim {AIM_MB:.0f}")
    events = [viewer.events for viewer in viewers]
    wholes = sum(viewer.wholes for viewer in viewers)
    print(
        f"each viewer: {min(events)} events or more, {rate / 1e3:.0f} kB/s; {wholes} wholes in all"
    )
    found, busy = usable(given.devices, given.openings)
    if found:
        middle = statistics.median(found)
        print(f"page usable after {middle:.2f} s (median of {len(found)}), aim {AIM_S:g} s")
        print(f"then its main thread takes {statistics.median(busy):.1%} of a core")


if __name__ == "__main__":
    main()
