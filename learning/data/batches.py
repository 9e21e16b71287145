"""A batch of labelled synthetic images as bytes, and back.

The bytes (:mod:`fimi.learning.data.packing`) hold two tensors, ``images`` uint8 (N, channels,
height, width) and ``labels`` int64 (N,), a note of their origin, and the digest of the contract
under which they were made. Where differences between neighbours compress better, as for
photographs, there is ``differences`` uint8 (channels, N, height, width) instead of ``images``
(:mod:`fimi.learning.data.image_coding`). Equal batches give equal bytes, so a batch's digest names
its content. A received batch is not trusted: :func:`decode` limits the memory that it takes, and
checks types, shapes, labels and contract before anything is used.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import zstandard
from msgspec import Struct
from numpy.typing import NDArray

from fimi.learning.data.dataset import Images, Labels
from fimi.learning.data.image_coding import differences, from_differences
from fimi.learning.data.packing import pack, unpack

MEDIA = "synthetic-batch"
"""Name of these bytes in an offer."""
MAX_BYTES = 1 << 30
"""Largest batch, uncompressed, that is decoded, unless the caller gives another limit."""

_NOTE_BYTES = 256 << 10
"""What header and note may take beside the images."""

BYTES_PER_VALUE = 0.5
"""Size of a packed batch for each pixel and channel of its images, labels included: 0.43 for 500 of
the digits, 0.50 for CIFAR-10, 0.57 for scaled photographs (docs/decisions/0040); 0.6 for 20 digits.
"""

_LEVELS = {"images": 3, "differences": 1}
"""Zstandard's level for each form; differences come out no larger than at level 3, in less time."""
_SAMPLE = 64
"""Number of images that are compressed to decide which form is smaller."""
_PROVENANCE, _CONTRACT = "provenance", "contract"  # of the note


class BatchError(ValueError):
    """Bytes that are not a usable batch; the message says why."""


class Batch(Struct, frozen=True, kw_only=True):
    """Labelled images.

    Attributes:
        images: (N, channels, height, width), uint8.
        labels: (N,), int64, class ids from 0.
        provenance: their origin, JSON or empty.
        contract: digest of the contract under which they were made, or empty.
    """

    images: Images
    labels: Labels
    provenance: str = ""
    contract: str = ""


def packed_bytes(image_shape: tuple[int, int, int]) -> float:
    """About how many bytes an image (channels, height, width) takes in a packed batch."""
    return BYTES_PER_VALUE * math.prod(image_shape)


def largest(samples: int, image_shape: tuple[int, int, int]) -> int:
    """Most bytes of a batch of so many images (channels, height, width), uncompressed."""
    return samples * (math.prod(image_shape) + 8) + _NOTE_BYTES


def encode(images: Images, labels: Labels, provenance: str = "", *, contract: str = "") -> bytes:
    """A batch (see :class:`Batch`) as bytes, the same bytes for the same batch.

    Raises:
        BatchError: types or shapes are wrong.
    """
    _check_arrays(images, labels)
    note = {_PROVENANCE: provenance, _CONTRACT: contract}
    return _pack(images, {"labels": np.ascontiguousarray(labels)}, note)


def decode(
    data: bytes,
    *,
    classes: int,
    image_shape: tuple[int, int, int] | None = None,
    contract: str | None = None,
    samples: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> Batch:
    """A batch from bytes.

    Args:
        data: bytes of :func:`encode`; any other bytes are refused.
        classes: K; labels outside 0 to K − 1 are refused.
        image_shape: channels, height, width that the images must have; ``None``: any.
        contract: digest of the contract under which they must have been made; ``None``: any.
        samples: most images that it may hold; with ``image_shape`` no more memory is taken than
            these need. ``None``: not known.
        max_bytes: largest size, uncompressed, whatever is known.

    Raises:
        BatchError: says what is wrong.
    """
    max_bytes = _limit(max_bytes, samples, image_shape)
    tensors, note = _unpack(data, {"images", "labels"}, contract, max_bytes)
    images, labels = tensors["images"], tensors["labels"]
    _check_arrays(images, labels, image_shape, samples)
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        wrong = int(labels.min()) if labels.min() < 0 else int(labels.max())
        raise BatchError(f"batch has label {wrong}; the classes are 0 to {classes - 1}")
    return Batch(
        images=images,
        labels=labels,
        provenance=note.get(_PROVENANCE, ""),
        contract=note.get(_CONTRACT, ""),
    )


def encode_unlabelled(images: Images, provenance: str = "", *, contract: str = "") -> bytes:
    """Images alone, (N, channels, height, width), uint8, as bytes, which do not show their classes.

    The order of the images must not show them either.

    Raises:
        BatchError: types or shapes are wrong.
    """
    _check_arrays(images)
    return _pack(images, {}, {_PROVENANCE: provenance, _CONTRACT: contract})


def decode_unlabelled(
    data: bytes,
    *,
    image_shape: tuple[int, int, int],
    contract: str | None = None,
    samples: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> Images:
    """Images from bytes of :func:`encode_unlabelled`; see :func:`decode`.

    Raises:
        BatchError: says what is wrong.
    """
    max_bytes = _limit(max_bytes, samples, image_shape)
    tensors, _ = _unpack(data, {"images"}, contract, max_bytes)
    images = tensors["images"]
    _check_arrays(images, image_shape=image_shape, samples=samples)
    return images


def _limit(max_bytes: int, samples: int | None, image_shape: tuple[int, int, int] | None) -> int:
    if samples is None or image_shape is None:
        return max_bytes
    return min(max_bytes, largest(samples, image_shape))


def _pack(images: Images, others: dict[str, NDArray[Any]], note: dict[str, str]) -> bytes:
    code, level = _code_for(images)
    return pack({code: _coded(images, code), **others}, note, level=level)


def _code_for(images: Images) -> tuple[str, int]:
    """The form in which some of the images compress best, and the level for it."""
    some = images[:: max(1, -(-len(images) // _SAMPLE))]
    sizes = {
        code: len(zstandard.ZstdCompressor(level=level).compress(_coded(some, code).tobytes()))
        for code, level in _LEVELS.items()
    }
    code = min(sizes, key=sizes.__getitem__)  # of equals, the images as they are
    return code, _LEVELS[code]


def _coded(images: Images, code: str) -> Images:
    return differences(images) if code == "differences" else np.ascontiguousarray(images)


def _unpack(
    data: bytes, names: set[str], contract: str | None, max_bytes: int
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The tensors of ``names``, with images in their original form whichever form is stored."""
    tensors, note = unpack(data, max_bytes=max_bytes, what="batch", problem=BatchError)
    made = note.get(_CONTRACT, "")
    if contract is not None and made != contract:
        under = f"contract {made[:12]}…" if made else "no contract"
        raise BatchError(
            f"batch was made under {under}, the run has contract {contract[:12]}…: it belongs to "
            "another run; have it made again"
        )
    if set(tensors) == names - {"images"} | {"differences"}:
        coded = tensors.pop("differences")
        if coded.dtype != np.uint8 or coded.ndim != 4 or 0 in (coded.shape[0], *coded.shape[2:]):
            raise BatchError(
                f"batch has differences {coded.dtype} {coded.shape}; they must be uint8 (channels, "
                "N, height, width)"
            )
        tensors["images"] = from_differences(coded)
    if set(tensors) != names:
        raise BatchError(
            f"batch holds tensors {sorted(tensors)}, it must hold "
            f"{' and '.join(map(repr, sorted(names)))}"
        )
    return tensors, note


def _check_arrays(
    images: Images,
    labels: Labels | None = None,
    image_shape: tuple[int, int, int] | None = None,
    samples: int | None = None,
) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape[1:]:
        raise BatchError(
            f"batch has images {images.dtype} {images.shape}; they must be uint8 (N, channels, "
            "height, width)"
        )
    if labels is not None and (labels.dtype != np.int64 or labels.shape != images.shape[:1]):
        raise BatchError(
            f"batch has labels {labels.dtype} {labels.shape} for {len(images)} images; they must "
            f"be int64 ({len(images)},)"
        )
    if image_shape is not None and images.shape[1:] != image_shape:
        raise BatchError(
            f"batch has images of shape {images.shape[1:]}, expected {image_shape} (channels, "
            "height, width); the generator serves another data set"
        )
    if samples is not None and len(images) > samples:
        raise BatchError(f"batch has {len(images)} images, it was to hold {samples} at most")
