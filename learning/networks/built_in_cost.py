"""Cost of the built-in networks: multiply-accumulates, CPU cycles per sample, bytes. No torch.

They are counted layer by layer from their shapes, so that a device can do it. A test compares the
counts with PyTorch's flop counter. A network of the user's own is counted by
:func:`fimi.learning.networks.counted_cost.count`, which needs torch.

Convolutions and linear layers are counted; norms, activations and pooling are a few percent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from msgspec import Struct

ImageShape = tuple[int, int, int]
"""Channels, height, width."""
MACS_PER_CYCLE = 0.25
"""Multiply-accumulates of a Raspberry Pi 4 in a CPU cycle while training; our estimate."""
FLOAT_BYTES = 4


class ModelCost(Struct, frozen=True, kw_only=True):
    """Cost of a network for one sample.

    Attributes:
        parameters: number of trained parameters.
        size_bytes: size of all tensors that travel: float32 parameters and buffers, no header.
        forward_macs: multiply-accumulates of a forward pass.
        training_macs: multiply-accumulates of a forward and a backward pass.
    """

    parameters: int
    size_bytes: int
    forward_macs: int
    training_macs: int

    @property
    def inference_share(self) -> float:
        """Cost of an inference over that of training on a sample; 1/3 where nothing was counted."""
        return self.forward_macs / self.training_macs if self.training_macs else 1 / 3

    def cycles_per_sample(self, macs_per_cycle: float = MACS_PER_CYCLE) -> float:
        """CPU cycles to train on one sample, an estimate in two significant figures."""
        return float(f"{self.training_macs / macs_per_cycle:.1e}")


class _Layer(Struct, frozen=True):
    """A layer's multiply-accumulates, parameters and buffer elements.

    ``first``: no layer before it is trained, so its backward pass is one product, not two.
    """

    macs: int
    parameters: int
    buffers: int = 0
    first: bool = False


def total(layers: Iterator[_Layer]) -> ModelCost:
    """The summed cost of layers."""
    every = list(layers)
    forward = sum(layer.macs for layer in every)
    parameters = sum(layer.parameters for layer in every)
    return ModelCost(
        parameters=parameters,
        size_bytes=FLOAT_BYTES * (parameters + sum(layer.buffers for layer in every)),
        forward_macs=forward,
        training_macs=sum(layer.macs * (2 if layer.first else 3) for layer in every),
    )


def _convolution(
    channels: int, out: int, kernel: int, pixels: int, *, bias: bool = True, first: bool = False
) -> _Layer:
    """A convolution whose result has ``pixels`` pixels."""
    weights = channels * out * kernel**2
    return _Layer(weights * pixels, weights + out * bias, first=first)


def _linear(features: int, out: int) -> _Layer:
    return _Layer(features * out, features * out + out)


def _small_cnn(classes: int, image_shape: ImageShape) -> Iterator[_Layer]:
    channels, height, width = image_shape
    yield _convolution(channels, 16, 3, height * width, first=True)
    yield _convolution(16, 32, 3, height * width)
    yield _linear(32 * (height // 2) * (width // 2), 64)
    yield _linear(64, classes)


def _vgg9(classes: int, image_shape: ImageShape) -> Iterator[_Layer]:
    channels, height, width = image_shape
    first = True
    for block in ((32, 64), (128, 128), (256, 256)):
        for out in block:
            yield _convolution(channels, out, 3, height * width, first=first)
            channels, first = out, False
        height, width = height // 2, width // 2
    yield _linear(channels * height * width, 512)
    yield _linear(512, 512)
    yield _linear(512, classes)


def _resnet18(classes: int, image_shape: ImageShape, *, batch_norm: bool) -> Iterator[_Layer]:
    channels, height, width = image_shape
    large = min(height, width) >= 64
    if large:
        height, width = _halved(height), _halved(width)
    yield _convolution(channels, 64, 7 if large else 3, height * width, bias=False, first=True)
    yield _norm(64, batch_norm)
    if large:
        height, width = _halved(height), _halved(width)
    channels = 64
    for out in (64, 128, 256, 512):
        for block in range(2):
            if shrinks := block == 0 and out > 64:
                height, width = _halved(height), _halved(width)
            yield _convolution(channels, out, 3, height * width, bias=False)
            yield _norm(out, batch_norm)
            yield _convolution(out, out, 3, height * width, bias=False)
            yield _norm(out, batch_norm)
            if shrinks:
                yield _convolution(channels, out, 1, height * width, bias=False)
                yield _norm(out, batch_norm)
            channels = out
    yield _linear(512, classes)


def _norm(channels: int, batch_norm: bool) -> _Layer:
    """Scale and shift; batch norm also keeps mean, variance and a counter."""
    return _Layer(0, 2 * channels, 2 * channels + 1 if batch_norm else 0)


def _halved(pixels: int) -> int:
    return math.ceil(pixels / 2)


BUILT_IN: dict[str, Callable[[int, ImageShape], Iterator[_Layer]]] = {
    "small-cnn": _small_cnn,
    "vgg-9": _vgg9,
    "resnet-18": lambda classes, shape: _resnet18(classes, shape, batch_norm=False),
    "resnet-18-batchnorm": lambda classes, shape: _resnet18(classes, shape, batch_norm=True),
}
"""Name to layers: the networks whose cost is known without PyTorch."""
