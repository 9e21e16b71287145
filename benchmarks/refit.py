"""Whether predictions get better once the coordinator refits the boards and plans again.

    python benchmarks/refit.py [--seeds 3] [--rounds 12] [--error 0.2]

Dry runs of ten emulated devices whose boards lie 20 % (one standard deviation of each parameter)
from the profiles they publish, once with ``plan.refit_percent = 0`` (never) and once with the
default limit; boards emulated by the cost model with other parameters, and with physics. Printed is
the mean absolute error of a device's predicted joules in a round, in the rounds up to the first
refit and in those after the last, beside the same rounds of the run that never refits; and the
joules that were used. The ratio is after over before. All joules are emulated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fimi.testbed.configuration.sections import Config

LIMIT = Config().plan.refit_percent


def dry_run(emulation: str, seed: int, limit: float, asked: argparse.Namespace, folder: str) -> Any:
    command = [
        *(sys.executable, "-m", "fimi.testbed.cli", "dry-run", "--format", "json"),
        *("--directory", folder, "--seed", str(seed), "--rounds", str(asked.rounds)),
        *("--name", f"{emulation}-{seed}-{limit:g}"),
        *("--set", f"fleet.emulation={emulation}"),
        *("--set", f"fleet.profile_error={asked.error}"),
        *("--set", f"plan.refit_percent={limit}"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def mean(values: list[float | None]) -> float:
    return statistics.mean(value for value in values if value is not None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--error", type=float, default=0.2)
    asked = parser.parse_args()
    print(
        "emulation  seed  refit after  error before %  after %  ratio   never refitted %: "
        "before  after   board J  never refitted J  accuracy  never"
    )
    ratios: dict[str, list[float]] = {"model": [], "physical": []}
    curves: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for emulation in ratios:
            for seed in range(asked.seeds):
                mended = dry_run(emulation, seed, LIMIT, asked, folder)
                never = dry_run(emulation, seed, 0.0, asked, folder)
                errors, others = mended["round_error_percent"], never["round_error_percent"]
                refits = mended["refitted_after"]
                curves.setdefault(emulation, (errors, others))
                if not refits:
                    print(f"{emulation:<9}  {seed:4}  no device drifted beyond {LIMIT:g} %")
                    continue
                first, last = refits[0], refits[-1]
                before, after = mean(errors[:first]), mean(errors[last:])
                ratios[emulation].append(after / before)
                print(
                    f"{emulation:<9}  {seed:4}  {','.join(map(str, refits)):>11}  {before:14.1f}"
                    f"  {after:7.1f}  {after / before:5.2f}   {mean(others[:first]):24.1f}"
                    f"  {mean(others[last:]):5.1f}   {sum(mended['round_energy_j']):7.0f}"
                    f"  {sum(never['round_energy_j']):16.0f}  {mended['accuracy'][-1]:8.1%}"
                    f"  {never['accuracy'][-1]:5.1%}",
                    flush=True,
                )
    for emulation, found in ratios.items():
        if found:
            print(
                f"{emulation}: median ratio {statistics.median(found):.2f} over {len(found)} runs"
            )
    for emulation, (errors, others) in curves.items():
        print(f"\n{emulation}, seed 0: error of each round, % (refitted / never)")
        print("  " + " ".join(f"{e:5.1f}" for e in errors))
        print("  " + " ".join(f"{e:5.1f}" for e in others))


if __name__ == "__main__":
    main()
