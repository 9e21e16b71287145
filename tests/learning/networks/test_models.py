"""fimi.learning.networks.models: a network of one's own must fit the data before anything is
trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from fimi.learning.networks import models
from fimi.learning.networks.models import ImageShape, ModelError

SHAPE = (1, 8, 8)


def build(monkeypatch: pytest.MonkeyPatch, factory: Callable[[int, ImageShape], object]) -> object:
    monkeypatch.setattr(models, "own", factory, raising=False)
    return models.build("fimi.learning.networks.models:own", 10, SHAPE, seed=3)


def linear(classes: int, image_shape: ImageShape) -> nn.Module:
    channels, height, width = image_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes))


class Tuple(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, images


class Asserts(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise AssertionError("too small")


class TestOnesOwn:
    def test_fits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert isinstance(build(monkeypatch, linear), nn.Sequential)

    def test_looking_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither batch statistics, nor the mode of any layer, nor the random numbers."""

        def factory(classes: int, image_shape: ImageShape) -> nn.Module:
            frozen = nn.BatchNorm2d(1).eval()
            return nn.Sequential(frozen, nn.BatchNorm2d(1), linear(classes, image_shape))

        torch.manual_seed(7)
        expected = torch.rand(3)
        torch.manual_seed(7)
        network = build(monkeypatch, factory)
        assert torch.equal(torch.rand(3), expected)
        assert isinstance(network, nn.Sequential)
        assert [layer.training for layer in network] == [False, True, True]
        assert int(network[1].num_batches_tracked) == 0  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("factory", "said"),
        [
            (lambda classes, shape: linear(classes - 1, shape), r"with \(2, 9\); 10 classes need"),
            (lambda classes, shape: nn.Identity(), r"with \(2, 1, 8, 8\); 10 classes"),
            (lambda classes, shape: Tuple(), "with tuple; 10 classes"),
            (
                lambda classes, shape: linear(classes, (3, 32, 32)),
                r"cannot take images \(1, 8, 8\)",
            ),
            (lambda classes, shape: Asserts(), r"cannot take images .*AssertionError: too small"),
            (lambda classes, shape: "a network", "gave a str, not a torch.nn.Module"),
        ],
    )
    def test_does_not_fit(
        self,
        monkeypatch: pytest.MonkeyPatch,
        factory: Callable[[int, ImageShape], object],
        said: str,
    ) -> None:
        with pytest.raises(ModelError, match=said):
            build(monkeypatch, factory)


def test_a_factory_that_fails_is_told_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def factory(classes: int, image_shape: ImageShape) -> nn.Module:
        raise KeyError("weights")

    with pytest.raises(ModelError, match=r"raised KeyError: 'weights' \(.*test_models.py:\d+\)"):
        build(monkeypatch, factory)


@pytest.mark.parametrize(("model", "shape"), [("small-cnn", (1, 1, 8)), ("vgg-9", (3, 7, 32))])
def test_images_too_small_for_a_network(model: str, shape: ImageShape) -> None:
    with pytest.raises(ModelError, match=f"{model} needs images of at least"):
        models.build(model, 10, shape, seed=0)


class TestTorchvision:
    def test_classes_and_channels(self) -> None:
        network = models.build("torchvision.models:squeezenet1_1", 7, (1, 32, 32), seed=3)
        assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 7)
        first = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
        assert (first.in_channels, tuple(first.weight.shape)) == (1, (64, 1, 3, 3))

    def test_colours_are_left_as_they_are(self) -> None:
        network = models.build("torchvision.models:squeezenet1_1", 7, (3, 32, 32), seed=3)
        torch.manual_seed(3)
        state = torchvision.models.squeezenet1_1(num_classes=7).state_dict()
        assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())

    def test_what_is_no_factory(self) -> None:
        with pytest.raises(ModelError, match=r"torchvision.models:VGG'.* raised TypeError"):
            models.build("torchvision.models:VGG", 7, (3, 32, 32), seed=3)

    def test_a_layer_that_has_versions(self) -> None:
        """MnasNet refuses a state without the version of its layers."""
        network = models.build("torchvision.models:mnasnet0_5", 7, (3, 32, 32), seed=3)
        models.load_parameters(network, models.parameters_of(network))
