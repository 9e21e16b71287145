"""The built-in learning curves: measured on public images, judged by those for validation.

    python benchmarks/learning_curve.py digits small-cnn
    python benchmarks/learning_curve.py cifar-10 small-cnn --root FOLDER --size 16 --remark TEXT

Trains as ``fimi learning-curve`` does, with the settings of the configuration, eight draws of eight
amounts each, about 600 steps a training. With ``--write`` the curve takes the place of the one for
the same subject in ``optim/built_in_curves.json``. ``--root`` is a folder as the data set
image-folder reads it; the curve is kept under the name that is given first.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import msgspec
from msgspec.structs import replace

from fimi.coordinator.curves import measured, subject_of
from fimi.files import write_whole
from fimi.learning.data import registry
from fimi.learning.data.collection import DatasetOptions
from fimi.learning.training.curve_points import STEPS, amounts_of, measure
from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
from fimi.learning.training.trainer import TrainingSettings
from fimi.optim.known_curve import built_in_curves
from fimi.testbed.configuration.scenario import split_of
from fimi.testbed.configuration.sections import Config, DataConfig
from fimi.testbed.tools.learning_curve import as_text, result_of

FILE = Path(__file__).parents[1] / "optim" / "built_in_curves.json"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("network")
    parser.add_argument("--root", default="")
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--rate", type=float, default=TrainingSettings().learning_rate)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--remark", default="")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    training = TrainingSettings(model=asked.network, learning_rate=asked.rate)
    source = "image-folder" if asked.root else asked.dataset
    collection = registry.load(source, DatasetOptions(root=asked.root, image_size=asked.size))
    split = split_of(Config(data=DataConfig(dataset=source)), collection)
    public, classes, shape = split.public, split.public.classes, split.public.image_shape
    points = []
    for point in measure(
        TorchTrainer.of(training, classes, shape),
        initial_parameters(asked.network, classes, shape, seed=0),
        public,
        split.validation,
        training,
        amounts=amounts_of(public, training.batch_size, most=STEPS * training.batch_size // 5),
        draws=asked.draws,
        steps=STEPS,
        seed=0,
        clock=time.monotonic,
    ):
        points.append(point)
        print(f"D = {point.samples}: error {point.error:.4f}, {point.seconds:.1f} s", flush=True)
    subject = subject_of(asked.dataset, collection.train.digest(), public, training)
    known = replace(measured(points, subject, split, STEPS), source="built in", remark=asked.remark)
    print(as_text(result_of(points, interrupted=False)))
    print(f"{known.law}, {known.provenance}")
    if asked.write:
        others = [k for k in built_in_curves() if k.subject is None or k.subject != subject]
        body = msgspec.json.format(msgspec.json.encode([*others, known]), indent=1)
        write_whole(FILE, body + b"\n")


if __name__ == "__main__":
    main()
