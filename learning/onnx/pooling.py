"""Pooling as ONNX nodes, forward and backward.

Max-pooling by 2×2 divides its windows into slices, so that neither indices nor scattering is
needed. The first of equal maxima gets the gradient, as in PyTorch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from fimi.learning.onnx.convolution_gradients import image_gradient
from fimi.learning.onnx.tape import Tape, Value
from fimi.learning.onnx.window import Window

Numbers = NDArray[np.float32]


def max_pool(tape: Tape, image: Value, window: Window) -> Value:
    """The largest value under each window."""
    _, channels, height, width = image.shape
    assert channels and height and width
    exact = window.padded(height, width) == (height, width) and height % 2 == width % 2 == 0
    pairs = window.kernel == window.stride == (2, 2) and exact
    if pairs and not tape.plain:
        return _max_pool_pairs(tape, image)
    graph = tape.graph
    size = window.output(height, width)
    name, *indices = graph.ops(
        "MaxPool",
        [image.name],
        1 if tape.plain else 2,
        kernel_shape=window.kernel,
        **window.attributes,
    )

    def backward(gradient: str) -> None:
        # ONNX numbers the pixels of the whole batch consecutively.
        size_of = graph.op("Shape", graph.reshape(image.name, -1))
        zero = numpy_helper.from_array(np.zeros(1, np.float32))
        scattered = graph.op(
            "ScatterElements",
            graph.op("ConstantOfShape", size_of, value=zero),
            graph.reshape(indices[0], -1),
            graph.reshape(gradient, -1),
            axis=0,
            reduction="add" if window.kernel != window.stride else "none",
        )
        tape.pass_on(image, tape.reshape(scattered, image.shape))

    return tape.record(Value(name=name, shape=(None, channels, *size)), [image], backward)


def _max_pool_pairs(tape: Tape, image: Value) -> Value:
    """Windows of 2×2 side by side: four slices and their maximum.

    A product with a permutation matrix separates even and odd columns, and joins them again. It is
    exact and, unlike a slice with a step, vectorised.
    """
    graph = tape.graph
    _, channels, height, width = image.shape
    assert channels and height and width
    low, wide = height // 2, width // 2
    order = np.concatenate([np.arange(0, width, 2), np.arange(1, width, 2)])
    apart = np.zeros((width, width), np.float32)
    apart[order, np.arange(width)] = 1.0
    rows = graph.reshape(image.name, -1, width)
    sorted_rows = graph.reshape(graph.op("MatMul", rows, graph.constant(apart)), -1, 2 * width)
    parts = graph.ops("Split", [sorted_rows, graph.integers(*[wide] * 4)], 4, axis=1)
    upper, lower = graph.op("Max", parts[0], parts[1]), graph.op("Max", parts[2], parts[3])
    name = graph.op("Max", upper, lower)
    shape = (None, channels, low, wide)
    pooled = graph.reshape(name, -1, *shape[1:])

    def backward(gradient: str) -> None:
        flat = graph.reshape(gradient, -1, wide)
        first, second = _divide(tape, flat, upper, lower)
        quarters = [
            *_divide(tape, first, parts[0], parts[1]),
            *_divide(tape, second, parts[2], parts[3]),
        ]
        joined = graph.reshape(graph.op("Concat", *quarters, axis=1), -1, width)
        together = graph.op("MatMul", joined, graph.constant(np.ascontiguousarray(apart.T)))
        tape.pass_on(image, graph.reshape(together, -1, channels, height, width))

    return tape.record(Value(name=pooled, shape=shape), [image], backward)


def _divide(tape: Tape, gradient: str, one: str, other: str) -> tuple[str, str]:
    """The gradients of a maximum's operands: the larger gets all, ``one`` if they are equal."""
    graph = tape.graph
    mask = graph.op("Cast", graph.op("GreaterOrEqual", one, other), to=1)
    mine = graph.op("Mul", gradient, mask)
    return mine, graph.op("Sub", gradient, mine)


def average_pool(
    tape: Tape, image: Value, window: Window, *, count_padding: bool, divisor: int | None = None
) -> Value:
    """The mean under each window.

    Args:
        tape: the graph.
        image: (N, C, H, W).
        window: kernel, stride, padding.
        count_padding: whether padding counts as pixels of value zero; what the window has beyond
            the padding never counts.
        divisor: by which the sum under a window is divided, instead of by its pixels.
    """
    graph = tape.graph
    _, channels, height, width = image.shape
    assert channels and height and width
    size = window.output(height, width)
    area = window.kernel[0] * window.kernel[1]
    pixels = _pixels(window, (height, width), size, padding=count_padding)
    if divisor is not None:
        pixels = np.full(size, divisor, np.float32)
    name = graph.op(
        "AveragePool",
        image.name,
        kernel_shape=window.kernel,
        strides=window.stride,
        pads=window.attributes["pads"],
        count_include_pad=1,
    )
    if (pixels != area).any():
        name = graph.op("Mul", name, graph.constant(np.float32(area) / pixels))

    def backward(gradient: str) -> None:
        scaled = graph.op("Mul", gradient, graph.constant(np.float32(1.0) / pixels))
        alone = graph.reshape(scaled, -1, 1, *size)
        ones = graph.constant(np.ones((1, 1, *window.kernel), np.float32))
        single = Value(name="", shape=(None, 1, height, width))
        kernel = Value(name=ones, shape=(1, 1, *window.kernel))
        spread = image_gradient(tape, alone, single, kernel, window, 1)
        tape.pass_on(image, graph.reshape(spread, -1, channels, height, width))

    return tape.record(Value(name=name, shape=(None, channels, *size)), [image], backward)


def _pixels(
    window: Window, full: tuple[int, int], size: tuple[int, int], *, padding: bool
) -> Numbers:
    """The pixels under each window, with those of the padding or without."""
    counts = []
    for axis in range(2):
        start = np.arange(size[axis]) * window.stride[axis] - window.padding[axis]
        outside = window.padding[axis] if padding else 0
        last = np.minimum(start + window.kernel[axis], full[axis] + outside)
        counts.append((last - np.maximum(start, -outside)).astype(np.float32))
    return np.outer(*counts).astype(np.float32)


def adaptive_average_pool(tape: Tape, image: Value, size: tuple[int, int]) -> Value:
    """The mean of windows that share an image evenly, overlapping where they must.

    It is linear along both axes, so it is two products with constant matrices.
    """
    graph = tape.graph
    _, channels, height, width = image.shape
    assert channels and height and width
    down, across = _shares(height, size[0]), _shares(width, size[1])

    def between(name: str, left: Numbers, right: Numbers) -> str:
        product = graph.op("MatMul", graph.constant(left), name)
        return graph.op("MatMul", product, graph.constant(right))

    def backward(gradient: str) -> None:
        tape.pass_on(image, between(gradient, np.ascontiguousarray(down.T), across))

    name = between(image.name, down, np.ascontiguousarray(across.T))
    return tape.record(Value(name=name, shape=(None, channels, *size)), [image], backward)


def _shares(pixels: int, windows: int) -> Numbers:
    """The share of each pixel in each window's mean, (windows, pixels)."""
    shares = np.zeros((windows, pixels), np.float32)
    for i in range(windows):
        begin, end = i * pixels // windows, -(-(i + 1) * pixels // windows)
        shares[i, begin:end] = 1.0 / (end - begin)
    return shares
