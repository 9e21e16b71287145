"""Throughput of local training against a bare PyTorch loop on the same network, data and batches.

    python benchmarks/local_training.py [--models small-cnn vgg-9 resnet-18] [--turns 5]

The bare loop is ``module.train()``, ``torch.optim.SGD``, one ``backward`` and ``step`` a batch, its
loss kept for a mean at the end of the epoch; it indexes the same float tensor in the same order.
Both train in turns, the one that begins alternating, on one thread, after one turn that is not
counted. Printed are samples a second, the median over the turns of the ratio of both, and its
range; the aim is at least 0.90. Other work on the machine moves single ratios.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import numpy as np
import torch
from torch.nn import functional

from fimi.learning.networks import models
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
from fimi.learning.training.trainer import TrainingSettings, batches, to_float

AIM = 0.90
SETUPS = {
    "small-cnn": ((1, 8, 8), 600, 20, 4),
    "vgg-9": ((3, 32, 32), 128, 32, 1),
    "resnet-18": ((3, 32, 32), 64, 32, 1),
}
"""Shape of the images, samples, batch size, epochs."""


def bare(
    module: torch.nn.Module,
    start: Parameters,
    images: np.ndarray,
    labels: np.ndarray,
    settings: TrainingSettings,
) -> float:
    """Seconds of a plain loop."""
    models.load_parameters(module, start)
    began_s = time.perf_counter()
    module.train()
    inputs, targets = torch.from_numpy(to_float(images)), torch.from_numpy(labels)
    optimiser = torch.optim.SGD(module.parameters(), lr=settings.learning_rate)
    loss_sum = 0.0
    for _, order in batches(len(labels), settings, stream=(0,)):
        indices = torch.from_numpy(order)
        optimiser.zero_grad()
        loss = functional.cross_entropy(module(inputs[indices]), targets[indices])
        loss.backward()
        optimiser.step()
        loss_sum += loss.item() * len(order)
    return time.perf_counter() - began_s


def compare(model: str, turns: int) -> float:
    """Median of bare seconds over ours."""
    shape, samples, batch_size, epochs = SETUPS[model]
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (samples, *shape), dtype=np.uint8)
    labels = random.integers(0, 10, samples)
    settings = TrainingSettings(
        model=model, epochs=epochs, batch_size=batch_size, learning_rate=0.01
    )
    trainer = TorchTrainer(model, 10, shape)
    start = initial_parameters(model, 10, shape, seed=0)
    module = models.build(model, 10, shape, seed=0)

    def ours() -> float:
        began_s = time.perf_counter()
        trainer.train(start, images, labels, settings, stream=(0,))
        return time.perf_counter() - began_s

    def theirs() -> float:
        return bare(module, start, images, labels, settings)

    pairs = []
    for turn in range(turns + 1):
        if turn % 2:
            one, other = ours(), theirs()
        else:
            other, one = theirs(), ours()
        if turn:
            pairs.append((one, other))
    ratios = sorted(other / one for one, other in pairs)
    rates = [samples * epochs / statistics.median(each) for each in zip(*pairs, strict=True)]
    ratio = statistics.median(ratios)
    print(
        f"{model}: {rates[0]:.0f} samples/s, bare loop {rates[1]:.0f}; ratio {ratio:.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f} over {turns} turns), aimed at {AIM:.2f}",
        flush=True,
    )
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(SETUPS), default=list(SETUPS))
    parser.add_argument("--turns", type=int, default=5)
    asked = parser.parse_args()
    sys.exit(min([compare(model, asked.turns) for model in asked.models]) < AIM)


if __name__ == "__main__":
    main()
