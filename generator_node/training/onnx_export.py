"""Networks as ONNX graphs for inference: the denoiser and the judge.

PyTorch's tracing exporter is used. It needs no other package, and inlines what does not depend on
the batch. Graphs contain the weights.
"""

from __future__ import annotations

import copy
import io
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional

OPSET = 17


def to_onnx(
    module: nn.Module, inputs: dict[str, Tensor], outputs: tuple[str, ...], *, batched: set[str]
) -> bytes:
    """A network as an ONNX graph.

    Args:
        module: the network, in inference mode; takes ``inputs`` in their order.
        inputs: an example of each input, by name.
        outputs: names of its outputs, whose first axis is the batch.
        batched: names of the inputs whose first axis is the batch.
    """
    buffer = io.BytesIO()
    axes = {name: {0: "batch"} for name in (*outputs, *sorted(batched))}
    with warnings.catch_warnings(), torch.no_grad():
        # Two kinds of warnings are ignored: the exporter is deprecated, and the sizes of images
        # become constants, which is intended.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            buffer,  # type: ignore[arg-type]  # takes files too
            dynamo=False,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
        )
    return buffer.getvalue()


class _GroupNorm(nn.Module):
    """Group normalisation by operators for which ONNX Runtime has fast kernels.

    Every group is normalised as a layer. The scale and shift of channels is a batch normalisation
    with statistics 0 and 1. In the exporter's form they were two passes with broadcasting, and
    shapes were computed at run time: 8 % of the denoiser's time.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, images: Tensor) -> Tensor:
        channels, height, width = (int(length) for length in images.shape[1:])
        size = channels // self.norm.num_groups * height * width
        plain = functional.layer_norm(
            images.reshape(-1, size), (size,), torch.ones(size), torch.zeros(size), self.norm.eps
        ).reshape(-1, channels, height, width)
        zeros, ones = torch.zeros(channels), torch.ones(channels)
        return functional.batch_norm(plain, zeros, ones, self.norm.weight, self.norm.bias, eps=0.0)


def _with_fast_norms(module: nn.Module) -> nn.Module:
    """A copy of a network whose group normalisations are :class:`_GroupNorm`."""
    copied = copy.deepcopy(module)
    for parent in list(copied.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(parent, name, _GroupNorm(child))
    return copied


class _Velocity(nn.Module):
    """A U-Net with positional arguments and a tensor as its result."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = _with_fast_norms(unet)

    def forward(self, images: Tensor, timestep: Tensor, classes: Tensor) -> Tensor:
        velocity: Tensor = self.unet(images, timestep, class_labels=classes, return_dict=False)[0]
        return velocity


def denoiser_graph(unet: nn.Module, image_shape: tuple[int, int, int]) -> bytes:
    """A U-Net as a graph from images (N, …), timestep (1,), classes (N,) to velocity (N, …)."""
    inputs = {
        "images": torch.zeros(2, *image_shape),
        "timestep": torch.tensor([500]),
        "classes": torch.tensor([0, 1]),
    }
    return to_onnx(_Velocity(unet), inputs, ("velocity",), batched={"images", "classes"})
