"""A training that leaves the numbers ends at once, with a typed error; nothing is then hidden."""

from __future__ import annotations

import dataclasses
import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fimi.errors import RunFailedError
from fimi.learning.data.dataset import load_digits
from fimi.learning.networks import models
from fimi.learning.onnx import export
from fimi.learning.training.onnx_trainer import OnnxTrainer
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
from fimi.learning.training.trainer import (
    EpochDone,
    Tally,
    Trainer,
    TrainingDivergedError,
    TrainingSettings,
    batches,
    judge,
)

DIGITS = load_digits()
IMAGES, LABELS = DIGITS.images[:300], DIGITS.labels[:300]
SHAPE = (1, 8, 8)
OWN = "fimi.learning.networks.models:own"


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + torch.relu(self.convolution(images))


def residual(classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """Without normalisation: at learning rate 0.2 its loss overflows within the first epoch."""
    channels, height, width = image_shape
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        *(Block() for _ in range(4)),
        nn.Flatten(),
        nn.Linear(16 * height * width, classes),
    )


@dataclasses.dataclass
class Case:
    trainer: Trainer
    start: Parameters


@pytest.fixture(params=["torch", "onnx"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@cache
def case(backend: str, settings: TrainingSettings) -> Case:
    trainer = (
        TorchTrainer(settings.model, 10, SHAPE)
        if backend == "torch"
        else OnnxTrainer(export.export(settings, 10, SHAPE))
    )
    return Case(trainer, initial_parameters(settings.model, 10, SHAPE, seed=0))


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "own", residual, raising=False)


@pytest.mark.parametrize("micro_batch", [0, 8])
def test_it_ends_in_the_step_in_which_the_loss_is_no_number(backend: str, micro_batch: int) -> None:
    settings = TrainingSettings(model=OWN, epochs=500, micro_batch=micro_batch)
    told: list[EpochDone] = []
    one = case(backend, settings)
    with pytest.raises(
        TrainingDivergedError, match=r"diverged: loss not finite in epoch 1, step "
    ) as caught:
        one.trainer.train(one.start, IMAGES, LABELS, settings, stream=(0,), progress=told.append)
    error = caught.value
    assert told == []
    assert error.epoch == 1
    full = settings.batch_size * error.step
    assert full - settings.batch_size < error.samples <= full  # a micro-batch may be the first
    assert f"in epoch 1, step {error.step}, at training.learning_rate 0.2; lower it" in str(error)
    assert isinstance(error, RunFailedError)
    assert isinstance(error, RuntimeError)  # what an agent reports and survives


def test_the_step_is_that_of_plain_pytorch() -> None:
    """The same steps with torch.optim: the first loss that is not finite."""
    settings = TrainingSettings(model=OWN)
    module = models.build(OWN, 10, SHAPE, seed=0)
    optimiser = torch.optim.SGD(module.parameters(), lr=settings.learning_rate)
    inputs, targets = torch.from_numpy(IMAGES / np.float32(255)), torch.from_numpy(LABELS)
    wanted = 0
    for _, order in batches(len(LABELS), settings, stream=(0,)):
        wanted += 1
        loss = nn.functional.cross_entropy(module(inputs[order]), targets[order])
        if not math.isfinite(loss.item()):
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    one = case("torch", settings)
    with pytest.raises(TrainingDivergedError) as caught:
        one.trainer.train(one.start, IMAGES, LABELS, settings, stream=(0,))
    assert caught.value.step == wanted


def test_the_last_step_may_be_the_one_too_far(backend: str) -> None:
    """Every loss is finite, and the model that comes of the last is not."""
    settings = TrainingSettings(model="small-cnn", steps=1, learning_rate=10, weight_decay=1)
    one = case(backend, settings)
    start = {name: tensor.copy() for name, tensor in one.start.items()}
    start["head.bias"][:] = -3.2e38  # nine times that, after a step
    with pytest.raises(
        TrainingDivergedError, match=r"parameter 'head\.bias' not finite in epoch 1, "
    ):
        one.trainer.train(start, IMAGES, LABELS, settings, stream=(0,))


def test_a_start_that_is_no_number(backend: str) -> None:
    settings = TrainingSettings()
    one = case(backend, settings)
    start = dict(one.start)
    start["head.weight"] = np.full_like(start["head.weight"], np.inf)
    with pytest.raises(TrainingDivergedError, match="epoch 1, step 1"):
        one.trainer.train(start, IMAGES, LABELS, settings, stream=(0,))


@given(
    st.integers(1, 50), st.integers(1, 12), st.integers(1, 4), st.integers(0, 400),
    st.sampled_from([math.nan, math.inf, -math.inf]),
)  # fmt: skip
def test_epoch_step_and_samples_of_the_error(
    samples: int, size: int, epochs: int, at: int, loss: float
) -> None:
    """Counted anew from the batches as they are drawn."""
    settings = TrainingSettings(epochs=epochs, batch_size=size)
    drawn = list(batches(samples, settings, stream=(0,)))
    at %= len(drawn)
    tally = Tally(settings, samples, None)
    with pytest.raises(TrainingDivergedError) as caught:
        for number, (_, order) in enumerate(tally.counted(iter(drawn))):
            tally.add(len(order), loss if number == at else 1.0, 0)
    epoch = drawn[at][0]
    first = next(i for i, (e, _) in enumerate(drawn) if e == epoch)
    assert caught.value.epoch == epoch + 1
    assert caught.value.step == at - first + 1
    assert caught.value.samples == sum(len(order) for _, order in drawn[: at + 1])


class TestEvaluation:
    def test_a_model_that_is_no_number_has_no_loss_and_no_right_answer(self, backend: str) -> None:
        one = case(backend, TrainingSettings())
        broken = {name: np.full_like(tensor, np.nan) for name, tensor in one.start.items()}
        found = one.trainer.evaluate(broken, IMAGES, LABELS)
        assert found.loss is None
        assert found.accuracy == 0.0
        assert set(found.class_accuracy) == {0.0}

    def test_infinite_logits_still_answer(self) -> None:
        logits = np.array([[np.inf, 0, 0], [0, 1, 0], [0, np.nan, 3]], np.float32)
        found = judge(logits, np.array([0, 1, 2]), 3)
        assert found.loss is None
        assert found.class_accuracy == (1.0, 1.0, 0.0)

    def test_finite_ones_are_as_they_were(self) -> None:
        logits = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32) * 50
        labels = np.arange(40) % 3
        wanted = nn.functional.cross_entropy(
            torch.from_numpy(logits).double(), torch.from_numpy(labels)
        )
        found = judge(logits, labels, 3)
        assert found.loss == pytest.approx(float(wanted), rel=1e-12)
        assert found.accuracy == float((logits.argmax(1) == labels).mean())
