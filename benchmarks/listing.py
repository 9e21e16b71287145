"""How long ``fimi runs`` takes for many runs, and what a store costs that is larger.

benchmarks/listing.py [RUNS] [DEVICES] [ROUNDS]

Stores are written by the real run store into a temporary folder: RUNS small ones (2 devices, 3
rounds), copied from one, and one of DEVICES and ROUNDS. The first list is read after the system's
cache was filled by writing; the disk is not what is measured.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "record"))

from stored_runs import device_round, round_result, write_run

from fimi.record.catalogue import find, listed
from fimi.record.headline import headline
from fimi.record.reader import read_run
from fimi.record.summary import summarise
from fimi.report.collection.listing import as_csv, as_lines
from fimi.report.collection.selection import ordered
from fimi.report.layout import Paper


def main(count: int, devices: int, rounds: int) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_run(root / "first")
        for number in range(count):
            shutil.copytree(root / "first", root / "runs" / f"run-{number:05d}")
        took_s = []
        for _ in range(3):
            began_s = time.perf_counter()
            runs = ordered(map(listed, find(root / "runs")), "began")
            lines = list(as_lines(runs, Paper()))
            took_s.append(time.perf_counter() - began_s)
        began_s = time.perf_counter()
        as_csv(runs)
        csv_s = time.perf_counter() - began_s
        print(
            f"{len(runs)} runs, {len(lines)} lines: {statistics.median(took_s):.2f} s, "
            f"{1e3 * statistics.median(took_s) / len(runs):.2f} ms each; CSV of them "
            f"{1e3 * csv_s:.0f} ms"
        )
        names = [f"device-{k:04d}" for k in range(devices)]
        results = [
            round_result(n, [device_round(name) for name in names], 0.5)
            for n in range(1, rounds + 1)
        ]
        write_run(root / "large", names=names, rounds=results)
        began_s = time.perf_counter()
        found = headline(root / "large")
        headline_s = time.perf_counter() - began_s
        began_s = time.perf_counter()
        summary = summarise(read_run(root / "large"))
        summary_s = time.perf_counter() - began_s
        assert found.energy == summary.energy.value
        print(
            f"{devices} devices, {rounds} rounds: {headline_s:.3f} s, {summary_s:.3f} s for all "
            "that a report needs"
        )


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]]
    main(*given, *(500, 50, 100)[len(given) :])
