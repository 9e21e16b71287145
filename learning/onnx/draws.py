"""Layers that draw at random in training: dropout and stochastic depth."""

from __future__ import annotations

from fimi.learning.onnx.elementwise import multiply
from fimi.learning.onnx.tape import Shape, Tape, Value


def bernoulli(tape: Tape, shape: Shape, chance: float) -> Value:
    """1 with probability ``chance``, else 0."""
    graph = tape.graph
    below = graph.op("Less", tape.draw(shape), graph.number(chance))
    return Value(name=graph.op("Cast", below, to=1), shape=shape)


def dropout(tape: Tape, source: Value, rate: float, *, channels: bool) -> Value:
    """Zero at the given rate, and what is kept divided by the share that is kept.

    Args:
        tape: the graph.
        source: (N, C, ...).
        rate: above 0 and at most 1.
        channels: whether whole channels are dropped, not single values.
    """
    graph, shape = tape.graph, source.shape
    if rate == 1.0:  # nothing is drawn, as in PyTorch
        return multiply(tape, shape, [source, 0.0], {})
    noise = shape[:2] + (1,) * (len(shape) - 2) if channels else shape
    kept = bernoulli(tape, noise, 1.0 - rate).name
    mask = Value(name=graph.op("Div", kept, graph.number(1.0 - rate)), shape=noise)
    return multiply(tape, shape, [source, mask], {})
