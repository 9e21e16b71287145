"""The trained model as ONNX files for users, checked against PyTorch.

* :class:`Deployer`     exports, quantises and checks models
* :class:`ParityError`  an exported model differs too much from PyTorch

``fp32`` holds the parameters as they are. ``int8`` holds the weights of convolutions and linear
layers as unsigned bytes, and quantises their inputs when it runs (dynamic quantisation).
Unsigned, because ONNX Runtime's ``ConvInteger`` takes three times as long with signed weights on
x86 processors. Both take uint8 images ``(N, channels, height, width)`` under the name ``images``
and give ``logits``.

Needs onnx and torch, which a device does not.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from fimi.learning.data.dataset import Dataset
from fimi.learning.networks import models
from fimi.learning.onnx.builder import model_of
from fimi.learning.onnx.export import evaluation_graph
from fimi.learning.onnx.graphs import PARAMETER
from fimi.learning.training import tensors
from fimi.learning.training.classifier import Classifier, Exported, FileCheck, Variant
from fimi.learning.training.onnx_runtime import session_of
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.trainer import Trainer, judge, pieces

PARITY_IMAGES = 256
"""Number of test images on which a file is compared with PyTorch."""
TOLERANCE = 1e-3
"""Largest difference between a file's logits and PyTorch's, relative to the largest logit."""
_BATCH = 64


class ParityError(RuntimeError):
    """An exported network differs too much from PyTorch; the message says by how much."""


class Deployer:
    """Makes files of a network's parameters.

    Args:
        model: name of the network.
        network: gives PyTorch's logits.
        test: held-out images for the comparison.
        quantise: whether to make an ``int8`` file too.

    Raises:
        ExportError: the network cannot be exported; names layer and operator.
    """

    def __init__(
        self, model: str, network: Trainer, test: Dataset, *, quantise: bool = True
    ) -> None:
        module = models.build(model, test.classes, test.image_shape, seed=0)
        self._graph, self.multiply_adds = evaluation_graph(
            module, test.classes, test.image_shape, plain=True
        )
        self._network = network
        self._test = test
        self._quantise = quantise

    def export(self, parameters: Parameters) -> tuple[Exported, ...]:
        """The files of a model, fp32 first.

        Raises:
            ParityError: fp32 differs too much from PyTorch.
        """
        plain = with_parameters(self._graph, parameters)
        test = self._test
        expected = self._network.predict(parameters, test.images[:PARITY_IMAGES])
        files = [compare("fp32", plain, expected, test)]
        limit = TOLERANCE * max(1.0, float(np.abs(expected).max()))
        found = files[0].check
        if not found.difference <= limit:
            raise ParityError(
                f"the exported network's logits differ from PyTorch's by "
                f"{found.difference:.3g} on {found.compared} test images, {limit:.3g} is "
                f"allowed ({found.agreement:.1%} of the answers agree); the file is not used"
            )
        if self._quantise:
            files.append(compare("int8", quantised(plain), expected, test))
        return tuple(files)


def with_parameters(graph: bytes, parameters: Parameters) -> bytes:
    """A graph with its parameters as constants instead of inputs.

    Nodes that depend on constants alone (weights in another shape) are computed here, once. The
    graph is one of :func:`fimi.learning.onnx.export.evaluation_graph`.

    Raises:
        ValueError: a parameter is missing.
    """
    model = onnx.load_from_string(graph)
    for given in [each for each in model.graph.input if each.name.startswith(PARAMETER)]:
        name = given.name.removeprefix(PARAMETER)
        if name not in parameters:
            raise ValueError(f"the graph wants parameter {name!r}, which the model lacks")
        value = np.ascontiguousarray(parameters[name], np.float32)
        model.graph.initializer.append(numpy_helper.from_array(value, given.name))
        model.graph.input.remove(given)
    _fold(model.graph)
    return _bytes(model)


def quantised(model: bytes) -> bytes:
    """The same network with its weights in 8 bits; see the module."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)  # it recommends a preparation that is done already
    try:
        with tempfile.TemporaryDirectory(prefix="fimi-int8-") as folder:
            path = Path(folder) / "model.onnx"
            quantize_dynamic(
                onnx.load_from_string(model),
                path,
                weight_type=QuantType.QUInt8,
                op_types_to_quantize=["Conv", "Gemm", "MatMul"],
            )
            made = onnx.load(path)
    finally:
        log.setLevel(level)
    return _bytes(made)


def compare(
    variant: Variant, model: bytes, expected: NDArray[np.float32], test: Dataset
) -> Exported:
    """Compare a file with PyTorch, which gave the logits (n, K) of the first test images."""
    classifier = Classifier(model, test.classes, test.image_shape)
    answers = np.concatenate([classifier.logits(part) for part in pieces(test.images, _BATCH)])
    first = answers[: len(expected)]
    check = FileCheck(
        variant=variant,
        digest=tensors.digest(model),
        size_bytes=len(model),
        accuracy=judge(answers, test.labels, test.classes).accuracy,
        samples=len(test),
        agreement=float((first.argmax(axis=1) == expected.argmax(axis=1)).mean()),
        difference=float(np.abs(first - expected).max()),
        compared=len(expected),
    )
    return Exported(model=model, check=check)


def _fold(graph: onnx.GraphProto) -> None:
    """Replace nodes that depend on constants alone by constants."""
    known = {tensor.name for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if all(name in known for name in node.input):
            nodes.append(node)
            known.update(node.output)
    if not nodes:
        return
    folded = {name for node in nodes for name in node.output}
    kept = [node for node in graph.node if not folded & set(node.output)]
    ends = sorted({name for node in kept for name in node.input} & folded)
    results = [helper.make_empty_tensor_value_info(name) for name in ends]
    part = helper.make_graph(nodes, "constants", [], results, graph.initializer)
    values = session_of(model_of(part).SerializeToString()).run(ends, {})
    graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in zip(ends, values, strict=True)
    )
    del graph.node[:]
    graph.node.extend(kept)


def _bytes(model: onnx.ModelProto) -> bytes:
    """Nodes, inputs, outputs and the used constants as bytes, the same for the same graph."""
    graph = model.graph
    used = {name for node in graph.node for name in node.input}
    constants = [
        numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name)
        for tensor in graph.initializer
        if tensor.name in used
    ]
    plain = helper.make_graph(graph.node, graph.name, graph.input, graph.output, constants)
    return bytes(model_of(plain).SerializeToString(deterministic=True))
