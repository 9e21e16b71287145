"""A GAN's training in a process of its own, to be killed: its checkpoint.

Prints a line per step and waits for one after it, so that the test decides how far it gets.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fimi.generator_node.generators.gan import GanSettings
from fimi.generator_node.training.gan_training import TrainedGan, train_gan
from fimi.generator_node.training.loop import TrainingProgress
from fimi.learning.data.dataset import load_digits, split


def training(
    checkpoint: Path | None = None, progress: Callable[[TrainingProgress], None] | None = None
) -> TrainedGan:
    """One tiny training, to its end."""
    public = split(load_digits()).public.subset(np.arange(40), "digits/few")
    tiny = GanSettings(steps=8, batch_size=8, width=8, judge_steps=2)
    return train_gan(public, tiny, progress, checkpoint=checkpoint, every=3)


def stop_here(progress: TrainingProgress) -> None:
    print(progress.step, flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    training(Path(sys.argv[1]), stop_here)
