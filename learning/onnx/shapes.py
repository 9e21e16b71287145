"""Tensors in another shape: reshaped, transposed, joined, or reduced to a mean or a sum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fimi.learning.onnx.tape import NotExportableError, Rule, Shape, Tape, Value


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
    """No change; no node."""
    value: Value = args[0]
    return value


def permute(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """Another order of dimensions."""
    source: Value = args[0]
    order = [int(axis) % len(shape) for axis in args[1]]
    name = tape.graph.transpose(source.name, *order)

    def backward(gradient: str) -> None:
        tape.pass_on(source, tape.graph.transpose(gradient, *np.argsort(order).tolist()))

    return tape.record(Value(name=name, shape=shape), [source], backward)


def transpose(tape: Tape, shape: Shape, args: list[Any], kwargs: dict[str, Any]) -> Value:
    """Two dimensions swapped."""
    order = list(range(len(shape)))
    one, other = int(args[1]), int(args[2])
    order[one], order[other] = order[other], order[one]
    return permute(tape, shape, [args[0], order], kwargs)


def concatenate(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """Tensors joined along a dimension."""
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


def reduction(kind: str) -> Rule:
    """The ``Mean`` or ``Sum`` over some dimensions."""

    def rule(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
        source: Value = args[0]
        rank = len(source.shape)
        axes = sorted(int(axis) % rank for axis in (args[1] if len(args) > 1 else range(rank)))
        if any(source.shape[axis] is None for axis in axes):
            raise NotExportableError("a reduction over the batch")
        kept = tuple(1 if axis in axes else size for axis, size in enumerate(source.shape))
        over, keeps = tape.graph.integers(*axes), int(len(shape) == rank)
        name = tape.graph.op(f"Reduce{kind}", source.name, over, keepdims=keeps)
        count = math.prod(source.shape[axis] or 1 for axis in axes)

        def backward(gradient: str) -> None:
            wide = tape.reshape(gradient, kept)
            ones = [1 if size is None else size for size in source.shape]
            factor = 1.0 / count if kind == "Mean" else 1.0
            spread = tape.graph.constant(np.full(ones, factor, np.float32))
            tape.pass_on(source, tape.graph.op("Mul", wide, spread))

        return tape.record(Value(name=name, shape=shape), [source], backward)

    return rule


SHAPES: dict[str, Rule] = {
    **dict.fromkeys(("flatten", "view", "reshape", "unflatten", "squeeze", "unsqueeze"), reshape),
    **dict.fromkeys(("contiguous", "clone"), identity),
    "permute": permute,
    "transpose": transpose,
    "cat": concatenate,
    "mean": reduction("Mean"),
    "sum": reduction("Sum"),
}
"""Rules by the names of PyTorch's operators."""
