from __future__ import annotations

import math

import numpy as np
import pytest
from meters_under_load import edges_for, meter, readings

from fimi.energy.clock import VirtualClock
from fimi.energy.emulation.late_meter import LateMeter
from fimi.energy.meters import Reading
from fimi.energy.meters.response import MeterResponse
from fimi.energy.step_load.fit import learn
from fimi.energy.step_load.load import Edges, StepLoadError


def _random_case(seed: int) -> tuple[MeterResponse, bool, float, float]:
    random = np.random.default_rng(1000 + seed)
    counts = bool(random.random() < 0.25)
    refresh_s = float(np.exp(random.uniform(math.log(0.03), math.log(10.0))))
    windows = [0.0, min(refresh_s, 1.0), random.uniform(0.0, 1.0)]
    delay_s = random.uniform(0.0, 4.0 if refresh_s > 0.2 else 0.5)
    response = MeterResponse(
        delay_s=float(delay_s),
        window_s=0.0 if counts else float(random.choice(windows)),
        refresh_s=refresh_s,
    )
    quantum_w = 0.0 if counts else float(random.choice([0.0, 0.1, 1.0]))
    return response, counts, quantum_w, float(random.choice([0.05, 0.2]))


def test_delays_of_many_meters_lie_within_what_is_stated() -> None:
    off, lags = [], []
    for seed in range(30):
        response, counts, quantum_w, noise_w = _random_case(seed)
        edges = edges_for(response, seed)
        shown = readings(response, edges, seed, noise_w=noise_w, quantum_w=quantum_w, counts=counts)
        found = learn(edges, shown, meter(response, counts=counts)).response
        off.append((found.delay_s - response.delay_s) / found.delay_sd_s)
        lags.append((found.lag_s - response.lag_s) / (response.settling_s + 0.1))
        assert found.origin == "learned"
    within = np.mean(np.abs(off) <= 2.0)
    assert within >= 0.9, sorted(off)
    assert np.sqrt(np.mean(np.square(off))) < 1.6, sorted(off)
    assert np.abs(lags).max() < 0.1, sorted(lags)


@pytest.mark.parametrize(
    ("response", "tolerance_s"),
    [
        (MeterResponse(delay_s=2.0, refresh_s=1.0), 0.15),
        (MeterResponse(delay_s=0.02, window_s=0.1, refresh_s=0.1), 0.02),
        (MeterResponse(delay_s=1.0, window_s=1.0, refresh_s=1.0), 0.2),
    ],
)
def test_the_emulated_meter_is_found_again(response: MeterResponse, tolerance_s: float) -> None:
    edges = edges_for(response)
    clock = VirtualClock(0.0)
    emulated = LateMeter(
        meter(response, rate_hz=1e3, resolution_w=0.1),
        noise_w=0.05,
        gain=1.0,
        resting_power_w=3.0,
        clock=clock,
        refresh_from_s=0.123,
    )
    shown: list[Reading] = []
    random = np.random.default_rng(0)
    period_s = max(0.01, response.refresh_s / 10.0)
    for begin_s, end_s, on in edges.stretches:
        while clock.now_s() < end_s:
            step_s = min(period_s * random.uniform(0.6, 1.4), end_s - clock.now_s())
            emulated.observe_until(clock.now_s() + step_s, 7.0 if on else 3.0)
            shown.append(emulated.mark()[-1])
        assert begin_s < end_s
    found = learn(edges, shown, meter(response))
    assert found.response.delay_s == pytest.approx(response.delay_s, abs=tolerance_s)
    assert found.response.window_s == pytest.approx(response.window_s, abs=2.0 * tolerance_s)
    assert found.response.refresh_s == pytest.approx(response.refresh_s, rel=0.02)
    assert found.step_w == pytest.approx(4.0, abs=0.1)
    assert found.idle_w == pytest.approx(3.0, abs=0.1)


def test_refreshes_that_jitter() -> None:
    response = MeterResponse(delay_s=1.3, refresh_s=1.0)
    edges = edges_for(response, works=10)
    shown = readings(response, edges, quantum_w=0.1, jitter=0.2)
    found = learn(edges, shown, meter(response)).response
    assert found.delay_s == pytest.approx(1.3, abs=0.25)
    assert found.refresh_s == pytest.approx(1.0, rel=0.05)


def test_what_it_states_does_not_depend_on_the_zero_of_the_clock() -> None:
    response = MeterResponse(delay_s=0.7, window_s=0.3, refresh_s=0.5)
    edges = edges_for(response)
    shown = readings(response, edges)
    ahead_s = 86_400.0
    later = Edges(
        begins_s=tuple(t + ahead_s for t in edges.begins_s),
        ends_s=tuple(t + ahead_s for t in edges.ends_s),
        from_s=edges.from_s + ahead_s,
        until_s=edges.until_s + ahead_s,
    )
    moved = [Reading(time_s=r.time_s + ahead_s, power_w=r.power_w) for r in shown]
    one, other = learn(edges, shown, meter(response)), learn(later, moved, meter(response))
    assert other.response.delay_s == pytest.approx(one.response.delay_s, abs=2e-3)
    assert other.step_w == pytest.approx(one.step_w, rel=1e-3)


class TestNothingLearned:
    RESPONSE = MeterResponse(delay_s=0.5, refresh_s=0.2)

    def test_a_load_that_the_meter_does_not_see(self) -> None:
        edges = edges_for(self.RESPONSE)
        shown = readings(self.RESPONSE, edges, step_w=0.01, noise_w=1.0)
        with pytest.raises(StepLoadError, match="less than the meter can tell"):
            learn(edges, shown, meter(self.RESPONSE))

    def test_a_meter_that_always_shows_the_same(self) -> None:
        edges = edges_for(self.RESPONSE)
        shown = readings(self.RESPONSE, edges, step_w=0.0, noise_w=0.0)
        with pytest.raises(StepLoadError):
            learn(edges, shown, meter(self.RESPONSE))

    def test_a_meter_that_was_hardly_read(self) -> None:
        edges = edges_for(self.RESPONSE)
        shown = readings(self.RESPONSE, edges)[:5]
        with pytest.raises(StepLoadError, match="gave 5 readings"):
            learn(edges, shown, meter(self.RESPONSE))
