"""fimi.learning.networks.built_in_cost: counted from shapes, and by PyTorch; the two agree."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fimi.learning.networks import models
from fimi.learning.networks.cost import model_cost
from fimi.learning.networks.counted_cost import count

SHAPES = [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 33, 47), (3, 64, 64), (1, 71, 96)]


@pytest.mark.parametrize("model", models.MODELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_count_from_shapes_is_pytorchs(model: str, shape: tuple[int, int, int]) -> None:
    with torch.device("meta"):
        network = models.MODELS[model](7, shape)
    assert model_cost(model, 7, shape) == count(network, shape)


def test_of_the_default_network_on_the_default_data() -> None:
    """8²·9·(1·16 + 16·32) + 512·64 + 64·10 forward; twice that backward but for the first layer."""
    cost = model_cost("small-cnn", 10, (1, 8, 8))
    assert cost.forward_macs == 9216 + 294_912 + 32_768 + 640
    assert cost.training_macs == 3 * cost.forward_macs - 9216
    assert cost.parameters == 38_282
    assert cost.size_bytes == 4 * 38_282
    assert cost.inference_share == cost.forward_macs / cost.training_macs
    assert cost.cycles_per_sample() == 4.0e6
    assert cost.cycles_per_sample(1.0) == 1.0e6


def test_resnet_18_on_cifar() -> None:
    """0.56 billion multiply-accumulates and 11.17 million parameters, as is often published."""
    cost = model_cost("resnet-18", 10, (3, 32, 32))
    assert cost.forward_macs == pytest.approx(0.556e9, rel=2e-3)
    assert cost.parameters == 11_173_962


def tiny(classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    channels, height, width = image_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes))


def test_a_network_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "own", tiny, raising=False)
    cost = model_cost("fimi.learning.networks.models:own", 5, (2, 3, 4))
    assert (cost.forward_macs, cost.training_macs) == (24 * 5, 2 * 24 * 5)
    assert (cost.parameters, cost.size_bytes) == (125, 500)


class Moody(nn.Module):
    """Looks at values, and holds a tensor that is neither parameter nor buffer."""

    def __init__(self, classes: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.layer, self.plain = nn.Linear(24, classes), torch.ones(24)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        flat = images.flatten(1) * self.plain
        answer: torch.Tensor = self.layer(flat if float(flat.sum()) >= 0 else -flat)
        return answer


def test_a_network_that_looks_at_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "own", Moody, raising=False)
    assert model_cost("fimi.learning.networks.models:own", 5, (2, 3, 4)).forward_macs == 24 * 5


def test_an_unknown_network() -> None:
    with pytest.raises(ValueError, match="unknown model 'vgg'"):
        model_cost("vgg", 10, (1, 8, 8))
