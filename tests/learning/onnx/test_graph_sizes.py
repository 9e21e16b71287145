"""The sizes of a graph's tensors are those that ONNX Runtime makes; too large ones are refused."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from fimi.learning.onnx import export, graph_check, graph_sizes
from fimi.learning.onnx.graph_sizes import Known, Node
from fimi.learning.onnx.graphs import GraphError
from fimi.learning.training.onnx_runtime import session_of
from fimi.learning.training.trainer import TrainingSettings

NUMPY = {TensorProto.FLOAT: np.float32, TensorProto.INT64: np.int64, TensorProto.UINT8: np.uint8}


@cache
def graphs(model: str) -> tuple[bytes, ...]:
    chosen = {
        "resnet-18-batchnorm": TrainingSettings(
            model="resnet-18-batchnorm", optimiser="adam", proximal=0.1
        ),
        "vgg-9": TrainingSettings(model="vgg-9", micro_batch=4, clip_norm=1.0, weight_decay=0.1),
    }[model]
    made = export.export(chosen, 10, (3, 16, 16))
    return tuple(filter(None, (made.step, made.apply, made.evaluate)))


def nodes_of(model: onnx.ModelProto) -> list[Node]:
    """The nodes as ONNX's own library reads them."""
    return [
        Node(
            operator=node.op_type,
            inputs=tuple(node.input),
            outputs=tuple(node.output),
            integers={each.name: tuple(each.ints) or (each.i,) for each in node.attribute},
        )
        for node in model.graph.node
    ]


def truth(
    model: onnx.ModelProto, batch: int
) -> tuple[dict[str, Known], dict[str, tuple[int, ...]]]:
    """What goes in, and the shape of every tensor that ONNX Runtime makes of it."""
    draws = np.random.default_rng(3)
    fed: dict[str, np.ndarray] = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [each.dim_value if each.HasField("dim_value") else batch for each in kind.shape.dim]
        fed[value.name] = draws.uniform(0, 2, shape).astype(NUMPY[kind.elem_type])
    known = {name: Known(array.shape) for name, array in fed.items()}
    for constant in model.graph.initializer:
        array = numpy_helper.to_array(constant)
        few = array.dtype == np.int64 and array.ndim < 2 and array.size <= 64
        known[constant.name] = Known(
            tuple(array.shape), tuple(array.ravel().tolist()) if few else None
        )
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    del wide.graph.output[:]
    names = [name for node in model.graph.node for name in node.output if name]
    wide.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = session_of(wide.SerializeToString())
    made = session.run(names, fed)
    return known, dict(zip(names, (array.shape for array in made), strict=True))


@pytest.mark.parametrize("model", ["resnet-18-batchnorm", "vgg-9"])
def test_every_shape_is_what_onnx_runtime_makes(model: str) -> None:
    for graph in graphs(model):
        read = onnx.load_from_string(graph)
        known, real = truth(read, batch=3)
        for node in nodes_of(read):
            for name, each in graph_sizes.make(node, known).items():
                assert each.shape == real[name], (node.operator, name)
        assert set(real) <= set(known)


def test_the_rules_cover_what_is_allowed() -> None:
    assert graph_check.OPERATORS | graph_check.QUANTISED == graph_sizes.OPERATORS


def test_the_peak_is_that_of_a_sum_by_hand() -> None:
    nodes = [
        Node(operator="Relu", inputs=("x",), outputs=("a",), integers={}),  # x, a
        Node(operator="Relu", inputs=("a",), outputs=("b",), integers={}),  # x, a, b
        Node(operator="ReduceSum", inputs=("b",), outputs=("c",), integers={"keepdims": (0,)}),
    ]
    given_ = {"x": Known((10, 10))}
    assert graph_sizes.peak_bytes(nodes, given_, ("c",)) == 8 * 300


ONE = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 1, 8, 8])
LOGITS = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])


def small(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> bytes:
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "",
            [ONE],
            [LOGITS],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
    )
    model.ClearField("producer_name")
    return bytes(model.SerializeToString())


HUGE = np.array([1 << 15, 1 << 15], np.int64)
BOMBS = {
    "ConstantOfShape": small([helper.make_node("ConstantOfShape", ["n"], ["x"])], n=HUGE),
    "Pad": small(
        [helper.make_node("Pad", ["images", "n"], ["x"])],
        n=np.array([0, 0, 0, 0, 0, 0, 1 << 15, 1 << 15], np.int64),
    ),
    "OneHot": small(
        [helper.make_node("OneHot", ["images", "n", "v"], ["x"])],
        n=np.array(1 << 24, np.int64),
        v=np.array([0, 1], np.float32),
    ),
    "outer product": small(
        [
            helper.make_node("Reshape", ["v", "a"], ["row"]),
            helper.make_node("Reshape", ["v", "b"], ["column"]),
            helper.make_node("Add", ["row", "column"], ["x"]),
        ],
        v=np.zeros(1 << 15, np.float32),
        a=np.array([1, -1], np.int64),
        b=np.array([-1, 1], np.int64),
    ),
    "MatMul": small(
        [
            helper.make_node("Reshape", ["v", "a"], ["row"]),
            helper.make_node("Reshape", ["v", "b"], ["column"]),
            helper.make_node("MatMul", ["column", "row"], ["x"]),
        ],
        v=np.zeros(1 << 15, np.float32),
        a=np.array([1, -1], np.int64),
        b=np.array([-1, 1], np.int64),
    ),
    "Concat, again and again": small(
        [
            helper.make_node("Cast", ["images"], ["x0"], to=1),
            *(helper.make_node("Concat", [f"x{n}"] * 4, [f"x{n + 1}"], axis=3) for n in range(16)),
        ]
    ),
    "padded Conv": small(
        [
            helper.make_node("Cast", ["images"], ["x"], to=1),
            helper.make_node("Conv", ["x", "w"], ["y"], pads=[1 << 15] * 4),
        ],
        w=np.zeros((1, 1, 1, 1), np.float32),
    ),
    "ConvTranspose": small(
        [
            helper.make_node("Cast", ["images"], ["x"], to=1),
            helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[1 << 13, 1 << 13]),
        ],
        w=np.zeros((1, 1, 1, 1), np.float32),
    ),
    "Col2Im": small(
        [
            helper.make_node("Reshape", ["v", "n"], ["x"]),
            helper.make_node("Col2Im", ["x", "image", "block"], ["y"]),
        ],
        v=np.zeros(1, np.float32),
        n=np.array([1, 1, 1], np.int64),
        image=HUGE,
        block=np.array([1, 1], np.int64),
    ),
    "patches of a Conv": small(
        [
            helper.make_node("Cast", ["images"], ["x"], to=1),
            helper.make_node("Conv", ["x", "w"], ["y"], pads=[2048] * 4),
        ],
        w=np.zeros((1, 1, 2048, 2048), np.float32),
    ),
    "many that live at once": small(
        [
            *(helper.make_node("ConstantOfShape", ["n"], [f"x{n}"]) for n in range(40)),
            helper.make_node("Sum", [f"x{n}" for n in range(40)], ["y"]),
        ],
        n=np.array([1 << 21], np.int64),
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_graph_that_would_take_gigabytes_is_refused(name: str) -> None:
    with pytest.raises(GraphError, match="limit is"):
        graph_check.check(BOMBS[name])


def test_a_bomb_is_one() -> None:
    """Without the check ONNX Runtime takes what the check says that it would."""
    model = small(
        [
            helper.make_node("ConstantOfShape", ["n"], ["x"]),
            helper.make_node("Reshape", ["x", "one"], ["y"]),
            helper.make_node("ReduceSum", ["y"], ["logits"], keepdims=0),
        ],
        n=HUGE,
        one=np.array([-1], np.int64),
    )
    script = (
        "import numpy, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        "from fimi.learning.training.onnx_runtime import session_of\n"
        "session = session_of(sys.stdin.buffer.read())\n"
        "session.run(None, {'images': numpy.zeros((1, 1, 8, 8), numpy.uint8)})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=model, capture_output=True, check=False
    )
    assert done.returncode != 0
    assert b"alloc" in done.stderr.lower()
    with pytest.raises(GraphError, match="limit is"):
        graph_check.check(model)


def test_sizes_that_follow_from_numbers_are_refused() -> None:
    model = small(
        [
            helper.make_node("Cast", ["images"], ["n"], to=7),
            helper.make_node("ConstantOfShape", ["n"], ["x"]),
        ]
    )
    with pytest.raises(GraphError, match="cannot be known before it runs"):
        graph_check.check(model)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_chain_of_operators_is_known_or_refused(data: st.DataObject) -> None:
    """No operator with any shapes, attributes and numbers does anything but fit or be refused."""
    operators = sorted(graph_sizes.OPERATORS)
    known = {
        name: Known(tuple(data.draw(st.lists(st.integers(0, 5), max_size=5))))
        for name in ("a", "b")
    }
    numbers = data.draw(st.lists(st.integers(-(2**40), 2**40) | st.integers(-3, 3), max_size=5))
    known["n"] = Known((len(numbers),), tuple(numbers))
    names = ["a", "b", "n", ""]
    for index in range(data.draw(st.integers(1, 4))):
        node = Node(
            operator=data.draw(st.sampled_from(operators)),
            inputs=tuple(data.draw(st.lists(st.sampled_from(names), max_size=4))),
            outputs=tuple(f"x{index}.{n}" for n in range(data.draw(st.integers(0, 3)))),
            integers=data.draw(
                st.dictionaries(
                    st.sampled_from(["axis", "axes", "pads", "strides", "perm", "kernel_shape"]),
                    st.lists(st.integers(-3, 2**33), max_size=4).map(tuple),
                    max_size=3,
                )
            ),
        )
        try:
            peak = graph_sizes.peak_bytes([node], known, most=1 << 30)
            made = graph_sizes.make(node, known, 1 << 30)
        except GraphError:
            return
        assert all(8 * each.count <= 1 << 30 for each in made.values())
        assert peak >= 8 * sum(each.count for each in known.values()) - 8 * (1 << 30)
        names += made
