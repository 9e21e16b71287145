"""Labels that a model gives to unlabelled images.

These are pseudo-labels after Lee (2013, *Pseudo-Label: The Simple and Efficient Semi-Supervised
Learning Method for Deep Neural Networks*), kept only where the model is confident, as in FixMatch
(Sohn et al. 2020, arXiv 2001.07685).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fimi.learning.data.dataset import Labels

FORWARD_SHARE = 1.0 / 3.0
"""Work of labelling a sample, as a share of the work of training on it: the backward pass of a
network is about two forward passes."""


def choose(logits: NDArray[np.float32], confidence_min: float) -> tuple[NDArray[np.intp], Labels]:
    """The images, by their logits (N, K), whose likeliest class has at least this probability.

    Returns:
        Indices of the images that are kept, ascending, and their labels.
    """
    if not len(logits):
        return np.zeros(0, np.intp), np.zeros(0, np.int64)
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    confidence = 1.0 / np.exp(shifted).sum(axis=1)  # the likeliest class's own term is 1
    kept = np.flatnonzero(confidence >= confidence_min)
    return kept, logits[kept].argmax(axis=1).astype(np.int64)


def looked_at(images: int) -> int:
    """Work of labelling so many images, in samples trained on, rounded up."""
    return math.ceil(images * FORWARD_SHARE)
