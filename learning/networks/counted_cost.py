"""Cost of any PyTorch network, counted by PyTorch's flop counter.

The counter is right in the forward pass. In the backward pass it takes the gradient of a grouped
convolution's weights for that of an ungrouped one, which is too much by the number of groups
(pytorch#183405); the gradients of convolutions are counted here.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from fimi.learning.networks.built_in_cost import FLOAT_BYTES, ModelCost


def count(network: nn.Module, image_shape: tuple[int, int, int]) -> ModelCost:
    """Cost of a network from images to logits for one sample (channels, height, width).

    Only shapes are computed, unless the network depends on values. It is not changed.
    """
    try:
        return _count(network, image_shape, "meta")
    except (RuntimeError, NotImplementedError):  # a branch on data, a tensor that is not a buffer
        return _count(network, image_shape, "cpu")


def _count(network: nn.Module, image_shape: tuple[int, int, int], device: str) -> ModelCost:
    # In evaluation mode: one sample is too few for batch statistics.
    shadow = copy.deepcopy(network).to(device).eval()
    with FlopCounterMode(display=False) as forward:
        logits = shadow(torch.zeros((1, *image_shape), device=device))
    ours = {torch.ops.aten.convolution_backward: _convolution_backward}
    with FlopCounterMode(display=False, custom_mapping=ours) as backward:
        logits.sum().backward()
    trained = sum(weight.numel() for weight in shadow.parameters() if weight.requires_grad)
    tensors = sum(tensor.numel() for tensor in shadow.state_dict().values())
    return ModelCost(
        parameters=trained,
        size_bytes=FLOAT_BYTES * tensors,
        forward_macs=forward.get_total_flops() // 2,
        training_macs=(forward.get_total_flops() + backward.get_total_flops()) // 2,
    )


def _convolution_backward(
    gradient: list[int],
    images: list[int],
    weights: list[int],
    _bias: Any,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    _output_padding: Any,
    _groups: int,
    output_mask: tuple[bool, bool, bool],
    **_: Any,
) -> int:
    """Operations of a convolution's gradients, from shapes.

    A product of an image and a weight in the forward pass is one of the gradient and the weight for
    the image, and one of the image and the gradient for the weight. Each of the two gradients
    costs as much as the forward pass, whatever the groups.
    """
    forward: int = conv_flop_count(images, weights, gradient, transposed)
    return forward * sum(map(bool, output_mask[:2]))
