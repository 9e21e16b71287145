"""The sizes of all tensors of a checked graph, before anything runs it.

A graph of a hundred bytes can make a tensor of gigabytes: ``ConstantOfShape``, ``Pad``, ``OneHot``,
``Reshape`` with a broadcast behind it. So the shape of every tensor is worked out here, node by
node, for a batch of a given size, and the most that lives at once is summed up. All operators that
:mod:`fimi.learning.onnx.graph_check` allows are known; their shapes follow the ONNX operator
specification (https://onnx.ai/onnx/operators). A shape that depends on the numbers that flow
through the graph, and not on the shapes alone, cannot be known: such a graph is refused.

Every number counts :data:`NUMBER_BYTES`, of whatever type it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from fimi.learning.onnx.graphs import GraphError

NUMBER_BYTES = 8
MOST_VALUES = 64
"""Most numbers of a tensor that are followed as numbers: those that are shapes, axes and sizes."""

Shape = tuple[int, ...]


class Known(Struct, frozen=True):
    """What is known of a tensor: its shape and, if it has few integers, these."""

    shape: Shape
    values: tuple[int, ...] | None = None

    @property
    def count(self) -> int:
        """Its numbers."""
        return math.prod(self.shape)


class Node(Struct, frozen=True, kw_only=True):
    """An operation: names of what it takes and gives (empty: left out), and its attributes."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    integers: Mapping[str, tuple[int, ...]]

    def one(self, name: str, default: int) -> int:
        """An attribute that is one integer."""
        found = self.integers.get(name, (default,))
        return found[0] if found else default


def peak_bytes(
    nodes: Sequence[Node], given: Mapping[str, Known], kept: Sequence[str] = (), most: int = 1 << 62
) -> int:
    """The most bytes that tensors take at once, those that are given included.

    Args:
        nodes: in the order in which they run.
        given: inputs and constants.
        kept: outputs of the graph, which live to its end.
        most: sizes beyond this are not worked out any further.

    Raises:
        GraphError: a shape is wrong or cannot be known, or a tensor alone is larger than ``most``.
    """
    known = dict(given)
    last = {name: index for index, node in enumerate(nodes) for name in node.inputs}
    last.update(dict.fromkeys((*kept, *given), len(nodes)))
    going: dict[int, list[str]] = {}
    live = peak = sum(NUMBER_BYTES * each.count for each in known.values())
    for index, node in enumerate(nodes):
        made = make(node, known, most)
        live += sum(NUMBER_BYTES * each.count for each in made.values())
        for name in made:
            going.setdefault(last.get(name, index), []).append(name)
        peak = max(peak, live + NUMBER_BYTES * _workspace(node, known, made))
        for name in going.pop(index, ()):
            live -= NUMBER_BYTES * known[name].count
    return peak


def make(node: Node, known: dict[str, Known], most: int = 1 << 62) -> dict[str, Known]:
    """What a node makes; it is added to what is known.

    Raises:
        GraphError: see :func:`peak_bytes`.
    """
    made = {
        name: each for name, each in zip(node.outputs, _made(node, known), strict=False) if name
    }
    for name, each in made.items():
        size = NUMBER_BYTES * each.count
        if size > most or any(side < 0 for side in each.shape):
            raise GraphError(
                f"{node.operator!r} would make a tensor of shape {list(each.shape)[:8]}, "
                f"{size} bytes; the limit is {most}"
            )
        if name in known:
            raise GraphError(f"it makes {name[:64]!r} twice")
    known.update(made)
    return made


def _made(node: Node, known: Mapping[str, Known]) -> list[Known]:
    """What a node makes."""
    inputs: list[Known | None] = []
    for name in node.inputs:
        if name and name not in known:
            raise GraphError(f"{node.operator!r} takes {name[:64]!r}, which nothing has made yet")
        inputs.append(known[name] if name else None)
    rule = _RULES.get(node.operator)
    if rule is None:
        raise GraphError(f"the sizes of operator {node.operator!r} are not known")
    try:
        return rule(_Call(node, inputs))
    except GraphError:
        raise
    except (IndexError, ValueError, ZeroDivisionError, OverflowError, TypeError) as error:
        shapes = [None if each is None else list(each.shape)[:8] for each in inputs]
        raise GraphError(f"{node.operator!r} does not fit shapes {shapes[:4]}: {error}") from error


class _Call:
    """A node with what is known of its inputs."""

    def __init__(self, node: Node, inputs: list[Known | None]) -> None:
        self.node = node
        self.inputs = inputs

    def __getitem__(self, index: int) -> Known:
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise ValueError(f"input {index} is missing")
        return found

    def has(self, index: int) -> bool:
        return index < len(self.inputs) and self.inputs[index] is not None

    def shape(self, index: int = 0) -> Shape:
        return self[index].shape

    def values(self, index: int) -> tuple[int, ...]:
        """The integers of an input from which a shape follows."""
        found = self[index].values
        if found is None:
            raise GraphError(
                f"{self.node.operator!r} has sizes that follow from numbers, not from shapes: they "
                "cannot be known before it runs"
            )
        return found

    def axes(self, name: str, default: Sequence[int]) -> tuple[int, ...]:
        return self.node.integers.get(name, tuple(default))


_Rule = Callable[[_Call], list[Known]]


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < max(rank, 1):
        raise ValueError(f"axis {axis}")
    return axis % max(rank, 1)


def _broadcast(*shapes: Shape) -> Shape:
    rank = max(map(len, shapes))
    sides = zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True)
    result = []
    for several in sides:
        wide = {side for side in several if side != 1}
        if len(wide) > 1:
            raise ValueError(f"sizes {sorted(wide)} do not match")
        result.append(wide.pop() if wide else 1)
    return tuple(result)


def _same(call: _Call) -> list[Known]:
    return [Known(call.shape())]


def _passed(call: _Call) -> list[Known]:
    """Identity and Cast: small integers stay what they are."""
    return [call[0]]


def _together(call: _Call) -> list[Known]:
    return [Known(_broadcast(*(call.shape(index) for index in range(len(call.inputs)))))]


def _arithmetic(of: Callable[[int, int], int]) -> _Rule:
    def rule(call: _Call) -> list[Known]:
        (first, second), shape = (call[0], call[1]), _broadcast(call.shape(0), call.shape(1))
        left, right = first.values, second.values
        if left is None or right is None or math.prod(shape) > MOST_VALUES or len(shape) > 1:
            return [Known(shape)]
        count = math.prod(shape)
        pairs = zip(
            left * (count if len(left) == 1 else 1),
            right * (count if len(right) == 1 else 1),
            strict=True,
        )
        return [Known(shape, tuple(max(-(2**62), min(2**62, of(a, b))) for a, b in pairs))]

    return rule


def _reduced(call: _Call) -> list[Known]:
    shape, node = call.shape(), call.node
    if call.has(1):
        axes: tuple[int, ...] = call.values(1)
    else:
        axes = call.axes("axes", ())
    if not axes and node.one("noop_with_empty_axes", 0):
        return [Known(shape)]
    gone = {_axis(axis, len(shape)) for axis in axes} if axes else set(range(len(shape)))
    if node.one("keepdims", 1):
        return [Known(tuple(1 if at in gone else side for at, side in enumerate(shape)))]
    return [Known(tuple(side for at, side in enumerate(shape) if at not in gone))]


def _arg_max(call: _Call) -> list[Known]:
    shape = call.shape()
    axis = _axis(call.node.one("axis", 0), len(shape))
    one = (1,) if call.node.one("keepdims", 1) else ()
    return [Known((*shape[:axis], *one, *shape[axis + 1 :]))]


def _reshape(call: _Call) -> list[Known]:
    shape, wanted = call.shape(), list(call.values(1))
    if not call.node.one("allowzero", 0):
        wanted = [shape[at] if side == 0 else side for at, side in enumerate(wanted)]
    if wanted.count(-1) > 1 or any(side < -1 for side in wanted):
        raise ValueError(f"to {wanted[:8]}")
    if -1 in wanted:
        rest = math.prod(side for side in wanted if side != -1)
        wanted[wanted.index(-1)] = call[0].count // rest if rest else 0
    if math.prod(wanted) != call[0].count:
        raise ValueError(f"to {wanted[:8]}")
    return [Known(tuple(wanted), call[0].values)]


def _constant_of_shape(call: _Call) -> list[Known]:
    return [Known(call.values(0))]


def _shape_of(call: _Call) -> list[Known]:
    shape = call.shape()
    start, end = call.node.one("start", 0), call.node.one("end", len(shape))
    found = shape[start:end]
    return [Known((len(found),), found)]


def _size_of(call: _Call) -> list[Known]:
    return [Known((), (call[0].count,))]


def _concat(call: _Call) -> list[Known]:
    parts = [call[index] for index in range(len(call.inputs))]
    shape = parts[0].shape
    axis = _axis(call.node.one("axis", 0), len(shape))
    for part in parts:
        if (*part.shape[:axis], *part.shape[axis + 1 :]) != (*shape[:axis], *shape[axis + 1 :]):
            raise ValueError(f"{list(part.shape)[:8]} and {list(shape)[:8]}")
    total = sum(part.shape[axis] for part in parts)
    numbers = [part.values for part in parts]
    values: tuple[int, ...] | None = None
    if len(shape) == 1 and total <= MOST_VALUES and None not in numbers:
        values = tuple(value for each in numbers if each is not None for value in each)
    return [Known((*shape[:axis], total, *shape[axis + 1 :]), values)]


def _slice(call: _Call) -> list[Known]:
    shape = list(call.shape())
    starts, ends = call.values(1), call.values(2)
    axes = call.values(3) if call.has(3) else tuple(range(len(starts)))
    steps = call.values(4) if call.has(4) else (1,) * len(starts)
    values = call[0].values
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = _axis(axis, len(shape))
        part = range(shape[at])[slice(start, end if end > -(2**31) else None, step)]
        values = tuple(values[index] for index in part) if values and len(shape) == 1 else None
        shape[at] = len(part)
    return [Known(tuple(shape), values)]


def _split(call: _Call) -> list[Known]:
    shape, count = call.shape(), len(call.node.outputs)
    axis = _axis(call.node.one("axis", 0), len(shape))
    if call.has(1):
        sizes: tuple[int, ...] = call.values(1)
    else:
        each = -(-shape[axis] // count)
        sizes = tuple(min(each, shape[axis] - each * at) for at in range(count))
    if sum(sizes) != shape[axis] or min(sizes, default=0) < 0 or len(sizes) != count:
        raise ValueError(f"in {list(sizes)[:8]}")
    return [Known((*shape[:axis], size, *shape[axis + 1 :])) for size in sizes]


def _transpose(call: _Call) -> list[Known]:
    shape = call.shape()
    order = call.axes("perm", range(len(shape))[::-1])
    if sorted(order) != list(range(len(shape))):
        raise ValueError(f"by {list(order)[:8]}")
    return [Known(tuple(shape[at] for at in order))]


def _mat_mul(call: _Call) -> list[Known]:
    first, second = call.shape(0), call.shape(1)
    a = first if len(first) > 1 else (1, *first)
    b = second if len(second) > 1 else (*second, 1)
    if a[-1] != b[-2]:
        raise ValueError(f"{a[-1]} and {b[-2]}")
    shape = list(_broadcast(a[:-2], b[:-2]) if a[:-2] or b[:-2] else ())
    shape += [a[-2]] if len(first) > 1 else []
    shape += [b[-1]] if len(second) > 1 else []
    return [Known(tuple(shape))]


def _gemm(call: _Call) -> list[Known]:
    (m, k), (inner, n) = call.shape(0), call.shape(1)
    if call.node.one("transA", 0):
        m, k = k, m
    if call.node.one("transB", 0):
        inner, n = n, inner
    if k != inner:
        raise ValueError(f"{k} and {inner}")
    return [Known((m, n))]


class _Window(Struct, frozen=True):
    """How a kernel moves over an image, for each of its dimensions."""

    kernel: Shape
    strides: Shape
    dilations: Shape
    pads: Shape

    def begin_end(self, at: int) -> int:
        return self.pads[at] + self.pads[at + len(self.kernel)]

    def reach(self, at: int) -> int:
        return self.dilations[at] * (self.kernel[at] - 1) + 1


def _window(call: _Call, kernel: Shape) -> _Window:
    rank = len(kernel)
    window = _Window(
        kernel,
        call.axes("strides", (1,) * rank),
        call.axes("dilations", (1,) * rank),
        call.axes("pads", (0,) * (2 * rank)),
    )
    sizes = (len(window.strides), len(window.dilations), len(window.pads))
    if sizes != (rank, rank, 2 * rank) or min((*window.strides, *window.dilations, *kernel)) < 1:
        raise ValueError(f"kernel {list(kernel)[:4]}")
    if min(window.pads) < 0:
        raise ValueError(f"pads {list(window.pads)[:4]}")
    return window


def _moved(sides: Shape, window: _Window, *, up: bool = False) -> Shape:
    found = []
    if len(sides) != len(window.kernel):
        raise ValueError(f"kernel {list(window.kernel)[:4]}")
    for at, side in enumerate(sides):
        room = side + window.begin_end(at) - window.reach(at)
        stride = window.strides[at]
        found.append(max(0, (-(-room // stride) if up else room // stride) + 1))
    return tuple(found)


def _conv(call: _Call) -> list[Known]:
    images, weights = call.shape(0), call.shape(1)
    if images[1] != weights[1] * call.node.one("group", 1):
        raise ValueError(f"{images[1]} channels")
    sides = _moved(images[2:], _window(call, call.axes("kernel_shape", weights[2:])))
    return [Known((images[0], weights[0], *sides))]


def _conv_transpose(call: _Call) -> list[Known]:
    images, weights = call.shape(0), call.shape(1)
    rank = len(weights) - 2
    window = _window(call, call.axes("kernel_shape", weights[2:]))
    extra = call.axes("output_padding", (0,) * rank)
    sides = call.axes(
        "output_shape",
        [
            window.strides[at] * (images[2 + at] - 1)
            + (extra[at] + window.reach(at) - window.begin_end(at))
            for at in range(rank)
        ],
    )
    return [Known((images[0], weights[1] * call.node.one("group", 1), *sides))]


def _pool(call: _Call) -> list[Known]:
    images = call.shape()
    window = _window(call, call.axes("kernel_shape", ()))
    sides = _moved(images[2:], window, up=bool(call.node.one("ceil_mode", 0)))
    return [Known((*images[:2], *sides))] * max(1, len(call.node.outputs))


def _col_to_image(call: _Call) -> list[Known]:
    columns, image, block = call.shape(0), call.values(1), call.values(2)
    return [Known((columns[0], columns[1] // math.prod(block), *image))]


def _one_hot(call: _Call) -> list[Known]:
    shape, depth = call.shape(0), call.values(1)[0]
    axis = _axis(call.node.one("axis", -1), len(shape) + 1)
    return [Known((*shape[:axis], depth, *shape[axis:]))]


def _pad(call: _Call) -> list[Known]:
    shape, pads = list(call.shape()), call.values(1)
    axes = call.values(3) if call.has(3) else tuple(range(len(shape)))
    if len(pads) != 2 * len(axes):
        raise ValueError(f"pads {list(pads)[:8]}")
    for index, axis in enumerate(axes):
        shape[_axis(axis, len(shape))] += pads[index] + pads[index + len(axes)]
    return [Known(tuple(shape))]


def _normalised(call: _Call) -> list[Known]:
    shape = call.shape()
    axis = _axis(call.node.one("axis", -1), len(shape))
    rest = Known((*shape[:axis], *(1 for _ in shape[axis:])))
    return [Known(shape), rest, rest]


def _quantised(call: _Call) -> list[Known]:
    return [Known(call.shape()), Known(()), Known(())]


def _workspace(node: Node, known: Mapping[str, Known], made: Mapping[str, Known]) -> int:
    """Numbers that an operator needs besides what it takes and makes: the patches of an image."""
    if node.operator in ("Conv", "ConvInteger"):
        weights = known[node.inputs[1]].shape
        return math.prod(weights[1:]) * math.prod(made[node.outputs[0]].shape[2:]) if made else 0
    if node.operator == "ConvTranspose":
        weights = known[node.inputs[1]].shape
        return math.prod(weights[1:]) * math.prod(known[node.inputs[0]].shape[2:])
    return 0


# fmt: off
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(
        ("Clip", "Elu", "Erf", "Exp", "HardSigmoid", "LeakyRelu", "LogSoftmax", "Neg",
         "Reciprocal", "Relu", "ScatterElements", "Sigmoid", "Sign", "Softmax", "Softplus", "Sqrt",
         "Tanh"), _same),
    **dict.fromkeys(("Cast", "Identity"), _passed),
    **dict.fromkeys(
        ("And", "Equal", "Greater", "GreaterOrEqual", "Less", "Max", "Min", "Sum", "Where"),
        _together),
    "Add": _arithmetic(lambda a, b: a + b),
    "Sub": _arithmetic(lambda a, b: a - b),
    "Mul": _arithmetic(lambda a, b: a * b),
    "Div": _arithmetic(lambda a, b: int(a / b) if abs(a) < 2**50 else a // b),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceSumSquare"), _reduced),
    "ArgMax": _arg_max,
    "Reshape": _reshape,
    "ConstantOfShape": _constant_of_shape,
    "Shape": _shape_of,
    "Size": _size_of,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
    **dict.fromkeys(("MatMul", "MatMulInteger"), _mat_mul),
    "Gemm": _gemm,
    **dict.fromkeys(("Conv", "ConvInteger"), _conv),
    "ConvTranspose": _conv_transpose,
    **dict.fromkeys(("AveragePool", "MaxPool"), _pool),
    "Col2Im": _col_to_image,
    "OneHot": _one_hot,
    "Pad": _pad,
    "LayerNormalization": _normalised,
    "DynamicQuantizeLinear": _quantised,
}
# fmt: on
OPERATORS = frozenset(_RULES)
"""The operators whose sizes are known."""
