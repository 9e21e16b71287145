"""How fast and at what cost a GPU draws: images per second, joules per image, utilisation.

    python benchmarks/generator_cuda.py [--weights FOLDER] [--text FOLDER_OR_ID]

A class-conditional U-Net for 32×32 colour images (with ``--weights`` a trained one; speed does not
depend on the weights) at batches of 1 to 1,024, in half precision, 20 steps; with ``--text`` a
text-to-image pipeline. Power and utilisation are sampled through NVML by PyTorch while it draws;
utilisation is printed next to the target of 80 %. Without a CUDA device it says so.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path

import numpy as np
import torch

from fimi.generator_node.generators import diffusion
from fimi.generator_node.generators.base import Generator
from fimi.generator_node.generators.card import NO_DIGEST, Card
from fimi.generator_node.generators.diffusion import DiffusionGenerator
from fimi.generator_node.training.network import build_unet, network_for, sampling_solver
from fimi.learning.data.dataset import Dataset

TARGET_UTILISATION = 80
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Watch:
    """Samples power and utilisation in a thread; missing where NVML cannot be read."""

    def __init__(self) -> None:
        self.power_w: list[float] = []
        self.percent: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.02):
            try:
                self.power_w.append(torch.cuda.power_draw() / 1000)
                self.percent.append(torch.cuda.utilization())
            except Exception as error:  # NVML or its package is not there
                print(f"power and utilisation are missing: {error}")
                return


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--weights", type=Path, help="folder of a trained diffusion model")
    arguments.add_argument("--text", help="text-to-image model")
    chosen = arguments.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device")
        return
    print(torch.cuda.get_device_name())
    if chosen.weights:
        generator = DiffusionGenerator.load(chosen.weights, device="cuda")
    else:
        generator = untrained()
    best = 0.0
    for batch in (1, 4, 16, 64, 256, 1024):
        diffusion.CHUNK = batch
        best = max(best, measure(generator, batch, max(batch, 16)))
    ratio = best / TARGET_UTILISATION
    print(f"best utilisation {best:.0f} %, ratio to {TARGET_UTILISATION} %: {ratio:.2f}")
    if chosen.text:
        from fimi.generator_node.generators.text_to_image import TextSettings, TextToImageGenerator

        like = Dataset(
            name="cifar10",
            images=np.zeros((0, 3, 32, 32), np.uint8),
            labels=np.zeros(0, np.int64),
            class_names=NAMES,
        )
        for batch in (1, 4, 16, 64):
            settings = TextSettings(model=chosen.text, batch_size=batch)
            measure(TextToImageGenerator.load(like, settings, device="cuda"), batch, batch)


def untrained() -> DiffusionGenerator:
    unet = build_unet(network_for((3, 32, 32)), 10, (3, 32, 32), seed=0).eval()
    card = Card(
        name="untrained",
        dataset="none",
        class_names=NAMES,
        image_shape=(3, 32, 32),
        levels=(),
        data_digest=NO_DIGEST,
        weights_digest=NO_DIGEST,
        training={},
        loss=0.0,
        seconds=0.0,
        libraries={},
    )
    return DiffusionGenerator(unet, card, sampling_solver().config, device="cuda")


def measure(generator: Generator, batch: int, images: int, least_s: float = 3.0) -> float:
    """Print one line; mean utilisation in percent, 0 where it is missing."""
    labels = np.arange(images, dtype=np.int64) % generator.classes
    seeds = np.arange(images, dtype=np.uint64)
    generator.generate(labels, seeds)
    done = 0
    with Watch() as watch:
        started = time.perf_counter()
        while (taken := time.perf_counter() - started) < least_s:
            generator.generate(labels, seeds)
            done += images
    used = float(np.mean(watch.percent)) if watch.percent else 0.0
    joules = f"{np.mean(watch.power_w) * taken / done:.3f} J" if watch.power_w else "missing"
    print(
        f"{generator.name}, batch {batch:5d}: {done / taken:8.1f} images/s, {joules} per image "
        f"(measured, module), utilisation {used:.0f} %"
    )
    return used


if __name__ == "__main__":
    main()
