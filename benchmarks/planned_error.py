"""Whether devices err as planned: planned against measured local errors, round by round.

    python benchmarks/planned_error.py [--seeds 3] [--rounds 12] [--set data.dataset=…] …

FIMI with the default configuration, or with the settings given, on seeds 0, 1, …. The planned mean
error of a round follows from the learning curve and the rounds before it, the measured one from
each device's model on images for validation, before averaging. Printed are both for every round,
and over the rounds after the third the share that is within 0.02, the median of how far they are
apart, and the same for the simplest forecast there is: the error that was measured in the round
before. The ratio is of the two medians. A device whose training diverges shows in the
mean of its round; such rounds (a device errs by more than 0.3 above the mean of the others) are
counted and printed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from fimi.record.reader import read_run
from fimi.record.record import RunData

WITHIN = 0.02
AFTER = 3


def run(seed: int, asked: argparse.Namespace, folder: str) -> RunData:
    name = f"run-{seed}"
    command = [
        *(str(Path(sys.executable).with_name("fimi")), "dry-run", "-q", "--directory", folder),
        *("--name", name, "--seed", str(seed), "--rounds", str(asked.rounds)),
        *(part for each in asked.set for part in ("--set", each)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return read_run(Path(folder) / name)


def diverged(errors: list[float]) -> bool:
    """Whether one device errs far more than the others."""
    most = max(errors)
    others = [error for error in errors if error != most]
    return bool(others) and most - statistics.fmean(others) > 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    apart: list[float] = []
    fixed: list[float] = []
    wild = 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(asked.seeds):
            found = run(seed, asked, folder)
            level = found.plan.error if found.plan is not None else None
            print(f"\nseed {seed}, Δ of the plan at the end {level or 0:.3f}")
            for refit in found.learning_refits:
                print(
                    f"  after round {refit.round}: {refit.measured:.3f} instead of "
                    f"{refit.before:.3f}, {refit.images} further images {refit.reason}"
                )
            last = 0.0
            print("round  planned  measured  apart")
            for each in found.rounds:
                planned, measured = each.planned_error, each.local_error
                if planned is None or measured is None:
                    continue
                errors = [d.local_error for d in each.devices if d.local_error is not None]
                odd = diverged(errors)
                print(
                    f"{each.number:5}  {planned:7.3f}  {measured:8.3f}  {planned - measured:+.3f}"
                    + ("  one device diverged" if odd else "")
                )
                if each.number > AFTER:
                    apart.append(abs(planned - measured))
                    fixed.append(abs(last - measured))
                    wild += odd
                last = measured
    within = sum(each <= WITHIN for each in apart)
    print(
        f"\nafter round {AFTER}: {within} of {len(apart)} rounds within {WITHIN}, median apart "
        f"{statistics.median(apart):.4f}, mean {statistics.fmean(apart):.4f}; one device had "
        f"diverged in {wild} rounds"
    )
    ratio = statistics.median(apart) / max(statistics.median(fixed), 1e-9)
    print(
        f"the round before as a forecast: median apart {statistics.median(fixed):.4f}; planned, "
        f"{ratio:.2f} of that"
    )


if __name__ == "__main__":
    main()
