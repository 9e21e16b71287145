"""What holds for every generator; subclasses supply one as the fixture ``generator``."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from fimi.generator_node.generators.base import Generator


class GeneratorContract:
    def order(self, generator: Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        class_ids = np.arange(count, dtype=np.int64) % generator.classes
        return class_ids, np.arange(count, dtype=np.uint64) * np.uint64(2**59 + 7)

    def test_shape_and_type(self, generator: Generator) -> None:
        class_ids, seeds = self.order(generator, 7)
        images = generator.generate(class_ids, seeds)
        assert images.dtype == np.uint8
        assert images.shape == (7, *generator.image_shape)

    def test_nothing_asked_nothing_made(self, generator: Generator) -> None:
        images = generator.generate(*self.order(generator, 0))
        assert images.shape == (0, *generator.image_shape)

    def test_asked_again_the_same_comes(self, generator: Generator) -> None:
        class_ids, seeds = self.order(generator, 12)
        first, again = (generator.generate(class_ids, seeds) for _ in range(2))
        assert np.array_equal(first, again)

    def test_an_image_does_not_depend_on_the_others(self, generator: Generator) -> None:
        class_ids, seeds = self.order(generator, 12)
        together = generator.generate(class_ids, seeds)
        backwards = generator.generate(class_ids[::-1], seeds[::-1])[::-1]
        alone = np.concatenate(
            [generator.generate(class_ids[i : i + 1], seeds[i : i + 1]) for i in range(12)]
        )
        assert np.array_equal(together, backwards)
        assert np.array_equal(together, alone)

    def test_all_bits_of_a_seed_count(self, generator: Generator) -> None:
        seeds = np.array([1, 2, 1 + 2**32, 1 + 2**63, 2**64 - 1], np.uint64)
        images = generator.generate(np.zeros(5, np.int64), seeds)
        assert len({image.tobytes() for image in images}) == 5

    def test_what_it_does_not_know(self, generator: Generator) -> None:
        with pytest.raises(ValueError, match="is unknown"):
            generator.generate(np.array([generator.classes]), np.array([0], np.uint64))
        with pytest.raises(ValueError, match="of the same length"):
            generator.generate(np.array([0, 0]), np.array([0], np.uint64))

    def test_provenance(self, generator: Generator) -> None:
        provenance = generator.provenance
        assert provenance.generator == generator.name
        assert msgspec.convert(msgspec.to_builtins(provenance), type(provenance)) == provenance
