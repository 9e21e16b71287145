"""The fully connected layer as ONNX nodes, forward and backward."""

from __future__ import annotations

import math
from typing import Any

from fimi.learning.onnx.tape import Shape, Tape, Value


def linear(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``x·Wᵀ + b``."""
    graph = tape.graph
    source, weight, bias = args[0], args[1], args[2] if len(args) > 2 else None
    rows = source.name
    if len(source.shape) != 2:
        rows = graph.reshape(rows, -1, source.shape[-1])
    biases = [bias.name] if bias is not None else []
    name = graph.op("Gemm", rows, weight.name, *biases, transB=1)
    tape.multiply_adds += math.prod(n or 1 for n in (*source.shape, weight.shape[0]))
    if len(source.shape) != 2:
        name = tape.reshape(name, shape)

    def backward(gradient: str) -> None:
        flat = gradient
        if len(source.shape) != 2:
            flat = graph.reshape(gradient, -1, shape[-1] or 1)
        if tape.is_active(bias):
            tape.pass_on(bias, graph.op("ReduceSum", flat, graph.integers(0), keepdims=0))
        if tape.is_active(weight):
            tape.pass_on(weight, graph.op("Gemm", flat, rows, transA=1))
        if tape.is_active(source):
            product = graph.op("MatMul", flat, weight.name)
            back = product if len(source.shape) == 2 else tape.reshape(product, source.shape)
            tape.pass_on(source, back)

    return tape.record(Value(name=name, shape=shape), [source, weight, bias], backward)
