"""The trainer interface, its settings, and the order in which batches are drawn.

Everything that determines a training result except the arithmetic is defined here, without torch,
so that every backend trains on the same batches in the same order.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterator
from typing import Annotated, Literal, NamedTuple, TypeVar

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from fimi.errors import RunFailedError
from fimi.learning.data.changes import Augmentation
from fimi.learning.data.dataset import Images, Labels
from fimi.learning.training.metrics import class_accuracy
from fimi.learning.training.tensors import Parameters

Kind = TypeVar("Kind", bound=np.generic)
"""Type of an array's elements."""

ADAM_BETAS = (0.9, 0.999)
"""Decay rates of Adam's two moments (Kingma and Ba 2015, arXiv 1412.6980)."""
ADAM_EPSILON = 1e-8
CLIP_EPSILON = 1e-6
"""Added to a norm before it is used as a divisor, as in PyTorch."""


class TrainingSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a device trains in one round."""

    model: Annotated[
        str,
        Meta(pattern=r"^(small-cnn|vgg-9|resnet-18|resnet-18-batchnorm|[A-Za-z_][\w.]*:\w+)$"),
        "Network: small-cnn, vgg-9, resnet-18 (group norm), resnet-18-batchnorm, "
        "or module:factory.",
    ] = "small-cnn"
    backend: Annotated[
        Literal["auto", "onnx", "torch"],
        "What devices train with; auto: ONNX Runtime where the coordinator offers "
        "a training graph, unless PyTorch is installed and faster (networks above 50 million "
        "multiply-adds an image); else PyTorch.",
    ] = "auto"
    epochs: Annotated[int, Meta(ge=1, le=1000), "E: passes over the mixed data per round."] = 5
    steps: Annotated[
        int,
        Meta(ge=0, le=1_000_000),
        "Steps per round instead of epochs: so many batches, whatever the amount "
        "of data; 0: epochs decide.",
    ] = 0
    synthetic_share: Annotated[
        float,
        Meta(ge=0, lt=1),
        "Share of synthetic samples in every batch where a device has any; both "
        "kinds are drawn without repetition until used up, then anew. 0: as the data falls.",
    ] = 0.0
    batch_size: Annotated[int, Meta(ge=1), "Samples per step."] = 20
    learning_rate: Annotated[float, Meta(gt=0, le=10), "Step size."] = 0.2
    optimiser: Annotated[
        Literal["sgd", "adam"],
        '"sgd" or "adam" (β 0.9 and 0.999); its state starts anew each round.',
    ] = "sgd"
    momentum: Annotated[
        float, Meta(ge=0, lt=1), "Momentum of SGD; its buffer starts at zero each round."
    ] = 0.0
    weight_decay: Annotated[
        float, Meta(ge=0, le=1), "Added to the gradient: this times the parameter."
    ] = 0.0
    label_smoothing: Annotated[
        float, Meta(ge=0, lt=1), "Share of the label that is spread over all classes."
    ] = 0.0
    proximal: Annotated[
        float, Meta(ge=0), "FedProx μ: pulls the parameters to the round's global model."
    ] = 0.0
    clip_norm: Annotated[float, Meta(ge=0), "Largest norm of a step's gradient; 0: any."] = 0.0
    augment: Annotated[
        float,
        Meta(ge=0, le=4),
        "Devices rotate, scale and shift their own images at random whenever they take one; 1: up "
        "to 8°, 8 %, a sixteenth of the width. 0: they train on them as they are.",
    ] = 0.0
    micro_batch: Annotated[
        int,
        Meta(ge=0),
        "Samples that are in memory at once, gradients summed up to batch_size; "
        "0: the whole batch. The result is the same, in less memory.",
    ] = 0
    threads: Annotated[
        int,
        Meta(ge=1, le=256),
        "CPU threads of one training, with either backend; their number is part "
        "of what makes numbers repeat.",
    ] = 1
    device: Annotated[
        Literal["cpu", "cuda", "auto"],
        'What PyTorch trains on: "cpu", "cuda", or "auto": CUDA where there is '
        "one. ONNX Runtime trains on the CPU.",
    ] = "cpu"
    amp: Annotated[
        Literal["off", "bf16", "fp16", "auto"],
        'Half precision in PyTorch\'s training (evaluation is never): "fp16" '
        '(CUDA only, with a scaled loss), "bf16", "auto": bf16 or fp16 on CUDA, off elsewhere.',
    ] = "off"

    def passes(self, samples: int) -> tuple[int, int]:
        """Samples per pass, and number of passes; loss and accuracy are computed once a pass.

        Args:
            samples: D; an epoch is one pass over them, a number of steps is one pass.
        """
        if self.steps:
            return self.steps * min(self.batch_size, samples), 1
        return samples, self.epochs

    def processed(self, samples: int) -> int:
        """Samples that a round of training processes: E·D, or S·min(B, D) of S steps."""
        each, times = self.passes(samples)
        return each * times


class TrainingResult(Struct, frozen=True, kw_only=True):
    """The result of a round of local training.

    Attributes:
        parameters: the trained model.
        samples: number of processed samples, :meth:`TrainingSettings.processed`.
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
        loss: mean cross-entropy; ``None``: it is not finite.
        class_accuracy: accuracy of each class; ``None`` for a class without samples.
        samples: number of evaluated samples.
    """

    accuracy: float
    loss: float | None
    class_accuracy: tuple[float | None, ...]
    samples: int


class EpochDone(Struct, frozen=True, kw_only=True):
    """Finished and all epochs of a local training; mean loss and accuracy, 0 to 1, of the last."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float


class TrainingCancelled(RuntimeError):  # noqa: N818 - nothing went wrong
    """The training was asked to stop before its end."""


class TrainingDivergedError(RunFailedError, RuntimeError):
    """A training has left the numbers: its loss or a parameter is infinite or not a number.

    Args:
        what: what is not finite.
        epoch: the epoch in which it was found, from 1.
        step: the step of that epoch, from 1.
        samples: samples that were processed until then, those of the step included.
        learning_rate: the step size that was set.
    """

    code = "R011"

    def __init__(
        self, what: str, *, epoch: int, step: int, samples: int, learning_rate: float
    ) -> None:
        super().__init__(
            f"diverged: {what} not finite in epoch {epoch}, step {step}, at training.learning_rate "
            f"{learning_rate:g}; lower it, limit the gradient (training.clip_norm = 1.0), or take "
            "a network with normalisation layers"
        )
        self.epoch, self.step, self.samples = epoch, step, samples


class LocalTraining(NamedTuple):
    """What a backend is to do.

    Attributes:
        parameters: where to start.
        images: (D, channels, height, width), uint8, checked.
        labels: (D,).
        settings: how.
        stream: seeds whatever the network itself draws.
        batches: see :func:`batches`.
        tally: takes loss and right answers.
        cancelled: asked again and again; ``None``: nobody cancels it.
        changed: the images of a batch by their indices, changed at random; ``None``: as they are.
    """

    parameters: Parameters
    images: Images
    labels: Labels
    settings: TrainingSettings
    stream: tuple[int, ...]
    batches: Iterator[tuple[int, NDArray[np.intp]]]
    tally: Tally
    cancelled: Callable[[], bool] | None
    changed: Augmentation | None = None


class Trainer(abc.ABC):
    """Trains and evaluates a model; one subclass per backend.

    Args:
        classes: K.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes

    @property
    @abc.abstractmethod
    def backend(self) -> str:
        """Name of the backend and its version, for example ``"torch 2.6"``."""

    @property
    @abc.abstractmethod
    def batch_min(self) -> int:
        """Smallest batch on which the network can be trained: 2 with batch normalisation."""

    def train(
        self,
        parameters: Parameters,
        images: Images,
        labels: Labels,
        settings: TrainingSettings,
        *,
        stream: tuple[int, ...],
        synthetic: int = 0,
        cancelled: Callable[[], bool] | None = None,
        progress: Callable[[EpochDone], None] | None = None,
    ) -> TrainingResult:
        """Train from ``parameters`` on all of ``images``.

        Args:
            parameters: where to start; they are not changed.
            images: (D, channels, height, width), uint8.
            labels: (D,).
            settings: training settings.
            stream: order of the samples, see :func:`batches`.
            synthetic: how many of the samples, the last ones, are synthetic.
            cancelled: called repeatedly; training ends when it returns true.
            progress: called after every epoch.

        Raises:
            ValueError: images and labels do not fit, they are fewer than :attr:`batch_min`, or the
                backend cannot follow the settings.
            TrainingCancelled: ``cancelled`` returned true.
            TrainingDivergedError: a loss or a trained parameter is not finite.
        """
        check_samples(images, labels)
        least = self.batch_min
        if min(len(labels), settings.batch_size) < least:
            raise ValueError(
                f"{len(labels)} samples in batches of {settings.batch_size}: the batch "
                f"normalisation of {settings.model} needs {least} in a batch; give the device more "
                "samples (data.min_samples), raise training.batch_size, or take a network with "
                "group normalisation"
            )
        drawn = batches(len(labels), settings, stream=stream, synthetic=synthetic, least=least)
        tally = Tally(settings, len(labels), progress)
        counted = tally.counted(drawn)
        changed = None
        if settings.augment:
            own = len(labels) - synthetic
            changed = Augmentation(images, settings.augment, stream=stream, real=own)
        training = LocalTraining(
            parameters, images, labels, settings, stream, counted, tally, cancelled, changed
        )
        return tally.result(self._train(training))

    def evaluate(self, parameters: Parameters, images: Images, labels: Labels) -> Evaluation:
        """Accuracy, loss and per-class accuracy of ``parameters`` on ``images``."""
        check_samples(images, labels)
        return judge(self.predict(parameters, images), labels, self._classes)

    @abc.abstractmethod
    def _train(self, training: LocalTraining) -> dict[str, NDArray[np.float32]]:
        """The trained parameters; errors as of :meth:`train`."""

    @abc.abstractmethod
    def predict(self, parameters: Parameters, images: Images) -> NDArray[np.float32]:
        """Logits, (N, K), of images (N, channels, height, width), uint8; N may be 0."""


def batches(
    samples: int,
    settings: TrainingSettings,
    *,
    stream: tuple[int, ...],
    synthetic: int = 0,
    least: int = 1,
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """The batches of one local training, the same for every backend.

    Args:
        samples: D, the number of samples.
        settings: epochs or steps, batch size, share of synthetic samples.
        stream: seeds the order: ``(seed of the run, device index, round)``.
        synthetic: how many of them, the last ones, are synthetic.
        least: smallest batch; a last one that would be smaller is joined to the one before it.

    Yields:
        ``(epoch, indices)``; the last batch of an epoch may be smaller, or larger by what was
        joined to it. Steps belong to one epoch
        and all have the same size. With a share of synthetic samples, every batch has this share to
        within one sample.
    """
    generator = np.random.default_rng(stream)
    mixes = settings.synthetic_share > 0 and 0 < synthetic < samples
    if settings.steps or mixes:
        made = synthetic if mixes else 0
        yield from _drawn(samples, made, settings, generator, least)
        return
    for epoch in range(settings.epochs):
        order = generator.permutation(samples)
        for start, end in _cuts(samples, settings.batch_size, least):
            yield epoch, order[start:end]


def _cuts(count: int, size: int, least: int) -> Iterator[tuple[int, int]]:
    """Beginning and end of each batch of an epoch."""
    ends = [*range(size, count, size), count]
    if len(ends) > 1 and count - ends[-2] < least:
        del ends[-2]
    return zip([0, *ends], ends, strict=False)


def _drawn(
    samples: int,
    synthetic: int,
    settings: TrainingSettings,
    generator: np.random.Generator,
    least: int,
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Batches from two repeated random orders, one of real and one of synthetic samples."""
    real = _Deck(np.arange(samples - synthetic), generator)
    made = _Deck(np.arange(samples - synthetic, samples), generator)
    share = settings.synthetic_share if synthetic else 0.0
    each, epochs = settings.passes(samples)
    size = min(settings.batch_size, samples)
    seen = 0
    for epoch in range(epochs):
        for start, end in _cuts(each, size, least):
            count = end - start
            before, after = round(share * seen), round(share * (seen + count))
            seen += count
            drawn = real.take(count - after + before), made.take(after - before)
            yield epoch, np.concatenate(drawn)


class _Deck:
    """Indices in random order, shuffled again whenever all have been taken.

    There may be none, if none are taken.
    """

    def __init__(self, indices: NDArray[np.intp], generator: np.random.Generator) -> None:
        self._indices = indices
        self._generator = generator
        self._left = indices[:0]

    def take(self, count: int) -> NDArray[np.intp]:
        """The next ``count`` indices."""
        while len(self._left) < count:
            self._left = np.concatenate([self._left, self._generator.permutation(self._indices)])
        taken, self._left = self._left[:count], self._left[count:]
        return taken


def pieces(array: NDArray[Kind], size: int) -> list[NDArray[Kind]]:
    """Consecutive pieces of at most ``size`` samples; one piece for size 0."""
    size = size or len(array)
    return [array[start : start + size] for start in range(0, len(array), size)]


class Tally:
    """Sums loss and right answers over the epochs, and ends a training whose numbers diverge.

    Args:
        settings: training settings.
        samples: D, the number of samples.
        progress: called after every epoch.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        samples: int,
        progress: Callable[[EpochDone], None] | None,
    ) -> None:
        self._samples, self._epochs = settings.passes(samples)
        self._learning_rate = settings.learning_rate
        self._progress = progress
        self._done = self._seen = 0
        self._epoch = self._step = 0
        self._loss = self._correct = 0.0
        self.last = EpochDone(epoch=0, epochs=self._epochs, loss=0.0, accuracy=0.0)

    def counted(
        self, drawn: Iterator[tuple[int, NDArray[np.intp]]]
    ) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """The same batches; counts the steps of an epoch."""
        for epoch, order in drawn:
            if epoch + 1 != self._epoch:
                self._epoch, self._step = epoch + 1, 0
            self._step += 1
            yield epoch, order

    def add(self, samples: int, loss: float, correct: float) -> None:
        """Count a batch with its loss, summed over the samples, and its right answers.

        Raises:
            TrainingDivergedError: the loss is not finite.
        """
        self._seen += samples
        if not math.isfinite(loss):
            raise self._diverged("loss")
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
        """The result of the training, with loss and accuracy of its last epoch.

        Raises:
            TrainingDivergedError: a parameter is not finite, as after a last step that was too
                large, or where the network hides it from the loss.
        """
        for name, tensor in parameters.items():
            if not np.isfinite(tensor).all():
                raise self._diverged(f"parameter {name!r}")
        return TrainingResult(
            parameters=parameters,
            samples=self._done * self._samples,
            loss=self.last.loss,
            accuracy=self.last.accuracy,
        )

    def _diverged(self, what: str) -> TrainingDivergedError:
        return TrainingDivergedError(
            what,
            epoch=self._epoch,
            step=self._step,
            samples=self._done * self._samples + self._seen,
            learning_rate=self._learning_rate,
        )


def check_samples(images: Images, labels: Labels) -> None:
    """Make sure that there are samples to train on.

    Raises:
        ValueError: there are no images, another number of labels, or images that are not uint8.
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
    """Accuracy, loss and per-class accuracy of a model's logits, (N, K), for labels (N,).

    An image with a logit that is not a number has no right answer.
    """
    right = (logits.argmax(axis=1) == labels) & ~np.isnan(logits).any(axis=1)
    with np.errstate(invalid="ignore", over="ignore"):  # infinite logits
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        normaliser = np.log(np.exp(shifted).sum(axis=1))
        loss = float((normaliser - shifted[np.arange(len(labels)), labels]).mean())
    return Evaluation(
        accuracy=float(right.mean()),
        loss=loss if math.isfinite(loss) else None,
        class_accuracy=class_accuracy(right, labels, classes),
        samples=len(labels),
    )


def to_float(images: Images) -> NDArray[np.float32]:
    """Images as a network takes them: float32 between 0 and 1."""
    scaled: NDArray[np.float32] = np.asarray(images, np.float32) / np.float32(255.0)
    return scaled
