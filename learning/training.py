"""The trainer interface, its settings, and the order in which batches are drawn.

Everything that decides a training result except the arithmetic itself is fixed here, without
torch, so that every backend trains on the same batches in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Literal, Protocol, TypeVar

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from learning.datasets import Images, Labels
from learning.metrics import class_accuracy
from learning.tensors import Parameters

Kind = TypeVar("Kind", bound=np.generic)
"""Of an array's elements."""

ADAM_BETAS = (0.9, 0.999)
"""Memory of Adam's two moments (Kingma and Ba 2015, arXiv 1412.6980)."""
ADAM_EPSILON = 1e-8
CLIP_EPSILON = 1e-6
"""Added to a norm before it is divided by, as PyTorch does."""


class TrainingSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a device trains in one round."""

    model: Annotated[
        str,
        Meta(
            pattern=r"^(small-cnn|vgg-9|resnet-18|resnet-18-batchnorm|[A-Za-z_][\w.]*:\w+)$",
            description="Network: small-cnn, vgg-9, resnet-18 (group norm), resnet-18-batchnorm, "
            "or module:factory.",
        ),
    ] = "small-cnn"
    backend: Annotated[
        Literal["auto", "onnx", "torch"],
        Meta(
            description="What devices train with; auto: ONNX Runtime where the coordinator offers "
            "a training graph, unless PyTorch is installed and faster (networks above 50 million "
            "multiply-adds an image); else PyTorch."
        ),
    ] = "auto"
    epochs: Annotated[
        int, Meta(ge=1, le=1000, description="E: passes over the mixed data per round.")
    ] = 5
    batch_size: Annotated[int, Meta(ge=1, description="Samples per step.")] = 20
    learning_rate: Annotated[float, Meta(gt=0, le=10, description="Step size.")] = 0.2
    optimiser: Annotated[
        Literal["sgd", "adam"],
        Meta(description='"sgd" or "adam" (β 0.9 and 0.999); its state starts anew each round.'),
    ] = "sgd"
    momentum: Annotated[
        float,
        Meta(ge=0, lt=1, description="Momentum of SGD; its buffer starts at zero each round."),
    ] = 0.0
    weight_decay: Annotated[
        float, Meta(ge=0, le=1, description="Added to the gradient: this times the parameter.")
    ] = 0.0
    label_smoothing: Annotated[
        float, Meta(ge=0, lt=1, description="Share of the label that is spread over all classes.")
    ] = 0.0
    proximal: Annotated[
        float,
        Meta(ge=0, description="FedProx μ: pulls the parameters to the round's global model."),
    ] = 0.0
    clip_norm: Annotated[
        float, Meta(ge=0, description="Largest norm of a step's gradient; 0: any.")
    ] = 0.0
    micro_batch: Annotated[
        int,
        Meta(
            ge=0,
            description="Samples that are in memory at once, gradients summed up to batch_size; "
            "0: the whole batch. The result is the same, in less memory.",
        ),
    ] = 0
    threads: Annotated[
        int,
        Meta(
            ge=1,
            le=256,
            description="CPU threads of one training, with either backend; their number is part "
            "of what makes numbers repeat.",
        ),
    ] = 1
    device: Annotated[
        Literal["cpu", "cuda", "auto"],
        Meta(
            description='What PyTorch trains on: "cpu", "cuda", or "auto": CUDA where there is '
            "one. ONNX Runtime trains on the CPU."
        ),
    ] = "cpu"
    amp: Annotated[
        Literal["off", "bf16", "fp16", "auto"],
        Meta(
            description='Half precision in PyTorch\'s training (evaluation is never): "fp16" '
            '(CUDA only, with a scaled loss), "bf16", "auto": bf16 or fp16 on CUDA, off elsewhere.'
        ),
    ] = "off"


class TrainingResult(Struct, frozen=True, kw_only=True):
    """What a round of local training gave.

    Attributes:
        parameters: the trained model.
        samples: samples processed, epochs × data.
        loss: mean training loss over the last epoch.
        accuracy: training accuracy over the last epoch, 0 to 1.
    """

    parameters: Parameters
    samples: int
    loss: float
    accuracy: float


class Evaluation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How good a model is on a data set.

    Attributes:
        accuracy: share of right answers, 0 to 1.
        loss: mean cross-entropy.
        class_accuracy: accuracy of each class; NaN-free: ``None`` for a class without samples.
        samples: how many were looked at.
    """

    accuracy: float
    loss: float
    class_accuracy: tuple[float | None, ...]
    samples: int


class EpochDone(Struct, frozen=True, kw_only=True):
    """Progress of a local training.

    Attributes:
        epoch: finished epochs.
        epochs: of how many.
        loss: mean training loss of the last one.
        accuracy: training accuracy of the last one, 0 to 1.
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: float


class TrainingCancelled(RuntimeError):  # noqa: N818 - nothing went wrong
    """The training was asked to stop before its end."""


class Trainer(Protocol):
    """Trains and evaluates a model; one implementation per backend."""

    @property
    def backend(self) -> str:
        """Name of the backend and its version, for example ``"torch 2.6"``."""
        ...

    def train(
        self,
        parameters: Parameters,
        images: Images,
        labels: Labels,
        settings: TrainingSettings,
        *,
        stream: tuple[int, ...],
        cancelled: Callable[[], bool] | None = None,
        progress: Callable[[EpochDone], None] | None = None,
    ) -> TrainingResult:
        """Train from ``parameters`` on all of ``images``.

        Args:
            parameters: where to start; left as they are.
            images: (D, channels, height, width), uint8.
            labels: (D,).
            settings: how.
            stream: order of the samples, see :func:`batches`.
            cancelled: asked again and again; training ends when it says yes.
            progress: told after every epoch.

        Raises:
            ValueError: images and labels do not fit, or settings that the backend cannot do.
            TrainingCancelled: ``cancelled`` said yes.
        """
        ...

    def evaluate(self, parameters: Parameters, images: Images, labels: Labels) -> Evaluation:
        """Accuracy and loss of ``parameters`` on ``images``."""
        ...


def batches(
    samples: int, settings: TrainingSettings, *, stream: tuple[int, ...]
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """The batches of one local training, the same for every backend.

    Args:
        samples: D, how many samples there are.
        settings: epochs and batch size.
        stream: seeds the order: ``(seed of the run, device index, round)``.

    Yields:
        ``(epoch, indices)``; the last batch of an epoch may be smaller.
    """
    generator = np.random.default_rng(stream)
    for epoch in range(settings.epochs):
        order = generator.permutation(samples)
        for start in range(0, samples, settings.batch_size):
            yield epoch, order[start : start + settings.batch_size]


def pieces(array: NDArray[Kind], size: int) -> list[NDArray[Kind]]:
    """Consecutive pieces of at most ``size`` samples; one piece for size 0."""
    size = size or len(array)
    return [array[start : start + size] for start in range(0, len(array), size)]


class Tally:
    """Adds up loss and right answers over the epochs.

    Args:
        samples: per epoch.
        epochs: how many there will be.
        progress: told after every epoch.
    """

    def __init__(
        self, samples: int, epochs: int, progress: Callable[[EpochDone], None] | None
    ) -> None:
        self._samples = samples
        self._epochs = epochs
        self._progress = progress
        self._done = self._seen = 0
        self._loss = self._correct = 0.0
        self.last = EpochDone(epoch=0, epochs=epochs, loss=0.0, accuracy=0.0)

    def add(self, samples: int, loss: float, correct: float) -> None:
        """Count a batch.

        Args:
            samples: in it.
            loss: summed over them.
            correct: right answers among them.
        """
        self._seen += samples
        self._loss += loss
        self._correct += correct
        if self._seen < self._samples:
            return
        self._done += 1
        self.last = EpochDone(
            epoch=self._done,
            epochs=self._epochs,
            loss=self._loss / self._samples,
            accuracy=self._correct / self._samples,
        )
        self._seen, self._loss, self._correct = 0, 0.0, 0.0
        if self._progress is not None:
            self._progress(self.last)

    def result(self, parameters: dict[str, NDArray[np.float32]]) -> TrainingResult:
        """The training that ended with ``parameters``, judged by its last epoch."""
        return TrainingResult(
            parameters=parameters,
            samples=self._done * self._samples,
            loss=self.last.loss,
            accuracy=self.last.accuracy,
        )


def check_samples(images: Images, labels: Labels) -> None:
    """Make sure that there is something to train on.

    Raises:
        ValueError: no images, another number of labels, or images that are not uint8.
    """
    if images.dtype != np.uint8:
        raise ValueError(
            f"images are {images.dtype}; trainers take them as stored, uint8 from 0 to 255: scale "
            "them to that range and convert them"
        )
    if len(images) != len(labels) or not len(labels):
        raise ValueError(
            f"{len(images)} images and {len(labels)} labels: a trainer needs as many of one as of "
            "the other, and at least one"
        )


def judge(logits: NDArray[np.float32], labels: Labels, classes: int) -> Evaluation:
    """Accuracy, loss and per-class accuracy of a model's answers.

    Args:
        logits: (N, classes).
        labels: (N,).
        classes: K.
    """
    right = logits.argmax(axis=1) == labels
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    normaliser = np.log(np.exp(shifted).sum(axis=1))
    loss = normaliser - shifted[np.arange(len(labels)), labels]
    return Evaluation(
        accuracy=float(right.mean()),
        loss=float(loss.mean()),
        class_accuracy=class_accuracy(right, labels, classes),
        samples=len(labels),
    )


def to_float(images: Images) -> NDArray[np.float32]:
    """Images as a network sees them: float32 between 0 and 1."""
    scaled: NDArray[np.float32] = np.asarray(images, np.float32) / np.float32(255.0)
    return scaled
