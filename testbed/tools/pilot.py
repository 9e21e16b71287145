"""rounds(Δ, E) of a configuration, fitted to short federations on its public part.

Up to ten virtual devices hold the public part, divided as devices hold the private one, and are
filled with changed public images (the bootstrap generator) to two amounts of data. Each federation
trains as a run does and is judged by the images for validation. Private and test images are not
looked at.

* :func:`pilots`  the federations, one after the other
* :func:`fit`     the model
* :func:`lines`   it as keys of the configuration
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from fimi.errors import InputError
from fimi.generator_node.generators.bootstrap import BootstrapGenerator
from fimi.learning.data.dataset import Dataset, Images, Labels
from fimi.learning.training.pilot import Held, federate, filled
from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters
from fimi.learning.training.trainer import TrainingCancelled
from fimi.optim.categories import fill
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.rounds_model import RoundsModel
from fimi.testbed.configuration.scenario import Scenario, parts_of

DEVICES_MAX = 10
_FILLED_TO = (2.0, 4.0)
"""Samples that devices are filled up to, over the mean of what they hold."""
_FARTHER = (1.0, 1.5, 2.0, 3.0)
"""Errors of the global model at which rounds are counted, over that of the target."""


class PilotError(InputError):
    """Pilots tell nothing of the rounds."""

    code = "P008"


class Pilot(Struct, frozen=True, kw_only=True):
    """One federation.

    Attributes:
        epochs: E.
        error: mean Δ(D) of its devices, by the learning curve.
        reached: accuracies, 0 to 1, with the first round that reached each.
        best: highest accuracy.
    """

    epochs: int
    error: float
    reached: dict[float, int]
    best: float


def pilots(
    scenario: Scenario,
    curve: LearningCurve,
    target: float,
    *,
    epochs: Sequence[int],
    rounds: int,
    seeds: int,
    cancelled: Callable[[], bool],
) -> Iterator[Pilot]:
    """Run the federations: every number of epochs with both amounts of data.

    They end early when ``cancelled`` returns true; what is not finished is not given.

    Args:
        scenario: data and training.
        curve: says Δ of so many samples.
        target: accuracy that plans will aim at.
        epochs: E to try.
        rounds: most rounds of a federation.
        seeds: how often each is repeated, with other shares and other images.
        cancelled: stops it.

    Raises:
        ConfigError: the public part cannot be divided as configured.
        GeneratorError: it lacks a class.
    """
    config, split = scenario.config, scenario.split
    public, training = split.public, config.training
    accuracies = [1.0 - farther * (1.0 - target) for farther in _FARTHER]
    trainer = TorchTrainer.of(training, public.classes, public.image_shape)
    devices = min(DEVICES_MAX, config.fleet.devices)
    for seed, more, passes in itertools.product(range(seeds), _FILLED_TO, epochs):
        dealt = replace(
            config,
            fleet=replace(config.fleet, devices=devices),
            run=replace(config.run, seed=config.run.seed + seed),
        )
        shares = [public.subset(part, "pilot") for part in parts_of(dealt, public)]
        held = _filled(shares, public, round(more * len(public) / devices), dealt.run.seed)
        start = initial_parameters(
            training.model, public.classes, public.image_shape, seed=dealt.run.seed
        )
        reached: dict[float, int] = {}
        best = 0.0
        found = federate(
            trainer,
            start,
            itertools.repeat(held, rounds),
            split.validation,
            replace(training, epochs=passes, steps=0),
            seed=dealt.run.seed,
            cancelled=cancelled,
        )
        try:
            for number, accuracy in enumerate(found, 1):
                best = max(best, accuracy)
                for each in accuracies:
                    if 0.0 < each <= accuracy:
                        reached.setdefault(each, number)
                if best >= target:
                    break
        except TrainingCancelled:
            return
        error = math.fsum(float(curve.error(len(each.labels))) for each in held) / len(held)
        yield Pilot(epochs=passes, error=error, reached=reached, best=best)


def _filled(shares: Sequence[Dataset], public: Dataset, level: int, seed: int) -> list[Held]:
    """What devices train on: their own samples, and changed public ones up to a level."""
    generator = BootstrapGenerator(public)
    held = []
    for number, share in enumerate(shares):

        def draw(labels: Labels, number: int = number) -> Images:
            random = np.random.default_rng((seed, number))
            return generator.generate(labels, random.integers(0, 2**63, len(labels), np.uint64))

        counts = fill(share.label_counts(), max(level - len(share), 0))
        held.append(filled(share, counts, draw))
    return held


def fit(found: Sequence[Pilot]) -> RoundsModel:
    """rounds(Δ, E) of the federations.

    Raises:
        PilotError: says what they do not tell.
    """
    rows = [(p.error, a, n, p.epochs) for p in found for a, n in p.reached.items()]
    best = max((pilot.best for pilot in found), default=0.0)
    if not rows:
        raise PilotError(
            f"pilots: none of {len(found)} federations came near the target (best accuracy "
            f"{100 * best:.1f} %); give more rounds, a lower target, or another training"
        )
    errors, accuracies, counts, epochs = zip(*rows, strict=True)
    if len(set(epochs)) < 2:
        raise PilotError(
            f"pilots: only those with {epochs[0]} epochs came near the target (best accuracy "
            f"{100 * best:.1f} %), which says nothing of others; give more rounds or time"
        )
    try:
        return RoundsModel.fit(errors, accuracies, counts, epochs)
    except ValueError as error:
        raise PilotError(f"pilots: {error}; repeat them (--seeds), or give more rounds") from error


def lines(model: RoundsModel) -> str:
    """The three keys of the section ``plan``."""
    return (
        "[plan]\n"
        f"rounds_scale = {model.scale:.3g}\n"
        f"rounds_sensitivity = {model.sensitivity:.3g}\n"
        f"rounds_epochs_exponent = {model.epochs_exponent:.3g}\n"
    )


def scatter(model: RoundsModel, found: Sequence[Pilot]) -> float:
    """Root mean square of the logarithm of rounds seen over predicted."""
    off = [
        math.log(n / model.at(pilot.epochs).rounds(pilot.error, accuracy))
        for pilot in found
        for accuracy, n in pilot.reached.items()
    ]
    return math.sqrt(math.fsum(x * x for x in off) / len(off))
