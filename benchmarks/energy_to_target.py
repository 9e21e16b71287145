"""Joules to the accuracy that local data alone ends with: FIMI against TFL and against other plans.

    python benchmarks/energy_to_target.py [--seeds 5] [--rounds 20] [--paper] [--radio paper]
                                          [--rates 0.2 0.3 0.4] [--jobs 1] [--epochs]

All runs are ``fimi dry-run`` with the default configuration, same seeds, partitions, band and
longest deadline. The target is the best accuracy of TFL in its rounds on the images for validation,
on which it is reached as well: the test set decides nothing. The joules of every run are counted up
to the first round that reaches it, receiving the synthetic samples included; for a plan that never
does, all its joules are, marked ">": the ratio is then at most as printed. FIMI plans
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

With ``--epochs`` two plans of FIMI for 95 % only are compared instead: local epochs chosen, and
``training.epochs`` as configured.

Rounds to the target are whole and few, so that one more or less is a third of the joules. Each
median therefore has its 95 % interval (by ranks, from 6 seeds on), and stands a second time for
joules interpolated within the round that reaches the target, as if accuracy rose linearly in it.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scipy.stats import quantile_test

from fimi.testbed.configuration.sections import Config

DEFAULT_RATE = Config().training.learning_rate
RATES = (0.2, 0.3, 0.4)
ACCURACY = 0.95
JUDGED = "validation_accuracy"
"""What targets are taken from and reached on; test accuracies are printed at the end only."""
Result = dict[str, Any]


def dry_run(name: str, seed: int, rounds: int, folder: str, settings: Sequence[str]) -> Result:
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


def round_to(result: Result, target: float) -> int | None:
    """The first round that reaches the target; none if no round does."""
    reached = (n for n, accuracy in enumerate(result[JUDGED], 1) if accuracy >= target)
    return next(reached, None)


def joules(result: Result, target: float, energy: str, *, within: bool = False) -> float:
    """Joules to the target, of whole rounds or ``within`` the last; infinite if none reaches it.

    The model that a run starts with is taken to guess: one class of ten. What was received before
    round 1 counts as a part of it.
    """
    last = round_to(result, target)
    spent: list[float] = result[energy]
    if last is None:
        return math.inf
    if not within:
        return math.fsum(spent[:last])
    accuracy: list[float] = [0.1, *result[JUDGED]]
    before, after = accuracy[last - 1], accuracy[last]
    return math.fsum(spent[: last - 1]) + spent[last - 1] * (target - before) / (after - before)


def median(values: Sequence[float]) -> str:
    """The median with its 95 % interval, where so many values have one."""
    text = f"{statistics.median(values):.2f}"
    low, high = quantile_test(values).confidence_interval()
    return text if math.isnan(low) or math.isnan(high) else f"{text} ({low:.2f} to {high:.2f})"


def compare_epochs(chosen: Sequence[Result], given: Sequence[Result], energy: str) -> None:
    """Print joules to the target of plans with chosen local epochs over those with given ones."""
    print(f"joules to {ACCURACY:.0%} on the images for validation, chosen epochs and given ones")
    ratios, within = [], []
    for mine, other in zip(chosen, given, strict=True):
        cells = []
        for run in (mine, other):
            expected = run["plan_expected"]
            cells.append(
                f"{run['plan_epochs']} epochs: {round_to(run, ACCURACY) or '-':>2} rounds "
                f"{joules(run, ACCURACY, energy):6.0f} J (expected {expected['rounds']:.1f}, "
                f"{expected['energy_j']:.0f} J)"
            )
        print(f"seed {mine['seed']}  " + "   ".join(cells), flush=True)
        ratios.append(joules(mine, ACCURACY, energy) / joules(other, ACCURACY, energy))
        parts = [joules(run, ACCURACY, energy, within=True) for run in (mine, other)]
        within.append(parts[0] / parts[1])
    print(f"median ratio {median(ratios)}, interpolated within the last round {median(within)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    parser.add_argument("--paper", action="store_true", help="plans for the paper's energy")
    parser.add_argument("--radio", choices=("wifi", "paper"), default="wifi")
    parser.add_argument("--jobs", type=int, default=1, help="dry runs at once")
    parser.add_argument("--epochs", action="store_true", help="chosen epochs against given ones")
    asked = parser.parse_args()
    objective = "dynamic" if asked.paper else "board"
    energy = "round_dynamic_j" if asked.paper else "round_energy_j"
    plan = ("--set", f"plan.objective={objective}")
    aimed = ("--set", f"plan.target_accuracy={ACCURACY}")
    seeds = range(asked.seeds)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(asked.jobs) as pool:

        def runs(name: str, *settings: str) -> list[Result]:
            print(f"running {name}", file=sys.stderr, flush=True)
            settings += ("--set", f"fleet.radio={asked.radio}")
            return list(
                pool.map(lambda seed: dry_run(name, seed, asked.rounds, folder, settings), seeds)
            )

        if asked.epochs:
            given = "plan.choose_epochs=false"
            chosen, held = (
                runs(name, *plan, *aimed, *more)
                for name, more in (("chosen", ()), ("given", ("--set", given)))
            )
            compare_epochs(chosen, held, energy)
            return
        tfl = {
            rate: runs(
                f"tfl-{rate}", "--strategy", "tfl", "--set", f"training.learning_rate={rate}", *plan
            )
            for rate in sorted({DEFAULT_RATE, *asked.rates})
        }
        best_rate = max(tfl, key=lambda r: statistics.mean(max(x[JUDGED]) for x in tfl[r]))
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
    targets = [max(run[JUDGED]) for run in tfl[best_rate]]
    print("seed  target  FIMI: rounds   joules   " + "   ".join(others))
    ratios: dict[str, list[float]] = {name: [] for name in others}
    within: dict[str, list[float]] = {name: [] for name in others}
    for row, seed in enumerate(seeds):
        target = targets[row]
        mine = joules(fimi[row], target, energy)
        my_part = joules(fimi[row], target, energy, within=True)
        cells = []
        for name, found in others.items():
            reached, all_j = round_to(found[row], target), math.fsum(found[row][energy])
            more = "" if reached else ">"  # it would have taken more than all its rounds
            other = min(joules(found[row], target, energy), all_j)
            part = min(joules(found[row], target, energy, within=True), all_j)
            ratios[name].append(mine / other)
            within[name].append(my_part / part)
            cells.append(f"{reached or '-':>3} {more + f'{other:.0f}':>8} J {mine / other:5.2f}")
        print(
            f"{seed:4}  {target:6.1%}  {round_to(fimi[row], target) or '-':>12} {mine:8.0f}  "
            + "   ".join(cells)
        )
    print()
    for name, values in ratios.items():
        print(
            f"FIMI over {name}: median ratio {median(values)}, "
            f"interpolated within the last round {median(within[name])}"
        )
    print(
        "mean final accuracy on the test set: "
        f"FIMI {statistics.mean(r['accuracy'][-1] for r in fimi):.1%}, "
        f"TFL {statistics.mean(r['accuracy'][-1] for r in tfl[best_rate]):.1%}"
    )


if __name__ == "__main__":
    main()
