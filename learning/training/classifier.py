"""Runs a trained network from an ONNX file, with ONNX Runtime and without PyTorch.

* :class:`Classifier`  runs a file
* :class:`Exported`    a file of :mod:`fimi.learning.training.deployment`, with its check
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.learning.data.dataset import Images
from fimi.learning.onnx import graph_check
from fimi.learning.onnx.graphs import GraphError
from fimi.learning.training.onnx_runtime import session_of

MEDIA = "onnx-model"
"""Name of these bytes in an offer."""
IMAGES, LOGITS = "images", "logits"

Variant = Literal["fp32", "int8"]
"""The arithmetic of a file: as trained, or with weights in 8 bits."""


class FileCheck(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a file compares with PyTorch, on the coordinator.

    Attributes:
        variant: arithmetic of the file.
        digest: SHA-256 of the file.
        size_bytes: size of the file.
        accuracy: accuracy on all test images, 0 to 1, by ONNX Runtime.
        samples: number of test images.
        agreement: share of the compared images that PyTorch puts into the same class.
        difference: largest difference of a logit from PyTorch's.
        compared: number of compared images.
    """

    variant: Variant
    digest: str
    size_bytes: int
    accuracy: float
    samples: int
    agreement: float
    difference: float
    compared: int


class Exported(Struct, frozen=True, kw_only=True):
    """The content of one exported file, and how it compares with PyTorch."""

    model: bytes
    check: FileCheck


class Classifier:
    """Gives the logits of images.

    Args:
        model: an ONNX file of :mod:`fimi.learning.training.deployment`; checked before it is
            loaded.
        classes: K.
        image_shape: channels, height, width.
        threads: number of threads within an operator.

    Raises:
        GraphError: it is not a network from such images to so many logits, or is not allowed.
    """

    def __init__(
        self, model: bytes, classes: int, image_shape: tuple[int, int, int], *, threads: int = 1
    ) -> None:
        found = graph_check.check(model, graph_check.INFERENCE)
        if (found.inputs, found.outputs) != ((IMAGES,), (LOGITS,)):
            raise GraphError(
                f"it takes {', '.join(found.inputs) or 'nothing'} and gives "
                f"{', '.join(found.outputs) or 'nothing'}; a classifier takes {IMAGES} and gives "
                f"{LOGITS}"
            )
        try:
            self._session = session_of(model, threads)
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise GraphError(f"ONNX Runtime cannot load it: {error}") from error
        (given,), (made,) = self._session.get_inputs(), self._session.get_outputs()
        if given.type != "tensor(uint8)" or tuple(given.shape[1:]) != image_shape:
            raise GraphError(
                f"it takes {given.type} {given.shape}; the images here are uint8 {image_shape}"
            )
        if made.type != "tensor(float)" or tuple(made.shape[1:]) != (classes,):
            raise GraphError(f"it gives {made.type} {made.shape} for {classes} classes")

    def logits(self, images: Images) -> NDArray[np.float32]:
        """(N, classes) of images (N, channels, height, width).

        Raises:
            RuntimeError: ONNX Runtime failed.
        """
        try:
            answer: NDArray[np.float32] = self._session.run([LOGITS], {IMAGES: images})[0]
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise RuntimeError(f"ONNX Runtime failed: {error}") from error
        return answer
