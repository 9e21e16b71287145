from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.meters.response import AT_ONCE, MeterResponse, uniform_sd_s

lengths_s = st.sampled_from([0.0, 0.001, 0.1, 0.5, 1.0, 3.0, 10.0])
responses = st.builds(MeterResponse, delay_s=lengths_s, window_s=lengths_s, refresh_s=lengths_s)


def share_by_ages(response: MeterResponse, since_s: float, count: int = 20_000) -> float:
    """The same by its definition: the mean over all ages of the value that is shown."""
    ages_s = (np.arange(count) + 0.5) / count * response.refresh_s
    ends_s = since_s - ages_s - response.delay_s
    if response.window_s == 0.0:
        return float(np.mean(ends_s > 0.0))
    begins_s = ends_s - response.window_s
    after_s = np.maximum(ends_s, 0.0) - np.maximum(begins_s, 0.0)
    return float(np.mean(after_s / response.window_s))


@given(responses, st.floats(-2.0, 30.0))
def test_share_after_is_the_mean_over_all_ages(response: MeterResponse, since_s: float) -> None:
    if abs(since_s - response.delay_s) < 1e-6:
        since_s += 1e-3  # at the jump itself either side is right
    assert response.share_after(since_s) == pytest.approx(
        share_by_ages(response, since_s), abs=2e-4
    )


@given(responses)
def test_share_after_rises_from_nothing_to_all(response: MeterResponse) -> None:
    since_s = np.linspace(-1.0, response.settling_s + 1.0, 500)
    share = response.share_after(since_s)
    assert np.all(np.diff(share) >= -1e-9)
    assert np.all(share[since_s < response.delay_s] == 0.0)
    assert share[since_s > response.settling_s] == pytest.approx(1.0, abs=1e-12)
    assert response.settling_s == pytest.approx(response.delay_s + response.spread_s)


@given(responses)
def test_the_lag_is_an_integral_of_the_kernel(response: MeterResponse) -> None:
    width_s = response.settling_s + 1.0
    at_s = (np.arange(200_000) + 0.5) / 200_000 * width_s
    step_s = width_s / 200_000
    share = response.share_after(at_s)
    assert np.sum(1.0 - share) * step_s == pytest.approx(response.lag_s, abs=2e-4)
    before_j = np.sum(share[at_s < response.lag_s]) * step_s
    after_j = np.sum(1.0 - share[at_s >= response.lag_s]) * step_s
    assert before_j == pytest.approx(after_j, abs=4e-4), "it is symmetric about the lag"


def test_sums_of_columns_are_whole() -> None:
    """Whatever drew the power, all of a reading is of something."""
    response = MeterResponse(delay_s=1.0, window_s=2.0, refresh_s=1.0)
    at_s, edges_s = np.linspace(0.0, 30.0, 301), np.array([-100.0, 3.0, 3.1, 3.1, 9.0])
    since = np.array([response.share_after(at_s - edge_s) for edge_s in edges_s])
    shares = since - np.vstack([since[1:], np.zeros(len(at_s))])
    assert shares.sum(axis=0) == pytest.approx(1.0)
    assert shares.min() >= -1e-12


def test_said_in_words() -> None:
    assert str(AT_ONCE) == "at once (assumed)"
    response = MeterResponse(delay_s=2.0, delay_sd_s=0.5, window_s=1.0, refresh_s=3.0)
    assert str(response) == "2 ± 0.5 s late, mean of 1 s, new every 3 s (assumed)"


@pytest.mark.parametrize("value", [-1.0, 1e3])
def test_what_no_meter_has_is_refused(value: float) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"delay_s": value}, MeterResponse)


def test_uniform_sd() -> None:
    assert uniform_sd_s(2.0) == pytest.approx(np.std(np.linspace(-1.0, 1.0, 100_001)), rel=1e-4)
