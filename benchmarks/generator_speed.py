"""How fast the shipped digit generator draws, with ONNX Runtime and with PyTorch, and ships.

    python benchmarks/generator_speed.py [--images 1000] [--repetitions 5]

Both engines draw the same images, in turn, so that whatever else the machine does hits both alike;
the ratio of a pair is what counts, its median is printed. Seconds mean little while other programs
use the processor. Shipping: a batch of 500 images over a broker on this machine against a plain
transfer of as many random bytes, and its size as raw pixels with Zstandard and as PNG files.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import time

import numpy as np
from PIL import Image

from generator_node.card import find_for
from generator_node.gate import Gate, read_judge
from generator_node.generators import Generator
from generator_node.opening import open_generator
from learning.batches import MEDIA, encode
from learning.datasets import Dataset, Images, load_digits, split
from messaging.broker import EmbeddedBroker
from messaging.client import Peer

TARGET_RATIO = 1.4
TARGET_S_PER_1000 = 1.5
TARGET_SHIPPING = 1.1


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--images", type=int, default=1000)
    arguments.add_argument("--repetitions", type=int, default=5)
    chosen = arguments.parse_args()
    public = split(load_digits()).public
    for threads in (1, 2):
        compare(public, threads, chosen.images, chosen.repetitions)
    judge(public, chosen.images)
    ship(open_generator(public), chosen.repetitions)


def compare(public: Dataset, threads: int, images: int, repetitions: int) -> None:
    engines = {
        engine: open_generator(public, engine=engine, threads=threads)
        for engine in ("torch", "onnx")
    }
    taken: dict[str, list[float]] = {engine: [] for engine in engines}
    for generator in engines.values():
        draw(generator, 256)
    for _ in range(repetitions):
        for engine, generator in engines.items():
            taken[engine].append(draw(generator, images))
    ratios = [a / b for a, b in zip(taken["torch"], taken["onnx"], strict=True)]
    best = min(taken["onnx"]) * 1000 / images
    print(
        f"{threads} thread(s): ONNX Runtime {images / statistics.median(taken['onnx']):7.0f} "
        f"images/s, PyTorch {images / statistics.median(taken['torch']):7.0f}; ratio "
        f"{statistics.median(ratios):.2f} (target {TARGET_RATIO}); 1,000 images in {best:.2f} s at "
        f"best, target/this {TARGET_S_PER_1000 / best:.2f}; load {os.getloadavg()[0]:.1f}"
    )


def draw(generator: Generator, images: int) -> float:
    labels = np.arange(images, dtype=np.int64) % generator.classes
    started = time.perf_counter()
    generator.generate(labels, np.arange(images, dtype=np.uint64))
    return time.perf_counter() - started


def judge(public: Dataset, images: int) -> None:
    gate = Gate(read_judge(find_for(public)), public)
    labels = np.arange(images, dtype=np.int64) % public.classes
    random = np.random.default_rng(0).integers(0, 256, (images, *public.image_shape), np.uint8)
    started = time.perf_counter()
    gate.judge(random, labels)
    print(f"quality gate: {1e6 * (time.perf_counter() - started) / images:.0f} µs per image")


def ship(generator: Generator, repetitions: int) -> None:
    labels = np.sort(np.arange(500, dtype=np.int64) % generator.classes)
    images = generator.generate(labels, np.arange(500, dtype=np.uint64))
    batch = encode(images, labels)
    png = sum(len(as_png(image)) for image in images)
    print(
        f"500 images: {len(batch)} bytes as safetensors and Zstandard, {png} as PNG files; "
        f"ratio {png / len(batch):.2f}"
    )
    plain = np.random.default_rng(0).bytes(len(batch))
    taken: dict[str, list[float]] = {"batch": [], "plain": []}
    with (
        EmbeddedBroker() as broker,
        Peer(broker.address, fleet="ship", peer="generator", role="generator") as node,
        Peer(broker.address, fleet="ship", peer="device-1", role="device") as device,
    ):
        pairs = [("batch", batch), ("plain", plain)]
        for _ in range(20 * repetitions):
            pairs.reverse()
            for name, data in pairs:
                started = time.perf_counter()
                offer = node.transfers.serve(data, MEDIA)
                device.transfers.fetch(offer, 30.0)
                taken[name].append(time.perf_counter() - started)
                node.transfers.withdraw(offer.digest)
    batch_s, plain_s = (statistics.median(taken[name]) for name in ("batch", "plain"))
    print(
        f"shipped in {1000 * batch_s:.1f} ms, as many random bytes in {1000 * plain_s:.1f} ms; "
        f"ratio {batch_s / plain_s:.2f} (target at most {TARGET_SHIPPING})"
    )


def as_png(image: Images) -> bytes:
    buffer = io.BytesIO()
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
