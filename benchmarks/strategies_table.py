"""All strategies on the digits, and FIMI, TFL, GenFL and GAN on subsets of CIFAR-10 and GTSRB.

    python benchmarks/strategies_table.py [--seeds 5] [--cifar10 DIR] [--gtsrb DIR] [--out DIR]

``DIR`` is an image folder ``{train,test}/CLASS/FILE``. Everything runs as ``fimi experiment``, so
that a benchmark that was stopped goes on when it is started again with the same ``--out``; the
tables, the pages with pictures and every run are kept there.

Printed: the table of each experiment, and FIMI against TFL, each seed at the highest accuracy that
TFL itself had (median ratio of joules; the paper reports savings of up to 50 %, a ratio of 0.5),
with the final accuracies under Dirichlet 0.1 and 0.4. On the digits TFL has the learning rate that
suits it best (``benchmarks/energy_to_target.py``).

The image subsets are run at a size that two cores can do, far below the papers': images scaled to
16x16, the small CNN, a few seeds and rounds, and generators trained for minutes, whose images are
poor: the quality gate refuses many. They show that everything works on real images, not what the
methods are worth there. Learning
curve and deadline of these runs are rough guesses of ours. All joules are emulated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fimi.coordinator.strategies import STRATEGIES

PAPER = 0.5

DIGITS = """
title = "All strategies on the digits, Dirichlet 0.1"
strategies = {strategies}
seeds = {seeds}
target = "tfl-best"
[base]
data.alpha = 0.1
rounds.count = {rounds}
[overrides.tfl]
training.learning_rate = 0.3
[overrides.resources-only]
training.learning_rate = 0.3
[overrides.unplanned]
training.learning_rate = 0.3
"""

ALPHA = """
title = "FIMI against TFL on the digits, Dirichlet 0.4"
strategies = ["tfl", "fimi"]
seeds = {seeds}
target = "tfl-best"
[base]
data.alpha = 0.4
rounds.count = {rounds}
[overrides.tfl]
training.learning_rate = 0.3
"""

IMAGES = """
title = "{name} subset at 16x16, small CNN, {rounds} rounds: a reduced size, not the papers'"
strategies = ["tfl", "fimi", "genfl", "gan"]
seeds = {seeds}
target = "tfl-best"
[base.data]
dataset = "image-folder"
root = {root}
image_size = 16
split_seed = 0
alpha = 0.4
[base.training]
epochs = 2
batch_size = 32
learning_rate = 0.1
[base.rounds]
count = {rounds}
wall_timeout_s = 3600
[base.plan]
deadline_s = 120.0
synthetic_max = 100
curve_alpha = 1.7
curve_beta = 0.16
curve_delta0 = 0.0
error_max = {error_max}
[base.generator]
weights = "@diffusion"
steps = 10
redraws = 1
[overrides.gan]
generator.weights = "@gan"
[[generator]]
name = "diffusion"
kind = "diffusion"
steps = {diffusion_steps}
batch_size = 64
folder = {diffusion}
[[generator]]
name = "gan"
kind = "gan"
steps = {gan_steps}
folder = {gan}
"""


def run(out: Path, name: str, text: str, jobs: int) -> dict[str, Any]:
    """Run an experiment, print its table, and give its results."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{name}.toml"
    file.write_text(text)
    fimi = str(Path(sys.executable).with_name("fimi"))
    began_s = time.monotonic()
    command = [fimi, "experiment", str(file), "--directory", str(out), "--jobs", str(jobs)]
    done = subprocess.run(command, check=False)
    print(
        f"[{name}: {time.monotonic() - began_s:.0f} s, exit code {done.returncode}]\n", flush=True
    )
    results = out / name / "results.json"
    if not results.exists():
        sys.exit(f"{name}: no results; see what was said above")
    found: dict[str, Any] = json.loads(results.read_bytes())
    return found


def headline(results: list[tuple[str, dict[str, Any]]]) -> None:
    """FIMI against TFL at TFL's own best accuracy, next to the paper's figure."""
    print(
        "FIMI against TFL, each seed at TFL's own best accuracy; median ratio of emulated joules\n"
        f"(paper: up to 50 % saved, ratio {PAPER}) and mean final accuracies"
    )
    for where, result in results:
        ours = next(c for c in result["comparisons"] if c["strategy"] == "fimi")
        ratios = ours["ratio_to_target"]
        final = {
            s["strategy"]: s["final_accuracy"]["mean"]
            for s in result["summaries"]
            if s["strategy"] in ("tfl", "fimi")
        }
        shown = {
            name: "unknown" if mean is None else f"{mean['value']:.1%}"
            for name, mean in final.items()
        }
        print(
            f"{where}: whole board {said(ratios['board_j'])}, dynamic "
            f"{said(ratios['dynamic_j'])}; final accuracy TFL {shown['tfl']}, FIMI {shown['fimi']}"
        )


def said(sample: dict[str, Any]) -> str:
    """A median ratio, how many seeds it stands on, and whether the paper's figure is met."""
    median = sample["median"]
    if median is None:
        return "unknown"
    count = len(sample["values"])
    value = median["value"]
    if value == "never":
        return f"FIMI never got there on {sample['never']} of {count} seeds"
    agrees = "meets" if value <= PAPER else "misses"
    never = f", {sample['never']} of {count} never" if sample["never"] else ""
    return f"{value:.2f} ({agrees} {PAPER}{never})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("experiments/strategies-table"))
    parser.add_argument("--cifar10", type=Path, help="image folder with CIFAR-10 images")
    parser.add_argument("--gtsrb", type=Path, help="image folder with GTSRB images")
    parser.add_argument("--image-seeds", type=int, default=1)
    parser.add_argument("--image-rounds", type=int, default=10)
    parser.add_argument("--diffusion-steps", type=int, default=700)
    parser.add_argument("--gan-steps", type=int, default=400)
    parser.add_argument(
        "--generators", type=Path, help="folder of generators trained before, as --out keeps them"
    )
    asked = parser.parse_args()
    began_s = time.monotonic()
    digits = {"seeds": asked.seeds, "rounds": asked.rounds}
    names = json.dumps(["tfl", *(name for name in STRATEGIES if name != "tfl")])
    everything = run(asked.out, "digits", DIGITS.format(strategies=names, **digits), asked.jobs)
    even = run(asked.out, "digits-alpha-0.4", ALPHA.format(**digits), asked.jobs)
    results = [("digits, Dirichlet 0.1", everything), ("digits, Dirichlet 0.4", even)]
    # Limits that FIMI meets with about half the images it may have; GTSRB is the smaller set.
    images = (("cifar10", asked.cifar10, 0.613), ("gtsrb", asked.gtsrb, 0.643))
    for name, root, error_max in images:
        if root is None:
            print(f"{name}: left out, --{name} names no folder\n")
            continue
        weights = asked.generators or asked.out / "generators"
        text = IMAGES.format(
            name=name,
            root=json.dumps(str(root.resolve())),
            seeds=asked.image_seeds,
            rounds=asked.image_rounds,
            error_max=error_max,
            diffusion_steps=asked.diffusion_steps,
            gan_steps=asked.gan_steps,
            diffusion=json.dumps(str(weights / f"{name}-diffusion")),
            gan=json.dumps(str(weights / f"{name}-gan")),
        )
        found = run(asked.out, name, text, min(asked.jobs, 2))
        results.append((f"{name} subset at 16x16, Dirichlet 0.4", found))
    headline(results)
    print(f"in all {(time.monotonic() - began_s) / 60:.1f} min")


if __name__ == "__main__":
    main()
