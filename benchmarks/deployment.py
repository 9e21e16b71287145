"""What 8 bits cost and save: accuracy, size and latency of exported networks, fp32 against int8.

    python benchmarks/deployment.py [--models small-cnn,vgg-9,resnet-18] [--steps 400]
        [--images FOLDER] [--adam RATE] [--seed 0]

Every network is trained for a while by PyTorch, exported as a run exports it, and run by ONNX
Runtime on images kept apart. Milliseconds are processor time of one image at a time on one thread,
so that other work on the machine matters little; the two files take turns, and the ratio is the
median over the turns, fp32's time over int8's, above 1 where int8 is faster. ``PyTorch`` is the
accuracy of the network that was exported. Images are the bundled digits, enlarged to 32×32 for the
larger networks, or those below FOLDER/train and FOLDER/test.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from fimi.learning.data import dataset, registry
from fimi.learning.data.dataset import Dataset
from fimi.learning.data.images import resize
from fimi.learning.training.classifier import Classifier
from fimi.learning.training.deployment import Deployer
from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
from fimi.learning.training.trainer import TrainingSettings

TURNS = 15
SECONDS = 0.2
"""Of one turn, at least."""
RATES = {"small-cnn": 0.1, "vgg-9": 0.03, "resnet-18": 0.03, "resnet-18-batchnorm": 0.03}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default="small-cnn,vgg-9,resnet-18")
    parser.add_argument("--steps", type=int, default=400, help="of 32 images each")
    parser.add_argument("--images", type=Path, help="folder {train,test}/CLASS/FILE")
    parser.add_argument("--adam", type=float, metavar="RATE", help="instead of SGD")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(
        f"{'network':<20} {'file':<5} {'size kB':>9} {'PyTorch':>8} {'accuracy':>9} "
        f"{'agrees':>7} {'ms':>8} {'ratio':>6}"
    )
    for model in given.models.split(","):
        train, test = images(model, given.images, given.seed)
        report(model, train, test, training(model, given.steps, given.adam), given.seed)


def images(model: str, folder: Path | None, seed: int) -> tuple[Dataset, Dataset]:
    if folder is not None:
        options = registry.DatasetOptions(root=str(folder))
        collection = registry.load("image-folder", options)
        assert collection.test is not None, "FOLDER/test is missing"
        return collection.train, collection.test
    digits = dataset.load_digits()
    if model != "small-cnn":
        digits = Dataset(
            name="digits",
            images=resize(digits.images, 32),
            labels=digits.labels,
            class_names=digits.class_names,
        )
    parts = dataset.split(  # all but one of the public images to train on
        digits, kind="random", public_fraction=0.75, validation_fraction=1e-3, seed=seed
    )
    return parts.public, parts.test


def training(model: str, steps: int, adam: float | None) -> TrainingSettings:
    rate, optimiser = (RATES[model], "sgd") if adam is None else (adam, "adam")
    return TrainingSettings(
        model=model,
        steps=steps,
        batch_size=32,
        optimiser=optimiser,
        learning_rate=rate,
        momentum=0.5 if optimiser == "sgd" else 0.0,
    )


def report(model: str, train: Dataset, test: Dataset, how: TrainingSettings, seed: int) -> None:
    trainer = TorchTrainer(model, train.classes, train.image_shape)
    start = initial_parameters(model, train.classes, train.image_shape, seed=seed)
    trained = trainer.train(start, train.images, train.labels, how, stream=(seed,)).parameters
    accuracy = trainer.evaluate(trained, test.images, test.labels).accuracy
    files = Deployer(model, trainer, test).export(trained)
    runs = [Classifier(file.model, test.classes, test.image_shape) for file in files]
    turns = [[latency_s(run, test) for run in runs] for _ in range(TURNS)]
    ratio = statistics.median(turn[0] / turn[1] for turn in turns)
    for place, file in enumerate(files):
        check = file.check
        middle_ms = 1e3 * statistics.median(turn[place] for turn in turns)
        print(
            f"{model:<20} {check.variant:<5} {check.size_bytes / 1e3:>9.0f} {accuracy:>8.1%} "
            f"{check.accuracy:>9.1%} {check.agreement:>7.1%} {middle_ms:>8.3f} "
            f"{f'{ratio:.2f}' if place else '':>6}",
            flush=True,
        )


def latency_s(run: Classifier, test: Dataset) -> float:
    """Mean processor time of an image over a turn, s; the calling thread does all the work."""
    order = np.random.default_rng(0).integers(0, len(test), 4096)
    began_s, done = time.thread_time(), 0
    while time.thread_time() - began_s < SECONDS:
        at = int(order[done % len(order)])
        run.logits(test.images[at : at + 1])
        done += 1
    return (time.thread_time() - began_s) / done


if __name__ == "__main__":
    main()
