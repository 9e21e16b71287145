"""What synthetic images of how many rounds are worth: rounds and joules to an accuracy by schedule.

    python benchmarks/fading.py [--seeds 5] [--first-seed 10] [--rounds 20] [--error 0.11]
                                [--full 2 3 4] [--epochs 5]

Federations of the default configuration without boards, as in rounds_model.py: every device is
filled up to the same number of samples. With the schedule m they train on all of their images in
the first m rounds and on local data alone afterwards. Accuracies are those on the images for
validation. Printed is, for each schedule and accuracy, the median of the rounds to it and of the
joules: those of a default plan's round with images, and of one without, of whole boards and above
idle, as dry runs of the digits have them (``--with-j``, ``--without-j``; emulated). The ratio is of
joules to those with images in every round.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys

import numpy as np
from msgspec.structs import replace

from fimi.coordinator.curves import chosen
from fimi.learning.data.dataset import Images, Labels
from fimi.learning.training.pilot import Held, even_level, federate, filled
from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
from fimi.optim.categories import fill
from fimi.testbed.configuration.load import load
from fimi.testbed.processes.generator_node import open_configured

ACCURACIES = (0.9, 0.93, 0.95, 0.96)


def federations(seed: int, asked: argparse.Namespace) -> dict[int, list[float]]:
    """Schedule to the accuracy after each round."""
    scenario = load(None, {"run.seed": (seed, "benchmark")})
    config, split = scenario.config, scenario.split
    generator = open_configured(config, split.public)
    known = chosen(config.plan, scenario.subject)
    assert known is not None
    curve = known.curve
    training = replace(config.training, epochs=asked.epochs)
    trainer = TorchTrainer.of(training, split.test.classes, split.test.image_shape)
    start = initial_parameters(
        training.model, split.test.classes, split.test.image_shape, seed=seed
    )
    shares = list(scenario.shares)
    levels = even_level(
        [len(s) for s in shares],
        lambda samples: float(curve.error(samples)),
        asked.error,
        config.plan.synthetic_max,
    )
    local, mixed = [], []
    for device, (share, level) in enumerate(zip(shares, levels, strict=True)):

        def make(labels: Labels, device: int = device) -> Images:
            seeds = np.arange(len(labels), dtype=np.uint64) + np.uint64((seed * 64 + device) << 32)
            return generator.generate(labels, seeds)

        counts = fill(share.label_counts(), level - len(share))
        local.append(Held(images=share.images, labels=share.labels))
        mixed.append(filled(share, counts, make))
    found = {}
    for full in (*asked.full, asked.rounds):
        by_round = [mixed] * full + [local] * (asked.rounds - full)
        judged = federate(trainer, start, by_round, split.validation, training, seed=seed)
        accuracies = list(judged)
        found[full] = accuracies
        print(
            f"seed {seed}, {full} rounds with images: {[round(a, 3) for a in accuracies]}",
            file=sys.stderr,
            flush=True,
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--error", type=float, default=0.11)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--full", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--with-j", type=float, nargs=2, default=(255.0, 55.0))
    parser.add_argument("--without-j", type=float, nargs=2, default=(220.0, 39.0))
    asked = parser.parse_args()
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    runs = [federations(seed, asked) for seed in seeds]
    print("with images  accuracy  rounds  board J  ratio  dynamic J  ratio  reached")
    for target in ACCURACIES:
        base: list[float] = []
        for full in (asked.rounds, *asked.full):
            rounds = [
                next((n for n, a in enumerate(run[full], 1) if a >= target), math.inf)
                for run in runs
            ]
            joules = [
                statistics.median(min(n, full) * much + max(n - full, 0) * less for n in rounds)
                for much, less in zip(asked.with_j, asked.without_j, strict=True)
            ]
            base = base or joules
            name = "all" if full == asked.rounds else str(full)
            ratios = [
                a / b if b < math.inf else math.nan for a, b in zip(joules, base, strict=True)
            ]
            print(
                f"{name:>11}  {target:8.0%}  {statistics.median(rounds):6g}  {joules[0]:7.0f}  "
                f"{ratios[0]:5.2f}  {joules[1]:9.0f}  {ratios[1]:5.2f}  "
                f"{sum(n < math.inf for n in rounds)} of {len(rounds)}"
            )
    best = {full: [max(run[full]) for run in runs] for full in (*asked.full, asked.rounds)}
    for full, values in best.items():
        print(f"{full} rounds with images: best accuracy {statistics.fmean(values):.3f} (mean)")


if __name__ == "__main__":
    main()
