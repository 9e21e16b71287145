"""Training and evaluation of one network as ONNX graphs, as they travel.

The coordinator exports them once (:mod:`fimi.learning.onnx.export`); a device runs them with ONNX
Runtime (:mod:`fimi.learning.training.onnx_trainer`) and needs no PyTorch. The names of inputs and
outputs have prefixes: ``parameter.*`` for the network's parameters, ``state.*`` for the optimiser's
state, ``sum.*`` for summed gradients, ``anchor.*`` for the parameters at the start of the round,
``draw.*`` for the uniform numbers by which dropout decides
(:mod:`fimi.learning.training.draws`). An output ``new.X`` is the next step's input ``X``.
"""

from __future__ import annotations

import msgspec
import zstandard
from msgspec import Struct

from fimi.learning.training.trainer import TrainingSettings

MEDIA = "onnx-graphs"
"""Name of these bytes in an offer."""
MAX_BYTES = 64 << 20
"""Largest set of graphs, unpacked, that is decoded."""

PARAMETER, STATE, SUM, ANCHOR, NEW = "parameter.", "state.", "sum.", "anchor.", "new."
DRAW = "draw."


class GraphError(ValueError):
    """Graphs that cannot be used; the message says why."""


class Recipe(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The training settings that are built into a graph; see :class:`TrainingSettings`."""

    model: str
    optimiser: str
    momentum: float
    weight_decay: float
    label_smoothing: float
    proximal: float
    clip_norm: float
    accumulates: bool


def recipe(settings: TrainingSettings) -> Recipe:
    """The part of the settings on which a graph depends."""
    return Recipe(
        model=settings.model,
        optimiser=settings.optimiser,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        label_smoothing=settings.label_smoothing,
        proximal=settings.proximal,
        clip_norm=settings.clip_norm,
        accumulates=settings.micro_batch > 0,
    )


class GraphSet(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything a device needs to train one network in one way.

    Attributes:
        recipe: the settings that are built in.
        classes: K.
        image_shape: channels, height, width.
        step: ONNX model of a step; with ``accumulates`` it adds to the sums of gradients only.
        apply: ONNX model that applies the sums; empty without ``accumulates``.
        evaluate: ONNX model from images and parameters to logits.
        multiply_adds: multiply-accumulates of the convolutions and linear layers, forward, for one
            image.
        batch_min: smallest batch that the network can be trained on; 2 with batch normalisation.
    """

    recipe: Recipe
    classes: int
    image_shape: tuple[int, int, int]
    step: bytes
    apply: bytes
    evaluate: bytes
    multiply_adds: int
    batch_min: int = 1


def encode(graphs: GraphSet) -> bytes:
    """Graphs as bytes, the same bytes for the same graphs."""
    return zstandard.ZstdCompressor(level=10).compress(msgspec.msgpack.encode(graphs))


def decode(data: bytes) -> GraphSet:
    """Graphs from bytes; :mod:`fimi.learning.onnx.graph_check` checks their content.

    Raises:
        GraphError: says what is wrong.
    """
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= MAX_BYTES:
            raise GraphError(f"graphs unpack to {size} bytes; the limit is {MAX_BYTES}")
        plain = zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
        return msgspec.msgpack.decode(plain, type=GraphSet)
    except (zstandard.ZstdError, msgspec.DecodeError) as error:
        raise GraphError(f"not a set of graphs: {error}") from error
