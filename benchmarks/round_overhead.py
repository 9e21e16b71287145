"""What a dry run's wall time is spent on besides training.

    python benchmarks/round_overhead.py [--rounds 20]

Runs the default ``fimi dry-run`` and reads from its store where the wall time went. *Training* is
the time in which at least one device trains (the union of the intervals that devices report); the
coordinator's stage ``devices`` less that is transfers, messages and waiting. The aim is that a
round's overhead outside training, "plan, transfer, aggregate, evaluate, store", is under 15 % of
the dry run's wall time. Two readings are printed:

1. the five parts of that list, over the wall time: the plan and its adaptation; transfers with the
   waiting and the messages around them, synthetic batches included; the mean; the evaluation of
   the global model and of the devices' updates; the run store and the model on the disk.
2. everything but training over the wall time: also the start of processes and of PyTorch, drawing
   synthetic images, exporting and trying the finished model, the report.

The exit status follows the first. Other work on the machine lengthens everything, hence the load.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

AIM = 0.15
LISTED = {
    "plan": ("plan", "adapt"),
    "transfer": ("announce", "devices outside training", "settle"),
    "aggregate": ("aggregate",),
    "evaluate": ("evaluate", "insight"),
    "store": ("store",),
}
"""The parts of the aim's list, and the coordinator's stages that make them up."""


def covered_s(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals, s."""
    total_s, until = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total_s += max(0.0, end - max(start, until))
        until = max(until, end)
    return total_s


def dry_run(rounds: int) -> tuple[float, dict[str, float], float]:
    """Wall time, the coordinator's stages and the time with training in it, s."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).with_name("fimi")), "dry-run", "--format", "json"]
        command += ["--directory", folder, "--name", "overhead", "--rounds", str(rounds)]
        began_s = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall_s = time.monotonic() - began_s
        db = sqlite3.connect(Path(folder) / "overhead" / "run.sqlite")
        (stages,) = db.execute("SELECT stages_wall_s FROM run").fetchone()
        training_s = covered_s(
            db.execute(
                "SELECT trained_from, trained_until FROM device_round"
                " WHERE trained_from IS NOT NULL"
            )
        )
        db.close()
    return wall_s, json.loads(stages), training_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    load = os.getloadavg()[0]
    wall_s, stages, training_s = dry_run(asked.rounds)
    stages["start, report, end"] = wall_s - sum(stages.values())
    stages["devices outside training"] = stages.pop("devices") - training_s
    parts = {name: sum(stages.pop(stage, 0.0) for stage in of) for name, of in LISTED.items()}
    print(
        f"default dry run, {asked.rounds} rounds: {wall_s:.1f} s wall time on {os.cpu_count()} "
        f"cores; load average {load:.1f} before, {os.getloadavg()[0]:.1f} after"
    )
    for title, figures in (
        ("", {"training": training_s}),
        ("listed:", parts),
        ("besides:", stages),
    ):
        if title:
            print(title)
        for name, seconds in sorted(figures.items(), key=lambda item: -item[1]):
            print(f"  {seconds:6.2f} s  {seconds / wall_s:5.1%}  {name}")
    listed_s = sum(parts.values())
    per_round_s = (listed_s - parts["plan"]) / asked.rounds
    print(f"listed but the plan, each round: {1000 * per_round_s:.0f} ms")
    for what, share in (
        ("1. plan, transfer, aggregate, evaluate, store", listed_s / wall_s),
        ("2. everything but training", 1.0 - training_s / wall_s),
        ("   the same within rounds", 1.0 - training_s / (training_s + listed_s - parts["plan"])),
    ):
        print(f"{what}: {share:.0%}, {share / AIM:.1f} times the {AIM:.0%} aimed at")
    sys.exit(listed_s / wall_s > AIM)


if __name__ == "__main__":
    main()
