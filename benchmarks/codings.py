"""What codings of models and updates save, and what they cost in accuracy.

    python benchmarks/codings.py [--seeds 2] [--rounds 20] [--devices 10] [--target 0.95] [--jobs 1]
                                 [--only int8 top-k] [--set KEY=VALUE ...]

Every row is ``fimi dry-run`` with the default configuration and one coding, under the same seeds,
partitions and band. FIMI plans each with the bytes of its coding. Printed are, as means over the
seeds: bytes of an update as sent and as planned, the relative error of a change, accuracy on test
images after the same number of rounds, joules of all rounds and of sending updates, and joules,
rounds and seconds to the target on images for validation, the synthetic samples included (unknown
where a seed does not reach it). All joules and seconds are emulated: a busy machine changes
nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fimi.record.reader import read_run
from fimi.record.summary import summarise

Result = dict[str, Any]

CODINGS: dict[str, tuple[str, ...]] = {
    "fp32": (),
    "fp32 + zstd": ("transfer.compress=true",),
    "fp16": ("transfer.update_coding=fp16",),
    "int8": ("transfer.update_coding=int8",),
    "int8 stochastic": ("transfer.update_coding=int8", "transfer.rounding=stochastic"),
    "int8 + zstd": ("transfer.update_coding=int8", "transfer.compress=true"),
    "int8, model int8": ("transfer.update_coding=int8", "transfer.model_coding=int8"),
    "fp32, model int8": ("transfer.model_coding=int8",),
    "top-k 20 %": ("transfer.update_coding=top-k", "transfer.top_k_share=0.2"),
    "top-k 5 %": ("transfer.update_coding=top-k",),
    "top-k 1 %": ("transfer.update_coding=top-k", "transfer.top_k_share=0.01"),
    "top-k 5 %, no feedback": (
        "transfer.update_coding=top-k",
        "transfer.error_feedback=false",
    ),
}


def dry_run(name: str, seed: int, arguments: argparse.Namespace, folder: str) -> Result:
    """One dry run, as the JSON that it prints."""
    settings = [*CODINGS[name], *arguments.set]
    command = [
        *(str(Path(sys.executable).with_name("fimi")), "dry-run", "--format", "json", "-q"),
        *("--directory", folder, "--name", f"{list(CODINGS).index(name)}-{seed}"),
        *("--seed", str(seed), "--rounds", str(arguments.rounds)),
        *("--devices", str(arguments.devices)),
        *(part for setting in settings for part in ("--set", setting)),
        *("--set", f"rounds.target_accuracies=[{arguments.target}]"),
        *("--set", "deployment.export=false"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    result: Result = json.loads(done.stdout)
    phases = summarise(read_run(Path(result["run_dir"]))).phases
    uploads = next(cell.energy for cell in phases if cell.phase == "upload")
    return result | {"uploads_j": uploads.value_j}


def mean(values: Iterable[float | None]) -> float | None:
    """Of all of them; ``None`` if one is unknown."""
    found = list(values)
    known = [value for value in found if value is not None]
    return statistics.fmean(known) if known and len(known) == len(found) else None


def shown(value: float | None, digits: str = ".3g") -> str:
    """A number, or a dash."""
    return "–" if value is None else f"{value:{digits}}"


def row(name: str, results: Sequence[Result]) -> str:
    """One line of the table."""
    updates = [r["coding"]["updates"] if r["coding"] else None for r in results]

    def each(key: str, plain: float | None) -> float | None:
        found = [u[key] / u["updates"] if u else plain for u in updates]
        return mean(found)

    error = mean(u["error"] if u else 0.0 for u in updates)
    to_target = [r["targets"][0] for r in results]
    cells = [
        name,
        shown(each("coded_bytes", None), ".0f"),
        shown(each("planned_bytes", None), ".0f"),
        shown(None if error is None else 100.0 * error),
        " ".join(f"{100.0 * r['accuracy'][-1]:.1f}" for r in results),
        shown(mean(r["energy_measured_j"] for r in results), ".4g"),
        shown(mean(r["uploads_j"] for r in results)),
        shown(mean(t["energy_j"] for t in to_target), ".4g"),
        shown(mean(t["rounds"] for t in to_target)),
        shown(mean(t["duration_s"] for t in to_target), ".4g"),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--devices", type=int, default=10)
    parser.add_argument("--target", type=float, default=0.95)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=list(CODINGS), default=list(CODINGS))
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    seeds = range(1, arguments.seeds + 1)
    print(
        f"| coding | bytes an update | planned | error, % | accuracy after {arguments.rounds} "
        f"rounds, % | J, all | J, uploads | J to {arguments.target:.0%} | rounds | s |\n"
        f"|{'---|' * 10}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        for name in arguments.only:
            found = pool.map(lambda seed, of=name: dry_run(of, seed, arguments, folder), seeds)
            print(row(name, list(found)), flush=True)


if __name__ == "__main__":
    main()
