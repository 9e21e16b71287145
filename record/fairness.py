"""How evenly a global model serves the devices, docs/model.md (L8).

* :class:`Fairness`   accuracy by device, their mean, their spread, and the worst one
* :func:`fairness`    of one evaluation

The test set is common, so a device's accuracy is the accuracies of the classes, weighted by its own
real labels: what it would see on test images that have its mixture of classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct

from fimi.record.sums import mean


class Fairness(Struct, frozen=True, kw_only=True):
    """Accuracy of a global model as each device would see it.

    Attributes:
        devices: device to accuracy, 0 to 1; ``None`` where its labels are not known, or a class of
            it has no test image. Such a device is in none of the figures below.
        mean: over devices, each counted once; ``None`` without any.
        std: standard deviation over devices; ``None`` likewise.
        worst: worst-device accuracy; ``None`` likewise.
        worst_device: whose that is, the first one by name; empty without any.
    """

    devices: dict[str, float | None]
    mean: float | None = None
    std: float | None = None
    worst: float | None = None
    worst_device: str = ""


def fairness(
    class_accuracy: Sequence[float | None], labels: Mapping[str, Sequence[int]]
) -> Fairness:
    """The fairness of a model.

    Args:
        class_accuracy: of each class, 0 to 1; ``None`` for a class without test images.
        labels: device to its real samples of each class; empty where they are not known.
    """
    devices = {device: _seen(class_accuracy, counts) for device, counts in labels.items()}
    known = {device: found for device, found in devices.items() if found is not None}
    middle = mean(known.values())
    if middle is None:
        return Fairness(devices=devices)
    worst = min(sorted(known), key=known.__getitem__)
    squares = math.fsum((found - middle) ** 2 for found in known.values())
    return Fairness(
        devices=devices,
        mean=middle,
        std=math.sqrt(squares / len(known)),
        worst=known[worst],
        worst_device=worst,
    )


def _seen(class_accuracy: Sequence[float | None], counts: Sequence[int]) -> float | None:
    held = [(n, a) for n, a in zip(counts, class_accuracy, strict=False) if n]
    right = [n * a for n, a in held if a is not None]
    if not held or len(right) < len(held):
        return None
    return math.fsum(right) / sum(n for n, _ in held)
