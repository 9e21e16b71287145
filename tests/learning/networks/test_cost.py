"""fimi.learning.networks.built_in_cost: counted from shapes, and by PyTorch; the two agree."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import mobilenet_v3_small

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


CONVOLUTIONS: dict[tuple[int, bool], Callable[..., nn.Module]] = {
    (1, False): nn.Conv1d,
    (2, False): nn.Conv2d,
    (1, True): nn.ConvTranspose1d,
    (2, True): nn.ConvTranspose2d,
}


class Apart(nn.Module):
    """A grouped convolution as one ungrouped convolution for each group."""

    def __init__(self, make: Callable[..., nn.Module], groups: int, each: tuple[Any, ...]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(make(*each, bias=False) for _ in range(groups))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        shares = images.chunk(len(self.parts), dim=1)
        return torch.cat([part(share) for part, share in zip(self.parts, shares, strict=True)], 1)


@settings(max_examples=40)
@given(
    dimensions=st.sampled_from([1, 2]),
    transposed=st.booleans(),
    groups=st.sampled_from([1, 2, 3, 8]),
    into=st.integers(1, 3),
    out=st.integers(1, 3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
)
def test_groups_cost_what_separate_convolutions_cost(
    dimensions: int, transposed: bool, groups: int, into: int, out: int, kernel: int, stride: int,
    padding: int,
) -> None:  # fmt: skip
    """PyTorch's counter is right for convolutions without groups."""
    make = CONVOLUTIONS[dimensions, transposed]
    shape = (into * groups, 7, 6)[: dimensions + 1]
    first = nn.Conv2d if dimensions == 2 else nn.Conv1d

    def network(middle: nn.Module) -> nn.Module:
        return nn.Sequential(first(shape[0], shape[0], 1), middle, nn.Flatten())

    grouped = network(
        make(shape[0], out * groups, kernel, stride, padding, groups=groups, bias=False)
    )
    apart = network(Apart(make, groups, (into, out, kernel, stride, padding)))
    with FlopCounterMode(display=False) as counter:
        apart(torch.zeros((1, *shape))).sum().backward()
    found = count(grouped, shape)  # type: ignore[arg-type]
    assert found.training_macs == counter.get_total_flops() // 2
    assert found.forward_macs == count(apart, shape).forward_macs  # type: ignore[arg-type]


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_every_product_of_a_grouped_convolution_counted_one_by_one(groups: int) -> None:
    """Each is one in the forward pass, one in the gradient of an image, one in that of a weight."""
    first, depth = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, stride=2, groups=groups)
    inside = range(8 // groups)
    products = sum(
        1 for _ in itertools.product(range(16), inside, range(3), range(3), range(3), range(3))
    )
    of_first = sum(1 for _ in itertools.product(range(8), range(8), range(8), range(9)))
    cost = count(nn.Sequential(first, depth), (1, 8, 8))
    assert cost.forward_macs == of_first + products
    assert cost.training_macs == 2 * of_first + 3 * products  # no gradient of the images themselves


def test_training_a_network_of_depthwise_convolutions_costs_three_times_its_forward_pass() -> None:
    network = mobilenet_v3_small(num_classes=10)
    cost = count(network, (3, 64, 64))
    stem = 32 * 32 * 16 * 3 * 9
    assert cost.training_macs == 3 * cost.forward_macs - stem


def test_an_unknown_network() -> None:
    with pytest.raises(ValueError, match="unknown model 'vgg'"):
        model_cost("vgg", 10, (1, 8, 8))
