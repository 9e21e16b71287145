from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from fimi.energy.cost_model import OperatingPoint, compute_time_s
from fimi.energy.emulation.board import Disturbance
from fimi.energy.emulation.boards import WorkKind, declare_board
from fimi.energy.emulation.physical_board import PhysicalBoard, Surroundings
from fimi.energy.emulation.presets import PRESETS
from fimi.energy.hardware import Hardware
from fimi.energy.ledger import Ledger, PhaseRecord

EXACT = Disturbance(profile_error=0.0, load_sd=0.0, fading_sd_db=0.0)
QUIET = Surroundings(background=0.0, relative_noise=0.0, dropped=0.0)
POINT = OperatingPoint(frequency_hz=1.8e9, bandwidth_hz=1e6, transmit_power_w=0.1, time_split=0.5)


def board(
    name: str = "raspberry-pi-4",
    index: int = 0,
    seed: int = 0,
    disturbance: Disturbance | None = None,
    surroundings: Surroundings | None = None,
    work: WorkKind = "training",
    **meter: float,
) -> PhysicalBoard:
    declaration = declare_board(name, seed=seed, index=index, work=work)
    if meter:
        declaration = replace(declaration, meter=replace(declaration.meter, **meter))
    made = PhysicalBoard(
        declaration, seed=seed, index=index, disturbance=disturbance, surroundings=surroundings
    )
    made.apply(POINT)
    return made


def one_round(device: PhysicalBoard, number: int, end_s: float) -> tuple[PhaseRecord, ...]:
    hardware: Hardware = device
    ledger = Ledger(hardware.clock, hardware.recorder)
    hardware.begin_round(number)
    with ledger.phase("model-download"):
        hardware.has_received(250_000)
    with ledger.phase("compute"):
        hardware.has_computed(2_000)
    with ledger.phase("upload"):
        hardware.has_sent(250_000)
    with ledger.phase("idle"):
        hardware.has_waited_until(end_s)
    return ledger.take()


def joules(record: PhaseRecord) -> float:
    assert record.energy is not None
    return record.energy.value_j


class TestComputing:
    def test_takes_as_long_as_its_cycles_where_nothing_disturbs(self) -> None:
        device = board(disturbance=EXACT, surroundings=QUIET)
        device.has_computed(2_000)
        cycles = 2_000 * device.truth.compute.cycles_per_sample
        assert device.clock.now_s() == pytest.approx(float(compute_time_s(cycles, 1.8e9)))
        assert device.achieved_frequency_hz() == pytest.approx(1.8e9)

    def test_heat_slows_a_pi_4_without_a_heat_sink(self) -> None:
        device = board(surroundings=replace(QUIET, warmer_k=30.0), work="stress")
        device.has_computed(200_000)
        achieved_hz = device.achieved_frequency_hz()
        assert achieved_hz is not None
        assert 1.2e9 < achieved_hz < 1.78e9
        assert device.observed().throttled["emulated"] > 0
        assert device.observed().throttled == {"emulated": 0}  # told once
        assert device.chip.temperature_c < 82.0

    def test_training_does_not_heat_it_that_far(self) -> None:
        device = board(surroundings=QUIET)
        device.has_computed(200_000)
        assert device.observed().throttled == {"emulated": 0}
        assert device.achieved_frequency_hz() == pytest.approx(1.8e9)

    def test_a_cooled_pi_5_keeps_its_frequency(self) -> None:
        device = board("raspberry-pi-5", surroundings=QUIET, work="stress")
        device.apply(replace(POINT, frequency_hz=2.4e9))
        device.has_computed(500_000)
        assert device.observed().throttled == {"emulated": 0}

    def test_other_programs_take_time_and_idle_power(self) -> None:
        quiet = board(disturbance=EXACT, surroundings=QUIET)
        busy = board(disturbance=EXACT, surroundings=replace(QUIET, background=0.2))
        for device in (quiet, busy):
            device.has_computed(5_000)
        assert busy.clock.now_s() == pytest.approx(quiet.clock.now_s() / 0.8, rel=0.1)
        at_rest = []
        for device in (quiet, busy):
            before_j = device.recorder.true_energy_j
            device.has_waited_until(device.clock.now_s() + 100.0)
            at_rest.append(device.recorder.true_energy_j - before_j)
        assert at_rest[1] > 1.02 * at_rest[0]

    def test_nothing_takes_nothing(self) -> None:
        device = board()
        device.has_computed(0)
        assert device.clock.now_s() == 0.0


class TestMeasuredPoints:
    POINT = replace(POINT, frequency_hz=1e9, setting="gpu 614.4 MHz")

    def nano(self, **kw: Any) -> PhysicalBoard:
        made = board("jetson-nano", surroundings=QUIET, **kw)
        made.apply(self.POINT)
        return made

    def test_takes_the_seconds_and_watts_of_its_point(self) -> None:
        device = self.nano(disturbance=EXACT)
        (point,) = (p for p in device.model().compute.points if p.name == self.POINT.setting)
        device.has_computed(20)
        assert device.clock.now_s() == pytest.approx(20 * point.seconds_per_sample)
        speed = device.model().compute.cycles_per_sample / point.seconds_per_sample
        assert device.achieved_frequency_hz() == pytest.approx(speed)
        cold_w = device.truth.idle_power_w + point.power_w
        assert device.recorder.true_energy_j / device.clock.now_s() == pytest.approx(cold_w)
        device.has_computed(20_000)  # it warms up and leaks a little more
        mean_w = device.recorder.true_energy_j / device.clock.now_s()
        assert 1.001 * cold_w < mean_w < 1.02 * cold_w

    def test_truth_differs_point_by_point(self) -> None:
        device = self.nano(disturbance=replace(EXACT, profile_error=0.1))
        ratios = [
            true.power_w / told.power_w
            for true, told in zip(
                device.truth.compute.points, device.model().compute.points, strict=True
            )
        ]
        assert len(set(ratios)) == len(ratios)
        device.has_computed(20)
        (true,) = (p for p in device.truth.compute.points if p.name == self.POINT.setting)
        assert device.clock.now_s() == pytest.approx(20 * true.seconds_per_sample)

    def test_heat_holds_it_at_a_slower_point(self) -> None:
        device = self.nano(disturbance=EXACT)
        before_hz = device.chip.frequency_hz(device.observed().cap_hz or 0.0)
        device.chip.temperature_c = 99.0
        device.has_computed(2_000)
        achieved_hz = device.achieved_frequency_hz()
        assert achieved_hz is not None
        assert achieved_hz < before_hz
        assert device.observed().throttled["emulated"] > 0


class TestRadio:
    def test_stays_awake_for_its_tail(self) -> None:
        device = board(disturbance=EXACT, surroundings=QUIET)
        device.has_sent(1_000)
        sent_s, sent_j = device.clock.now_s(), device.recorder.true_energy_j
        device.has_waited_until(sent_s + 10.0)
        waiting_j = device.recorder.true_energy_j - sent_j
        assert waiting_j - 10.0 * device.chip.idle_power_w() == pytest.approx(0.2 * 0.22, rel=0.2)

    def test_sends_with_what_its_cost_model_says(self) -> None:
        device = board(disturbance=EXACT, surroundings=QUIET)
        device.has_sent(2_000_000)
        link, sent_s = device.truth.link, device.clock.now_s()
        expected_j = sent_s * (
            device.chip.idle_power_w() + link.transmit_power_max_w + link.electronics_power_w
        )
        expected_j += 16e6 * link.energy_per_bit_j
        assert device.recorder.true_energy_j == pytest.approx(expected_j, rel=1e-3)

    def test_fades_during_an_upload(self) -> None:
        steady, fading = (
            board(disturbance=replace(EXACT, fading_sd_db=db), surroundings=QUIET)
            for db in (0.0, 3.0)
        )
        durations = []
        for number in range(1, 30):
            fading.begin_round(number)
            before_s = fading.clock.now_s()
            fading.has_sent(2_000_000)
            durations.append(fading.clock.now_s() - before_s)
        steady.has_sent(2_000_000)
        assert np.std(durations) > 0.02 * np.mean(durations)
        assert np.mean(durations) == pytest.approx(steady.clock.now_s(), rel=0.2)

    def test_sending_needs_a_plan(self) -> None:
        device = board()
        device.restore()
        with pytest.raises(RuntimeError, match="apply a plan first"):
            device.has_sent(1)


class TestMeter:
    def test_a_fast_meter_sees_what_flows(self) -> None:
        device = board(relative_uncertainty=0.0, rate_hz=50.0)
        records = one_round(device, 1, 60.0)
        total_j = sum(joules(record) for record in records)
        assert total_j == pytest.approx(device.recorder.true_energy_j, rel=0.01)

    def test_reads_on_its_own_grid_with_edges(self) -> None:
        device = board(surroundings=QUIET)
        device.has_waited_until(0.33)
        device.recorder.mark()
        device.has_waited_until(0.77)
        times = [reading.time_s for reading in device.recorder.mark()]
        assert times == pytest.approx([0.33, 0.4, 0.5, 0.6, 0.7, 0.77])

    def test_loses_readings(self) -> None:
        device = board(surroundings=replace(QUIET, dropped=0.3))
        device.has_waited_until(100.0)
        assert len(device.recorder.mark()) == pytest.approx(700, abs=60)

    def test_a_day_is_a_few_thousand_readings(self) -> None:
        device = board(surroundings=QUIET)
        device.has_waited_until(86_400.0)
        assert len(device.recorder.mark()) <= 2002

    def test_a_slow_meter_misses_what_happens_in_between(self) -> None:
        device = board(rate_hz=0.2, relative_uncertainty=0.0, surroundings=QUIET)
        device.apply(replace(POINT, frequency_hz=0.6e9))
        ledger = Ledger(device.clock, device.recorder)
        with ledger.phase("compute"):
            device.has_waited_until(1.0)
            device.has_computed(60)
            device.has_waited_until(device.clock.now_s() + 1.0)
        (record,) = ledger.take()
        assert joules(record) < 0.97 * device.recorder.true_energy_j

    def test_everything_is_labelled_emulated(self) -> None:
        records = one_round(board(), 1, 60.0)
        assert {record.energy.kind for record in records if record.energy} == {"emulated"}


class TestReproducibility:
    @pytest.mark.parametrize("name", PRESETS)
    def test_same_seed_same_numbers(self, name: str) -> None:
        def run(seed: int) -> list[tuple[PhaseRecord, ...]]:
            device = board(name, seed=seed)
            return [one_round(device, number, 60.0 * number) for number in (1, 2)]

        assert run(5) == run(5)
        assert run(5) != run(6)

    def test_an_unknown_make_is_refused(self) -> None:
        declared = replace(declare_board("mini-pc", seed=0, index=0), board="toaster")
        with pytest.raises(ValueError, match="no chip for 'toaster'"):
            PhysicalBoard(declared, seed=0, index=0)
