"""Activations and arithmetic, which are computed element by element, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fimi.learning.onnx.tape import NotExportableError, Rule, Shape, Tape, Value


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


def _one(kind: str) -> Callable[[Tape, str, list[Any], dict[str, Any]], str]:
    return lambda tape, x, _args, _kwargs: tape.graph.op(kind, x)


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


def _softplus_slope(tape: Tape, x: str, _y: str, _a: list[Any], _k: dict[str, Any]) -> str:
    return tape.graph.op("Sigmoid", x)


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


ELEMENTWISE: dict[str, Rule] = {
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
    "softplus": _pointwise(_softplus, _softplus_slope),
    "add": add,
    "sub": subtract,
    "mul": multiply,
    "div": divide,
}
"""Rules by the names of PyTorch's operators."""
