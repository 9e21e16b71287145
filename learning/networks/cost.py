"""What one sample costs in any network: the built-in ones by their shapes, others by PyTorch."""

from __future__ import annotations

from fimi.learning.networks import built_in_cost
from fimi.learning.networks.built_in_cost import BUILT_IN, ImageShape, ModelCost


def model_cost(model: str, classes: int, image_shape: ImageShape) -> ModelCost:
    """The cost of a network by its name.

    Args:
        model: as in :func:`fimi.learning.networks.models.build`.
        classes: K.
        image_shape: channels, height, width.

    Raises:
        ValueError: unknown network (of one's own: what :func:`fimi.learning.networks.models.build`
            raises).
        ImportError: a network of one's own, and no PyTorch here.
    """
    if model in BUILT_IN:
        return built_in_cost.total(BUILT_IN[model](classes, image_shape))
    from fimi.learning.networks import counted_cost, models

    network = models.build(model, classes, image_shape, seed=0)
    return counted_cost.count(network, image_shape)
