"""The rule for each PyTorch operator, which writes its ONNX nodes, forward and backward.

Rules are found by the operator's name as :func:`torch.export.export` writes it. The rules here read
PyTorch's arguments for convolution, pooling and normalisation; the modules that they call emit the
nodes.
"""

from __future__ import annotations

import math
from typing import Any

from fimi.learning.onnx import convolution as onnx_convolution
from fimi.learning.onnx import norms, pooling
from fimi.learning.onnx.elementwise import ELEMENTWISE, relu
from fimi.learning.onnx.linear import linear
from fimi.learning.onnx.shapes import SHAPES, reduction, reshape
from fimi.learning.onnx.tape import NotExportableError, Rule, Shape, Tape, Value
from fimi.learning.onnx.window import Window


def convolution(tape: Tape, _shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``conv2d``; its padding is numbers or a word."""
    image, weight, *given = args
    bias, stride, padding, dilation, groups = _filled(given, None, 1, 0, 1, 1)
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


def max_pool(tape: Tape, _shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``max_pool2d``."""
    image, kernel, *given = args
    stride, padding, dilation, ceil = _filled(given, None, 0, 1, False)
    if ceil:
        raise NotExportableError("max_pool2d with ceil_mode")
    window = _pool_window(kernel, stride, padding, dilation)
    before = tape.rectified.get(image.name)
    if before is None:
        return pooling.max_pool(tape, image, window)
    # The ReLU of the maximum equals the maximum of the ReLUs, and has fewer elements. The gradients
    # are the same, because a maximum that is not positive gets none either way.
    pooled = pooling.max_pool(tape, before, window)
    return relu(tape, pooled.shape, [pooled], {})


def average_pool(tape: Tape, _shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``avg_pool2d``."""
    image, kernel, *given = args
    stride, padding, ceil, counted, divisor = _filled(given, None, 0, False, True, None)
    if ceil:
        raise NotExportableError("avg_pool2d with ceil_mode")
    if divisor is not None:
        raise NotExportableError("avg_pool2d with divisor_override")
    window = _pool_window(kernel, stride, padding)
    return pooling.average_pool(tape, image, window, count_padding=bool(counted))


def adaptive_average_pool(
    tape: Tape, shape: Shape, args: list[Any], kwargs: dict[str, Any]
) -> Value:
    """``adaptive_avg_pool2d`` to a size that divides the image's."""
    image: Value = args[0]
    height, width = (size or 0 for size in image.shape[2:])
    high, wide = _pair(args[1])
    if height % high or width % wide:
        raise NotExportableError(
            f"adaptive_avg_pool2d from {height}×{width} to {high}×{wide}, which does not divide it"
        )
    if (high, wide) == (1, 1):
        return reduction("Mean")(tape, shape, [image, [2, 3]], kwargs)
    step = (height // high, width // wide)
    window = Window(kernel=step, stride=step, padding=(0, 0))
    return pooling.average_pool(tape, image, window, count_padding=True)


def group_norm(tape: Tape, _shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``group_norm``."""
    weight, bias, epsilon = _filled(args[2:5], None, None, 1e-5)
    return norms.group_norm(tape, args[0], int(args[1]), weight, bias, float(epsilon))


def layer_norm(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``layer_norm`` over the last dimensions: one group, with weights per element."""
    source: Value = args[0]
    weight, bias, epsilon = _filled(args[2:5], None, None, 1e-5)
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


def _filled(args: list[Any], *defaults: Any) -> list[Any]:
    """The arguments, with PyTorch's defaults for those that are left out at the end."""
    return [*args, *defaults[len(args) :]]


def _pool_window(kernel: Any, stride: Any, padding: Any, dilation: Any = 1) -> Window:
    return Window(
        kernel=_pair(kernel),
        stride=_pair(stride or kernel),
        padding=_pair(padding),
        dilation=_pair(dilation),
    )


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
    "max_pool2d": max_pool,
    "avg_pool2d": average_pool,
    "adaptive_avg_pool2d": adaptive_average_pool,
    "group_norm": group_norm,
    "layer_norm": layer_norm,
}


def rule_for(operator: str) -> Rule | None:
    """The rule for an operator such as ``aten.relu_.default``, in place or not."""
    return _RULES.get(operator.split(".")[1].rstrip("_"))
