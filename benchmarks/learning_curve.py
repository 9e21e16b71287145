"""The default learning curve: test errors of the small CNN at several amounts of data, and the fit.

    python benchmarks/learning_curve.py

Trains on samples of the private part of the digits, drawn without regard to class, until about
1,000 steps are done, three draws each, and fits Δ(D) = α D^(−β) + δ0 to the errors on the test
part. Prints the ratio of each error to the configured curve's.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import curve_fit

from learning import datasets
from learning.torch_trainer import TorchTrainer, initial_parameters
from learning.training import TrainingSettings
from optim.learning_curve import LearningCurve
from testbed.sections import Config

AMOUNTS = (20, 40, 72, 120, 180, 300, 500, 718)
STEPS, DRAWS = 1000, 4


def main() -> None:
    split = datasets.split(datasets.load_digits())
    shape, classes = split.test.image_shape, split.test.classes
    trainer = TorchTrainer("small-cnn", classes, shape)
    start = initial_parameters("small-cnn", classes, shape, seed=0)
    plan = Config().plan
    configured = LearningCurve(
        alpha=plan.curve_alpha, beta=plan.curve_beta, delta0=plan.curve_delta0
    )
    errors = []
    for amount in AMOUNTS:
        settings = TrainingSettings(epochs=max(1, STEPS // (amount // 20)), learning_rate=0.05)
        found = []
        for draw in range(DRAWS):
            order = np.random.default_rng(draw).permutation(len(split.private))[:amount]
            images, labels = split.private.images[order], split.private.labels[order]
            result = trainer.train(start, images, labels, settings, stream=(draw,))
            scored = trainer.evaluate(result.parameters, split.test.images, split.test.labels)
            found.append(1 - scored.accuracy)
        errors.append(float(np.mean(found)))
        expected = float(configured.error(amount))
        print(
            f"D = {amount:3}: error {errors[-1]:.4f} ± {np.std(found):.4f}, configured curve "
            f"{expected:.4f}, ratio {errors[-1] / expected:.2f}",
            flush=True,
        )
    weight = 0.1 * np.array(errors) + 0.005
    (alpha, beta, floor), covariance = curve_fit(
        lambda d, a, b, c: a * d**-b + c,
        np.array(AMOUNTS, float),
        errors,
        p0=(3.0, 0.7, 0.02),
        sigma=weight,
        bounds=([0, 0, 0], [50, 3, 0.2]),
    )
    sd = np.sqrt(np.diag(covariance))
    print(
        f"fit: alpha {alpha:.2f} ± {sd[0]:.2f}, beta {beta:.2f} ± {sd[1]:.2f}, "
        f"delta0 {floor:.3f} ± {sd[2]:.3f}"
    )


if __name__ == "__main__":
    main()
