"""Equal bandwidth, highest frequency, highest power."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from fimi.optim.planner import plan
from fimi.optim.problem import InfeasibleError, tfl
from fimi.optim.unplanned import equal_shares
from tests.optim.remedies import followed


def test_by_hand(fleet: Any) -> None:
    problem = msgspec.structs.replace(
        tfl(fleet(0, 1)),
        local_counts=np.array([[10, 10, 0, 0, 0]]),
        cycles_per_sample=np.array([1e7]),
        capacitance_w_per_hz3=np.array([1e-27]),
        active_power_w=np.array([0.5]),
        frequency_min_hz=np.array([1e8]),
        frequency_max_hz=np.array([1e9]),
        channel_gain=np.array([1e-10]),
        noise_density_w_per_hz=np.array([1e-17]),
        transmit_power_max_w=np.array([0.3]),
        payload_bits=np.array([2e6]),
        bandwidth_hz=1e6,
        t_max_s=np.array([3.0]),
    )
    (share,) = equal_shares(problem).devices
    assert share.compute_s == pytest.approx(1.0)  # 5 · 1e7 · 20 / 1e9
    assert share.compute_j == pytest.approx(1.5)  # (1e-27 · 1e27 + 0.5) · 1
    rate = 1e6 * math.log2(1 + 0.3 * 1e-10 / (1e-17 * 1e6))  # 2 Mbit/s: SNR 3
    assert share.upload_s == pytest.approx(2e6 / rate) == pytest.approx(1.0)
    assert share.upload_j == pytest.approx(0.3)
    assert share.point.time_split == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(5))
def test_never_less_energy_than_the_plan(fleet: Any, seed: int) -> None:
    problem = tfl(fleet(seed, 4))
    try:
        found = equal_shares(problem)
    except InfeasibleError:
        return
    bound_j = plan(problem, seed=0).bound_j
    assert bound_j is not None
    assert found.energy_j >= bound_j


def test_too_late_says_who_and_the_remedies_work_as_printed(fleet: Any) -> None:
    given = msgspec.structs.replace(tfl(fleet(0, 3)), t_max_s=np.array([60.0, 25.0, 60.0]))
    problem = msgspec.structs.replace(given, bandwidth_hz=1e5)
    with pytest.raises(InfeasibleError, match=r"cannot train and send in time") as caught:
        equal_shares(problem)
    assert caught.value.constraint == "deadline"
    remedies = list(followed(problem, str(caught.value)))
    assert len(remedies) == 2
    for _, changed in remedies:
        assert len(equal_shares(changed).devices) == 3


def test_no_band_helps_a_device_that_is_too_slow(fleet: Any) -> None:
    problem = msgspec.structs.replace(tfl(fleet(0, 3)), t_max_s=np.array([60.0, 0.1, 60.0]))
    with pytest.raises(InfeasibleError, match=r"device-1 cannot train") as caught:
        equal_shares(problem)
    assert caught.value.devices == ("device-1",)
    ((words, changed),) = followed(problem, str(caught.value))
    assert "deadline" in words
    equal_shares(changed)
