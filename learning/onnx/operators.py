"""The rule for each PyTorch operator, which writes its ONNX nodes, forward and backward.

Rules are found by the operator's name as :func:`torch.export.export` writes it. The rules here read
PyTorch's arguments for convolution, pooling and normalisation; the modules that they call emit the
nodes.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from fimi.learning.onnx import convolution as onnx_convolution
from fimi.learning.onnx import norms, pooling
from fimi.learning.onnx.elementwise import ELEMENTWISE, relu
from fimi.learning.onnx.linear import linear
from fimi.learning.onnx.shapes import SHAPES, filled, reduction, reshape
from fimi.learning.onnx.tape import NotExportableError, Rule, Shape, Tape, Value
from fimi.learning.onnx.window import Window


def convolution(tape: Tape, _shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``conv2d``; its padding is numbers or a word."""
    image, weight, *given = args
    bias, stride, padding, dilation, groups = filled(given, None, 1, 0, 1, 1)
    dilation = _pair(dilation)
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    if padding == "valid":
        padding = 0
    elif padding == "same":
        padding = [d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True)]
        if any(d * (k - 1) % 2 for d, k in zip(dilation, kernel, strict=True)):
            raise NotExportableError(f'padding "same" with the even kernel {kernel}')
    window = Window(kernel=kernel, stride=_pair(stride), padding=_pair(padding), dilation=dilation)
    return onnx_convolution.convolve(tape, image, weight, bias, window, int(groups))


def transposed_convolution(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``conv_transpose2d``."""
    image, weight, *given = args
    bias, stride, padding, _rest, groups, dilation = filled(given, None, 1, 0, 0, 1, 1)
    window = Window(
        kernel=(int(weight.shape[2]), int(weight.shape[3])),
        stride=_pair(stride),
        padding=_pair(padding),
        dilation=_pair(dilation),
    )
    size = _pair(shape[2:])
    return onnx_convolution.convolve_transposed(
        tape, image, weight, bias, window, int(groups), size
    )


def max_pool(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``max_pool2d``."""
    image, kernel, *given = args
    stride, padding, dilation, _ceil = filled(given, None, 0, 1, False)
    window = _pool_window(image, shape, kernel, stride, padding, dilation)
    if any(end >= size for end, size in zip(window.ends, window.kernel, strict=True)):
        raise NotExportableError("max_pool2d with ceil_mode and dilation beyond its kernel")
    return _max_pooled(tape, image, window)


def _max_pooled(tape: Tape, image: Value, window: Window) -> Value:
    before = tape.rectified.get(image.name)
    if before is None:
        return pooling.max_pool(tape, image, window)
    # The ReLU of the maximum equals the maximum of the ReLUs, and has fewer elements. The gradients
    # are the same, because a maximum that is not positive gets none either way.
    pooled = pooling.max_pool(tape, before, window)
    return relu(tape, pooled.shape, [pooled], {})


def average_pool(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``avg_pool2d``."""
    image, kernel, *given = args
    stride, padding, _ceil, counted, divisor = filled(given, None, 0, False, True, None)
    window = _pool_window(image, shape, kernel, stride, padding)
    return pooling.average_pool(
        tape, image, window, count_padding=bool(counted), divisor=divisor and int(divisor)
    )


def adaptive_average_pool(
    tape: Tape, shape: Shape, args: list[Any], kwargs: dict[str, Any]
) -> Value:
    """``adaptive_avg_pool2d``."""
    image: Value = args[0]
    if shape == image.shape:
        return image
    if shape[2:] == (1, 1):
        return reduction("Mean")(tape, shape, [image, [2, 3]], kwargs)
    window = _dividing(image, shape)
    if window is None:
        return pooling.adaptive_average_pool(tape, image, _pair(shape[2:]))
    return pooling.average_pool(tape, image, window, count_padding=True)


def adaptive_max_pool(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``adaptive_max_pool2d`` to a size that divides the image's."""
    window = _dividing(args[0], shape)
    if window is None:
        sizes = ("×".join(map(str, sides[2:])) for sides in (args[0].shape, shape))
        raise NotExportableError(
            f"adaptive_max_pool2d from {' to '.join(sizes)}, which does not divide it"
        )
    return _max_pooled(tape, args[0], window)


def _dividing(image: Value, shape: Shape) -> Window | None:
    """The window of a pooling to this shape, where its windows lie side by side and fill it."""
    pairs = [(size or 0, count or 1) for size, count in zip(image.shape, shape, strict=True)]
    if any(size % count for size, count in pairs[2:]):
        return None
    step = _pair([size // count for size, count in pairs[2:]])
    return Window(kernel=step, stride=step, padding=(0, 0))


def group_norm(tape: Tape, _shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``group_norm``."""
    weight, bias, epsilon = filled(args[2:5], None, None, 1e-5)
    return norms.group_norm(tape, args[0], int(args[1]), weight, bias, float(epsilon))


def layer_norm(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``layer_norm`` over the last dimensions: one group, with weights per element."""
    source: Value = args[0]
    weight, bias, epsilon = filled(args[2:5], None, None, 1e-5)
    if len(source.shape) != 1 + len(args[1]):
        raise NotExportableError(f"layer_norm over {args[1]} of {source.shape}")
    flat = (None, math.prod(int(size) for size in args[1]))
    rows = reshape(tape, flat, [source], {})
    flat_weight, flat_bias = (
        None if value is None else reshape(tape, (flat[1],), [value], {})
        for value in (weight, bias)
    )
    normal = norms.group_norm(tape, rows, 1, flat_weight, flat_bias, float(epsilon))
    return reshape(tape, shape, [normal], {})


def _pool_window(
    image: Value, shape: Shape, kernel: Any, stride: Any, padding: Any, dilation: Any = 1
) -> Window:
    """The window of a pooling; by ``ceil_mode`` the last one may end beyond the image."""
    window = Window(
        kernel=_pair(kernel),
        stride=_pair(stride or kernel),
        padding=_pair(padding),
        dilation=_pair(dilation),
    )
    reach = [
        step * (count - 1) + apart * (size - 1) + 1
        for step, count, apart, size in zip(
            window.stride, _pair(shape[2:]), window.dilation, window.kernel, strict=True
        )
    ]
    padded = window.padded(*_pair(image.shape[2:]))
    rest = [max(0, far - full) for far, full in zip(reach, padded, strict=True)]
    return msgspec.structs.replace(window, rest=_pair(rest))


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    pair = [int(item) for item in value]
    return (pair[0], pair[-1])


_RULES: dict[str, Rule] = {
    **ELEMENTWISE,
    **SHAPES,
    "linear": linear,
    "conv2d": convolution,
    "conv_transpose2d": transposed_convolution,
    "max_pool2d": max_pool,
    "avg_pool2d": average_pool,
    "adaptive_avg_pool2d": adaptive_average_pool,
    "adaptive_max_pool2d": adaptive_max_pool,
    "group_norm": group_norm,
    "layer_norm": layer_norm,
}


def rule_for(operator: str) -> Rule | None:
    """The rule for an operator such as ``aten.relu_.default``, in place or not."""
    return _RULES.get(operator.split(".")[1].rstrip("_"))
