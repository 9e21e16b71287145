"""Gradients of ONNX's convolution, made of forward operators.

ONNX Runtime has no gradient operators on a CPU, so gradients are composed in the form that was
fastest (``benchmarks/onnx_training.py``):

* with respect to the images, a transposed convolution;
* with respect to the weights, one matrix product per position of the kernel, with the images
  shifted by that position: (out, N·H·W) × (N·H·W, in). A convolution whose kernel is as large as
  the image gives the same and takes three times as long. With few channels the products are joined
  to one; with one per group they are products of numbers.
"""

from __future__ import annotations

import math

from fimi.learning.onnx.tape import Tape, Value
from fimi.learning.onnx.window import Window

NARROW = 144
"""Largest number of weights per output channel with which all matrix products are joined to one."""


def image_gradient(
    tape: Tape, gradient: str, image: Value, weight: Value, window: Window, groups: int
) -> str:
    """The gradient with respect to the images, (N, in, H, W).

    Args:
        tape: the graph.
        gradient: with respect to the output, (N, out, height, width).
        image: only its shape is used, (N, in, H, W).
        weight: (out, in / groups, kernel height, kernel width).
        window: kernel, stride, padding, dilation.
        groups: groups of channels.
    """
    height, width = image.shape[2:]
    assert height and width
    size = window.output(height, width)
    # Rows and columns at the end that no window reaches get no gradient.
    rest = [
        full - (stride * (count - 1) + dilation * (kernel - 1) + 1)
        for full, stride, count, dilation, kernel in zip(
            window.padded(height, width),
            window.stride,
            size,
            window.dilation,
            window.kernel,
            strict=True,
        )
    ]
    return tape.graph.op(
        "ConvTranspose",
        gradient,
        weight.name,
        kernel_shape=window.kernel,
        **window.attributes,
        output_padding=rest,
        group=groups,
    )


def weight_gradient(
    tape: Tape, gradient: str, image: Value, weight: Value, window: Window, groups: int
) -> str:
    """The gradient with respect to the weights, (out, in / groups, kernel height, kernel width).

    The arguments are those of :func:`image_gradient`; only the shape of ``weight`` is used.
    """
    graph = tape.graph
    _, channels, height, width = image.shape
    out = weight.shape[0]
    assert channels and height and width and out
    size = window.output(height, width)
    inner, outer = channels // groups, out // groups
    if inner == outer == 1:
        return _depthwise_weight_gradient(tape, gradient, image, window)
    if groups == 1 and inner * math.prod(window.kernel) <= NARROW:
        return _narrow_weight_gradient(tape, gradient, image, weight, window)
    if groups == 1:
        last = graph.transpose(image.name, 0, 2, 3, 1)
        axis, columns = 1, [-1, inner]
        rows = graph.reshape(graph.transpose(gradient, 1, 0, 2, 3), outer, -1)
    else:
        split = graph.reshape(image.name, -1, groups, inner, height, width)
        last = graph.transpose(split, 1, 0, 3, 4, 2)
        axis, columns = 2, [groups, -1, inner]
        split = graph.reshape(gradient, -1, groups, outer, *size)
        rows = graph.reshape(graph.transpose(split, 1, 2, 0, 3, 4), groups, outer, -1)
    products = [
        graph.op("MatMul", rows, graph.reshape(view, *columns))
        for view in window.views(tape, last, (height, width), axis=axis, rank=axis + 3)
    ]
    if len(products) == 1:
        return graph.reshape(products[0], out, inner, *window.kernel)
    apart = [graph.reshape(product, 1, out * inner) for product in products]
    turned = graph.transpose(graph.op("Concat", *apart, axis=0), 1, 0)
    return graph.reshape(turned, out, inner, *window.kernel)


def _depthwise_weight_gradient(tape: Tape, gradient: str, image: Value, window: Window) -> str:
    """A sum of products per position; matrices of one row are four times as slow."""
    graph = tape.graph
    _, channels, height, width = image.shape
    assert channels and height and width
    seen = window.views(tape, image.name, (height, width), axis=2, rank=4)
    over = graph.integers(0, 2, 3)
    sums = [graph.op("ReduceSum", graph.op("Mul", gradient, v), over, keepdims=1) for v in seen]
    joined = graph.op("Concat", *sums, axis=0) if len(sums) > 1 else sums[0]
    apart = graph.transpose(graph.reshape(joined, len(sums), channels), 1, 0)
    return graph.reshape(apart, channels, 1, *window.kernel)


def _narrow_weight_gradient(
    tape: Tape, gradient: str, image: Value, weight: Value, window: Window
) -> str:
    """One product for all positions: (out, H·W·N) × (H·W·N, k·k·in).

    The batch is the last dimension, so that the pixels of a position are copied in runs of W·N
    numbers, not of W.
    """
    graph = tape.graph
    _, channels, height, width = image.shape
    out = weight.shape[0]
    assert channels and height and width and out
    turned = graph.transpose(image.name, 1, 2, 3, 0)
    seen = list(window.views(tape, turned, (height, width), axis=1, rank=4))
    taps = len(seen)
    columns = graph.op("Concat", *seen, axis=0) if taps > 1 else seen[0]
    rows = graph.reshape(graph.transpose(gradient, 1, 2, 3, 0), out, -1)
    product = graph.op("Gemm", rows, graph.reshape(columns, taps * channels, -1), transB=1)
    apart = graph.transpose(graph.reshape(product, out, taps, channels), 0, 2, 1)
    return graph.reshape(apart, out, channels, *window.kernel)
