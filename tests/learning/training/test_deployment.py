"""What is deployed answers as PyTorch does, in a quarter of the size, and is checked on the way."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper

from fimi.learning.data.dataset import Dataset, Images, load_digits
from fimi.learning.onnx import export, graph_check
from fimi.learning.onnx.graphs import GraphError
from fimi.learning.training import deployment
from fimi.learning.training.classifier import Classifier, Exported
from fimi.learning.training.deployment import Deployer, ParityError
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
from fimi.learning.training.trainer import TrainingSettings

DIGITS = load_digits()
SHAPE = (1, 8, 8)
TEST = DIGITS.subset(np.arange(600, 900), "digits/test")


@cache
def trainer() -> TorchTrainer:
    return TorchTrainer("small-cnn", 10, SHAPE)


@cache
def trained() -> Parameters:
    start = initial_parameters("small-cnn", 10, SHAPE, seed=1)
    how = TrainingSettings(epochs=20, batch_size=20, learning_rate=0.1)
    return (
        trainer()
        .train(start, DIGITS.images[:600], DIGITS.labels[:600], how, stream=(0,))
        .parameters
    )


@cache
def files() -> tuple[Exported, ...]:
    return Deployer("small-cnn", trainer(), TEST).export(trained())


class TestFiles:
    def test_fp32_is_pytorch_within_rounding(self) -> None:
        fp32 = files()[0].check
        assert fp32.variant == "fp32"
        assert fp32.difference < 1e-4
        assert (fp32.agreement, fp32.compared, fp32.samples) == (1.0, 256, 300)
        expected = trainer().evaluate(trained(), TEST.images, TEST.labels)
        assert fp32.accuracy == expected.accuracy

    def test_int8_is_small_and_nearly_as_good(self) -> None:
        fp32, int8 = (file.check for file in files())
        assert int8.variant == "int8"
        assert int8.size_bytes == len(files()[1].model) < 0.35 * fp32.size_bytes
        assert int8.accuracy > fp32.accuracy - 0.02
        assert 0.0 < int8.difference < 1.0
        assert int8.agreement > 0.97

    def test_without_quantisation_there_is_one_file(self) -> None:
        (only,) = Deployer("small-cnn", trainer(), TEST, quantise=False).export(trained())
        assert only == files()[0]

    def test_same_model_same_bytes(self) -> None:
        again = Deployer("small-cnn", trainer(), TEST).export(trained())
        assert [f.check.digest for f in again] == [f.check.digest for f in files()]

    @pytest.mark.parametrize("model", ["vgg-9", "resnet-18", "resnet-18-batchnorm"])
    def test_every_layer_of_a_large_network_is_quantised(self, model: str) -> None:
        shape = (3, 16, 16)
        graph, _ = export.evaluation_graph(
            deployment.models.build(model, 10, shape, seed=0), 10, shape, plain=True
        )
        plain = deployment.with_parameters(graph, initial_parameters(model, 10, shape, seed=0))
        quantised = deployment.quantised(plain)
        assert len(quantised) < 0.27 * len(plain)
        found = graph_check.check(quantised, graph_check.INFERENCE)
        assert {"ConvInteger", "MatMulInteger"} <= found.operators
        assert not {"Conv", "Gemm"} & found.operators
        classifier = Classifier(quantised, 10, shape)
        assert classifier.logits(np.zeros((3, *shape), np.uint8)).shape == (3, 10)

    def test_a_file_that_answers_otherwise_is_not_given_out(self) -> None:
        class Other:
            def predict(self, parameters: Parameters, images: Images) -> NDArray[np.float32]:
                return trainer().predict(parameters, images) + np.float32(0.5)

        with pytest.raises(ParityError, match=r"differ from PyTorch's by 0\.5 on 256 test images"):
            Deployer("small-cnn", Other(), TEST).export(trained())

    def test_a_missing_parameter_is_named(self) -> None:
        lacking = {name: value for name, value in trained().items() if name != "head.bias"}
        graph, _ = export.evaluation_graph(
            deployment.models.build("small-cnn", 10, SHAPE, seed=0), 10, SHAPE
        )
        with pytest.raises(ValueError, match=r"wants parameter 'head\.bias'"):
            deployment.with_parameters(graph, lacking)


class TestClassifier:
    def test_any_batch_size(self) -> None:
        classifier = Classifier(files()[0].model, 10, SHAPE)
        whole = classifier.logits(TEST.images[:7])
        single = np.concatenate([classifier.logits(TEST.images[i : i + 1]) for i in range(7)])
        np.testing.assert_allclose(whole, single, atol=1e-5)

    @pytest.mark.parametrize(
        ("classes", "shape", "reason"),
        [(9, SHAPE, "for 9 classes"), (10, (3, 8, 8), r"images here are uint8 \(3, 8, 8\)")],
    )
    def test_of_another_data_set(
        self, classes: int, shape: tuple[int, int, int], reason: str
    ) -> None:
        with pytest.raises(GraphError, match=reason):
            Classifier(files()[0].model, classes, shape)

    def test_a_training_graph_is_no_classifier(self) -> None:
        graphs = export.export(TrainingSettings(), 10, SHAPE)
        with pytest.raises(GraphError, match="a classifier takes images and gives logits"):
            Classifier(graphs.step, 10, SHAPE)

    def test_constants_that_are_missing(self) -> None:
        model = onnx.load_from_string(files()[1].model)
        del model.graph.initializer[0]
        with pytest.raises(GraphError, match="which nothing has made yet"):
            Classifier(model.SerializeToString(), 10, SHAPE)


HOSTILE: dict[str, tuple[Callable[[onnx.ModelProto], object], str]] = {
    "control flow": (
        lambda m: m.graph.node.append(helper.make_node("Loop", ["x"], ["y"])),
        "'Loop' is not allowed",
    ),
    "another domain": (
        lambda m: m.graph.node.append(
            helper.make_node("QAttention", ["x"], ["y"], domain="com.microsoft")
        ),
        "not of the standard domain",
    ),
    "a file": (
        lambda m: m.graph.initializer[0].external_data.add(key="location", value="/etc/passwd"),
        "tensor has field 13",
    ),
    "metadata": (lambda m: helper.set_model_props(m, {"onnx.infer": "x"}), "field 14"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name: str) -> None:
    change, reason = HOSTILE[name]
    model = onnx.load_from_string(files()[1].model)
    change(model)
    with pytest.raises(GraphError, match=reason):
        graph_check.check(model.SerializeToString(), graph_check.INFERENCE)


def test_quantised_operators_are_for_inference_only() -> None:
    with pytest.raises(GraphError, match="'DynamicQuantizeLinear' is not allowed"):
        graph_check.check(files()[1].model)


def test_a_file_above_its_limit() -> None:
    large = files()[0].model
    tight = graph_check.Limits(
        model_bytes=len(large) - 1, constant_bytes=1 << 20, operators=graph_check.OPERATORS
    )
    with pytest.raises(GraphError, match="the limit is"):
        graph_check.check(large, tight)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    model = bytearray(files()[1].model)
    for _ in range(data.draw(st.integers(1, 4))):
        model[data.draw(st.integers(0, len(model) - 1))] = data.draw(st.integers(0, 255))
    at, upto = sorted(data.draw(st.integers(0, len(model))) for _ in range(2))
    damaged = bytes(model[:at] + model[upto:]) if data.draw(st.booleans()) else bytes(model)
    try:
        found = graph_check.check(damaged, graph_check.INFERENCE)
    except GraphError:
        return
    assert found.operators <= graph_check.INFERENCE.operators


def test_the_check_of_a_data_set_of_one_image() -> None:
    one = Dataset(
        name="one", images=TEST.images[:1], labels=TEST.labels[:1], class_names=TEST.class_names
    )
    fp32, int8 = Deployer("small-cnn", trainer(), one).export(trained())
    assert (fp32.check.compared, int8.check.samples) == (1, 1)
