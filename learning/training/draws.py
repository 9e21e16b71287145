"""The random numbers that a network asks for while it trains, the same for every backend.

Dropout and stochastic depth keep a value where a uniform number is below the chance to keep it. The
numbers come from here and not from a backend's own generator, so that backends drop the same
values. Every place of the network that draws has a stream of its own, so that a batch cut into
micro-batches gets the numbers of the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Draws:
    """Uniform numbers for one local training.

    Args:
        stream: seeds them, apart from the order of the batches that it seeds too.
    """

    def __init__(self, stream: tuple[int, ...]) -> None:
        self._stream = stream
        self._generators: list[np.random.Generator] = []

    def uniform(self, place: int, shape: Sequence[int]) -> NDArray[np.float32]:
        """Numbers from 0 up to but not including 1, float32.

        Args:
            place: which draw of the forward pass this is, from 0, in the order of the network.
            shape: of the result.
        """
        while len(self._generators) <= place:
            seed = np.random.SeedSequence(self._stream, spawn_key=(1, len(self._generators)))
            self._generators.append(np.random.default_rng(seed))
        return self._generators[place].random(tuple(shape), np.float32)
