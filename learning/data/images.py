"""Image files as arrays of one size and one mode, upright; unusable files are named.

Needs Pillow only. Sixteen-bit and floating-point images are refused: converting them to bytes
would clip, and only their owner can say how to scale them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from fimi.learning.data.dataset import DatasetError, Images

ImageMode = Literal["auto", "rgb", "grey"]
SUFFIXES = (".png", ".jpg", ".jpeg", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Files with other endings are not taken for images (the list of torchvision's ``ImageFolder``)."""

MAX_PIXELS = 64_000_000
"""Largest image that is decoded: a file of some kilobytes may hold more pixels than memory has."""

_LITTER = (
    "__macosx",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation to what turns the image upright."""

_MODES = {"rgb": "RGB", "grey": "L"}
_ALIKE = {"1": "grey", "L": "grey", "RGB": "rgb"}
_DEEP = ("I", "F")
_SHOWN = 5


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name was left behind by a system, and holds no data.

    Names with a dot in front (``._x.png``, ``.DS_Store``), and folders of archives, storage devices
    and waste baskets.
    """
    return name.startswith(".") or name.lower() in _LITTER


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image."""
    return name.lower().endswith(SUFFIXES) and not is_litter(name)


def read_images(paths: Sequence[Path], *, size: int = 0, mode: ImageMode = "auto") -> Images:
    """Decode image files into one array.

    Args:
        paths: files, at least one.
        size: height and width of the result, scaled bilinearly where needed; 0: the size that all
            images have.
        mode: channels of the result: ``"rgb"`` three, ``"grey"`` one, ``"auto"`` those that all
            images have. Transparency is dropped.

    Returns:
        (N, channels, height, width), uint8, turned upright as EXIF's orientation says.

    Raises:
        DatasetError: files cannot be decoded, or sizes or modes differ.
    """
    if not paths:
        raise DatasetError("no image files")
    decoded: list[NDArray[np.uint8]] = []
    broken: list[str] = []
    sizes: dict[str, list[Path]] = defaultdict(list)
    modes: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        try:
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"{image.width} × {image.height} pixels are too many")
                upright = _upright(image)
                kind = _ALIKE.get(image.mode, image.mode) if mode == "auto" else mode
                if image.mode.startswith(_DEEP):
                    raise ValueError(f"mode {image.mode}, more than 8 bits a channel")
                modes[kind].append(path)
                sizes[f"{upright.width}×{upright.height}"].append(path)
                pixels = upright.convert(_MODES.get(kind, "RGB"))
                if size and pixels.size != (size, size):
                    pixels = pixels.resize((size, size), Image.Resampling.BILINEAR)
                decoded.append(np.asarray(pixels, np.uint8))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            broken.append(f"{path} ({error})")
    if broken:
        raise DatasetError(
            f"{len(broken)} of {len(paths)} images cannot be used: {_some(broken)}; repair or "
            "remove them"
        )
    if len(modes) > 1 or set(modes) - set(_MODES):
        raise DatasetError(
            f"images of modes {_examples(modes)}; set data.image_mode to 'rgb' or 'grey' to "
            "convert them"
        )
    if not size and len(sizes) > 1:
        raise DatasetError(
            f"images of {len(sizes)} sizes: {_examples(sizes)}; set data.image_size to the height "
            "and width to scale them to"
        )
    return _channels_first(np.stack(decoded))


def _upright(image: Image.Image) -> Image.Image:
    """The image as its camera held it, by EXIF's orientation; as it is where that is unreadable."""
    image.load()  # TIFF is turned while it is loaded, and then has no orientation left
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged note; Pillow raises errors of any type
        return image
    return image if turn is None else image.transpose(turn)


def resize(images: Images, size: int) -> Images:
    """Images (N, channels, height, width) scaled to ``size`` × ``size`` pixels, bilinear.

    They are returned as they are if they have that size.
    """
    if images.shape[2:] == (size, size):
        return images
    count, channels, height, width = images.shape
    planes = images.reshape(count * channels, height, width)
    scaled = [
        np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BILINEAR), np.uint8)
        for plane in planes
    ]
    return np.stack(scaled).reshape(count, channels, size, size)


def convert(images: Images, mode: ImageMode) -> Images:
    """Images (N, 1 or 3, height, width) with one channel (grey, ITU-R 601 luma) or three (rgb).

    ``"auto"`` leaves them as they are.
    """
    if mode == "rgb" and images.shape[1] == 1:
        return np.repeat(images, 3, axis=1)
    if mode == "grey" and images.shape[1] == 3:
        colour = images.transpose(0, 2, 3, 1)
        grey = [np.asarray(Image.fromarray(each).convert("L"), np.uint8) for each in colour]
        return _channels_first(np.stack(grey))
    return images


def _channels_first(images: NDArray[np.uint8]) -> Images:
    """(N, channels, height, width) from (N, height, width) or (N, height, width, channels)."""
    first = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(first)


def _examples(found: dict[str, list[Path]]) -> str:
    """The most frequent first, each with one of its files, as text."""
    ranked = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return _some([f"{key} ({len(files)}, such as {files[0]})" for key, files in ranked])


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more
