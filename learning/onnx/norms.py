"""Normalisation layers as ONNX nodes, forward and backward."""

from __future__ import annotations

import math

import numpy as np

from fimi.learning.onnx.tape import Shape, Tape, Value


def group_norm(
    tape: Tape, image: Value, groups: int, weight: Value | None, bias: Value | None, epsilon: float
) -> Value:
    """Group normalisation (Wu and He 2018, arXiv 1803.08494).

    With x̂ the normalised values, r the reciprocal of the standard deviation, D the values per
    group and γ the weights, the gradient is ∂x = r·(γ∂y − Σγ∂y / D − x̂·Σ(γ∂y·x̂) / D). The sums
    over a group are computed from sums over channels, which the gradients of γ and β need as well.

    Args:
        tape: the graph.
        image: (N, C, ...).
        groups: G.
        weight: γ, (C,).
        bias: β, (C,).
        epsilon: added to the variance.
    """
    graph = tape.graph
    channels = image.shape[1]
    pixels = math.prod(size or 1 for size in image.shape[2:])
    assert channels
    size = channels // groups * pixels
    ones = graph.constant(np.ones(size, np.float32))
    rows = graph.reshape(image.name, -1, size)
    normal, _, reciprocal = graph.ops(
        "LayerNormalization", [rows, ones], 3, axis=-1, epsilon=epsilon
    )
    normal = graph.reshape(normal, -1, channels, pixels)
    scaled = _scaled(tape, normal, weight, bias, (channels, 1))
    name = tape.reshape(scaled, image.shape)

    def backward(gradient: str) -> None:
        flat = graph.reshape(gradient, -1, channels, pixels)
        plain = graph.op("ReduceSum", flat, graph.integers(2), keepdims=0)
        dotted = graph.op("ReduceSum", graph.op("Mul", flat, normal), graph.integers(2), keepdims=0)
        if tape.is_active(weight):
            tape.pass_on(weight, graph.op("ReduceSum", dotted, graph.integers(0), keepdims=0))
        if tape.is_active(bias):
            tape.pass_on(bias, graph.op("ReduceSum", plain, graph.integers(0), keepdims=0))
        if not tape.is_active(image):
            return
        if weight is not None:
            plain, dotted = (graph.op("Mul", part, weight.name) for part in (plain, dotted))
        spread = graph.reshape(reciprocal, -1, groups, 1)
        each = graph.constant(np.zeros((1, 1, channels // groups), np.float32))

        def over_group(sums: str) -> str:
            """−r·Σ/D for each channel, (N, C, 1)."""
            grouped = graph.reshape(sums, -1, groups, channels // groups)
            total = graph.op("ReduceSum", grouped, graph.integers(2), keepdims=1)
            share = graph.op("Mul", total, graph.op("Mul", spread, graph.number(-1.0 / size)))
            return graph.reshape(graph.op("Add", share, each), -1, channels, 1)

        factor = graph.reshape(graph.op("Add", spread, each), -1, channels, 1)
        factor = _scaled(tape, factor, weight, None, (channels, 1))
        direct = graph.op("Mul", flat, factor)
        curved = graph.op("Add", graph.op("Mul", normal, over_group(dotted)), over_group(plain))
        tape.pass_on(image, tape.reshape(graph.op("Add", direct, curved), image.shape))

    return tape.record(Value(name=name, shape=image.shape), [image, weight, bias], backward)


def batch_norm(
    tape: Tape,
    image: Value,
    weight: Value | None,
    bias: Value | None,
    running: tuple[Value, Value] | None,
    momentum: float,
    epsilon: float,
) -> tuple[Value, tuple[str, str] | None]:
    """Batch normalisation in training (Ioffe and Szegedy 2015, arXiv 1502.03167).

    Args:
        tape: the graph.
        image: (N, C, ...).
        weight: γ, (C,).
        bias: β, (C,).
        running: mean and unbiased variance so far, (C,) each.
        momentum: weight of this batch in the running statistics.
        epsilon: added to the variance.

    Returns:
        The output, and the names of the new running mean and variance.
    """
    graph = tape.graph
    channels = image.shape[1]
    assert channels
    axes = graph.integers(0, *range(2, len(image.shape)))
    column = (channels, *[1] * (len(image.shape) - 2))
    count = graph.op(
        "Div", graph.op("Cast", graph.op("Size", image.name), to=1), graph.number(channels)
    )
    mean = graph.op("ReduceMean", image.name, axes, keepdims=1)
    centred = graph.op("Sub", image.name, mean)
    variance = graph.op("ReduceMean", graph.op("Mul", centred, centred), axes, keepdims=1)
    deviation = graph.op("Sqrt", graph.op("Add", variance, graph.number(epsilon)))
    reciprocal = graph.op("Reciprocal", deviation)
    normal = graph.op("Mul", centred, reciprocal)
    scaled = _scaled(tape, normal, weight, bias, column)

    def backward(gradient: str) -> None:
        plain = graph.op("ReduceSum", gradient, axes, keepdims=1)
        dotted = graph.op("ReduceSum", graph.op("Mul", gradient, normal), axes, keepdims=1)
        if tape.is_active(weight):
            tape.pass_on(weight, tape.reshape(dotted, (channels,)))
        if tape.is_active(bias):
            tape.pass_on(bias, tape.reshape(plain, (channels,)))
        if not tape.is_active(image):
            return
        factor = _scaled(tape, reciprocal, weight, None, column)
        inner = graph.op("Sub", gradient, graph.op("Div", plain, count))
        curve = graph.op("Mul", normal, graph.op("Div", dotted, count))
        tape.pass_on(image, graph.op("Mul", graph.op("Sub", inner, curve), factor))

    output = tape.record(Value(name=scaled, shape=image.shape), [image, weight, bias], backward)
    if running is None:
        return output, None
    unbiased = graph.op(
        "Div", graph.op("Mul", variance, count), graph.op("Sub", count, graph.number(1.0))
    )
    kept, taken = graph.number(1.0 - momentum), graph.number(momentum)
    updated = [
        graph.op(
            "Add",
            graph.op("Mul", old.name, kept),
            graph.op("Mul", tape.reshape(new, (channels,)), taken),
        )
        for old, new in zip(running, (mean, unbiased), strict=True)
    ]
    return output, (updated[0], updated[1])


def batch_norm_evaluated(
    tape: Tape,
    image: Value,
    weight: Value | None,
    bias: Value | None,
    running: tuple[Value, Value],
    epsilon: float,
) -> Value:
    """Batch normalisation with running statistics; γ and β still learn, the statistics do not."""
    graph = tape.graph
    channels = image.shape[1]
    assert channels
    column = (channels, *[1] * (len(image.shape) - 2))
    mean, variance = (tape.reshape(value.name, column) for value in running)
    reciprocal = graph.op(
        "Reciprocal", graph.op("Sqrt", graph.op("Add", variance, graph.number(epsilon)))
    )
    normal = graph.op("Mul", graph.op("Sub", image.name, mean), reciprocal)
    scaled = _scaled(tape, normal, weight, bias, column)
    axes = graph.integers(0, *range(2, len(image.shape)))

    def backward(gradient: str) -> None:
        if tape.is_active(weight):
            product = graph.op("Mul", gradient, normal)
            tape.pass_on(weight, graph.op("ReduceSum", product, axes, keepdims=0))
        if tape.is_active(bias):
            tape.pass_on(bias, graph.op("ReduceSum", gradient, axes, keepdims=0))
        if tape.is_active(image):
            factor = _scaled(tape, reciprocal, weight, None, column)
            tape.pass_on(image, graph.op("Mul", gradient, factor))

    return tape.record(Value(name=scaled, shape=image.shape), [image, weight, bias], backward)


def _scaled(
    tape: Tape, numbers: str, weight: Value | None, bias: Value | None, column: Shape
) -> str:
    """``numbers`` times γ plus β, where there are any; ``column`` is their shape, to broadcast."""
    for kind, value in (("Mul", weight), ("Add", bias)):
        if value is not None:
            numbers = tape.graph.op(kind, numbers, tape.reshape(value.name, column))
    return numbers
