"""Convolution and pooling as ONNX nodes, forward and backward.

ONNX Runtime has no gradient operators on a CPU, so they are put together from forward ones, in the
way that was fastest (``benchmarks/onnx_training.py``):

* the gradient with respect to a convolution's input is a transposed convolution;
* with respect to its weights, one matrix product per position of the kernel, the images shifted by
  that position: (out, N·H·W) × (N·H·W, in). A convolution whose kernel is as large as the image
  says the same and takes three times as long; with few channels the products are joined to one;
* where images have shrunk to a few pixels, convolution itself is a matrix product over the whole
  batch: image by image, the weights would be read from memory again for every image;
* max-pooling whose windows do not overlap takes its windows apart into slices, so that neither
  indices nor scattering is needed. The first of equal maxima gets the gradient, as in PyTorch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from learning.onnx_tape import Tape, Value

SMALL_IMAGE = 16
"""Output pixels up to which a convolution becomes one matrix product."""


NARROW = 144
"""Weights per output channel up to which the matrix products of all positions become one."""


class Window(Struct, frozen=True, kw_only=True):
    """How a kernel moves over an image; (vertical, horizontal) each.

    Attributes:
        kernel: size, pixels.
        stride: step, pixels.
        padding: zeros on either side, pixels.
        dilation: distance of the kernel's elements, pixels.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)

    @property
    def pads(self) -> list[int]:
        """As ONNX wants it: begin of both axes, then end of both."""
        return [*self.padding, *self.padding]

    def output(self, height: int, width: int) -> tuple[int, int]:
        """Size of the output."""
        high, wide = (
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, pad, dilation in zip(
                (height, width), self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
        return high, wide

    def positions(self) -> list[tuple[int, int]]:
        """Offset of every element of the kernel, row by row."""
        return [
            (i * self.dilation[0], j * self.dilation[1])
            for i, j in itertools.product(range(self.kernel[0]), range(self.kernel[1]))
        ]


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
    if groups == 1 and size[0] * size[1] <= SMALL_IMAGE:
        return _convolve_small(tape, image, weight, bias, window, size)
    graph = tape.graph
    inputs = [image.name, weight.name, *([bias.name] if bias else [])]
    name = graph.op(
        "Conv",
        *inputs,
        kernel_shape=window.kernel,
        strides=window.stride,
        pads=window.pads,
        dilations=window.dilation,
        group=groups,
    )

    def backward(gradient: str) -> None:
        if bias is not None and tape.is_active(bias):
            tape.pass_on(bias, graph.op("ReduceSum", gradient, graph.integers(0, 2, 3), keepdims=0))
        if tape.is_active(weight):
            tape.pass_on(weight, _weight_gradient(tape, gradient, image, weight, window, groups))
        if tape.is_active(image):
            tape.pass_on(image, _image_gradient(tape, gradient, image, weight, window, groups))

    output = Value(name=name, shape=(None, out, *size))
    return tape.record(output, [image, weight, *([bias] if bias else [])], backward)


def _image_gradient(
    tape: Tape, gradient: str, image: Value, weight: Value, window: Window, groups: int
) -> str:
    height, width = image.shape[2:]
    assert height and width
    size = window.output(height, width)
    # Rows and columns at the end that no window reaches get no gradient.
    rest = [
        full + 2 * pad - (stride * (steps - 1) + dilation * (kernel - 1) + 1)
        for full, pad, stride, steps, dilation, kernel in zip(
            (height, width),
            window.padding,
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
        strides=window.stride,
        pads=window.pads,
        dilations=window.dilation,
        output_padding=rest,
        group=groups,
    )


def _weight_gradient(
    tape: Tape, gradient: str, image: Value, weight: Value, window: Window, groups: int
) -> str:
    graph = tape.graph
    _, channels, height, width = image.shape
    out = weight.shape[0]
    assert channels and height and width and out
    size = window.output(height, width)
    inner, outer = channels // groups, out // groups
    if groups == 1 and inner * math.prod(window.kernel) <= NARROW:
        return _narrow_weight_gradient(tape, gradient, image, weight, window)
    if groups == 1:
        last = graph.op("Transpose", image.name, perm=[0, 2, 3, 1])
        axes, columns = (1, 2), [-1, inner]
        pads = [0, *window.padding, 0, 0, *window.padding, 0]
        flat = graph.op("Transpose", gradient, perm=[1, 0, 2, 3])
        rows = graph.op("Reshape", flat, graph.integers(outer, -1))
    else:
        split = graph.op("Reshape", image.name, graph.integers(-1, groups, inner, height, width))
        last = graph.op("Transpose", split, perm=[1, 0, 3, 4, 2])
        axes, columns = (2, 3), [groups, -1, inner]
        pads = [0, 0, *window.padding, 0, 0, 0, *window.padding, 0]
        split = graph.op("Reshape", gradient, graph.integers(-1, groups, outer, *size))
        flat = graph.op("Transpose", split, perm=[1, 2, 0, 3, 4])
        rows = graph.op("Reshape", flat, graph.integers(groups, outer, -1))
    padded = graph.op("Pad", last, graph.integers(*pads)) if any(window.padding) else last
    full = (height + 2 * window.padding[0], width + 2 * window.padding[1])
    products = [
        graph.op(
            "MatMul",
            rows,
            graph.op(
                "Reshape",
                _shifted(tape, padded, offset, size, window, axes, full),
                graph.integers(*columns),
            ),
        )
        for offset in window.positions()
    ]
    if len(products) == 1:
        return graph.op("Reshape", products[0], graph.integers(out, inner, *window.kernel))
    apart = [graph.op("Reshape", product, graph.integers(1, out * inner)) for product in products]
    stacked = graph.op("Concat", *apart, axis=0)
    turned = graph.op("Transpose", stacked, perm=[1, 0])
    return graph.op("Reshape", turned, graph.integers(out, inner, *window.kernel))


def _narrow_weight_gradient(
    tape: Tape, gradient: str, image: Value, weight: Value, window: Window
) -> str:
    """One product for all positions: (out, H·W·N) × (H·W·N, k·k·in).

    The batch comes last, so that what a position sees is copied in runs of W·N numbers, not of W.
    """
    graph = tape.graph
    _, channels, height, width = image.shape
    out = weight.shape[0]
    assert channels and height and width and out
    size = window.output(height, width)
    turned = graph.op("Transpose", image.name, perm=[1, 2, 3, 0])
    if any(window.padding):
        turned = graph.op(
            "Pad", turned, graph.integers(0, *window.padding, 0, 0, *window.padding, 0)
        )
    full = (height + 2 * window.padding[0], width + 2 * window.padding[1])
    seen = [
        _shifted(tape, turned, offset, size, window, (1, 2), full) for offset in window.positions()
    ]
    taps = len(seen)
    columns = graph.op("Concat", *seen, axis=0) if taps > 1 else seen[0]
    rows = graph.op("Transpose", gradient, perm=[1, 2, 3, 0])
    product = graph.op(
        "Gemm",
        graph.op("Reshape", rows, graph.integers(out, -1)),
        graph.op("Reshape", columns, graph.integers(taps * channels, -1)),
        transB=1,
    )
    apart = graph.op("Reshape", product, graph.integers(out, taps, channels))
    turned = graph.op("Transpose", apart, perm=[0, 2, 1])
    return graph.op("Reshape", turned, graph.integers(out, channels, *window.kernel))


def _columns(tape: Tape, image: Value, window: Window, size: tuple[int, int]) -> str:
    """What each element of the kernel sees, one row for each: (in·k·k, N·H·W)."""
    graph = tape.graph
    _, channels, height, width = image.shape
    assert channels and height and width
    taps = window.kernel[0] * window.kernel[1]
    turned = graph.op("Transpose", image.name, perm=[1, 0, 2, 3])
    if any(window.padding):
        pads = [0, 0, *window.padding, 0, 0, *window.padding]
        turned = graph.op("Pad", turned, graph.integers(*pads))
    full = (height + 2 * window.padding[0], width + 2 * window.padding[1])
    seen = [
        graph.op(
            "Reshape",
            _shifted(tape, turned, offset, size, window, (2, 3), full),
            graph.integers(channels, 1, -1),
        )
        for offset in window.positions()
    ]
    joined = graph.op("Concat", *seen, axis=1) if taps > 1 else seen[0]
    return graph.op("Reshape", joined, graph.integers(channels * taps, -1))


def _shifted(
    tape: Tape,
    name: str,
    offset: tuple[int, int],
    size: tuple[int, int],
    window: Window,
    axes: tuple[int, int],
    full: tuple[int, int],
) -> str:
    """What the kernel's element at ``offset`` sees: size[0]×size[1] pixels."""
    if offset == (0, 0) and size == full and window.stride == (1, 1):
        return name
    graph = tape.graph
    ends = [o + s * (n - 1) + 1 for o, s, n in zip(offset, window.stride, size, strict=True)]
    return graph.op(
        "Slice",
        name,
        graph.integers(*offset),
        graph.integers(*ends),
        graph.integers(*axes),
        graph.integers(*window.stride),
    )


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
    columns = _columns(tape, image, window, size)
    kernels = graph.op("Reshape", weight.name, graph.integers(out, channels * taps))
    product = graph.op("MatMul", kernels, columns)
    if bias is not None:
        product = graph.op("Add", product, graph.op("Reshape", bias.name, graph.integers(out, 1)))
    name = graph.op(
        "Transpose",
        graph.op("Reshape", product, graph.integers(out, -1, *size)),
        perm=[1, 0, 2, 3],
    )

    def backward(gradient: str) -> None:
        turned = graph.op("Transpose", gradient, perm=[1, 0, 2, 3])
        rows = graph.op("Reshape", turned, graph.integers(out, -1))
        if bias is not None and tape.is_active(bias):
            tape.pass_on(bias, graph.op("ReduceSum", rows, graph.integers(1), keepdims=0))
        if tape.is_active(weight):
            product = graph.op("Gemm", rows, columns, transB=1)
            tape.pass_on(
                weight, graph.op("Reshape", product, graph.integers(out, channels, *kernel))
            )
        if tape.is_active(image):
            spread = graph.op("Gemm", kernels, rows, transA=1)
            split = graph.op("Reshape", spread, graph.integers(channels * taps, -1, *size))
            lines = graph.op(
                "Reshape",
                graph.op("Transpose", split, perm=[1, 0, 2, 3]),
                graph.integers(-1, channels * taps, size[0] * size[1]),
            )
            tape.pass_on(
                image,
                graph.op(
                    "Col2Im",
                    lines,
                    graph.integers(height, width),
                    graph.integers(*kernel),
                    strides=window.stride,
                    pads=window.pads,
                    dilations=window.dilation,
                ),
            )

    output = Value(name=name, shape=(None, out, *size))
    return tape.record(output, [image, weight, *([bias] if bias else [])], backward)


def max_pool(tape: Tape, image: Value, window: Window) -> Value:
    """The largest value under each window."""
    _, channels, height, width = image.shape
    assert channels and height and width
    exact = height % window.kernel[0] == 0 and width % window.kernel[1] == 0
    if window.kernel == window.stride == (2, 2) and not any(window.padding) and exact:
        return _max_pool_pairs(tape, image)
    graph = tape.graph
    size = window.output(height, width)
    name, indices = graph.ops(
        "MaxPool",
        [image.name],
        2,
        kernel_shape=window.kernel,
        strides=window.stride,
        pads=window.pads,
        dilations=window.dilation,
    )

    def backward(gradient: str) -> None:
        # ONNX counts pixels through the whole batch.
        flat = graph.op("Reshape", image.name, graph.integers(-1))
        zeros = graph.op(
            "ConstantOfShape",
            graph.op("Shape", flat),
            value=_tensor(np.zeros(1, np.float32)),
        )
        scattered = graph.op(
            "ScatterElements",
            zeros,
            graph.op("Reshape", indices, graph.integers(-1)),
            graph.op("Reshape", gradient, graph.integers(-1)),
            axis=0,
            reduction="add" if window.kernel != window.stride else "none",
        )
        tape.pass_on(image, graph.op("Reshape", scattered, graph.integers(-1, *image.shape[1:])))  # type: ignore[arg-type]

    return tape.record(Value(name=name, shape=(None, channels, *size)), [image], backward)


def _max_pool_pairs(tape: Tape, image: Value) -> Value:
    """Windows of 2×2 side by side: four slices and their maximum.

    Slices of even and odd columns are taken and put back by a product with a permutation matrix,
    which is exact and, unlike a slice with a step, vectorised.
    """
    graph = tape.graph
    _, channels, height, width = image.shape
    assert channels and height and width
    low, wide = height // 2, width // 2
    order = np.concatenate([np.arange(0, width, 2), np.arange(1, width, 2)])
    apart = np.zeros((width, width), np.float32)
    apart[order, np.arange(width)] = 1.0
    rows = graph.op("Reshape", image.name, graph.integers(-1, width))
    parts = graph.ops(
        "Split",
        [
            graph.op(
                "Reshape",
                graph.op("MatMul", rows, graph.constant(apart)),
                graph.integers(-1, 2 * width),
            ),
            graph.integers(*[wide] * 4),
        ],
        4,
        axis=1,
    )
    upper, lower = graph.op("Max", parts[0], parts[1]), graph.op("Max", parts[2], parts[3])
    name = graph.op("Max", upper, lower)
    shape = (None, channels, low, wide)
    pooled = graph.op("Reshape", name, graph.integers(-1, *shape[1:]))

    def backward(gradient: str) -> None:
        flat = graph.op("Reshape", gradient, graph.integers(-1, wide))
        first, second = _divide(tape, flat, upper, lower)
        quarters = [
            *_divide(tape, first, parts[0], parts[1]),
            *_divide(tape, second, parts[2], parts[3]),
        ]
        joined = graph.op(
            "Reshape", graph.op("Concat", *quarters, axis=1), graph.integers(-1, width)
        )
        together = graph.op("MatMul", joined, graph.constant(np.ascontiguousarray(apart.T)))
        tape.pass_on(
            image, graph.op("Reshape", together, graph.integers(-1, channels, height, width))
        )

    return tape.record(Value(name=pooled, shape=shape), [image], backward)


def _divide(tape: Tape, gradient: str, one: str, other: str) -> tuple[str, str]:
    """The gradient of a maximum to the larger; to ``one`` if they are equal."""
    graph = tape.graph
    mask = graph.op("Cast", graph.op("GreaterOrEqual", one, other), to=1)
    mine = graph.op("Mul", gradient, mask)
    return mine, graph.op("Sub", gradient, mine)


def average_pool(tape: Tape, image: Value, window: Window, *, count_padding: bool) -> Value:
    """The mean under each window.

    Args:
        tape: the graph.
        image: (N, C, H, W).
        window: kernel, stride, padding.
        count_padding: whether padding counts as pixels of value zero.
    """
    graph = tape.graph
    _, channels, height, width = image.shape
    assert channels and height and width
    size = window.output(height, width)
    name = graph.op(
        "AveragePool",
        image.name,
        kernel_shape=window.kernel,
        strides=window.stride,
        pads=window.pads,
        count_include_pad=int(count_padding),
    )

    def backward(gradient: str) -> None:
        shares = np.full(size, 1.0 / (window.kernel[0] * window.kernel[1]), np.float32)
        if not count_padding:
            shares = 1.0 / _pixels_inside(window, (height, width), size)
        scaled = graph.op("Mul", gradient, graph.constant(shares))
        alone = graph.op("Reshape", scaled, graph.integers(-1, 1, *size))
        ones = graph.constant(np.ones((1, 1, *window.kernel), np.float32))
        single = Value(name="", shape=(None, 1, height, width))
        kernel = Value(name=ones, shape=(1, 1, *window.kernel))
        spread = _image_gradient(tape, alone, single, kernel, window, 1)
        tape.pass_on(
            image, graph.op("Reshape", spread, graph.integers(-1, channels, height, width))
        )

    return tape.record(Value(name=name, shape=(None, channels, *size)), [image], backward)


def _pixels_inside(
    window: Window, full: Sequence[int], size: tuple[int, int]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    counts = []
    for axis in range(2):
        start = np.arange(size[axis]) * window.stride[axis] - window.padding[axis]
        inside = np.minimum(start + window.kernel[axis], full[axis]) - np.maximum(start, 0)
        counts.append(inside.astype(np.float32))
    return np.outer(*counts).astype(np.float32)


def _tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> object:
    from onnx import numpy_helper

    return numpy_helper.from_array(array)
