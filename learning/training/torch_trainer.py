"""The PyTorch trainer, with repeatable results on the CPU or on CUDA."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from fimi.learning.data.dataset import Images
from fimi.learning.networks import models
from fimi.learning.training import precision
from fimi.learning.training.draws import Draws
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.trainer import (
    ADAM_BETAS,
    ADAM_EPSILON,
    CLIP_EPSILON,
    LocalTraining,
    Trainer,
    TrainingCancelled,
    TrainingSettings,
    pieces,
    to_float,
)

EVALUATION_PIXELS = 512 * 8 * 8
"""Pixels of the images that are evaluated at once, so that the network's activations fit into
memory."""
EVALUATION_BATCH_MIN = 64


class TorchTrainer(Trainer):
    """Trains and evaluates one network with PyTorch.

    Args:
        model: name of the network.
        classes: K.
        image_shape: channels, height, width.
        threads: PyTorch's threads within an operator; a setting of the whole process. One thread
            is repeatable and, for small networks, also faster.
        device: where to train and evaluate; the CPU if left out.
    """

    def __init__(
        self,
        model: str,
        classes: int,
        image_shape: tuple[int, int, int],
        *,
        threads: int = 1,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(classes)
        self._image_shape = image_shape
        torch.set_num_threads(threads)
        self._device = device or torch.device("cpu")
        precision.make_deterministic(self._device)
        self._module = models.build(model, classes, image_shape, seed=0).to(self._device)

    @classmethod
    def of(
        cls, settings: TrainingSettings, classes: int, image_shape: tuple[int, int, int]
    ) -> TorchTrainer:
        """The trainer that the settings ask for: network, threads, device.

        Raises:
            ModelError: there is no such network, or it cannot be trained with these settings.
            PrecisionError: this machine has no such device or precision.
        """
        device = precision.device_of(settings)
        trainer = cls(settings.model, classes, image_shape, threads=settings.threads, device=device)
        trainer.check(settings)
        return trainer

    def check(self, settings: TrainingSettings) -> None:
        """Make sure that the network can be trained with these settings.

        Raises:
            ModelError: it cannot.
            PrecisionError: it cannot be trained in this precision on this device.
        """
        precision.amp_of(settings, self._device)
        if settings.micro_batch or settings.batch_size < 2:
            models.check_batches(settings, self.batch_min)

    @property
    def backend(self) -> str:
        """Name and version of the backend."""
        on = "" if self._device.type == "cpu" else f" on {self._device.type}"
        return f"torch {torch.__version__.split('+')[0]}{on}"

    @cached_property
    def batch_min(self) -> int:
        """Smallest batch; see :class:`fimi.learning.training.trainer.Trainer`."""
        return models.batch_min(self._module, self._image_shape)

    def _train(self, training: LocalTraining) -> dict[str, NDArray[np.float32]]:
        module = self._module
        self.check(training.settings)
        models.load_parameters(module, training.parameters)
        module.train()
        devices = [torch.cuda.current_device()] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # for the network's own draws, such as dropout
            torch.manual_seed(int(np.random.SeedSequence(training.stream).generate_state(1)[0]))
            self._fit(training)
        return models.parameters_of(module)

    def _fit(self, training: LocalTraining) -> None:
        module, device = self._module, self._device
        drawing = _Drawing(training.stream)
        _, images, labels, settings = training[:4]
        inputs = torch.from_numpy(to_float(images)).to(device)
        targets = torch.from_numpy(labels).to(device)
        amp = precision.amp_of(settings, device)
        scale = precision.LossScale(amp == "fp16")
        weights: list[Tensor] = [weight for weight in module.parameters() if weight.requires_grad]
        optimiser = _Optimiser(weights, settings)
        for _, order in training.batches:
            if training.cancelled is not None and training.cancelled():
                raise TrainingCancelled("the training was asked to stop")
            total: list[Tensor] | None = None
            for part in pieces(order, settings.micro_batch):
                indices = torch.from_numpy(part).to(device)
                given = inputs[indices]
                if training.changed is not None:
                    given = torch.from_numpy(to_float(training.changed(part))).to(device)
                with precision.autocast(device, amp), drawing.forward():
                    logits = module(given)
                    loss = functional.cross_entropy(
                        logits.float(), targets[indices], label_smoothing=settings.label_smoothing
                    )
                share = len(part) / len(order)
                gradients = _gradients(scale.scaled(loss * share), weights)
                if total is None:
                    total = gradients
                else:
                    torch._foreach_add_(total, gradients)
                correct = (logits.detach().argmax(1) == targets[indices]).sum()
                training.tally.add(len(part), float(loss.detach()) * len(part), int(correct))
            assert total is not None
            if scale.unscale(total):
                optimiser.step(total)

    @torch.no_grad()
    def predict(self, parameters: Parameters, images: Images) -> NDArray[np.float32]:
        """Logits, (N, classes); see :class:`fimi.learning.training.trainer.Trainer`."""
        module = self._module
        models.load_parameters(module, parameters)
        module.eval()
        size = max(EVALUATION_BATCH_MIN, EVALUATION_PIXELS // math.prod(images.shape[2:]))
        logits = [
            module(torch.from_numpy(to_float(part)).to(self._device)).cpu().numpy()
            for part in pieces(images, size)
        ]
        return np.concatenate([np.zeros((0, self._classes), np.float32), *logits])


def initial_parameters(
    model: str, classes: int, image_shape: tuple[int, int, int], *, seed: int
) -> dict[str, NDArray[np.float32]]:
    """The parameters from which a run starts."""
    return models.parameters_of(models.build(model, classes, image_shape, seed=seed))


def _gradients(loss: Tensor, weights: list[Tensor]) -> list[Tensor]:
    """The gradient of every weight; zero for those that the forward pass does not use."""
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    return [
        torch.zeros_like(weight) if gradient is None else gradient
        for weight, gradient in zip(weights, found, strict=True)
    ]


class _Drawing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lets dropout and stochastic depth draw from :class:`Draws`, as other backends do.

    What else a network draws comes from PyTorch's generator.
    """

    def __init__(self, stream: tuple[int, ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._draws = Draws(stream)
        self._place = self._passes = 0

    def forward(self) -> AbstractContextManager[object]:
        """For one forward pass; nothing, once a pass has drawn nothing."""
        if self._place == 0 and self._passes:
            return nullcontext()
        self._passes, self._place = self._passes + 1, 0
        return self

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # PyTorch's compiler, 150 MB in two seconds, would be loaded to be skipped

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten.bernoulli_.float:
            noise, chance = (*args, 0.5)[:2]
            return noise.copy_(self._kept(noise, chance))
        if func is torch.ops.aten.native_dropout.default:  # dropout on CUDA
            source, rate, _training = args
            kept = self._kept(source, 1.0 - rate)
            return source * kept / (1.0 - rate), kept
        return func(*args, **(kwargs or {}))

    def _kept(self, like: Tensor, chance: float) -> Tensor:
        kept = self._draws.uniform(self._place, like.shape) < np.float32(chance)
        self._place += 1
        return torch.from_numpy(kept).to(like.device)


class _Optimiser:
    """SGD with momentum, or Adam, in place, with the results of ``torch.optim``.

    It is written here because those classes load PyTorch's compiler: 150 MB and two seconds on a
    device that never compiles anything. A test compares the results of the two.
    """

    def __init__(self, weights: list[Tensor], settings: TrainingSettings) -> None:
        self._weights = weights
        self._settings = settings
        self._steps = 0
        zeros = [torch.zeros_like(weight) for weight in weights]
        adam = settings.optimiser == "adam"
        self._first = zeros if adam or settings.momentum else []
        self._second = [torch.zeros_like(weight) for weight in weights] if adam else []
        self._anchor = [w.detach().clone() for w in weights] if settings.proximal else []

    @torch.no_grad()
    def step(self, gradients: list[Tensor]) -> None:
        """Apply a batch's gradients; the gradients are changed."""
        settings, weights = self._settings, self._weights
        if self._anchor:
            torch._foreach_add_(gradients, weights, alpha=settings.proximal)
            torch._foreach_add_(gradients, self._anchor, alpha=-settings.proximal)
        if settings.clip_norm:
            norm = torch.stack(torch._foreach_norm(gradients)).norm()
            factor = torch.clamp(settings.clip_norm / (norm + CLIP_EPSILON), max=1.0)
            torch._foreach_mul_(gradients, factor)
        if settings.weight_decay:
            torch._foreach_add_(gradients, weights, alpha=settings.weight_decay)
        if settings.optimiser == "adam":
            self._adam(gradients)
            return
        if self._first:
            torch._foreach_mul_(self._first, settings.momentum)
            torch._foreach_add_(self._first, gradients)
            gradients = self._first
        torch._foreach_add_(weights, gradients, alpha=-settings.learning_rate)

    def _adam(self, gradients: list[Tensor]) -> None:
        self._steps += 1
        one, two = ADAM_BETAS
        torch._foreach_mul_(self._first, one)
        torch._foreach_add_(self._first, gradients, alpha=1 - one)
        torch._foreach_mul_(self._second, two)
        torch._foreach_addcmul_(self._second, gradients, gradients, value=1 - two)
        deviation = torch._foreach_sqrt(self._second)
        torch._foreach_div_(deviation, (1 - two**self._steps) ** 0.5)
        torch._foreach_add_(deviation, ADAM_EPSILON)
        rate = self._settings.learning_rate / (1 - one**self._steps)
        torch._foreach_addcdiv_(self._weights, self._first, deviation, value=-rate)
