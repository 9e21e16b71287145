"""Hostile graphs are refused with a reason before anything loads them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from fimi.learning.onnx import export, graph_check
from fimi.learning.onnx.graphs import GraphError
from fimi.learning.training.trainer import TrainingSettings


@cache
def good() -> bytes:
    return export.export(TrainingSettings(), 10, (1, 8, 8)).step


def changed(change: Callable[[onnx.ModelProto], object]) -> bytes:
    model = onnx.load_from_string(good())
    change(model)
    return bytes(model.SerializeToString())


def test_what_we_export_is_allowed() -> None:
    found = graph_check.check(good())
    model = onnx.load_from_string(good())
    assert found.nodes == len(model.graph.node)
    assert found.operators == {node.op_type for node in model.graph.node}
    assert found.inputs == tuple(value.name for value in model.graph.input)
    assert found.outputs == tuple(value.name for value in model.graph.output)


@pytest.mark.parametrize(
    "settings",
    [
        TrainingSettings(model="resnet-18-batchnorm", optimiser="adam", proximal=0.1),
        TrainingSettings(model="vgg-9", micro_batch=4, clip_norm=1.0, weight_decay=0.1),
    ],
)
def test_every_graph_of_a_set_is_allowed(settings: TrainingSettings) -> None:
    graphs = export.export(settings, 10, (3, 16, 16))
    for model in filter(None, (graphs.step, graphs.apply, graphs.evaluate)):
        assert graph_check.check(model).nodes > 5


def external(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "secret")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.initializer.append(tensor)


def function(model: onnx.ModelProto) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("mine", "F", ["x"], ["y"], [node], opsets))


def nested(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("body", inner))


def mistaken_size(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims.append(1000)


HOSTILE: dict[str, tuple[Callable[[onnx.ModelProto], object], str]] = {
    "external data": (external, "tensor has field 1[34]"),
    "external attribute": (
        lambda m: m.graph.node[0].attribute.append(
            helper.make_attribute("value", _external_tensor())
        ),
        "tensor has field 1[34]",
    ),
    "custom domain": (
        lambda m: m.graph.node.append(helper.make_node("Relu", ["x"], ["y"], domain="evil")),
        "not of the standard domain",
    ),
    "custom operator set": (
        lambda m: m.opset_import.append(helper.make_opsetid("evil", 1)),
        "field 8 twice",
    ),
    "other operator set": (
        lambda m: setattr(m.opset_import[0], "domain", "com.microsoft"),
        "operator set other",
    ),
    "control flow": (
        lambda m: m.graph.node.append(helper.make_node("Loop", ["x"], ["y"])),
        "'Loop' is not allowed",
    ),
    "functions": (function, "field 25"),
    "nested graph": (nested, "field 6"),
    "text attribute": (
        lambda m: m.graph.node[0].attribute.append(helper.make_attribute("file", "/etc/passwd")),
        "text attribute",
    ),
    "mistaken size": (mistaken_size, "bytes of content"),
    "huge input": (
        lambda m: m.graph.input.append(
            helper.make_tensor_value_info("huge", TensorProto.FLOAT, [1 << 20, 1 << 20])
        ),
        "elements",
    ),
    "negative dimension": (
        lambda m: m.graph.input.append(
            helper.make_tensor_value_info("odd", TensorProto.FLOAT, [-4])
        ),
        "dimension",
    ),
    "strings": (
        lambda m: m.graph.initializer.append(
            helper.make_tensor("words", TensorProto.STRING, [1], [b"x"])
        ),
        "tensor has field 6",
    ),
    "metadata": (lambda m: helper.set_model_props(m, {"a": "b"}), "field 14"),
    "no nodes": (lambda m: m.graph.ClearField("node"), "0 nodes"),
    "too many nodes": (
        lambda m: m.graph.node.extend([helper.make_node("Relu", ["x"], ["y"])] * 20_001),
        "nodes; allowed",
    ),
    "sparse constant": (lambda m: m.graph.sparse_initializer.add(), "field 15"),
    "sparse attribute": (
        lambda m: m.graph.node[0].attribute.add(name="value").sparse_tensor.SetInParent(),
        "field 22",
    ),
    "huge constant": (
        lambda m: m.graph.initializer[0].dims.append(1 << 40),
        "a dimension is",
    ),
    "training info": (lambda m: m.training_info.add(), "field 20"),
}


def _external_tensor() -> TensorProto:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=str(Path("/etc/passwd")))
    return tensor


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_graphs_are_refused(name: str) -> None:
    change, reason = HOSTILE[name]
    with pytest.raises(GraphError, match=reason):
        graph_check.check(changed(change))


def test_a_second_graph_behind_the_first_is_refused() -> None:
    with pytest.raises(GraphError, match="twice"):
        graph_check.check(good() + good())


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(GraphError):
        graph_check.check(data)


@settings(max_examples=60)
@given(st.data())
def test_cut_and_pasted_is_refused_or_harmless(data: st.DataObject) -> None:
    model = good()
    at, upto, source = (data.draw(st.integers(0, len(model))) for _ in range(3))
    spliced = model[:at] + model[source : source + data.draw(st.integers(0, 64))] + model[upto:]
    try:
        found = graph_check.check(spliced)
    except GraphError:
        return
    assert found.operators <= graph_check.OPERATORS


@settings(max_examples=60)
@given(st.data())
def test_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    model = bytearray(good())
    for _ in range(data.draw(st.integers(1, 4))):
        model[data.draw(st.integers(0, len(model) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = graph_check.check(bytes(model))
    except GraphError:
        return
    assert found.operators <= graph_check.OPERATORS
