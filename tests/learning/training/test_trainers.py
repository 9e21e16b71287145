"""One contract for every trainer, and the two backends held against each other."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from functools import cache

import msgspec
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fimi.learning.data.changes import Augmentation
from fimi.learning.data.dataset import Images, load_digits
from fimi.learning.networks import models
from fimi.learning.onnx import export
from fimi.learning.training.onnx_trainer import OnnxTrainer
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.torch_trainer import TorchTrainer, _Drawing, initial_parameters
from fimi.learning.training.trainer import (
    EpochDone,
    Trainer,
    TrainingCancelled,
    TrainingSettings,
    batches,
)

DIGITS = load_digits()
IMAGES, LABELS = DIGITS.images[:160], DIGITS.labels[:160]
SHAPE = (1, 8, 8)


@cache
def make(backend: str, settings: TrainingSettings) -> Trainer:
    if backend == "torch":
        return TorchTrainer(settings.model, 10, SHAPE)
    return OnnxTrainer(export.export(settings, 10, SHAPE))


@cache
def start(model: str) -> Parameters:
    return initial_parameters(model, 10, SHAPE, seed=1)


def distance(one: Parameters, other: Parameters) -> float:
    """Of all parameters, relative."""
    gap = sum(float(np.sum((one[n] - other[n]) ** 2)) for n in other)
    return float(np.sqrt(gap / sum(float(np.sum(other[n] ** 2)) for n in other)))


@pytest.fixture(params=["torch", "onnx"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestContract:
    settings = TrainingSettings(epochs=3, batch_size=50, learning_rate=0.05)

    def test_it_learns_and_leaves_its_start_alone(self, backend: str) -> None:
        trainer, before = make(backend, self.settings), start("small-cnn")
        copy = {name: tensor.copy() for name, tensor in before.items()}
        settings = TrainingSettings(epochs=20, batch_size=20, learning_rate=0.1)
        result = trainer.train(before, IMAGES, LABELS, settings, stream=(0,))
        assert result.samples == 20 * 160
        last = trainer.evaluate(result.parameters, IMAGES, LABELS)
        assert last.accuracy > 0.9
        assert trainer.evaluate(before, IMAGES, LABELS).accuracy < 0.5
        assert all((before[name] == copy[name]).all() for name in copy)

    def test_same_stream_same_numbers(self, backend: str) -> None:
        trainer = make(backend, self.settings)
        results = [
            trainer.train(start("small-cnn"), IMAGES, LABELS, self.settings, stream=(seed,))
            for seed in (1, 1, 2)
        ]
        for name in start("small-cnn"):
            np.testing.assert_array_equal(results[0].parameters[name], results[1].parameters[name])
        assert distance(results[0].parameters, results[2].parameters) > 1e-6

    def test_progress_is_told_after_every_epoch(self, backend: str) -> None:
        told: list[EpochDone] = []
        result = make(backend, self.settings).train(
            start("small-cnn"), IMAGES, LABELS, self.settings, stream=(1,), progress=told.append
        )
        assert [(done.epoch, done.epochs) for done in told] == [(1, 3), (2, 3), (3, 3)]
        assert (told[-1].loss, told[-1].accuracy) == (result.loss, result.accuracy)

    def test_steps_instead_of_epochs(self, backend: str) -> None:
        told: list[EpochDone] = []
        how = TrainingSettings(steps=9, batch_size=50, learning_rate=0.05)
        result = make(backend, self.settings).train(
            start("small-cnn"), IMAGES, LABELS, how, stream=(1,), progress=told.append
        )
        assert result.samples == 450
        assert [(done.epoch, done.epochs) for done in told] == [(1, 1)]
        assert 0.0 < result.loss < 3.0

    def test_a_stated_share_of_synthetic_samples(self, backend: str) -> None:
        """Ten of class 0 are synthetic, and half of every batch: it learns to say 0."""
        zeros = np.flatnonzero(LABELS == 0)[:10]
        others = np.flatnonzero(LABELS != 0)[:100]
        order = np.concatenate([others, zeros])
        shown = {
            share: make(backend, self.settings)
            .train(
                start("small-cnn"),
                IMAGES[order],
                LABELS[order],
                TrainingSettings(steps=10, batch_size=20, learning_rate=0.1, synthetic_share=share),
                stream=(1,),
                synthetic=10,
            )
            .parameters["head.bias"][0]
            for share in (0.0, 0.5, 0.9)
        }
        assert shown[0.0] < shown[0.5] < shown[0.9]

    def test_augmented_images_are_what_it_trains_on(self, backend: str) -> None:
        """One step of gradient descent on images changed here is the same step."""
        how = TrainingSettings(steps=1, batch_size=50, learning_rate=0.1, augment=1.5)
        stream, order = (4, 1, 2), next(iter(batches(50, how, stream=(4, 1, 2))))[1]
        changed = Augmentation(IMAGES[:50], 1.5, stream=stream, real=40)(order)
        trainer = make(backend, self.settings)
        one = trainer.train(
            *(start("small-cnn"), IMAGES[:50], LABELS[:50], how), stream=stream, synthetic=10
        )
        plain = TrainingSettings(steps=1, batch_size=50, learning_rate=0.1)
        other = trainer.train(
            *(start("small-cnn"), changed, LABELS[:50][order], plain), stream=stream
        )
        not_changed = trainer.train(
            *(start("small-cnn"), IMAGES[:50], LABELS[:50], plain), stream=stream
        )
        assert one.samples == not_changed.samples == 50
        assert distance(one.parameters, other.parameters) < 1e-5
        assert distance(one.parameters, not_changed.parameters) > 1e-4

    def test_it_stops_within_a_second(self, backend: str) -> None:
        stop = threading.Event()
        asked_s: list[float] = []

        def ask() -> None:
            asked_s.append(time.monotonic())
            stop.set()

        settings = TrainingSettings(epochs=1000, batch_size=20)
        trainer = make(backend, settings)
        threading.Timer(0.3, ask).start()
        with pytest.raises(TrainingCancelled):
            trainer.train(
                start("small-cnn"), IMAGES, LABELS, settings, stream=(1,), cancelled=stop.is_set
            )
        assert time.monotonic() - asked_s[0] < 1.0

    def test_predictions_are_what_it_is_judged_by(self, backend: str) -> None:
        trainer = make(backend, self.settings)
        logits = trainer.predict(start("small-cnn"), IMAGES)
        assert (logits.shape, logits.dtype) == ((160, 10), np.float32)
        right = float((logits.argmax(1) == LABELS).mean())
        assert right == trainer.evaluate(start("small-cnn"), IMAGES, LABELS).accuracy
        np.testing.assert_allclose(
            logits, make("torch", self.settings).predict(start("small-cnn"), IMAGES), atol=1e-4
        )
        assert trainer.predict(start("small-cnn"), IMAGES[:0]).shape == (0, 10)

    def test_a_class_without_samples_has_no_accuracy(self, backend: str) -> None:
        zeros = LABELS == 0
        found = make(backend, self.settings).evaluate(
            start("small-cnn"), IMAGES[zeros], LABELS[zeros]
        )
        assert found.class_accuracy[0] == found.accuracy
        assert found.class_accuracy[1:] == (None,) * 9

    def test_images_that_are_not_bytes(self, backend: str) -> None:
        trainer, floats = make(backend, self.settings), IMAGES.astype(np.float32)
        with pytest.raises(ValueError, match="images are float32"):
            trainer.train(start("small-cnn"), floats, LABELS, self.settings, stream=(1,))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="images are float32"):
            trainer.evaluate(start("small-cnn"), floats, LABELS)  # type: ignore[arg-type]

    def test_nothing_to_train_on(self, backend: str) -> None:
        with pytest.raises(ValueError, match="0 images"):
            make(backend, self.settings).train(
                start("small-cnn"), IMAGES[:0], LABELS[:0], self.settings, stream=(1,)
            )


VARIANTS = {
    "steps": TrainingSettings(steps=7, batch_size=32, learning_rate=0.05),
    "sgd": TrainingSettings(),
    "momentum": TrainingSettings(momentum=0.9, weight_decay=1e-3, learning_rate=0.05),
    "adam": TrainingSettings(optimiser="adam", learning_rate=1e-3, weight_decay=1e-3),
    "smoothing": TrainingSettings(label_smoothing=0.1),
    "fedprox": TrainingSettings(proximal=0.1, momentum=0.5, learning_rate=0.05),
    "clipping": TrainingSettings(clip_norm=0.3),
    "micro-batches": TrainingSettings(
        micro_batch=7, momentum=0.9, clip_norm=1.0, learning_rate=0.05
    ),
    "vgg-9": TrainingSettings(model="vgg-9", learning_rate=0.05),
    "resnet-18": TrainingSettings(model="resnet-18", learning_rate=1e-3),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_both_backends_give_the_same(name: str) -> None:
    large = VARIANTS[name].model == "resnet-18"
    settings = msgspec.structs.replace(VARIANTS[name], epochs=1 if large else 10, batch_size=32)
    results = {}
    for backend in ("torch", "onnx"):
        trainer = make(backend, settings)
        trained = trainer.train(start(settings.model), IMAGES, LABELS, settings, stream=(1,))
        results[backend] = trained, trainer.evaluate(trained.parameters, IMAGES, LABELS)
    (torch_result, torch_found), (onnx_result, onnx_found) = results["torch"], results["onnx"]
    assert distance(onnx_result.parameters, torch_result.parameters) < 1e-4
    assert onnx_result.loss == pytest.approx(torch_result.loss, rel=1e-4)
    assert onnx_found.class_accuracy == torch_found.class_accuracy
    assert onnx_found.loss == pytest.approx(torch_found.loss, rel=1e-4)


def test_micro_batches_change_nothing() -> None:
    whole = TrainingSettings(epochs=3, batch_size=32, momentum=0.9, learning_rate=0.05)
    parts = TrainingSettings(
        epochs=3, batch_size=32, momentum=0.9, learning_rate=0.05, micro_batch=5
    )
    one, other = (
        make("onnx", s).train(start("small-cnn"), IMAGES, LABELS, s, stream=(1,))
        for s in (whole, parts)
    )
    assert distance(other.parameters, one.parameters) < 1e-6


def test_settings_that_the_graphs_were_not_made_for() -> None:
    trainer = make("onnx", TrainingSettings())
    other = TrainingSettings(momentum=0.9)
    with pytest.raises(ValueError, match="graphs were made for"):
        trainer.train(start("small-cnn"), IMAGES, LABELS, other, stream=(1,))


def test_images_of_another_shape() -> None:
    trainer = make("onnx", TrainingSettings())
    other: Images = np.zeros((4, 1, 9, 9), np.uint8)
    with pytest.raises(ValueError, match="images of shape"):
        trainer.train(start("small-cnn"), other, LABELS[:4], TrainingSettings(), stream=(1,))


OWN = "fimi.learning.networks.models:own"


def drowsy(classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.Dropout2d(0.2), nn.ReLU(), nn.Flatten()),
        *(nn.Dropout(0.5), nn.Linear(144, classes)),
    )


class Lazy(nn.Module):
    """Has a layer that it never asks."""

    def __init__(self, classes: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(64, classes), nn.Linear(3, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.used(images.flatten(1))
        return answer


@pytest.fixture
def dropping(monkeypatch: pytest.MonkeyPatch) -> TrainingSettings:
    monkeypatch.setattr(models, "own", drowsy, raising=False)
    return TrainingSettings(model=OWN, epochs=2, batch_size=20)


def test_what_a_network_draws_comes_from_the_stream(
    backend: str, dropping: TrainingSettings
) -> None:
    trainer, before = make(backend, dropping), initial_parameters(OWN, 10, SHAPE, seed=1)
    state = torch.random.get_rng_state()
    results = [
        trainer.train(before, IMAGES, LABELS, dropping, stream=(number,)).parameters
        for number in (1, 1, 2)
    ]
    assert distance(results[0], results[1]) == 0
    assert distance(results[0], results[2]) > 1e-6
    assert torch.equal(torch.random.get_rng_state(), state)
    logits = [trainer.predict(results[0], IMAGES) for _ in range(2)]
    assert (logits[0] == logits[1]).all()


@pytest.mark.parametrize("micro_batch", [0, 7])
def test_both_backends_drop_the_same(dropping: TrainingSettings, micro_batch: int) -> None:
    """In whole batches or not: the numbers of a sample are its own."""
    before = initial_parameters(OWN, 10, SHAPE, seed=1)
    whole = make("torch", dropping).train(before, IMAGES, LABELS, dropping, stream=(4,)).parameters
    parts = msgspec.structs.replace(dropping, micro_batch=micro_batch)
    for backend in ("torch", "onnx"):
        result = make(backend, parts).train(before, IMAGES, LABELS, parts, stream=(4,))
        assert distance(result.parameters, whole) < 1e-5


def test_dropout_as_cuda_has_it(dropping: TrainingSettings) -> None:
    """PyTorch calls another operator there; it drops the same, forward and backward."""
    ones, results = torch.ones(6, 5, requires_grad=True), []
    for drop in (functional.dropout, lambda x, rate: torch.native_dropout(x, rate, True)[0]):
        with _Drawing((0,)).forward():
            dropped = drop(ones, 0.4)
        (slope,) = torch.autograd.grad(dropped.sum(), ones)
        results += [dropped.detach(), slope]
    assert 0 < int((results[0] == 0).sum()) < 30
    for other in results[1:]:
        torch.testing.assert_close(results[0], other)


def test_dropout_loads_no_compiler() -> None:
    """150 MB and two seconds that a device would spend on being told to leave it alone."""
    code = (
        "import sys, torch\n"
        "from torch.nn import functional\n"
        "from fimi.learning.training.torch_trainer import _Drawing\n"
        "with _Drawing((0,)).forward():\n"
        "    functional.dropout(torch.ones(3), 0.5)\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_layer_that_is_never_asked_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "own", Lazy, raising=False)
    settings = TrainingSettings(model=OWN, epochs=1, batch_size=20)
    trainer, before = TorchTrainer(OWN, 10, SHAPE), initial_parameters(OWN, 10, SHAPE, seed=1)
    after = trainer.train(before, IMAGES, LABELS, settings, stream=(0,)).parameters
    assert (after["unused.weight"] == before["unused.weight"]).all()
    assert (after["used.weight"] != before["used.weight"]).any()


def test_micro_batches_and_batch_norm() -> None:
    settings = TrainingSettings(model="resnet-18-batchnorm", micro_batch=4)
    trainer = TorchTrainer(settings.model, 10, SHAPE)
    with pytest.raises(models.ModelError, match="set it to 0"):
        trainer.train(start(settings.model), IMAGES, LABELS, settings, stream=(0,))
