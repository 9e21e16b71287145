"""GenFL's aggregation: the mean of the devices' models, mixed with a model of the server.

After Qiang, Chang and Liang, *AIGC-assisted Federated Learning for Edge Intelligence: Architecture
Design, Research Challenges and Future Directions*, section III, equation (1).

* :func:`mix`     ω = κ1 Σ ρ_n ω_n + κ2 ω_a, with κ1 + κ2 = 1
* :func:`server_weight`        κ2 that is constant or follows a schedule
* :func:`weight_by_performance`  κ2 from the errors of both models
* :func:`client_shares`          ρ_n from the devices' samples, and the errors that judge them
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fimi.coordinator.settings import ClientWeights, StrategySettings
from fimi.learning.training.aggregation import Model, mean
from fimi.learning.training.slices import HeldModel, Slices
from fimi.learning.training.tensors import Parameters


def mix(
    updates: Sequence[Slices],
    weights: Sequence[float],
    augmented: Parameters,
    server_weight: float,
) -> Model:
    """ω = κ1 Σ ρ_n ω_n + κ2 ω_a, GenFL's equation (1).

    Args:
        updates: ω_n, at least one.
        weights: weights of the updates; ρ_n is each one's share of their sum.
        augmented: ω_a.
        server_weight: κ2; κ1 is 1 − κ2.

    Raises:
        ValueError: there are no updates, or κ2 is outside 0 to 1.
    """
    if not 0.0 <= server_weight <= 1.0:
        raise ValueError(f"κ2 is {server_weight}; κ1 + κ2 = 1 needs it between 0 and 1")
    if not updates:
        raise ValueError("there is no update to mix the server's model with")
    whole = float(sum(weights))
    shares = [(1.0 - server_weight) * weight / whole for weight in weights]
    return mean(augmented, [*updates, HeldModel(augmented)], [*shares, server_weight])


def server_weight(settings: StrategySettings, number: int, rounds: int) -> float:
    """κ2 of a round with constant or scheduled weights.

    Args:
        settings: policy, first and last weight.
        number: number of the round, from 1.
        rounds: number of all rounds.
    """
    first, last = settings.server_weight, settings.server_weight_end
    if settings.weights == "constant" or rounds == 1:
        return first
    return first + (last - first) * (number - 1) / (rounds - 1)


def weight_by_performance(federated_accuracy: float, augmented_accuracy: float, n: int) -> float:
    """κ2 = e_f / (e_f + e_a): the better model has more weight, equal models have the same.

    Errors are (wrong + 1) / (n + 2), the posterior mean of a uniform prior after n images, so that
    a model without a mistake does not get all the weight.

    Args:
        federated_accuracy: accuracy of Σ ρ_n ω_n on validation images, 0 to 1.
        augmented_accuracy: accuracy of ω_a on the same images, 0 to 1.
        n: number of these images.
    """
    federated, augmented = (error(each, n) for each in (federated_accuracy, augmented_accuracy))
    return federated / (federated + augmented)


def error(accuracy: float, n: int) -> float:
    """(wrong + 1) / (n + 2) of a model with this accuracy, 0 to 1, on n images: never 0 or 1."""
    return (n * (1.0 - accuracy) + 1.0) / (n + 2.0)


def client_shares(
    policy: ClientWeights, samples: Sequence[float], errors: Sequence[float]
) -> list[float]:
    """ρ_n, the devices' shares of their mean model, by the paper's quality or contribution.

    ``quality``: ρ_n ∝ D_n / e_n, with e_n the error of the device's own model. ``contribution``:
    ρ_n ∝ D_n e_(−n), with e_(−n) the error of the mean of all others: who makes the mean better
    leaves a worse one behind. ``size``: ρ_n ∝ D_n.

    Args:
        policy: which of them.
        samples: D_n of each device, not all 0.
        errors: by :func:`error`, of each device; not used by ``size``.
    """
    factors = {
        "size": [1.0 for _ in samples],
        "quality": [1.0 / each for each in errors],
        "contribution": list(errors),
    }[policy]
    weights = [each * factor for each, factor in zip(samples, factors, strict=True)]
    whole = math.fsum(weights)
    return [weight / whole for weight in weights]
