"""What a dry run's wall time is spent on besides training.

    python benchmarks/round_overhead.py [--rounds 20]

Runs the default ``fimi dry-run`` and reads from its store where the coordinator's wall time went,
stage by stage. The stage ``devices`` is training together with the transfers around it. How much
of it is training is measured by itself afterwards: as many samples a device as in the run, the same
trainer, alone, one thread, divided by the processes that devices share. The rest is overhead:
planning, making images, transfers, aggregation, evaluation, storing, waiting. The aim is a share of
at most 15 %. Other work on the machine between the two measurements distorts the share.
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
from pathlib import Path

import numpy as np

from learning import datasets
from learning.export import export
from learning.onnx_trainer import OnnxTrainer
from learning.torch_trainer import initial_parameters
from testbed.sections import Config

AIM = 0.15


def training_s(samples: list[int]) -> float:
    """Seconds to train on so many samples each, one after the other, alone."""
    digits = datasets.load_digits()
    settings = Config().training
    trainer = OnnxTrainer(export(settings, digits.classes, digits.image_shape))
    start = initial_parameters(settings.model, digits.classes, digits.image_shape, seed=0)
    random = np.random.default_rng(0)
    total_s = 0.0
    for number, count in enumerate([samples[0], *samples]):  # the first is not counted
        chosen = random.integers(0, len(digits), count)
        began_s = time.perf_counter()
        trainer.train(start, digits.images[chosen], digits.labels[chosen], settings, stream=(0,))
        total_s += time.perf_counter() - began_s if number else 0.0
    return total_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).with_name("fimi")), "dry-run", "--format", "json"]
        command += ["--directory", folder, "--name", "overhead", "--rounds", str(asked.rounds)]
        began_s = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wall_s = time.monotonic() - began_s
        db = sqlite3.connect(Path(folder) / "overhead" / "run.sqlite")
        stages = json.loads(
            db.execute("SELECT value FROM run WHERE key = 'stages_wall_s'").fetchone()[0]
        )
        samples = [
            local + synthetic
            for local, synthetic in db.execute(
                "SELECT local_samples, synthetic_samples FROM device_round"
                " WHERE status = 'accepted' AND round = 1"
            )
        ]
        db.close()
    processes = min(os.cpu_count() or 1, 4)
    trained_s = asked.rounds * training_s(samples) / processes
    stages["starting, reporting, ending"] = wall_s - sum(stages.values())
    print(f"default dry run, {asked.rounds} rounds: {wall_s:.1f} s wall time")
    for stage, seconds in sorted(stages.items(), key=lambda item: -item[1]):
        print(f"  {seconds:6.2f} s  {seconds / wall_s:5.1%}  {stage}")
    in_rounds_s = sum(
        stages.get(name, 0.0)
        for name in ("devices", "settle", "aggregate", "evaluate", "store", "insight", "adapt")
    )
    print(f"training alone, {processes} at a time: {trained_s:.2f} s")
    for what, whole_s in (("the rounds", in_rounds_s), ("the whole run", wall_s)):
        share = 1.0 - trained_s / whole_s
        print(
            f"outside training: {share:.0%} of {what}, {share / AIM:.1f} times the {AIM:.0%} "
            "aimed at"
        )
    sys.exit(1.0 - trained_s / wall_s > AIM)


if __name__ == "__main__":
    main()
