"""Pictures of the dashboard for the README and docs/dashboard.md, from a live dry run.

    python scripts/screenshots.py [--rounds 60] [--to docs/images] [--all]

Starts a dry run, waits until it trains, and takes pictures of its page with headless Chromium:
``dashboard.png``, the run in light colours, and ``dashboard-device.png``, a device's own view in
dark ones. ``--all`` adds those that are only to be looked at: dark, narrow, with hundreds of
devices, with one that is gone, and at the end.
"""

from __future__ import annotations

import argparse
import io
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests" / "report"), str(ROOT / "benchmarks")]

from chromium import Browser  # noqa: E402
from synthetic_fleet import Pulse, SyntheticFleet  # noqa: E402

from fimi.monitor.server import door  # noqa: E402
from fimi.monitor.server.door import Door, NoDoorError  # noqa: E402
from fimi.monitor.server.hooks import NoHooks  # noqa: E402
from fimi.monitor.server.service import Dashboard  # noqa: E402
from fimi.monitor.watcher import Watcher  # noqa: E402
from fimi.record.record import RunInfo  # noqa: E402

DRAWN = "document.querySelectorAll('.js-plotly-plot').length >= 2"
LAST_EVENT = "document.getElementById('connection').textContent.includes('has ended')"


def keep(browser: Browser, target: Path, height: int | None = None) -> None:
    """Write what is seen, with 128 colours: a third of the size."""
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        browser.picture(shot, height=height)
        picture = Image.open(io.BytesIO(shot.read_bytes())).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(target, optimize=True)
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB", file=sys.stderr)


def opened(browser: Browser, url: str, rounds: int) -> None:
    """The page after so many rounds, with its pictures."""
    browser.visit(url)
    browser.wait(f"parseInt(document.querySelector('#cards .value').textContent) > {rounds}", 120)
    browser.wait(DRAWN)
    time.sleep(1.5)


def of_a_run(browser: Browser, place: Door, to: Path, whole: bool) -> None:
    """Pictures of a dry run that trains."""
    browser.look()
    opened(browser, place.with_key, 20)
    keep(browser, to / "dashboard.png", height=1480)
    if whole:
        browser.look(dark=True)
        opened(browser, place.url, 20)
        keep(browser, to / "dashboard-dark.png")
        browser.look(width=420)
        opened(browser, place.url, 20)
        keep(browser, to / "dashboard-narrow.png")
    browser.look(dark=True)
    browser.visit(f"{place.url}#device/device-05")
    browser.wait("document.querySelectorAll('#device .js-plotly-plot').length === 2")
    time.sleep(25)  # of power, second by second
    keep(browser, to / "dashboard-device.png")


def of_hundreds(browser: Browser, to: Path) -> None:
    """Pictures of a fleet that was made up: all well, and one gone."""
    watcher = Watcher(RunInfo(run="hundreds", config={"rounds.count": 40}), "a fleet made up")
    fleet = SyntheticFleet(watcher, 500)
    with Dashboard(watcher, NoHooks(), folder=None) as served, Pulse(fleet):
        browser.look()
        opened(browser, served.url, 1)
        keep(browser, to / "dashboard-500.png")
        fleet.show("device-042", online=False)
        time.sleep(2.5)
        keep(browser, to / "dashboard-gone.png")


def main() -> None:
    """Run as a program."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--rounds", type=int, default=60)
    options.add_argument("--to", type=Path, default=ROOT / "docs" / "images")
    options.add_argument("--all", action="store_true")
    given = options.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Browser() as browser:
        command = [sys.executable, "-m", "fimi.testbed.cli", "dry-run", "--directory", folder]
        command += ["--name", "a-desk-of-ten", "--rounds", str(given.rounds), "-q"]
        running = subprocess.Popen([*command, "--dashboard", "127.0.0.1:0"])
        try:
            while running.poll() is None:
                try:
                    place = door.find(Path(folder) / "a-desk-of-ten")
                    break
                except NoDoorError:
                    time.sleep(0.2)
            of_a_run(browser, place, given.to, given.all)
            if given.all:
                browser.look()
                opened(browser, place.url, 20)
                running.send_signal(signal.SIGINT)
                browser.wait(LAST_EVENT, 60)
                time.sleep(0.5)
                keep(browser, given.to / "dashboard-ended.png")
        finally:
            running.send_signal(signal.SIGINT)
            running.wait()
        if given.all:
            of_hundreds(browser, given.to)


if __name__ == "__main__":
    main()
