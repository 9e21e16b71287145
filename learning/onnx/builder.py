"""An ONNX graph under construction: nodes, constants, inputs and outputs by name.

The parts that emit a graph pass only names to each other. A constant that is used twice is stored
once. Every node belongs to the standard operator set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
"""Version of the standard operators; ONNX Runtime has had all of them since 1.15."""
IR_VERSION = 9
BATCH = "batch"
"""Name of the dimension that is free."""

_TYPES = {
    "float32": TensorProto.FLOAT,
    "uint8": TensorProto.UINT8,
    "int64": TensorProto.INT64,
}


class GraphBuilder:
    """Collects the nodes of a graph and makes a model of them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initialisers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def op(self, kind: str, *inputs: str, **attributes: object) -> str:
        """Add a node with one output and return the output's name."""
        return self.ops(kind, inputs, 1, **attributes)[0]

    def ops(
        self, kind: str, inputs: Sequence[str], outputs: int, **attributes: object
    ) -> tuple[str, ...]:
        """Add a node with several outputs and return their names."""
        self._count += 1
        names = tuple(f"{kind}_{self._count}.{i}" for i in range(outputs))
        given = {key: value for key, value in attributes.items() if value is not None}
        self._nodes.append(
            helper.make_node(kind, list(inputs), list(names), name=f"{kind}_{self._count}", **given)
        )
        return names

    def constant(self, value: NDArray[np.generic]) -> str:
        """The name of a constant tensor."""
        array = np.asarray(value)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = name
            self._initialisers.append(numpy_helper.from_array(np.array(array), name))
        return self._constants[key]

    def number(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def integers(self, *values: int) -> str:
        """An int64 vector."""
        return self.constant(np.array(values, np.int64))

    def reshape(self, name: str, *sizes: int) -> str:
        """A tensor in another shape; −1 stands for the size that is left."""
        return self.op("Reshape", name, self.integers(*sizes))

    def transpose(self, name: str, *order: int) -> str:
        """A tensor with its dimensions in another order."""
        return self.op("Transpose", name, perm=list(order))

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        """Declare an input; a dimension that is a string is free."""
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], list(shape)))
        return name

    def output(self, name: str, value: str, dtype: str, shape: Sequence[int | str]) -> None:
        """Make ``value`` an output under another name."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=f"give_{name}"))
        self._outputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], list(shape)))

    def model(self, notes: Mapping[str, str]) -> bytes:
        """The finished model with its metadata, without nodes that no output needs."""
        nodes = _rename_outputs(_needed(self._nodes, [o.name for o in self._outputs]))
        used = {name for node in nodes for name in node.input}
        constants = [tensor for tensor in self._initialisers if tensor.name in used]
        model = model_of(
            helper.make_graph(nodes, self._name, self._inputs, self._outputs, constants)
        )
        helper.set_model_props(model, dict(sorted(notes.items())))
        return bytes(model.SerializeToString(deterministic=True))


def model_of(graph: onnx.GraphProto) -> onnx.ModelProto:
    """A graph of standard operators as a model."""
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="fimi-testbed",
    )


def _needed(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]


def _rename_outputs(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Give outputs their names directly, without a node ``Identity`` for the renaming."""
    made = {name: node for node in nodes for name in node.output}
    new_name: dict[str, str] = {}
    gone = []
    for node in nodes:
        if node.name.startswith("give_"):
            (value,), (name,) = node.input, node.output
            if value in made and value not in new_name and not made[value].name.startswith("give_"):
                new_name[value] = name
                gone.append(node.name)
    kept = [node for node in nodes if node.name not in gone]
    for node in kept:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = new_name.get(name, name)
    return kept
