"""The quality gate, which accepts or refuses drawn images.

A *judge* (:mod:`fimi.generator_node.training.judge`), a classifier trained on the public data and
served by ONNX Runtime, gives its confidence that an image shows its class. An image is refused as

* ``blank`` if its pixels vary less than those of any real image, with a margin;
* ``below-chance`` if the confidence is below a limit, by default that of a guess, 1/K;
* ``near-copy`` if it is closer to a public image than all but the closest percent of public images
  are to each other.

The default is not stricter: if only images of high confidence are accepted, they become too
similar, and a classifier trained on them becomes worse. No PyTorch here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from fimi.generator_node.generators.base import GeneratorError
from fimi.generator_node.generators.card import JUDGE, read_card, read_part
from fimi.generator_node.service.pool import Verdict
from fimi.learning.data.dataset import Dataset, Images, Labels

Floats = NDArray[np.float32]

BLANK_SHARE = 0.5
"""An image is blank if its deviation is less than this share of the smallest of public images."""

BLOCK = 512
"""Number of images that are compared with the public ones at once."""


class GateSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits of the gate.

    Attributes:
        confidence_min: least confidence, one for all classes or one per class; empty: that of a
            guess, 1/K.
        copy_quantile: an image is a near-copy if its distance is below this quantile of the
            distances between public images; 0 accepts copies.
        redraws: how often a refused image is drawn again.
    """

    confidence_min: tuple[Annotated[float, Meta(ge=0, le=1)], ...] = ()
    copy_quantile: Annotated[float, Meta(ge=0, le=0.5)] = 0.01
    redraws: Annotated[int, Meta(ge=0, le=100)] = 3


class Judge:
    """A classifier as an ONNX graph: images (N, C, H, W) uint8 to logits and features.

    Raises:
        GeneratorError: it is not such a graph.
    """

    def __init__(self, data: bytes, *, threads: int = 1) -> None:
        # Imported when it is needed: it takes a moment.
        from fimi.learning.training.onnx_runtime import session_of

        try:
            self._session = session_of(data, threads)
        except Exception as error:  # ONNX Runtime's errors have no common base
            reason = str(error).splitlines()[0]
            raise GeneratorError(f"the judge cannot be loaded: {reason}") from error
        outputs = [output.name for output in self._session.get_outputs()]
        if outputs != ["logits", "features"]:
            raise GeneratorError(f"the judge gives {outputs}; it must give logits and features")

    def look(self, images: Images) -> tuple[Floats, Floats]:
        """Class probabilities (N, K) and features (N, F) of images."""
        logits, features = self._session.run(None, {"images": np.ascontiguousarray(images)})
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True), features


class Judged(Struct, frozen=True, kw_only=True):
    """The gate's verdicts on some images.

    Attributes:
        verdicts: ``kept``, or the reason of the refusal, (N,).
        confidence: the judge's confidence in the image's class, 0 to 1, (N,).
        taken: the class that the judge takes the image for, (N,).
        distance: distance to the nearest public image, root mean square over pixels from 0 to 1,
            (N,).
        deviation: standard deviation of the pixels, 0 to 1, (N,).
    """

    verdicts: tuple[Verdict, ...]
    confidence: Floats
    taken: Labels
    distance: Floats
    deviation: Floats


class Gate:
    """Accepts or refuses images by comparison with the public data.

    Args:
        judge: a judge that was trained on ``public``.
        public: images with which others are compared.
        settings: limits.

    Raises:
        ValueError: there are not as many confidences as classes.
    """

    def __init__(self, judge: Judge, public: Dataset, settings: GateSettings | None = None) -> None:
        self.settings = settings = settings or GateSettings()
        limits = settings.confidence_min or (1.0 / public.classes,)
        if len(limits) not in (1, public.classes):
            raise ValueError(
                f"confidence_min has {len(limits)} values; give one for all classes, or one for "
                f"each of the {public.classes} classes of {public.name}"
            )
        self.judged_by = judge
        self.public = public
        self._limits = np.broadcast_to(np.array(limits, np.float32), public.classes)
        self._real = Neighbours(public.images)
        self._blank = BLANK_SHARE * float(_deviation(public.images).min())
        self.copy_distance = 0.0
        if settings.copy_quantile:
            among = self._real.among_themselves()
            self.copy_distance = float(np.quantile(among, settings.copy_quantile))

    def judge(self, images: Images, class_ids: Labels) -> Judged:
        """Judge images of given classes, each independently of the others."""
        probabilities, _ = self.judged_by.look(images)
        confidence = probabilities[np.arange(len(images)), class_ids]
        distance = self._real.distances(images)
        deviation = _deviation(images)
        verdicts: list[Verdict] = ["kept"] * len(images)
        for index in range(len(images)):
            if deviation[index] < self._blank:
                verdicts[index] = "blank"
            elif confidence[index] < self._limits[class_ids[index]]:
                verdicts[index] = "below-chance"
            elif distance[index] < self.copy_distance:
                verdicts[index] = "near-copy"
        return Judged(
            verdicts=tuple(verdicts),
            confidence=confidence,
            taken=probabilities.argmax(1),
            distance=distance,
            deviation=deviation,
        )

    def describe(self) -> str:
        """Everything that determines verdicts: settings, judge and public data."""
        judged_by = {"settings": self.settings, "public": self.public.digest()}
        return msgspec.json.encode(judged_by).decode()


class Neighbours:
    """Distances to the nearest of some images, by comparison with all of them.

    Args:
        images: (N, channels, height, width), uint8.
    """

    def __init__(self, images: Images) -> None:
        self._images = images.reshape(len(images), -1)

    def distances(self, images: Images) -> Floats:
        """Root mean square distance of each image to the nearest one, pixels from 0 to 1, (M,)."""
        return self._nearest(images.reshape(len(images), -1), leave_out_self=False)

    def among_themselves(self) -> Floats:
        """The same for each of these images and the nearest other one, (N,)."""
        return self._nearest(self._images, leave_out_self=True)

    def _nearest(self, flat: NDArray[np.uint8], *, leave_out_self: bool) -> Floats:
        pixels = self._images.shape[1]
        best = np.full(len(flat), np.inf, np.float32)
        for start in range(0, len(self._images), BLOCK):
            real = self._images[start : start + BLOCK].astype(np.float32) / 255.0
            norms = (real**2).sum(axis=1)
            for at in range(0, len(flat), BLOCK):
                part = flat[at : at + BLOCK].astype(np.float32) / 255.0
                squares = norms[None, :] - 2.0 * part @ real.T + (part**2).sum(axis=1)[:, None]
                if leave_out_self and at == start:
                    np.fill_diagonal(squares, np.inf)
                best[at : at + BLOCK] = np.minimum(best[at : at + BLOCK], squares.min(axis=1))
        nearest: Floats = np.sqrt(np.maximum(best, 0.0) / pixels)
        return nearest


def _deviation(images: Images) -> Floats:
    flat = images.reshape(len(images), -1).astype(np.float32) / 255.0
    deviation: Floats = flat.std(axis=1)
    return deviation


def read_judge(folder: Path, *, threads: int = 1) -> Judge:
    """The judge of a saved generator's images.

    Raises:
        GeneratorError: there is none, or its digest differs from the card's.
    """
    return Judge(read_part(folder, JUDGE, read_card(folder).judge_digest), threads=threads)
