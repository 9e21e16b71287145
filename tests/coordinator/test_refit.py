from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.coordinator.refit import RefitPoint, observe, refit
from fimi.energy.cost_model import (
    BoardModel,
    OperatingPoint,
    computing_power_w,
    formula_power_w,
    measured_point,
    operating_frequency_hz,
    predict_round,
    speed_hz,
)
from fimi.energy.emulation.board import Disturbance, EmulatedBoard, VirtualBoard
from fimi.energy.emulation.boards import declare_board
from fimi.energy.emulation.physical_board import PhysicalBoard
from fimi.energy.emulation.presets import PRESETS
from fimi.energy.ledger import Ledger
from fimi.learning.training.trainer import TrainingSettings
from fimi.record.results import DeviceRound
from tests.compute_points import measured

POINT = OperatingPoint(frequency_hz=1.2e9, bandwidth_hz=1e5, transmit_power_w=0.1, time_split=0.5)
BITS = 8.0 * 40_000
SAMPLES = 400


def play(board: VirtualBoard, number: int, point: OperatingPoint = POINT) -> DeviceRound:
    """A round as an agent works through it."""
    ledger = Ledger(board.clock, board.recorder)
    board.apply(point)
    board.begin_round(number)
    with ledger.phase("model-download"):
        board.has_received(int(BITS / 8))
    with ledger.phase("compute"):
        board.has_computed(5 * SAMPLES)
    with ledger.phase("upload"):
        board.has_sent(int(BITS / 8))
    board.join_fleet(0.0)
    with ledger.phase("idle"):
        board.has_waited_until(4.0)
    return DeviceRound(
        device="device",
        status="accepted",
        frequency_hz=board.achieved_frequency_hz(),
        local_samples=SAMPLES,
        phases=ledger.take(),
    )


def seen(board: VirtualBoard, rounds: int, point: OperatingPoint = POINT) -> list[RefitPoint]:
    found = [
        observe(play(board, n, point), point, training=TrainingSettings(epochs=5), model_bits=BITS)
        for n in range(1, rounds + 1)
    ]
    return [o for o in found if o is not None]


def error(board: VirtualBoard, model: BoardModel, number: int) -> float:
    entry = play(board, number)
    point = measured_point(model.compute, POINT)
    if point is None:
        planned = replace(
            POINT, frequency_hz=operating_frequency_hz(model.compute, POINT.frequency_hz)
        )
    else:
        planned = replace(POINT, frequency_hz=speed_hz(model.compute, point), setting=point.name)
    predicted = predict_round(
        model,
        planned,
        cycles=5 * SAMPLES * model.compute.cycles_per_sample,
        upload_bits=BITS,
        download_bits=BITS,
    )
    measured_j = sum(p.energy.value_j for p in entry.phases[:3] if p.energy)
    return abs(sum(p.board_j for p in predicted) / measured_j - 1.0)


def board(name: str, make: type[VirtualBoard], seed: int = 4, wrong: float = 0.2) -> VirtualBoard:
    declared = declare_board(name, seed=seed, index=0, cycles_per_sample=4e6)
    return make(
        declared, seed=seed, index=0, disturbance=Disturbance(profile_error=wrong, load_sd=0.01)
    )


@pytest.mark.parametrize("make", [EmulatedBoard, PhysicalBoard])
@pytest.mark.parametrize("name", PRESETS)
def test_three_rounds_make_the_next_prediction_better(name: str, make: type[VirtualBoard]) -> None:
    before, after = 0.0, 0.0
    for seed in range(6):
        device = board(name, make, seed)
        model = refit(device.model(), seen(device, 3))
        before += error(device, device.model(), 10) / 6
        after += error(device, model, 10) / 6
    assert after < 0.05
    assert after < 0.5 * before


def test_several_frequencies_tell_kappa_from_the_rest() -> None:
    device = board("raspberry-pi-4", EmulatedBoard)
    truth = device.truth.compute
    found = [
        o for hz in (0.6e9, 1.2e9, 1.8e9) for o in seen(device, 8, replace(POINT, frequency_hz=hz))
    ]
    model = refit(device.model(), found)
    assert model.compute.capacitance_w_per_hz3 / truth.capacitance_w_per_hz3 == pytest.approx(
        1.0, abs=0.06
    )
    assert model.compute.linear_power_w_per_hz / truth.linear_power_w_per_hz == pytest.approx(
        1.0, abs=0.06
    )
    assert model.compute.cycles_per_sample == pytest.approx(truth.cycles_per_sample, rel=0.03)
    assert model.idle_power_w == pytest.approx(device.truth.idle_power_w, rel=0.03)


def test_one_frequency_moves_kappa_no_further_than_the_power_asks() -> None:
    device = board("raspberry-pi-4", EmulatedBoard, wrong=0.0)
    model = refit(device.model(), seen(device, 5))
    before = device.model().compute.capacitance_w_per_hz3
    assert model.compute.capacitance_w_per_hz3 / before == pytest.approx(1.0, abs=0.1)


def test_a_measured_table_keeps_its_shape_and_is_scaled() -> None:
    device = board("raspberry-pi-4", EmulatedBoard)
    model = device.model()
    table = replace(
        model,
        compute=replace(
            model.compute,
            points=measured(model.compute, {0.6e9: 1.5, 1.2e9: 2.0, 1.8e9: 4.0}),
        ),
    )
    found = refit(table, seen(device, 5)).compute
    true_w = formula_power_w(device.truth.compute, 1.2e9)
    assert computing_power_w(found, 1.2e9) == pytest.approx(true_w, rel=0.06)
    assert found.points[2].power_w / found.points[0].power_w == pytest.approx(4.0 / 1.5)
    assert found.points[1].seconds_per_sample == pytest.approx(found.cycles_per_sample / 1.2e9)


def test_measured_points_are_scaled_to_what_was_seen() -> None:
    device = board("jetson-nano", EmulatedBoard)
    told, true = device.model().compute, device.truth.compute
    place = 6
    point = replace(
        POINT, frequency_hz=speed_hz(told, told.points[place]), setting=told.points[place].name
    )
    found = refit(device.model(), seen(device, 6, point)).compute
    assert found.points[place].power_w == pytest.approx(true.points[place].power_w, rel=0.06)
    assert found.points[place].seconds_per_sample == pytest.approx(
        true.points[place].seconds_per_sample, rel=0.03
    )
    watts = [new.power_w / old.power_w for new, old in zip(found.points, told.points, strict=True)]
    assert watts == pytest.approx([watts[0]] * len(watts))
    for new, old in zip(found.points, told.points, strict=True):
        assert speed_hz(found, new) == pytest.approx(speed_hz(told, old))  # plans stay valid
        assert (new.name, new.setting) == (old.name, old.setting)
    assert found.active_power_w == pytest.approx(told.active_power_w)


def test_a_named_point_counts_with_its_own_watts() -> None:
    """Not with those of a thriftier point that is nearly as fast."""
    device = board("jetson-nano", EmulatedBoard, wrong=0.0)
    model = device.model()
    slow, fast = model.compute.points[4], model.compute.points[5]
    hot = replace(fast, name="hot", power_w=2.0 * fast.power_w, setting=slow.setting)
    compute = replace(model.compute, points=(fast, hot))
    point = replace(POINT, frequency_hz=speed_hz(compute, hot), setting="hot")
    (observation,) = seen(device, 1, replace(point, setting=fast.name))
    heavy = replace(
        observation,
        point=point,
        power_w={"compute": model.idle_power_w + hot.power_w},
        power_sd_w={"compute": 0.01},
    )
    found = refit(replace(model, compute=compute), [heavy] * 5).compute
    assert found.points[1].power_w == pytest.approx(hot.power_w, rel=1e-3)


class TestRadio:
    def test_finds_the_electronics_of_a_radio_that_sends_with_its_own_power(self) -> None:
        """The plan asked for a hundredth of the power: what it sent with is the board's."""
        device = board("raspberry-pi-4", EmulatedBoard)
        point = replace(POINT, transmit_power_w=1e-3)
        link = refit(device.model(), seen(device, 8, point)).link
        true = device.truth.link
        assert link.electronics_power_w == pytest.approx(true.electronics_power_w, rel=0.1)
        assert link.channel_gain / true.channel_gain == pytest.approx(1.0, abs=0.2)

    def test_a_rate_at_the_cap_says_nothing_of_the_channel(self) -> None:
        device = board("raspberry-pi-4", EmulatedBoard)
        point = replace(POINT, bandwidth_hz=80e6)
        assert device.apply(point).rate_bps == device.truth.link.rate_cap_bps
        link = refit(device.model(), seen(device, 8, point)).link
        assert link.channel_gain == device.model().link.channel_gain

    def test_the_paper_s_radio_is_taken_at_its_word(self) -> None:
        declared = declare_board(
            "raspberry-pi-4", seed=4, index=0, cycles_per_sample=4e6, radio="paper"
        )
        device = EmulatedBoard(
            declared, seed=4, index=0, disturbance=Disturbance(profile_error=0.2)
        )
        link = refit(device.model(), seen(device, 8, replace(POINT, transmit_power_w=1e-3))).link
        assert link.electronics_power_w == pytest.approx(0.0, abs=0.1)
        assert link.channel_gain / device.truth.link.channel_gain == pytest.approx(1.0, abs=0.2)


def test_without_observations_the_profile_stays() -> None:
    model = board("mini-pc", EmulatedBoard).model()
    assert refit(model, []) is model


def test_a_device_that_never_reported_says_nothing() -> None:
    entry = DeviceRound(device="device", status="missing")
    assert observe(entry, POINT, training=TrainingSettings(epochs=5), model_bits=BITS) is None


@settings(max_examples=60, deadline=None)
@given(
    st.floats(1e-3, 1e3),
    st.dictionaries(
        st.sampled_from(["idle", "compute", "upload", "model-download", "synthetic-download"]),
        st.tuples(st.floats(1e-3, 1e4), st.floats(0.01, 500.0)),
        min_size=1,
    ),
)
def test_whatever_is_reported_gives_parameters_that_a_plan_can_use(
    scale: float, phases: dict[str, tuple[float, float]]
) -> None:
    model = declare_board("jetson-nano", seed=0, index=0).model
    observation = RefitPoint(
        point=POINT,
        frequency_hz=1e9,
        samples=max(1, int(100 * scale)),
        upload_bits=1e5,
        download_bits=1e5,
        seconds={p: s for p, (s, _) in phases.items()},
        power_w={p: w for p, (_, w) in phases.items()},
        power_sd_w=dict.fromkeys(phases, 0.01),
    )
    found = refit(model, [observation] * 3)
    assert found.compute.capacitance_w_per_hz3 > 0
    assert found.compute.cycles_per_sample > 0
    assert 0 < found.link.channel_gain < float("inf")
    assert found.link.downlink_rate_bps > 0
    for value in (
        found.idle_power_w,
        found.compute.active_power_w,
        found.link.receive_power_w,
        found.link.electronics_power_w,
    ):
        assert 0 <= value < float("inf")
