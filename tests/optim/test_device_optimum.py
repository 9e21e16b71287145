from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fimi.optim.device_optimum import DeviceSolver
from fimi.optim.dual import dual
from fimi.optim.inner import InnerSolver


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.floats(-3, 9), st.floats(-21, -10))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("learns", [True, False])
def test_the_least_lagrangian_of_every_device(
    fleet: Any, learns: bool, seed: int, size: int, log_lam: float, log_mu: float
) -> None:
    """Against the golden-section search of the dual function, from wherever it last was.

    Without a price of the error a device that runs at its lowest frequency gains nothing by more
    time: its derivative jumps. At the end of its window full power needs all the band.
    """
    inner = InnerSolver(fleet(seed, size, **({} if learns else {"error_max": math.inf})))
    devices = DeviceSolver(inner)
    log_lam = log_lam if learns else -math.inf
    for nearer in (2.0, 0.0):
        devices.excess(log_lam, log_mu - nearer)
    expected = dual(inner, math.exp(log_lam), math.exp(log_mu))
    assume(math.isfinite(expected.bound_j))
    np.testing.assert_allclose(devices.tau, expected.tau, rtol=1e-4)
