"""The paper's headline: joules that FIMI needs for the accuracy that local data alone ends with.

    python benchmarks/energy_to_target.py [--seeds 5] [--rounds 20]

Both strategies run as ``fimi dry-run`` with the default configuration, same seeds, same partitions,
same deadlines, same band; TFL has its own optimal frequency and bandwidth plan, and the learning
rate that suits it best of those tried, judged by its final accuracy over all seeds. FIMI is then
held against that TFL twice: at the default learning rate, and at its own best one.

Printed per seed: rounds and joules to the target (TFL's accuracy after its last round; TFL's own
joules are counted up to the first round in which it got there), for the whole board, as a meter at
the plug sees it, and for the paper's energy, compute and upload above idle. The ratio is FIMI over
TFL. All joules are emulated.
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

DEFAULT_RATE = Config().training.learning_rate
RATES = (0.2, 0.3, 0.4)
PAPER = 0.5


def dry_run(strategy: str, seed: int, rounds: int, rate: float, folder: str) -> dict[str, Any]:
    command = [
        str(Path(sys.executable).with_name("fimi")),
        *("dry-run", "--format", "json", "--directory", folder),
        *("--strategy", strategy, "--seed", str(seed), "--rounds", str(rounds)),
        *("--set", f"training.learning_rate={rate}", "--name", f"{strategy}-{seed}-{rate}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def reach(result: dict[str, Any], target: float) -> int | None:
    """The first round whose model reaches the target."""
    return next((n for n, a in enumerate(result["accuracy"], 1) if a >= target), None)


def joules(result: dict[str, Any], rounds: int) -> tuple[float, float]:
    """Board and dynamic energy up to a round, J."""
    return sum(result["round_energy_j"][:rounds]), sum(result["round_dynamic_j"][:rounds])


def curve(result: dict[str, Any]) -> str:
    """Accuracy against board and dynamic joules, every third round."""
    points = [
        f"{result['accuracy'][n - 1]:.1%} @ {joules(result, n)[0]:.0f}/{joules(result, n)[1]:.0f} J"
        for n in range(1, result["rounds"] + 1, 3)
    ]
    return "   ".join(points)


def compare(name: str, tfl: list[dict[str, Any]], fimi: list[dict[str, Any]]) -> None:
    print(
        f"\n{name}\nseed  target  rounds TFL  rounds FIMI  board J TFL  board J FIMI  ratio   "
        "dynamic J TFL  dynamic J FIMI  ratio"
    )
    ratios: list[tuple[float, float]] = []
    for base, filled in zip(tfl, fimi, strict=True):
        target = base["accuracy"][-1]
        n_tfl, n_fimi = reach(base, target), reach(filled, target)
        assert n_tfl is not None
        board, dynamic = joules(base, n_tfl)
        if n_fimi is None:
            ratios.append((float("inf"), float("inf")))
            print(f"{base['seed']:4}  {target:6.1%}  {n_tfl:10}  not reached")
            continue
        mine, my_dynamic = joules(filled, n_fimi)
        ratios.append((mine / board, my_dynamic / dynamic))
        print(
            f"{base['seed']:4}  {target:6.1%}  {n_tfl:10}  {n_fimi:11}  "
            f"{board:11.0f}  {mine:12.0f}  {mine / board:5.2f}   "
            f"{dynamic:13.0f}  {my_dynamic:14.0f}  {my_dynamic / dynamic:5.2f}"
        )
    for what, values in zip(("whole board", "dynamic"), zip(*ratios, strict=True), strict=True):
        print(
            f"{what}: median ratio FIMI / TFL {statistics.median(values):.2f} over {len(values)} "
            f"seeds (the paper reports savings of up to 50 %, a ratio of {PAPER})"
        )
    final = [(statistics.mean(r["accuracy"][-1] for r in runs)) for runs in (tfl, fimi)]
    print(f"mean final accuracy: TFL {final[0]:.1%}, FIMI {final[1]:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rates", type=float, nargs="+", default=list(RATES))
    asked = parser.parse_args()
    seeds = range(asked.seeds)
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[tuple[str, float], list[dict[str, Any]]] = {}
        for rate in sorted({DEFAULT_RATE, *asked.rates}):
            for strategy in ("tfl", "fimi"):
                runs[strategy, rate] = [
                    dry_run(strategy, seed, asked.rounds, rate, folder) for seed in seeds
                ]
                mean = statistics.mean(r["accuracy"][-1] for r in runs[strategy, rate])
                print(f"{strategy} at learning rate {rate}: final {mean:.1%}", flush=True)
        best = {
            strategy: max(
                asked.rates,
                key=lambda rate: statistics.mean(r["accuracy"][-1] for r in runs[strategy, rate]),
            )
            for strategy in ("tfl", "fimi")
        }
        compare("Default configuration", runs["tfl", DEFAULT_RATE], runs["fimi", DEFAULT_RATE])
        compare(
            f"TFL at its best learning rate ({best['tfl']}), FIMI at the default",
            runs["tfl", best["tfl"]],
            runs["fimi", DEFAULT_RATE],
        )
        if best["fimi"] != DEFAULT_RATE:
            compare(
                f"Each at its best learning rate (TFL {best['tfl']}, FIMI {best['fimi']})",
                runs["tfl", best["tfl"]],
                runs["fimi", best["fimi"]],
            )
        for strategy, rate in best.items():
            if rate in (min(asked.rates), max(asked.rates)) and len(asked.rates) > 1:
                print(f"note: {strategy} is best at {rate}, the edge of the rates tried")
        print("\nEnergy-to-accuracy curves, seed 0: accuracy @ board / dynamic joules (emulated)")
        print("TFL  ", curve(runs["tfl", best["tfl"]][0]))
        print("FIMI ", curve(runs["fimi", DEFAULT_RATE][0]))


if __name__ == "__main__":
    main()
