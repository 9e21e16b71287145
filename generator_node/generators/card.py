"""The card of a trained generator: its images, its training data, its files. No PyTorch here.

Which generator may be used in a run is decided by cards alone (:func:`find_for`), so that it is
known before anything is started.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from fimi.generator_node.generators.base import (
    Generator,
    GeneratorError,
    Provenance,
    Seeds,
    WrongDataError,
    require_trained_on,
)
from fimi.learning.data.dataset import Dataset, Images, Labels

CARD = "generator.json"
GRAPH = "unet/model.onnx"
JUDGE = "judge.onnx"
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
NO_DIGEST = "0" * 64
"""Digest of a file that does not exist."""
Level = Annotated[int, Meta(ge=0, le=255)]
CardKind = Literal["class-conditional-diffusion", "conditional-gan"]


class Card(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Description of a saved generator: its images, its training data, its files.

    Attributes:
        kind: kind of generator, which decides how the folder is read.
        name: name for people, for example ``"digits-writers"``.
        dataset: name of the training data, for example ``"digits/public"``.
        class_names: one per class.
        image_shape: channels, height, width.
        levels: the pixel values that occur in the training data, to which generated ones are
            rounded; empty: all of 0 to 255.
        data_digest: digest of the training data
            (:meth:`fimi.learning.data.dataset.Dataset.digest`).
        weights_digest: SHA-256 of the weights file.
        graph_digest: SHA-256 of the denoiser as an ONNX graph, or :data:`NO_DIGEST`.
        judge_digest: SHA-256 of the judge of its images, or :data:`NO_DIGEST`.
        training: settings of the training, seed included.
        loss: running mean of the training loss at the end.
        seconds: wall time of the training, s.
        libraries: versions of the libraries of the training.
    """

    kind: CardKind = "class-conditional-diffusion"
    name: str
    dataset: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    levels: tuple[Level, ...]
    data_digest: Digest
    weights_digest: Digest
    graph_digest: Digest = NO_DIGEST
    judge_digest: Digest = NO_DIGEST
    training: dict[str, Any]
    loss: float
    seconds: float
    libraries: dict[str, str]


class FromCard(Generator):
    """Base of generators that are read from a folder: what their card states, and their images.

    Raises:
        ValueError: ``threads``, those that draw, are fewer than one.
    """

    part = 256
    """Images that pass through the network together; by measurement, more is not faster."""

    def __init__(self, card: Card, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"threads is {threads}; take at least one")
        super().__init__(len(card.class_names), card.image_shape)
        self._card = card
        self._threads = threads
        self._snap = levels_table(card.levels)

    @abstractmethod
    def libraries(self) -> dict[str, str]:
        """Versions of the libraries that make its images."""

    @property
    def provenance(self) -> Provenance:
        """The origin of its images."""
        return Provenance(
            generator=self.name,
            dataset=self._card.dataset,
            data_digest=self._card.data_digest,
            weights_digest=self._card.weights_digest,
            libraries=self.libraries(),
        )

    def _make(self, class_ids: Labels, seeds: Seeds) -> Images:
        images = np.empty((len(class_ids), *self.image_shape), np.uint8)

        def draw(part: slice) -> None:
            images[part] = self._pixels(self._draw(class_ids[part], seeds[part]))

        self._each(draw, [slice(at, at + self.part) for at in range(0, len(class_ids), self.part)])
        return images

    def _pixels(self, drawn: NDArray[np.float32]) -> Images:
        """Images as bytes, rounded to the levels of the card."""
        if not np.isfinite(drawn).all():
            raise GeneratorError(
                f"{self.name} gives values that are not finite; its weights are damaged or its "
                "training diverged: train it again"
            )
        scaled = np.rint((np.clip(drawn, -1, 1) + 1) * np.float32(127.5))
        pixels: Images = self._snap[scaled.astype(np.uint8)]
        return pixels

    @abstractmethod
    def _draw(self, class_ids: Labels, seeds: Seeds) -> NDArray[np.float32]:
        """Images (n, channels, height, width), about −1 to 1."""

    @abstractmethod
    def _each(self, draw: Callable[[slice], None], parts: list[slice]) -> None:
        """Call ``draw`` for every part, with the generator's threads."""


def read_card(folder: Path) -> Card:
    """The card of a saved generator.

    Raises:
        GeneratorError: there is no card, or it cannot be read.
    """
    path = folder / CARD
    try:
        return msgspec.json.decode(path.read_bytes(), type=Card)
    except FileNotFoundError:
        raise GeneratorError(
            f"{folder} holds no {CARD}; name a folder written by `fimi generator train`"
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise GeneratorError(f"{path} cannot be read: {error}") from error


def read_part(folder: Path, name: str, digest: str) -> bytes:
    """A file of a saved generator: its weights, its graph or its judge, with the card's SHA-256.

    Raises:
        GeneratorError: the file is missing, or its digest differs from the card's.
    """
    path = folder / name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GeneratorError(
            f"{path} cannot be read: {error}; copy the folder again or train it again"
        ) from error
    if (found := hashlib.sha256(data).hexdigest()) != digest:
        raise GeneratorError(
            f"{path} is not the file that {CARD} describes (SHA-256 {found[:12]}…, expected "
            f"{digest[:12]}…); copy the folder again or train it again"
        )
    return data


def shipped() -> tuple[Path, ...]:
    """Folders of the generators that come with the package."""
    root = Path(str(resources.files("fimi.generator_node"))) / "weights"
    return tuple(sorted(path.parent for path in root.glob(f"*/{CARD}")))


def find_for(public: Dataset, weights: str = "", kind: CardKind | None = None) -> Path:
    """Folder of the generator for a public part.

    Args:
        public: the only data on which the generator may have been trained.
        weights: folder of a trained generator; empty: the shipped one that was trained on
            ``public``.
        kind: kind of generator; ``None``: that of the named folder, or the diffusion model if no
            folder is named.

    Raises:
        WrongDataError: no shipped generator, or not the named one, was trained on ``public``.
        GeneratorError: the folder holds no card, or another kind of generator.
    """
    if not weights:
        return shipped_for(public, kind or "class-conditional-diffusion")
    card = read_card(Path(weights))
    if kind is not None and card.kind != kind:
        raise GeneratorError(
            f"{weights} holds a {card.kind}, not a {kind}; name another folder as "
            "generator.weights, or take generator.kind = 'trained', which takes either"
        )
    require_trained_on(
        Provenance(
            generator=card.name,
            dataset=card.dataset,
            data_digest=card.data_digest,
            weights_digest=card.weights_digest,
            libraries=card.libraries,
        ),
        public,
    )
    return Path(weights)


def shipped_for(public: Dataset, kind: CardKind = "class-conditional-diffusion") -> Path:
    """Folder of the shipped generator of a kind that was trained on exactly ``public``.

    Raises:
        WrongDataError: there is none; says how to train one.
    """
    digest = public.digest()
    there: list[str] = []
    for folder in shipped():
        card = read_card(folder)
        if card.kind == kind and card.data_digest == digest:
            return folder
        there.append(f"{card.name}, a {card.kind} trained on data {card.data_digest[:12]}…")
    raise WrongDataError(
        f"no {kind} that ships with fimi was trained on this run's public part, {public.name} "
        f"with digest {digest[:12]}… ({len(public)} images; there is: {'; '.join(there) or 'none'})"
        ", and one trained on other data may have seen validation, private or test images. Train "
        "one with `fimi generator train` and the same data settings and seed, and name its folder "
        "as generator.weights"
    )


def noise_of(seeds: Seeds, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard normal noise of every image, (N, *shape), the same on every machine.

    It comes from a counter-based generator keyed with all 64 bits of a seed. (``torch.Generator``
    on the CPU uses only 32 of them: of 10,000 images, two would have the same noise with a
    probability of one percent.)
    """
    generators = (np.random.Generator(np.random.Philox(key=int(seed))) for seed in seeds)
    return np.stack([generator.standard_normal(shape, np.float32) for generator in generators])


def levels_table(levels: tuple[int, ...]) -> NDArray[np.uint8]:
    """Table of 256 entries: the nearest of ``levels``, or the value itself if there are none."""
    values = np.arange(256)
    if not levels:
        return values.astype(np.uint8)
    allowed = np.array(sorted(levels))
    nearest = np.abs(values[:, None] - allowed[None, :]).argmin(axis=1)
    table: NDArray[np.uint8] = allowed[nearest].astype(np.uint8)
    return table
