"""How fast the shipped digit generator draws, with ONNX Runtime and with PyTorch, and ships.

    python benchmarks/generator_speed.py [--images 1000] [--repetitions 5] [--only ship]

Both engines draw the same images, in turn, so that whatever else the machine does hits both alike;
the ratio of a pair is what counts, its median is printed, by the clock and of processor time.
Seconds mean little while other programs use the processor.

Shipping: 500 drawn digits, and 500 crops of photographs (scikit-learn's sample images). Their size
as packed, against raw pixels with Zstandard and one PNG file. Their time from the arrays of the
node to those of the device (packing, offer, transfer over a broker on this machine, unpacking),
against a plain transfer of as many random bytes; without a limit of rate, where a transfer
costs no more than the two programs' time, and at the rates of radios.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import time

import numpy as np
import zstandard
from PIL import Image
from sklearn.datasets import load_sample_image

from fimi.generator_node.generators.base import Generator
from fimi.generator_node.generators.card import find_for
from fimi.generator_node.generators.open import open_generator
from fimi.generator_node.service.gate import Gate, read_judge
from fimi.learning.data.batches import MEDIA, decode, encode
from fimi.learning.data.dataset import Dataset, Images, Labels, load_digits, split
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer

TARGET_RATIO = 1.4
TARGET_S_PER_1000 = 1.5
TARGET_SHIPPING = 1.1
SHIPPED = 500
RATES_BPS = (None, 100e6, 20e6, 5e6)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--images", type=int, default=1000)
    arguments.add_argument("--repetitions", type=int, default=5)
    arguments.add_argument("--only", choices=["draw", "ship"])
    chosen = arguments.parse_args()
    public = split(load_digits()).public
    if chosen.only != "ship":
        for threads in (1, 2):
            compare(public, threads, chosen.images, chosen.repetitions)
        judge(public, chosen.images)
    if chosen.only != "draw":
        ship(open_generator(public), chosen.repetitions)


def compare(public: Dataset, threads: int, images: int, repetitions: int) -> None:
    engines = {
        engine: open_generator(public, engine=engine, threads=threads)
        for engine in ("torch", "onnx")
    }
    taken: dict[str, list[tuple[float, float]]] = {engine: [] for engine in engines}
    for generator in engines.values():
        draw(generator, 256)
    for _ in range(repetitions):
        for engine, generator in engines.items():
            taken[engine].append(draw(generator, images))
    pairs = list(zip(taken["torch"], taken["onnx"], strict=True))
    ratio, processor = (statistics.median(a[i] / b[i] for a, b in pairs) for i in (0, 1))
    torch_s, onnx_s = (statistics.median(wall for wall, _ in taken[e]) for e in engines)
    best = min(wall for wall, _ in taken["onnx"]) * 1000 / images
    print(
        f"{threads} thread(s): ONNX Runtime {images / onnx_s:.0f} images/s, PyTorch "
        f"{images / torch_s:.0f}; ratio {ratio:.2f}, of processor time {processor:.2f} (target "
        f"{TARGET_RATIO}); 1,000 images in {best:.2f} s at best, target/this "
        f"{TARGET_S_PER_1000 / best:.2f}; load {os.getloadavg()[0]:.1f}"
    )


def draw(generator: Generator, images: int) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    labels = np.arange(images, dtype=np.int64) % generator.classes
    started, used = time.perf_counter(), time.process_time()
    generator.generate(labels, np.arange(images, dtype=np.uint64))
    return time.perf_counter() - started, time.process_time() - used


def judge(public: Dataset, images: int) -> None:
    gate = Gate(read_judge(find_for(public)), public)
    labels = np.arange(images, dtype=np.int64) % public.classes
    random = np.random.default_rng(0).integers(0, 256, (images, *public.image_shape), np.uint8)
    started = time.perf_counter()
    gate.judge(random, labels)
    print(f"quality gate: {1e6 * (time.perf_counter() - started) / images:.0f} µs per image")


def ship(generator: Generator, repetitions: int) -> None:
    labels = np.sort(np.arange(SHIPPED, dtype=np.int64) % generator.classes)
    digits = generator.generate(labels, np.arange(SHIPPED, dtype=np.uint64))
    with (
        EmbeddedBroker() as broker,
        Peer(broker.address, fleet="ship", peer="generator", role="generator") as node,
        Peer(broker.address, fleet="ship", peer="device-1", role="device") as device,
    ):
        for name, images in (("digits", digits), ("photographs", crops(SHIPPED))):
            sizes(name, images, labels)
            for rate_bps in RATES_BPS:
                node.set_pacing(rate_bps)
                ratio(node, device, images, labels, rate_bps, repetitions)


def sizes(name: str, images: Images, labels: Labels) -> None:
    packed = len(encode(images, labels))
    raw = len(zstandard.ZstdCompressor(level=3).compress(images.tobytes()))
    png = len(as_png(images))
    print(
        f"{SHIPPED} {name}: {packed} bytes of {images.nbytes}; raw with Zstandard {raw}, as one "
        f"PNG file {png}; the smaller of these/this {min(raw, png) / packed:.2f}"
    )


def ratio(
    node: Peer,
    device: Peer,
    images: Images,
    labels: Labels,
    rate_bps: float | None,
    repetitions: int,
) -> None:
    size = len(encode(images, labels))

    def batch() -> None:
        offer = node.transfers.serve(encode(images, labels), MEDIA)
        decode(device.transfers.fetch(offer, 60.0), classes=10)
        node.transfers.withdraw(offer.digest)

    def plain() -> None:
        offer = node.transfers.serve(random, MEDIA)
        device.transfers.fetch(offer, 60.0)
        node.transfers.withdraw(offer.digest)

    taken: dict[str, list[float]] = {"batch": [], "plain": []}
    turns = 20 * repetitions if rate_bps is None else 2 * repetitions
    for turn in range(turns + 1):
        random = np.random.default_rng(turn).bytes(size)
        for name, way in (("batch", batch), ("plain", plain))[:: 1 if turn % 2 else -1]:
            started = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - started)
    batch_s, plain_s = (statistics.median(times[1:]) for times in taken.values())
    print(
        f"  {'no limit' if rate_bps is None else f'{rate_bps / 1e6:g} Mbit/s'}: "
        f"{1000 * batch_s:.2f} ms, as many random bytes {1000 * plain_s:.2f} ms; ratio "
        f"{batch_s / plain_s:.2f} (target at most {TARGET_SHIPPING}); load {os.getloadavg()[0]:.1f}"
    )


def crops(count: int) -> Images:
    """Squares of scikit-learn's two photographs, scaled to 32×32."""
    random = np.random.default_rng(0)
    photos = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    found = []
    for index in range(count):
        photo = photos[index % 2]
        side = int(random.integers(32, 200))
        x, y = (int(random.integers(0, length - side)) for length in photo.size)
        found.append(np.asarray(photo.resize((32, 32), box=(x, y, x + side, y + side))))
    return np.ascontiguousarray(np.stack(found).transpose(0, 3, 1, 2))


def as_png(images: Images) -> bytes:
    buffer = io.BytesIO()
    tall = np.concatenate(list(images.transpose(0, 2, 3, 1)))
    Image.fromarray(tall.squeeze()).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
