"""Values that a strategy sets in the rest of a configuration, such as its generator.

A strategy that needs images of a certain kind sets ``generator.kind``, one that augments
``training.augment``. Every process has the same configuration, and so the same generator. If the
user has set another value, one of the two is a mistake, and the configuration is refused.
"""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from fimi.coordinator.strategies import STRATEGIES
from fimi.testbed.configuration import rules
from fimi.testbed.configuration.sections import Config, ConfigError


def settle(config: Config, origins: dict[str, str]) -> Config:
    """The configuration with the generator and the augmentation that its strategy needs.

    Args:
        config: the configuration.
        origins: origins of its values; those of what the strategy sets are changed.

    Raises:
        ConfigError: strategy and generator, or strategy and augmentation, contradict each other.
    """
    strategy = STRATEGIES[config.run.strategy]
    kind = _kind(config)
    if kind is not None and kind != config.generator.kind:
        if origins["generator.kind"] != "default":
            other = " or strategy.unlabelled" if strategy.unlabelled else ""
            sentence = (
                f"{{run.strategy}} works with images of generator.kind {kind!r}, not with "
                f"{{generator.kind}}; leave it out, or change the strategy{other}"
            )
            raise ConfigError(rules.told(sentence, config, origins))
        config = replace(config, generator=replace(config.generator, kind=kind))
        origins["generator.kind"] = f"run.strategy {strategy.name}"
    if strategy.augments and not config.training.augment:
        if origins["training.augment"] != "default":
            sentence = "{run.strategy} changes images in training, {training.augment} does not"
            raise ConfigError(rules.told(f"{sentence}; leave it out", config, origins))
        config = replace(config, training=replace(config.training, augment=1.0))
        origins["training.augment"] = f"run.strategy {strategy.name}"
    return config


def _kind(config: Config) -> Literal["gan", "public"] | None:
    """The generator kind that the strategy sets, or ``None``."""
    strategy = STRATEGIES[config.run.strategy]
    if strategy.unlabelled:
        return "public" if config.strategy.unlabelled == "public" else None
    return None if strategy.images == "any" else strategy.images
