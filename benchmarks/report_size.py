"""How large a report is, and how long it takes to make and to open.

    python benchmarks/report_size.py [RUN] [--sizes 100x50,10x1000] [--profile]

RUN is the folder of a stored run, of which larger ones are grown: devices and rounds are repeated
under new names, and every joule, second and share is moved a little at random, so that nothing
compresses better than it would in a run of that size. Left out: a dry run of five devices and ten
rounds is made. The aims for 100 rounds of 50 devices are 10 s and 6 MB. Opening is measured in
headless Chromium, where there is one: until every picture is drawn.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fimi.report.page import write_report

AIM_BYTES, AIM_S = 6e6, 10.0
EVENTS_KEPT = ("event", "checkpoint")
"""Tables that are left as they are."""
Row = dict[str, Any]


def grow(source: Path, target: Path, rounds: int, devices: int, seed: int = 1) -> None:
    """Write the store ``target``: that of ``source``, repeated to so many rounds and devices."""
    draw = random.Random(seed)
    shutil.copy(source, target)
    with sqlite3.connect(target) as store:
        store.row_factory = sqlite3.Row
        names = [row[0] for row in store.execute("SELECT device FROM profile ORDER BY device")]
        count = store.execute("SELECT max(number) FROM round").fetchone()[0]
        kinds = "SELECT name FROM sqlite_master WHERE type = 'table'"
        for (table,) in store.execute(kinds).fetchall():
            columns = {row[1]: row[2] for row in store.execute(f"PRAGMA table_info({table})")}
            number = next((name for name in ("round", "number") if name in columns), "")
            if table in EVENTS_KEPT or not ({"device", number} & set(columns)):
                continue
            found: list[Row] = [dict(row) for row in store.execute(f"SELECT * FROM {table}")]
            store.execute(f"DELETE FROM {table}")
            made = _repeated(found, number, count, rounds, names, devices)
            real = [name for name, kind in columns.items() if kind == "REAL"]
            places = ", ".join("?" * len(columns))
            store.executemany(
                f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({places})",
                [
                    [
                        i if name == "id" else _moved(value, draw) if name in real else value
                        for name, value in row.items()
                    ]
                    for i, row in enumerate(made, 1)
                ],
            )
    store.close()


def _repeated(
    found: list[Row], number: str, count: int, rounds: int, names: list[str], devices: int
) -> list[Row]:
    """The rows of a table for all rounds and devices; what is before round 1 stays there."""
    made = []
    for row in found:
        own = row.get("device")
        if own is None:
            others = [None]
        else:
            first = names.index(own)
            others = [f"device-{k + 1:04}" for k in range(first, devices, len(names))]
        at = row.get(number) if number else None
        again = [at] if at is None or at < 1 else list(range(at, rounds + 1, count))
        made += [
            {**row}
            | ({"device": other} if own is not None else {})
            | ({number: k} if number else {})
            for other in others
            for k in again
        ]
    return made


def _moved(value: float | None, draw: random.Random) -> float | None:
    """A value up to 5 % away from what it was; shares and accuracies stay below one."""
    return None if value is None else value * draw.uniform(0.95, 1.0)


def opened(page: Path, chromium: str) -> tuple[int, float]:
    """How many pictures were drawn, and in how many seconds, the browser's start included."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                chromium,
                *("--headless", "--disable-gpu", "--no-first-run", "--dump-dom"),
                *(("--no-sandbox",) if os.name == "posix" and os.geteuid() == 0 else ()),
                *(f"--user-data-dir={folder}", "--virtual-time-budget=60000", page.as_uri()),
            ],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    drawn = len(re.findall(r'class="[^"]*\bjs-plotly-plot\b', done.stdout))
    return drawn, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--sizes", default="100x50,10x1000", help="ROUNDSxDEVICES,…")
    parser.add_argument("--profile", action="store_true", help="where the time goes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        source = given.run or _dry_run(Path(scratch))
        chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
        print("rounds × devices    store MB  report MB  made in s  drawn  opened in s")
        for size in given.sizes.split(","):
            rounds, devices = map(int, size.split("x"))
            folder = Path(scratch) / size
            folder.mkdir()
            grow(source / "run.sqlite", folder / "run.sqlite", rounds, devices)
            watch = cProfile.Profile()
            began = time.monotonic()
            if given.profile:
                watch.enable()
            page = write_report(folder)
            watch.disable()
            made_s = time.monotonic() - began
            drawn, opened_s = opened(page, chromium) if chromium else (0, float("nan"))
            megabytes = [path.stat().st_size / 1e6 for path in (folder / "run.sqlite", page)]
            print(
                f"{rounds:6} × {devices:<9} {megabytes[0]:9.1f} {megabytes[1]:10.2f} "
                f"{made_s:10.1f} {drawn:6} {opened_s:12.1f}"
            )
            if (rounds, devices) == (100, 50):
                held = 1e6 * megabytes[1] <= AIM_BYTES and made_s <= AIM_S
                print(f"{'':20}aims: {AIM_BYTES / 1e6:g} MB, {AIM_S:g} s: {_word(held)}")
            if given.profile:
                pstats.Stats(watch, stream=sys.stdout).sort_stats("cumulative").print_stats(30)


def _word(held: bool) -> str:
    return "held" if held else "missed"


def _dry_run(scratch: Path) -> Path:
    command = [sys.executable, "-m", "fimi.testbed.cli", "dry-run", "-q", "--name", "source"]
    wanted = ["--devices", "5", "--rounds", "10", "--directory", str(scratch)]
    subprocess.run([*command, *wanted], check=True, stdout=subprocess.DEVNULL)
    return scratch / "source"


if __name__ == "__main__":
    main()
