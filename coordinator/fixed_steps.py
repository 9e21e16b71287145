"""Planning where a round is a number of steps, not of passes over the data; docs/model.md (F1).

S steps of B samples cost S·B·C cycles, whatever the number of samples: more data costs nothing to
train on. So (P1) has two parts. First the least synthetic samples of all devices that meet Δ_max
are found; then frequency, bandwidth and power are planned for S·B samples.

* :class:`FixedSteps`       plans a fleet in this way, with any planner of resources
* :func:`around`            wraps a planner of resources where training has fixed steps
* :func:`least_synthetic`   the least synthetic samples that meet a learning constraint
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.coordinator.preparation import afforded, counted
from fimi.learning.training.trainer import TrainingSettings
from fimi.optim.categories import fill
from fimi.optim.plans import Plan
from fimi.optim.problem import FimiProblem, InfeasibleError, tfl
from fimi.optim.quality import effective
from fimi.optim.wording import outwards

Planner = Callable[[FimiProblem], Plan]
_MADE_MAX = 2**40


class FixedSteps(Struct, frozen=True, kw_only=True):
    """Plans fleets whose rounds have a fixed number of steps.

    Attributes:
        training: gives ``steps`` and ``batch_size``.
        synthetic_value: q, the worth of a synthetic sample in real ones.
    """

    training: TrainingSettings
    synthetic_value: float = 1.0

    def plan(self, problem: FimiProblem, planner: Planner) -> Plan:
        """Plan a fleet.

        Args:
            problem: the problem, with its learning constraint if there is one; its epochs are
                ignored.
            planner: finds frequency, bandwidth and power for given data.

        Returns:
            A plan whose bound is that of the resources for these samples.

        Raises:
            InfeasibleError: no amount of synthetic samples meets Δ_max, or no resources meet the
                other limits.
        """
        made = least_synthetic(problem, self.synthetic_value)
        samples = problem.local_samples.astype(np.int64) + made
        load = np.zeros_like(problem.local_counts)
        load[:, 0] = [self.training.processed(int(count)) for count in samples]

        def filled(limits: FimiProblem) -> Plan:
            given = msgspec.structs.replace(
                tfl(limits), local_counts=load, epochs=1, generated_max=np.zeros(problem.size)
            )
            return planner(given)

        plan = counted(filled(afforded(problem, made, filled)), problem, made)
        shares = tuple(
            msgspec.structs.replace(
                share, synthetic_counts=fill(local, int(extra)), samples=int(count)
            )
            for share, local, extra, count in zip(
                plan.devices, problem.local_counts, made, samples, strict=True
            )
        )
        error = None
        if math.isfinite(problem.error_max):
            error = problem.error(effective(problem, self.synthetic_value, samples.astype(float)))
        return msgspec.structs.replace(
            plan, devices=shares, error=error, synthetic_value=self.synthetic_value
        )


def around(planner: Planner, training: TrainingSettings, synthetic_value: float) -> Planner:
    """A planner for this training from a planner of resources; the same one for epochs."""
    if not training.steps:
        return planner
    steps = FixedSteps(training=training, synthetic_value=synthetic_value)
    return lambda problem: steps.plan(problem, planner)


def least_synthetic(problem: FimiProblem, synthetic_value: float = 1.0) -> NDArray[np.int64]:
    """Synthetic samples per device, (I,), with the least sum that meets Δ_max.

    Each sample is given where it lowers Σ w Δ most. At the optimum w α β (D_loc + q D_gen)^(−β−1)
    is the same for all devices that get some; it falls with every sample, so there is one
    threshold. Amounts are rounded down there, and single samples are added, the most useful first.

    Raises:
        InfeasibleError: the constraint is not met with the largest amounts.
    """
    made = np.zeros(problem.size, np.int64)
    curve = problem.curve
    if not math.isfinite(problem.error_max) or curve is None:
        return made
    most = np.asarray(problem.generated_max, np.int64)
    local, weights = problem.local_samples, problem.weights

    def error(amounts: NDArray[np.int64]) -> float:
        samples = local + synthetic_value * amounts
        if (samples <= 0.0).any():
            return math.inf
        return float(np.sum(weights * curve.error(samples)))

    if error(most) > problem.error_max:
        enough = outwards(error(most)) if math.isfinite(error(most)) else None
        each = _enough_for_each(lambda n: error(np.maximum(most, n)) <= problem.error_max)
        texts = [] if enough is None else [f"error_max of at least {enough:g}"]
        texts += [] if each is None else [f"generated_max of at least {each:g}"]
        raise InfeasibleError(
            f"learning error: with {int(most.max())} synthetic samples for every device the mean "
            f"error is still {error(most):.4g}, above the error_max of {problem.error_max:g}",
            constraint="learning error",
            devices=problem.devices,
            remedies=texts,
            smallest_error_max=enough,
            generated_max_needed=each,
        )

    def at(level: float) -> NDArray[np.int64]:
        """Amounts with all samples whose worth is above e^(−level): up to w^(1/(1+β)) e^level."""
        wanted = weights ** (1.0 / (1.0 + curve.beta)) * math.exp(level)
        amounts = np.floor((wanted - local) / synthetic_value)
        return np.clip(amounts, 0, most).astype(np.int64)

    low, high = -50.0, 50.0
    for _ in range(80):
        middle = (low + high) / 2.0
        if error(at(middle)) > problem.error_max:
            low = middle
        else:
            high = middle
    made = at(low)
    while error(made) > problem.error_max:
        have = np.maximum(local + synthetic_value * made, 1e-9)
        worth = np.where(made < most, weights * have ** (-curve.beta - 1.0), -1.0)
        made[int(worth.argmax())] += 1
    for i in range(problem.size):  # the last added sample may have made another one unnecessary
        fewer = made.copy()
        fewer[i] -= 1
        if fewer[i] >= 0 and error(fewer) <= problem.error_max:
            made = fewer
    return made


def _enough_for_each(holds: Callable[[int], bool]) -> int | None:
    """The smallest whole number for which a monotone condition holds; ``None`` if none does."""
    low, high = 0, 1
    while not holds(high):
        low, high = high, 2 * high
        if high > _MADE_MAX:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
