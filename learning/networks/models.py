"""The networks, by name.

A network is built from its name, the number of classes and the shape of an image. Its parameters
are named float32 tensors (:data:`fimi.learning.training.tensors.Parameters`); nothing else of it
travels. A name of the form ``module:factory`` is a network of the user's own: ``factory(classes,
image_shape)`` from an importable module gives a :class:`torch.nn.Module` from images to logits.
``torchvision.models:NAME`` is one of torchvision's, without weights.
"""

from __future__ import annotations

import copy
import functools
import math
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from fimi.errors import InputError
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.trainer import TrainingSettings
from fimi.own_parts import OwnPart

ImageShape = tuple[int, int, int]
"""Channels, height, width."""
Constructor = Callable[[int, ImageShape], nn.Module]
"""A network from the number of classes and the shape of an image."""
LARGE_IMAGE = 64
"""Smallest height, pixels, with which ResNet-18 keeps its original stem, which divides it by 4."""


class ModelError(InputError, ValueError):
    """A network cannot be built, or does not fit the data; the message says why."""

    code = "C007"


_OWN = OwnPart(what="model", holds="the factory", error=ModelError)


class SmallCNN(nn.Module):
    """Two 3×3 convolutions, one pooling, two linear layers: 38,282 parameters on 8×8 digits."""

    def __init__(self, classes: int, image_shape: ImageShape) -> None:
        super().__init__()
        channels, height, width = image_shape
        if height < 2 or width < 2:
            raise ModelError(f"small-cnn needs images of at least 2×2 pixels, not {height}×{width}")
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.hidden = nn.Linear(32 * (height // 2) * (width // 2), 64)
        self.head = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, channels, height, width)."""
        features = functional.relu(self.conv2(functional.relu(self.conv1(images))))
        flat = functional.max_pool2d(features, 2).flatten(1)
        logits: Tensor = self.head(functional.relu(self.hidden(flat)))
        return logits


class VGG9(nn.Module):
    """VGG with six convolutions and three linear layers: 3.5 million parameters on 32×32 images.

    It is the VGG-9 of federated-learning papers (FedMA, arXiv 2002.06440), without its dropout.
    """

    WIDTHS = ((32, 64), (128, 128), (256, 256))

    def __init__(self, classes: int, image_shape: ImageShape) -> None:
        super().__init__()
        channels, height, width = image_shape
        if min(height, width) < 8:
            raise ModelError(f"vgg-9 needs images of at least 8×8 pixels, not {height}×{width}")
        layers: list[nn.Module] = []
        for block in self.WIDTHS:
            for out in block:
                layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU()]
                channels = out
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(channels * (height // 8) * (width // 8), 512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, channels, height, width)."""
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


def resnet18(classes: int, image_shape: ImageShape, *, norm: str = "group") -> nn.Module:
    """Torchvision's ResNet-18: 11.2 million parameters.

    Small images get a 3×3 stem without pooling, as is usual for CIFAR. ``norm`` is ``"group"``
    (groups of at least eight channels, at most 32 groups), which has no running statistics, or
    ``"batch"``.
    """
    from torchvision.models import resnet18 as original

    channels, height, width = image_shape
    layer: Callable[[int], nn.Module] = _group_norm if norm == "group" else nn.BatchNorm2d
    network: nn.Module = original(num_classes=classes, norm_layer=layer)
    if min(height, width) >= LARGE_IMAGE:
        if channels != 3:
            network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    else:
        network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    return network


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(32, max(1, channels // 8)), channels)


MODELS: dict[str, Constructor] = {
    "small-cnn": SmallCNN,
    "vgg-9": VGG9,
    "resnet-18": resnet18,
    "resnet-18-batchnorm": functools.partial(resnet18, norm="batch"),
}
"""Model name to constructor."""


def build(name: str, classes: int, image_shape: ImageShape, *, seed: int) -> nn.Module:
    """A freshly initialised network.

    Args:
        name: key of :data:`MODELS`, or ``module:factory``.
        classes: K.
        image_shape: channels, height, width.
        seed: determines the initial parameters; PyTorch's global generator is not changed.

    Raises:
        ModelError: the name is unknown, the network cannot take such images, or a factory gives
            no network or one whose outputs are not (N, classes) logits.
    """
    constructor = MODELS[name] if name in MODELS else _imported(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        make = constructor if name in MODELS else functools.partial(_made, name, constructor)
        network = make(classes, image_shape)
    if not isinstance(network, nn.Module):
        raise ModelError(f"model {name!r} gave a {type(network).__name__}, not a torch.nn.Module")
    if name not in MODELS:
        _check_fit(name, network, classes, image_shape)
    return network


@torch.no_grad()
def batch_min(module: nn.Module, image_shape: ImageShape) -> int:
    """The smallest batch that a network can be trained on.

    It is 2 where batch normalisation takes its statistics from the batch, else 1. A copy of the
    network is shown two black images, so that batch normalisation is also found where it is a
    function and no layer, and is not found where it is frozen.
    """
    shared: dict[int, Any] = {id(weight): weight for weight in module.parameters()}
    shadow = copy.deepcopy(module, shared).train()  # its weights are those of the network
    place = next((weight.device for weight in shadow.parameters()), torch.device("cpu"))
    devices = [place] if place.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _BatchStatistics() as statistics:
        shadow(torch.zeros((2, *image_shape), device=place))
    return 2 if statistics.taken else 1


class _BatchStatistics(TorchFunctionMode):
    """Notices whether statistics of a batch are taken.

    Instance normalisation, which PyTorch computes by the same kernel, is another function here.
    """

    taken = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if "batch_norm" in getattr(func, "__name__", ""):
            # "training" is the sixth argument of each of PyTorch's functions of this name
            self.taken |= bool(kwargs.get("training", args[5] if len(args) > 5 else False))
        return func(*args, **kwargs)


def check_batches(settings: TrainingSettings, least: int) -> None:
    """Refuse sizes of batches that the network cannot be trained with.

    Args:
        settings: training settings.
        least: :func:`batch_min` of the network.

    Raises:
        ModelError: batches are smaller, or are cut into micro-batches.
    """
    if settings.batch_size < least:
        raise ModelError(
            f"model {settings.model!r} has batch normalisation, whose statistics need {least} "
            f"samples in a batch: training.batch_size is {settings.batch_size}; raise it or take a "
            "network with group normalisation"
        )
    if settings.micro_batch and least > 1:
        raise ModelError(
            f"model {settings.model!r} has batch normalisation, whose statistics are of a whole "
            f"batch: training.micro_batch {settings.micro_batch} would change the result; set it "
            "to 0 or take a network with group normalisation"
        )


def _made(name: str, factory: Constructor, classes: int, image_shape: ImageShape) -> nn.Module:
    """The network of a user's factory.

    Raises:
        ModelError: the factory raised an error; says which and where.
    """
    try:
        return factory(classes, image_shape)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise ModelError(
            f"model {name!r}: factory(classes={classes}, image_shape={image_shape}) raised "
            f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
        ) from error


@torch.no_grad()
def _check_fit(name: str, network: nn.Module, classes: int, image_shape: ImageShape) -> None:
    """Give the network two black images and check its output."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        logits = network(torch.zeros((2, *image_shape)))
    except Exception as error:
        raise ModelError(
            f"model {name!r} cannot take images {image_shape} (channels, height, width): "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (2, classes):
        gave = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(
            f"model {name!r} answers two images with {gave}; {classes} classes need a tensor of "
            f"logits (2, {classes})"
        )


def _imported(name: str) -> Constructor:
    if ":" not in name:
        known = ", ".join(sorted(MODELS))
        raise ModelError(
            f"unknown model {name!r}; there are {known}, or module:factory for one of your own"
        )
    found: Constructor = _OWN.find(name)
    if name.startswith("torchvision.models"):
        return functools.partial(_of_torchvision, found)
    return found


def _of_torchvision(
    factory: Callable[..., nn.Module], classes: int, image_shape: ImageShape
) -> nn.Module:
    """A network of torchvision; its first convolution takes as many channels as images have."""
    network = factory(weights=None, num_classes=classes)
    channels = image_shape[0]
    first = next((layer for layer in network.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is not None and first.in_channels != channels:
        those = [channel % first.in_channels for channel in range(channels)]
        first.weight = nn.Parameter(first.weight.detach()[:, those])
        first.in_channels = channels
    return network


def parameters_of(module: nn.Module) -> dict[str, NDArray[np.float32]]:
    """A copy of a network's parameters and buffers."""
    return {
        name: tensor.detach().cpu().numpy().astype(np.float32, copy=True)
        for name, tensor in module.state_dict().items()
    }


def load_parameters(module: nn.Module, parameters: Parameters) -> None:
    """Copy parameters into a network."""
    state = module.state_dict()  # it holds the version of every layer too
    state.clear()
    state.update({name: torch.from_numpy(np.array(tensor)) for name, tensor in parameters.items()})
    module.load_state_dict(state)
