"""Learning metrics: pure functions of arrays and parameters. No torch.

* :func:`class_accuracy`, :func:`local_errors`  how good models are, by class and by device
* :func:`gradient_of_step`, :func:`pooled_gradient`, :func:`cosine_similarity`, :func:`alignment`
  how far each device's gradient points away from the gradient on IID data
* :func:`orthogonality`      how perpendicular the devices' updates are to each other
* :func:`wilson`             how sure a share of so many images is

An unknown value is ``None``, never zero: the accuracy of a class without samples, the direction of
a zero vector.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fimi.learning.data.dataset import Labels

Tensors = Mapping[str, NDArray[np.floating[Any]]]
"""Name to tensor: parameters, an update or a gradient."""


def class_accuracy(
    right: NDArray[np.bool_], labels: Labels, classes: int
) -> tuple[float | None, ...]:
    """Share of right answers of each class, (K,), 0 to 1; ``None`` for a class without samples.

    ``right``, (N,), says whether the answer to a sample was right.
    """
    counts = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels[right], minlength=classes)
    return tuple(
        int(hit) / int(count) if count else None for hit, count in zip(hits, counts, strict=True)
    )


def wilson(right: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval (1927) of the share ``right`` of ``of`` images, each end 0 to 1.

    Raises:
        ValueError: there are no images.
    """
    if of < 1:
        raise ValueError("a share of no trials cannot be given")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, spare = right / of, z * z / of
    middle = (share + spare / 2) / (1 + spare)
    half = z / (1 + spare) * math.sqrt(share * (1 - share) / of + spare / (4 * of))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def local_errors(accuracies: Mapping[str, float]) -> dict[str, float]:
    """Δ_i of each device: share of wrong answers of its locally trained model, 0 to 1.

    Args:
        accuracies: device to accuracy on the common test set of its model after local training
            and before aggregation.

    Raises:
        ValueError: an accuracy is outside 0 to 1.
    """
    for device, accuracy in accuracies.items():
        if not 0.0 <= accuracy <= 1.0:
            raise ValueError(f"accuracy of {device} is {accuracy}; it is a share, 0 to 1")
    return {device: 1.0 - accuracy for device, accuracy in accuracies.items()}


def update(before: Tensors, after: Tensors) -> dict[str, NDArray[np.floating[Any]]]:
    """The change by training: ``after`` − ``before``.

    Raises:
        ValueError: names or shapes differ.
    """
    _check_alike(before, after)
    return {name: after[name] - before[name] for name in before}


def gradient_of_step(
    before: Tensors, after: Tensors, learning_rate: float
) -> dict[str, NDArray[np.floating[Any]]]:
    """The gradient of one step of plain SGD: (``before`` − ``after``) / η.

    If a batch is as large as the device's data, there is one epoch, and neither momentum nor weight
    decay, this is the gradient of the device's mean loss.

    Raises:
        ValueError: names or shapes differ, or the rate is not above 0.
    """
    if not learning_rate > 0:
        raise ValueError(f"learning_rate is {learning_rate}; it must be above 0")
    step = update(after, before)
    return {name: (change / np.float32(learning_rate)) for name, change in step.items()}


def pooled_gradient(
    gradients: Mapping[str, Tensors], samples: Mapping[str, int]
) -> dict[str, NDArray[np.float64]]:
    """The gradient of the mean loss over all devices' samples: what IID data gives on average.

    Σ_i D_i g_i / Σ_i D_i.

    Args:
        gradients: device to the gradient of its mean loss, all at the same parameters.
        samples: device to D_i.

    Raises:
        ValueError: there are no devices or no samples, the devices of the two differ, or the
            shapes of gradients differ.
    """
    if not gradients or set(gradients) != set(samples):
        raise ValueError(
            f"gradients of {sorted(gradients)} and samples of {sorted(samples)}; both must name "
            "the same devices, at least one"
        )
    total = sum(samples.values())
    if total <= 0 or min(samples.values()) < 0:
        raise ValueError(f"samples are {dict(samples)}; they must not be negative or all zero")
    first = next(iter(gradients.values()))
    for gradient in gradients.values():
        _check_alike(first, gradient)
    shares = [(samples[device] / total, gradient) for device, gradient in gradients.items()]
    return {
        name: np.asarray(sum(share * each[name].astype(np.float64) for share, each in shares))
        for name in first
    }


def cosine_similarity(a: Tensors, b: Tensors) -> float | None:
    """Cosine of the angle between two sets of tensors taken as one vector each, −1 to 1.

    ``None`` where one is zero or not finite.

    Raises:
        ValueError: names or shapes differ.
    """
    return _cosine(a, b, _length(a), _length(b))


def alignment(gradients: Iterable[tuple[str, Tensors]], iid: Tensors) -> dict[str, float | None]:
    """Cosine similarity of each device's gradient to the IID gradient.

    Args:
        gradients: each device with its gradient; one is held at a time.
        iid: the gradient on data of all classes in their true shares, at the same parameters;
            :func:`pooled_gradient` where there is no such data.
    """
    return {device: cosine_similarity(gradient, iid) for device, gradient in gradients}


def orthogonality(updates: Sequence[Tensors]) -> float | None:
    """1 − mean |cos| over all pairs of updates: 1 if perpendicular, 0 if all are parallel.

    Updates that are zero have no direction and are left out; ``None`` with fewer than two others.
    Two updates are held at a time, without copies, so that a sequence may read them from disk.

    Raises:
        ValueError: names or shapes differ.
    """
    cosines = []
    lengths: dict[int, _Length | None] = {}
    for i in range(len(updates)):
        first = updates[i]
        if i not in lengths:
            lengths[i] = _length(first)
        for j in range(i + 1, len(updates)):
            second = updates[j]
            if j not in lengths:
                lengths[j] = _length(second)
            cosine = _cosine(first, second, lengths[i], lengths[j])
            if cosine is not None:
                cosines.append(abs(cosine))
    return 1.0 - math.fsum(cosines) / len(cosines) if cosines else None


class _Length(NamedTuple):
    """Tensors as one vector: its largest component, and its length in units of that."""

    scale: float
    norm: float


def _length(tensors: Tensors) -> _Length | None:
    """The length, scaled so that squares do not overflow; ``None`` if zero or not finite."""
    peaks = [float(np.abs(tensor).max(initial=0.0)) for tensor in tensors.values()]
    scale = max(peaks, default=0.0)
    if not (all(map(math.isfinite, peaks)) and scale > 0.0):
        return None
    squares = (_dot(part, part) for part in _scaled(tensors, scale))
    return _Length(scale, math.sqrt(math.fsum(squares)))


def _cosine(a: Tensors, b: Tensors, of_a: _Length | None, of_b: _Length | None) -> float | None:
    """The cosine of two sets of tensors of known length, tensor by tensor."""
    _check_alike(a, b)
    if of_a is None or of_b is None:
        return None
    pairs = zip(_scaled(a, of_a.scale), _scaled(b, of_b.scale), strict=True)
    product = math.fsum(_dot(one, other) for one, other in pairs)
    return min(1.0, max(-1.0, product / (of_a.norm * of_b.norm)))


def _scaled(tensors: Tensors, scale: float) -> Iterator[NDArray[np.float64]]:
    """Each tensor as a vector, by name."""
    return (np.divide(tensors[name].ravel(), scale, dtype=np.float64) for name in sorted(tensors))


def _dot(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(a @ b)


def _check_alike(a: Tensors, b: Tensors) -> None:
    shapes, others = ({name: t.shape for name, t in each.items()} for each in (a, b))
    if shapes != others:
        differing = sorted(
            name for name in shapes.keys() | others.keys() if shapes.get(name) != others.get(name)
        )
        raise ValueError(f"tensors differ in name or shape: {', '.join(differing[:5])}")
