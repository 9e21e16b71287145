"""What each PyTorch operator becomes in ONNX, forward and backward.

Rules are looked up by the operator's name as :func:`torch.export.export` writes it. Convolution,
pooling and normalisation live in modules of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from learning import onnx_convolution, onnx_norms
from learning.onnx_convolution import Window
from learning.onnx_tape import Shape, Tape, Value

Rule = Callable[[Tape, Shape, list[Any], dict[str, Any]], Value]
"""Emits an operator: (tape, shape of the output, arguments, keyword arguments) → output.

Arguments are :class:`Value` for tensors and plain Python values for the rest."""


class NotExportableError(ValueError):
    """An operator, or a setting of it, that no rule covers; the message says which."""


def relu(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """The gradient passes where the output is positive."""
    graph, image = tape.graph, args[0]
    name = graph.op("Relu", image.name)

    def backward(gradient: str) -> None:
        # Comparing and casting is twice as fast as Sign, and as exact.
        passes = graph.op("Cast", graph.op("Greater", name, graph.number(0.0)), to=1)
        tape.pass_on(image, graph.op("Mul", gradient, passes))

    output = tape.record(Value(name=name, shape=shape), [image], backward)
    tape.rectified[name] = image
    return output


def _pointwise(
    forward: Callable[[Tape, str, list[Any], dict[str, Any]], str],
    slope: Callable[[Tape, str, str, list[Any], dict[str, Any]], str],
) -> Rule:
    """A function of each element; ``slope`` gets input, output and arguments."""

    def rule(tape: Tape, shape: Shape, args: list[Any], kwargs: dict[str, Any]) -> Value:
        source: Value = args[0]
        name = forward(tape, source.name, args[1:], kwargs)

        def backward(gradient: str) -> None:
            steep = slope(tape, source.name, name, args[1:], kwargs)
            tape.pass_on(source, tape.graph.op("Mul", gradient, steep))

        return tape.record(Value(name=name, shape=shape), [source], backward)

    return rule


def _inside(tape: Tape, x: str, low: float, high: float) -> str:
    """1 where low < x < high, else 0."""
    graph = tape.graph
    both = graph.op(
        "And",
        graph.op("Greater", x, graph.number(low)),
        graph.op("Less", x, graph.number(high)),
    )
    return graph.op("Cast", both, to=1)


def _tanh_slope(tape: Tape, _x: str, y: str, _a: list[Any], _k: dict[str, Any]) -> str:
    return tape.graph.op("Sub", tape.graph.number(1.0), tape.graph.op("Mul", y, y))


def _sigmoid_slope(tape: Tape, _x: str, y: str, _a: list[Any], _k: dict[str, Any]) -> str:
    graph = tape.graph
    return graph.op("Mul", y, graph.op("Sub", graph.number(1.0), y))


def _silu(tape: Tape, x: str, _a: list[Any], _k: dict[str, Any]) -> str:
    return tape.graph.op("Mul", x, tape.graph.op("Sigmoid", x))


def _silu_slope(tape: Tape, x: str, y: str, _a: list[Any], _k: dict[str, Any]) -> str:
    graph = tape.graph
    share = graph.op("Sigmoid", x)
    rest = graph.op("Sub", graph.number(1.0), share)
    return graph.op("Add", share, graph.op("Mul", y, rest))


def _gelu(tape: Tape, x: str, _a: list[Any], kwargs: dict[str, Any]) -> str:
    if kwargs.get("approximate", "none") != "none":
        raise NotExportableError(f"gelu with approximate={kwargs['approximate']!r}")
    return tape.graph.op("Mul", x, _normal_cdf(tape, x))


def _normal_cdf(tape: Tape, x: str) -> str:
    graph = tape.graph
    erf = graph.op("Erf", graph.op("Mul", x, graph.number(math.sqrt(0.5))))
    return graph.op("Mul", graph.op("Add", erf, graph.number(1.0)), graph.number(0.5))


def _gelu_slope(tape: Tape, x: str, _y: str, _a: list[Any], _k: dict[str, Any]) -> str:
    graph = tape.graph
    squared = graph.op("Mul", graph.op("Mul", x, x), graph.number(-0.5))
    bell = graph.op("Mul", graph.op("Exp", squared), graph.number(1 / math.sqrt(2 * math.pi)))
    return graph.op("Add", _normal_cdf(tape, x), graph.op("Mul", x, bell))


def _leaky(tape: Tape, x: str, args: list[Any], _k: dict[str, Any]) -> str:
    return tape.graph.op("LeakyRelu", x, alpha=float(args[0]) if args else 0.01)


def _leaky_slope(tape: Tape, x: str, _y: str, args: list[Any], _k: dict[str, Any]) -> str:
    graph = tape.graph
    positive = graph.op("Greater", x, graph.number(0.0))
    flat = graph.number(float(args[0]) if args else 0.01)
    return graph.op("Where", positive, graph.number(1.0), flat)


def _elu(tape: Tape, x: str, args: list[Any], _k: dict[str, Any]) -> str:
    if args[1:] and any(float(scale) != 1.0 for scale in args[1:]):
        raise NotExportableError(f"elu with scales {args[1:]}")
    return tape.graph.op("Elu", x, alpha=float(args[0]) if args else 1.0)


def _elu_slope(tape: Tape, x: str, y: str, args: list[Any], _k: dict[str, Any]) -> str:
    graph = tape.graph
    positive = graph.op("Greater", x, graph.number(0.0))
    bent = graph.op("Add", y, graph.number(float(args[0]) if args else 1.0))
    return graph.op("Where", positive, graph.number(1.0), bent)


def _hardtanh(tape: Tape, x: str, args: list[Any], _k: dict[str, Any]) -> str:
    low, high = (float(bound) for bound in (args or [-1.0, 1.0]))
    return tape.graph.op("Clip", x, tape.graph.number(low), tape.graph.number(high))


def _hardtanh_slope(tape: Tape, x: str, _y: str, args: list[Any], _k: dict[str, Any]) -> str:
    low, high = (float(bound) for bound in (args or [-1.0, 1.0]))
    return _inside(tape, x, low, high)


def _hardsigmoid(tape: Tape, x: str, _a: list[Any], _k: dict[str, Any]) -> str:
    return tape.graph.op("HardSigmoid", x, alpha=1.0 / 6.0, beta=0.5)


def _hardsigmoid_slope(tape: Tape, x: str, _y: str, _a: list[Any], _k: dict[str, Any]) -> str:
    return tape.graph.op("Mul", _inside(tape, x, -3.0, 3.0), tape.graph.number(1.0 / 6.0))


def _hardswish(tape: Tape, x: str, args: list[Any], kwargs: dict[str, Any]) -> str:
    return tape.graph.op("Mul", x, _hardsigmoid(tape, x, args, kwargs))


def _hardswish_slope(tape: Tape, x: str, _y: str, args: list[Any], kwargs: dict[str, Any]) -> str:
    graph = tape.graph
    steep = graph.op("Mul", x, _hardsigmoid_slope(tape, x, "", args, kwargs))
    return graph.op("Add", _hardsigmoid(tape, x, args, kwargs), steep)


def _softplus(tape: Tape, x: str, args: list[Any], _k: dict[str, Any]) -> str:
    if args and float(args[0]) != 1.0:
        raise NotExportableError(f"softplus with beta={args[0]}")
    return tape.graph.op("Softplus", x)


def add(tape: Tape, shape: Shape, args: list[Any], kwargs: dict[str, Any]) -> Value:
    """``a + alpha·b``."""
    return _sum(tape, shape, args, float(kwargs.get("alpha", 1)))


def subtract(tape: Tape, shape: Shape, args: list[Any], kwargs: dict[str, Any]) -> Value:
    """``a − alpha·b``."""
    return _sum(tape, shape, args, -float(kwargs.get("alpha", 1)))


def _sum(tape: Tape, shape: Shape, args: list[Any], sign: float) -> Value:
    graph = tape.graph
    one, other = (_value(tape, arg) for arg in args[:2])
    kind = "Sub" if sign == -1.0 else "Add"
    scaled = other.name
    if abs(sign) != 1.0:
        scaled = graph.op("Mul", other.name, graph.number(sign))
    name = graph.op(kind, one.name, scaled)

    def backward(gradient: str) -> None:
        tape.pass_on(one, tape.sum_to(gradient, shape, one.shape))
        if tape.is_active(other):
            theirs = tape.sum_to(gradient, shape, other.shape)
            if sign != 1.0:
                theirs = graph.op("Mul", theirs, graph.number(sign))
            tape.pass_on(other, theirs)

    return tape.record(Value(name=name, shape=shape), [one, other], backward)


def multiply(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``a·b``."""
    graph = tape.graph
    one, other = (_value(tape, arg) for arg in args[:2])
    name = graph.op("Mul", one.name, other.name)

    def backward(gradient: str) -> None:
        for mine, theirs in ((one, other), (other, one)):
            if tape.is_active(mine):
                product = graph.op("Mul", gradient, theirs.name)
                tape.pass_on(mine, tape.sum_to(product, shape, mine.shape))

    return tape.record(Value(name=name, shape=shape), [one, other], backward)


def divide(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``a / b``."""
    graph = tape.graph
    one, other = (_value(tape, arg) for arg in args[:2])
    name = graph.op("Div", one.name, other.name)

    def backward(gradient: str) -> None:
        quotient = graph.op("Div", gradient, other.name)
        tape.pass_on(one, tape.sum_to(quotient, shape, one.shape))
        if tape.is_active(other):
            product = graph.op("Neg", graph.op("Mul", quotient, name))
            tape.pass_on(other, tape.sum_to(product, shape, other.shape))

    return tape.record(Value(name=name, shape=shape), [one, other], backward)


def _value(tape: Tape, argument: Any) -> Value:
    if isinstance(argument, Value):
        return argument
    return Value(name=tape.graph.number(float(argument)), shape=())


def linear(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``x·Wᵀ + b``."""
    graph = tape.graph
    source, weight, bias = args[0], args[1], args[2] if len(args) > 2 else None
    rows = source.name
    if len(source.shape) != 2:
        rows = graph.op("Reshape", rows, graph.integers(-1, source.shape[-1]))
    biases = [bias.name] if bias is not None else []
    name = graph.op("Gemm", rows, weight.name, *biases, transB=1)
    tape.multiply_adds += math.prod(n or 1 for n in (*source.shape, weight.shape[0]))
    if len(source.shape) != 2:
        name = tape.reshape(name, shape)

    def backward(gradient: str) -> None:
        flat = gradient
        if len(source.shape) != 2:
            flat = graph.op("Reshape", gradient, graph.integers(-1, shape[-1] or 1))
        if bias is not None and tape.is_active(bias):
            tape.pass_on(bias, graph.op("ReduceSum", flat, graph.integers(0), keepdims=0))
        if tape.is_active(weight):
            tape.pass_on(weight, graph.op("Gemm", flat, rows, transA=1))
        if tape.is_active(source):
            product = graph.op("MatMul", flat, weight.name)
            back = product if len(source.shape) == 2 else tape.reshape(product, source.shape)
            tape.pass_on(source, back)

    inputs = [value for value in (source, weight, bias) if value is not None]
    return tape.record(Value(name=name, shape=shape), inputs, backward)


def reshape(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """The same numbers in another shape."""
    source: Value = args[0]
    if shape.count(None) > 1 or (None not in shape) != (None not in source.shape):
        raise NotExportableError(f"a reshape from {source.shape} to {shape}")
    if shape == source.shape:
        return source
    name = tape.reshape(source.name, shape)

    def backward(gradient: str) -> None:
        tape.pass_on(source, tape.reshape(gradient, source.shape))

    return tape.record(Value(name=name, shape=shape), [source], backward)


def identity(_tape: Tape, _shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """Nothing."""
    value: Value = args[0]
    return value


def permute(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """Another order of dimensions."""
    source: Value = args[0]
    order = [int(axis) % len(shape) for axis in args[1]]
    name = tape.graph.op("Transpose", source.name, perm=order)

    def backward(gradient: str) -> None:
        back = [int(axis) for axis in np.argsort(order)]
        tape.pass_on(source, tape.graph.op("Transpose", gradient, perm=back))

    return tape.record(Value(name=name, shape=shape), [source], backward)


def transpose(tape: Tape, shape: Shape, args: list[Any], kwargs: dict[str, Any]) -> Value:
    """Two dimensions swapped."""
    order = list(range(len(shape)))
    one, other = int(args[1]), int(args[2])
    order[one], order[other] = order[other], order[one]
    return permute(tape, shape, [args[0], order], kwargs)


def concatenate(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """Tensors side by side."""
    graph = tape.graph
    parts: list[Value] = args[0]
    axis = int(args[1] if len(args) > 1 else 0) % len(shape)
    sizes = [part.shape[axis] for part in parts]
    if any(size is None for size in sizes):
        raise NotExportableError("cat along the batch")
    name = graph.op("Concat", *[part.name for part in parts], axis=axis)

    def backward(gradient: str) -> None:
        split = graph.integers(*[size or 0 for size in sizes])
        pieces = graph.ops("Split", [gradient, split], len(parts), axis=axis)
        for part, piece in zip(parts, pieces, strict=True):
            tape.pass_on(part, piece)

    return tape.record(Value(name=name, shape=shape), parts, backward)


def _reduction(kind: str) -> Rule:
    def rule(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
        source: Value = args[0]
        rank = len(source.shape)
        axes = sorted(int(axis) % rank for axis in (args[1] if len(args) > 1 else range(rank)))
        if any(source.shape[axis] is None for axis in axes):
            raise NotExportableError("a reduction over the batch")
        kept = tuple(1 if axis in axes else size for axis, size in enumerate(source.shape))
        name = tape.graph.op(
            f"Reduce{kind}",
            source.name,
            *([tape.graph.integers(*axes)]),
            keepdims=int(len(shape) == rank),
        )
        count = math.prod(source.shape[axis] or 1 for axis in axes)

        def backward(gradient: str) -> None:
            wide = tape.reshape(gradient, kept)
            ones = [1 if size is None else size for size in source.shape]
            factor = 1.0 / count if kind == "Mean" else 1.0
            spread = tape.graph.constant(np.full(ones, factor, np.float32))
            tape.pass_on(source, tape.graph.op("Mul", wide, spread))

        return tape.record(Value(name=name, shape=shape), [source], backward)

    return rule


def convolution(tape: Tape, _shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``conv2d`` with numbers or a word for the padding."""
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
        return onnx_convolution.max_pool(tape, args[0], window)
    # The ReLU of the maximum is the maximum of the ReLUs, and there are fewer of it; what gets a
    # gradient is the same, because a maximum that is not positive gets none either way.
    pooled = onnx_convolution.max_pool(tape, before, window)
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
    return onnx_convolution.average_pool(tape, args[0], window, count_padding=counted)


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
        return _reduction("Mean")(tape, shape, [image, [2, 3]], kwargs)
    step = (height // high, width // wide)
    window = Window(kernel=step, stride=step, padding=(0, 0))
    return onnx_convolution.average_pool(tape, image, window, count_padding=True)


def group_norm(tape: Tape, _shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``group_norm``."""
    weight, bias, epsilon = _norm_arguments(args)
    return onnx_norms.group_norm(tape, args[0], int(args[1]), weight, bias, epsilon)


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
    normal = onnx_norms.group_norm(tape, rows, 1, flat_weight, flat_bias, epsilon)
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


def _one(kind: str) -> Callable[[Tape, str, list[Any], dict[str, Any]], str]:
    return lambda tape, x, _args, _kwargs: tape.graph.op(kind, x)


_sigmoid_of_input = lambda tape, x, _y, _a, _k: tape.graph.op("Sigmoid", x)  # noqa: E731
_RULES: dict[str, Rule] = {
    "relu": relu,
    "sigmoid": _pointwise(_one("Sigmoid"), _sigmoid_slope),
    "tanh": _pointwise(_one("Tanh"), _tanh_slope),
    "silu": _pointwise(_silu, _silu_slope),
    "gelu": _pointwise(_gelu, _gelu_slope),
    "leaky_relu": _pointwise(_leaky, _leaky_slope),
    "elu": _pointwise(_elu, _elu_slope),
    "hardtanh": _pointwise(_hardtanh, _hardtanh_slope),
    "hardsigmoid": _pointwise(_hardsigmoid, _hardsigmoid_slope),
    "hardswish": _pointwise(_hardswish, _hardswish_slope),
    "softplus": _pointwise(_softplus, _sigmoid_of_input),
    "add": add,
    "sub": subtract,
    "mul": multiply,
    "div": divide,
    "linear": linear,
    "flatten": reshape,
    "view": reshape,
    "reshape": reshape,
    "unflatten": reshape,
    "squeeze": reshape,
    "unsqueeze": reshape,
    "contiguous": identity,
    "clone": identity,
    "permute": permute,
    "transpose": transpose,
    "cat": concatenate,
    "mean": _reduction("Mean"),
    "sum": _reduction("Sum"),
    "conv2d": convolution,
    "max_pool2d": max_pool,
    "avg_pool2d": average_pool,
    "adaptive_avg_pool2d": adaptive_average_pool,
    "group_norm": group_norm,
    "layer_norm": layer_norm,
}


def rule_for(operator: str) -> Rule | None:
    """The rule for an operator such as ``aten.relu_.default``; in place or not is the same here."""
    return _RULES.get(operator.split(".")[1].rstrip("_"))
