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
    image, weight = args[0], args[1]
    given = args[2:]
    bias = given[0] if given else None
    stride = _pair(given[1]) if len(given) > 1 else (1, 1)
    dilation = _pair(given[3]) if len(given) > 3 else (1, 1)
    groups = int(given[4]) if len(given) > 4 else 1
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    padding: Any = given[2] if len(given) > 2 else 0
    if padding == "valid":
        padding = 0
    elif padding == "same":
        padding = [d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True)]
        if any(d * (k - 1) % 2 for d, k in zip(dilation, kernel, strict=True)):
            raise NotExportableError(f'padding "same" with the even kernel {kernel}')
    window = Window(kernel=kernel, stride=stride, padding=_pair(padding), dilation=dilation)
    return onnx_convolution.convolve(tape, image, weight, bias, window, groups)


def max_pool(tape: Tape, _shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``max_pool2d``."""
    kernel, stride, padding, dilation = _pool_window(args)
    if len(args) > 5 and args[5]:
        raise NotExportableError("max_pool2d with ceil_mode")
    window = Window(kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    before = tape.rectified.get(args[0].name)
    if before is None:
        return pooling.max_pool(tape, args[0], window)
    # The ReLU of the maximum equals the maximum of the ReLUs, and has fewer elements. The gradients
    # are the same, because a maximum that is not positive gets none either way.
    pooled = pooling.max_pool(tape, before, window)
    return relu(tape, pooled.shape, [pooled], {})


def average_pool(tape: Tape, _shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``avg_pool2d``."""
    kernel, stride, padding, _dilation = _pool_window(args[:4])
    if len(args) > 4 and args[4]:
        raise NotExportableError("avg_pool2d with ceil_mode")
    if len(args) > 6 and args[6] is not None:
        raise NotExportableError("avg_pool2d with divisor_override")
    window = Window(kernel=kernel, stride=stride, padding=padding)
    counted = bool(args[5]) if len(args) > 5 else True
    return pooling.average_pool(tape, args[0], window, count_padding=counted)


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
    weight, bias, epsilon = _norm_arguments(args)
    return norms.group_norm(tape, args[0], int(args[1]), weight, bias, epsilon)


def layer_norm(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``layer_norm`` over the last dimensions: one group, with weights per element."""
    source: Value = args[0]
    weight, bias, epsilon = _norm_arguments(args)
    if len(source.shape) != 1 + len(args[1]):
        raise NotExportableError(f"layer_norm over {args[1]} of {source.shape}")
    flat = (None, math.prod(int(size) for size in args[1]))
    rows = reshape(tape, flat, [source], {})
    flat_weight, flat_bias = (
        None if value is None else reshape(tape, (flat[1],), [value], {})
        for value in (weight, bias)
    )
    normal = norms.group_norm(tape, rows, 1, flat_weight, flat_bias, epsilon)
    return reshape(tape, shape, [normal], {})


def _norm_arguments(args: list[Any]) -> tuple[Value | None, Value | None, float]:
    given = [*args[2:5], *[None, None, 1e-5][len(args[2:5]) :]]
    return given[0], given[1], float(given[2])


def _pool_window(args: list[Any]) -> tuple[tuple[int, int], ...]:
    kernel = _pair(args[1])
    stride = _pair(args[2]) if len(args) > 2 and args[2] else kernel
    padding = _pair(args[3]) if len(args) > 3 else (0, 0)
    dilation = _pair(args[4]) if len(args) > 4 else (1, 1)
    return kernel, stride, padding, dilation


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
