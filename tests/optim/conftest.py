"""Random fleets with binding constraints, for property tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from fimi.optim.learning_curve import LearningCurve
from fimi.optim.problem import FimiProblem

Fleet = Callable[..., FimiProblem]


def make_fleet(seed: int, size: int, **changes: Any) -> FimiProblem:
    """Heterogeneous devices; band and error are tight enough to bind, loose enough to be met."""
    rng = np.random.default_rng(seed)
    problem = FimiProblem(
        devices=tuple(f"device-{i}" for i in range(size)),
        local_counts=rng.integers(0, 80, (size, 5)) + 1,
        epochs=5,
        cycles_per_sample=rng.uniform(5e6, 2e7, size),
        capacitance_w_per_hz3=rng.uniform(0.5e-28, 2e-28, size),
        active_power_w=rng.choice([0.0, 0.3, 1.0], size),
        frequency_min_hz=rng.uniform(1e8, 4e8, size),
        frequency_max_hz=rng.uniform(1.0e9, 2.0e9, size),
        channel_gain=10 ** (-rng.uniform(9.5, 11.3, size)),
        noise_density_w_per_hz=np.asarray(4e-21),
        transmit_power_max_w=rng.choice([0.01, 0.2], size),
        payload_bits=np.asarray(3.2e7),
        t_max_s=rng.uniform(40.0, 60.0, size),
        bandwidth_hz=4e5 * size,
        generated_max=np.asarray(1500.0),
        weights=rng.dirichlet(np.full(size, 5.0)),
        error_max=0.32,
        curve=LearningCurve(alpha=2.0, beta=0.3),
    )
    return msgspec.structs.replace(problem, **changes)


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    return make_fleet
