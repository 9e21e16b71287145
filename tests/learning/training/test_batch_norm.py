"""No batch of one sample where batch normalisation takes its statistics from the batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from fimi.learning.data.dataset import load_digits
from fimi.learning.networks import models
from fimi.learning.networks.models import ModelError, batch_min
from fimi.learning.onnx import export
from fimi.learning.onnx.graphs import decode, encode
from fimi.learning.training.onnx_trainer import OnnxTrainer
from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
from fimi.learning.training.trainer import Trainer, TrainingSettings, batches

DIGITS = load_digits()
SHAPE = (1, 8, 8)
OWN = "fimi.learning.networks.models:own"


class Functional(nn.Module):
    """Calls batch normalisation as a function: there is no layer of that name."""

    def __init__(self, by: Callable[..., Tensor] = functional.batch_norm) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(64, 8), nn.Linear(8, 10)
        self.by = by

    def forward(self, images: Tensor) -> Tensor:
        features = self.hidden(images.flatten(1))
        if self.by is functional.batch_norm:
            features = self.by(features, None, None, training=True)
        else:
            features = self.by(features, None, None, None, None, True, 0.1, 1e-5, False)
        logits: Tensor = self.head(torch.relu(features))
        return logits


class Frozen(nn.BatchNorm2d):
    """Keeps its statistics, as pretrained networks often do."""

    def train(self, mode: bool = True) -> Frozen:
        super().train(False)
        return self


def flat(classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """Batch normalisation of single numbers: a batch of one has no variance at all."""
    pixels = image_shape[0] * image_shape[1] * image_shape[2]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(pixels, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, classes)
    )


def headed(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 8, 3), *layers, nn.Flatten(), nn.Linear(8 * 36, 10))


NETWORKS = {
    "no norm": (headed(), 1),
    "group": (headed(nn.GroupNorm(2, 8)), 1),
    "instance": (headed(nn.InstanceNorm2d(8, affine=True)), 1),
    "layer": (headed(nn.LayerNorm([8, 6, 6])), 1),
    "frozen": (headed(Frozen(8)), 1),
    "batch": (headed(nn.BatchNorm2d(8)), 2),
    "without running statistics": (headed(nn.BatchNorm2d(8, track_running_stats=False)), 2),
    "synchronised": (headed(nn.SyncBatchNorm(8)), 2),
    "function": (Functional(), 2),
    "function of torch": (Functional(torch.batch_norm), 2),
    "resnet-18": (models.build("resnet-18", 10, SHAPE, seed=0), 1),
    "resnet-18-batchnorm": (models.build("resnet-18-batchnorm", 10, SHAPE, seed=0), 2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_which_networks_need_two(name: str) -> None:
    network, wanted = NETWORKS[name]
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    state = torch.random.get_rng_state()
    assert batch_min(network, SHAPE) == wanted
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


@given(
    samples=st.integers(2, 90),
    size=st.integers(2, 70),
    epochs=st.integers(1, 3),
    steps=st.integers(0, 4),
    synthetic=st.integers(0, 40),
    share=st.sampled_from([0.0, 0.3, 0.9]),
)
def test_batches_of_at_least_two(
    samples: int, size: int, epochs: int, steps: int, synthetic: int, share: float
) -> None:
    """One is joined to the batch before it; all else stays, and everything is counted."""
    settings = TrainingSettings(epochs=epochs, batch_size=size, steps=steps, synthetic_share=share)
    many = min(synthetic, samples - 1)
    plain, joined = (
        [
            (epoch, order.tolist())
            for epoch, order in batches(samples, settings, stream=(4,), synthetic=many, least=least)
        ]
        for least in (1, 2)
    )
    assert min(len(order) for _, order in joined) >= 2
    assert max(len(order) for _, order in joined) <= size + 1
    assert sum(len(order) for _, order in joined) == settings.processed(samples)
    if share and many:
        return  # the kinds are dealt anew to batches of other sizes
    wanted: list[tuple[int, list[int]]] = []
    for epoch, order in plain:
        if len(order) == 1:
            wanted[-1] = epoch, wanted[-1][1] + order
        else:
            wanted.append((epoch, order))
    assert joined == wanted


@cache
def trainer(backend: str, settings: TrainingSettings) -> Trainer:
    if backend == "torch":
        return TorchTrainer(settings.model, 10, SHAPE)
    return OnnxTrainer(decode(encode(export.export(settings, 10, SHAPE))))


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_a_last_batch_of_one(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """41 samples in batches of 20: with the one sample alone the update would be no number."""
    monkeypatch.setattr(models, "own", flat, raising=False)
    settings = TrainingSettings(model=OWN, epochs=2, batch_size=20, learning_rate=0.05)
    start = initial_parameters(OWN, 10, SHAPE, seed=0)
    one = trainer(backend, settings)
    result = one.train(start, DIGITS.images[:41], DIGITS.labels[:41], settings, stream=(0,))
    assert result.samples == settings.processed(41) == 82
    module = models.build(OWN, 10, SHAPE, seed=0)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05)
    inputs, targets = (
        torch.from_numpy(DIGITS.images[:41] / np.float32(255)),
        torch.from_numpy(DIGITS.labels[:41]),
    )
    generator = np.random.default_rng((0,))
    for _ in range(2):
        order = generator.permutation(41)
        for part in (order[:20], order[20:]):
            optimiser.zero_grad()
            functional.cross_entropy(module(inputs[part]), targets[part]).backward()
            optimiser.step()
    for name, tensor in models.parameters_of(module).items():
        np.testing.assert_allclose(result.parameters[name], tensor, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_a_single_sample_is_refused_with_the_cause(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "own", flat, raising=False)
    settings = TrainingSettings(model=OWN, epochs=2, batch_size=20, learning_rate=0.05)
    with pytest.raises(
        ValueError, match=r"1 samples .* batch normalisation .* needs 2 .*min_samples"
    ):
        trainer(backend, settings).train(
            initial_parameters(OWN, 10, SHAPE, seed=0),
            DIGITS.images[:1],
            DIGITS.labels[:1],
            settings,
            stream=(0,),
        )


@pytest.mark.parametrize("how", [{"batch_size": 1}, {"micro_batch": 4}])
@pytest.mark.parametrize("by", ["layer", "layer without running statistics", "function"])
def test_sizes_that_cannot_be_trained_with(
    how: dict[str, int], by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = {
        "layer": flat,
        "layer without running statistics": lambda *_: headed(
            nn.BatchNorm2d(8, track_running_stats=False)
        ),
        "function": lambda *_: Functional(),
    }
    monkeypatch.setattr(models, "own", networks[by], raising=False)
    settings = TrainingSettings(model=OWN, **how)
    with pytest.raises(ModelError, match="has batch normalisation, whose statistics"):
        TorchTrainer.of(settings, 10, SHAPE)
    with pytest.raises(export.ExportError, match="has batch normalisation, whose statistics"):
        export.export(settings, 10, SHAPE)


def test_a_batch_of_one_is_fine_elsewhere() -> None:
    settings = TrainingSettings(batch_size=1, epochs=1, learning_rate=0.01)
    start = initial_parameters("small-cnn", 10, SHAPE, seed=0)
    for backend in ("torch", "onnx"):
        result = trainer(backend, settings).train(
            start, DIGITS.images[:3], DIGITS.labels[:3], settings, stream=(0,)
        )
        assert result.samples == 3
