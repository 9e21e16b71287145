"""Joules to the accuracy that local data alone ends with: FIMI against TFL and against other plans.

    python benchmarks/energy_to_target.py [--seeds 5] [--rounds 20] [--paper] [--radio paper]
                                          [--rates 0.2 0.3 0.4]

All runs are ``fimi dry-run`` with the default configuration, same seeds, partitions, band and
longest deadline. The target is the best accuracy of TFL in its rounds; the joules of every run are
counted up to the first round that reaches it, receiving the synthetic samples included; for a plan
that never does, all its joules are, marked ">": the ratio is then at most as printed. FIMI plans
for the whole board (the default), its error limit and the length of a round chosen for the target
accuracy, and is held against

(a) FIMI's plan for the paper's energy at the default error limit: ``plan.objective = "dynamic"``;
(b) FIMI's data without planned resources: ``--strategy data-only``;
(c) TFL with its own plan for the whole board, at the learning rate of those tried that suits it
    best.

With ``--paper`` all plans are for the paper's energy, compute and upload above idle, which is then
what is compared; (a) is FIMI at the default error limit. With ``--radio paper`` boards have the
paper's radio, whose power is set and which takes nothing else: there a plan for the paper's energy
fills the whole deadline. All joules are emulated.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fimi.testbed.configuration.sections import Config

DEFAULT_RATE = Config().training.learning_rate
RATES = (0.2, 0.3, 0.4)
ACCURACY = 0.95
Result = dict[str, Any]


def dry_run(name: str, seed: int, rounds: int, folder: str, *settings: str) -> Result:
    """One dry run, as the JSON that it prints."""
    command = [
        str(Path(sys.executable).with_name("fimi")),
        *("dry-run", "--format", "json", "--directory", folder, "--name", f"{name}-{seed}"),
        *("--seed", str(seed), "--rounds", str(rounds), *settings),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    result: Result = json.loads(done.stdout)
    return result


def joules(result: Result, target: float, energy: str) -> float:
    """Joules up to the first round that reaches the target; infinite if none does."""
    for number, accuracy in enumerate(result["accuracy"], 1):
        if accuracy >= target:
            return math.fsum(result[energy][:number])
    return math.inf


def rounds_to(result: Result, target: float) -> str:
    """Which round reaches the target."""
    reached = (n for n, accuracy in enumerate(result["accuracy"], 1) if accuracy >= target)
    return str(next(reached, "-"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    parser.add_argument("--paper", action="store_true", help="plans for the paper's energy")
    parser.add_argument("--radio", choices=("wifi", "paper"), default="wifi")
    asked = parser.parse_args()
    objective = "dynamic" if asked.paper else "board"
    energy = "round_dynamic_j" if asked.paper else "round_energy_j"
    plan = ("--set", f"plan.objective={objective}")
    aimed = ("--set", f"plan.target_accuracy={ACCURACY}")
    seeds = range(asked.seeds)
    with tempfile.TemporaryDirectory() as folder:

        def runs(name: str, *settings: str) -> list[Result]:
            print(f"running {name}", file=sys.stderr, flush=True)
            settings += ("--set", f"fleet.radio={asked.radio}")
            return [dry_run(name, seed, asked.rounds, folder, *settings) for seed in seeds]

        tfl = {
            rate: runs(
                f"tfl-{rate}", "--strategy", "tfl", "--set", f"training.learning_rate={rate}", *plan
            )
            for rate in sorted({DEFAULT_RATE, *asked.rates})
        }
        best_rate = max(tfl, key=lambda r: statistics.mean(max(x["accuracy"]) for x in tfl[r]))
        fimi = runs("fimi", "--strategy", "fimi", *plan, *aimed)
        others = {
            "(a) FIMI, the paper's energy, default error": runs(
                "dynamic", "--strategy", "fimi", "--set", "plan.objective=dynamic"
            ),
            "(b) data only": runs("data-only", "--strategy", "data-only", *plan),
            f"(c) TFL, learning rate {best_rate}": tfl[best_rate],
        }
    what = "compute and upload above idle" if asked.paper else "whole boards"
    print(f"Joules of {what} to TFL's best accuracy in {asked.rounds} rounds (emulated)\n")
    targets = [max(run["accuracy"]) for run in tfl[best_rate]]
    print("seed  target  FIMI: rounds   joules   " + "   ".join(others))
    ratios: dict[str, list[float]] = {name: [] for name in others}
    for row, seed in enumerate(seeds):
        mine = joules(fimi[row], targets[row], energy)
        cells = []
        for name, found in others.items():
            other = joules(found[row], targets[row], energy)
            more = ""
            if math.isinf(other):  # it would have taken more than all its rounds
                other, more = math.fsum(found[row][energy]), ">"
            ratios[name].append(mine / other)
            reached = rounds_to(found[row], targets[row])
            cells.append(f"{reached:>3} {more + f'{other:.0f}':>8} J {mine / other:5.2f}")
        print(
            f"{seed:4}  {targets[row]:6.1%}  {rounds_to(fimi[row], targets[row]):>12} {mine:8.0f}  "
            + "   ".join(cells)
        )
    print()
    for name, values in ratios.items():
        print(f"FIMI over {name}: median ratio {statistics.median(values):.2f}")
    print(
        f"mean final accuracy: FIMI {statistics.mean(r['accuracy'][-1] for r in fimi):.1%}, "
        f"TFL {statistics.mean(r['accuracy'][-1] for r in tfl[best_rate]):.1%}"
    )


if __name__ == "__main__":
    main()
