"""Every operator that is exported, against PyTorch: one step of each, and its evaluation."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation, StochasticDepth

from fimi.learning.networks import models
from fimi.learning.onnx import export
from fimi.learning.onnx.export import ExportError
from fimi.learning.training.onnx_trainer import OnnxTrainer
from fimi.learning.training.torch_trainer import TorchTrainer
from fimi.learning.training.trainer import TrainingSettings

SHAPE = (4, 10, 10)
CLASSES = 5
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (6, *SHAPE), dtype=np.uint8)
IMAGES[0, :, :4] = 255  # equal neighbours: ties for the pooling
LABELS = GENERATOR.integers(0, CLASSES, 6)
SETTINGS = TrainingSettings(epochs=1, batch_size=6, learning_rate=1.0)


class Residual(nn.Module):
    """A sum, a product, a concatenation and a scalar between two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(4, 4, 3, padding=1)
        self.two = nn.Conv2d(8, 6, 1)
        self.scale = nn.Parameter(torch.full((1, 4, 1, 1), 0.7))

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x) * self.scale + x * 0.5 - 0.1
        y += x / (1.5 + self.scale)
        return self.two(torch.cat([y, x], 1))


class Turned(nn.Module):
    """Dimensions in another order."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).transpose(1, 2).reshape(x.size(0), -1, 2)


class Does(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Wide(nn.Module):
    """Numbers so large that activations show their ends."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 10.0 + 1.0


def after(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers)


torch.manual_seed(0)  # the layers below are made once, with these parameters
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "plain": after(nn.Conv2d(4, 6, 3, padding=1)),
    "strided": after(nn.Conv2d(4, 6, 3, stride=2, padding=1)),
    "strided, rest": after(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 6, 3, stride=2)),
    "strided to few pixels": after(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 6, 3, stride=3, padding=1)),
    "few pixels, no bias": after(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 6, 8, bias=False)),
    "pointwise, strided": after(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 6, 1, stride=2)),
    "oblong": after(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2))),
    "dilated": after(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 6, 3, dilation=2, padding=2)),
    "grouped": after(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 6, 3, padding=1, groups=2)),
    "depthwise": after(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4)),
    "depthwise, larger": after(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, (3, 2), padding=1, groups=4)),
    "depthwise, pointwise": after(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, groups=4)),
    "depthwise, few pixels": after(
        nn.Conv2d(4, 4, 3, stride=3),
        nn.Conv2d(4, 4, (3, 5), padding=(1, 4), dilation=(1, 2), groups=4, bias=False),
    ),
    "same": after(nn.Conv2d(4, 6, 3, padding="same")),
    "valid": after(nn.Conv2d(4, 6, 3, padding="valid")),
    "max-pool": after(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    "max-pool, overlapping": after(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
    "max-pool, wide": after(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.MaxPool2d(5)),
    "max-pool, up": after(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)),
    "max-pool, up, side by side": after(nn.Conv2d(4, 4, 1), nn.MaxPool2d(3, ceil_mode=True)),
    "max-pool, up, padded": after(nn.Conv2d(4, 4, 1), nn.MaxPool2d(4, 3, 1, ceil_mode=True)),
    "max-pool, up, odd pairs": after(nn.Conv2d(4, 4, 2), nn.MaxPool2d(2, ceil_mode=True)),
    "max-pool, up, apart": after(nn.Conv2d(4, 4, 1), nn.MaxPool2d(2, 4, ceil_mode=True)),
    "average-pool": after(nn.Conv2d(4, 4, 1), nn.AvgPool2d(2)),
    "average-pool, padded": after(nn.Conv2d(4, 4, 1), nn.AvgPool2d(3, 2, 1)),
    "average-pool, inside": after(
        nn.Conv2d(4, 4, 1), nn.AvgPool2d(3, 2, 1, count_include_pad=False)
    ),
    "average-pool, up": after(nn.Conv2d(4, 4, 1), nn.AvgPool2d(3, ceil_mode=True)),
    "average-pool, up, padded": after(
        nn.Conv2d(4, 4, 1), nn.AvgPool2d((4, 3), (3, 2), 1, ceil_mode=True)
    ),
    "average-pool, up, inside": after(
        nn.Conv2d(4, 4, 1), nn.AvgPool2d(4, 3, 1, ceil_mode=True, count_include_pad=False)
    ),
    "average-pool, divided": after(nn.Conv2d(4, 4, 1), nn.AvgPool2d(3, 2, 1, divisor_override=5)),
    "adaptive, uneven": after(nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d((3, 7))),
    "adaptive, larger": after(nn.Conv2d(4, 4, 3), nn.MaxPool2d(4), nn.AdaptiveAvgPool2d((7, 3))),
    "adaptive, as it is": after(nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d((None, 10))),
    "adaptive maximum": after(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.AdaptiveMaxPool2d((5, 2))),
    "transposed": after(nn.Conv2d(4, 4, 3, stride=2), nn.ConvTranspose2d(4, 6, 3, 2)),
    "transposed, no bias": after(
        nn.Conv2d(4, 4, 1), nn.ConvTranspose2d(4, 3, (2, 3), padding=(0, 1), bias=False)
    ),
    "transposed, dilated, with rest": after(
        nn.Conv2d(4, 4, 3, stride=2), nn.ConvTranspose2d(4, 3, 3, 2, 1, 1, dilation=2)
    ),
    "transposed, grouped": after(
        nn.Conv2d(4, 4, 3, stride=3), nn.ConvTranspose2d(4, 6, 3, 3, 1, 2, groups=2)
    ),
    "transposed, depthwise": after(nn.Conv2d(4, 4, 3), nn.ConvTranspose2d(4, 4, 2, 2, groups=4)),
    "halves": after(nn.Conv2d(4, 6, 1), Does(lambda x: torch.cat([*x.chunk(2, 1)][::-1], 1))),
    "pieces": after(nn.Conv2d(4, 6, 1), Does(lambda x: x.split((1, 2, 3), -3)[1] * x[:, :2])),
    "thirds": after(nn.Conv2d(4, 5, 1), Does(lambda x: x.tensor_split(3, 1)[1] - x.split(2, 1)[1])),
    "unbound": after(nn.Conv2d(4, 6, 1), Does(lambda x: x.unbind(2)[1] * x.select(-1, -2))),
    "slices": after(nn.Conv2d(4, 4, 1), Does(lambda x: x[:, 1:3, -7:-1] * x[..., 2:8, :][:, -1:])),
    "slices in steps": after(
        nn.Conv2d(4, 4, 1), Does(lambda x: x[:, ::3, 1::2] + x[:, 1::2, 1:10:2] * x[:, :2, ::2])
    ),
    "padded": after(nn.Conv2d(4, 4, 1), nn.ZeroPad2d((1, 0, 2, 3)), nn.ConstantPad2d(-1, 0.5)),
    "shuffled channels": after(nn.Conv2d(4, 6, 1), nn.ChannelShuffle(3)),
    "shuffled by hand": after(
        nn.Conv2d(4, 6, 1),
        Does(lambda x: x.view(x.size(0), 2, 3, 10, 10).transpose(1, 2).contiguous().view(x.shape)),
    ),
    "expanded": after(
        nn.Conv2d(4, 4, 1), Does(lambda x: x * x.mean((2, 3), keepdim=True).expand_as(x) * x)
    ),
    "squeeze and excite": after(nn.Conv2d(4, 6, 1), SqueezeExcitation(6, 3)),
    "from a number": after(nn.Conv2d(4, 4, 1), Does(lambda x: (1 - x) * -x)),
    "in place": after(nn.Conv2d(4, 4, 1), Does(lambda x: x.relu_().mul(2).sub_(0.1))),
    "adaptive": after(nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(5)),
    "global": after(nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1)),
    "group norm": after(nn.Conv2d(4, 6, 3), nn.GroupNorm(3, 6)),
    "group norm, plain": after(nn.Conv2d(4, 6, 3), nn.GroupNorm(2, 6, affine=False)),
    "batch norm": after(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)),
    "batch norm, no statistics": after(
        nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, track_running_stats=False), nn.ReLU()
    ),
    "layer norm": after(nn.Conv2d(4, 2, 3), nn.LayerNorm([2, 8, 8])),
    "relu": after(nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True)),
    "relu6": after(nn.Conv2d(4, 4, 3), Wide(), nn.ReLU6(inplace=True)),
    "relu6 as a function": after(nn.Conv2d(4, 4, 3), Wide(), Does(nn.functional.relu6)),
    "leaky": after(nn.Conv2d(4, 4, 3), nn.LeakyReLU(0.1)),
    "elu": after(nn.Conv2d(4, 4, 3), nn.ELU()),
    "gelu": after(nn.Conv2d(4, 4, 3), nn.GELU()),
    "silu": after(nn.Conv2d(4, 4, 3), nn.SiLU()),
    "hardswish": after(nn.Conv2d(4, 4, 3), Wide(), nn.Hardswish()),
    "hardsigmoid": after(nn.Conv2d(4, 4, 3), Wide(), nn.Hardsigmoid()),
    "softplus": after(nn.Conv2d(4, 4, 3), nn.Softplus()),
    "sigmoid": after(nn.Conv2d(4, 4, 3), nn.Sigmoid()),
    "tanh": after(nn.Conv2d(4, 4, 3), nn.Tanh()),
    "dropout of nothing": after(nn.Conv2d(4, 4, 3), nn.Dropout(0.0)),
    "centred": after(nn.Conv2d(4, 4, 3), Does(lambda x: x - x.mean((2, 3), keepdim=True))),
    "summed": after(
        nn.Conv2d(4, 4, 3), Does(lambda x: torch.sub(x[None].sum(0), x.sum(1, True), alpha=0.5))
    ),
    "residual": Residual,
    "turned": after(nn.Conv2d(4, 4, 1), Turned(), nn.Linear(2, 3)),
}


def network(layers: nn.Module) -> nn.Module:
    with torch.no_grad():
        width = layers.eval()(torch.rand(2, *SHAPE)).flatten(1).shape[1]
    return nn.Sequential(layers, nn.Flatten(), nn.Linear(width, CLASSES)).train()


@pytest.mark.parametrize("name", LAYERS)
def test_a_step_and_an_evaluation(name: str) -> None:
    torch.manual_seed(0)
    module = network(LAYERS[name]())
    graphs = export.export_module(module, SETTINGS, CLASSES, SHAPE)
    trainer = OnnxTrainer(graphs)
    start = models.parameters_of(module)
    ours = trainer.train(start, IMAGES, LABELS, SETTINGS, stream=(0,)).parameters
    order = next(iter_order())
    x, y = torch.from_numpy(IMAGES).float() / 255, torch.from_numpy(LABELS)
    loss = nn.functional.cross_entropy(module(x[order]), y[order])
    weights = list(module.parameters())
    for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
        weight.data -= gradient
    theirs = models.parameters_of(module)
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        np.testing.assert_allclose(ours[key], tensor, rtol=1e-4, atol=3e-6, err_msg=key)
    if any((theirs[k] != start[k]).any() for k in theirs if "running" in k):
        assert theirs[next(k for k in theirs if k.endswith("tracked"))] == 1
    found = trainer.evaluate(theirs, IMAGES, LABELS)
    with torch.no_grad():
        logits = module.eval()(x)
    assert found.loss == pytest.approx(float(nn.functional.cross_entropy(logits, y)), rel=1e-4)
    assert found.accuracy == float((logits.argmax(1) == y).double().mean())


def iter_order():  # type: ignore[no-untyped-def]
    from fimi.learning.training.trainer import batches

    for _, order in batches(len(LABELS), SETTINGS, stream=(0,)):
        yield torch.from_numpy(order)


def kept(place: int, shape: tuple[int, ...], chance: float) -> Tensor:
    """The mask of a step from stream (0,), as :mod:`fimi.learning.training.draws` promises it."""
    generator = np.random.default_rng(np.random.SeedSequence((0,), spawn_key=(1, place)))
    return torch.from_numpy(generator.random(shape, np.float32) < np.float32(chance)).float()


DROPPING: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]] = {
    "dropout": (nn.Dropout(0.3), lambda x: x * kept(0, (6, 4, 8, 8), 0.7) / 0.7),
    "half of it": (nn.Dropout(inplace=True), lambda x: x * kept(0, (6, 4, 8, 8), 0.5) * 2),
    "channels": (nn.Dropout2d(0.4), lambda x: x * kept(0, (6, 4, 1, 1), 0.6) / 0.6),
    "all": (nn.Dropout(1.0), lambda x: x * 0),
    "depth": (StochasticDepth(0.5, "row"), lambda x: x * kept(0, (6, 1, 1, 1), 0.5) * 2),
    "depth of a batch": (
        StochasticDepth(0.8, "batch"), lambda x: x * kept(0, (1, 1, 1, 1), 0.2) * 5,
    ),
    "two": (
        nn.Sequential(nn.Dropout2d(0.4), nn.ReLU(), nn.Dropout(0.1)),
        lambda x: (x * kept(0, (6, 4, 1, 1), 0.6) / 0.6).relu() * kept(1, (6, 4, 8, 8), 0.9) / 0.9,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DROPPING)
def test_what_is_dropped(name: str) -> None:
    """Both backends drop what the stream says: a step is that of a network with given masks."""
    layer, masked = DROPPING[name]
    torch.manual_seed(0)
    module = network(nn.Sequential(nn.Conv2d(4, 4, 3), layer))
    start = models.parameters_of(module)
    graphs = export.export_module(module, SETTINGS, CLASSES, SHAPE)
    trained = OnnxTrainer(graphs).train(start, IMAGES, LABELS, SETTINGS, stream=(0,))
    by_torch = TorchTrainer("small-cnn", CLASSES, SHAPE)
    by_torch._module = copy.deepcopy(module)
    theirs = by_torch.train(start, IMAGES, LABELS, SETTINGS, stream=(0,))
    module[0][1] = Does(masked)  # type: ignore[index,operator]
    order = next(iter_order())
    x, y = torch.from_numpy(IMAGES).float() / 255, torch.from_numpy(LABELS)
    nn.functional.cross_entropy(module(x[order]), y[order]).backward()
    for key, weight in module.named_parameters():
        assert weight.grad is not None
        for result in (trained, theirs):
            found = start[key] - result.parameters[key]
            np.testing.assert_allclose(found, weight.grad, rtol=1e-4, atol=3e-6, err_msg=key)


class TestRefusals:
    def refused(self, module: nn.Module, settings: TrainingSettings = SETTINGS) -> str:
        with pytest.raises(ExportError) as caught:
            export.export_module(module, settings, CLASSES, SHAPE)
        return str(caught.value)

    @pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
    @pytest.mark.parametrize(
        ("layer", "problem"),
        [
            (nn.GELU("tanh"), "gelu with approximate='tanh'"),
            (nn.SELU(), "the operator aten.selu"),
            (nn.CELU(0.5), "the operator aten.celu"),
            (nn.Softplus(beta=2.0), "softplus with beta=2"),
            (nn.Conv2d(4, 4, 2, padding="same"), 'padding "same" with the even kernel (2, 2)'),
            (
                nn.MaxPool2d(2, 5, dilation=6, ceil_mode=True),
                "max_pool2d with ceil_mode and dilation",
            ),
            (nn.AdaptiveMaxPool2d(3), "adaptive_max_pool2d from 8×8 to 3×3"),
            (nn.AlphaDropout(0.2), "the operator aten.alpha_dropout.default"),
            (nn.FeatureAlphaDropout(0.2), "the operator aten.feature_alpha_dropout.default"),
            (nn.ReflectionPad2d(1), "pad with mode 'reflect'"),
            (Does(lambda x: x + x.max(1, keepdim=True)[0]), "the operator aten.max.dim"),
            (Does(lambda x: x + x[:1]), "a slice of the batch"),
            (Does(lambda x: x + x[0]), "an index into the batch"),
            (Does(lambda x: x * x.size(0)), "aten.mul.Tensor in a form"),
            (nn.LayerNorm([8]), "layer_norm over [8] of (None, 4, 8, 8)"),
            (Does(lambda x: torch.cat([x, x]).sum() + x), "cat along the batch"),
            (Does(lambda x: x - x.mean(0)), "a reduction over the batch"),
        ],
    )
    def test_a_setting_without_a_rule(self, layer: nn.Module, problem: str) -> None:
        message = self.refused(network(nn.Sequential(nn.Conv2d(4, 4, 3), layer)))
        assert message.startswith(f"layer '0.1' ({type(layer).__name__}) uses {problem}")
        assert "no rule for ONNX" in message
        assert message.endswith("; change the layer")

    def test_numbers_changed_behind_another_view(self) -> None:
        def behind(x: Tensor) -> Tensor:
            flat = x.flatten(1)
            flat.mul_(2.0)
            return x + 1.0

        message = self.refused(network(nn.Sequential(nn.Conv2d(4, 4, 3), Does(behind))))
        assert message == (
            "layer '0.1' (Does) uses aten.mul_.Tensor on numbers that another view of them shows "
            "later, which has no rule for ONNX; change them by a function that is not in place"
        )

    def test_several_results(self) -> None:
        class Helped(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(400, CLASSES)

            def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
                logits: Tensor = self.layer(x.flatten(1))
                return (logits, logits) if self.training else logits

        assert "must give one tensor, the logits, in training" in self.refused(Helped())

    def test_one_size_of_the_batch(self) -> None:
        halved = nn.Sequential(Does(lambda x: x.reshape(2, 400)), nn.Linear(400, CLASSES))
        assert "takes one number of images only; make" in self.refused(halved)

    def test_unknown_operator(self) -> None:
        message = self.refused(network(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Softmin(1))))
        assert "layer '0.1' (Softmin)" in message
        assert "aten." in message

    def test_branches_on_data(self, capfd: pytest.CaptureFixture[str]) -> None:
        class Moody(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(400, CLASSES)

            def forward(self, x: Tensor) -> Tensor:
                return self.layer(x.flatten(1) if x.sum() > 0 else -x.flatten(1))

        message = self.refused(Moody())
        assert "cannot trace Moody: its forward pass branches on values of the data;" in message
        assert capfd.readouterr() == ("", "")  # PyTorch prints its own graphs otherwise

    def test_tied_weights(self) -> None:
        first, second = nn.Linear(400, 400), nn.Linear(400, 400)
        second.weight = first.weight
        tied = nn.Sequential(nn.Flatten(), first, second, nn.Linear(400, CLASSES))
        message = self.refused(tied)
        assert "'1.weight' and '2.weight' are one tensor" in message

    def test_too_few_logits(self) -> None:
        assert "must give logits of shape" in self.refused(nn.Sequential(nn.Conv2d(4, 5, 3)))

    def test_batch_norm_in_micro_batches(self) -> None:
        module = network(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)))
        message = self.refused(module, TrainingSettings(micro_batch=2))
        assert "set it to 0" in message


def test_a_frozen_parameter_stays() -> None:
    module = network(nn.Conv2d(4, 4, 3))
    module[0].weight.requires_grad_(False)  # type: ignore[index, union-attr]
    trainer = OnnxTrainer(export.export_module(module, SETTINGS, CLASSES, SHAPE))
    start = models.parameters_of(module)
    ours = trainer.train(start, IMAGES, LABELS, SETTINGS, stream=(0,)).parameters
    assert (ours["0.weight"] == start["0.weight"]).all()
    assert (ours["0.bias"] != start["0.bias"]).any()


def test_the_same_network_gives_the_same_bytes() -> None:
    one, other = (export.export(TrainingSettings(), 10, (1, 8, 8)) for _ in range(2))
    assert one == other
