"""A network traced by PyTorch, written as ONNX nodes.

:func:`torch.export.export` gives a flat list of operators with the layer of each. The rule of each
operator writes its nodes. Batch normalisation and dropout, whose training differs from their
evaluation, are handled here, and so are operators with several results.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from operator import getitem
from typing import Any

import torch
from torch import fx, nn
from torch.export.graph_signature import InputKind

from fimi.errors import InputError
from fimi.learning.onnx import norms
from fimi.learning.onnx.draws import bernoulli, dropout
from fimi.learning.onnx.operators import adaptive_max_pool, rule_for
from fimi.learning.onnx.shapes import part
from fimi.learning.onnx.tape import NotExportableError, Shape, Tape, Value

ONE_TENSOR = "the network must give one tensor, the logits, in training and in evaluation"
SPLITS = tuple(f"aten.{kind}." for kind in ("chunk", "split", "split_with_sizes", "tensor_split"))
"""Names of the operators that divide a tensor along a dimension, their third argument."""


class ExportError(InputError, ValueError):
    """A network cannot become an ONNX graph; the message names layer and operator.

    The caller adds what can be done, because it knows the purpose of the graph.
    """

    code = "C009"


def trace(
    module: nn.Module, image_shape: tuple[int, int, int], *, training: bool
) -> torch.export.ExportedProgram:
    """The operators of a network's forward pass, for any batch size.

    Raises:
        ExportError: the network cannot be written as a list of operators.
    """
    was_training = module.training
    module.train(training)
    try:
        example = (torch.zeros(2, *image_shape),)
        free = ({0: torch.export.Dim("batch")},)
        with _quiet():
            return torch.export.export(module, example, dynamic_shapes=free, strict=False)
    except Exception as error:  # torch.export raises many kinds, none of them documented
        lines = str(error).splitlines()
        why = lines[0] if lines else type(error).__name__
        if "data-dependent" in why:
            why = "its forward pass branches on values of the data; make it free of such branches"
        elif "Constraints violated" in why:
            why = "its forward pass takes one number of images only; make it take any number"
        raise ExportError(f"PyTorch cannot trace {type(module).__name__}: {why}") from error
    finally:
        module.train(was_training)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress PyTorch's print of the graph when it fails; the error says what is needed."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        sink = io.StringIO()
        with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            yield
    finally:
        logging.disable(before)


class Lowering:
    """Writes a network traced by :func:`trace` into a graph, whose nodes the tape records.

    ``parameters`` are all parameters and buffers of the network, by name.
    """

    def __init__(
        self, program: torch.export.ExportedProgram, tape: Tape, parameters: dict[str, Value]
    ) -> None:
        self._program = program
        self._tape = tape
        self._parameters = parameters
        self._values: dict[fx.Node, Any] = {}
        self._names: dict[fx.Node, str] = {}
        self.new_buffers: dict[str, str] = {}

    def run(self, images: Value) -> Value:
        """Emit the forward pass; :attr:`new_buffers` then names the new running statistics.

        Raises:
            ExportError: a layer uses an operator without a rule.
        """
        placeholders = {spec.arg.name: spec for spec in self._program.graph_signature.input_specs}
        for node in self._program.graph.nodes:
            if node.op == "placeholder":
                spec = placeholders[node.name]
                if spec.kind is InputKind.USER_INPUT:
                    self._values[node] = images
                elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER) and (
                    spec.target in self._parameters
                ):
                    self._names[node] = spec.target
                    self._values[node] = self._parameters[spec.target]
                else:
                    self._values[node] = self._constant(spec.target or "")
            elif node.op == "call_function":
                self._emit(node)
            elif node.op == "output":
                if len(node.args[0]) != 1:
                    break
                return self._tensor(node.args[0][0])
        raise ExportError(ONE_TENSOR)

    def _constant(self, target: str) -> Value:
        stores = (self._program.constants, self._program.state_dict)
        tensor = next((store[target] for store in stores if target in store), None)
        if not isinstance(tensor, torch.Tensor):
            raise ExportError(f"the constant {target!r} of the network is not a tensor")
        array = tensor.detach().float().numpy()
        return Value(name=self._tape.graph.constant(array), shape=array.shape)

    def _tensor(self, node: object) -> Value:
        value = self._values[node] if isinstance(node, fx.Node) else None
        if not isinstance(value, Value):
            raise ExportError(ONE_TENSOR)
        return value

    def _emit(self, node: fx.Node) -> None:
        operator = str(node.target)
        meta = node.meta.get("val")
        unused = node.target is getitem and not node.users
        if unused or not isinstance(meta, torch.Tensor):  # sizes, or several tensors
            self._values[node] = None
            return
        changes = operator.startswith("aten.") and operator.split(".")[1].endswith("_")
        try:
            shape = tuple(size if isinstance(size, int) else None for size in meta.shape)
            if changes:
                _refuse_shared(node)
            if node.target is getitem:
                value = self._part(node, shape)
            else:
                value = self._call(node, operator, shape)
        except NotExportableError as problem:
            raise ExportError(
                f"{_layer(node)} uses {problem}, which has no rule for ONNX; {problem.remedy}"
            ) from problem
        except Exception as error:  # a rule that was given what it does not expect
            raise ExportError(
                f"{_layer(node)} uses {operator} in a form that has no rule for ONNX "
                f"({type(error).__name__}: {error}); change the layer"
            ) from error
        self._values[node] = value
        if changes and isinstance(node.args[0], fx.Node):
            self._values[node.args[0]] = value

    def _part(self, node: fx.Node, shape: Shape) -> Value:
        """One of the results of an operator that has several."""
        whole, index = node.args
        assert isinstance(whole, fx.Node) and isinstance(index, int)
        operator = str(whole.target)
        args = [self._argument(arg) for arg in whole.args]
        if operator.startswith("aten.adaptive_max_pool2d") and index == 0:
            return adaptive_max_pool(self._tape, shape, args, {})
        if operator.startswith("aten.unbind."):
            return part(self._tape, shape, args[0], int((*args, 0)[1]), index)
        if operator.startswith(SPLITS):
            axis = int((*args, 0)[2]) % len(shape)
            before = sum(piece.shape[axis] for piece in whole.meta["val"][:index])
            return part(self._tape, shape, args[0], axis, before)
        raise NotExportableError(f"the operator {operator}")

    def _call(self, node: fx.Node, operator: str, shape: Shape) -> Value:
        first = node.args[0] if node.args else None
        if isinstance(first, fx.Node) and first in self._names and operator.startswith("aten.add_"):
            return self._count(first, node)
        if operator.startswith("aten.batch_norm"):
            return self._batch_norm(node)
        if operator.startswith(("aten.dropout", "aten.feature_dropout")):
            source, rate, training = node.args[:3]
            if not training or not rate:
                return self._tensor(source)
            channels = operator.startswith("aten.feature")
            return dropout(self._tape, self._tensor(source), float(rate), channels=channels)  # type: ignore[arg-type]
        if operator.startswith(("aten.empty.", "aten.new_empty.")):  # to be filled
            return Value(name=self._tape.graph.number(0.0), shape=shape)
        if operator.startswith("aten.bernoulli_.float"):
            return bernoulli(self._tape, shape, float((*node.args, 0.5)[1]))  # type: ignore[arg-type]
        rule = rule_for(operator) if operator.startswith("aten.") else None
        if rule is None:
            raise NotExportableError(f"the operator {operator}")
        args = [self._argument(arg) for arg in node.args]
        kwargs = {key: self._argument(arg) for key, arg in node.kwargs.items()}
        return rule(self._tape, shape, args, kwargs)

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return self._values[argument]
        if isinstance(argument, list | tuple):
            return [self._argument(item) for item in argument]
        return argument

    def _count(self, buffer: fx.Node, node: fx.Node) -> Value:
        """``num_batches_tracked``, the only buffer that is a counter."""
        value = self._tensor(buffer)
        graph = self._tape.graph
        name = graph.op("Add", value.name, graph.number(float(node.args[1])))  # type: ignore[arg-type]
        self.new_buffers[self._names[buffer]] = name
        return Value(name=name, shape=value.shape)

    def _batch_norm(self, node: fx.Node) -> Value:
        arguments: list[Any] = [self._argument(arg) for arg in node.args]
        image, weight, bias, mean, variance, training, momentum, epsilon = arguments[:8]
        running = None if mean is None or variance is None else (mean, variance)
        if not training:
            if running is None:
                raise NotExportableError("batch_norm in evaluation without running statistics")
            return norms.batch_norm_evaluated(self._tape, image, weight, bias, running, epsilon)
        output, updated = norms.batch_norm(
            self._tape, image, weight, bias, running, float(momentum), epsilon
        )
        if updated is not None:
            for argument, name in zip(node.args[3:5], updated, strict=True):
                assert isinstance(argument, fx.Node)
                self.new_buffers[self._names[argument]] = name
        return output


_VIEWS = (
    tuple(
        f"aten.{kind}."
        for kind in (
            *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "permute"),
            *("transpose", "slice", "select", "expand", "expand_as", "unbind", "contiguous"),
        )
    )
    + SPLITS
)


def _refuse_shared(node: fx.Node) -> None:
    """Refuse a change in place that another name of the same numbers sees afterwards.

    Raises:
        NotExportableError: there is one.
    """
    changed = node.args[0]
    if not isinstance(changed, fx.Node):
        return
    same, ahead = {changed}, [changed]
    while ahead:
        one = ahead.pop()
        near = {user for user in one.users if _is_view(user)}
        if _is_view(one) and isinstance(one.args[0], fx.Node):
            near.add(one.args[0])
        ahead += near - same
        same |= near
    order = {each: i for i, each in enumerate(node.graph.nodes)}
    if any(order[user] > order[node] for other in same - {changed} for user in other.users):
        raise NotExportableError(
            f"{node.target} on numbers that another view of them shows later",
            "change them by a function that is not in place",
        )


def _is_view(node: fx.Node) -> bool:
    return node.target is getitem or str(node.target).startswith(_VIEWS)


def _layer(node: fx.Node) -> str:
    """The layer an operator came from, for messages."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    if not stack or not stack[-1][0] or stack[-1][0].startswith("_"):
        return "the network"
    path, kind = stack[-1]
    return f"layer {path!r} ({str(kind).rsplit('.', 1)[-1]})"
