from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.energy.cost_model import OperatingPoint, predict_round, speed_hz
from fimi.energy.emulation.board import Disturbance, EmulatedBoard
from fimi.energy.emulation.boards import declare_board, fleet
from fimi.energy.emulation.meter import READINGS_PER_SEGMENT
from fimi.energy.emulation.presets import PRESETS
from fimi.energy.hardware import Hardware
from fimi.energy.ledger import Ledger, PhaseRecord
from fimi.errors import InputError

EXACT = Disturbance(profile_error=0.0, load_sd=0.0, fading_sd_db=0.0)
NANO = declare_board("jetson-nano", seed=0, index=0).model
POINT = OperatingPoint(frequency_hz=1.2e9, bandwidth_hz=1e6, transmit_power_w=0.1, time_split=0.5)


def board(
    name: str = "raspberry-pi-4", index: int = 0, seed: int = 0, **kw: object
) -> EmulatedBoard:
    return EmulatedBoard(
        declare_board(name, seed=seed, index=index),
        seed=seed,
        index=index,
        **kw,  # type: ignore[arg-type]
    )


def one_round(device: EmulatedBoard, number: int, end_s: float) -> tuple[PhaseRecord, ...]:
    """A round as an agent works through it."""
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


class TestAgainstTheCostModel:
    @pytest.mark.parametrize("name", PRESETS)
    def test_an_undisturbed_board_does_what_is_predicted(self, name: str) -> None:
        device = board(name, disturbance=EXACT)
        applied = device.apply(POINT)
        assert applied.frequency_hz is not None
        predicted = predict_round(
            device.model(),
            replace(POINT, frequency_hz=applied.frequency_hz),
            cycles=2_000 * device.model().compute.cycles_per_sample,
            upload_bits=2e6,
            download_bits=2e6,
            round_s=100.0,
        )
        for phase, record in zip(predicted, one_round(device, 1, 100.0), strict=True):
            assert record.phase == phase.phase
            assert record.duration_s == pytest.approx(phase.duration_s)
            assert record.energy is not None
            assert joules(record) == pytest.approx(
                phase.board_j, abs=5.0 * record.energy.uncertainty_j
            )

    @pytest.mark.parametrize("point", [point.name for point in NANO.compute.points])
    def test_every_measured_point_costs_what_is_predicted(self, point: str) -> None:
        device = board("jetson-nano", disturbance=EXACT)
        applied = device.apply(replace(POINT, setting=point))
        assert applied.frequency_hz is not None
        assert applied.frequency_hz == device.achieved_frequency_hz()
        planned = replace(POINT, frequency_hz=applied.frequency_hz, setting=point)
        predicted = predict_round(
            device.model(),
            planned,
            cycles=2_000 * device.model().compute.cycles_per_sample,
            upload_bits=2e6,
            download_bits=2e6,
            round_s=200.0,
        )
        for phase, record in zip(predicted, one_round(device, 1, 200.0), strict=True):
            assert record.duration_s == pytest.approx(phase.duration_s)
            assert record.energy is not None
            assert joules(record) == pytest.approx(
                phase.board_j, abs=5.0 * record.energy.uncertainty_j
            )

    def test_measured_points_err_together_and_in_their_spread(self) -> None:
        ratios = []
        for index in range(300):
            device = EmulatedBoard(
                declare_board("jetson-nano", seed=0, index=index),
                seed=0,
                index=index,
                disturbance=replace(EXACT, profile_error=0.09),
            )
            pairs = zip(device.truth.compute.points, device.model().compute.points, strict=True)
            ratios.append(
                [
                    (t.power_w / m.power_w, t.seconds_per_sample / m.seconds_per_sample)
                    for t, m in pairs
                ]
            )
        logs = np.log(np.array(ratios))  # (boards, points, watts and seconds)
        declared = np.log([(p.power_w, p.seconds_per_sample) for p in NANO.compute.points])
        spans = declared - (declared.min(0) + declared.max(0)) / 2
        # A ratio of a board is a factor and a power of the declared value, the same for all points.
        powers = (logs[:, -1] - logs[:, 0]) / (spans[-1] - spans[0])
        factors = logs[:, 0] - powers * spans[0]
        assert logs == pytest.approx(factors[:, None] + powers[:, None] * spans, abs=1e-9)
        assert factors.std(0) == pytest.approx(np.full(2, 0.09), rel=0.2)
        assert powers.std(0) == pytest.approx(np.full(2, 0.03), rel=0.2)

    @pytest.mark.parametrize("profile_error", [0.03, 0.2, 1.0])
    def test_points_keep_their_order_in_speed_and_in_power(self, profile_error: float) -> None:
        for index in range(50):
            device = EmulatedBoard(
                declare_board("jetson-nano", seed=0, index=index),
                seed=0,
                index=index,
                disturbance=replace(EXACT, profile_error=profile_error),
            )
            true, told = device.truth.compute.points, device.model().compute.points
            for values in (
                lambda points: [p.seconds_per_sample for p in points],
                lambda points: [p.power_w for p in points],
            ):
                assert np.array_equal(np.argsort(values(true)), np.argsort(values(told)))

    def test_truth_spreads_around_the_declaration(self) -> None:
        pairs = [
            (EmulatedBoard(declared, seed=0, index=index).truth, declared.model)
            for index, declared in enumerate(fleet(300, 0))
        ]
        ratios = np.array(
            [
                (
                    truth.compute.capacitance_w_per_hz3 / model.compute.capacitance_w_per_hz3,
                    truth.compute.cycles_per_sample / model.compute.cycles_per_sample,
                    truth.compute.active_power_w / model.compute.active_power_w,
                    truth.link.channel_gain / model.link.channel_gain,
                    truth.idle_power_w / model.idle_power_w,
                )
                for truth, model in pairs
            ]
        )
        assert ratios.mean(0) == pytest.approx(np.ones(5), abs=0.008)
        assert ratios.std(0) == pytest.approx(np.full(5, 0.03), rel=0.2)
        off_diagonal = np.corrcoef(ratios.T)[~np.eye(5, dtype=bool)]
        assert np.abs(off_diagonal).max() < 0.25

    def test_rounds_differ_by_load_and_fading(self) -> None:
        device = board()
        device.apply(POINT)
        rounds = [one_round(device, n, 0.0) for n in range(1, 201)]
        compute_s = np.array([records[1].duration_s for records in rounds])
        upload_s = np.array([records[2].duration_s for records in rounds])
        assert compute_s.std() / compute_s.mean() == pytest.approx(0.015, rel=0.25)
        assert 0.001 < upload_s.std() / upload_s.mean() < 0.1


class TestMetering:
    @settings(max_examples=40, deadline=None)
    @given(
        st.sampled_from(sorted(PRESETS)),
        st.integers(0, 10_000),
        st.integers(1, 100_000),
        st.floats(1e8, 4e9),
    )
    def test_phase_energy_is_true_within_its_uncertainty(
        self, name: str, seed: int, samples: int, frequency_hz: float
    ) -> None:
        device = board(name, seed=seed)
        device.apply(replace(POINT, frequency_hz=frequency_hz))
        ledger = Ledger(device.clock, device.recorder)
        with ledger.phase("compute"):
            device.has_computed(samples)
        (record,) = ledger.take()
        assert record.energy is not None
        error_j = joules(record) - device.recorder.true_energy_j
        assert abs(error_j) < 5.0 * record.energy.uncertainty_j

    def test_uncertainty_is_neither_too_small_nor_too_large(self) -> None:
        errors = []
        for index in range(300):
            device = board(index=index)
            ledger = Ledger(device.clock, device.recorder)
            with ledger.phase("compute"):
                device.has_computed(5_000)
            (record,) = ledger.take()
            assert record.energy is not None
            error_j = joules(record) - device.recorder.true_energy_j
            errors.append(error_j / record.energy.uncertainty_j)
        assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(1.0, abs=0.2)

    def test_phases_add_up(self) -> None:
        parts, whole = board(), board()
        for device in (parts, whole):
            device.apply(POINT)
        summed = math.fsum(joules(record) for record in one_round(parts, 1, 200.0))
        ledger = Ledger(whole.clock, whole.recorder)
        whole.begin_round(1)
        with ledger.phase("compute"):
            whole.has_received(250_000)
            whole.has_computed(2_000)
            whole.has_sent(250_000)
            whole.has_waited_until(200.0)
        # the same draws of noise, up to the readings at the inner edges
        assert joules(ledger.take()[0]) == pytest.approx(summed, rel=1e-3)
        assert whole.recorder.true_energy_j == pytest.approx(parts.recorder.true_energy_j)

    def test_a_step_at_an_edge_charges_nobody_else(self) -> None:
        declared = declare_board("mini-pc", seed=0, index=0)
        declared = replace(
            declared,
            meter=replace(declared.meter, relative_uncertainty=0.0, resolution_w=0.0),
            meter_noise_w=0.0,
        )
        device = EmulatedBoard(declared, seed=0, index=0, disturbance=EXACT)
        device.apply(replace(POINT, frequency_hz=3.4e9))
        idle_w = device.truth.idle_power_w
        for record in one_round(device, 1, 50.0)[::3]:  # download and idle, around the work
            extra_w = declared.model.link.receive_power_w if record.phase != "idle" else 0.0
            assert joules(record) == pytest.approx((idle_w + extra_w) * record.duration_s)

    def test_readings_are_rounded_to_the_resolution(self) -> None:
        device = board("jetson-nano")
        device.has_waited_until(3.0)
        steps = np.array([r.power_w for r in device.recorder.mark()]) / 0.04
        assert steps == pytest.approx(np.round(steps), abs=1e-9)
        assert len(set(np.round(steps))) > 1

    def test_reads_at_the_meter_s_rate(self) -> None:
        device = board()
        device.has_waited_until(2.0)
        times = [reading.time_s for reading in device.recorder.mark()]
        assert times == pytest.approx(np.arange(21) / 10.0)

    def test_a_day_is_a_handful_of_readings_and_still_right(self) -> None:
        device = board()
        ledger = Ledger(device.clock, device.recorder)
        with ledger.phase("idle"):
            device.has_waited_until(86_400.0)
        (record,) = ledger.take()
        assert record.sample_count == READINGS_PER_SEGMENT + 1
        assert record.largest_gap_s == pytest.approx(86_400.0 / READINGS_PER_SEGMENT)
        assert joules(record) == pytest.approx(device.recorder.true_energy_j, rel=0.05)

    def test_time_that_nobody_reported_is_idle(self) -> None:
        device = board(disturbance=EXACT)
        device.clock.advance(10.0)
        device.has_received(0)
        assert device.recorder.true_energy_j == pytest.approx(10.0 * device.truth.idle_power_w)

    def test_an_empty_phase_takes_nothing(self) -> None:
        device = board()
        ledger = Ledger(device.clock, device.recorder)
        with ledger.phase("compute"):
            device.has_computed(0)
        (record,) = ledger.take()
        assert (record.duration_s, joules(record)) == (0.0, 0.0)

    def test_everything_is_labelled_emulated(self) -> None:
        device = board()
        device.apply(POINT)
        assert device.describe().kind == device.describe().meter.kind == "emulated"
        records = one_round(device, 1, 100.0)
        assert {record.energy.kind for record in records if record.energy} == {"emulated"}
        assert msgspec.json.decode(msgspec.json.encode(records), type=tuple[PhaseRecord, ...])


class TestRadio:
    def test_wifi_always_sends_with_its_own_power(self) -> None:
        device = board(disturbance=EXACT)
        quiet = device.apply(replace(POINT, transmit_power_w=1e-4))
        assert "cannot be set" in " ".join(quiet.notes)
        loud = device.apply(replace(POINT, transmit_power_w=0.1))
        assert (quiet.rate_bps, loud.notes) == (loud.rate_bps, ())

    def test_the_paper_s_radio_sends_with_what_it_is_told(self) -> None:
        declared = declare_board("raspberry-pi-4", seed=0, index=0, radio="paper")
        device = EmulatedBoard(declared, seed=0, index=0, disturbance=EXACT)
        quiet = device.apply(replace(POINT, transmit_power_w=1e-4))
        loud = device.apply(POINT)
        assert (quiet.notes, loud.notes) == ((), ())
        assert quiet.rate_bps is not None
        assert loud.rate_bps is not None
        assert quiet.rate_bps < loud.rate_bps

    def test_sending_takes_electronics_and_joules_per_bit(self) -> None:
        device = board(disturbance=EXACT)
        rate_bps = device.apply(POINT).rate_bps
        assert rate_bps is not None
        device.has_sent(1_000_000)
        link = device.truth.link
        watts = device.truth.idle_power_w + link.transmit_power_max_w + link.electronics_power_w
        expected_j = watts * 8e6 / rate_bps + 8e6 * link.energy_per_bit_j
        assert device.recorder.true_energy_j == pytest.approx(expected_j)

    def test_no_band_is_too_wide_for_its_cap(self) -> None:
        device = board(disturbance=EXACT)
        applied = device.apply(replace(POINT, bandwidth_hz=80e6))
        assert applied.rate_bps == device.truth.link.rate_cap_bps
        device.has_sent(1_000_000)
        assert device.clock.now_s() == pytest.approx(8e6 / 77e6)


class TestReproducibility:
    def test_same_seed_same_numbers(self) -> None:
        def run(seed: int) -> list[tuple[PhaseRecord, ...]]:
            device = board(seed=seed)
            device.apply(POINT)
            return [one_round(device, number, 30.0 * number) for number in (1, 2, 3)]

        assert run(5) == run(5)
        assert run(5) != run(6)

    def test_rounds_and_devices_do_not_disturb_one_another(self) -> None:
        def third_round(*, others: bool) -> list[tuple[float, float]]:
            device = board(index=3)
            device.apply(POINT)
            if others:
                neighbour = board(index=2)
                neighbour.apply(POINT)
                for number in (1, 2):
                    one_round(neighbour, number, 0.0)
                    one_round(device, number, 0.0)
            records = one_round(device, 3, 0.0)
            return [(record.duration_s, joules(record)) for record in records]

        alone, together = third_round(others=False), third_round(others=True)
        assert np.array(together) == pytest.approx(np.array(alone), rel=1e-9)

    def test_devices_differ(self) -> None:
        assert board(index=1).truth.idle_power_w != board(index=2).truth.idle_power_w


class TestControl:
    def test_frequency_is_rounded_up_to_a_step(self) -> None:
        applied = board().apply(replace(POINT, frequency_hz=1.21e9))
        assert (applied.frequency_hz, applied.frequency_control) == (1.3e9, "emulated")
        assert applied.notes == ()

    def test_deadlines_hold_at_any_planned_frequency(self) -> None:
        for frequency_hz in np.linspace(0.6e9, 1.8e9, 37):
            device = board(disturbance=EXACT)
            device.apply(replace(POINT, frequency_hz=float(frequency_hz)))
            device.has_computed(100)
            planned_s = 100 * device.model().compute.cycles_per_sample / frequency_hz
            assert device.clock.now_s() <= planned_s * (1 + 1e-9)

    def test_a_plan_without_a_name_gets_the_thriftiest_point_that_is_not_slower(self) -> None:
        device = board("jetson-nano", disturbance=EXACT)
        speeds = [speed_hz(NANO.compute, point) for point in NANO.compute.points]
        applied = device.apply(replace(POINT, frequency_hz=0.99 * speeds[4], transmit_power_w=0.15))
        assert (applied.frequency_hz, applied.notes) == (speeds[4], ())
        assert device.observed().cap_hz == speeds[4]

    def test_a_point_that_it_does_not_have_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"no operating point 'gpu 5 GHz'.*'gpu 614.4 MHz'"):
            board("jetson-nano").apply(replace(POINT, setting="gpu 5 GHz"))
        with pytest.raises(InputError, match="it has none"):
            board().apply(replace(POINT, setting="gpu 614.4 MHz"))

    def test_free_it_runs_at_its_fastest_point(self) -> None:
        free, restored = (board("jetson-nano", disturbance=EXACT) for _ in range(2))
        restored.apply(replace(POINT, setting="gpu 76.8 MHz"))
        restored.restore()
        for device in (free, restored):
            device.has_computed(100)
            assert device.clock.now_s() == pytest.approx(
                100 * NANO.compute.points[-1].seconds_per_sample
            )

    def test_what_is_too_much_is_capped_and_noted(self) -> None:
        applied = board().apply(replace(POINT, frequency_hz=9e9, transmit_power_w=5.0))
        assert applied.frequency_hz == 1.8e9
        assert len(applied.notes) == 2
        within = board().apply(replace(POINT, transmit_power_w=0.1))
        assert applied.rate_bps == within.rate_bps

    def test_sending_needs_a_plan(self) -> None:
        device = board()
        with pytest.raises(RuntimeError, match="apply a plan first"):
            device.has_sent(1)
        device.apply(POINT)
        device.has_sent(1)
        device.restore()
        with pytest.raises(RuntimeError, match="apply a plan first"):
            device.has_sent(1)

    def test_restore_gives_the_frequency_back(self) -> None:
        free, restored = board(), board()
        restored.apply(replace(POINT, frequency_hz=0.6e9))
        restored.restore()
        for device in (free, restored):
            device.has_computed(100)
        assert free.clock.now_s() == restored.clock.now_s()

    def test_uplink_takes_as_long_as_its_rate_says(self) -> None:
        device = board()
        rate_bps = device.apply(POINT).rate_bps
        assert rate_bps is not None
        device.has_sent(1_000_000)
        assert device.clock.now_s() == pytest.approx(8e6 / rate_bps)

    def test_waiting_for_the_past_does_nothing(self) -> None:
        device = board(start_s=50.0)
        assert device.has_waited_until(10.0) == 10.0
        assert device.clock.now_s() == 50.0
        assert device.has_waited_until(60.0) == device.clock.now_s() == 60.0


WORK = st.tuples(
    st.integers(1, 400_000),  # bytes of the model
    st.integers(1, 3_000),  # samples
    st.floats(0.0, 20.0),  # how long others work after it, s; it may be the last itself
)


def lived_round(
    device: EmulatedBoard, ledger: Ledger, number: int, work: tuple[int, int, float], start_s: float
) -> tuple[list[PhaseRecord], float, float]:
    """A round from one idle phase to the next, as an agent works; its records, busy and end, s."""
    size, samples, others_s = work
    began_s = device.has_waited_until(start_s)
    ledger.close()
    device.begin_round(number)
    with ledger.phase("model-download"):
        device.has_received(size)
    with ledger.phase("compute"):
        device.has_computed(samples)
    with ledger.phase("upload"):
        device.has_sent(size)
    busy_s = device.has_been_busy(began_s)
    ledger.begin("idle")
    # a deadline that some boards do not keep: those begin their next round late
    end_s = start_s + (others_s if number % 3 == 0 else max(busy_s, others_s))
    device.has_waited_until(end_s)
    ledger.close()
    ledger.begin("idle")
    return [r for r in ledger.take() if r.phase != "idle" or r.duration_s > 0], busy_s, end_s


class TestJoining:
    @settings(max_examples=60, deadline=None)
    @given(st.lists(WORK, min_size=2, max_size=7), st.data(), st.sampled_from(sorted(PRESETS)))
    def test_a_new_board_goes_on_with_the_same_numbers_to_the_last_digit(
        self, works: list[tuple[int, int, float]], data: st.DataObject, name: str
    ) -> None:
        device = board(name)
        device.apply(POINT)
        device.join_fleet(0.0)
        ledger = Ledger(device.clock, device.recorder)
        with ledger.phase("synthetic-download"):
            device.has_received(123_457)
        ledger.begin("idle")
        at_s = device.clock.now_s()
        lived = []
        for number, work in enumerate(works, 1):
            records, busy_s, end_s = lived_round(device, ledger, number, work, at_s)
            lived.append((records, busy_s, at_s))
            at_s = end_s
        resumed = data.draw(st.integers(1, len(works) - 1))
        _, busy_s, began_s = lived[resumed - 1]
        fresh = board(name)
        # where it was late, the fleet's clock is behind it
        fresh.join_fleet(max(lived[resumed][2], began_s + busy_s))
        fresh.apply(POINT)
        ledger = Ledger(fresh.clock, fresh.recorder)
        ledger.begin("idle")
        at_s = lived[resumed][2]
        for number, work in enumerate(works[resumed:], resumed + 1):
            records, busy_s, end_s = lived_round(fresh, ledger, number, work, at_s)
            assert (records, busy_s, at_s) == lived[number - 1]
            at_s = end_s

    def test_a_board_that_joins_has_no_readings_of_before(self) -> None:
        device = board()
        device.has_waited_until(10.0)
        device.join_fleet(3.0)
        ledger = Ledger(device.clock, device.recorder)
        with ledger.phase("idle"):
            device.has_waited_until(4.0)
        (record,) = ledger.take()
        assert (record.start_s, record.duration_s) == (3.0, 1.0)
        assert joules(record) == pytest.approx(device.truth.idle_power_w, rel=0.2)
