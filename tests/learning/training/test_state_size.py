"""A graph that asks a device for far more state than its model has is refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from msgspec.structs import replace
from onnx import TensorProto, helper

from fimi.learning.onnx import export
from fimi.learning.onnx.graphs import GraphError
from fimi.learning.training.onnx_trainer import OnnxTrainer
from fimi.learning.training.torch_trainer import initial_parameters
from fimi.learning.training.trainer import TrainingSettings


@pytest.mark.parametrize(
    ("shape", "why"),
    [([1 << 14, 1 << 13], "its state has 1342[0-9]+ numbers"), (["any"], "not known beforehand")],
)
def test_too_much_state(shape: list[int | str], why: str) -> None:
    settings = TrainingSettings(optimiser="adam")
    made = export.export(settings, 10, (1, 8, 8))
    start = initial_parameters(settings.model, 10, (1, 8, 8), seed=1)
    images = np.zeros((20, 1, 8, 8), np.uint8)
    labels = np.zeros(20, np.int64)
    OnnxTrainer(made).train(start, images, labels, settings, stream=(1,))
    model = onnx.load_from_string(made.step)
    model.graph.input.append(helper.make_tensor_value_info("state.x", TensorProto.FLOAT, shape))
    model.graph.node.append(helper.make_node("Neg", ["state.x"], ["unused"]))
    hostile = OnnxTrainer(replace(made, step=model.SerializeToString()))
    with pytest.raises(GraphError, match=why):
        hostile.train(start, images, labels, settings, stream=(1,))
