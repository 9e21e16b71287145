"""What a strategy asks of the rest of a configuration: the generator that it needs, above all.

A strategy that is about images of a certain kind decides ``generator.kind``; every process is given
the same configuration and comes to the same generator. Where a person has asked for another kind,
one of the two is a mistake.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec.structs import replace

from fimi.coordinator.strategies import STRATEGIES
from fimi.testbed.configuration.sections import Config, ConfigError


def settle(config: Config, origins: dict[str, str]) -> Config:
    """The configuration with the generator that its strategy needs.

    Args:
        config: as given.
        origins: of its values; ``generator.kind`` is marked as the strategy's where it is.

    Raises:
        ConfigError: strategy and generator contradict each other.
    """
    strategy = STRATEGIES[config.run.strategy]
    kind = _kind(config)
    if kind is not None and kind != config.generator.kind:
        if origins["generator.kind"] != "default":
            other = " or strategy.unlabelled" if strategy.unlabelled else ""
            raise ConfigError(
                f"run.strategy {strategy.name!r} ({origins['run.strategy']}) works with images of "
                f"generator.kind {kind!r}, and generator.kind is {config.generator.kind!r} "
                f"({origins['generator.kind']}); leave it out, or change the strategy{other}"
            )
        config = replace(config, generator=replace(config.generator, kind=kind))
        origins["generator.kind"] = f"run.strategy {strategy.name}"
    _check(config, origins)
    return config


def _kind(config: Config) -> Literal["gan", "public"] | None:
    """The generator kind that the strategy decides, or nothing."""
    strategy = STRATEGIES[config.run.strategy]
    if strategy.unlabelled:
        return "public" if config.strategy.unlabelled == "public" else None
    return None if strategy.images == "any" else strategy.images


def _check(config: Config, origins: Mapping[str, str]) -> None:
    strategy, options, generator = (
        STRATEGIES[config.run.strategy],
        config.strategy,
        config.generator,
    )
    if (
        strategy.server == "mix"
        and options.weights == "performance"
        and generator.kind in ("public", "bootstrap")
    ):
        raise ConfigError(
            f'strategy.weights "performance" ({origins["strategy.weights"]}) judges both models '
            f"by public images, and with generator.kind {generator.kind!r} "
            f"({origins['generator.kind']}) the server's model is trained on just those; take "
            'another generator, or strategy.weights "constant" or "scheduled"'
        )
