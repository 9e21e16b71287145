"""Convolution as ONNX nodes, in the form that was fastest (``benchmarks/onnx_training.py``).

Where images have shrunk to a few pixels, convolution is a matrix product over the whole batch,
because image by image the weights would be read from memory again for every image. A depthwise one
is a small matrix per channel there, from its pixels to those of its output. Elsewhere it is ONNX's
operator.
"""

from __future__ import annotations

import math

from fimi.learning.onnx.convolution_gradients import image_gradient, weight_gradient
from fimi.learning.onnx.tape import Tape, Value
from fimi.learning.onnx.window import Window

SMALL_IMAGE = 16
"""Output pixels up to which a convolution becomes one matrix product."""
SMALL_MATRIX = 4096
"""Pixels before times pixels after, up to which a depthwise one becomes a matrix per channel."""


def convolve(
    tape: Tape, image: Value, weight: Value, bias: Value | None, window: Window, groups: int
) -> Value:
    """A convolution.

    Args:
        tape: the graph.
        image: (N, in, H, W).
        weight: (out, in / groups, kernel height, kernel width).
        bias: (out,).
        window: kernel, stride, padding, dilation.
        groups: groups of channels.
    """
    height, width = image.shape[2:]
    out = weight.shape[0]
    assert height and width and out
    size = window.output(height, width)
    tape.multiply_adds += math.prod(n or 1 for n in weight.shape) * math.prod(size)
    if not tape.plain and groups == 1 and size[0] * size[1] <= SMALL_IMAGE:
        return _convolve_small(tape, image, weight, bias, window, size)
    matrix = height * width * size[0] * size[1]
    if not tape.plain and groups == image.shape[1] == out and matrix <= SMALL_MATRIX:
        return _convolve_depthwise(tape, image, weight, bias, window, size)
    graph = tape.graph
    inputs = [image.name, weight.name, *([bias.name] if bias else [])]
    name = graph.op("Conv", *inputs, kernel_shape=window.kernel, **window.attributes, group=groups)

    def backward(gradient: str) -> None:
        if tape.is_active(bias):
            tape.pass_on(bias, graph.op("ReduceSum", gradient, graph.integers(0, 2, 3), keepdims=0))
        if tape.is_active(weight):
            tape.pass_on(weight, weight_gradient(tape, gradient, image, weight, window, groups))
        if tape.is_active(image):
            tape.pass_on(image, image_gradient(tape, gradient, image, weight, window, groups))

    output = Value(name=name, shape=(None, out, *size))
    return tape.record(output, [image, weight, bias], backward)


def _convolve_small(
    tape: Tape,
    image: Value,
    weight: Value,
    bias: Value | None,
    window: Window,
    size: tuple[int, int],
) -> Value:
    """One matrix product for the whole batch: (out, in·k·k) × (in·k·k, N·H·W)."""
    graph = tape.graph
    _, channels, height, width = image.shape
    out = weight.shape[0]
    assert channels and height and width and out
    kernel = window.kernel
    taps = kernel[0] * kernel[1]
    # The pixels under each element of the kernel, one row for each: (in·k·k, N·H·W).
    turned = graph.transpose(image.name, 1, 0, 2, 3)
    seen = [
        graph.reshape(view, channels, 1, -1)
        for view in window.views(tape, turned, (height, width), axis=2, rank=4)
    ]
    joined = graph.op("Concat", *seen, axis=1) if taps > 1 else seen[0]
    columns = graph.reshape(joined, channels * taps, -1)
    kernels = graph.reshape(weight.name, out, channels * taps)
    product = graph.op("MatMul", kernels, columns)
    if bias is not None:
        product = graph.op("Add", product, graph.reshape(bias.name, out, 1))
    name = graph.transpose(graph.reshape(product, out, -1, *size), 1, 0, 2, 3)

    def backward(gradient: str) -> None:
        rows = graph.reshape(graph.transpose(gradient, 1, 0, 2, 3), out, -1)
        if tape.is_active(bias):
            tape.pass_on(bias, graph.op("ReduceSum", rows, graph.integers(1), keepdims=0))
        if tape.is_active(weight):
            product = graph.op("Gemm", rows, columns, transB=1)
            tape.pass_on(weight, graph.reshape(product, out, channels, *kernel))
        if tape.is_active(image):
            spread = graph.op("Gemm", kernels, rows, transA=1)
            split = graph.reshape(spread, channels * taps, -1, *size)
            turned = graph.transpose(split, 1, 0, 2, 3)
            lines = graph.reshape(turned, -1, channels * taps, size[0] * size[1])
            sides, block = graph.integers(height, width), graph.integers(*kernel)
            tape.pass_on(image, graph.op("Col2Im", lines, sides, block, **window.attributes))

    output = Value(name=name, shape=(None, out, *size))
    return tape.record(output, [image, weight, bias], backward)


def _convolve_depthwise(
    tape: Tape,
    image: Value,
    weight: Value,
    bias: Value | None,
    window: Window,
    size: tuple[int, int],
) -> Value:
    """One matrix per channel: (N, H·W) × (H·W, height·width)."""
    graph = tape.graph
    _, channels, height, width = image.shape
    assert channels and height and width
    pixels, made = height * width, size[0] * size[1]
    reads = graph.constant(window.reads(height, width).reshape(-1, pixels * made))
    kernels = graph.reshape(weight.name, channels, -1)
    matrix = graph.reshape(graph.op("MatMul", kernels, reads), channels, pixels, made)
    rows = graph.transpose(graph.reshape(image.name, -1, channels, pixels), 1, 0, 2)
    product = graph.transpose(graph.op("MatMul", rows, matrix), 1, 0, 2)
    name = graph.reshape(product, -1, channels, *size)
    if bias is not None:
        name = graph.op("Add", name, graph.reshape(bias.name, channels, 1, 1))

    def backward(gradient: str) -> None:
        back = graph.transpose(graph.reshape(gradient, -1, channels, made), 1, 0, 2)
        if tape.is_active(bias):
            tape.pass_on(bias, graph.op("ReduceSum", back, graph.integers(1, 2), keepdims=0))
        if tape.is_active(weight):
            product = graph.op("MatMul", graph.transpose(rows, 0, 2, 1), back)
            each = graph.reshape(product, channels, pixels * made)
            taps = graph.op("Gemm", each, reads, transB=1)
            tape.pass_on(weight, graph.reshape(taps, channels, 1, *window.kernel))
        if tape.is_active(image):
            spread = graph.op("MatMul", back, graph.transpose(matrix, 0, 2, 1))
            turned = graph.transpose(spread, 1, 0, 2)
            tape.pass_on(image, graph.reshape(turned, -1, channels, height, width))

    output = Value(name=name, shape=(None, channels, *size))
    return tape.record(output, [image, weight, bias], backward)


def convolve_transposed(
    tape: Tape,
    image: Value,
    weight: Value,
    bias: Value | None,
    window: Window,
    groups: int,
    size: tuple[int, int],
) -> Value:
    """A transposed convolution: what the images' gradient is of the convolution with this window.

    Args:
        tape: the graph.
        image: (N, in, H, W).
        weight: (in, out / groups, kernel height, kernel width).
        bias: (out,).
        window: kernel, stride, padding, dilation; it makes H×W of the output's size.
        groups: groups of channels.
        size: height and width of the output.
    """
    graph = tape.graph
    channels = (weight.shape[1] or 0) * groups
    shape = (None, channels, *size)
    tape.multiply_adds += math.prod(n or 1 for n in (*weight.shape, *image.shape[2:]))
    target = Value(name="", shape=shape)
    name = image_gradient(tape, image.name, target, weight, window, groups)
    if bias is not None:
        name = graph.op("Add", name, graph.reshape(bias.name, channels, 1, 1))

    def backward(gradient: str) -> None:
        if tape.is_active(bias):
            tape.pass_on(bias, graph.op("ReduceSum", gradient, graph.integers(0, 2, 3), keepdims=0))
        if tape.is_active(weight):
            seen = Value(name=gradient, shape=shape)
            tape.pass_on(weight, weight_gradient(tape, image.name, seen, weight, window, groups))
        if tape.is_active(image):
            back = graph.op(
                "Conv",
                *(gradient, weight.name),
                kernel_shape=window.kernel,
                **window.attributes,
                group=groups,
            )
            tape.pass_on(image, back)

    return tape.record(Value(name=name, shape=shape), [image, weight, bias], backward)
