from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.clock import VirtualClock
from fimi.energy.emulation.board import EmulatedBoard, VirtualBoard
from fimi.energy.emulation.boards import declare_board
from fimi.energy.emulation.late_meter import READINGS_MAX, LateMeter
from fimi.energy.emulation.meter_families import MeterFamily, meter_of
from fimi.energy.emulation.physical_board import PhysicalBoard
from fimi.energy.ledger import Ledger
from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.meters.response import MeterResponse

REST_W = 3.0


def described(**settings: Any) -> MeterDescription:
    return MeterDescription(source="late", kind="emulated", scope="board", **settings)


def late(meter: MeterDescription, **settings: Any) -> tuple[LateMeter, VirtualClock]:
    clock = VirtualClock(0.0)
    fixed = {"noise_w": 0.0, "gain": 1.0, "resting_power_w": REST_W, **settings}
    return LateMeter(meter, clock=clock, **fixed), clock


PLUG = described(
    rate_hz=2.0, response=MeterResponse(delay_s=1.3, window_s=0.7, refresh_s=1.0), resolution_w=0.0
)
steps = st.lists(st.tuples(st.floats(0.01, 5.0), st.floats(0.0, 20.0)), min_size=1, max_size=12)


def mean_w(course: list[tuple[float, float]], start_s: float, end_s: float) -> float:
    """Mean power of a course that begins at 0; at rest before it: a sum over a fine grid."""
    at_s = start_s + (np.arange(40_000) + 0.5) / 40_000 * (end_s - start_s)
    ends_s = np.cumsum([seconds for seconds, _ in course])
    power_w = np.array([*(watts for _, watts in course), REST_W])
    return float(
        np.where(at_s < 0.0, REST_W, power_w[np.searchsorted(ends_s, at_s, side="right")]).mean()
    )


def watch(meter: LateMeter, course: list[tuple[float, float]]) -> list[Reading]:
    found = meter.mark()
    for seconds, watts in course:
        meter.observe(seconds, watts)
        found += meter.mark()[1:]
    return found


@given(steps, st.floats(-3.0, 0.0))
def test_shows_the_mean_that_its_response_says(
    course: list[tuple[float, float]], refresh_from_s: float
) -> None:
    meter, _ = late(PLUG, refresh_from_s=refresh_from_s)
    for reading in watch(meter, course)[-8:]:
        made_s = refresh_from_s + np.floor(reading.time_s - refresh_from_s + 1e-9)
        end_s = made_s - 1.3
        assert reading.power_w == pytest.approx(mean_w(course, end_s - 0.7, end_s), abs=5e-3)


@given(steps, st.floats(-0.5, 0.0))
def test_a_counter_counts_all_that_was_drawn_until_its_refresh(
    course: list[tuple[float, float]], refresh_from_s: float
) -> None:
    counts = described(rate_hz=5.0, counts=True, response=MeterResponse(refresh_s=0.2))
    meter, clock = late(counts, refresh_from_s=refresh_from_s, gain=1.1)
    readings = watch(meter, course)
    assert np.all(np.diff([r.counter_j for r in readings if r.counter_j is not None]) >= -1e-9)
    meter.observe(0.2, 0.0)
    (*_, last) = meter.mark()
    assert last.counter_j is not None
    rest_j = REST_W * -min(0.0, refresh_from_s)  # a counter does not begin at zero
    assert last.counter_j == pytest.approx(1.1 * meter.true_energy_j, abs=1.1 * rest_j + 1e-9)
    assert clock.now_s() == pytest.approx(sum(s for s, _ in course) + 0.2)


def test_a_value_is_shown_until_the_next() -> None:
    meter, _ = late(PLUG, noise_w=0.5, refresh_from_s=0.0)
    meter.reseed(np.random.default_rng(3))
    readings = watch(meter, [(0.3, 5.0)] * 100)
    values = {}
    for reading in readings:
        values.setdefault(int(np.floor(reading.time_s + 1e-9)), set()).add(reading.power_w)
    assert all(len(each) == 1 for each in values.values())
    assert len({value for each in values.values() for value in each}) == len(values)


def test_is_looked_at_once_a_period_and_at_edges() -> None:
    meter, _ = late(described(rate_hz=10.0))
    meter.reseed(np.random.default_rng(1))
    meter.mark()
    meter.observe(20.0, 5.0)
    times_s = np.array([r.time_s for r in meter.mark()])
    looks_s = times_s[1:-1]
    assert (times_s[0], times_s[-1]) == (0.0, 20.0)
    assert np.bincount(np.floor(looks_s * 10.0).astype(int)).tolist() == [1] * 200
    assert np.std(looks_s * 10.0 % 1.0) > 0.2  # not in step


def test_reads_less_often_in_a_long_time() -> None:
    meter, _ = late(described(rate_hz=10.0))
    meter.mark()
    meter.observe(50_000.0, 5.0)
    readings = meter.mark()
    assert len(readings) <= READINGS_MAX + 2
    assert all(r.power_w == pytest.approx(5.0) for r in readings[2:])


def test_forgets_what_no_reading_shows_any_more() -> None:
    meter, _ = late(PLUG)
    for _ in range(2_000):
        meter.observe(0.05, 4.0)
        meter.mark()
    assert len(meter._knots_s) < 200


def test_the_clock_may_be_set() -> None:
    meter, clock = late(PLUG)
    watch(meter, [(10.0, 8.0)])
    meter.begin_at(500.0)
    assert clock.now_s() == 500.0
    meter.observe(1.0, REST_W)
    readings = meter.mark()
    assert readings[0].time_s >= 500.0
    assert readings[-1].power_w == pytest.approx(8.0)  # it still shows what was drawn before


@pytest.mark.parametrize("family", ["counter", "chip", "averaging", "plug", "battery"])
@pytest.mark.parametrize("kind", [EmulatedBoard, PhysicalBoard])
def test_boards_have_meters_of_a_family(family: MeterFamily, kind: type[VirtualBoard]) -> None:
    declaration = declare_board("raspberry-pi-5", seed=1, index=0, meter=family)
    board = kind(declaration, seed=1, index=0)
    description = board.recorder.describe()
    assert description.source == f"emulated:raspberry-pi-5:{family}"
    assert (description.kind, board.describe().kind) == ("emulated", "emulated")
    ledger = Ledger(board.clock, board.recorder)
    with ledger.phase("idle"):
        board.has_waited_until(40.0)
    with ledger.phase("compute"):
        board.has_computed(10_000)
    board.rest(60.0, lambda: False)
    ledger.begin("idle")
    (idle, compute) = ledger.take(1)
    later = ledger.corrections().get(1, ())
    (*_, corrected) = (compute, *(r for r in later if r.phase == "compute"))
    assert corrected.energy is not None
    assert corrected.energy.kind == "emulated"
    assert idle.energy is not None
    assert idle.energy.value_j == pytest.approx(40.0 * board.truth.idle_power_w, rel=0.12)
    true_j = board.recorder.true_energy_j - (40.0 + 60.0) * board.truth.idle_power_w
    if kind is EmulatedBoard:
        assert corrected.energy.value_j == pytest.approx(
            true_j, abs=4.0 * corrected.energy.uncertainty_j
        )


def test_the_make_s_own_meter_is_untouched() -> None:
    own = declare_board("raspberry-pi-5", seed=1, index=0)
    assert (own.meter_family, own.meter.source) == ("preset", "emulated:raspberry-pi-5:pmic")
    assert meter_of(own.meter, "raspberry-pi-5", "preset") is own.meter
    with pytest.raises(ValueError, match=r"called 'sundial'; there are preset, counter, chip"):
        meter_of(own.meter, "raspberry-pi-5", "sundial")  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["chip", "plug"])
def test_a_board_made_anew_goes_on_after_its_meter_has_settled(family: MeterFamily) -> None:
    """What was before the fleet's time is lost; later readings are the same."""
    declaration = declare_board("raspberry-pi-4", seed=4, index=2, meter=family)

    def readings(board: EmulatedBoard, number: int) -> list[Reading]:
        board.join_fleet(100.0 * number)
        board.begin_round(number)
        board.recorder.mark()
        board.has_computed(3_000)
        board.has_waited_until(100.0 * number + 60.0)
        return board.recorder.mark()

    lived = EmulatedBoard(declaration, seed=4, index=2)
    readings(lived, 1)
    settling_s = declaration.meter.response.settling_s
    old, new = readings(lived, 2), readings(EmulatedBoard(declaration, seed=4, index=2), 2)
    assert [r.time_s for r in old] == [r.time_s for r in new]
    late_s = 200.0 + settling_s
    assert [r.power_w for r in old if r.time_s > late_s] == pytest.approx(
        [r.power_w for r in new if r.time_s > late_s]
    )
