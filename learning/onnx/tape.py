"""Reverse-mode differentiation while an ONNX graph is written.

Forward nodes are emitted in order; each operator records how its gradient is emitted. Going through
the record backwards then appends the backward nodes to the same graph. Gradients are emitted only
for values that depend on a trainable parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np
from msgspec import Struct

from fimi.learning.onnx.builder import BATCH, GraphBuilder
from fimi.learning.onnx.graphs import DRAW

Shape = tuple[int | None, ...]
"""Dimensions; ``None`` for one that depends on the batch size."""


class Value(Struct, frozen=True, kw_only=True):
    """A float32 tensor of the graph, by its name in it."""

    name: str
    shape: Shape


class Tape:
    """The graph so far, and the record for its backward pass.

    Args:
        graph: the graph to which nodes are added.
        plain: forward only, each layer as ONNX's own operator. Tools that look for layers, such as
            quantisation, need this form.
    """

    def __init__(self, graph: GraphBuilder, *, plain: bool = False) -> None:
        self.graph = graph
        self.plain = plain
        self._entries: list[tuple[Value, Callable[[str], None]]] = []
        self._gradients: dict[str, str] = {}
        self._active: set[str] = set()
        self.rectified: dict[str, Value] = {}
        """The input of each ReLU, by the name of its output."""
        self._draws = 0
        self.multiply_adds = 0
        """Multiply-accumulates of convolutions and linear layers so far, forward, one sample."""

    def watch(self, value: Value) -> None:
        """Mark a trainable parameter, whose gradient is wanted."""
        self._active.add(value.name)

    def draw(self, shape: Shape) -> str:
        """Declare an input of uniform numbers from 0 to 1, drawn anew for every step."""
        name = f"{DRAW}{self._draws}"
        self._draws += 1
        return self.graph.input(name, "float32", [BATCH if n is None else n for n in shape])

    def is_active(self, value: Value | None) -> TypeGuard[Value]:
        """Whether there is this value and a gradient with respect to it is wanted."""
        return value is not None and value.name in self._active

    def record(
        self, output: Value, inputs: Sequence[Value | None], backward: Callable[[str], None]
    ) -> Value:
        """Note how the gradient of ``output`` flows to ``inputs``.

        Args:
            output: the output of an operator.
            inputs: its inputs; ``None`` for an optional one that is not there.
            backward: gets the name of the gradient with respect to ``output`` and calls
                :meth:`pass_on` for those inputs that are active.
        """
        if any(self.is_active(value) for value in inputs):
            self._active.add(output.name)
            self._entries.append((output, backward))
        return output

    def pass_on(self, value: Value, gradient: str) -> None:
        """Add a gradient to those that ``value`` has already got."""
        if not self.is_active(value):
            return
        before = self._gradients.get(value.name)
        self._gradients[value.name] = (
            gradient if before is None else self.graph.op("Add", before, gradient)
        )

    def backward(self, output: Value, gradient: str) -> None:
        """Emit the backward nodes, from the gradient with respect to ``output``."""
        self.pass_on(output, gradient)
        for value, backward in reversed(self._entries):
            if value.name in self._gradients:
                backward(self._gradients[value.name])

    def gradient(self, value: Value) -> str:
        """Name of the gradient with respect to ``value``; zeros if nothing depends on it."""
        if value.name in self._gradients:
            return self._gradients[value.name]
        shape = [dimension or 1 for dimension in value.shape]
        return self.graph.constant(np.zeros(shape, np.float32))

    def sum_to(self, gradient: str, source: Shape, target: Shape) -> str:
        """Undo broadcasting: sum a gradient of shape ``source`` to ``target``."""
        if source == target:
            return gradient
        missing = len(source) - len(target)
        axes = list(range(missing)) + [
            missing + i for i, size in enumerate(target) if size == 1 and source[missing + i] != 1
        ]
        if axes:
            gradient = self.graph.op(
                "ReduceSum", gradient, self.graph.integers(*axes), keepdims=int(not missing)
            )
        return self.reshape(gradient, target) if missing else gradient

    def reshape(self, name: str, shape: Shape) -> str:
        """Reshape to a shape in which at most one dimension depends on the batch size."""
        return self.graph.reshape(name, *(size or -1 for size in shape))


Rule = Callable[[Tape, Shape, list[Any], dict[str, Any]], Value]
"""Emits an operator: (tape, shape of the output, arguments, keyword arguments) → output.

Arguments are :class:`Value` for tensors and plain Python values for the rest."""


class NotExportableError(ValueError):
    """An operator or a setting of it has no rule; ``remedy`` says what to do about it."""

    def __init__(self, what: str, remedy: str = "change the layer") -> None:
        super().__init__(what)
        self.remedy = remedy
