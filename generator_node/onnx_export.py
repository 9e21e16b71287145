"""Networks as ONNX graphs for inference: the denoiser and the judge.

PyTorch's tracing exporter; it needs no package beyond PyTorch and inlines what does not depend on
the batch. Graphs travel and rest with the weights inside.
"""

from __future__ import annotations

import io
import warnings

import torch
from torch import Tensor, nn

OPSET = 17


def to_onnx(
    module: nn.Module, inputs: dict[str, Tensor], outputs: tuple[str, ...], *, batched: set[str]
) -> bytes:
    """A network as an ONNX graph.

    Args:
        module: in inference mode; takes ``inputs`` in their order.
        inputs: name to an example.
        outputs: names of what it returns.
        batched: names of inputs whose first axis is the batch; that of every output is.
    """
    buffer = io.BytesIO()
    axes = {name: {0: "batch"} for name in (*outputs, *sorted(batched))}
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter itself is deprecated, and what it says of constants is meant: sides of
        # images do not change.
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


class _Velocity(nn.Module):
    """A U-Net with positional arguments and one plain result."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, images: Tensor, timestep: Tensor, classes: Tensor) -> Tensor:
        velocity: Tensor = self.unet(images, timestep, class_labels=classes, return_dict=False)[0]
        return velocity


def denoiser_graph(unet: nn.Module, image_shape: tuple[int, int, int]) -> bytes:
    """A U-Net as a graph: images (N, …), timestep (1,), classes (N,) to velocity (N, …)."""
    inputs = {
        "images": torch.zeros(2, *image_shape),
        "timestep": torch.tensor([500]),
        "classes": torch.tensor([0, 1]),
    }
    return to_onnx(_Velocity(unet), inputs, ("velocity",), batched={"images", "classes"})
