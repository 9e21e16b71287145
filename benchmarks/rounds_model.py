"""Rounds to an accuracy at several learning errors and local epochs, and (34) fitted to them.

    python benchmarks/rounds_model.py [--seeds 5] [--first-seed 10] [--rounds 20]
                                      [--errors 0.08 0.12] [--epochs 1 2 3 5 8]
                                      [--set KEY=VALUE]

Federations of the default configuration, trained and averaged as in ``fimi dry-run`` without its
boards: every device is filled up to the same number of samples, with images of the configured
generator, until the learning curve gives the mean error asked for. Seeds are not those of
energy_to_target.py, whose plans use what is fitted here. Accuracies are those on the images for
validation. Prints the observed rounds, those of the fit and of the default, and the root mean
square of the logarithm of observed over predicted rounds for both.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
from collections.abc import Iterator

import numpy as np
from msgspec.structs import replace

from fimi.coordinator.curves import chosen
from fimi.learning.data.dataset import Dataset, Images, Labels
from fimi.learning.training.pilot import even_level, federate, filled
from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
from fimi.optim.categories import fill
from fimi.optim.rounds_model import RoundsModel
from fimi.testbed.configuration.load import load, parse_setting
from fimi.testbed.processes.generator_node import open_configured

ACCURACIES = (0.85, 0.9, 0.93, 0.95)
Row = tuple[int, float, float, int]
"""Epochs, error, accuracy, rounds to it."""


def runs(
    seed: int, rounds: int, errors: list[float], epochs: list[int], settings: list[str]
) -> Iterator[Row]:
    """What the federations of one seed took."""
    given = dict(map(parse_setting, [*settings, f"run.seed={seed}"]))
    scenario = load(None, {key: (value, "--set") for key, value in given.items()})
    config, split = scenario.config, scenario.split
    generator = open_configured(config, split.public)
    shares = list(scenario.shares)
    plan, training = config.plan, config.training
    known = chosen(plan, scenario.subject)
    if known is None:
        sys.exit("no learning curve of this data set and network; give plan.curve")
    curve = known.curve
    trainer = TorchTrainer.of(training, split.test.classes, split.test.image_shape)
    start = initial_parameters(
        training.model, split.test.classes, split.test.image_shape, seed=seed
    )

    def stock_of(device: int, local: Dataset) -> Images:
        """As many images of each class as the smallest error asks for, sorted by class."""
        classes = np.repeat(np.arange(local.classes), most)
        seeds = np.arange(len(classes), dtype=np.uint64) + np.uint64((seed * 64 + device) << 32)
        return generator.generate(classes, seeds)

    def of(device: int, labels: Labels) -> Images:
        number = np.concatenate([np.arange(n) for n in np.bincount(labels)])
        stock = stocks[device]
        return stock[labels * most + number]

    sizes = [len(share) for share in shares]
    levels = {
        error: even_level(sizes, lambda d: curve.error(d), error, plan.synthetic_max)
        for error in errors
    }
    counts = {
        error: [
            fill(share.label_counts(), level - len(share))
            for share, level in zip(shares, levels[error], strict=True)
        ]
        for error in errors
    }
    most = max(max(row) for rows in counts.values() for row in rows)
    stocks = [stock_of(device, share) for device, share in enumerate(shares)]
    for error, passes in itertools.product(errors, epochs):
        devices = [
            filled(share, row, lambda labels, k=k: of(k, labels))
            for k, (share, row) in enumerate(zip(shares, counts[error], strict=True))
        ]
        asked = replace(training, epochs=passes)
        reached: dict[float, int] = {}
        every = itertools.repeat(devices, rounds)
        found = federate(trainer, start, every, split.validation, asked, seed=seed)
        for number, accuracy in enumerate(found, 1):
            for target in ACCURACIES:
                if accuracy >= target:
                    reached.setdefault(target, number)
            if len(reached) == len(ACCURACIES):
                break
        print(
            f"seed {seed}, error {error}, {passes} epochs: {reached}", file=sys.stderr, flush=True
        )
        for target, number in reached.items():
            yield passes, error, target, number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--errors", type=float, nargs="+", default=[0.08, 0.12])
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 2, 3, 5, 8])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    seen: dict[tuple[int, float, float], list[int]] = {}
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        for *key, number in runs(seed, asked.rounds, asked.errors, asked.epochs, asked.set):
            seen.setdefault(tuple(key), []).append(number)
    points = [(*key, n) for key, rows in seen.items() for n in rows]
    epochs_of, errors, accuracies, counts = zip(*points, strict=True)
    fitted = RoundsModel.fit(errors, accuracies, counts, epochs_of)
    default = RoundsModel()
    print("epochs  error  accuracy  rounds seen (median)         fit  default")
    for (epochs, error, accuracy), rows in sorted(seen.items()):
        listed = f"{' '.join(map(str, sorted(rows)))} ({statistics.median(rows):g})"
        print(
            f"{epochs:6}  {error:5g}  {accuracy:8.0%}  {listed:<25}  "
            f"{fitted.at(epochs).rounds(error, accuracy):5.1f}  "
            f"{default.at(epochs).rounds(error, accuracy):7.1f}"
        )
    print(
        f"\nfit: scale {fitted.scale:.3f}, sensitivity {fitted.sensitivity:.2f}, "
        f"epochs_exponent {fitted.epochs_exponent:.3f}"
    )
    for name, model in (("fit", fitted), ("default", default)):
        off = [math.log(n / model.at(k).rounds(error, a)) for k, error, a, n in points]
        rms = math.sqrt(statistics.mean(x * x for x in off))
        print(f"{name}: rms of log(seen / predicted) {rms:.2f}")


if __name__ == "__main__":
    main()
