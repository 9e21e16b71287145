"""The default learning curve: test errors of the small CNN at several amounts of data, and the fit.

    python benchmarks/learning_curve.py

Trains as ``fimi learning-curve`` does on samples of the private part of the digits, drawn without
regard to class, for about 1,000 steps at learning rate 0.05, four draws each, and fits
Δ(D) = α D^(−β) + δ0. Prints the ratio of each mean error to the configured curve's.
"""

from __future__ import annotations

import time

from fimi.learning.data import dataset
from fimi.learning.training.curve_points import measure
from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
from fimi.learning.training.trainer import TrainingSettings
from fimi.optim.learning_curve import LearningCurve
from fimi.testbed.configuration.sections import Config
from fimi.testbed.tools.learning_curve import as_text, result_of

AMOUNTS = (20, 40, 72, 120, 180, 300, 500, 718)
STEPS, DRAWS = 1000, 4


def main() -> None:
    split = dataset.split(dataset.load_digits())
    shape, classes = split.test.image_shape, split.test.classes
    plan = Config().plan
    configured = LearningCurve(
        alpha=plan.curve_alpha, beta=plan.curve_beta, delta0=plan.curve_delta0
    )
    points = measure(
        TorchTrainer("small-cnn", classes, shape),
        initial_parameters("small-cnn", classes, shape, seed=0),
        split.private,
        split.test,
        TrainingSettings(learning_rate=0.05),
        amounts=AMOUNTS,
        draws=DRAWS,
        steps=STEPS,
        seed=0,
        clock=time.monotonic,
    )
    result = result_of(list(points), interrupted=False)
    for row in result.rows:
        expected = float(configured.error(row.samples))
        print(
            f"D = {row.samples:3}: error {row.error:.4f}, configured curve {expected:.4f}, ratio "
            f"{row.error / expected:.2f}"
        )
    print(as_text(result))


if __name__ == "__main__":
    main()
