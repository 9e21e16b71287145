"""Tensors in another shape: reshaped, transposed, joined, or reduced to a mean or a sum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fimi.learning.onnx.elementwise import multiply
from fimi.learning.onnx.tape import NotExportableError, Rule, Shape, Tape, Value


def filled(args: list[Any], *defaults: Any) -> list[Any]:
    """The arguments, with PyTorch's defaults for those that are left out at the end."""
    return [*args, *defaults[len(args) :]]


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


def cut(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """``slice``: from one index to another along a dimension, in steps."""
    source: Value = args[0]
    axis, start, end, step = filled(args[1:], 0, None, None, 1)
    axis = int(axis) % len(shape)
    size, count = source.shape[axis], shape[axis]
    start, step = int(start or 0), int(step)
    if size is None or count is None:
        if start or step != 1 or (end is not None and end < 1 << 62):
            raise NotExportableError("a slice of the batch")
        return source
    start = min(max(start + size, 0) if start < 0 else start, size)
    if (start, step, count) == (0, 1, size):
        return source
    graph = tape.graph
    stop = start + step * (count - 1) + 1
    name = graph.op("Slice", source.name, *map(graph.integers, (start, stop, axis, step)))

    def backward(gradient: str) -> None:
        if step > 1:  # what lies between the steps: a dimension of its own, filled with zeros
            apart = (*shape[: axis + 1], 1, *shape[axis + 1 :])
            gradient = tape.reshape(gradient, apart)
            gradient = _padded(tape, gradient, len(apart), axis + 1, 0, step - 1)
            joined = (*shape[:axis], count * step, *shape[axis + 1 :])
            gradient = tape.reshape(gradient, joined)
        rest = size - start - count * step  # below zero where the last step ends beyond the end
        tape.pass_on(source, _padded(tape, gradient, len(shape), axis, start, rest))

    return tape.record(Value(name=name, shape=shape), [source], backward)


def _padded(tape: Tape, name: str, rank: int, axis: int, before: int, after: int) -> str:
    """Zeros before and after along a dimension; below zero, numbers are taken away."""
    begins, ends = [0] * rank, [0] * rank
    begins[axis], ends[axis] = before, after
    return tape.graph.op("Pad", name, tape.graph.integers(*begins, *ends))


def select(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """One index along a dimension, which then is gone."""
    source: Value = args[0]
    axis, index = int(args[1]) % len(source.shape), int(args[2])
    if source.shape[axis] is None:
        raise NotExportableError("an index into the batch")
    one = (*source.shape[:axis], 1, *source.shape[axis + 1 :])
    index %= source.shape[axis] or 1
    return reshape(tape, shape, [cut(tape, one, [source, axis, index, index + 1], {})], {})


def part(tape: Tape, shape: Shape, source: Value, axis: int, before: int) -> Value:
    """One piece of a tensor that is split along a dimension, after ``before`` elements."""
    if len(shape) < len(source.shape):
        return select(tape, shape, [source, axis, before], {})
    count = shape[axis]
    if count is None:
        raise NotExportableError("a split of the batch")
    return cut(tape, shape, [source, axis, before, before + count], {})


def pad(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """A constant around a tensor; the pads are of the last dimension first."""
    source, pads = args[0], [int(size) for size in args[1]]
    mode, number = filled(args[2:], "constant", None)
    if mode != "constant":
        raise NotExportableError(f"pad with mode {mode!r}")
    graph, rank = tape.graph, len(shape)
    begins, ends = ([0] * (rank - len(pads) // 2) + pads[k::2][::-1] for k in (0, 1))
    around = graph.integers(*begins, *ends)
    name = graph.op("Pad", source.name, around, graph.number(float(number or 0)))

    def backward(gradient: str) -> None:
        back = graph.integers(*(-size for size in (*begins, *ends)))
        tape.pass_on(source, graph.op("Pad", gradient, back))

    return tape.record(Value(name=name, shape=shape), [source], backward)


def expand(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """Repeated along dimensions of size 1."""
    source: Value = args[0]
    if (None in shape) != (None in source.shape):
        raise NotExportableError("an expansion to the batch")
    ones = tape.graph.constant(np.ones([size or 1 for size in shape], np.float32))
    return multiply(tape, shape, [source, Value(name=ones, shape=shape)], {})


def channel_shuffle(tape: Tape, shape: Shape, args: list[Any], _: dict[str, Any]) -> Value:
    """The channels of some groups in turn, one of each."""
    groups = int(args[1])
    batch, channels, *pixels = shape
    apart = (batch, groups, (channels or 0) // groups, *pixels)
    turned = (batch, apart[2], groups, *pixels)
    split = reshape(tape, apart, [args[0]], {})
    return reshape(tape, shape, [transpose(tape, turned, [split, 1, 2], {})], {})


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
    "slice": cut,
    "select": select,
    "pad": pad,
    "expand": expand,
    "expand_as": expand,
    "channel_shuffle": channel_shuffle,
    "mean": reduction("Mean"),
    "sum": reduction("Sum"),
}
"""Rules by the names of PyTorch's operators."""
