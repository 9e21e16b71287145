"""Torchvision's networks for small devices: some steps with ONNX Runtime and with PyTorch."""

from __future__ import annotations

from functools import partial

import msgspec
import numpy as np
import pytest
import torchvision
from torch import nn

from fimi.learning.data.dataset import load_digits
from fimi.learning.networks import models
from fimi.learning.onnx import export
from fimi.learning.onnx.graphs import decode, encode
from fimi.learning.training.onnx_trainer import OnnxTrainer
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
from fimi.learning.training.trainer import TrainingSettings

SHAPE = (3, 32, 32)
DIGITS = load_digits()
IMAGES = np.repeat(DIGITS.images[:48].repeat(4, axis=2).repeat(4, axis=3), 3, axis=1)
LABELS = DIGITS.labels[:48]
NETWORKS = (
    *("mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5"),
    *("squeezenet1_1", "shufflenet_v2_x0_5", "efficientnet_b0"),
)


def apart(one: Parameters, other: Parameters, start: Parameters, *, trained: bool) -> float:
    """Distance of two results relative to the way from the start: trained tensors, or the rest."""
    names = [name for name in start if trained != ("running" in name or "tracked" in name)]
    ways = [np.concatenate([[], *((p[n] - start[n]).ravel() for n in names)]) for p in (one, other)]
    return float(np.linalg.norm(ways[0] - ways[1]) / max(np.linalg.norm(ways[1]), 1e-9))


def calm(name: str, classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """Torchvision's network with a larger ε in batch normalisation.

    Untrained and on images so small, the statistics of a few pixels amplify rounding some hundred
    thousand times, in PyTorch too; the larger ε keeps it small enough to see every other error.
    """
    network = getattr(torchvision.models, name)(weights=None, num_classes=classes)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 0.1
    return network


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_both_backends_give_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step to a thousandth; three to the same loss, for rounding grows from step to step."""
    monkeypatch.setattr(models, "own", partial(calm, name), raising=False)
    model = "fimi.learning.networks.models:own"
    settings = TrainingSettings(model=model, epochs=1, batch_size=16, clip_norm=1.0)
    graphs = decode(encode(export.export(settings, 10, SHAPE)))
    start = initial_parameters(model, 10, SHAPE, seed=0)
    onnx, torch = OnnxTrainer(graphs), TorchTrainer(model, 10, SHAPE)
    for samples, rate, near in ((16, 1.0, 1e-3), (48, 0.01, 0.5)):
        how = msgspec.structs.replace(settings, learning_rate=rate)
        ours, theirs = (
            t.train(start, IMAGES[:samples], LABELS[:samples], how, stream=(3,))
            for t in (onnx, torch)
        )
        assert apart(ours.parameters, theirs.parameters, start, trained=True) < near
        assert apart(ours.parameters, theirs.parameters, start, trained=False) < 1e-3
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-3)
    found = onnx.evaluate(theirs.parameters, IMAGES, LABELS)
    assert found.loss == pytest.approx(torch.evaluate(theirs.parameters, IMAGES, LABELS).loss)
