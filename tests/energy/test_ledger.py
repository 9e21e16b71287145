from __future__ import annotations

import time

import msgspec
import pytest
from msgspec.structs import replace

from fimi.energy.clock import MonotonicClock, VirtualClock
from fimi.energy.ledger import Ledger, PhaseRecord
from fimi.energy.meters import DeclaredPower, MeterDescription, Reading


class CounterOfSeconds:
    """A counter that grows by ``power_w`` per second and can be made unreadable."""

    def __init__(self, clock: VirtualClock, power_w: float = 3.0) -> None:
        self.clock = clock
        self.power_w = power_w
        self.readable = True
        self.last: list[Reading] = []

    def describe(self) -> MeterDescription:
        return MeterDescription(source="counter", kind="measured", scope="cpu", rate_hz=1e3)

    def mark(self) -> list[Reading]:
        if not self.readable:
            self.last = []
            return []
        now_s = self.clock.now_s()
        reading = Reading(time_s=now_s, counter_j=self.power_w * now_s)
        readings, self.last = [*self.last, reading], [reading]
        return readings


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1000.0)


@pytest.fixture
def meter(clock: VirtualClock) -> CounterOfSeconds:
    return CounterOfSeconds(clock)


@pytest.fixture
def ledger(clock: VirtualClock, meter: CounterOfSeconds) -> Ledger:
    return Ledger(clock, meter)


class TestPhases:
    def test_record(self, ledger: Ledger, clock: VirtualClock) -> None:
        with ledger.phase("compute"):
            clock.advance(10.0)
        (record,) = ledger.take()
        assert record.energy is not None
        assert record.energy.value_j == pytest.approx(30.0)
        assert (record.phase, record.start_s, record.duration_s) == ("compute", 1000.0, 10.0)
        assert (record.sample_count, record.largest_gap_s) == (2, 10.0)
        assert msgspec.json.decode(msgspec.json.encode(record), type=PhaseRecord) == record

    def test_what_flows_between_phases_belongs_to_none(
        self, ledger: Ledger, clock: VirtualClock
    ) -> None:
        for phase in ("model-download", "upload"):
            clock.advance(100.0)
            with ledger.phase(phase):
                clock.advance(2.0)
        assert [r.energy.value_j for r in ledger.take() if r.energy] == pytest.approx([6.0, 6.0])

    def test_an_exception_still_closes_it(self, ledger: Ledger, clock: VirtualClock) -> None:
        with pytest.raises(KeyError), ledger.phase("compute"):
            clock.advance(1.0)
            raise KeyError("in the middle")
        assert ledger.close() is None
        assert [record.duration_s for record in ledger.take()] == [1.0]

    def test_explicit_edges(self, ledger: Ledger, clock: VirtualClock) -> None:
        ledger.begin("upload")
        clock.advance(4.0)
        assert ledger.end() == ledger.take()[0]

    def test_close_ends_what_is_open(self, ledger: Ledger, clock: VirtualClock) -> None:
        assert ledger.close() is None
        ledger.begin("idle")
        clock.advance(4.0)
        assert (ledger.close(),) == ledger.take()
        assert ledger.close() is None

    def test_do_not_overlap(self, ledger: Ledger) -> None:
        ledger.begin("upload")
        with pytest.raises(RuntimeError, match="'compute' cannot begin while 'upload' is open"):
            ledger.begin("compute")
        assert ledger.end().phase == "upload"
        with pytest.raises(RuntimeError, match="no phase is open"):
            ledger.end()

    def test_unknown_phase(self, ledger: Ledger) -> None:
        with pytest.raises(ValueError, match="'coffee' is not a phase"):
            ledger.begin("coffee")  # type: ignore[arg-type]


class TestMissing:
    def test_unreadable_is_none(
        self, ledger: Ledger, clock: VirtualClock, meter: CounterOfSeconds
    ) -> None:
        meter.readable = False
        with ledger.phase("compute"):
            clock.advance(10.0)
        meter.readable = True
        with ledger.phase("upload"):
            clock.advance(10.0)
        first, second = ledger.take()
        assert (first.energy, first.sample_count, first.largest_gap_s) == (None, 0, 10.0)
        assert second.energy is not None

    def test_unreadable_at_one_edge_is_none(
        self, ledger: Ledger, clock: VirtualClock, meter: CounterOfSeconds
    ) -> None:
        ledger.begin("compute")
        clock.advance(10.0)
        meter.readable = False
        assert ledger.end().energy is None


class TestTake:
    def test_hands_out_once(self, ledger: Ledger, clock: VirtualClock) -> None:
        assert ledger.take() == ()
        with ledger.phase("compute"):
            clock.advance(1.0)
        ledger.begin("upload")
        assert [record.phase for record in ledger.take()] == ["compute"]
        clock.advance(1.0)
        ledger.end()
        assert [record.phase for record in ledger.take()] == ["upload"]
        assert ledger.take() == ()


def test_on_a_real_clock() -> None:
    clock = MonotonicClock()
    ledger = Ledger(clock, DeclaredPower(10.0, clock))
    before = time.monotonic()
    with ledger.phase("idle"):
        time.sleep(0.2)
    elapsed_s = time.monotonic() - before
    (record,) = ledger.take()
    assert record.energy is not None
    assert 0.2 <= record.duration_s <= elapsed_s
    assert record.energy.value_j == pytest.approx(10.0 * record.duration_s, rel=0.01)


class Overflowing(CounterOfSeconds):
    """A meter whose uncertainty is beyond all numbers."""

    def describe(self) -> MeterDescription:
        return replace(super().describe(), relative_uncertainty=1e200)


def test_readings_that_give_no_number_end_the_phase_without_energy(clock: VirtualClock) -> None:
    """The phase and its seconds stay; the error says what the meter gave."""
    ledger = Ledger(clock, Overflowing(clock, power_w=1e200))
    ledger.begin("compute")
    clock.advance(2.0)
    with pytest.raises(ValueError, match=r"energy from 'counter' is .* J ± inf J"):
        ledger.end()
    (record,) = ledger.take()
    assert (record.phase, record.duration_s, record.energy) == ("compute", 2.0, None)
    assert ledger.close() is None
