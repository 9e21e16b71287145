"""A generator of the user's own: any function that draws one image, ``module:factory``.

``factory(public)`` is called once, with the public part of the run, and gives
``draw(class_id, random)``, which gives one image: uint8 (channels, height, width), in the shape of
the public ones. ``random`` is a NumPy generator that was seeded for this image alone. All that is
random must come from it, so that an image does not depend on the others. The judge of the quality
gate is trained on public images, as for every generator that brings none.

The public part is all that FIMI gives it. What else the function reads, its author answers for.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from fimi.generator_node.generators.base import (
    Generator,
    GeneratorError,
    Image,
    Provenance,
    Seeds,
)
from fimi.learning.data.dataset import Dataset, Images, Labels
from fimi.own_parts import OwnPart

Draw = Callable[[int, np.random.Generator], Image]
"""Draws one image of a class."""
Factory = Callable[[Dataset], Draw]
"""Makes :data:`Draw` from the public part."""


_OWN = OwnPart(
    what="generator.kind",
    holds="the factory",
    where="where the generator node runs",
    error=partial(GeneratorError, code="G006"),
)


def factory_of(name: str) -> Factory:
    """The function that ``module:factory`` names.

    Raises:
        GeneratorError: there is none.
    """
    found: Factory = _OWN.find(name)
    return found


class OwnGenerator(Generator):
    """Draws with a function of the user's own, and checks every image.

    Args:
        name: ``module:factory``.
        public: the public part of the run.

    Raises:
        GeneratorError: there is no such function, or it raises or gives no function.
    """

    def __init__(self, name: str, public: Dataset) -> None:
        super().__init__(public.classes, public.image_shape)
        self._name = name
        self._public = public
        factory = factory_of(name)
        self._digest = _source_digest(factory)
        try:
            self._draw = factory(public)
        except Exception as error:
            raise self._problem(f"raised {type(error).__name__}: {error}") from error
        if not callable(self._draw):
            raise self._problem(f"gave a {type(self._draw).__name__}, not draw(class_id, random)")

    @property
    def name(self) -> str:
        """For people."""
        return f"{self._name} on {self._public.name}"

    @property
    def provenance(self) -> Provenance:
        """The origin of its images; the file of its source stands for weights."""
        return Provenance(
            generator=self.name,
            dataset=self._public.name,
            data_digest=self._public.digest(),
            weights_digest=self._digest,
            libraries={"numpy": np.__version__},
        )

    def _make(self, class_ids: Labels, seeds: Seeds) -> Images:
        images = np.empty((len(class_ids), *self.image_shape), np.uint8)
        for index, (class_id, seed) in enumerate(zip(class_ids, seeds, strict=True)):
            random = np.random.Generator(np.random.Philox(key=int(seed)))
            try:
                image = self._draw(int(class_id), random)
            except Exception as error:
                said = f"raised {type(error).__name__}: {error}, for class {class_id}"
                raise self._problem(said) from error
            shape, dtype = getattr(image, "shape", None), getattr(image, "dtype", None)
            if shape != self.image_shape or dtype != np.uint8:
                raise self._problem(
                    f"drew {type(image).__name__} {dtype} {shape} for class {class_id}; an image "
                    f"is uint8 {self.image_shape} (channels, height, width)"
                )
            images[index] = image
        return images

    def _problem(self, said: str) -> GeneratorError:
        return GeneratorError(f"generator.kind {self._name!r} {said}", code="G006")


def _source_digest(factory: Factory) -> str:
    """SHA-256 of the file that a function stands in; of its name where there is none."""
    try:
        data = Path(inspect.getsourcefile(factory) or "").read_bytes()
    except (OSError, TypeError):
        data = repr(factory).encode()
    return hashlib.sha256(data).hexdigest()
