"""Cost of one sample in any network: of the built-in ones by their shapes, of others by PyTorch."""

from __future__ import annotations

from fimi.learning.networks import built_in_cost
from fimi.learning.networks.built_in_cost import BUILT_IN, ImageShape, ModelCost


def model_cost(model: str, classes: int, image_shape: ImageShape) -> ModelCost:
    """The cost of a network, named as in :func:`fimi.learning.networks.models.build`.

    Raises:
        ValueError: the network is unknown, or
            :func:`fimi.learning.networks.models.build` refuses a network of the user's own.
        ImportError: it is a network of the user's own, and PyTorch is not installed.
    """
    if model in BUILT_IN:
        return built_in_cost.total(BUILT_IN[model](classes, image_shape))
    from fimi.learning.networks import counted_cost, models

    network = models.build(model, classes, image_shape, seed=0)
    return counted_cost.count(network, image_shape)
