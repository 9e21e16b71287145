"""A network, its loss and its optimiser as ONNX graphs that train without PyTorch.

One graph is one step. Inputs are batch, labels, sample weights, learning rate, parameters and
optimiser state; outputs are loss, number of right answers, new parameters and new state. The batch
may have any size. With ``micro_batch`` the step is divided in two graphs, so that gradients of
parts of a batch are summed before they are applied. :mod:`fimi.learning.onnx.graphs` explains the
names of inputs and outputs.

Needs torch and onnx, which a device does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from torch import nn

from fimi.learning.networks import models
from fimi.learning.onnx.builder import BATCH, GraphBuilder
from fimi.learning.onnx.graphs import ANCHOR, NEW, PARAMETER, STATE, SUM, GraphSet, recipe
from fimi.learning.onnx.lowering import ExportError, Lowering, trace
from fimi.learning.onnx.tape import Shape, Tape, Value
from fimi.learning.training.trainer import ADAM_BETAS, ADAM_EPSILON, CLIP_EPSILON, TrainingSettings

__all__ = ["ExportError", "evaluation_graph", "export", "export_module"]


def export(settings: TrainingSettings, classes: int, image_shape: tuple[int, int, int]) -> GraphSet:
    """The graphs of a network by name.

    Args:
        settings: network, loss and optimiser.
        classes: K.
        image_shape: channels, height, width.

    Raises:
        ExportError: the network cannot be exported; names layer and operator.
        ValueError: there is no such network.
    """
    module = models.build(settings.model, classes, image_shape, seed=0)
    return export_module(module, settings, classes, image_shape)


def export_module(
    module: nn.Module,
    settings: TrainingSettings,
    classes: int,
    image_shape: tuple[int, int, int],
) -> GraphSet:
    """The graphs of a network; see :func:`export`."""
    accumulates = settings.micro_batch > 0
    least = models.batch_min(module, image_shape)
    try:
        models.check_batches(settings, least)
    except models.ModelError as error:
        raise ExportError(str(error)) from error
    evaluate, multiply_adds = evaluation_graph(module, classes, image_shape)
    return GraphSet(
        recipe=recipe(settings),
        classes=classes,
        image_shape=image_shape,
        step=_training(module, settings, classes, image_shape, accumulates=accumulates),
        apply=_applying(module, settings) if accumulates else b"",
        evaluate=evaluate,
        multiply_adds=multiply_adds,
        batch_min=least,
    )


def evaluation_graph(
    module: nn.Module, classes: int, image_shape: tuple[int, int, int], *, plain: bool = False
) -> tuple[bytes, int]:
    """The graph from images and parameters to logits, and its multiply-adds for one image.

    Where ``plain``, each layer is ONNX's own operator.

    Raises:
        ExportError: the network cannot be exported; names layer and operator.
    """
    graph = GraphBuilder("evaluate")
    tape = Tape(graph, plain=plain)
    images = _images(graph, image_shape)
    values = _parameters(graph, module)
    logits = Lowering(trace(module, image_shape, training=False), tape, values).run(images)
    _check_logits(logits, classes)
    graph.output("logits", logits.name, "float32", [BATCH, classes])
    return graph.model({}), tape.multiply_adds


def _training(
    module: nn.Module,
    settings: TrainingSettings,
    classes: int,
    image_shape: tuple[int, int, int],
    *,
    accumulates: bool,
) -> bytes:
    graph = GraphBuilder("accumulate" if accumulates else "step")
    tape = Tape(graph)
    images = _images(graph, image_shape)
    labels = graph.input("labels", "int64", [BATCH])
    weights = graph.input("weights", "float32", [BATCH])
    values = _parameters(graph, module)
    trainable = _trainable(module)
    for name in trainable:
        tape.watch(values[name])
    lowering = Lowering(trace(module, image_shape, training=True), tape, values)
    logits = lowering.run(images)
    _check_logits(logits, classes)
    rate = None if accumulates else graph.input("learning_rate", "float32", [])
    folded = rate if _is_plain(settings) else None
    _loss(tape, logits, labels, weights, settings, classes, summed=accumulates, scale=folded)
    gradients = {name: tape.gradient(values[name]) for name in trainable}
    if rate is None:
        for name, gradient in gradients.items():
            before = _input(graph, SUM + name, values[name].shape)
            _output(graph, before, graph.op("Add", before.name, gradient))
        before = _input(graph, SUM + "weight", ())
        total = graph.op("ReduceSum", weights, keepdims=0)
        _output(graph, before, graph.op("Add", before.name, total))
    elif folded is not None:
        for name in trainable:
            _output(graph, values[name], graph.op("Sub", values[name].name, gradients[name]))
    else:
        _descend(graph, {n: values[n] for n in trainable}, gradients, rate, settings)
    for name, new in lowering.new_buffers.items():
        _output(graph, values[name], new)
    return graph.model({})


def _is_plain(settings: TrainingSettings) -> bool:
    """Whether a step is only the gradient times the learning rate.

    Then the rate can multiply the gradient of a few logits instead of that of every parameter.
    """
    return (
        settings.optimiser == "sgd"
        and not settings.micro_batch
        and not any(
            (settings.momentum, settings.weight_decay, settings.proximal, settings.clip_norm)
        )
    )


def _applying(module: nn.Module, settings: TrainingSettings) -> bytes:
    graph = GraphBuilder("apply")
    rate = graph.input("learning_rate", "float32", [])
    values = _parameters(graph, module, _trainable(module))
    total = _input(graph, SUM + "weight", ())
    share = graph.op("Reciprocal", total.name)
    gradients = {
        name: graph.op("Mul", _input(graph, SUM + name, value.shape).name, share)
        for name, value in values.items()
    }
    _descend(graph, values, gradients, rate, settings)
    return graph.model({})


def _loss(
    tape: Tape,
    logits: Value,
    labels: str,
    weights: str,
    settings: TrainingSettings,
    classes: int,
    *,
    summed: bool,
    scale: str | None,
) -> None:
    """Cross-entropy with label smoothing, weighted by sample; starts the backward pass.

    The mean over the batch is Σ w·l / Σ w; with ``summed`` the division is done later. Gradients,
    not the loss, are multiplied by ``scale``.
    """
    graph = tape.graph
    smooth = settings.label_smoothing
    ends = np.array([smooth / classes, 1 - smooth + smooth / classes], np.float32)
    depth = graph.constant(np.array(classes))
    target = graph.op("OneHot", labels, depth, graph.constant(ends), axis=1)
    logs = graph.op("LogSoftmax", logits.name, axis=1)
    crossed = graph.op("ReduceSum", graph.op("Mul", target, logs), graph.integers(1), keepdims=0)
    column = graph.reshape(weights, -1, 1)
    each = graph.op("Neg", crossed)
    loss = graph.op("ReduceSum", graph.op("Mul", each, weights), keepdims=0)
    if not summed:
        total = graph.op("ReduceSum", weights, keepdims=0)
        loss = graph.op("Div", loss, total)
        column = graph.op("Div", column, total)
    if scale is not None:
        column = graph.op("Mul", column, scale)
    error = graph.op("Sub", graph.op("Softmax", logits.name, axis=1), target)
    tape.backward(logits, graph.op("Mul", error, column))
    right = graph.op("Equal", graph.op("ArgMax", logits.name, axis=1, keepdims=0), labels)
    hits = graph.op("Mul", graph.op("Cast", right, to=1), graph.op("Sign", weights))
    graph.output("loss", loss, "float32", [])
    graph.output("correct", graph.op("ReduceSum", hits, keepdims=0), "float32", [])


def _descend(
    graph: GraphBuilder,
    values: Mapping[str, Value],
    gradients: dict[str, str],
    rate: str,
    settings: TrainingSettings,
) -> None:
    """The optimiser, as in ``torch.optim``, after FedProx's proximal term and clipping."""
    if settings.proximal:
        for name, value in values.items():
            anchor = _input(graph, ANCHOR + name, value.shape)
            drift = graph.op("Sub", value.name, anchor.name)
            pull = graph.op("Mul", drift, graph.number(settings.proximal))
            gradients[name] = graph.op("Add", gradients[name], pull)
    if settings.clip_norm:
        squares = [graph.op("ReduceSumSquare", g, keepdims=0) for g in gradients.values()]
        norm = graph.op("Sqrt", graph.op("Sum", *squares))
        largest = graph.number(settings.clip_norm)
        limit = graph.op("Div", largest, graph.op("Add", norm, graph.number(CLIP_EPSILON)))
        factor = graph.op("Min", limit, graph.number(1.0))
        gradients = {name: graph.op("Mul", g, factor) for name, g in gradients.items()}
    if settings.weight_decay:
        for name, value in values.items():
            decay = graph.op("Mul", value.name, graph.number(settings.weight_decay))
            gradients[name] = graph.op("Add", gradients[name], decay)
    if settings.optimiser == "adam":
        _adam(graph, values, gradients, rate)
        return
    for name, value in values.items():
        step = gradients[name]
        if settings.momentum:
            velocity = _input(graph, f"{STATE}velocity.{name}", value.shape)
            kept = graph.op("Mul", velocity.name, graph.number(settings.momentum))
            step = graph.op("Add", kept, step)
            _output(graph, velocity, step)
        _output(graph, value, graph.op("Sub", value.name, graph.op("Mul", step, rate)))


def _adam(
    graph: GraphBuilder, values: Mapping[str, Value], gradients: Mapping[str, str], rate: str
) -> None:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980), with PyTorch's order of the bias correction."""
    steps = _input(graph, STATE + "steps", ())
    count = graph.op("Add", steps.name, graph.number(1.0))
    _output(graph, steps, count)
    one, two = ADAM_BETAS
    corrections = []
    for beta in ADAM_BETAS:
        power = graph.op("Exp", graph.op("Mul", count, graph.number(math.log(beta))))
        corrections.append(graph.op("Sub", graph.number(1.0), power))
    pace = graph.op("Div", rate, corrections[0])
    root = graph.op("Sqrt", corrections[1])
    for name, value in values.items():
        gradient = gradients[name]
        moments = []
        squared = graph.op("Mul", gradient, gradient)
        for kind, beta, new in (("first", one, gradient), ("second", two, squared)):
            old = _input(graph, f"{STATE}{kind}.{name}", value.shape)
            kept = graph.op("Mul", old.name, graph.number(beta))
            moment = graph.op("Add", kept, graph.op("Mul", new, graph.number(1 - beta)))
            _output(graph, old, moment)
            moments.append(moment)
        deviation = graph.op("Div", graph.op("Sqrt", moments[1]), root)
        below = graph.op("Add", deviation, graph.number(ADAM_EPSILON))
        step = graph.op("Mul", graph.op("Div", moments[0], below), pace)
        _output(graph, value, graph.op("Sub", value.name, step))


def _images(graph: GraphBuilder, image_shape: tuple[int, int, int]) -> Value:
    """Images as stored, 0 to 255, converted to floats between 0 and 1."""
    raw = graph.input("images", "uint8", [BATCH, *image_shape])
    name = graph.op("Div", graph.op("Cast", raw, to=1), graph.number(255.0))
    return Value(name=name, shape=(None, *image_shape))


def _input(graph: GraphBuilder, name: str, shape: Shape) -> Value:
    graph.input(name, "float32", [size or 0 for size in shape])
    return Value(name=name, shape=shape)


def _output(graph: GraphBuilder, replaces: Value, new: str) -> None:
    graph.output(NEW + replaces.name, new, "float32", [size or 0 for size in replaces.shape])


def _parameters(
    graph: GraphBuilder, module: nn.Module, names: Iterable[str] | None = None
) -> dict[str, Value]:
    """Inputs for the parameters and buffers of these names, by default for all."""
    state = module.state_dict()
    return {
        name: _input(graph, PARAMETER + name, tuple(state[name].shape)) for name in names or state
    }


def _trainable(module: nn.Module) -> list[str]:
    known = module.state_dict().keys()
    names = [name for name, weight in module.named_parameters() if weight.requires_grad]
    if unknown := sorted(set(names) - known):
        raise ExportError(f"parameter {unknown[0]!r} is not in the network's state")
    holders: dict[int, str] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if (other := holders.setdefault(id(tensor), name)) != name:
            raise ExportError(
                f"{other!r} and {name!r} are one tensor under two names (tied weights), which a "
                "training graph would train as two; give each its own"
            )
    return names


def _check_logits(logits: Value, classes: int) -> None:
    if logits.shape != (None, classes):
        raise ExportError(
            f"the network gives {logits.shape} for {classes} classes; it must give logits of shape "
            f"(batch, {classes})"
        )
