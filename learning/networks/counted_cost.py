"""Cost of any PyTorch network, counted by PyTorch's flop counter."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

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
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    trained = sum(weight.numel() for weight in shadow.parameters() if weight.requires_grad)
    tensors = sum(tensor.numel() for tensor in shadow.state_dict().values())
    return ModelCost(
        parameters=trained,
        size_bytes=FLOAT_BYTES * tensors,
        forward_macs=forward.get_total_flops() // 2,
        training_macs=(forward.get_total_flops() + backward.get_total_flops()) // 2,
    )
