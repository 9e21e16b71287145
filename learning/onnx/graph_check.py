"""Checks a received graph before ONNX Runtime loads it.

ONNX models can name files to read, operators of loadable libraries, nested graphs and functions.
None of that is needed for training, so none of it is allowed: what is not on the lists below is
refused, down to single fields of the format. The format is protocol buffers; it is read here in a
few dozen lines, so that a device does not need a library for it. A single field that comes twice is
refused, so that nothing is hidden in a second copy.

The sizes of all tensors that a graph would make are worked out as well
(:mod:`fimi.learning.onnx.graph_sizes`), and one that makes much more of one image than it is given
is refused. The check does not limit the time of a run. A graph cannot reach files, the network or
code.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

from msgspec import Struct

from fimi.learning.onnx.graph_sizes import MOST_VALUES, Known, Node, peak_bytes
from fimi.learning.onnx.graphs import GraphError

MAX_NODES = 20_000
MAX_DIMENSION = 1 << 24
MAX_ELEMENTS = 1 << 29
"""Largest declared input or output, elements."""
MAX_NAME = 512
PEAK_BYTES = 512 << 20
PEAK_SHARE = 8
"""What a graph may take at once for a batch of one: :data:`PEAK_BYTES`, and so many times what its
inputs and constants take; both with 8 bytes for each number."""

# fmt: off
OPERATORS = frozenset(
    {
        "Add", "And", "ArgMax", "AveragePool", "Cast", "Clip", "Col2Im", "Concat",
        "ConstantOfShape", "Conv", "ConvTranspose", "Div", "Elu", "Equal", "Erf", "Exp",
        "Gemm", "Greater", "GreaterOrEqual", "HardSigmoid", "Identity", "LayerNormalization",
        "LeakyRelu", "Less", "LogSoftmax", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg",
        "OneHot", "Pad", "Reciprocal", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Relu",
        "Reshape", "ScatterElements", "Shape", "Sigmoid", "Sign", "Size", "Slice", "Softmax",
        "Softplus", "Split", "Sqrt", "Sub", "Sum", "Tanh", "Transpose", "Where",
    }
)
# fmt: on
"""The operators that :mod:`fimi.learning.onnx.export` emits: only arithmetic."""
QUANTISED = frozenset({"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger"})
"""The operators by which dynamic quantisation replaces some of them."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_INT64 = 7
_ELEMENT_BYTES = {1: 4, 2: 1, 7: 8}  # float32, uint8, int64
# The allowed fields of each message: wire type, and whether the field may be repeated.
_NUMBER, _NUMBERS = (_VARINT, False), (_VARINT, True)
_TEXT, _TEXTS, _FLOAT = (_BYTES, False), (_BYTES, True), (_FIXED32, False)
_MODEL = {1: _NUMBER, 2: _TEXT, 7: _TEXT, 8: _TEXT}
_OPSET = {1: _TEXT, 2: _NUMBER}
_GRAPH = {1: _TEXTS, 2: _TEXT, 5: _TEXTS, 11: _TEXTS, 12: _TEXTS}
_NODE = {1: _TEXTS, 2: _TEXTS, 3: _TEXT, 4: _TEXT, 5: _TEXTS, 7: _TEXT}
_ATTRIBUTE = {1: _TEXT, 2: _FLOAT, 3: _NUMBER, 4: _TEXT, 5: _TEXT, 8: _NUMBERS, 20: _NUMBER}
_TENSOR = {1: _NUMBERS, 2: _NUMBER, 8: _TEXT, 9: _TEXT}
_VALUE = {1: _TEXT, 2: _TEXT}
_TYPE = {1: _TEXT}
_TENSOR_TYPE = {1: _NUMBER, 2: _TEXT}
_TENSOR_SHAPE = {1: _TEXTS}
_DIMENSION = {1: _NUMBER, 2: _TEXT}
_WORDS = frozenset({b"add", b"none", b"constant", b"NOTSET"})


class Limits(Struct, frozen=True, kw_only=True):
    """Limits on a graph's size and operators.

    Attributes:
        model_bytes: largest size of the whole file.
        constant_bytes: largest size of all its constants.
        operators: the operators that it may use.
    """

    model_bytes: int
    constant_bytes: int
    operators: frozenset[str]


TRAINING = Limits(model_bytes=32 << 20, constant_bytes=16 << 20, operators=OPERATORS)
"""Limits of a graph that gets its parameters as inputs."""
INFERENCE = Limits(model_bytes=512 << 20, constant_bytes=512 << 20, operators=OPERATORS | QUANTISED)
"""Limits of a trained network, whose parameters are constants of the graph."""


class Checked(Struct, frozen=True, kw_only=True):
    """A graph that passed the check.

    Attributes:
        nodes: their number.
        operators: that it uses.
        inputs: their names.
        outputs: their names.
        peak_bytes: the most that its tensors take at once for a batch of one, with 8 bytes for each
            number.
    """

    nodes: int
    operators: frozenset[str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    peak_bytes: int


def check(model: bytes, limits: Limits = TRAINING) -> Checked:
    """Check an ONNX model by the limits :data:`TRAINING` or :data:`INFERENCE`.

    Raises:
        GraphError: it is damaged, or contains something that is not allowed; says what.
    """
    if len(model) > limits.model_bytes:
        raise GraphError(f"it has {len(model)} bytes, the limit is {limits.model_bytes}")
    fields = _read(memoryview(model), _MODEL, "model")
    if _read(_one(fields, 8, "model"), _OPSET, "operator set").get(1, [b""]) != [b""]:
        raise GraphError("it asks for an operator set other than the standard one")
    graph = _read(_one(fields, 7, "model"), _GRAPH, "graph")
    nodes = graph.get(1, [])
    if not 0 < len(nodes) <= MAX_NODES:
        raise GraphError(f"it has {len(nodes)} nodes; allowed are 1 to {MAX_NODES}")
    checked = [_check_node(_view(node), limits.operators) for node in nodes]
    total = sum(_check_tensor(_view(tensor)) for tensor in graph.get(5, []))
    if total > limits.constant_bytes:
        raise GraphError(f"its constants have {total} bytes, the limit is {limits.constant_bytes}")
    given = dict(_known(_view(tensor)) for tensor in graph.get(5, []))
    inputs = dict(_check_value(_view(value)) for value in graph.get(11, []))
    outputs = tuple(_check_value(_view(value))[0] for value in graph.get(12, []))
    if twice := given.keys() & inputs.keys():
        raise GraphError(f"its input {min(twice)!r} is a constant as well")
    given.update({name: Known(shape) for name, shape in inputs.items()})
    numbers = sum(each.count for each in given.values())
    if numbers > MAX_ELEMENTS:
        raise GraphError(f"its inputs have {numbers} elements, the limit is {MAX_ELEMENTS}")
    most = PEAK_BYTES + PEAK_SHARE * 8 * numbers
    peak = peak_bytes(checked, given, outputs, most)
    if peak > most:
        raise GraphError(
            f"it would take {peak} bytes for one image, the limit is {most}: "
            f"{PEAK_BYTES} and {PEAK_SHARE} times its inputs and constants"
        )
    return Checked(
        nodes=len(nodes),
        operators=frozenset(node.operator for node in checked),
        inputs=tuple(inputs),
        outputs=outputs,
        peak_bytes=peak,
    )


def _check_node(data: memoryview, allowed: frozenset[str]) -> Node:
    fields = _read(data, _NODE, "node")
    operator = _text(_one(fields, 4, "node"))
    if bytes(_view(fields.get(7, [b""])[0])):
        raise GraphError(f"operator {operator!r} is not of the standard domain")
    if operator not in allowed:
        raise GraphError(f"operator {operator!r} is not allowed")
    names = {
        number: tuple(_text(_view(name)) for name in fields.get(number, [])) for number in (1, 2, 3)
    }
    integers: dict[str, tuple[int, ...]] = {}
    for attribute in fields.get(5, []):
        inner = _read(_view(attribute), _ATTRIBUTE, f"attribute of {operator}")
        called = _text(_one(inner, 1, "attribute"))
        if called in integers:
            raise GraphError(f"operator {operator!r} has attribute {called!r} twice")
        integers[called] = tuple(_signed(value) for value in inner.get(8) or inner.get(3) or ())
        if any(bytes(_view(word)) not in _WORDS for word in inner.get(4, [])):
            raise GraphError(f"operator {operator!r} has a text attribute that is not allowed")
        for tensor in inner.get(5, []):
            _check_tensor(_view(tensor))
    return Node(operator=operator, inputs=names[1], outputs=names[2], integers=integers)


def _known(data: memoryview) -> tuple[str, Known]:
    """Name, shape and, of few integers, the numbers of a constant that was checked."""
    fields = _read(data, _TENSOR, "tensor")
    shape = tuple(_dimension(value) for value in fields.get(1, []))
    count, values = math.prod(shape), None
    if _number(fields.get(2, [0])[0]) == _INT64 and count <= MOST_VALUES and len(shape) < 2:
        values = struct.unpack(f"<{count}q", _view(fields.get(9, [b""])[0]))
    return _text(_view(fields.get(8, [b""])[0])), Known(shape, values)


def _check_tensor(data: memoryview) -> int:
    fields = _read(data, _TENSOR, "tensor")
    size = _ELEMENT_BYTES.get(_number(fields.get(2, [0])[0]))
    if size is None:
        raise GraphError(f"a constant has element type {fields.get(2, [0])[0]!r}, not allowed")
    dimensions = [_dimension(value) for value in fields.get(1, [])]
    content = len(_view(fields.get(9, [b""])[0]))
    if math.prod(dimensions) * size != content:
        raise GraphError(f"a constant of shape {dimensions} has {content} bytes of content")
    return content


def _check_value(data: memoryview) -> tuple[str, tuple[int, ...]]:
    """Name and shape of an input or output, for a batch of one."""
    fields = _read(data, _VALUE, "input or output")
    name = _text(_one(fields, 1, "input or output"))
    kind = _read(_one(fields, 2, name), _TYPE, f"type of {name}")
    tensor = _read(_one(kind, 1, name), _TENSOR_TYPE, f"type of {name}")
    if _number(tensor.get(1, [0])[0]) not in _ELEMENT_BYTES:
        raise GraphError(f"{name!r} has an element type that is not allowed")
    shape = _read(_one(tensor, 2, name), _TENSOR_SHAPE, f"shape of {name}")
    sizes = []
    for dimension in shape.get(1, []):
        inner = _read(_view(dimension), _DIMENSION, f"dimension of {name}")
        sizes += [_dimension(value) for value in inner.get(1, [])] or [1]
    if math.prod(sizes) > MAX_ELEMENTS:
        raise GraphError(f"{name!r} has {math.prod(sizes)} elements, the limit is {MAX_ELEMENTS}")
    return name, tuple(sizes)


Field = int | memoryview | bytes


def _read(
    data: memoryview, allowed: dict[int, tuple[int, bool]], what: str
) -> dict[int, list[Field]]:
    """The fields of a message, by number.

    Raises:
        GraphError: the message is damaged, a field is not allowed, or a single field comes twice.
    """
    fields: dict[int, list[Field]] = {}
    for number, wire, value in _fields(data):
        if number not in allowed:
            raise GraphError(f"its {what} has field {number}, which is not allowed")
        expected, repeats = allowed[number]
        if wire == _BYTES and expected == _VARINT and repeats:  # several numbers in a row
            fields.setdefault(number, []).extend(_packed(_view(value)))
            continue
        if wire != expected:
            raise GraphError(f"its {what} has field {number} in wire type {wire}")
        if number in fields and not repeats:
            raise GraphError(f"its {what} has field {number} twice")
        fields.setdefault(number, []).append(value)
    return fields


def _fields(data: memoryview) -> Iterator[tuple[int, int, Field]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, wire, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise GraphError(f"it is damaged: wire type {wire}")
        if at + size > len(data):
            raise GraphError("it is damaged: it ends within a field")
        yield number, wire, data[at : at + size]
        at += size


def _packed(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise GraphError("it is damaged: it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise GraphError("it is damaged: a number is too long")


def _one(fields: dict[int, list[Field]], number: int, what: str) -> memoryview:
    if number not in fields:
        raise GraphError(f"its {what} lacks field {number}")
    return _view(fields[number][0])


def _view(value: Field) -> memoryview:
    if isinstance(value, int):
        raise GraphError("it is damaged: a number where text belongs")
    return memoryview(value)


def _number(value: Field) -> int:
    if not isinstance(value, int):
        raise GraphError("it is damaged: text where a number belongs")
    return value


def _signed(value: Field) -> int:
    number = _number(value)
    return number - (1 << 64) if number >= 1 << 63 else number


def _dimension(value: Field) -> int:
    size = _number(value)
    if not 0 <= size <= MAX_DIMENSION:
        raise GraphError(f"a dimension is {size}, the limit is {MAX_DIMENSION}")
    return size


def _text(data: memoryview) -> str:
    if len(data) > MAX_NAME:
        raise GraphError(f"a name has {len(data)} bytes, the limit is {MAX_NAME}")
    try:
        return bytes(data).decode("utf-8")
    except UnicodeDecodeError as error:
        raise GraphError("a name is not UTF-8") from error
