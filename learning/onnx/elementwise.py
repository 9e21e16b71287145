"""Activations and arithmetic, which are computed element by element, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fimi.learning.onnx.builder import GraphBuilder
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


class _Numbers:
    """A tensor of the graph in a formula: arithmetic with it writes nodes."""

    def __init__(self, graph: GraphBuilder, name: str) -> None:
        self.graph, self.name = graph, name

    def op(self, kind: str, *others: _Numbers | float, **attributes: object) -> _Numbers:
        """The result of an operator whose first operand is this tensor."""
        names = [o.name if isinstance(o, _Numbers) else self.graph.number(o) for o in others]
        return _Numbers(self.graph, self.graph.op(kind, self.name, *names, **attributes))

    def __add__(self, other: _Numbers | float) -> _Numbers:
        return self.op("Add", other)

    def __mul__(self, other: _Numbers | float) -> _Numbers:
        return self.op("Mul", other)

    def __rsub__(self, other: float) -> _Numbers:
        return _Numbers(self.graph, self.graph.number(other)).op("Sub", self)


def _pointwise(forward: Callable[..., _Numbers], slope: Callable[..., _Numbers]) -> Rule:
    """A function y of each element x.

    Args:
        forward: y of x and PyTorch's arguments.
        slope: dy/dx of x, y and PyTorch's arguments.
    """

    def rule(tape: Tape, shape: Shape, args: list[Any], kwargs: dict[str, Any]) -> Value:
        source: Value = args[0]
        x = _Numbers(tape.graph, source.name)
        y = forward(x, *args[1:], **kwargs)

        def backward(gradient: str) -> None:
            steep = slope(x, y, *args[1:], **kwargs)
            tape.pass_on(source, tape.graph.op("Mul", gradient, steep.name))

        return tape.record(Value(name=y.name, shape=shape), [source], backward)

    return rule


def _inside(x: _Numbers, low: float, high: float) -> _Numbers:
    """1 where low < x < high, else 0."""
    return x.op("Greater", low).op("And", x.op("Less", high)).op("Cast", to=1)


def _silu_slope(x: _Numbers, y: _Numbers) -> _Numbers:
    share = x.op("Sigmoid")
    return share + y * (1.0 - share)


def _gelu(x: _Numbers, approximate: str = "none") -> _Numbers:
    if approximate != "none":
        raise NotExportableError(f"gelu with approximate={approximate!r}")
    return x * _normal_cdf(x)


def _gelu_slope(x: _Numbers, _y: _Numbers, **_: Any) -> _Numbers:
    bell = (x * x * -0.5).op("Exp") * (1 / math.sqrt(2 * math.pi))
    return _normal_cdf(x) + x * bell


def _normal_cdf(x: _Numbers) -> _Numbers:
    return ((x * math.sqrt(0.5)).op("Erf") + 1.0) * 0.5


def _elu(x: _Numbers, alpha: float = 1.0, *scales: float) -> _Numbers:
    if any(float(scale) != 1.0 for scale in scales):
        raise NotExportableError(f"elu with scales {list(scales)}")
    return x.op("Elu", alpha=float(alpha))


def _hardsigmoid(x: _Numbers) -> _Numbers:
    return x.op("HardSigmoid", alpha=1.0 / 6.0, beta=0.5)


def _hardsigmoid_slope(x: _Numbers) -> _Numbers:
    return _inside(x, -3.0, 3.0) * (1.0 / 6.0)


def _softplus(x: _Numbers, beta: float = 1.0, *_threshold: float) -> _Numbers:
    if float(beta) != 1.0:
        raise NotExportableError(f"softplus with beta={beta}")
    return x.op("Softplus")


def add(tape: Tape, shape: Shape, args: list[Any], kwargs: dict[str, Any]) -> Value:
    """``a + alpha·b``."""
    return _sum(tape, shape, args, float(kwargs.get("alpha", 1)))


def subtract(tape: Tape, shape: Shape, args: list[Any], kwargs: dict[str, Any]) -> Value:
    """``a − alpha·b``."""
    return _sum(tape, shape, args, -float(kwargs.get("alpha", 1)))


def subtract_from(tape: Tape, shape: Shape, args: list[Any], kwargs: dict[str, Any]) -> Value:
    """``b − alpha·a``."""
    return subtract(tape, shape, [args[1], args[0]], kwargs)


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
    "sigmoid": _pointwise(lambda x: x.op("Sigmoid"), lambda x, y: y * (1.0 - y)),
    "tanh": _pointwise(lambda x: x.op("Tanh"), lambda x, y: 1.0 - y * y),
    "silu": _pointwise(lambda x: x * x.op("Sigmoid"), _silu_slope),
    "gelu": _pointwise(_gelu, _gelu_slope),
    "leaky_relu": _pointwise(
        lambda x, slope=0.01: x.op("LeakyRelu", alpha=float(slope)),
        lambda x, y, slope=0.01: x.op("Greater", 0.0).op("Where", 1.0, float(slope)),
    ),
    "elu": _pointwise(
        _elu,
        lambda x, y, alpha=1.0, *_: x.op("Greater", 0.0).op("Where", 1.0, y + float(alpha)),
    ),
    "hardtanh": _pointwise(
        lambda x, low=-1.0, high=1.0: x.op("Clip", low, high),
        lambda x, y, low=-1.0, high=1.0: _inside(x, low, high),
    ),
    "relu6": _pointwise(lambda x: x.op("Clip", 0.0, 6.0), lambda x, y: _inside(x, 0.0, 6.0)),
    "hardsigmoid": _pointwise(_hardsigmoid, lambda x, y: _hardsigmoid_slope(x)),
    "hardswish": _pointwise(
        lambda x: x * _hardsigmoid(x),
        lambda x, y: _hardsigmoid(x) + x * _hardsigmoid_slope(x),
    ),
    "softplus": _pointwise(_softplus, lambda x, y, *_: x.op("Sigmoid")),
    "add": add,
    "sub": subtract,
    "rsub": subtract_from,
    "neg": lambda tape, shape, args, _: multiply(tape, shape, [args[0], -1.0], {}),
    "mul": multiply,
    "div": divide,
}
"""Rules by the names of PyTorch's operators."""
